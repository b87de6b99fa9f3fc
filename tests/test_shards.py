"""Shards of one search, merged, say what one run says; what does not add up is refused in a line."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from harness.checks.dropout import MASK_SEQUENCES, MASK_STEPS, MASK_UNITS
from harness.cli import codes, main
from harness.search.examination import DROPOUT_RUNS
from harness.search.search_record import Stop
from harness.store.finding_folders import load
from harness.store.reports import add_up, read_shards
from harness.subjects.registry import as_subject
from harness.subjects.torch_module import TorchSubject
from tests import implementations
from tests.sharded import Sharded, same_but_for_times
from tests.unrun import let_scripts_fail_unrun

OF: Final = 4  # More shards than the three units, so that one has none

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Sharded:
    with pytest.MonkeyPatch.context() as patch:
        let_scripts_fail_unrun(patch)
        pins = {"num_layers": [1], "T": [1, 2], "N": [1, 2], "input_size": [1, 2], "hidden_size": [1, 2]}
        subject = as_subject(implementations.without_b_hh, "mine")
        return Sharded.of(lambda: subject, tmp_path_factory.mktemp("shards"), OF, cases=45, pins=pins)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command in an empty folder, and gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr("harness.search.scope_and_workers.cores", lambda: 0)
    let_scripts_fail_unrun(monkeypatch)

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rnn-harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


def refused(run: Run, *reports: Path) -> str:
    """Return the one line by which the reports are refused."""
    code, out, err = run("merge", *reports)
    assert (code, out, err.count("\n")) == (codes.MISUSE, "", 1), (code, out, err)
    return err


def cases_of(report: Path) -> int:
    return len(json.loads(report.read_text())["subjects"][0]["log"]["cases"])


def changed(report: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Return a copy of a shard's report, and of its findings, with a change to it."""
    shutil.copytree(report.parent, place)
    document = json.loads((place / report.name).read_text())
    change(document)
    (place / report.name).write_text(json.dumps(document))
    return place / report.name


def test_all_shards_say_what_one_run_says(sharded: Sharded, tmp_path: Path) -> None:
    done = sharded.merged(tmp_path)

    counts = sorted(map(cases_of, sharded.reports))
    assert counts[0] == 0 < counts[1]
    assert same_but_for_times(done, sharded.one) == []
    (mine,), (other,) = done.findings, sharded.one.findings
    assert mine.saved is not None
    assert other.saved is not None
    assert {path.name for path in mine.saved.folder.iterdir()} == {path.name for path in other.saved.folder.iterdir()}
    assert (mine.saved.folder / "case.json").read_text() == (other.saved.folder / "case.json").read_text()


def test_the_command_reports_it_and_needs_no_torch(sharded: Sharded, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails

    code, out, _ = run("merge", *sharded.reports, "--json", "all.json", "--junit", "all.xml")

    (finding,) = sharded.one.examination.hunt.findings
    assert code == codes.FINDING
    assert out.startswith("mine disagrees with nn.RNN: 1 bug; ")
    assert "ignores bias_hh" in out
    assert f"rnn-harness replay {finding.id} --subject FILE.py:mine\n" in out
    assert Path(".rnn-harness", finding.id, "case.json").exists()
    assert [one["id"] for one in json.loads(Path("all.json").read_text())["subjects"][0]["findings"]] == [finding.id]
    assert 'failures="2" errors="0"' in Path("all.xml").read_text()


class Never(torch.nn.RNN):
    """A layer that never drops anything."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        training = self.training
        output, h_n = torch.nn.RNN.forward(self.eval(), x, hx)
        self.train(training)
        return output, h_n


class Halves(torch.nn.RNN):
    """A layer that is wrong if it is given hx."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return (output if hx is None else output / 2), h_n


def test_equal_bits_and_a_broken_relation_of_dropout_are_told_as_by_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("harness.pipeline.IsolatedSubject", "harness.diagnosis.kernels.IsolatedSubject"):
        monkeypatch.setattr(place, lambda _: nullcontext(TorchSubject(Halves)))
    monkeypatch.setattr("harness.search.examination.check_refusals", lambda *_, **__: None)
    let_scripts_fail_unrun(monkeypatch)

    def never() -> TorchSubject:
        subject = TorchSubject(Never, "mine.py:Never")
        subject.capabilities = replace(subject.capabilities, stages=("torch",))
        return subject

    sizes = {
        "input_size": (1, MASK_UNITS + 1),
        "hidden_size": (1, MASK_UNITS),
        "T": (1, MASK_STEPS),
        "N": (1, MASK_SEQUENCES),
    }
    pins = {**sizes, "num_layers": (1, 2), "dtype": "float32", "loss": None, "preparation": "new"}
    both = Sharded.of(never, tmp_path, 2, cases=DROPOUT_RUNS, pins=pins)

    done = both.merged(tmp_path / "all")

    equal, facts = both.one.examination.equal, done.examination.dropout_facts
    assert equal is not None
    assert 0 < equal.same < equal.of
    assert done.examination.equal == equal
    assert done.examination.dropout == both.one.examination.dropout
    assert facts["kernel"] == both.one.examination.dropout_facts["kernel"]
    assert facts["replay"].endswith(f" --findings {tmp_path / 'all'} --as-recorded")
    assert load(facts["replay"].split()[2], tmp_path / "all").of_dropout


def test_a_shard_left_out_is_named_everywhere(sharded: Sharded, run: Run) -> None:
    two = [sharded.reports[0], sharded.reports[3]]

    code, out, _ = run("merge", *two, "--json", "some.json", "--junit", "some.xml", "--markdown", "some.md", "-q")

    assert code == codes.FINDING
    assert "shards 2/4, 3/4 are missing" in out.partition("\n")[0]
    assert json.loads(Path("some.json").read_text())["subjects"][0]["missing"] == ["2/4", "3/4"]
    assert Path("some.xml").read_text().count("it is missing") == 2
    assert "shards 2/4, 3/4 are missing" in Path("some.md").read_text()


def test_a_shard_that_comes_twice_is_refused(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    first, *others = sharded.reports
    link = tmp_path / "link.json"
    link.symlink_to(first)

    for again in (first, link, changed(first, tmp_path / "again", lambda _: None)):
        assert f"{again}: shard 1/4, as {first}; name each shard once" in refused(run, first, *others, again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one["run"].update(seed=3), "seed=3: expected 0, as in "),
        (lambda one: one["run"].update(examples=46), "examples=46: expected 45"),
        (lambda one: one["run"].update(tolerance="tf32"), "tolerance='tf32': expected 'derived'"),
        (lambda one: one["run"]["versions"].update(torch="1.0"), "versions={"),
        (lambda one: one["run"].update(subjects=["yours"]), "subjects=('yours',): expected ('mine',)"),
        (lambda one: one["run"].update(shard="2/5"), "shard=5: expected 4"),
        (lambda one: one["run"].update(shard=None), "a report of a whole run"),
        (lambda one: one["subjects"][0].update(source="0" * 64), "mine: another source"),
        (lambda one: one["subjects"][0].update(profile="kernel"), "mine: another profile"),
        (lambda one: one["subjects"][0]["scope"].update(T=[1]), "mine: it refuses other things"),
    ],
)
def test_a_shard_of_another_plan_is_refused(
    sharded: Sharded, run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    other = changed(sharded.reports[1], tmp_path / "other", change)

    assert said in refused(run, sharded.reports[0], other)


def _first(document: dict[str, Any]) -> dict[str, Any]:
    subject: dict[str, Any] = document["subjects"][0]
    return subject


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(version=1),
        lambda document: document.update(document="finding"),
        lambda document: document.update(subjects=[{}]),
        lambda document: document["run"].update(shard="9/4"),
        lambda document: document["run"].update(seed="x"),
        lambda document: _first(document)["scope"].update(T=["x"]),
        lambda document: _first(document).update(findings=None),
        lambda document: _first(document).update(findings=[]),
        lambda document: _first(document)["log"]["cases"].append("99 99 -"),
        lambda document: _first(document)["log"]["cases"].append("1000000000000 0 -"),
        lambda document: _first(document)["log"]["cases"].__setitem__(4, "x"),
        lambda document: _first(document)["log"].update(events={"0": {}}),
        lambda document: _first(document)["log"].update(results=[{"verdict": "fine"}]),
        lambda document: _first(document).update(stop="never"),
        lambda document: _first(document).update(shard="3/4"),
        lambda document: _first(document).update(environment={"torch": "2"}),
        lambda document: _first(document)["findings"][0]["finding"].update(case={"format": 1}),
        lambda document: _first(document)["findings"][0].update(facts=[{}]),
        lambda document: _first(document)["findings"][0].update(error_maps=[]),
    ],
)
def test_a_damaged_report_is_refused(
    sharded: Sharded, run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    damaged = changed(sharded.reports[1], tmp_path / "damaged", change)

    assert "Error: " in refused(run, sharded.reports[0], damaged)


def test_known_failures_are_those_of_all_shards(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    known = {"name": "old", "subject": "mine", "why": "it is", "link": "l", "until": "2030-01-01"}

    def add(document: dict[str, Any]) -> None:
        _first(document)["own"] = [known]
        for result in _first(document)["log"]["results"]:
            result["spared"] = ["old"]

    every = [changed(one, tmp_path / str(number), add) for number, one in enumerate(sharded.reports)]

    (done,) = add_up(read_shards(every), str(tmp_path / "findings"), pytest.fail)

    assert done.examination.hunt.spared["old"] > 0
    assert "--known names other failures than in" in refused(run, sharded.reports[0], *every[1:])


def test_a_finding_that_cannot_be_kept_is_reported_all_the_same(sharded: Sharded, run: Run) -> None:
    Path("file").write_text("")

    code, out, err = run("merge", *sharded.reports, "--findings", "file")

    assert code == codes.FINDING
    assert "ignores bias_hh" in out
    assert err.startswith("Warning: --findings file: the finding could not be kept: ")


def test_a_finding_whose_folder_is_lost_is_reported_all_the_same(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    without = changed(sharded.reports[0], tmp_path / "without", lambda _: None)
    shutil.rmtree(without.parent / "findings")

    code, out, err = run("merge", without, *sharded.reports[1:])

    assert refused(run, tmp_path / "none.json") == (
        f"Error: {tmp_path / 'none.json'}: no such file; write it again with `rnn-harness check --json`\n"
    )
    assert code == codes.FINDING
    assert "ignores bias_hh" in out
    assert "could not be kept" in err


def test_a_shard_that_was_interrupted_counts_as_far_as_it_came(sharded: Sharded, tmp_path: Path) -> None:
    def cut(document: dict[str, Any]) -> None:
        one = _first(document)
        one["stop"] = Stop.INTERRUPTED.name.lower()
        one["findings"], one["log"]["cases"], one["log"]["events"] = [], [], {}

    first, second, *others = sharded.reports
    early = changed(second, tmp_path / "early", cut)

    (done,) = add_up(read_shards([first, early, *others]), str(tmp_path / "findings"), pytest.fail)

    assert done.examination.hunt.total == sum(map(cases_of, [first, *others]))
    assert done.examination.interrupted


def test_the_command_writes_a_shard_and_says_what_it_needs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef rnn(x, h0, weights, config):\n    raise NotImplementedError('later')\n"
    )
    code, out, err = run("check", "mine.py:rnn", "--shard", "1/2")
    assert (code, out, err.count("\n")) == (codes.MISUSE, "", 1)
    assert "--shard without --json: expected both" in err
    assert run("check", "mine.py:rnn", "--shard", "3/2", "--json", "a.json")[0] == codes.MISUSE

    code, out, _ = run("check", "mine.py:rnn", "--shard", "1/2", "--json", "a.json", "--examples", "20")

    assert code == codes.MISUSE
    assert out.startswith("mine.py:rnn refused everything it was asked in shard 1/2")
    code, out, _ = run("merge", "a.json")
    assert code == codes.MISUSE
    assert out.startswith("mine.py:rnn refused everything it was asked: shard 2/2 is missing")
