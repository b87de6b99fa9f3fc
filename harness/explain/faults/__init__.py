"""faults: named ways of being wrong, each a Reference that gets one small thing wrong; a file for each family."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from harness.explain.faults.base import Fault as Fault

FAMILIES: Final = (
    "bias",
    "weights",
    "state",
    "over_time",
    "layers",
    "directions",
    "nonlinearity",
    "batch",
    "size",
    "packed",
    "dropout",
    "rounding",
    "finiteness",
    "readout",
    "layout",
    "gradients",
)
"""The modules of the faults, in the order in which they are tried."""


def _all() -> list[type[Fault]]:
    """The faults of all families, in the order of their files; names with an underscore are no faults themselves."""
    found: list[type[Fault]] = []
    for family in FAMILIES:
        module = import_module(f"{__name__}.{family}")
        kinds = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Fault))
        found += [kind for kind in kinds if kind.__module__ == module.__name__ and not kind.__name__.startswith("_")]
    return found


CATALOGUE: Final[tuple[Fault, ...]] = tuple(kind() for kind in _all())
"""One of each fault."""
