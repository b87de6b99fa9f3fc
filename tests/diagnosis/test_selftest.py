"""Tests of the self-test: what it says of faults that are found or cannot be, and of falsely accused subjects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import Case, RNNConfig, draw
from harness.checks.agreement import check_agreement
from harness.checks.result import Verdict
from harness.cli import codes, main
from harness.diagnosis import selftest as module
from harness.diagnosis.correct import (
    ARITHMETICS,
    CORRECT,
    compensated,
    correct_subject,
    from_the_last,
    fused,
    layer_of,
)
from harness.diagnosis.diagnose import Diagnosis
from harness.diagnosis.faults import CATALOGUE, Fault
from harness.diagnosis.selftest import Naming, Trial, acquitted_of, chosen, naming, selftest, tried_on
from harness.space.errors import UsageError
from harness.subjects.function import FunctionSubject
from tests.long import few

NAMED = {fault.name: fault for fault in CATALOGUE}
BIAS_HH, BIAS_IH = NAMED["IgnoresBiasHH"], NAMED["IgnoresBiasIH"]


NOTHING = Fault("ChangesNothing", "changes nothing", {}, family="bias", smallest=(RNNConfig(1, 1),))


def without_times(trial: Trial) -> Trial:
    kill = trial.kill and replace(trial.kill, shrink_seconds=0.0, explain_seconds=0.0)
    return replace(trial, seconds=0.0, kill=kill)


def test_a_fault_is_found_made_small_and_named() -> None:
    trial = tried_on(BIAS_HH)

    assert (trial.name, trial.family, trial.smallest) == ("IgnoresBiasHH", "bias", RNNConfig(1, 1))
    assert trial.checks >= 1
    assert trial.seconds > 0
    assert trial.passed
    kill = trial.kill
    assert kill is not None
    assert kill.minimal
    assert kill.plain
    assert kill.untried == ()
    assert (kill.naming, kill.certain) == (Naming.RIGHTLY, True)
    assert [cause.name for cause in kill.causes] == ["IgnoresBiasHH"]
    assert kill.shrink_checks > 0
    assert kill.shrink_seconds >= 0
    assert kill.explain_seconds > 0


def test_a_case_that_breaks_a_law_and_has_a_part_that_is_wrong_alone_is_made_smaller_still() -> None:
    kill = tried_on(NAMED["SkipsZeroXOfBatch"]).kill  # seed 0 meets it first by splitting a batch

    assert kill is not None
    assert kill.minimal
    assert kill.naming == Naming.RIGHTLY


def test_times_to_the_kill_and_after_it_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))

    trial = tried_on(NAMED["UpperLayersForgetState"])  # its shrinking takes long enough for a progress message

    assert trial.kill is not None
    assert (trial.seconds, trial.kill.shrink_seconds, trial.kill.explain_seconds) == (1.0, 1.0, 1.0)


def test_what_cannot_be_found_is_not_killed() -> None:
    trial = tried_on(NOTHING, cases=20)

    assert trial.kill is None
    assert trial.checks == 20
    assert not trial.passed


def test_what_cannot_be_found_is_exit_1_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "CATALOGUE", (NOTHING, BIAS_HH))

    code = main.cli.main(["selftest", "--family", "bias", "--examples", "20"], standalone_mode=False)

    assert code == codes.FINDING
    words = " ".join(capsys.readouterr().out.split())
    assert "not killed: 1 ChangesNothing 20 checks in" in words
    assert "1 of 2 faults killed" in words


def test_numbers_that_are_not_plain_are_said_to_be() -> None:
    tf32 = tried_on(NAMED["RoundsOperandsToTF32"])

    assert tf32.kill is not None
    assert not tf32.kill.plain


@pytest.mark.parametrize(("value", "plain"), [(0.5, True), (-2.0, True), (np.nan, False), (3.0, False), (0.25, False)])
def test_plain_numbers(value: float, plain: bool) -> None:
    weights: dict[str, Any] = {"weight_ih_l0": [[1]], "weight_hh_l0": [[-1]], "bias_ih_l0": [2], "bias_hh_l0": [0]}

    assert module._is_plain(Case.of(RNNConfig(1, 1, T=1, N=1), [[[value]]], **weights)) == plain
    assert module._is_plain(Case.of(RNNConfig(1, 1, T=1, N=1, hx=True), [[[0]]], [[[value]]], **weights)) == plain


def test_padding_need_not_be_plain() -> None:
    x = [[[1], [0]], [[2], [np.nan]]]
    weights: dict[str, Any] = {"weight_ih_l0": [[1]], "weight_hh_l0": [[-1]], "bias_ih_l0": [2], "bias_hh_l0": [0]}

    assert module._is_plain(Case.of(RNNConfig(1, 1, T=2, N=2, lengths=(2, 1)), x, **weights))
    assert not module._is_plain(Case.of(RNNConfig(1, 1, T=2, N=2, lengths=(2, 2)), x, **weights))


@pytest.mark.parametrize(
    ("causes", "fresh", "expected"),
    [
        ((BIAS_HH,), 10, Naming.RIGHTLY),
        ((BIAS_HH,), 0, Naming.RIGHTLY),
        ((BIAS_IH, BIAS_HH), 10, Naming.AMONG),
        ((BIAS_IH,), 10, Naming.WRONGLY),
        ((BIAS_IH,), 0, Naming.NOT),
        ((BIAS_IH, NAMED["IgnoresBiases"]), 10, Naming.NOT),
        ((), 0, Naming.NOT),
    ],
)
def test_each_way_to_be_named(causes: tuple[Fault, ...], fresh: int, expected: Naming) -> None:
    assert naming(BIAS_HH, Diagnosis(causes, len(CATALOGUE), fresh)) is expected
    assert naming(BIAS_HH, None) is Naming.NOT


@pytest.mark.long
def test_two_workers_give_the_rows_of_one_in_the_order_asked_for() -> None:
    faults = [NAMED["UpperLayersForgetState"], NOTHING]
    told: list[tuple[int, int, str]] = []

    one = selftest(faults, ["plain"], seed=2, cases=8, workers=1)
    two = selftest(faults, ["plain"], seed=2, cases=8, workers=2, told=lambda *words: told.append(words))

    assert [trial.name for trial in one.trials] == ["UpperLayersForgetState", "ChangesNothing"]
    assert list(map(without_times, one.trials)) == list(map(without_times, two.trials))
    assert [replace(acquittal, seconds=0.0) for acquittal in one.acquittals] == [
        replace(acquittal, seconds=0.0) for acquittal in two.acquittals
    ]
    assert sorted(told) == [(number, 3, name) for number, _, name in sorted(told)]
    assert {name for _, _, name in told} == {"UpperLayersForgetState", "ChangesNothing", "plain"}
    assert not one.passed  # a single fault has none


def test_an_interrupt_gives_what_was_done_so_far() -> None:
    def interrupted(done: int, of: int, name: str) -> None:
        raise KeyboardInterrupt

    done = selftest([BIAS_HH], ["kahan", "fused"], told=interrupted)

    assert done.interrupted
    assert [trial.name for trial in done.trials] == ["IgnoresBiasHH"]
    assert done.acquittals == []
    assert done.asked == 3


def test_a_false_alarm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(ARITHMETICS["plain"], product=lambda a, b: (a @ b) * a.dtype.type(1.001))
    monkeypatch.setitem(ARITHMETICS, "plain", wrong)

    acquittal = acquitted_of("plain", cases=1)

    assert acquittal.alarms
    assert acquittal.alarms[0].verdict == "disagrees"
    assert "RNNConfig" in acquittal.alarms[0].case


@pytest.mark.parametrize("name", few(CORRECT, lambda name: name != "torch"))  # of which more is asked
def test_a_correct_subject_raises_no_alarm(name: str) -> None:
    acquittal = acquitted_of(name, seed=3, cases=15)

    assert acquittal.checks == 15
    assert acquittal.alarms == ()


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
def test_correct_subjects_do_all_that_they_are_asked_for(name: str, config: RNNConfig) -> None:
    subject = FunctionSubject(layer_of(ARITHMETICS[name]), name)

    for seed in range(2):
        assert check_agreement(subject, draw(config, "normal", seed)).verdict is Verdict.AGREES


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


def test_everything_is_chosen_unless_some_are_named() -> None:
    assert chosen([]) == (list(CATALOGUE), list(CORRECT))
    assert chosen(["IgnoresBiasIH", "IgnoresBiasHH"]) == ([BIAS_HH, BIAS_IH], [])  # in the catalogue's order
    assert chosen(["kahan"]) == ([], ["kahan"])
    assert chosen(["correct"]) == ([], list(CORRECT))
    faults, correct = chosen(["IgnoresBiasIH"], ["layout"])
    assert {fault.family for fault in faults} == {"bias", "layout"}
    assert len([fault for fault in faults if fault.family == "bias"]) == 1
    assert correct == []


@pytest.mark.parametrize(
    ("names", "families", "words"),
    [
        (["IgnoresBiasHh"], [], "IgnoresBiasHh: no such fault; did you mean IgnoresBiasHH"),
        (["ignoresbiashh"], [], "did you mean IgnoresBiasHH"),
        ([], ["lay"], "lay: no such family; did you mean layout"),
        ([], ["IgnoresBiasHH"], "IgnoresBiasHH: no such family; expected bias, weights"),
        (["?"], [], "expected a fault's name, a family, or correct"),
    ],
)
def test_a_name_that_is_none_is_misuse(names: list[str], families: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        chosen(names, families)
