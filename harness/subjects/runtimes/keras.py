"""Keras on its torch backend: ``SimpleRNN``, ``GRU``, ``LSTM``, and ``Bidirectional`` of them, with gradients by torch.

A layer has one bias, which is the sum of both, and its kernels are transposed. A GRU has two (``reset_after``), and its
rows of gates are z, r, h. Axes are (N, T, I). Lengths are a mask, and padding is zero by ``zero_output_for_mask``.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import of_each, subject_of, with_zeros


def by_keras(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and the final states, and the gradients where there are cotangents."""
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy as np
    import torch

    if not config.batched:
        raise NotImplementedError("a layer of Keras has a batch axis")
    D, H, cell = config.num_directions, config.hidden_size, config.cell
    padded, starts = with_zeros(x, lengths, config.batch_first), h0 if cell == "LSTM" else (h0,)
    inputs, *starts = (torch.from_numpy(array).requires_grad_() for array in (padded, *starts))
    mask = None if lengths is None else torch.arange(config.T) < torch.from_numpy(lengths)[:, None]
    sources, parameters, states = [inputs, *starts], [], []

    def rows(array: Any) -> Any:  # those of torch's gates as Keras has them, and back
        blocks = np.split(array, 3) if cell == "GRU" else [array]
        return np.concatenate([blocks[1], blocks[0], blocks[2]] if cell == "GRU" else blocks)

    def layer(*, backwards: Any) -> Any:
        kinds = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}
        return kinds[cell](
            H,
            activation=config.nonlinearity,
            use_bias=config.bias,
            return_sequences=True,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=True,
            dtype=config.dtype,
        )

    steps = inputs if config.batch_first else inputs.transpose(0, 1)
    for k in range(config.num_layers):
        stage = ran = layer(backwards=False)
        if D == 2:
            stage = keras.layers.Bidirectional(ran, backward_layer=layer(backwards=True), dtype=config.dtype)
        stage.build(tuple(steps.shape))
        made = [stage.forward_layer, stage.backward_layer] if D == 2 else [ran]  # it takes copies of what it is given
        for part, end in zip(made, ("", "_reverse"), strict=False):
            at = f"_l{k}{end}"
            names = [[f"weight_ih{at}"], [f"weight_hh{at}"], *[[f"bias_ih{at}", f"bias_hh{at}"]] * config.bias]
            held = [[rows(weights[name]).T for name in group] for group in names]
            two = cell == "GRU"  # biases, in one array
            part.set_weights([np.stack(pair) if two and len(pair) == 2 else sum(pair) for pair in held])
            sources += [variable.value for variable in part.trainable_variables]
            parameters += names
        steps, *last = stage(steps, mask=mask, initial_state=[start[k * D + d] for d in range(D) for start in starts])
        states += last
    returned = {"output": steps if config.batch_first else steps.transpose(0, 1)}
    returned |= {name: torch.stack(states[i :: len(starts)]) for i, name in enumerate(("h_n", "c_n")[: len(starts)])}
    arrays = [array.detach().numpy() for array in returned.values()]
    if not cotangents:
        return arrays
    read = [name for name in returned if f"{name}.grad" in cotangents]
    heads = [torch.from_numpy(cotangents[f"{name}.grad"]) for name in read]
    raw = torch.autograd.grad([returned[name] for name in read], sources, heads, allow_unused=True)
    gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(sources, raw, strict=True)]
    named: Any = {}
    for group, g in zip(parameters, gradients[1 + len(starts) :], strict=True):
        each = g.numpy() if cell == "GRU" and len(group) == 2 else [g.numpy()] * len(group)
        named |= {name: rows(array.T) for name, array in zip(group, each, strict=True)}
    outer = zip(("x", "h0", "c0"), gradients[: 1 + len(starts)], strict=False)
    return *arrays, {**{name: g.numpy() for name, g in outer}, **named}


@of_each
def subject(cell: str) -> FunctionSubject:
    """Return the subject ``keras:torch`` of a cell."""
    return subject_of("keras:torch", cell, "keras", ("keras", "torch"), with_zeros, by_keras)
