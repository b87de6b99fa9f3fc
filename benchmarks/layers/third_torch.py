"""Recurrent layers in torch as tutorials and students write them: functional, autograd functions, modules, cells."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence


def _tensors(x, h0, weights, grad=False):
    given = {"x": torch.tensor(x), "hx": torch.tensor(h0)} | {name: torch.tensor(w) for name, w in weights.items()}
    return {name: tensor.requires_grad_(grad) for name, tensor in given.items()}


def _finish(output, h_n, given, config, cotangents):
    """As NumPy arrays, with the gradients of sum(cotangent * result) if there are any cotangents."""
    if not cotangents:
        return output.detach().numpy(), h_n.detach().numpy()
    loss = 0
    for name, result in (("output.grad", output), ("h_n.grad", h_n)):
        if name in cotangents:
            loss = loss + (torch.tensor(cotangents[name]) * result).sum()
    wanted = {name: tensor for name, tensor in given.items() if name != "hx" or config.hx}
    grads = [None] * len(wanted)
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    named = {
        name: (torch.zeros_like(tensor) if g is None else g).numpy() for (name, tensor), g in zip(wanted.items(), grads)
    }
    return output.detach().numpy(), h_n.detach().numpy(), named


# ------------------------------------------------------------------------------------------------ functional


def functional(x, h0, weights, config, cotangents):
    """F.linear in two loops."""
    given = _tensors(x, h0, weights, bool(cotangents))
    act = getattr(torch, config.nonlinearity)
    steps, finals = given["x"].unbind(1 if config.batch_first else 0), []
    for layer in range(config.num_layers):
        directions = []
        for d in range(config.num_directions):
            end = f"_l{layer}" + ("_reverse" if d else "")
            h, hs = given["hx"][len(finals)], []
            for x_t in reversed(steps) if d else steps:
                i = F.linear(x_t, given["weight_ih" + end], given.get("bias_ih" + end))
                h = act(i + F.linear(h, given["weight_hh" + end], given.get("bias_hh" + end)))
                hs.append(h)
            finals.append(h)
            directions.append(hs[::-1] if d else hs)
        steps = [torch.cat(hs, 1) for hs in zip(*directions)]
    output = torch.stack(steps, 1 if config.batch_first else 0)
    return _finish(output, torch.stack(finals), given, config, cotangents)


def addmm(x, h0, weights, config, cotangents):
    """torch.addmm, a product and its bias at once."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    if not config.bias:
        raise NotImplementedError("addmm needs a bias")
    p = _tensors(x, h0, weights, bool(cotangents))
    seq = p["x"].transpose(0, 1) if config.batch_first else p["x"]
    h, hs = p["hx"][0], []
    for x_t in seq:
        s = torch.addmm(p["bias_ih_l0"], x_t, p["weight_ih_l0"].t())
        s = s + torch.addmm(p["bias_hh_l0"], h, p["weight_hh_l0"].t())
        h = s.tanh() if config.nonlinearity == "tanh" else s.relu()
        hs.append(h)
    return _finish(torch.stack(hs, dim=1 if config.batch_first else 0), h.unsqueeze(0), p, config, cotangents)


def projected(x, h0, weights, config, cotangents):
    """The input of all steps is projected at once; batch first only."""
    if config.num_layers > 1 or config.bidirectional or not config.batch_first:
        raise NotImplementedError("one layer, one direction, batch first")
    p = _tensors(x, h0, weights, bool(cotangents))
    drive = p["x"] @ p["weight_ih_l0"].T
    if config.bias:
        drive = drive + (p["bias_ih_l0"] + p["bias_hh_l0"])
    h, hs = p["hx"].squeeze(0), []
    for t in range(drive.shape[1]):
        s = drive[:, t] + h @ p["weight_hh_l0"].T
        h = getattr(s, config.nonlinearity)()
        hs.append(h)
    return _finish(torch.stack(hs, 1), h[None], p, config, cotangents)


def viewed(x, h0, weights, config, cotangents):
    """batch_first is a view away."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    p = _tensors(x, h0, weights, bool(cotangents))
    T, N = config.T, config.N
    seq = p["x"]
    if config.batch_first:
        seq = seq.reshape(T, N, config.input_size)
    h, hs = p["hx"][0], []
    for t in range(T):
        s = seq[t] @ p["weight_ih_l0"].t() + h @ p["weight_hh_l0"].t()
        if config.bias:
            s = s + p["bias_ih_l0"] + p["bias_hh_l0"]
        h = torch.tanh(s) if config.nonlinearity == "tanh" else torch.relu(s)
        hs.append(h)
    output = torch.stack(hs)
    if config.batch_first:
        output = output.permute(1, 0, 2)
    return _finish(output, h.unsqueeze(0), p, config, cotangents)


def one_direction_starts(x, h0, weights, config, cotangents):
    """h0 has a row for each layer."""
    p = _tensors(x, h0, weights, bool(cotangents))
    act = torch.tanh if config.nonlinearity == "tanh" else torch.relu
    seq = p["x"].transpose(0, 1) if config.batch_first else p["x"]
    h_n = []
    for layer in range(config.num_layers):
        starts = p["hx"][layer * config.num_directions]
        outs = []
        for suffix in ["", "_reverse"][: config.num_directions]:
            hidden, out = starts, []
            for x_t in seq.flip(0) if suffix else seq:
                s = x_t @ p[f"weight_ih_l{layer}{suffix}"].T + hidden @ p[f"weight_hh_l{layer}{suffix}"].T
                if config.bias:
                    s = s + p[f"bias_ih_l{layer}{suffix}"] + p[f"bias_hh_l{layer}{suffix}"]
                hidden = act(s)
                out.append(hidden)
            h_n.append(hidden)
            outs.append(torch.stack(out).flip(0) if suffix else torch.stack(out))
        seq = torch.cat(outs, dim=-1)
    return _finish(seq.transpose(0, 1) if config.batch_first else seq, torch.stack(h_n), p, config, cotangents)


def detached_final(x, h0, weights, config, cotangents):
    """h_n is detached, to be carried on to the next batch."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    p = _tensors(x, h0, weights, bool(cotangents))
    seq = p["x"].transpose(0, 1) if config.batch_first else p["x"]
    b = p["bias_ih_l0"] + p["bias_hh_l0"] if config.bias else 0
    hs = [p["hx"][0]]
    for x_t in seq:
        hs.append(getattr(torch, config.nonlinearity)(x_t @ p["weight_ih_l0"].T + hs[-1] @ p["weight_hh_l0"].T + b))
    output = torch.stack(hs[1:], 1 if config.batch_first else 0)
    return _finish(output, hs[-1].detach().unsqueeze(0), p, config, cotangents)


def detached_steps(x, h0, weights, config, cotangents):
    """The hidden state is data for the next step."""
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    p = _tensors(x, h0, weights, bool(cotangents))
    h, hs = p["hx"][0], []
    for x_t in p["x"].unbind(1 if config.batch_first else 0):
        s = F.linear(x_t, p["weight_ih_l0"]) + F.linear(h, p["weight_hh_l0"])
        if config.bias:
            s = s + p["bias_ih_l0"] + p["bias_hh_l0"]
        hs.append(getattr(torch, config.nonlinearity)(s))
        h = hs[-1].detach()
    output = torch.stack(hs, 1 if config.batch_first else 0)
    return _finish(output, hs[-1].unsqueeze(0), p, config, cotangents)


def default_dtype(x, weights, config, cotangents):
    """Starts at torch.zeros."""
    if config.num_layers > 1 or config.bidirectional or config.hx:
        raise NotImplementedError("one layer, one direction, no initial state")
    p = {"x": torch.tensor(x)} | {name: torch.tensor(w) for name, w in weights.items()}
    p = {name: t.requires_grad_(bool(cotangents)) for name, t in p.items()}
    h = torch.zeros(config.N, config.hidden_size)
    hs = []
    for x_t in p["x"].unbind(1 if config.batch_first else 0):
        s = x_t @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T
        if config.bias:
            s = s + p["bias_ih_l0"] + p["bias_hh_l0"]
        h = torch.tanh(s) if config.nonlinearity == "tanh" else torch.relu(s)
        hs.append(h)
    return _finish(torch.stack(hs, 1 if config.batch_first else 0), h[None], p, config, cotangents)


# ------------------------------------------------------------------------------------------------ autograd.Function


class RecurrentStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h, w, u, b):
        y = torch.tanh(x @ w.t() + h @ u.t() + b)
        ctx.save_for_backward(x, h, w, u, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, h, w, u, y = ctx.saved_tensors
        ds = dy * (1 - y * y)
        return ds @ w, ds @ u, ds.t() @ x, ds.t() @ h, ds.sum(0)


def custom_function(x, h0, weights, config, cotangents):
    """A step with its own backward."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh" or not config.bias:
        raise NotImplementedError("one biased tanh layer")
    p = _tensors(x, h0, weights, bool(cotangents))
    b = p["bias_ih_l0"] + p["bias_hh_l0"]
    h, hs = p["hx"][0], []
    for x_t in p["x"].unbind(1 if config.batch_first else 0):
        h = RecurrentStep.apply(x_t, h, p["weight_ih_l0"], p["weight_hh_l0"], b)
        hs.append(h)
    return _finish(torch.stack(hs, 1 if config.batch_first else 0), h[None], p, config, cotangents)


class TanhFunction(torch.autograd.Function):
    """tanh'(s) = 1 - tanh(s)^2."""

    @staticmethod
    def forward(ctx, s):
        ctx.save_for_backward(s)
        return torch.tanh(s)

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return grad * (1 - s**2)


def custom_tanh(x, h0, weights, config, cotangents):
    """Its own tanh."""
    if config.bidirectional:
        raise NotImplementedError("one direction")
    p = _tensors(x, h0, weights, bool(cotangents))
    seq, finals = list(p["x"].unbind(1 if config.batch_first else 0)), []
    for layer in range(config.num_layers):
        h = p["hx"][layer]
        for t, x_t in enumerate(seq):
            s = F.linear(x_t, p[f"weight_ih_l{layer}"], p.get(f"bias_ih_l{layer}"))
            s = s + F.linear(h, p[f"weight_hh_l{layer}"], p.get(f"bias_hh_l{layer}"))
            seq[t] = h = TanhFunction.apply(s) if config.nonlinearity == "tanh" else F.relu(s)
        finals.append(h)
    return _finish(torch.stack(seq, 1 if config.batch_first else 0), torch.stack(finals), p, config, cotangents)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s):
        ctx.save_for_backward(s)
        return s.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return torch.where(s >= 0, grad, torch.zeros_like(grad))


def custom_relu(x, h0, weights, config, cotangents):
    """Its own relu, as in the tutorial on autograd functions."""
    if config.bidirectional or config.num_layers > 1 or config.nonlinearity != "relu":
        raise NotImplementedError("one relu layer")
    p = _tensors(x, h0, weights, bool(cotangents))
    h, hs = p["hx"][0], []
    for x_t in p["x"].unbind(1 if config.batch_first else 0):
        s = F.linear(x_t, p["weight_ih_l0"], p.get("bias_ih_l0")) + F.linear(h, p["weight_hh_l0"], p.get("bias_hh_l0"))
        h = ReluFunction.apply(s)
        hs.append(h)
    return _finish(torch.stack(hs, 1 if config.batch_first else 0), h[None], p, config, cotangents)


# ------------------------------------------------------------------------------------------------ nn.RNNCell


def _cell(weights, end, config, x, **options):
    width = weights["weight_ih" + end].shape[1]
    cell = nn.RNNCell(width, config.hidden_size, bias=config.bias, dtype=torch.tensor(x).dtype, **options)
    cell.load_state_dict({name.removesuffix(end): torch.tensor(w) for name, w in weights.items() if name.endswith(end)})
    return cell


def cells(x, h0, weights, config):
    """A stack of nn.RNNCell."""
    if config.bidirectional:
        raise NotImplementedError("cells in one direction")
    stack = [_cell(weights, f"_l{k}", config, x, nonlinearity=config.nonlinearity) for k in range(config.num_layers)]
    hs = list(torch.tensor(h0))
    outputs = []
    with torch.no_grad():
        for x_t in torch.tensor(x).unbind(1 if config.batch_first else 0):
            for k, cell in enumerate(stack):
                x_t = hs[k] = cell(x_t, hs[k])
            outputs.append(x_t)
    return torch.stack(outputs, 1 if config.batch_first else 0).numpy(), torch.stack(hs).numpy()


def default_cells(x, h0, weights, config):
    """nn.RNNCell as it comes."""
    if config.bidirectional:
        raise NotImplementedError("cells in one direction")
    stack = [_cell(weights, f"_l{k}", config, x) for k in range(config.num_layers)]
    seq, finals = torch.tensor(x).unbind(1 if config.batch_first else 0), []
    with torch.no_grad():
        for k, cell in enumerate(stack):
            h, out = torch.tensor(h0[k]), []
            for x_t in seq:
                h = cell(x_t, h)
                out.append(h)
            seq = out
            finals.append(h)
    return torch.stack(list(seq), 1 if config.batch_first else 0).numpy(), torch.stack(finals).numpy()


def lenient_load(x, h0, weights, config):
    """strict=False, for it complained."""
    if config.bidirectional or config.num_layers > 1:
        raise NotImplementedError("one cell")
    tensors = {name.removesuffix("_l0"): torch.tensor(w) for name, w in weights.items()}
    cell = nn.RNNCell(config.input_size, config.hidden_size, nonlinearity=config.nonlinearity)
    cell = cell.to(torch.tensor(x).dtype)
    cell.load_state_dict(tensors, strict=False)
    h, hs = torch.tensor(h0[0]), []
    with torch.no_grad():
        for x_t in torch.tensor(x).unbind(1 if config.batch_first else 0):
            h = cell(x_t, h)
            hs.append(h)
    return torch.stack(hs, 1 if config.batch_first else 0).numpy(), h[None].numpy()


def always_drops(x, h0, weights, config):
    """Dropout between layers."""
    if config.bidirectional:
        raise NotImplementedError("one direction")
    p = _tensors(x, h0, weights)
    seq, finals = list(p["x"].unbind(1 if config.batch_first else 0)), []
    for k in range(config.num_layers):
        h = p["hx"][k]
        for t, x_t in enumerate(seq):
            s = F.linear(x_t, p[f"weight_ih_l{k}"], p.get(f"bias_ih_l{k}"))
            seq[t] = h = getattr(torch, config.nonlinearity)(
                s + F.linear(h, p[f"weight_hh_l{k}"], p.get(f"bias_hh_l{k}"))
            )
        finals.append(h)
        if config.dropout and k < config.num_layers - 1:
            seq = [F.dropout(h, config.dropout) for h in seq]
    return torch.stack(seq, 1 if config.batch_first else 0).numpy(), torch.stack(finals).numpy()


# ------------------------------------------------------------------------------------------------ a module kept


_MODELS = {}


class Elman(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.i2h, self.h2h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x, h):
        out = []
        for x_t in x:
            h = torch.tanh(self.i2h(x_t) + self.h2h(h))
            out.append(h)
        return torch.stack(out), h


def without_zero_grad(x, h0, weights, config, cotangents):
    """Builds a model once, loads the weights every time, and calls backward()."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh":
        raise NotImplementedError("one tanh layer")
    if config.batch_first or not config.bias:
        raise NotImplementedError("time first, with biases")
    key = (config.input_size, config.hidden_size, config.dtype)
    if key not in _MODELS:
        _MODELS[key] = Elman(config.input_size, config.hidden_size).to(torch.tensor(x).dtype)
    model = _MODELS[key]
    names = {"i2h.weight": "weight_ih", "h2h.weight": "weight_hh", "i2h.bias": "bias_ih", "h2h.bias": "bias_hh"}
    model.load_state_dict({own: torch.tensor(weights[name + "_l0"]) for own, name in names.items()})
    x, h = torch.tensor(x, requires_grad=True), torch.tensor(h0[0], requires_grad=True)
    output, last = model(x, h)
    h_n = last[None]
    if not cotangents:
        return output.detach().numpy(), h_n.detach().numpy()
    results = {"output.grad": output, "h_n.grad": h_n}
    sum((results[name] * torch.tensor(g)).sum() for name, g in cotangents.items()).backward()
    grads = {name + "_l0": model.get_parameter(own).grad.numpy() for own, name in names.items()}
    grads |= {"x": x.grad.numpy()} | ({"hx": h.grad.numpy()[None]} if config.hx else {})
    return output.detach().numpy(), h_n.detach().numpy(), grads


# ------------------------------------------------------------------------------------------------ drop-in modules


class MyRNN(nn.RNN):
    """nn.RNN with a forward of its own, to be read."""

    def forward(self, input, hx=None):
        if isinstance(input, PackedSequence):
            raise NotImplementedError("packed sequences")
        if self.training and self.dropout and self.num_layers > 1:
            raise NotImplementedError("dropout in training")
        with torch.no_grad():
            super().forward(input, hx)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        D = 2 if self.bidirectional else 1
        if hx is None:
            hx = x.new_zeros(self.num_layers * D, x.size(1), self.hidden_size)
        elif not batched:
            hx = hx.unsqueeze(1)
        finals = []
        for layer in range(self.num_layers):
            outs = [self.direction(x, hx[layer * D + d], f"_l{layer}" + "_reverse" * d, finals) for d in range(D)]
            x = torch.cat(outs, dim=2)
        h_n = torch.stack(finals)
        if not batched:
            return x.squeeze(1), h_n.squeeze(1)
        return x.transpose(0, 1) if self.batch_first else x, h_n

    def direction(self, x, h, end, finals):
        reverse, out = end.endswith("reverse"), []
        act = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        for x_t in reversed(x.unbind(0)) if reverse else x.unbind(0):
            s = F.linear(x_t, getattr(self, "weight_ih" + end), getattr(self, "bias_ih" + end, None))
            h = act(s + F.linear(h, getattr(self, "weight_hh" + end), getattr(self, "bias_hh" + end, None)))
            out.append(h)
        finals.append(h)
        return torch.stack(out[::-1] if reverse else out)


class ParameterRNN(nn.Module):
    """From nn.Parameter, with nn.RNN's names, so that load_state_dict works."""

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        if bidirectional:
            raise NotImplementedError("bidirectional")
        self.hidden_size, self.num_layers, self.batch_first = hidden_size, num_layers, batch_first
        self.nonlinearity, self.bias, self.dropout = nonlinearity, bias, dropout
        for k in range(num_layers):
            width = hidden_size if k else input_size
            shapes = {"weight_ih": (hidden_size, width), "weight_hh": (hidden_size, hidden_size)}
            shapes |= {"bias_ih": (hidden_size,), "bias_hh": (hidden_size,)} if bias else {}
            for name, shape in shapes.items():
                p = nn.Parameter(torch.empty(shape, device=device, dtype=dtype).uniform_(-1, 1) / hidden_size**0.5)
                self.register_parameter(f"{name}_l{k}", p)

    def forward(self, x, hx=None):
        if not isinstance(x, torch.Tensor) or x.dim() != 3:
            raise NotImplementedError("a batch of sequences of one length only")
        if self.training and self.dropout > 0 and self.num_layers > 1:
            raise NotImplementedError("dropout")
        steps = x.unbind(1 if self.batch_first else 0)
        hs = list(x.new_zeros(self.num_layers, len(steps[0]), self.hidden_size) if hx is None else hx)
        out = []
        for x_t in steps:
            for k in range(self.num_layers):
                x_t = hs[k] = self.step(k, x_t, hs[k])
            out.append(x_t)
        return torch.stack(out, 1 if self.batch_first else 0), torch.stack(hs)

    def step(self, k, x, h):
        s = F.linear(x, getattr(self, f"weight_ih_l{k}")) + F.linear(h, getattr(self, f"weight_hh_l{k}"))
        if self.bias:
            s = s + getattr(self, f"bias_ih_l{k}") + getattr(self, f"bias_hh_l{k}")
        return torch.tanh(s) if self.nonlinearity == "tanh" else torch.relu(s)


class DroppingRNN(MyRNN):
    """With dropout, after every layer."""

    def forward(self, input, hx=None):
        if isinstance(input, PackedSequence):
            raise NotImplementedError("packed sequences")
        with torch.no_grad():
            super(MyRNN, self).forward(input, hx)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        D = 2 if self.bidirectional else 1
        if hx is None:
            hx = x.new_zeros(self.num_layers * D, x.size(1), self.hidden_size)
        elif not batched:
            hx = hx.unsqueeze(1)
        finals = []
        for layer in range(self.num_layers):
            outs = [self.direction(x, hx[layer * D + d], f"_l{layer}" + "_reverse" * d, finals) for d in range(D)]
            x = F.dropout(torch.cat(outs, dim=2), self.dropout, self.training)
        h_n = torch.stack(finals)
        if not batched:
            return x.squeeze(1), h_n.squeeze(1)
        return x.transpose(0, 1) if self.batch_first else x, h_n


class StatefulRNN(ParameterRNN):
    """Remembers its state between calls, for text that goes on."""

    hidden = None

    def forward(self, x, hx=None):
        if hx is None and self.hidden is not None and isinstance(x, torch.Tensor) and x.dim() == 3:
            kept = self.hidden
            if (
                kept.size(1) == x.size(0 if self.batch_first else 1)
                and kept.dtype == x.dtype
                and kept.device == x.device
            ):
                hx = kept
        output, h_n = super().forward(x, hx)
        self.hidden = h_n.detach()
        return output, h_n


class UnreadBias(ParameterRNN):
    """As the books have it, with one bias."""

    def step(self, k, x, h):
        s = F.linear(x, getattr(self, f"weight_ih_l{k}")) + F.linear(h, getattr(self, f"weight_hh_l{k}"))
        if self.bias:
            s = s + getattr(self, f"bias_ih_l{k}")
        return torch.tanh(s) if self.nonlinearity == "tanh" else torch.relu(s)
