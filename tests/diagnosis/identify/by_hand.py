"""Layers of tanh by hand, of which a line may be wrong, and what is identified of a layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness import RNNConfig, as_subject, draw
from harness.diagnosis.identify.cause import identified_of
from harness.diagnosis.identify.elman_layer_inquiry import Identification, identify
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.observation_cache import ObservationCache
from harness.space.scope import Scope
from harness.subjects.protocol import scope_of

SCOPE = Scope().only(num_layers=1, bidirectional=False, nonlinearity="tanh", batch_first=False, dropout=0)
FORWARD = SCOPE.only(loss=None)
ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def said_of(
    subject: Any,
    scope: Scope | dict[str, Any],
    config: RNNConfig | None = None,
    *,
    nonlinearity: str = "tanh",
    longest: int = 1,
) -> tuple[Identification, list[str]]:
    """Return what is identified of a subject, from a case if a config is given, and the sentences of its mistakes."""
    adapted = as_subject(subject)
    scope = scope if isinstance(scope, Scope) else scope_of(adapted).only(**scope)
    observations = ObservationCache(adapted)
    if config is None:
        found: Identification | None = identify(Asker(observations, scope, nonlinearity))
    else:
        found = identified_of(observations, scope, draw(config, "normal", 1), longest=longest)
    assert found is not None
    return found, [mistake.sentence for mistake in mistakes_of(found.network, nonlinearity)]


def first_sentence(value: Any) -> str | None:
    """Return the id of a test's parameter, if that is a list of sentences."""
    return " ".join(value[:1]) or "right" if isinstance(value, list) else None


def sum_of(x_t: Any, h: Any, weights: Any, config: Any, *, end: str = "_l0", b_hh: float = 1.0) -> Any:
    """Return nn.RNN's sum of a step."""
    s = x_t @ weights["weight_ih" + end].T + h @ weights["weight_hh" + end].T
    return s + weights["bias_ih" + end] + b_hh * weights["bias_hh" + end] if config.bias else s


def of_steps(new: Callable[..., Any], *, b_hh: float = 1.0, final: int = -1) -> Any:
    """Return a layer whose state after step t is ``new(t, x_t, h, s, w)``, and whose h_n is one of its outputs.

    It is given the state before, nn.RNN's sum, in which b_hh has a factor, and the parameters by their roles.
    """

    def layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        w = {role: weights.get(f"{role}_l0", x.dtype.type(0)) for role in ROLES}
        h, output = h0[0], []
        for t, x_t in enumerate(x):
            h = new(t, x_t, h, sum_of(x_t, h, weights, config, b_hh=b_hh), w)
            output.append(h)
        return np.stack(output), output[final][None].copy()

    return layer


def sums_of(x: Any, before: Any, _after: Any, da: Any) -> tuple[Any, Any, Any]:
    """Return the gradients by W_ih, W_hh and either bias, of x, and the states before and after each step."""
    return np.einsum("tnj,tni->ji", da, x), np.einsum("tnj,tni->ji", da, before), da.sum((0, 1))


def with_gradients(
    x: Any,
    h0: Any,
    weights: Any,
    config: Any,
    cotangents: Any,
    *,
    read: Callable[[Any, int], Any] = lambda h, _way: h,
    turned: bool = False,
    factors: tuple[float, float] = (1.0, 1.0),
    last: float = 1.0,
    slope: Callable[[Any, Any], Any] = lambda h, _dh: 1 - h * h,
    sums: Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]] = sums_of,
    down: Callable[[Any, Any, Any, int], Any] = lambda da, W_ih, _W_hh, _layer: da @ W_ih,
    start: Callable[[Any, Any], Any] = lambda dh, _h0: dh,
    returned: Callable[[dict[str, Any]], dict[str, Any]] = lambda found: found,
) -> Any:
    """Compute a stack, and its gradients by hand.

    A step ``read``s the state before it, which way 1 is, and its gradient goes the way -1. W_hh may be ``turned``. The
    biases have ``factors``, and the gradient of the last output another, ``last``.
    """
    D, H, runs = config.num_directions, config.hidden_size, dict[int, Any]()
    below: list[Any] = [x]
    for row in range(len(h0)):
        layer, d = divmod(row, D)
        end, way = f"_l{layer}{'_reverse' * d}", slice(None, None, 1 - 2 * d)
        W_ih, W_hh = weights["weight_ih" + end], weights["weight_hh" + end]
        W_hh = W_hh.T if turned else W_hh
        b = sum(k * weights[f"{bias}{end}"] for k, bias in zip(factors, ROLES[2:], strict=True)) if config.bias else 0
        h = [h0[row]]
        for x_t in below[layer][way]:
            h.append(np.tanh(x_t @ W_ih.T + read(h[-1], 1) @ W_hh.T + b))
        runs[row] = end, way, W_ih, W_hh, np.stack(h)
        below = [*below[: layer + 1], np.concatenate([*below[layer + 1 :], np.stack(h[1:])[way]], -1)]
    h_n = np.stack([h[-1] for *_, h in runs.values()])
    if config.loss is None:
        return below[-1], h_n
    found: dict[str, Any] = {"hx": np.zeros_like(h0)}
    g, g_last = cotangents.get("output.grad", np.zeros_like(below[-1])), cotangents.get("h_n.grad", np.zeros_like(h_n))
    for row in reversed(runs):
        (layer, d), (end, way, W_ih, W_hh, h) = divmod(row, D), runs[row]
        da, dh = np.zeros_like(h[1:]), g_last[row]
        for t in reversed(range(len(x))):
            dh = g[way][t, :, d * H : (d + 1) * H] * (last if t == len(x) - 1 else 1) + dh
            da[t] = dh * slope(h[t + 1], dh)
            dh = read(da[t] @ W_hh, -1)
        found["hx"][row] = start(dh, h0[row])
        dW_ih, dW_hh, db = sums(below[layer][way], read(h[:-1], 1), h[1:], da)
        found |= {f"weight_ih{end}": dW_ih, f"weight_hh{end}": dW_hh.T if turned else dW_hh}
        found |= {f"{bias}{end}": k * db for k, bias in zip(factors, ROLES[2:], strict=True) if config.bias}
        found["x"] = down(da, W_ih, W_hh, layer)[way] + (found["x"] if d < D - 1 else 0)
        g = found["x"] if d == 0 else g
    return below[-1], h_n, returned(found)


class Stack(torch.nn.Module):
    """Layers of torch's cells, or of other ones, of which a step may read another state than the one before it."""

    cell: Any = torch.nn.RNNCell

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.cells = torch.nn.ModuleList(self.cell(size, hidden_size) for size in sizes)

    def carried(self, _t: int, h: Any) -> Any:
        return h

    def forward(self, x: Any, hx: Any = None) -> Any:
        last = []
        for k, cell in enumerate(self.cells):
            h, states = x.new_zeros(x.shape[1], cell.hidden_size) if hx is None else hx[k], []
            for t, x_t in enumerate(x):
                h = cell(x_t, self.carried(t, h))
                states.append(h)
            x = torch.stack(states)
            last.append(h)
        return x, torch.stack(last)
