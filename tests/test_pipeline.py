"""Tests of the way of a subject through the rooms."""

import runpy
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import RNNConfig, Scope, Verdict, as_subject, scope_of
from harness.checks.case_checks import bits_of
from harness.checks.dropout import check_dropout
from harness.checks.result import ComparisonMethod, Result
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.kernels import FailingStage
from harness.pipeline import reported_dropout, run_pipeline, same_as_the_first_stage
from harness.report.finding_entry import SubjectFindings
from harness.report.finding_files import FindingFiles
from harness.report.reported_finding import dropout_facts
from harness.search.case_replay import ReplayOutcome, replay
from harness.search.examination import Examination, equal_of
from harness.search.plan import PlannedCase
from harness.search.search_options import SearchOptions
from harness.search.search_record import SearchRecord
from harness.store.finding_folders import load
from harness.store.save import FindingKeeper
from harness.store.scripts import FindingScript, ScriptRun
from harness.subjects.capabilities import Capabilities
from harness.subjects.torch_module import TorchSubject
from tests import implementations

WITHOUT_DROPOUT = """\
import torch


class Never(torch.nn.RNN):
    def forward(self, x, hx=None):
        return torch.nn.RNN.forward(self.eval(), x, hx)
"""


def run_here(path: Path, _timeout: float = 0.0) -> ScriptRun:
    """Run a script in this process."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        return ScriptRun(ReplayOutcome.FAILED if ended.code else ReplayOutcome.FIXED, "")
    finally:
        sys.modules.pop("mine", None)
        sys.path[:] = [place for place in sys.path if place != str(path.parents[1])]
    return ScriptRun(ReplayOutcome.ERROR, "")


@pytest.mark.parametrize("where", ["harness.store.save.offer", "harness.diagnosis.finding_explainer.depends_on"])
def test_an_interrupt_of_what_follows_a_cause_loses_nothing_and_nothing_more_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    subject, calls = as_subject(implementations.without_b_hh), list[str]()

    def noted(place: str) -> Any:
        calls.append(place)
        if place == where:
            signal.raise_signal(signal.SIGINT)
        return {}

    for place in (where, "harness.store.save.offer", "harness.search.search.environment_of"):
        monkeypatch.setattr(place, lambda *_, place=place, **__: noted(place))
    done = run_pipeline(subject, scope_of(subject), SearchOptions(100), folder=str(tmp_path), warn=pytest.fail)

    (told,) = done.findings
    assert done.examination.interrupted
    assert calls == [where]
    assert told.saved is not None
    assert (told.saved.folder / "case.json").exists()
    assert told.saved.no_script.startswith("an interrupt came")
    assert told.certain


@pytest.mark.parametrize("changed", ["", "the code", "the record"])
def test_a_record_without_a_cause_replaces_none_of_our_own_that_has_one_of_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    subject, options = as_subject(implementations.without_b_hh), SearchOptions(100)

    def kept() -> tuple[FindingFiles | None, str | None]:
        done = run_pipeline(subject, scope_of(subject), options, folder=str(tmp_path), warn=pytest.fail)
        (told,) = done.findings
        return told.saved, load(told.id, tmp_path).cause

    with monkeypatch.context() as patched:
        patched.setattr("harness.store.save.offer", lambda *_, **__: FindingScript(reason="none is wanted"))
        _, cause = kept()
    monkeypatch.setattr(FindingExplainer, "_diagnosis", lambda *_: signal.raise_signal(signal.SIGINT))
    if changed == "the code":
        monkeypatch.setattr(Capabilities, "source", "another one")
    if changed == "the record":
        (file,) = tmp_path.glob("*/finding.json")
        file.write_text(f"{file.read_text()} ")
    saved, again = kept()

    assert saved is not None
    if changed:
        (cause_line,) = [fact.text for fact in load(saved.folder.name, tmp_path).facts if fact.name == "cause"]
        assert cause_line == "not looked for, because an interrupt came before it was found"
    assert (again == cause) is not bool(changed)
    assert load(saved.folder.name, tmp_path).own
    assert saved.earlier == ("" if changed else f"{cause} (certain)")


def test_a_broken_relation_of_dropout_is_kept_with_its_stage_a_script_and_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(WITHOUT_DROPOUT)
    subject, right = as_subject(f"{tmp_path / 'mine.py'}:Never"), as_subject("torch")
    done = Examination(SearchRecord(subject.name, 0, scope_of(subject)), dropout=check_dropout(subject))
    stage = FailingStage("mine", ("torch",), (None,), None)
    monkeypatch.setattr("harness.pipeline.failing_stage", lambda *_: stage)
    monkeypatch.setattr("harness.store.scripts.run_alone", run_here)  # torch is imported here already

    keeping = FindingKeeper(subject, str(tmp_path), done.hunt.accepted, "derived", pytest.fail)
    told = reported_dropout(subject, done, keeping)
    assert told is not None
    facts = dropout_facts(told)
    (entry,) = SubjectFindings(replace(done, dropout_facts=facts)).entries
    stored = load(facts["replay"].split()[2], tmp_path)

    assert entry.title == "dropout does nothing in training"
    assert facts["kernel"] == "passes in torch; fails from mine on"
    assert stored.of_dropout
    assert [replay(one, stored.case, of_dropout=True)[0] for one in (subject, right)] == [
        ReplayOutcome.FAILED,
        ReplayOutcome.FIXED,
    ]
    (tmp_path / "mine.py").write_text(WITHOUT_DROPOUT.replace("self.eval()", "self"))
    assert run_here(stored.path / "reproduce.py").fate is ReplayOutcome.FIXED  # it was seen to fail when it was kept


def test_a_relation_of_dropout_that_holds_leaves_nothing(tmp_path: Path) -> None:
    subject = as_subject(implementations.vectorised)
    done = Examination(
        SearchRecord("mine", 0, scope_of(subject)), dropout=Result(Verdict.AGREES, method=ComparisonMethod.DROPOUT)
    )
    keeping = FindingKeeper(subject, str(tmp_path), done.hunt.accepted, "derived", pytest.fail)

    assert reported_dropout(subject, done, keeping) is None
    assert not [*tmp_path.iterdir()]


def test_the_bits_of_a_subject_are_counted_beside_those_of_its_first_stage() -> None:
    one, other = (
        PlannedCase(RNNConfig(3, 4, T=3, N=2), "normal", seed, first=True, with_relation=False, with_probes=False)
        for seed in (0, 1)
    )
    torch = TorchSubject()
    bits = {asked: bits_of(torch.run(asked.case()).arrays) for asked in (one, other)}
    torch.capabilities = replace(torch.capabilities, stages=("torch",))
    hunt = SearchRecord("torch", 0, Scope())

    assert same_as_the_first_stage(torch, bits, hunt) == {one: True, other: True}
    assert same_as_the_first_stage(torch, {one: bits[other], other: bits[other]}, hunt) == {one: False, other: True}
    assert same_as_the_first_stage(torch, {one: ""}, hunt) == {}
    assert equal_of(("torch",), [False, True]) == ("torch", 1, 2)
    assert equal_of(("torch",), []) is None
