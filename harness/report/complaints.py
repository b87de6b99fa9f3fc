"""complaints: all that is wrong with a subject, an entry for each cause, as the formats for CI show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checks.result import Verdict
from harness.report import explained, wording
from harness.report.examination_facts import undone_by_failure
from harness.report.refusals import by_lapse
from harness.report.severity import Told, dropout_alone
from harness.report.short import case_code, cause_of, failure_line, replay_line, upstream_of, worst_line
from harness.search.examination import Examination


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong with a subject."""

    title: str
    """The cause, or else what is wrong, in a sentence."""
    kind: str
    """The kind of failure, in the words by which failures are told apart."""
    facts: tuple[tuple[str, str], ...] = ()
    """Further facts in the order of the report, each with its name."""
    sure: str = ""
    """The certainty of the cause, such as ``certain``; empty if nothing is said about that."""
    id: str = ""
    """The finding's id; empty if it is no finding that was kept."""
    case: str = ""
    """The failing case as Python code, as small as possible."""
    replay: str = ""
    """The command that runs it again."""
    at: tuple[str, int] | None = None
    """The file and the line that raised an error."""


@dataclass(frozen=True)
class Summary:
    """One subject's examination, with all that is wrong."""

    examination: Examination
    complaints: tuple[Complaint, ...]
    place: tuple[str, str] | None = None
    """The file and the name of the subject's function or class, if it has a name there."""

    @property
    def subject(self) -> str:
        """The subject's name."""
        return self.examination.hunt.subject

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        done = self.examination
        return wording.verdict_on(done.hunt, done.verdict) + wording.so_far(done)

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        return wording.verdict_word(self.examination)

    @property
    def shortfall(self) -> str:
        """The reason why the subject cannot be said to agree, though nothing is wrong; empty if there is none."""
        done = self.examination
        if self.complaints:
            return ""
        if done.interrupted:
            return f"{self.verdict}: interrupted before the end of the search"
        if done.verdict is Verdict.NOT_ENOUGH:
            return f"not enough seen: {', '.join(done.lacking)}"
        return "" if done.verdict is Verdict.AGREES else self.headline


def verdict_on_all(summaries: Sequence[Summary]) -> str:
    """Return how many of several subjects agree."""
    right = sum(not one.complaints and not one.shortfall for one in summaries)
    return f"{right} of {wording.counted(len(summaries), 'subject')} agree with nn.RNN"


def summary_of(
    done: Examination, told: Sequence[Told], tolerance: str = "derived", place: tuple[str, str] | None = None
) -> Summary:
    """Return an examination with its findings, in the given order, and with all else that is wrong, as complaints."""
    return Summary(done, tuple(_complaints(done, told, tolerance)), place)


def _complaints(done: Examination, told: Sequence[Told], tolerance: str) -> Iterator[Complaint]:
    for one in told:
        yield _of_finding(one, tolerance)
    dropout = done.dropout
    if dropout is not None and dropout_alone(done, told):
        cause, facts = wording.dropout_told(dropout)
        facts |= done.dropout_facts
        replay = facts.pop("replay", "")
        yield Complaint(cause, dropout.kind, tuple(facts.items()), replay=replay)
    for said, names in undone_by_failure(done.hunt).items():
        advice = "if it need not support this: raise NotImplementedError there, or leave it out with --only"
        yield Complaint(f"fails at {', '.join(names)}: {said}", "not supported and not refused", (("advice", advice),))
    if done.refusals is not None:
        for lapse, rules in by_lapse(done.refusals).items():
            said = f"{wording.counted(len(rules), 'kind')}: {'; '.join(rules)}"
            yield Complaint(f"malformed calls {lapse}", lapse, (("calls", said),))


def _of_finding(told: Told, tolerance: str) -> Complaint:
    finding, explanation = told.finding, told.explanation
    title, sure = cause_of(told)
    result, config = finding.result, finding.case.config
    facts = list(explained.code_lines(explanation.diagnosis, config).items())
    wrong = worst_line(result, config) or failure_line(result)
    facts += [("wrong", wrong)] if wrong != title else []
    if (at := result.raised_at) is not None:
        facts.append(("at", f"{at[0]}, line {at[1]}"))
    if explanation.answers is not None:
        facts.append(("fails", explained.answers_line(explanation.answers, told.further)))
    if explanation.factors is not None:
        facts.append(("fails", explained.fails_line(explanation.factors, told.further)))
        if (passing := explained.passing_line(explanation.factors)) is not None:
            facts.append(("passes", passing))
    if (kernel := explained.kernels_line(explanation.kernels)) is not None:
        facts.append(("kernel", kernel))
    if (known := upstream_of(told)) is not None:
        facts.append(("upstream", known))
    return Complaint(
        title,
        result.kind,
        tuple(facts),
        sure,
        finding.id,
        case_code(finding.case, told.kept),
        "" if told.kept is None else replay_line(told, tolerance),
        None if at is None or not Path(at[0]).is_file() else (at[0], int(at[1])),
    )
