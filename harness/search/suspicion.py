"""suspicion: what no bound proves wrong is tried on other values, and weighs as much as it repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.checks.result import Result, Verdict
from harness.space.case import Case
from harness.space.values import draw

SEEDS: Final = 8
"""Other seeds that a suspicious case is tried with. A right subject is suspicious in fewer than one of 100,000 cases
(``benchmarks/false_alarms.py``): that it is so in half of eight more, if they are independent, has odds below 1e-18."""


@dataclass(frozen=True)
class Suspicion:
    """A suspicious case, and how it fared with other values of the same regime."""

    case: Case
    result: Result
    """The suspicion; or the disagreement that trying other values led to, and then ``case`` is that one."""
    again: int
    """How many of the other seeds were suspicious, too."""
    tried: int

    @property
    def repeats(self) -> bool:
        """Whether it is a finding: proved after all, or suspicious in at least half of the cases tried."""
        return self.result.failed or 2 * self.again >= self.tried > 0

    @property
    def strength(self) -> float:
        """How many times the soft allowance the worst element is off."""
        sites = [site for mismatch in self.result.mismatches for site in mismatch.sites]
        return max((site.difference / site.allowance for site in sites if site.allowance), default=0.0)


def weigh(case: Case, result: Result, check: Callable[[Case], Result]) -> Suspicion:
    """Try other values of the case's regime, N(0, 1) if it has none; a disagreement among them takes its place."""
    regime, own = case.origin or ("normal", SEEDS)
    again = 0
    for seed in range(SEEDS):
        other = draw(case.config, regime, seed + (seed >= own))
        seen = check(other)
        if seen.failed:
            return Suspicion(other, seen, again, seed + 1)
        again += seen.verdict is Verdict.SUSPECT
    return Suspicion(case, result, again, SEEDS)
