"""Tests of what differs between two environments, for which two functions stand."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness import Case, as_subject, scope_of
from harness.checks.compare_subjects import Between, Held, between
from harness.cli.check import exit_code
from harness.cli.codes import AGREES, FINDING
from harness.diagnosis.upgrade import Side, Standing, Upgrade, upgrade
from harness.pipeline import Examined, Upgrading, run_pipeline
from harness.report.complaints import summary_of
from harness.report.facts import cause_of
from harness.report.junit import junit
from harness.report.upgrade import upgrade_record, upgrade_report
from harness.search.options import Options
from harness.search.plan import units
from harness.search.record import Hunt
from harness.search.search import hunt
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
    monkeypatch.setattr("harness.search.budget.AFTER", 40)
    let_scripts_fail_unrun(monkeypatch)


def both(tmp_path: Path, old: Any, new: Any, cases: int = 60, **pins: Any) -> tuple[Upgrade, list[Examined]]:
    """Search both with one plan, and compare them."""
    subjects = as_subject(old), as_subject(new)
    scopes = [scope_of(subject).only(**{**PINS, **pins}) for subject in subjects]
    upgrading = Upgrading((subjects[0], scopes[0]), (subjects[1], scopes[1]), cases, None)
    done = [
        run_pipeline(
            subject,
            scope,
            Options(cases, narrowed=upgrading.narrowed(number)),
            folder=str(tmp_path / str(number)),
            warn=pytest.fail,
            observe=upgrading.observing(number, None),
        )
        for number, (subject, scope) in enumerate(zip(subjects, scopes, strict=True))
    ]
    found = upgrading.compared(*done)
    assert found is not None
    told = [one for each in done for one in each.told]
    assert json.dumps(upgrade_record(found, told), allow_nan=False)
    assert rendered(upgrade_report(found, told))
    return found, done


def test_defects_are_new_in_both_or_gone_and_the_new_environment_decides(tmp_path: Path) -> None:
    def old(config: Any, output: Any, h_n: Any) -> Any:
        if config.N == 3:
            raise ValueError("three")
        return (output + 0.5 if config.T == 2 else output), h_n

    def new(config: Any, output: Any, h_n: Any) -> Any:
        if config.T == 3:
            raise KeyError("three")
        return (output + 0.5 if config.T == 2 else output), h_n

    found, done = both(tmp_path, layer(old), layer(new), batch_first=False)

    kinds = {standing: [one.result.kind for one in found.of(standing)] for standing in Standing}
    errors = {Standing.NEW: ["broken: KeyError"], Standing.GONE: ["broken: ValueError"]}
    assert kinds == {**errors, Standing.OLD: ["output: value"]}
    assert exit_code([one.examination for one in done], found) == FINDING
    # What one raises and the other computes is a finding, and nothing else.
    assert {(one.old, one.new) for one in found.behaviour} == {("raises ValueError", "raises KeyError")}


def test_what_is_mended_is_gone_and_the_exit_code_is_that_of_the_new_environment(tmp_path: Path) -> None:
    found, done = both(tmp_path, layer(lambda _, output, h_n: (output, -h_n)), layer(right), cases=200)

    assert [one.standing for one in found.defects] == [Standing.GONE]
    assert not found.in_new
    assert exit_code([one.examination for one in done], found) == AGREES
    assert exit_code([one.examination for one in done]) == FINDING
    summaries = [summary_of(one.examination, one.told) for one in done]
    before, after, between = ET.fromstring(junit(summaries, found, done[0].told))  # noqa: S314 - ours
    assert [suite.attrib["failures"] for suite in (before, after, between)] == ["0", "0", "0"]
    assert next(one.attrib["message"][:24] for one in before.iter("skipped")) == "in the old environment: "
    names = [one.attrib["name"] for one in between.iter("testcase") if not len(one)]
    [told] = done[0].told
    assert names == [f"gone: {told.finding.id}  {' ('.join(cause_of(told))})", "no new finding"]
    alone, _ = ET.fromstring(junit(summaries))  # noqa: S314 - ours
    assert alone.attrib["failures"] == "1"


def test_roundings_are_counted_with_the_largest_and_the_rest_is_equal_to_the_bit_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[Case] = []

    def counted(case: Case, *held: Held) -> Between:
        again.append(case)
        return between(case, *held)

    monkeypatch.setattr("harness.diagnosis.upgrade.between", counted)

    def summed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        one = implementations.plain_python if config.batch_first else implementations.vectorised
        return one(x, h0, weights, config)

    found, done = both(tmp_path, layer(right), layer(right, summed))

    assert (found.defects, found.behaviour, found.beyond) == ((), (), ())
    assert found.compared == done[1].examination.hunt.total == 60
    turned = dict(done[1].examination.hunt.coverage.factors["batch_first"])[True]
    assert 0 < found.rounded <= turned
    assert len(again) == found.rounded
    assert found.left == 0
    assert found.equal == 60 - found.rounded
    assert found.largest is not None
    assert found.largest.config.batch_first
    assert 0 < found.largest.share <= 1


def test_cases_that_there_was_no_time_for_are_left_and_counted() -> None:
    subject = as_subject(layer(right))
    scope = scope_of(subject).only(**PINS)
    asked = [one for unit in islice(units(scope, 0, 60), 1) for one in unit.asked()]
    side = Side(subject, Hunt(subject.name, 0, scope), {}, dict.fromkeys(asked, ""))

    found, whole = upgrade(side, side, until=0), upgrade(side, side)

    assert (found.compared, found.left) == (0, len(asked))
    assert whole.left == 0 < whole.compared
    assert "not compared because the time was over" in rendered(upgrade_report(found, []))


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
    values = [one for one in found.behaviour if not one.cases]
    assert [tuple(one) for one in values] == [("nonlinearity=relu", "refuses: tanh only", "supports it", 0)]
    refusals = [one for one in found.behaviour if one.cases]
    assert [(one.old, one.new) for one in refusals] == [("computes it", "refuses")]
    assert "T=3" in refusals[0].what
    assert found.compared + refusals[0].cases <= hunts[0].total == 60
    assert found.equal == found.compared > 20
    assert found.defects == ()


@pytest.mark.parametrize(
    "where", [lambda config: config.T == 2, lambda config: config.batch_first], ids=["in cases", "at a value"]
)
def test_another_exception_is_behaviour_and_the_finding_is_in_both(tmp_path: Path, where: Any) -> None:
    def raising(kind: type[Exception]) -> Callable[..., Any]:
        def change(config: Any, output: Any, h_n: Any) -> Any:
            if where(config):
                raise kind("cannot")
            return output, h_n

        return change

    found, _ = both(tmp_path, layer(raising(ValueError)), layer(raising(TypeError)))

    assert [one.standing for one in found.defects] == [Standing.OLD]
    assert {(one.old, one.new) for one in found.behaviour} == {("raises ValueError", "raises TypeError")}


def test_a_value_that_fails_at_once_is_a_defect_and_not_a_refusal(tmp_path: Path) -> None:
    def fails(config: Any, output: Any, h_n: Any) -> Any:
        return (output[0] if config.nonlinearity == "relu" else output), h_n

    found, _ = both(tmp_path, layer(right), layer(fails))

    assert [(one.standing, one.what) for one in found.defects] == [(Standing.NEW, "nonlinearity=relu")]
    assert found.in_new
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


def test_a_finding_that_the_other_search_did_not_come_to_is_run_there() -> None:
    subject = as_subject(layer(lambda _, output, h_n: (output, -h_n)))
    scope = scope_of(subject).only(**PINS, hx=True)
    record = hunt(subject, scope, cases=20)
    before = Side(subject, Hunt(subject.name, 0, scope), {}, {})

    found = upgrade(before, before._replace(hunt=record))
    (defect,) = found.defects
    (back,) = upgrade(before._replace(hunt=record), before).defects

    assert (defect.standing, back.standing) == (Standing.OLD, Standing.OLD)
    assert found.in_new
