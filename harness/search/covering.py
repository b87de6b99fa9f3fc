"""Covering arrays: few configs in which all combinations of ``strength`` factors' values meet, by classes of sizes.

The algorithm is greedy, one config at a time, as in AETG: each config begins with a combination that has not met, and
then takes the values that complete the most combinations.

No library on PyPI was suitable. Torch's whole scope has 22 factors that vary, with 3,353 interactions of two factors,
81,588 of three and 1,373,146 of four (``python benchmarks/covering.py``). Configs drawn at random meet 83 % of those of
three in 700 configs, and 99.5 % in 20,000. The comparison, made when this module was written, leaves boundaries of
sizes out:

- this module: 80 configs for two factors in 0.05 s, 680 for three in 0.25 s;
- coverwise 1.6.1 (a C++ program): 109 in 0.4 s, 949 in 9 s, and the same number of feasible interactions;
- covertable 3.2.0: 86 in 7 s, no result for three within 150 s;
- allpairspy 2.5.1: 80 in 0.25 s, and 115 for three, although no fewer than 420 can meet them all.

None of them chooses sizes, or knows what a config costs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, permutations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.space.config import RNNConfig, cost_of
from harness.space.constraints import settled
from harness.space.errors import UsageError
from harness.space.factor_table import APART, SIZE_FACTORS
from harness.space.interactions import Interactions, Ints, affords, interactions_of, projects
from harness.space.scope import HIGHEST_COST, Scope, exactly, smallest

Floats = NDArray[np.float64]

OTHER_SIZES: Final = 8  # the number of sizes of a class, besides its boundaries, that configs are spread over
DEMAND: Final = 0.1
"""The highest weight of two classes of sizes with many boundaries that are still to meet, relative to an interaction.
Of 0, 0.1, 0.4, 1 and 2, this value gives the fewest configs.
"""

# The weight of ``HIGHEST_COST``, relative to a size or a pair of boundaries that is met for the first time.
CHEAPER: Final = 0.3

IMPOSSIBLE_GAIN: Final = -1e6  # the gain of a class that is not possible, below every sum of gains


def covering(scope: Scope, strength: int = 3, seed: int = 0) -> list[RNNConfig]:
    """Return configs of ``scope`` in which all possible interactions of ``strength`` factors are met, cheapest first.

    Every boundary size is met, and from strength 3 on every affordable pair of them. The same arguments give the same
    configs. They are built by ``configure``, and as cheap as ``affords`` demands. A scope whose factors exclude each
    other altogether gives none. Raises ``UsageError`` for a strength other than 2 and 3.
    """
    if strength not in {2, 3}:
        raise UsageError(f"strength={strength!r}: expected 2 or 3")
    return list(_covering(scope, strength, seed))


@lru_cache(8)
def _covering(scope: Scope, strength: int, seed: int) -> tuple[RNNConfig, ...]:
    space = interactions_of(scope)
    if not space.feasible(space.of(0))[0]:
        return ()
    sizes = _Sizes(space, in_pairs=strength > 2)
    rows = _Rows(space, min(strength, len(space.varying)), seed, sizes.demand())
    configs = [sizes.config(row, fixed) for fixed in sizes.unmet(dear=True) if (row := rows.around(fixed))]
    configs += [sizes.config(rows.row(begun)) for begun in rows.unmet()]
    configs += [sizes.config(row, fixed) for fixed in sizes.unmet() if (row := rows.around(fixed))]
    return tuple(sorted(dict.fromkeys(configs), key=lambda config: config.cost))


class _Rows:
    """A generator of rows, each with the number of one class of each factor, until every interaction is met."""

    def __init__(self, space: Interactions, strength: int, seed: int, demand: Floats) -> None:
        self._space, self._strength, self._demand = space, strength, demand
        self._noise = np.random.default_rng(seed)
        self._wanted = space.of(strength)
        self._factors, number = len(space.values), len(space.names)
        self._others = space.factor[:, None] != space.factor[None, :]
        prefixes = space.of(max(strength - 1, 0))
        # Each prefix has a line of the numbers that complete it to an interaction. Anything else has the last line,
        # which is empty.
        self._line = np.full((number,) * prefixes.shape[1], len(prefixes), dtype=np.int64)
        self._unmet = np.zeros((len(prefixes) + 1, number), dtype=np.int16)
        if strength > 1:
            for order in permutations(range(strength - 1)):
                self._line[tuple(prefixes[:, order].T)] = np.arange(len(prefixes))
            for last in range(strength):
                rest = np.delete(self._wanted, last, 1)
                self._unmet[self._line[tuple(rest.T)], self._wanted[:, last]] = 1
        self._begin()

    def unmet(self) -> Iterator[list[int]]:
        """Yield interactions that are in no row, those of factors with many classes first."""
        if self._strength < 2:
            yield from self._wanted.tolist()
            return
        many = np.bincount(self._space.factor)[self._space.factor]
        score = np.log(many)[self._wanted].sum(1) + self._noise.random(len(self._wanted)) / 100
        lines = self._line[tuple(self._wanted[:, :-1].T)]
        for place in np.argsort(-score, kind="stable").tolist():
            if self._unmet[lines[place], self._wanted[place, -1]]:
                yield self._wanted[place].tolist()

    def row(self, begun: Sequence[int]) -> list[int]:
        """Return a row with these classes, and of each other factor the class that completes the most interactions."""
        self._begin()
        for number in begun:
            self._take(number)
        return self._completed()

    def around(self, fixed: dict[str, int]) -> list[int] | None:
        """Return an affordable row with these sizes, which are not the smallest of their classes, or ``None``."""
        space, sizes = self._space, dict(fixed)
        self._begin()
        if fixed.get("T", 0) > smallest(space.scope)["T"] and "meta" in space.numbers["device"]:
            self._gain[space.number("device", "meta")] = IMPOSSIBLE_GAIN
        for name, size in fixed.items():
            self._take(space.number(name, size))
        rest = [name for name in space.costly if name not in fixed]
        while rest:
            can = {name: [n for n in space.least[name] if self._gain[n] > IMPOSSIBLE_GAIN / 2] for name in rest}
            cheapest = {name: min(space.least[name][n] for n in can[name]) for name in rest}
            paid = [
                (self._gain[number], name, number)
                for name in rest
                for number in can[name]
                if affords(space.scope, cheapest | sizes | {name: space.least[name][number]})
            ]
            if not paid:
                return None
            _gain, name, number = max(paid)
            sizes[name] = space.least[name][number]
            rest.remove(name)
            self._take(number)
        return self._completed()

    def _begin(self) -> None:
        self._chosen: list[int] = []
        self._gain = self._noise.random(len(self._space.names)) / 20
        self._places = [start for _table, start, _step in self._space.tables]
        self._fits = [table[start + step] for table, start, step in self._space.tables]
        self._forbid()

    def _forbid(self) -> None:
        """Exclude every class that fits no state."""
        self._gain[np.bitwise_and.reduce(self._fits) == 0] = IMPOSSIBLE_GAIN

    def _take(self, number: int) -> None:
        """Give a factor its class, and count what each other class would now complete."""
        if (lines := self._lines(number)) is not None:
            self._gain += np.add.reduce(self._unmet.take(lines, 0), 0, dtype=np.int16)
        self._gain += self._demand[number]
        self._chosen.append(number)
        self._gain[~self._others[number]] = IMPOSSIBLE_GAIN
        for group, (table, _start, step) in enumerate(self._space.tables):
            if moved := int(step[number]):
                self._places[group] += moved
                self._fits[group] = table[self._places[group] + step]
                self._forbid()

    def _lines(self, number: int) -> Any:
        """Return the lines of the prefixes that a class forms with those chosen before it."""
        if len(self._chosen) < self._strength - 2 or self._strength < 2:
            return None
        chosen = np.array(self._chosen, dtype=np.int64)
        return self._line[number : number + 1] if self._strength == 2 else self._line[number].take(chosen)

    def _completed(self) -> list[int]:
        """Complete the row with the other factors, mark its interactions as met, and return it."""
        while len(self._chosen) < self._factors:
            self._take(int(self._gain.argmax()))
        row = np.array(sorted(self._chosen))
        if self._strength > 1:
            prefixes = row[_combinations(len(row), self._strength - 1)]
            self._unmet[np.ix_(self._line[tuple(prefixes.T)], row)] = 0
        numbers: list[int] = row.tolist()
        return numbers


@lru_cache(128)
def _combinations(total: int, length: int) -> Ints:
    """Return every combination of ``length`` of the first ``total`` numbers, in order."""
    return np.array(list(combinations(range(total), length)), dtype=np.int64).reshape(-1, length)


class _Sizes:
    """A choice of sizes for each row from its classes, such that new sizes and new pairs of boundaries are met."""

    def __init__(self, space: Interactions, *, in_pairs: bool) -> None:
        self._space = space
        edges = space.boundaries
        self._sizes: dict[str, Ints] = {}
        self._slots: dict[tuple[str, Any], Ints] = {}
        for name in SIZE_FACTORS:
            pool: list[int] = []
            for which, sizes in space.values[name].items():
                others = [size for size in sizes if size not in edges[name]][:OTHER_SIZES]
                taken = sorted([size for size in sizes if size in edges[name]] + others)
                self._slots[name, which] = np.arange(len(pool), len(pool) + len(taken))
                pool += taken
            self._sizes[name] = np.array(pool)
        # The weight of a size that is met for the first time; it gets a little less with each time.
        self._new = {name: np.ones(len(pool)) for name, pool in self._sizes.items()}
        self._todo: dict[tuple[str, str], Floats] = {}
        for pair, meet in space.boundary_pairs.items():
            places = [np.searchsorted(self._sizes[name], space.paired[name]) for name in pair]
            self._todo[pair] = np.zeros(tuple(len(self._sizes[name]) for name in pair))
            if in_pairs:
                self._todo[pair][np.ix_(*places)] = meet
        self._turns: Counter[tuple[str, Any]] = Counter()
        self._edges = {name: np.isin(self._sizes[name], edges[name]) for name in SIZE_FACTORS}

    def demand(self) -> Floats:
        """Return the weight of each two classes, given by how many of their boundaries are still to meet."""
        numbers = self._space.numbers
        weights = np.zeros((len(self._space.names),) * 2)
        for (f, g), todo in self._todo.items():
            for (a, i), (b, j) in product(numbers[f].items(), numbers[g].items()):
                weights[i, j] = weights[j, i] = todo[np.ix_(self._slots[f, a], self._slots[g, b])].sum() / 36
        return weights * DEMAND

    def unmet(self, *, dear: bool = False) -> Iterator[dict[str, int]]:
        """Yield boundaries that have not met, in pairs or alone; with ``dear``, only pairs that few rows can afford."""
        for (f, g), todo in self._todo.items():
            for i, j in np.argwhere(todo).tolist():
                fixed = {f: int(self._sizes[f][i]), g: int(self._sizes[g][j])}
                if todo[i, j] and (not dear or self._is_dear(fixed)):
                    yield self._with_others(fixed)
        for name, new in self._new.items():
            for i in np.flatnonzero(self._edges[name]).tolist():
                if new[i] == 1 and not dear:
                    yield {name: int(self._sizes[name][i])}

    def _with_others(self, fixed: dict[str, int]) -> dict[str, int]:
        """Return two sizes with two more of the other factors that meet the most boundaries, if that is affordable."""
        space = self._space
        h, k = (name for name in SIZE_FACTORS if name not in fixed)
        grid = {h: self._sizes[h][:, None], k: self._sizes[k][None, :]}
        paid = affords(space.scope, space.cheapest | fixed | grid)
        meet = self._met_by(h, k).copy()
        for name, size in fixed.items():
            at = int(np.searchsorted(self._sizes[name], size))
            meet += self._met_by(h, name)[:, at][:, None] + self._met_by(k, name)[:, at][None, :]
        meet = np.where(paid, meet, 0.0)
        i, j = np.unravel_index(int(meet.argmax()), meet.shape)
        if not meet[i, j]:
            return fixed
        more = fixed | {h: int(self._sizes[h][i]), k: int(self._sizes[k][j])}
        numbers = np.array([[space.number(name, size) for name, size in more.items()]])
        return more if space.feasible(numbers)[0] else fixed

    def _met_by(self, f: str, g: str) -> Floats:
        """Return which sizes of two factors are still to meet, with the first factor along the first axis."""
        return self._todo[f, g] if (f, g) in self._todo else self._todo[g, f].T

    def _is_dear(self, fixed: dict[str, int]) -> bool:
        """Return whether two sizes are too expensive beside two layers, two directions and other sizes of 2."""
        beside = dict.fromkeys(SIZE_FACTORS, 2) | {"num_layers": 2, "bidirectional": True}
        return not affords(self._space.scope, beside | fixed)

    def config(self, row: Sequence[int], fixed: dict[str, int] | None = None) -> RNNConfig:
        """Return the config of a row with affordable sizes of its classes that meet the most new pairs."""
        space = self._space
        classes = dict(space.names[number] for number in row)
        factors = {name: getattr(space.scope, name)[0] for name in (*APART, "proj_size")}
        factors |= {name: space.values[name][which][0] for name, which in classes.items()}
        slots = [self._slots[name, classes[name]] for name in SIZE_FACTORS]
        for axis, name in enumerate(SIZE_FACTORS):
            if fixed and name in fixed:
                slots[axis] = np.searchsorted(self._sizes[name], [fixed[name]])
        grids = [self._sizes[name][slot] for name, slot in zip(SIZE_FACTORS, slots, strict=True)]
        grid = dict(zip(SIZE_FACTORS, np.ix_(*grids), strict=True))
        sized = factors | grid
        gain = np.where(
            projects(sized), -CHEAPER * cost_of(sized) / HIGHEST_COST, IMPOSSIBLE_GAIN / 2
        )  # else the projection gives way
        gain = np.where(affords(space.scope, sized), gain, IMPOSSIBLE_GAIN)
        for axis, (name, slot) in enumerate(zip(SIZE_FACTORS, slots, strict=True)):
            gain += self._new[name][slot].reshape([-1 if axis == i else 1 for i in range(4)])
        for (f, g), todo in self._todo.items():
            i, j = SIZE_FACTORS.index(f), SIZE_FACTORS.index(g)
            part = todo[slots[i][:, None], slots[j]]
            if part.any():
                gain += part.reshape([len(slots[k]) if k in {i, j} else 1 for k in range(4)])
        best = np.unravel_index(int(gain.argmax()), gain.shape)
        places = {name: int(slot[at]) for name, slot, at in zip(SIZE_FACTORS, slots, best, strict=True)}
        for name, place in places.items():
            factors[name] = int(self._sizes[name][place])
            self._new[name][place] = min(0.0, self._new[name][place]) - 2**-10
        for (f, g), todo in self._todo.items():
            todo[places[f], places[g]] = 0
        for name, which in classes.items():
            if name not in SIZE_FACTORS and len(values := space.values[name][which]) > 1:
                fit = [value for value in values if affords(space.scope, factors | {name: value})]
                factors[name] = min(fit, key=lambda value: self._turns[name, value])
                self._turns[name, factors[name]] += 1
        # Only ``APART`` gives way here, and a projection beside a fixed size.
        return exactly(space.scope.fitting(settled(factors, space.scope.ways_out)))
