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


def mapped(given: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Apply a change to each tensor in whatever tuples, lists and dicts."""
    if isinstance(given, Mapping):
        return {name: mapped(one, change) for name, one in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(mapped(one, change) for one in given)
    return change(given) if isinstance(given, torch.Tensor) else given


def with_axes(factory: Any, order: str) -> Any:
    """Return a class of modules, of one that has the axes in an order."""

    class Turned(factory):  # type: ignore[misc]
        """The class with the usual axes."""

        in_numpy, axes = False, order

        @wraps(factory.forward)
        def forward(self, *given: Any, **named: Any) -> Any:
            turned = mapped(given, lambda one: in_order(one, order))
            return mapped(super().forward(*turned, **named), lambda one: in_order(one, order, back=True))

    Turned.__name__, Turned.__qualname__ = factory.__name__, factory.__qualname__
    return Turned
