"""vector_comparison: the diagnosis of results of known cases, where there is nothing that can be called."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from harness.checks.agreement import Observation, unfit
from harness.checks.result import Result
from harness.diagnosis.explain_given_arrays import ArrayInterpretation, ArraysExplained, found_in, results_of
from harness.diagnosis.observation_cache import forward_part, is_right
from harness.oracle.arithmetic_assumptions import AcceptedErrors, Arithmetic
from harness.space.case import Array, Case, as_plain
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.space.outcome import Outcome

MOST_VECTOR_CASES: Final = 8
"""The number of wrong cases, and of right ones, on which mistakes are looked for, the cheapest first. What explains
them is then held to all cases."""


@dataclass(frozen=True)
class VectorSetComparison:
    """The fate of each case by its name, with the reason."""

    found: (
        ArraysExplained | None
    )  # the answer on all results whose shapes and dtypes are right; ``None`` if there are none
    results: Mapping[str, Result]  # These results, gradients included
    unfit: Mapping[str, Result]  # the results of those whose shapes or dtypes are not
    missing: tuple[str, ...]  # the cases of which nothing came back
    layer: str  # torch's layer, such as ``nn.LSTM``

    @property
    def wrong(self) -> tuple[str, ...]:
        """The cases with wrong numbers."""
        return tuple(name for name, result in self.results.items() if result.failed)

    @property
    def agrees(self) -> bool:
        """True if everything that came back is right, and something did."""
        return self.found is not None and self.found.agrees and not self.unfit


def judged(
    results: Iterable[tuple[str, Case, Mapping[str, Array] | None]], accepted: AcceptedErrors
) -> VectorSetComparison:
    """Compare what came back of cases, by their names, with what nn.RNN computes, and look for the cause."""
    bad: dict[str, Result] = {}
    missing: list[str] = []
    observed: dict[str, Observation] = {}
    layer = "nn.RNN"
    for name, case, arrays in results:
        layer = case.config.layer
        if arrays is None:
            missing.append(name)
        elif (result := unfit(case, Outcome(arrays))) is not None:
            bad[name] = result
        else:
            observed[name] = _observation(case, arrays, accepted)
    compared = dict(zip(observed, results_of(ArrayInterpretation(tuple(observed.values()))), strict=True))
    wrong = tuple(name for name, result in compared.items() if result.failed)
    # Wrong outputs make wrong gradients: the cause is looked for on the way forward first.
    forward = {name: forward_part(observation) for name, observation in observed.items()}
    first = tuple(name for name, observation in forward.items() if not is_right(observation))
    answer = _explained(forward, first) if first else _explained(observed, wrong) if observed else None
    return VectorSetComparison(answer, compared, bad, tuple(missing), layer)


def _observation(case: Case, arrays: Mapping[str, Array], accepted: AcceptedErrors) -> Observation:
    config, plain = case.config, case.plain()
    with np.errstate(over="ignore", invalid="ignore"):
        own = {name: array.astype(config.dtype) for name, array in as_plain(config, arrays).items()}
    states_known = (config.num_layers == 1 and "output" in own) or (config.T == 1 and "h_n" in own)
    arithmetic = Arithmetic(config.dtype, LEAST_ASSUMED, accepted.in_dtype(config.dtype))
    return Observation(plain, Outcome(own), arithmetic, Outcome(arrays), prefixes={} if states_known else None)


def _explained(observed: Mapping[str, Observation], wrong: tuple[str, ...]) -> ArraysExplained:
    reading = ArrayInterpretation(tuple(observed.values()), names=tuple(observed))
    if not wrong:
        return ArraysExplained(reading, results=results_of(reading))
    cheapest = sorted(observed, key=lambda name: observed[name].case.config.cost)
    telling = [name for name in cheapest if name in wrong][:MOST_VECTOR_CASES]
    telling += [name for name in cheapest if name not in wrong][:MOST_VECTOR_CASES]
    answer = found_in(ArrayInterpretation(tuple(observed[name] for name in telling)))
    named = tuple(replace(cause, reading=reading) for cause in answer.causes if reading.reproduced(cause))
    return replace(answer, reading=reading, results=results_of(reading), causes=named)
