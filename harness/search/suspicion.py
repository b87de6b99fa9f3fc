"""Suspicions: a difference that no bound proves wrong is tried on other values, and counts if it repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.checks.result import Result, Verdict
from harness.space.case import Case
from harness.space.values import draw

SEEDS: Final = 8
"""The number of other seeds that a suspicious case is tried with. A correct subject is suspicious in fewer than one of
100,000 cases (``benchmarks/false_alarms.py``). If cases are independent, the probability that half of eight more are
suspicious, too, is below 1e-18.
"""


@dataclass(frozen=True)
class Suspicion:
    """A suspicious case, and its results with other values of the same regime."""

    case: Case
    result: Result
    """The suspicion, or the disagreement that other values led to; then ``case`` is the case of that disagreement."""
    again: int
    """The number of other seeds that were suspicious, too."""
    tried: int

    @property
    def repeats(self) -> bool:
        """True if it is a finding: proved after all, or suspicious in at least half of the cases tried."""
        return self.result.failed or 2 * self.again >= self.tried > 0

    @property
    def strength(self) -> float:
        """The error of the worst element, as a multiple of the soft allowance."""
        sites = [site for mismatch in self.result.mismatches for site in mismatch.sites]
        return max((site.difference / site.allowance for site in sites if site.allowance), default=0.0)


def weigh(case: Case, result: Result, check: Callable[[Case], Result]) -> Suspicion:
    """Try other values of the case's regime, by default N(0, 1); a disagreement among them replaces the suspicion."""
    regime, own = case.origin or ("normal", SEEDS)
    again = 0
    for seed in range(SEEDS):
        other = draw(case.config, regime, seed + (seed >= own))
        seen = check(other)
        if seen.failed:
            return Suspicion(other, seen, again, seed + 1)
        again += seen.verdict is Verdict.SUSPECT
    return Suspicion(case, result, again, SEEDS)
