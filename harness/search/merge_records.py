"""merge_records: add up the parts of one search, which several runs did, to the record that a single run would have.

The cases of all parts are counted again in the plan's order, by the code that counts them in a search, up to the case
at which a single run would have ended. A cause that several parts found is one finding.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.checks.result import Result, Verdict
from harness.search.budget import Budget
from harness.search.log import LogEntry, LoggedCase, logged_cases
from harness.search.plan_shards import Shard
from harness.search.search import MOST_DEATHS
from harness.search.search_record import Finding, SearchRecord, Stop
from harness.space.errors import UsageError

SameCause = Callable[[Finding, Finding], bool]  # tells whether an earlier finding and a later one have one cause


def merged(parts: Sequence[SearchRecord], *, cases: int | None, seconds: float | None, same: SameCause) -> SearchRecord:
    """Return the record of a search of ``cases`` cases, in parts that were done apart.

    A single run ends some cases after its last cause. If a part found another cause after that, the record goes on to
    there, so that nothing is lost. Its findings are objects of the parts. Raises ``UsageError`` if a part has other
    cases than its plan.
    """
    parts = sorted(parts, key=_number)
    budget = Budget(cases, seconds, slow=parts[0].slow)
    causes, every = _DistinctCauses(same), list(logged_cases(parts))
    for part in parts:
        causes.take(part, part.log.events.get(0))
    new = [place for place, case in enumerate(every) if causes.take(case.part, case.event)]
    count = _Count(_begun(parts), budget, causes)
    count.hunt.stop = count.all(parts, every, max(new, default=-1))
    count.hunt.log.close(count.hunt)
    return count.hunt


def _number(part: SearchRecord) -> int:
    assert part.shard is not None
    return part.shard.number


class _DistinctCauses:
    """The causes that the parts found, in the plan's order."""

    def __init__(self, same: SameCause) -> None:
        self._same = same
        self._findings: list[Finding] = []  # the finding that stands for each cause
        self._places: dict[tuple[int, str], int] = {}

    def take(self, part: SearchRecord, event: LogEntry | None) -> bool:
        """Take in the findings of a part that came next, and return whether one has a new cause.

        The first finding of a cause stands for it, as in a single run, unless only a later one is as small as can be.
        """
        before, own = len(self._findings), {finding.id: finding for finding in part.findings}
        for id_ in () if event is None else event.findings:
            if id_ not in own:
                raise UsageError(f"{part.subject}: its findings are not those that its log names")
            alike = (
                at for at, finding in enumerate(self._findings) if finding.id == id_ or self._same(finding, own[id_])
            )
            at = next(alike, len(self._findings))
            if at == len(self._findings):
                self._findings.append(own[id_])
            elif own[id_].minimal and not self._findings[at].minimal:
                self._findings[at] = own[id_]
            self._places[_number(part), id_] = at
        return len(self._findings) > before

    def finding(self, part: SearchRecord, name: str) -> Finding | None:
        """Return the finding that stands for one of a part; ``None`` if that name is of a known issue."""
        at = self._places.get((_number(part), name))
        return None if at is None else self._findings[at]

    def name(self, part: SearchRecord, name: str) -> str:
        """Return the name of what explains a part's cases."""
        finding = self.finding(part, name)
        return name if finding is None else finding.id


class _Count(NamedTuple):
    """The count of all cases, which goes on in one record."""

    hunt: SearchRecord
    budget: Budget
    causes: _DistinctCauses

    def all(self, parts: Sequence[SearchRecord], every: Sequence[LoggedCase], last: int) -> Stop:
        """Count the cases up to where a single run ends, and at least up to the one numbered ``last``."""
        ended = next((part.stop for part in parts if _ended(part, 0)), None)
        for part in parts:
            self._note(part, part.log.events.get(0), counted=part is parts[0])
        for number, case in enumerate(every):
            if number > last and (stop := ended or self._end()) is not None:
                return stop
            self._take(case)
            if _ended(case.part, case.place + 1):
                ended = case.part.stop
        stops = {part.stop for part in parts}
        early = (ending for ending in (Stop.INTERRUPTED, Stop.TIME, Stop.REFUSED) if ending in stops)
        return ended or self._end() or next(early, Stop.BUDGET)

    def _take(self, case: LoggedCase) -> None:
        """Count a case as a single run would, which knows the causes that other parts have met."""
        hunt, result = self.hunt, case.result
        id_ = None if case.event is None else next(iter(case.event.findings), None)
        standing = None if id_ is None else self.causes.finding(case.part, id_)
        if result.known_as is not None:
            result = replace(result, known_as=self.causes.name(case.part, result.known_as))
        elif standing is not None and standing.id in {finding.id for finding in hunt.findings}:
            result = Result(Verdict.AGREES, method=result.method, known_as=standing.id)
        hunt.log.close(hunt)
        hunt.take(case.planned, result)
        hunt.log.begin(hunt)
        if case.place in case.part.log.same:
            hunt.log.same[len(hunt.log.cases) - 1] = case.part.log.same[case.place]
        self._note(case.part, case.event, counted=True)

    def _note(self, part: SearchRecord, event: LogEntry | None, *, counted: bool) -> None:
        """Note what became of a failure; what comes before the first case is the same in all parts and counts once."""
        if event is None:
            return
        standing = [finding for id_ in event.findings if (finding := self.causes.finding(part, id_)) is not None]
        known = {finding.id for finding in self.hunt.findings}
        new = [finding for finding in standing if finding.id not in known]
        self.hunt.findings += new
        if counted:
            for name, number in event.known.items():
                self.hunt.known[self.causes.name(part, name)] += number
            self.hunt.suspicions += event.suspicions
        if new or (event.explained and not event.findings):
            self.hunt.log.explained()
            self.budget.extend(self.hunt.total)

    def _end(self) -> Stop | None:
        return Stop.DEATHS if self.hunt.deaths >= MOST_DEATHS else self.budget.spent(self.hunt)


def _ended(part: SearchRecord, cases: int) -> bool:
    """Tell whether a part ended with a finding, or with deaths, after a number of cases."""
    return part.stop in {Stop.FINDING, Stop.DEATHS} and cases == len(part.log.cases)


def _begun(parts: Sequence[SearchRecord]) -> SearchRecord:
    """Return a record with all that does not depend on the cases."""
    first = parts[0]
    hunt = SearchRecord(
        first.subject, first.seed, first.scope, refused=first.refused, unsupported_unrefused=first.unsupported_unrefused
    )
    hunt.gaps = first.gaps
    hunt.slow, hunt.log.planned = first.slow, first.log.planned
    hunt.accepted, hunt.accuracy, hunt.own = first.accepted, first.accuracy, first.own
    for name in dict.fromkeys(name for part in parts for name in part.environment):
        hunt.environment[name] = " | ".join(
            dict.fromkeys(part.environment[name] for part in parts if name in part.environment)
        )
    hunt.unfinished = {what: why for part in parts for what, why in part.unfinished.items()}
    hunt.unrepeated = sum(part.unrepeated for part in parts)
    hunt.seconds = sum(part.seconds for part in parts)
    done, total = set(map(_number, parts)), 1 if first.shard is None else first.shard.of
    hunt.missing = tuple(Shard(number, total) for number in range(1, total + 1) if number not in done)
    return hunt
