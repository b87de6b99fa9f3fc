"""Tests of activations: each is recognised by torch's own values of it, and its derivative is torch's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name of it

from benchmarks.composed import exchanged, identified, terms
from harness.diagnosis.identify.activations import ACTIVATIONS, Activation, recognised
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.model import LayerModel
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import rounding_of
from harness.diagnosis.identify.step import ACTIVATION_SUMS
from harness.oracle.arithmetic_assumptions import U64
from tests.diagnosis.identify.by_hand import FORWARD, of_steps, said_of

FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Activation, float]] = {
    "tanh": (torch.tanh, Activation("tanh"), 1),
    "relu": (torch.relu, Activation("relu"), 1),
    "relu6": (F.relu6, Activation("clip", (0, 6)), 1),
    "hardtanh": (F.hardtanh, Activation("clip", (-1, 1)), 1),
    "leaky_relu": (F.leaky_relu, Activation("leaky relu", (0.01,)), 1),
    "elu": (F.elu, Activation("elu", (1,)), 1),
    "selu": (F.selu, Activation("elu", (1.6732632423543772,)), 1.0507009873554805),
    "celu": (lambda s: F.celu(s, 2), Activation("celu", (2,)), 1),
    "sigmoid": (torch.sigmoid, Activation("sigmoid"), 1),
    "hardsigmoid": (F.hardsigmoid, Activation("hard sigmoid", (1 / 6,)), 1),
    "softplus": (F.softplus, Activation("softplus"), 1),
    "softsign": (F.softsign, Activation("softsign"), 1),
    "silu": (F.silu, Activation("silu"), 1),
    "gelu": (F.gelu, Activation("gelu"), 1),
    "gelu by tanh": (lambda s: F.gelu(s, approximate="tanh"), Activation("gelu by tanh"), 1),
    "mish": (F.mish, Activation("mish"), 1),
    "hardswish": (F.hardswish, Activation("hard swish"), 1),
    "tanhshrink": (F.tanhshrink, Activation("tanhshrink"), 1),
    "softshrink": (F.softshrink, Activation("softshrink", (0.5,)), 1),
    "hardshrink": (F.hardshrink, Activation("hardshrink", (0.5,)), 1),
    "logsigmoid": (F.logsigmoid, Activation("logsigmoid"), 1),
    "threshold": (lambda s: F.threshold(s, 0.1, 20), Activation("threshold", (0.1, 20)), 1),
    "-abs": (lambda s: -s.abs(), Activation("abs"), -1),
    "LeCun's tanh": (lambda s: 1.7159 * torch.tanh(2 * s / 3), Activation("tanh"), 1.7159),
    "clipped argument": (lambda s: torch.tanh(s.clamp(-2.5, 4)), Activation("tanh", (), -2.5, 4.0), 1),
    "clipped value": (lambda s: s.sigmoid().clamp(max=0.8), Activation("sigmoid", (), high=np.log(4)), 1),
    "cubic": (lambda s: s - s**3 / 3, Activation("quotient", (np.inf, 4, 0, 1, 0, -1 / 3, 1)), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_is_recognised_by_its_values(name: str) -> None:
    function, activation, factor = FUNCTIONS[name]
    s = np.concatenate(ACTIVATION_SUMS)

    found = recognised(s, function(torch.tensor(s)).numpy(), 32 * U64)

    [(kind, by), *_] = found
    assert kind.name == activation.name
    assert by == pytest.approx(factor)
    assert kind.parameters == pytest.approx(activation.parameters)
    assert kind[2:] == pytest.approx(activation[2:])


@pytest.mark.parametrize("name", [name for name, (_, _, factor) in FUNCTIONS.items() if factor == 1])
def test_its_derivative_is_the_one_that_autograd_takes(name: str) -> None:
    function, activation, _ = FUNCTIONS[name]
    s = torch.linspace(-3.05, 2.95, 60, dtype=torch.float64, requires_grad=True)

    [taken] = torch.autograd.grad(function(s).sum(), s)

    assert activation.slope(s.detach().numpy()) == pytest.approx(
        taken.numpy(), rel=5e-8, abs=1e-14
    )  # torch's 1 / 6 is float32's


def test_at_a_limit_the_slope_of_either_side_is_taken() -> None:
    s = Ball(np.array([0.0, 3.0, 6.0]), 0.0, rounding_of("float64"))

    slope = Activation("clip", (0.0, 6.0)).slope_of(s)

    assert (np.abs(slope.value - [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]) <= slope.error).all()
    assert slope.error[1] < 1e-9
    assert (Activation("relu").slope_of(s).error == 0).all()


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_small_states_that_are_set_to_0_are_found_beside_wrong_sums(kind: str) -> None:
    functions: dict[str, Callable[[Any], Any]] = {"tanh": np.tanh, "relu": lambda s: np.maximum(s, 0)}

    def small(_t: int, _x: Any, _h: Any, s: Any, _w: Any) -> Any:
        h = functions[kind](s)
        return np.where(np.abs(h) < 0.03, 0, h)

    found, said = said_of(of_steps(small, b_hh=0.0), FORWARD.only(nonlinearity=kind), nonlinearity=kind)

    assert said == ["ignores bias_hh: b_hh is never added", "sets states between -0.03 and 0.03 to 0"]
    assert found.whole


def test_another_function_is_none_of_the_set() -> None:
    s = np.concatenate(ACTIVATION_SUMS)

    assert recognised(s, np.tanh(s) + 0.1 * np.cos(s), 32 * U64) == []
    assert recognised(s, np.ones_like(s), 32 * U64) == []


def test_an_activation_is_found_beside_wrong_sums() -> None:
    model = terms(LayerModel(activation=ACTIVATIONS["silu"]), b_hh=None)
    model = exchanged(model, "h[t-1] @ W_hh.T", "h[t-1] @ W_hh")

    found = identified(model)

    assert [m.sentence.partition(",")[0] for m in mistakes_of(found.network, "tanh")] == [
        "takes h[t-1] @ W_hh in its step",
        "ignores bias_hh: b_hh is never added",
        "applies silu",
    ]
    assert found.whole
