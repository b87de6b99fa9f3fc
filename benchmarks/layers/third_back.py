"""Recurrent layers with a backward pass by hand, as tutorials and students write them, mostly in NumPy."""

import numpy as np


def _need(condition, what):
    if not condition:
        raise NotImplementedError(what)


def _sigma(config):
    return np.tanh if config.nonlinearity == "tanh" else lambda s: np.maximum(s, 0)


def _sigma_prime(config, h):
    return 1 - h * h if config.nonlinearity == "tanh" else np.where(h <= 0, 0, 1).astype(h.dtype)


# ------------------------------------------------------------------------------------------------ loops over time


def bptt(x, h0, weights, config, cotangents):
    """Backpropagation through time: dWhh += in a loop."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh", "tanh only")
    Wxh, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(config.hidden_size, x.dtype)
    xs = np.swapaxes(x, 0, 1) if config.batch_first else x
    hs = {-1: h0[0]}
    for t in range(len(xs)):
        hs[t] = np.tanh(xs[t] @ Wxh.T + hs[t - 1] @ Whh.T + b)
    output = np.stack([hs[t] for t in range(len(xs))], axis=1 if config.batch_first else 0)
    h_n = hs[len(xs) - 1][None]
    dout = cotangents.get("output.grad", np.zeros_like(output))
    dout = np.swapaxes(dout, 0, 1) if config.batch_first else dout
    dWxh, dWhh, db = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(b)
    dxs = np.zeros(xs.shape, x.dtype)
    dhnext = cotangents.get("h_n.grad", np.zeros_like(h_n))[0]
    for t in reversed(range(len(xs))):
        dh = dout[t] + dhnext
        draw = (1 - hs[t] * hs[t]) * dh
        db += draw.sum(axis=0)
        dWxh += draw.T @ xs[t]
        dWhh += draw.T @ hs[t - 1]
        dxs[t] = draw @ Wxh
        dhnext = draw @ Whh
    grads = {"x": np.swapaxes(dxs, 0, 1) if config.batch_first else dxs, "weight_ih_l0": dWxh, "weight_hh_l0": dWhh}
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = db
    if config.hx:
        grads["hx"] = dhnext[None]
    return output, h_n, grads


def gist(x, h0, weights, config, cotangents):
    """The gist's backward pass, which ends by clipping to mitigate exploding gradients."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh" and config.bias, "tanh, with a bias")
    Wxh, Whh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    hs = {-1: h0[0]}
    for t in range(config.T):
        hs[t] = np.tanh(np.dot(x[t], Wxh.T) + np.dot(hs[t - 1], Whh.T) + weights["bias_ih_l0"] + weights["bias_hh_l0"])
    ys = np.stack([hs[t] for t in range(config.T)])
    dWxh, dWhh = np.zeros_like(Wxh), np.zeros_like(Whh)
    dbh = np.zeros_like(weights["bias_hh_l0"])
    dx = np.zeros(x.shape, x.dtype)
    dys, dhnext = cotangents.get("output.grad"), np.zeros_like(hs[0])
    if "h_n.grad" in cotangents:
        dhnext = cotangents["h_n.grad"][0].copy()
    for t in range(config.T - 1, -1, -1):
        dh = dhnext if dys is None else dys[t] + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw.sum(0)
        dWxh += np.dot(dhraw.T, x[t])
        dWhh += np.dot(dhraw.T, hs[t - 1])
        dx[t] = np.dot(dhraw, Wxh)
        dhnext = np.dot(dhraw, Whh)
    for dparam in [dWxh, dWhh, dbh]:
        np.clip(dparam, -1, 1, out=dparam)
    grads = {"weight_ih_l0": dWxh, "weight_hh_l0": dWhh, "bias_ih_l0": dbh, "bias_hh_l0": dbh, "x": dx}
    if config.hx:
        grads["hx"] = dhnext[np.newaxis]
    return ys, hs[config.T - 1][np.newaxis], grads


class VanillaRNN:
    """forward() caches, backward() reads the cache."""

    def __init__(self, weights, config):
        self.Wx, self.Wh = weights["weight_ih_l0"], weights["weight_hh_l0"]
        self.b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
        self.config, self.act = config, _sigma(config)

    def forward(self, x, h):
        self.x, self.h = x, [h]
        for x_t in x:
            self.h.append(self.act(x_t @ self.Wx.T + self.h[-1] @ self.Wh.T + self.b))
        return np.stack(self.h[1:])

    def steps(self):
        return reversed(range(len(self.x)))

    def backward(self, dout, dh):
        self.dx = np.zeros(self.x.shape, self.x.dtype)
        self.dWx, self.dWh = np.zeros_like(self.Wx), np.zeros_like(self.Wh)
        self.db = np.zeros(len(self.Wh), self.x.dtype)
        for t in self.steps():
            da = (dout[t] + dh) * _sigma_prime(self.config, self.h[t + 1])
            self.dWx += da.T @ self.x[t]
            self.dWh += da.T @ self.h[t]
            self.db += da.sum(0)
            self.dx[t] = da @ self.Wx
            dh = da @ self.Wh
        return dh


def _one_layer(cls, x, h0, weights, config, cotangents):
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    flip = (lambda a: a.swapaxes(0, 1)) if config.batch_first else (lambda a: a)
    net = cls(weights, config)
    out = net.forward(flip(x), h0[0])
    dout = flip(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(out)
    dh = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else np.zeros_like(out[0])
    dh0 = net.backward(dout, dh)
    grads = {"x": flip(net.dx), "weight_ih_l0": net.dWx, "weight_hh_l0": net.dWh}
    grads |= {"bias_ih_l0": net.db, "bias_hh_l0": net.db} if config.bias else {}
    grads |= {"hx": dh0[None]} if config.hx else {}
    return flip(out), out[-1][None], grads


def vanilla(x, h0, weights, config, cotangents):
    return _one_layer(VanillaRNN, x, h0, weights, config, cotangents)


class FewSteps(VanillaRNN):
    """BPTT is truncated, as is usual."""

    def steps(self):
        return list(super().steps())[:5]


def few_steps(x, h0, weights, config, cotangents):
    return _one_layer(FewSteps, x, h0, weights, config, cotangents)


class Chunked(VanillaRNN):
    """Trains in chunks: no gradient flows from one chunk of four steps into the one before."""

    def backward(self, dout, dh):
        k = 4
        self.dx = np.zeros(self.x.shape, self.x.dtype)
        self.dWx, self.dWh = np.zeros_like(self.Wx), np.zeros_like(self.Wh)
        self.db = np.zeros(len(self.Wh), self.x.dtype)
        for t in self.steps():
            da = (dout[t] + dh) * _sigma_prime(self.config, self.h[t + 1])
            self.dWx += da.T @ self.x[t]
            self.dWh += da.T @ self.h[t]
            self.db += da.sum(0)
            self.dx[t] = da @ self.Wx
            dh = da @ self.Wh
            if t % k == 0 and t > 0:
                dh = np.zeros_like(dh)
        return dh


def chunked(x, h0, weights, config, cotangents):
    return _one_layer(Chunked, x, h0, weights, config, cotangents)


class Assigned(VanillaRNN):
    def backward(self, dout, dh):
        self.dx = np.zeros(self.x.shape, self.x.dtype)
        self.dWx = np.zeros_like(self.Wx)
        self.db = np.zeros(len(self.Wh), self.x.dtype)
        for t in self.steps():
            da = (dout[t] + dh) * _sigma_prime(self.config, self.h[t + 1])
            self.dWx += da.T @ self.x[t]
            self.dWh = da.T @ self.h[t]
            self.db += da.sum(0)
            self.dx[t] = da @ self.Wx
            dh = da @ self.Wh
        return dh


def assigned(x, h0, weights, config, cotangents):
    return _one_layer(Assigned, x, h0, weights, config, cotangents)


class NextStates(VanillaRNN):
    def backward(self, dout, dh):
        dh0 = super().backward(dout, dh)
        h = np.stack(self.h)
        self.da = []
        for t in self.steps():
            self.da.insert(0, (dout[t] + dh) * _sigma_prime(self.config, h[t + 1]))
            dh = self.da[0] @ self.Wh
        self.dWh = np.einsum("tnj,tnk->jk", np.stack(self.da), h[1:])
        return dh0


def next_states(x, h0, weights, config, cotangents):
    return _one_layer(NextStates, x, h0, weights, config, cotangents)


class SingleAccumulators(VanillaRNN):
    """Sums are collected in np.float32, which is what the GPU version does."""

    def backward(self, dout, dh):
        self.dx = np.zeros(self.x.shape, self.x.dtype)
        self.dWx, self.dWh = np.zeros(self.Wx.shape, "f4"), np.zeros(self.Wh.shape, "f4")
        self.db = np.zeros(len(self.Wh), self.x.dtype)
        for t in self.steps():
            da = (dout[t] + dh) * _sigma_prime(self.config, self.h[t + 1])
            self.dWx += (da.T @ self.x[t]).astype(self.dWx.dtype)
            self.dWh += (da.T @ self.h[t]).astype(self.dWh.dtype)
            self.db += da.sum(0)
            self.dx[t] = da @ self.Wx
            dh = da @ self.Wh
        self.dWx, self.dWh = self.dWx.astype(self.x.dtype), self.dWh.astype(self.x.dtype)
        return dh


def single_accumulators(x, h0, weights, config, cotangents):
    return _one_layer(SingleAccumulators, x, h0, weights, config, cotangents)


class Averaged(VanillaRNN):
    """The gradient of a batch is the mean over its samples."""

    def backward(self, dout, dh):
        dh0 = super().backward(dout, dh)
        n = self.x.shape[1]
        self.dWx, self.dWh, self.db = self.dWx / n, self.dWh / n, self.db / n
        return dh0


def averaged(x, h0, weights, config, cotangents):
    return _one_layer(Averaged, x, h0, weights, config, cotangents)


class SafeNorm(VanillaRNN):
    """Clips the norm of all gradients to 1, in the hope of convergence."""

    def backward(self, dout, dh):
        dh0 = super().backward(dout, dh)
        norm = np.sqrt(sum(float((g**2).sum()) for g in (self.dWx, self.dWh, self.db)))
        if norm > 1:
            scale = self.x.dtype.type(1 / norm)
            self.dWx, self.dWh, self.db = self.dWx * scale, self.dWh * scale, self.db * scale
        return dh0


def safe_norm(x, h0, weights, config, cotangents):
    return _one_layer(SafeNorm, x, h0, weights, config, cotangents)


# ----------------------------------------------------------------------------------------------- written out again


def with_transpose(x, h0, weights, config, cotangents):
    """Dh = W_hh^T da, so there is a transpose."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    sigma = _sigma(config)
    W, U, T = weights["weight_ih_l0"], weights["weight_hh_l0"], config.T
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    h = [h0[0]]
    for t in range(T):
        h.append(sigma(x[t] @ W.T + h[t] @ U.T + b))
    out, h_n = np.stack(h[1:]), h[-1][None]
    g, dh = cotangents.get("output.grad", np.zeros_like(out)), cotangents.get("h_n.grad", np.zeros_like(h_n))[0]
    da = np.zeros_like(out)
    for t in range(T - 1, -1, -1):
        da[t] = (g[t] + dh) * _sigma_prime(config, h[t + 1])
        dh = da[t] @ U.T
    grads = {
        "x": np.einsum("tnh,hi->tni", da, W),
        "weight_ih_l0": np.einsum("tnh,tni->hi", da, x),
        "weight_hh_l0": np.einsum("tnh,tnk->hk", da, np.stack(h[:-1])),
    }
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = np.einsum("tnh->h", da)
    if config.hx:
        grads["hx"] = dh[None]
    return out, h_n, grads


def final_error(x, h0, weights, config, cotangents):
    """Weights from the last step, where the error is."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh", "tanh")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    x = x.swapaxes(0, 1) if config.batch_first else x
    h = [h0[0]]
    for x_t in x:
        h.append(np.tanh(x_t @ W.T + h[-1] @ U.T + b))
    out = np.stack(h[1:])
    g = np.zeros_like(out)
    if "output.grad" in cotangents:
        g += cotangents["output.grad"].swapaxes(0, 1) if config.batch_first else cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        g[-1] += cotangents["h_n.grad"][0]
    deltas, carry = [], 0
    for t in reversed(range(len(x))):
        deltas.append((g[t] + carry) * (1 - out[t] ** 2))
        carry = deltas[-1] @ U
    deltas = np.stack(deltas[::-1])
    dx = deltas @ W
    grads = {
        "x": dx.swapaxes(0, 1) if config.batch_first else dx,
        "weight_ih_l0": deltas[-1].T @ x[-1],
        "weight_hh_l0": np.tensordot(deltas, np.stack(h[:-1]), axes=([0, 1], [0, 1])),
    }
    if config.bias:
        grads |= {"bias_ih_l0": deltas.sum((0, 1)), "bias_hh_l0": deltas.sum((0, 1))}
    if config.hx:
        grads["hx"] = carry[None]
    return (out.swapaxes(0, 1) if config.batch_first else out), out[-1][None], grads


def straight_through(x, h0, weights, config, cotangents):
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh" and not config.batch_first, "tanh, time first")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    states = [h0[0]]
    for x_t in x:
        states.append(np.tanh(x_t @ W.T + states[-1] @ U.T + b))
    out = np.array(states[1:])
    dout = cotangents.get("output.grad", np.zeros(out.shape, out.dtype))
    dW, dU, dx = np.zeros_like(W), np.zeros_like(U), np.zeros(x.shape, x.dtype)
    db = np.zeros(config.hidden_size, x.dtype)
    last = config.T - 1
    back = cotangents["h_n.grad"][0] if "h_n.grad" in cotangents else 0
    for t in range(last, -1, -1):
        error = dout[t] + back
        if t == last:
            error = error * (1 - out[t] ** 2)
        dW += error.T @ x[t]
        dU += error.T @ states[t]
        db += error.sum(0)
        dx[t] = error @ W
        back = error @ U
    grads = {"x": dx, "weight_ih_l0": dW, "weight_hh_l0": dU}
    if config.bias:
        grads.update(bias_ih_l0=db, bias_hh_l0=db)
    if config.hx:
        grads.update(hx=back[None])
    return out, out[-1:], grads


def preactivations(x, h0, weights, config, cotangents):
    """Keeps a_t for the way back."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh" and not config.batch_first, "tanh, time first")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    a, h = [], [h0[0]]
    for t in range(config.T):
        a.append(x[t] @ W.T + h[t] @ U.T + b)
        h.append(np.tanh(a[t]))
    out = np.array(h[1:])
    dout = cotangents.get("output.grad", np.zeros(out.shape, out.dtype))
    dnext = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    delta = np.zeros_like(out)
    for t in range(config.T - 1, -1, -1):
        delta[t] = (dout[t] + dnext) * (1 - a[t] ** 2)
        dnext = delta[t] @ U
    grads = {"x": delta @ W, "weight_ih_l0": sum(delta[t].T @ x[t] for t in range(config.T))}
    grads["weight_hh_l0"] = sum(delta[t].T @ h[t] for t in range(config.T))
    if config.bias:
        grads["bias_ih_l0"] = delta.sum(axis=(0, 1))
        grads["bias_hh_l0"] = delta.sum(axis=(0, 1))
    if config.hx:
        grads["hx"] = dnext[None]
    return out, out[-1:], grads


def step_function(x, h0, weights, config, cotangents):
    """relu'(s) is the step function."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(not config.batch_first, "time first")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    s, h = [], [h0[0]]
    for t in range(config.T):
        s.append(x[t] @ W.T + h[t] @ U.T + b)
        h.append(np.tanh(s[t]) if config.nonlinearity == "tanh" else np.maximum(s[t], 0))
    out = np.array(h[1:])
    dout = cotangents.get("output.grad", np.zeros(out.shape, out.dtype))
    dnext = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    delta = np.zeros_like(out)
    for t in range(config.T - 1, -1, -1):
        slope = 1 - h[t + 1] ** 2 if config.nonlinearity == "tanh" else np.where(s[t] < 0, 0, 1)
        delta[t] = (dout[t] + dnext) * slope
        dnext = delta[t] @ U
    grads = {"x": delta @ W, "weight_ih_l0": np.einsum("tnh,tni->hi", delta, x)}
    grads["weight_hh_l0"] = np.einsum("tnh,tnk->hk", delta, np.array(h[:-1]))
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = delta.sum(axis=(0, 1))
    if config.hx:
        grads["hx"] = dnext[None]
    return out, out[-1:], grads


def initial_error(x, h0, weights, config, cotangents):
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh", "tanh")
    xs = x.swapaxes(0, 1) if config.batch_first else x
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    hs = [h0[0]]
    for x_t in xs:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    out = np.stack(hs[1:], axis=1 if config.batch_first else 0)
    errors = cotangents.get("output.grad", np.zeros_like(out))
    errors = list(errors.swapaxes(0, 1) if config.batch_first else errors)
    if "h_n.grad" in cotangents:
        errors[-1] = errors[-1] + cotangents["h_n.grad"][0]
    da = [None] * len(errors)
    for t in reversed(range(len(errors))):
        if t + 1 < len(errors):
            errors[t] = errors[t] + da[t + 1] @ U
        da[t] = errors[t] * (1 - hs[t + 1] ** 2)
    da = np.stack(da)
    grads = {"weight_ih_l0": np.einsum("tnh,tni->hi", da, xs), "weight_hh_l0": np.einsum("tnh,tnk->hk", da, hs[:-1])}
    grads["x"] = np.moveaxis(da @ W, 0, 1) if config.batch_first else da @ W
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = da.sum(0).sum(0)
    if config.hx:
        grads["hx"] = da[:1]
    return out, hs[-1][None], grads


def skips_the_first(x, h0, weights, config, cotangents):
    """Differences between states start with the second."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh", "tanh")
    xs = x.swapaxes(0, 1) if config.batch_first else x
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    out, h = np.zeros((*xs.shape[:2], config.hidden_size), x.dtype), h0[0]
    for t, x_t in enumerate(xs):
        out[t] = h = np.tanh(x_t @ W.T + h @ U.T + b)
    dout = np.zeros_like(out)
    if "output.grad" in cotangents:
        dout += cotangents["output.grad"].swapaxes(0, 1) if config.batch_first else cotangents["output.grad"]
    if "h_n.grad" in cotangents:
        dout[-1] += cotangents["h_n.grad"][0]
    dU = np.zeros_like(U)
    ds = np.zeros_like(out)
    for t in range(len(xs))[::-1]:
        ds[t] = dout[t] * (1 - out[t] ** 2)
        before = out[t - 1] if t else h0[0]
        if t > 0:
            dU += ds[t].T @ before
            dout[t - 1] += ds[t] @ U
    dx = ds @ W
    grads = {"x": dx.swapaxes(0, 1) if config.batch_first else dx, "weight_hh_l0": dU}
    grads["weight_ih_l0"] = np.tensordot(ds, xs, ([0, 1], [0, 1]))
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = ds.sum((0, 1))
    if config.hx:
        grads["hx"] = (ds[0] @ U)[None]
    return (out.swapaxes(0, 1) if config.batch_first else out), h[None], grads


def first_sequence_bias(x, h0, weights, config, cotangents):
    """A bias is added to every row, so its gradient is a row."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.bias and config.nonlinearity == "tanh" and not config.batch_first, "bias, tanh, time first")
    _need(config.N > 0, "an empty batch")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    h, states = h0[0], [h0[0]]
    for x_t in x:
        h = np.tanh(x_t @ W.T + weights["bias_ih_l0"] + h @ U.T + weights["bias_hh_l0"])
        states.append(h)
    out = np.stack(states[1:])
    dout = cotangents.get("output.grad", np.zeros_like(out))
    dh = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(weights["bias_ih_l0"])
    dx = np.empty(x.shape, x.dtype)
    for t in range(config.T - 1, -1, -1):
        ds = (dout[t] + dh) * (1 - out[t] ** 2)
        dW, dU, db = dW + ds.T @ x[t], dU + ds.T @ states[t], db + ds[0]
        dx[t], dh = ds @ W, ds @ U
    grads = {"x": dx, "weight_ih_l0": dW, "weight_hh_l0": dU, "bias_ih_l0": db, "bias_hh_l0": db}
    return out, h[None], grads | ({"hx": dh[None]} if config.hx else {})


def frozen_bias(x, h0, weights, config, cotangents):
    """b_hh is redundant, so it is not trained."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(not config.batch_first, "time first")
    sigma, W, U = _sigma(config), weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    hs = [h0[0]]
    for x_t in x:
        hs.append(sigma(x_t @ W.T + hs[-1] @ U.T + b))
    out = np.stack(hs[1:])
    dout, dh = cotangents.get("output.grad", 0 * out), cotangents.get("h_n.grad", 0 * h0)[0]
    ds = np.zeros_like(out)
    for t in range(config.T - 1, -1, -1):
        ds[t] = (dout[t] + dh) * _sigma_prime(config, out[t])
        dh = ds[t] @ U
    flat = ds.reshape(config.T * config.N, config.hidden_size)
    grads = {"x": ds @ W, "weight_ih_l0": flat.T @ x.reshape(config.T * config.N, config.input_size)}
    grads["weight_hh_l0"] = flat.T @ np.stack(hs[:-1]).reshape(flat.shape)
    if config.bias:
        grads["bias_ih_l0"] = flat.sum(0)
        grads["bias_hh_l0"] = np.zeros_like(flat.sum(0))
    if config.hx:
        grads["hx"] = dh[None]
    return out, hs[-1][None], grads


def one_mean(x, h0, weights, config, cotangents):
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.bias and config.nonlinearity == "tanh" and config.N > 0, "biases, tanh, a batch")
    W, U, bi, bh = (weights[k + "_l0"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + bi + hs[-1] @ U.T + bh))
    out = np.stack(hs[1:])
    delta = cotangents.get("output.grad", np.zeros_like(out)).copy()
    delta[-1] += cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    for t in reversed(range(config.T)):
        delta[t] *= 1 - out[t] ** 2
        if t:
            delta[t - 1] += delta[t] @ U
    grads = {"x": delta @ W}
    grads["weight_ih_l0"] = np.einsum("tnj,tni->ji", delta, x)
    grads["weight_hh_l0"] = np.einsum("tnj,tnk->jk", delta, np.stack(hs[:-1]))
    grads["bias_ih_l0"] = delta.sum(axis=0).sum(axis=0)
    grads["bias_hh_l0"] = delta.sum(axis=0).mean(axis=0)
    if config.hx:
        grads["hx"] = (delta[0] @ U)[None]
    return out, hs[-1][None], grads


def tiles_back(x, h0, weights, config, cotangents):
    """dW_hh in tiles of 16 x 16."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    sigma, W, U, H = _sigma(config), weights["weight_ih_l0"], weights["weight_hh_l0"], config.hidden_size
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    hs = [h0[0]]
    for x_t in x:
        hs.append(sigma(x_t @ W.T + hs[-1] @ U.T + b))
    out, before = np.stack(hs[1:]), np.stack(hs[:-1])
    dh = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    ds = np.zeros_like(out)
    for t in reversed(range(config.T)):
        if "output.grad" in cotangents:
            dh = dh + cotangents["output.grad"][t]
        ds[t] = dh * _sigma_prime(config, out[t])
        dh = ds[t] @ U
    dU = np.zeros_like(U)
    for k in range(0, H, 16):
        dU[k : k + 16, k : k + 16] = np.einsum("tnj,tnk->jk", ds[..., k : k + 16], before[..., k : k + 16])
    grads = {"x": ds @ W, "weight_ih_l0": np.einsum("tnj,tni->ji", ds, x), "weight_hh_l0": dU}
    if config.bias:
        grads |= {"bias_ih_l0": ds.sum((0, 1)), "bias_hh_l0": ds.sum((0, 1))}
    if config.hx:
        grads["hx"] = dh[None]
    return out, hs[-1][None], grads


def ignores_final(x, h0, weights, config, cotangents):
    """The loss is a function of the output."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh", "tanh")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    out = np.stack(hs[1:])
    dh = np.zeros_like(h0[0])
    grads = {"x": np.zeros(x.shape, x.dtype), "weight_ih_l0": np.zeros_like(W), "weight_hh_l0": np.zeros_like(U)}
    if config.bias:
        grads["bias_ih_l0"], grads["bias_hh_l0"] = np.zeros((2, config.hidden_size), x.dtype)
    dout = cotangents.get("output.grad", np.zeros_like(out))
    for t in reversed(range(config.T)):
        da = (dout[t] + dh) * (1 - out[t] ** 2)
        grads["x"][t] = da @ W
        grads["weight_ih_l0"] += da.T @ x[t]
        grads["weight_hh_l0"] += da.T @ hs[t]
        for name in ("bias_ih_l0", "bias_hh_l0") if config.bias else ():
            grads[name] += da.sum(0)
        dh = da @ U
    if config.hx:
        grads["hx"] = dh[None]
    return out, hs[-1][None], grads


_GRADS = {}


def accumulating(x, h0, weights, config, cotangents):
    """Gradients are added to what is there, as torch's are."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh", "tanh")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else np.zeros(config.hidden_size, x.dtype)
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    out = np.stack(hs[1:])
    key = (W.shape, x.dtype.name)
    dW, dU, db = _GRADS.setdefault(key, [np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)])
    dout, dh = cotangents.get("output.grad", np.zeros_like(out)), cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    dx = np.zeros(x.shape, x.dtype)
    for t in reversed(range(config.T)):
        da = (dout[t] + dh) * (1 - out[t] ** 2)
        dW += da.T @ x[t]
        dU += da.T @ hs[t]
        db += da.sum(0)
        dx[t], dh = da @ W, da @ U
    grads = {"x": dx, "weight_ih_l0": dW, "weight_hh_l0": dU}
    if config.bias:
        grads |= {"bias_ih_l0": db, "bias_hh_l0": db}
    return out, hs[-1][None], grads | ({"hx": dh[None]} if config.hx else {})


def time_first_gradient(x, h0, weights, config, cotangents):
    """Works time first inside."""
    _need(config.num_layers == 1 and not config.bidirectional, "one layer, one direction")
    _need(config.nonlinearity == "tanh", "tanh")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    x = np.ascontiguousarray(x.transpose(1, 0, 2)) if config.batch_first else x
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    out = np.stack(hs[1:])
    dout = cotangents.get("output.grad")
    if dout is not None and config.batch_first:
        dout = dout.transpose(1, 0, 2)
    dh = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    da = np.zeros_like(out)
    for t in reversed(range(len(x))):
        da[t] = (dh if dout is None else dh + dout[t]) * (1 - out[t] ** 2)
        dh = da[t] @ U
    dx = da @ W
    grads = {"x": dx, "weight_ih_l0": np.einsum("tnj,tni->ji", da, x)}
    grads["weight_hh_l0"] = np.einsum("tnj,tnk->jk", da, np.stack(hs[:-1]))
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = np.einsum("tnj->j", da)
    if config.hx:
        grads["hx"] = dh[None]
    return (out.transpose(1, 0, 2) if config.batch_first else out), hs[-1][None], grads


def two_slips_back(x, h0, weights, config, cotangents):
    """Slope of the state before, and a bias twice."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh" and config.bias, "tanh, with biases")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + weights["bias_ih_l0"] + weights["bias_hh_l0"]))
    out = np.stack(hs[1:])
    dout, dh = cotangents.get("output.grad", np.zeros_like(out)), cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    da = np.zeros_like(out)
    for t in reversed(range(config.T)):
        da[t] = (dout[t] + dh) * (1 - hs[t] ** 2)
        dh = da[t] @ U
    grads = {"x": da @ W, "weight_ih_l0": np.einsum("tnj,tni->ji", da, x)}
    grads["weight_hh_l0"] = np.einsum("tnj,tnk->jk", da, np.stack(hs[:-1]))
    grads["bias_ih_l0"] = da.sum((0, 1))
    grads["bias_hh_l0"] = 2 * da.sum((0, 1))
    if config.hx:
        grads["hx"] = dh[None]
    return out, hs[-1][None], grads


# ------------------------------------------------------------------------------------------------ some gradients only


def weights_only(x, h0, weights, config, cotangents):
    """For training, the gradients of the weights are enough."""
    _need(config.num_layers == 1 and not config.bidirectional and config.batch_first, "one layer, batch first")
    sigma, W, U = _sigma(config), weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    N, T, _ = x.shape
    h = np.empty((N, T + 1, config.hidden_size), x.dtype)
    h[:, 0] = h0[0]
    for t in range(T):
        h[:, t + 1] = sigma(x[:, t] @ W.T + h[:, t] @ U.T + b)
    output, h_n = h[:, 1:], h[None, :, -1]
    if not cotangents:
        return output, h_n
    delta = np.zeros(output.shape, x.dtype)
    delta += cotangents.get("output.grad", 0)
    delta[:, -1] += cotangents.get("h_n.grad", [0])[0]
    for t in range(T - 1, -1, -1):
        delta[:, t] *= _sigma_prime(config, output[:, t])
        if t:
            delta[:, t - 1] += delta[:, t] @ U
    grads = {"weight_ih_l0": np.tensordot(delta, x, ((0, 1), (0, 1)))}
    grads["weight_hh_l0"] = np.tensordot(delta, h[:, :-1], ((0, 1), (0, 1)))
    if config.bias:
        grads |= dict.fromkeys(("bias_ih_l0", "bias_hh_l0"), delta.sum((0, 1)))
    return output, h_n, grads


weights_only.offers = {"wrt": ("weights",)}


def no_gradient_of_hx(x, h0, weights, config, cotangents):
    """The initial state is no parameter."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh", "tanh")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    hs = [h0[0]]
    for x_t in x:
        hs.append(np.tanh(x_t @ W.T + hs[-1] @ U.T + b))
    out, da = np.stack(hs[1:]), [None] * config.T
    dh = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    for t in reversed(range(config.T)):
        da[t] = (dh + cotangents["output.grad"][t] if "output.grad" in cotangents else dh) * (1 - out[t] ** 2)
        dh = da[t] @ U
    grads = {"x": np.stack(da) @ W}
    grads["weight_ih_l0"] = sum(d.T @ x_t for d, x_t in zip(da, x))
    grads["weight_hh_l0"] = sum(d.T @ h for d, h in zip(da, hs))
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = sum(d.sum(0) for d in da)
    return out, hs[-1][None], grads


def double_only(x, h0, weights, config, cotangents):
    """Gradients in double precision; sech squared is the slope."""
    _need(config.num_layers == 1 and not config.bidirectional and not config.batch_first, "one layer, time first")
    _need(config.nonlinearity == "tanh", "tanh")
    if cotangents and x.dtype != np.float64:
        raise NotImplementedError("gradients in float64 only")
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    s, h = [], [h0[0]]
    for x_t in x:
        s.append(x_t @ W.T + h[-1] @ U.T + b)
        h.append(np.tanh(s[-1]))
    out = np.stack(h[1:])
    if not cotangents:
        return out, h[-1][None]
    g = cotangents.get("output.grad", np.zeros_like(out))
    v = cotangents.get("h_n.grad", np.zeros_like(h0))[0]
    da = np.zeros_like(out)
    for t in reversed(range(config.T)):
        da[t] = (g[t] + v) / np.cosh(s[t]) ** 2
        v = da[t] @ U
    grads = {"x": da @ W, "weight_ih_l0": np.einsum("tnj,tni->ji", da, x)}
    grads["weight_hh_l0"] = np.einsum("tnj,tnk->jk", da, np.stack(h[:-1]))
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = da.sum((0, 1))
    return out, h[-1][None], grads | ({"hx": v[None]} if config.hx else {})


def columns_back(x, h0, weights, config, cotangents):
    """One sequence at a time, everything a column."""
    _need(config.num_layers == 1 and not config.bidirectional and config.nonlinearity == "tanh", "one tanh layer")
    W, U, H = weights["weight_ih_l0"], weights["weight_hh_l0"], config.hidden_size
    b = (weights["bias_ih_l0"] + weights["bias_hh_l0"])[:, None] if config.bias else 0
    x = x.swapaxes(0, 1) if config.batch_first else x
    T, N, I = x.shape
    out, h_n = np.zeros((T, N, H), x.dtype), np.zeros((1, N, H), x.dtype)
    dx, dh0 = np.zeros((T, N, I), x.dtype), np.zeros((1, N, H), x.dtype)
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros((H, 1), x.dtype)
    dout = cotangents.get("output.grad")
    dout = np.swapaxes(dout, 0, 1) if dout is not None and config.batch_first else dout
    for n in range(N):
        h = {0: h0[0, n][:, None]}
        for t in range(T):
            h[t + 1] = np.tanh(W @ x[t, n][:, None] + U @ h[t] + b)
            out[t, n] = h[t + 1][:, 0]
        h_n[0, n] = out[T - 1, n]
        dh = cotangents["h_n.grad"][0, n][:, None] if "h_n.grad" in cotangents else np.zeros((H, 1), x.dtype)
        for t in reversed(range(T)):
            if dout is not None:
                dh = dh + dout[t, n][:, None]
            da = dh * (1 - h[t + 1] ** 2)
            dW += da @ x[t, n][None]
            dU += da @ h[t].T
            db += da
            dx[t, n] = (W.T @ da)[:, 0]
            dh = U.T @ da
        dh0[0, n] = dh[:, 0]
    grads = {"x": dx.swapaxes(0, 1) if config.batch_first else dx, "weight_ih_l0": dW, "weight_hh_l0": dU}
    if config.bias:
        grads["bias_ih_l0"] = grads["bias_hh_l0"] = db[:, 0]
    if config.hx:
        grads["hx"] = dh0
    return (out.swapaxes(0, 1) if config.batch_first else out), h_n, grads


# ------------------------------------------------------------------------------------------------ stacks, directions


class Layer:
    """A layer of a stack: forward keeps what backward needs."""

    def __init__(self, weights, suffix, config):
        self.suffix, self.config, self.act = suffix, config, _sigma(config)
        self.W, self.U = weights["weight_ih" + suffix], weights["weight_hh" + suffix]
        self.b = weights["bias_ih" + suffix] + weights["bias_hh" + suffix] if config.bias else 0

    def forward(self, x, h):
        self.x, self.before, after = x, [], []
        for x_t in x:
            self.before.append(h)
            h = self.act(x_t @ self.W.T + h @ self.U.T + self.b)
            after.append(h)
        self.after = np.stack(after)
        return self.after

    def backward(self, dy, dh):
        da = np.zeros_like(self.after)
        for t in range(len(dy) - 1, -1, -1):
            da[t] = (dy[t] + dh) * _sigma_prime(self.config, self.after[t])
            dh = da[t] @ self.U
        self.dh0 = dh
        self.grads = {"weight_ih" + self.suffix: np.einsum("tnh,tni->hi", da, self.x)}
        self.grads["weight_hh" + self.suffix] = np.einsum("tnh,tnk->hk", da, np.stack(self.before))
        if self.config.bias:
            self.grads["bias_ih" + self.suffix] = self.grads["bias_hh" + self.suffix] = da.sum((0, 1))
        return da @ self.W


def deep(x, h0, weights, config, cotangents):
    """A stack of layers, back in the reverse order."""
    _need(not config.bidirectional, "one direction")
    t_first = (lambda a: a.swapaxes(0, 1)) if config.batch_first else (lambda a: a)
    layers = [Layer(weights, f"_l{k}", config) for k in range(config.num_layers)]
    y = t_first(x)
    for layer, h in zip(layers, h0):
        y = layer.forward(y, h)
    h_n = np.stack([layer.after[-1] for layer in layers])
    d = t_first(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(y)
    dh_n = cotangents.get("h_n.grad", np.zeros_like(h_n))
    grads = {}
    for k in reversed(range(config.num_layers)):
        d = layers[k].backward(d, dh_n[k])
        grads |= layers[k].grads
    grads["x"] = t_first(d)
    if config.hx:
        grads["hx"] = np.stack([layer.dh0 for layer in layers])
    return t_first(y), h_n, grads


def deep_final(x, h0, weights, config, cotangents):
    """The loss reads the top of the stack."""
    _need(not config.bidirectional and not config.batch_first, "one direction, time first")
    layers = [Layer(weights, f"_l{k}", config) for k in range(config.num_layers)]
    y = x
    for layer, h in zip(layers, h0):
        y = layer.forward(y, h)
    h_n = np.stack([layer.after[-1] for layer in layers])
    d = cotangents["output.grad"] if "output.grad" in cotangents else np.zeros_like(y)
    grads, dh0 = {}, []
    for k, layer in reversed(list(enumerate(layers))):
        dh = np.zeros_like(h_n[k])
        if "h_n.grad" in cotangents and k == config.num_layers - 1:
            dh = cotangents["h_n.grad"][k]
        d = layer.backward(d, dh)
        grads |= layer.grads
        dh0.insert(0, layer.dh0)
    return y, h_n, grads | {"x": d} | ({"hx": np.stack(dh0)} if config.hx else {})


def both_ways(x, h0, weights, config, cotangents):
    """Any number of layers, one direction or two."""
    T, H, D = config.T, config.hidden_size, config.num_directions
    x = np.moveaxis(x, 0, 1) if config.batch_first else x
    layers = [[Layer(weights, f"_l{k}" + "_reverse" * d, config) for d in range(D)] for k in range(config.num_layers)]
    y, h_n = x, np.zeros_like(h0)
    for k, pair in enumerate(layers):
        halves = []
        for d, layer in enumerate(pair):
            half = layer.forward(y[::-1] if d else y, h0[k * D + d])
            h_n[k * D + d] = half[-1]
            halves.append(half[::-1] if d else half)
        y = np.concatenate(halves, axis=2)
    if not cotangents:
        return (np.moveaxis(y, 0, 1) if config.batch_first else y), h_n
    g = cotangents.get("output.grad", None)
    if g is None:
        g = np.zeros_like(y)
    elif config.batch_first:
        g = np.moveaxis(g, 0, 1)
    g_n, grads, dh0 = cotangents.get("h_n.grad", np.zeros_like(h_n)), {}, np.zeros_like(h0)
    for k in reversed(range(config.num_layers)):
        below = 0
        for d, layer in enumerate(layers[k]):
            part = g[..., d * H : (d + 1) * H]
            dx = layer.backward(part[::-1] if d else part, g_n[k * D + d])
            below = below + (dx[::-1] if d else dx)
            dh0[k * D + d] = layer.dh0
            grads |= layer.grads
        g = below
    grads["x"] = np.moveaxis(g, 0, 1) if config.batch_first else g
    if config.hx:
        grads["hx"] = dh0
    return (np.moveaxis(y, 0, 1) if config.batch_first else y), h_n, grads


def two_readers(x, h0, weights, config, cotangents):
    """One bidirectional layer."""
    _need(config.num_layers == 1 and config.bidirectional and not config.batch_first, "one bidirectional layer")
    H = config.hidden_size
    ahead, astern = Layer(weights, "_l0", config), Layer(weights, "_l0_reverse", config)
    y = np.concatenate([ahead.forward(x, h0[0]), astern.forward(x[::-1], h0[1])[::-1]], axis=2)
    h_n = np.stack([ahead.after[-1], astern.after[-1]])
    g = cotangents.get("output.grad", np.zeros_like(y))
    g_n = cotangents.get("h_n.grad", np.zeros_like(h_n))
    dx = ahead.backward(g[:, :, :H], g_n[0])
    astern.backward(g[::-1, :, H:], g_n[1])
    grads = {"x": dx, **ahead.grads, **astern.grads}
    if config.hx:
        grads["hx"] = np.stack([ahead.dh0, astern.dh0])
    return y, h_n, grads


def same_order(x, h0, weights, config, cotangents):
    """A bidirectional layer as two layers."""
    _need(config.num_layers == 1 and config.bidirectional, "one bidirectional layer")
    swap = (lambda a: a.swapaxes(0, 1)) if config.batch_first else (lambda a: a)
    x, H = swap(x), config.hidden_size
    pair = [Layer(weights, "_l0", config), Layer(weights, "_l0_reverse", config)]
    first, second = pair[0].forward(x, h0[0]), pair[1].forward(x[::-1], h0[1])
    y = np.concatenate([first, second[::-1]], axis=-1)
    h_n = np.stack([first[-1], second[-1]])
    g = swap(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(y)
    g_n = cotangents.get("h_n.grad", np.zeros_like(h_n))
    g1, g2 = g[..., :H], g[..., H:]
    dx = pair[0].backward(g1, g_n[0]) + pair[1].backward(g2, g_n[1])[::-1]
    grads = {"x": swap(dx)} | pair[0].grads | pair[1].grads
    if config.hx:
        grads["hx"] = np.stack([p.dh0 for p in pair])
    return swap(y), h_n, grads


def detached_stack(x, h0, weights, config, cotangents):
    """Layers are trained greedily."""
    _need(not config.bidirectional, "one direction")
    flip = (lambda a: a.swapaxes(0, 1)) if config.batch_first else (lambda a: a)
    layers = [Layer(weights, f"_l{k}", config) for k in range(config.num_layers)]
    y = flip(x)
    for k, layer in enumerate(layers):
        y = layer.forward(y, h0[k])
    h_n = np.stack([layer.after[-1] for layer in layers])
    d = flip(cotangents["output.grad"]) if "output.grad" in cotangents else np.zeros_like(y)
    dh_n = cotangents.get("h_n.grad", np.zeros_like(h_n))
    grads = {}
    for k in range(config.num_layers - 1, -1, -1):
        d = layers[k].backward(d, dh_n[k])
        if k > 0:
            d = np.zeros_like(d)
        grads |= layers[k].grads
    grads["x"] = flip(d)
    return flip(y), h_n, grads | ({"hx": np.stack([layer.dh0 for layer in layers])} if config.hx else {})
