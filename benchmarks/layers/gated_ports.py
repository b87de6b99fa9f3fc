"""Ports of nn.GRU and nn.LSTM to NumPy, each with the mistakes that its name says: ``rnn-harness check FILE:NAME``.

The mistakes are those that people made in ports, exporters and runtimes. ``MISTAKES`` says of each port the cell, what
is chosen otherwise, and a part of the sentence for each mistake. ``right_gru`` and ``right_lstm`` have none.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray


def sigmoid(s: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-s)))


def hard(k: float) -> Callable[[Array], Array]:
    return lambda s: np.clip(k * s + 0.5, 0, 1)


def relu(s: Array) -> Array:
    return np.maximum(s, 0)


def same(s: Array) -> Array:
    return s


RIGHT: Final = {
    "LSTM": {
        "rows": "ifgo",
        "gates": {"i": sigmoid, "f": sigmoid, "g": np.tanh, "o": sigmoid},
        "forget": lambda f, i: f,
        "read": np.tanh,
        "clip": np.inf,
        "peep": "",
        "reads": "h",
        "memory": 1.0,
    },
    "GRU": {
        "rows": "rzn",
        "gates": {"r": sigmoid, "z": sigmoid, "n": np.tanh},
        "candidate": lambda p, r, h: p.x("n") + p.b_ih("n") + r * (p.h("n", h) + p.b_hh("n")),
        "mix": lambda z, n, h, r: (1 - z) * n + z * h,
        "clip": np.inf,
    },
}
COMMON: Final = {
    "bias_rows": "",
    "bias_of": {},
    "add": {},
    "biases": (1, 1),
    "start": lambda states: states,
    "matrix": lambda V: V.T,
    "carry": lambda states: states,
    "final": lambda states: states,
    "start_row": lambda layer, d, D: layer * D + d,
}


class Sums:
    """The parts of each gate's sum."""

    def __init__(self, k: Mapping[str, Any], parameters: list[Array], x: Array) -> None:
        letters = list(k["rows"])
        blocks = [np.split(v, len(letters)) for v in parameters]
        self.W, self.V = (dict(zip(letters, rows, strict=True)) for rows in blocks[:2])
        self.b, self.c = (dict(zip(k["bias_rows"] or letters, rows, strict=True)) for rows in blocks[2:])
        self.k, self.value = k, x

    def x(self, g: str) -> Array:
        return self.value @ self.W[g].T

    def h(self, g: str, h: Array) -> Array:
        return h @ self.k["matrix"](self.V[g])

    def b_ih(self, g: str) -> Array:
        return self.k["biases"][0] * self.b[self.k["bias_of"].get(g, g)]

    def b_hh(self, g: str) -> Array:
        return self.k["biases"][1] * self.c[self.k["bias_of"].get(g, g)]

    def __call__(self, g: str, h: Array) -> Array:
        return self.x(g) + self.b_ih(g) + self.h(g, h) + self.b_hh(g) + self.value.dtype.type(self.k["add"].get(g, 0))


def lstm_step(k: Mapping[str, Any], p: Sums, states: list[Array]) -> list[Array]:
    h, c = states
    read = c if k["reads"] == "c" else h
    gates = k["gates"]
    i, f = (gates[name](p(name, read) + c * (name in k["peep"])) for name in "if")
    c = k["forget"](f, i) * k["memory"] * c + i * gates["g"](p("g", read))
    c = np.clip(c, -k["clip"], k["clip"]).astype(h.dtype)
    o = gates["o"](p("o", read) + c * ("o" in k["peep"]))
    return [o * k["read"](c), c]


def gru_step(k: Mapping[str, Any], p: Sums, states: list[Array]) -> list[Array]:
    (h,) = states
    r, z = (k["gates"][name](p(name, h)) for name in "rz")
    h = k["mix"](z, k["gates"]["n"](k["candidate"](p, r, h)), h, r)
    return [np.clip(h, -k["clip"], k["clip"]).astype(h.dtype)]


STEPS: Final = {"LSTM": lstm_step, "GRU": gru_step}


def forward(cell: str, k: Mapping[str, Any], x: Array, given: list[Array], weights: Any, config: Any) -> list[Array]:
    if config.batch_first:
        raise NotImplementedError("time first only")
    D, finals = config.num_directions, []
    for layer in range(config.num_layers):
        sides = []
        for d in range(D):
            end = f"_l{layer}" + "_reverse" * d
            parameters = [weights[f"weight_{one}{end}"] for one in ("ih", "hh")]
            zero = np.zeros(len(parameters[0]), x.dtype)
            parameters += [weights.get(f"bias_{one}{end}", zero) for one in ("ih", "hh")]
            states, steps = k["start"]([v[k["start_row"](layer, d, D)] for v in given]), []
            for x_t in x[:: -1 if d else 1]:
                new = STEPS[cell](k, Sums(k, parameters, x_t), states)
                steps.append(new[0])
                states = k["carry"](new)
            finals.append(k["final"](new))
            sides.append(np.stack(steps)[:: -1 if d else 1])
        x = np.concatenate(sides, -1)
    return [x, *map(np.stack, zip(*finals, strict=True))]


def port(cell: str, choices: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a port with some choices, forward alone."""
    k = RIGHT[cell] | COMMON | choices
    k["gates"] = RIGHT[cell]["gates"] | choices.get("gates", {})

    def gru(x: Array, h0: Array, weights: Any, config: Any) -> Any:
        return tuple(forward("GRU", k, x, [h0], weights, config))

    def lstm(x: Array, h0: Array, c0: Array, weights: Any, config: Any) -> Any:
        return tuple(forward("LSTM", k, x, [h0, c0], weights, config))

    function = gru if cell == "GRU" else lstm
    function.conventions = {cell.lower(): True}  # type: ignore[attr-defined]
    return function


BACK: Final = {
    "dq": lambda dn, r: dn * r,
    "db_hn": lambda dn, r: dn * r,
    "dr": lambda dn, q, b_hn: dn * q,
    "dW_hn": lambda dq, dn: dq,
    "dW_hh": lambda h, new: h,
    "counts": lambda t, T: 1,
    "at": lambda t, T: t,
    "dz": lambda dh, h, n: dh * (h - n),
    "dh": lambda dh, z: dh * z,
    "dc": lambda dh, o, t, c: dh * o * (1 - t * t),
    "df": lambda dc, c, new: dc * c,
    "do": lambda dh, t: dh * t,
    "slope": lambda y: y * (1 - y),
    "carry": lambda dc, f: dc * f,
    "dc0": lambda dc: dc,
    "dc_next": lambda dc, t: dc,
    "last": False,
    "cyclic": False,
    "first": lambda t: 1,
    "dc_n": lambda dc: dc,
    "dx": lambda rows: rows,
    "steps": lambda T: range(T),
    "grads": lambda gradients: gradients,
}


def with_back(cell: str, choices: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a port of one layer with its way back by hand, in which some choices are others."""
    k = BACK | choices

    def both(x: Array, states: list[Array], weights: Any, config: Any, cotangents: Any) -> Any:
        if config.batch_first or config.num_layers > 1 or config.bidirectional or not config.bias:
            raise NotImplementedError("one layer with biases, one direction, time first")
        W, V, b, e = (weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        (h, *c), T = [v[0] for v in states], len(x)
        tape, output = [], []
        for x_t in x:
            if cell == "LSTM":
                i, f, g, o = (
                    fn(s)
                    for fn, s in zip(
                        (sigmoid, sigmoid, np.tanh, sigmoid), np.split(x_t @ W.T + b + h @ V.T + e, 4, 1), strict=True
                    )
                )
                new = f * c[0] + i * g
                tape.append((x_t, h, c[0], i, f, g, o, new, np.tanh(new)))
                h, c = o * np.tanh(new), [new]
            else:
                (xr, xz, xn), (hr, hz, q) = np.split(x_t @ W.T + b, 3, 1), np.split(h @ V.T + e, 3, 1)
                r, z = sigmoid(xr + hr), sigmoid(xz + hz)
                n = np.tanh(xn + r * q)
                tape.append((x_t, h, r, z, n, q))
                h = (1 - z) * n + z * h
            output.append(h)
        returned = (np.stack(output), h[None], *(v[None] for v in c))
        if config.loss is None:
            return returned
        dh = cotangents.get("h_n.grad", np.zeros_like(h)[None])[0].copy()
        dc = k["dc_n"](cotangents.get("c_n.grad", np.zeros_like(h)[None])[0].copy())
        dW, dV, db, de, dx = np.zeros_like(W), np.zeros_like(V), np.zeros_like(b), np.zeros_like(e), np.zeros_like(x)
        for t in reversed(k["steps"](T)):
            dh = dh + cotangents["output.grad"][k["at"](t, T)] if "output.grad" in cotangents else dh
            if cell == "LSTM":
                x_t, h, c_t, i, f, g, o, new, tanh_c = tape[t]
                c_t = tape[-1][7] if k["last"] else tape[t - 1][7] if k["cyclic"] else k["first"](t) * c_t
                dc = k["dc_next"](dc, tanh_c) + k["dc"](dh, o, tanh_c, new)
                da = [dc * g * k["slope"](i), k["df"](dc, c_t, new) * k["slope"](f), dc * i * (1 - g * g)]
                rows = other = below = np.concatenate([*da, k["do"](dh, tanh_c) * k["slope"](o)], 1)
                read = tape[t - 1][6] * tape[t - 1][8] if k["cyclic"] else k["dW_hh"](h, o * tanh_c)
                dh, dc = rows @ V, k["carry"](dc, f)
            else:
                x_t, h, r, z, n, q = tape[t]
                dn = dh * (1 - z) * (1 - n * n)
                da = [k["dr"](dn, q, e[-n.shape[1] :]) * k["slope"](r), k["dz"](dh, h, n) * k["slope"](z)]
                dq = k["dq"](dn, r)
                lasts = dn, k["dW_hn"](dq, dn), k["db_hn"](dn, r), dq
                rows, other, below, passed = (np.concatenate([*da, last], 1) for last in lasts)
                read = k["dW_hh"](h, (1 - z) * n + z * h)
                dh = k["dh"](dh, z) + passed @ V
            dW, dV, db, de = (
                dW + rows.T @ x_t,
                dV + k["counts"](t, T) * other.T @ read,
                db + rows.sum(0),
                de + below.sum(0),
            )
            dx[t] = k["dx"](rows) @ W
        gradients = {
            "x": dx,
            "hx": dh[None],
            "weight_ih_l0": dW,
            "weight_hh_l0": dV,
            "bias_ih_l0": db,
            "bias_hh_l0": de,
        }
        gradients |= {"cx": k["dc0"](dc)[None]} if c else {}
        return (*returned, k["grads"](gradients))

    def gru(x: Array, h0: Array, weights: Any, config: Any, cotangents: Any) -> Any:
        return both(x, [h0], weights, config, cotangents)

    def lstm(x: Array, h0: Array, c0: Array, weights: Any, config: Any, cotangents: Any) -> Any:
        return both(x, [h0, c0], weights, config, cotangents)

    function = gru if cell == "GRU" else lstm
    function.conventions = {cell.lower(): True}  # type: ignore[attr-defined]
    return function


class Port(NamedTuple):
    """A port: its cell, what it chooses otherwise, and a part of the sentence of each mistake."""

    cell: str
    choices: Mapping[str, Any]
    words: tuple[str, ...]


def one_gate(letters: str, function: Any) -> dict[str, Any]:
    return {"gates": dict.fromkeys(letters, function)}


MISTAKES: Final[dict[str, Port]] = {
    "right_gru": Port("GRU", {}, ()),
    "right_lstm": Port("LSTM", {}, ()),
    "onnx_rows": Port("LSTM", {"rows": "iofg"}, ("order i, o, f, g, ONNX's",)),
    "caffe_rows": Port("LSTM", {"rows": "ifog"}, ("order i, f, o, g, that of Core ML",)),
    "tf1_rows": Port("LSTM", {"rows": "igfo"}, ("order i, g, f, o, TensorFlow 1's",)),
    "forget_first": Port("LSTM", {"rows": "figo"}, ("order f, i, g, o",)),
    "lstm_hard_02": Port("LSTM", one_gate("ifo", hard(0.2)), ("hard sigmoid, np.clip(0.2 * s + 0.5, 0, 1)",)),
    "lstm_hard_6": Port("LSTM", one_gate("ifo", hard(1 / 6)), ("hard sigmoid, np.clip(1/6 * s + 0.5, 0, 1)",)),
    "rows_figo_untransposed": Port(
        "LSTM",
        {"rows": "figo", "matrix": lambda V: V},
        ("rows in the order f, i, g, o", "takes h @ weight_hh, not h @ weight_hh.T"),
    ),
    "lstm_tanh_gates": Port("LSTM", one_gate("ifo", np.tanh), ("tanh to the sum of i, f and o",)),
    "g_relu": Port("LSTM", one_gate("g", relu), ("relu to the sum of g",)),
    "g_sigmoid": Port("LSTM", one_gate("g", sigmoid), ("sigmoid to the sum of g",)),
    "g_identity": Port("LSTM", one_gate("g", same), ("no function to the sum of g",)),
    "no_tanh_of_c": Port("LSTM", {"read": same}, ("makes h of o * c,",)),
    "c_for_h_n": Port("LSTM", {"final": lambda s: [s[1], s[1]]}, ("returns c as h_n",)),
    "h_for_c_n": Port("LSTM", {"final": lambda s: [s[0], s[0]]}, ("returns h as c_n",)),
    "tanh_c_for_c_n": Port("LSTM", {"final": lambda s: [s[0], np.tanh(s[1])]}, ("returns tanh(c) as c_n",)),
    "h_n_c_n_exchanged": Port("LSTM", {"final": lambda s: s[::-1]}, ("exchanges h_n and c_n",)),
    "h_carried_as_c": Port("LSTM", {"carry": lambda s: [s[0], s[0]]}, ("carries h to the next step as c",)),
    "c_carried_as_h": Port("LSTM", {"carry": lambda s: [s[1], s[1]]}, ("carries c to the next step as h",)),
    "lstm_bias_rows": Port("LSTM", {"bias_rows": "iofg"}, ("the rows of bias_ih and bias_hh in the order i, o, f, g",)),
    "lstm_bias_of_i": Port("LSTM", {"bias_of": dict.fromkeys("fgo", "i")}, ("b_ii + b_hi in the sums of f, g and o",)),
    "lstm_one_bias": Port("LSTM", {"biases": (2, 0)}, ("adds bias_ih twice",)),
    "lstm_no_b_hh": Port("LSTM", {"biases": (1, 0)}, ("ignores bias_hh",)),
    "forget_bias": Port("LSTM", {"add": {"f": 1}}, ("adds 1 to the sum of f",)),
    "c_not_carried": Port("LSTM", {"memory": 0.0}, ("does not carry c",)),
    "f_is_one": Port("LSTM", {"forget": lambda f, i: 1 + 0 * f}, ("makes c of i * g + c",)),
    "f_is_1_minus_i": Port("LSTM", {"forget": lambda f, i: 1 - i}, ("1 - i in the place of f",)),
    "peepholes": Port("LSTM", {"peep": "ifo"}, ("adds c to the sums of i and f", "adds the new c to the sum of o")),
    "peepholes_i_f": Port("LSTM", {"peep": "if"}, ("adds c to the sums of i and f",)),
    "gates_read_c": Port("LSTM", {"reads": "c"}, ("takes c @ weight_hh.T",)),
    "c0_ignored": Port("LSTM", {"start": lambda s: [s[0], 0 * s[1]]}, ("ignores cx",)),
    "lstm_h0_ignored": Port("LSTM", {"start": lambda s: [0 * s[0], s[1]]}, ("ignores hx",)),
    "h0_c0_exchanged": Port("LSTM", {"start": lambda s: s[::-1]}, ("exchanges hx and cx",)),
    "cell_clip": Port("LSTM", {"clip": 3.0}, ("clips c to ±3",)),
    "c0_of_first_layer": Port("LSTM", {"start_row": lambda layer, d, D: d}, ("starts from row d of hx",)),
    "c0_of_forward": Port("LSTM", {"start_row": lambda layer, d, D: layer * D}, ("starts from row l * D of hx",)),
    "keras_rows": Port("GRU", {"rows": "zrn"}, ("order z, r, n, that of ONNX, Keras",)),
    "n_first": Port("GRU", {"rows": "nrz"}, ("order n, r, z",)),
    "gru_bias_rows": Port("GRU", {"bias_rows": "zrn"}, ("the rows of bias_ih and bias_hh in the order z, r, n",)),
    "state_clip": Port("GRU", {"clip": 1.0}, ("clips h to ±1",)),
    "state_clip_exchanged": Port(
        "GRU",
        {"clip": 0.9, "mix": lambda z, n, h, r: z * n + (1 - z) * h},
        ("clips h to ±0.9", "exchanges z and 1 - z"),
    ),
    "z_exchanged": Port("GRU", {"mix": lambda z, n, h, r: z * n + (1 - z) * h}, ("exchanges z and 1 - z",)),
    "n_not_weighed": Port("GRU", {"mix": lambda z, n, h, r: n + z * h}, ("makes h of n + z * h",)),
    "h_out_of_mix": Port("GRU", {"mix": lambda z, n, h, r: (1 - z) * n}, ("makes h of (1 - z) * n,",)),
    "r_h_in_mix": Port(
        "GRU", {"mix": lambda z, n, h, r: (1 - z) * n + z * r * h}, ("makes h of (1 - z) * n + r * z * h",)
    ),
    "gru_hard_02": Port("GRU", one_gate("rz", hard(0.2)), ("hard sigmoid, np.clip(0.2 * s + 0.5, 0, 1)",)),
    "gru_hard_6": Port("GRU", one_gate("rz", hard(1 / 6)), ("hard sigmoid, np.clip(1/6 * s + 0.5, 0, 1)",)),
    "n_relu": Port("GRU", one_gate("n", relu), ("relu to the sum of n",)),
    "n_sigmoid": Port("GRU", one_gate("n", sigmoid), ("sigmoid to the sum of n",)),
    "r_on_x": Port(
        "GRU",
        {"candidate": lambda p, r, h: r * (p.x("n") + p.b_ih("n")) + p.h("n", h) + p.b_hh("n")},
        ("r * (x @ W_in.T + b_in)",),
    ),
    "r_on_both": Port(
        "GRU", {"candidate": lambda p, r, h: r * p("n", h)}, ("multiplies x @ W_in.T and b_in by r, too",)
    ),
    "b_hn_outside": Port(
        "GRU",
        {"candidate": lambda p, r, h: p.x("n") + p.b_ih("n") + r * p.h("n", h) + p.b_hh("n")},
        ("adds b_hn outside of r",),
    ),
    "b_hn_dropped": Port(
        "GRU", {"candidate": lambda p, r, h: p.x("n") + p.b_ih("n") + r * p.h("n", h)}, ("leaves b_hn out",)
    ),
    "b_in_inside": Port(
        "GRU",
        {"candidate": lambda p, r, h: p.x("n") + r * (p.b_ih("n") + p.h("n", h) + p.b_hh("n"))},
        ("multiplies b_in by r",),
    ),
    "reset_before": Port("GRU", {"candidate": lambda p, r, h: p("n", r * h)}, ("applies r to h before W_hn",)),
    "r_omitted": Port("GRU", {"candidate": lambda p, r, h: p("n", h)}, ("does not apply r",)),
    "gru_h0_ignored": Port("GRU", {"start": lambda s: [0 * s[0]]}, ("ignores hx",)),
    "two_of_keras": Port(
        "GRU",
        {"rows": "zrn", "candidate": lambda p, r, h: p("n", r * h)},
        ("order z, r, n", "applies r to h before W_hn"),
    ),
    "three_of_gru": Port(
        "GRU",
        {"rows": "zrn", "mix": lambda z, n, h, r: z * n + (1 - z) * h} | one_gate("rz", hard(0.2)),
        ("order z, r, n", "exchanges z", "hard sigmoid"),
    ),
    "two_of_c": Port(
        "LSTM", {"read": same, "final": lambda s: s[::-1]}, ("makes h of o * c,", "exchanges h_n and c_n")
    ),
    "three_of_lstm": Port(
        "LSTM",
        {"rows": "iofg", "add": {"f": 1}, "read": same},
        ("order i, o, f, g", "adds 1 to the sum of f", "makes h of o * c,"),
    ),
    "three_without_c": Port(
        "LSTM",
        {"read": same, "final": lambda s: [s[0], s[0]], "add": {"f": 1}},
        ("makes h of o * c,", "returns h as c_n", "adds 1 to the sum of f"),
    ),
    "four_of_lstm": Port(
        "LSTM",
        {"rows": "igfo", "bias_rows": "ifgo", "start": lambda s: [s[0], 0 * s[1]]} | one_gate("ifo", hard(0.2)),
        ("order i, g, f, o", "hard sigmoid", "ignores cx"),
    ),
}
WAYS_BACK: Final[dict[str, Port]] = {
    "right_gru_back": Port("GRU", {}, ()),
    "right_lstm_back": Port("LSTM", {}, ()),
    "dq_without_r": Port("GRU", {"dq": lambda dn, r: dn, "db_hn": lambda dn, r: dn}, ("leaves r out",)),
    "db_hh_is_db_ih": Port("GRU", {"db_hn": lambda dn, r: dn}, ("leaves r out of the gradient of b_hn",)),
    "dr_without_b_hn": Port("GRU", {"dr": lambda dn, q, b: dn * (q - b)}, ("no gradient back to r through b_hn",)),
    "dW_hn_without_r": Port("GRU", {"dW_hn": lambda dq, dn: dn}, ("leaves r out of the gradient of W_hn",)),
    "dx_without_r": Port(
        "GRU",
        {"dx": lambda rows: rows * (np.arange(rows.shape[1]) >= rows.shape[1] // 3)},
        ("to x[t] through x @ W_ir",),
    ),
    "dW_hh_with_h_t": Port(
        "LSTM", {"dW_hh": lambda h, new: new}, ("takes h[t] in the gradient of weight_hh, not h[t-1]",)
    ),
    "dW_hh_without_first": Port(
        "LSTM", {"counts": lambda t, T: int(t > 0)}, ("counts the gradient by weight_hh at all steps but the first",)
    ),
    "starts_detached": Port(
        "LSTM",
        {"grads": lambda of: of | {"hx": 0 * of["hx"], "cx": 0 * of["cx"]}},
        ("returns zeros as the gradients of hx and cx",),
    ),
    "dW_hh_zero": Port(
        "LSTM",
        {"grads": lambda of: of | {"weight_hh_l0": 0 * of["weight_hh_l0"]}},
        ("returns zeros as the gradient of weight_hh",),
    ),
    "dz_without_h": Port("GRU", {"dz": lambda dh, h, n: -dh * n}, ("no gradient to z through h[t-1]",)),
    "dh_z_left_out": Port("GRU", {"dh": lambda dh, z: 0 * dh}, ("no gradient to h[t-1] through",)),
    "dc_not_carried": Port("LSTM", {"carry": lambda dc, f: 0 * dc}, ("no gradient to c[t-1] through",)),
    "dc_carried_whole": Port("LSTM", {"carry": lambda dc, f: dc}, ("by 1 for that of c[t-1]",)),
    "da_f_with_c_t": Port("LSTM", {"df": lambda dc, c, new: dc * new}, ("by c[t] for that of f",)),
    "da_f_with_c_n": Port("LSTM", {"last": True, "df": lambda dc, c, new: dc * c}, ("by c[T-1] for that of f",)),
    "states_cyclic": Port(
        "LSTM", {"cyclic": True}, ("takes h[(t-1) % T] in the gradient of weight_hh", "by c[(t-1) % T] for that of f")
    ),
    "c0_left_out_of_df": Port("LSTM", {"first": lambda t: int(t > 0)}, ("by (c[t-1] if t else 0) for that of f",)),
    "do_with_c": Port(
        "LSTM", {"dc": lambda dh, o, t, c: dh * o * (1 - c * c)}, ("takes 1 - c[t]**2 as the slope of tanh(c[t])",)
    ),
    "no_slope_of_c": Port("LSTM", {"dc": lambda dh, o, t, c: dh * o}, ("takes 1 as the slope of tanh(c[t])",)),
    "dc0_missing": Port("LSTM", {"dc0": lambda dc: 0 * dc}, ("zeros as the gradient of cx",)),
    "dc_through_slope": Port(
        "LSTM", {"dc_next": lambda dc, t: dc * (1 - t * t)}, ("multiplies what the next step passes back to c[t]",)
    ),
    "c_n_grad_ignored": Port("LSTM", {"dc_n": lambda dc: 0 * dc}, ("ignores the gradient of c_n",)),
    "slopes_of_y": Port("GRU", {"slope": lambda y: y}, ("the slope of r", "the slope of z")),
    "first_step_left_out": Port("LSTM", {"steps": lambda T: range(1, T)}, ("all steps but the first one",)),
    "clip_5": Port(
        "LSTM",
        {"grads": lambda of: {n: v if n in ("x", "hx", "cx") else np.clip(v, -5, 5) for n, v in of.items()}},
        ("clips the gradients of",),
    ),
    "dz_of_other_sign": Port("GRU", {"dz": lambda dh, h, n: dh * (n - h)}, ("takes -z + z**2 as the slope of z",)),
    "dc_never_counts": Port(
        "LSTM",
        {"dc_n": lambda dc: 0 * dc, "dc": lambda dh, o, t, c: dh * o * (1 - t * t), "carry": lambda dc, f: 0 * dc},
        ("ignores the gradient of c_n", "no gradient to c[t-1] through"),
    ),
    "output_gradient_reversed": Port(
        "LSTM", {"at": lambda t, T: T - 1 - t}, ("takes the gradient of the output in the reversed order of time",)
    ),
    "two_back": Port(
        "LSTM",
        {"df": lambda dc, c, new: dc * new, "dc0": lambda dc: 0 * dc},
        ("by c[t] for that of f", "zeros as the gradient of cx"),
    ),
}
globals().update({name: port(cell, choices) for name, (cell, choices, _) in MISTAKES.items()})
globals().update({name: with_back(cell, choices) for name, (cell, choices, _) in WAYS_BACK.items()})
