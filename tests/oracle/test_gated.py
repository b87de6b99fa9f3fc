"""GRU and LSTM: what the reference says that they compute, forward and back, and how far off a correct one may be."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from harness import Case, RNNConfig, Verdict, draw
from harness.checks.agreement import check_agreement
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.balls import BallArithmetic
from harness.oracle.bounded_array import BoundedArray
from harness.oracle.gated import GATED_CELLS
from harness.subjects.function import FunctionSubject
from harness.subjects.torch_module import TorchSubject

LAYERS = {"GRU": torch.nn.GRU, "LSTM": torch.nn.LSTM}
CONFIGS = [
    RNNConfig(3, 5, T=4, N=3, hx=True, loss="both"),
    RNNConfig(4, 3, 2, bidirectional=True, T=5, N=2, hx=True, loss="output"),
    RNNConfig(2, 4, 2, bias=False, T=4, N=3, lengths=(3, 4, 1), bidirectional=True, loss="h_n"),
    RNNConfig(2, 2, 3, batch_first=True, T=2, N=2, hx=True, loss="both", output_size=3),
]

PROJECTED = [
    CONFIGS[0].replace(proj_size=2, cell="LSTM"),
    CONFIGS[1].replace(proj_size=1, cell="LSTM"),
    CONFIGS[2].replace(proj_size=3, cell="LSTM"),
    CONFIGS[3].replace(proj_size=1, cell="LSTM"),
]
EVERY = [config.replace(cell=cell) for cell in GATED_CELLS for config in CONFIGS] + PROJECTED


def by_autograd(case: Case) -> dict[str, np.ndarray]:
    """Return everything that torch's layer gives in float64, gradients included."""
    config = case.config
    options = {name: getattr(config, name) for name in ("num_layers", "bias", "batch_first", "bidirectional")}
    options |= {"proj_size": config.proj_size} if config.proj_size else {}
    layer = LAYERS[config.cell](config.input_size, config.hidden_size, **options, dtype=torch.float64)
    given = {name: torch.tensor(array, requires_grad=True) for name, array in case.arrays.items()}
    own = {name: tensor for name, tensor in given.items() if name in case.weights and "readout" not in name}
    x: Any = given["x"]
    if config.lengths is not None:
        x = pack_padded_sequence(x, torch.tensor(config.lengths), enforce_sorted=False)
    states = [given[name] for name in config.hidden]
    output, final = torch.func.functional_call(
        layer, own, (x, (states[0] if len(states) == 1 else tuple(states)) if states else None)
    )
    if config.lengths is not None:
        output, _ = pad_packed_sequence(output, total_length=config.T)
    results = dict(zip(config.form.final, final if isinstance(final, tuple) else (final,), strict=True))
    results["output"] = output
    if config.output_size is not None:
        results["readout"] = torch.nn.functional.linear(output, given["readout.weight"], given["readout.bias"])
    loss = sum((given[name] * results[name.removesuffix(".grad")]).sum() for name in case.cotangents)
    by = [given[name.removesuffix(".grad")] for name in config.gradients]
    gradients = torch.autograd.grad(loss, by, allow_unused=True)
    found = {n: torch.zeros(()) if g is None else g for n, g in zip(config.gradients, gradients, strict=True)}
    return {name: tensor.detach().numpy() for name, tensor in (results | found).items()}


@pytest.mark.parametrize("config", EVERY, ids=str)
def test_the_reference_is_torch_s_layer_forward_and_back(config: RNNConfig) -> None:
    for seed in range(3):
        case = draw(config.replace(dtype="float64"), "normal", seed).plain()

        ours, torch_s = GATED_CELLS[config.cell].run(case), by_autograd(case)

        assert ours.keys() == torch_s.keys()
        for name, array in torch_s.items():
            assert np.abs(ours[name] - array).max() <= 1e-11 * max(1.0, np.abs(array).max()), name


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("cell", GATED_CELLS)
def test_torch_agrees_within_the_derived_bounds(cell: str, dtype: str) -> None:
    subject = TorchSubject(LAYERS[cell])
    for config in [one for one in EVERY if one.cell == cell]:
        for distribution in ("default", "normal", "spectral", "saturated", "special"):
            case = draw(config.replace(dtype=dtype), distribution, 1)

            assert check_agreement(subject, case).verdict is Verdict.AGREES, (config, distribution)


def sigmoid(s: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-s)))


def lstm(
    x: Any, h0: Any, c0: Any, weights: Any, *, rows: str = "ifgo", form: Any = sigmoid, read: Any = np.tanh
) -> Any:
    """Return one plain layer, with its gates' rows in an order and with its parts as they are given."""
    h, c, outputs = h0[0], c0[0], []
    for x_t in x:
        s = (
            x_t @ weights["weight_ih_l0"].T
            + weights["bias_ih_l0"]
            + h @ weights["weight_hh_l0"].T
            + weights["bias_hh_l0"]
        )
        gate = dict(zip(rows, np.split(s, 4, -1), strict=True))
        c = form(gate["f"]) * c + form(gate["i"]) * np.tanh(gate["g"])
        h = form(gate["o"]) * read(c)
        outputs.append(h)
    return np.stack(outputs), (h[None], c[None])


def gru(x: Any, h0: Any, weights: Any, *, form: Any = sigmoid, outside: bool = False, before: bool = False) -> Any:
    """Return one plain layer, with b_hn outside of r, or r before the product with W_hn."""
    h, outputs = h0[0], []
    (rows_r, rows_z, rows_n), biases = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
    for x_t in x:
        of_r, of_z, of_n = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, -1)
        r, z = form(of_r + h @ rows_r.T + biases[0]), form(of_z + h @ rows_z.T + biases[1])
        inner = (r * h) @ rows_n.T + biases[2] if before else r * (h @ rows_n.T) + biases[2] * (1 if outside else r)
        n = np.tanh(of_n + inner)
        h = h + (1 - z) * (n - h)
        outputs.append(h)
    return np.stack(outputs), h[None]


def off(s: np.ndarray) -> np.ndarray:
    return sigmoid(s + s.dtype.type(1e-5))


def by_tanh(s: np.ndarray) -> np.ndarray:
    half = s.dtype.type(0.5)
    return np.asarray(half + half * np.tanh(half * s))


@pytest.mark.parametrize(
    ("cell", "options", "verdict"),
    [
        ("LSTM", {}, Verdict.AGREES),
        ("LSTM", {"form": by_tanh}, Verdict.AGREES),
        ("LSTM", {"rows": "ifog"}, Verdict.DISAGREES),
        ("LSTM", {"form": off}, Verdict.DISAGREES),
        ("LSTM", {"read": lambda c: c}, Verdict.DISAGREES),
        ("GRU", {}, Verdict.AGREES),
        ("GRU", {"form": by_tanh}, Verdict.AGREES),
        ("GRU", {"outside": True}, Verdict.DISAGREES),
        ("GRU", {"before": True}, Verdict.DISAGREES),
        ("GRU", {"form": off}, Verdict.DISAGREES),
    ],
)
def test_other_ways_to_write_a_cell_agree_and_small_mistakes_do_not(
    cell: str, options: dict[str, Any], verdict: Verdict
) -> None:
    if cell == "LSTM":
        subject = FunctionSubject(lambda x, h0, c0, weights: lstm(x, h0, c0, weights, **options), "mine")
    else:
        subject = FunctionSubject(lambda x, h0, weights: gru(x, h0, weights, **options), "mine")
    config = RNNConfig(4, 6, T=8, N=2, hx=True, cell=cell)

    results = [
        check_agreement(subject, draw(config, distribution, 0)) for distribution in ("default", "normal", "spectral")
    ]

    assert (verdict in {one.verdict for one in results}) if verdict is Verdict.DISAGREES else True
    if verdict is Verdict.AGREES:
        assert {one.verdict for one in results} == {verdict}


def test_c_is_told_from_h_where_h_shows_it_and_never_wrongly() -> None:
    random, k = default_rng(0), BallArithmetic(Arithmetic("float32"))
    o, c = random.uniform(0.1, 1, 500), random.normal(0, 2, 500)
    h = (o.astype(np.float32) * np.tanh(c.astype(np.float32))).astype(np.float64)
    vague = BoundedArray(c + random.uniform(-0.1, 0.1, 500), np.full(500, 0.11))

    told = k.within(vague, *k.before_tanh(h, BoundedArray(o, np.full(500, 1e-6))))

    assert told.error is not None
    assert (np.abs(told.values - c) <= told.error + 1e-6 * np.abs(c)).all()
    assert (told.error < 1e-3).mean() > 0.8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operations_stay_within_their_balls(dtype: str) -> None:
    """Exact values are those of NumPy's longest floats."""
    random, k = default_rng(1), BallArithmetic(Arithmetic(dtype))
    a, b, z = (random.normal(size=2000) for _ in range(3))
    z = sigmoid(z)
    moved = [(one + random.uniform(-1e-4, 1e-4, 2000)).astype(dtype) for one in (a, b, z)]
    known = [BoundedArray(one, np.full(2000, 1.1e-4)) for one in (a, b, z)]
    x, y, w = moved
    one = x.dtype.type(1)
    ways = [
        (k.product(*known), x * y * w),
        (k.product(*known), x * (y * w)),
        (k.total(*known), (x + w) + y),
        (k.mix(known[2], known[0], known[1]), (one - w) * x + w * y),
        (k.mix(known[2], known[0], known[1]), (y - x) * w + x),
        (k.sigmoid(known[0]), sigmoid(x)),
        (k.tanh(known[0]), np.tanh(x)),
        (k.sigmoid_slope(known[2]), w - w * w),
        (k.product(known[0], k.less(known[2])), x - x * w),
        (k.product(known[2], k.apart(known[0], known[1])), w * x - w * y),
    ]

    for ball, actual in ways:
        assert ball.error is not None
        off = np.abs(actual.astype(np.float64) - ball.values) / ball.error
        assert off.max() <= 1
        assert off.max() > 0.05


def test_a_sigmoid_may_be_anything_where_its_argument_may_have_either_sign() -> None:
    k = BallArithmetic(Arithmetic("float32"))

    for s, e in ((600.0, 700.0), (1e-3, 700.0), (30.0, 29.0), (0.0, 50.0)):
        ball = k.sigmoid(BoundedArray(np.array([s, -s]), np.array([e, e])))

        assert ball.error is not None
        assert (ball.values - ball.error <= sigmoid(np.array([s - e, -s - e]))).all()
        assert (ball.values + ball.error >= sigmoid(np.array([s + e, -s + e]))).all()


def test_an_lstm_of_another_carried_state_is_seen_in_c_n() -> None:
    config = RNNConfig(2, 3, T=3, N=2, hx=True, cell="LSTM")
    subject = TorchSubject(torch.nn.LSTM)
    case = draw(config, "normal", 0)
    outcome = subject.run(case)
    wrong = {**outcome.arrays, "c_n": outcome.arrays["c_n"] + np.float32(1e-5)}

    class Wrong:
        name, capabilities = "wrong", replace(subject.capabilities, run_as=None)

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, _case: Case) -> Any:
            return replace(outcome, arrays=wrong)

    result = check_agreement(Wrong(), case)

    assert [mismatch.array for mismatch in result.mismatches] == ["c_n"]


def test_the_gradient_by_the_state_may_be_taken_by_1_less_1_less_z() -> None:
    random, k, one = default_rng(0), BallArithmetic(Arithmetic("float32")), np.float32(1)
    g = random.uniform(-1, 1, 10_000).astype(np.float32)
    z = (10 ** random.uniform(-8, 0, 10_000)).astype(np.float32)
    ball = k.product(BoundedArray(g.astype(np.float64)), k.share(BoundedArray(z.astype(np.float64))))

    assert ball.error is not None
    for way in (g * z, g - (one - z) * g):  # of z h + (1 - z) n, and of h + (1 - z) (n - h)
        assert (np.abs(way - ball.values) <= ball.error).all()
