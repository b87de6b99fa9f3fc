"""Tests of wrong declarations: they are found, and named as the cause, by a run that passes."""

from typing import Any

import numpy as np
import pytest

from harness import Case, RNNConfig, Scope, Verdict, as_subject, check_agreement, conventions, draw
from harness.checks.agreement import observe
from harness.diagnosis.experiments import FindingCause
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.wrong_conventions import FRESH_WITH_DECLARATION, WrongConventions, instead_of
from harness.report.explanation_lines import fails_line
from harness.report.reported_finding import in_order, reported
from harness.report.severity import Severity
from harness.search.capability_discovery import narrow
from harness.search.search import hunt
from harness.search.search_record import Finding
from harness.subjects.conventions import Conventions
from tests.diagnosis.searched import Searched

TWO = "declares one_bias, but works as if it had two biases; declares transposed, but works as if its weights were not"

TANH = Scope().only(nonlinearity="tanh", num_layers=1, bidirectional=False, training=False)


def layer(x: Any, h: Any, W: Any, U: Any, b: Any) -> Any:
    """Return the output of a layer, time first, of transposed weights."""
    states = [h]
    for x_t in x:
        states.append(np.tanh(x_t @ W + states[-1] @ U + b))
    return np.stack(states[1:])


def torch_like(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    x = x.swapaxes(0, 1) if config.batch_first else x
    b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else 0
    output = layer(x, h0[0], weights["weight_ih_l0"].T, weights["weight_hh_l0"].T, b)
    return output.swapaxes(0, 1) if config.batch_first else output, output[-1:].copy()


def keras_like(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    b = weights["bias_ih_l0"] if config.bias else 0
    output = layer(x.swapaxes(0, 1), h0[0], weights["weight_ih_l0"], weights["weight_hh_l0"], b)
    return output.swapaxes(0, 1), output[-1:].copy()


def time_first(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return torch_like(x, h0, weights, RNNConfig(2, 3, bias=config.bias))


def last_of(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return torch_like(x, h0, weights, config)[1][0]


def doubled(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = torch_like(x, h0, weights, config)
    return 2 * output, h_n


def doubled_if_long(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return (doubled if config.T > 4 else torch_like)(x, h0, weights, config)


def declaring(function: Any, *names: str) -> Any:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return function(x, h0, weights, config)

    return as_subject(conventions(**dict.fromkeys(names, True))(rnn))


@pytest.mark.parametrize(
    ("function", "declared", "said"),
    [
        (torch_like, ["transposed"], "declares transposed, but works as if its weights were not"),
        (torch_like, ["one_bias"], "declares one_bias, but works as if it had two biases"),
        (time_first, ["batch_first"], "declares batch_first, but works as if batch_first were always False"),
        (last_of, [], "returns the last output alone: declare last_output_only, if that is meant"),
        (keras_like, ["one_bias", "batch_first"], "works as if its weights were transposed: declare transposed"),
        (keras_like, [], "works as if it declared one_bias, transposed, batch_first: declare them, if that is meant"),
        (torch_like, ["one_bias", "transposed"], TWO),
    ],
)
def test_the_declaration_with_which_a_subject_would_agree_is_named(function: Any, declared: Any, said: str) -> None:
    subject = declaring(function, *declared)
    scope = narrow(subject, TANH.only(**subject.capabilities.offers)).scope
    config = RNNConfig(2, 3, T=4, N=5, batch_first="batch_first" in declared)
    case = draw(config, "normal")
    assert check_agreement(subject, case).verdict is not Verdict.AGREES

    found = instead_of(subject, case, scope)

    assert found is not None
    assert found.sentence == said
    assert found.fresh == FRESH_WITH_DECLARATION


def of_keras_but_a_factor(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = keras_like(x, h0, weights, config)
    return output * 1.01, h_n


def viewed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = torch_like(x, h0, weights, config)
    return output if config.batch_first else output.swapaxes(0, 1).reshape(output.shape), h_n


def of_contiguous(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if not x.flags.c_contiguous:
        raise ValueError("x must be contiguous")
    return torch_like(x, h0, weights, config)


KERAS = ("one_bias", "transposed", "batch_first")


@pytest.mark.parametrize(
    ("function", "declared", "config", "scope"),
    [
        (of_keras_but_a_factor, KERAS, RNNConfig(2, 3, T=4, N=5, batch_first=True), TANH),  # a mistake
        # with one unit and one feature, weights are what their transposes are
        (torch_like, ["transposed"], RNNConfig(1, 1, T=4, N=5), TANH.only(input_size=1, hidden_size=1, hx=True)),
        (doubled_if_long, ["transposed"], RNNConfig(2, 3, T=4, N=5), TANH),  # something else is wrong, too
        (viewed, [], RNNConfig(2, 3, T=2, N=2), TANH),  # it takes both layouts, and mixes one up
        (
            of_contiguous,  # the memory of x may be the cause
            [],
            RNNConfig(2, 3, T=3, N=2, strides="transposed"),
            TANH.only(strides="transposed"),
        ),
    ],
)
def test_a_declaration_is_not_named_where_another_one_is_not_all_that_is_wrong(
    function: Any, declared: Any, config: RNNConfig, scope: Scope
) -> None:
    subject, case = declaring(function, *declared), draw(config, "normal", 1)

    assert check_agreement(subject, case).verdict is not Verdict.AGREES or config.hidden_size == 1
    assert instead_of(subject, case, scope) is None


def always_batch_first(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if x.shape[0] != h0.shape[1]:
        raise ValueError("another batch")
    return torch_like(x, h0, weights, RNNConfig(2, 3, bias=config.bias, batch_first=True))


def test_a_layout_that_is_not_declared_fails_at_all_sizes_but_one_step_of_one_sequence() -> None:
    subject = as_subject(always_batch_first)
    scope = TANH.only(dtype="float32", batch_first=False, batched=True, loss=None, strides="contiguous")
    case = draw(RNNConfig(1, 1, T=2, N=2), "normal", 1)

    explanation = FindingExplainer(subject).explain(Finding("mine", case, check_agreement(subject, case)), scope)

    assert explanation.diagnosis is not None
    assert isinstance(explanation.diagnosis.cause, WrongConventions)
    assert explanation.factors is not None
    assert fails_line(explanation.factors) == "with T from 2 on or N from 2 on"


def test_a_search_finds_it_names_it_and_goes_around_it() -> None:
    subject = declaring(torch_like, "transposed")

    done = Searched(subject, narrow(subject, TANH).scope, cases=60)

    [finding], [told] = done.findings, map(reported, done.findings, done.explanations)
    assert (told.cause, told.certainty) == ("declares transposed, but works as if its weights were not", "certain")
    assert done.record.known[finding.id] > 20
    graver = reported(hunt(declaring(doubled), TANH).findings[0])
    assert graver.severity is Severity.VALUES
    assert in_order([graver, told])[0] is told


def test_a_value_that_fails_only_by_the_declaration_is_searched() -> None:
    def no_bias(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.bias:
            raise KeyError("bias_hh_l0")
        return torch_like(x, h0, weights, config)

    assert "bias=True" not in {
        what for what, *_ in narrow(declaring(torch_like, "one_bias"), TANH).unsupported_unrefused
    }
    assert "bias=True" in {what for what, *_ in narrow(declaring(no_bias, "one_bias"), TANH).unsupported_unrefused}


def test_an_excuse_holds_only_where_the_other_declaration_agrees() -> None:
    subject, config = declaring(doubled_if_long, "transposed"), RNNConfig(2, 3, T=4, N=5)
    known_cause = FindingCause("id", subject, WrongConventions(Conventions(transposed=True), Conventions(), 3))

    def known_or_not(case: Case) -> bool:
        observation = observe(subject, case)
        return known_cause.covers(observation, check_agreement(subject, case))

    assert known_or_not(draw(config, "normal"))
    assert not known_or_not(draw(config.replace(T=5), "normal"))


def test_torch_s_own_layer_declares_nothing() -> None:
    assert as_subject("torch").capabilities.run_as is None
