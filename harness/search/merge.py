"""Merge the logs of a plan's shards into the record that a single run would have.

The cases of all shards are counted again in the plan's order, by the code that counts them in a search, up to the case
at which a single run would have ended. A cause that several shards found is one finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.checks.result import Verdict
from harness.search.budget import Budget
from harness.search.log import Part, Pursued
from harness.search.plan import Asked, units
from harness.search.record import Finding, Hunt, Stop
from harness.search.search import DEATHS
from harness.search.shards import Shard, parted
from harness.space.config import RNNConfig
from harness.space.errors import UsageError

Same = Callable[[tuple[Part, Finding], tuple[Part, Finding]], bool]
"""A function that tells whether an earlier finding and a later one, each with its part, have one cause."""


class Merged(NamedTuple):
    """The record of all parts, and the part that made each of its findings."""

    hunt: Hunt
    whose: list[Part]
    same: list[bool]
    """One for each case that agrees, as far as known: true if it has the bits of the subject's first stage."""


def merged(
    parts: Sequence[Part], of: int, *, cases: int | None, seconds: float | None, aside: bool, same: Same
) -> Merged:
    """Return the record of a search of ``cases`` cases, in parts that were done apart.

    A single run ends some cases after its last cause. If a shard found another cause after that, the record goes on to
    there, so that nothing is lost. Raises ``UsageError`` if a part has other cases than its plan.
    """
    parts = sorted(parts, key=lambda part: part.number)
    budget, causes = Budget(cases, seconds), _Causes(same)
    places = list(_places(parts, of, budget.cases, aside=aside))
    for part in parts:
        causes.take(part, part.log.pursued.get(0))
    new = [index for index, place in enumerate(places) if causes.take(place.part, place.pursued)]
    count = _Count(_begun(parts, of), budget, causes, [])
    count.hunt.stop = count.of(parts, places, max(new, default=-1))
    whose = [part for part, _ in causes.found]  # in the order in which they came into the record
    return Merged(count.hunt, whose, count.same)


class _Place(NamedTuple):
    """A case of the plan, and its number among those of the part that it was done in."""

    part: Part
    number: int
    asked: Asked

    @property
    def pursued(self) -> Pursued | None:
        """The outcome of pursuing it, if it failed."""
        return self.part.log.pursued.get(self.number + 1)


def _places(parts: Sequence[Part], of: int, cases: int | None, *, aside: bool) -> Iterator[_Place]:
    """Yield the cases of all parts in the plan's order."""
    present, done = {part.number: part for part in parts}, Counter[int]()
    left, plan = sum(len(part.log.cases) for part in parts), units(parts[0].hunt.scope, parts[0].hunt.seed, cases)
    for number, unit in parted(plan, cases, of, aside=aside):
        if (part := present.get(number)) is None:
            continue
        refused: RNNConfig | None = None
        for asked in unit.asked():
            if asked.config is refused:  # as ``scan`` leaves it out
                continue
            if done[number] == len(part.log.cases):
                if part.hunt.stop is Stop.BUDGET:
                    raise UsageError(f"shard {number} of {of}: it ended well, but has fewer cases than its plan")
                break
            yield _Place(part, done[number], asked)
            refused = asked.config if part.log.verdict(done[number]) is Verdict.UNSUPPORTED else None
            done[number] += 1
            left -= 1
        if not left and all(part.hunt.stop is not Stop.BUDGET for part in parts):  # none went through all of its units
            break
    if left:
        raise UsageError(f"shards of {of}: they have {left} cases more than their plan")


class _Causes:
    """The causes that the parts found, in the plan's order."""

    def __init__(self, same: Same) -> None:
        self.found: list[tuple[Part, Finding]] = []
        """The finding that stands for each cause, with its part."""
        self._places: dict[tuple[int, str], int] = {}
        self._same = same

    def take(self, part: Part, pursued: Pursued | None) -> bool:
        """Take in the findings of a part that came next, and return whether one has a new cause.

        The first finding of a cause stands for it, as in a single run, unless only a later one is as small as can be.
        """
        before = len(self.found)
        for id_ in () if pursued is None else pursued.findings:
            one = part, part.findings[id_]
            alike = (at for at, known in enumerate(self.found) if known[1].id == id_ or self._same(known, one))
            at = next(alike, len(self.found))
            if at == len(self.found):
                self.found.append(one)
            elif one[1].minimal and not self.found[at][1].minimal:
                self.found[at] = one
            self._places[part.number, id_] = at
        return len(self.found) > before

    def finding(self, part: Part, id_: str) -> Finding:
        """Return the finding that stands for a part's finding."""
        return self.found[self._places[part.number, id_]][1]

    def name(self, part: Part, name: str) -> str:
        """Return the name of what explains a part's cases: a known issue keeps its own."""
        return self.finding(part, name).id if (part.number, name) in self._places else name


class _Count(NamedTuple):
    """The count of all cases, which goes on in one record."""

    hunt: Hunt
    budget: Budget
    causes: _Causes
    same: list[bool]

    def of(self, parts: Sequence[Part], places: Sequence[_Place], last: int) -> Stop:
        """Count the cases up to where a single run ends, and at least up to the one numbered ``last``."""
        hunt, ended = self.hunt, next((part.hunt.stop for part in parts if _ended(part, 0)), None)
        for part in parts:
            self._explain(part, part.log.pursued.get(0), counted=part is parts[0])
        for index, place in enumerate(places):
            if index > last and (stop := ended or self._end()) is not None:
                return stop
            result = place.part.log.result(place.number)
            if result.excused_by is not None:
                result = replace(result, excused_by=self.causes.name(place.part, result.excused_by))
            hunt.take(place.asked, result)
            self.same.extend(same for same in [place.part.log.same.get(place.number)] if same is not None)
            self._explain(place.part, place.pursued, counted=True)
            if _ended(place.part, place.number + 1):
                ended = place.part.hunt.stop
        stops = {part.hunt.stop for part in parts}
        early = (one for one in (Stop.INTERRUPTED, Stop.TIME, Stop.REFUSED) if one in stops)
        return ended or self._end() or next(early, Stop.BUDGET)

    def _explain(self, part: Part, pursued: Pursued | None, *, counted: bool) -> None:
        """Take in what came of a failure; what comes before the first case is the same in all parts and counts once."""
        if pursued is None:
            return
        hunt, known = self.hunt, [one.id for one in self.hunt.findings]
        findings = {finding.id: finding for id_ in pursued.findings for finding in [self.causes.finding(part, id_)]}
        new = [finding for id_, finding in findings.items() if id_ not in known]
        hunt.findings += new
        if counted:
            for name, number in pursued.known.items():
                hunt.known[self.causes.name(part, name)] += number
            hunt.known.update(id_ for id_ in findings if id_ in known)
            hunt.suspicions += pursued.suspicions
        if new or (pursued.explained and not findings):
            self.budget.extend(hunt.total)

    def _end(self) -> Stop | None:
        return Stop.DEATHS if self.hunt.deaths >= DEATHS else self.budget.spent(self.hunt)


def _ended(part: Part, cases: int) -> bool:
    """Tell whether a part ended with a finding, or with deaths, after a number of cases."""
    return part.hunt.stop in {Stop.FINDING, Stop.DEATHS} and cases == len(part.log.cases)


def _begun(parts: Sequence[Part], of: int) -> Hunt:
    """Return a record with all that does not depend on the cases."""
    first = parts[0].hunt
    hunt = Hunt(first.subject, first.seed, first.scope, refused=first.refused, undone=first.undone)
    hunt.slow, hunt.every_call = first.slow, first.every_call
    hunt.accepted, hunt.accuracy, hunt.own = first.accepted, first.accuracy, first.own
    grounds = [part.hunt.ground for part in parts]
    for name in dict.fromkeys(name for ground in grounds for name in ground):
        hunt.ground[name] = " | ".join(dict.fromkeys(ground[name] for ground in grounds if name in ground))
    hunt.seconds = sum(part.hunt.seconds for part in parts)
    hunt.shrink_checks = sum(part.hunt.shrink_checks for part in parts)
    done = {part.number for part in parts}
    hunt.missing = tuple(Shard(number, of) for number in range(1, of + 1) if number not in done)
    return hunt
