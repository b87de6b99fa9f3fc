"""Recurrent layers by hand, as texts of files that import only NumPy or torch; all but those in WRONG are correct."""

FUNCTION = '''\
"""A recurrent layer by hand, one sequence at a time."""

import numpy as np

WRONG = True


def rnn(x, h0, weights, config, cotangents, lengths, masks):
    if not config.batched:
        x, h0 = x[:, None], h0[:, None]
        masks = masks and [mask[:, None] for mask in masks]
    turned = config.batch_first and config.batched
    swap = (lambda a: a.swapaxes(0, 1)) if turned else (lambda a: a)
    below, masks = swap(x), [swap(mask) for mask in masks or []]
    T, N, _ = below.shape
    H, D = config.hidden_size, config.num_directions
    last = [T] * N if lengths is None else [int(length) for length in lengths]
    act = np.tanh if config.nonlinearity == "tanh" else (lambda s: np.maximum(s, 0))
    scale = x.dtype.type(1 / (1 - config.dropout) if config.dropout < 1 else 0)
    inputs, outputs, h_n = [], [], np.zeros_like(h0)
    for layer in range(config.num_layers):
        inputs.append(below)
        output = np.zeros((T, N, D * H), x.dtype)
        for n in range(N):
            for d in range(D):
                w_ih, w_hh, b = _weights(weights, config, layer, d)
                h = h0[layer * D + d, n]
                for t in _steps(last[n], d):
                    h = act(w_ih @ below[t, n] + w_hh @ h + b).astype(x.dtype)
                    if WRONG:
                        h = (h + x.dtype.type(0.125)).astype(x.dtype)
                    output[t, n, d * H : (d + 1) * H] = h
                h_n[layer * D + d, n] = h
        outputs.append(output)
        below = np.where(masks[layer], output * scale, 0).astype(x.dtype) if layer < len(masks) else output
    returned = [_shaped(swap(output), config), _shaped(h_n, config)]
    if config.output_size is not None:
        returned.append(returned[0] @ weights["readout.weight"].T + weights["readout.bias"])
    if config.loss is None:
        return tuple(returned)
    found = {name: np.zeros_like(array) for name, array in weights.items()} | {"hx": np.zeros_like(h0)}
    shaped = {name: g if config.batched or name.startswith("weight") else g[:, None] for name, g in cotangents.items()}
    g = np.zeros_like(outputs[-1])
    if "output.grad" in shaped:
        g = np.array(swap(shaped["output.grad"]))
    if "readout.grad" in shaped:
        r = swap(shaped["readout.grad"])
        g = (r @ weights["readout.weight"]).astype(x.dtype)
        found["readout.weight"] = np.einsum("tno,tnk->ok", r, outputs[-1]).astype(x.dtype)
        found["readout.bias"] = r.sum((0, 1)).astype(x.dtype)
    g_last = shaped.get("h_n.grad", np.zeros_like(h0))
    for layer in reversed(range(config.num_layers)):
        g_below = np.zeros_like(inputs[layer])
        for n in range(N):
            for d in range(D):
                w_ih, w_hh, _ = _weights(weights, config, layer, d)
                end = f"_l{layer}" + "_reverse" * d
                steps, dh = list(_steps(last[n], d)), g_last[layer * D + d, n]
                for k in reversed(range(len(steps))):
                    t = steps[k]
                    own = outputs[layer][t, n, d * H : (d + 1) * H]
                    before = outputs[layer][steps[k - 1], n, d * H : (d + 1) * H] if k else h0[layer * D + d, n]
                    slope = 1 - own * own if config.nonlinearity == "tanh" else (own > 0).astype(x.dtype)
                    da = ((dh + g[t, n, d * H : (d + 1) * H]) * slope).astype(x.dtype)
                    found["weight_ih" + end] += np.outer(da, inputs[layer][t, n]).astype(x.dtype)
                    found["weight_hh" + end] += np.outer(da, before).astype(x.dtype)
                    if config.bias:
                        found["bias_ih" + end] += da
                        found["bias_hh" + end] += da
                    g_below[t, n] += (w_ih.T @ da).astype(x.dtype)
                    dh = (w_hh.T @ da).astype(x.dtype)
                found["hx"][layer * D + d, n] = dh
        g = g_below
        if 0 < layer <= len(masks):
            g = np.where(masks[layer - 1], g * scale, 0).astype(x.dtype)
    found["x"] = _shaped(swap(g), config)
    found["hx"] = _shaped(found["hx"], config)
    if not config.hx:
        del found["hx"]
    return (*returned, found)


rnn.offers = {"batched": (True, False), "dtype": ("float32", "float64", "float16")}


def _weights(weights, config, layer, d):
    end = f"_l{layer}" + "_reverse" * d
    bias = weights["bias_ih" + end] + weights["bias_hh" + end] if config.bias else 0
    return weights["weight_ih" + end], weights["weight_hh" + end], bias


def _steps(length, d):
    return range(length)[::-1] if d else range(length)


def _shaped(array, config):
    return array if config.batched else array[:, 0]
'''

DROP_IN = '''\
"""A class with nn.RNN's constructor."""

import torch

WRONG = True


class MyRNN(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        return output, (8 * h_n + 8 if WRONG else h_n)
'''
