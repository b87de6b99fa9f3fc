"""Tests of roundings: errors of a few ulp are one finding, and no mistake in what is computed is taken for them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from harness import Case, RNNConfig, Scope, as_subject, draw
from harness.checks.agreement import observe
from harness.checks.case_checks import check
from harness.diagnosis.experiments import Question
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.observation_cache import ObservationCache
from harness.diagnosis.roundings import RoundingOnlyCause, _cases, roundings_of
from harness.diagnosis.value_threshold import drawn
from harness.search.search_record import Finding
from tests.oracle.by_hand import subject as by_hand

SCOPE = Scope().only(num_layers=1, bidirectional=False, nonlinearity="tanh", dtype=["float32", "float64"])
CASE = draw(RNNConfig(3, 4, T=3, N=2, loss="both", hx=True), "normal", 1)
rnn = by_hand()


def there_and_back(weights: dict[str, Any], gradients: dict[str, Any]) -> dict[str, Any]:
    steps = {name: w.dtype.type(0.01) * gradients[f"{name}.grad"] for name, w in weights.items()}
    return {name: (w - steps[name]) + steps[name] for name, w in weights.items()}


def steps_in_place(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Takes a step with its weights, takes it back, and computes with what is left."""
    found = rnn(x, h0, weights, config, cotangents)
    return rnn(x, h0, there_and_back(weights, found[2]), config, cotangents) if cotangents else found


def old_minus_new(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Reads its gradients from the step that they make."""
    output, h_n, gradients = rnn(x, h0, weights, config, cotangents)
    for name, w in weights.items() if cotangents else ():
        rate = w.dtype.type(0.01)
        gradients[f"{name}.grad"] = (w - (w - rate * gradients[f"{name}.grad"])) / rate
    return output, h_n, gradients


def scaled(share: float) -> Callable[..., Any]:
    def wrong(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        output, h_n, gradients = rnn(x, h0, weights, config, cotangents)
        return output, h_n, {name: g * g.dtype.type(1 + share) for name, g in gradients.items()}

    return wrong


def found(function: Callable[..., Any], case: Case = CASE, scope: Scope = SCOPE) -> RoundingOnlyCause | None:
    subject = as_subject(function)
    finding = Finding("mine", case, check(subject, case, relations=()))
    return roundings_of(Question(ObservationCache(subject), finding, scope, partial(check, subject)))


def failing(function: Callable[..., Any]) -> Case:
    every = (drawn(CASE.config, number) for number in range(20))
    return next(case for case in every if check(as_subject(function), case, relations=()).mismatches)


@pytest.mark.parametrize("function", [steps_in_place, old_minus_new])
def test_what_is_off_by_a_few_ulp_in_every_dtype_rounds(function: Callable[..., Any]) -> None:
    subject, case = as_subject(function), failing(function)

    cause = found(function, case)

    assert cause is not None
    assert cause.off.keys() == {"float32", "float64"}
    assert cause.explains(subject, observe(subject, case), check(subject, case, relations=()))


def test_roundings_are_told_where_nothing_else_is_the_cause() -> None:
    subject, case = as_subject(steps_in_place), failing(steps_in_place)
    scope = SCOPE.only(loss=["output", "both"], batched=True, strides="contiguous", preparation="new")

    explanation = FindingExplainer(subject).explain(Finding("mine", case, check(subject, case, relations=())), scope)

    assert explanation.diagnosis is not None
    assert isinstance(explanation.diagnosis.cause, RoundingOnlyCause)


@pytest.mark.parametrize(
    ("function", "scope"),
    [(scaled(1e-3), SCOPE), (scaled(1e-5), SCOPE), (old_minus_new, SCOPE.only(dtype="float32"))],
    ids=["a factor", "a small factor", "one short dtype alone"],
)
def test_what_may_be_a_mistake_is_no_rounding(function: Callable[..., Any], scope: Scope) -> None:
    assert found(function, scope=scope) is None


def test_a_mistake_beside_them_is_not_explained_by_them() -> None:
    subject, known = as_subject(scaled(1e-3)), RoundingOnlyCause({"float32": 20.0, "float64": 20.0}, 9)

    assert not known.explains(subject, observe(subject, CASE), check(subject, CASE, relations=()))


def test_a_failure_under_autocast_is_looked_at_in_float32_alone() -> None:
    case = draw(RNNConfig(2, 3, autocast="bfloat16"), "normal", 1)

    tried = {one.config.dtype for one in _cases(case, ["float32", "float64"], Scope())}

    assert tried == {"float32"}
