"""A cell that a user has written: its values, its way back, and how far off a correct one may be."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from harness import Cell, RNNConfig, Verdict, as_subject, check_agreement, conventions, draw
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.balls import BallArithmetic
from harness.oracle.bounded_array import BoundedArray
from harness.oracle.gated import GATED_CELLS
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.own_cell import OwnCell
from harness.oracle.setting import Setting
from harness.space.cells import CELL_DEFINITIONS

CONFIGS = [
    RNNConfig(3, 5, T=4, N=3, hx=True, loss="both"),
    RNNConfig(4, 3, 2, bidirectional=True, T=5, N=2, hx=True, loss="output"),
    RNNConfig(2, 4, 2, bias=False, T=4, N=3, lengths=(3, 4, 1), bidirectional=True, loss="h_n"),
]
OWN = Cell(
    "Own",
    """
    r = sigmoid(W_ir @ x + b_ir + W_hr @ h + b_hr)
    n = tanh(W_in @ x + b_in + r * (W_hn @ (r * h) + b_hn))
    c = r * c + (1 - r) * n
    h = r * tanh(c) + 0.5 * n * h - 2 * c
    """,
)


def torch_s(config: RNNConfig, case: Any) -> dict[str, np.ndarray]:
    """Return what torch's layer gives, or the equations of ``OWN`` in torch, gradients included."""
    return dict(as_subject({"GRU": "torch:gru", "LSTM": "torch:lstm"}[config.cell]).run(case).arrays)


@pytest.mark.parametrize("config", [one.replace(cell=cell) for cell in GATED_CELLS for one in CONFIGS], ids=str)
def test_the_equations_of_torch_s_cells_give_what_torch_gives(config: RNNConfig) -> None:
    own: Any = CELL_DEFINITIONS[config.cell]
    case = draw(config, "normal", 1)
    with np.errstate(all="ignore"):  # padding may overflow
        values, again = GATED_CELLS[config.cell].run(case), OwnCell(own).run(case)
        expected = expect_whole_run(Setting(OwnCell(own), case, Arithmetic("float32")))

    for name, array in again.items():
        np.testing.assert_allclose(array, values[name], rtol=1e-12, atol=1e-13)
    for name, array in torch_s(config, case).items():
        with np.errstate(invalid="ignore"):
            off = np.abs(array - expected[name].values)
        assert not (off > expected[name].tolerance).any(), name


@conventions(own=True)
class OwnLayer(torch.nn.Module):
    """``OWN`` in torch, with the parameters of nn.GRU."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        sizes: dict[str, tuple[int, ...]] = {"weight_ih_l0": (2 * hidden_size, input_size)}
        sizes |= {"weight_hh_l0": (2 * hidden_size, hidden_size)}
        sizes |= {"bias_ih_l0": (2 * hidden_size,), "bias_hh_l0": (2 * hidden_size,)}
        for name, shape in sizes.items():
            setattr(self, name, torch.nn.Parameter(torch.zeros(shape)))
        self.hidden_size = hidden_size

    def forward(self, x: Any, states: Any = None) -> Any:
        zeros = x.new_zeros(1, x.shape[1], self.hidden_size)
        h, c = (one[0] for one in (states or (zeros, zeros)))
        named = dict(self.named_parameters())
        (W_ir, W_in), (W_hr, W_hn) = named["weight_ih_l0"].chunk(2), named["weight_hh_l0"].chunk(2)
        (b_ir, b_in), (b_hr, b_hn) = named["bias_ih_l0"].chunk(2), named["bias_hh_l0"].chunk(2)
        output = []
        for x_t in x:
            r = torch.sigmoid(x_t @ W_ir.T + b_ir + h @ W_hr.T + b_hr)
            n = torch.tanh(x_t @ W_in.T + b_in + r * ((r * h) @ W_hn.T + b_hn))
            c = self.mixed(r, c, n)
            h = r * torch.tanh(c) + 0.5 * n * h - 2 * c
            output.append(h)
        return torch.stack(output), (h[None], c[None])

    def mixed(self, r: Any, c: Any, n: Any) -> Any:
        return n + r * (c - n)


@conventions(own=True)
class Detached(OwnLayer):
    """The same, without a gradient through n in c."""

    def mixed(self, r: Any, c: Any, n: Any) -> Any:
        return r * c + (1 - r) * n.detach()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hx", [False, True])
def test_a_layer_with_the_cell_agrees_and_one_with_a_cut_gradient_does_not(dtype: str, hx: bool) -> None:
    config = RNNConfig(3, 4, T=4, N=2, hx=hx, loss="both", dtype=dtype, cell="Own")
    case = draw(config, "normal", 2)

    assert check_agreement(as_subject(OwnLayer, "own"), case).verdict is Verdict.AGREES
    assert check_agreement(as_subject(Detached, "cut"), case).verdict is Verdict.DISAGREES


MIX = ((("h",), 1.0), (("f", "h"), -1.0), (("f", "n"), 1.0))


@pytest.mark.parametrize("least", [0.0, -8.0])  # the exponent of the least f
def test_a_sum_of_products_may_be_factored_in_any_way(least: float) -> None:
    random, k, one = default_rng(0), BallArithmetic(Arithmetic("float32")), np.float32(1)
    h, n, g = (random.uniform(-1, 1, 10_000).astype(np.float32) for _ in range(3))
    f = (random.uniform(0, 1, 10_000) * 10 ** random.uniform(least, 0, 10_000)).astype(np.float32)
    quantities = {name: BoundedArray(v.astype(np.float64)) for name, v in (("f", f), ("h", h), ("n", n))}
    value = k.polynomial(quantities, MIX, mixed="f")
    by_n, by_h = (
        k.polynomial(quantities, of, BoundedArray(g.astype(np.float64)), "f")
        for of in (((("f",), 1.0),), (((), 1.0), (("f",), -1.0)))
    )
    ways = {
        "value": ((one - f) * h + f * n, h + f * (n - h), n + (one - f) * (h - n), (h - f * h) + f * n),
        "by n": (f * g, g - (one - f) * g),
        "by h": ((one - f) * g, g - f * g),
    }

    for (name, several), ball in zip(ways.items(), (value, by_n, by_h), strict=True):
        for way in several:
            assert ball.error is not None
            assert (np.abs(way - ball.values) <= ball.error).all(), name
        largest = max(np.abs(way - ball.values).max() for way in several)
        assert ball.error is not None
        assert ball.error.max() < 24 * largest, name  # 13 to 19 times; 1 - f may be a sigmoid of its own, of 8 u


def test_the_bound_of_a_sum_of_products_holds_what_its_quantities_may_be() -> None:
    random, k = default_rng(1), BallArithmetic(Arithmetic("float64"))
    terms = ((("a", "b"), 2.0), (("a",), -0.5), (("a", "b", "c"), 3.0), ((), 1.0))
    centre = {name: random.uniform(-1, 1, 500) for name in "abc"}
    off = {name: random.uniform(0, 1, 500) for name in "abc"}
    ball = k.polynomial({name: BoundedArray(v, off[name]) for name, v in centre.items()}, terms)
    assert ball.error is not None

    reached = np.zeros(500)
    for signs in np.ndindex(2, 2, 2):
        a, b, c = (centre[name] + (2 * sign - 1) * off[name] for name, sign in zip("abc", signs, strict=True))
        reached = np.maximum(reached, np.abs(2 * a * b - 0.5 * a + 3 * a * b * c + 1 - ball.values))
    assert (reached <= ball.error).all()
    assert np.median(ball.error / reached) < 1.05  # 1.009


def test_a_product_that_may_overflow_on_its_way_has_no_bound() -> None:
    k = BallArithmetic(Arithmetic("float16"))
    quantities = {
        "z": BoundedArray(np.array([1e-3])),
        "h": BoundedArray(np.array([300.0])),
        "c": BoundedArray(np.array([300.0])),
    }
    ball = k.polynomial(quantities, ((("c", "h", "z"), 1.0),))

    assert ball.error is not None
    assert np.isinf(ball.error).all()  # h * c is not finite


def test_what_is_known_of_a_gate_s_error_enters_the_sum_once() -> None:
    k = BallArithmetic(Arithmetic("float64"))
    quantities = {
        name: BoundedArray(np.array([v]), np.array([1e-3])) for name, v in (("f", 0.5), ("h", 0.25), ("n", 0.25))
    }
    ball = k.polynomial(quantities, ((("h",), 1.0), (("f", "h"), -1.0), (("f", "n"), 1.0)))
    assert ball.error is not None

    # f multiplies n - h, which is 0 up to the products of two errors, and h and n move it by half of theirs.
    assert 1e-3 < ball.error[0] < 1.01e-3
