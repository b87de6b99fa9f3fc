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
from harness.diagnosis.identify.gates import SIGMOID, GatedModel, step_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import LayerModel, Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from tests.diagnosis.identify.by_hand import ROLES, said_of, sums_of, with_gradients
from tests.long import few

ONE = RNNConfig(1, 1, T=3, N=2, loss="both")
WIDE = RNNConfig(3, 4, T=3, N=2, loss="both")
DEEP = RNNConfig(2, 2, num_layers=2, T=3, N=2, loss="both", dtype="float64")
TWO = RNNConfig(2, 2, bidirectional=True, T=3, N=2, loss="both", dtype="float64")
PAIRED = (
    "makes the gradient by weight_hh of da[t] and h[-1:T-1].swapaxes(0, 1).reshape(T, N, -1)[t], "
    "not of da[t] and h[t-1]"
)


def paired(x: Any, before: Any, after: Any, da: Any) -> Any:
    """Pair da with the states of other steps and sequences."""
    return sums_of(x, before.swapaxes(0, 1).reshape(before.shape), after, da)


def of_neighbours(sums: Any) -> dict[str, Any]:
    """Return what reads the state of the neighbouring sequence and goes back so, and sums a gradient otherwise."""
    return {"read": lambda h, way: np.roll(h, way, -2), "sums": sums}


def exchanged(found: dict[str, Any]) -> dict[str, Any]:
    of = {name: name.removesuffix("_reverse") if "reverse" in name else f"{name}_reverse" for name in found}
    return {name: found.get(of[name], array) for name, array in found.items()}


def of_the_last_layer(found: dict[str, Any]) -> dict[str, Any]:
    last = f"_l{len(found['hx']) - 1}"
    return {name: g * ("_l" not in name or name.endswith(last)) for name, g in found.items()}


def of_b_hh(names: dict[str, Any]) -> dict[str, Any]:
    """Put the forward direction's b_hh, or its gradient, in the place of the reverse one's."""
    return names | {name: names["bias_hh_l0"].copy() for name in names if name == "bias_hh_l0_reverse"}


def shares_b_hh(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    return with_gradients(x, h0, of_b_hh(weights), config, cotangents)


@pytest.mark.parametrize(
    ("config", "wrong", "sentences"),
    [
        (ONE, {"slope": lambda h, _: (h > 0) * 1.0}, ["takes (h[t] > 0) for the slope of tanh, not 1 - h[t]**2"]),
        (
            ONE,
            {"slope": lambda h, _: np.sqrt(1 - h * h)},
            ["takes np.sqrt(1 - h[t]**2) for the slope of tanh, not 1 - h[t]**2"],
        ),
        (ONE, {"slope": lambda _, dh: 1 - dh**2}, ["takes 1 - dh[t]**2 for the slope of tanh, not 1 - h[t]**2"]),
        (ONE, {"sums": paired}, [PAIRED]),
        (WIDE, {"sums": paired}, [PAIRED]),
        (
            ONE,
            {"sums": lambda x, *of: sums_of(x.reshape(x.shape[1], x.shape[0], -1).swapaxes(0, 1), *of)},
            [
                (
                    "makes the gradient by weight_ih of da[t] and x.reshape(N, T, -1).swapaxes(0, 1)[t], "
                    "not of da[t] and x[t]"
                )
            ],
        ),
        (ONE, {"start": lambda dh, _: 0 * dh}, ["returns 0 as the gradient by hx"]),
        (
            ONE,
            {"start": lambda dh, h0: dh * (1 - h0**2)},
            ["makes the gradient by hx of da[0] @ W_hh - ((da[0] @ W_hh) * hx**2), not of da[0] @ W_hh"],
        ),
        (
            ONE,
            {"down": lambda da, W, *_: da @ W.reshape(W.shape[::-1]).T},
            ["makes the gradient by x of da[t] @ W_ih.reshape(W_ih.shape[::-1]).T, not of da[t] @ W_ih"],
        ),
        (ONE, {"factors": (2.0, 2.0)}, ["takes 2 * b_ih in its step, not b_ih, and b_hh likewise"]),
        (
            WIDE.replace(hidden_size=3),
            {"last": 2.0, "turned": True},  # the derivative of the step is no mistake
            [
                "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T",
                "multiplies the gradient of the output by 2 at the last step only",
            ],
        ),
        *(
            (
                RNNConfig(3, 2, T=3, N=2, hx=True, loss="both", dtype="float64"),
                of_neighbours(sums),
                ["takes np.roll(h[t-1], 1, 0) @ W_hh.T in its step, not h[t-1] @ W_hh.T", sentence],
            )
            for sums, sentence in (
                (
                    lambda x, h, after, da: (*sums_of(x, h, after, da)[:2], da.mean(1).sum(0)),
                    "divides the gradient by the biases by N: it is a mean over the batch, not a sum",
                ),
                (
                    lambda x, h, after, da: (*sums_of(x, h, after, da)[:2], da[-1].sum(0)),
                    "counts the gradient by the biases at the last step only",
                ),
                (
                    lambda x, h, after, da: sums_of(x, [*h[:-1], 0 * h[0]], after, da),
                    "counts the gradient by weight_hh at all steps but the last",
                ),
                (
                    lambda x, _, after, da: sums_of(x, after, after, da),
                    "makes the gradient by weight_hh of da[t] and h[t], not of da[t] and h[t-1]",
                ),
            )
        ),
        *few(
            [
                (
                    DEEP,
                    {"down": lambda da, W_ih, W_hh, layer: da @ (W_hh if layer else W_ih)},
                    ["makes the gradient by x of da[t] @ W_hh, not of da[t] @ W_ih, in the layers above the first"],
                ),
                (
                    DEEP,
                    {"down": lambda da, W_ih, _, layer: (1 + (layer > 0)) * da @ W_ih},
                    ["multiplies the gradient by x by 2, in the layers above the first"],
                ),
                (
                    DEEP,
                    {"returned": of_the_last_layer},
                    ["returns 0 as the gradient by weight_ih, weight_hh and the biases, in all layers but the last"],
                ),
                (
                    DEEP,
                    {
                        "down": lambda da, W_ih, _, layer: da @ W_ih / (2 if layer else 1),
                        "returned": lambda found: found | {"hx": found["hx"][::-1].copy()},
                        "factors": (1.0, -1.0),
                    },
                    [
                        "takes -b_hh in its step, not b_hh",
                        "multiplies the gradient by x by 0.5, in the layers above the first",
                        "writes the gradient by hx to row (L - 1 - l) * D + D - 1 - d, not to row l * D + d",
                    ],
                ),
            ],
            2,
        ),
        (
            TWO,
            {"returned": lambda found: {name: g / (2 if "reverse" in name else 1) for name, g in found.items()}},
            ["multiplies the gradient by weight_ih, weight_hh and the biases by 0.5, in the reverse direction"],
        ),
        (
            TWO,
            {"returned": exchanged},
            [
                (
                    "returns the gradients by weight_ih, weight_hh and the biases of the other direction in the place "
                    "of each one's own"
                )
            ],
        ),
        (
            TWO.replace(dtype="float32"),
            {"returned": of_b_hh},
            ["returns the gradients by bias_hh of the forward direction in the place of each one's own"],
        ),
        (  # its way back is nn.RNN's
            TWO.replace(dtype="float32"),
            shares_b_hh,
            ["computes with bias_hh of the forward direction, not with each one's own"],
        ),
    ],
)
def test_a_wrong_line_is_named(config: RNNConfig, wrong: Any, sentences: list[str]) -> None:
    pins: dict[str, Any] = {"bidirectional": config.bidirectional, "nonlinearity": "tanh", "batch_first": False}
    pins |= {"lengths": None, "dropout": 0} | ({"num_layers": 1} if config.num_layers == 1 else {})
    pins |= {"input_size": 3, "hidden_size": 4} if config == WIDE else {}

    found, said = said_of(wrong if callable(wrong) else partial(with_gradients, **wrong), pins, config)

    assert (said, found.unknown) == (sentences, ())
    assert found.whole


OF_SIGMOID = (("h", 1.0), ("h**2", -1.0))
OF_TANH = (("1", 1.0), ("h**2", -1.0))
BEHIND = "adds what the next step passes back behind the slope, which does not multiply it"


def of_rnn(activation: Any, slope: Any) -> Network:
    """Return a layer whose way back is no derivative of its step."""
    [link] = LayerModel().links
    return Network(LayerModel(activation=activation, slope=slope, links=(link._replace(sloped=False),)))


def of_gru(activation: Activation, slope: Any) -> Network:
    """Return a GRU with another function of n, and another slope."""
    right = step_of("GRU")
    gates = tuple((name, gate if name != "n" else gate._replace(activation=activation)) for name, gate in right.gates)
    return Network(replace(right, gates=gates, back=((("slope", "n"), slope),)))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (of_rnn(SIGMOID, OF_SIGMOID), []),
        (of_rnn(SIGMOID, None), []),
        (of_rnn(SIGMOID, (("h", 1.0),)), ["takes h[t] for the slope of tanh, not 1 - h[t]**2"]),
        (of_rnn(Activation("relu"), (("(h > 0)", 1.0),)), []),
        (of_rnn(Activation("softsign"), OF_TANH[:1]), ["takes 1 for the slope of tanh, not 1 - h[t]**2"]),
        (of_rnn(None, OF_SIGMOID), ["takes h[t] - h[t]**2 for the slope of tanh, not 1 - h[t]**2"]),
        # that of a gate is held against that of its cell
        (of_gru(SIGMOID, OF_TANH), []),
        (of_gru(SIGMOID, OF_TANH[:1]), ["takes 1 as the slope of n, not 1 - n**2"]),
        (of_gru(Activation("softsign"), OF_SIGMOID), ["takes n - n**2 as the slope of n, not 1 - n**2"]),
        (of_gru(TANH, OF_SIGMOID), ["takes n - n**2 as the slope of n, not 1 - n**2"]),
    ],
)
def test_the_slope_of_another_activation_that_is_applied_is_no_further_mistake(
    network: Network, said: list[str]
) -> None:
    mistakes = [one for one in mistakes_of(network, "tanh") if not one.sentence.startswith("applies")]

    of_gate = isinstance(network.first, GatedModel)
    assert [one.sentence for one in mistakes] == [*said, *([] if of_gate else [BEHIND])]
    assert not of_gate or [one.right for one in mistakes] == ["ds_n = dn * (1 - n**2)"] * len(said)


def test_a_slope_of_the_layer_below_is_that_of_its_own_direction() -> None:
    config = RNNConfig(2, 2, num_layers=2, bidirectional=True, T=3, N=2, loss="output", dtype="float64")

    found, said = said_of(fourth_ports.p18, {}, config)

    assert said == ["takes 1 - x[t]**2 for the slope of tanh, not 1 - h[t]**2, in the layers above the first"]
    case = draw(config, "normal", 1)
    given, made = as_subject(fourth_ports.p18).run(case).arrays, run(found.network, case)
    assert all(np.allclose(given[name], values_of(made[name])) for name in config.gradients)


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
    pins = {"num_layers": 1, "bidirectional": False, "batch_first": False, "bias": True, "nonlinearity": "tanh"}

    found, said = said_of(truncated, pins, RNNConfig(2, 3, T=3, N=2, hx=True, loss="both"))

    assert found.whole
    assert said == [
        "goes back 2 steps at most from the output of each step",
        "counts the gradient by weight_hh and bias_hh at all steps but the first",
    ]


def lstm_by_hand(
    taken: Callable[..., Any] = lambda i, f, g, o: (i, f, g, o),
    read: Callable[[Any], Any] = np.tanh,
    b_hh: float = 1.0,
    slope: Callable[[Any], Any] = lambda g: 1 - g * g,
    of_c: float = 1.0,
) -> Any:
    """Return an LSTM whose way back is torch's but for the slope of g, and for what comes back to c of later steps."""

    def lstm(x: Any, h0: Any, c0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        W, U, b, d = (weights[f"{role}_l0"] for role in ROLES)
        h, c, steps = h0[0], c0[0], []
        for x_t in x:
            s = np.split(x_t @ W.T + b + h @ U.T + b_hh * d, 4, 1)
            gates = i, f, g, o = [np.tanh(v) if k == 2 else 1 / (1 + np.exp(-v)) for k, v in enumerate(s)]
            i, f, g, o = taken(*gates)
            before, c = (h, c), f * c + i * g
            h = o * read(c)
            steps.append((*before, *gates, c, h))
        dh, dc = (cotangents.get(f"{name}_n.grad", [0 * h])[0] for name in "hc")
        ds: list[Any] = []
        for k, (_, before, i, f, g, o, after, _) in reversed([*enumerate(steps)]):
            dh, tanh = dh + cotangents.get("output.grad", 0 * x[:, :, :1])[k], read(after)
            dc = of_c * dc + dh * o * (1 - tanh * tanh)
            parts = dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * slope(g), dh * tanh * o * (1 - o)
            ds.insert(0, np.concatenate(parts, 1))
            dh, dc = ds[0] @ U, dc * f
        found = dict(zip(ROLES, sums_of(x, np.stack([of[0] for of in steps]), None, np.stack(ds)), strict=False))
        gradients = {f"{role}_l0": found.get(role, found["bias_ih"]) for role in ROLES}
        gradients |= {"x": np.stack(ds) @ W, "hx": dh[None], "cx": dc[None]}
        return np.stack([of[-1] for of in steps]), h[None], c[None], gradients

    return lstm


@pytest.mark.parametrize(
    ("step", "sentences"),
    [
        ({"taken": lambda i, f, g, o: (i, 1 - f, g, o)}, ["takes 1 - f in the place of f"]),
        ({"read": lambda c: c}, ["makes h of o * c, not of o * tanh(c)"]),
        ({"b_hh": 0.0}, ["ignores bias_hh: it is never added"]),
        (
            {"b_hh": 0.0, "slope": lambda g: 1 - g},
            ["ignores bias_hh: it is never added", "takes 1 - g as the slope of g, not 1 - g**2"],
        ),
        (
            {"slope": lambda g: g - g * g, "of_c": 0.0},
            [
                "takes g - g**2 as the slope of g, not 1 - g**2",
                "ignores the gradient of c_n",
                "passes no gradient of c from a step to the one before it",
            ],
        ),
    ],
)
def test_a_right_way_back_beside_a_wrong_step_of_gates_is_no_further_mistake(step: Any, sentences: list[str]) -> None:
    pins: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "batch_first": False, "dropout": 0}
    pins |= {"lengths": None, "bias": True, "proj_size": 0}

    found, said = said_of(as_subject(lstm_by_hand(**step), name="lstm"), pins, replace(WIDE, hx=True, cell="LSTM"))

    assert (said, found.unknown) == (sentences, ())
