"""finding_explainer: all that is said of a finding, and the known cause by which a search recognises its cause again.

Three questions are asked of a finding: what its cause is, what it depends on, and where it begins. The answers
to earlier findings of a search are known when a later one is explained.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from harness.checks.case_checks import against, check as check_everything
from harness.checks.relation_check import relations_of
from harness.checks.repeatability import answers_of, check_repeatability
from harness.checks.result import Result
from harness.diagnosis.argument_order import other_order
from harness.diagnosis.dropout_in_eval import dropped_in_evaluation
from harness.diagnosis.effort import CountedSubject, Effort, spend
from harness.diagnosis.error_map import ErrorMaps, error_maps
from harness.diagnosis.experiments import Cause, FindingCause, Question, Recognition
from harness.diagnosis.failure_conditions import FailureConditions, depends_on, like
from harness.diagnosis.faulty_source_line import SourceLine, own_line
from harness.diagnosis.first_departure import FirstDeparture, judge_worst, locate
from harness.diagnosis.fresh_cases import changed, wider
from harness.diagnosis.identified_layers import IdentifiedLayers
from harness.diagnosis.identify.cases_of_one_mistake import shown_alone
from harness.diagnosis.identify.cause import IdentifiedCause
from harness.diagnosis.identify.gates import right_of
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.questions import Asker, SubjectTooSlow
from harness.diagnosis.kernels import NONE, KernelCause, KernelSwitchResults, kernels_of
from harness.diagnosis.nan_and_inf import special_of
from harness.diagnosis.observation_cache import ObservationCache, nameable
from harness.diagnosis.padding import padding_of
from harness.diagnosis.precision import ShownPrecision, estimate, estimate_arrays
from harness.diagnosis.roundings import roundings_of
from harness.diagnosis.stale_state import (
    GradientAccumulation,
    StaleState,
    accumulated_of,
    stale_in_fresh_processes,
    stale_of,
)
from harness.diagnosis.swapped_axes import exchanged_of
from harness.diagnosis.unexplained_cause import UnexplainedCause
from harness.diagnosis.uninitialised_memory import unwritten_of
from harness.diagnosis.wrong_conventions import instead_of
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.oracle.compare import MismatchKind
from harness.oracle.judge import Judgement
from harness.search.deadline import Hang, TimeOver
from harness.search.search import RecognisedCause
from harness.search.search_record import Finding, SearchRecord
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.factor_table import SIZE_FACTORS
from harness.space.outcome import Outcome, is_last
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.protocol import Subject, environment_of

SEARCH_OVER: Final = "the search ended before"  # why a cause was not looked for, if nothing else is the reason
TIME_OVER: Final = "the time was over before it was found"
INTERRUPTION: Final = "an interrupt came before it was found"

CAUSES: Final = 2 / 3  # the share of the effort for causes, which tell most; the rest is for what failures need
# The shares of the steps and seconds left that one cause may take: a later finding has one, too, but on a slow machine,
# the first tells most.
ONE_CAUSE: Final = (2 / 3, 1.0)
ONE_DETAIL: Final = (1 / 2, 1 / 2)  # the same of the factors that a failure needs, and of where it begins

ANSWER_DRAWS: Final = 3  # sets of numbers on which a flaky subject must give one answer, to be called deterministic


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a finding, or else how coarse the subject's arithmetic is."""

    cause: Cause | None = None  # A cause that an experiment told, which is certain
    elsewhere: tuple[Mistake, ...] = ()  # Further mistakes that the case shows
    precision: ShownPrecision | None = None  # If no cause is known, and coarser arithmetic may explain the failure
    line: SourceLine | None = None  # The line of the subject's own code that makes the mistake, if that is known
    order_assumed: bool = False  # no run told which rows of the subject are of which gate

    def without(self, mistake: Mistake) -> Self:
        """Return it without a further mistake, which has a finding of its own."""
        return replace(self, elsewhere=tuple(other for other in self.elsewhere if other != mistake))

    @property
    def certain(self) -> bool:
        """True if a cause is known, and does not rest on names."""
        by_names = self.order_assumed and isinstance(self.cause, IdentifiedCause) and self.cause.new[0].of_order
        return self.cause is not None and not by_names


@dataclass(frozen=True)
class Explanation:
    """The explanation of a finding: what is known of why the subject fails. Any part may be missing."""

    diagnosis: Diagnosis | None = None
    factors: FailureConditions | None = None
    where: FirstDeparture | None = None
    error_maps: ErrorMaps | None = field(default=None, compare=False, repr=False)
    kernels: KernelSwitchResults = NONE
    # The software and hardware that the subject computes on (``subjects.environment``).
    environment: Mapping[str, str] = field(default_factory=dict)
    # The judge's ruling on the worst element; ``None`` if there is no exact equation, or it does not decide.
    judgement: Judgement | None = None
    why_unknown: str = ""  # Why the cause was not looked for, if it was not
    defects: tuple[str, ...] = ()  # lines on mistakes of this package in looking for it
    # The number of answers that a flaky subject gave in ``FLAKY_RUNS`` runs of the case, if they were counted.
    answers: int | None = None
    # The values of a factor with which a flaky subject gives one answer.
    deterministic: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    # The subject's outcome on the finding's case, if it was run for the explanation.
    outcome: Outcome | None = field(default=None, compare=False, repr=False)


@dataclass
class FindingExplainer:
    """The explanations of one search's findings as they come, each in the light of those before it."""

    subject: Subject
    accepted: AcceptedErrors = STRICT
    explanations: dict[str, Explanation] = field(default_factory=dict)  # The explanations, by the finding's id
    _known_causes: list[FindingCause] = field(default_factory=list)
    _same_cause: dict[str, str] = field(default_factory=dict)  # the id of an earlier finding, by that of a later one
    _layers: IdentifiedLayers = field(default_factory=IdentifiedLayers)
    _nondeterministic: bool = False  # True if the subject was seen to give two answers to one question
    _for_causes: Effort = field(default_factory=partial(Effort, CAUSES))
    _for_details: Effort = field(default_factory=partial(Effort, 1 - CAUSES))
    interrupted: bool = False  # True if an interrupt came; what was known by then is kept

    def recognise(self, finding: Finding, record: SearchRecord) -> RecognisedCause:
        """Explain the last finding of a search, and return how its cause is recognised from now on.

        After a hang there is no known cause, and the search ends, because every further one may take as long. A
        measured error of tanh that has no other cause needs none: the search recognises it by what was measured. After
        an interrupt (``interrupted``), the search is to be ended.
        """
        self._nondeterministic |= finding.result.nondeterministic
        earlier = record.findings[:-1]
        same = self._same_cause.get(finding.id, finding.id)
        if (again := next((old for old in earlier if old.id == same), None)) is not None:
            return self._met_again(again)
        explanation = self._explanation(finding, record.scope, record.explaining_until)
        explained = [(old, self.explanations[old.id]) for old in earlier if old.id in self.explanations]
        identity = identity_of(finding, explanation)
        first = next((old for old, its in explained if one_cause(identity_of(old, its), identity)), None)
        if finding.result.inaccurate and not _certain(explanation.diagnosis) and not explanation.kernels.passes:
            self._keep(finding, explanation)
            return RecognisedCause()
        if first is None:
            of_any_size = _of_any_size(explanation)
            identity = identity_of(finding, of_any_size)
            unknown = not (identity.causes or identity.error or identity.kernels) and identity.needs
            alike = [old for old, its in explained if unknown and identity_of(old, _of_any_size(its)) == identity]
            if len(alike) > 1:  # as a third one, it differs in the sizes at which it fails alone
                first, explanation = alike[0], of_any_size
        if first is None:
            self._keep(finding, explanation)
        else:
            self._same_cause[finding.id] = first.id
        name = (first or finding).id
        known = self._known(name, self._recognition(finding, explanation, name))
        return RecognisedCause(known, None if first is None else first.id, partial(self._alone_on, record))

    def _known(self, name: str, recognition: Recognition | None) -> FindingCause | None:
        """Count failures as known that are recognised as a finding; none where nothing recognises them."""
        if recognition is None:
            return None
        self._known_causes.append(FindingCause(name, self.subject, recognition))
        return self._known_causes[-1]

    def _alone_on(self, record: SearchRecord) -> Iterator[Case]:
        """Yield cases on which mistakes that are known beside others alone may be all that is wrong."""
        for finding in tuple(record.findings):
            diagnosis = self._diagnosis_of(finding.id)
            if diagnosis is None or (computed := _computed_of(diagnosis)) is None:
                continue
            for mistake in (mistake for mistake in diagnosis.elsewhere if mistake not in self._layers.reported):
                with self._layers.surviving():
                    config = finding.case.config
                    cases = shown_alone(computed.identified, mistake, self._layers.reported, config, record.scope)
                    yield from islice(cases, 1)

    def _diagnosis_of(self, name: str) -> Diagnosis | None:
        return None if (explanation := self.explanations.get(name)) is None else explanation.diagnosis

    def _met_again(self, earlier: Finding) -> RecognisedCause:
        """Recognise a case that was found once more by its region from now on, which is where it shows.

        The known cause of its cause did not recognise it. Then sizes do not count. There is no known cause where that
        cannot recognise it, either, which ends the search.
        """
        explanation = self.explanations.get(earlier.id)
        known = [known.cause for known in self._known_causes if known.name == earlier.id]
        tries = sum(isinstance(cause, UnexplainedCause) for cause in known)
        explanation = explanation if explanation is None or not tries else _of_any_size(explanation)
        if explanation is None or explanation.factors is None or tries > 1:
            return RecognisedCause(None, earlier.id)
        again = UnexplainedCause(earlier.result, explanation.factors)
        return RecognisedCause(self._known(earlier.id, again), earlier.id)

    def _recognition(self, finding: Finding, explanation: Explanation, name: str) -> Recognition | None:
        """Return what recognises further failures like a finding: its cause, or else where and how it shows."""
        result, kernels = finding.result, explanation.kernels
        if _of_derivatives(finding):
            return UnexplainedCause(result, FailureConditions())
        if (diagnosis := explanation.diagnosis) is not None and (cause := diagnosis.cause) is not None:
            return self._with_a_finding(name, cause) if isinstance(cause, IdentifiedCause) else cause
        if is_last(result.failure, result.message) or explanation.factors is None:
            return None
        process = self.subject.capabilities.process
        if kernels.passes and result.mismatches and process is not None:
            return KernelCause(result, process.switched(kernels.passes[0]), self._alone(finding))
        unknown = {array for layer in self._layers.known for array in layer.unknown_of(finding.case.config)}
        return UnexplainedCause(result, explanation.factors, tuple(sorted(unknown)))

    def _with_a_finding(self, name: str, cause: IdentifiedCause) -> IdentifiedCause:
        """Return a cause whose first mistake has a finding now; others may have one later."""
        self._layers.mistakes += [mistake for mistake in cause.new if mistake not in self._layers.mistakes]
        self._layers.reported.append(cause.new[0])
        for earlier, explanation in self.explanations.items():
            if (diagnosis := explanation.diagnosis) is not None and earlier != name:
                self.explanations[earlier] = replace(explanation, diagnosis=diagnosis.without(cause.new[0]))
        unreported = tuple(mistake for mistake in self._layers.mistakes if mistake not in self._layers.reported)
        return replace(cause, unreported=unreported)

    def explain(self, finding: Finding, scope: Scope) -> Explanation:
        """Return what is known of why the finding's case fails."""
        return self._keep(finding, self._explanation(finding, scope))

    def diagnosis(self, finding: Finding, scope: Scope) -> Diagnosis | None:
        """Return the cause of a finding alone, which takes less time than all that is known of it."""
        with self._for_causes.part(1, 1):
            return self._diagnosis(self._question(finding, scope))
        return None

    def known_of(self, finding: Finding) -> Explanation:
        """Return the finding's explanation; if the search ended before there was one, the judge's ruling alone."""
        return self.explanations.get(finding.id) or self._keep(finding, Explanation(why_unknown=SEARCH_OVER))

    def _keep(self, finding: Finding, explanation: Explanation) -> Explanation:
        defects = (*explanation.defects, *dict.fromkeys(self._layers.defects))
        self._layers.defects.clear()
        explanation = replace(explanation, judgement=judge_worst(finding.result), defects=defects)
        self.explanations[finding.id] = explanation
        return explanation

    def _explanation(self, finding: Finding, scope: Scope, until: float = math.inf) -> Explanation:
        explanation = Explanation()
        if not is_last(finding.result.failure, finding.result.message) and not _of_derivatives(finding):
            explain = self._flaky if finding.result.nondeterministic else self._explained
            with suppress(Hang, TimeOver):
                explanation = explain(self._question(finding, scope, until))
        if self.interrupted:  # a new process would be asked for its environment
            return explanation
        return replace(explanation, environment=environment_of(self.subject, finding.case.config.device))

    def _question(self, finding: Finding, scope: Scope, until: float = math.inf) -> Question:
        """Return the question what the cause of a finding is."""
        flaky = self._nondeterministic or finding.result.nondeterministic
        subject, alone = CountedSubject(self.subject, until), self._alone(finding)
        observations = ObservationCache(subject, self._within(finding), nondeterministic=flaky)

        def check(case: Case) -> Result:
            spend()  # also where the observation is known: known causes run their models
            observation = observations.of(case, with_probes=_probed(finding))
            return alone(subject, case, scope=scope, known_causes=self._known_causes, observation=observation)

        return Question(observations, finding, scope, check, until, self._layers.known[::-1])

    def _flaky(self, question: Question) -> Explanation:
        """Return what can be said of a subject that gives two answers to one question."""
        cause: Cause | None = None
        with self._for_causes.part(*ONE_CAUSE):
            cause = _first_of(CHECKS_IF_NONDETERMINISTIC, question)
        if isinstance(cause, StaleState):
            self._layers.deterministic = cause.pins
        if isinstance(cause, GradientAccumulation):
            self._layers.hidden = frozenset(cause.roles)
        if cause is not None:
            return Explanation(Diagnosis(cause))
        subject, case = question.subject, question.finding.case
        with self._for_details.part(*ONE_DETAIL):
            self._layers.deterministic = _deterministic_with(subject, case.config, question.scope)
        return Explanation(answers=answers_of(subject, case), deterministic=self._layers.deterministic)

    def _explained(self, question: Question) -> Explanation:
        """Return what can be said until a moment, what matters most first."""
        observations, finding, scope, check, until, _ = question
        causes, details, case = self._for_causes, self._for_details, nameable(finding)
        known: dict[str, Any] = {"why_unknown": TIME_OVER}  # of an ``Explanation``
        diagnosis: Diagnosis | None = None
        try:
            with causes.part(*ONE_CAUSE), self._layers.surviving():
                diagnosis = self._diagnosis(question)
            known["diagnosis"] = diagnosis
            known["why_unknown"] = "" if _certain(diagnosis) else causes.over or self._layers.slow
            with details.part(*ONE_DETAIL), self._layers.surviving():
                options = _options_by_cause(question, None if diagnosis is None else diagnosis.cause)
                explains_all = self._explains_all(observations, finding)
                known["factors"] = depends_on(finding, scope, check, explains_all=explains_all, **options)
            with details.part(*ONE_DETAIL), self._layers.surviving():
                if time.perf_counter() < until and not _certain(diagnosis) and not details.spent:
                    known["kernels"] = kernels_of(self.subject, finding.case, finding.result, self._alone(finding))
                known["where"] = where = None if case is None else locate(observations, case, scope)
                known["error_maps"] = None if case is None else _mapped(observations, case, scope, where)
        except TimeOver:
            pass
        except KeyboardInterrupt:
            self.interrupted = True
            known["why_unknown"] = known["why_unknown"] and INTERRUPTION
        return Explanation(**known, outcome=observations.outcome(finding.case))

    def _diagnosis(self, question: Question) -> Diagnosis | None:
        """Return the cause of a finding, or else how coarse the subject's arithmetic is.

        The checks before come first because what they look for shows as many mistakes; those after, because many
        mistakes show as what they look for.
        """
        cause = _first_of((*CHECKS_BEFORE, self._layers.cause, *CHECKS_AFTER), question)
        if cause is None:
            return _precision(question)
        if not isinstance(cause, IdentifiedCause):
            return Diagnosis(cause)
        self._place(cause)
        line: SourceLine | None = None
        with suppress(TimeOver, SubjectTooSlow), self._layers.surviving():
            asker = Asker(question.observations, question.scope, question.finding.case.config.nonlinearity)
            line = own_line(asker, cause.identified, cause.new[0])
        return Diagnosis(cause, cause.new[1:], line=line, order_assumed=self.subject.capabilities.order_assumed)

    def _place(self, cause: IdentifiedCause) -> None:
        """Say of earlier findings where their mistakes are made, as a cause knows it."""
        for name, explanation in self.explanations.items():
            diagnosis = explanation.diagnosis
            if diagnosis is not None and (computed := _computed_of(diagnosis)) is not None:
                placed = computed.placed(cause)
                elsewhere = tuple(mistake for mistake in placed.new if mistake in diagnosis.elsewhere)
                diagnosis = replace(diagnosis, cause=placed, elsewhere=elsewhere)
                self.explanations[name] = replace(explanation, diagnosis=diagnosis)

    def _explains_all(self, observations: ObservationCache, finding: Finding) -> Callable[[Case, str], bool]:
        """Return a function that tells which known causes leave nothing else wrong on a case.

        Where a gradient is missing, nothing was compared, and no known cause does. For a crash, all known causes do if
        the subject answered.
        """
        if finding.result.raised is not None:

            def answers(case: Case, _name: str) -> bool:
                unfit = observations.of(case, with_probes=False).unfit
                return unfit is None or unfit.raised is None

            return answers
        config = finding.case.config
        vague = {known.name for known in self._known_causes if _is_vague(known.cause, config)}
        return lambda case, name: name not in vague and observations.of(case, with_probes=False).unfit is None

    def _alone(self, finding: Finding) -> partial[Result]:
        """Return a check that asks any subject for what the finding's subject fails at."""
        relations = relations_of(finding.result)
        return partial(
            check_everything, accepted=self._within(finding), relations=relations, with_probes=_probed(finding)
        )

    def _within(self, finding: Finding) -> AcceptedErrors:
        """Return the tolerance that a finding's subject is held to."""
        return self.accepted if finding.accepted is None else finding.accepted


def _redeclared(question: Question, *, declares: bool) -> Cause | None:
    """Look for another declaration, of a subject that has one, or for one that is missing."""
    subject, finding = question.subject, question.finding
    if bool(subject.capabilities.conventions.forms) is not declares or not (declares or finding.result.failure is None):
        return None
    return instead_of(subject, finding.case, question.scope, question.observations.accepted, question.until)


CauseCheck = Callable[[Question], Cause | None]
CHECKS_BEFORE: Final[tuple[CauseCheck, ...]] = (
    other_order,
    exchanged_of,
    stale_of,
    partial(_redeclared, declares=True),
)
CHECKS_AFTER: Final[tuple[CauseCheck, ...]] = (
    partial(_redeclared, declares=False),
    *(unwritten_of, padding_of, special_of, roundings_of),
)
CHECKS_IF_NONDETERMINISTIC: Final[tuple[CauseCheck, ...]] = (
    unwritten_of,
    dropped_in_evaluation,
    stale_in_fresh_processes,
    accumulated_of,
)


def _deterministic_with(subject: Subject, config: RNNConfig, scope: Scope) -> dict[str, tuple[Any, ...]]:
    """Return the values of the first factor with which a subject that is flaky otherwise gives one answer."""

    def is_flaky(config: RNNConfig) -> bool:
        return any(check_repeatability(subject, draw(config, "normal", seed)).failed for seed in range(ANSWER_DRAWS))

    if is_flaky(config):
        for name, values in scope.values().items():
            if name in {*SIZE_FACTORS, "num_layers"}:
                continue
            others = (value for value in values if value != getattr(config, name))
            if steady := tuple(value for value in others if not is_flaky(changed(config, {name: value}))):
                return {name: steady}
    return {}


def _first_of(checks: Iterable[CauseCheck], question: Question) -> Cause | None:
    return next((cause for check in checks if (cause := check(question)) is not None), None)


def _of_derivatives(finding: Finding) -> bool:
    """Tell whether derivatives beyond gradients are wrong, which are looked at on a few cases of one kind only."""
    return any(mismatch.sort is MismatchKind.DERIVATIVE for mismatch in finding.result.mismatches)


class CauseIdentity(NamedTuple):
    """What findings of one cause have in common."""

    like: str  # how it fails (``factors.like``)
    error: str  # the type of an exception, and the file and line that raised it
    causes: tuple[str, ...]  # all that are possible
    kernels: tuple[str, ...]  # what makes it go away
    needs: str
    mistake: str = ""  # of what the subject was found to compute, without its place


def identity_of(finding: Finding, explanation: Explanation) -> CauseIdentity:
    """Return what is known of a finding's cause."""
    factors, diagnosis = explanation.factors, explanation.diagnosis
    computed = _computed_of(diagnosis)
    return CauseIdentity(
        like(finding.result),
        "" if finding.result.error is None else str(finding.result.error),
        () if diagnosis is None or diagnosis.cause is None else (diagnosis.cause.sentence,),
        explanation.kernels.passes,
        "" if factors is None else json.dumps(asdict(factors), sort_keys=True, default=str),
        "" if computed is None else computed.new[0].what,
    )


def one_cause(first: CauseIdentity, second: CauseIdentity) -> bool:
    """Tell whether two findings share the kind, the cause, and what makes them go away.

    Without a cause, they are the same if they go away with the same kernel, or have the same needs, or if one line
    raises errors of one type. A mistake that was identified is the same one however it shows.
    """
    if second.mistake and second.mistake == first.mistake:
        return True
    if first.like != second.like:
        return False
    if first.error and first.error == second.error:
        return True
    if first.causes != second.causes or first.kernels != second.kernels:
        return False
    return bool(first.causes or first.kernels) or first.needs == second.needs


def _mapped(observations: ObservationCache, case: Case, scope: Scope, where: FirstDeparture | None) -> ErrorMaps | None:
    """Return the maps of the case in which the failure was located, or else of a wider one, or else of the case."""
    if where is not None:
        return None if where.observation is None else error_maps(where.observation)
    every = (draw(wider(case.config, scope), "normal", 1), case)
    return next((maps for candidate in every if (maps := error_maps(observations.of(candidate))) is not None), None)


def _computed_of(diagnosis: Diagnosis | None) -> IdentifiedCause | None:
    """Return the cause that was found in what the subject computes."""
    return diagnosis.cause if diagnosis is not None and isinstance(diagnosis.cause, IdentifiedCause) else None


def _options_by_cause(question: Question, cause: Cause | None) -> dict[str, Any]:
    """Return what ``depends_on`` is told by the cause of a finding, if that is known."""
    observations = question.observations
    options: dict[str, Any] = {"right": right_of(question.finding.case.config)}
    if cause is not None:
        # A declaration that is wrong shows as wrong numbers, wrong shapes or an error, from one size to another.
        options["of_cause"] = lambda case, result: cause.explains(observations.subject, observations.of(case), result)
    if not isinstance(cause, IdentifiedCause):
        return options

    def run_as(case: Case) -> Case:  # where dropout draws masks, with those that the subject draws
        return observations.of(case, with_probes=False).case if case.config.drops else case

    def shows(case: Case) -> bool:  # where the cause does not tell, a case that fails may show it
        shown = cause.shows_on(run_as(case))
        return against(question.check(case)) if shown is None else shown

    def may_show(case: Case) -> bool:  # without bounds, in a fifth of the time: of a difference that is roundings, too
        return cause.shows_on(run_as(case), bounds=False) is not False

    return options | {"shows": shows, "may_show": may_show, "right": cause.mended}


def _precision(question: Question) -> Diagnosis | None:
    """Return how coarse the subject's arithmetic is, where finite numbers are wrong."""
    observations, case = question.observations, nameable(question.finding)
    mismatches = question.finding.result.mismatches
    if case is None or any(mismatch.sort is MismatchKind.FINITENESS for mismatch in mismatches):
        return None
    precision = estimate(observations, case) if case.config.loss is None else None  # of sums, noise tells the bits
    return Diagnosis(precision=precision or estimate_arrays(observations, case))


def _of_any_size(explanation: Explanation) -> Explanation:
    """Return an explanation without the sizes at which a failure shows."""
    if (factors := explanation.factors) is None:
        return explanation
    return replace(explanation, factors=replace(factors, sizes={}, relations=(), either=(), passing=None, numbers=None))


def _is_vague(cause: Recognition, config: RNNConfig) -> bool:
    """Tell whether a known cause explains numbers that it does not know."""
    if isinstance(cause, IdentifiedCause):
        return bool(cause.identified.unknown_of(config))
    return isinstance(cause, UnexplainedCause | KernelCause) or (isinstance(cause, StaleState) and cause.across_cases)


def _certain(diagnosis: Diagnosis | None) -> bool:
    return diagnosis is not None and diagnosis.certain


def _probed(finding: Finding) -> bool:
    """Tell whether the failure is seen with probes, or in what is asked along with them."""
    if finding.result.failure is not None:  # plain runs show it
        return False
    mismatches = finding.result.mismatches
    plain = mismatches and not mismatches[0].probed and mismatches[0].array in finding.case.config.returned
    return not plain or mismatches[0].sort is MismatchKind.OVERWRITTEN
