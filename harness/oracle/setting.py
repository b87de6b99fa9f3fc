"""setting: the setting of a comparison: what computes the right values, of which case, and the subject's arithmetic."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.gated import GATED_CELLS, GatedCell
from harness.oracle.own_cell import OwnCell
from harness.oracle.reference import Reference
from harness.oracle.unroll import Unroll
from harness.space.case import Case
from harness.space.cells import CELL_DEFINITIONS, Cell, CellDefinition
from harness.space.config import RNNConfig

REFERENCE: Final = Reference()


def reference_of(config: RNNConfig) -> Unroll:
    """Return the reference of a config's cell."""
    return REFERENCE if config.cell == "RNN" else _gated(CELL_DEFINITIONS[config.cell])


@cache
def _gated(cell: CellDefinition) -> GatedCell:
    return OwnCell(cell) if isinstance(cell, Cell) and cell.name not in GATED_CELLS else GATED_CELLS[cell.name]


class Setting(NamedTuple):
    """The setting of a comparison."""

    reference: Unroll  # That of the config's cell, or one with a known issue
    case: Case
    arithmetic: Arithmetic

    @classmethod
    def of(cls, case: Case, arithmetic: Arithmetic) -> Setting:
        """Return the setting in which a subject has to compute what its config's cell does."""
        return cls(reference_of(case.config), case, arithmetic)

    @property
    def elman(self) -> Reference:
        """The reference, where something is derived for the Elman cell alone."""
        if not isinstance(self.reference, Reference):
            raise TypeError(f"{type(self.reference).__name__}: expected a Reference, whose derivatives have tolerances")
        return self.reference
