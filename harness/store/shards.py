"""The folders of shards: what a shard did is written there, and read and merged again, without the subject."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from harness.checks.malformed import Refusals
from harness.checks.result import Result
from harness.diagnosis.investigate import one_bug
from harness.report.facts import dropout_facts
from harness.report.record import examination_record
from harness.report.severity import Told
from harness.search.examination import Examination, equal_of
from harness.search.log import Log, Part
from harness.search.merge import merged
from harness.search.record import Finding, Hunt
from harness.search.shards import Shard
from harness.space.errors import UsageError
from harness.space.scope import Scope
from harness.store.coding import decoded, encoded, named
from harness.store.document import as_json, write
from harness.store.document import read as read_document
from harness.store.findings import Store
from harness.subjects.ground import versions
from harness.subjects.protocol import Subject

FILE: Final = "shard.json"
FINDINGS: Final = "findings"
"""The folder of a shard's findings, beside its file."""


@dataclass(frozen=True)
class Question:
    """The question that is put to one subject."""

    subject: str
    contract: str
    scope: Scope
    source: str
    """The hash of the file that the subject is in, if it is in one."""
    aside: bool
    """True if it can be given malformed calls, which the first shard does."""
    stages: tuple[str, ...]
    """The stages before it, such as eager torch."""
    read_as: str
    """The names of its parameters and what they are read as, if they are not nn.RNN's."""

    @classmethod
    def of(cls, subject: Subject, contract: str, scope: Scope) -> Self:
        """Return what is asked of a subject."""
        own = subject.capabilities
        return cls(subject.name, contract, scope, own.source, own.call is not None, own.stages, own.read_as)


@dataclass(frozen=True)
class Plan:
    """The plan that all shards of a run have in common."""

    subjects: tuple[Question, ...]
    seed: int
    examples: int | None
    time: float | None
    tolerance: str
    timeout: float
    versions: dict[str, str]

    @staticmethod
    def here() -> dict[str, str]:
        """Return the versions of what computes here."""
        return versions()

    def difference(self, other: Plan) -> str | None:
        """Return the first thing that is different in another plan, which is what is expected; ``None`` if none is."""
        for one in fields(self):
            here, there = getattr(self, one.name), getattr(other, one.name)
            if here != there:
                return f"{one.name}={here!r}: expected {there!r}" if one.name != "subjects" else self._asked(other)
        return None

    def _asked(self, other: Plan) -> str:
        names, others = ([one.subject for one in plan.subjects] for plan in (self, other))
        if names != others:
            return f"subjects={', '.join(names)}: expected {', '.join(others)}"
        for one, there in zip(self.subjects, other.subjects, strict=True):
            differing = [part.name for part in fields(one) if getattr(one, part.name) != getattr(there, part.name)]
            if differing:
                return f"{one.subject}: another {differing[0]}"
        raise AssertionError("nothing is different")


@dataclass(frozen=True)
class Share:
    """The work of a shard on one subject."""

    hunt: Hunt
    log: Log
    told: tuple[Told, ...]
    dropout: Result | None
    of_dropout: Told | None
    """A broken law of dropout as a finding."""
    refusals: Refusals | None
    place: tuple[str, str] | None

    @classmethod
    def of(
        cls,
        done: Examination,
        told: Sequence[Told],
        log: Log,
        place: tuple[str, str] | None,
        of_dropout: Told | None = None,
    ) -> Self:
        """Return what a shard did, as it is written."""
        alone = None if of_dropout is None else _plain(of_dropout)
        return cls(done.hunt, log, tuple(map(_plain, told)), done.dropout, alone, done.refusals, place)


def _plain(told: Told) -> Told:
    return replace(told, explanation=named(told.explanation, told.finding))


class Combined(NamedTuple):
    """The report of all shards together on a subject."""

    examination: Examination
    told: tuple[Told, ...]
    place: tuple[str, str] | None


@dataclass(frozen=True)
class ShardFolder:
    """A folder that a shard wrote."""

    path: Path
    shard: Shard
    plan: Plan
    shares: tuple[Share, ...]
    """The work on the subjects, in their order; an interrupted shard has fewer of them."""


def save(folder: Path, shard: Shard, plan: Plan, shares: Sequence[Share]) -> None:
    """Write what a shard did into its folder, in full or not at all. Raise ``OSError`` if that fails."""
    record = {
        "shard": shard._asdict(),
        "plan": encoded(plan, Plan),
        "subjects": [encoded(share, Share) for share in shares],
    }
    write(as_json("shard", record), str(folder / FILE))


def read(paths: Sequence[Path]) -> list[ShardFolder]:
    """Read the folders of one plan's shards, in the order of the shards.

    Raises ``UsageError`` for damaged files, for shards of another plan, and for a shard that is there twice.
    """
    once = {os.path.realpath(path): path for path in paths}
    found: dict[int, ShardFolder] = {}
    for path in once.values():
        one = _read(path)
        first = next(iter(found.values()), one)
        other = one.plan.difference(first.plan)
        if one.shard.of != first.shard.of:
            other = f"shard={one.shard}: expected one of {first.shard.of}"
        if other is not None:
            raise UsageError(f"{path}: {other}, as in {first.path}; only shards of one plan add up")
        if one.shard.number in found:
            raise UsageError(f"{path}: shard {one.shard}, as {found[one.shard.number].path}; name each shard once")
        found[one.shard.number] = one
    return [found[number] for number in sorted(found)]


def _read(path: Path) -> ShardFolder:
    file = path / FILE
    document = read_document(file, "shard")
    try:
        return _decoded(path, document)
    except (UsageError, LookupError, TypeError) as error:
        raise UsageError(f"{file}: {error}; write it again with `rnn-harness check --shard`") from None


def _decoded(path: Path, document: dict[str, Any]) -> ShardFolder:
    shard = Shard.of_text("{number}/{of}".format(**document["shard"]))
    plan = decoded(document["plan"], Plan)
    if len(document["subjects"]) > len(plan.subjects):
        raise UsageError(f"subjects: expected at most {len(plan.subjects)}, as many as the plan has")
    return ShardFolder(path, shard, plan, tuple(decoded(share, Share, _reported) for share in document["subjects"]))


def _reported(share: Share) -> None:
    """Report what a shard did, and no other one."""
    as_json("check", examination_record(Examination(share.hunt, share.refusals, share.dropout), share.told))


def combine(folders: Sequence[ShardFolder], findings: str, warn: Callable[[str], None]) -> Iterator[Combined]:
    """Yield what all shards together say of each subject, whose findings are then kept in the folder ``findings``.

    ``warn`` is told of those that cannot be. Raises ``UsageError`` for shards that do not fit together.
    """
    for place, question in enumerate(folders[0].plan.subjects):
        there = [one for one in folders if place < len(one.shares)]
        if not there:
            raise UsageError(f"{question.subject}: no shard has come to it")
        yield _combined(question, [_OfSubject(one, one.shares[place]) for one in there], findings, warn)


class _OfSubject(NamedTuple):
    """A shard's folder, and what the shard did with one subject."""

    folder: ShardFolder
    share: Share

    @property
    def part(self) -> Part:
        """The same as a part of a search."""
        findings = {one.finding.id: one.finding for one in self.share.told}
        return Part(self.folder.shard.number, self.share.hunt, self.share.log, findings)


def _combined(question: Question, given: Sequence[_OfSubject], findings: str, warn: Callable[[str], None]) -> Combined:
    first, plan = given[0], given[0].folder.plan
    for one in given:
        if one.share.hunt.scope != first.share.hunt.scope:
            raise UsageError(f"{one.folder.path}: {question.subject} refuses other things than in {first.folder.path}")
        if one.share.hunt.own != first.share.hunt.own:
            raise UsageError(f"{one.folder.path}: --known names other failures than in {first.folder.path}")
    told = {(one.folder.shard.number, it.finding.id): (one, it) for one in given for it in one.share.told}

    def same(earlier: tuple[Part, Finding], later: tuple[Part, Finding]) -> bool:
        both = (told[part.number, finding.id][1] for part, finding in (earlier, later))
        return one_bug(*((one.finding, one.explanation) for one in both))

    hunt, whose, same_bits = merged(
        [one.part for one in given],
        first.folder.shard.of,
        cases=plan.examples,
        seconds=plan.time,
        aside=question.aside,
        same=same,
    )

    def kept(owner: _OfSubject, as_told: Told) -> Told:
        """Return a finding that is kept with the findings of the merge."""
        id_, place = as_told.finding.id, as_told.kept
        if place is not None:
            try:
                place = replace(place, folder=Store(findings).copy(owner.folder.path / FINDINGS / id_, id_))
            except OSError as error:
                place = None
                warn(f"--findings {findings}: the finding could not be kept: {error}")
        return replace(as_told, kept=place, further=hunt.known[id_])

    done = Examination(hunt, first.share.refusals, first.share.dropout, question.contract, question.read_as)
    done.equal = equal_of(question.stages, same_bits)
    if first.share.of_dropout is not None:
        done.dropout_facts = dropout_facts(kept(first, first.share.of_dropout))
    every = (kept(*told[part.number, finding.id]) for part, finding in zip(whose, hunt.findings, strict=True))
    return Combined(done, tuple(every), first.share.place)
