"""upgrade: what differs between an old and a new environment, in which one subject was searched with one plan.

Each difference is a defect, which is a finding, or behaviour, or rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import NamedTuple, TypeAlias

from harness.checks.compare_subjects import Apart, Between, Held, between
from harness.checks.result import Result, Verdict
from harness.diagnosis.factors import like
from harness.diagnosis.investigate import Explanation, one_bug
from harness.search.common import Behaviour
from harness.search.plan import Asked
from harness.search.record import Finding, Hunt
from harness.search.replay import Fate, replay
from harness.space.config import RNNConfig
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import Subject


class Standing(Enum):
    """The environments that have a defect: the new one alone, both, or the old one alone."""

    NEW = "new"
    OLD = "old"
    GONE = "gone"


class Side(NamedTuple):
    """One of the two environments: the subject there, its search, and what is known of each finding, by its id."""

    subject: Subject
    hunt: Hunt
    explanations: Mapping[str, Explanation]
    seen: Mapping[Asked, str]
    """The cases that it was asked, in the order of the plan, with the bits of what it returned (``Result.bits``)."""

    @property
    def held(self) -> Held:
        """The subject, and the contract that its search ended with."""
        return Held(self.subject, self.hunt.accepted)


@dataclass(frozen=True)
class Defect:
    """A finding, or a value that a subject neither supports nor refuses, and where it is."""

    standing: Standing
    result: Result
    finding: Finding | None = None
    """The finding; of two that are one, the new environment's."""
    what: str = ""
    """The value, if it is no finding: ``num_layers=2``."""


@dataclass(frozen=True)
class Upgrade:
    """All that differs between an old and a new environment."""

    old: Hunt
    new: Hunt
    defects: tuple[Defect, ...]
    behaviour: tuple[Behaviour, ...]
    compared: int
    """The number of cases of which both have values that can be compared."""
    equal: int
    """The number of those that are equal to the bit."""
    rounded: int
    """The number of those that differ by rounding."""
    largest: Apart | None
    """The largest such difference."""
    beyond: tuple[Apart, ...]
    """The cases in which the numbers of one are beyond their allowances, which findings or known causes explain."""
    left: int
    """The number of cases with other bits that were not compared, because the time was over."""

    @property
    def in_new(self) -> bool:
        """True if the new environment has a defect, whichever search met it."""
        return any(one.standing is not Standing.GONE for one in self.defects)

    def of(self, standing: Standing) -> list[Defect]:
        """Return the defects of a standing."""
        return [one for one in self.defects if one.standing is standing]


def upgrade(old: Side, new: Side, behaviour: Iterable[Behaviour] = (), until: float = math.inf) -> Upgrade:
    """Compare what a subject did in two environments; ``behaviour`` is what only one of them supports.

    Each finding of one is run in the other. A case that both were asked is run once more in both, unless their bits are
    equal; after ``until`` (``time.perf_counter``) none is.
    """
    found = [*_findings(old, new), *_undone(old.hunt, new.hunt)]
    asked = [one for one in new.seen if one in old.seen]
    unlike = [one for one in asked if not new.seen[one] or new.seen[one] != old.seen[one]]
    in_time = takewhile(lambda _: time.perf_counter() < until, unlike)
    both = [between(one.case(), old.held, new.held) for one in in_time]
    alike = len(asked) - len(unlike)
    parts = [one.apart for one in both if one.apart is not None]
    rounded = [one for one in parts if one.rounding]
    return Upgrade(
        old.hunt,
        new.hunt,
        tuple(one for one, _ in found),
        (
            *behaviour,
            *_gradients(old.hunt, new.hunt),
            *(other for _, other in found if other is not None),
            *_behaviour(zip((one.config for one in unlike), both, strict=False)),
        ),
        compared=alike + sum(one.compared for one in both),
        equal=alike + sum(one.compared and one.apart is None for one in both),
        rounded=len(rounded),
        largest=max(rounded, key=lambda one: one.share, default=None),
        beyond=tuple(one for one in parts if not one.rounding),
        left=len(unlike) - len(both),
    )


_Found: TypeAlias = Iterator[tuple[Defect, Behaviour | None]]


def _findings(old: Side, new: Side) -> _Found:
    """Yield each finding with its standing, and how it shows in the other environment if that is another exception.

    A search ends some cases after its last cause. So a finding that only one search has is run in the other
    environment before it is called new or gone.
    """
    pairs: set[str] = set()
    for finding in new.hunt.findings:
        twin = next((one for one in old.hunt.findings if _one(old, one, new, finding)), None)
        pairs |= set() if twin is None else {twin.id}
        there = None if twin is not None else _shown(old, finding)
        standing = Standing.NEW if twin is None and there is None else Standing.OLD
        yield Defect(standing, finding.result, finding), _raised(repr(finding.case.config), there, finding.result)
    for finding in old.hunt.findings:
        if finding.id in pairs:
            continue
        there = _shown(new, finding)
        if there is None:
            yield Defect(Standing.GONE, finding.result, finding), None
        elif not _told(new, finding, there):
            yield Defect(Standing.OLD, there, finding), _raised(repr(finding.case.config), finding.result, there)


def _told(side: Side, finding: Finding, there: Result) -> bool:
    """Tell if a finding of the other environment, which shows here, is one of here by where it shows."""
    for one in side.hunt.findings:
        factors = side.explanations[one.id].factors
        if like(one.result) == like(there) and factors is not None and factors.covers(finding.case.config):
            return True
    return False


def _one(old: Side, finding: Finding, new: Side, other: Finding) -> bool:
    return one_bug((finding, old.explanations[finding.id]), (other, new.explanations[other.id]))


def _shown(side: Side, finding: Finding) -> Result | None:
    """Return the result that shows a finding in the other environment, if it does: as the same kind, or as an error."""
    fate, result = replay(side.subject, finding.case, finding.accepted or side.hunt.accepted)
    if fate is not Fate.FAILED:
        return None
    both_raise = bool(_error(result)) and bool(_error(finding.result))
    return result if both_raise or result.shows(finding.result.kind) else None


def _raised(what: str, old: Result | None, new: Result) -> Behaviour | None:
    """Return that another exception is raised than before."""
    if old is None or not _error(old) or _error(old) == _error(new):
        return None
    return Behaviour(what, f"raises {_error(old)}", f"raises {_error(new)}", 1)


def _error(result: Result) -> str:
    """Return the class of the exception that a result tells of."""
    broken = result.verdict is Verdict.BROKEN and result.failure is None
    raised = broken and not result.mismatches and not result.nondeterministic
    return result.message.partition(":")[0] if raised else ""


def _undone(old: Hunt, new: Hunt) -> _Found:
    """Yield the values that one neither supports nor refuses."""
    for what, (_, result) in new.undone.items():
        before = old.undone[what][1] if what in old.undone else None
        standing = Standing.NEW if before is None else Standing.OLD
        yield Defect(standing, result, what=what), _raised(what, before, result)
    for what, (_, result) in old.undone.items():
        if what not in new.undone:
            yield Defect(Standing.GONE, result, what=what), None


def _gradients(old: Hunt, new: Hunt) -> Iterator[Behaviour]:
    """Yield the gradients that only one returns."""
    for name in sorted(set(old.not_compared) ^ set(new.not_compared)):
        said = ("does not return it", "returns it")
        yield Behaviour(
            "the output" if name == "output" else f"the gradient by {name}",
            *(said if name in old.not_compared else said[::-1]),
        )


def _behaviour(both: Iterable[tuple[RNNConfig, Between]]) -> Iterator[Behaviour]:
    """Yield the refusals and the exceptions of cases that differ, each with its first config."""
    found: dict[tuple[str, str], tuple[RNNConfig, int]] = {}
    for config, one in both:
        said = _said(one.first), _said(one.second)
        # Values on one side and an error on the other are a finding.
        if said[0] != said[1] and (_refuses(one) or all(said)):
            first, count = found.get(said, (config, 0))
            found[said] = first, count + 1
    for (old, new), (config, count) in found.items():
        yield Behaviour(repr(config), old or "computes it", new or "computes it", count)


def _refuses(one: Between) -> bool:
    return Failure.UNSUPPORTED in {one.first.failure, one.second.failure}


def _said(outcome: Outcome) -> str:
    """Return that an outcome is a refusal, or which exception; empty for anything else."""
    if outcome.failure is Failure.UNSUPPORTED:
        return "refuses"
    return f"raises {outcome.message.partition(':')[0]}" if outcome.failure is Failure.RAISED else ""
