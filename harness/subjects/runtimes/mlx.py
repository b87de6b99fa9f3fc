"""MLX on the CPU: a stack of ``mlx.nn.RNN``, with gradients by ``mx.vjp``.

A layer has one direction and one bias, which is the sum of both. Its axes are (N, T, I), and it returns no h_n, which
is its last step.

The text of this function is part of the scripts of findings, so it imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import subject_of


def by_mlx(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Return output and h_n, and the gradients where there are cotangents."""
    import mlx.core as mx
    import numpy as np
    from mlx import nn

    if config.bidirectional:
        raise NotImplementedError("RNN has one direction")
    if config.dtype != "float32":
        raise NotImplementedError("float32 only")
    mx.set_default_device(mx.cpu)
    activation = {"tanh": mx.tanh, "relu": nn.relu}[config.nonlinearity]
    turned = config.batched and not config.batch_first
    names = list(weights)

    def forward(x: Any, h0: Any, *parameters: Any) -> Any:
        named, last = dict(zip(names, parameters, strict=True)), []
        x = x.swapaxes(0, 1) if turned else x
        for k in range(config.num_layers):
            layer = nn.RNN(x.shape[-1], config.hidden_size, config.bias, activation)
            layer.Wxh, layer.Whh = named[f"weight_ih_l{k}"], named[f"weight_hh_l{k}"]
            if config.bias:
                layer.bias = named[f"bias_ih_l{k}"] + named[f"bias_hh_l{k}"]
            x = layer(x, h0[k])
            last.append(x[..., -1, :])
        return x.swapaxes(0, 1) if turned else x, mx.stack(last)

    sources = [mx.array(array) for array in (x, h0, *weights.values())]
    returned = dict(zip(("output", "h_n"), forward(*sources), strict=True))
    arrays = [np.array(array) for array in returned.values()]
    if not cotangents:
        return arrays
    heads = {name: cotangents.get(f"{name}.grad", np.zeros(array.shape, x.dtype)) for name, array in returned.items()}
    _, gradients = mx.vjp(lambda *given: list(forward(*given)), sources, [mx.array(head) for head in heads.values()])
    return *arrays, {name: np.array(g) for name, g in zip(("x", "h0", *names), gradients, strict=True)}


def subject() -> FunctionSubject:
    """Return the subject ``mlx:cpu``."""
    return subject_of("mlx:cpu", "mlx", ("mlx", "mlx-cpu"), by_mlx)
