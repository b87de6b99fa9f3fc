"""known: deviations of torch's nn.RNN from its documentation, in values: each a reference that deviates likewise.

A difference is known if the subject agrees, within the same tolerance, with such a reference. A search tells how often
that was; nothing is left out of the space for it. Those in what is refused are in ``deviations``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import numpy as np

from harness.checks.agreement import Observation, assess
from harness.checks.deviations import Whose
from harness.checks.result import Result, Verdict
from harness.oracle.reference import Floats, Reference
from harness.space.config import RNNConfig


class Excuse(Protocol):
    """Why a failure is no news: what it comes of is known."""

    @property
    def name(self) -> str:
        """By which it is counted."""
        ...

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Whether that is what a result, which came of the observation, comes of."""
        ...


class ValueDeviation(NamedTuple):
    """A deviation, and the reference that has it."""

    name: str
    whose: Whose
    reason: str
    reference: Reference

    def may_concern(self, config: RNNConfig) -> bool:
        """Whether it can show on a config."""
        return config.drops

    def excuses(self, observation: Observation, _result: Result) -> bool:
        """Whether the subject deviates as the reference does."""
        if observation.unfit is not None or not self.may_concern(observation.case.config):
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return assess(observation, self.reference).verdict is Verdict.AGREES


class _DropoutMultiplies(Reference):
    def dropped(self, array: Floats, factors: Floats) -> Floats:
        return np.asarray(array * factors)


KNOWN: Final = (
    ValueDeviation(
        "dropout multiplies by zero",
        Whose.TORCH,
        "Dropout is documented to zero elements, but multiplies by a mask: of an infinity or a NaN, it makes a NaN",
        _DropoutMultiplies(),
    ),
)


def excused(observation: Observation, result: Result, excuses: Iterable[Excuse] = KNOWN) -> str | None:
    """The name of the first that excuses a result, if one does."""
    return next((excuse.name for excuse in excuses if excuse.excuses(observation, result)), None)
