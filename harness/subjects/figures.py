"""figures: what is known of torch's arithmetic, by the kind of device, each with its source.

NumPy's own needs no entry, because what a function computes with is unknown. It was measured to see what may be assumed
of such a function: NumPy 2.4's float32 tanh is within 1.83 u (``benchmarks/tanh_error.py``).

torch's derivative of tanh reads its result (``derivatives.yaml``): slopes are computed from states.
"""

from __future__ import annotations

from typing import Final

from harness.space.backend import Backend

_LIKE_CUDA: Final = Backend(4.0, wide_sums=True, stores_products=True, source="not measured: taken to be like CUDA")

TORCH: Final = {
    "cpu": Backend(
        2.0,
        wide_sums=True,
        stores_products=True,
        source="measured, torch 2.13 on x86: tanh is within 1.01 u over every float32 from 2**-20 to 9.5, and within "
        "1.26 u on three million float64 (benchmarks/tanh_error.py). In 16 bits a bias is fused with its product only "
        "where the input is contiguous, which batch_first's is not",
    ),
    "cuda": Backend(
        4.0,
        wide_sums=True,
        stores_products=True,
        source="not measured: CUDA's guide states 2 ulp, 4 u, for tanhf; TF32 is no part of it and must be off",
    ),
    "mps": _LIKE_CUDA,
    "xpu": _LIKE_CUDA,
}
"""The arithmetic of torch's own operations."""
