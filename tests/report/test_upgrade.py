"""Tests of what differs between two interpreters, for which two functions stand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness import as_subject, scope_of
from harness.cli.check import exit_code
from harness.cli.codes import AGREES, FINDING
from harness.pipeline import UpgradeRun, run_pipeline
from harness.report.finding_entry import SubjectFindings
from harness.report.junit import junit
from harness.report.upgrade import DefectStanding, UpgradeComparison, compared, upgrade_record, upgrade_report
from harness.search.search_options import SearchOptions
from tests import implementations
from tests.report.test_wording import rendered
from tests.unrun import let_scripts_fail_unrun

SMALL = dict.fromkeys(("T", "N", "input_size", "hidden_size"), (1, 2, 3))
PINS = {**SMALL, "num_layers": (1, 2), "bidirectional": False, "preparation": "new", "dtype": "float32"}


def right(_config: Any, output: Any, h_n: Any) -> Any:
    return output, h_n


def layer(change: Callable[..., Any], base: Callable[..., Any] = implementations.vectorised) -> Any:
    """Return a function of a layer that does what ``change`` makes of its config and of the right result."""

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.num_layers > 1:
            raise NotImplementedError("one layer only")
        output, h_n = base(x, h0, weights, config)
        return change(config, output.copy(), h_n.copy())

    return rnn


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 40)
    let_scripts_fail_unrun(monkeypatch)


def both(
    tmp_path: Path, old: Any, new: Any, cases: int = 60, **pins: Any
) -> tuple[UpgradeComparison, list[SubjectFindings]]:
    """Search both with one plan, and compare them."""
    subjects = as_subject(old), as_subject(new)
    scopes = [scope_of(subject).only(**{**PINS, **pins}) for subject in subjects]
    upgrading = UpgradeRun((subjects[0], scopes[0]), (subjects[1], scopes[1]), cases, None)
    done = [
        run_pipeline(
            subject,
            scope,
            SearchOptions(cases, narrowed=upgrading.narrowed(number)),
            folder=str(tmp_path / str(number)),
            warn=pytest.fail,
        )
        for number, (subject, scope) in enumerate(zip(subjects, scopes, strict=True))
    ]
    found = upgrading.compared(*done)
    assert found is not None
    assert json.dumps(upgrade_record(found), allow_nan=False)
    assert rendered(upgrade_report(found))
    return found, done


def test_defects_are_new_in_both_or_gone_and_the_new_interpreter_decides(tmp_path: Path) -> None:
    def old(config: Any, output: Any, h_n: Any) -> Any:
        if config.N == 3:
            raise ValueError("three")
        return (output + 0.5 if config.T == 2 else output), h_n

    def new(config: Any, output: Any, h_n: Any) -> Any:
        if config.T == 3:
            raise KeyError("three")
        return (output + 0.5 if config.T == 2 else output), h_n

    found, done = both(tmp_path, layer(old), layer(new), batch_first=False)

    kinds = {standing: [one.kind for one in found.of(standing)] for standing in DefectStanding}
    errors = {DefectStanding.NEW: ["broken: KeyError"], DefectStanding.GONE: ["broken: ValueError"]}
    assert kinds == {**errors, DefectStanding.BOTH: ["output: value"]}
    assert exit_code([one.examination for one in done], found) == FINDING
    assert found.behaviour == ()


def test_what_is_mended_is_gone_and_the_exit_code_is_that_of_the_new_interpreter(tmp_path: Path) -> None:
    found, done = both(tmp_path, layer(lambda _, output, h_n: (output, -h_n)), layer(right), cases=200)

    assert [one.standing for one in found.defects] == [DefectStanding.GONE]
    assert found.worst is DefectStanding.GONE
    assert exit_code([one.examination for one in done], found) == AGREES
    assert exit_code([one.examination for one in done]) == FINDING
    before, after, between = ET.fromstring(junit(done, found))  # noqa: S314 - ours
    assert [suite.attrib["failures"] for suite in (before, after, between)] == ["0", "0", "0"]
    assert next(one.attrib["message"][:24] for one in before.iter("skipped")) == "in the old interpreter: "
    names = [one.attrib["name"] for one in between.iter("testcase") if not len(one)]
    [one] = done[0].findings
    assert names == [f"gone: {one.id}  {one.cause} ({one.certainty})", "no new finding"]
    alone, _ = ET.fromstring(junit(done))  # noqa: S314 - ours
    assert alone.attrib["failures"] == "1"


def test_cases_with_the_same_bits_are_counted(tmp_path: Path) -> None:
    def summed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        one = implementations.plain_python if config.batch_first else implementations.vectorised
        return one(x, h0, weights, config)

    found, done = both(tmp_path, layer(right), layer(right, summed))

    turned = dict(done[1].examination.hunt.coverage.factors["batch_first"])[True]
    assert (found.defects, found.behaviour) == ((), ())
    assert found.compared == done[1].examination.hunt.total == 60
    assert 60 - turned <= found.equal < 60


def test_both_are_asked_what_both_support_and_the_rest_is_told_once(tmp_path: Path) -> None:
    def old(config: Any, output: Any, h_n: Any) -> Any:
        if config.nonlinearity == "relu":
            raise NotImplementedError("tanh only")
        return output, h_n

    def new(config: Any, output: Any, h_n: Any) -> Any:
        if config.T == 3:
            raise NotImplementedError("short ones")
        return output, h_n

    found, done = both(tmp_path, layer(old), layer(new))

    hunts = [one.examination.hunt for one in done]
    assert hunts[0].scope == hunts[1].scope
    assert set(hunts[0].scope.nonlinearity) == {"tanh"}
    assert [list(hunt.refused) for hunt in hunts][1] == ["num_layers=2"]
    assert [tuple(one) for one in found.behaviour] == [("nonlinearity=relu", "refuses: tanh only", "supports it")]
    assert found.compared < hunts[0].total == 60
    assert found.equal == found.compared > 20
    assert found.defects == ()


def test_another_exception_at_the_same_cases_is_no_new_finding(tmp_path: Path) -> None:
    def raising(kind: type[Exception]) -> Callable[..., Any]:
        def change(config: Any, output: Any, h_n: Any) -> Any:
            if config.T == 2:
                raise kind("cannot")
            return output, h_n

        return change

    found, _ = both(tmp_path, layer(raising(ValueError)), layer(raising(TypeError)))

    assert {one.standing for one in found.defects} == {DefectStanding.BOTH}


def test_a_value_that_fails_at_once_is_a_defect_and_not_a_refusal(tmp_path: Path) -> None:
    def fails(config: Any, output: Any, h_n: Any) -> Any:
        return (output[0] if config.nonlinearity == "relu" else output), h_n

    found, _ = both(tmp_path, layer(right), layer(fails))

    assert [one.standing for one in found.defects] == [DefectStanding.NEW]
    assert found.defects[0].text.startswith("fails at nonlinearity=relu: ")
    assert found.behaviour == ()


def test_where_nothing_is_supported_by_both_each_is_searched_alone(tmp_path: Path) -> None:
    def only(nonlinearity: str) -> Callable[..., Any]:
        def change(config: Any, output: Any, h_n: Any) -> Any:
            if config.nonlinearity != nonlinearity:
                raise NotImplementedError(f"{nonlinearity} only")
            return output, h_n

        return change

    found, done = both(tmp_path, layer(only("tanh")), layer(only("relu")))

    assert found.compared == 0
    assert [set(one.examination.hunt.scope.nonlinearity) for one in done] == [{"tanh"}, {"relu"}]
    assert {one.what for one in found.behaviour} == {"nonlinearity=tanh", "nonlinearity=relu"}


def test_a_finding_that_the_other_search_did_not_come_to_is_run_there(tmp_path: Path) -> None:
    found, (old, new) = both(tmp_path, layer(right), layer(lambda _, output, h_n: (output, -h_n)))

    assert [one.standing for one in found.defects] == [DefectStanding.NEW]
    for elsewhere in (True, False):
        shows = (lambda _, found=elsewhere: found), (lambda _, found=elsewhere: found)
        [forth], [back] = compared(old, new, (), shows).defects, compared(new, old, (), shows).defects
        assert forth.standing is (DefectStanding.BOTH if elsewhere else DefectStanding.NEW)
        assert back.standing is (DefectStanding.BOTH if elsewhere else DefectStanding.GONE)
