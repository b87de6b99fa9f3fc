"""axes: the orders in which a call may have the axes of x, and of states."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

import torch

# Those that are tried, features as I; (N, T, I) is told by itself. States have the same order: (H, N) where I is before
# N.
INPUT_ORDERS: Final = ("TNI", "TIN", "INT", "NIT", "ITN")


def in_order(tensor: torch.Tensor, axes: str, *, back: bool = False) -> torch.Tensor:
    """Return (T, N, I) with the axes in an order, or the other way round; of (N, H), those that it has."""
    usual = INPUT_ORDERS[0][-tensor.ndim :] if 1 < tensor.ndim <= len(INPUT_ORDERS[0]) else ""
    order = "".join(axis for axis in axes if axis in usual)
    old, new = (order, usual) if back else (usual, order)
    return tensor.permute([old.index(axis) for axis in new]) if usual else tensor


def mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Apply a change to each tensor in whatever tuples, lists and dicts."""
    if isinstance(value, Mapping):
        return {name: mapped(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return change(value) if isinstance(value, torch.Tensor) else value


def with_axes(factory: Any, order: str) -> Any:
    """Return a class of modules, of one that has the axes in an order."""

    class UsualAxesClass(factory):  # type: ignore[misc]
        """The class with the usual axes."""

        in_numpy, axes = False, order

        @wraps(factory.forward)
        def forward(self, *arguments: Any, **named: Any) -> Any:
            turned = mapped(arguments, lambda tensor: in_order(tensor, order))
            return mapped(super().forward(*turned, **named), lambda tensor: in_order(tensor, order, back=True))

    UsualAxesClass.__name__, UsualAxesClass.__qualname__ = factory.__name__, factory.__qualname__
    return UsualAxesClass
