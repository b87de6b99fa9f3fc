"""expected: what is expected of an array, and the setting of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from numpy.typing import NDArray

from harness.oracle.arithmetic import Arithmetic
from harness.oracle.bound import np
from harness.oracle.equation import Equation
from harness.oracle.known import Floats
from harness.oracle.reference import Reference
from harness.oracle.unroll import Unroll
from harness.space.case import Case

Index = tuple[int, ...]


@dataclass(frozen=True)
class Expected:
    """An array's expected values, and the largest difference from each that rounding can explain (inf: exempt).

    Where an element's operands are known exactly, its ``equation`` is known, too, and a smaller difference may still be
    suspicious. ``floor`` is a lower limit of the suspicious differences, elementwise.
    """

    values: Floats
    allowance: Floats
    floor: Floats | None = None
    equation: Callable[[Index], Equation] | None = None
    # A mask of the elements where NaN is accepted, too, because a known issue gives NaN there.
    or_nan: NDArray[np.bool_] | None = None


def or_nan(expected: Expected, with_issue: Expected) -> Expected:
    """Return an expectation that accepts NaN, too, where a known issue gives it."""
    return replace(expected, or_nan=np.isnan(with_issue.values))


class Setting(NamedTuple):
    """The setting of a comparison: the reference (or a fault), the case, and the subject's arithmetic."""

    reference: Unroll
    case: Case
    arithmetic: Arithmetic

    @property
    def elman(self) -> Reference:
        """The reference, where something is derived for the Elman cell alone."""
        if not isinstance(self.reference, Reference):
            raise TypeError(f"{type(self.reference).__name__}: expected a Reference, whose derivatives have allowances")
        return self.reference
