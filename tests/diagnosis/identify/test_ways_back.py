"""Tests of ways back that are written by hand, and of which one line is wrong."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.layers import fourth_ports
from harness import RNNConfig, as_subject, draw
from harness.diagnosis.identify.activations import TANH, Activation
from harness.diagnosis.identify.cause import identified_of
from harness.diagnosis.identify.gates import SIGMOID, step_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.protocol import scope_of
from tests.long import few

PAIRED = "da[t] and h[-1:T-1].swapaxes(0, 1).reshape(T, N, -1)[t], not of da[t] and h[t-1]"


def layer(
    x: Any,
    h0: Any,
    weights: Any,
    config: Any,
    cotangents: Any,
    *,
    slope: Callable[[Any, Any], Any] = lambda h, _: 1 - h * h,
    pairs: Callable[[Any], Any] = lambda h: h,
    pairs_x: Callable[[Any], Any] = lambda x: x,
    start: Callable[[Any, Any], Any] = lambda dh, h0: dh,
    bias: float = 1.0,
    last: float = 1.0,
    turned: bool = False,
    read: Callable[[Any], Any] = lambda W: W,
) -> Any:
    """Compute a layer of tanh, with a slope, a gradient by hx, and factors of both biases and of the last output's.

    The gradient by x is made of W_ih as it is ``read``. Gradients by the preactivations are multiplied with ``pairs``
    of the states before, and ``pairs_x`` of x.
    """
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    U = U.T if turned else U
    b = bias * (weights["bias_ih_l0"] + weights["bias_hh_l0"]) if config.bias else 0
    states = [h0[0]]
    for x_t in x:
        states.append(np.tanh(x_t @ W.T + states[-1] @ U.T + b))
    output, h_n = np.stack(states[1:]), states[-1][None].copy()
    if config.loss is None:
        return output, h_n
    g = cotangents.get("output.grad", np.zeros_like(output))
    dh, dW, dU, db, dx = cotangents.get("h_n.grad", np.zeros_like(h_n))[0], 0 * W, 0 * U, 0 * W[:, 0], 0 * x
    for t in reversed(range(len(x))):
        dh = g[t] * (last if t == len(x) - 1 else 1) + dh
        da = dh * slope(output[t], dh)
        dW, dU, db = dW + da.T @ pairs_x(x)[t], dU + da.T @ pairs(np.stack(states[:-1]))[t], db + bias * da.sum(0)
        dx[t], dh = da @ read(W), da @ U
    found = {"x": dx, "hx": start(dh, h0[0])[None], "weight_ih_l0": dW, "weight_hh_l0": dU.T if turned else dU}
    return output, h_n, found | ({"bias_ih_l0": db, "bias_hh_l0": db.copy()} if config.bias else {})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"slope": lambda h, _: (h > 0) * 1.0}, "takes (h[t] > 0) for the slope of tanh, not 1 - h[t]**2"),
        (
            {"slope": lambda h, _: np.sqrt(1 - h * h)},
            "takes np.sqrt(1 - h[t]**2) for the slope of tanh, not 1 - h[t]**2",
        ),
        ({"slope": lambda _, dh: 1 - dh**2}, "takes 1 - dh[t]**2 for the slope of tanh, not 1 - h[t]**2"),
        ({"pairs": lambda h: h.swapaxes(0, 1).reshape(h.shape)}, f"makes the gradient by weight_hh of {PAIRED}"),
        (
            {"pairs_x": lambda x: x.reshape(x.shape[1], x.shape[0], -1).swapaxes(0, 1)},
            "makes the gradient by weight_ih of da[t] and x.reshape(N, T, -1).swapaxes(0, 1)[t], not of da[t] and x[t]",
        ),
        ({"start": lambda dh, _: 0 * dh}, "returns 0 as the gradient by hx"),
        (
            {"start": lambda dh, h0: dh * (1 - h0**2)},
            "makes the gradient by hx of da[0] @ W_hh - ((da[0] @ W_hh) * hx**2), not of da[0] @ W_hh",
        ),
        (
            {"read": lambda W: W.reshape(W.shape[::-1]).T},
            "makes the gradient by x of da[t] @ W_ih.reshape(W_ih.shape[::-1]).T, not of da[t] @ W_ih",
        ),
        ({"bias": 2.0}, "takes 2 * b_ih in its step, not b_ih, and b_hh likewise"),
    ],
)
def test_a_wrong_line_is_named(wrong: dict[str, Any], sentence: str) -> None:
    subject = as_subject(partial(layer, **wrong))
    scope = scope_of(subject).only(
        num_layers=1, bidirectional=False, nonlinearity="tanh", batch_first=False, lengths=None
    )

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(1, 1, T=3, N=2, loss="both"), "normal", 1))

    assert found is not None
    assert (found.unknown, [m.sentence for m in mistakes_of(found.network, "tanh")]) == ((), [sentence])


def test_the_derivative_of_a_wrong_step_is_no_mistake_beside_a_wrong_way_in() -> None:
    subject = as_subject(partial(layer, last=2.0, turned=True))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, nonlinearity="tanh", batch_first=False, dropout=0)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(3, 3, T=3, N=2, loss="both"), "normal", 1))

    assert found is not None
    assert [m.sentence for m in mistakes_of(found.network, "tanh")] == [
        "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T",
        "multiplies the gradient of the output by 2 at the last step only",
    ]


OF_SIGMOID = (("h", 1.0), ("h**2", -1.0))
OF_TANH = (("1", 1.0), ("h**2", -1.0))


@pytest.mark.parametrize(
    ("activation", "slope", "said"),
    [
        (SIGMOID, OF_SIGMOID, None),
        (SIGMOID, None, None),
        (SIGMOID, (("h", 1.0),), "takes h[t] for the slope of tanh, not 1 - h[t]**2"),
        (Activation("relu"), (("(h > 0)", 1.0),), None),
        (Activation("softsign"), OF_TANH[:1], "takes 1 for the slope of tanh, not 1 - h[t]**2"),
        (None, OF_SIGMOID, "takes h[t] - h[t]**2 for the slope of tanh, not 1 - h[t]**2"),
    ],
)
def test_the_slope_of_another_activation_that_is_applied_is_no_further_mistake(
    activation: Any, slope: Any, said: str | None
) -> None:
    [link] = LayerModel().links
    model = LayerModel(activation=activation, slope=slope, links=(link._replace(sloped=False),))  # no derivative

    *others, behind = [mistake.sentence for mistake in mistakes_of(Network(model), "tanh")]

    assert behind == "adds what the next step passes back behind the slope, which does not multiply it"
    assert others[activation is not None :] == ([] if said is None else [said])


@pytest.mark.parametrize(
    ("activation", "slope", "said"),
    [
        (SIGMOID, OF_TANH, None),
        (SIGMOID, OF_TANH[:1], "takes 1 as the slope of n, not 1 - n**2"),
        (Activation("softsign"), OF_SIGMOID, "takes n - n**2 as the slope of n, not 1 - n**2"),
        (TANH, OF_SIGMOID, "takes n - n**2 as the slope of n, not 1 - n**2"),
    ],
)
def test_the_slope_of_a_gate_is_held_against_that_of_its_cell(
    activation: Activation, slope: Any, said: str | None
) -> None:
    right = step_of("GRU")
    gates = tuple((name, gate if name != "n" else gate._replace(activation=activation)) for name, gate in right.gates)

    mistakes = mistakes_of(Network(replace(right, gates=gates, back=((("slope", "n"), slope),))), "tanh")

    own = [] if said is None else [(said, "ds_n = dn * (1 - n**2)")]
    assert [(one.sentence, one.right) for one in mistakes][activation is not TANH :] == own


def test_a_slope_of_the_layer_below_is_that_of_its_own_direction() -> None:
    subject = as_subject(fourth_ports.p18)
    config = RNNConfig(2, 2, num_layers=2, bidirectional=True, T=3, N=2, loss="output", dtype="float64")

    case = draw(config, "normal", 1)

    found = identified_of(ObservationCache(subject), scope_of(subject), case)

    assert found is not None
    assert [m.sentence for m in mistakes_of(found.network, "tanh")] == [
        "takes 1 - x[t]**2 for the slope of tanh, not 1 - h[t]**2, in the layers above the first"
    ]
    given, made = subject.run(case).arrays, run(found.network, case)
    assert all(np.allclose(given[name], values_of(made[name])) for name in config.gradients)


def of_neighbours(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, *, wrong: str) -> Any:
    """Read the state of the neighbouring sequence, and go back so; one returned gradient is no derivative."""
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    read, states = [], [h0[0]]
    for x_t in x:
        read.append(np.roll(states[-1], 1, 0))
        states.append(np.tanh(x_t @ W.T + read[-1] @ U.T + b))
    output, h_n, T = np.stack(states[1:]), states[-1][None].copy(), len(x)
    if config.loss is None:
        return output, h_n
    g = cotangents.get("output.grad", np.zeros_like(output))
    dh, da = cotangents.get("h_n.grad", np.zeros_like(h_n))[0], {}
    for t in reversed(range(T)):
        da[t] = (g[t] + dh) * (1 - output[t] ** 2)
        dh = np.roll(da[t] @ U, -1, 0)
    biases = {"mean": [v.mean(0) for v in da.values()], "last": [da[T - 1].sum(0)]}
    db = sum(biases.get(wrong, [v.sum(0) for v in da.values()]))
    steps = range(T - 1) if wrong == "left out" else range(T)
    dU = sum((da[t].T @ (states[t + 1] if wrong == "h[t]" else read[t]) for t in steps), 0 * U)
    dx = np.stack([da[t] @ W for t in range(T)])
    found = {"x": dx, "hx": dh[None], "weight_ih_l0": sum(da[t].T @ x[t] for t in range(T)), "weight_hh_l0": dU}
    return output, h_n, found | ({"bias_ih_l0": db, "bias_hh_l0": db.copy()} if config.bias else {})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("mean", "divides the gradient by the biases by N: it is a mean over the batch, not a sum"),
        ("last", "counts the gradient by the biases at the last step only"),
        ("left out", "counts the gradient by weight_hh at all steps but the last"),
        ("h[t]", "makes the gradient by weight_hh of da[t] and h[t], not of da[t] and h[t-1]"),
    ],
)
def test_a_gradient_that_is_no_derivative_of_a_wrong_way_forward_is_named(wrong: str, sentence: str) -> None:
    subject = as_subject(partial(of_neighbours, wrong=wrong))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, nonlinearity="tanh", dropout=0)
    config = RNNConfig(3, 2, T=3, N=2, hx=True, loss="both", dtype="float64")

    found = identified_of(ObservationCache(subject), scope, draw(config, "normal", 1))

    assert found is not None
    assert found.whole
    step = "takes np.roll(h[t-1], 1, 0) @ W_hh.T in its step, not h[t-1] @ W_hh.T"
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [step, sentence]


def deep(
    x: Any,
    h0: Any,
    weights: Any,
    config: Any,
    cotangents: Any,
    *,
    down: Callable[[Any, Any, Any], Any] = lambda da, W, _: da @ W,
    returned: Callable[[bool, Any], Any] = lambda _last, g: g,
    rows: int = 1,
    factor: float = 1.0,
) -> Any:
    """Compute a stack; what a layer passes down or returns, the rows of hx, and a factor of b_hh may be wrong."""
    read, states = [x], []
    for layer in range(config.num_layers):
        W_ih, W_hh, *biases = (weights[f"{name}_l{layer}"] for name in ROLES[: 4 if config.bias else 2])
        states.append([h0[layer]])
        for x_t in read[-1]:
            s = x_t @ W_ih.T + states[-1][-1] @ W_hh.T
            states[-1].append(np.tanh(s + biases[0] + factor * biases[1] if biases else s))
        read.append(np.stack(states[-1][1:]))
    h_n = np.stack([of[-1] for of in states])
    if config.loss is None:
        return read[-1], h_n
    g, found = cotangents.get("output.grad", np.zeros_like(read[-1])), {"hx": np.zeros_like(h0)}
    for layer in reversed(range(config.num_layers)):
        W_ih, W_hh = (weights[f"{name}_l{layer}"] for name in ROLES[:2])
        dh, da = cotangents.get("h_n.grad", np.zeros_like(h_n))[layer], {}
        for t in reversed(range(len(x))):
            da[t] = (g[t] + dh) * (1 - states[layer][t + 1] ** 2)
            dh = da[t] @ W_hh
        products = sum(da[t].T @ read[layer][t] for t in da), sum(da[t].T @ states[layer][t] for t in da)
        whole = dict(zip(ROLES, (*products, *[sum(v.sum(0) for v in da.values())] * 2), strict=True))
        last, whole["bias_hh"] = layer == config.num_layers - 1, factor * whole["bias_hh"]
        found |= {f"{role}_l{layer}": returned(last, v) for role, v in whole.items() if config.bias or "w" in role}
        found["hx"][layer] = dh
        g = np.stack([down(da[t], W_ih, W_hh) if layer else da[t] @ W_ih for t in range(len(x))])
    return read[-1], h_n, found | {"x": g, "hx": found["hx"][::rows].copy()}


ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize(
    ("wrong", "sentences"),
    few(
        [
            (
                {"down": lambda da, _, W_hh: da @ W_hh},
                ["makes the gradient by x of da[t] @ W_hh, not of da[t] @ W_ih, in the layers above the first"],
            ),
            (
                {"down": lambda da, W, _: 2 * da @ W},
                ["multiplies the gradient by x by 2, in the layers above the first"],
            ),
            (
                {"returned": lambda last, g: g if last else 0 * g},
                ["returns 0 as the gradient by weight_ih, weight_hh and the biases, in all layers but the last"],
            ),
            (
                {"down": lambda da, W, _: da @ W / 2, "rows": -1, "factor": -1.0},
                [
                    "takes -b_hh in its step, not b_hh",
                    "multiplies the gradient by x by 0.5, in the layers above the first",
                    "writes the gradient by hx to row (L - 1 - l) * D + d, not to row l * D + d",
                ],
            ),
        ],
        2,
    ),
)
def test_what_a_layer_of_a_stack_passes_down_or_returns_is_named(wrong: dict[str, Any], sentences: list[str]) -> None:
    subject = as_subject(partial(deep, **wrong))
    scope = scope_of(subject).only(bidirectional=False, nonlinearity="tanh", batch_first=False, dropout=0)
    config = RNNConfig(2, 2, num_layers=2, T=3, N=2, loss="both", dtype="float64")

    found = identified_of(ObservationCache(subject), scope, draw(config, "normal", 1))

    assert found is not None
    assert found.whole
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == sentences


def both_directions(
    x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, *, returned: Callable[[dict[str, Any]], dict[str, Any]]
) -> Any:
    """Compute two directions, each by itself; which gradients of parameters are returned may be wrong."""
    if not config.bidirectional:
        raise NotImplementedError
    outputs, last, found, H = [], [], {"x": np.zeros_like(x), "hx": []}, config.hidden_size
    for d, end in enumerate(("", "_reverse")):
        own = {f"{role}_l0": weights[f"{role}_l0{end}"] for role in ROLES[: 4 if config.bias else 2]}
        given = {name: g[d : d + 1] for name, g in cotangents.items() if name == "h_n.grad"}
        if "output.grad" in cotangents:
            given["output.grad"] = cotangents["output.grad"][:: 1 - 2 * d, :, d * H : (d + 1) * H]
        output, h_n, *grads = layer(x[:: 1 - 2 * d], h0[d : d + 1], own, config, given)
        outputs.append(output[:: 1 - 2 * d])
        last.append(h_n)
        for of in grads:
            found["x"] += of["x"][:: 1 - 2 * d]
            found["hx"].append(of["hx"])
            found |= {f"{name}{end}": of[name] for name in own}
    h_n = np.concatenate(last)
    if config.loss is None:
        return np.concatenate(outputs, -1), h_n
    return np.concatenate(outputs, -1), h_n, returned(found | {"hx": np.concatenate(found["hx"])})


def exchanged(found: dict[str, Any]) -> dict[str, Any]:
    of = {name: name.removesuffix("_reverse") if "reverse" in name else f"{name}_reverse" for name in found}
    return {name: found.get(of[name], array) for name, array in found.items()}


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            lambda found: {name: g / 2 if "reverse" in name else g for name, g in found.items()},
            "multiplies the gradient by weight_ih, weight_hh and the biases by 0.5, in the reverse direction",
        ),
        (
            exchanged,
            (
                "returns the gradients by weight_ih, weight_hh and the biases of the other direction in the place of "
                "each one's own"
            ),
        ),
    ],
)
def test_what_one_of_two_directions_returns_is_named(returned: Any, sentence: str) -> None:
    subject = as_subject(partial(both_directions, returned=returned))
    scope = scope_of(subject).only(num_layers=1, nonlinearity="tanh", batch_first=False, lengths=None, dropout=0)
    config = RNNConfig(2, 2, bidirectional=True, T=3, N=2, loss="both", dtype="float64")

    found = identified_of(ObservationCache(subject), scope, draw(config, "normal", 1))

    assert found is not None
    assert [one.sentence for one in mistakes_of(found.network, "tanh")] == [sentence]


def test_rows_paired_otherwise_are_found_where_input_size_and_hidden_size_differ() -> None:
    subject = as_subject(partial(layer, pairs=lambda h: h.swapaxes(0, 1).reshape(h.shape)))
    sizes: dict[str, Any] = {"input_size": 3, "hidden_size": 4}
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, nonlinearity="tanh", batch_first=False, **sizes)

    found = identified_of(ObservationCache(subject), scope, draw(RNNConfig(3, 4, T=3, N=2, loss="both"), "normal", 1))

    assert found is not None
    assert [m.sentence for m in mistakes_of(found.network, "tanh")] == [f"makes the gradient by weight_hh of {PAIRED}"]


def truncated(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Go back two steps from each output, and leave the first step out of the gradients by W_hh and b_hh."""
    W, U, b, c = (weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = [h0[0]]
    for x_t in x:
        h.append(np.tanh(x_t @ W.T + b + h[-1] @ U.T + c))
    output, h_n = np.stack(h[1:]), h[-1][None].copy()
    if config.loss is None:
        return output, h_n
    g = cotangents.get("output.grad", np.zeros_like(output)).copy()
    g[-1] += cotangents.get("h_n.grad", np.zeros_like(h_n))[0]
    dW, dU, db, dc, dx, dh0 = 0 * W, 0 * U, 0 * b, 0 * c, 0 * x, 0 * h0
    for t in range(len(x)):
        da = g[t] * (1 - h[t + 1] ** 2)
        for k in range(t, max(t - 3, -1), -1):
            dW, db, dx[k] = dW + da.T @ x[k], db + da.sum(0), dx[k] + da @ W
            if k:
                dU, dc, da = dU + da.T @ h[k], dc + da.sum(0), da @ U * (1 - h[k] ** 2)
            else:
                dh0[0] += da @ U
    return output, h_n, {"x": dx, "hx": dh0, "weight_ih_l0": dW, "weight_hh_l0": dU, "bias_ih_l0": db, "bias_hh_l0": dc}


def test_what_short_cases_do_not_show_of_all_gradients_is_found_in_long_ones() -> None:
    subject = as_subject(truncated)
    config = RNNConfig(2, 3, T=3, N=2, hx=True, loss="both")
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, bias=True, nonlinearity="tanh")
    found = identified_of(ObservationCache(subject), scope, draw(config, "normal", 1))

    assert found is not None
    assert found.whole
    assert [str(one) for one in mistakes_of(found.network, "tanh")] == [
        "goes back 2 steps at most from the output of each step",
        "counts the gradient by weight_hh and bias_hh at all steps but the first",
    ]
