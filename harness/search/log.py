"""The log of a shard's search, case by case, by which all shards add up to one record."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

from harness.checks.result import Result, Verdict
from harness.search.record import MARGINS, Finding, Hunt
from harness.search.suspicion import Suspicion
from harness.space.errors import UsageError


@dataclass(frozen=True)
class Pursued:
    """The outcome of pursuing a failure, or of the measurements before the first case, beside the case itself."""

    known: dict[str, int]
    """The number of times that an earlier finding or a known issue was met, by its name."""
    suspicions: tuple[Suspicion, ...]
    findings: tuple[str, ...]
    """The ids of new findings."""
    explained: bool
    """True if a failure was explained, be it a new finding or not: the search goes on for some cases after that."""


@dataclass
class Log:
    """The cases of a shard in their order, and what came of the failures."""

    results: list[Result] = field(default_factory=list)
    """The different results, without their grounds."""
    cases: list[tuple[int, int | None]] = field(default_factory=list)
    """For each case the place of its result, and the power of two of its margin, as in ``Hunt.margins``."""
    pursued: dict[int, Pursued] = field(default_factory=dict)
    """The outcomes of failures, by the number of cases until then."""
    same: dict[int, bool] = field(default_factory=dict)
    """By the numbers of cases that agree: true for those that have the bits of the subject's first stage."""
    _places: dict[Result, int] = field(default_factory=dict)
    _known: Counter[str] = field(default_factory=Counter)
    _suspicions: int = 0
    _findings: int = 0
    _explained: bool = False

    def explained(self) -> None:
        """Note that a failure of the current case was explained."""
        self._explained = True

    def close(self, record: Hunt) -> None:
        """Note what came of the cases so far."""
        known = Counter(record.known)
        known.subtract(self._known)
        found = tuple(one.id for one in record.findings[self._findings :])
        suspicions = tuple(record.suspicions[self._suspicions :])
        changed = {name: number for name, number in known.items() if number}
        if changed or found or suspicions:
            self.pursued[len(self.cases)] = Pursued(changed, suspicions, found, self._explained)
        self._begin(record)

    def taken(self, record: Hunt, result: Result) -> None:
        """Note the result of a case that the record has counted."""
        message = result.message if result.verdict is Verdict.UNSUPPORTED else ""  # the record counts these
        plain = replace(result, mismatches=(), message=message, traceback="", margin=None, bits="")
        if plain not in self._places:
            self._places[plain] = len(self.results)
            self.results.append(plain)
        power = None if result.margin is None else math.frexp(result.margin)[1] if result.margin else MARGINS
        self.cases.append((self._places[plain], None if power is None else min(max(power, MARGINS), 0)))
        self._begin(record)

    def verdict(self, number: int) -> Verdict:
        """Return the verdict on a case."""
        return self.results[self.cases[number][0]].verdict

    def result(self, number: int) -> Result:
        """Return the result of a case, without its grounds."""
        place, power = self.cases[number]
        return replace(self.results[place], margin=None if power is None else math.ldexp(0.5, power))

    def _begin(self, record: Hunt) -> None:
        self._known = Counter(record.known)
        self._suspicions, self._findings, self._explained = len(record.suspicions), len(record.findings), False


@dataclass
class Part:
    """The part of one shard in the search of a subject, whose plan other shards share."""

    number: int
    hunt: Hunt
    log: Log
    findings: dict[str, Finding]
    """The findings by their ids; ``UsageError`` is raised if they, or the results, are not those of the log."""

    def __post_init__(self) -> None:
        named = {name for one in self.log.pursued.values() for name in one.findings}
        if named != set(self.findings):
            raise UsageError(f"shard {self.number}: its findings are not those that its log names")
        powers = {None, *range(MARGINS, 1)}
        if not all(0 <= place < len(self.log.results) and power in powers for place, power in self.log.cases):
            raise UsageError(f"shard {self.number}: its log names results or margins that there are not")
        if not all(0 <= case < len(self.log.cases) for case in self.log.same):
            raise UsageError(f"shard {self.number}: its log tells of the bits of cases that there are not")
