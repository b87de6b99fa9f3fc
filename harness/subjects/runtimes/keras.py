"""Keras on its torch backend: ``SimpleRNN``, in both directions in ``Bidirectional``, with gradients by torch.

A layer has one bias, which is the sum of both, and its kernels are transposed. Its axes are (N, T, I). Lengths are a
mask, and padding is zero by ``zero_output_for_mask``.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import subject_of, with_zeros


def by_keras(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and h_n, and the gradients where there are cotangents."""
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    if not config.batched:
        raise NotImplementedError("SimpleRNN has a batch axis")
    D, H = config.num_directions, config.hidden_size
    padded = with_zeros(x, lengths, config.batch_first)
    given, start = (torch.from_numpy(array).requires_grad_() for array in (padded, h0))
    mask = None if lengths is None else torch.arange(config.T) < torch.from_numpy(lengths)[:, None]
    sources, parameters, states = [given, start], [], []

    def layer(*, backwards: Any) -> Any:
        return keras.layers.SimpleRNN(
            H,
            activation=config.nonlinearity,
            use_bias=config.bias,
            return_sequences=True,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=True,
            dtype=config.dtype,
        )

    steps = given if config.batch_first else given.transpose(0, 1)
    for k in range(config.num_layers):
        whole = ran = layer(backwards=False)
        if D == 2:
            whole = keras.layers.Bidirectional(ran, backward_layer=layer(backwards=True), dtype=config.dtype)
        whole.build(tuple(steps.shape))
        made = [whole.forward_layer, whole.backward_layer] if D == 2 else [ran]  # it takes copies of what it is given
        for one, end in zip(made, ("", "_reverse"), strict=False):
            at = f"_l{k}{end}"
            names = [[f"weight_ih{at}"], [f"weight_hh{at}"], *[[f"bias_ih{at}", f"bias_hh{at}"]] * config.bias]
            one.set_weights([sum(weights[name] for name in of).T for of in names])
            sources += [variable.value for variable in one.trainable_variables]
            parameters += names
        steps, *last = whole(steps, mask=mask, initial_state=list(start[k * D : k * D + D]))
        states += last
    returned = {"output": steps if config.batch_first else steps.transpose(0, 1), "h_n": torch.stack(states)}
    arrays = [array.detach().numpy() for array in returned.values()]
    if not cotangents:
        return arrays
    read = [name for name in returned if f"{name}.grad" in cotangents]
    heads = [torch.from_numpy(cotangents[f"{name}.grad"]) for name in read]
    found = torch.autograd.grad([returned[name] for name in read], sources, heads, allow_unused=True)
    gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(sources, found, strict=True)]
    named = {name: g.numpy().T for of, g in zip(parameters, gradients[2:], strict=True) for name in of}
    return *arrays, {"x": gradients[0].numpy(), "h0": gradients[1].numpy(), **named}


def subject() -> FunctionSubject:
    """Return the subject ``keras:torch``."""
    return subject_of("keras:torch", "keras", ("keras", "torch"), with_zeros, by_keras)
