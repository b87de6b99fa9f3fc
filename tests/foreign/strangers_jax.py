"""strangers_jax: a recurrent layer in JAX, for where that is installed; in no manifest, for it often is not."""

import numpy as np

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None


def rnn(x, h0, weights, config):
    if jax is None:
        raise NotImplementedError("jax is not installed")
    if config.num_layers > 1 or config.bidirectional or config.dtype != "float32":
        raise NotImplementedError("one layer, one direction, float32")
    w, u = jnp.asarray(weights["weight_ih_l0"]), jnp.asarray(weights["weight_hh_l0"])
    b = jnp.asarray(weights["bias_ih_l0"] + weights["bias_hh_l0"]) if config.bias else 0
    act = jnp.tanh if config.nonlinearity == "tanh" else jax.nn.relu

    def step(h, x_t):
        h = act(x_t @ w.T + h @ u.T + b)
        return h, h

    xs = jnp.asarray(x.swapaxes(0, 1) if config.batch_first else x)
    last, hs = jax.lax.scan(step, jnp.asarray(h0[0]), xs)
    return np.asarray(hs.swapaxes(0, 1) if config.batch_first else hs), np.asarray(last)[None]
