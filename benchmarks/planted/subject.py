"""A fault as a subject, to measure whether a known mistake is found, shrunk, and named."""

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.planted import Fault
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.factor_table import LOSSES, PACKINGS
from harness.space.outcome import Outcome
from harness.space.scope import Scope
from harness.subjects.capabilities import Capabilities
from harness.subjects.protocol import scope_of


class PlantedSubject:
    """A fault as a subject: computed in float64 and rounded at the end, as a careful but mistaken port would.

    It offers what the fault needs to show: gradients, packed batches, masks of dropout, a readout.
    """

    def __init__(self, fault: Fault) -> None:
        self.name = fault.name
        self._fault = fault
        needed = fault.smallest
        offers: dict[str, Any] = {}
        if any(config.loss for config in needed):
            offers["loss"] = LOSSES
        if any(config.lengths for config in needed):
            offers["lengths"] = (None, *PACKINGS)
        if any(config.drops for config in needed):
            offers["masks"] = True
        if any(config.output_size for config in needed):
            offers["output_size"] = (1,)
        self.capabilities = Capabilities(offers=offers, masks=self.masks)

    def scope(self) -> Scope:
        """Return the part of the space in which the fault can show."""
        return scope_of(self)

    def devices(self) -> tuple[str, ...]:
        """Return the CPU alone, where NumPy arrays live."""
        return ("cpu",)

    def masks(self, case: Case) -> list[Array]:
        """Draw masks for dropout, time first, (T, N, D*H) for each inner layer; the case's seed decides."""
        config, rng = case.config, np.random.default_rng(case.seed)
        shape = (config.T, config.N, config.num_directions * config.hidden_size)
        return [rng.random(shape) >= config.dropout for _ in range(config.num_layers - 1)]

    def run(self, case: Case) -> Outcome:
        """Return what the fault makes of a case, in the case's dtype and shapes."""
        config, plain = case.config, case.plain()
        if config.drops:
            plain = replace(plain, masks=dict(enumerate(self.masks(case))))
        with np.errstate(all="ignore"):
            arrays = self._fault.run(plain)
            return Outcome({name: _returned(config, name, array) for name, array in arrays.items()})


def _returned(config: RNNConfig, name: str, array: Array) -> Array:
    """Return an array in the dtype of the case, without a batch axis where it has none."""
    batched = config.batched or name.removesuffix(".grad") not in {"x", "hx", "output", "h_n", "readout"}
    return (array if batched else np.squeeze(array, 1)).astype(config.dtype_of(name))
