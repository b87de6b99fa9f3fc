"""The part of a scope that searches met with a subject, by check; what several runs met can be added up."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.space.coverage_counts import Coverage
from harness.space.scope import TORCH_SCOPE, Scope

AGREEMENT: Final = "agreement"  # The check that is made on every case
STRENGTH_WORDS: Final = {2: "pairs", 3: "triples"}  # The words for interactions, by the number of factors


class Share(NamedTuple):
    """A share of a scope: how much of it was met, and how much there is."""

    name: str
    covered: int
    of: int


def percent(part: int, total: int) -> str:
    """Format a share: ``100 %`` only for all, at least ``0.1 %`` if there are any, and ``-`` of nothing."""
    if not total:
        return "-"
    return "100 %" if part == total else f"{max(math.floor(1000 * part / total), min(part, 1)) / 10:.1f} %"


@dataclass
class SearchedScope:
    """The part of a scope that was met with a subject, by check."""

    subject: str
    scope: Scope
    checks: dict[str, Coverage] = field(default_factory=dict)
    relations: Counter[str] = field(default_factory=Counter)

    def add(self, other: SearchedScope) -> None:
        """Add what another search met, and its scope to this one."""
        self.scope = self.scope.joined(other.scope)
        self.relations.update(other.relations)
        for check, coverage in other.checks.items():
            if check not in self.checks:
                self.checks[check] = Coverage()
            self.checks[check].merge(coverage)

    def shares(self, check: str) -> list[Share]:
        """Return the shares of the scope that one of the checks met."""
        return self._shares(self.checks[check])

    @property
    def of_whole(self) -> Share:
        """The share of all pairs of values of nn.RNN that met in a case that was compared.

        It tells subjects apart that are asked for different parts of the space, and does not depend on these parts.
        """
        return Share("pairs", *self.checks[AGREEMENT].share(TORCH_SCOPE, 2))

    @property
    def never_varied(self) -> list[str]:
        """The factors of nn.RNN that had the same value in all these cases, or none because another factor did."""
        factors = self.checks[AGREEMENT].factors
        return [
            name for name, values in TORCH_SCOPE.values().items() if len(values) > 1 and len(factors.get(name, {})) < 2
        ]

    def none(self) -> list[Share]:
        """Return the shares of a check that met nothing."""
        return self._shares(Coverage())

    def _shares(self, coverage: Coverage) -> list[Share]:
        boundaries = coverage.boundaries(self.scope).values()
        covered, total = (sum(counts) for counts in zip(*coverage.met(self.scope).values(), strict=True))
        return [
            Share("values", covered, total),
            *(Share(name, *coverage.share(self.scope, few)) for few, name in STRENGTH_WORDS.items()),
            Share("edges", sum(covered for covered, _ in boundaries), sum(total for _, total in boundaries)),
            Share("edge pairs", *coverage.boundary_pairs(self.scope)),
        ]
