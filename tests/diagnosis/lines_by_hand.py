"""Layers with known mistakes, each in a line of its own, for the tests of ``own_line``."""

from pathlib import Path
from typing import Any

import numpy as np
import torch


def squashed(v: Any) -> Any:
    return np.tanh(v)


def forward(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute one layer that starts at tanh(hx), adds b_hh twice and takes the transposed W_hh, in three lines."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
        raise NotImplementedError("one layer with biases")
    h, output = squashed(h0[0]), []
    for x_t in x:
        drive = x_t @ weights["weight_ih_l0"].T + 2 * weights["bias_hh_l0"]
        carried = h @ weights["weight_hh_l0"]
        h = squashed(drive + carried + weights["bias_ih_l0"])
        output.append(h)
    return np.stack(output), h[None]


def from_second(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Add b_hh at all steps but the first."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
        raise NotImplementedError("one layer with biases")
    h, output = h0[0], []
    for t in range(config.T):
        s = x[t] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + h @ weights["weight_hh_l0"].T
        if t > 0:
            s = s + weights["bias_hh_l0"]
        h = np.tanh(s)
        output.append(h)
    return np.stack(output), h[None]


def compiled(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute the same out of sight."""
    names: dict[str, Any] = {"np": np, "squashed": squashed}
    exec(compile(Path(__file__).read_text("utf-8"), "<compiled>", "exec"), names)  # noqa: S102 - this file
    return names["forward"](x, h0, weights, config)


def port(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Go back through W_hh.T, with dW_hh on the new state, db doubled, dW_ih clipped, 3 dhx, and without dx."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
        raise NotImplementedError("one layer with biases")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + weights["bias_ih_l0"] + weights["bias_hh_l0"]))
    output = np.stack(hs[1:])
    if config.loss is None:
        return output, hs[-1][None].copy()
    given = cotangents.get("output.grad", np.zeros_like(output))
    carry = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(hs[0])
    dW, dU, dx = np.zeros_like(W), np.zeros_like(U), np.zeros_like(x)
    db_ih = db_hh = np.zeros_like(U[0])
    for t in reversed(range(config.T)):
        da = (given[t] + carry) * (1 - hs[t + 1] ** 2)
        dW += da.T @ x[t]
        dU += da.T @ hs[t + 1]
        db_ih += da.sum(0)
        db_hh += da.sum(0)
        carry = da @ U.T
    np.clip(dW, -5, 5, out=dW)
    grads = {
        "x": dx,
        "hx": 3 * carry[None],
        "weight_ih_l0": dW,
        "weight_hh_l0": dU,
        "bias_ih_l0": db_ih.copy(),
        "bias_hh_l0": db_hh.copy(),
    }
    return output, hs[-1][None].copy(), grads


class Module(torch.nn.Module):
    """A layer of torch, whose state leaks and whose gradients are clipped by a hook."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.ih = torch.nn.Linear(input_size, hidden_size)
        self.hh = torch.nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        h = x.new_zeros(x.shape[1], self.hh.out_features) if hx is None else hx[0]
        output = []
        for x_t in x:
            new = torch.tanh(self.ih(x_t) + self.hh(h))
            h = 0.5 * new + 0.5 * h
            output.append(h)
        return torch.stack(output), h[None]
