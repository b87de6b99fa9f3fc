"""expected_arrays: the arrays that must come back, end to end, and how far each element may be off."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Context
from typing import NamedTuple

import numpy as np

from harness.checks.agreement import arithmetic_of
from harness.diagnosis.script.user import NoScript, UserSubject, own_parameters
from harness.oracle.arithmetic_assumptions import AcceptedErrors
from harness.oracle.bounded_array import to_float64
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.space.case import Array, Case, padding
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject, masks_of

Arrays = Mapping[str, Array]


class ExpectedArrays(NamedTuple):
    """The arrays that must come back, and how far each element may be off; infinite where it may be anything."""

    values: Arrays
    tolerance: Arrays

    def wrong(self, actual: Arrays) -> dict[str, Array]:
        """Return a mask of the elements of each array that are off by more."""
        masks = {}
        with np.errstate(invalid="ignore"):
            for name, want in self.values.items():
                got, allowed = to_float64(actual[name]), self.tolerance[name]
                right = (abs(got - want) <= allowed) | (got == want) | (np.isnan(got) & np.isnan(want))
                masks[name] = ~(right | np.isinf(allowed))
        return masks

    def simple_tolerance(self, actual: Arrays) -> Arrays:
        """Return the tolerance, one for all elements of an array where that finds the same ones to be wrong."""
        most = {name: np.full(allowed.shape, allowed.max(initial=0.0)) for name, allowed in self.tolerance.items()}
        exact, rough = self.wrong(actual), self._replace(tolerance=most).wrong(actual)
        simple = [
            name for name, allowed in most.items() if np.isfinite(allowed).all() and np.all(exact[name] == rough[name])
        ]
        return {**self.tolerance, **{name: most[name] for name in simple}}


def wanted(
    case: Case, user: UserSubject, subject: Subject, outcome: Outcome, accepted: AcceptedErrors
) -> ExpectedArrays:
    """Return what must come back of a case, by nn.RNN's names. Raise ``NoScript`` if it is not known."""
    config, masks = case.config, masks_of(subject, case)
    if masks is None:
        raise NoScript("the masks of its dropout are unknown")
    if config.device == "meta":
        raise NoScript("tensors on meta have no values")
    plain = replace(case, masks=masks).plain()
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting.of(plain, arithmetic_of(subject, case, accepted)))
    values, tolerance, states = {}, {}, (*config.form.hidden, *config.form.final)
    for name, entry in expected.items():
        unread = name.startswith("readout.") and "readout.grad" not in config.cotangents
        if name not in outcome.arrays or (unread and user.is_class):  # autograd knows nothing of these
            continue
        alone = not config.batched and name.removesuffix(".grad") in {"x", "output", "readout", *states}
        values[name], allowed = (array[:, 0] if alone else array for array in (entry.values, entry.tolerance))
        if config.lengths is not None and name in {"output", "readout"}:  # the padding may be anything
            allowed = np.where(padding(config)[..., None], np.inf, allowed)
        tolerance[name] = np.vectorize(_up, otypes=[float])(allowed)
    return ExpectedArrays(values, tolerance)


def _up(value: float) -> float:
    """Return the smallest number of two significant digits that is no smaller."""
    if not np.isfinite(value):
        return value
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(value))


def in_own_names(user: UserSubject, config: RNNConfig, arrays: Arrays) -> dict[str, Array]:
    """Return what a script compares: outputs and gradients, those by parameters as the user's layer has them."""
    by_parameters = {f"{name}.grad" for name in config.weights if not name.startswith("readout")}
    rest = {name: array for name, array in arrays.items() if name not in by_parameters}
    return rest | own_parameters(user, config, arrays, ".grad")
