"""finding_entry: all that is wrong with a subject, an entry for each cause, as the formats for CI show it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from harness.checks.result import Verdict
from harness.report import check_names, wording
from harness.report.examination_facts import unrefused_by_failure
from harness.report.facts import next_steps
from harness.report.finding_files import CAUSE_UNKNOWN, Fact, SavedFinding
from harness.report.malformed_calls import by_lapse
from harness.report.reported_finding import ReportedFinding, dropout_alone, in_order
from harness.search.examination import Examination
from harness.space.cells import layer_named

_COMMANDS: Final = {"run it", "replay"}


@dataclass(frozen=True)
class FindingEntry:
    """One thing that is wrong with a subject."""

    title: str  # the cause, or else what is wrong, in a sentence
    kind: str  # the kind of failure, in the words by which failures are told apart
    facts: tuple[Fact, ...] = ()
    sure: str = ""  # how certain the cause is, such as ``certain``
    id: str = ""  # the finding's id; empty if it is no finding that was kept
    at: tuple[str, int] | None = None  # the file and the line that raised an error
    error_maps: Mapping[str, Any] | None = None
    folder: Path | None = None  # where the finding is kept
    check: str = ""  # the name of the check that fails (``check_names``); empty for a finding that was read back

    @property
    def main_facts(self) -> list[Fact]:
        """The facts that every report shows."""
        return [fact for fact in self.facts if not fact.detail]

    @property
    def text(self) -> str:
        """Everything that matters, as lines of plain text."""
        return "\n".join([self.headline, *(f"{fact.name}: {fact.text}" for fact in self.main_facts)])

    @property
    def headline(self) -> str:
        """The cause, and how certain it is."""
        return f"{self.title} ({self.sure})" if self.sure else self.title


@dataclass(frozen=True)
class SubjectFindings:
    """One subject's examination, with all that is wrong."""

    examination: Examination
    in_search_order: tuple[ReportedFinding, ...] = ()  # in the order of the search
    place: tuple[str, str] | None = None  # the file and the name of its function or class, if it has a name there
    of_dropout: ReportedFinding | None = None  # broken statistics of dropout as a finding
    stages: tuple[str, ...] = ()  # the subjects that do a part of what it does, such as eager torch
    source: str = ""  # the hash of the file that it is in

    @cached_property
    def findings(self) -> tuple[ReportedFinding, ...]:
        """The findings in the order of the report."""
        return tuple(in_order(self.in_search_order))

    @cached_property
    def entries(self) -> tuple[FindingEntry, ...]:
        """All that is wrong."""
        return tuple(_problems(self.examination, self.findings))

    @property
    def subject(self) -> str:
        """The subject's name."""
        return self.examination.hunt.subject

    @property
    def headline(self) -> str:
        """The verdict in a sentence."""
        done = self.examination
        return wording.verdict_on(done.hunt, done.verdict, wording.so_far(done))

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        return wording.verdict_word(self.examination)

    @property
    def shortfall(self) -> str:
        """The reason why the subject cannot be said to agree, though nothing is wrong; empty if there is none."""
        done = self.examination
        if self.entries:
            return ""
        if done.interrupted:
            return f"{self.verdict}: interrupted before the end of the search"
        if done.verdict is Verdict.NOT_ENOUGH:
            return f"not enough seen: {', '.join((*done.lacking, *wording.gap_lines(done.hunt)))}"
        return "" if done.verdict is Verdict.AGREES else self.headline


def verdict_on_all(summaries: Sequence[SubjectFindings]) -> str:
    """Return how many of several subjects agree."""
    right = sum(not summary.entries and not summary.shortfall for summary in summaries)
    layers = " or ".join(
        sorted({layer_named(cell) for summary in summaries for cell in summary.examination.hunt.scope.cell})
    )
    return f"{right} of {wording.counted(len(summaries), 'subject')} agree with {layers}"


def entry_of(finding: ReportedFinding) -> FindingEntry:
    """Return a finding with its facts."""
    at, saved = finding.finding.result.raised_at or finding.line, finding.saved
    place = None if at is None or not Path(at[0]).is_file() else (at[0], int(at[1]))
    folder = None if saved is None else saved.folder
    kind, facts = finding.finding.result.kind, tuple(finding.all_facts)
    check = check_names.failed_check(finding.finding.result, finding.finding.case.config.dtype)
    return FindingEntry(
        finding.cause, kind, facts, finding.certainty, finding.id, place, finding.error_maps, folder, check
    )


def entry_of_stored(stored: SavedFinding) -> FindingEntry:
    """Return a finding that was kept earlier."""
    every = [*stored.facts, *next_steps(stored.name, stored.files, stored.saved_case, stored.subject or "")]
    every += [Fact("damaged", stored.damage)] if stored.damage else []
    title = stored.cause or stored.kind or CAUSE_UNKNOWN
    return FindingEntry(
        title,
        stored.kind or "",
        tuple(every),
        stored.certainty,
        stored.name,
        error_maps=stored.error_maps,
        folder=stored.path,
    )


def dropout_problem(done: Examination, findings: Sequence[ReportedFinding]) -> FindingEntry | None:
    """Return how dropout breaks its statistics, if it does and no finding explains that."""
    if done.dropout is None or not dropout_alone(done, findings):
        return None
    cause, wrong = wording.dropout_told(done.dropout)
    rows = {**wrong, **done.dropout_facts}
    every = (Fact(name, text, language="sh" if name in _COMMANDS else "") for name, text in rows.items())
    return FindingEntry(cause, done.dropout.kind, tuple(every), check=check_names.DROPOUT_STATISTICS)


def _problems(done: Examination, findings: Sequence[ReportedFinding]) -> Iterator[FindingEntry]:
    yield from map(entry_of, findings)
    if (dropout := dropout_problem(done, findings)) is not None:
        yield dropout
    for failure, names in unrefused_by_failure(done.hunt).items():
        advice = "if it need not support this: raise NotImplementedError there, or leave it out with --only"
        title = f"fails at {', '.join(names)}: {failure}"
        facts = (Fact("advice", advice),)
        yield FindingEntry(title, "not supported and not refused", facts, check=check_names.SUPPORTED)
    if done.refusals is not None:
        for lapse, rules in by_lapse(done.refusals.findings).items():
            calls = f"{wording.counted(len(rules), 'kind')}: {'; '.join(rules)}"
            yield FindingEntry(
                f"malformed calls {lapse}", lapse, (Fact("calls", calls),), check=check_names.MALFORMED_REFUSED
            )
