"""Tests of gradients and suspicions: each way of being wrong has a verdict and a name, and right results have none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Verdict, as_subject, cases, check_agreement, draw
from harness.checks.agreement import assess, observe
from harness.checks.case_checks import check
from harness.checks.result import ComparisonMethod, Result
from harness.oracle.arithmetic_assumptions import TOLERANCES, accepted
from harness.oracle.compare import MismatchKind
from harness.oracle.probe_units import probed
from harness.space.config import PREACTIVATION, role_of
from tests import implementations
from tests.oracle.by_hand import subject

CASE = draw(RNNConfig(2, 3, num_layers=2, T=4, N=2, hx=True, loss="both"), "normal", 0)


def checked(function: Any, case: Case = CASE) -> Result:
    return check_agreement(as_subject(function), case)


def with_gradients(change: Callable[[dict[str, Any], Any], Any], **wrong: Any) -> Callable[..., Any]:
    """Return a subject with correct outputs and changed gradients."""
    right = subject(**wrong)

    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        *outputs, gradients = right(x, h0, weights, config, cotangents)
        return (*outputs, change(dict(gradients), config) if config.loss else gradients)

    return rnn


@settings(max_examples=60)
@given(
    cases(
        T=[1, 2, 5],
        N=[1, 3],
        input_size=[1, 4],
        hidden_size=[1, 5],
        loss=["output", "h_n", "both"],
        output_size=[None, 2],
    )
)
def test_right_gradients_agree(case: Case) -> None:
    result = checked(subject(), case)

    assert result.verdict is Verdict.AGREES, result
    assert result.method is not ComparisonMethod.END_TO_END


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda g, c: {}, "x.grad: missing"),
        (lambda g, c: {n: a for n, a in g.items() if "hh_l1" not in n}, "weight_hh_l1.grad: missing"),
        (lambda g, c: {**g, "weight_ih_l0.grad": g["weight_ih_l0.grad"].T}, "weight_ih_l0.grad: shape"),
        (lambda g, c: {**g, "bias_hh_l1.grad": g["bias_hh_l1.grad"][:, None]}, "bias_hh_l1.grad: shape"),
        (lambda g, c: {**g, "x.grad": g["x.grad"].astype(float)}, "x.grad: dtype"),
        (lambda g, c: {**g, "x.grad": g["x.grad"] * np.float32(np.nan)}, "x.grad: finiteness"),
        (lambda g, c: {**g, "hx.grad": g["hx.grad"] + np.float32(np.inf)}, "hx.grad: finiteness"),
        (lambda g, c: {**g, "weight_hh_l0.grad": g["weight_hh_l0.grad"].T.copy()}, "weight_hh.grad: value"),
        (lambda g, c: {**g, "x.grad": None}, "the result: malformed"),
    ],
)
def test_each_way_in_which_a_gradient_fails_has_a_name_of_its_own(change: Any, kind: str) -> None:
    result = checked(with_gradients(change))

    assert (result.verdict, result.kind) == (Verdict.DISAGREES, kind)


def test_gradients_that_a_function_has_none_of_are_not_compared_and_others_are_ignored() -> None:
    part = with_gradients(
        lambda g, c: (
            {"time": 3.0, "weight_ih_l7": g["x.grad"]}
            | {n: a for n, a in g.items() if "bias" not in n and n != "hx.grad"}
        )
    )
    wrong = with_gradients(lambda g, c: {n: 2 * a for n, a in g.items() if "weight_hh" in n})

    result = check(as_subject(part), CASE)

    assert result.verdict is Verdict.AGREES, result
    assert {role_of(name) for name in result.not_compared} == {"hx", "bias_ih", "bias_hh"}
    assert set(result.ignored) == {"time", "weight_ih_l7"}
    assert checked(wrong).kind == "weight_hh.grad: value"


def test_no_gradients_at_all_are_missing_and_a_subject_that_takes_no_cotangents_is_not_asked() -> None:
    def without(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config)

    result = checked(without)

    assert result.verdict is Verdict.DISAGREES
    assert [(m.array, m.sort) for m in result.mismatches] == [(n, MismatchKind.MISSING) for n in CASE.config.gradients]
    assert checked(implementations.vectorised).verdict is Verdict.UNSUPPORTED
    assert checked(without, CASE.forward()).verdict is Verdict.AGREES


def test_a_gradient_that_stops_at_every_step_is_found_where_there_are_two() -> None:
    truncated = subject(carry=False)

    result = checked(truncated)

    assert result.verdict is Verdict.DISAGREES
    assert result.kind.startswith("x.grad")
    assert checked(truncated, draw(CASE.config.replace(T=1), "normal", 0)).verdict is Verdict.AGREES


def test_a_gradient_that_is_averaged_over_the_batch_is_right_for_one_sequence_only() -> None:
    def averaged(gradients: dict[str, Any], config: Any) -> Any:
        return {n: a if n in {"x.grad", "hx.grad"} else a / a.dtype.type(config.N) for n, a in gradients.items()}

    result = checked(with_gradients(averaged))

    assert result.verdict is Verdict.DISAGREES
    assert {m.array for m in result.mismatches} == set(CASE.config.gradients) - {"x.grad", "hx.grad"}
    one = draw(CASE.config.replace(N=1), "normal", 0)
    assert checked(with_gradients(averaged), one).verdict is Verdict.AGREES


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_inner_gradient_that_is_off_by_little_is_seen_with_probes(nonlinearity: str, layer: int) -> None:
    def tamper(da: Any, at: int, t: int) -> Any:
        return da * da.dtype.type(1 + 1e-5 * (at == layer and t == 1))

    case = draw(RNNConfig(4, 8, 3, nonlinearity, T=12, N=2, loss="h_n"), "normal", 2)

    result = checked(subject(tamper=tamper), case)

    assert result.verdict is Verdict.DISAGREES
    found = [m for m in result.mismatches if m.array == PREACTIVATION]
    assert all(m.probed for m in result.mismatches)
    assert layer in {m.layer for m in found}  # also above it, as it spoils what it carries
    assert not {m.layer for m in found} & set(range(layer))
    assert {site.place["t"] for m in found if m.layer == layer for site in m.sites} == {1}
    observation = observe(as_subject(subject(tamper=tamper)), case)
    blind = assess(replace(observation, probed=None))
    assert not blind.failed  # the sums over all steps hide it


def test_an_upper_layer_s_slope_that_is_another_function_s_is_found() -> None:
    def tamper(da: Any, at: int, t: int) -> Any:
        return da * (da.dtype.type(0.5) if at == 1 else da.dtype.type(1))

    result = checked(subject(tamper=tamper))

    assert result.verdict is Verdict.DISAGREES
    assert not result.mismatches[0].probed  # this much is seen without probes


def test_probes_are_not_asked_of_who_cannot_and_of_no_forward_pass() -> None:
    asked: list[RNNConfig] = []

    class Narrow:
        name = "narrow"
        capabilities = Capabilities(offers={"loss": ("both",)})

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Case) -> Outcome:
            asked.append(case.config)
            if case.config.hidden_size != 3:
                return Outcome(failure=Failure.UNSUPPORTED, message="three units only")
            return as_subject(subject()).run(case)

    assert check_agreement(Narrow(), CASE).verdict is Verdict.AGREES
    assert probed(CASE).config in asked
    asked.clear()
    assert check_agreement(Narrow(), CASE.forward()).verdict is Verdict.AGREES
    assert all(config.hidden_size == 3 for config in asked)


def biased(by: float) -> Callable[..., Any]:
    def change(name: str, array: Any) -> Any:
        return array * array.dtype.type(1 + by) if name.startswith("bias_hh") else array

    return implementations.changed_weights(change)


LONG = draw(RNNConfig(512, 512, bias=True), "normal", 3)
"""A case whose sums are so long that the worst possible loss hides what never gets lost, and whose weights are so small
that tanh shows it.
"""
LONG = Case(
    LONG.config, LONG.x, None, {n: a / np.float32(32) if n.startswith("weight") else a for n, a in LONG.weights.items()}
)


def test_a_bias_that_is_off_by_one_in_a_hundred_thousand_is_suspicious_where_nothing_is_proved() -> None:
    result = checked(biased(1e-5), LONG)

    assert (result.verdict, result.kind) == (Verdict.SUSPECT, "output: value")
    assert not result.failed
    assert {m.sort for m in result.mismatches} == {MismatchKind.SUSPICIOUS}
    assert all(site.difference > site.tolerance for m in result.mismatches for site in m.sites)
    assert all(site.equation is not None for m in result.mismatches for site in m.sites)
    assert checked(biased(0.0), LONG).verdict is Verdict.AGREES


def test_what_is_off_by_more_is_proved_and_no_suspicion() -> None:
    result = checked(biased(1e-2), LONG)

    assert result.verdict is Verdict.DISAGREES
    assert {m.sort for m in result.mismatches} == {MismatchKind.VALUE}


@pytest.mark.parametrize("tolerance", ["rtol=1e-4,atol=1e-4", "bf16"])
def test_a_tolerance_that_the_user_accepts_leaves_no_suspicion(tolerance: str) -> None:
    assert check_agreement(as_subject(biased(1e-5)), LONG, accepted=accepted(tolerance)).verdict is Verdict.AGREES


def test_rounded_operands_disagree_unless_the_tolerance_has_them() -> None:
    import ml_dtypes

    def rounded(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        kept = {
            name: array.astype(ml_dtypes.bfloat16).astype(np.float32) if name.startswith("weight_ih") else array
            for name, array in weights.items()
        }
        return implementations.vectorised(x.astype(ml_dtypes.bfloat16).astype(np.float32), h0, kept, config)

    case = draw(RNNConfig(8, 4, T=3, N=2), "normal", 0)

    assert checked(rounded, case).verdict is Verdict.DISAGREES
    assert check_agreement(as_subject(rounded), case, accepted=TOLERANCES["bf16"]).verdict is Verdict.AGREES


def test_sums_that_run_backwards_in_a_stack_agree() -> None:
    verdicts = set()
    for seed in range(40):
        for nonlinearity in ("tanh", "relu"):
            case = draw(RNNConfig(4, 4, 3, nonlinearity, T=5, N=2), "saturated", seed)
            verdicts.add(checked(implementations.order_by_depth, case).verdict)

    assert verdicts == {Verdict.AGREES}


@settings(max_examples=40)
@given(
    cases(
        T=[1, 3],
        N=[1, 2],
        input_size=[1, 4],
        hidden_size=[1, 5],
        loss=[None, "output", "h_n", "both"],
        dtypes=["bfloat16", "float16"],
        output_size=[None, 2],
    )
)
def test_sixteen_bits_by_hand_agree(case: Case) -> None:
    result = checked(subject(work="float32"), case)

    assert result.verdict is Verdict.AGREES, result


def test_a_subject_that_offers_gradients_by_weights_alone_is_asked_for_no_probes() -> None:
    def of_weights(gradients: dict[str, Any], config: Any) -> dict[str, Any]:
        return {name: gradient for name, gradient in gradients.items() if name not in {"x", "hx"}}

    rnn: Any = with_gradients(of_weights)
    rnn.offers = {"wrt": ("weights",)}
    case = draw(CASE.config.replace(wrt="weights"), "normal", 0)

    observation = observe(as_subject(rnn), case)

    assert observation.probed is None
    assert assess(observation).verdict is Verdict.AGREES


@pytest.mark.parametrize("tolerance", ["derived", "rtol=1e-3", "atol=1e-3"])
def test_what_is_exempt_stays_exempt_under_a_looser_tolerance(tolerance: str) -> None:
    def without_nan(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return tuple(np.nan_to_num(array) for array in implementations.vectorised(x, h0, weights, config))

    case = draw(RNNConfig(2, 3, T=2, N=1), "normal", 0)
    infinite = {**case.arrays, "weight_ih_l0": np.full((3, 2), np.inf, np.float32)}  # with these, nothing is settled

    with np.errstate(invalid="ignore"):
        result = checked_under(without_nan, Case.from_arrays(case.config, infinite), tolerance)

    assert result.verdict is Verdict.AGREES


def checked_under(function: Any, case: Case, tolerance: str) -> Result:
    return check_agreement(as_subject(function), case, accepted=accepted(tolerance))
