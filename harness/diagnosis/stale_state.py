"""stale_state: modules that go on with something of an earlier call, its weights or the state in which it ended.

A module that was called with other weights is right if it computes with those that it has. One that keeps a matrix
which it transposed or put together at its first call computes with the other ones, all of them or some. One that keeps
its state starts from that, where it is given none.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice
from typing import Final

import numpy as np

from harness.checks.agreement import Observation, assess, observe
from harness.checks.relation_check import GRADIENT_SUFFIX
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question, WholeCause
from harness.diagnosis.fresh_cases import fresh_cases
from harness.diagnosis.identify.cause import error_of
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import explains
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Response, rounding_of
from harness.diagnosis.identify.wiring_differences import listed, of_roles
from harness.diagnosis.observation_cache import ObservationCache, forward_part, nameable
from harness.oracle.bounded_array import Floats
from harness.oracle.compare import Mismatch, MismatchKind
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.search.deadline import DeadlineSubject, Hang
from harness.space.case import Array, Case
from harness.space.config import PARAMETERS, RNNConfig, role_of
from harness.space.factor_table import OTHER
from harness.space.outcome import Outcome
from harness.space.values import earlier_case
from harness.subjects.protocol import Subject

# The number of fresh cases on which a subject must compute with the weights of its first call
FRESH_WITH_STALE: Final = 3

# The number of fresh cases that are tried at most; the first ones are generic, and tell all parameters apart.
MOST_STALE: Final = 24


STATE: Final = ("state",)  # The state, in place of roles of parameters


@dataclass(frozen=True)
class StaleState(WholeCause):
    """The parameters whose numbers at the first call a subject goes on with, or the state."""

    roles: tuple[str, ...]
    one_bias: bool
    fresh: int  # The number of fresh cases, beside the failing one, on which it computes so
    across_cases: bool = False  # True if a call for another case leaves it something
    identified: Identification | None = None  # what it computes else, if that is not nn.RNN

    @property
    def pins(self) -> dict[str, tuple[bool]]:
        """The values of factors with which it never shows."""
        return {"hx": (True,)} if self.roles == STATE else {}

    @property
    def sentence(self) -> str:
        if self.roles == STATE:
            return "starts from the state in which the call before ended, where no hx is given, and not from zeros"
        if len(self.roles) == len(PARAMETERS):
            return "goes on with the weights of its first call, not with new ones"
        named = [role for role in self.roles if not (self.one_bias and role == "bias_hh")]
        new = "a new one" if len(named) == 1 else "new ones"
        return f"goes on with the {listed(named)} of its first call, not with {new}"

    @property
    def evidence(self) -> str:
        numbers = "that state" if self.roles == STATE else "these"
        layer = "nn.RNN" if self.identified is None else "what it was found to compute"
        return f"with {numbers}, {layer} gives what the subject does on this case and on {self.fresh} fresh ones"

    def explains(self, subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether a subject computes with the parameters of the call before, or some of them.

        Gradients are looked at only where the way forward is right, and where they raise an error, the way forward is.
        """
        if self.across_cases and self.roles == STATE:  # the state is not known, so that any number may be of it
            return not observation.config.hx and {mismatch.sort for mismatch in result.mismatches} == {
                MismatchKind.VALUE
            }
        if not had_others(observation.config):
            return False
        first = result.mismatches[0] if result.mismatches else None
        if first is None:
            with suppress(Hang):
                forward, accepted = observation.case.forward(), observation.arithmetic.accepted
                observation = observe(DeadlineSubject(subject), forward, accepted, with_probes=False)
        elif not first.array.endswith(GRADIENT_SUFFIX) and observation.unfit is None:
            observation = forward_part(observation)
        parts = _parts(self.roles)[::-1] if self.roles != STATE else [STATE]
        return any(goes_on(observation, some, self.identified, one_bias=self.one_bias) for some in parts)


def stale_of(question: Question) -> StaleState | None:
    """Return the parameters of its first call that a subject goes on with on a case, and on fresh ones.

    They are the fewest that explain all of these: a part of them may do on some, because what a module keeps may be a
    view there. The transpose of a matrix with one row is one, and shows new numbers. The result is ``None`` if no
    parameters explain everything, or several sets of as few do. An error that is raised on the way back is explained by
    the way forward.
    """
    finding = question.finding
    case = nameable(finding) or (None if finding.result.mismatches else finding.case.forward())
    if case is None or not had_others(case.config):
        return None
    causes = (_stale_beside(question, case, identified) for identified in (None, *question.identified))
    return next(filter(None, causes), None)


def _stale_beside(question: Question, case: Case, identified: Identification | None) -> StaleState | None:
    """Return it of a subject that computes nn.RNN else, or what it was identified as."""
    observations = question.observations
    one_bias = observations.subject.capabilities.conventions.one_bias
    roles = tuple(role for role in PARAMETERS if any(role_of(name) == role for name in case.config.weights))
    every = [*_parts(roles), STATE]
    candidates, first = every, observations.of(case, with_probes=False)
    for hits, observation in enumerate(chain([first], islice(_fresh(question, case.config), MOST_STALE))):
        explaining = [some for some in every if goes_on(observation, some, identified, one_bias=one_bias)]
        candidates = [some for some in candidates if any({*part} <= {*some} for part in explaining)]
        if not candidates:
            return None
        fewest = [some for some in candidates if len(some) == len(candidates[0])]
        if hits >= FRESH_WITH_STALE and len(fewest) == 1:
            return StaleState(fewest[0], one_bias, hits, identified=identified)
    return None


class _Restarted(DeadlineSubject):
    """A subject each of whose runs is the first one of a process."""

    def run(self, case: Case) -> Outcome:
        if (process := self.capabilities.process) is not None:
            process.restart()
        return super().run(case)


def stale_in_fresh_processes(question: Question) -> StaleState | None:
    """Return what a nondeterministic subject goes on with of an earlier call.

    Each run is in a fresh process, after calls of known numbers, so that no other case can matter.
    """
    case, process = question.finding.case, question.subject.capabilities.process
    if process is None or "used" not in question.scope.preparation:
        return None
    used = Case.from_arrays(case.config.replace(preparation="used", loss=None), case.forward().arrays)
    observations = ObservationCache(_Restarted(question.subject, question.until), question.observations.accepted)
    differs = Result(Verdict.DISAGREES, (Mismatch("output", MismatchKind.VALUE),))
    stale = stale_of(
        question._replace(observations=observations, finding=replace(question.finding, case=used, result=differs))
    )
    return None if stale is None else replace(stale, across_cases=True)


@dataclass(frozen=True)
class GradientAccumulation:
    """The gradients that a subject adds to those of its earlier calls."""

    roles: tuple[str, ...]
    fresh: int  # The number of cases on which the second and the third call in a process do so

    @property
    def sentence(self) -> str:
        return f"adds the gradient by {of_roles(self.roles)} to that of its earlier calls"

    @property
    def evidence(self) -> str:
        return f"called again in a fresh process, it returns twice, then three times as much, in {self.fresh} cases"

    def explains(self, _subject: Subject, _observation: Observation, result: Result) -> bool:
        """Tell if nothing else is wrong."""
        return bool(result.mismatches) and not self._others(result)

    def left(self, _subject: Subject, _observation: Observation, result: Result) -> Result:
        """Return a result without such gradients, beside which others may be wrong."""
        others = self._others(result)
        return replace(result, mismatches=others) if others else result

    def _others(self, result: Result) -> tuple[Mismatch, ...]:
        return tuple(
            mismatch
            for mismatch in result.mismatches
            if not (mismatch.array.endswith(GRADIENT_SUFFIX) and role_of(mismatch.array) in self.roles)
        )


def accumulated_of(question: Question) -> GradientAccumulation | None:
    """Return the gradients that grow with each call of one case, if nothing else changes."""
    subject, process = question.subject, question.subject.capabilities.process
    if process is None:
        return None
    cases = (case for case in fresh_cases(question.finding.case.config, question.scope) if case.config.loss is not None)
    grown: set[tuple[str, ...]] = set()
    count = 0
    for case in islice(cases, MOST_STALE):
        process.restart()
        calls = [subject.run(case).arrays for _ in range(3)]
        roles = _growing(calls)
        if roles is None:
            return None
        grown |= {roles} if roles else set()
        count += bool(roles)
        if count == FRESH_WITH_STALE:
            return GradientAccumulation(grown.pop(), count) if len(grown) == 1 else None
    return None


def _growing(calls: Sequence[Mapping[str, Array]]) -> tuple[str, ...] | None:
    """Return the gradients, by role, that are twice and three times as large in the calls after the first.

    The result is ``None`` if another array changes, or if one changes otherwise. Half of the first array tells its
    multiples apart.
    """
    first, *later = calls
    grown: list[str] = []
    for name, array in first.items():
        if any(name not in arrays or arrays[name].shape != array.shape for arrays in later):
            return None
        apart = [float(np.abs(arrays[name] - array).max(initial=0)) for arrays in later]
        if not any(apart):
            continue
        off = (np.abs(arrays[name] - times * array) for times, arrays in enumerate(later, start=2))
        if not name.endswith(GRADIENT_SUFFIX) or any(difference.max() >= np.abs(array).max() / 2 for difference in off):
            return None
        grown.append(role_of(name))
    return tuple(dict.fromkeys(grown))


def _parts(roles: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [some for count in range(len(roles)) for some in combinations(roles, count + 1)]


def _fresh(question: Question, config: RNNConfig) -> Iterator[Observation]:
    """Yield what was observed of fresh cases that had other weights before, and on which the subject is wrong."""
    for case in fresh_cases(config, question.scope):
        if had_others(case.config):
            observation = question.observations.of(case, with_probes=False)
            if observation.unfit is None and assess(observation, soft=False).verdict is Verdict.DISAGREES:
                yield observation


def had_others(config: RNNConfig) -> bool:
    """Tell whether a module was called with other weights before."""
    return config.preparation == "used" or config.after in {"used", "functional_call"}


def goes_on(
    observation: Observation, roles: tuple[str, ...], identified: Identification | None = None, *, one_bias: bool
) -> bool:
    """Tell whether a subject computes with some parameters of the call before, and else nn.RNN or what is identified.

    A class with one bias had the number of a parameter there, as the sum of nn.RNN's two.
    """
    if observation.unfit is not None:
        return False
    if roles == STATE:
        return _keeps_its_state(observation, identified, one_bias=one_bias)
    numbers = {role: 0.0 if one_bias and role == "bias_hh" else OTHER for role in roles}
    case = observation.case
    weights = {
        name: np.full_like(array, numbers[role_of(name)]) if role_of(name) in numbers else array
        for name, array in case.weights.items()
    }
    return _gives(replace(observation, case=replace(case, weights=weights, origin=None), probed=None), identified)


@np.errstate(all="ignore")
def _gives(observation: Observation, identified: Identification | None) -> bool:
    """Tell whether nn.RNN, or what is identified, gives what was observed."""
    if identified is None:
        return assess(observation, soft=False).verdict is Verdict.AGREES
    arrays = {name: np.asarray(v, np.float64) for name, v in observation.outcome.arrays.items()}
    a = Response(observation.case, arrays, rounded=observation.rounded)
    return explains(identified.network, a, rounding_of(a.case.config.dtype), identified.unknown)


def _keeps_its_state(observation: Observation, identified: Identification | None, *, one_bias: bool) -> bool:
    """Tell whether a subject starts from the state in which its last call ended, forwards.

    That state has errors of its own, of which each number may be off by the most that a step makes of them.
    """
    case, config = observation.case, observation.case.config
    if config.hx or config.drops or observation.config.preparation != "used":
        return False
    forward = forward_part(observation)
    calls = [call.replace(loss=None, lengths=None) for call in config.calls_before]
    grown = max((np.abs(w).sum(-1).max(initial=0) for n, w in case.weights.items() if "weight_hh" in n), default=0)
    for some in (calls[-1:], calls) if len(calls) > 1 else (calls,):  # the call before may have gone on from another
        states, tolerance = _ended(some, observation, identified, one_bias=one_bias)
        arrays = {**forward.case.arrays, **{name: values.astype(config.dtype) for name, values in states.items()}}
        started = Case.from_arrays(forward.case.config.replace(hx=True), arrays)
        off = tolerance * (1 + float(grown))
        if _gives(replace(forward, case=started, prefixes=None, rounded=off), identified):
            return True
    return False


@np.errstate(all="ignore")
def _ended(
    calls: Sequence[RNNConfig], observation: Observation, identified: Identification | None, *, one_bias: bool
) -> tuple[dict[str, Floats], float]:
    """Return the states with which the last of some calls ends, as hx and cx, and how far off they may be.

    Each call goes on from the one before if that has as many sequences.
    """
    states: dict[str, Floats] = {}
    tolerance = 0.0
    for call in calls:
        before = earlier_case(call, one_bias=one_bias)
        if states and call.batched and all(v.ndim == 3 and v.shape[1] >= call.N for v in states.values()):
            going_on = {name: values[:, : call.N].astype(call.dtype) for name, values in states.items()}
            before = Case.from_arrays(call.replace(hx=True), {**before.arrays, **going_on})
        if identified is None:
            ended = expect_whole_run(Setting.of(before, observation.arithmetic))
            made = {name: (array.values, array.tolerance) for name, array in ended.items()}
        else:
            arrays = run(identified.network, before.plain(), rounding_of(call.plain.dtype))
            made = {name: (values_of(v), error_of(v)) for name, v in arrays.items()}
        finals = {name: made[final] for name, final in zip(call.form.hidden, call.form.final, strict=True)}
        states = {name: values for name, (values, _) in finals.items()}
        tolerance = max(float(np.max(error, initial=0)) for _, error in finals.values())
    return states, tolerance
