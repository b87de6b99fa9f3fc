"""The seam for another cell: a GRU as one step with its bound goes through the oracle as it is, against torch.nn.GRU.

The equations are those of the ``torch.nn.GRU`` documentation page. For |d| <= e, sigmoid(s + d) is at most
a b E / (1 + min(a, b) E) away from a = sigmoid(s), with b = sigmoid(-s) and E = exp(e) - 1.
"""

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, RNNConfig, draw
from harness.oracle.arithmetic import U64, Arithmetic
from harness.oracle.cell import Bounded, BoundedSteps, StepWeights
from harness.oracle.expectation import Expected, Setting, expect_local
from harness.oracle.known import Floats, Known
from harness.oracle.tolerance import gamma
from harness.oracle.unroll import Unroll

SIGMOID = 3.0  # the relative error of torch's own, in units of u: its worst is 2.5 on a hundred million float32


class GRUConfig(RNNConfig):
    gates = 3


class OfExactStates(Bounded):
    def __init__(self, values: Floats, allowance: Floats) -> None:
        self.values, self._allowance = values, allowance

    def allowance(self, h_error: Floats | None = None, *, t: int | None = None) -> Floats:
        assert h_error is None
        return self._allowance if t is None else self._allowance[t]


class GRU(Unroll):
    """The cell h_t = (1 - z) n + z h with n = tanh(W_in x + b_in + r (W_hn h + b_hn)); r and z are sigmoids of sums."""

    gates = ("r", "z", "n")

    def sums(self, x: Floats, h: Floats, w: StepWeights) -> tuple[list[Floats], list[Floats]]:
        return np.split(x @ w.ih.T + w.b_ih, 3, -1), np.split(h @ w.hh.T + w.b_hh, 3, -1)

    def inner(self, x: Floats, h: Floats, w: StepWeights) -> tuple[Floats, Floats, Floats, Floats]:
        of_x, of_h = self.sums(x, h, w)
        with np.errstate(over="ignore"):
            r, z = (1 / (1 + np.exp(-(of_x[i] + of_h[i]))) for i in (0, 1))
        return r, z, of_x[2] + r * of_h[2], of_h[2]

    def step(self, x: Floats, h: Floats, w: StepWeights, kind: str) -> Floats:
        _, z, s, _ = self.inner(x, h, w)
        return np.asarray((1 - z) * np.tanh(s) + z * h)

    def bounded_steps(self, w: StepWeights, kind: str, arithmetic: Arithmetic, *, first: bool) -> BoundedSteps:
        u, eta, m = arithmetic.format.u, arithmetic.underflow, w.ih.shape[1] + w.hh.shape[1] + 2
        size = StepWeights(*map(np.abs, w))

        def steps(x: Known, h: Floats) -> Bounded:
            assert x.error is None
            (r, z, s, q), y = self.inner(x.values, h, w), self.step(x.values, h, w, kind)
            of_x, of_h = self.sums(np.abs(x.values), np.abs(h), size)

            def rounded(terms: Floats, more: int) -> Floats:
                return np.asarray((gamma(m + more, u) + gamma(m + more, U64)) * terms + 8 * m * eta)

            def gate(a: Floats, e: Floats) -> Floats:
                E = np.expm1(np.minimum(e, 600.0))
                off = (1 + 16 * U64) * a * (1 - a) * E / (1 + np.minimum(a, 1 - a) * E)
                return np.asarray(off + (SIGMOID * u + 4 * U64) * (a + off) + eta)

            e_r, e_z = (gate(a, rounded(of_x[i] + of_h[i], 1)) for i, a in ((0, r), (1, z)))
            n, e_s = np.tanh(s), rounded(of_x[2] + (r + e_r) * of_h[2], 3) + np.abs(q) * e_r
            off = np.tanh(e_s) * (1 - np.abs(n) * np.tanh(np.abs(s) - e_s) + 11 * U64)
            e_n = off + (arithmetic.tanh_error + 4 * U64) * (np.abs(n) + off) + eta
            apart, size_n, size_h = np.abs(h - n), np.abs(n), np.abs(h)
            e = apart * e_z + (1 - z) * e_n + e_z * e_n
            ways = (2 * (1 - z) * size_n + z * size_h, 2 * z * apart, 3 * (1 - z) * apart)  # to write the mixture
            mixed = np.maximum.reduce(ways) + np.abs(y) + 2 * e
            return OfExactStates(y, e + (u + U64) * (1 + 4 * u) * mixed + 4 * eta)

        return steps


CONFIGS = [
    RNNConfig(3, 5, 1, T=4, N=3, hx=True),
    RNNConfig(4, 3, 2, bidirectional=True, batch_first=True, T=5, N=2, hx=True),
    RNNConfig(2, 4, 2, bias=False, T=3, N=3, lengths=(3, 1, 2)),
    RNNConfig(16, 33, 3, T=2, N=4, hx=True),
]


def given(config: RNNConfig, regime: str, seed: int, dtype: str) -> Case:
    return draw(GRUConfig(**config.to_dict() | {"dtype": dtype}), regime, seed)


def run(case: Case) -> dict[str, np.ndarray]:
    config = case.config
    names = ("num_layers", "bias", "batch_first", "bidirectional")
    layer = torch.nn.GRU(config.input_size, config.hidden_size, **{name: getattr(config, name) for name in names})
    layer.to(getattr(torch, config.dtype)).load_state_dict({k: torch.tensor(v) for k, v in case.weights.items()})
    x: Any = torch.tensor(case.x)
    if config.lengths is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        x = pack(x, torch.tensor(config.lengths), batch_first=config.batch_first, enforce_sorted=False)
    with torch.no_grad():
        output, h_n = layer(x, None if case.hx is None else torch.tensor(case.hx))
    if config.lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=config.batch_first)
    return {"output": output.numpy(), "h_n": h_n.numpy()}


def judged(case: Case, reference: Unroll) -> list[tuple[np.ndarray, Expected]]:
    """Return what torch gives of every layer, with what is expected of it at its own states."""
    runs = [run(case.prefix(layers + 1)) for layers in range(case.config.num_layers)]
    states = [Known(reference.time_major(one["output"], case.config)) for one in runs]
    expected = expect_local(Setting(reference, case, Arithmetic(case.config.dtype)), states)
    return [(one[name], of[name]) for one, of in zip(runs, expected, strict=True) for name in of]


def beyond(actual: np.ndarray, expected: Expected) -> bool:
    return bool((np.abs(actual - expected.values) > expected.allowance).any())


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regime", ["normal", "default", "sparse", "saturated"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_torch_s_gru_stays_within_the_allowance_of_each_step(config: RNNConfig, regime: str, dtype: str) -> None:
    for seed in range(5):
        case = given(config, regime, seed, dtype)

        assert not [one for one in judged(case, GRU()) if beyond(*one)]
        assert all(np.isfinite(expected.allowance).all() for _, expected in judged(case, GRU()))


def test_its_config_is_pickled_as_what_it_is() -> None:
    config = given(CONFIGS[0], "default", 0, "float32").config

    again = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own bytes

    assert type(again) is GRUConfig
    assert again.weights == config.weights


@pytest.mark.kernels
def test_whole_runs_are_torch_s_but_for_rounding() -> None:
    for config in CONFIGS:
        case = given(config, "default", 1, "float64")

        ours, torch_s = GRU().run(case), run(case)

        assert all(np.abs(ours[name] - torch_s[name]).max() < 1e-14 for name in ("output", "h_n"))


class BiasOutsideReset(GRU):
    def inner(self, x: Floats, h: Floats, w: StepWeights) -> tuple[Floats, Floats, Floats, Floats]:
        r, z, s, q = super().inner(x, h, w)
        b_hn = np.split(w.b_hh, 3)[2]
        return r, z, s - r * b_hn + b_hn, q


class OffByALittle(GRU):
    def inner(self, x: Floats, h: Floats, w: StepWeights) -> tuple[Floats, Floats, Floats, Floats]:
        r, z, s, q = super().inner(x, h, w)
        return r, z, s + 3e-6, q


@pytest.mark.parametrize("wrong", [BiasOutsideReset(), OffByALittle()])
def test_a_mistake_exceeds_it(wrong: GRU) -> None:
    case = given(CONFIGS[1], "default", 0, "float32")

    assert any(beyond(*one) for one in judged(case, wrong))
