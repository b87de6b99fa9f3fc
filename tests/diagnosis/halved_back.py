"""A tensor whose gradient is halved on its way back, which is a mistake in the gradients alone."""

from typing import Any

import torch


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Any) -> Any:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g / 2


def halved_back(h: Any) -> torch.Tensor:
    """Return the same tensor, to which half of its gradient comes back."""
    same: torch.Tensor = _Halved.apply(h)  # type: ignore[no-untyped-call]
    return same
