"""backend: what is known of the arithmetic of a family of implementations, as a subject declares it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Backend(NamedTuple):
    """The arithmetic of a family of implementations."""

    tanh_error: float
    """The bound kappa on the relative error of tanh, in units of u (of float32's u, where sums are wide)."""
    wide_sums: bool
    """True if 16-bit dtypes are summed in float32 and rounded only when a result is stored."""
    stores_products: bool
    """True if such a result is also stored between a matrix product and the addition of its bias."""
    source: str
    """The source of these figures."""
    slopes_from_states: bool = True
    """True if the slope of tanh is computed from the state, as 1 - h**2. Otherwise it may be computed from the
    preactivation by another formula, such as 1 / cosh(s)**2."""
    complex_tanh_error: float = 8.0
    """The bound kappa for a complex tanh, in modulus."""


UNKNOWN: Final = Backend(
    2.0,
    wide_sums=False,
    stores_products=True,
    source="not measured: every operation may round to the dtype, and tanh is as accurate as those that were measured",
    slopes_from_states=False,
)
"""The least that is assumed of every subject (``subjects.figures`` has the figures that were measured)."""
