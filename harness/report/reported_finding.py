"""reported_finding: a finding as all reports show it, in words and as plain data, without what explained it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.checks.result import ComparisonMethod
from harness.diagnosis.finding_explainer import CauseIdentity, Explanation, identity_of
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.wrong_conventions import WrongConventions
from harness.report.error_map_records import MapsRecord, maps_record
from harness.report.facts import cause_of, facts_of_failure, failure_line, is_certain, next_steps
from harness.report.finding_files import Fact, FindingFiles
from harness.report.severity import Severity, severity
from harness.report.wording import counted
from harness.search.examination import Examination
from harness.search.search_record import Finding


@dataclass(frozen=True)
class ReportedFinding:
    """A finding, what is said of it, and where it is kept."""

    finding: Finding
    cause: str  # or else what is wrong, in a sentence
    certainty: str  # of the cause, such as ``certain``
    severity: Severity
    identity: CauseIdentity  # by which other findings of one cause are known
    certain: bool = False  # the cause is certain, or was measured
    mistakes: int = 0  # that are certain
    misdeclared: bool = False  # a wrong declaration, which may show in any way
    facts: tuple[Fact, ...] = ()  # that hold wherever it is kept, and however often it was met
    error_maps: MapsRecord | None = None
    line: tuple[str, int] | None = None  # the file and line of the subject's own code that makes the mistake
    environment: Mapping[str, str] = field(default_factory=dict)  # what it was computed on
    saved: FindingFiles | None = None
    further: int = 0  # the further cases that fail with the same cause
    also: tuple[Finding, ...] = ()  # findings on the same case, or errors raised by the same line

    @property
    def id(self) -> str:
        """The finding's id."""
        return self.finding.id

    @property
    def all_facts(self) -> list[Fact]:
        """Everything that is known of it, and at the end how to go on from here."""
        more = f"; {counted(self.further, 'more case')}" if self.further else ""
        case = None if self.finding.result.method is ComparisonMethod.DROPOUT else self.finding.case
        return [
            *(replace(fact, text=fact.text + more) if fact.name == "fails" else fact for fact in self.facts),
            *self._others(),
            *next_steps(self.id, self.saved, case, self.finding.subject),
        ]

    def _others(self) -> list[Fact]:
        own = failure_line(self.finding.result)
        lines = dict.fromkeys(line for finding in self.also if (line := failure_line(finding.result)) != own)
        lines = lines or dict.fromkeys(f"on {finding.case.config!r}" for finding in self.also[:1])
        return [Fact("also", line, detail=number > 0) for number, line in enumerate(lines)]


def _mistakes(finding: Finding, explanation: Explanation) -> int:
    """Return how many mistakes of a finding are certain: the first, and those of its case without one of their own."""
    diagnosis = explanation.diagnosis
    if diagnosis is not None and diagnosis.certain and isinstance(diagnosis.cause, IdentifiedCause):
        return 1 + len(diagnosis.elsewhere)
    return int(is_certain(finding, explanation))


def reported(
    finding: Finding, explanation: Explanation | None = None, saved: FindingFiles | None = None, further: int = 0
) -> ReportedFinding:
    """Return a finding with what an explanation says of it."""
    explanation = explanation or Explanation()
    diagnosis, (cause, certainty) = explanation.diagnosis, cause_of(finding, explanation)
    return ReportedFinding(
        finding,
        cause,
        certainty,
        severity(finding, explanation),
        identity_of(finding, explanation),
        certain=is_certain(finding, explanation),
        mistakes=_mistakes(finding, explanation),
        misdeclared=diagnosis is not None and isinstance(diagnosis.cause, WrongConventions),
        facts=tuple(facts_of_failure(finding, explanation)),
        error_maps=None if explanation.error_maps is None else maps_record(explanation.error_maps),
        line=None if diagnosis is None or diagnosis.line is None else diagnosis.line[:2],
        environment=dict(explanation.environment),
        saved=saved,
        further=further,
    )


def in_order(findings: Sequence[ReportedFinding]) -> list[ReportedFinding]:
    """Return the findings in the order of the report: one for each case and each line that raises, the gravest first.

    Within a class, findings with a certain cause come first, then those with more failing cases, then the earlier ones.
    Among wrong results, a certain cause comes before the class: once it is mended, what has none may be gone. A wrong
    declaration comes before everything, because it may show in any way.
    """
    groups: dict[Any, list[ReportedFinding]] = {}
    for finding in findings:
        groups.setdefault(finding.finding.result.error or finding.id, []).append(finding)
    places = {severity: place for place, severity in enumerate(Severity)}

    def key(finding: ReportedFinding) -> tuple[Any, ...]:
        place = places[finding.severity]
        group = max(place, places[Severity.CONDITION])  # wrong results are one
        return not finding.misdeclared, group, not finding.certain, place, -finding.further

    return sorted(map(_together, groups.values()), key=key)


def _together(group: Sequence[ReportedFinding]) -> ReportedFinding:
    """Merge several findings into the one that was kept and explained last, which is the one in the store."""
    *others, last = group
    if not others:
        return last
    gravest = min((finding.severity for finding in group), key=list(Severity).index)
    further = sum({finding.id: finding.further for finding in group}.values())
    return replace(last, severity=gravest, further=further, also=tuple(finding.finding for finding in others))


def dropout_alone(done: Examination, findings: Sequence[ReportedFinding]) -> bool:
    """Tell if dropout's statistics are wrong, and no finding explains that: wrong numbers show in any run."""
    explained_by = {Severity.VALUES, Severity.GRADIENTS}
    return (
        done.dropout is not None
        and done.dropout.failed
        and explained_by.isdisjoint(finding.severity for finding in findings)
    )


def dropout_facts(of_dropout: ReportedFinding) -> dict[str, str]:
    """Return where broken statistics of dropout begin, and how to run it again."""
    return {fact.name: fact.text for fact in of_dropout.all_facts if not fact.detail}
