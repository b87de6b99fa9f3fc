"""The manifest of the wrong implementations, with their mistakes in one sentence each, and of the correct ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.foreign import fifty, fifty_kernel, fifty_torch, numpy_base, right, torch_base, twelve

FAMILIES: Final = (
    "bias",
    "weights",
    "time",
    "layers",
    "directions",
    "nonlinearity",
    "batch",
    "size",
    "packed",
    "dropout",
    "rounding",
    "state",
    "gradients",
    "readout",
    "layout",
    "conditional",
    "rare",
)


@dataclass(frozen=True)
class Wrong:
    """An implementation with one mistake.

    ``truth`` is the mistake. ``smallest`` gives the sizes and flags of a minimal failing case, by reasoning alone, as
    far as that is certain: if two cases are both minimal (T=2 without hx, T=1 with it), the fields in which they differ
    are left out. ``scope`` holds the pins without which the mistake cannot be met.
    """

    name: str
    subject: Callable[..., Any]
    family: str
    truth: str
    smallest: Mapping[str, Any]
    scope: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Right:
    """An implementation without a mistake."""

    name: str
    subject: Callable[..., Any]


def _least(*without: str, **more: Any) -> dict[str, Any]:
    """Return size 1 for every size and one direction, except for given values and for fields left open."""
    least = {"input_size": 1, "hidden_size": 1, "num_layers": 1, "T": 1, "N": 1, "bidirectional": False}
    return {name: value for name, value in (least | more).items() if name not in without}


TWELVE: Final = (
    Wrong("plain_loops", twelve.plain_loops, "bias", "adds b_ih twice and never b_hh", _least(bias=True)),
    Wrong("einsum", twelve.einsum, "weights", "multiplies h by W_hh, not by its transpose", _least("T", hidden_size=2)),
    Wrong(
        "folded",
        twelve.folded,
        "state",
        "starts every layer above the first at zeros, whatever hx says",
        _least(num_layers=2, hx=True),
    ),
    Wrong(
        "generated",
        twelve.generated,
        "directions",
        "concatenates each layer's directions as [reverse, forward]",
        _least(bidirectional=True),
    ),
    Wrong(
        "stepped",
        twelve.stepped,
        "directions",
        "the reverse direction's h_n is its state at the last time step, the first that it computed",
        _least(T=2, bidirectional=True),
    ),
    Wrong(
        "recursive",
        twelve.recursive,
        "layers",
        "every layer above the second computes with the second layer's weights",
        _least(num_layers=3),
    ),
    Wrong(
        "Handwritten",
        twelve.Handwritten,
        "gradients",
        "detaches the state every 8 steps, so that backpropagation through time is cut there",
        _least(T=9),
    ),
    Wrong(
        "cells",
        twelve.cells,
        "layout",
        "with batch_first, x is reshaped to (T, N, I) where it should be transposed",
        _least(T=2, N=2, batch_first=True),
    ),
    Wrong(
        "concatenated",
        twelve.concatenated,
        "conditional",
        "the reverse direction reads only the first 16 units of its previous state: wrong from 17 units on",
        _least("T", hidden_size=17, bidirectional=True),
    ),
    Wrong(
        "scanned",
        twelve.scanned,
        "nonlinearity",
        "tanh is a rational approximation of its argument clipped at 4.97, off by up to 1e-4",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "tiled",
        twelve.tiled,
        "size",
        "from 8 units on, the sum over the previous state drops the units beyond the last full tile of 8",
        _least("T", hidden_size=9),
    ),
    Wrong(
        "flat",
        twelve.flat,
        "packed",
        "the forward direction's h_n is the output at T-1, zero for sequences that are shorter",
        _least(T=2, N=2),
    ),
)

BY_NUMPY: Final = (
    Wrong("one_bias", fifty.one_bias, "bias", "never adds b_hh", _least(bias=True)),
    Wrong(
        "bias_below",
        fifty.bias_below,
        "bias",
        "adds biases in the first layer only",
        _least(num_layers=2, bias=True),
    ),
    Wrong(
        "rows_flipped",
        fifty.rows_flipped,
        "weights",
        "reads the rows of every W_ih in reverse order",
        _least(hidden_size=2),
    ),
    Wrong(
        "halves_swapped",
        fifty.halves_swapped,
        "weights",
        "above the first layer, W_ih's columns for the forward and the reverse half of its input are exchanged",
        _least(num_layers=2, bidirectional=True),
    ),
    Wrong(
        "state_before",
        fifty.state_before,
        "time",
        "a layer's output at t is its state before step t, not after it",
        _least(),
    ),
    Wrong(
        "first_state",
        fifty.first_state,
        "batch",
        "every sequence starts from the first sequence's initial state",
        _least(N=2, hx=True),
    ),
    Wrong(
        "stateful",
        fifty.stateful,
        "state",
        "without hx, it starts from the last state of an earlier call of the same sizes",
        _least(hx=False),
    ),
    Wrong(
        "nan_to_zero",
        fifty.nan_to_zero,
        "nonlinearity",
        "relu turns NaN into 0, as C's fmax does",
        _least(nonlinearity="relu"),
    ),
    Wrong(
        "ends_at_padding",
        fifty.ends_at_padding,
        "packed",
        "the forward direction's h_n is taken at T: padding is stepped through as zeros",
        _least(T=2, N=2),
    ),
    Wrong(
        "begins_at_padding",
        fifty.begins_at_padding,
        "packed",
        "the reverse direction begins at T: it steps through padding as zeros before it meets the sequence",
        _least(T=2, N=2, bidirectional=True),
    ),
    Wrong(
        "unscaled",
        fifty.unscaled,
        "dropout",
        "what dropout keeps is not divided by 1 - p",
        _least(num_layers=2, dropout=0.5, training=True),
    ),
    Wrong(
        "bf16_state",
        fifty.bf16_state,
        "rounding",
        "the state is rounded to bfloat16 on its way to the next step and to h_n",
        _least(),
    ),
    Wrong(
        "tensor_float",
        fifty.tensor_float,
        "rounding",
        "in float32, the operands of W_ih x_t are rounded to TF32's 11 bits",
        _least(dtype="float32"),
    ),
    Wrong(
        "half_sums",
        fifty.half_sums,
        "rounding",
        "W_hh h is summed in float16",
        _least("T"),
    ),
    Wrong(
        "single_precision",
        fifty.single_precision,
        "rounding",
        "float64 is computed in float32",
        _least(dtype="float64"),
    ),
    Wrong(
        "averaged",
        fifty.averaged,
        "gradients",
        "the gradient by W_hh is averaged over time steps, not summed",
        _least(T=2),
    ),
    Wrong(
        "bias_once",
        fifty.bias_once,
        "gradients",
        "the gradients by the biases are those of time step 0 alone",
        _least(T=2, bias=True),
    ),
    Wrong(
        "initial_before_weights",
        fifty.initial_before_weights,
        "gradients",
        "the gradient by hx lacks the factor W_hh",
        _least(hx=True),
    ),
    Wrong(
        "truncated",
        fifty.truncated,
        "gradients",
        "backpropagation through time is cut after 16 steps",
        _least(T=17),
    ),
    Wrong(
        "wrong_slope",
        fifty.wrong_slope,
        "gradients",
        "the slope of tanh is taken for 1 - h, not 1 - h**2",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "readout_without_bias",
        fifty.readout_without_bias,
        "readout",
        "the readout's bias is never added",
        _least(output_size=1),
        {"output_size": 1},
    ),
    Wrong(
        "readout_halves",
        fifty.readout_halves,
        "readout",
        "the readout reads [reverse, forward] where the output is [forward, reverse]",
        _least(bidirectional=True, output_size=1),
        {"output_size": 1},
    ),
    Wrong(
        "time_first_output",
        fifty.time_first_output,
        "layout",
        "with batch_first, the output is (T, N, ...) all the same",
        _least("T", "N", batch_first=True),
    ),
    Wrong(
        "raw_buffer",
        fifty.raw_buffer,
        "layout",
        "x is read in the order in which it lies in memory, whatever its strides",
        _least("T", "N", "input_size"),
    ),
    Wrong(
        "rectified_start",
        fifty.rectified_start,
        "conditional",
        "with relu, the initial state goes through relu, too: wrong where hx has negative entries",
        _least(nonlinearity="relu", hx=True),
    ),
    Wrong(
        "square_transposed",
        fifty.square_transposed,
        "conditional",
        "the first layer's W_ih is transposed where input_size equals hidden_size",
        _least(input_size=2, hidden_size=2),
    ),
    Wrong(
        "batch_first_start",
        fifty.batch_first_start,
        "conditional",
        "with batch_first, hx's memory is read as (N, layers * directions, H)",
        _least("num_layers", "bidirectional", N=2, batch_first=True, hx=True),
    ),
    Wrong(
        "upper_reverse",
        fifty.upper_reverse,
        "conditional",
        "above the first layer, the reverse direction uses the forward direction's W_hh",
        _least("T", num_layers=2, bidirectional=True),
    ),
    Wrong(
        "blank_skipped",
        fifty.blank_skipped,
        "rare",
        "a step whose input is all zeros is skipped in the first layer, as if it were padding",
        _least(),
    ),
    Wrong(
        "guarded",
        fifty.guarded,
        "rare",
        "a preactivation beyond 50 in modulus is taken for an overflow and gives 0",
        _least(),
    ),
)

BY_TORCH: Final = (
    Wrong("HardTanh", fifty_torch.HardTanh, "nonlinearity", "tanh is hardtanh", _least(nonlinearity="tanh")),
    Wrong(
        "SigmoidForTanh",
        fifty_torch.SigmoidForTanh,
        "nonlinearity",
        "tanh(s) is computed as 2 sigmoid(s) - 1, which is tanh(s / 2)",
        _least(nonlinearity="tanh"),
    ),
    Wrong("Relu6", fifty_torch.Relu6, "nonlinearity", "relu is clipped at 6", _least(nonlinearity="relu")),
    Wrong(
        "StartsFromBelow",
        fifty_torch.StartsFromBelow,
        "layers",
        "every layer above the first starts from the final state of the layer below, not from its own row of hx",
        _least(num_layers=2),
    ),
    Wrong(
        "NotFlippedBack",
        fifty_torch.NotFlippedBack,
        "directions",
        "the reverse direction's states stay in the order in which they were computed, last time step first",
        _least(T=2, bidirectional=True),
    ),
    Wrong(
        "RowsByDirection",
        fifty_torch.RowsByDirection,
        "directions",
        "h_n holds all forward rows first, then all reverse rows, not layer by layer",
        _least(num_layers=2, bidirectional=True),
    ),
    Wrong("DropsLast", fifty_torch.DropsLast, "dropout", "the last layer's output is dropped from, too", {}),
    Wrong("SameMask", fifty_torch.SameMask, "dropout", "dropout keeps the same units at every time step", {}),
    Wrong(
        "LayersDetached",
        fifty_torch.LayersDetached,
        "gradients",
        "what goes from layer to layer is detached, so that only the last layer gets gradients",
        _least(num_layers=2),
    ),
    Wrong(
        "LoneSequence",
        fifty_torch.LoneSequence,
        "conditional",
        "hx is ignored where there is one sequence only",
        _least(hx=True),
    ),
    Wrong(
        "Chunks",
        fifty_torch.Chunks,
        "conditional",
        "time goes in chunks of 32 steps, and every chunk starts at a state of zeros",
        _least(T=33),
    ),
    Wrong(
        "UnsortedStart",
        fifty_torch.UnsortedStart,
        "conditional",
        "hx is not sorted with the sequences of a packed batch that was not sorted before",
        _least(T=2, N=2, hx=True),
    ),
    Wrong(
        "SortedEnd",
        fifty_torch.SortedEnd,
        "packed",
        "h_n stays in the order of sorted lengths: it is not brought back into the batch's own",
        _least(T=2, N=2),
    ),
)

BY_KERNEL: Final = (
    Wrong(
        "units_tail",
        fifty_kernel.units_tail,
        "size",
        "beyond 8 units, those after the last full block of 8 are zero",
        _least(hidden_size=9),
    ),
    Wrong(
        "sums_tail",
        fifty_kernel.sums_tail,
        "size",
        "beyond 16 input features, the first layer's sums drop those after the last full chunk of 16",
        _least(input_size=17),
    ),
    Wrong(
        "sequences_tail",
        fifty_kernel.sequences_tail,
        "size",
        "beyond 32 sequences, those after the last full block of 32 are copies of the one before them",
        _least(N=33),
    ),
    Wrong(
        "last_of64",
        fifty_kernel.last_of64,
        "rare",
        "with exactly 64 units, the last one adds the recurrent sum of the one before it, not its own",
        _least("T", hidden_size=64),
    ),
    Wrong(
        "by_exponentials",
        fifty_kernel.by_exponentials,
        "rare",
        "tanh is a quotient of exponentials, which overflow to NaN from about 44 on in float32, 355 in float64",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "hundred_steps",
        fifty_kernel.hundred_steps,
        "rare",
        "from t=100 on, the input is read as zeros",
        _least(T=101),
    ),
    Wrong(
        "dispatch_table",
        fifty_kernel.dispatch_table,
        "conditional",
        "relu without biases is computed as tanh",
        _least(nonlinearity="relu", bias=False),
    ),
)

FIFTY: Final = (*BY_NUMPY, *BY_TORCH, *BY_KERNEL)

WRONG: Final = (*TWELVE, *FIFTY)

RIGHT: Final = [
    Right("net", numpy_base.net),
    Right("ByHand", torch_base.ByHand),
    Right("kahan", right.kahan),
    Right("wide", right.wide),
]
