"""Tests of what people and programs read of a self-test."""

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from harness import RNNConfig, __version__
from harness.diagnosis.selftest import Acquittal, Alarm, Cause, Kill, Naming, Selftest, Trial
from harness.report.selftest import selftest_record, selftest_report, summary
from harness.store.document import as_json, write
from tests.report.test_wording import COARSE, assert_snapshot, rendered

ONE, TWO = RNNConfig(1, 1), RNNConfig(1, 1, N=2)

KILL = Kill(
    case="Case.of(RNNConfig(1, 1, T=1, N=1), x=[[[1.0]]])",
    config=ONE,
    verdict="disagrees",
    kind="output: value",
    minimal=True,
    plain=True,
    untried=(),
    shrink_checks=12,
    shrink_seconds=0.25,
    explain_seconds=0.5,
    naming=Naming.RIGHTLY,
    causes=(Cause("Forgets", "forgets something"),),
    certain=True,
    precision=None,
)
OTHER = Cause("Invents", "invents something")
RIGHT = Trial("Forgets", "bias", "forgets something", ONE, 3, 0.125, KILL)
LOOKS_ALIKE = replace(
    RIGHT,
    name="Mixes",
    checks=8,
    seconds=1.5,
    kill=replace(KILL, naming=Naming.AMONG, causes=(Cause("Mixes", "mixes something"), OTHER)),
)
WRONG = replace(
    RIGHT, name="Misnamed", family="nonlinearity", kill=replace(KILL, naming=Naming.WRONGLY, causes=(OTHER,))
)
UNNAMED = replace(
    RIGHT,
    name="Unnamed",
    family="nonlinearity",
    kill=replace(KILL, naming=Naming.NOT, causes=(), certain=False, precision=COARSE, plain=False),
)
LARGE = replace(
    RIGHT, name="Large", kill=replace(KILL, config=TWO, minimal=False, untried=("6,000 cases were checked",))
)
SURVIVES = replace(RIGHT, name="Survives", checks=1400, seconds=12.25, kill=None)

PLAIN = Acquittal("plain", "written step by step", 1400, 0, 12.5, ())
ACCUSED = replace(
    PLAIN, name="torch", refusals=696, alarms=(Alarm("suspect", "x.grad: suspicious", "draw(RNNConfig(1, 1))"),)
)

GOOD = Selftest(0, None, 1, 2, [RIGHT, LOOKS_ALIKE], [PLAIN], 3.2)
BAD = Selftest(7, 1400, 2, 8, [RIGHT, LOOKS_ALIKE, LARGE, SURVIVES, WRONG, UNNAMED], [PLAIN, ACCUSED], 312.5)


@pytest.mark.parametrize(("name", "done"), [("selftest", GOOD), ("selftest_exceptions", BAD)])
def test_reports(name: str, done: Selftest) -> None:
    assert_snapshot(name, rendered(selftest_report(done)))


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut_off(width: int) -> None:
    console = Console(file=StringIO(), width=width, highlight=False)
    many = [replace(trial, family="nonlinearity", checks=1399, seconds=12.345) for trial in BAD.trials] * 30
    console.print(selftest_report(replace(BAD, trials=many)))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]

    assert "…" not in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "150/180" in shown


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (GOOD, "2 of 2 faults killed, 2 at the true minimum, 1 named rightly, none wrongly; no false alarm in 1,400 "),
        (BAD, "5 of 6 faults killed, 4 at the true minimum, 2 named rightly, 1 wrongly; 1 false alarm in 2,800 checks"),
        (replace(GOOD, acquittals=[]), "none wrongly; in 3 s; --seed 0"),
        (replace(GOOD, trials=[]), "no false alarm in 1,400 checks of 1 correct subject; in 3 s; --seed 0"),
        (replace(GOOD, asked=9, interrupted=True), "interrupted after 3 of 9 subjects: 2 of 2 faults killed"),
        (Selftest(0, None, 1, 9, interrupted=True), "interrupted after 0 of 9 subjects: nothing was measured"),
    ],
)
def test_it_comes_to_one_sentence(done: Selftest, words: str) -> None:
    assert words in summary(done)


@pytest.mark.parametrize(
    ("trials", "acquittals", "passed"),
    [
        ([RIGHT, LOOKS_ALIKE, LARGE, UNNAMED], [PLAIN], True),
        ([RIGHT, SURVIVES], [], False),
        ([WRONG], [], False),
        ([RIGHT], [PLAIN, ACCUSED], False),
    ],
)
def test_what_passes(trials: list[Trial], acquittals: list[Acquittal], passed: bool) -> None:
    assert Selftest(0, None, 1, 4, trials, acquittals).passed is passed


def test_the_record_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    write(as_json("selftest", selftest_record(BAD)), "-")
    document: dict[str, Any] = json.loads(capsys.readouterr().out)

    assert {"python", "numpy", "torch", "hypothesis"} <= document["versions"].keys()
    assert document["versions"]["rnn-harness"] == __version__
    assert (document["passed"], document["false_alarms"], document["seed"], document["workers"]) == (False, 1, 7, 2)
    faults = {fault["name"]: fault for fault in document["faults"]}
    assert list(faults) == [trial.name for trial in BAD.trials]
    assert RNNConfig.from_dict(faults["Large"]["kill"]["config"]) == TWO
    assert RNNConfig.from_dict(faults["Large"]["smallest"]) == ONE
    assert not faults["Large"]["kill"]["certified"]
    assert faults["Survives"]["kill"] is None
    assert faults["Mixes"]["kill"]["look_alikes"] == ["Invents"]
    assert faults["Misnamed"]["kill"]["naming"] == "wrongly"
    assert faults["Unnamed"]["kill"]["precision"]["accepted_by"] == "tf32"
    assert (faults["Forgets"]["checks"], faults["Forgets"]["first_kill_seconds"]) == (3, 0.125)
    assert (faults["Forgets"]["kill"]["shrink_seconds"], faults["Forgets"]["kill"]["explain_seconds"]) == (0.25, 0.5)
    assert document["families"].keys() == {"bias", "nonlinearity"}
    assert document["total"]["killed"] == 5
    assert document["families"]["bias"]["checks_median"] == 3
    assert document["families"]["bias"]["first_kill_seconds_worst"] == 1.5
    assert [one["name"] for one in document["correct"]] == ["plain", "torch"]
    assert document["correct"][1]["alarms"][0]["verdict"] == "suspect"
