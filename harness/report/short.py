"""Short reports: a finding in about a dozen lines, with the cause, the error, the smallest case, and how to run it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.checks.known_issues import reported
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic import with_measured
from harness.oracle.compare import Mismatch
from harness.report import explained, wording
from harness.report.place import ISSUE, Kept
from harness.report.severity import Severity, Told
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.subjects.registry import registered

LINE: Final = 64
"""The characters of a fact's line, on 80 columns."""

IN_FULL: Final = 3
"""The number of findings shown with more than a line; together with the verdict and the facts, these fill a screen."""

_LISTED: Final = 8
"""The number of findings that a summary lists."""

_TOLERANCE: Final = "; --tolerance "
"""The text in a cause before the advice which tolerance accepts it."""

_SHARE: Final = re.compile(r",? in \d+ of \d+ elements \(.*\)$")

_WORD: Final = max(len(one.value) for one in Severity)


def shown_in_full(told: Sequence[Told]) -> list[bool]:
    """Return which findings get more than a line: the first, those with a certain cause, and the second of two."""
    left, shown = IN_FULL, []
    for number, one in enumerate(told):
        shown.append(left > 0 and (number == 0 or one.certain or len(told) == 2))
        left -= shown[-1]
    return shown


def short_finding(number: int, told: Told, tolerance: str = "derived") -> RenderableType:
    """Show a finding: its cause and how certain that is, then what a reader needs to act on it."""
    cause, sure = cause_of(told)
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    title = cause.partition(_TOLERANCE)[0]
    head.add_row(Text(str(number), "bold"), Text(_cut(title, 2 * LINE), "bold red"), Text(sure, "dim"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, said in _facts(told, cause, tolerance):
        facts.add_row(name, Text(said))
    return Group("", Constrain(head, 2 * LINE), Padding(facts, (0, 0, 0, 3)))  # so that the words stay near each other


def summary(told: Sequence[Told]) -> RenderableType:
    """Show one line per finding, the gravest first; nothing for one or two findings, which are in sight."""
    if len(told) < 3:
        return Group()
    more = len(told) - _LISTED
    return Group("", *one_line_each(told[:_LISTED]), *([f"... and {more} more: -v"] if more > 0 else []))


def one_line_each(told: Sequence[Told]) -> list[Text]:
    """Return a line for each finding: its number, its id, what it concerns, and its cause."""
    return [
        Text(
            f"{number}  {one.finding.id}  {one.severity.value:<{_WORD}}  {_in_a_line(one)}",
            no_wrap=True,
            overflow="ellipsis",
        )
        for number, one in enumerate(told, 1)
    ]


def _in_a_line(told: Told) -> str:
    """Return the cause, or else what is wrong and on what condition, just long enough to tell findings apart."""
    said, sure = cause_of(told)
    if sure in {"certain", "possibly"}:
        return f"possibly {said}" if sure == "possibly" else said
    factors, said = told.explanation.factors, _SHARE.sub("", said)
    return said if factors is None else f"{said} {explained.fails_line(factors)}"


def cause_of(told: Told) -> tuple[str, str]:
    """Return the cause, or else what is wrong, in a sentence, and how certain the cause is."""
    diagnosis, result = told.explanation.diagnosis, told.finding.result
    if result.of_tanh and not (diagnosis is not None and diagnosis.causes):
        return failure_line(result), "measured"
    if diagnosis is not None and (diagnosis.causes or diagnosis.instead or explained.coarse(diagnosis)):
        said = explained.cause_lines(diagnosis, told.finding.case.config, told.explanation.factors)[0]
        sure = "suspected" if result.verdict is Verdict.SUSPECT else ""
        if diagnosis.causes or diagnosis.instead:
            sure = "certain" if diagnosis.certain else "possibly"
        return said.removeprefix("possibly "), sure
    if told.explanation.clue is not None:
        return explained.clue_line(told.explanation.clue), "cause unknown"
    unproved = result.verdict is Verdict.SUSPECT
    return failure_line(result), "suspected" if unproved else "" if diagnosis is None else "cause unknown"


def failure_line(result: Result) -> str:
    """Return in one line how a case fails."""
    if result.message or not result.mismatches:
        return (result.message or result.kind).splitlines()[0]
    return wording.mismatch_line(result.mismatches[0])


def worst_line(result: Result, config: RNNConfig) -> str | None:
    """Return the worst element: its place, its value, the expected value, and what rounding allows."""
    mismatch = next((one for one in result.mismatches if one.sites), None)
    if mismatch is None:
        return None
    site = mismatch.sites[0]
    place = f"[{wording.place(site)}]" if site.place else ""
    actual, expected = (wording.number(value, config.dtype) for value in (site.actual, site.expected))
    allowed = f" (±{site.allowance:.2g})" if 0 < site.allowance < math.inf else ""
    return f"{_array(mismatch)}{place} = {actual}, should be {expected}{allowed}"


def case_code(case: Case, kept: Kept | None = None, length: int = 3 * LINE) -> str:
    """Return a case as Python code: a long one that was kept is loaded from its file."""
    whole = repr(case)
    return whole if len(whole) <= length or kept is None else f"Case.load({str(kept.folder / 'case.json')!r})"


def case_words(case: Case, length: int = 3 * LINE) -> str:
    """Return a case in words: its config, and its arrays without zeros, as far as they fit."""
    config = repr(case.config).removeprefix("RNNConfig(").removesuffix(")")
    inner = [f"input_size={case.config.input_size}", f"hidden_size={case.config.hidden_size}"]
    said = ", ".join([*inner, *config.split(", ")[2:]])
    left, shown, more = length - len(said), list[str](), 0
    for name, array in case.arrays.items():
        if np.asarray(array).astype(bool).any():
            one = f"{name} {np.asarray(array).tolist()}"
            fits = len(one) <= left
            shown += [one] * fits
            left -= len(one) * fits
            more += not fits
    arrays = [*shown, *([wording.counted(more, "more array" if shown else "array")] if more else [])]
    return f"{said}; all numbers are 0 but {', '.join(arrays)}" if arrays else f"{said}; all numbers are 0"


def replay_line(told: Told, tolerance: str = "derived") -> str:
    """Return the command that runs a finding once more."""
    line = f"rnn-harness replay {told.finding.id}"
    if told.kept is not None and told.kept.elsewhere:
        line += f" --findings {shlex.quote(str(told.kept.folder.parent))}"
    if tolerance == "derived":  # the tolerance it was found under is kept with it
        return line
    finding = told.finding
    return f"{line} --tolerance {with_measured(tolerance, finding.accepted, finding.case.config.plain.dtype)}"


def upstream_line(
    subject: str, config: RNNConfig, result: Result, kept: Kept | None = None, *, minimal: bool = True
) -> str | None:
    """Return the report that the makers of a subject have of a failure; ``None`` if the subject is the user's own.

    If none is known, it is the text that can be sent to them. A case that is not minimal may fail for something else.
    """
    if (known := reported(subject, config, result)) is not None:
        return f"{'' if minimal else 'perhaps '}reported: {known.link} ({known.reason})"
    if subject not in registered():
        return None
    return "no report is known" + ("" if kept is None else f"; one to send: {kept.folder / ISSUE}")


def upstream_of(told: Told) -> str | None:
    """Return the same of a finding."""
    finding = told.finding
    return upstream_line(finding.subject, finding.case.config, finding.result, told.kept, minimal=finding.minimal)


def dropout_facts(told: Told) -> dict[str, str]:
    """Return where a broken law of dropout begins, and how to run it again."""
    stage, kept = explained.kernels_line(told.explanation.kernels), told.kept
    facts = {} if stage is None else {"kernel": stage}
    if (known := upstream_of(told)) is not None:
        facts["upstream"] = known
    if kept is not None:
        facts["replay"] = replay_line(told)
        facts |= dict(_script(kept))
    return facts


def _facts(told: Told, cause: str, tolerance: str) -> Iterator[tuple[str, str]]:
    result, config, explanation = told.finding.result, told.finding.case.config, told.explanation
    yield from explained.code_lines(explanation.diagnosis, config).items()
    if (worst := worst_line(result, config)) is not None:
        yield "wrong", _cut(worst, 2 * LINE)
    elif cause != (failure := failure_line(result)):
        yield "wrong", _cut(failure, 2 * LINE)
    if (at := result.raised_at) is not None:
        yield "at", f"{at[0]}, line {at[1]}"
    yield from _case(told)
    yield from _conditions(told)
    if told.also:
        said = dict.fromkeys(failure_line(one.result) for one in told.also)
        others = [one for one in said if one != failure_line(result)] or [f"on {told.also[0].case.config!r}"]
        more = f", and {len(told.also) - 1} more" if len(told.also) > 1 else ""
        yield "also", _cut(others[0], LINE - len(more)) + more
    told_along = [f"--tolerance {cause.partition(_TOLERANCE)[2]}"] if _TOLERANCE in cause else []
    told_along += result.message.splitlines()[1:] if result.of_tanh and cause == failure_line(result) else []
    leave_out = wording.leave_out_line(config) if told.finding.minimal else None
    for advice in filter(None, (*told_along, leave_out, *map(wording.hint, result.mismatches[:1]))):
        yield "advice", _cut(advice, 2 * LINE)
        break
    if (known := upstream_of(told)) is not None:
        yield "upstream", known
    if told.kept is not None:
        yield from _script(told.kept)
        yield "replay", replay_line(told, tolerance)


def _script(kept: Kept) -> Iterator[tuple[str, str]]:
    """Yield the command that runs the script of a finding, or why there is none."""
    if kept.script is not None:
        yield "run it", f"python {shlex.quote(str(kept.folder / kept.script))}"
    elif kept.no_script:
        yield "run it", f"no script: {kept.no_script}"


def _case(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the case as code if that is short, else in words, and the code that loads it."""
    case, name = told.finding.case, "smallest" if told.finding.minimal else "case"
    code = case_code(case, told.kept)
    if code != repr(case):
        yield name, case_words(case)
        yield "load it", code
    elif len(code) <= 3 * LINE:
        yield name, code
    else:
        yield name, f"{case_words(case)}; all of it with -v"


def _conditions(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the conditions of the failure: what it needs, what passes, where, with which kernel, and other mistakes."""
    explanation = told.explanation
    if explanation.answers is not None:
        yield "fails", explained.answers_line(explanation.answers, told.further)
    if explanation.factors is not None:
        yield "fails", _cut(explained.fails_line(explanation.factors, told.further), 2 * LINE)
        if (passing := explained.passing_line(explanation.factors)) is not None:
            yield "passes", _cut(passing, LINE)
    if explanation.where is not None and explanation.where.pattern and not told.certain:
        yield "where", _cut(f"in a wider case, wrong at {explanation.where.pattern}", 2 * LINE)
    if (kernel := explained.kernels_line(explanation.kernels)) is not None:
        yield "kernel", _cut(kernel, 2 * LINE)
    if explanation.diagnosis is not None:
        for other in (*explanation.diagnosis.elsewhere, *explanation.diagnosis.beside)[:1]:
            yield "beside", _cut(f"it {other.sentence}", LINE)


def _array(mismatch: Mismatch) -> str:
    """Return the array's name, with its layer or law if it is not from the whole run."""
    if mismatch.law:
        return f"by the law of {mismatch.law}, {mismatch.array}"
    if mismatch.layer is not None:
        return f"layer {mismatch.layer}'s {mismatch.array}"
    return mismatch.array


def _cut(text: str, length: int) -> str:
    """Return the text, or as much of it as fits: whole parts between commas if these are half of it, or else words."""
    if len(text) <= length:
        return text
    words = text[: length - 2].rsplit(" ", 1)[0]
    ends = [one.end() - 1 for one in re.finditer("[,;] ", words)]
    whole = [end for end in ends if 2 * end >= length and words.count("(", 0, end) == words.count(")", 0, end)]
    return f"{words[: whole[-1]] if whole else words} …"
