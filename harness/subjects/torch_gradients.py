"""The gradients that two backward passes over one graph add up in ``.grad``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch


def accumulated(
    roots: Sequence[torch.Tensor], by: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor | None]:
    """Return half of what two passes leave in each ``.grad``, ``None`` where there is nothing.

    The sum of two equal numbers and half of it are exact, so that this is what one pass gives, to the bit. Only a sum
    may overflow; the first pass's own gradient stands in for one that does.
    """
    for tensor in by:
        tensor.grad = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract", UserWarning)
            torch.autograd.backward(roots, cotangents, retain_graph=True)
            first = [None if tensor.grad is None else tensor.grad.clone() for tensor in by]
            torch.autograd.backward(roots, cotangents)
        return [_half(tensor.grad, one) for tensor, one in zip(by, first, strict=True)]
    finally:
        for tensor in by:
            tensor.grad = None  # the module is used again for other cases


def _half(total: torch.Tensor | None, first: torch.Tensor | None) -> torch.Tensor | None:
    if total is None or first is None:
        return total
    parts, single = (torch.view_as_real(one) if one.is_complex() else one for one in (total, first))
    half = torch.where(parts.isinf() & single.isfinite(), single, parts / 2)
    return torch.view_as_complex(half) if total.is_complex() else half
