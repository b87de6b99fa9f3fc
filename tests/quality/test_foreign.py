"""Measurement on forty foreign layers: the verdict, the smallest case, and the cause that a report names first.

``benchmarks/foreign.py`` measures all sets of them.
"""

from importlib import import_module
from shutil import which
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.foreign import Layer, layers, measured
from harness import as_subject, hunt, scope_of
from tests.long import few

LAYERS: Final[dict[str, Layer]] = {layer.name: layer for layer in layers()}

CASES: Final = 150

CAUSES: Final = {
    # The first set
    "plain_loops": ("disagrees", "adds bias_ih twice"),
    "einsum": ("disagrees", "computes h @ W_hh where nn.RNN computes h @ W_hh.T"),
    "folded": ("disagrees", "ignores hx in the layers above the first"),
    "generated": ("disagrees", "makes a layer's output of [reverse, forward]"),
    "stepped": ("disagrees", "takes the reverse direction's h_n at the last time step"),
    "recursive": ("disagrees", "uses the second layer's parameters in all layers above it"),
    "Handwritten": ("disagrees", "detaches the state every 8 steps"),
    "concatenated": ("disagrees", "sums the first 16 states only in h @ W_hh.T, in the reverse direction only"),
    "tiled": ("disagrees", "sums states in blocks of 8"),
    "flat": ("disagrees", "takes h_n of a packed batch at T"),
    "scanned": ("disagrees", "precision: its activation is off"),
    "wrong_slope": ("disagrees", "takes 1 - h for the slope of tanh"),
    "readout_halves": ("disagrees", "reads out the output with its reverse half before its forward half"),
    "RowsByDirection": ("disagrees", "writes h_n to row d * L + l"),
    "DropsLast": ("disagrees", "dropout must act between layers only"),
    # The second set
    "kept_workspace": ("disagrees", "output is overwritten by the next call"),
    "InversePermutation": ("disagrees", "puts h_n of a packed batch in order by the permutation that sorts it"),
    "tanh_of_tanh": ("disagrees", "takes 1 - tanh(h)**2 for the slope of tanh"),
    "wavefront": ("disagrees", "reads the output below one step late, above the first layer"),
    "writes_initial_state": ("disagrees", "hx was given to the subject, which wrote into it"),
    # The third set
    "min_char": ("disagrees", "ignores bias_hh: b_hh is never added"),
    "state_first": ("disagrees", "output has shape (1, 1, 1), expected (T, N, D*H) = (2, 1, 1)"),
    "last_is_logits": ("disagrees", "applies no nonlinearity at the last step"),
    "one_initial_state": ("disagrees", "starts every layer from the first layer's rows of hx"),
    "with_skips": ("disagrees", "adds the input of every layer above the first to its output"),
    "by_shape": ("disagrees", "exchanges weight_ih and weight_hh where both are square"),
    "squeezed": ("disagrees", "output has shape (), expected (T, N, D*H) = (1, 1, 1)"),
    "blog_rnn_anyway": ("disagrees", "num_layers=2-5 fail and are not refused"),
    "late_night": ("disagrees", "ignores bias_hh: b_hh is never added"),
    "ignores_final": ("disagrees", "ignores the gradient that the loss gives to h_n"),
    "accumulating": ("broken", "not deterministic: two runs of the same case gave different results"),
    "custom_relu": ("disagrees", "takes 1 for the slope of relu where the preactivation is at zero"),
    "default_dtype": ("broken", "RuntimeError: expected m1 and m2 to have the same dtype"),
    "StatefulRNN": ("disagrees", "starts from the state in which the call before ended"),
    "UnreadBias": ("disagrees", "ignores bias_hh: b_hh is never added"),
    "node_in_place": ("disagrees", "updates the state in place"),
}
RIGHT: Final = ("net", "column_vectors", "vanilla", "MyRNN")

# The layers that the default run takes.
KEPT: Final = {"generated", "kept_workspace", "state_first", "accumulating"}


def test_the_manifest_names_layers_that_are_there() -> None:
    for layer in LAYERS.values():
        file, name = layer.spec.split(".py:")
        assert hasattr(import_module(file.replace("/", ".")), name), layer.spec


@pytest.mark.parametrize("name", few(CAUSES, KEPT.__contains__))
def test_a_wrong_layer_gets_its_verdict_its_smallest_case_and_its_cause(name: str) -> None:
    if name == "node_in_place" and which("node") is None:
        pytest.skip("node is not installed")
    verdict, cause = CAUSES[name]

    row = measured(LAYERS[name], cases=CASES)

    first = row["found"][0]
    assert row["verdict"] == verdict
    assert first["said"].startswith(cause)
    assert not first.get("larger")


@pytest.mark.parametrize("name", few(RIGHT, {"vanilla"}.__contains__))
def test_a_right_layer_raises_nothing(name: str) -> None:
    assert measured(LAYERS[name], seed=4, cases=CASES)["found"] == []


def rounds_its_state(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute in float32, and keep the state in the dtype that is asked for."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction")
    w = {name: array.astype(np.float32) for name, array in weights.items()}
    h, states = h0[0], []
    for frame in x:
        s = frame.astype(np.float32) @ w["weight_ih_l0"].T + h.astype(np.float32) @ w["weight_hh_l0"].T
        if config.bias:
            s = s + w["bias_ih_l0"] + w["bias_hh_l0"]
        h = (np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)).astype(x.dtype)
        states.append(h)
    return np.stack(states), h[None]


def test_a_state_that_is_rounded_to_the_dtype_that_was_declared_raises_nothing() -> None:
    subject = as_subject(rounds_its_state)

    done = hunt(subject, scope_of(subject).only(dtype=["bfloat16", "float16"]), cases=300)

    assert (done.findings, done.suspicions) == ([], [])
