"""rounding: numbers are kept, multiplied or summed in fewer bits than the dtype has."""

from typing import Final

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, StepWeights
from harness.space.case import Case

TF32_BITS = 11  # The bits of the significand, the leading one included


def _rounds_state_to_b_float16(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return stored(right.new_state(activated, h, w), ml_dtypes.bfloat16)


def _rounds_state_to_float16(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return stored(right.new_state(activated, h, w), np.float16)


def _rounds_state_to_float32(right: Layer, activated: Floats, h: Floats, w: StepWeights) -> Floats:
    return stored(right.new_state(activated, h, w), np.float32)


def _keeps_output_in_float32(right: Layer, case: Case, layer: int, states: Floats) -> Floats:
    output = right.written(case, layer, states)
    return stored(output, np.float32) if layer == case.config.num_layers - 1 else output


def _rounds_operands_to_tf32(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    narrow = w._replace(ih=shortened(w.ih), hh=shortened(w.hh))
    return right.preactivation(shortened(x), shortened(h), narrow)


def _rounds_operands_to_b_float16(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    dtype = ml_dtypes.bfloat16
    narrow = w._replace(ih=stored(w.ih, dtype), hh=stored(w.hh, dtype))
    return right.preactivation(stored(x, dtype), stored(h, dtype), narrow)


def _sums_in_float16(right: Layer, x: Floats, h: Floats, w: StepWeights) -> Floats:
    parts = [_summed(x, w.ih, w.b_ih), _summed(h, w.hh, w.b_hh)]
    return stored(parts[0] + parts[1], np.float16)


def stored(array: Floats, dtype: DTypeLike) -> Floats:
    """Round an array to a narrower dtype."""
    return array.astype(dtype).astype(np.float64)


def shortened(array: Floats) -> Floats:
    """Round an array to TF32's significand."""
    significand, exponent = np.frexp(array)
    return np.asarray(np.ldexp(np.rint(np.ldexp(significand, TF32_BITS)), exponent - TF32_BITS))


def _summed(rows: Floats, weight: Floats, bias: Floats) -> Floats:
    """Rows (.., K) times a weight (H, K), and a bias (H), one addition at a time."""
    total = np.zeros((*rows.shape[:-1], len(weight)), rows.dtype)
    for column in range(rows.shape[-1]):
        total = stored(total + stored(rows[..., column, None] * weight[:, column], np.float16), np.float16)
    return stored(total + bias, np.float16)


FAULTS: Final = (
    Fault(
        "RoundsStateToBFloat16",
        "rounds each state to bfloat16",
        {"new_state": _rounds_state_to_b_float16},
        smallest=(ONE,),
    ),
    Fault(
        "RoundsStateToFloat16", "rounds each state to float16", {"new_state": _rounds_state_to_float16}, smallest=(ONE,)
    ),
    Fault(
        "RoundsStateToFloat32",
        "rounds each state to float32, in a float64 run",
        {"new_state": _rounds_state_to_float32},
        smallest=(ONE.replace(dtype="float64"),),
    ),
    Fault(
        "KeepsOutputInFloat32",
        "keeps the output in a float32 buffer, in a float64 run; the states themselves are not rounded",
        {"written": _keeps_output_in_float32},
        smallest=(ONE.replace(dtype="float64"),),
    ),
    Fault(
        "RoundsOperandsToTF32",
        "rounds the operands of products to TF32, ten bits after the point",
        {"preactivation": _rounds_operands_to_tf32},
        smallest=(ONE,),
    ),
    Fault(
        "RoundsOperandsToBFloat16",
        "rounds the operands of products to bfloat16",
        {"preactivation": _rounds_operands_to_b_float16},
        smallest=(ONE,),
    ),
    Fault(
        "SumsInFloat16",
        "sums in float16: x's products and b_ih one after the other, h's products and b_hh, and then the two",
        {"preactivation": _sums_in_float16},
        smallest=(ONE,),
    ),
)
