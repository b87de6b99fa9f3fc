"""identified_layers: what a subject is found to compute, over all findings of a search, and the mistakes in that."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from harness.checks.result import Result, Verdict
from harness.diagnosis.defects import noted_defects
from harness.diagnosis.experiments import Question
from harness.diagnosis.failure_conditions import like
from harness.diagnosis.fresh_cases import changed
from harness.diagnosis.identify.cause import (
    IdentifiedCause,
    cause_of,
    identified_of,
    ill_shaped,
    lacks_gradients,
    of_shapes,
    seen_of,
)
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.questions import LONG_TIMES, SubjectTooSlow
from harness.diagnosis.identify.wiring_inquiry import shown_by
from harness.diagnosis.observation_cache import ObservationCache, nameable
from harness.space.config import RNNConfig
from harness.space.values import draw
from harness.subjects.protocol import SubjectUnavailable

# A subject may compute one thing with a value of these, and another one with others.
BEHAVIOUR_FACTORS: Final = ("hx", "bias", "batch_first", "batched", "dtype")


@dataclass
class IdentifiedLayers:
    """What a subject is found to compute, of configs that differ in what they show."""

    defects: list[str] = field(default_factory=list)  # lines on mistakes of this package
    mistakes: list[Mistake] = field(default_factory=list)  # those of earlier findings
    reported: list[Mistake] = field(default_factory=list)  # those that have a finding of their own
    # The values of factors with which a nondeterministic subject is deterministic, and its gradients that never are.
    deterministic: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    slow: str = ""  # how slow the subject is, if that is too slow to find out what it computes
    _identified: dict[tuple[Any, ...], Identification | None] = field(default_factory=dict)  # by what a config shows

    @property
    def known(self) -> list[Identification]:
        """What was identified, in the order in which it was."""
        return [layer for layer in self._identified.values() if layer is not None]

    def surviving(self) -> AbstractContextManager[None]:
        """Return a context in which a mistake of this package loses nothing but what was looked for."""
        return noted_defects(self.defects, SubjectTooSlow, SubjectUnavailable)

    def cause(self, question: Question) -> IdentifiedCause | None:
        """Return the mistakes that show on a finding's case, of what the subject is found to compute."""
        observations, finding = question.observations, question.finding
        result, config = finding.result, finding.case.config
        tells = nameable(finding) is not None or lacks_gradients(result)
        unequal = of_shapes(result) and _fails_if_unequal(observations, config, result)
        if not (tells or unequal) or result.nondeterministic:
            return None
        seen = observations.of(finding.case)
        responses = seen_of(observations.subject, seen, result)
        attempts: list[tuple[dict[str, Any], int]] = [({}, 1)]
        if LONG_TIMES[-1] < config.T:  # then the cases of an identification may be too short to show it
            attempts.append(({}, config.T))
        for pins, longest in chain(attempts, ((pins, 1) for pins in self._pins(question))):
            if (identified := self._identification(question, pins, longest)) is None:
                continue
            cause = cause_of(identified, responses, result, self.mistakes)
            if unequal:
                cause = ill_shaped(identified, seen, result, self.mistakes)
            if cause is not None:
                return cause
        return None

    def _pins(self, question: Question) -> Iterator[dict[str, Any]]:
        """Yield the pins of an identification: those of others, each value whose others pass, one loss, and N=1.

        The way back may depend on the loss, and go from one sequence to the next.
        """
        config, scope = question.finding.case.config, question.scope
        values = scope.values()

        def passes(candidates: Iterable[RNNConfig]) -> bool:
            cases = [draw(candidate, "normal", 1) for candidate in candidates]
            return bool(cases) and all(question.check(case).verdict is Verdict.AGREES for case in cases)

        before = [dict(layer.pins) for layer in self.known]
        yield from (pins for pins in before if pins and all(getattr(config, n) in some for n, some in pins.items()))
        for name in BEHAVIOUR_FACTORS:
            value = getattr(config, name)
            others = (changed(config, {name: alternative}) for alternative in values[name] if alternative != value)
            if passes(candidate for candidate in others if candidate != config):
                yield {name: (value,)}
        if passes(changed(config, {"T": T}) for T in (2, 3, 4) if config.T == 1 and scope.allows("T", T)):
            yield {"T": (1,)}  # a single step may be computed in a way of its own
        if like(question.finding.result) == "gradients":
            if {*values["loss"]} - {None, config.loss}:
                yield {"loss": (None, config.loss)}
            if config.N == 1 < max(values["N"]):
                yield {"N": (1,)}

    def _identification(self, question: Question, pins: dict[str, Any], longest: int) -> Identification | None:
        observations, case = question.observations, question.finding.case
        shown = (case.config.nonlinearity, *shown_by(case.config), *pins.items(), longest)
        if shown not in self._identified:
            earlier = [layer for layer in self.known if layer.pins == pins]
            before = earlier[-1] if earlier else None
            identified: Identification | None = None
            try:
                with self.surviving():
                    scope = question.scope.only(**{**self.deterministic, **pins})
                    identified = identified_of(observations, scope, case, before, longest=longest, hidden=self.hidden)
            except SubjectTooSlow as slow:
                self.slow = str(slow)
            self._identified[shown] = None if identified is None else replace(identified, pins=pins)
        return self._identified[shown]


def _fails_if_unequal(observations: ObservationCache, config: RNNConfig, result: Result) -> bool:
    """Tell whether it fails so wherever input_size is not hidden_size, and nowhere else.

    Sizes of 1 are left out, which are broadcast.
    """

    def unfit(input_size: int, hidden_size: int) -> Result | None:
        sizes = {"input_size": input_size, "hidden_size": hidden_size}
        return observations.of(draw(changed(config, sizes), "normal", 1), with_probes=False).unfit

    unequal = unfit(3, 2), unfit(2, 3)
    return unfit(2, 2) is None and all(
        answer is not None and answer.raised == result.raised and like(answer) == like(result) for answer in unequal
    )
