"""Coverage: the part of a scope that was met, counted on the cases that ran and not on those that were planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import APART, SIZE_FACTORS
from harness.space.interactions import Bools, Interactions, class_of, interactions_of
from harness.space.scope import Scope

# Every factor, in the order of a scope's fields.
COUNTED_FACTORS: Final = tuple(name for name in Scope().values() if name not in APART)

COUNTING_BATCH: Final = 256
"""The number of configs that wait to have their interactions counted together, because counting costs some 5 µs each
for many and 1 ms for one.
"""

# The number of pairs of two factors' sizes that are remembered; a scope of all usual sizes has 702 of each two.
MOST_SIZE_PAIRS: Final = 2**15


class _Met:
    """A record of which classes of factors have met, two and three at a time, in 2 MiB.

    Classes are numbered in the order in which they come.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, Any], int] = {}
        self.known: dict[str, dict[Any, int]] = {name: {} for name in COUNTED_FACTORS}
        """The number of each value's class, by factor; no class has the number 0."""
        self.sizes = {pair: set[tuple[int, int]]() for pair in combinations(SIZE_FACTORS, 2)}
        self._waiting: list[list[int]] = []
        self._by_two = np.zeros((0, 0), dtype=np.bool_)
        self._by_three = np.zeros((0, 0, 0), dtype=np.bool_)

    def number(self, factor: str, which: Any) -> int:
        """Return the number of a class, a new one if the class is new."""
        return self.numbers.setdefault((factor, which), len(self.numbers) + 1)

    def add(self, row: list[int]) -> None:
        """Record that the classes of a config have met; they are counted later, many configs at once."""
        self._waiting.append(row)
        if len(self._waiting) >= COUNTING_BATCH:
            self.by_three()

    def by_two(self) -> Bools:
        """Return which pairs of numbers have met, the earlier factor's number first; a number meets itself."""
        self.by_three()
        return self._by_two

    def by_three(self) -> Bools:
        """Return which triples of numbers have met, in the order of their factors."""
        if len(self._by_three) <= len(self.numbers):
            self._widen(max(128, 2 * len(self.numbers)))
        if self._waiting:
            rows, width = np.array(self._waiting), len(self._by_two)
            self._waiting.clear()
            two, three = self._by_two.reshape(-1), self._by_three.reshape(-1)
            for i in range(rows.shape[1]):
                first = rows[:, i, None] * width
                two[first + rows[:, i:]] = True
                for j in range(i + 1, rows.shape[1] - 1):
                    three[(first + rows[:, j, None]) * width + rows[:, j + 1 :]] = True
        return self._by_three

    def _widen(self, width: int) -> None:
        two, three = np.zeros((width,) * 2, dtype=np.bool_), np.zeros((width,) * 3, dtype=np.bool_)
        old = len(self._by_two)
        two[:old, :old], three[:old, :old, :old] = self._by_two, self._by_three
        self._by_two, self._by_three = two, three

    def merge(self, other: _Met) -> None:
        """Record everything that has met in another record."""
        here = np.array([0, *(self.number(*key) for key in other.numbers)])
        two, three, there = self.by_two(), self.by_three(), len(here)
        two[np.ix_(here, here)] |= other.by_two()[:there, :there]
        three[np.ix_(here, here, here)] |= other.by_three()[:there, :there, :there]
        for pair, sizes in other.sizes.items():
            self.sizes[pair] |= sizes


@dataclass
class Coverage:
    """Counts of the values and the distributions that were met, and of the classes of factors that have met."""

    factors: dict[str, Counter[Any]] = field(default_factory=dict)
    distributions: Counter[str] = field(default_factory=Counter)
    configs: int = 0
    _met: _Met = field(default_factory=_Met, repr=False, compare=False)

    def add(self, config: RNNConfig, distribution: str, *, new_config: bool = True) -> None:
        """Count a case, and its config unless the config was counted with another case of it."""
        if new_config:
            self.add_config(config)
        self.distributions[distribution] += 1

    @property
    def cases(self) -> int:
        """The number of cases that were counted."""
        return self.distributions.total()

    def add_config(self, config: RNNConfig) -> None:
        """Count a config."""
        self.configs += 1
        row = []
        for name, numbers in self._met.known.items():
            value = config.packing if name == "lengths" else getattr(config, name)
            if name not in self.factors:
                self.factors[name] = Counter()
            self.factors[name][value] += 1
            if value not in numbers:
                numbers[value] = self._met.number(name, class_of(name, value))
            row.append(numbers[value])
        self._met.add(row)
        for name in APART:
            self.factors.setdefault(name, Counter())[getattr(config, name)] += 1
        for (f, g), sizes in self._met.sizes.items():
            if len(sizes) < MOST_SIZE_PAIRS:
                sizes.add((getattr(config, f), getattr(config, g)))

    def merge(self, other: Coverage) -> None:
        """Add the counts of another coverage."""
        self.configs += other.configs
        self.distributions.update(other.distributions)
        for name, values in other.factors.items():
            self.factors.setdefault(name, Counter()).update(values)
        self._met.merge(other._met)

    def met(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """Return, for each factor, how many of the scope's values were met, and how many of them some config has."""
        space = interactions_of(scope)
        return {
            name: (sum(value in self.factors.get(name, {}) for value in some), len(some))
            for name, values in scope.present().items()
            if name not in APART
            for possible in [space.possible(name)]
            for some in [[value for value in values if space.number(name, value) in possible]]
        }

    def share(self, scope: Scope, strength: int) -> tuple[int, int]:
        """Return how many interactions of ``strength`` factors, 1 to 3, were met, and how many can be met in the scope.

        An interaction is one class (``interactions.class_of``) of each of the factors; only factors with several
        classes in the scope count.
        """
        covered = self._which(interactions_of(scope), strength)
        return int(covered.sum()), len(covered)

    def pairs(self, scope: Scope) -> dict[tuple[str, str], tuple[int, int]]:
        """Return, for each two factors, how many of their interactions were met, and how many can be met."""
        space, covered = interactions_of(scope), self._which(interactions_of(scope), 2)
        factors, names = space.factor[space.of(2)], list(space.values)
        shares: dict[tuple[str, str], tuple[int, int]] = {}
        for f, g in np.unique(factors, axis=0).tolist():
            both = (factors == (f, g)).all(axis=1)
            shares[names[f], names[g]] = int(covered[both].sum()), int(both.sum())
        return shares

    def interactions(self, scope: Scope, strength: int, *, met: bool) -> Iterator[dict[str, Any]]:
        """Yield the interactions that were met, or those that were not, as factors and classes."""
        space = interactions_of(scope)
        return space.named(space.of(strength)[self._which(space, strength) == met])

    def boundaries(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """Return, for each factor that is a size, how many boundaries of the scope were met, and how many there are."""
        return {
            name: (sum(size in self.factors.get(name, {}) for size in sizes), len(sizes))
            for name, sizes in interactions_of(scope).boundaries.items()
        }

    def boundary_pairs(self, scope: Scope) -> tuple[int, int]:
        """Return how many pairs of two factors' boundaries were met in a config, and how many the scope can afford."""
        pairs = list(interactions_of(scope).payable_pairs())
        return sum((a, b) in self._met.sizes[f, g] for f, a, g, b in pairs), len(pairs)

    def _which(self, space: Interactions, strength: int) -> Bools:
        if strength not in {1, 2, 3}:
            raise UsageError(f"strength={strength!r}: expected 1, 2 or 3")
        here: NDArray[np.int64] = np.array([self._met.numbers.get(name, 0) for name in space.names], dtype=np.int64)
        columns = here[space.of(strength)].T
        covered = self._met.by_three()[tuple(columns)] if strength == 3 else self._met.by_two()[columns[0], columns[-1]]
        return np.asarray(covered, dtype=np.bool_)
