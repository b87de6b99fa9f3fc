"""The test of a subject's gradients against the derivative of what the subject computes, right or wrong.

No known mistake is needed for it. In float64 the subject is run again beside the case, and the differences of its own
loss tell the derivative of what it computes.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from harness.checks.relation_check import GRADIENT_SUFFIX
from harness.oracle.bounded_array import Floats
from harness.oracle.setting import reference_of
from harness.space.case import Array, Case
from harness.subjects.protocol import Subject

DIFFERENCE_STEP: Final = 2.0**-20
"""The step of the differences. In float64 they are off by some 1e-10 of the loss: u / STEP by rounding, and STEP**2 by
what is not linear."""

# The relative distance at which two derivatives are the same, which is 10,000 times the error of the differences.
SAME_DERIVATIVE: Final = 1e-6

# The number of random directions. Two different gradients agree along one of them by chance alone.
RANDOM_DIRECTIONS: Final = 2


def own_derivative(subject: Subject, case: Case) -> Mapping[str, Array] | None:
    """Return what the subject gives in float64, called plainly, if its gradients are the derivative of its own loss.

    Returns ``None`` if they are not, or if they are right, too. A gradient that it does not return counts as zero.
    It also returns ``None`` where this cannot be told: where the subject does not compute in float64, or
    dropout draws masks, or a kink of relu lies at the numbers of the case.
    """
    plain = case.plain()
    if "float64" not in subject.capabilities.offers.get("dtype", ("float64",)) or plain.config.drops:
        return None
    config = plain.config.replace(dtype="float64")
    wide = Case.from_arrays(config, {name: array.astype(np.float64) for name, array in plain.arrays.items()})
    returned = _returned(subject, wide)
    if returned is None:
        return None
    with np.errstate(all="ignore"):
        right = reference_of(config).run(wide)
    differs = False
    for seed in range(RANDOM_DIRECTIONS):
        generator = np.random.default_rng(seed)
        along = {name: generator.standard_normal(spec.shape) for name, spec in config.gradients.items()}
        ends = [_loss(subject, _moved(wide, along, sign * DIFFERENCE_STEP)) for sign in (1, -1)]
        if ends[0] is None or ends[1] is None:
            return None
        slope = (ends[0] - ends[1]) / (2 * DIFFERENCE_STEP)
        actual, expected = (_along(along, gradients) for gradients in (returned, right))
        close = SAME_DERIVATIVE * (1 + abs(ends[0]) + abs(slope))
        if not abs(actual - slope) <= close:
            return None
        differs = differs or abs(expected - slope) > close
    return returned if differs else None


def _along(along: Mapping[str, Floats], gradients: Mapping[str, Array]) -> float:
    return sum(float(np.vdot(gradients[name], by)) for name, by in along.items() if name in gradients)


def _moved(case: Case, along: Mapping[str, Floats], by: float) -> Case:
    moved = {_array_of(gradient): case.arrays[_array_of(gradient)] + by * step for gradient, step in along.items()}
    return Case.from_arrays(case.config, {**case.arrays, **moved})


def _array_of(gradient: str) -> str:
    return gradient.removesuffix(GRADIENT_SUFFIX)


def _loss(subject: Subject, case: Case) -> float | None:
    """Return the loss that a subject's results have on a case, ``None`` if it does not return all that it reads."""
    returned = _returned(subject, case.forward())
    if returned is None or any(_array_of(name) not in returned for name in case.cotangents):
        return None
    return sum(float(np.vdot(g, returned[_array_of(name)])) for name, g in case.cotangents.items())


def _returned(subject: Subject, case: Case) -> Mapping[str, Array] | None:
    """Return what a subject returns on a case, ``None`` if it fails or an array has another shape."""
    outcome, specs = subject.run(case), case.config.returned
    fits = all(array.shape == specs[name].shape for name, array in outcome.arrays.items() if name in specs)
    return outcome.arrays if outcome.failure is None and fits else None
