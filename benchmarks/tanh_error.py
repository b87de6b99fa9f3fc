"""The errors of tanh in units of the unit roundoff, from which ``oracle.arithmetic_assumptions`` has its kappa.

float32 is measured on every number from 2**-20 to 9.5 (below, tanh x is x to within u; above, it is 1), float64 on
three million drawn numbers against 80-bit arithmetic, if the machine has it.
Run: ``python benchmarks/tanh_error.py``.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

Tanh = Callable[[NDArray[Any]], NDArray[Any]]

LIBRARIES: Final[dict[str, Tanh]] = {
    f"NumPy {np.__version__}": np.tanh,
    f"torch {torch.__version__} on CPU": lambda x: np.asarray(torch.tanh(torch.from_numpy(x))),
}
BLOCK: Final = 1 << 22


def worst(tanh: Tanh, x: NDArray[Any], exact: NDArray[Any]) -> float:
    """Return the largest relative error of ``tanh`` on ``x``, in units of the unit roundoff of x's dtype."""
    unit_roundoff = float(np.finfo(x.dtype).eps) / 2
    return float((np.abs(tanh(x).astype(exact.dtype) - exact) / exact).max()) / unit_roundoff


def float32_errors() -> dict[str, float]:
    """Return the errors on every float32 from 2**-20 to 9.5."""
    first, last = (int(np.float32(end).view(np.int32)) for end in (2.0**-20, 9.5))
    errors = dict.fromkeys(LIBRARIES, 0.0)
    for start in range(first, last, BLOCK):
        x = np.arange(start, min(start + BLOCK, last), dtype=np.int32).view(np.float32)
        exact = np.tanh(x.astype(np.float64))
        for name, tanh in LIBRARIES.items():
            errors[name] = max(errors[name], worst(tanh, x, exact))
    return errors


def float64_errors() -> dict[str, float]:
    """Return the errors on three million float64 numbers, spread evenly over the exponents from 1e-6 to 20."""
    x = np.exp(np.random.default_rng(0).uniform(np.log(1e-6), np.log(20), 3_000_000))
    exact = np.tanh(x.astype(np.longdouble))
    return {name: worst(tanh, x, exact) for name, tanh in LIBRARIES.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dtype, errors in (("float32, exhaustive", float32_errors()), ("float64, sampled", float64_errors())):
        for name, error in errors.items():
            print(f"{dtype:20} {name:24} {error:.2f} u")
