"""known: deviations of torch's nn.RNN from its documentation, in values: each a reference that deviates likewise.

A difference is known if the subject agrees, within the same tolerance, with such a reference. A search tells how often
that was; nothing is left out of the space for it. Those in what is refused are in ``deviations``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from harness.checks.agreement import Observation, assess
from harness.checks.deviations import Whose
from harness.checks.result import Verdict
from harness.oracle.reference import Floats, Reference
from harness.space.config import RNNConfig


class ValueDeviation(NamedTuple):
    """A deviation, and the reference that has it."""

    name: str
    whose: Whose
    reason: str
    reference: Reference

    def may_concern(self, config: RNNConfig) -> bool:
        """Whether it can show on a config."""
        return config.drops


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


def known_deviation(observation: Observation) -> str | None:
    """The name of the deviation that explains all that was observed, if there is one."""
    if observation.unfit is not None:
        return None
    for deviation in KNOWN:
        if deviation.may_concern(observation.case.config):
            with np.errstate(invalid="ignore", over="ignore"):
                result = assess(observation, deviation.reference)
            if result.verdict is Verdict.AGREES:
                return deviation.name
    return None
