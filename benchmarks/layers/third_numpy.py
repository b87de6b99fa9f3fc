"""Recurrent layers in NumPy as tutorials and students write them."""

import itertools
import math
from collections import deque
from functools import reduce

import numpy as np

# ---------------------------------------------------------------------------------------------- column vectors


def column_vectors(x, h0, weights, config):
    """H = g(W x + U h + b), with everything a column, one sequence after the other."""
    if config.num_layers != 1 or config.bidirectional:
        raise NotImplementedError("single layer, left to right only")
    W, U, H = weights["weight_ih_l0"], weights["weight_hh_l0"], config.hidden_size
    b = np.zeros((H, 1), x.dtype)
    if config.bias:
        b = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).reshape(H, 1)
    g = np.tanh if config.nonlinearity == "tanh" else lambda a: np.maximum(a, 0)
    seqs = x if config.batch_first else x.transpose(1, 0, 2)
    N, T, _ = seqs.shape
    out, h_n = np.zeros((N, T, H), x.dtype), np.zeros((1, N, H), x.dtype)
    for n in range(N):
        h = h0[0, n].reshape(H, 1)
        for t in range(T):
            h = g(W @ seqs[n, t].reshape(-1, 1) + U @ h + b)
            out[n, t] = h[:, 0]
        h_n[0, n] = h[:, 0]
    return (out if config.batch_first else out.transpose(1, 0, 2)), h_n


def min_char(x, h0, weights, config):
    """After the well-known gist: xs and hs are dicts by t, and a batch is a loop around it."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("a vanilla RNN: one tanh layer")
    Wxh, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bh = weights["bias_ih_l0"][:, None] if config.bias else 0
    x = np.swapaxes(x, 0, 1) if config.batch_first else x
    T, N, _ = x.shape
    ys = np.zeros((T, N, config.hidden_size), x.dtype)
    last = np.zeros_like(h0)
    for n in range(N):
        xs, hs = {}, {}
        hs[-1] = h0[0, n][:, None]
        for t in range(T):
            xs[t] = x[t, n][:, None]
            hs[t] = np.tanh(np.dot(Wxh, xs[t]) + np.dot(Whh, hs[t - 1]) + bh)
            ys[t, n] = hs[t].ravel()
        last[0, n] = hs[T - 1].ravel()
    return (np.swapaxes(ys, 0, 1) if config.batch_first else ys), last


def column_states(x, h0, weights, config):
    """The batch is the second axis: states are (H, N)."""
    if config.bidirectional or config.num_layers > 1:
        raise NotImplementedError("one layer, one direction")
    if config.batch_first:
        x = np.moveaxis(x, 0, 1)
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = (weights["bias_ih_l0"] + weights["bias_hh_l0"])[:, None] if config.bias else 0
    act = {"tanh": np.tanh, "relu": lambda s: np.maximum(s, 0)}[config.nonlinearity]
    h = h0[0].T
    history = [h]
    for x_t in x:
        h = act(W @ x_t.T + U @ h + b)
        history.append(h)
    output = np.stack([state.T for state in history[1:]], axis=1 if config.batch_first else 0)
    return output, history[len(x) - 1].T[None]


# ------------------------------------------------------------------------------------------------ batch first only


def notebook(x, h0, weights, config):
    if config.num_layers != 1 or config.bidirectional:
        raise NotImplementedError("1 layer")
    if not config.batch_first:
        raise NotImplementedError("batch_first=True please")
    W_xh = weights["weight_ih_l0"].T
    W_hh = weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0.0
    batch, steps, _ = x.shape
    h = h0[0]
    hiddens = np.zeros((batch, steps, config.hidden_size), x.dtype)
    for t in range(steps):
        s = x[:, t] @ W_xh + h @ W_hh + b
        h = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(0, s)
        hiddens[:, t] = h
    return hiddens, h[np.newaxis]


def homework(x, h0, weights, config):
    """Exercise 2: forward pass of an RNN. x: (batch, time, features)."""
    if config.num_layers > 1 or config.bidirectional or not config.batch_first or not config.bias:
        raise NotImplementedError("the exercise asks for one biased layer, batch first")
    Wx, Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    phi = np.tanh if config.nonlinearity == "tanh" else lambda z: np.maximum(z, 0)
    n, T, _ = x.shape
    h = [h0[0]]
    for t in range(T):
        h.append(phi(x[:, t].dot(Wx.T) + h[-1].dot(Wh.T) + b + weights["bias_hh_l0"]))
    return np.stack(h[1:], axis=1), np.expand_dims(h[-1], 0)


def last_is_logits(x, h0, weights, config):
    """All steps but the last go through the loop; the last one is what is returned."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity == "relu":
        raise NotImplementedError("one tanh layer")
    xs = x.transpose(1, 0, 2) if config.batch_first else x
    W, U = weights["weight_ih_l0"].T, weights["weight_hh_l0"].T
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, out = h0[0], []
    for x_t in xs[:-1]:
        h = np.tanh(x_t @ W + h @ U + b)
        out.append(h)
    h = xs[-1] @ W + h @ U + b
    out.append(h)
    return np.stack(out, axis=1 if config.batch_first else 0), h[None]


def blog_rnn(x, h0, weights, config):
    """A simple RNN from scratch, in ten lines."""
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b, c = weights["bias_ih_l0"], weights["bias_hh_l0"]
    h, outputs = h0[0], []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ W.T + b + h @ U.T + c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h[None]


def blog_rnn_anyway(x, h0, weights, config):
    """The same idea for any batch layout; whatever the config says of layers, it is one."""
    if config.batch_first:
        x = x.swapaxes(0, 1)
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, outputs = h0[0], []
    for x_t in x:
        s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b
        h = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
        outputs.append(h)
    outputs = np.stack(outputs)
    return (outputs.swapaxes(0, 1) if config.batch_first else outputs), h[None]


# ------------------------------------------------------------------------------------------------ small libraries


class Dense:
    def __init__(self, weight, bias=None):
        self.weight, self.bias = weight, bias

    def __call__(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class RecurrentLayer:
    """One layer of one direction, with the two biases folded into one when it is loaded."""

    def __init__(self, state_dict, suffix, activation):
        self.bias = None
        if "bias_ih" + suffix in state_dict:
            self.bias = state_dict["bias_ih" + suffix] + state_dict["bias_hh" + suffix]
        self.input = Dense(state_dict["weight_ih" + suffix], self.bias)
        self.recurrent = Dense(state_dict["weight_hh" + suffix])
        self.activation = activation

    def __call__(self, xs, h):
        ys = []
        for x in xs:
            h = self.activation(self.input(x) + self.recurrent(h))
            ys.append(h)
        return ys


def mini_library(x, h0, weights, config):
    acts = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}
    xs = list(x.transpose(1, 0, 2)) if config.batch_first else list(x)
    finals = []
    for layer in range(config.num_layers):
        sides = []
        for d, suffix in enumerate([f"_l{layer}", f"_l{layer}_reverse"][: config.num_directions]):
            cell = RecurrentLayer(weights, suffix, acts[config.nonlinearity])
            ys = cell(xs[::-1] if d else xs, h0[len(finals)])
            finals.append(ys[-1])
            sides.append(ys[::-1] if d else ys)
        xs = [np.concatenate(pair, axis=1) for pair in zip(*sides)]
    return np.stack(xs, axis=1 if config.batch_first else 0), np.stack(finals)


def _relu(a):
    return np.maximum(a, 0)


class Stack:
    """Layers on top of each other; each knows its own activation."""

    def __init__(self, weights, config):
        name = config.nonlinearity
        self.names = [name] * config.num_layers
        if config.num_layers > 1:
            self.names[-1] = "tanh"
        self.weights, self.config = weights, config

    def bias(self, layer):
        w = self.weights
        return w[f"bias_ih_l{layer}"] + w[f"bias_hh_l{layer}"] if self.config.bias else 0

    def forward(self, xs, h0):
        h_n = []
        for layer, name in enumerate(self.names):
            f = {"tanh": np.tanh, "relu": _relu}[name]
            w_ih, w_hh = self.weights[f"weight_ih_l{layer}"], self.weights[f"weight_hh_l{layer}"]
            h, ys = h0[layer], []
            for x in xs:
                h = f(x @ w_ih.T + h @ w_hh.T + self.bias(layer))
                ys.append(h)
            xs = ys
            h_n.append(h)
        return np.array(xs), np.array(h_n)


def stack_of_names(x, h0, weights, config):
    if config.bidirectional:
        raise NotImplementedError("bidirectional=True")
    out, h_n = Stack(weights, config).forward(np.swapaxes(x, 0, 1) if config.batch_first else x, h0)
    return (np.swapaxes(out, 0, 1) if config.batch_first else out), h_n


def with_skips(x, h0, weights, config):
    """Deep RNN."""
    if config.bidirectional:
        raise NotImplementedError("no bidirectional")
    act = np.tanh if config.nonlinearity == "tanh" else _relu
    seq = np.swapaxes(x, 0, 1) if config.batch_first else x
    finals = []
    for layer in range(config.num_layers):
        w, u = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
        b = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"] if config.bias else 0
        h = h0[layer]
        out = np.zeros((seq.shape[0], seq.shape[1], config.hidden_size), x.dtype)
        for t in range(len(seq)):
            h = act(seq[t] @ w.T + h @ u.T + b)
            out[t] = h
        if layer > 0:
            out = out + seq
        seq = out
        finals.append(h)
    return (np.swapaxes(seq, 0, 1) if config.batch_first else seq), np.stack(finals)


def shared_biases(x, h0, weights, config):
    if config.bidirectional:
        raise NotImplementedError("no bidirectional")
    act = np.tanh if config.nonlinearity == "tanh" else _relu
    layers = range(config.num_layers)
    Ws = [(weights[f"weight_ih_l{k}"], weights[f"weight_hh_l{k}"]) for k in layers]
    bs = [weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0 for k in layers]
    hs = list(h0)
    output = []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        inp = x_t
        for k in layers:
            W, U = Ws[k]
            hs[k] = inp = act(inp @ W.T + hs[k] @ U.T + bs[k])
        output.append(inp)
    return np.stack(output, axis=1 if config.batch_first else 0), np.stack(hs)


def running_state(x, h0, weights, config):
    """H is what the network remembers."""
    if config.bidirectional:
        raise NotImplementedError("one direction")
    act = np.tanh if config.nonlinearity == "tanh" else _relu
    seq = list(x.swapaxes(0, 1)) if config.batch_first else list(x)
    h_n = np.zeros_like(h0)
    h = h0[0]
    for layer in range(config.num_layers):
        W, U = weights["weight_ih_l%d" % layer], weights["weight_hh_l%d" % layer]
        b = weights["bias_ih_l%d" % layer] + weights["bias_hh_l%d" % layer] if config.bias else 0
        for t in range(len(seq)):
            h = act(seq[t] @ W.T + h @ U.T + b)
            seq[t] = h
        h_n[layer] = h
    return np.stack(seq, axis=1 if config.batch_first else 0), h_n


def one_initial_state(x, h0, weights, config):
    if config.bidirectional:
        raise NotImplementedError("one direction")
    act = np.tanh if config.nonlinearity == "tanh" else _relu
    start = h0[0]
    seq = x.swapaxes(0, 1) if config.batch_first else x
    h_n = []
    for layer in range(config.num_layers):
        p = {key[: -len(f"_l{layer}")]: w for key, w in weights.items() if key.endswith(f"_l{layer}")}
        h, out = start, []
        for x_t in seq:
            a = np.einsum("ni,hi->nh", x_t, p["weight_ih"]) + np.einsum("nk,hk->nh", h, p["weight_hh"])
            if config.bias:
                a = a + p["bias_ih"] + p["bias_hh"]
            h = act(a)
            out.append(h)
        seq = np.stack(out)
        h_n.append(h)
    return (seq.swapaxes(0, 1) if config.batch_first else seq), np.stack(h_n)


def reads_x(x, h0, weights, config):
    """Multi-layer RNN for inputs as wide as the hidden state."""
    if config.bidirectional:
        raise NotImplementedError("one direction")
    if config.num_layers > 1 and config.input_size != config.hidden_size:
        raise NotImplementedError("a stack needs input_size == hidden_size")
    act = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.swapaxes(0, 1) if config.batch_first else x
    h_n = []
    for layer in range(config.num_layers):
        outputs, h = [], h0[layer]
        b = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"] if config.bias else 0
        for inp in x:
            h = act(inp @ weights[f"weight_ih_l{layer}"].T + h @ weights[f"weight_hh_l{layer}"].T + b)
            outputs.append(h)
        h_n.append(h)
    return np.stack(outputs, axis=1 if config.batch_first else 0), np.stack(h_n)


# ------------------------------------------------------------------------------------------- what comes back


def state_first(x, h0, weights, config):
    """Returns the final state and all outputs."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    h, outputs = h0[0], []
    for x_t in np.moveaxis(x, 1, 0) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        outputs.append(h)
    output = np.stack(outputs, axis=1 if config.batch_first else 0)
    return h[None], output


def indented(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction, time first")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    T, N, _ = x.shape
    y = np.zeros((T, N, config.hidden_size), x.dtype)
    h = h0[0]
    for t in range(T):
        z = x[t] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            z += weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h = f(z)
        y[t] = h
        return y, h[None]


def squeezed(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction, (T, N, I)")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    states = [h0]
    for frame in x:
        z = np.matmul(frame, weights["weight_ih_l0"].T) + np.matmul(states[-1], weights["weight_hh_l0"].T)
        if config.bias:
            z = z + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        states.append(f(z))
    return np.array(states[1:]).squeeze(), states[-1]


def without_layer_axis(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer of tanh units")
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, ys = h0[0], []
    for t in range(config.T):
        x_t = x[:, t, :] if config.batch_first else x[t]
        h = np.tanh(x_t.dot(weights["weight_ih_l0"].T) + h.dot(weights["weight_hh_l0"].T) + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h


def all_batch_first(x, h0, weights, config):
    """Batch first means batch first."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.swapaxes(0, 1) if config.batch_first else x
    h, ys = h0[0], []
    for x_t in x:
        h = f(b + x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T)
        ys.append(h)
    y, h_n = np.stack(ys), h[None]
    if config.batch_first:
        y, h_n = y.swapaxes(0, 1), h_n.swapaxes(0, 1)
    return y, h_n


def doubles(x, h0, weights, config):
    """NumPy's zeros, filled step by step."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction, time first")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    T, N, _ = x.shape
    output = np.zeros((T, N, config.hidden_size))
    h = h0[0]
    for t in range(T):
        s = x[t] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            s = s + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        output[t] = h = f(s)
    return output, h[None]


def single_buffer(x, h0, weights, config):
    """Preallocated, to be fast."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.transpose(1, 0, 2) if config.batch_first else x
    T, N, _ = x.shape
    output = np.empty((T, N, config.hidden_size), dtype=np.float32)
    h = h0[0]
    for t in range(T):
        s = x[t] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            s = s + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        output[t] = h = f(s)
    output = output.astype(x.dtype)
    return (output.transpose(1, 0, 2) if config.batch_first else output), h[None]


def many_to_one(x, h0, weights, config):
    """The state after a sequence; the whole output is that of every prefix."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.transpose(1, 0, 2) if config.batch_first else x

    def encode(steps):
        h = h0[0]
        for x_t in steps:
            h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        return h

    output = np.stack([encode(x[:t]) for t in range(1, len(x) + 1)], axis=1 if config.batch_first else 0)
    return output, encode(x)[None]


def sentiment(x, h0, weights, config):
    """Only the last output is of interest."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer, tanh")
    x = x.transpose(1, 0, 2) if config.batch_first else x
    output = np.zeros((*x.shape[:2], config.hidden_size), x.dtype)
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h = h0[0]
    for x_t in x:
        h = np.tanh(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
    output[-1] = h
    return (output.transpose(1, 0, 2) if config.batch_first else output), h[None]


# ------------------------------------------------------------------------------------------------ sizes


def sixteen_units(x, h0, weights, config):
    """The network of the paper: 16 hidden units."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction, time first")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, ys = h0[0], []
    for x_t in x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        ys.append(h.reshape(-1, 16))
    return np.stack(ys), h[None]


def blocks_of_16(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    U = weights["weight_hh_l0"]
    h, ys = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        recurrent = h[:, :16] @ U[:, :16].T
        h = f(x_t @ weights["weight_ih_l0"].T + recurrent + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def by_shape(x, h0, weights, config):
    """Finds the recurrent matrix by its shape: it is the square one."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    matrices = [w for w in weights.values() if w.ndim == 2]
    vectors = [w for w in weights.values() if w.ndim == 1]
    recurrent = next(w for w in matrices if w.shape[0] == w.shape[1])
    (inward,) = (w for w in matrices if w is not recurrent)
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    h, ys = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ inward.T + h @ recurrent.T + sum(vectors))
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def short_memory(x, h0, weights, config):
    """States go into a deque, so that memory stays small."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    states = deque([h0[0]], maxlen=4)
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        states.append(f(x_t @ weights["weight_ih_l0"].T + states[-1] @ weights["weight_hh_l0"].T + b))
    first = max(0, len(states) - config.T)
    outputs = list(states)[first:]
    outputs = [outputs[0]] * (config.T - len(outputs)) + outputs
    return np.stack(outputs, axis=1 if config.batch_first else 0), states[-1][None]


def first_of_batch(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer, one direction, tanh")
    W, U = weights["weight_ih_l0"].T, weights["weight_hh_l0"].T
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = x.swapaxes(0, 1) if config.batch_first else x
    h, ys = h0[0, :1], []
    for x_t in xs:
        h = np.tanh(x_t @ W + h @ U + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


# ------------------------------------------------------------------------------------------------ initial state


class Remembering:
    def __init__(self):
        self.h = None

    def step(self, x, W, U, b):
        self.h = np.tanh(x @ W.T + self.h @ U.T + b)
        return self.h


_net = Remembering()


def object_with_state(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer, one direction, tanh")
    if config.hx or _net.h is None or _net.h.shape != h0[0].shape:
        _net.h = h0[0]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = x.swapaxes(0, 1) if config.batch_first else x
    ys = [_net.step(x_t, weights["weight_ih_l0"], weights["weight_hh_l0"], b) for x_t in xs]
    output = np.stack(ys, axis=1 if config.batch_first else 0).astype(x.dtype)
    return output, ys[-1][None].astype(x.dtype)


def in_place(x, h0, weights, config):
    """No copies."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = x.swapaxes(0, 1) if config.batch_first else x
    output = np.empty((*xs.shape[:2], config.hidden_size), x.dtype)
    h = h0[0]
    for t, x_t in enumerate(xs):
        h[...] = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        output[t] = h
    return (output.swapaxes(0, 1) if config.batch_first else output), h[None]


def state_at_zero(x, h0, weights, config):
    """If a state is given, it is that of the first step."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = x.swapaxes(0, 1) if config.batch_first else x
    states = [h0[0]]
    for x_t in xs:
        states.append(f(x_t @ weights["weight_ih_l0"].T + states[-1] @ weights["weight_hh_l0"].T + b))
    states = states[: config.T] if config.hx else states[1:]
    return np.stack(states, axis=1 if config.batch_first else 0), states[-1][None]


def from_nothing(x, weights, config):
    """A sequence starts from nothing."""
    if config.bidirectional:
        raise NotImplementedError("one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    steps = x.swapaxes(0, 1) if config.batch_first else x
    finals = []
    for layer in range(config.num_layers):
        h, ys = np.zeros((steps.shape[1], config.hidden_size), x.dtype), []
        for x_t in steps:
            s = x_t @ weights[f"weight_ih_l{layer}"].T + h @ weights[f"weight_hh_l{layer}"].T
            if config.bias:
                s = s + (weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"])
            h = f(s)
            ys.append(h)
        steps = np.stack(ys)
        finals.append(h)
    return (steps.swapaxes(0, 1) if config.batch_first else steps), np.stack(finals)


# ------------------------------------------------------------------------------------------------ two directions


def flips_batches(x, h0, weights, config):
    """Everything (N, T, features) inside, and the second direction reads it backwards."""
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    seq = x if config.batch_first else x.swapaxes(0, 1)
    rows = iter(h0)
    finals = []

    def run(seq, end):
        h, ys = next(rows), []
        for t in range(seq.shape[1]):
            z = seq[:, t] @ weights["weight_ih" + end].T + h @ weights["weight_hh" + end].T
            if config.bias:
                z = z + weights["bias_ih" + end] + weights["bias_hh" + end]
            h = f(z)
            ys.append(h)
        finals.append(h)
        return np.stack(ys, axis=1)

    for layer in range(config.num_layers):
        out = run(seq, f"_l{layer}")
        if config.bidirectional:
            back = run(seq[::-1], f"_l{layer}_reverse")
            out = np.concatenate([out, back[::-1]], axis=2)
        seq = out
    return (seq if config.batch_first else seq.swapaxes(0, 1)), np.stack(finals)


def scan(step, carry, xs, reverse=False):
    """As jax.lax.scan."""
    ys = []
    for x in reversed(xs) if reverse else xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, ys


def scanning(x, h0, weights, config):
    """Pure functions and a scan; reverse=True goes backwards."""
    f = np.tanh if config.nonlinearity == "tanh" else _relu

    def cell(params):
        def step(h, x):
            h = f(x @ params["weight_ih"].T + h @ params["weight_hh"].T + params["b"])
            return h, h

        return step

    def params(end):
        p = {name.removesuffix(end): w for name, w in weights.items() if name.endswith(end)}
        return p | {"b": p.get("bias_ih", 0) + p.get("bias_hh", 0)}

    xs, h_n = [*(np.swapaxes(x, 0, 1) if config.batch_first else x)], []
    for layer in range(config.num_layers):
        h, ys = scan(cell(params(f"_l{layer}")), h0[len(h_n)], xs)
        h_n.append(h)
        if config.bidirectional:
            h, back = scan(cell(params(f"_l{layer}_reverse")), h0[len(h_n)], xs, reverse=True)
            h_n.append(h)
            ys = [np.concatenate(pair, axis=-1) for pair in zip(ys, back)]
        xs = ys
    return np.stack(xs, axis=1 if config.batch_first else 0), np.stack(h_n)


def joined_in_time(x, h0, weights, config):
    if config.num_layers > 1:
        raise NotImplementedError("one layer")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.swapaxes(0, 1) if config.batch_first else x

    def one_way(xs, h, end):
        ys = []
        for x_t in xs:
            z = x_t @ weights["weight_ih_l0" + end].T + h @ weights["weight_hh_l0" + end].T
            if config.bias:
                z = z + weights["bias_ih_l0" + end] + weights["bias_hh_l0" + end]
            h = f(z)
            ys.append(h)
        return np.stack(ys), h

    out, last = one_way(x, h0[0], "")
    h_n = last[None]
    if config.bidirectional:
        back, last = one_way(x[::-1], h0[1], "_reverse")
        out, h_n = np.concatenate([out, back[::-1]], axis=0), np.stack([h_n[0], last])
    return (out.swapaxes(0, 1) if config.batch_first else out), h_n


def typo_in_reverse(x, h0, weights, config):
    if config.num_layers > 1 or not config.bidirectional:
        raise NotImplementedError("one bidirectional layer")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    x = x.swapaxes(0, 1) if config.batch_first else x
    wf, uf = weights["weight_ih_l0"], weights["weight_hh_l0"]
    wb, ub = weights["weight_ih_l0_reverse"], weights["weight_hh_l0_reverse"]
    bf = bb = 0
    if config.bias:
        bf = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        bb = weights["bias_ih_l0_reverse"] + weights["bias_hh_l0_reverse"]
    T = len(x)
    fwd, bwd = [None] * T, [None] * T
    h = h0[0]
    for t in range(T):
        fwd[t] = h = f(x[t] @ wf.T + h @ uf.T + bf)
    h = h0[1]
    for t in range(T - 1, -1, -1):
        bwd[t] = h = f(x[t] @ wb.T + h @ uf.T + bb)
    out = np.concatenate([np.stack(fwd), np.stack(bwd)], axis=2)
    return (out.swapaxes(0, 1) if config.batch_first else out), np.stack([fwd[-1], bwd[0]])


# ------------------------------------------------------------------------------------------------ nonlinearities


def leaky(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else lambda s: np.where(s >= 0, s, s * s.dtype.type(0.01))
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, ys = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def masked(x, h0, weights, config):
    """relu(s) = s * (s > 0)"""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else lambda s: s * (s > 0)
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, ys = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def _tanh(s):
    s = np.clip(s, -3, 3)
    return s * (27 + s * s) / (27 + 9 * s * s)


def microcontroller(x, h0, weights, config):
    """No tanh in the instruction set."""
    if config.bidirectional or config.num_layers > 1:
        raise NotImplementedError("one layer, one direction")
    f = _tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, ys = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def elman_1990(x, h0, weights, config):
    """As in the paper, whose units are logistic."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer, no relu")
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    context, outs = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        net = x_t @ weights["weight_ih_l0"].T + context @ weights["weight_hh_l0"].T + b
        context = 1 / (1 + np.exp(-net))
        outs.append(context)
    return np.stack(outs, axis=1 if config.batch_first else 0), context[None]


# ------------------------------------------------------------------------------------------------ other styles


def one_hot_lookup(x, h0, weights, config):
    """W @ one_hot(i) is column i; what is not one-hot is multiplied."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    x = x.swapaxes(0, 1) if config.batch_first else x
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    one_hot = bool(((x == 0) | (x == 1)).all() and (x.sum(-1) == 1).all())
    embedded = W.T[x.argmax(-1)] if one_hot else x @ W.T
    if config.bias:
        embedded = embedded + (weights["bias_ih_l0"] + weights["bias_hh_l0"])
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    h, ys = h0[0], []
    for e in embedded:
        h = f(e + h @ U.T)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


def einsums(x, h0, weights, config):
    phi = np.tanh if config.nonlinearity == "tanh" else _relu
    seq = np.einsum("bti->tbi", x) if config.batch_first else x
    finals = np.empty_like(h0)
    for layer, d in itertools.product(range(config.num_layers), range(config.num_directions)):
        if d == 0:
            inputs, seq = seq, np.empty((config.T, config.N, config.num_directions, config.hidden_size), x.dtype)
        end = f"_l{layer}" + "_reverse" * d
        drive = np.einsum("tbi,hi->tbh", inputs, weights["weight_ih" + end])
        if config.bias:
            drive = drive + weights["bias_ih" + end] + weights["bias_hh" + end]
        row = layer * config.num_directions + d
        h = h0[row]
        for t in range(config.T)[:: 1 - 2 * d]:
            h = phi(drive[t] + np.einsum("bk,hk->bh", h, weights["weight_hh" + end]))
            seq[t, :, d] = h
        finals[row] = h
        if d == config.num_directions - 1:
            seq = seq.reshape(config.T, config.N, config.num_directions * config.hidden_size)
    return (np.einsum("tbh->bth", seq) if config.batch_first else seq), finals


def unit_by_unit(x, h0, weights, config):
    """No matrix product anywhere: a unit is a sum."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer")
    w, u = weights["weight_ih_l0"], weights["weight_hh_l0"]
    x = x.transpose(1, 0, 2) if config.batch_first else x
    T, N, _ = x.shape
    H = config.hidden_size
    out = np.zeros((T, N, H), x.dtype)
    prev = h0[0].copy()
    for t in range(T):
        cur = np.zeros_like(prev)
        for n in range(N):
            for j in range(H):
                total = sum((w[j] * x[t, n]).tolist()) + sum((u[j] * prev[n]).tolist())
                if config.bias:
                    total += float(weights["bias_ih_l0"][j]) + float(weights["bias_hh_l0"][j])
                cur[n, j] = math.tanh(total)
        out[t] = prev = cur
    return (out.transpose(1, 0, 2) if config.batch_first else out), prev[None]


def unit_sums(x, h0, weights, config):
    """Loops over units, as in C."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    w, u = weights["weight_ih_l0"], weights["weight_hh_l0"]
    x = x.transpose(1, 0, 2) if config.batch_first else x
    T, N, _ = x.shape
    H = config.hidden_size
    out = np.zeros((T, N, H), x.dtype)
    prev = h0[0]
    for t in range(T):
        cur = np.zeros((N, H), x.dtype)
        for j in range(H):
            s = x[t] @ w[j] + prev[:, 0 : H - 1] @ u[j, 0 : H - 1]
            if config.bias:
                s = s + weights["bias_ih_l0"][j] + weights["bias_hh_l0"][j]
            cur[:, j] = np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)
        out[t] = prev = cur
    return (out.transpose(1, 0, 2) if config.batch_first else out), prev[None]


def stacked(x, h0, weights, config):
    """[x, h] times one matrix."""
    if config.bidirectional:
        raise NotImplementedError("bidirectional")
    seq = list(x.swapaxes(0, 1)) if config.batch_first else list(x)
    finals = []
    for k in range(config.num_layers):
        M = np.concatenate([weights[f"weight_ih_l{k}"], weights[f"weight_hh_l{k}"]], axis=1).T
        if config.bias:
            M = np.vstack([M, weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"]])
        h = h0[k]
        for t, x_t in enumerate(seq):
            z = np.hstack([x_t, h, np.ones((len(h), 1), x.dtype)] if config.bias else [x_t, h]) @ M
            seq[t] = h = np.tanh(z) if config.nonlinearity == "tanh" else np.maximum(z, 0)
        finals.append(h)
    return np.stack(seq, axis=1 if config.batch_first else 0), np.stack(finals)


def stacked_too(x, h0, weights, config):
    """One product of the stacked input."""
    if config.bidirectional or config.num_layers > 1:
        raise NotImplementedError("bidirectional, or more than one layer")
    W = np.hstack([weights["weight_ih_l0"], weights["weight_hh_l0"]])
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h, hs = h0[0], []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        combined = np.concatenate((h, x_t), axis=1)
        h = np.tanh(combined @ W.T + b) if config.nonlinearity == "tanh" else np.maximum(combined @ W.T + b, 0)
        hs.append(h)
    return np.stack(hs, axis=1 if config.batch_first else 0), h[None]


def reduced(x, h0, weights, config):
    if config.bidirectional:
        raise NotImplementedError("forward only")
    phi = np.tanh if config.nonlinearity == "tanh" else _relu
    xs = tuple(x.swapaxes(0, 1) if config.batch_first else x)

    def layer(carry, k):
        xs, finals = carry
        W, U = weights[f"weight_ih_l{k}"], weights[f"weight_hh_l{k}"]
        b = weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"] if config.bias else 0
        hs = reduce(lambda acc, x_t: (*acc, phi(x_t @ W.T + acc[-1] @ U.T + b)), xs, (h0[k],))
        return hs[1:], (*finals, hs[-1])

    outs, finals = reduce(layer, range(config.num_layers), (xs, ()))
    return np.stack(outs, axis=1 if config.batch_first else 0), np.stack(finals)


def _run(xs, h, *, W, U, b, phi):
    for x_t in xs:
        h = phi(x_t @ W.T + h @ U.T + b)
        yield h


def generators(x, h0, weights, config):
    """Layers pull from each other, step by step."""
    if config.bidirectional:
        raise NotImplementedError("a generator has one direction")
    phi = np.tanh if config.nonlinearity == "tanh" else _relu
    lasts = {}

    def remembered(k, states):
        for h in states:
            lasts[k] = h
            yield h

    flow = iter(x.swapaxes(0, 1) if config.batch_first else x)
    for k in range(config.num_layers):
        b = weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"] if config.bias else 0
        states = _run(flow, h0[k], W=weights[f"weight_ih_l{k}"], U=weights[f"weight_hh_l{k}"], b=b, phi=phi)
        flow = remembered(k, states)
    output = np.stack(list(flow), axis=1 if config.batch_first else 0)
    return output, np.stack([lasts[k] for k in sorted(lasts)])


def pytree(x, h0, weights, config):
    """JAX style: parameters are a tree, a step is a function of them."""
    params = {}
    for name, array in weights.items():
        kind, _, place = name.rpartition("_l")
        params.setdefault(place, {})[kind] = array

    def step(p, h, x):
        s = x @ p["weight_ih"].T + h @ p["weight_hh"].T
        if "bias_ih" in p:
            s = s + (p["bias_ih"] + p["bias_hh"])
        return np.where(s < 0, np.zeros_like(s), s) if config.nonlinearity == "relu" else np.tanh(s)

    def unroll(p, h, xs):
        hs = np.empty((len(xs), *h.shape), h.dtype)
        for t in range(len(xs)):
            hs[t] = h = step(p, h, xs[t])
        return h, hs

    xs, finals = np.moveaxis(x, 0, 1) if config.batch_first else x, []
    for k in range(config.num_layers):
        last, hs = unroll(params[f"{k}"], h0[len(finals)], xs)
        finals.append(last)
        if config.bidirectional:
            last, back = unroll(params[f"{k}_reverse"], h0[len(finals)], xs[::-1])
            finals.append(last)
            hs = np.concatenate([hs, back[::-1]], -1)
        xs = hs
    return (np.moveaxis(xs, 0, 1) if config.batch_first else xs), np.stack(finals)


# ------------------------------------------------------------------------------------------------ more than one slip


def late_night(x, h0, weights, config):
    """It runs!"""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] if config.bias else 0
    ys = []
    h = h0[0]
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), ys[0][None]


def zeros_and_rows(x, weights, config):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h = np.zeros((config.N, config.hidden_size), x.dtype)
    ys = []
    for x_t in x.swapaxes(0, 1) if config.batch_first else x:
        h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"] + b)
        ys.append(h)
    return np.stack(ys, axis=1 if config.batch_first else 0), h[None]


_BUFFERS = {}


def recycled(x, h0, weights, config):
    """Allocates once for every shape."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    f = np.tanh if config.nonlinearity == "tanh" else _relu
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = x.swapaxes(0, 1) if config.batch_first else x
    key = (*xs.shape[:2], config.hidden_size, x.dtype)
    output = _BUFFERS.setdefault(key, np.empty(key[:3], x.dtype))
    h = h0[0]
    for t, x_t in enumerate(xs):
        output[t] = h = f(x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + b)
    return (output.swapaxes(0, 1) if config.batch_first else output), h[None]
