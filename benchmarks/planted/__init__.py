"""faults: named ways of being wrong, each a change of one thing in a right layer; a file for each family."""

from dataclasses import replace
from typing import Final

from benchmarks.planted import (
    batch,
    bias,
    directions,
    dropout,
    finiteness,
    gradients,
    layers,
    layout,
    nonlinearity,
    over_time,
    packed,
    readout,
    rounding,
    size,
    state,
    weights,
)
from benchmarks.planted.base import Fault as Fault

# The faults by family, in the order in which they are tried.
FAMILIES: Final = {
    "bias": bias.FAULTS,
    "weights": weights.FAULTS,
    "state": state.FAULTS,
    "time": over_time.FAULTS,
    "layers": layers.FAULTS,
    "directions": directions.FAULTS,
    "nonlinearity": nonlinearity.FAULTS,
    "batch": batch.FAULTS,
    "size": size.FAULTS,
    "packed": packed.FAULTS,
    "dropout": dropout.FAULTS,
    "rounding": rounding.FAULTS,
    "finiteness": finiteness.FAULTS,
    "readout": readout.FAULTS,
    "layout": layout.FAULTS,
    "gradients": gradients.FAULTS,
}

# Every fault, with the value of its parameter that is planted where the harness itself is measured.
CATALOGUE: Final = tuple(replace(fault, family=family) for family, faults in FAMILIES.items() for fault in faults)

BY_NAME: Final = {fault.name: fault for fault in CATALOGUE}


def named(name: str, k: float | None = None) -> Fault:
    """Return a fault of the catalogue by its name, with another value of its parameter where one is given.

    Raises ``KeyError`` where there is none of that name.
    """
    return BY_NAME[name] if k is None else replace(BY_NAME[name], k=k)
