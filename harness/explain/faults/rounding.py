"""rounding: numbers are kept, multiplied or summed in fewer bits than the dtype has."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, StepWeights
from harness.space.case import Case

TF32_BITS = 11
"""Of the significand, the leading one included."""


class RoundsStateToBFloat16(Fault):
    """rounds each state to bfloat16."""

    family = "rounding"
    smallest = (ONE,)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return stored(super().new_state(activated, h, w), ml_dtypes.bfloat16)


class RoundsStateToFloat16(Fault):
    """rounds each state to float16."""

    family = "rounding"
    smallest = (ONE,)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return stored(super().new_state(activated, h, w), np.float16)


class RoundsStateToFloat32(Fault):
    """rounds each state to float32, in a float64 run."""

    family = "rounding"
    smallest = (ONE.replace(dtype="float64"),)

    def new_state(self, activated: Floats, h: Floats, w: StepWeights) -> Floats:
        return stored(super().new_state(activated, h, w), np.float32)


class KeepsOutputInFloat32(Fault):
    """keeps the output in a float32 buffer, in a float64 run; the states themselves are not rounded."""

    family, stepwise = "rounding", False
    smallest = (ONE.replace(dtype="float64"),)

    def written(self, case: Case, layer: int, states: Floats) -> Floats:
        output = super().written(case, layer, states)
        return stored(output, np.float32) if layer == case.config.num_layers - 1 else output


class RoundsOperandsToTF32(Fault):
    """rounds the operands of products to TF32, ten bits behind the point."""

    family = "rounding"
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        narrow = w._replace(ih=shortened(w.ih), hh=shortened(w.hh))
        return super().preactivation(shortened(x), shortened(h), narrow)

    def unsettled(self, states: Floats, u: float) -> Floats | None:
        return np.abs(shortened(states * (1 + 2 * u)) - shortened(states * (1 - 2 * u)))


class RoundsOperandsToBFloat16(Fault):
    """rounds the operands of products to bfloat16."""

    family = "rounding"
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        dtype = ml_dtypes.bfloat16
        narrow = w._replace(ih=stored(w.ih, dtype), hh=stored(w.hh, dtype))
        return super().preactivation(stored(x, dtype), stored(h, dtype), narrow)

    def unsettled(self, states: Floats, u: float) -> Floats | None:
        return np.abs(
            stored(states * (1 + 2 * u), ml_dtypes.bfloat16) - stored(states * (1 - 2 * u), ml_dtypes.bfloat16)
        )


class SumsInFloat16(Fault):
    """sums in float16: x's products and b_ih one after the other, h's products and b_hh, and then the two."""

    family, stepwise = "rounding", False
    smallest = (ONE,)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        parts = [_summed(x, w.ih, w.b_ih), _summed(h, w.hh, w.b_hh)]
        return stored(parts[0] + parts[1], np.float16)


def stored(array: Floats, dtype: DTypeLike) -> Floats:
    """The array rounded to a narrower dtype; of complex numbers each part."""
    if array.dtype.kind == "c":
        return np.asarray(stored(array.real, dtype) + 1j * stored(array.imag, dtype))
    return array.astype(dtype).astype(np.float64)


def shortened(array: Floats) -> Floats:
    """The array rounded to TF32's significand; of complex numbers each part."""
    if array.dtype.kind == "c":
        return np.asarray(shortened(array.real) + 1j * shortened(array.imag))
    significand, exponent = np.frexp(array)
    return np.asarray(np.ldexp(np.rint(np.ldexp(significand, TF32_BITS)), exponent - TF32_BITS))


def _summed(rows: Floats, weight: Floats, bias: Floats) -> Floats:
    """Rows (.., K) times a weight (H, K), and a bias (H), one addition at a time."""
    total = np.zeros((*rows.shape[:-1], len(weight)), rows.dtype)
    for column in range(rows.shape[-1]):
        total = stored(total + stored(rows[..., column, None] * weight[:, column], np.float16), np.float16)
    return stored(total + bias, np.float16)
