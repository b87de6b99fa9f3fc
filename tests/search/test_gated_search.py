"""Mistakes in GRUs and LSTMs are found, and shrunk to the smallest case that shows them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness import Verdict
from harness.pipeline import check
from harness.search.search import hunt
from harness.space.scope import Scope
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject

Array = np.ndarray


def sigmoid(s: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-s)))


def lstm(**parts: Any) -> Callable[..., Any]:
    """Return one plain layer of an LSTM with its way back, some parts of which are others."""
    rows, forget = parts.get("rows", "ifgo"), parts.get("forget", 0)

    def layer(x: Array, h0: Array, c0: Array, weights: Any, config: Any, cotangents: Any) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
            raise NotImplementedError("one layer with biases, one direction, time first")
        W, V = weights["weight_ih_l0"], weights["weight_hh_l0"]
        b = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h, c = h0[0], c0[0] * parts.get("c0", 1)
        steps, output = [], []
        for x_t in x:
            gate = dict(zip(rows, np.split(x_t @ W.T + h @ V.T + b, 4, -1), strict=True))
            i, f, o, g = (
                sigmoid(gate["i"]),
                sigmoid(gate["f"] + x.dtype.type(forget)),
                sigmoid(gate["o"]),
                np.tanh(gate["g"]),
            )
            new = f * c + i * g
            t = parts.get("read", np.tanh)(new)
            steps.append((x_t, h, c, i, f, g, o, t))
            h, c = o * t, new
            output.append(h)
        returned = np.stack(output), *parts.get("final", lambda h, c: (h, c))(h[None], c[None])
        if config.loss is None:
            return returned
        zero = np.zeros_like(h)
        dh, dc = (cotangents.get(f"{name}.grad", [zero])[0] for name in ("h_n", "c_n"))
        dW, dV, db, dx = np.zeros_like(W), np.zeros_like(V), np.zeros_like(b), np.zeros_like(x)
        for k in reversed(range(len(x))):
            x_t, h, c, i, f, g, o, t = steps[k]
            dh = dh + cotangents["output.grad"][k] if "output.grad" in cotangents else dh
            dc = dc + dh * o * (1 - t * t)
            da = {"i": dc * g * i * (1 - i), "f": dc * c * f * (1 - f)}
            da |= {"g": dc * i * (1 - g * g), "o": dh * t * o * (1 - o)}
            rows_back = np.concatenate([da[name] for name in rows], -1)
            dW, dV, db = dW + rows_back.T @ x_t, dV + rows_back.T @ h, db + rows_back.sum(0)
            dx[k], dh, dc = rows_back @ W, rows_back @ V, dc * f * (parts.get("carry", 1) if k else 1)
        gradients = {"x": dx, "hx": dh[None], "cx": dc[None], "weight_ih_l0": dW, "weight_hh_l0": dV}
        return *returned, gradients | {"bias_ih_l0": db, "bias_hh_l0": db.copy()}

    return layer


def gru(**parts: Any) -> Callable[..., Any]:
    """Return one plain layer of a GRU, some parts of which are others."""

    def layer(x: Array, h0: Array, weights: Any, config: Any) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
            raise NotImplementedError("one layer with biases, one direction, time first")
        h, output = h0[0], []
        V, biases = np.split(weights["weight_hh_l0"], 3), np.split(weights["bias_hh_l0"], 3)
        for x_t in x:
            of_x = np.split(x_t @ weights["weight_ih_l0"].T + weights["bias_ih_l0"], 3, -1)
            r, z = (sigmoid(of_x[k] + h @ V[k].T + biases[k]) for k in (0, 1))
            read = (r * h) @ V[2].T if "before" in parts else r * (h @ V[2].T)
            n = np.tanh(of_x[2] + read + (biases[2] if parts else r * biases[2]))
            h = (1 - z) * n + z * h
            output.append(h)
        return np.stack(output), h[None]

    layer.conventions = {"gru": True}  # type: ignore[attr-defined]
    return layer


def projected(**parts: Any) -> Callable[..., Any]:
    """Return an LSTM of one direction whose h is projected, some parts of which are others."""

    def project(m: Array, c: Array, W: Array | None) -> Array:
        return m if W is None else np.asarray(parts.get("project", lambda m, _c, W: m @ W.T)(m, c, W))

    def layer(x: Array, h0: Array, c0: Array, weights: Any, config: Any) -> Any:
        if config.bidirectional or config.batch_first or not config.bias:
            raise NotImplementedError("with biases, one direction, time first")
        finals = []
        for k in range(config.num_layers):
            W, V, b, d = (weights[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            W_hr, h, c, output = weights.get(f"weight_hr_l{k * parts.get('own', 1)}"), h0[k], c0[k], []
            for x_t in x:
                i, f, g, o = np.split(x_t @ W.T + h @ V.T + b + d, 4, -1)
                c = sigmoid(f + x.dtype.type(parts.get("forget", 0))) * c + sigmoid(i) * np.tanh(g)
                m = sigmoid(o) * np.tanh(c)
                output.append(project(m, c, W_hr))
                h = m[:, : config.proj_size] if "unprojected" in parts else output[-1]
            x = np.stack(output)
            finals.append((parts.get("final", lambda h, _m: h)(output[-1], m[:, : config.proj_size]), c))
        h_n, c_n = (np.stack(one) for one in zip(*finals, strict=True))
        return x, h_n, c_n

    layer.offers = {"proj_size": parts.get("offers", (1, 2))}  # type: ignore[attr-defined]
    return layer


@pytest.mark.parametrize("made", [lstm(), gru(), projected()], ids=["LSTM", "GRU", "projected"])
def test_a_right_one_agrees(made: Callable[..., Any]) -> None:
    assert hunt(FunctionSubject(made, "mine"), cases=120).verdict is Verdict.AGREES


def test_torch_s_lstm_agrees_where_h_is_projected() -> None:
    subject = TorchSubject(torch.nn.LSTM)
    scope = Scope().only(**subject.capabilities.offers).only(proj_size=(1, 2, 3, 8), dtype=("float32", "float64"))

    record = hunt(subject, scope, cases=100)

    assert record.verdict is Verdict.AGREES
    assert {1, 2, 3, 8} == {*record.coverage.factors["proj_size"]}


@pytest.mark.parametrize(
    ("made", "pins", "array", "needs"),
    [
        (projected(project=lambda _m, c, W: c @ W.T), {}, "output", {}),
        (projected(project=lambda m, _c, W: m @ W.reshape(W.shape[::-1])), {}, "output", {"proj_size": 2}),
        (projected(unprojected=True), {}, "output", {"T": 2}),
        (projected(unprojected=True), {"proj_size": 3}, "output", {"T": 2, "proj_size": 3}),
        (projected(final=lambda _h, m: m), {}, "h_n", {}),
        (projected(own=0), {}, "output", {"num_layers": 2}),
    ],
    ids=["W_hr on c", "W_hr transposed", "h unprojected", "pinned", "h_n unprojected", "W_hr of layer 0"],
)
def test_a_mistake_in_the_projection_is_found_at_its_smallest_case(
    made: Callable[..., Any], pins: dict[str, Any], array: str, needs: dict[str, Any]
) -> None:
    subject = FunctionSubject(made, "mine")
    scope = scope_of(subject).only(**pins)

    finding = hunt(subject, scope, cases=120).finding

    assert finding is not None
    config, plain = finding.case.config, {"T": 1, "N": 1, "num_layers": 1, "proj_size": 1} | needs
    assert {name: getattr(config, name) for name in plain} == plain
    assert (config.input_size, config.hidden_size) == (1, config.proj_size + 1)
    assert finding.result.mismatches[0].array == array


@pytest.mark.parametrize(
    ("made", "array", "needs"),
    [
        (lstm(rows="ifog"), "output", {}),
        (lstm(read=lambda c: c), "output", {}),
        (lstm(final=lambda _h, c: (c, c)), "h_n", {}),
        (lstm(forget=1), "output", {"T": 2}),
        (lstm(c0=0), "output", {"hx": True}),
        (lstm(carry=0), "bias_ih_l0.grad", {"T": 2, "loss": "output"}),
        (gru(outside=True), "output", {}),
        (gru(before=True), "output", {}),
    ],
    ids=[
        "rows in ONNX's order",
        "no tanh of c",
        "c for h_n",
        "forget bias",
        "c0 ignored",
        "dc cut",
        "b_hn outside",
        "reset before",
    ],
)
def test_a_mistake_is_found_at_its_smallest_case(made: Callable[..., Any], array: str, needs: dict[str, Any]) -> None:
    finding = hunt(FunctionSubject(made, "mine"), cases=120).finding

    assert finding is not None
    config = finding.case.config
    plain = {"input_size": 1, "hidden_size": 1, "T": 1, "N": 1, "hx": False, "loss": None}
    assert {name: getattr(config, name) for name in plain} == plain | needs
    assert finding.result.mismatches[0].array == array


def test_a_mistake_of_every_projection_is_one_finding_which_says_so(tmp_path: Any) -> None:
    made = projected(project=lambda _m, c, W: c @ W.T, offers=(0, 1, 2))

    said = str(check(made, cases=60, findings=str(tmp_path), quiet=True))

    assert ": 1 bug; " in said or ": at least 1 bug; " in said
    assert "fails     with proj_size in (1, 2)" in said
    assert "the same with proj_size=0" in said


def test_a_mistake_of_the_step_is_named_beside_projections(tmp_path: Any) -> None:
    made = projected(forget=1, offers=(0, 1))
    only: dict[str, Any] = {"num_layers": 1, "T": (1, 2), "N": (1, 2), "dtype": "float32"}

    said = str(check(made, cases=20, findings=str(tmp_path), quiet=True, **only))

    assert "adds 1 to the sum of f" in said
    assert "findings" not in said.partition("\n\n")[0]


def test_a_report_names_the_layer_and_the_cause_in_its_words(tmp_path: Any) -> None:
    said = str(check(lstm(rows="ifog"), cases=60, findings=str(tmp_path), quiet=True))

    assert "disagrees with nn.LSTM" in said
    assert "agree with nn.RNN" not in said
    assert "order i, f, o, g" in said
    assert "nn.LSTM   g = tanh(x @ W_ig.T" in said
