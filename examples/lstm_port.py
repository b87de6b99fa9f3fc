"""A port of nn.LSTM whose author took the order of the gates from ONNX's documentation: i, o, f, c.

To find out why it is wrong, run::

    rnn-harness check examples/lstm_port.py:lstm
    rnn-harness check examples/lstm_port.py:lstm_in_torch_s_order
"""

import numpy as np


def sigmoid(s):
    """Return 1 / (1 + exp(-s)), which is 0 where exp overflows."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-s))


def lstm(x, h0, c0, weights, config):
    """Compute one layer with the rows of its weights in ONNX's order."""
    return port(x, h0, c0, weights, config, order="iofg")


def lstm_in_torch_s_order(x, h0, c0, weights, config):
    """Compute the same with the rows where torch has them."""
    return port(x, h0, c0, weights, config, order="ifgo")


def port(x, h0, c0, weights, config, *, order):
    """Return output, h_n and c_n of one layer in one direction."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer in one direction, time first")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(len(W), x.dtype)
    h, c, output = h0[0], c0[0], []
    for frame in x:
        gate = dict(zip(order, np.split(frame @ W.T + h @ U.T + b, 4, axis=-1), strict=True))
        c = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
        h = sigmoid(gate["o"]) * np.tanh(c)
        output.append(h)
    return np.stack(output), h[None], c[None]
