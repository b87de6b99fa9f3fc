"""Tests of what is done to an array before it is returned: each is found from a program that executes its line."""

from typing import Any

import numpy as np
import pytest
import torch

from harness.diagnosis.identify.activations import ACTIVATIONS, Activation
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.transform import AXIS_MATRICES, Transform
from tests.diagnosis.identify.by_hand import said_of
from tests.implementations import vectorised

WAYS = [
    ("output", Transform(0.5)),
    ("output", Transform(0.0)),
    ("output", Transform(0.5, ACTIVATIONS["tanhshrink"])),
    ("output", Transform(3.0, ACTIVATIONS["sigmoid"])),
    ("output", Transform(matrix="running mean", axis=0)),
    ("output", Transform(-2.0, matrix="differences", axis=1)),
    ("output", Transform(0.5, when=TermSteps("only", 0))),
    ("output", Transform(0.9, when=TermSteps("last", 1))),
    ("output", Transform(0.0, axis=1, when=TermSteps("from", 1))),
    ("output", Transform(2.0, ACTIVATIONS["relu"], axis=-1, when=TermSteps("every", 2))),
    ("h_n", Transform(-1.0, axis=1, when=TermSteps("only", 0))),
    ("h_n", Transform(function=Activation("clip", (-0.25, 0.5)))),
    *(("h_n", Transform(matrix=matrix, axis=-1)) for matrix in AXIS_MATRICES if matrix),
]


ONE_LAYER = {"num_layers": 1, "bidirectional": False}


def returning(name: str, way: Transform) -> Any:
    """Return a layer that is right but for what a line does to an array."""

    def layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        arrays = dict(zip(("output", "h_n"), vectorised(x, h0, weights, config), strict=True))
        arrays[name] = eval(way.line(name), {"np": np, "T": len(x), **arrays}).astype(x.dtype)  # noqa: S307 - the line is ours
        return arrays["output"], arrays["h_n"]

    return layer


@pytest.mark.parametrize(("name", "way"), WAYS, ids=[way.line(name) for name, way in WAYS])
def test_what_is_done_to_what_is_returned_is_found(name: str, way: Transform) -> None:
    found, said = said_of(returning(name, way), ONE_LAYER | {"batch_first": False})

    assert (found.unknown, said) == ((), [way.words(name)])


def test_what_is_done_at_some_places_is_said_in_words() -> None:
    ways = [Transform(0.5, when=TermSteps("last", 1)), Transform(0.0, axis=1, when=TermSteps("from", 2))]
    ways += [Transform(0.0, axis=axis, when=TermSteps("last but", 1)) for axis in (0, 1, -1)]

    assert [way.words("output") for way in ways] == [
        "returns 0.5 * output as output at the last step only",
        "returns 0 * output as output from sequence 2 on",
        *(f"returns 0 * output as output at {place} only" for place in ("step T-2", "sequence N-2", "unit H-2")),
    ]


class Rectified(torch.nn.Module):
    """A layer whose output is nn.RNN's where that is positive."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn = torch.nn.RNN(input_size, hidden_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = self.rnn(x, hx)
        return output.relu(), h_n


def test_gradients_go_back_through_it_as_autograd_takes_them() -> None:
    found, said = said_of(Rectified, ONE_LAYER)

    assert (found.unknown, said) == ((), ["returns np.maximum(output, 0) as output"])


def test_what_is_not_found_leaves_the_step_known() -> None:
    def odd(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = vectorised(x, h0, {**weights, "bias_hh_l0": np.zeros(config.hidden_size)}, config)
        return (output * np.exp(output).max()).astype(x.dtype), h_n

    found, said = said_of(odd, ONE_LAYER)

    assert (found.unknown, said) == (("output",), ["ignores bias_hh: b_hh is never added"])
