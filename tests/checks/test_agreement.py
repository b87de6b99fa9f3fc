"""Tests of agreement: the verdicts, and the ways to reach the inner states of a black box."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Verdict, as_subject, cases, check_agreement, draw
from harness.checks.repeatability import check_repeatability, confirmed
from harness.checks.result import ComparisonMethod, Result
from harness.oracle.compare import MismatchKind
from tests import implementations

CASE = draw(RNNConfig(2, 3, num_layers=2, T=4, N=2, hx=True), "normal", 0)


def checked(function: Any, case: Case = CASE) -> Result:
    return check_agreement(as_subject(function), case)


@settings(max_examples=60)
@given(cases(output_size=[None, 2], T=[1, 2, 5], N=[1, 3], input_size=[1, 4], hidden_size=[1, 5]))
@pytest.mark.parametrize("function", [implementations.plain_python, implementations.vectorised])
def test_right_implementations_agree(function: Any, case: Case) -> None:
    result = checked(function, case)

    assert result.verdict is Verdict.AGREES, result
    assert result.method is ComparisonMethod.LOCAL


def test_a_wrong_value_disagrees_and_is_placed_in_its_layer() -> None:
    result = checked(implementations.upper_layer_is_linear)

    assert result.verdict is Verdict.DISAGREES
    assert {(m.array, m.sort, m.layer) for m in result.mismatches} == {
        ("output", MismatchKind.VALUE, None),
        ("h_n", MismatchKind.VALUE, None),
    }
    h_n = next(m for m in result.mismatches if m.array == "h_n")
    assert {site.place["layer"] for site in h_n.sites} == {1}


def test_a_fault_in_a_lower_layer_is_found_there_through_a_prefix() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        wrong = {name: array * 0 if name == "bias_hh_l0" else array for name, array in weights.items()}
        return implementations.vectorised(x, h0, wrong, config)

    result = checked(rnn)

    assert [m.layer for m in result.mismatches] == [0, None]
    assert {site.place["layer"] for site in result.mismatches[1].sites} == {0}


def test_a_small_late_fault_is_seen_behind_many_steps() -> None:
    case = draw(RNNConfig(4, 8, T=60, N=2), "default", 0)

    result = checked(implementations.late_drift, case)

    assert result.verdict is Verdict.DISAGREES
    assert min(site.place["t"] for site in result.mismatches[0].sites) == 4


@pytest.mark.parametrize("only_layers", [2, 3])
def test_a_subject_that_refuses_prefixes_is_compared_end_to_end_and_that_is_said(only_layers: int) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.num_layers != only_layers:
            raise NotImplementedError("fixed depth")
        return implementations.vectorised(x, h0, weights, config)

    result = checked(rnn, draw(RNNConfig(2, 3, num_layers=only_layers, T=4, N=2), "normal", 0))

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.END_TO_END)


def test_prefixes_that_are_not_the_layers_inside_are_not_trusted() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        wide = config.num_layers == 1  # a kernel that takes another path for one layer, correct to within rounding
        implementation = implementations.plain_python if wide else implementations.vectorised
        return implementation(x, h0, weights, config)

    case = draw(RNNConfig(8, 16, num_layers=2, T=9, N=2), "normal", 0)

    assert checked(rnn, case).method is ComparisonMethod.END_TO_END
    assert checked(rnn, case).verdict is Verdict.AGREES


def test_states_that_meet_again_do_not_make_a_prefix_s_roundings_the_stack_s() -> None:
    # Run alone, the first layer differs inside by a rounding, and may still end on the same h_n.
    methods = set()
    for seed in range(60):
        for H in (1, 2):
            case = draw(RNNConfig(4, H, num_layers=2, T=4, N=3), "saturated", seed)
            result = checked(implementations.order_by_depth, case)
            methods.add(result.method)
            assert not result.failed, (seed, H, result)  # at most suspicious, because a prefix is no proof

    assert methods == {ComparisonMethod.LOCAL, ComparisonMethod.END_TO_END}


def test_a_first_layer_s_small_late_fault_needs_no_second_witness() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        def tamper(h: Any, at: dict[str, Any]) -> Any:
            return h * h.dtype.type(1 - 3e-5 * (at["layer"] == 0 and at["t"] >= 30))

        return implementations.vectorised(x, h0, weights, config, tamper)

    case = draw(RNNConfig(4, 32, num_layers=2, T=60, N=1), "normal", 0)

    result = checked(rnn, case)

    assert result.method is ComparisonMethod.LOCAL
    assert result.mismatches[0].layer == 0
    assert min(int(site.place["t"]) for site in result.mismatches[0].sites) >= 30


def test_a_single_step_needs_no_prefix() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.num_layers != 3:
            raise NotImplementedError("fixed depth")
        return implementations.vectorised(x, h0, weights, config)

    case = draw(RNNConfig(4, 8, num_layers=3, bidirectional=True, N=2, hx=True), "normal", 0)

    assert checked(rnn, case).method is ComparisonMethod.LOCAL
    assert checked(rnn, case).verdict is Verdict.AGREES
    wrong = checked(implementations.upper_layer_is_linear, case)
    assert wrong.verdict is Verdict.DISAGREES


@pytest.mark.parametrize("lost", [np.float32(2.0**-126), np.float32(0)])
def test_subnormal_operands_may_be_flushed_or_not(lost: Any) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        x, h0, *flushed = (np.where(np.abs(a) < lost, 0, a).astype(a.dtype) for a in (x, h0, *weights.values()))
        return implementations.vectorised(x, h0, dict(zip(weights, flushed, strict=True)), config)

    for seed in range(200):
        case = draw(RNNConfig(3, 4, nonlinearity="relu", T=2, hx=True), "special", seed)
        assert checked(rnn, case).verdict is Verdict.AGREES, seed


def test_a_readout_alone_or_with_h_n_is_enough() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=2, output_size=2), "normal", 0)

    def alone(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config)[-1]

    def with_h_n(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        result = implementations.vectorised(x, h0, weights, config)
        return result if config.output_size is None else (result[2], result[1])

    assert (checked(alone, case).verdict, checked(alone, case).method) == (Verdict.AGREES, ComparisonMethod.END_TO_END)
    assert (checked(with_h_n, case).verdict, checked(with_h_n, case).method) == (Verdict.AGREES, ComparisonMethod.LOCAL)

    def off(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return alone(x, h0, weights, config) + np.float32(1e-3)

    result = checked(off, case)
    assert result.mismatches[0].array == "readout"


@pytest.mark.parametrize(
    ("returned", "verdict", "kind"),
    [
        (lambda o, h: None, Verdict.DISAGREES, "the result: malformed"),
        (lambda o, h: (o[:1], h), Verdict.DISAGREES, "output: shape"),
        (lambda o, h: (o, h.astype(float)), Verdict.DISAGREES, "h_n: dtype"),
        (lambda o, h: (o * np.nan, h), Verdict.DISAGREES, "output: finiteness"),
        (lambda o, h: (o, h + 1), Verdict.DISAGREES, "h_n: value"),
        (lambda o, h: 1 / 0, Verdict.BROKEN, "broken: ZeroDivisionError"),
    ],
)
def test_each_way_of_failing_has_a_verdict_and_a_kind_of_its_own(returned: Any, verdict: Verdict, kind: str) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return returned(*implementations.vectorised(x, h0, weights, config))

    result = checked(rnn, draw(RNNConfig(2, 3, T=4, N=2), "normal", 0))

    assert (result.verdict, result.kind) == (verdict, kind)
    assert result.failed


def test_a_changed_input_is_a_failure_even_where_the_values_are_right() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        result = implementations.vectorised(x, h0, weights, config)
        weights["weight_hh_l0"][0, 0] = 0
        return result

    assert checked(rnn).kind == "weight_hh_l0: changed input"


def test_a_refusal_is_no_failure() -> None:
    def rnn(x: Any) -> Any:
        raise NotImplementedError("tanh only")

    result = checked(rnn)

    assert (result.verdict, result.message, result.failed) == (Verdict.UNSUPPORTED, "tanh only", False)


def test_a_subject_that_returns_nothing_at_all_is_told_what_is_missing() -> None:
    class Empty:
        name = "empty"
        capabilities = Capabilities()

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Case) -> Outcome:
            return Outcome()

    result = check_agreement(Empty(), CASE)

    assert [(m.array, m.sort) for m in result.mismatches] == [
        ("output", MismatchKind.MISSING),
        ("h_n", MismatchKind.MISSING),
    ]


def test_different_answers_to_the_same_case_are_broken() -> None:
    answers = iter(range(100))
    result = check_repeatability(as_subject(lambda x: (x[..., :1] + next(answers), x)), draw(RNNConfig(1, 1)))
    steady = check_repeatability(as_subject(implementations.vectorised), CASE)

    assert (result.verdict, result.failed) == (Verdict.BROKEN, True)
    assert "not deterministic" in result.message
    assert steady.verdict is Verdict.AGREES


def test_the_same_failure_twice_is_repeatable() -> None:
    def rnn(x: Any) -> Any:
        raise ValueError("always")

    assert as_subject(rnn).run(CASE).failure is Failure.RAISED
    assert not check_repeatability(as_subject(rnn), CASE).failed


def test_a_failure_is_confirmed_by_more_than_one_further_run() -> None:
    runs: list[float] = []

    def late(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        runs.append(float(len(runs) >= 4))  # the fifth run is another one
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + output.dtype.type(1 + runs[-1]), h_n

    subject, case = as_subject(late), draw(RNNConfig(1, 1))
    failed = check_agreement(subject, case)

    assert confirmed(subject, case, failed, lambda one: check_agreement(subject, one)).nondeterministic


def test_inner_states_are_not_read_from_an_h_n_that_is_not_the_last_output() -> None:
    def halved(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n / 2

    result = check_agreement(as_subject(halved), draw(RNNConfig(3, 4, num_layers=2, N=2), "normal", 0))

    assert [(mismatch.array, mismatch.layer) for mismatch in result.mismatches] == [("h_n", None)]
