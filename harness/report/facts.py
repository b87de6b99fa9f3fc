"""The facts of a finding, in the order of a report. Every format shows these, so a new line is one edit, here."""

import math
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from harness.checks.known_issues import reported
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.diagnosis.failure_conditions import like
from harness.diagnosis.finding_explainer import Explanation
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.roundings import HINT, RoundingOnlyCause
from harness.oracle.compare import Mismatch, MismatchKind, Site
from harness.report import explanation_lines, wording
from harness.report.finding_files import CAUSE_UNKNOWN, ISSUE, NOT_LOOKED_FOR, Fact, FindingFiles
from harness.search.search_record import Finding
from harness.space.case import Case
from harness.space.cells import CELL_DEFINITIONS, layer_named
from harness.space.config import RNNConfig
from harness.subjects.registry import registered

FACT_CHARACTERS: Final = 64  # characters of a fact's line, on 80 columns
LONGEST_CASE: Final = 3 * FACT_CHARACTERS  # characters of a case that is shown as code and not in words
FURTHER_MISTAKE: Final = "beside"  # the name of a fact that is a further mistake, which the case shows, too
ARRAYS_SHOWN: Final = 3  # arrays whose differences are shown; later ones mostly follow from the first


class _ExplainedFinding(NamedTuple):
    finding: Finding
    explanation: Explanation


def facts_of_failure(finding: Finding, explanation: Explanation) -> list[Fact]:
    """Return what is known of a finding, wherever it is kept and however often it was met."""
    failure = _ExplainedFinding(finding, explanation)
    if finding.result.method is ComparisonMethod.DROPOUT:
        _, wrong = wording.dropout_told(finding.result)
        return [*(Fact(*pair) for pair in wrong.items()), *_kernel(failure), *_upstream(failure)]
    every = (_mistake, _case, _conditions, _kernel, _others, _evidence, _advice, _upstream)
    return [fact for some in every for fact in some(failure)]


def code_of(facts: Iterable[Fact]) -> dict[str, str]:
    """Return the line of code with the mistake, and the layer's own line, by whose they are."""
    whose = {"yours", *map(layer_named, CELL_DEFINITIONS)}
    return {fact.name: fact.text for fact in facts if fact.name in whose}


def is_certain(finding: Finding, explanation: Explanation) -> bool:
    """Tell if the cause is certain, or was measured."""
    diagnosis = explanation.diagnosis
    return bool(finding.result.inaccurate) or (diagnosis is not None and diagnosis.certain)


def next_steps(id_: str, saved: FindingFiles | None, case: Case | None, subject: str) -> Iterator[Fact]:
    """Yield the commands that run a kept finding again, and what there is of it."""
    if saved is None:
        return
    if saved.earlier:
        yield Fact("earlier", f"an earlier check of the same file says more, and is kept: {saved.earlier}")
    if case is not None and len(repr(case)) > LONGEST_CASE:
        yield Fact("load it", f"Case.load({str(saved.folder / 'case.json')!r})", language="python")
    if saved.script is not None:
        yield Fact("run it", f"python {shlex.quote(str(saved.folder / saved.script))}", language="sh")
    elif saved.no_script:
        yield Fact("run it", f"no script: {saved.no_script}")
    # A command finds a function that Python was given only by the name of its file.
    name = subject if subject.isidentifier() else "NAME"  # a local function has none
    option = f" --subject FILE.py:{name}"
    if subject in registered():
        option = ""
    elif ":" in subject:
        option = "" if saved.own else " --as-recorded"
    yield Fact("replay", f"rnn-harness replay {named(id_, saved)}{option}", language="sh")
    yield Fact("kept", f"{saved.folder}: {', '.join(saved.files)}", detail=True)


def named(id_: str, saved: FindingFiles) -> str:
    """Return how a command names a kept finding."""
    return f"{id_} --findings {shlex.quote(str(saved.folder.parent))}" if saved.elsewhere else id_


def cause_of(finding: Finding, explanation: Explanation) -> tuple[str, str]:
    """Return the cause, or else what is wrong, in a sentence, and how certain the cause is."""
    diagnosis, result = explanation.diagnosis, finding.result
    if result.method is ComparisonMethod.DROPOUT:
        return wording.dropout_told(result)[0], ""
    if diagnosis is not None and diagnosis.cause is not None:
        return diagnosis.cause.sentence, "certain" if diagnosis.certain else "possibly"
    if result.inaccurate:
        return failure_line(result), "measured"
    if diagnosis is not None and (precision := explanation_lines.coarse(diagnosis)) is not None:
        return explanation_lines.precision_line(precision), "suspected" if result.verdict is Verdict.SUSPECT else ""
    unproved = result.verdict is Verdict.SUSPECT
    plain = diagnosis is None and not any(mismatch.sort is MismatchKind.VALUE for mismatch in result.mismatches)
    unknown = NOT_LOOKED_FOR if explanation.why_unknown else CAUSE_UNKNOWN
    return failure_line(result), "suspected" if unproved else "" if plain else unknown


def failure_line(result: Result) -> str:
    """Return in one line how a case fails."""
    if result.message or not result.mismatches:
        return (result.message or result.kind).splitlines()[0]
    return wording.mismatch_line(result.mismatches[0])


def worst_line(result: Result, config: RNNConfig) -> str | None:
    """Return the worst element: its place, its value, the expected value, and what rounding allows."""
    mismatch = next((candidate for candidate in result.mismatches if candidate.sites), None)
    if mismatch is None:
        return None
    place = f"[{wording.place(mismatch.sites[0])}]" if mismatch.sites[0].place else ""
    site = mismatch.sites[0].place
    forward = mismatch.array in config.outputs and not mismatch.relation
    t, first = site.get("t", -1), 0 if site.get("direction", "forward") == "forward" else config.T - 1
    before = config.num_layers > 1 or (t != first if "t" in site else config.T > 1)
    stepwise = result.method is ComparisonMethod.LOCAL and forward and before
    return f"{_array(mismatch)}{place} = {_values(mismatch.sites[0], config)}{', by its own states before' * stepwise}"


def observed(result: Result, config: RNNConfig) -> Iterator[Fact]:
    """Yield what the subject said, and what differs."""
    if result.message:
        yield Fact("message", result.message.rstrip(), detail=True)
    if result.traceback:
        yield Fact("traceback", result.traceback.rstrip(), detail=True)
    for mismatch in result.mismatches[:ARRAYS_SHOWN]:
        sites = (f"  {wording.place(site)}: {_values(site, config)}" for site in mismatch.sites)
        yield Fact("differs", "\n".join([wording.mismatch_line(mismatch), *sites]), detail=True)
    if more := [mismatch.array for mismatch in result.mismatches[ARRAYS_SHOWN:]]:
        yield Fact("differs", f"also {', '.join(more)}", detail=True)


def plain_finding(subject: str, config: RNNConfig, result: Result) -> str:
    """Return a failing result as plain text, for an exception's message."""
    lines = [fact.text for fact in observed(result, config) if fact.name != "traceback"]
    lines += wording.hints(result.mismatches[:ARRAYS_SHOWN], config)
    lines += [f"compared {result.method.value}"] if result.method is ComparisonMethod.END_TO_END else []
    return "\n".join([wording.headline(subject, result.verdict, config.layer), *lines])


def case_words(case: Case, length: int = LONGEST_CASE) -> str:
    """Return a case in words: its config, and its arrays without zeros, as far as they fit."""
    config = repr(case.config).partition("(")[2].removesuffix(")")
    inner = [f"input_size={case.config.input_size}", f"hidden_size={case.config.hidden_size}"]
    head = ", ".join([*inner, *config.split(", ")[2:]])
    arrays = {name: np.asarray(array) for name, array in case.arrays.items()}
    every = [f"{name} {array.tolist()}" for name, array in arrays.items() if array.astype(bool).any()]

    def words(shown: list[str]) -> str:
        more = len(every) - len(shown)
        named = [*shown, *[f"some in {wording.counted(more, 'more array' if shown else 'array')}"] * bool(more)]
        return f"{head}; all numbers are 0 but {', '.join(named)}" if every else f"{head}; all numbers are 0"

    shown = list[str]()
    for text in every:
        shown += [text] if len(words([*shown, text])) <= length else []
    return words(shown)


def upstream_line(subject: str, config: RNNConfig, result: Result, *, minimal: bool = True) -> str | None:
    """Return the report that the makers of a subject have of a failure; ``None`` if the subject is the user's own.

    A case that is not minimal may fail for something else.
    """
    if (known := reported(subject, config, result)) is not None:
        return f"{'' if minimal else 'perhaps '}reported: {known.link} ({known.reason})"
    return f"no report is known; {ISSUE} in its folder is one to send" if subject in registered() else None


def _mistake(failure: _ExplainedFinding) -> Iterator[Fact]:
    result, config, (title, certainty) = failure.finding.result, failure.finding.case.config, cause_of(*failure)
    if certainty == NOT_LOOKED_FOR:
        yield Fact("cause", f"not looked for, because {failure.explanation.why_unknown}")
    yield from (Fact("cause", line) for line in failure.explanation.defects)
    for name, line in explanation_lines.code_lines(failure.explanation.diagnosis, config).items():
        yield Fact(name, line, language="python")
    diagnosis = failure.explanation.diagnosis
    if diagnosis is not None and (own := diagnosis.line) is not None:
        yield Fact("line", f"{_shortest(own.file)}:{own.number}: {own.text}")
    if diagnosis is not None and isinstance(diagnosis.cause, IdentifiedCause):
        yield Fact("computes", "\n".join(diagnosis.cause.recurrence), detail=True, language="python")
        result = replace(result, mismatches=_own_first(result, diagnosis.cause.arrays))
    wrong = worst_line(result, config) or failure_line(result)
    if wrong != title:
        yield Fact("wrong", wrong)
    if (at := result.raised_at) is not None:
        yield Fact("at", f"{at[0]}, line {at[1]}")
    yield from (fact for fact in observed(result, config) if fact.text not in {title, wrong})


def _shortest(file: str) -> str:
    """Return the path of a file from here, if it is below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _own_first(result: Result, arrays: Collection[str]) -> tuple[Mismatch, ...]:
    """Return the mismatches of a result, those of some arrays first: others may have another cause."""
    return tuple(sorted(result.mismatches, key=lambda mismatch: mismatch.array not in arrays))


def _case(failure: _ExplainedFinding) -> Iterator[Fact]:
    """Yield the case as code if that is short, else in words."""
    case, name = failure.finding.case, "smallest" if failure.finding.minimal else "case"
    code = repr(case)
    if len(code) <= LONGEST_CASE:
        yield Fact(name, code, language="python")
    else:
        yield Fact(name, case_words(case))
        yield Fact("code", code, detail=True, language="python")
    yield Fact("config", wording.config_line(case.config), detail=True)


def _conditions(failure: _ExplainedFinding) -> Iterator[Fact]:
    """Yield what the failure needs, what passes, and where it begins."""
    if failure.explanation.answers is not None:
        yield Fact(
            "fails", explanation_lines.answers_line(failure.explanation.answers, failure.explanation.deterministic)
        )
    if (factors := failure.explanation.factors) is not None:
        result = failure.finding.result
        of_gradients = like(result) == "gradients"
        yield Fact(
            "fails", explanation_lines.fails_line(factors, ends=result.failure is not None, gradients=of_gradients)
        )
        if (passing := explanation_lines.passing_line(factors)) is not None:
            yield Fact("passes", passing)
        if free := explanation_lines.independent_line(factors):
            yield Fact("whatever", free, detail=True)
    if (where := failure.explanation.where) is not None:
        yield Fact("where", explanation_lines.where_line(where), detail=is_certain(*failure) or not where.pattern)


def _kernel(failure: _ExplainedFinding) -> Iterator[Fact]:
    if (kernel := explanation_lines.kernels_line(failure.explanation.kernels)) is not None:
        yield Fact("kernel", kernel)


def _others(failure: _ExplainedFinding) -> Iterator[Fact]:
    if (diagnosis := failure.explanation.diagnosis) is not None:
        yield from (Fact(FURTHER_MISTAKE, f"it {cause.sentence}") for cause in diagnosis.elsewhere)


def _evidence(failure: _ExplainedFinding) -> Iterator[Fact]:
    """Yield why the cause and the failure are believed."""
    if (diagnosis := failure.explanation.diagnosis) is not None and diagnosis.cause is not None:
        yield Fact("evidence", diagnosis.cause.evidence, detail=True)
    if failure.finding.result.verdict is Verdict.SUSPECT:
        unproved = "no bound proves it wrong, but it exceeds usual roundings, and repeats on other values"
        yield Fact("suspect", unproved, detail=True)
    if failure.explanation.judgement is not None:
        yield Fact("judge", wording.judgement_line(failure.explanation.judgement), detail=True)
    if _may_be_rounding(failure) and (enough := wording.enough_line(failure.finding.result)) is not None:
        yield Fact("to accept", enough, detail=True)
    if any(mismatch.sites for mismatch in failure.finding.result.mismatches):
        yield Fact("compared", failure.finding.result.method.value, detail=True)
    yield Fact("minimal", "\n".join(explanation_lines.minimal_lines(failure.finding.certificate)), detail=True)


def _may_be_rounding(failure: _ExplainedFinding) -> bool:
    """Return whether some named tolerance would accept the difference, or no bound proves it wrong."""
    precision = None if failure.explanation.diagnosis is None else failure.explanation.diagnosis.precision
    accepted = precision is not None and precision.accepted_by is not None
    return accepted or failure.finding.result.verdict is Verdict.SUSPECT


def _advice(failure: _ExplainedFinding) -> Iterator[Fact]:
    """Yield what to do, the most telling advice first."""
    diagnosis = failure.explanation.diagnosis
    every = [failure.finding.result.advice if cause_of(*failure)[1] == "measured" else None]
    if diagnosis is not None and isinstance(diagnosis.cause, RoundingOnlyCause):
        every.append(HINT)
    if (
        diagnosis is not None
        and (precision := explanation_lines.coarse(diagnosis))
        and precision.accepted_by is not None
    ):
        every.append(f"--tolerance {precision.accepted_by} would accept that")
    needs = failure.explanation.factors.needs if failure.explanation.factors is not None else {}
    own = failure.finding.subject not in registered()
    every += [wording.leave_out_line(failure.finding.case.config, needs, own=own)] if failure.finding.minimal else []
    every += wording.hints(failure.finding.result.mismatches[:1], failure.finding.case.config)
    for number, advice in enumerate(filter(None, every)):
        yield Fact("advice", advice, detail=number > 0)


def _upstream(failure: _ExplainedFinding) -> Iterator[Fact]:
    if issue := failure.finding.result.resembles:
        yield Fact("known", f"{issue} looks so, but torch's own layer does not show it in this case here")
    known = upstream_line(
        failure.finding.subject, failure.finding.case.config, failure.finding.result, minimal=failure.finding.minimal
    )
    if known is not None:
        yield Fact("upstream", known)


def _values(site: Site, config: RNNConfig) -> str:
    """Return what an element is and should be, and what rounding allows."""
    actual, expected = (wording.number(value, config.dtype) for value in (site.actual, site.expected))
    allowed = f" (±{site.tolerance:.2g})" if 0 < site.tolerance < math.inf else ""
    return f"{actual}, should be {expected}{allowed}"


def _array(mismatch: Mismatch) -> str:
    """Return the array's name, with its layer or relation if it is not from the whole run."""
    if mismatch.relation:
        return f"beside the other run, {mismatch.array}"
    if mismatch.layer is not None:
        return f"layer {mismatch.layer}'s {mismatch.array}"
    return mismatch.array
