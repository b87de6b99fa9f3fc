"""Certificate: the attempts to shrink a failing case further, none of which fails so: what "minimal" means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Certificate:
    """The results of the plainer neighbours of a failing case.

    Neighbours are plainer in one thing: a size, a flag, or a number. Each plainer config was tried with the case's own
    numbers, with any one step, sequence or unit left out, and with drawn numbers.
    """

    configs: int = 0
    """The number of plainer configs that were tried, with ``cases`` sets of values in total, and do not fail so."""
    cases: int = 0
    """The number of cases of these configs."""
    numbers: int = 0
    """The number of plainer numbers that were tried, each alone, and do not fail so."""
    otherwise: tuple[str, ...] = ()
    """The failures of another kind among these neighbours, and the known ones, by name; without any, all pass."""
    refused: tuple[str, ...] = ()
    """Plainer neighbours that the subject refuses, such as ``num_layers=1``."""
    untried: tuple[str, ...] = ()
    """The things that were not tried, and why; a complete certificate has none."""
    fresh_process: bool = False
    """True if the case was seen to fail in a fresh process, too."""

    @property
    def complete(self) -> bool:
        """True if every plainer neighbour was tried, except those that the subject refuses."""
        return not self.untried

    def but_for(self, *reasons: str) -> Certificate:
        """Return the same certificate with further things that were not tried."""
        return replace(self, untried=(*self.untried, *reasons))


NOT_SHRUNK: Final = Certificate().but_for("not made smaller")
"""The certificate of a case as it was found."""
