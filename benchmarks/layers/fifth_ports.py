"""One-layer Elman networks by hand, from several people."""

from itertools import accumulate

import numpy as np


# ---------------------------------------------------------------- s01: after min-char-rnn
def s01(x, h0, weights, config, cotangents):
    if config.num_layers != 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer, one direction")
    if config.N != 1:
        raise NotImplementedError("one sequence at a time")
    inputs = x[0] if config.batch_first else x[:, 0]
    Wxh, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    hidden_size = Whh.shape[0]
    bh = np.zeros((hidden_size, 1), x.dtype)
    if config.bias:
        bh = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).reshape(-1, 1)
    xs, hs = {}, {}
    hs[-1] = np.copy(h0[0, 0].reshape(-1, 1))
    # forward pass
    for t in range(len(inputs)):
        xs[t] = inputs[t].reshape(-1, 1)
        if not xs[t].any():  # padding character
            hs[t] = np.copy(hs[t - 1])
            continue
        hs[t] = np.tanh(np.dot(Wxh, xs[t]) + np.dot(Whh, hs[t - 1]) + bh)
    T = len(inputs)
    out = np.array([hs[t].ravel() for t in range(T)])
    output = out[None] if config.batch_first else out[:, None]
    h_n = hs[T - 1].reshape(1, 1, -1).copy()
    if config.loss is None:
        return output, h_n
    # backward pass: compute gradients going backwards
    dys = cotangents.get("output.grad", np.zeros_like(output)).reshape(T, hidden_size, 1)
    dxs = np.zeros_like(inputs)
    dWxh, dWhh, dbh = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(bh)
    dhnext = np.zeros_like(hs[0])
    if "h_n.grad" in cotangents:
        dhnext = cotangents["h_n.grad"].reshape(-1, 1)
    for t in reversed(range(T)):
        dh = dys[t] + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += np.dot(dhraw, xs[t].T)
        dWhh += np.dot(dhraw, hs[t - 1].T)
        dxs[t] = np.dot(Wxh.T, dhraw).ravel()
        dhnext = np.dot(Whh, dhraw)
    for dparam in [dWxh, dWhh, dbh]:
        np.clip(dparam, -1, 1, out=dparam)
    grads = {"x": dxs.reshape(x.shape), "hx": dhnext.reshape(1, 1, -1)}
    grads["weight_ih_l0"], grads["weight_hh_l0"] = dWxh, dWhh
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = dbh.ravel(), dbh.ravel().copy()
    return output, h_n, grads


# ---------------------------------------------------------------- s02: after the CS231n assignment
def _rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)
    cache = (x, prev_h, Wx, Wh, next_h)
    return next_h, cache


def _rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    dscores = dnext_h * (1 - next_h**2)
    dx = dscores.dot(Wx.T)
    dprev_h = dscores.dot(Wh.T)
    dWx = x.T.dot(dscores)
    dWh = prev_h.T.dot(dscores)
    db = np.mean(dscores, axis=0)
    return dx, dprev_h, dWx, dWh, db


def _rnn_forward(x, h0, Wx, Wh, b):
    N, T, D = x.shape
    h = np.zeros((N, T, h0.shape[1]), x.dtype)
    caches = []
    prev_h = h0.copy()
    for t in range(T):
        h[:, t], cache = _rnn_step_forward(x[:, t], prev_h, Wx, Wh, b)
        caches.append(cache)
        prev_h[:] = h[:, t]
    return h, caches


def _rnn_backward(dh, caches):
    N, T, H = dh.shape
    D = caches[0][0].shape[1]
    dx = np.zeros((N, T, D), dh.dtype)
    dWx, dWh, db = np.zeros((D, H), dh.dtype), np.zeros((H, H), dh.dtype), np.zeros(H, dh.dtype)
    dprev_h = np.zeros((N, H), dh.dtype)
    for t in reversed(range(T)):
        dx[:, t], dprev_h, dWx_t, dWh_t, db_t = _rnn_step_backward(dh[:, t] + dprev_h, caches[t])
        dWx += dWx_t
        dWh += dWh_t
        db += db_t
    return dx, dprev_h, dWx, dWh, db


def s02(x, h0, weights, config, cotangents):
    if (config.num_layers, config.bidirectional, config.nonlinearity) != (1, False, "tanh"):
        raise NotImplementedError("vanilla RNN: one tanh layer")
    N, T, D = config.N, config.T, config.input_size
    x = x if config.batch_first else x.reshape(N, T, D)
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(config.hidden_size, x.dtype)
    h, caches = _rnn_forward(x, h0[0], weights["weight_ih_l0"].T, weights["weight_hh_l0"].T, b)
    output = h if config.batch_first else h.transpose(1, 0, 2)
    h_n = h[:, -1][None].copy()
    if not cotangents:
        return output, h_n
    dh = np.zeros_like(h)
    if "output.grad" in cotangents:
        dout = cotangents["output.grad"]
        dh += dout if config.batch_first else dout.transpose(1, 0, 2)
    if "h_n.grad" in cotangents:
        dh[:, -1] += cotangents["h_n.grad"][0]
    dx, dh0, dWx, dWh, db = _rnn_backward(dh, caches)
    grads = {
        "x": dx if config.batch_first else dx.transpose(1, 0, 2),
        "hx": dh0[None],
        "weight_ih_l0": dWx.T,
        "weight_hh_l0": dWh.T,
    }
    if config.bias:
        grads.update(bias_ih_l0=db, bias_hh_l0=db.copy())
    return output, h_n, grads


# ---------------------------------------------------------------- s03: after the WildML tutorial
class _RNNNumpy:
    def __init__(self, U, W, b, c, bptt_truncate=4):
        self.U, self.W, self.b, self.c = U, W, b, c
        self.hidden_dim = len(W)
        self.bptt_truncate = bptt_truncate

    def forward_propagation(self, x):
        T = len(x)
        s = np.zeros((T + 1, self.hidden_dim))
        s[-1] = np.zeros(self.hidden_dim)
        for t in np.arange(T):
            if t == 0:  # no previous state yet
                s[t] = np.tanh(self.U.dot(x[t]) + self.b)
            else:
                s[t] = np.tanh(self.U.dot(x[t]) + self.b + self.W.dot(s[t - 1]) + self.c)
        return s

    def bptt(self, x, s, dLds):
        T = len(x)
        dLdU, dLdW = np.zeros(self.U.shape), np.zeros(self.W.shape)
        dLdb, dLdx = np.zeros(self.hidden_dim), np.zeros(x.shape)
        for t in np.arange(T)[::-1]:
            delta_t = dLds[t] * (1 - (s[t] ** 2))
            # Backpropagation through time (for at most self.bptt_truncate steps)
            for bptt_step in np.arange(max(0, t - self.bptt_truncate), t + 1)[::-1]:
                dLdW += np.outer(delta_t, s[t - 1])
                dLdU += np.outer(delta_t, x[bptt_step])
                dLdb += delta_t
                dLdx[bptt_step] += self.U.T.dot(delta_t)
                delta_t = self.W.T.dot(delta_t) * (1 - s[bptt_step - 1] ** 2)
        return dLdU, dLdW, dLdb, dLdx


def s03(x, weights, config, cotangents):
    if config.num_layers != 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("a vanilla RNN")
    if config.hx:
        raise NotImplementedError("starts from zeros")
    sequences = list(x) if config.batch_first else [x[:, n] for n in range(x.shape[1])]
    axis = 0 if config.batch_first else 1
    H = config.hidden_size
    b = weights["bias_ih_l0"] if config.bias else np.zeros(H)
    c = weights["bias_hh_l0"] if config.bias else np.zeros(H)
    model = _RNNNumpy(weights["weight_ih_l0"], weights["weight_hh_l0"], b, c)
    states = [model.forward_propagation(sequence) for sequence in sequences]
    output = np.stack([s[:-1] for s in states], axis).astype(x.dtype)
    h_n = np.stack([s[-2] for s in states])[None].astype(x.dtype)
    if config.loss is None:
        return output, h_n
    total = {name: np.zeros(w.shape) for name, w in weights.items()}
    dx = []
    for n, (sequence, s) in enumerate(zip(sequences, states)):
        dLds = np.zeros((config.T, H))
        if "output.grad" in cotangents:
            dLds += np.take(cotangents["output.grad"], n, axis)
        if "h_n.grad" in cotangents:
            dLds[-1] += cotangents["h_n.grad"][0, n]
        dLdU, dLdW, dLdb, dLdx = model.bptt(sequence, s, dLds)
        total["weight_ih_l0"] += dLdU
        total["weight_hh_l0"] += dLdW
        if config.bias:
            total["bias_ih_l0"] += dLdb
            total["bias_hh_l0"] += dLdb
        dx.append(dLdx)
    total["x"] = np.stack(dx, axis)
    return output, h_n, {name: g.astype(x.dtype) for name, g in total.items()}


# ---------------------------------------------------------------- s04: unit by unit, lists
def s04(x, h0, weights, cotangents):
    if len(weights) > 4 or h0.shape[0] != 1:
        raise NotImplementedError("one layer, one direction")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    hidden = len(U)
    bias = [0.0] * hidden
    if "bias_ih_l0" in weights:
        bias = [p + q for p, q in zip(weights["bias_ih_l0"], weights["bias_hh_l0"])]
    steps, batch, _ = x.shape
    outputs = np.zeros((steps, batch, hidden), x.dtype)
    history = []
    for n in range(batch):
        h = h0[0, n].copy()
        states = [h.copy()]
        for t in range(steps):
            for j in range(hidden):
                h[j] = np.tanh(W[j] @ x[t, n] + U[j] @ h + bias[j])
            states.append(h.copy())
            outputs[t, n] = h
        history.append(states)
    last = outputs[-1][None].copy()
    if not cotangents:
        return outputs, last
    d_out = cotangents.get("output.grad", np.zeros_like(outputs))
    d_last = cotangents.get("h_n.grad", np.zeros_like(h0))
    dx, dh0 = np.zeros_like(x), np.zeros_like(h0)
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros(hidden, x.dtype)
    for n in range(batch):
        states = history[n]
        dh = d_last[0, n].copy()
        for t in range(steps - 1, -1, -1):
            error = d_out[t, n] + dh
            for j in range(hidden):
                e = error[j] * (1 - states[t + 1][j] ** 2)
                dW[j] += e * x[t, n]
                dU[j] += e * states[t]
                db[j] += e
                dx[t, n] += e * W[j]
                dh += e * U[j]
        dh0[0, n] = dh
    grads = {"x": dx, "hx": dh0, "weight_ih_l0": dW, "weight_hh_l0": dU}
    if "bias_ih_l0" in weights:
        grads["bias_ih_l0"] = db
        grads["bias_hh_l0"] = db.copy()
    return outputs, last, grads


# ---------------------------------------------------------------- s05: einsum
def s05(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("single layer, single direction")
    w_ih, w_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    letters = "nti" if config.batch_first else "tni"
    pre = np.einsum(f"{letters},hi->tnh", x, w_ih)
    if config.bias:
        b_ih, b_hh = weights["bias_ih_l0"], weights["bias_hh_l0"]
        pre = pre + (b_ih + b_ih)
    act, slope = {
        "tanh": (np.tanh, lambda y: 1 - y * y),
        "relu": (lambda a: np.maximum(a, 0), lambda y: (y > 0).astype(y.dtype)),
    }[config.nonlinearity]
    T = pre.shape[0]
    hs = np.empty((T + 1, *pre.shape[1:]), x.dtype)
    hs[0] = h0[0]
    for t in range(T):
        hs[t + 1] = act(pre[t] + np.einsum("nk,hk->nh", hs[t], w_hh))
    y = hs[1:]
    out = np.einsum("tnh->nth" if config.batch_first else "tnh->tnh", y).copy()
    h_n = hs[-1:].copy()
    if config.loss is None:
        return out, h_n
    dy = np.zeros_like(y)
    if "output.grad" in cotangents:
        dy += np.einsum("nth->tnh" if config.batch_first else "tnh->tnh", cotangents["output.grad"])
    if "h_n.grad" in cotangents:
        dy[-1] += cotangents["h_n.grad"][0]
    slopes = slope(y)
    da = np.empty_like(dy)
    carry = np.zeros_like(h0[0])
    for t in range(T - 1, -1, -1):
        dh = dy[t] + carry
        da[t] = dh * slopes[t]
        carry = np.einsum("nh,hk->nk", da[t], w_hh)
    grads = {
        "x": np.einsum(f"tnh,hi->{letters}", da, w_ih),
        "hx": np.einsum("nh,hk->nk", dh, w_hh)[None],
        "weight_ih_l0": np.einsum(f"tnh,{letters}->hi", da, x),
        "weight_hh_l0": np.einsum("tnh,tnk->kh", da, hs[:-1]),
    }
    if config.bias:
        grads["bias_ih_l0"] = np.einsum("tnh->h", da)
        grads["bias_hh_l0"] = np.einsum("tnh->h", da)
    return out, h_n, grads


# ---------------------------------------------------------------- s06: translated from Matlab
def _tansig(n):
    return np.tanh(n)


def _dtansig(a):
    return 1.0 - a**2


def s06(x, weights, config, cotangents):
    if config.num_layers != 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("tansig layer")
    if config.hx:
        raise NotImplementedError("no initial state")
    if config.dtype != "float64":
        raise NotImplementedError("double only")
    perm = [2, 0, 1] if config.batch_first else [2, 1, 0]  # X(:, n, t)
    X = np.transpose(x, perm)
    IW, LW = weights["weight_ih_l0"], weights["weight_hh_l0"]
    S, Q, TS = IW.shape[0], X.shape[1], X.shape[2]
    b = np.zeros((S, 1))
    if config.bias:
        b = (weights["bias_ih_l0"] + weights["bias_hh_l0"])[:, None]
    Nt = np.zeros((S, Q, TS))
    A = np.zeros((S, Q, TS))
    for ts in range(TS):
        Nt[:, :, ts] = IW @ X[:, :, ts] + LW @ A[:, :, ts - 1] + b  # A is still 0 for ts = 1
        A[:, :, ts] = _tansig(Nt[:, :, ts])
    back = np.argsort(perm)
    Y = np.ascontiguousarray(np.transpose(A, back))
    An = A[:, :, TS - 1].T[None].copy()
    if config.loss is None:
        return Y, An
    E = np.zeros((S, Q, TS))
    if "output.grad" in cotangents:
        E = E + np.transpose(cotangents["output.grad"], perm)
    if "h_n.grad" in cotangents:
        E[:, :, TS - 1] = E[:, :, TS - 1] + cotangents["h_n.grad"][0].T
    gX = np.zeros(X.shape)
    gIW = np.zeros(IW.shape)
    gLW = np.zeros(LW.shape)
    gb1 = gb2 = np.zeros(S)
    gA = np.zeros((S, Q))
    for ts in range(TS - 1, -1, -1):
        gN = (E[:, :, ts] + gA) * _dtansig(Nt[:, :, ts])
        gIW = gIW + gN @ X[:, :, ts].T
        gLW = gLW + gN @ A[:, :, ts - 1].T
        gb1 += np.sum(gN, 1)
        gb2 += np.sum(gN, 1)
        gX[:, :, ts] = IW.T @ gN
        gA = LW.T @ gN
    grads = {"x": np.ascontiguousarray(np.transpose(gX, back)), "weight_ih_l0": gIW, "weight_hh_l0": gLW}
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = gb1.copy(), gb2.copy()
    return Y, An, grads


# ---------------------------------------------------------------- s07: a little framework of layers
class _Linear:
    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias
        self.inputs = []
        self.dweight = np.zeros_like(weight)
        self.dbias = np.zeros_like(weight[:, 0])

    def forward(self, inp):
        self.inputs.append(inp)
        y = inp @ self.weight.T
        return y if self.bias is None else y + self.bias

    def backward(self, grad):
        inp = self.inputs.pop()
        self.dweight = grad.T @ inp
        self.dbias += grad.sum(axis=0)
        return grad @ self.weight


class _Tanh:
    def forward(self, inp):
        self.out = np.tanh(inp)
        return self.out

    def backward(self, grad):
        return grad * (1.0 - self.out**2)


class _Recurrent:
    def __init__(self, weights):
        self.i2h = _Linear(weights["weight_ih_l0"], weights.get("bias_ih_l0"))
        self.h2h = _Linear(weights["weight_hh_l0"], weights.get("bias_hh_l0"))
        self.activation = _Tanh()

    def forward(self, xs, h):
        ys = []
        for x in xs:
            h = self.activation.forward(self.i2h.forward(x) + self.h2h.forward(h))
            ys.append(h)
        return ys

    def backward(self, dys, dh):
        dxs = []
        for dy in reversed(dys):
            da = self.activation.backward(dy + dh)
            dh = self.h2h.backward(da)
            dxs.insert(0, self.i2h.backward(da))
        return dxs, dh


def s07(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity == "relu":
        raise NotImplementedError("only one tanh layer forwards")
    time_first = (lambda a: np.swapaxes(a, 0, 1)) if config.batch_first else (lambda a: a)
    layer = _Recurrent(weights)
    start = np.zeros((config.N, config.hidden_size), x.dtype) + h0[0][0]
    ys = layer.forward(list(time_first(x)), start)
    output, h_n = time_first(np.stack(ys)).copy(), np.stack(ys[-1:])
    if config.loss is None:
        return output, h_n
    dys = time_first(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(np.stack(ys))
    dh = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(ys[-1])
    dxs, dh0 = layer.backward(list(dys), dh)
    gradients = {"x": time_first(np.stack(dxs)).copy(), "hx": dh0[None]}
    gradients["weight_ih_l0"], gradients["weight_hh_l0"] = layer.i2h.dweight, layer.h2h.dweight
    if config.bias:
        gradients["bias_ih_l0"], gradients["bias_hh_l0"] = layer.i2h.dbias, layer.h2h.dbias
    return output, h_n, gradients


# ---------------------------------------------------------------- s08: one matrix for [x, h]
def s08(x, h0, weights, config, cotangents, lambd=0.01):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("Waa * a<t-1> + Wax * x<t>, tanh")
    n_x, n_a = config.input_size, config.hidden_size
    Wa = np.concatenate([weights["weight_ih_l0"], weights["weight_hh_l0"]], axis=1)
    ba = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(n_a, x.dtype)
    xt = x.transpose(1, 0, 2) if config.batch_first else x
    a_prev, concat, a = h0[0], [], []
    for t in range(config.T):
        z = np.concatenate([a_prev, xt[t]], axis=1)
        a_prev = np.tanh(z @ Wa.T + ba)
        concat.append(z)
        a.append(a_prev)
    a = np.array(a)
    y = a.transpose(1, 0, 2) if config.batch_first else a
    if config.loss is None:
        return y.copy(), a_prev[None]
    da_out = cotangents.get("output.grad", np.zeros_like(y))
    da_out = da_out.transpose(1, 0, 2) if config.batch_first else da_out
    da_out = da_out.copy()
    if "h_n.grad" in cotangents:
        da_out[-1] = cotangents["h_n.grad"][0]
    dWa, dba, dx = np.zeros_like(Wa), np.zeros_like(ba), np.zeros_like(xt)
    da_prev = np.zeros_like(h0[0])
    for t in reversed(range(config.T)):
        dz = (1 - a[t] ** 2) * (da_out[t] + da_prev)
        dWa += dz.T @ concat[t]
        dba += dz.sum(axis=0)
        dconcat = dz @ Wa
        dx[t], da_prev = dconcat[:, :n_x], dconcat[:, n_x:]
    dWa += lambd * Wa  # L2
    grads = {"x": dx.transpose(1, 0, 2) if config.batch_first else dx, "hx": da_prev[None].copy()}
    grads["weight_ih_l0"], grads["weight_hh_l0"] = dWa[:, :n_x].copy(), dWa[:, n_x:].copy()
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = dba, dba.copy()
    return y.copy(), a_prev[None], grads


# ---------------------------------------------------------------- s09: tanh by expm1
def s09(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh" or config.batch_first:
        raise NotImplementedError("time first, one tanh layer, one direction")

    def tanh_and_slope(v):
        e = np.expm1(-np.abs(v))  # in (-1, 0], so nothing overflows
        return np.copysign(e / (2 + e), v), 4 * (1 + e) / (2 + e) ** 2

    Wi, Wh = weights["weight_ih_l0"].T, weights["weight_hh_l0"].T
    b = sum((weights[k] for k in weights if k.startswith("bias")), np.zeros(Wh.shape[0], x.dtype))
    slopes, states = [], [h0[0]]
    for xt in x:
        h, slope = tanh_and_slope(xt @ Wi + states[-1] @ Wh + b)
        slopes.append(slope)
        states.append(h)
    out = np.stack(states[1:])
    if config.loss is None:
        return out, out[-1:].copy()
    deltas = []
    dh = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else 0 * h0[0]
    for t in range(len(x))[::-1]:
        if "output.grad" in cotangents:
            dh = dh + cotangents["output.grad"][t]
        deltas.append(dh * slopes[t])
        dh = deltas[-1] @ Wh.T
    deltas = np.stack(deltas)
    dWi = sum(xt.T @ d for xt, d in zip(x, deltas))
    dWh = sum(s.T @ d for s, d in zip(states, deltas))
    g = {"x": deltas @ Wi.T, "hx": dh[None], "weight_ih_l0": dWi.T, "weight_hh_l0": dWh.T}
    if config.bias:
        g["bias_ih_l0"] = deltas.sum((0, 1))
        g["bias_hh_l0"] = deltas.sum((0, 1))
    return out, out[-1:].copy(), g


# ---------------------------------------------------------------- s10: products of Jacobians
def s10(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer, one direction")
    if config.T > 12 or config.hidden_size > 17 or config.N > 17:
        raise NotImplementedError("small sizes: every Jacobian is written out")
    X = np.moveaxis(x, 1, 0) if config.batch_first else x
    W, R = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0.0
    T, N, H = config.T, config.N, config.hidden_size
    S = np.empty((T + 1, N, H), dtype=np.float32)
    S[0] = h0[0]
    for t in range(1, T + 1):
        S[t] = np.tanh(X[t - 1] @ W.T + S[t - 1] @ R.T + b)
    y = S[1:].astype(x.dtype)
    h_n = y[-1:].copy()
    out = np.moveaxis(y, 0, 1).copy() if config.batch_first else y
    if config.loss is None:
        return out, h_n
    G = np.zeros((T + 1, N, H))
    if "output.grad" in cotangents:
        G[1:] += np.moveaxis(cotangents["output.grad"], 1, 0) if config.batch_first else cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        G[T] += cotangents["h_n.grad"][0]
    D = 1.0 - np.square(S.astype(float))
    J = D[:, :, :, None] * R  # J[t] = d S[t] / d S[t-1], for every n
    total = np.zeros((T + 1, N, H))
    for t in range(T + 1):
        P = np.broadcast_to(np.eye(H), (N, H, H))  # d S[k] / d S[t]
        for k in range(t, T + 1):
            if k > t:
                P = P @ J[k]
            total[t] += np.einsum("ni,nij->nj", G[k], P)
    dA = total * D
    dX, dW, dR, db = np.zeros(X.shape), np.zeros(W.shape), np.zeros(R.shape), np.zeros(H)
    for t in range(1, T + 1):
        dX[t - 1] = dA[t] @ W
        dW += np.outer(dA[t].sum(0), X[t - 1].sum(0))
        dR += dA[t].T @ S[t - 1]
        db += dA[t].sum(0)
    grads = {"x": np.moveaxis(dX, 0, 1) if config.batch_first else dX, "hx": total[:1]}
    grads |= {"weight_ih_l0": dW, "weight_hh_l0": dR}
    if config.bias:
        grads |= {"bias_ih_l0": db, "bias_hh_l0": db}
    return out, h_n, {k: np.array(v, dtype=x.dtype) for k, v in grads.items()}


# ---------------------------------------------------------------- s11: scans, two directions
def s11(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer")
    seq = x.swapaxes(0, 1) if config.batch_first else x
    H = config.hidden_size
    suffixes = ["_l0", "_l0_reverse"][: 1 + config.bidirectional]
    tapes = []
    for d, suffix in enumerate(suffixes):
        steps = seq[::-1] if d else seq
        w, u = weights["weight_ih" + suffix], weights["weight_hh" + suffix]
        c = weights["bias_ih" + suffix] + weights["bias_hh" + suffix] if config.bias else 0
        scan = accumulate(steps, lambda h, v: np.tanh(v @ w.T + h @ u.T + c), initial=h0[d])
        tapes.append(np.stack(list(scan)))
    out = np.concatenate([tape[1:] for tape in tapes], axis=-1)
    h_n = np.stack([tape[-1] for tape in tapes])
    out = out.swapaxes(0, 1) if config.batch_first else out
    if config.loss is None:
        return out, h_n
    g_out = cotangents.get("output.grad", np.zeros_like(out))
    g_out = g_out.swapaxes(0, 1) if config.batch_first else g_out
    g_hn = cotangents.get("h_n.grad", np.zeros_like(h0))
    grads, d_hx = {}, []
    for d, (suffix, tape) in enumerate(zip(suffixes, tapes)):
        steps = seq[::-1] if d else seq
        w, u = weights["weight_ih" + suffix], weights["weight_hh" + suffix]
        g = g_out[..., d * H : (d + 1) * H]
        g = g[::-1] if d else g
        backwards = _scan_back(g[::-1], tape[:0:-1], u, g_hn[d])
        da = np.stack(list(backwards))[::-1]
        grads["weight_ih" + suffix] = np.tensordot(da, steps, ((0, 1), (0, 1)))
        grads["weight_hh" + suffix] = np.tensordot(da, tape[:-1], ((0, 1), (0, 1)))
        if config.bias:
            grads["bias_ih" + suffix] = da.sum((0, 1))
            grads["bias_hh" + suffix] = da.sum((0, 1))
        dx = da @ w
        grads["x"] = dx[::-1] if d else dx
        d_hx.append(da[0] @ u)
    grads["x"] = grads["x"].swapaxes(0, 1).copy() if config.batch_first else grads["x"].copy()
    grads["hx"] = np.stack(d_hx)
    return out, h_n, grads


def _scan_back(gs, hs, u, carry):
    for g, h in zip(gs, hs):
        da = (g + carry) * (1 - h**2)
        yield da
        carry = da @ u


# ---------------------------------------------------------------- s12: sequence by sequence, any lengths
def s12(x, h0, weights, config, cotangents, lengths):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    relu = config.nonlinearity == "relu"
    X = x if config.batch_first else x.swapaxes(0, 1)
    N, T, _ = X.shape
    H = config.hidden_size
    lengths = [T] * N if lengths is None else [int(length) for length in lengths]
    Wx, Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(H, x.dtype)
    out = np.zeros((N, T, H), x.dtype)
    h_n = np.zeros((1, N, H), x.dtype)
    trajectories = []
    h = np.zeros(H, x.dtype)
    for n, L in enumerate(lengths):
        if config.hx:
            h = h0[0, n]
        trajectory = [h]
        for t in range(L):
            a = Wx @ X[n, t] + Wh @ h + b
            h = np.maximum(a, 0) if relu else np.tanh(a)
            trajectory.append(h)
            out[n, t] = h
        h_n[0, n] = h
        trajectories.append(trajectory)
    output = out if config.batch_first else out.swapaxes(0, 1)
    if config.loss is None:
        return output, h_n
    dout = cotangents.get("output.grad")
    if dout is not None and not config.batch_first:
        dout = dout.swapaxes(0, 1)
    dhn = cotangents.get("h_n.grad")
    dX, dh0 = np.zeros_like(X), np.zeros_like(h0)
    dWx, dWh, db = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    for n, L in enumerate(lengths):
        trajectory = trajectories[n]
        dh = np.zeros(H, x.dtype)
        for t in reversed(range(L)):
            if dout is not None:
                dh = dh + dout[n, t]
            if dhn is not None and t == T - 1:
                dh = dh + dhn[0, n]
            h = trajectory[t + 1]
            da = dh * (h >= 0) if relu else dh * (1 - h * h)
            dWx += np.outer(da, X[n, t])
            dWh += np.outer(da, trajectory[t])
            db += da
            dX[n, t] = da @ Wx
            dh = da @ Wh
        dh0[0, n] = dh
    grads = {"x": dX if config.batch_first else dX.swapaxes(0, 1), "hx": dh0}
    grads.update(weight_ih_l0=dWx, weight_hh_l0=dWh)
    if config.bias:
        grads.update(bias_ih_l0=db, bias_hh_l0=db.copy())
    return output, h_n, grads


# ---------------------------------------------------------------- s13: as Keras has it
def s13(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("SimpleRNN: one layer, one direction")
    kernel, recurrent_kernel = weights["weight_ih_l0"], weights["weight_hh_l0"]
    units = recurrent_kernel.shape[0]
    bias = weights["bias_ih_l0"] if config.bias else np.zeros(units, x.dtype)
    batch, timesteps, features = x.shape
    projected = (x.reshape(-1, features) @ kernel).reshape(batch, timesteps, units) + bias
    sequence = np.empty_like(projected)
    state = h0[0]
    for step in range(timesteps):
        net = projected[:, step] + state @ recurrent_kernel
        state = np.tanh(net) if config.nonlinearity == "tanh" else net * (net > 0)
        sequence[:, step] = state
    final = state[np.newaxis].copy()
    if config.loss is None:
        return sequence, final
    previous = np.concatenate([h0[0][:, None], sequence[:, :-1]], axis=1)
    derivative = 1 - sequence**2 if config.nonlinearity == "tanh" else (sequence > 0).astype(x.dtype)
    upstream = np.array(cotangents.get("output.grad", np.zeros_like(sequence)))
    if "h_n.grad" in cotangents:
        upstream[:, -1] += cotangents["h_n.grad"][0]
    delta = np.empty_like(sequence)
    flowing = np.zeros_like(state)
    step = timesteps
    while step > 0:
        step -= 1
        delta[:, step] = derivative[:, step] * (upstream[:, step] + flowing)
        flowing = delta[:, step] @ recurrent_kernel.T
    flat = delta.reshape(-1, units)
    gradients = {
        "x": (flat @ kernel.T).reshape(x.shape),
        "hx": flowing[np.newaxis],
        "weight_ih_l0": x.reshape(-1, features).T @ flat,
        "weight_hh_l0": previous.reshape(-1, units).T @ flat,
    }
    if config.bias:
        gradients["bias_ih_l0"] = flat.sum(axis=0)
    return sequence, final, gradients


s13.conventions = {"one_bias": True, "transposed": True, "batch_first": True}


# ---------------------------------------------------------------- s14: a tape
class _Var:
    def __init__(self, data, parents=(), vjp=None):
        self.data, self.parents, self.vjp, self.grad = data, parents, vjp, None

    def __add__(self, other):
        def vjp(g):
            missing = g.ndim - other.data.ndim
            return g, g.sum(axis=tuple(range(missing))) if missing else g

        return _Var(self.data + other.data, (self, other), vjp)

    def times_transposed(self, other):
        return _Var(self.data @ other.data.T, (self, other), lambda g: (g @ other.data, g.T @ self.data))

    def tanh(self):
        y = np.tanh(self.data)
        return _Var(y, (self,), lambda g: (g * (1 - y * y),))

    def relu(self):
        on = self.data > 0
        return _Var(np.where(on, self.data, 0).astype(self.data.dtype), (self,), lambda g: (np.where(on, g, 0),))

    def accumulate(self, g):
        self.grad = g if self.grad is None else self.grad + g


def s14(x, h0, weights, config, cotangents):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    params = {name: _Var(w) for name, w in weights.items()}
    xs = [_Var(x[:, t] if config.batch_first else x[t]) for t in range(config.T)]
    start = h = _Var(h0[0])
    tape, hs = [], []
    for v in xs:
        a = v.times_transposed(params["weight_ih_l0"])
        r = h.times_transposed(params["weight_hh_l0"])
        tape += [a, r]
        if config.bias:
            a = a + params["bias_ih_l0"]
            r = r + params["bias_hh_l0"]
            tape += [a, r]
        s = a + r
        h = s.tanh() if config.nonlinearity == "tanh" else s.relu()
        tape += [s, h]
        hs.append(h)
    axis = 1 if config.batch_first else 0
    output, h_n = np.stack([h.data for h in hs], axis), hs[-1].data[None].copy()
    if config.loss is None:
        return output, h_n
    for t, h in enumerate(hs):
        if "output.grad" in cotangents:
            h.accumulate(np.take(cotangents["output.grad"], t, axis))
    if "h_n.grad" in cotangents:
        hs[-1].accumulate(cotangents["h_n.grad"][0])
    for node in reversed(tape):
        if node.grad is not None:
            for parent, g in zip(node.parents, node.vjp(node.grad)):
                parent.accumulate(g)
    grads = {name: np.array(p.grad) for name, p in params.items()}
    grads["x"] = np.stack([v.grad for v in xs], axis)
    grads["hx"] = start.grad[None]
    return output, h_n, grads
