"""Interactions: every combination of t values of different factors that some config of a scope has, by class.

Sizes are grouped into classes (``class_of``); every other factor is taken by its values. The answer to which values can
meet is exact and cheap. Most constraints are on factors of one of four groups. All that a group needs to know of the
others is a state: for each condition of another group's constraint on its factors, whether it is met. So each group has
a table from its own values to the states that they fit, and values can meet if one state fits all groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import chain, combinations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.space.config import cost_of
from harness.space.constraints import Condition, Constraint
from harness.space.factor_table import APART, BOUNDARIES, FACTORS, LARGE_SIZES, MULTIPLES, SIZE_FACTORS, having
from harness.space.scope import HIGHEST_COST, Scope, smallest

Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

# The size below which each class ends; larger sizes are ``large``.
CLASSES: Final = ((1, "none"), (2, "one"), (8, "small"), (12, "about 8"), (24, "about 16"), (48, "about 32"))

# Sizes that each deserve a config of their own, as does every pair of them as far as it is affordable.
EDGES: Final = frozenset({*BOUNDARIES, *LARGE_SIZES})

RARE_SIZES: Final = frozenset(MULTIPLES)  # Sizes that each deserve a config of their own, but not in every pair

# The factors that a config's cost depends on, and the projection, which has to be smaller than one of them.
COST_FACTORS: Final = (*SIZE_FACTORS, "num_layers", "bidirectional", "proj_size")

EXCLUDING_GROUPS: Final = tuple(
    tuple(name for name in having("group") if FACTORS[name].group == group)
    for group in dict.fromkeys(FACTORS[name].group for name in having("group"))
)
"""Groups of factors that exclude each other, so that few states are needed. A factor that is in no group and in a
constraint joins the group of the constraint.
"""

MASK_BITS: Final = 64  # The most states, which are the bits of a mask


def class_of(factor: str, value: Any) -> Any:
    """Return the class of a factor's value: a range for sizes, layers and dropout, otherwise the value itself."""
    if factor in SIZE_FACTORS or (factor == "output_size" and value is not None):
        return next((name for end, name in CLASSES if value < end), "large")
    if factor == "num_layers":
        return value if value < 4 else "4 or more"
    if factor == "dropout":
        return value if value in {0, 1} else "some"
    return value


def affords(scope: Scope, factors: Mapping[str, Any]) -> Any:
    """Return whether these sizes, layers and directions can be drawn together.

    They can if the cost is at most ``HIGHEST_COST``, or if at most one size is not small. Sizes that ``affordable``
    would leave count as small: up to the smallest that the scope has, or up to ``SMALL``. On meta, T has to be small.
    Sizes may be arrays; then the answer is an array.
    """
    few = smallest(scope)
    large = sum(1 * (factors[name] > few[name]) for name in SIZE_FACTORS)
    fits = (large < 2) | (cost_of(factors) <= HIGHEST_COST)
    return fits & (factors["T"] <= few["T"]) if factors.get("device") == "meta" else fits


def projects(factors: Mapping[str, Any]) -> Any:
    """Return whether h can be projected to so many units; as for ``affords``, sizes may be arrays."""
    return factors.get("proj_size", 0) < factors["hidden_size"]


_On = tuple[str, Condition]  # A factor, and a condition on it


@lru_cache(4)
def interactions_of(scope: Scope) -> Interactions:
    """Return the interactions of a scope, which are derived once."""
    return Interactions(scope)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Every class of every factor as a number, and the combinations of them that can meet.

    The numbers of a factor's classes are consecutive, in the order of the scope's fields and plainest first.
    """

    scope: Scope

    @cached_property
    def values(self) -> dict[str, dict[Any, tuple[Any, ...]]]:
        """The scope's values by factor and class, sizes in order, but not of the factors apart."""
        by_factor: dict[str, dict[Any, tuple[Any, ...]]] = {}
        for name, values in self.scope.present().items():
            if name in APART:
                continue
            ordered = sorted(values) if name in (*SIZE_FACTORS, "num_layers") else values
            classes = by_factor.setdefault(name, {})
            for value in ordered:
                which = class_of(name, value)
                classes[which] = (*classes.get(which, ()), value)
        return by_factor

    @cached_property
    def numbers(self) -> dict[str, dict[Any, int]]:
        """The number of each class, by factor."""
        count = iter(range(sum(map(len, self.values.values()))))
        return {name: {which: next(count) for which in classes} for name, classes in self.values.items()}

    @cached_property
    def names(self) -> tuple[tuple[str, Any], ...]:
        """The factor and the class of each number."""
        return tuple((name, which) for name, classes in self.values.items() for which in classes)

    def number(self, factor: str, value: Any) -> int:
        """Return the number of a value's class."""
        return self.numbers[factor][class_of(factor, value)]

    @cached_property
    def least(self) -> dict[str, dict[int, int]]:
        """The smallest size, number of layers or flag of each class, by factor and number."""
        return {
            name: {self.numbers[name][which]: values[0] for which, values in self.values[name].items()}
            for name in self.costly
        }

    @cached_property
    def costly(self) -> tuple[str, ...]:
        """Those of ``COST_FACTORS`` that are varied or pinned here."""
        return tuple(name for name in COST_FACTORS if name in self.values)

    @cached_property
    def cheapest(self) -> dict[str, int]:
        """The smallest value in the scope of each factor that a config's cost depends on."""
        return {name: min(self._payable(name)) for name in self.costly}

    def _payable(self, name: str) -> Sequence[int]:
        """Return the values of a factor of the cost: of hidden sizes, those that the smallest projection can have."""
        values: Sequence[int] = getattr(self.scope, name)
        least = min(self.scope.proj_size) if name == "hidden_size" else -1
        return [size for size in values if size > least] or values

    @cached_property
    def factor(self) -> Ints:
        """The index of each number's factor among all factors."""
        return np.repeat(np.arange(len(self.values)), [len(classes) for classes in self.values.values()])

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The factors with more than one possible class; only these have interactions."""
        return tuple(name for name in self.values if len(self.possible(name)) > 1)

    def possible(self, factor: str) -> tuple[int, ...]:
        """Return the classes of a factor that some config has."""
        ids = np.array(list(self.numbers[factor].values()))
        return tuple(ids[self.feasible(ids[:, None])].tolist())

    def feasible(self, tuples: Ints) -> Bools:
        """Return, for each row of numbers of classes of different factors, whether some config has them all."""
        fits = np.full(len(tuples), ~np.uint64(0))
        for table, start, step in self.tables:
            place = np.full(len(tuples), start)
            for column in tuples.T:
                place += step[column]
            fits &= table[place]
        possible: Bools = fits != 0
        return possible

    def of(self, strength: int) -> Ints:
        """Return every interaction of ``strength`` factors, one per row, in order."""
        return self._tuples[strength] if strength in self._tuples else self._find(strength)

    @cached_property
    def _tuples(self) -> dict[int, Ints]:
        return {0: np.zeros((1, 0), dtype=np.int16)}

    def _find(self, strength: int) -> Ints:
        fewer = self.of(strength - 1)
        places = [list(self.values).index(name) for name in self.varying]
        later = np.isin(self.factor, places)[None, :] & (self.factor[:, None] < self.factor[None, :])
        last = later[fewer[:, -1]] if strength > 1 else np.isin(self.factor, places)[None, :]
        row, number = np.nonzero(last)
        tuples = np.column_stack([fewer[row], number.astype(np.int16)])
        self._tuples[strength] = tuples[self.feasible(tuples)]
        return self._tuples[strength]

    @cached_property
    def tables(self) -> tuple[tuple[NDArray[np.uint64], int, Ints], ...]:
        """A lookup table for each group: the states that its values fit, the start index, and each number's step.

        The start is the entry for a row without any value of the group; each value moves the index by its step. The
        last group is that of the sizes, layers and directions, whose only constraint is the cost.
        """
        tables = []
        for group, constraints in [*self._grouped, (self.costly, ())]:
            first = {name: [values[0] for values in self.values[name].values()] for name in group}
            most = [values[-1] for values in self.values["hidden_size"].values()]
            fits = self._mask(first, constraints, most)
            for axis in range(fits.ndim):  # the entry after the last class stands for any class
                fits = np.concatenate([fits, np.bitwise_or.reduce(fits, axis, keepdims=True)], axis)
            step = np.zeros(len(self.names), dtype=np.int64)
            stride = fits.size
            for name, size in zip(group, fits.shape, strict=True):
                stride //= size
                step[list(self.numbers[name].values())] = (np.arange(size - 1) - (size - 1)) * stride
            tables.append((fits.ravel(), fits.size - 1, step))
        return tuple(tables)

    @cached_property
    def _grouped(self) -> list[tuple[tuple[str, ...], list[Constraint]]]:
        """The groups with their constraints; a constraint is the group's that has the most of its factors."""
        groups = [list(names) for names in EXCLUDING_GROUPS]
        of_group: list[list[Constraint]] = [[] for _ in groups]
        for constraint in self.scope.constraints:
            home = max(range(len(groups)), key=lambda i: len(constraint.excluded.keys() & groups[i]))
            of_group[home].append(constraint)
            grouped = {*COST_FACTORS, *chain.from_iterable(groups)}
            groups[home] += [name for name in constraint.excluded if name not in grouped]
        return [(tuple(group), constraints) for group, constraints in zip(groups, of_group, strict=True)]

    @cached_property
    def _shared(self) -> tuple[_On, ...]:
        """The conditions on a factor that are in constraints of other groups than its own."""
        return tuple(
            dict.fromkeys(
                (name, holds)
                for group, constraints in self._grouped
                for constraint in constraints
                for name, holds in constraint.excluded.items()
                if name not in group
            )
        )

    def _shows(self, factor: str, value: Any) -> tuple[tuple[_On, bool], ...]:
        """Return which of the shared conditions on a factor its value meets."""
        return tuple(((name, holds), bool(holds(value))) for name, holds in self._shared if name == factor)

    @cached_property
    def _states(self) -> tuple[dict[_On, bool], ...]:
        """All states: each says which of the shared conditions are met, and none of them breaks a constraint."""
        shown = [
            dict.fromkeys(self._shows(name, value) for value in self.scope.values()[name])
            for name in dict.fromkeys(name for name, _holds in self._shared)
        ]
        states = [dict(chain.from_iterable(state)) for state in product(*shown)]
        states = [
            state
            for state in states
            if not any(all(state.get(on) for on in each.excluded.items()) for each in self.scope.constraints)
        ]
        if len(states) > MASK_BITS:
            raise ValueError(
                f"{len(states)} states, expected at most {MASK_BITS}: join the groups that share constraints"
            )
        return tuple(states)

    def _mask(
        self, values: Mapping[str, Sequence[Any]], constraints: Iterable[Constraint] = (), most: Sequence[int] = ()
    ) -> NDArray[np.uint64]:
        """Return the states that each combination of values fits, as bits; sizes must be affordable, too.

        Each hidden size stands for those up to the one in ``most``, if that is given, which matters to projections.
        """
        along = {name: _along(axis, len(values), values[name]) for axis, name in enumerate(values)}

        def in_states(on: _On) -> Bools:
            return np.array([state[on] for state in self._states], dtype=np.bool_)

        def where_met(name: str, holds: Condition) -> Bools:
            """Return where a condition is met, along the factor's axis, or along the states if it has none here."""
            return np.vectorize(holds, [bool])(along[name]) if name in along else in_states((name, holds))

        fits = np.full(len(self._states), fill_value=True)
        for on in self._shared:
            if on[0] in along:
                fits = fits & (where_met(*on) == in_states(on))
        for constraint in constraints:
            fits = fits & ~reduce(np.logical_and, (where_met(*on) for on in constraint.excluded.items()))
        if along.keys() == set(self.costly):
            H = along["hidden_size"]
            widest = np.array(most).reshape(H.shape) if most else H
            fits = fits & affords(self.scope, along) & projects(along | {"hidden_size": widest})
        bits = np.uint64(1) << np.arange(len(self._states), dtype=np.uint64)
        mask: NDArray[np.uint64] = np.where(fits, bits, np.uint64(0)).sum(-1, dtype=np.uint64)
        return np.broadcast_to(mask, tuple(map(len, values.values())))

    def named(self, tuples: Ints) -> Iterator[dict[str, Any]]:
        """Return rows of numbers as factors and classes."""
        return (dict(self.names[number] for number in row) for row in tuples.tolist())

    @cached_property
    def boundaries(self) -> dict[str, tuple[int, ...]]:
        """The sizes of each factor that deserve a config of their own.

        They are ``EDGES``, ``RARE_SIZES``, and the scope's smallest and largest, as far as some config has them: long
        sequences on meta, for example, have none.
        """
        bounds = {}
        for name in SIZE_FACTORS:
            sizes = set(getattr(self.scope, name))
            edges = sorted(sizes & (EDGES | RARE_SIZES) | {min(sizes), max(sizes)})
            bounds[name] = tuple(size for size, fits in zip(edges, self._meet({name: edges}), strict=True) if fits)
        return bounds

    @cached_property
    def paired(self) -> dict[str, tuple[int, ...]]:
        """The boundaries of each factor that should meet those of the others."""
        ends = {name: {min(getattr(self.scope, name)), max(getattr(self.scope, name))} for name in SIZE_FACTORS}
        return {
            name: tuple(size for size in sizes if size in ends[name] or size not in RARE_SIZES)
            for name, sizes in self.boundaries.items()
        }

    @cached_property
    def boundary_pairs(self) -> dict[tuple[str, str], Bools]:
        """The pairs of two factors' boundaries that can meet in a config; the others always cost too much."""
        edges = self.paired
        return {(f, g): self._meet({f: edges[f], g: edges[g]}) for f, g in combinations(SIZE_FACTORS, 2)}

    def payable_pairs(self, *, payable: bool = True) -> Iterator[tuple[str, int, str, int]]:
        """Yield the pairs of boundaries that can meet, or those that are left out because they cost too much."""
        for (f, g), can in self.boundary_pairs.items():
            for i, j in np.argwhere(can == payable).tolist():
                yield f, self.paired[f][i], g, self.paired[g][j]

    def _meet(self, sizes: Mapping[str, Sequence[int]]) -> Bools:
        """Return which sizes of these factors can meet in a config if the rest is as small as possible."""
        least: dict[str, Sequence[int]] = {}
        for name in self.costly:  # the smallest size of those that show the same
            ordered = sorted(self._payable(name), reverse=True)
            least[name] = tuple({self._shows(name, size): size for size in ordered}.values())
        fits = self._mask({**least, **sizes})
        for table, start, _step in self.tables[:-1]:
            fits = fits & table[start]
        rest = tuple(axis for axis, name in enumerate(self.costly) if name not in sizes)
        possible: Bools = (fits != 0).any(rest)
        return possible


def _along(axis: int, axes: int, values: Sequence[Any]) -> NDArray[Any]:
    """Return values along one of several axes; one more axis follows for the states."""
    return np.array(values).reshape(tuple(-1 if i == axis else 1 for i in range(axes + 1)))
