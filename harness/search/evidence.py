"""The evidence of a finding: plainer cases that were tried, and other values on which a suspicion repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from harness.checks.result import Result, Verdict
from harness.space.case import Case
from harness.space.values import draw

OTHER_SEEDS: Final = 8
"""The number of other seeds that a suspicious case is tried with. A correct subject is suspicious in fewer than one of
100,000 cases (``benchmarks/false_alarms.py``). If cases are independent, the probability that half of eight more are
suspicious, too, is below 1e-18.
"""


@dataclass(frozen=True)
class Certificate:
    """The results of the plainer neighbours of a failing case.

    Neighbours are plainer in one thing: a size, a flag, or a number. Each plainer config was tried with the case's own
    numbers, with any one step, sequence or unit left out, and with drawn numbers.
    """

    # The number of plainer configs that were tried, with ``cases`` sets of values in total, and do not fail so.
    configs: int = 0
    cases: int = 0  # the number of cases of these configs
    numbers: int = 0  # the number of plainer numbers that were tried, each alone, and do not fail so
    # The failures of another kind among these neighbours, and the known ones, by name; without any, all pass.
    otherwise: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()  # plainer neighbours that the subject refuses, such as ``num_layers=1``
    untried: tuple[str, ...] = ()  # the things that were not tried, and why; a complete certificate has none
    fresh_process: bool = False  # True if the case was seen to fail in a fresh process, too

    @property
    def complete(self) -> bool:
        """True if every plainer neighbour was tried, except those that the subject refuses."""
        return not self.untried

    def but_for(self, *reasons: str) -> Certificate:
        """Return the same certificate with further things that were not tried."""
        return replace(self, untried=(*self.untried, *reasons))


NOT_SHRUNK: Final = Certificate().but_for("not made smaller")  # the certificate of a case as it was found


@dataclass(frozen=True)
class Suspicion:
    """A suspicious case, and its results with other values of the same distribution."""

    case: Case
    # The suspicion, or the disagreement that other values led to; then ``case`` is the case of that disagreement.
    result: Result
    again: int  # the number of other seeds that were suspicious, too
    runs: int

    @property
    def repeats(self) -> bool:
        """True if it is a finding: proved after all, or suspicious in at least half of the cases tried."""
        return self.result.failed or 2 * self.again >= self.runs > 0

    @property
    def strength(self) -> float:
        """The error of the worst element, as a multiple of the soft tolerance."""
        sites = [site for mismatch in self.result.mismatches for site in mismatch.sites]
        return max((site.difference / site.tolerance for site in sites if site.tolerance), default=0.0)


def weigh(case: Case, result: Result, check: Callable[[Case], Result]) -> Suspicion:
    """Try other values of the distribution, by default N(0, 1); a disagreement among them replaces the suspicion."""
    distribution, own = case.origin or ("normal", OTHER_SEEDS)
    again = 0
    for seed in range(OTHER_SEEDS):
        candidate = draw(case.config, distribution, seed + (seed >= own))
        answer = check(candidate)
        if answer.failed:
            return Suspicion(candidate, answer, again, seed + 1)
        again += answer.verdict is Verdict.SUSPECT
    return Suspicion(case, result, again, OTHER_SEEDS)
