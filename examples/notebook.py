"""A notebook's model, and the recurrence that its author wrote by hand to understand it: without b_hh, and corrected.

The notebook builds ``nn.RNN(1, 5, batch_first=True)`` with a linear layer on every time step, takes the weights out,
repeats the forward pass in NumPy, and ends on ``np.allclose(...)`` -> ``False``; run this file to see that. To find out
why, run::

    rnn-harness check examples/notebook.py:rnn_without_b_hh
    rnn-harness check examples/notebook.py:rnn_with_b_hh
"""

import numpy as np
import torch
from torch import nn


class SimpleRNN(nn.Module):
    """The notebook's model: a recurrent layer, and a linear layer that reads out every time step."""

    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x):
        """Map (N, T, input_size) to (N, T, output_size)."""
        output, _ = self.rnn(x)
        return self.fc(output)


def rnn_without_b_hh(x, h0, weights, config):
    """Compute the recurrence as in the notebook, where nn.RNN's second bias, b_hh, is never added."""
    return by_hand(x, h0, weights, config, add_b_hh=False)


def rnn_with_b_hh(x, h0, weights, config):
    """Compute the same recurrence with b_hh."""
    return by_hand(x, h0, weights, config, add_b_hh=True)


def by_hand(x, h0, weights, config, *, add_b_hh):
    """Compute one tanh layer in one direction, one sequence and time step after the other."""
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


def compare_by_hand(model, x):
    """Return the model's result for x (N, T, input_size), and that of the recurrence by hand without and with b_hh."""
    given = model(torch.from_numpy(x)).detach().numpy()
    weights = {name: p.detach().numpy() for name, p in model.rnn.named_parameters()}
    weights |= {f"readout.{name}": p.detach().numpy() for name, p in model.fc.named_parameters()}
    from harness import RNNConfig

    N, T, input_size = x.shape
    config = RNNConfig(input_size, model.rnn.hidden_size, batch_first=True, T=T, N=N, output_size=model.fc.out_features)
    h0 = np.zeros((1, N, config.hidden_size), x.dtype)
    return given, *(function(x, h0, weights, config)[2] for function in (rnn_without_b_hh, rnn_with_b_hh))


if __name__ == "__main__":
    given, by_hand_, mended = compare_by_hand(SimpleRNN(1, 5, 2), np.random.randn(1, 10, 1).astype(np.float32))
    print("without b_hh:", np.allclose(given, by_hand_))
    print("with b_hh:   ", np.allclose(given, mended))
