"""bounded_array: arrays of float64, single time steps of them, and arrays that are known up to an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.oracle.pinned_numpy import np
from harness.space.case import Array

Floats = NDArray[np.float64]
Count = int | NDArray[np.intp]  # A number, or one for each element
TimeIndex = int | NDArray[np.intp]  # A time step; for packed sequences, an array (N) of one time step for each


class BoundedArray(NamedTuple):
    """An array, and how far a correct subject's may be from it (``None``: it is exact, or the subject's own)."""

    values: Floats
    error: Floats | None = None

    def map(self, change: Callable[[Floats], Floats]) -> BoundedArray:
        """Apply the same change to both."""
        return BoundedArray(change(self.values), None if self.error is None else change(self.error))


def at_steps(array: Floats, steps: TimeIndex) -> Floats:
    """Return one time step of (T, N, ..): the same for every sequence, or one for each."""
    return array[steps] if isinstance(steps, int) else array[steps, np.arange(array.shape[1])]


def write_steps(array: NDArray[Any], steps: TimeIndex, values: NDArray[Any]) -> None:
    """Write (N, ..) into one time step of (T, N, ..): the same for every sequence, or one for each."""
    if isinstance(steps, int):
        array[steps] = values
    else:
        array[steps, np.arange(array.shape[1])] = values


def to_float64(array: Array) -> Floats:
    """Cast an array to float64, exactly: every number of the narrower dtypes is a float64."""
    return array.astype(np.float64)
