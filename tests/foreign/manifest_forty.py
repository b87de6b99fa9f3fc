"""The manifest of the forty implementations: the mistake of each, in one sentence."""

from __future__ import annotations

from typing import Any, Final

from tests.foreign import forty, forty_torch
from tests.foreign.manifest import Wrong


def _least(*without: str, **more: Any) -> dict[str, Any]:
    """Return size 1 for every size and one direction, except for given values and for fields left open."""
    least = {"input_size": 1, "hidden_size": 1, "num_layers": 1, "T": 1, "N": 1, "bidirectional": False}
    return {name: value for name, value in (least | more).items() if name not in without}


FORTY: Final = (
    Wrong(
        "first_bias_everywhere",
        forty.first_bias_everywhere,
        "bias",
        "Every layer adds the biases of the first layer (of its own direction) instead of its own.",
        _least(num_layers=2, bias=True),
    ),
    Wrong(
        "deep_layers_share_weights",
        forty.deep_layers_share_weights,
        "weights",
        "From the third layer on, W_ih and W_hh are those of the second layer.",
        _least(num_layers=3),
    ),
    Wrong(
        "column_major_input_weights",
        forty.column_major_input_weights,
        "weights",
        "The memory of the first layer's W_ih is read column by column instead of row by row.",
        _least(input_size=2, hidden_size=2),
    ),
    Wrong(
        "unrolled_by_four",
        forty.unrolled_by_four,
        "time",
        "The T % 4 steps that remain of a loop unrolled by four all read the input of the first of them.",
        _least(T=2),
    ),
    Wrong(
        "wavefront",
        forty.wavefront,
        "layers",
        "With one direction, every layer above the first reads the layer below one step late, and zeros at the first.",
        _least(num_layers=2),
    ),
    Wrong(
        "chunks_onward",
        forty.chunks_onward,
        "directions",
        "The reverse direction runs backwards within chunks of 8 steps, but takes the chunks in forward order.",
        _least(T=9, bidirectional=True),
    ),
    Wrong(
        "in_place_directions",
        forty.in_place_directions,
        "directions",
        "Where a layer's input has as many features as its output, the reverse direction reads the forward direction's "
        "output in the place of the first half of the input.",
        _least("input_size", "num_layers", bidirectional=True),
    ),
    Wrong(
        "output_activated",
        forty.output_activated,
        "nonlinearity",
        "The output, but not h_n, goes through tanh a second time.",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "bias_along_batch",
        forty.bias_along_batch,
        "batch",
        "Where N equals hidden_size, the bias is added along the batch: that of unit n to all units of sequence n.",
        _least(hidden_size=2, N=2, bias=True),
    ),
    Wrong(
        "overlapping_tail_4",
        forty.overlapping_tail_4,
        "size",
        "Where N is above 4 and no multiple of 4, the last group of four overlaps the one before, and the sequences in "
        "both take every step twice.",
        _least(N=5),
    ),
    Wrong(
        "tail_without_state_8",
        forty.tail_without_state_8,
        "size",
        "Above 8 units, those after the last full block of 8 leave out W_hh h.",
        _least("T", hidden_size=9),
    ),
    Wrong(
        "transposed_tiles_16",
        forty.transposed_tiles_16,
        "size",
        "Where hidden_size is a multiple of 16, every 16 by 16 tile of W_hh is transposed within itself.",
        _least("T", hidden_size=16),
    ),
    Wrong(
        "late_bias_32",
        forty.late_bias_32,
        "size",
        "b_hh is not added to the units from the 33rd on.",
        _least(hidden_size=33, bias=True),
    ),
    Wrong(
        "stale_stage_64",
        forty.stale_stage_64,
        "size",
        "In the first layer, input features from the 65th on are multiplied by the weights of the feature 64 before.",
        _least(input_size=65),
    ),
    Wrong(
        "inverse_permutation",
        forty_torch.InversePermutation,
        "packed",
        "h_n of an unsorted packed batch is put in order by the sorting permutation instead of its inverse.",
        _least(T=2, N=3, enforce_sorted=False),
    ),
    Wrong(
        "reverse_shifted",
        forty.reverse_shifted,
        "packed",
        "The reverse direction's outputs of a sequence shorter than T lie T minus its length steps too late.",
        _least(T=2, N=2, bidirectional=True),
    ),
    Wrong(
        "lengths_kept",
        forty.lengths_kept,
        "packed",
        "The lengths of the first packed batch of each (T, N) are used for all later ones of the same T and N.",
        _least(T=2, N=2),
    ),
    Wrong(
        "last_gradient_lost",
        forty.last_gradient_lost,
        "packed",
        "The gradient by h_n of the forward direction is ignored for sequences shorter than T.",
        _least(T=2, N=2),
    ),
    Wrong(
        "divided_by_p",
        forty.divided_by_p,
        "dropout",
        "What dropout keeps is divided by p instead of 1 - p (which p=0.5 cannot tell apart).",
        _least(num_layers=2, training=True),
        {"dropout": 0.25},
    ),
    Wrong(
        "one_mask_for_both_directions",
        forty_torch.OneMaskForBothDirections,
        "dropout",
        "The two directions' halves of a layer's output are dropped by one and the same mask.",
        {},
    ),
    Wrong(
        "sigmoid_tanh",
        forty.sigmoid_tanh,
        "rounding",
        "tanh(s) is computed as 1 - 2 / (exp(2 s) + 1), which near 0 loses the digits that 1 does not hold.",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "single_precision_bias",
        forty.single_precision_bias,
        "rounding",
        "In float64, b_ih + b_hh is rounded to float32.",
        _least(dtype="float64", bias=True),
    ),
    Wrong(
        "writes_initial_state",
        forty.writes_initial_state,
        "state",
        "The steps overwrite the caller's hx with the states, so that it ends up as h_n.",
        _least(hx=True),
    ),
    Wrong(
        "kept_workspace",
        forty.kept_workspace,
        "state",
        "The output is a view of a workspace that the next call with an output of the same shape overwrites.",
        _least(),
    ),
    Wrong(
        "zeros_once",
        forty_torch.ZerosOnce,
        "state",
        "Without hx, a module's second call with the same N begins at the first call's h_n instead of zeros.",
        _least(hx=False),
    ),
    Wrong(
        "unscaled_on_the_way_back",
        forty.unscaled_on_the_way_back,
        "gradients",
        "The gradients through dropout are masked, but not divided by 1 - p.",
        _least(num_layers=2, training=True),
    ),
    Wrong(
        "wrong_checkpoint",
        forty.wrong_checkpoint,
        "gradients",
        "In the gradient by W_hh, the state before every 32nd step is replaced by the one 32 steps earlier.",
        _least(T=33),
    ),
    Wrong(
        "tanh_of_tanh",
        forty.tanh_of_tanh,
        "gradients",
        "The derivative of tanh is taken as 1 - tanh(h)^2, where h is the state already.",
        _least(nonlinearity="tanh"),
    ),
    Wrong(
        "initial_state_forgotten",
        forty.initial_state_forgotten,
        "gradients",
        "The gradient by W_hh leaves out the first step, in which W_hh meets hx.",
        _least(hx=True),
    ),
    Wrong(
        "relu_by_where",
        forty_torch.ReluByWhere,
        "gradients",
        "The derivative of relu at exactly 0 is 1.",
        _least(nonlinearity="relu"),
    ),
    Wrong(
        "clipped",
        forty.clipped,
        "gradients",
        "The gradients by the weights and biases are clipped to [-5, 5].",
        _least(),
    ),
    Wrong(
        "interleaved_readout",
        forty.interleaved_readout,
        "readout",
        "The readout takes the output's features to alternate between the two directions.",
        _least(hidden_size=2, bidirectional=True),
        {"output_size": 2},
    ),
    Wrong(
        "unbatched_as_batch",
        forty.unbatched_as_batch,
        "layout",
        "An unbatched input of T steps is treated as a batch of T sequences of one step each.",
        _least(T=2, batched=False),
    ),
    Wrong(
        "reverse_always_tanh",
        forty.reverse_always_tanh,
        "conditional",
        "With relu and two directions, the reverse direction uses tanh.",
        _least(bidirectional=True, nonlinearity="relu"),
    ),
    Wrong(
        "square_mask_transposed",
        forty.square_mask_transposed,
        "conditional",
        "In a packed batch where T equals N, the mask of which steps are padding is transposed.",
        _least(T=2, N=2),
    ),
    Wrong(
        "one_loss_only",
        forty.one_loss_only,
        "conditional",
        "Where the loss reads both the output and h_n, the gradient by h_n is ignored.",
        _least(loss="both"),
    ),
    Wrong(
        "no_bias_no_state",
        forty.no_bias_no_state,
        "conditional",
        "Without biases, a given hx is ignored.",
        _least(bias=False, hx=True),
    ),
    Wrong(
        "byte_steps",
        forty.byte_steps,
        "rare",
        "From step 128 on, every layer reads the input of 128 steps before.",
        _least(T=129),
    ),
    Wrong(
        "relu_by_fmax",
        forty.relu_by_fmax,
        "rare",
        "relu of NaN is 0.",
        _least(nonlinearity="relu"),
    ),
    Wrong(
        "overflowing_tanh",
        forty.overflowing_tanh,
        "rare",
        "tanh(s) is NaN where exp(2 s) overflows, which is above 44 in float32 and above 354 in float64.",
        _least(nonlinearity="tanh"),
    ),
)
