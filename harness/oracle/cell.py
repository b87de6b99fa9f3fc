"""cell: what one step of a recurrent layer has to say, so that ``unroll`` can take it through time and layers.

A cell says what its step computes, how the result moves with what it reads, and how far off a correct one may be. It
knows nothing of time, directions, layers, lengths and dropout. ``reference`` has the Elman cell of nn.RNN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from harness.oracle.arithmetic import Arithmetic
from harness.oracle.bound import np
from harness.oracle.equation import Equation
from harness.oracle.known import Floats, Known


class StepWeights(NamedTuple):
    """The float64 parameters of one layer and direction; G is the number of gates.

    Their shapes are (G*H, I) or (G*H, D*H) for W_ih, (G*H, H) for W_hh, and (G*H) for b_ih and b_hh.
    """

    ih: Floats
    hh: Floats
    b_ih: Floats
    b_hh: Floats


class Bounded(ABC):
    """The states that steps compute, and their bounds, which are computed when they are asked for.

    Whoever asks has to expect overflow and NaN in the computation.
    """

    values: Floats  # The states (.., H)

    @abstractmethod
    def allowance(self, h_error: Floats | None = None, *, t: int | None = None) -> Floats:
        """Return the largest difference from each state that rounding can explain; with ``t``, of (T, N, ..) at t.

        ``h_error`` bounds how far the states may be off that the steps read; without it, they are exact.
        """

    def floor(self) -> Floats:
        """Return a quick lower limit of the differences that are suspicious."""
        raise NotImplementedError(f"{type(self).__name__} has no soft model yet")


# The steps of one layer and direction: one for each row of x (.., I) and of the previous state h (.., H).
BoundedSteps = Callable[[Known, Floats], Bounded]


class Cell(ABC):
    """One step of a recurrent layer.

    A cell begins with ``step`` and ``bounded_steps``. The other methods have defaults that claim nothing.
    """

    gates: ClassVar[tuple[str, ...]]  # The names of the blocks of H rows in W_ih, W_hh and the biases, in their order

    @abstractmethod
    def step(self, x: Floats, h: Floats, w: StepWeights, kind: str) -> Floats:
        """Return h_t, for rows of x (.., I) and of the previous state h (.., H).

        ``kind`` names the nonlinearity, where a cell has a choice of it.
        """

    @abstractmethod
    def bounded_steps(self, w: StepWeights, kind: str, arithmetic: Arithmetic, *, first: bool) -> BoundedSteps:
        """Return the steps of one layer and direction with their bounds; ``first`` says that x is the caller's own."""

    def growth(self, w: StepWeights, arithmetic: Arithmetic) -> tuple[Floats, float]:
        """Return the most that the norm of a state's error may grow by in one step: into each unit, and into a norm.

        They are infinite where nothing is known.
        """
        return np.full(w.hh.shape[1], np.inf), np.inf

    def equation(self, w: StepWeights, kind: str) -> Callable[[Floats, Floats, int], Equation] | None:
        """Return what gives the exact equation of a unit, by x (I), h (H) and its index; ``None`` if there is none.

        Without it, neither the judge nor the soft model has a say.
        """
        return None
