"""JUnit XML: a test suite for each subject, in which every check, every cause of failure and every gap is a test case.

A check that passed is a test case that passed. A check with findings is not: each of its findings is a test case that
failed, so that there are as many failures as causes. What was left out is skipped, with the reason. An upgrade has a
suite of its own, and what fails in the old interpreter is skipped there: the new one decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from harness.checks.relations import RELATIONS
from harness.checks.result import DERIVATIVES, PROBES, TWICE
from harness.report import wording
from harness.report.complaints import Summary
from harness.report.upgrade import DefectInterpreters, Upgrade, behaviour_line, equal_line
from harness.search.examination import Examination
from harness.search.search_record import SearchRecord

if TYPE_CHECKING:
    from junitparser import TestSuite
    from junitparser.junitparser import FinalResult

# Characters that XML cannot hold, however they are written.
_NOT_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_BESIDE: Final = {
    TWICE: "the same answer twice",
    PROBES: "gradients with probes",
    DERIVATIVES: "derivatives beyond gradients",
}


def junit(summaries: Sequence[Summary], upgrade: Upgrade | None = None) -> str:
    """Return the report as XML."""
    from junitparser import JUnitXml

    report = JUnitXml("rnn-harness")
    for number, one in enumerate(summaries):
        report.add_testsuite(_suite(one, old=upgrade is not None and number == 0))
    if upgrade is not None:
        report.add_testsuite(_upgrade_suite(upgrade))
    report.update_statistics()  # type: ignore[no-untyped-call] # it sums times, too, which no test case has
    for suite, one in zip(report, summaries, strict=False):  # an upgrade's suite has no time of its own
        suite.time = round(one.examination.hunt.seconds, 3)
    report.time = round(sum(suite.time for suite in report), 3)
    text: str = report.tostring().decode()  # type: ignore[no-untyped-call]
    return text + "\n"


def _suite(summary: Summary, *, old: bool = False) -> TestSuite:
    """Return the suite of a subject, in which nothing fails if it is the ``old`` interpreter of an upgrade."""
    from junitparser import Error, Failure, Skipped, TestSuite

    done, subject = summary.examination, summary.subject
    suite = TestSuite(_xml(subject))
    facts = {"verdict": done.verdict.value if done.verdict else "none", "profile": done.profile}
    facts |= {"cases": str(done.hunt.total), "seed": str(done.hunt.seed)}
    for name, value in {**facts, **done.hunt.environment}.items():
        suite.add_property(_xml(name), _xml(value))
    for name in _passed(done):
        _add(suite, name)
    for complaint in summary.complaints:
        name = f"{complaint.id}: {complaint.title}" if complaint.id else complaint.title
        failure = Failure(_xml(complaint.headline), _xml(complaint.kind))
        failure.text = _xml(complaint.text)
        _add(suite, name, Skipped(_xml(f"in the old interpreter: {complaint.headline}")) if old else failure)
    if said := _xml(summary.shortfall):
        error = Error(said, "not enough seen")
        _add(suite, "enough was seen", Skipped(f"in the old interpreter: {said}") if old else error)
    for shard in done.hunt.missing:
        _add(suite, f"shard {shard}", Error("it is missing", "not enough seen"))
    for name, why in _left_out(done.hunt):
        _add(suite, name, Skipped(_xml(why)))
    return suite


def _upgrade_suite(upgrade: Upgrade) -> TestSuite:
    """Return the suite of what differs: what is new fails, what is gone passes, and all else is skipped."""
    from junitparser import Failure, Skipped, TestSuite

    name = f"the upgrade of {upgrade.old.subject} to {upgrade.new.subject}"
    suite = TestSuite(_xml(name))
    suite.add_property("equal", equal_line(upgrade))
    for one in upgrade.defects:
        said = _xml(one.text)
        ends = {
            DefectInterpreters.NEW: Failure(said, _xml(one.kind)),
            DefectInterpreters.BOTH: Skipped("it is no news: it is under both interpreters"),
        }
        _add(suite, f"{one.standing.value}: {said}", ends.get(one.standing))
    for behaviour in upgrade.behaviour:
        _add(suite, f"behaviour: {behaviour.what}", Skipped(_xml(behaviour_line(behaviour))))
    if not upgrade.of(DefectInterpreters.NEW):
        _add(suite, "no new finding")
    return suite


def _add(suite: TestSuite, name: str, result: FinalResult | None = None) -> None:
    """Add a test case; without a result, it passed."""
    from junitparser import TestCase

    case = TestCase(_xml(name), suite.name)
    case.result = [] if result is None else [result]
    suite.add_testcase(case)


def _passed(done: Examination) -> Iterator[str]:
    hunt = done.hunt
    broken = {mismatch.relation for one in hunt.findings for mismatch in one.result.mismatches[:1]}
    failing = {*hunt.failing, *(one.case.config.dtype for one in hunt.findings)} if hunt.findings else set()
    for dtype in hunt.coverage.factors.get("dtype", ()):
        if dtype not in failing:
            yield f"agreement in {dtype}"
    for name, relation in RELATIONS.items():
        if hunt.relations[name] and name not in broken:
            yield f"the same with {relation.others}"
    for check, name in _BESIDE.items():
        if check in hunt.beside and not hunt.findings:
            yield name
    if done.dropout is not None and not done.dropout.failed:
        yield "the statistics of dropout"
    if done.refusals is not None and done.refusals.calls and not done.refusals.findings:
        yield "malformed calls are refused"


def _left_out(hunt: SearchRecord) -> Iterator[tuple[str, str]]:
    """Yield what was not checked, and what is known to deviate, with the reasons."""
    for why, names in wording.left_out(hunt.refused).items():
        yield ", ".join(names), f"not supported: {why}"
    for name, number in sorted(hunt.not_compared.items()):
        yield (
            name if name == "output" else f"gradients by {name}",
            f"not returned, in {wording.counted(number, 'case')}",
        )
    findings = {one.id for one in hunt.findings}
    for name, number in hunt.known.items():
        if name not in findings:
            yield name, f"a known issue, met in {wording.counted(number, 'case')}"


def _xml(text: str) -> str:
    """Return the text with code in place of the characters that XML cannot hold."""
    return _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
