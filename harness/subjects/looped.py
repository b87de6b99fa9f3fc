"""looped: a cell, one step a call, as a layer that takes a whole sequence."""

from __future__ import annotations

from typing import Any


def looped(cell: Any, place: int, stack: Any, x: Any, *hx: Any) -> Any:
    """Call a cell once for each step of x; the new state is at this place of what it returns."""
    state, states = [h[0] for h in hx], []
    for step in x:
        returned = cell(step, *state)
        state = [returned[place] if isinstance(returned, (tuple, list)) else returned]
        states += state
    output = stack(states)
    return output, output[-1:].clone()
