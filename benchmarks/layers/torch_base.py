"""nn.RNN's constructor and checks, with a forward pass of its own in methods that can be overridden."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence


class ByHand(nn.RNN):
    """A layer whose steps are list entries: x_t of the sequences with that step, (n_t, features), n_t never rising."""

    packs = True

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        self.refuse(input, hx)
        if not isinstance(input, PackedSequence):
            return self.padded(input, hx)
        if not self.packs:
            raise NotImplementedError("no packed sequences")
        sizes = input.batch_sizes.tolist()
        if hx is None:
            hx = input.data.new_zeros(self.rows, sizes[0], self.hidden_size)
        elif input.sorted_indices is not None:
            hx = self.sort(hx, input.sorted_indices)
        steps, h_n = self.stack(list(torch.split(input.data, sizes)), hx)
        if input.unsorted_indices is not None:
            h_n = self.unsort(h_n, input.unsorted_indices)
        return input._replace(data=torch.cat(steps)), h_n

    def padded(self, x: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        batched = x.dim() == 3
        if not batched:
            x, hx = x.unsqueeze(1), None if hx is None else hx.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if hx is None:
            hx = x.new_zeros(self.rows, x.size(1), self.hidden_size)
        steps, h_n = self.stack(list(x.unbind(0)), hx)
        if not batched:
            return torch.stack(steps).squeeze(1), h_n.squeeze(1)
        return torch.stack(steps, dim=1 if self.batch_first else 0), h_n

    def refuse(self, x: Any, hx: Any) -> None:
        """Let nn.RNN raise its errors; its results are not used."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            super().forward(x, hx)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def rows(self) -> int:
        return self.num_layers * self.directions

    def sort(self, hx: Tensor, order: Tensor) -> Tensor:
        return hx.index_select(1, order)

    def unsort(self, h_n: Tensor, order: Tensor) -> Tensor:
        return h_n.index_select(1, order)

    def stack(self, steps: list[Tensor], hx: Tensor) -> tuple[list[Tensor], Tensor]:
        finals: list[Tensor] = []
        for layer in range(self.num_layers):
            sides = []
            for d in range(self.directions):
                start = self.initial(layer, d, hx, finals)
                states, last = (self.backwards if d else self.forwards)(layer, d, steps, start)
                sides.append(states)
                finals.append(last)
            steps = [torch.cat(both, dim=1) for both in zip(*sides, strict=True)]
            steps = self.between(layer, steps)
        return steps, self.collect(finals)

    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        return hx[layer * self.directions + d]

    def forwards(self, layer: int, d: int, steps: list[Tensor], h: Tensor) -> tuple[list[Tensor], Tensor]:
        states, ended = [], []
        for i, x_t in enumerate(steps):
            if len(x_t) < len(h):
                ended.append(h[len(x_t) :])
            h = self.step(layer, d, i, x_t, h[: len(x_t)])
            states.append(h)
        return states, torch.cat([h, *reversed(ended)])

    def backwards(self, layer: int, d: int, steps: list[Tensor], start: Tensor) -> tuple[list[Tensor], Tensor]:
        states, h = [], start[: len(steps[-1])]
        for i, x_t in enumerate(reversed(steps)):
            if len(x_t) > len(h):
                h = torch.cat([h, start[len(h) : len(x_t)]])
            h = self.step(layer, d, i, x_t, h)
            states.append(h)
        return states[::-1], h

    def step(self, layer: int, d: int, i: int, x_t: Tensor, h: Tensor) -> Tensor:
        """Return the state after the i-th step that is taken."""
        end = f"_l{layer}{'_reverse' if d else ''}"
        b_ih, b_hh = (getattr(self, role + end) if self.bias else None for role in ("bias_ih", "bias_hh"))
        s = functional.linear(x_t, getattr(self, "weight_ih" + end), b_ih)
        return self.act(s + functional.linear(h, getattr(self, "weight_hh" + end), b_hh))

    def act(self, s: Tensor) -> Tensor:
        return torch.tanh(s) if self.nonlinearity == "tanh" else torch.relu(s)

    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        """Return what the next layer gets of a layer's output, or the caller of the last one's."""
        if self.dropout and self.training and layer + 1 < self.num_layers:
            return [functional.dropout(h, self.dropout) for h in steps]
        return steps

    def collect(self, finals: list[Tensor]) -> Tensor:
        return torch.stack(finals)
