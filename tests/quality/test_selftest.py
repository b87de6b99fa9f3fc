"""Tests of the self-test, and of the correct layers that it must not accuse."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import selftest, throughput
from benchmarks.correct_layers import ARITHMETICS, CORRECT, compensated, correct_subject, from_the_last, fused, layer_of
from benchmarks.planted import Fault, named
from benchmarks.selftest import Naming, correct, naming, trial, trial_of
from harness import Case, RNNConfig, draw
from harness.checks.agreement import check_agreement
from harness.checks.result import Verdict
from harness.diagnosis.finding_explainer import Diagnosis
from harness.subjects.function import FunctionSubject
from tests.causes import WITHOUT_B_HH
from tests.long import few

NOTHING = Fault("ChangesNothing", "changes nothing", {}, family="bias", smallest=(RNNConfig(1, 1),))


def test_the_start_of_a_search_is_measured_to_its_first_run() -> None:
    assert throughput.first_run() > 0


def test_a_fault_is_found_made_small_and_named() -> None:
    found = trial("IgnoresBiasHH")

    assert (found.found, found.minimal, found.plain, found.naming) == (True, True, True, Naming.RIGHT)
    assert found.passed


def test_a_fault_that_shows_nowhere_is_not_found() -> None:
    assert trial_of(NOTHING, cases=20) == selftest.Trial("ChangesNothing", "bias", 20)
    assert not trial_of(NOTHING, cases=20).passed


def test_each_way_to_be_named() -> None:
    assert naming(named("IgnoresBiasHH"), WITHOUT_B_HH, RNNConfig(1, 1)) is Naming.RIGHT
    assert naming(named("IgnoresBiasIH"), WITHOUT_B_HH, RNNConfig(1, 1)) is Naming.WRONG
    assert naming(named("IgnoresBiasHH"), Diagnosis(), RNNConfig(1, 1)) is Naming.NONE
    assert naming(named("IgnoresBiasHH"), None, RNNConfig(1, 1)) is Naming.NONE


@pytest.mark.parametrize(("value", "plain"), [(0.5, True), (-2.0, True), (3.0, False), (0.25, False)])
def test_plain_numbers(value: float, plain: bool) -> None:
    weights: dict[str, Any] = {"weight_ih_l0": [[1]], "weight_hh_l0": [[-1]], "bias_ih_l0": [2], "bias_hh_l0": [0]}
    x = [[[1], [0]], [[value], [np.nan]]]

    assert selftest.is_plain(Case.of(RNNConfig(1, 1, T=2, N=2, lengths=(2, 1)), x, **weights)) is plain


def test_a_false_alarm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(ARITHMETICS["plain"], product=lambda a, b: (a @ b) * a.dtype.type(1.001))
    monkeypatch.setitem(ARITHMETICS, "plain", wrong)

    (alarm, *_) = correct("plain", cases=1).alarms

    assert alarm.startswith("disagrees: ")


def test_the_command_prints_a_table_and_exits_with_1_where_a_fault_is_not_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selftest.py", "IgnoresBiasHH", "plain", "--examples", "20"])
    assert selftest.main() == 0
    out = capsys.readouterr().out
    assert "total                1      1" in out
    assert "plain: 0 false alarms in 20 checks" in out

    monkeypatch.setattr(sys, "argv", ["selftest.py", "AddsInfinitiesOnlyInPadding", "--examples", "1"])
    with pytest.raises(SystemExit, match="expected names of faults"):
        selftest.main()


@pytest.mark.parametrize("name", few(CORRECT, lambda name: name != "torch"))  # of which more is asked
def test_a_correct_layer_raises_no_alarm(name: str) -> None:
    searched = correct(name, seed=3, cases=15)

    assert (searched.checks, searched.alarms) == (15, ())


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize(
    "config",
    [
        RNNConfig(3, 4, 2, bidirectional=True, T=3, N=2, hx=True, loss="both", output_size=2),
        RNNConfig(2, 3, 2, "relu", bidirectional=True, T=4, N=3, hx=True, lengths=(2, 4, 1), loss="both"),
        RNNConfig(2, 3, 3, T=3, N=2, dropout=0.5, training=True, loss="output", batch_first=True),
        RNNConfig(2, 3, 2, T=3, batched=False, hx=True, loss="h_n", dtype="float64"),
        RNNConfig(9, 17, T=1, N=0, bias=False, loss="both"),
    ],
    ids=str,
)
def test_correct_layers_do_all_that_they_are_asked_for(name: str, config: RNNConfig) -> None:
    subject = FunctionSubject(layer_of(ARITHMETICS[name]), name)

    assert check_agreement(subject, draw(config, "normal", 0)).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("product", "terms", "factors", "expected"),
    [
        (from_the_last, [1, 2**-24, 2**-24], [1, 1, 1], 1 + 2**-23),
        (compensated, [1, *[2**-24] * 64], [1] * 65, 1 + 2**-18),
        (fused, [-1 - 2**-11, 1 + 2**-12], [1, 1 + 2**-12], 2**-24),
    ],
)
def test_sums_round_as_they_say(product: Any, terms: list[float], factors: list[float], expected: float) -> None:
    a, b = np.array([terms], np.float32), np.array([factors], np.float32).T

    assert product(a, b) == np.float32(expected)


@pytest.mark.parametrize("name", ["reversed", "kahan", "fused", "wide", "wide-steps", "tiles"])
def test_each_arithmetic_is_one_of_its_own(name: str) -> None:
    def ran(which: str) -> bytes:
        with correct_subject(which) as subject:
            arrays: dict[str, Any] = dict(subject.run(draw(RNNConfig(33, 33, 2, T=9, N=5, loss="both"))).arrays)
        return b"".join(array.tobytes() for array in arrays.values())

    assert ran(name) != ran("plain")
