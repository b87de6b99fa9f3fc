"""A notebook's model, and the recurrence that its author wrote by hand to understand it: without b_hh, then mended.

The notebook builds ``nn.RNN(1, 5, batch_first=True)`` with a linear layer on every time step, takes the weights out,
repeats the forward pass in NumPy, and ends on ``np.allclose(...)`` -> ``False``. Ask why::

    rnn-harness check examples/notebook.py:rnn_without_b_hh
    rnn-harness check examples/notebook.py:rnn_with_b_hh
"""

import numpy as np


def rnn_without_b_hh(x, h0, weights, config):
    """The recurrence as the notebook has it: nn.RNN's second bias, b_hh, is never added."""
    return _by_hand(x, h0, weights, config, add_b_hh=False)


def rnn_with_b_hh(x, h0, weights, config):
    """The same recurrence, mended."""
    return _by_hand(x, h0, weights, config, add_b_hh=True)


def _by_hand(x, h0, weights, config, *, add_b_hh):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer, one direction")
    w_xh, w_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b_xh = weights["bias_ih_l0"] if config.bias else 0
    b_hh = weights["bias_hh_l0"] if config.bias and add_b_hh else 0

    x = x if config.batch_first else x.swapaxes(0, 1)
    output = np.empty((config.N, config.T, config.hidden_size), x.dtype)
    for n in range(config.N):
        h = h0[0, n]
        for t in range(config.T):
            h = np.tanh(x[n, t].dot(w_xh.T) + h.dot(w_hh.T) + b_xh + b_hh)
            output[n, t] = h
    h_n = output[np.newaxis, :, -1]
    output = output if config.batch_first else output.swapaxes(0, 1)

    if config.output_size is None:
        return output, h_n
    readout = output.dot(weights["readout.weight"].T) + weights["readout.bias"]
    return output, h_n, readout
