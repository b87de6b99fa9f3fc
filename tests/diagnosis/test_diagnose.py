"""Tests of diagnosis: it names the right cause, and none if the catalogue has none."""

from typing import Any

import numpy as np
import pytest

from benchmarks.planted import PlantedSubject
from harness import Case, RNNConfig, Scope, Verdict, as_subject, draw, hunt
from harness.checks.agreement import check_agreement
from harness.checks.result import Result
from harness.diagnosis.diagnose import EVIDENCE, Diagnosis, diagnose
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.observations import Observations
from harness.oracle.compare import Mismatch, Sort
from harness.search.evidence import Certificate
from harness.search.record import Finding
from tests import implementations


def diagnosed(function: Any, scope: Scope | None = None) -> Diagnosis | None:
    subject = as_subject(function)
    record = hunt(subject, scope)
    assert record.finding is not None
    return diagnose(Observations(subject), record.finding, record.scope)


def adds_state_after_nonlinearity(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    below, last = x, []
    for layer, h in enumerate(h0):
        w_ih, w_hh, b_ih, b_hh = (
            weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        states = []
        for x_t in below:
            h = np.tanh(x_t @ w_ih.T + b_ih) + h @ w_hh.T + b_hh
            states.append(h)
        below = np.stack(states)
        last.append(h)
    return below, np.stack(last)


def adds_x_to_output(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return (output + x if output.shape == x.shape else output), h_n


PLAIN = Scope().only(bias=True, nonlinearity="tanh", batch_first=False, bidirectional=False, output_size=None)


@pytest.mark.parametrize(
    ("function", "scope", "name"),
    [
        (adds_state_after_nonlinearity, PLAIN, "AddsStateAfterNonlinearity"),
        (adds_x_to_output, Scope().only(output_size=None), "AddsXToOutput"),
        (implementations.without_b_hh, None, "IgnoresBiasHH"),
        (implementations.transposed_recurrence, None, "TransposesWeightHH"),
        (implementations.reverse_first, None, "ReverseBeforeForward"),
        (implementations.zero_start, None, "IgnoresHx"),
    ],
)
def test_mistakes_written_by_hand_are_named(function: Any, scope: Scope | None, name: str) -> None:
    diagnosis = diagnosed(function, scope)

    assert diagnosis is not None
    assert diagnosis.certain
    assert diagnosis.causes[0].name == name
    assert diagnosis.fresh > 0


@pytest.mark.parametrize("function", [implementations.wide_reverse_is_off, implementations.late_drift])
def test_a_mistake_that_is_in_no_catalogue_gets_no_name(function: Any) -> None:
    diagnosis = diagnosed(function)

    assert diagnosis is not None
    assert diagnosis.causes == ()
    assert diagnosis.tried == len(CATALOGUE)


@pytest.mark.parametrize(
    "name", ["SkipsZeroX", "SkipsZeroXAndOutput", "ResetsAtZeroX", "SkipsZeroXOfBatch", "SkipsZeroXOfBatchAndOutput"]
)
def test_what_is_done_instead_of_a_step_whose_x_is_zero_is_told_apart(name: str) -> None:
    ones: dict[str, Any] = {"weight_ih_l0": [[0]], "weight_hh_l0": [[0]], "bias_ih_l0": [1], "bias_hh_l0": [0]}
    case = Case.of(RNNConfig(1, 1, T=1, N=1), x=[[[0]]], **ones)  # where all of them give zero
    subject = PlantedSubject(next(fault for fault in CATALOGUE if fault.name == name))

    diagnosis = diagnose(Observations(subject), Finding(name, case, check_agreement(subject, case), Certificate()))

    assert named(diagnosis) == [name]
    assert diagnosis is not None
    assert diagnosis.certain


def test_an_infinity_out_of_place_is_no_matter_of_precision() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        found = implementations.vectorised(x, h0, weights, config)
        return tuple(np.full_like(a, np.inf) for a in found)

    diagnosis = diagnosed(rnn, Scope().only(dtype="float32"))

    assert diagnosis is not None
    assert (diagnosis.causes, diagnosis.precision) == ((), None)


def named(diagnosis: Diagnosis | None) -> list[str]:
    assert diagnosis is not None
    return [cause.name for cause in diagnosis.causes]


@pytest.mark.parametrize(
    "where",
    [
        lambda config: config.hidden_size <= 2,
        lambda config: not config.bidirectional,
        lambda config: config.hidden_size >= 9 and config.batch_first,
    ],
)
def test_a_known_mistake_that_is_made_under_a_condition_is_named_and_its_exceptions_counted(where: Any) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        wrong = {name: array * (not (where(config) and "bias_hh" in name)) for name, array in weights.items()}
        return implementations.vectorised(x, h0, wrong, config)

    diagnosis = diagnosed(rnn, Scope().only(bidirectional=[False, True]))

    assert named(diagnosis) == ["IgnoresBiasHH"]
    assert diagnosis is not None
    assert diagnosis.certain
    assert diagnosis.spared > 0


def test_what_only_looks_like_a_known_mistake_on_the_smallest_case_is_not_named_after_it() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        # half of b_hh is lost; on a case with no other bias, that looks as if b_ih stood in its place
        wrong = {name: array * (0.5 if "bias_hh" in name else 1) for name, array in weights.items()}
        return implementations.vectorised(x, h0, {n: a.astype(x.dtype) for n, a in wrong.items()}, config)

    assert named(diagnosed(rnn)) == []


def test_what_rare_values_alone_have_for_a_known_mistake_is_chance() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        # where nn.RNN's is NaN, several faults are equally near to this
        return implementations.vectorised(np.clip(x, -8, 8), h0, weights, config)

    case = draw(RNNConfig(2, 2), "normal", 1)
    case = Case.from_arrays(case.config, {**case.arrays, "x": np.full_like(case.x, np.inf)})
    result = check_agreement(as_subject(rnn), case)
    assert result.failed

    observations = Observations(as_subject(rnn))
    assert named(diagnose(observations, Finding("mine", case, result), Scope.around(case.config))) == []


def test_a_suspicion_convicts_no_fault() -> None:
    case = draw(RNNConfig(2, 3), "normal", 1)
    correct_without_it = {**case.arrays, "bias_hh_l0": np.zeros(3, np.float32)}
    case = Case.from_arrays(case.config, correct_without_it)
    suspected = Result(Verdict.SUSPECT, (Mismatch("output", Sort.SUSPICIOUS),))

    observations = Observations(as_subject(implementations.without_b_hh))
    assert named(diagnose(observations, Finding("mine", case, suspected))) == []


def both(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute the layer without b_hh, starting from zeros."""
    return implementations.without_b_hh(x, h0 * 0, weights, config)


def test_two_mistakes_that_always_come_together_are_named_as_a_pair() -> None:
    # Bias and hx always occur together here, so neither mistake is seen alone.
    diagnosis = diagnosed(both, Scope().only(bias=True, hx=True, dtype="float64"))

    assert diagnosis is not None
    assert diagnosis.pairs > 0
    assert named(diagnosis) == ["IgnoresBiasHH"]  # of the two mistakes, the one that the smallest case shows
    assert [other.name for other in diagnosis.elsewhere if isinstance(other, Fault)] == ["IgnoresHx"]
    assert diagnosis.certain


def test_a_cause_is_certain_only_alone_and_on_fresh_cases() -> None:
    assert Diagnosis(CATALOGUE[:1], 17, EVIDENCE).certain
    assert not Diagnosis(CATALOGUE[:1], 17, EVIDENCE - 1).certain
    assert not Diagnosis(CATALOGUE[:2], 17, 5).certain


def test_a_wrong_shape_needs_no_cause() -> None:
    assert diagnosed(lambda x, h0: (x[..., :0], h0)) is None


def test_a_crash_needs_no_cause() -> None:
    def rnn(x: Any) -> Any:
        raise ValueError("boom")

    assert diagnosed(rnn) is None


def test_the_parameters_concerned_are_named() -> None:
    fault = next(fault for fault in CATALOGUE if fault.name == "IgnoresBiasHH")

    assert fault.concerned(RNNConfig(1, 1, num_layers=2)) == ["bias_hh_l0", "bias_hh_l1"]
