"""Tests of the reference's gradients: against differences of its own losses, against autograd, and by hand."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from harness import Case, Reference, RNNConfig, cases, draw
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.expectation import end_to_end_states, expect_end_to_end
from harness.oracle.gradient_expectation import expect_gradients
from harness.oracle.setting import Setting
from tests.oracle.by_hand import run_by_hand

pytestmark = pytest.mark.kernels

SMALL: dict[str, Any] = {"T": [1, 2, 3], "N": [1, 2], "input_size": [1, 2, 3], "hidden_size": [1, 2, 3]}
LOSSES = ["output", "h_n", "both"]
FINITE = ["dyadic", "default", "normal", "spectral", "sparse"]


def float64_tolerances(case: Case) -> dict[str, Any]:
    """Return how far correct float64 outputs and gradients may be from the reference's."""
    setting = Setting.of(case, Arithmetic("float64"))
    states = end_to_end_states(setting)
    expected = expect_end_to_end(setting, states) | expect_gradients(setting, states).arrays
    return {name: one.tolerance for name, one in expected.items()}


def weighed(case: Case, arrays: Any) -> float:
    """Return the sum of the cotangents times their arrays, which is the loss if these are the outputs."""
    return math.fsum(t for name, g in case.cotangents.items() for t in (arrays[name.removesuffix(".grad")] * g).ravel())


def moved(case: Case, name: str, by: Any) -> Case:
    """Return the forward pass of a case, with one array moved."""
    arrays = {**case.forward().arrays}
    arrays[name] = arrays[name] + by
    x, hx = arrays.pop("x"), arrays.pop("hx", None)
    return Case(case.config.replace(loss=None), x, hx, arrays)


@settings(max_examples=25)
@given(
    cases(
        **SMALL,
        distributions=["default", "spectral"],
        dtypes=["float64"],
        nonlinearity="tanh",
        loss=LOSSES,
        output_size=[None, 2],
    )
)
def test_they_are_what_central_differences_tend_to(case: Case) -> None:
    rng = np.random.default_rng(0)
    found, tolerances = Reference().run(case), float64_tolerances(case)
    off = sum(float((abs(g) * tolerances[name.removesuffix(".grad")]).sum()) for name, g in case.cotangents.items())

    for gradient in case.config.gradients:
        name = gradient.removesuffix(".grad")
        direction = rng.choice([-1.0, 1.0], case.arrays[name].shape)
        h = 2.0**-9 / max(1, direction.size)
        differences = []
        for width in (h, h / 2, h / 4):
            plus, minus = (weighed(case, Reference().run(moved(case, name, s * width * direction))) for s in (1, -1))
            differences.append((plus - minus) / (2 * width))
        # Richardson: a difference is off by c2 h**2 + c4 h**4 + ...; without c2, each is off by 16 times the next.
        first, second = ((4 * fine - coarse) / 3 for coarse, fine in pairwise(differences))
        rounding = 5 / 3 * 2 * off / (h / 4)  # both losses of the two finest differences are off
        error = float((found[gradient] * direction).sum()) - second
        assert abs(error) <= abs(second - first) + rounding + tolerances[gradient].sum(), name


@settings(max_examples=100)
@given(cases(**SMALL, distributions=FINITE, dtypes=["float64"], loss=LOSSES, output_size=[None, 2]))
def test_they_are_autograd_s(case: Case) -> None:
    gradients = Reference().run(case)
    config = case.config
    module = torch.nn.RNN(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        nonlinearity=config.nonlinearity,
        bias=config.bias,
        batch_first=config.batch_first,
        bidirectional=config.bidirectional,
        dtype=torch.float64,
    )
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in case.forward().arrays.items()}
    inputs = (tensors["x"], tensors.get("hx"))
    layers = {name: t for name, t in tensors.items() if name.endswith(("_reverse", *"0123456789"))}
    output, h_n = torch.func.functional_call(module, layers, inputs)
    outputs = {"output": output, "h_n": h_n}
    if config.output_size is not None:
        outputs["readout"] = output @ tensors["readout.weight"].T + tensors["readout.bias"]

    given_by_loss = {name.removesuffix(".grad"): torch.tensor(g) for name, g in case.cotangents.items()}
    torch.autograd.backward([outputs[name] for name in given_by_loss], list(given_by_loss.values()))

    tolerances = float64_tolerances(case)
    for name in case.config.gradients:
        tolerance = tolerances[name]
        theirs = tensors[name.removesuffix(".grad")].grad
        other = np.zeros(tolerance.shape) if theirs is None else theirs.numpy()
        assert np.isfinite(tolerance).all()
        assert (np.abs(gradients[name] - other) <= 2 * tolerance).all(), name


@settings(max_examples=100)
@given(cases(**SMALL, distributions=FINITE, dtypes=["float64"], loss=LOSSES, output_size=[None, 2]))
def test_they_are_those_done_by_hand(case: Case) -> None:
    ours, theirs = Reference().run(case), run_by_hand(case).arrays

    assert list(ours) == list(case.config.returned)
    for name, tolerance in float64_tolerances(case).items():
        assert ours[name].shape == case.config.returned[name].shape
        assert (np.abs(ours[name] - theirs[name]) <= 2 * tolerance).all(), name


def test_two_steps_back_done_by_hand() -> None:
    config = RNNConfig(1, 1, T=2, hx=True, loss="both", dtype="float64")
    weights: dict[str, Any] = {
        "weight_ih_l0": [[0.5]],
        "weight_hh_l0": [[-0.25]],
        "bias_ih_l0": [0.125],
        "bias_hh_l0": [1.0],
    }
    case = Case.of(config, [[[1.0]], [[2.0]]], [[[3.0]]], **weights, output_grad=[[[0.5]], [[2.0]]], h_n_grad=[[[4.0]]])

    found = {name: array.ravel() for name, array in Reference().run(case).items()}

    h1 = math.tanh(0.5 * 1 + 0.125 - 0.25 * 3 + 1)
    h2 = math.tanh(0.5 * 2 + 0.125 - 0.25 * h1 + 1)
    da2 = (2 + 4) * (1 - h2**2)
    da1 = (0.5 - 0.25 * da2) * (1 - h1**2)
    by_hand = {
        "x": [0.5 * da1, 0.5 * da2],
        "hx": [-0.25 * da1],
        "weight_ih_l0": [1 * da1 + 2 * da2],
        "weight_hh_l0": [3 * da1 + h1 * da2],
        "bias_ih_l0": [da1 + da2],
        "bias_hh_l0": [da1 + da2],
    }
    tolerances = float64_tolerances(case)
    for name, values in by_hand.items():
        assert (np.abs(found[f"{name}.grad"] - values) <= 2 * tolerances[f"{name}.grad"].ravel()).all(), name


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_loss_of_h_n_alone_gives_nothing_to_the_readout(nonlinearity: str) -> None:
    case = draw(RNNConfig(2, 3, nonlinearity=nonlinearity, T=2, output_size=2, loss="h_n"), "normal", 0)

    found = Reference().run(case)

    assert not found["readout.weight.grad"].any()
    assert not found["readout.bias.grad"].any()
    assert found["weight_ih_l0.grad"].any()


def test_relu_passes_nothing_back_at_its_kink() -> None:
    config = RNNConfig(1, 1, nonlinearity="relu", bias=False, loss="output")
    for x, slope in ((0.0, 0.0), (-1.0, 0.0), (1.0, 1.0)):
        case = Case.of(config, [[[x]]], weight_ih_l0=[[2.0]], weight_hh_l0=[[0.0]], output_grad=[[[1.0]]])
        assert Reference().run(case)["x.grad"].item() == 2 * slope


@given(cases(**SMALL, distributions=FINITE, loss=[None, *LOSSES], output_size=[None, 2]))
def test_gradients_change_nothing_of_what_the_forward_pass_gives(case: Case) -> None:
    whole, forward = Reference().run(case), Reference().run(case.forward())

    assert set(whole) - set(forward) == set(case.config.gradients)
    assert all(np.array_equal(whole[name], array) for name, array in forward.items())
