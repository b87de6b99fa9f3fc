"""compare: actual against expected arrays, in a fixed order - names, shape, dtype, finiteness, values - as records.

It computes and words nothing: ``report`` does. The first sort of difference found in an array is the only one reported
of it, with all its sites, for what comes later in the order is usually only its consequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.oracle.expectation import Expected
from harness.space.case import Array
from harness.space.config import RNNConfig

SITES: Final = 5
"""Sites that a record shows: enough to see a pattern, few enough to read."""


class Sort(Enum):
    """In what an array differs."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    SHAPE = "shape"
    DTYPE = "dtype"
    FINITENESS = "finiteness"
    VALUE = "value"
    CHANGED = "changed input"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class Site:
    """One differing element: its index, both values, and the difference that rounding could have explained."""

    place: Mapping[str, int | str]
    actual: float
    expected: float
    allowance: float

    @property
    def difference(self) -> float:
        """|actual - expected|."""
        return abs(self.actual - self.expected)


@dataclass(frozen=True)
class Mismatch:
    """How one array differs: what sort of difference, what was expected and found, and, element by element, where."""

    array: str
    sort: Sort
    layer: int | None = None
    """Of which inner layer the array is the output, where it is not the whole stack's."""
    expected: str = ""
    actual: str = ""
    count: int = 0
    total: int = 0
    sites: tuple[Site, ...] = ()
    """The worst site first (by difference over allowance), then the first ones in index order."""

    @property
    def kind(self) -> str:
        """What stays the same while a failing case is made smaller."""
        return f"{self.array}: {self.sort.value}"


def compare(
    config: RNNConfig, actual: Mapping[str, Array], expected: Mapping[str, Expected], layer: int | None = None
) -> list[Mismatch]:
    """Every array of ``actual`` that differs from ``expected`` by more than its allowance; empty if none does."""
    found = (_differs(config, name, array, expected[name], layer) for name, array in actual.items())
    return [mismatch for mismatch in found if mismatch is not None]


def check_form(config: RNNConfig, actual: Mapping[str, Array], *, required: tuple[str, ...]) -> list[Mismatch]:
    """Names, shapes and dtypes alone, which must be right before any value means something."""
    found = [Mismatch(name, Sort.MISSING, expected=_spec(config, name)) for name in required if name not in actual]
    for name, array in actual.items():
        if name not in config.outputs:
            found.append(Mismatch(name, Sort.UNEXPECTED, actual=f"{array.dtype} {array.shape}"))
        elif array.shape != config.outputs[name].shape:
            found.append(Mismatch(name, Sort.SHAPE, expected=_spec(config, name), actual=str(array.shape)))
        elif array.dtype != np.dtype(config.dtype):
            found.append(Mismatch(name, Sort.DTYPE, expected=config.dtype, actual=str(array.dtype)))
    return found


def same_numbers(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same numbers, NaN being the same as NaN, and 0 as -0."""
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def _differs(config: RNNConfig, name: str, actual: Array, expected: Expected, layer: int | None) -> Mismatch | None:
    values, allowance = expected
    wide = actual.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(wide - values)
        # Written so that a NaN fails it: only "within the allowance" passes.
        bad = ~((difference <= allowance) | np.isinf(allowance))
    if not bad.any():
        return None
    sort = Sort.FINITENESS if (bad & ~np.isfinite(wide)).any() else Sort.VALUE
    if sort is Sort.FINITENESS:
        bad &= ~np.isfinite(wide)
    sites = _sites(config, name, wide, expected, bad)
    return Mismatch(name, sort, layer, count=int(bad.sum()), total=bad.size, sites=sites)


def _sites(
    config: RNNConfig,
    name: str,
    actual: NDArray[np.float64],
    expected: Expected,
    bad: NDArray[np.bool_],
) -> tuple[Site, ...]:
    values, allowance = expected
    flat = np.flatnonzero(bad)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        excess = np.abs(actual - values).flat[flat] / allowance.flat[flat]
    worst = flat[int(np.argmax(np.nan_to_num(excess, nan=np.inf, posinf=np.inf)))]
    chosen = [worst, *[i for i in flat[:SITES] if i != worst]][:SITES]
    return tuple(
        Site(
            config.locate(name, tuple(int(i) for i in np.unravel_index(index, actual.shape))),
            float(actual.flat[index]),
            float(values.flat[index]),
            float(allowance.flat[index]),
        )
        for index in chosen
    )


def _spec(config: RNNConfig, name: str) -> str:
    spec = config.outputs[name]
    return f"({', '.join(spec.axes)}) = {spec.shape}"
