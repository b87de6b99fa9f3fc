"""coverage: which part of a scope was met, counting what ran and not what was planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import Scope, factors_of


@dataclass
class Coverage:
    """How often each value of each factor was met, and each regime."""

    factors: dict[str, Counter[Any]] = field(default_factory=dict)
    regimes: Counter[str] = field(default_factory=Counter)
    configs: int = 0

    def add_case(self, case: Case, *, new_config: bool) -> None:
        """Count a case that was compared, and its config if this is the first case of it."""
        if new_config:
            self.add_config(case.config)
        if case.origin is not None:
            self.regimes[case.origin.regime] += 1

    def add_config(self, config: RNNConfig) -> None:
        """Count a config."""
        self.configs += 1
        for name, value in factors_of(config).items():
            self.factors.setdefault(name, Counter())[value] += 1

    def met(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """For each factor, how many of the scope's values were met, and of how many."""
        return {
            name: (sum(value in self.factors.get(name, {}) for value in values), len(values))
            for name, values in scope.values().items()
        }
