"""An explanation of the notebook's arrays, after its last cell said False; run this file to see it.

The weights are torch's, in float32; the recurrence by hand is in NumPy, in float64, without ``nn.RNN``'s second bias.
"""

import numpy as np
import torch
from notebook import SimpleRNN

import harness


def by_hand(model, X):
    """Compute the forward pass as in the notebook."""
    W_xh, W_hh, b_xh = (
        getattr(model.rnn, name).detach().numpy() for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
    )
    W_hy, b_y = model.fc.weight.detach().numpy(), model.fc.bias.detach().numpy()
    Yhats = np.zeros((X.shape[0], X.shape[1], len(b_y)))
    for n, x in enumerate(X):
        h = np.zeros(len(b_xh))
        for t in range(len(x)):
            h = np.tanh(x[t].dot(W_xh.T) + h.dot(W_hh.T) + b_xh)
            Yhats[n, t] = h.dot(W_hy.T) + b_y
    return Yhats


if __name__ == "__main__":
    torch.manual_seed(0)
    model = SimpleRNN(1, 5, 2)
    X = np.random.randn(1, 10, 1)
    Yhats = model(torch.from_numpy(X.astype(np.float32))).detach().numpy()
    Yhats_manual = by_hand(model, X)
    print(np.allclose(Yhats, Yhats_manual))
    print(harness.explain(model, X, Yhats_manual))
