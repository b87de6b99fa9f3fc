"""GRUs and LSTMs by hand, of which a line may be wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.diagnosis.identify.by_hand import ROLES


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def gru_of(*, read: Any = lambda t: t, final: int = -1, functions: Any = None, **parts: Any) -> Any:
    """Return a GRU whose step t reads x of step ``read(t)``, and whose h_n is one of its outputs.

    The functions of r and z are of t and their sums. A part is what the sum of a gate has of the state: of t, the
    blocks of W_hh and b_hh, h, and the gates before.
    """
    functions = {"r": lambda _, s: sigmoid(s), "z": lambda _, s: sigmoid(s)} | (functions or {})
    parts = {
        "r": lambda _, U, b, h: h @ U[0].T + b[0],
        "z": lambda _, U, b, h, _r: h @ U[1].T + b[1],
        "n": lambda _, U, b, h, r, _z: r * (h @ U[2].T + b[2]),
    } | parts

    def gru(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        h, output = h0[0], []
        U, b = (np.split(weights[f"{role}_hh_l0"], 3) for role in ("weight", "bias"))
        for t in range(len(x)):
            i = np.split(x[read(t)] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, 1)
            r = functions["r"](t, i[0] + parts["r"](t, U, b, h))
            z = functions["z"](t, i[1] + parts["z"](t, U, b, h, r))
            h = (1 - z) * np.tanh(i[2] + parts["n"](t, U, b, h, r, z)) + z * h
            output.append(h)
        return np.stack(output), output[final][None].copy()

    return gru


def lstm_of(
    *,
    order: Callable[[int, int], str] = lambda _layer, _d: "ifgo",
    start: Callable[..., Any] = lambda _layer, _d, _last, h, c: (h, c),
    forget: Callable[[int, int], float] = lambda _layer, _d: 0.0,
    late: bool = False,
    chunk: int = 0,
    x_of_f: Callable[[Any], Any] = lambda x_t: x_t,
    made: Callable[[Any, Any], Any] = lambda o, c: o * np.tanh(c),
    kept: Callable[[Any, float], Any] | None = None,
    drops_c_n: bool = False,
) -> Any:
    """Return an LSTM whose order of gates, initial states and addend of f depend on the layer and direction.

    With ``late``, a layer above reads the states before each step of the one below it. A ``chunk`` of steps starts
    anew. Of what dropout keeps, given p, the layer above reads ``kept``, as does c_n with ``drops_c_n``.
    """

    def run(x: Any, h0: Any, c0: Any, weights: Any, config: Any, masks: Any) -> Any:
        if config.batch_first or (kept and config.bidirectional):
            raise NotImplementedError("time first; one direction, if it drops")
        last, zero = dict[Any, Any](), np.zeros(4 * config.hidden_size, x.dtype)
        for layer in range(config.num_layers):
            outputs = []
            for d in range(config.num_directions):
                row, end = layer * config.num_directions + d, f"_l{layer}{'_reverse' * d}"
                blocks = [np.split(weights.get(f"{role}{end}", zero), 4) for role in ROLES]
                first = h, c = start(layer, d, last, h0[row], c0[row])
                states = {}
                for t in range(len(x))[:: -1 if d else 1]:
                    h, c = first if chunk and t % chunk == 0 else (h, c)
                    sums = {
                        gate: (x_of_f(x[t]) if gate == "f" else x[t]) @ W.T + h @ U.T + b + e
                        for gate, W, U, b, e in zip(order(layer, d), *blocks, strict=True)
                    }
                    states[t] = h
                    c = sigmoid(sums["f"] + forget(layer, d)) * c + sigmoid(sums["i"]) * np.tanh(sums["g"])
                    h = made(sigmoid(sums["o"]), c)
                    states[t] = states[t] if late and layer < config.num_layers - 1 else h
                outputs.append(np.stack([states[t] for t in range(len(x))]))
                if kept and drops_c_n and masks is not None and layer < len(masks):
                    c = kept(c * masks[layer][-1], config.dropout).astype(h.dtype)
                last[layer, d] = h, c
            x = np.concatenate(outputs, -1)
            if kept and masks is not None and layer < len(masks):
                x = kept(x * masks[layer], config.dropout).astype(x.dtype)
        return x, np.stack([h for h, _ in last.values()]), np.stack([c for _, c in last.values()])

    def lstm(x: Any, h0: Any, c0: Any, weights: Any, config: Any) -> Any:
        return run(x, h0, c0, weights, config, None)

    return run if kept else lstm
