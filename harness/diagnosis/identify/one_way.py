"""one_way: one direction of a layer of two, as a layer of one that can be asked alone."""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from harness.diagnosis.identify.ask import Asker
from harness.diagnosis.observations import Observations
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject

TIMED: Final = ("x", "output")


class OneWay:
    """A direction of a subject. The other one has zeros for parameters and for states."""

    def __init__(self, subject: Subject, direction: int) -> None:
        self._d = direction
        offers = {**subject.capabilities.offers, "bidirectional": (False,), "loss": (None,)}
        self._subject, self.name, self.devices = subject, subject.name, subject.devices
        self.capabilities = replace(subject.capabilities, offers=offers)

    def run(self, case: Case) -> Outcome:
        """Run a single layer with both directions, and return what this one gives, its steps in their own order."""
        d, config = self._d, case.config.replace(bidirectional=True)
        arrays: dict[str, Any] = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.given.items()}
        for name, array in case.arrays.items():
            if name in config.hidden:
                arrays[name][d] = array[0]
            else:
                arrays[name.replace("_l0", "_l0_reverse") if d else name] = self._turned(config, name, array)
        outcome = self._subject.run(Case.from_arrays(config, arrays))
        own = slice(d * config.h_size, (d + 1) * config.h_size)
        found = {
            name: self._turned(config, name, array[..., own] if name == "output" else array[d : d + 1])
            for name, array in outcome.arrays.items()
        }
        return replace(outcome, arrays=found)

    def _turned(self, config: RNNConfig, name: str, array: Any) -> Any:
        """Return x or an output with its steps in the order of the direction."""
        return np.flip(array, int(config.batch_first and config.batched)) if self._d and name in TIMED else array


def one_way(asker: Asker, direction: int = 0) -> Asker:
    """Return one that asks a direction alone, on the way forward."""
    alone = asker.scope.only(bidirectional=False, loss=None)
    return Asker(Observations(OneWay(asker.subject, direction)), alone, asker.nonlinearity)
