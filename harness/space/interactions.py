"""Interactions: every combination of t values of different factors that some config of a scope has, by class.

Sizes are grouped into classes (``class_of``); every other factor is taken by its values. The answer to which values can
meet is exact and cheap. The factors that exclude each other fall into four groups. All that a group needs to know of
the others is a ``_State``, so each group has a table from its own values to the states that they fit, and values can
meet if one state fits all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, product
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.space.config import cost_of
from harness.space.parts import COMPLEX
from harness.space.scope import BOUNDARIES, COST, LARGE, MULTIPLES, SIZE_FACTORS, Scope

Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

CLASSES: Final = ((1, "none"), (2, "one"), (8, "small"), (12, "about 8"), (24, "about 16"), (48, "about 32"))
"""The size below which each class ends; larger sizes are ``large``."""

EDGES: Final = frozenset({*BOUNDARIES, *LARGE})
"""Sizes that each deserve a config of their own, as does every pair of them as far as it is affordable."""

ALONE: Final = frozenset(MULTIPLES)
"""Sizes that each deserve a config of their own, but not in every pair."""

SMALL: Final = 3
"""A size up to this stays as it is if the others cost too much; at most one other size may then be larger."""

COSTLY: Final = (*SIZE_FACTORS, "num_layers", "bidirectional")
"""The factors that a config's cost depends on."""

GROUPS: Final = (
    ("batched", "lengths", "enforce_sorted", "strides", "output_size"),
    ("loss", "wrt", "grad_mode"),
    ("dtype", "autocast", "device", "training", "dropout", "nonlinearity"),
    COSTLY,
)
"""Groups of factors that exclude each other; a factor in no group excludes nothing."""


class _State(NamedTuple):
    """The knowledge that groups of factors share: sizes as far as they matter to other factors, and flags."""

    N: int
    """0, 1, or 2 for more."""
    T: int
    """1, 2 for small sizes, 3 for larger ones."""
    stacked: bool
    packed: bool
    complex: bool


_FLAGS: Final = (False, True)
_STATES: Final = tuple(
    _State(*state) for state in product((0, 1, 2), (1, 2, 3), _FLAGS, _FLAGS, _FLAGS) if state[0] or not state[3]
)
"""All states, at most 64, which are the bits of a mask; an empty batch has nothing to pack."""


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

    They can if the cost is at most ``COST``, or if at most one size is not small. Sizes that ``affordable`` would leave
    count as small: up to the smallest that the scope has, or up to ``SMALL``. On meta, T has to be small. Sizes may be
    arrays; then the answer is an array.
    """
    few = smallest(scope)
    large = sum(1 * (factors[name] > few[name]) for name in SIZE_FACTORS)
    fits = (large < 2) | (cost_of(factors) <= COST)
    return fits & (factors["T"] <= few["T"]) if factors.get("device") == "meta" else fits


@lru_cache(16)
def smallest(scope: Scope) -> dict[str, int]:
    """Return the size up to which each factor counts as small."""
    return {name: max(SMALL, min(getattr(scope, name))) for name in SIZE_FACTORS}


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
        """The scope's values by factor and class, sizes in order."""
        found: dict[str, dict[Any, tuple[Any, ...]]] = {}
        for name, values in self.scope.values().items():
            ordered = sorted(values) if name in (*SIZE_FACTORS, "num_layers") else values
            classes = found.setdefault(name, {})
            for value in ordered:
                which = class_of(name, value)
                classes[which] = (*classes.get(which, ()), value)
        return found

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
        return {name: dict(zip(self.numbers[name].values(), self._least[name], strict=True)) for name in COSTLY}

    @cached_property
    def cheapest(self) -> dict[str, int]:
        """The smallest value in the scope of each factor that a config's cost depends on."""
        return {name: min(getattr(self.scope, name)) for name in COSTLY}

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
        found: Bools = fits != 0
        return found

    def of(self, strength: int) -> Ints:
        """Return every interaction of ``strength`` factors, one per row, in order."""
        return self._found[strength] if strength in self._found else self._find(strength)

    @cached_property
    def _found(self) -> dict[int, Ints]:
        return {0: np.zeros((1, 0), dtype=np.int16)}

    def _find(self, strength: int) -> Ints:
        fewer = self.of(strength - 1)
        places = [list(self.values).index(name) for name in self.varying]
        later = np.isin(self.factor, places)[None, :] & (self.factor[:, None] < self.factor[None, :])
        last = later[fewer[:, -1]] if strength > 1 else np.isin(self.factor, places)[None, :]
        row, number = np.nonzero(last)
        tuples = np.column_stack([fewer[row], number.astype(np.int16)])
        self._found[strength] = tuples[self.feasible(tuples)]
        return self._found[strength]

    @cached_property
    def tables(self) -> tuple[tuple[NDArray[np.uint64], int, Ints], ...]:
        """A lookup table for each group: the states that its values fit, the start index, and each number's step.

        The start is the entry for a row without any value of the group; each value moves the index by its step.
        """
        found = []
        for names in GROUPS:
            rule = _RULES.get(names[0])
            fits = self._sizes_mask(self._least) if rule is None else self._mask(names, rule)
            for axis in range(fits.ndim):  # the entry after the last class stands for any class
                fits = np.concatenate([fits, np.bitwise_or.reduce(fits, axis, keepdims=True)], axis)
            step = np.zeros(len(self.names), dtype=np.int64)
            stride = fits.size
            for name, size in zip(names, fits.shape, strict=True):
                stride //= size
                step[list(self.numbers[name].values())] = (np.arange(size - 1) - (size - 1)) * stride
            found.append((fits.ravel(), fits.size - 1, step))
        return tuple(found)

    @cached_property
    def _least(self) -> dict[str, tuple[int, ...]]:
        """The smallest value of each class of sizes, layers and directions."""
        return {name: tuple(min(values) for values in self.values[name].values()) for name in COSTLY}

    def _mask(self, names: tuple[str, ...], rule: _Rule) -> NDArray[np.uint64]:
        """Return the states that each combination of classes fits, as bits."""
        places = {name: axis for axis, name in enumerate(names)}

        def where(name: str, holds: Callable[[Any], bool]) -> Bools:
            """Return which classes of a factor satisfy a condition, along the factor's axis."""
            return _along(places[name], len(names), [holds(which) for which in self.values[name]])

        return _bits(rule(self.scope, where), tuple(len(self.values[name]) for name in names))

    def _sizes_mask(self, sizes: Mapping[str, Sequence[int]]) -> NDArray[np.uint64]:
        """Return the states that each combination of sizes, layers and directions fits if it is affordable, as bits."""
        shape = tuple(len(sizes[name]) for name in COSTLY)
        along = {name: _along(axis, len(COSTLY), sizes[name]) for axis, name in enumerate(COSTLY)}
        T = np.where(along["T"] < 2, 1, np.where(along["T"] <= smallest(self.scope)["T"], 2, 3))
        fits = (np.minimum(along["N"], 2) == _STATE.N) & (T == _STATE.T)
        fits = fits & ((along["num_layers"] > 1) == _STATE.stacked) & affords(self.scope, along)
        return _bits(fits, shape)

    def named(self, tuples: Ints) -> Iterator[dict[str, Any]]:
        """Return rows of numbers as factors and classes."""
        return (dict(self.names[number] for number in row) for row in tuples.tolist())

    @cached_property
    def boundaries(self) -> dict[str, tuple[int, ...]]:
        """The sizes of each factor that deserve a config of their own.

        They are ``EDGES``, ``ALONE``, and the scope's smallest and largest, as far as some config has them: long
        sequences on meta, for example, have none.
        """
        found = {}
        for name in SIZE_FACTORS:
            sizes = set(getattr(self.scope, name))
            edges = sorted(sizes & (EDGES | ALONE) | {min(sizes), max(sizes)})
            found[name] = tuple(size for size, met in zip(edges, self._meet({name: edges}), strict=True) if met)
        return found

    @cached_property
    def paired(self) -> dict[str, tuple[int, ...]]:
        """The boundaries of each factor that should meet those of the others."""
        ends = {name: {min(getattr(self.scope, name)), max(getattr(self.scope, name))} for name in SIZE_FACTORS}
        return {
            name: tuple(size for size in sizes if size in ends[name] or size not in ALONE)
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
        scope, few = self.scope, smallest(self.scope)["T"]
        least: dict[str, Sequence[int]] = {name: (min(getattr(scope, name)),) for name in COSTLY}
        least["T"] = _first_of(scope.T, lambda T: 0 if T == 1 else 1 if few >= T else 2)
        least["N"] = _first_of(scope.N, lambda N: min(N, 2))
        least["num_layers"] = _first_of(scope.num_layers, lambda L: L > 1)
        fits = self._sizes_mask({**least, **sizes})
        for table, start, _step in self.tables[:3]:
            fits = fits & table[start]
        rest = tuple(axis for axis, name in enumerate(COSTLY) if name not in sizes)
        found: Bools = (fits != 0).any(rest)
        return found


_Where = Callable[[str, Callable[[Any], bool]], Bools]
_Rule = Callable[[Scope, _Where], Bools]

_BITS: Final = np.uint64(1) << np.arange(len(_STATES), dtype=np.uint64)
_STATE: Final[Any] = _State._make(map(np.array, zip(*_STATES, strict=True)))


def _called(_scope: Scope, where: _Where) -> Bools:
    """Return which states fit batching, packing, sorting and memory layout."""
    packed = where("lengths", lambda lengths: lengths is not None)
    uneven = where("lengths", lambda lengths: lengths in {"falling", "any"})
    single = where("batched", lambda batched: not batched)
    odd = where("strides", lambda strides: strides == "expanded") & where("output_size", lambda size: size is not None)
    ordered = where("lengths", lambda lengths: lengths in {"equal", "falling"})
    fits: Bools = (
        (packed == _STATE.packed)
        & ~(uneven & ((_STATE.N < 2) | (_STATE.T < 2)))
        & ~(single & (packed | (_STATE.N != 1)))
        & ~(where("enforce_sorted", bool) & ~ordered)
        & ~(odd & packed)
    )
    return fits


def _differentiated(_scope: Scope, where: _Where) -> Bools:
    """Return which states fit the losses, and the choices without a loss."""
    loss = where("loss", lambda loss: loss is not None)
    weights = where("wrt", lambda wrt: wrt == "weights")
    fits: Bools = (
        ~(~loss & ~where("wrt", lambda wrt: wrt == "all"))
        & ~(loss & where("grad_mode", lambda mode: mode is not None))
        & ~(loss & ~weights & _STATE.packed & _STATE.complex)
    )
    return fits


def _computed(scope: Scope, where: _Where) -> Bools:
    """Return which states fit arithmetic and dropout."""
    is_complex = where("dtype", lambda dtype: dtype in COMPLEX)
    cast = where("autocast", lambda autocast: autocast is not None)
    meta = where("device", lambda device: device == "meta")
    dropout = where("dropout", bool)
    masked = dropout & where("training", bool)
    fits: Bools = (
        (is_complex == _STATE.complex)
        & ~(cast & (where("dtype", lambda dtype: dtype != "float32") | meta))
        & ~(is_complex & where("nonlinearity", lambda name: name != "tanh"))
        & ~(masked & (cast | is_complex | (not scope.masks)))
        & ~(meta & (_STATE.T > 2))
    )
    # One layer has no place between layers to drop, and nn.RNN warns.
    return fits & ~(dropout & ~_STATE.stacked) if 0 in scope.dropout else fits


def _along(axis: int, axes: int, values: Sequence[Any]) -> NDArray[Any]:
    """Return values along one of several axes; one more axis follows for the states."""
    return np.array(values).reshape(tuple(-1 if i == axis else 1 for i in range(axes + 1)))


def _bits(fits: Bools, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return the last axis, that of the states, as the bits of a number."""
    whole = np.broadcast_to(fits, (*shape, len(_STATES)))
    bits: NDArray[np.uint64] = np.where(whole, _BITS, np.uint64(0)).sum(-1, dtype=np.uint64)
    return bits


def _first_of(sizes: Sequence[int], sort: Callable[[int], int]) -> tuple[int, ...]:
    """Return the smallest size of each kind."""
    found: dict[int, int] = {}
    for size in sorted(sizes):
        found.setdefault(sort(size), size)
    return tuple(found.values())


_RULES: Final = {"batched": _called, "loss": _differentiated, "dtype": _computed}
"""The rules by the first factor of a group; the group of sizes has none here, because its rule is the cost."""
