"""The right layers of the first set: the bases, and two more ways to sum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.layers.kernel_base import Kernel
from benchmarks.layers.kernel_base import function as kernel_function
from benchmarks.layers.numpy_base import Net
from benchmarks.layers.numpy_base import function as numpy_function
from benchmarks.layers.numpy_base import net as net
from benchmarks.layers.torch_base import ByHand as ByHand

Array = NDArray[Any]


class Kahan(Kernel):
    """Compensated sums from the last feature to the first."""

    def chunked(self, a: Array, w: Array) -> Array:
        total = np.zeros((len(a), len(w)), a.dtype)
        lost = np.zeros_like(total)
        for k in reversed(range(a.shape[1])):
            term = a[:, k, None] * w[:, k] - lost
            new = total + term
            lost = (new - total) - term
            lost[~np.isfinite(lost)] = 0
            total = new
        return total


class Wide(Net):
    """Steps in float64 with states rounded to the dtype, and gradients in float64 from these states."""

    def cell(self, layer: int, d: int, t: int, x_t: Array, h: Array) -> Array:
        wide = [a.astype(np.float64) for a in (x_t, h, self.w_ih(layer, d), self.w_hh(layer, d))]
        bias = np.zeros(self.H)
        for role in ("bias_ih", "bias_hh") if self.config.bias else ():
            bias += self.weights[self.named(role, layer, d)]
        return self.act(wide[0] @ wide[2].T + wide[1] @ wide[3].T + bias).astype(self.dtype)

    def through_act(self, g: Array, h: Array) -> Array:
        return super().through_act(g.astype(np.float64), h.astype(np.float64)).astype(self.dtype)


kahan = kernel_function(Kahan)
wide = numpy_function(Wide)
