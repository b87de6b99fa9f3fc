"""reports: the JSON reports of runs, read again to add up the shards of one search, or what several searches met."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.checks.malformed import MalformedCallAnswers
from harness.checks.result import Result
from harness.diagnosis.finding_explainer import one_cause
from harness.report.codec import decode
from harness.report.finding_entry import SubjectFindings
from harness.report.json_record import RunOptions
from harness.report.reported_finding import ReportedFinding, dropout_facts
from harness.search.examination import Examination, equal_of
from harness.search.log import logged_cases
from harness.search.merge_records import merged
from harness.search.search_record import Finding, SearchRecord
from harness.space.conformance_profile import PROFILE_WORDS
from harness.space.errors import UsageError
from harness.space.searched_scope import SearchedScope
from harness.store.document import read
from harness.store.finding_folders import Store
from harness.subjects.environment import kernels, line


@dataclass(frozen=True)
class _ReportFields:
    """The fields of a subject's report that are read, beside its search and its findings."""

    profile: str
    read_as: str = ""
    dropout: Result | None = None
    of_dropout: ReportedFinding | None = None
    refusals: MalformedCallAnswers | None = None
    stages: tuple[str, ...] = ()
    place: tuple[str, str] | None = None
    source: str = ""


class SubjectReport(NamedTuple):
    """The report of one subject."""

    search: SearchRecord
    findings: tuple[ReportedFinding, ...]
    rest: _ReportFields


@dataclass(frozen=True)
class _Document:
    run: RunOptions
    subjects: list[dict[str, Any]] = field(default_factory=list)


class RunReport(NamedTuple):
    """The report of a run."""

    path: Path
    run: RunOptions
    subjects: list[SubjectReport]  # an interrupted run has fewer than it was asked for


def read_report(path: Path) -> RunReport:
    """Read a report that ``check --json`` wrote. Raise ``UsageError`` in one line for anything else."""
    try:
        document = decode(read(path, "check"), _Document)
        subjects = [_subject(record) for record in document.subjects]
    except UsageError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise UsageError(f"{path}: {text}; write it again with `rnn-harness check --json`") from None
    return RunReport(path, document.run, subjects)


def _subject(record: Mapping[str, Any]) -> SubjectReport:
    search = decode(record, SearchRecord)
    search.log.require_sound()
    findings = decode(record.get("findings"), tuple[ReportedFinding, ...])
    search.findings += [finding.finding for finding in findings]
    rest = decode(record, _ReportFields)
    if rest.profile not in PROFILE_WORDS:
        raise UsageError(f"profile={rest.profile!r}: expected one of {', '.join(PROFILE_WORDS)}")
    for facts in filter(None, (search.environment, *(finding.environment for finding in findings))):
        try:
            line(dict(facts))
            kernels(dict(facts))
        except KeyError as error:
            raise UsageError(f"environment: expected {error} in it") from None
    return SubjectReport(search, findings, rest)


def met_together(paths: Sequence[Path]) -> list[SearchedScope]:
    """Return what the runs that wrote these reports met together, by subject. A file counts once."""
    scopes: dict[str, SearchedScope] = {}
    for path in {os.path.realpath(path): path for path in paths}.values():
        for report in read_report(path).subjects:
            searched = _counted(report.search).searched
            if searched.subject in scopes:
                scopes[searched.subject].add(searched)
            else:
                scopes[searched.subject] = searched
    return list(scopes.values())


def _counted(search: SearchRecord) -> SearchRecord:
    again = SearchRecord(search.subject, search.seed, search.scope)
    for case in logged_cases([search]):
        again.take(case.planned, case.result)
    return again


def read_shards(paths: Sequence[Path]) -> list[RunReport]:
    """Read the reports of one search's shards, in their order.

    Raises ``UsageError`` for damaged files, for shards of another search, and for a shard that is there twice.
    """
    shards: dict[int, RunReport] = {}
    for path in paths:
        report = read_report(path)
        first, shard = next(iter(shards.values()), report), report.run.shard
        if shard is None:
            raise UsageError(f"{path}: a report of a whole run; expected those of `rnn-harness check --shard K/N`")
        if (difference := report.run.difference(first.run)) is not None:
            raise UsageError(f"{path}: {difference}, as in {first.path}; only shards of one search add up")
        if shard.number in shards:
            raise UsageError(f"{path}: shard {shard}, as {shards[shard.number].path}; name each shard once")
        if any(part.search.shard != shard for part in report.subjects):
            raise UsageError(f"{path}: its subjects are not all of shard {shard}, which its run is of")
        shards[shard.number] = report
    return [shards[number] for number in sorted(shards)]


def add_up(shards: Sequence[RunReport], folder: str, warn: Callable[[str], None]) -> Iterator[SubjectFindings]:
    """Yield what all shards together say of each subject, whose findings are then kept in the ``folder``.

    ``warn`` hears of those that cannot be. Raises ``UsageError`` for shards that do not fit together.
    """
    for name in shards[0].run.subjects:
        parts = [(report.path, part) for report in shards for part in report.subjects if part.search.subject == name]
        if not parts:
            raise UsageError(f"{name}: no shard has come to it")
        yield _added_up(parts, shards[0].run, folder, warn)


def _added_up(
    parts: Sequence[tuple[Path, SubjectReport]], run: RunOptions, folder: str, warn: Callable[[str], None]
) -> SubjectFindings:
    (path, first), *others = parts
    for place, report in others:
        for what, here, there in _alike(report, first):
            if here != there:
                raise UsageError(f"{place}: {report.search.subject}: {what} than in {path}")
    owners = {id(finding.finding): (place, finding) for place, part in parts for finding in part.findings}

    def same(earlier: Finding, later: Finding) -> bool:
        return one_cause(*(owners[id(finding)][1].identity for finding in (earlier, later)))

    def saved(place: Path, finding: ReportedFinding) -> ReportedFinding:
        """Return a finding that is kept with those of the merge, if its folder lies beside its report."""
        if finding.saved is None:
            return finding
        source = place.parent / finding.saved.folder.parent.name / finding.id
        try:
            copied = (store := Store(folder)).copy(source, finding.id)
            return replace(finding, saved=replace(finding.saved, folder=copied, own=store.owns(finding.id)))
        except (OSError, UsageError) as error:  # the report has all of it, but for what runs it again
            warn(f"--findings {folder}: the finding could not be kept: {error}")
            return replace(finding, saved=None)

    hunt = merged([part.search for _, part in parts], cases=run.examples, seconds=run.time, same=same)
    rest, of_dropout = first.rest, first.rest.of_dropout
    done = Examination(hunt, rest.refusals, rest.dropout, rest.profile, rest.read_as)
    done.equal = equal_of(rest.stages, hunt.log.same.values())
    if of_dropout is not None:
        done.dropout_facts = dropout_facts(saved(path, of_dropout))
    findings = [replace(saved(*owners[id(finding)]), further=hunt.known[finding.id]) for finding in hunt.findings]
    return SubjectFindings(done, tuple(findings), rest.place, of_dropout, rest.stages, rest.source)


def _alike(report: SubjectReport, first: SubjectReport) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be the same in two shards, with the words for one that is not."""
    yield "it refuses other things", report.search.scope, first.search.scope
    yield "--weights are others", report.search.weights, first.search.weights
    yield "--known names other failures", report.search.own, first.search.own
    for part in fields(_ReportFields):
        if part.name in {"profile", "source", "stages", "read_as"}:
            yield f"another {part.name}", getattr(report.rest, part.name), getattr(first.rest, part.name)
