"""expected: what is expected of an array."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.typing import NDArray

from harness.oracle.bounded_array import Floats
from harness.oracle.element_equation import ElementEquation
from harness.oracle.pinned_numpy import np

Index = tuple[int, ...]


@dataclass(frozen=True)
class ExpectedArray:
    """An array's expected values, and the largest difference from each that rounding can explain (inf: exempt).

    Where an element's operands are known exactly, its ``equation`` is known, too, and a smaller difference may still be
    suspicious. ``floor`` is a lower limit of the suspicious differences, elementwise.
    """

    values: Floats
    tolerance: Floats
    floor: Floats | None = None
    equation: Callable[[Index], ElementEquation] | None = None
    # A mask of the elements where NaN is accepted, too, because a known issue gives NaN there.
    or_nan: NDArray[np.bool_] | None = None


def or_nan(expected: ExpectedArray, with_issue: ExpectedArray) -> ExpectedArray:
    """Return an expectation that accepts NaN, too, where a known issue gives it."""
    return replace(expected, or_nan=np.isnan(with_issue.values))
