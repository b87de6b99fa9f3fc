"""torch_facts: what is known of classes of recurrent modules. Everything is known of torch's own nn.RNN alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch


@dataclass(frozen=True)
class Facts:
    """Facts about the modules that a class makes; by default, nothing."""

    own: bool = False
    """True if they compute with torch's own operations alone, in the way of nn.RNN: the figures of torch's arithmetic
    hold, and its known issues."""
    draws_masks: bool = False
    """True if they draw one mask of dropout after the other, as torch's function does under the same seed."""
    exact: bool = False
    """True if they keep to the bit the laws that nn.RNN keeps."""
    forgets: bool = False
    """True if a module remembers nothing of earlier calls, and may be used for the next case of its config."""
    shares_process: bool = False
    """True if they leave their process as they found it (``Capabilities.shares_process``)."""


FACTS: Final[dict[Any, Facts]] = {
    torch.nn.RNN: Facts(own=True, draws_masks=True, exact=True, forgets=True, shares_process=True)
}
"""The facts by class."""


def is_cell(factory: Callable[..., torch.nn.Module]) -> bool:
    """Return whether a class makes cells: their parameters' names have no layer, and their constructor is another."""
    return isinstance(factory, type) and issubclass(factory, torch.nn.RNNCell)


def positions(factory: Callable[..., torch.nn.Module]) -> tuple[str, ...] | None:
    """Return the names of the arguments that a constructor takes by position; ``None`` if its signature hides them."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return tuple(one.name for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD})


def facts_of(factory: Callable[..., torch.nn.Module]) -> Facts:
    """Return what is known of a class; a cell is nothing but one step of torch's own."""
    return FACTS.get(factory, Facts(own=is_cell(factory)))
