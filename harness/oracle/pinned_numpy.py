"""pinned_numpy: NumPy as it was when the oracle was imported, which no subject can change.

A subject in the user's own process may set ``np.tanh = np.sin``. What judges it takes NumPy from here, where each
name is bound before a subject is imported, and where it was tried on known values.
"""

import math
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.space.errors import UsageError

__all__ = ["np", "require_known_values", "warn_if_replaced"]

_LIVE: Final = np  # The module that everybody shares

# Functions that a verdict rests on, with arguments, and their values as the mathematics gives them.
_KNOWN: Final[tuple[tuple[str, tuple[Any, ...], float], ...]] = (
    ("tanh", (0.5,), 0.46211715726000974),
    ("maximum", (-2.0, 1.0), 1.0),
    ("minimum", (-2.0, 1.0), -2.0),
    ("abs", (-3.0,), 3.0),
    ("sqrt", (2.0,), 1.4142135623730951),
    ("expm1", (0.5,), 0.6487212707001282),
    ("isfinite", (math.inf,), 0.0),
    ("isnan", (math.nan,), 1.0),
    ("where", (True, 2.0, 3.0), 2.0),
    ("sum", ([1.0, 2.0],), 3.0),
)

# The relative difference that rounding may make to a known value: twice what ``tolerance`` assumes of NumPy's tanh.
SAME_VALUE: Final = 2.0**-50


def require_known_values() -> None:
    """Raise ``UsageError`` unless NumPy's functions have their known values."""
    for name, arguments, value in _KNOWN:
        if not math.isclose(result := float(getattr(_LIVE, name)(*arguments)), value, rel_tol=SAME_VALUE):
            line = f"numpy.{name}({', '.join(map(str, arguments))})={result!r}: expected {value!r}"
            raise UsageError(f"{line}; something replaced it before harness was imported, so import harness first")


def warn_if_replaced() -> None:
    """Warn of functions of NumPy that were replaced after the oracle was imported."""
    pinned = vars(np)
    names = [name for name, *_ in _KNOWN if getattr(_LIVE, name, None) is not pinned[name]]
    if names:
        functions = ", ".join(f"numpy.{name}" for name in names)
        warnings.warn(
            f"{functions}: replaced after harness was imported; the reference goes on with NumPy's own", stacklevel=2
        )


def _copy(module: ModuleType) -> ModuleType:
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module))
    return copy


require_known_values()
if not TYPE_CHECKING:
    np = _copy(_LIVE)
    np.linalg = _copy(_LIVE.linalg)
