"""again: the excuses by which a search recognises a known cause again: by the mistake itself, or by where it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from harness.checks.agreement import REFERENCE, Observation, reference_of
from harness.checks.lawfulness import GRADIENTS
from harness.checks.result import Result, Verdict
from harness.diagnosis.factors import Factors, like
from harness.diagnosis.faults import Fault
from harness.diagnosis.likeness import Seen, forward_part
from harness.oracle.arithmetic import Arithmetic
from harness.oracle.compare import Mismatch, Sort
from harness.oracle.expected import Setting
from harness.oracle.gradient_expectation import expect_whole_run
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.values import draw

DRAWS: Final = 4
"""The most draws of numbers by which a gradient is looked for.

Measured: all of hx.grad is zero in 39 of 200 draws with T=257, N=1, input_size=1 and hidden_size=1, so in four draws
of a row about once in 700; in none of 200 with 16 units, or with T=14.
"""


Derived = Callable[[Case], Mapping[str, Array] | None]  # A function as ``own_derivative``, of one subject


@dataclass(frozen=True)
class ByCause:
    """An excuse that recognises a finding's cause: the subject makes that mistake, and no other.

    A mistake that is made forwards makes gradients wrong, too. So gradients are looked at only where the way forward is
    right. There they are of the cause if they are the derivative of what it computes, as autograd takes it. A missing
    gradient is of the cause if that makes all of it zero, because autograd has no gradient for what is
    not used. Where the cause shows, any gradient is of it that is the derivative of what the subject itself computes,
    as ``derived`` tells of a case. A fault may lose infinities and NaN in other ways than the subject does, so it is
    enough that they are lost where the mistake shows. For a mistake that cannot be told step by step, it is enough that
    it makes a difference on the case.
    """

    name: str
    causes: tuple[Fault, ...]
    factors: Factors
    forwards: bool
    derived: Derived = lambda _case: None

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Tell whether one of the causes reproduces the subject there."""
        if not result.mismatches:
            return False
        first = result.mismatches[0]
        if first.sort is Sort.MISSING and first.array.endswith(GRADIENTS):
            made = any(_cuts_off(cause, observation.case, first.array) for cause in self.causes)
        elif observation.unfit is not None:
            return False
        else:
            made = any(self._made(one, first) for one in _looked_at(observation, first))
        return made or (self.forwards and _follows(observation, first, self.factors, self.derived))

    def _made(self, observation: Observation, first: Mismatch) -> bool:
        seen = Seen(forward_part(observation) if self.forwards else observation)
        if self.forwards and first.array.endswith(GRADIENTS) and seen.right:
            seen = Seen(observation)  # numbers that hide the mistake forwards may show it backwards
        if first.sort is Sort.FINITENESS:
            if self.factors.covers(observation.case.config):
                return True
            # A kernel that is taken for some sizes makes the mistake in some products of a case, and not in others.
            if any(cause.stepwise and seen.loses_numbers_as(cause) for cause in self.causes):
                return True
        if self.forwards and any(seen.differentiates(cause, first.array) for cause in self.causes):
            return True
        return any(self._makes(seen, cause) for cause in self.causes)

    @staticmethod
    def _makes(seen: Seen, cause: Fault) -> bool:
        if not cause.stepwise:
            return seen.active(cause)
        # An activation of the subject's own has errors of its own, which no allowance is derived for.
        return seen.reproduces(cause) or (cause.family == "nonlinearity" and seen.resembles(cause))


def _follows(observation: Observation, first: Mismatch, factors: Factors, derived: Derived) -> bool:
    """Tell whether a gradient is wrong because the forward pass is, where that is known to be wrong.

    A gradient that is missing is missing whatever the numbers, so it is asked about on numbers that are drawn.
    """
    config = observation.case.config
    if not first.array.endswith(GRADIENTS) or first.law or not factors.covers(config):
        return False
    if first.sort is Sort.MISSING:
        drawn = (draw(config, "default", seed) for seed in range(DRAWS))
        telling = next((case for case in drawn if reference_of(case.config).run(case.plain())[first.array].any()), None)
        return telling is not None and derived(telling) is not None
    seen = [(observation.case, observation.outcome)]
    seen += [observation.probed] if first.probed and observation.probed is not None else []
    return first.sort is Sort.VALUE and any(
        (wide := derived(case)) is not None and _are(case, outcome.arrays, wide, observation.arithmetic)
        for case, outcome in seen
    )


def _are(case: Case, given: Mapping[str, Array], wide: Mapping[str, Array], arithmetic: Arithmetic) -> bool:
    """Tell whether the gradients of a case are those of the same computation in float64, within the case's allowances.

    A gradient may be wrong in one dtype, or in one way of calling, alone.
    """
    if arithmetic.backend.grids is not None:  # gradients have no allowance there
        return False
    with np.errstate(all="ignore"):
        expected = expect_whole_run(Setting(reference_of(case.config), case, arithmetic))
    names = [name for name in case.config.gradients if name in given and name in wide and name in expected]
    return all((abs(given[name] - wide[name]) <= expected[name].allowance).all() for name in names)


def _cuts_off(cause: Fault, case: Case, gradient: str) -> bool:
    """Tell whether a cause makes all of a gradient zero, whatever the numbers.

    The test takes tanh, and also one feature alone, because with relu, or with many features that saturate tanh, few
    numbers pass through many steps. A weight that is multiplied by zeros alone at one step is looked at with two.
    """
    config = case.config.replace(wrt="all", nonlinearity="tanh")  # probes ask for all gradients, too
    config = config if config.N else config.replace(N=1)
    if gradient not in config.gradients:
        return False
    told = [_zeroes(cause, one, gradient) for one in dict.fromkeys((config, config.replace(input_size=1)))]
    if config.T == 1 and config.lengths is None and not any(one is not None for one in told):
        return _zeroes(cause, config.replace(T=2), gradient) is True
    return any(told)


def _zeroes(cause: Fault, config: RNNConfig, gradient: str) -> bool | None:
    """Tell whether a cause makes all of a gradient zero; ``None`` if all of it is zero without the cause.

    Numbers that make all of the right gradient zero say nothing, so others are drawn.
    """
    for seed in range(DRAWS):
        generic = draw(config, "default", seed).plain()
        with np.errstate(all="ignore"):
            given, right = (one.run(generic)[gradient] for one in (cause, REFERENCE))
        if right.any():
            return not given.any()
    return None


def _looked_at(observation: Observation, first: Mismatch) -> Iterator[Observation]:
    """Yield what was observed, and then the part of it that is wrong by itself: the case, or the one with probes.

    What probes show of inner gradients depends on the gradient by x, which some mistakes change.
    """
    yield observation
    if observation.probed is None:
        return
    alone = replace(observation, probed=None)
    if not first.probed:
        yield alone
    else:
        case, outcome = observation.probed
        yield replace(alone, case=case, outcome=outcome, prefixes={} if case.config.num_layers == 1 else None)


@dataclass(frozen=True)
class ByRegion:
    """An excuse for failures like a finding that no fault explains, on configs where that finding shows.

    If that is wrong in the forward pass, it also excuses gradients that are the derivative of what the subject itself
    computes, as ``derived`` tells of a case.
    """

    name: str
    found: Result
    factors: Factors
    derived: Derived = lambda _case: None

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Tell whether a failure is like the finding's, on a config that has all that the finding needs."""
        if _told_by_law(result, self.found):
            return True
        if like(result) != like(self.found):
            first = result.mismatches[0] if result.mismatches and like(self.found) == "values" else None
            return first is not None and _follows(observation, first, self.factors, self.derived)
        if is_of_form(self.found):
            return True
        return any(self.factors.covers(config) for config in _calls(observation.config, result))


def _calls(config: RNNConfig, result: Result) -> Iterator[RNNConfig]:
    """Yield the config and, if something was raised or died, those of the calls which a used module saw before."""
    yield config
    if config.preparation == "used" and result.verdict is Verdict.BROKEN:
        yield from config.calls_before


def _told_by_law(result: Result, found: Result) -> bool:
    """Tell whether a law's other run failed as was found: at the same line, or in the form of the same array."""
    first = result.mismatches[0] if result.mismatches else None
    if not result.law or found.law:
        return False
    if first is None:
        return result.raised_at is not None and result.raised_at == found.raised_at
    return is_of_form(found) and (first.array, first.sort) == (found.mismatches[0].array, found.mismatches[0].sort)


def is_of_form(result: Result) -> bool:
    """Tell whether something other than values is wrong; for such a kind, one finding says it all."""
    return bool(result.mismatches) and result.mismatches[0].sort in OF_FORM


OF_FORM: Final = {
    *(Sort.MISSING, Sort.UNEXPECTED, Sort.SHAPE, Sort.DTYPE, Sort.MALFORMED),
    *(Sort.CHANGED, Sort.ALIASED, Sort.OVERWRITTEN, Sort.DERIVATIVE),
}
