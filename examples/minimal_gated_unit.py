"""A layer that torch does not have: the minimal gated unit (G.-B. Zhou et al., 2016), by its equations, and two ports.

The author of the first one had a GRU in mind, whose gate multiplies the product with W_hn. To find that out, run::

    rnn-harness check examples/minimal_gated_unit.py:mgu
    rnn-harness check examples/minimal_gated_unit.py:mended_mgu
"""

import numpy as np

import harness

MGU = harness.Cell(
    "MGU",
    """
    f = sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)
    n = tanh(W_in @ x + b_in + W_hn @ (f * h) + b_hn)
    h = (1 - f) * h + f * n
    """,
)


def mgu(x, h0, weights, config):
    """Multiply W_hn h by f."""
    return layer(x, h0, weights, config, lambda f, h, W_hn, b_hn: f * (h @ W_hn.T) + b_hn)


def mended_mgu(x, h0, weights, config):
    """Multiply h by f."""
    return layer(x, h0, weights, config, lambda f, h, W_hn, b_hn: (f * h) @ W_hn.T + b_hn)


def layer(x, h0, weights, config, recurrent):
    """Return output and h_n of one layer in one direction."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first or not config.bias:
        raise NotImplementedError("one layer with biases, one direction, time first")
    (W_if, W_in), (W_hf, W_hn) = (np.split(weights[f"weight_{of}_l0"], 2) for of in ("ih", "hh"))
    (b_if, b_in), (b_hf, b_hn) = (np.split(weights[f"bias_{of}_l0"], 2) for of in ("ih", "hh"))
    h, output = h0[0], []
    for x_t in x:
        f = 1 / (1 + np.exp(-(x_t @ W_if.T + b_if + h @ W_hf.T + b_hf)))
        n = np.tanh(x_t @ W_in.T + b_in + recurrent(f, h, W_hn, b_hn))
        h = h + f * (n - h)
        output.append(h)
    return np.stack(output), h[None]
