"""The log of a search, case by case: by it the cases are counted again, alone or with those of other shards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.checks.result import Result, Verdict
from harness.search.evidence import Suspicion
from harness.search.plan import PlannedCase, chunks
from harness.space.errors import UsageError

if TYPE_CHECKING:
    from harness.search.search_record import SearchRecord

MARGINS: Final = -16  # The lowest power of two by which margins are counted; exact results are below it


# The fields of a result, beside its verdict, that are the same in many cases and that a record counts.
TALLIED_FIELDS: Final = (
    "method",
    "known_as",
    "failure",
    "also",
    "nondeterministic",
    "not_compared",
    "ignored",
    "spared",
    "vacuous",
)

# The number of cases of a plan for each one that is logged: a plan has at most a thousand shards
CASES_A_LOG: Final = 10_000


class LoggedOutcome(NamedTuple):
    """The outcome of one case."""

    number: int  # of the case in the plan
    result: int  # its place among the different results
    margin: int | None  # the power of two up to which its margin reaches, as in ``SearchRecord.margins``
    bits: str  # of the values, if the subject agrees

    def __str__(self) -> str:
        return f"{self.number} {self.result} {'-' if self.margin is None else self.margin} {self.bits}".rstrip()

    @classmethod
    def of_text(cls, text: str) -> LoggedOutcome:
        """Return the outcome that a text says. Raise ``ValueError`` for other texts."""
        number, result, margin, *bits = text.split(" ")
        return cls(int(number), int(result), None if margin == "-" else int(margin), " ".join(bits))


@dataclass(frozen=True)
class LogEntry:
    """The outcome of a failing case, or of the measurements before the first case."""

    known: dict[str, int]  # how often an earlier finding or a known issue was met, by its name
    suspicions: tuple[Suspicion, ...]
    findings: tuple[str, ...]  # the ids of new findings
    explained: bool  # a failure was explained, be it a new finding or not, so the search goes on for some cases


@dataclass
class Log:
    """The cases of a search in the order of its plan, and what became of the failures."""

    planned: int | None = None  # The number of cases that the plan was made for; ``None`` if only time ended the search
    results: list[Result] = field(default_factory=list)  # The different results, without their evidence
    cases: list[LoggedOutcome] = field(default_factory=list)
    # What became of failures, by the number of cases that were logged until then.
    events: dict[int, LogEntry] = field(default_factory=dict)
    # By the place of a case in the log: true if it has the bits of the subject's first stage.
    same: dict[int, bool] = field(default_factory=dict)
    _places: dict[Result, int] = field(default_factory=dict)
    _known: Counter[str] = field(default_factory=Counter)
    _suspicions: int = 0
    _findings: int = 0
    _explained: bool = False

    def add(self, planned: PlannedCase, result: Result) -> None:
        """Note the result of a case."""
        plain = Result(result.verdict, **{name: getattr(result, name) for name in TALLIED_FIELDS})
        if result.verdict is Verdict.UNSUPPORTED:  # the reasons are counted
            plain = replace(plain, message=result.message)
        if plain not in self._places:
            self._places[plain] = len(self.results)
            self.results.append(plain)
        self.cases.append(LoggedOutcome(planned.number, self._places[plain], power(result.margin), result.bits))

    def explained(self) -> None:
        """Note that the failure of the last case was explained."""
        self._explained = True

    def begin(self, record: SearchRecord) -> None:
        """Note where the record stands, before what became of the last case changes it."""
        self._known, self._explained = Counter(record.known), False
        self._suspicions, self._findings = len(record.suspicions), len(record.findings)

    def close(self, record: SearchRecord) -> None:
        """Note what became of the last case."""
        known = Counter(record.known)
        known.subtract(self._known)
        findings = tuple(finding.id for finding in record.findings[self._findings :])
        suspicions = tuple(record.suspicions[self._suspicions :])
        changed = {name: number for name, number in known.items() if number}
        if changed or findings or suspicions:
            self.events[len(self.cases)] = LogEntry(changed, suspicions, findings, self._explained)

    def require_sound(self) -> None:
        """Raise ``UsageError`` for a log that no search has written."""
        last, powers = -1, {None, *range(MARGINS, 1)}
        for outcome in self.cases:
            if outcome.number <= last or not 0 <= outcome.result < len(self.results) or outcome.margin not in powers:
                raise UsageError(f"log: no search has a case such as {str(outcome)!r} after the case {last}")
            last = outcome.number
        if last >= CASES_A_LOG * (len(self.cases) + 1):
            raise UsageError(f"log: {len(self.cases)} cases, and one numbered {last}")

    def result(self, place: int) -> Result:
        """Return the result of a case, without its evidence."""
        outcome = self.cases[place]
        return replace(
            self.results[outcome.result],
            margin=None if outcome.margin is None else math.ldexp(0.5, outcome.margin),
            bits=outcome.bits,
        )


def power(margin: float | None) -> int | None:
    """Return the power of two up to which a margin reaches."""
    if margin is None:
        return None
    return min(max(MARGINS, math.frexp(margin)[1]), 0) if margin else MARGINS


class LoggedCase(NamedTuple):
    """A case of the plan, the part that it was done in, and its place in the part's log."""

    part: SearchRecord
    place: int
    planned: PlannedCase

    @property
    def result(self) -> Result:
        """The result, without its evidence."""
        return self.part.log.result(self.place)

    @property
    def event(self) -> LogEntry | None:
        """Its outcome, if it failed."""
        return self.part.log.events.get(self.place + 1)


def logged_cases(parts: Sequence[SearchRecord]) -> Iterator[LoggedCase]:
    """Yield the cases of all parts of one plan in its order. Raise ``UsageError`` if they are not of that plan."""
    owners: dict[int, tuple[SearchRecord, int]] = {}
    for part in parts:
        for place, outcome in enumerate(part.log.cases):
            if outcome.number in owners:
                raise UsageError(f"{part.subject}: case {outcome.number} of the plan is in the log twice")
            owners[outcome.number] = part, place
    if not owners:
        return
    first, last = parts[0], max(owners)
    for chunk in chunks(first.scope, first.seed, first.log.planned):
        for planned in chunk.planned():
            if planned.number in owners:
                yield LoggedCase(*owners.pop(planned.number), planned)
        if not owners or planned.number > last:
            break
    if owners:
        raise UsageError(f"{first.subject}: its log has a case {min(owners)}, which its plan does not have")
