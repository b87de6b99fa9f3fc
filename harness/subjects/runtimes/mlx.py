"""MLX on the CPU: a stack of ``mlx.nn.RNN``, ``GRU`` or ``LSTM``, with gradients by ``mx.vjp``.

A layer has one direction and one bias, which is the sum of both; a GRU has b_hn beside it. The order of rows is
torch's. Its axes are (N, T, I), and it returns no final states, which are those of its last step.

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import of_each, subject_of


def by_mlx(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Return output and the final states, and the gradients where there are cotangents."""
    import mlx.core as mx
    import numpy as np
    from mlx import nn

    if config.bidirectional:
        raise NotImplementedError("a layer of MLX has one direction")
    if config.dtype != "float32":
        raise NotImplementedError("float32 only")
    mx.set_default_device(mx.cpu)
    options = {"nonlinearity": {"tanh": mx.tanh, "relu": nn.relu}[config.nonlinearity]} if config.cell == "RNN" else {}
    turned = config.batched and not config.batch_first
    names = list(weights)

    starts = {"h0": h0[0], "c0": h0[1]} if config.cell == "LSTM" else {"h0": h0}

    def forward(x: Any, *tensors: Any) -> Any:
        named, last = dict(zip((*starts, *names), tensors, strict=True)), []
        x = x.swapaxes(0, 1) if turned else x
        for k in range(config.num_layers):
            layer = getattr(nn, config.cell)(x.shape[-1], config.hidden_size, config.bias, **options)
            ends = ("xh", "hh") if config.cell == "RNN" else ("x", "h")
            for end, role in zip(ends, ("ih", "hh"), strict=True):
                setattr(layer, f"W{end}", named[f"weight_{role}_l{k}"])
            if config.bias and config.cell == "GRU":
                rz, layer.bhn = mx.split(named[f"bias_hh_l{k}"], [2 * config.hidden_size])
                layer.b = named[f"bias_ih_l{k}"] + mx.concatenate([rz, mx.zeros_like(layer.bhn)])
            elif config.bias:
                layer.bias = named[f"bias_ih_l{k}"] + named[f"bias_hh_l{k}"]
            states = layer(x, *(named[start][k] for start in starts))
            states = states if config.cell == "LSTM" else (states,)
            last.append([state[..., -1, :] for state in states])
            x = states[0]
        return x.swapaxes(0, 1) if turned else x, *(mx.stack(finals) for finals in zip(*last, strict=True))

    sources = [mx.array(array) for array in (x, *starts.values(), *weights.values())]
    returned = dict(zip(("output", "h_n", "c_n"), forward(*sources), strict=False))
    arrays = [np.array(array) for array in returned.values()]
    if not cotangents:
        return arrays
    heads = {name: cotangents.get(f"{name}.grad", np.zeros(array.shape, x.dtype)) for name, array in returned.items()}
    _, gradients = mx.vjp(lambda *args: list(forward(*args)), sources, [mx.array(head) for head in heads.values()])
    return *arrays, {name: np.array(g) for name, g in zip(("x", *starts, *names), gradients, strict=True)}


@of_each
def subject(cell: str) -> FunctionSubject:
    """Return the subject ``mlx:cpu`` of a cell."""
    return subject_of("mlx:cpu", cell, "mlx", ("mlx", "mlx-cpu"), by_mlx)
