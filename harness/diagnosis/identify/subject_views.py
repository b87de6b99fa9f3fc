"""subject_views: a subject in another form, to be asked alone: one direction of two, or with h_n and c_n exchanged."""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.observation_cache import ObservationCache
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject

STEPWISE_ARRAYS: Final = ("x", "output")


class OneDirection:
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
        outputs = {
            name: self._turned(config, name, _half(array, d, -1 if name == "output" else 0))
            for name, array in outcome.arrays.items()
        }
        return replace(outcome, arrays=outputs)

    def _turned(self, config: RNNConfig, name: str, array: Any) -> Any:
        """Return x or an output with its steps in the order of the direction."""
        return (
            np.flip(array, int(config.batch_first and config.batched)) if self._d and name in STEPWISE_ARRAYS else array
        )


def _half(array: Any, d: int, axis: int) -> Any:
    """Return the half of an array that is a direction's own; the other one, if that alone is not zero."""
    halves = np.split(array, 2, axis)
    return halves[d] if halves[d].any() or not halves[1 - d].any() else halves[1 - d]


class StateExchange:
    """A subject whose h_n and c_n have each other's names."""

    def __init__(self, subject: Subject) -> None:
        offers = {**subject.capabilities.offers, "loss": (None,)}
        self._subject, self.name, self.devices = subject, subject.name, subject.devices
        self.capabilities = replace(subject.capabilities, offers=offers)

    def run(self, case: Case) -> Outcome:
        """Run a case, and return h_n as c_n, and c_n as h_n."""
        outcome = self._subject.run(case)
        names = {"h_n": "c_n", "c_n": "h_n"}
        return replace(outcome, arrays={names.get(name, name): array for name, array in outcome.arrays.items()})


def with_exchanged_states(asker: Asker) -> Asker:
    """Return one that asks with h_n and c_n exchanged, on the way forward."""
    return Asker(ObservationCache(StateExchange(asker.subject)), asker.scope.only(loss=None), asker.nonlinearity)


def one_way(asker: Asker, direction: int = 0) -> Asker:
    """Return one that asks a direction alone, on the way forward."""
    alone = asker.scope.only(bidirectional=False, loss=None)
    return Asker(ObservationCache(OneDirection(asker.subject, direction)), alone, asker.nonlinearity)
