"""nan_and_inf: what a subject makes of infinities and NaN, where it is right about all other numbers.

A kernel may drop NaN, or meet an infinity with a zero that pads its operands. Each candidate is nn.RNN's reference but
for that, and must give every number of the failing case, and of fresh ones that nn.RNN's own does not explain.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from harness.checks.agreement import Observation, assess
from harness.checks.known_issues import next_times_zero, times_zero
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import Question, WholeCause
from harness.diagnosis.fresh_cases import changed, infinite, wider
from harness.oracle.bounded_array import Floats
from harness.oracle.compare import MismatchKind
from harness.oracle.pinned_numpy import np
from harness.oracle.reference import Reference
from harness.oracle.unroll import StepWeights
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.refit import fitted
from harness.space.scope import factors_of
from harness.subjects.protocol import Subject

SPECIAL: Final = (math.nan, math.inf, -math.inf)
BLOCKS: Final = (2, 4, 8, 16, 32)  # the terms that vector instructions take at once
SPECIAL_SEEDS: Final = 6
FAILING_FRESH: Final = 3  # the fresh cases that must fail, and be explained; as many as ``roundings`` asks for


@dataclass(frozen=True)
class NonFiniteMistake(WholeCause):
    """A reference that has a mistake with numbers that are not finite."""

    reference: Reference
    sentence: str
    fresh: int

    @property
    def evidence(self) -> str:
        return f"nn.RNN with that mistake gives every number on this case and on {self.fresh} fresh ones"

    def explains(self, _subject: Subject, observation: Observation, _result: Result) -> bool:
        """Tell whether the reference with the mistake gives all that is wrong."""
        return _agrees(observation, self.reference)


def special_of(question: Question) -> NonFiniteMistake | None:
    """Return what a subject makes of numbers that are not finite, if that is all that is wrong with it."""
    observations, finding = question.observations, question.finding
    config, result = finding.case.config, finding.result
    only = result.mismatches and all(
        mismatch.sort is MismatchKind.FINITENESS and not mismatch.relation for mismatch in result.mismatches
    )
    if not only or config.gated:
        return None
    wide = changed(wider(config, question.scope), {"num_layers": config.num_layers})
    cases = [case for config in (config, wide) for seed in range(SPECIAL_SEEDS) for case in _with_special(config, seed)]
    observed = [observations.of(case, with_probes=False) for case in (finding.case, *cases)]
    failing = [observation for observation in observed if not _agrees(observation, None)]
    for sentence, reference in _candidates(question):
        if len(failing) > FAILING_FRESH and all(_agrees(observation, reference) for observation in observed):
            return NonFiniteMistake(reference, sentence, len(failing) - 1)
    return None


def _with_special(config: RNNConfig, seed: int) -> Iterator[Case]:
    """Yield a case with infinities, and the same with NaN in their places."""
    yield (case := infinite(config, seed))
    arrays = {name: np.where(np.isinf(array), array.dtype.type(np.nan), array) for name, array in case.arrays.items()}
    yield Case.from_arrays(config, arrays)


def _agrees(observation: Observation, reference: Reference | None) -> bool:
    """Tell whether what was observed is right; with a reference that fills up rows, NaN may be in some of its places.

    Which row is behind the last one of a step depends on how many steps are multiplied at once.
    """
    with np.errstate(all="ignore"):
        if assess(observation, reference).verdict is Verdict.AGREES:
            return True
        some = replace(observation, or_nan=reference)
        return isinstance(reference, _FillsUp) and assess(some).verdict is Verdict.AGREES


class _Activates(Reference):
    """A reference whose activation has other values at some special numbers."""

    def __init__(self, values: Mapping[float, float]) -> None:
        self._values = values

    def activation(self, s: Floats, nonlinearity: str) -> Floats:
        activated = super().activation(s, nonlinearity)
        for special, value in self._values.items():
            activated = np.where(np.isnan(s) if math.isnan(special) else s == special, value, activated)
        return activated


class _FillsUp(Reference):
    """A reference whose products have blocks of terms, the last of which is filled up with something times zero."""

    def __init__(self, block: int, *, following: bool) -> None:
        self._fill = partial(next_times_zero if following else times_zero, block=block)

    def preactivation(self, x: Floats, h: Floats, w: StepWeights) -> Floats:
        return np.asarray(super().preactivation(x, h, w) + self._fill(x) + self._fill(h))


def _candidates(question: Question) -> Iterator[tuple[str, Reference]]:
    if values := _of_special_sums(question):
        kind = question.finding.case.config.nonlinearity
        rights = (float(Reference().activation(np.array(special), kind)) for special in values)
        every = [
            [f"{v:g}".replace("nan", "NaN") for v in three]
            for three in zip(values.values(), values, rights, strict=True)
        ]
        words = " and ".join(f"{value} of a sum that is {special}, not {right}" for value, special, right in every)
        yield f"makes {words}", _Activates(values)
    for block in BLOCKS:
        for following, what in ((False, "the last operand"), (True, "the numbers of the next sequence")):
            sentence = f"fills up products to blocks of {block} terms with {what} times 0, which is NaN of an infinity"
            yield sentence, _FillsUp(block, following=following)


def _of_special_sums(question: Question) -> dict[float, float]:
    """Return what a step makes of sums that are special, where that is not what nn.RNN makes of them."""
    config = question.finding.case.config.replace(T=1, N=1, input_size=1, hidden_size=1, num_layers=1, loss=None)
    config = config.replace(bidirectional=False, dropout=0.0, lengths=None, output_size=None)
    results: dict[float, float] = {}
    asks = all(question.scope.allows(name, value) for name, value in factors_of(config).items())
    for special in SPECIAL if asks else ():
        plain = fitted(question.finding.case, config)
        ones = {name: np.zeros_like(array) + (name == "weight_ih_l0") for name, array in plain.arrays.items()}
        case = Case.from_arrays(config, ones | {"x": np.full_like(plain.x, special)})
        outcome = question.observations.of(case, with_probes=False).outcome
        h = next((np.ravel(outcome.arrays[name]) for name in ("output", "h_n") if name in outcome.arrays), None)
        right = Reference().activation(np.array(special), config.nonlinearity)
        if h is not None and h.size == 1 and not np.array_equal(float(h[0]), right, equal_nan=True):
            results[special] = float(h[0])
    return results
