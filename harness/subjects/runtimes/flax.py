"""Flax: ``nnx.RNN`` over ``nnx.SimpleCell``, ``GRUCell`` or ``OptimizedLSTMCell``, with gradients by ``jax.vjp``.

A cell has one bias, which is the sum of both, and its kernels are transposed. So a GRU has no b_hn, and is asked for
without biases. Axes and the order of rows are torch's. A layer runs on through the padding of its output, where torch's
has zeros.

The text of these functions is part of the scripts of findings, so each imports what it uses.
"""

from functools import lru_cache
from typing import Any

from harness.subjects.function import FunctionSubject
from harness.subjects.runtimes.library import of_each, subject_of, with_zeros


@lru_cache(256)
def flax_function(D: Any, cell: Any, nonlinearity: Any, batch_first: Any) -> Any:
    """Return the compiled stack, with ``D`` directions, and the one that is given cotangents, too."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def layer(W: Any, U: Any, b: Any) -> Any:
        kinds = {"RNN": nnx.SimpleCell, "GRU": nnx.GRUCell, "LSTM": nnx.OptimizedLSTMCell}
        zeros = nnx.initializers.zeros_init()
        made = kinds[cell](
            W.shape[1],
            U.shape[1],
            dtype=W.dtype,
            param_dtype=W.dtype,
            kernel_init=zeros,
            recurrent_kernel_init=zeros,
            rngs=nnx.Rngs(0),
            **({"activation_fn": getattr(nnx, nonlinearity)} if cell == "RNN" else {}),
        )
        made.dense_i.kernel = nnx.Param(W.T)
        made.dense_h.kernel = nnx.Param(U.T)
        (made.dense_h if cell == "LSTM" else made.dense_i).bias = nnx.Param(b)
        return nnx.RNN(made, time_major=not batch_first, return_carry=True)

    def forward(x: Any, starts: Any, weights: Any, lengths: Any) -> Any:
        last, options = [], {"time_major": not batch_first, "return_carry": True, "seq_lengths": lengths}
        for k in range(len(starts[0]) // D):
            ends = [f"_l{k}{end}" for end in ("", "_reverse")[:D]]
            W, U = ([weights[f"weight_{role}{end}"] for end in ends] for role in ("ih", "hh"))
            b = [
                weights[f"bias_ih{end}"] + weights[f"bias_hh{end}"]
                if f"bias_ih{end}" in weights
                else jnp.zeros(len(w), w.dtype)
                for end, w in zip(ends, W, strict=True)
            ]
            layers = [layer(*arrays) for arrays in zip(W, U, b, strict=True)]
            # A carry is h, or (c, h).
            carries = [tuple(state[k * D + d] for state in starts[::-1]) for d in range(D)]
            start = tuple(carries) if cell == "LSTM" else tuple(carry[0] for carry in carries)
            if D == 2:
                carries, x = nnx.Bidirectional(*layers, rngs=False)(x, initial_carry=start, **options)
            else:
                carry, x = layers[0](x, initial_carry=start[0], **options)
                carries = [carry]
            last += [carry[::-1] if cell == "LSTM" else (carry,) for carry in carries]
            if lengths is not None:
                inside = jnp.arange(x.shape[1 if batch_first else 0]) < lengths[:, None]  # (N, T)
                x = jnp.where((inside if batch_first else inside.T)[..., None], x, 0)
        return x, *(jnp.stack(states) for states in zip(*last, strict=True))

    def both(x: Any, starts: Any, weights: Any, lengths: Any, cotangents: Any) -> Any:
        returned, back = jax.vjp(lambda x, starts, weights: forward(x, starts, weights, lengths), x, starts, weights)
        dx, dstarts, dweights = back(cotangents)
        return (*returned, {"x": dx, **dict(zip(("h0", "c0"), dstarts, strict=False)), **dweights})

    return jax.jit(forward), jax.jit(both)


def by_flax(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, cotangents: Any) -> Any:
    """Return output and the final states, and the gradients where there are cotangents."""
    import jax
    import numpy as np

    if config.cell == "GRU" and config.bias:
        raise NotImplementedError("GRUCell has no b_hn: bias=False only")
    jax.config.update("jax_enable_x64", val=True)
    x, starts = with_zeros(x, lengths, config.batch_first), h0 if config.cell == "LSTM" else (h0,)
    forward, both = flax_function(config.num_directions, config.cell, config.nonlinearity, config.batch_first)
    if not cotangents:
        return jax.device_get(forward(x, starts, weights, lengths))
    shapes = {"output.grad": (*x.shape[:-1], config.num_directions * config.hidden_size)}
    shapes |= {name: array.shape for name, array in zip(("h_n.grad", "c_n.grad"), starts, strict=False)}
    heads = tuple(cotangents.get(name, np.zeros(shape, x.dtype)) for name, shape in shapes.items())
    return jax.device_get(both(x, starts, weights, lengths, heads))


@of_each
def subject(cell: str) -> FunctionSubject:
    """Return the subject ``jax:flax`` of a cell."""
    functions = with_zeros, flax_function, by_flax
    return subject_of("jax:flax", cell, "jax", ("flax", "jax", "jaxlib"), *functions, slow=True, num_layers=(1, 1, 2))
