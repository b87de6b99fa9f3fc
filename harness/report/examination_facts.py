"""The facts of a check of a subject: what it covered, and what a pass does not cover."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from harness.checks.result import ComparisonMethod, Verdict
from harness.report import coverage_words, wording
from harness.report.facts import case_words, failure_line, upstream_line
from harness.report.malformed_calls import refusals_facts
from harness.report.reported_finding import ReportedFinding, dropout_alone
from harness.search.examination import LEAST_CASES, Examination
from harness.search.search_record import SearchRecord, Stop
from harness.space.conformance_profile import KERNEL, PROFILE_WORDS
from harness.space.size_product_edges import EDGE
from harness.subjects.environment import line

ASSUMED_ROWS: Final = "rows taken in"  # the words of ``ClassForm.words`` before an order of gates that nothing tells
NEVER_GIVEN: Final = "never given"  # the words of ``ClassForm.words`` for arguments of a call

Facts: TypeAlias = Iterator[tuple[str, str]]


def examination_facts(done: Examination, findings: Sequence[ReportedFinding], *, verbose: bool = False) -> Facts:
    """Yield the facts of a whole examination, or of one with findings what bears on these, unless ``verbose``."""
    if findings and not verbose:
        yield "checked", _in_a_line(done.hunt)
        yield from _not_compared(done.hunt)
        yield from _unchecked(done)
        yield from (("read", reading) for reading in done.read_as.split("; ") if reading.startswith(ASSUMED_ROWS))
        yield from _unrefused(done.hunt)
        yield from _unfinished(done.hunt)
        if done.dropout is not None and done.dropout.failed:
            yield from _dropout(done, findings)
        return
    if done.verdict is Verdict.NOT_ENOUGH and done.lacking:
        longer = done.hunt.asked < LEAST_CASES and not done.hunt.missing  # after more cases, what is lacking is refused
        advice = f"; search longer: --examples {LEAST_CASES} or more, or --time" * longer
        yield "seen", f"{', '.join(done.lacking)}{advice}"
    yield from _of_search(done.hunt, verbose=verbose)
    yield from _vacuous(done, findings)
    yield from _unchecked(done)
    if read := [reading for reading in done.read_as.split("; ") if reading and NEVER_GIVEN not in reading]:
        yield "read", "; ".join(read)
    if done.equal is not None:
        yield "bits", wording.equal_line(done.equal)
    if done.profile != KERNEL:
        yield "profile", f"{done.profile}: {PROFILE_WORDS[done.profile]}; --profile {KERNEL} asks for more"
    yield from _dropout(done, findings)
    if done.refusals is not None and (verbose or done.refusals.findings):
        yield from refusals_facts(done.refusals)


def _dropout(done: Examination, findings: Sequence[ReportedFinding]) -> Facts:
    if done.dropout is not None and not dropout_alone(done, findings):
        follows = "; this may fail because of the above" if done.dropout.failed else ""
        yield "dropout", wording.dropout_line(done.dropout).partition("; ")[0] + follows


def _unfinished(hunt: SearchRecord) -> Facts:
    for why in dict.fromkeys(hunt.unfinished.values()):
        yield "unfinished", f"{', '.join(what for what, reason in hunt.unfinished.items() if reason == why)}: {why}"


def _in_a_line(hunt: SearchRecord) -> str:
    """Return how much was checked, and of what, and how to do so again."""
    part = wording.of_scope(hunt.scope).removeprefix(": ")
    ended = f"; ended by {hunt.stop.value}" * (hunt.stop in {Stop.TIME, Stop.INTERRUPTED})
    checked = f"{wording.counted(hunt.asked, 'case')} in {hunt.seconds:.1f} s{f', {part}' * bool(part)}"
    return f"{checked}{ended}; --seed {hunt.seed}"


def gaps(done: Examination, findings: Sequence[ReportedFinding]) -> Facts:
    """Yield what makes a pass mean less, as a table of many subjects shows it."""
    yield from _unrefused(done.hunt, cases=True)
    yield from _vacuous(done, findings)


def unrefused_by_failure(hunt: SearchRecord) -> dict[str, list[str]]:
    """Return the values that the subject neither supports nor refuses, by how it fails there."""
    return wording.left_out({what: failure_line(result) for what, (_, result) in hunt.unsupported_unrefused.items()})


def unrefused_factors(hunt: SearchRecord) -> list[str]:
    """Return the factors of these values."""
    return list(dict.fromkeys(what.partition("=")[0] for what in hunt.unsupported_unrefused))


def _of_search(hunt: SearchRecord, *, verbose: bool) -> Facts:
    configs = f" of {wording.counted(hunt.coverage.configs, 'config')}" if verbose else ""
    checked = f"{wording.counted(hunt.asked, 'case')}{configs} in {hunt.seconds:.1f} s"
    yield "checked", f"{checked}; ended by {hunt.stop.value}; --seed {hunt.seed}"
    if (text := wording.helpers_line(hunt.helpers)) is not None:
        yield "workers", text
    passed = bool(hunt.checks) and not hunt.findings
    if passed:
        yield "compared", _methods(hunt, verbose=verbose)
    yield from _gradients(hunt, verbose=verbose)
    for accuracy in hunt.accuracy:
        if accuracy.close and not accuracy.assumed:
            yield "accuracy", wording.accuracy_line(accuracy)
    if hunt.suspicions:
        yield "suspicious", _suspicions(hunt, verbose=verbose)
    for text in wording.known_lines(hunt.known, hunt.spared, hunt.own, short=not verbose):
        yield "known", text
    for text in wording.refused_lines(hunt.unsupported):
        yield "refused", text
    for text, names in wording.left_out(hunt.refused).items():
        yield "left out", f"{', '.join(names)}: {text}"
    yield from _unrefused(hunt)
    yield from _unfinished(hunt)
    yield from _slow(hunt)
    if passed:
        yield "covered", coverage_words.in_short(hunt.searched)
    if hunt.environment and (passed or verbose):
        yield "environment", line(hunt.environment)


def _gradients(hunt: SearchRecord, *, verbose: bool) -> Facts:
    if hunt.checks:
        yield from coverage_words.of_whole(hunt.searched, verbose=verbose)
    yield from _not_compared(hunt)
    if hunt.ignored:
        yield "ignored", f"gradients by {', '.join(sorted(hunt.ignored))}: nn.RNN has none"


def _not_compared(hunt: SearchRecord) -> Facts:
    for text in wording.not_compared_lines(hunt.not_compared):
        yield "not compared", text


def _suspicions(hunt: SearchRecord, *, verbose: bool) -> str:
    cases = wording.counted(len(hunt.suspicions), "case")
    if not verbose:
        untried = any(not suspicion.runs for suspicion in hunt.suspicions)
        why = "an interrupt came before other values were tried" if untried else "not repeated on other values; see -v"
        return f"{cases}, {why}"
    worst = max(hunt.suspicions, key=lambda suspicion: suspicion.strength)
    return (
        f"{cases} beyond usual roundings, {worst.strength:.2g} times at most, not repeated often enough: the worst on "
        f"{worst.again} of {worst.runs} other seeds\n{worst.case!r}"
    )


def _unchecked(done: Examination) -> Facts:
    """Yield what was offered and not compared, unless the first line says so, and the arguments that are not given."""
    if done.verdict is not Verdict.NOT_ENOUGH:
        yield from (("unchecked", text) for text in wording.gap_lines(done.hunt))
    if missing := [reading for reading in done.read_as.split("; ") if NEVER_GIVEN in reading]:
        yield "unchecked", "; ".join(missing)


def _unrefused(hunt: SearchRecord, *, cases: bool = False) -> Facts:
    """Yield the values that the subject neither supports nor refuses, how it fails there, and what to do about that.

    If ``cases`` is true, a case of each failure follows, and what its makers know of it.
    """
    first = {failure_line(result): (case, result) for case, result in reversed(hunt.unsupported_unrefused.values())}
    for failure, names in unrefused_by_failure(hunt).items():
        yield "fails at", f"{', '.join(names)}: {failure}"
        if cases:
            case, result = first[failure]
            yield "case", case_words(case)
            if (known := upstream_line(hunt.subject, case.config, result)) is not None:
                yield "upstream", known
    if hunt.unsupported_unrefused:
        values = hunt.scope.values()
        pins = (f"--only {name}={','.join(map(str, values[name]))}" for name in unrefused_factors(hunt))
        yield "advice", f"if it need not support this: raise NotImplementedError, or {' '.join(pins)}"


def _slow(hunt: SearchRecord) -> Facts:
    """Yield why a subject was asked for less."""
    if hunt.slow:
        yield "slow", "few sizes were asked for, and few layers, because each new shape takes long"
    elif not hunt.scope.products:
        yield "slow", f"the largest cases, of {EDGE:,} states, were left out: the layer loops in Python"


def _vacuous(done: Examination, findings: Sequence[ReportedFinding]) -> Facts:
    """Yield the mistakes that too few cases could have shown."""
    if not findings and (text := wording.unshown_line(done)) is not None:
        yield "vacuous", text


def _methods(hunt: SearchRecord, *, verbose: bool) -> str:
    methods = [method for method in ComparisonMethod if hunt.checks[method]]
    if not verbose:
        return "; ".join(f"{hunt.checks[method]:,} {wording.COMPARISON_WORDS[method]}" for method in methods)
    if len(methods) == 1:
        return methods[0].value
    return "\n".join(f"{wording.counted(hunt.checks[method], 'case')} {method.value}" for method in methods)
