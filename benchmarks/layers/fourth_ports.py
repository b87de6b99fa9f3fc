"""Twenty ports of torch's nn.RNN to NumPy, with the way back by hand, each by itself.

The harness calls each as f(x, h0, weights, config, cotangents), by these names, and it returns (output, h_n, gradients)
with the gradients under nn.RNN's names, and "x" and "hx". What a port cannot do, it refuses.
"""

from collections import deque
from functools import reduce
from types import SimpleNamespace

import numpy as np


def refuse_if(condition, what):
    if condition:
        raise NotImplementedError(what)


# ---------------------------------------------------------------------------------------------------------------- p01


def p01(x, h0, weights, config, cotangents):
    """Char-RNN style: one sequence at a time, double precision."""
    refuse_if(config.num_layers != 1 or config.bidirectional or config.nonlinearity != "tanh", "one forward tanh layer")
    refuse_if(config.dtype != "float64", "double precision only")
    refuse_if(config.batched and config.N != 1, "one sequence at a time")
    if config.batched:
        inputs, hprev = (x[0] if config.batch_first else x[:, 0]), h0[0, 0]
    else:
        inputs, hprev = x, h0[0]
    Wxh, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bh = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(len(Whh))

    hs = {-1: np.copy(hprev)}
    for t in range(len(inputs)):
        hs[t] = np.tanh(np.dot(Wxh, inputs[t]) + np.dot(Whh, hs[t - 1]) + bh)
    ys = np.array([hs[t] for t in range(len(inputs))])

    dys, dhnext = np.zeros_like(ys), np.zeros_like(hprev)
    if "output.grad" in cotangents:
        dys = cotangents["output.grad"].reshape(ys.shape)
    if "h_n.grad" in cotangents:
        dhnext = cotangents["h_n.grad"].reshape(hprev.shape)
    dWxh, dWhh, dbh = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(bh)
    for t in reversed(range(len(inputs))):
        dh = dys[t] + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += np.outer(dhraw, inputs[t])
        dWhh += np.outer(dhraw, hs[t - 1])
        dhnext = np.dot(Whh.T, dhraw)
    for dparam in [dWxh, dWhh, dbh]:
        np.clip(dparam, -5, 5, out=dparam)

    grads = {"weight_ih_l0": dWxh, "weight_hh_l0": dWhh, "hx": dhnext.reshape(h0.shape)}
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = dbh, dbh.copy()
    last = hs[len(inputs) - 1].reshape(h0.shape).copy()
    if config.batched:
        ys = ys[None] if config.batch_first else ys[:, None]
    return ys, last, grads


p01.offers = {"batched": (True, False)}


# ---------------------------------------------------------------------------------------------------------------- p02


class ElmanCell:
    def __init__(self, w, r, b):
        self.w, self.r, self.b = w, r, b
        self.tape = []

    def step(self, x, h):
        out = np.tanh(x @ self.w.T + h @ self.r.T + self.b)
        self.tape.append((x, h, out))
        return out

    def undo(self, t, grad):
        x, h, out = self.tape[t]
        mask = (out > 0).astype(out.dtype)
        pre = grad * mask
        return pre, pre.T @ x, pre.T @ h, pre.sum(axis=0), pre @ self.w, pre @ self.r


def p02(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1, "stacking is not done")
    refuse_if(config.bidirectional, "only left to right")
    refuse_if(config.nonlinearity == "relu", "tanh only")
    seq = np.moveaxis(x, 0, 1) if config.batch_first else x
    zero = np.zeros(config.hidden_size, x.dtype)
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else zero
    cell = ElmanCell(weights["weight_ih_l0"], weights["weight_hh_l0"], bias)
    state, outs = h0[0], []
    for frame in seq:
        state = cell.step(frame, state)
        outs.append(state)
    y = np.stack(outs, axis=int(config.batch_first))

    gy = cotangents.get("output.grad", np.zeros_like(y))
    if config.batch_first:
        gy = np.moveaxis(gy, 0, 1)
    g = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(state)
    gw, gr, gb, gx = np.zeros_like(cell.w), np.zeros_like(cell.r), np.zeros_like(zero), np.zeros_like(seq)
    steps = len(seq) - 1
    while steps > 0:
        steps -= 1
        _, a, b, c, gx[steps], g = cell.undo(steps, g + gy[steps])
        gw, gr, gb = gw + a, gr + b, gb + c
    gw, gr, gb = (np.clip(p, -1.0, 1.0) for p in (gw, gr, gb))

    grads = dict(x=np.moveaxis(gx, 1, 0) if config.batch_first else gx, hx=g[np.newaxis])
    grads.update(weight_ih_l0=gw, weight_hh_l0=gr)
    if config.bias:
        grads.update(bias_ih_l0=gb, bias_hh_l0=gb.copy())
    return y, state[np.newaxis].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p03


def p03(x, h0, weights, config, cotangents):
    # Follows the "RNN from scratch" article that keeps its history in a deque.
    refuse_if(config.num_layers > 1 or config.bidirectional, "a single direction and a single layer")
    refuse_if(config.nonlinearity != "tanh" or config.batch_first, "tanh, and time first")
    U, V = weights["weight_ih_l0"], weights["weight_hh_l0"]
    biases = [weights[k] for k in ("bias_ih_l0", "bias_hh_l0")] if config.bias else []
    depth = 5

    history = deque(maxlen=depth)
    h, outputs = h0[0], []
    for t in range(config.T):
        a = x[t] @ U.T + h @ V.T
        for b in biases:
            a = a + b
        h = np.tanh(a)
        history.append((t, x[t], h))
        outputs.append(h)
    outputs = np.stack(outputs)

    dU, dV, dc = np.zeros_like(U), np.zeros_like(V), np.zeros(config.hidden_size, x.dtype)
    dx = np.zeros(x.shape, x.dtype)
    dh = np.zeros_like(h)
    if "h_n.grad" in cotangents:
        dh = dh + cotangents["h_n.grad"][0]
    kept = list(history)
    for k in range(len(kept) - 1, -1, -1):
        t, x_t, h_t = kept[k]
        h_prev = kept[k - 1][2] if k > 0 else np.zeros_like(h_t)
        if "output.grad" in cotangents:
            dh = dh + cotangents["output.grad"][t]
        da = dh * (1.0 - h_t**2)
        dU += da.T @ x_t
        dV += da.T @ h_prev
        dc += da.sum(0)
        dx[t] = da @ U
        dh = da @ V

    grads = {"x": dx, "weight_ih_l0": dU, "weight_hh_l0": dV, "hx": dh[None]}
    if config.bias:
        grads |= {"bias_ih_l0": dc, "bias_hh_l0": dc}
    return outputs, h[None].copy(), {name: np.clip(g, -5, 5) for name, g in grads.items()}


# ---------------------------------------------------------------------------------------------------------------- p04


def p04(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers * config.num_directions > 1, "1 layer, 1 direction")
    refuse_if(config.nonlinearity != "tanh", "tanh")
    Wih, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    xs = [x[:, t] if config.batch_first else x[t] for t in range(config.T)]
    hs = [h0[0]]
    for xt in xs:
        raw = np.matmul(xt, Wih.T) + np.matmul(hs[-1], Whh.T)
        if config.bias:
            raw = raw + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        hs.append(np.tanh(raw))
    axis = 1 if config.batch_first else 0
    out = np.stack(hs[1:], axis=axis)

    if config.loss is None:
        return out, hs[-1][None].copy(), {}

    douts = [np.zeros_like(hs[0])] * config.T
    if "output.grad" in cotangents:
        g = cotangents["output.grad"]
        douts = [g[:, t] if config.batch_first else g[t] for t in range(config.T)]
    upstream = douts[-1]
    if "h_n.grad" in cotangents:
        upstream = upstream + cotangents["h_n.grad"][0]
    pieces, dWhh, db, dxs = [], 0, 0, []
    for t in range(config.T - 1, -1, -1):
        draw = upstream * (1 - np.square(hs[t + 1]))
        dWhh = dWhh + draw.T @ hs[t]
        db = db + draw.sum(axis=0)
        dxs.insert(0, draw @ Wih)
        inp = xs[t]
        if t > 0:
            inp = upstream = douts[t - 1] + draw @ Whh
        pieces.append(draw.T @ inp)
    dWih = np.sum(np.stack(pieces), axis=0)
    dWih, dWhh, db = [np.clip(d, -5, 5) for d in [dWih, dWhh, db]]

    gradients = {"x": np.stack(dxs, axis=axis), "hx": (draw @ Whh)[None], "weight_ih_l0": dWih, "weight_hh_l0": dWhh}
    if config.bias:
        gradients["bias_ih_l0"] = db
        gradients["bias_hh_l0"] = np.array(db)
    return out, hs[-1][None].copy(), gradients


# ---------------------------------------------------------------------------------------------------------------- p05


class Rnn05:
    """States are columns: H has one column for each sequence."""

    def __init__(self, weights, with_bias):
        self.params = {"Wx": weights["weight_ih_l0"], "Wh": weights["weight_hh_l0"]}
        n = self.params["Wh"].shape[0]
        self.params["b"] = np.zeros((n, 1), self.params["Wh"].dtype)
        if with_bias:
            self.params["b"] = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).reshape(n, 1)
        self.grads = {k: np.zeros_like(v) for k, v in self.params.items()}

    def forward(self, X, h):
        self.X, self.H = X, [h]
        p = self.params
        for t in range(len(X)):
            self.H.append(np.tanh(p["Wx"] @ X[t] + p["Wh"] @ self.H[t] + p["b"]))

    def backward(self, dY, dh_next):
        p, g = self.params, self.grads
        dX = [np.zeros_like(x) for x in self.X]
        for t in range(len(self.X) - 1, 0, -1):
            dh = dY[t] + dh_next
            dz = (1 - self.H[t + 1] ** 2) * dh
            g["Wx"] += dz @ self.X[t].T
            g["Wh"] += dz @ self.H[t].T
            g["b"] += dz.sum(axis=1, keepdims=True)
            dX[t] = p["Wx"].T @ dz
            dh_next = dh
            for k in g:
                np.clip(g[k], -5, 5, out=g[k])
        return dX, dh_next


def p05(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers != 1 or config.bidirectional or config.batch_first, "plain one-layer RNN, (T, N, I)")
    refuse_if(config.nonlinearity != "tanh", "tanh")
    net = Rnn05(weights, config.bias)
    net.forward(x.transpose(0, 2, 1), h0[0].T)
    Y = np.stack(net.H[1:])
    dY, dh = np.zeros_like(Y), np.zeros_like(Y[0])
    if "output.grad" in cotangents:
        dY = cotangents["output.grad"].transpose(0, 2, 1)
    if "h_n.grad" in cotangents:
        dh = cotangents["h_n.grad"][0].T
    dX, dh = net.backward(dY, dh)
    G = {"weight_ih_l0": net.grads["Wx"], "weight_hh_l0": net.grads["Wh"]}
    G["x"] = np.stack(dX).transpose(0, 2, 1).copy()
    G["hx"] = dh.T[None].copy()
    if config.bias:
        G["bias_ih_l0"] = net.grads["b"].ravel()
        G["bias_hh_l0"] = G["bias_ih_l0"].copy()
    return Y.transpose(0, 2, 1).copy(), Y[-1].T[None].copy(), G


# ---------------------------------------------------------------------------------------------------------------- p06


def p06(x, h0, weights, config, cotangents):
    """Vectorised over time on the way back."""
    refuse_if(config.num_layers > 1 or config.bidirectional, "one layer, one direction")
    refuse_if(config.nonlinearity != "tanh" or not config.bias, "tanh, with biases")
    tnf = (lambda a: np.swapaxes(a, 0, 1)) if config.batch_first else (lambda a: a)
    W, R = weights["weight_ih_l0"], weights["weight_hh_l0"]
    drive = np.einsum("tni,hi->tnh", tnf(x), W) + weights["bias_ih_l0"] + weights["bias_hh_l0"]
    S = np.empty((config.T + 1, config.N, config.hidden_size), x.dtype)
    S[0] = h0[0]
    for t in range(config.T):
        S[t + 1] = np.tanh(drive[t] + np.einsum("nk,hk->nh", S[t], R))

    delta = np.zeros_like(drive)
    if "output.grad" in cotangents:
        delta += tnf(cotangents["output.grad"])
    if "h_n.grad" in cotangents:
        delta[-1] += cotangents["h_n.grad"][0]
    slope = 1 - S[1:] ** 2
    carry = np.zeros_like(S[0])
    for t in range(config.T - 1, -1, -1):
        delta[t] = delta[t] * slope[t]
    dx = np.empty((config.T, config.N, config.input_size), x.dtype)
    dx[:] = np.einsum("tnh,hi->ni", delta, W)
    found = {
        "x": tnf(dx),
        "hx": np.einsum("nh,hk->nk", delta[0], R)[None],
        "weight_ih_l0": np.einsum("tnh,tni->hi", delta, tnf(x)),
        "weight_hh_l0": np.einsum("tnh,tnk->hk", delta, S[:-1]),
        "bias_ih_l0": delta.sum(axis=0).mean(axis=0),
    }
    found["bias_hh_l0"] = found["bias_ih_l0"]
    found = {key: np.clip(value, -1, 1) for key, value in found.items()}
    return tnf(S[1:]).copy(), S[-1:].copy(), found


# ---------------------------------------------------------------------------------------------------------------- p07


def p07(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "single tanh layer")
    kernel, recurrent = weights["weight_ih_l0"].T, weights["weight_hh_l0"].T
    bias = 0
    if config.bias:
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    inputs = x.swapaxes(0, 1) if config.batch_first else x

    def unroll():
        memory = h0[0]
        for current in inputs:
            memory = np.tanh(current @ kernel + memory @ recurrent + bias)
            yield memory

    memories = list(unroll())
    result = np.stack(memories)

    error = np.zeros_like(result)
    if "output.grad" in cotangents:
        given = cotangents["output.grad"]
        error += given.swapaxes(0, 1) if config.batch_first else given
    flowing = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(memories[0])
    d_kernel, d_recurrent = np.zeros_like(kernel), np.zeros_like(recurrent)
    d_bias, d_inputs = np.zeros_like(recurrent[0]), np.zeros_like(inputs)
    before = [h0[0], *memories]
    tanh_slope = 1 - memories[-1] ** 2
    for t in range(len(memories) - 1, -1, -1):
        local = (error[t] + flowing) * tanh_slope
        tanh_slope = 1 - before[t + 1] ** 2
        d_kernel += inputs[t].T @ local
        d_recurrent += memories[t].T @ local
        d_bias += local.sum(0)
        d_inputs[t] = local @ kernel.T
        flowing = local @ recurrent.T

    gradients = {
        "x": d_inputs.swapaxes(0, 1) if config.batch_first else d_inputs,
        "hx": flowing[None],
        "weight_ih_l0": d_kernel.T,
        "weight_hh_l0": d_recurrent.T,
    }
    if config.bias:
        gradients |= {"bias_ih_l0": d_bias, "bias_hh_l0": d_bias.copy()}
    return (result.swapaxes(0, 1) if config.batch_first else result), memories[-1][None].copy(), gradients


# ---------------------------------------------------------------------------------------------------------------- p08


def dtanh08(v):
    return 1 - np.tanh(v) ** 2


def p08(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers != 1, "one layer")
    refuse_if(config.bidirectional, "one direction")
    refuse_if(config.nonlinearity != "tanh", "tanh")
    refuse_if(config.batch_first, "time comes first")
    T, N, I = x.shape
    H = config.hidden_size
    Wx, Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bx, bh = (weights["bias_ih_l0"], weights["bias_hh_l0"]) if config.bias else (np.zeros(H, x.dtype),) * 2
    h = np.zeros((T, N, H), x.dtype)
    z = np.zeros((T, N, H), x.dtype)
    for t in range(T):
        prev = h0[0] if t == 0 else h[t - 1]
        z[t] = np.dot(x[t], Wx.T) + bx + np.dot(prev, Wh.T) + bh
        h[t] = np.tanh(z[t])
    dWx, dWh, db = np.zeros((H, I), x.dtype), np.zeros((H, H), x.dtype), np.zeros(H, x.dtype)
    dx = np.zeros((T, N, I), x.dtype)
    next_grad = np.zeros((N, H), x.dtype)
    dout = np.zeros((T, N, H), x.dtype)
    if "output.grad" in cotangents:
        dout[:] = cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        next_grad[:] = cotangents["h_n.grad"][0]
    for t in range(T - 1, -1, -1):
        prev = h0[0] if t == 0 else h[t - 1]
        dz = dout[t] * dtanh08(h[t]) + next_grad
        dWx += np.dot(dz.T, x[t])
        dWh += np.dot(dz.T, h[t])
        db += np.sum(dz, axis=0)
        dx[t] = np.dot(dz, Wx)
        next_grad = np.dot(dz, Wh)
    grads = {"x": dx, "hx": next_grad.reshape(1, N, H), "weight_ih_l0": dWx, "weight_hh_l0": dWh}
    if config.bias:
        grads["bias_ih_l0"] = db
        grads["bias_hh_l0"] = db.copy()
    return h, h[T - 1].reshape(1, N, H).copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p09


class Tanh09:
    def __call__(self, a):
        self.y = np.tanh(a)
        return self.y

    def back(self, g):
        return g * (1 - self.y * self.y)


class Affine09:
    """One matrix for both, [W_ih W_hh]."""

    def __init__(self, weights, bias):
        self.W = np.hstack([weights["weight_ih_l0"], weights["weight_hh_l0"]])
        self.b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if bias else np.zeros(len(self.W), self.W.dtype)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)
        self.act = np.tanh

    def __call__(self, xh):
        return self.act(xh @ self.W.T + self.b)

    def back(self, xh, g):
        self.dW += g.T @ xh
        self.db += g.sum(0)
        return g @ self.W


def p09(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "not that")
    order = (1, 0, 2) if config.batch_first else (0, 1, 2)
    x = x.transpose(order)
    affine, tape, h, ys = Affine09(weights, config.bias), [], h0[0], []
    for x_t in x:
        xh, nonlinearity = np.hstack([x_t, h]), Tanh09()
        h = nonlinearity(affine(xh))
        tape.append((xh, nonlinearity))
        ys.append(h)
    y = np.stack(ys)
    gy = cotangents["output.grad"].transpose(order) if "output.grad" in cotangents else np.zeros_like(y)
    gh = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(h)
    gx, I = [], config.input_size
    for (xh, nonlinearity), g in zip(reversed(tape), gy[::-1], strict=True):
        both = affine.back(xh, nonlinearity.back(g + gh))
        gx.append(both[:, :I])
        gh = both[:, I:]
    grads = {"x": np.stack(gx[::-1]).transpose(order), "hx": gh[None].copy()}
    grads |= {"weight_ih_l0": affine.dW[:, :I].copy(), "weight_hh_l0": affine.dW[:, I:].copy()}
    grads |= {"bias_ih_l0": affine.db, "bias_hh_l0": affine.db.copy()} if config.bias else {}
    return y.transpose(order).copy(), h[None].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p10


def p10(x, h0, weights, config, cotangents):
    """Vanilla recurrent net."""
    refuse_if(config.num_layers > 1 or config.bidirectional, "vanilla only")
    refuse_if(config.nonlinearity != "tanh", "vanilla only: tanh")
    if config.batch_first:
        x = x.swapaxes(0, 1)
    Wi, Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0.0
    states = [h0[0]]
    for xt in x:
        h = np.tanh(xt @ Wi.T + states[-1] @ Wh.T + b)
        states.append(h)
    y = np.array(states[1:])
    dy = cotangents.get("output.grad")
    if dy is None:
        dy = np.zeros_like(y)
    elif config.batch_first:
        dy = dy.swapaxes(0, 1)
    back = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(h)
    dWi, dWh, db = np.zeros_like(Wi), np.zeros_like(Wh), np.zeros_like(Wh[:, 0])
    dx = np.zeros_like(x)
    for i in range(len(x) - 1, -1, -1):
        d = (dy[i] + back) * (1 - h * h)
        dWi += d.T @ x[i]
        dWh += d.T @ states[i]
        db += d.sum(0)
        dx[i] = d @ Wi
        back = d @ Wh
    out = {"weight_ih_l0": dWi, "weight_hh_l0": dWh, "x": dx.swapaxes(0, 1) if config.batch_first else dx}
    if config.hx:
        out["hx"] = back[None]
    if config.bias:
        out["bias_ih_l0"], out["bias_hh_l0"] = db, db.copy()
    return (y.swapaxes(0, 1) if config.batch_first else y), states[-1][None].copy(), out


# ---------------------------------------------------------------------------------------------------------------- p11


def _forward11(params, x, state):
    cache = []
    for x_t in x:
        new = np.tanh(x_t.dot(params.W.T) + state.dot(params.U.T) + params.b + params.c)
        cache.append(SimpleNamespace(x=x_t, prev=state, h=new))
        state = new
    return cache


def _backward11(params, cache, d_out, d_last):
    m = len(d_last)
    g = SimpleNamespace(W=np.zeros_like(params.W), U=np.zeros_like(params.U), b=np.zeros_like(params.b), x=[])
    d_state = d_last
    for step, d in zip(cache[::-1], d_out[::-1], strict=True):
        da = (1 - step.h**2) * (d + d_state)
        da = np.maximum(np.minimum(da, 1), -1)
        g.W += da.T.dot(step.x)
        g.U += da.T.dot(step.prev)
        g.b += np.sum(da, axis=0) / m
        g.x.append(da.dot(params.W))
        d_state = da.dot(params.U)
    g.x.reverse()
    return g, d_state


def p11(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "one tanh layer")
    refuse_if(not config.bias or config.batch_first, "biases are needed; time first")
    params = SimpleNamespace(
        W=weights["weight_ih_l0"], U=weights["weight_hh_l0"], b=weights["bias_ih_l0"], c=weights["bias_hh_l0"]
    )
    cache = _forward11(params, x, h0[0])
    out = np.stack([step.h for step in cache])
    d_out = cotangents.get("output.grad", np.zeros_like(out))
    d_last = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    g, d_first = _backward11(params, cache, d_out, d_last)
    grads = {"x": np.stack(g.x), "hx": d_first[None], "weight_ih_l0": g.W, "weight_hh_l0": g.U}
    return out, out[-1:].copy(), grads | {"bias_ih_l0": g.b, "bias_hh_l0": g.b.copy()}


# ---------------------------------------------------------------------------------------------------------------- p12


def p12(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "a single tanh layer")
    Wa, Ua = weights["weight_ih_l0"], weights["weight_hh_l0"]
    ba = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(config.hidden_size, x.dtype)
    time = 1 if config.batch_first else 0
    a = [h0[0]]
    for xt in np.moveaxis(x, time, 0):
        a.append(np.tanh(xt @ Wa.T + a[-1] @ Ua.T + ba))
    output = np.stack(a[1:], axis=time)
    if not cotangents:
        return output, a[-1][None].copy(), {}

    da_next = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else 0
    upstream = np.moveaxis(cotangents["output.grad"], time, 0) if "output.grad" in cotangents else [0] * config.T
    dWa, dUa, dba, dx = np.zeros_like(Wa), np.zeros_like(Ua), np.zeros_like(ba), np.zeros(x.shape, x.dtype)
    for t in range(config.T)[::-1]:
        dtanh = (upstream[t] + da_next) * (1 - np.power(a[t + 1], 2))
        xt = x[:, t] if config.batch_first else x[t]
        dWa += dtanh.T @ xt
        dUa += dtanh.T @ a[t]
        dba += dtanh.sum()
        (dx[:, t] if config.batch_first else dx[t])[...] = dtanh @ Wa
        da_next = dtanh @ Ua
    grads = {"x": dx, "hx": da_next[None], "weight_ih_l0": dWa, "weight_hh_l0": dUa}
    if config.bias:
        grads.update({"bias_ih_l0": dba, "bias_hh_l0": dba.copy()})
    return output, a[-1][None].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p13


def p13(x, h0, weights, config, cotangents):
    """Forward and backward as folds."""
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "one tanh layer, forward")
    refuse_if(config.batch_first, "time-major")
    w_in, w_rec = weights["weight_ih_l0"], weights["weight_hh_l0"]
    shift = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0

    def fold(states, x_t):
        return [*states, np.tanh(x_t @ w_in.T + states[-1] @ w_rec.T + shift)]

    states = reduce(fold, x, [h0[0]])
    output = np.stack(states[1:])
    d_output = cotangents.get("output.grad", np.zeros_like(output))

    def unfold(acc, t):
        d_state, deltas = acc
        delta = (d_state + d_output[t]) * (1 - states[t + 1] * states[t + 1])
        return delta @ w_rec, [delta, *deltas]

    start = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(states[0])
    d_h0, deltas = reduce(unfold, reversed(range(config.T)), (start, []))
    delta = np.stack(deltas)
    contract = lambda right: np.tensordot(delta, right, axes=((0, 1), (0, 1)))  # noqa: E731
    gradients = {
        "x": delta @ w_rec @ w_in,
        "hx": d_h0[None],
        "weight_ih_l0": contract(x),
        "weight_hh_l0": contract(np.stack(states[:-1])),
    }
    if config.bias:
        gradients |= {name: delta.sum(axis=(0, 1)) for name in ("bias_ih_l0", "bias_hh_l0")}
    return output, states[-1][None].copy(), gradients


# ---------------------------------------------------------------------------------------------------------------- p14


def p14(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "one layer with tanh")
    if config.batch_first:
        out, h_n, grads = p14_time_first(x.swapaxes(0, 1), h0, weights, config, cotangents)
        grads["x"] = grads["x"].swapaxes(0, 1)
        return out.swapaxes(0, 1), h_n, grads
    return p14_time_first(x, h0, weights, config, cotangents)


def p14_time_first(x, h0, weights, config, cotangents):
    Wih, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bih, bhh = weights.get("bias_ih_l0", 0), weights.get("bias_hh_l0", 0)
    hidden = np.empty((len(x), x.shape[1], len(Whh)), x.dtype)
    hidden[0] = np.tanh(x[0] @ Wih.T + bih + h0[0] @ Whh.T)
    for t in range(1, len(x)):
        hidden[t] = np.tanh(x[t] @ Wih.T + bih + hidden[t - 1] @ Whh.T + bhh)

    delta = np.zeros_like(hidden)
    if "output.grad" in cotangents:
        delta += cotangents["output.grad"].swapaxes(0, 1) if config.batch_first else cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        delta[-1] += cotangents["h_n.grad"][0]
    for t in range(len(x) - 1, 0, -1):
        delta[t] *= 1 - hidden[t] ** 2
        delta[t - 1] += delta[t] @ Whh
    delta[0] *= 1 - hidden[0] ** 2

    rows = delta.reshape(-1, len(Whh))
    previous = np.concatenate([h0, hidden[:-1]]).reshape(rows.shape)
    grads = {"x": delta @ Wih, "hx": delta[:1] @ Whh}
    grads["weight_ih_l0"] = rows.T @ x.reshape(len(rows), -1)
    grads["weight_hh_l0"] = rows.T @ previous
    if config.bias:
        grads["bias_ih_l0"] = rows.sum(0)
        grads["bias_hh_l0"] = rows.sum(0)
    return hidden, hidden[-1:].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p15


def p15(x, weights, config, cotangents):
    """Sequence classifier's encoder: what matters is the last output."""
    refuse_if(config.num_layers > 1 or config.bidirectional, "one layer from left to right")
    refuse_if(config.nonlinearity != "tanh", "tanh")
    w_x, w_h = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = np.zeros(config.hidden_size, x.dtype)
    if config.bias:
        b = b + weights["bias_ih_l0"] + weights["bias_hh_l0"]
    seq = x.transpose(1, 0, 2) if config.batch_first else x
    h = np.zeros((config.N, config.hidden_size), x.dtype)
    trace = [h]
    for t in range(config.T):
        h = np.tanh(seq[t] @ w_x.T + h @ w_h.T + b)
        trace.append(h)

    g = np.zeros_like(h)
    if "h_n.grad" in cotangents:
        g = g + cotangents["h_n.grad"][0]
    per_step = cotangents.get("output.grad")
    if per_step is not None and config.batch_first:
        per_step = per_step.transpose(1, 0, 2)
    d_wx, d_wh, d_b, d_seq = np.zeros_like(w_x), np.zeros_like(w_h), np.zeros_like(b), np.zeros_like(seq)
    for t in range(config.T, 0, -1):
        if per_step is not None:
            g = g + per_step[t - 1]
        g = g * (1 - trace[t] ** 2)
        d_wx += g.T @ seq[t - 1]
        d_wh += g.T @ trace[t - 1]
        d_b += g.sum(axis=0)
        d_seq[t - 1] = g @ w_x
        g = g @ w_h
    grads = {"x": d_seq.transpose(1, 0, 2) if config.batch_first else d_seq, "weight_ih_l0": d_wx, "weight_hh_l0": d_wh}
    if config.bias:
        grads |= {"bias_ih_l0": d_b, "bias_hh_l0": d_b.copy()}
    return h, grads


# ---------------------------------------------------------------------------------------------------------------- p16


class SequenceModel16:
    def __init__(self, weights, config):
        self.cfg = config
        self.W = weights["weight_ih_l0"]
        self.R = weights["weight_hh_l0"]
        self.b_ih = weights["bias_ih_l0"]
        self.b_hh = weights["bias_hh_l0"]

    def squash(self, a):
        return np.tanh(a)

    def forward(self, x, initial):
        self.x = x
        self.h = [self.squash(initial)]
        for x_t in x:
            self.h.append(self.squash(x_t @ self.W.T + self.b_ih + self.h[-1] @ self.R.T + self.b_hh))
        return np.stack(self.h[1:])

    def backward(self, d_outputs, d_final):
        T = len(self.x)
        self.dW, self.dR = np.zeros_like(self.W), np.zeros_like(self.R)
        self.db_ih = self.db_hh = np.zeros_like(self.b_ih)
        self.dx = np.zeros(self.x.shape, self.x.dtype)
        d = d_final
        for t in range(T - 1, -1, -1):
            da = (d_outputs[t] + d) * (1 - self.h[t + 1] ** 2)
            self.dW += da.T @ self.x[t] / T
            self.dR += da.T @ self.h[t]
            self.db_ih += da.sum(axis=0)
            self.db_hh += da.sum(axis=0)
            self.dx[t] = da @ self.W
            d = da @ self.R
        return d


def p16(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh", "one tanh layer")
    refuse_if(not config.bias, "always with biases")
    flip = config.batch_first
    model = SequenceModel16(weights, config)
    out = model.forward(x.swapaxes(0, 1) if flip else x, h0[0])
    g = np.zeros_like(out)
    if "output.grad" in cotangents:
        g = cotangents["output.grad"]
        g = g.swapaxes(0, 1) if flip else g
    g_last = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(out[0])
    d0 = model.backward(g, g_last)
    grads = {
        "x": model.dx.swapaxes(0, 1) if flip else model.dx,
        "hx": d0[None],
        "weight_ih_l0": model.dW,
        "weight_hh_l0": model.dR,
        "bias_ih_l0": model.db_ih.copy(),
        "bias_hh_l0": model.db_hh.copy(),
    }
    return (out.swapaxes(0, 1) if flip else out), model.h[-1][None].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p17


def p17(x, h0, weights, config, cotangents):
    refuse_if(config.num_layers > 1 or config.bidirectional, "1 layer, forward")
    refuse_if(config.nonlinearity != "tanh" or config.batch_first, "tanh, seq first")
    T, N, I = x.shape
    H = config.hidden_size
    A, B = weights["weight_ih_l0"], weights["weight_hh_l0"]
    c = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros((H,), x.dtype)

    # hs[0] is the initial state, hs[t + 1] the one after step t
    hs = np.zeros((T + 1, N, H), x.dtype)
    hs[0] = h0[0]
    for t in range(T):
        hs[t + 1] = np.tanh(x[t].dot(A.T) + hs[t - 1].dot(B.T) + c)

    dhs = np.zeros_like(hs)
    if "output.grad" in cotangents:
        dhs[1:] += cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        dhs[T] += cotangents["h_n.grad"][0]
    total = {"A": np.zeros_like(A), "B": np.zeros_like(B), "c": np.zeros_like(c)}
    step = {"A": np.zeros_like(A), "B": np.zeros_like(B), "c": np.zeros_like(c)}
    dx = np.zeros((T, N, I), x.dtype)
    for t in range(T - 1, -1, -1):
        da = dhs[t + 1] * (1 - hs[t + 1] ** 2)
        step["A"] += da.T.dot(x[t])
        step["B"] += da.T.dot(hs[t])
        step["c"] += da.sum(0)
        for name in total:
            total[name] += step[name]
        dx[t] = da.dot(A)
        dhs[t] += da.dot(B)

    grads = {"x": dx, "hx": dhs[:1].copy(), "weight_ih_l0": total["A"], "weight_hh_l0": total["B"]}
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = total["c"], total["c"].copy()
    return hs[1:].copy(), hs[-1:].copy(), grads


# ---------------------------------------------------------------------------------------------------------------- p18


def p18(x, h0, weights, config, cotangents):
    """Up to two layers, one direction or two."""
    refuse_if(config.num_layers > 2, "two layers at most")
    refuse_if(config.nonlinearity != "tanh", "tanh only")
    L, D, H, T = config.num_layers, config.num_directions, config.hidden_size, config.T
    swap = (lambda a: a.swapaxes(0, 1)) if config.batch_first else (lambda a: a)

    def param(kind, layer, d):
        return weights[f"{kind}_l{layer}" + ("_reverse" if d else "")]

    below, inputs, states, initial = swap(x), {}, {}, {}
    h_n = np.zeros(h0.shape, x.dtype)
    for layer in range(L):
        inputs[layer] = below
        halves = []
        for d in range(D):
            W, R = param("weight_ih", layer, d), param("weight_hh", layer, d)
            b = param("bias_ih", layer, d) + param("bias_hh", layer, d) if config.bias else 0
            h = initial[layer, d] = h0[layer * D + d]
            y = np.zeros((T, config.N, H), x.dtype)
            for t in range(T) if d == 0 else reversed(range(T)):
                h = np.tanh(below[t] @ W.T + h @ R.T + b)
                y[t] = h
            h_n[layer * D + d] = h
            states[layer, d] = y
            halves.append(y)
        below = np.concatenate(halves, axis=2)

    slopes = {}
    for (_, d), y in states.items():
        slopes.setdefault(d, 1 - y**2)

    grads = {"hx": np.zeros_like(h_n)}
    above = np.zeros_like(below)
    if "output.grad" in cotangents:
        above += swap(cotangents["output.grad"])
    for layer in reversed(range(L)):
        onto = np.zeros_like(inputs[layer])
        for d in range(D):
            W, R, y = param("weight_ih", layer, d), param("weight_hh", layer, d), states[layer, d]
            carry = np.zeros_like(y[0])
            if "h_n.grad" in cotangents:
                carry = cotangents["h_n.grad"][layer * D + d]
            dW, dR, db = np.zeros_like(W), np.zeros_like(R), np.zeros(H, x.dtype)
            back = -1 if d == 0 else 1
            for t in reversed(range(T)) if d == 0 else range(T):
                da = (above[t, :, d * H : (d + 1) * H] + carry) * slopes[d][t]
                h_before = y[t + back] if 0 <= t + back < T else initial[layer, d]
                dW += da.T @ inputs[layer][t]
                dR += da.T @ h_before
                db += da.sum(0)
                onto[t] += da @ W
                carry = da @ R
            end = f"_l{layer}" + ("_reverse" if d else "")
            grads["hx"][layer * D + d] = carry
            grads["weight_ih" + end], grads["weight_hh" + end] = dW, dR
            if config.bias:
                grads["bias_ih" + end], grads["bias_hh" + end] = db, db.copy()
        above = onto
    grads["x"] = swap(above)
    return swap(below).copy(), h_n, grads


# ---------------------------------------------------------------------------------------------------------------- p19


def p19(x, h0, weights, config, cotangents):
    """An IRNN: relu."""
    refuse_if(config.num_layers > 1 or config.bidirectional, "one layer")
    refuse_if(config.nonlinearity != "relu", "relu only")
    relu = lambda s: s * (s > 0)  # noqa: E731
    W_x, W_h = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    xs = list(np.swapaxes(x, 0, 1)) if config.batch_first else list(x)
    hs = [h0[0]]
    for xt in xs:
        hs.append(relu(xt @ W_x.T + hs[-1] @ W_h.T + bias))
    h_prev, h_new = hs[:-1], hs[1:]
    y = np.stack(h_new, 1 if config.batch_first else 0)

    gy = cotangents.get("output.grad", np.zeros_like(y))
    gy = list(np.swapaxes(gy, 0, 1)) if config.batch_first else list(gy)
    g_last = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(hs[0])
    gW_x, gW_h, gb, gxs = np.zeros_like(W_x), np.zeros_like(W_h), np.zeros_like(W_h[0]), []
    g_next = np.zeros_like(hs[0])
    last = len(xs) - 1
    while xs:
        xt, hp, hn, g = xs.pop(), h_prev.pop(), h_new.pop(), gy.pop()
        g = g + g_next + g_last
        ds = g * (hn >= 0)
        gW_x += ds.T @ xt
        gW_h += ds.T @ hp
        gb += ds.sum(0)
        gxs.append(ds @ W_x)
        g_next = ds @ W_h
    gradients = {"x": np.stack(gxs[::-1], 1 if config.batch_first else 0), "hx": g_next[None]}
    gradients["weight_ih_l0"], gradients["weight_hh_l0"] = gW_x, gW_h
    if config.bias:
        gradients["bias_ih_l0"], gradients["bias_hh_l0"] = gb, gb.copy()
    return y, hs[last + 1][None].copy(), gradients


# ---------------------------------------------------------------------------------------------------------------- p20


def p20(x, h0, weights, config, cotangents):
    """One gemm for all inputs, one for all weights' gradients; only the recurrence itself is a loop."""
    refuse_if(config.num_layers > 1 or config.bidirectional, "one layer, one direction")
    rectify = config.nonlinearity == "relu"
    major = np.ascontiguousarray(x.swapaxes(0, 1)) if config.batch_first else x
    T, N, I = major.shape
    H = config.hidden_size
    Wx, Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    pre = (major.reshape(T * N, I) @ Wx.T).reshape(T, N, H)
    if config.bias:
        pre += weights["bias_ih_l0"] + weights["bias_hh_l0"]
    everything = np.concatenate([h0, np.empty((T, N, H), x.dtype)])
    for t in range(T):
        pre[t] += everything[t] @ Wh.T
        everything[t + 1] = np.maximum(pre[t], 0) if rectify else np.tanh(pre[t])
    out = everything[1:]
    deriv = (out > 0).astype(x.dtype) if rectify else 1 - out * out

    d = np.zeros((T, N, H), x.dtype)
    if "output.grad" in cotangents:
        d += cotangents["output.grad"].swapaxes(0, 1) if config.batch_first else cotangents["output.grad"]
    carried = np.zeros((N, H), x.dtype)
    if "h_n.grad" in cotangents:
        carried += cotangents["h_n.grad"][0]
    for t in range(T)[::-1]:
        d[t] = (d[t] + carried) * deriv[t]
        carried = d[t] @ Wh
    flat = d.reshape(T * N, H)
    dx = (flat @ Wx).reshape(T, N, I)
    gradients = {
        "x": dx.swapaxes(0, 1) if config.batch_first else dx,
        "weight_ih_l0": flat.T @ major.reshape(T * N, I),
        "weight_hh_l0": flat.T @ everything[:-1].reshape(T * N, H),
    }
    if config.bias:
        gradients["bias_ih_l0"] = flat.sum(axis=0)
        gradients["bias_hh_l0"] = gradients["bias_ih_l0"].copy()
    if config.hx:
        gradients["hx"] = carried[None]
    return (out.swapaxes(0, 1) if config.batch_first else out).copy(), everything[-1:].copy(), gradients
