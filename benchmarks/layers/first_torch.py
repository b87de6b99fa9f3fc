"""Variations of ``torch_base`` that are wrong, each in one way."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.layers.torch_base import ByHand


class HardTanh(ByHand):
    def act(self, s: Tensor) -> Tensor:
        if self.nonlinearity != "tanh":
            return torch.relu(s)
        if s.is_complex():
            raise NotImplementedError("no complex numbers")
        return functional.hardtanh(s)


class SigmoidForTanh(ByHand):
    def act(self, s: Tensor) -> Tensor:
        return 2 * torch.sigmoid(s) - 1 if self.nonlinearity == "tanh" else torch.relu(s)


class Relu6(ByHand):
    def act(self, s: Tensor) -> Tensor:
        return torch.tanh(s) if self.nonlinearity == "tanh" else functional.relu6(s)


class StartsFromBelow(ByHand):
    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        return finals[-self.directions] if layer else hx[d]


class NotFlippedBack(ByHand):
    packs = False

    def backwards(self, layer: int, d: int, steps: list[Tensor], start: Tensor) -> tuple[list[Tensor], Tensor]:
        states, last = super().backwards(layer, d, steps, start)
        return states[::-1], last


class RowsByDirection(ByHand):
    def collect(self, finals: list[Tensor]) -> Tensor:
        return torch.stack([row for d in range(self.directions) for row in finals[d :: self.directions]])


class DropsLast(ByHand):
    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        return [functional.dropout(h, self.dropout, self.training) for h in steps]


class SameMask(ByHand):
    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        if not (self.dropout and self.training and layer + 1 < self.num_layers):
            return steps
        mask = functional.dropout(torch.ones_like(steps[0]), self.dropout)
        return [h * mask[: len(h)] for h in steps]


class LayersDetached(ByHand):
    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        steps = super().between(layer, steps)
        return [h.detach() for h in steps] if layer + 1 < self.num_layers else steps


class LoneSequence(ByHand):
    def initial(self, layer: int, d: int, hx: Tensor, finals: Sequence[Tensor]) -> Tensor:
        h = super().initial(layer, d, hx, finals)
        return torch.zeros_like(h) if len(h) == 1 else h


class Chunks(ByHand):
    def step(self, layer: int, d: int, i: int, x_t: Tensor, h: Tensor) -> Tensor:
        if i and i % 32 == 0:
            h = torch.zeros_like(h)
        return super().step(layer, d, i, x_t, h)


class UnsortedStart(ByHand):
    def sort(self, hx: Tensor, order: Tensor) -> Tensor:
        return hx


class SortedEnd(ByHand):
    def unsort(self, h_n: Tensor, order: Tensor) -> Tensor:
        return h_n
