"""declared_arithmetic: what is known of the arithmetic of a family of implementations, as a subject declares it."""

from typing import Final, NamedTuple


class Grid(NamedTuple):
    """The evenly spaced numbers, 0 among them, to the nearest of which a quantizer rounds the numbers of an array."""

    steps: int  # The number of steps between the array's least and greatest number, each extended to 0; at most 255
    least: float  # The smallest size of a step
    symmetric: bool  # True if the steps lie between the largest absolute value and its negative instead


class Grids(NamedTuple):
    """The grids of a cell that multiplies whole numbers: each operand has its own, chosen anew in each call."""

    states: Grid  # The grid of x_t, and that of h_{t-1}, each of the whole batch
    weights: Grid  # The grid of W_ih, and that of W_hh


class DeclaredArithmetic(NamedTuple):
    """The arithmetic of a family of implementations."""

    # The bound kappa on the relative error of tanh, in units of u (of float32's u, where sums are wide).
    tanh_error: float
    wide_sums: bool  # True if 16-bit dtypes are summed in float32 and rounded only when a result is stored
    stores_products: bool  # True if such a result is also stored between a matrix product and the addition of its bias
    source: str  # The source of these figures
    slopes_from_states: bool = True
    """True if the slope of tanh is computed from the state, as 1 - h**2. Otherwise it may be computed from the
    preactivation by another formula, such as 1 / cosh(s)**2."""
    sigmoid_error: float = 8.0
    """The bound on the relative error of a sigmoid, in units of u; beside it stands its absolute error.

    As 1 / 2 + tanh(s / 2) / 2 it has an absolute error of about 1 u, which is relatively large where it vanishes.
    """
    sigmoid_absolute: float = 1.0
    # The grids that operands are rounded to before they are multiplied, in cells that have no gradients.
    grids: Grids | None = None


# The least that is assumed of every subject (``subjects.figures`` has the figures that were measured).
LEAST_ASSUMED: Final = DeclaredArithmetic(
    2.0,
    wide_sums=False,
    stores_products=True,
    source="not measured: every operation may round to the dtype, and tanh is as accurate as those that were measured",
    slopes_from_states=False,
)
