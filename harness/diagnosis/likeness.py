"""likeness: the test whether a subject computes what a fault computes, made on one observation for many faults.

The subject is held against the fault step by step, with the fault in the reference's place and the same derived
tolerance as for any subject. For faults whose output is not the state that the next step reads, whole runs are compared
instead, the fault's in float64 with the subject's. That takes a tenth of a millisecond, and rules out most faults
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from harness.checks.agreement import REFERENCE, Observation, assess
from harness.checks.result import Verdict
from harness.diagnosis.faults import Fault
from harness.oracle.compare import beyond
from harness.oracle.expected import Setting
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import Floats, to_float64
from harness.oracle.reference import Reference

SLACK: Final = 64.0
"""The multiple of a right run's allowance that a fault's whole run may be off by. It takes the same operations, at
other states, where errors may grow faster (2.5 times was seen). This is no verdict on a subject. It only says which of
the known mistakes looks like it, and two of these were more than 1,000 such allowances apart on generic numbers, where
they differ at all."""


NEAR: Final = 0.5
"""The same multiple for gradients where the way forward is right, so that the states are those of a right run. Measured
in 406 cases of five torch classes whose mistake showed in gradients alone: autograd's were off by at most 0.34."""

NEARER: Final = 2.0
"""The number of times that a wrong gradient is farther from the right one than from that of the mistake which makes it.
2.02 times was the least in those cases, in bfloat16.
"""

ROUNDINGS: Final = 2.0**-40
"""The relative difference that roundings alone may make between two float64 runs of a few hundred operations, with a
margin."""


def forward_part(observation: Observation) -> Observation:
    """Return what was observed on the way forward alone."""
    case = observation.case.forward()
    arrays = {name: array for name, array in observation.outcome.arrays.items() if name in case.config.outputs}
    return replace(observation, case=case, outcome=replace(observation.outcome, arrays=arrays), probed=None)


class Seen:
    """One observation of a subject, to which faults are held."""

    def __init__(self, observation: Observation, *, rare: bool = False) -> None:
        """Take an observation.

        ``rare`` says that it has values on which a fault that is made may not be told (``fresh.rare``).
        """
        self.observation = observation
        self.rare = rare
        self.case = observation.case

    @cached_property
    def right(self) -> bool:
        """True if the subject does nothing wrong there, as far as its bounds tell."""
        return assess(self.observation, REFERENCE, soft=False).verdict is Verdict.AGREES

    def reproduces(self, fault: Fault) -> bool:
        """Tell whether the subject computes there what ``fault`` does."""
        if self.observation.unfit is not None:
            return False
        if not fault.stepwise or (fault.across and self.observation.prefixes is None):
            return self.resembles(fault) and not self._resembles_right  # whole runs cannot name what they hide
        with np.errstate(all="ignore"):
            return assess(self.observation, fault.reference, soft=False).verdict is Verdict.AGREES

    def differentiates(self, fault: Fault, gradient: str) -> bool:
        """Tell whether the subject, which is right forwards there, has the gradients of the fault.

        They are held to a whole run of the fault, whose gradients are the derivative of what it computes. The one that
        is wrong must be nearer to the fault's than to the right one.
        """
        if self.observation.unfit is not None or gradient not in self._actual or not gradient.endswith(".grad"):
            return False
        if not self.resembles(fault, NEAR):
            return False
        with np.errstate(all="ignore"):
            given, right, actual = fault.run(self.case)[gradient], self._right_run[gradient], self._actual[gradient]
            return bool(NEARER * np.abs(actual - given).max(initial=0) < np.abs(actual - right).max(initial=0))

    def loses_numbers_as(self, fault: Fault) -> bool:
        """Tell whether the subject is right there, but for NaN in any of the places where the fault gives NaN."""
        with np.errstate(all="ignore"):
            accepting = replace(self.observation, or_nan=fault.reference)
            return assess(accepting, REFERENCE, soft=False).verdict is Verdict.AGREES

    def alike(self, one: Fault, other: Fault) -> bool:
        """Tell whether two faults give the same numbers there, but for the roundings of float64."""
        with np.errstate(all="ignore"):
            return _alike(one.run(self.case), other.run(self.case))

    def undecided(self, fault: Fault) -> bool:
        """Tell whether it cannot be decided: whole runs of the fault and of a right subject both resemble this one."""
        return not fault.stepwise and self._resembles_right and self.resembles(fault)

    def active(self, fault: Fault) -> bool:
        """Tell whether the fault makes any difference there at all, beyond the roundings of float64.

        One in the output of a layer counts where the layers above hide it.
        """
        inner = (self.case.prefix(layers) for layers in self.observation.prefixes or ())
        with np.errstate(all="ignore"):
            far = not _alike(fault.run(self.case), self._right_run) or any(
                not _alike(fault.run(case), REFERENCE.run(case)) for case in inner
            )
        return far or self.tells_apart(fault, slack=1.0)

    def tells_apart(self, fault: Fault, slack: float = SLACK) -> bool:
        """Tell whether the fault would show there."""
        rounded = self.observation.rounded
        with np.errstate(all="ignore"):
            given = fault.run(self.case)
            return any(
                beyond(given[name], right, slack * np.nan_to_num(self._allowances[name], nan=np.inf) + rounded).any()
                or (np.isfinite(given[name]) != np.isfinite(right)).any()
                for name, right in self._right_run.items()
                if given[name].shape == right.shape
            )

    def resembles(self, fault: Fault | Reference, slack: float = SLACK) -> bool:
        """Tell whether whole runs of both agree. That says little where errors grow, but takes little time."""
        if self.observation.unfit is not None:
            return False
        with np.errstate(all="ignore"):
            try:
                given, allowances = fault.run(self.case), self._allowed(fault)
            except (IndexError, ValueError):  # two mistakes at once need not fit together
                return False
            for name, actual in self._actual.items():
                expected = given[name]
                if actual.shape != expected.shape:
                    return False
                sizes = [np.where(np.isfinite(array), np.abs(array), 0.0) for array in (expected, actual)]
                allowance = np.nan_to_num(allowances[name], nan=np.inf) + self._roundings * sum(sizes)
                if beyond(actual, expected, slack * allowance + self.observation.rounded).any():
                    return False
        return True

    @property
    def widest(self) -> float:
        """The largest allowance of a whole run, over the arrays that the subject gave: a smaller error may hide."""
        allowances = (self._allowances[name] for name in self._actual)
        return max(float(allowance.max(initial=0)) for allowance in allowances) + self.observation.rounded

    @cached_property
    def _resembles_right(self) -> bool:
        return self.resembles(REFERENCE)

    @cached_property
    def _right_run(self) -> dict[str, Floats]:
        return REFERENCE.run(self.case)

    @cached_property
    def _actual(self) -> dict[str, Floats]:
        arrays = self.observation.outcome.arrays
        return {name: to_float64(array) for name, array in arrays.items() if name in self.case.config.returned}

    @cached_property
    def _roundings(self) -> float:
        """The relative error of as many operations, one after the other, as lead to a number.

        It is allowed for because a fault's states may be larger than those of a right run.
        """
        config = self.case.config
        terms = config.input_size + config.hidden_size + 2
        return float(terms * config.T * config.num_layers * self.observation.arithmetic.format.u)

    @cached_property
    def _allowances(self) -> dict[str, Floats]:
        return self._allowances_of(REFERENCE)

    def _allowances_of(self, reference: Reference) -> dict[str, Floats]:
        setting = Setting(reference, self.case, self.observation.arithmetic)
        with np.errstate(all="ignore"):
            return {name: one.allowance for name, one in expect_whole_run(setting).items()}

    def _allowed(self, fault: Fault | Reference) -> dict[str, Floats]:
        """Return the allowances of a fault's whole run: a right one's, unless a grid leaves an error in every product.

        A fault may multiply what a right run multiplies by 0.
        """
        if self.observation.arithmetic.backend.grids is None:
            return self._allowances
        return self._allowances_of(fault if isinstance(fault, Reference) else fault.reference)


def _alike(run: Mapping[str, Floats], other: Mapping[str, Floats]) -> bool:
    """Tell whether two runs give the same numbers, but for the roundings of float64."""
    tiny = np.finfo(np.float64).tiny
    return all(np.allclose(run[name], array, ROUNDINGS, tiny, equal_nan=True) for name, array in other.items())
