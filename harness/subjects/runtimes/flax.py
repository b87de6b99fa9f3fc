"""Flax: ``nnx.RNN`` over ``nnx.SimpleCell``, with gradients by ``jax.vjp``.

A cell has one bias, which is the sum of both, and its kernels are transposed. Axes are those of ``nn.RNN``. A layer
runs on through the padding of its output, where ``nn.RNN`` has zeros.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from functools import lru_cache
from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import subject_of, with_zeros


@lru_cache(256)
def flax_function(D: Any, nonlinearity: Any, batch_first: Any) -> Any:
    """Return the compiled stack, with ``D`` directions, and the one that is given cotangents, too."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def layer(W: Any, U: Any, b: Any) -> Any:
        (H, I), zeros = W.shape, nnx.initializers.zeros_init()  # noqa: E741 - the published name
        cell = nnx.SimpleCell(
            I,
            H,
            dtype=W.dtype,
            param_dtype=W.dtype,
            activation_fn=getattr(nnx, nonlinearity),
            kernel_init=zeros,
            recurrent_kernel_init=zeros,
            rngs=nnx.Rngs(0),
        )
        cell.dense_i.kernel = nnx.Param(W.T)
        cell.dense_h.kernel = nnx.Param(U.T)
        cell.dense_i.bias = nnx.Param(b)
        return nnx.RNN(cell, time_major=not batch_first, return_carry=True)

    def forward(x: Any, h0: Any, weights: Any, lengths: Any) -> Any:
        last, options = [], {"time_major": not batch_first, "return_carry": True, "seq_lengths": lengths}
        for k in range(len(h0) // D):
            ends = [f"_l{k}{end}" for end in ("", "_reverse")[:D]]
            W, U = ([weights[f"weight_{of}{end}"] for end in ends] for of in ("ih", "hh"))
            b = [
                weights[f"bias_ih{end}"] + weights[f"bias_hh{end}"]
                if f"bias_ih{end}" in weights
                else jnp.zeros(len(w), w.dtype)
                for end, w in zip(ends, W, strict=True)
            ]
            layers = [layer(*given) for given in zip(W, U, b, strict=True)]
            start = tuple(h0[k * D : k * D + D])
            if D == 2:
                h, x = nnx.Bidirectional(*layers, rngs=False)(x, initial_carry=start, **options)
                last += h
            else:
                h, x = layers[0](x, initial_carry=start[0], **options)
                last.append(h)
            if lengths is not None:
                inside = jnp.arange(x.shape[1 if batch_first else 0]) < lengths[:, None]  # (N, T)
                x = jnp.where((inside if batch_first else inside.T)[..., None], x, 0)
        return x, jnp.stack(last)

    def both(x: Any, h0: Any, weights: Any, lengths: Any, cotangents: Any) -> Any:
        returned, back = jax.vjp(lambda x, h0, weights: forward(x, h0, weights, lengths), x, h0, weights)
        dx, dh0, dweights = back(cotangents)
        return (*returned, {"x": dx, "h0": dh0, **dweights})

    return jax.jit(forward), jax.jit(both)


def by_flax(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and h_n, and the gradients where there are cotangents."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", val=True)
    x = with_zeros(x, lengths, config.batch_first)
    forward, both = flax_function(config.num_directions, config.nonlinearity, config.batch_first)
    if not cotangents:
        return jax.device_get(forward(x, h0, weights, lengths))
    shapes = {"output.grad": (*x.shape[:-1], config.num_directions * config.hidden_size), "h_n.grad": h0.shape}
    given = tuple(cotangents.get(name, np.zeros(shape, x.dtype)) for name, shape in shapes.items())
    return jax.device_get(both(x, h0, weights, lengths, given))


def subject() -> FunctionSubject:
    """Return the subject ``jax:flax``."""
    return subject_of(
        "jax:flax", "jax", ("flax", "jax", "jaxlib"), with_zeros, flax_function, by_flax, num_layers=(1, 1, 2)
    )
