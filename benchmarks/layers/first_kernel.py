"""Variations of ``kernel_base`` that are wrong, each in one way."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.layers.kernel_base import Kernel, function

Array = NDArray[Any]


class UnitsTail(Kernel):
    def store(self, new: Array) -> Array:
        if self.H > 8:
            new[:, self.H - self.H % 8 :] = 0
        return new


class SumsTail(Kernel):
    def dot(self, layer: int, a: Array, w: Array) -> Array:
        features = a.shape[1]
        whole = features - features % 16 if layer == 0 and features > 16 else features
        return super().dot(layer, a[:, :whole], w[:, :whole])


class SequencesTail(Kernel):
    def store(self, new: Array) -> Array:
        whole = len(new) - len(new) % 32
        if 0 < whole < len(new):
            new[whole:] = new[whole - 1]
        return new


class LastOf64(Kernel):
    def recurrent(self, h: Array, w_hh: Array, units: slice) -> Array:
        s = super().recurrent(h, w_hh, units)
        if self.H == 64 and units.stop == 64:
            s[:, -1] = s[:, -2]
        return s


class ByExponentials(Kernel):
    def tanh(self, s: Array) -> Any:
        e = np.expm1(2 * s)
        return e / (e + 2)


class HundredSteps(Kernel):
    def load(self, layer: int, t: int, source: Array) -> Array:
        return np.zeros_like(source[t]) if layer == 0 and t >= 100 else source[t]


class DispatchTable(Kernel):
    def act(self, s: Array) -> Array:
        return super().act(s) if self.config.bias else self.tanh(s)


units_tail = function(UnitsTail)
sums_tail = function(SumsTail)
sequences_tail = function(SequencesTail)
last_of64 = function(LastOf64)
by_exponentials = function(ByExponentials)
hundred_steps = function(HundredSteps)
dispatch_table = function(DispatchTable)
