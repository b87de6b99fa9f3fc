"""A cell that a user has written: its values, its way back, and how far off a correct one may be."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from harness import Cell, RNNConfig, Verdict, as_subject, check_agreement, conventions, draw
from harness.oracle.arithmetic import Arithmetic
from harness.oracle.balls import Balls
from harness.oracle.gated import GATED
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import Known
from harness.oracle.own_cell import OwnCell
from harness.oracle.setting import Setting
from harness.space.cells import KNOWN

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


@pytest.mark.parametrize("config", [one.replace(cell=cell) for cell in GATED for one in CONFIGS], ids=str)
def test_the_equations_of_torch_s_cells_give_what_torch_gives(config: RNNConfig) -> None:
    own: Any = KNOWN[config.cell]
    case = draw(config, "normal", 1)
    with np.errstate(all="ignore"):  # padding may overflow
        values, again = GATED[config.cell].run(case), OwnCell(own).run(case)
        expected = expect_whole_run(Setting(OwnCell(own), case, Arithmetic("float32")))

    for name, array in again.items():
        np.testing.assert_allclose(array, values[name], rtol=1e-12, atol=1e-13)
    for name, array in torch_s(config, case).items():
        with np.errstate(invalid="ignore"):
            off = np.abs(array - expected[name].values)
        assert not (off > expected[name].allowance).any(), name


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


def test_a_sum_of_products_may_be_factored_in_any_way() -> None:
    random, k = default_rng(0), Balls(Arithmetic("float32"))
    f, h, n = (random.uniform(-1, 1, 10_000).astype(np.float32) for _ in range(3))
    f = abs(f)
    one = np.float32(1)
    quantities = {name: Known(v.astype(np.float64)) for name, v in (("f", f), ("h", h), ("n", n))}
    ball = k.polynomial(quantities, ((("h",), 1.0), (("f", "h"), -1.0), (("f", "n"), 1.0)))
    assert ball.error is not None

    for way in ((one - f) * h + f * n, h + f * (n - h), n + (one - f) * (h - n), (h - f * h) + f * n):
        off = np.abs(way - ball.values)
        assert (off <= ball.error).all()
        assert off.max() > ball.error.max() / 60  # 1 - f may be a sigmoid of its own, too


def test_what_is_known_of_a_gate_s_error_enters_the_sum_once() -> None:
    k = Balls(Arithmetic("float64"))
    quantities = {name: Known(np.array([v]), np.array([1e-3])) for name, v in (("f", 0.5), ("h", 0.25), ("n", 0.25))}
    ball = k.polynomial(quantities, ((("h",), 1.0), (("f", "h"), -1.0), (("f", "n"), 1.0)))
    assert ball.error is not None

    # f multiplies n - h, which is 0 up to the products of two errors, and h and n move it by half of theirs.
    assert 1e-3 < ball.error[0] < 1.01e-3
