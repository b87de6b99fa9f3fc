"""vacuous: what a case could not have shown, because the tolerances of its own states are wider than the mistake.

A mistake is tried on what is expected: if the mistaken states are within the tolerances, a subject that makes it passes
there. So the criterion is derived, as the tolerances are, and no case is vacuous by its looks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from harness.oracle.element_equation import Floats
from harness.oracle.expected import ExpectedArray
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.config import role_of

# the number of states that are looked at first, because most cases are not vacuous, and those show it
STATES_AT_FIRST: Final = 64

ZERO_STATES: Final = "states of zero"
SIGN: Final = "the sign in place of tanh"
LINEAR: Final = "no nonlinearity"
UNIT_ORDER: Final = "units in another order"
NO_GRADIENT: Final = "gradients of zero"
NO_RECURRENT: Final = "gradients of zero by weight_hh"

MISTAKES: Final = {  # the mistakes that are tried, each with what all other cases have than those that could show it
    ZERO_STATES: "the others have states within their tolerances of 0",
    SIGN: "the others have saturated units only",
    LINEAR: "in the others tanh is linear, or relu cuts nothing",
    UNIT_ORDER: "the others have weights with equal numbers",
    NO_GRADIENT: "the others have none, or all are within their tolerances of 0",
    NO_RECURRENT: "the others have none, or all are within their tolerances of 0, as after one step from zeros",
}


BY_GRADIENTS: Final = (NO_GRADIENT, NO_RECURRENT)  # the mistakes that only gradients show


def vacuous_mistakes(
    case: Case, layers: Sequence[ExpectedArray], expected: Mapping[str, ExpectedArray]
) -> tuple[str, ...]:
    """Return the mistakes that a case could not have shown.

    ``layers`` are what is expected of its layers' outputs, and ``expected`` holds its gradients, if it has any.
    """
    tanh = case.config.nonlinearity == "tanh"
    mistaken: dict[str, Callable[[Floats], Floats]] = {ZERO_STATES: np.zeros_like}
    if case.config.gated:
        pass  # with gates, a state is no function of one sum
    elif tanh:
        mistaken |= {SIGN: np.sign, LINEAR: np.arctanh}
    else:
        mistaken |= {LINEAR: _uncut}
    with np.errstate(all="ignore"):
        vacuous = [name for name, states in mistaken.items() if all(_passes(layer, states) for layer in layers)]
    gradients = {name: gradient for name, gradient in expected.items() if name in case.config.gradients}
    recurrent = {name: gradient for name, gradient in gradients.items() if role_of(name) == "weight_hh"}
    by_gradients = dict(zip(BY_GRADIENTS, (gradients, recurrent), strict=True))
    vacuous += [UNIT_ORDER] if _alike(case) else []
    vacuous += [name for name, part in by_gradients.items() if all(_passes(g, np.zeros_like) for g in part.values())]
    return tuple(vacuous)


def _passes(expected: ExpectedArray, mistaken: Callable[[Floats], Floats]) -> bool:
    """Tell if mistaken states would pass in a layer; NaN is no number that could."""
    values, tolerance = expected.values.ravel(), np.broadcast_to(expected.tolerance, expected.values.shape).ravel()
    for some in (slice(STATES_AT_FIRST), slice(STATES_AT_FIRST, None)):
        y, allowed = values[some], tolerance[some]
        if not (np.abs(mistaken(y) - y) <= allowed).all():
            return False
    return True


def _uncut(states: Floats) -> Floats:
    """Return the sums of which relu makes these states; NaN where it may have cut one, unless that was exactly 0."""
    return np.where(states > 0, states, np.nan)


def _alike(case: Case) -> bool:
    """Tell if each weight and bias has one number only, so that no order of its units can be told.

    It does not matter where there is no order: one unit that reads one feature.
    """
    several = any(array.size > 1 for array in case.weights.values())
    return several and all((array == array.flat[0]).all() for array in case.weights.values())
