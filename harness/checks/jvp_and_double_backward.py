"""The check of derivatives beyond gradients: those in forward mode, and those of the gradients (double backward).

They are asked of subjects that torch can differentiate, on small cases in float64 of which the results and gradients
agree already. torch itself compares them with differences (``torch.autograd.gradcheck`` and ``gradgradcheck``), along
random directions.

Differences say nothing across a kink of relu, and little among huge numbers. So no number is far from 1, and every
preactivation of relu is so far from 0 that a step of 1e-6 in any number does not reach it.
"""

from typing import Final

from harness.checks.agreement import failure_of
from harness.checks.result import DERIVATIVES, Result, Verdict
from harness.oracle.array_layout import features, time_major
from harness.oracle.compare import Mismatch, MismatchKind
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import REFERENCE
from harness.oracle.unroll import previous_states, step_weights
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.subjects.protocol import Subject

MOST_NUMBERS: Final = 256  # the most numbers of a case: differences are slow
MOST_STATES: Final = 64  # and its most states
LARGEST_NUMBER: Final = 4.0  # the largest absolute value of a number
FAR_FROM_KINK: Final = 2.0**-10  # the least distance of a preactivation from relu's kink


def check_derivatives(subject: Subject, case: Case) -> Result:
    """Let torch check the derivatives beyond gradients; *unsupported* if there are none, or the case is not for it."""
    ask = subject.capabilities.check_derivatives
    if ask is None or not differentiable(case):
        return Result(Verdict.UNSUPPORTED)
    outcome = ask(case)
    if (failure := failure_of(outcome)) is not None:
        return failure
    if outcome.message:
        return Result(Verdict.DISAGREES, (Mismatch("derivatives", MismatchKind.DERIVATIVE, actual=outcome.message),))
    return Result(Verdict.AGREES, also=(DERIVATIVES,))


def differentiable(case: Case) -> bool:
    """Return whether differences can tell the derivatives on a case."""
    return _fits(case.config) and all(_moderate(array) for array in case.arrays.values()) and not _near_a_kink(case)


def _fits(config: RNNConfig) -> bool:
    plainly = (
        config.plain is config
        and not config.gated
        and config.lengths is None
        and not config.drops
        and config.output_size is None
    )
    complete = config.loss is not None and config.wrt == "all" and config.dtype == "float64" and config.device != "meta"
    return (
        plainly
        and complete
        and 0 < config.states <= MOST_STATES  # of no sequences, torch refuses a look at strides of 0
        and sum(spec.size for spec in config.given.values()) <= MOST_NUMBERS
    )


def _moderate(array: np.ndarray) -> bool:
    return bool((np.abs(array) <= LARGEST_NUMBER).all())  # not where it is NaN


def _near_a_kink(case: Case) -> bool:
    config, below = case.config, time_major(case.x, case.config)
    if config.nonlinearity != "relu":
        return False
    for layer, states in enumerate(REFERENCE.states(case)):
        for d in range(config.num_directions):
            own = states[..., features(config, d)]
            read = previous_states(case, (layer, d), own)
            if (np.abs(REFERENCE.preactivation(below, read, step_weights(case, (layer, d)))) < FAR_FROM_KINK).any():
                return True
        below = states
    return False
