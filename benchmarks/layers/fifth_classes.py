"""Recurrent layers as torch modules, from several people."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class c01(nn.Module):
    """The tutorial's RNN: one Linear reads the input and the hidden state side by side."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)

    def init_hidden(self, x):
        return torch.zeros(x.size(1), self.hidden_size, dtype=x.dtype, device=x.device)

    def forward(self, x, hidden=None):  # x: (seq, batch, feature)
        hidden = self.init_hidden(x) if hidden is None else hidden[0]
        outputs = []
        for i in range(x.size(0)):
            combined = torch.cat((x[i], hidden.detach()), 1)
            output = self.i2h(combined)
            outputs.append(output)
            hidden = torch.tanh(output)
        return torch.stack(outputs), hidden.unsqueeze(0)


class c02(nn.Module):
    """Stacked RNNCells, batch first."""

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, nonlinearity="tanh"):
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.cells = nn.ModuleList(
            nn.RNNCell(input_size if i == 0 else hidden_size, hidden_size, bias, nonlinearity)
            for i in range(num_layers)
        )

    def forward(self, x, h0=None):
        batch, seq_len, _ = x.shape
        if h0 is None:
            h0 = x.new_zeros(self.num_layers, batch, self.hidden_size)
        h = [h0[0] for _ in range(self.num_layers)]
        ys = []
        for t in range(seq_len):
            new_h = []
            for i, cell in enumerate(self.cells):
                new_h.append(cell(x[:, t] if i == 0 else h[i - 1], h[i]))
            h = new_h
            ys.append(h[-1])
        return torch.stack(ys, dim=1), torch.stack(h)


class c03(nn.Module):
    """Raw parameters."""

    def __init__(self, n_in, n_hidden, alpha=0.1):
        super().__init__()
        self.alpha = alpha
        self.W = nn.Parameter(torch.empty(n_in, n_hidden))
        self.U = nn.Parameter(torch.empty(n_hidden, n_hidden))
        self.b = nn.Parameter(torch.zeros(n_hidden))
        nn.init.xavier_uniform_(self.W)
        nn.init.orthogonal_(self.U)

    def forward(self, x, h_0=None):  # x: (T, N, n_in)
        T, N, _ = x.shape
        if h_0 is None:
            h = torch.zeros(N, self.U.shape[0], dtype=x.dtype, device=x.device)
        else:
            h = torch.tanh(h_0.squeeze(0))
        hs = []
        for x_t in x.unbind(0):
            h = self.alpha * h + (1 - self.alpha) * torch.tanh(x_t @ self.W + h @ self.U + self.b)
            hs.append(h)
        return torch.stack(hs, 0), h[None]


class c04(nn.Module):
    """Remembers its hidden state, clips gradients as they pass."""

    def __init__(self, input_size, hidden_size, nonlinearity="tanh"):
        super().__init__()
        self.hidden_size = hidden_size
        self.act = torch.tanh if nonlinearity == "tanh" else F.relu
        self.i2h = nn.Linear(input_size, hidden_size)
        self.h2h = nn.Linear(hidden_size, hidden_size)
        self.hidden = None

    def forward(self, x, hx=None):
        if hx is not None:
            h = hx[0]
        elif self.hidden is not None and self.hidden.shape[0] == x.shape[1]:
            h = self.hidden.to(x)
        else:
            h = torch.zeros(x.shape[1], self.hidden_size, dtype=x.dtype, device=x.device)
        out = []
        for step in x:
            h = self.act(self.i2h(step) + torch.mm(h, self.h2h.weight.t()))
            if h.requires_grad:
                h.register_hook(lambda g: g.clamp(-1, 1))
            out.append(h)
        self.hidden = h.detach()
        return torch.stack(out), h.unsqueeze(0)


class c05(nn.Module):
    """An Elman layer with a shortcut where the sizes allow one."""

    def __init__(self, input_size, hidden_size, bias=True, batch_first=False):
        super().__init__()
        self.batch_first = batch_first
        self.in_proj = nn.Linear(input_size, hidden_size, bias=bias)
        self.rec_proj = nn.Linear(hidden_size, hidden_size, bias=bias)

    def forward(self, inputs, state=None):
        if self.batch_first:
            inputs = inputs.transpose(0, 1)
        if state is None:
            state = inputs.new_zeros(1, inputs.shape[1], self.rec_proj.out_features)
        h = state[0]
        projected = torch.tanh(self.in_proj(inputs))
        outputs = []
        for p in projected:
            h = torch.tanh(p + self.rec_proj(h))
            outputs.append(h)
        outputs = torch.stack(outputs)
        if inputs.shape == outputs.shape:
            outputs = outputs + inputs
        if self.batch_first:
            outputs = outputs.transpose(0, 1)
        return outputs, h.unsqueeze(0)


class c06(nn.Module):
    """Two RNNCells, one for each direction."""

    def __init__(self, input_size, hidden_size, bidirectional=False):
        super().__init__()
        self.hidden_size = hidden_size
        self.cells = nn.ModuleList(nn.RNNCell(input_size, hidden_size) for _ in range(1 + bidirectional))

    def forward(self, x, hx=None):
        T, N, _ = x.shape
        if hx is None:
            hx = torch.zeros(len(self.cells), N, self.hidden_size, dtype=x.dtype, device=x.device)
        h = hx[0]
        forward_states = []
        for t in range(T):
            h = self.cells[0](x[t], h)
            forward_states.append(h)
        output = torch.stack(forward_states)
        if len(self.cells) == 2:
            backward_states = []
            for t in range(T - 1, -1, -1):
                h = self.cells[1](x[t], h)
                backward_states.insert(0, h)
            output = torch.cat([output, torch.stack(backward_states)], dim=2)
        h_n = output[-1].view(N, len(self.cells), self.hidden_size).transpose(0, 1).contiguous()
        return output, h_n


class c07(nn.Module):
    """A stack that runs layer after layer."""

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh"):
        super().__init__()
        self.num_layers, self.hidden_size = num_layers, hidden_size
        self.layers = nn.ModuleList([nn.RNNCell(input_size, hidden_size, nonlinearity=nonlinearity)])
        for _ in range(num_layers - 1):
            self.layers.append(nn.RNNCell(hidden_size, hidden_size, nonlinearity=nonlinearity))

    def forward(self, x, hx=None):
        if hx is None:
            hx = torch.zeros(self.num_layers, x.size(1), self.hidden_size, dtype=x.dtype, device=x.device)
        finals = []
        for i in range(self.num_layers):
            cell = self.layers[i > 0]
            h, outs = hx[i], []
            for t in range(x.size(0)):
                h = cell(x[t], h)
                outs.append(h)
            finals.append(h)
            x = torch.stack(outs)
            if i + 1 < self.num_layers:
                x = x.data
        return x, torch.stack(finals)


class c08(nn.Module):
    """Linear layers in pairs, the nonlinearity outside."""

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True):
        super().__init__()
        self.hidden_size = hidden_size
        self.nonlinearity = {"tanh": nn.Tanh(), "relu": nn.ReLU()}[nonlinearity]
        self.x2h = nn.ModuleList()
        self.h2h = nn.ModuleList()
        for layer in range(num_layers):
            self.x2h.append(nn.Linear(hidden_size if layer else input_size, hidden_size, bias=bias))
            self.h2h.append(nn.Linear(hidden_size, hidden_size, bias=bias))

    def forward(self, x, hx=None):
        num_layers, batch_size = len(self.x2h), x.shape[1]
        if hx is None:
            hx = x.new_zeros((num_layers, batch_size, self.hidden_size))
        state = list(hx)
        output = []
        for x_t in x:
            for layer in range(num_layers):
                x_t = self.nonlinearity(self.x2h[layer](x_t) + self.h2h[layer](state[layer]))
                state[layer] = x_t
            output.append(x_t)
        return torch.stack(output), torch.stack(state)
