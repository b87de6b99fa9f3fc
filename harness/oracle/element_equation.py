"""element_equation: the exact equation of one element, with sums of products of the operands that the subject used."""

from typing import NamedTuple

from numpy.typing import NDArray

from harness.oracle.pinned_numpy import np

Floats = NDArray[np.float64]


class ElementEquation(NamedTuple):
    """The equation value = function(sum_k a_k b_k) * phi'(state), in which phi' stands only if a state is given.

    All numbers are float64, and exactly those that the subject read. ``phi'`` is 1 - state**2 for tanh, and 1 or 0 for
    relu.
    """

    a: Floats  # The first factor of each product, (m)
    b: Floats  # The second factor of each product, (m)
    function: str = "identity"  # The name of the function: ``identity``, ``tanh`` or ``relu``
    state: float | None = None
    nonlinearity: str = "tanh"  # The name of the nonlinearity whose slope is phi'
    # The number of terms in each partial sum, where parts are first summed by themselves and then added up.
    groups: tuple[int, ...] = ()
