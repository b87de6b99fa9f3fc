"""certificate: what was tried to make a failing case smaller still, in vain: so much does "minimal" mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Certificate:
    """What every plainer neighbour of a failing case came to.

    Neighbours are plainer in one thing: a size, a flag, or a number. Each plainer config was tried with the case's own
    numbers, with any one step, sequence or unit left out, and with drawn ones.
    """

    configs: int = 0
    """Plainer configs that were tried, with as many sets of values as ``cases`` says, and that pass."""
    cases: int = 0
    """Cases of these configs."""
    numbers: int = 0
    """Plainer numbers that were tried, each alone, and that pass."""
    refused: tuple[str, ...] = ()
    """Plainer neighbours that the subject refuses: ``num_layers=1``."""
    untried: tuple[str, ...] = ()
    """What was not tried, and why; nothing, in a complete certificate."""
    fresh_process: bool = False
    """Whether the case was seen to fail in a fresh process, too."""

    @property
    def complete(self) -> bool:
        """Whether every plainer neighbour was tried that the subject does not refuse."""
        return not self.untried

    def but_for(self, *reasons: str) -> Certificate:
        """The same, with more that was not tried."""
        return replace(self, untried=(*self.untried, *reasons))


NOT_SHRUNK: Final = Certificate().but_for("not made smaller")
"""Of a case as it was found."""
