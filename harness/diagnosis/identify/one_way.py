"""one_way: the forward direction of a layer that always has two, as a layer of one that can be asked alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.diagnosis.identify.ask import Asker
from harness.diagnosis.observations import Observations
from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject


class OneWay:
    """A subject's forward direction. The other one has zeros for parameters and for states."""

    def __init__(self, subject: Subject) -> None:
        offers = {**subject.capabilities.offers, "bidirectional": (False,), "loss": (None,)}
        self._subject, self.name, self.devices = subject, subject.name, subject.devices
        self.capabilities = replace(subject.capabilities, offers=offers)

    def run(self, case: Case) -> Outcome:
        """Run the subject with both directions, and return what the forward one gives."""
        config = case.config.replace(bidirectional=True)
        arrays: dict[str, Any] = {}
        for name, spec in config.given.items():
            own = case.arrays.get(name)
            if own is None or own.shape != spec.shape:
                whole = np.zeros(spec.shape, config.dtype)
                whole[: 0 if own is None else len(own)] = 0 if own is None else own
                own = whole
            arrays[name] = own
        outcome = self._subject.run(Case.from_arrays(config, arrays))
        width = config.h_size
        found = {
            name: array[..., :width] if name == "output" else array[: case.config.num_layers]
            for name, array in outcome.arrays.items()
        }
        return replace(outcome, arrays=found)


def one_way(asker: Asker) -> Asker:
    """Return one that asks the forward direction alone, on the way forward."""
    alone = asker.scope.only(bidirectional=False, loss=None)
    return Asker(Observations(OneWay(asker.subject)), alone, asker.nonlinearity)
