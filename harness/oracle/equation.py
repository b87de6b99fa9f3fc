"""Equation: the exact equation of one element, with the operands that a subject used, as sums of products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Equation(NamedTuple):
    """value = function(sum_k a_k b_k) * phi'(state), where phi' stands only if a state is given.

    All numbers are float64, exactly what the subject read. ``phi'`` is 1 - state**2 for tanh, 1 or 0 for relu.
    """

    a: Floats
    """(m)."""
    b: Floats
    """(m)."""
    function: str = "identity"
    """``identity``, ``tanh`` or ``relu``; another one, such as a fault's, cannot be evaluated exactly."""
    state: float | None = None
    nonlinearity: str = "tanh"
    """Of phi'."""
    groups: tuple[int, ...] = ()
    """How many terms each partial sum takes, where parts are summed apart and then together."""
