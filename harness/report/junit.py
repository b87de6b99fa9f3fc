"""JUnit XML: a test suite for each subject, in which every check and every gap is a test case.

A check has the same name whether it passes or fails; its failure holds all of its findings. The whole text of a
finding stands in the first check that it fails. The time of a check is its share of the search's, by cases. What was
left out is skipped, with the reason. An upgrade has a suite of its own, and what fails in the old interpreter is
skipped there: the new one decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from harness.report import check_names, wording
from harness.report.finding_entry import FindingEntry, SubjectFindings
from harness.report.upgrade import DefectStanding, UpgradeComparison, behaviour_line, equal_line
from harness.search.examination import Examination
from harness.search.search_record import SearchRecord

if TYPE_CHECKING:
    from junitparser import TestSuite
    from junitparser.junitparser import FinalResult

# Characters that XML cannot hold, however they are written.
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(summaries: Sequence[SubjectFindings], upgrade: UpgradeComparison | None = None) -> str:
    """Return the report as XML."""
    from junitparser import JUnitXml

    report = JUnitXml("rnn-harness")
    for number, summary in enumerate(summaries):
        report.add_testsuite(_suite(summary, old=upgrade is not None and number == 0))
    if upgrade is not None:
        report.add_testsuite(_upgrade_suite(upgrade))
    report.update_statistics()  # type: ignore[no-untyped-call] # it sums times, too, which no test case has
    for suite, summary in zip(report, summaries, strict=False):  # an upgrade's suite has no time of its own
        suite.time = round(summary.examination.hunt.seconds, 3)
    report.time = round(sum(suite.time for suite in report), 3)
    text: str = report.tostring().decode()  # type: ignore[no-untyped-call]
    return text + "\n"


def _suite(summary: SubjectFindings, *, old: bool = False) -> TestSuite:
    """Return the suite of a subject, in which nothing fails if it is the ``old`` interpreter of an upgrade."""
    from junitparser import Error, Failure, Skipped, TestSuite

    done, subject = summary.examination, summary.subject
    suite = TestSuite(_xml(subject))
    facts = {"verdict": done.verdict.value if done.verdict else "none", "profile": done.profile}
    facts |= {"cases": str(done.hunt.total), "seed": str(done.hunt.seed)}
    for name, value in {**facts, **done.hunt.environment}.items():
        suite.add_property(_xml(name), _xml(value))
    failed: dict[str, list[FindingEntry]] = {}
    for entry in summary.entries:
        failed.setdefault(entry.check, []).append(entry)
    for dtype in done.hunt.failing if failed else ():  # for the same causes as in the dtypes of the findings
        of_values = [problem for problem in summary.entries if problem.check.startswith(check_names.agreement(""))]
        failed.setdefault(check_names.agreement(dtype), of_values or [summary.entries[0]])
    cases = _cases(done)
    whole: dict[str, str] = {}  # the check that has a finding's whole text
    each = done.hunt.seconds / max(1, sum(cases.values()))
    for name in [*failed, *(name for name in cases if name not in failed)]:
        seconds = each * cases.get(name, 0)
        if name not in failed:
            _add(suite, name, seconds=seconds)
            continue
        headlines = "; ".join(problem.headline for problem in failed[name])
        failure = Failure(_xml(headlines), _xml(failed[name][0].kind))
        failure.text = _xml(
            "\n\n".join(_text(problem, name, whole.setdefault(problem.text, name)) for problem in failed[name])
        )
        _add(suite, name, Skipped(_xml(f"in the old interpreter: {headlines}")) if old else failure, seconds=seconds)
    if shortfall := _xml(summary.shortfall):
        error = Error(shortfall, "not enough seen")
        _add(suite, "enough was seen", Skipped(f"in the old interpreter: {shortfall}") if old else error)
    for shard in done.hunt.missing:
        _add(suite, f"shard {shard}", Error("it is missing", "not enough seen"))
    for name, why in _left_out(done.hunt):
        _add(suite, name, Skipped(_xml(why)))
    return suite


def _text(problem: FindingEntry, check: str, whole: str) -> str:
    """Return a finding's text for a check; if another one has it whole, the headline and where that is."""
    return problem.text if check == whole else f"{problem.headline}\nits whole text is in the test case {whole!r}"


def _upgrade_suite(upgrade: UpgradeComparison) -> TestSuite:
    """Return the suite of what differs: what is new fails, what is gone passes, and all else is skipped."""
    from junitparser import Failure, Skipped, TestSuite

    name = f"the upgrade of {upgrade.old.subject} to {upgrade.new.subject}"
    suite = TestSuite(_xml(name))
    suite.add_property("equal", equal_line(upgrade))
    for defect in upgrade.defects:
        text = _xml(defect.text)
        ends = {
            DefectStanding.NEW: Failure(text, _xml(defect.kind)),
            DefectStanding.BOTH: Skipped("it is no news: it is under both interpreters"),
        }
        _add(suite, f"{defect.standing.value}: {text}", ends.get(defect.standing))
    for behaviour in upgrade.behaviour:
        _add(suite, f"behaviour: {behaviour.what}", Skipped(_xml(behaviour_line(behaviour))))
    if not upgrade.of(DefectStanding.NEW):
        _add(suite, "no new finding")
    return suite


def _add(suite: TestSuite, name: str, result: FinalResult | None = None, *, seconds: float = 0.0) -> None:
    """Add a test case; without a result, it passed."""
    from junitparser import TestCase

    case = TestCase(_xml(name), suite.name, round(seconds, 3))
    case.result = [] if result is None else [result]
    suite.add_testcase(case)


def _cases(done: Examination) -> dict[str, int]:
    """Return how many cases each check had, by its name."""
    hunt, cases = done.hunt, dict[str, int]()
    for dtype, number in hunt.coverage.factors.get("dtype", {}).items():
        cases[check_names.agreement(dtype)] = number
    cases |= {check_names.relation_name(name): number for name, number in hunt.relations.items() if number}
    cases |= {
        name: hunt.beside[check].cases for check, name in check_names.BESIDE_NAMES.items() if check in hunt.beside
    }
    if done.dropout is not None:
        cases[check_names.DROPOUT_STATISTICS] = 1
    if done.refusals is not None and done.refusals.calls:
        cases[check_names.MALFORMED_REFUSED] = done.refusals.calls
    return cases


def _left_out(hunt: SearchRecord) -> Iterator[tuple[str, str]]:
    """Yield what was not checked, and what is known to deviate, with the reasons."""
    for why, names in wording.left_out(hunt.refused).items():
        yield ", ".join(names), f"not supported: {why}"
    for name, number in sorted(hunt.not_compared.items()):
        yield (
            name if name == "output" else f"gradients by {name}",
            f"not returned, in {wording.counted(number, 'case')}",
        )
    findings = {finding.id for finding in hunt.findings}
    for name, number in hunt.known.items():
        if name not in findings:
            yield name, f"a known issue, met in {wording.counted(number, 'case')}"


def _xml(text: str) -> str:
    """Return the text with code in place of the characters that XML cannot hold."""
    return _NOT_XML.sub(lambda match: ascii(match[0])[1:-1], text)
