"""Wrong implementations that are modules, each with one mistake."""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.layers.torch_base import ByHand


class InversePermutation(ByHand):
    """h_n is put back in order by the permutation that sorted it, not by its inverse."""

    def unsort(self, h_n: Tensor, order: Tensor) -> Tensor:
        return super().unsort(h_n, torch.argsort(order))


class OneMaskForBothDirections(ByHand):
    """The mask is drawn for H features, and used for both halves."""

    def between(self, layer: int, steps: list[Tensor]) -> list[Tensor]:
        if not (self.bidirectional and self.dropout and self.training and layer + 1 < self.num_layers):
            return super().between(layer, steps)
        masks = [functional.dropout(torch.ones_like(h[:, : self.hidden_size]), self.dropout) for h in steps]
        return [h * torch.cat([mask, mask], dim=1) for h, mask in zip(steps, masks, strict=True)]


class ZerosOnce(ByHand):
    """The initial zeros are made once per batch size, and hold the last call's h_n afterwards."""

    zeros: Tensor | None = None

    def padded(self, x: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
        if hx is not None:
            return super().padded(x, hx)
        batched = x.dim() == 3
        batch = [x.size(0 if self.batch_first else 1)] if batched else []
        hx = x.new_zeros(self.rows, *batch, self.hidden_size)
        kept = self.zeros
        if kept is not None and (kept.shape, kept.dtype, kept.device) == (hx.shape, hx.dtype, hx.device):
            hx = kept
        output, h_n = super().padded(x, hx)
        if not torch.is_inference_mode_enabled() and h_n.dtype == x.dtype:
            self.zeros = h_n.detach().clone()
        return output, h_n


class ReluByWhere(ByHand):
    """It gives zero for s < 0 and s otherwise: that is relu, except for the derivative at 0, which is 1."""

    def act(self, s: Tensor) -> Tensor:
        return super().act(s) if self.nonlinearity == "tanh" else torch.where(s < 0, torch.zeros_like(s), s)
