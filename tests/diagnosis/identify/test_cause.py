"""Tests of how a known cause is recognised where roundings may make any number of a case."""

from typing import Any

import numpy as np
import pytest
import torch

from harness import RNNConfig, Subject, as_subject, check_agreement, draw
from harness.diagnosis.identify.cause import IdentifiedCause, cause_of, identified_of, seen_of
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.observation_cache import ObservationCache
from harness.oracle.compare import Mismatch
from harness.space.case import Case
from harness.subjects.protocol import scope_of
from tests.diagnosis.identify.by_hand import Stack, of_steps, sum_of


def filled(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    """Compute a layer without b_hh, and leave what it likes in the padding."""
    ends = np.full(x.shape[1], len(x)) if lengths is None else lengths
    h, output = h0[0], []
    for t, x_t in enumerate(x):
        on = (t < ends)[:, None]
        h = np.where(on, np.tanh(sum_of(x_t, h, weights, config, b_hh=0.0)), h)
        output.append(np.where(on, h, 7))
    return np.stack(output).astype(x.dtype), h[None].astype(x.dtype)


class Twice(Stack):
    """A layer that passes nothing back through time, and applies tanh to its output once more."""

    def carried(self, _t: int, h: Any) -> Any:
        return h.detach()

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return torch.tanh(output), h_n


def carries(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute a layer of one direction, in which each sequence starts where the one before it ended."""
    h, output = h0[0, :1], np.zeros((*x.shape[:2], config.hidden_size), x.dtype)
    h_n = np.zeros_like(h0)
    for n in range(x.shape[1]):
        for t in range(len(x)):
            h = np.tanh(sum_of(x[t, n : n + 1], h, weights, config))
            output[t, n] = h[0]
        h_n[0, n] = h[0]
    return output, h_n


def known(subject: Subject, config: RNNConfig, **pins: Any) -> tuple[IdentifiedCause, ObservationCache]:
    """Return the cause of a small failing case."""
    observations, case = ObservationCache(subject), draw(config, "normal", 1)
    pins = {"num_layers": 1, "bidirectional": False, "batch_first": False} | pins
    scope = scope_of(subject).only(**pins)
    identified = identified_of(observations, scope, case)
    assert identified is not None
    assert identified.whole
    result = check_agreement(subject, case)
    cause = cause_of(identified, seen_of(subject, observations.of(case), result), result, [])
    assert cause is not None
    return cause, observations


def amplified(config: RNNConfig, by: float) -> Case:
    """Return a case of weights so large that roundings grow from step to step."""
    case = draw(config, "normal", 3)
    return Case.from_arrays(
        config, {n: v * v.dtype.type(by) if n.startswith("w") else v for n, v in case.arrays.items()}
    )


def of_numbers(config: RNNConfig, **values: Any) -> Case:
    """Return a case of zeros but for some arrays, by name; a dot is an underscore."""
    zeros = {name: np.zeros_like(v) for name, v in draw(config, "normal", 1).arrays.items()}
    given = {name: np.asarray(values.get(name.replace(".", "_"), 0), v.dtype) for name, v in zeros.items()}
    return Case.from_arrays(config, {name: v + given[name] for name, v in zeros.items()})


def explains(cause: IdentifiedCause, observations: ObservationCache, case: Case) -> list[Mismatch]:
    """Return what is wrong in a case, which has a cause."""
    result = check_agreement(observations.subject, case)
    assert cause.explains(observations.subject, observations.of(case), result)
    return [*result.mismatches]


def test_what_is_in_the_padding_does_not_count_in_float64_either() -> None:
    cause, observations = known(as_subject(filled), RNNConfig(2, 3, T=3, N=2, lengths=(3, 1)), nonlinearity="tanh")
    case = amplified(RNNConfig(7, 17, T=15, N=3, lengths=(15, 5, 7), dtype="float16"), 4)

    assert explains(cause, observations, case)


@pytest.mark.parametrize("loss", ["output", "h_n"])
def test_gradients_of_16_bits_have_the_cause_that_those_of_float64_have(loss: str) -> None:
    cause, observations = known(
        as_subject(Twice), RNNConfig(2, 3, T=2, N=2, hx=True, loss=loss), hx=True, nonlinearity="tanh"
    )
    every = IdentifiedCause(cause.identified, tuple(mistakes_of(cause.identified.network, "tanh")))
    for config in (
        RNNConfig(25, 31, T=2, N=6, hx=True, dtype="bfloat16", loss=loss),
        RNNConfig(33, 256, T=1, N=2, hx=True, dtype="bfloat16", loss=loss, wrt="weights"),
    ):
        assert explains(every, observations, draw(config, "normal", 2)), config


def test_a_long_chain_over_sequences_is_judged_by_the_states_that_it_returned() -> None:
    cause, observations = known(as_subject(carries), RNNConfig(2, 3, T=2, N=3), nonlinearity="tanh")
    case = amplified(RNNConfig(1, 49, T=25, N=8, bias=False), 4)

    assert explains(cause, observations, case)


def forward_twice(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute two directions that both go forward in time."""
    there = {name: w for name, w in weights.items() if "reverse" not in name}
    other = {name.removesuffix("_reverse"): w for name, w in weights.items() if "reverse" in name}
    plain = of_steps(lambda _t, _x, _h, s, _w: np.tanh(s))
    output, h_n = zip(*(plain(x, h0[d:], w, config) for d, w in enumerate((there, other))), strict=True)
    return np.concatenate(output, 2), np.concatenate(h_n)


def test_what_is_less_than_a_rounding_of_many_numbers_does_not_outweigh_the_one_that_is_wrong() -> None:
    cause, observations = known(
        as_subject(forward_twice),
        RNNConfig(2, 3, bidirectional=True, T=2, N=2),
        nonlinearity="tanh",
        bidirectional=True,
        bias=True,
    )
    config = RNNConfig(1, 1, bidirectional=True, T=2, N=200)
    x = np.zeros((2, 200, 1))
    x[0, 40] = 3  # of it a state is tanh(-7.75), not tanh(-8.75); the others are -1 but for less than a rounding
    values = {"weight_ih": 0.75, "weight_hh": 1, "bias_ih": 6, "bias_hh": -16}
    case = of_numbers(config, x=x, **{f"{name}_l0_reverse": value for name, value in values.items()})

    assert explains(cause, observations, case)


class Residual(torch.nn.Module):
    """Layers of which each above the first adds what it reads to what it returns."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.layers = torch.nn.ModuleList(torch.nn.RNN(size, hidden_size) for size in sizes)

    def forward(self, x: Any, hx: Any) -> Any:
        last = []
        for number, layer in enumerate(self.layers):
            output, h_n = layer(x, hx[number : number + 1])
            last.append(h_n)
            x = x + output if number else output
        return x, torch.cat(last)


def test_a_gradient_that_is_judged_at_what_was_returned_is_explained_by_what_is_wrong_with_that() -> None:
    cause, observations = known(
        as_subject(Residual), RNNConfig(2, 3, num_layers=2, T=2, N=2, hx=True), num_layers=(1, 2)
    )
    config = RNNConfig(4, 1, num_layers=2, T=1, N=1, hx=True, dtype="bfloat16", loss="output")
    values = {"weight_ih_l0": [[8, 4, -4, 6]], "bias_ih_l0": [4], "weight_ih_l1": [[1]], "bias_hh_l1": [-1]}
    case = of_numbers(config, **values, x=[[[0.25, 1, 0.5, -1.25]]], output_grad=[[[1]]])

    assert [mismatch.array for mismatch in explains(cause, observations, case)] == [
        "bias_ih_l1.grad",
        "bias_hh_l1.grad",
    ]


class Chunked(Stack):
    """Layers that pass nothing back from a step to the fourth before it, counted from the first."""

    def carried(self, t: int, h: Any) -> Any:
        return h.detach() if t and t % 4 == 0 else h


def test_what_probes_alone_show_is_explained_by_the_gradients_inside_of_the_identified_layer() -> None:
    cause, observations = known(as_subject(Chunked), RNNConfig(2, 3, T=6, N=2, hx=True, loss="both"), num_layers=(1, 2))
    case = of_numbers(
        RNNConfig(1, 2, num_layers=2, T=5, N=1, dtype="float64", loss="output", wrt="inputs"),
        bias_hh_l0=[0, -2],
        weight_ih_l1=[[0, -0.5], [0, 2]],
        weight_hh_l1=[[1, -1], [0, 0]],
        bias_ih_l1=[-0.5, 0],
        bias_hh_l1=[-0.5, 1],
        output_grad=[[[0, 0]]] * 4 + [[[1, 0]]],
    )

    assert {(mismatch.array, mismatch.probed) for mismatch in explains(cause, observations, case)} == {
        ("preactivation.grad", True)
    }


def test_a_gradient_that_is_missing_after_many_steps_has_the_cause_of_one_after_few() -> None:
    cause, observations = known(as_subject(Chunked), RNNConfig(2, 3, T=6, N=2, hx=True, loss="both"), num_layers=(1, 2))
    case = of_numbers(RNNConfig(3, 1, T=49, N=1, hx=True, loss="h_n"))

    assert {mismatch.array for mismatch in explains(cause, observations, case)} == {"hx.grad"}
