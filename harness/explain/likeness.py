"""likeness: does a subject compute what a fault computes? Asked of one observation, of many faults, cheaply first.

The subject is held against the fault step by step, with the fault in the reference's place and the same derived
tolerance as any subject; but for faults whose output is not the state that the next step reads. Of these whole runs are
compared, the fault's in float64 with the subject's, which takes a tenth of a millisecond and rules out most faults.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from harness.checks.agreement import REFERENCE, Observation, assess
from harness.checks.result import Verdict
from harness.oracle.compare import beyond
from harness.oracle.expectation import Setting, end_to_end_states, expect_end_to_end
from harness.oracle.gradient_expectation import expect_gradients
from harness.oracle.reference import Floats, Reference, to_float64

SLACK: Final = 64.0
"""How many times the allowance of a right run a fault's whole run may be off: it takes the same operations, at other
states, where errors may grow faster (2.5 times was seen). This is no verdict on a subject: it only says which of the
known mistakes looks like it, and these differ by some 10,000 allowances on generic numbers."""


def forward_part(observation: Observation) -> Observation:
    """What was observed on the way forward alone."""
    case = observation.case.forward()
    arrays = {name: array for name, array in observation.outcome.arrays.items() if name in case.config.outputs}
    return replace(observation, case=case, outcome=replace(observation.outcome, arrays=arrays), probed=None)


class Seen:
    """One observation of a subject, to which faults are held."""

    def __init__(self, observation: Observation, *, rare: bool = False) -> None:
        """``rare`` says that it has values on which a fault that is made may not be told (``fresh.rare``)."""
        self.observation = observation
        self.rare = rare
        self.case = observation.case

    @cached_property
    def right(self) -> bool:
        """Whether the subject does nothing wrong there, as far as its bounds tell."""
        return assess(self.observation, REFERENCE, soft=False).verdict is Verdict.AGREES

    def reproduces(self, fault: Reference) -> bool:
        """Whether the subject computes there what ``fault`` does."""
        if self.observation.unfit is not None:
            return False
        if not getattr(fault, "stepwise", True):
            return self.resembles(fault) and not self.resembles(REFERENCE)  # what whole runs hide, they cannot name
        with np.errstate(all="ignore"):
            return assess(self.observation, fault, soft=False).verdict is Verdict.AGREES

    def undecided(self, fault: Reference) -> bool:
        """Whether it cannot be said, since whole runs of the fault and of a right subject are as near."""
        stepwise = getattr(fault, "stepwise", True)
        return not stepwise and self.resembles(fault) and self.resembles(REFERENCE)

    def active(self, fault: Reference) -> bool:
        """Whether the fault makes any difference there at all, beyond the roundings of float64."""
        with np.errstate(all="ignore"):
            given, right = fault.run(self.case), REFERENCE.run(self.case)
            return any(not np.allclose(given[n], a, 1e-12, 1e-300, equal_nan=True) for n, a in right.items())

    def tells_apart(self, fault: Reference) -> bool:
        """Whether the fault would show there."""
        with np.errstate(all="ignore"):
            given = fault.run(self.case)
            return any(
                beyond(given[name], right, SLACK * np.nan_to_num(self._allowances[name], nan=np.inf)).any()
                or (np.isfinite(given[name]) != np.isfinite(right)).any()
                for name, right in REFERENCE.run(self.case).items()
                if given[name].shape == right.shape
            )

    def resembles(self, fault: Reference) -> bool:
        """Whether whole runs of both agree, which says little where errors grow, but little time."""
        if self.observation.unfit is not None:
            return False
        with np.errstate(all="ignore"):
            try:
                given = fault.run(self.case)
            except (IndexError, ValueError):  # two mistakes at once need not go together
                return False
            for name, actual in self._actual.items():
                expected = given[name]
                if actual.shape != expected.shape:
                    return False
                allowance = SLACK * (self._allowances[name] + self._roundings * (np.abs(expected) + np.abs(actual)))
                if beyond(actual, expected, np.nan_to_num(allowance, nan=np.inf)).any():
                    return False
        return True

    @cached_property
    def _actual(self) -> dict[str, Floats]:
        arrays = self.observation.outcome.arrays
        return {name: to_float64(array) for name, array in arrays.items() if name in self.case.config.returned}

    @cached_property
    def _roundings(self) -> float:
        """Of as many operations, one after the other, as lead to a number: a fault's states may be larger."""
        config = self.case.config
        terms = config.input_size + config.hidden_size + 2
        return float(terms * config.T * config.num_layers * self.observation.arithmetic.format.u)

    @cached_property
    def _allowances(self) -> dict[str, Floats]:
        setting = Setting(REFERENCE, self.case, self.observation.arithmetic)
        with np.errstate(all="ignore"):
            states = end_to_end_states(setting)
            expected = expect_end_to_end(setting, states)
            if self.case.config.loss is not None:
                expected |= expect_gradients(setting, states).arrays
        return {name: one.allowance for name, one in expected.items()}
