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

from harness.checks.dropout import SEQUENCES, STEPS, UNITS
from harness.cli import codes, main
from harness.search.examination import DROPOUT_RUNS
from harness.search.record import Stop
from harness.space.errors import UsageError
from harness.store import shards
from harness.store.findings import load
from harness.subjects.registry import as_subject
from harness.subjects.torch_module import TorchSubject
from tests import implementations
from tests.sharded import Sharded, same_but_for_times
from tests.unrun import let_scripts_fail_unrun

OF: Final = 4
"""More shards than the three units, so that one has none."""

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
    monkeypatch.setattr("harness.search.preparation.cores", lambda: 0)
    let_scripts_fail_unrun(monkeypatch)

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rnn-harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


def refused(run: Run, *folders: Path) -> str:
    """Return the one line by which the folders are refused."""
    code, out, err = run("merge", *folders)
    assert (code, out, err.count("\n")) == (codes.MISUSE, "", 1), (code, out, err)
    return err


def cases_of(folder: Path) -> int:
    return len(json.loads((folder / shards.FILE).read_text())["subjects"][0]["log"]["cases"])


def changed(folder: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Return a copy of a shard's folder with a change to its document."""
    shutil.copytree(folder, place)
    document = json.loads((place / shards.FILE).read_text())
    change(document)
    (place / shards.FILE).write_text(json.dumps(document))
    return place


def test_all_shards_say_what_one_run_says(sharded: Sharded, tmp_path: Path) -> None:
    done = sharded.merged(tmp_path)

    counts = sorted(map(cases_of, sharded.folders))
    assert counts[0] == 0 < counts[1]
    assert same_but_for_times(done, sharded.one) == []
    (mine,), (other,) = done.told, sharded.one.told
    assert mine.kept is not None
    assert other.kept is not None
    assert {path.name for path in mine.kept.folder.iterdir()} == {path.name for path in other.kept.folder.iterdir()}
    assert (mine.kept.folder / "case.json").read_text() == (other.kept.folder / "case.json").read_text()


def test_the_command_reports_it_and_needs_no_torch(sharded: Sharded, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails

    code, out, _ = run("merge", *sharded.folders, "--json", "all.json", "--coverage", "all.cov", "--junit", "all.xml")

    (finding,) = sharded.one.examination.hunt.findings
    assert code == codes.FINDING
    assert out.startswith("mine disagrees with nn.RNN: 1 bug; ")
    assert "ignores bias_hh" in out
    assert f"rnn-harness replay {finding.id}\n" in out
    assert Path(".rnn-harness", finding.id, "case.json").exists()
    assert [one["id"] for one in json.loads(Path("all.json").read_text())["subjects"][0]["findings"]] == [finding.id]
    assert 'failures="1" errors="0"' in Path("all.xml").read_text()


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


def test_equal_bits_and_a_broken_law_of_dropout_are_told_as_by_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("harness.pipeline.IsolatedSubject", "harness.diagnosis.kernels.IsolatedSubject"):
        monkeypatch.setattr(place, lambda _: nullcontext(TorchSubject(Halves)))
    monkeypatch.setattr("harness.search.examination.check_refusals", lambda *_: None)
    let_scripts_fail_unrun(monkeypatch)

    def never() -> TorchSubject:
        subject = TorchSubject(Never, "mine.py:Never")
        subject.capabilities = replace(subject.capabilities, stages=("torch",))
        return subject

    sizes = {"input_size": (1, UNITS + 1), "hidden_size": (1, UNITS), "T": (1, STEPS), "N": (1, SEQUENCES)}
    pins = {**sizes, "num_layers": (1, 2), "dtype": "float32", "loss": None, "preparation": "new"}
    both = Sharded.of(never, tmp_path, 2, cases=DROPOUT_RUNS, pins=pins)

    done = both.merged(tmp_path / "all")

    equal, facts = both.one.examination.equal, done.examination.dropout_facts
    assert equal is not None
    assert 0 < equal.same < equal.of
    assert done.examination.equal == equal
    assert done.examination.dropout == both.one.examination.dropout
    assert facts["kernel"] == both.one.examination.dropout_facts["kernel"]
    assert facts["replay"].endswith(f" --findings {tmp_path / 'all'}")
    assert load(facts["replay"].split()[2], tmp_path / "all").of_dropout
    more = {"999": True}
    other = changed(both.folders[1], tmp_path / "c", lambda one: one["subjects"][0]["log"]["same"].update(more))
    with pytest.raises(UsageError, match="its log tells of the bits of cases that there are not"):
        list(shards.combine(shards.read([both.folders[0], other]), str(tmp_path), pytest.fail))


def test_a_shard_left_out_is_named_everywhere(sharded: Sharded, run: Run) -> None:
    two = [sharded.folders[0], sharded.folders[3]]

    code, out, _ = run("merge", *two, "--json", "some.json", "--junit", "some.xml", "--markdown", "some.md", "-q")

    assert code == codes.FINDING
    assert "shards 2/4, 3/4 are missing" in out.partition("\n")[0]
    assert json.loads(Path("some.json").read_text())["subjects"][0]["missing_shards"] == ["2/4", "3/4"]
    assert Path("some.xml").read_text().count("it is missing") == 2
    assert "shards 2/4, 3/4 are missing" in Path("some.md").read_text()


def test_one_folder_counts_once_and_one_shard_may_not_come_twice(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    first, *others = sharded.folders
    shutil.copytree(first, tmp_path / "again")

    code, _, _ = run("merge", first, *others, first)

    assert code == codes.FINDING
    assert f"again: shard 1/4, as {first}; name each shard once" in refused(run, first, *others, tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: plan.update(seed=3), "seed=3: expected 0, as in "),
        (lambda plan: plan.update(examples=46), "examples=46: expected 45"),
        (lambda plan: plan.update(tolerance="tf32"), "tolerance='tf32': expected 'derived'"),
        (lambda plan: plan["versions"].update(torch="1.0"), "versions={"),
        (lambda plan: plan["subjects"][0].update(source="0" * 64), "mine: another source"),
        (lambda plan: plan["subjects"][0].update(contract="kernel"), "mine: another contract"),
        (lambda plan: plan["subjects"][0].update(subject="yours"), "subjects=yours: expected mine"),
    ],
)
def test_a_shard_of_another_plan_is_refused(
    sharded: Sharded, run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    other = changed(sharded.folders[1], tmp_path / "other", lambda document: change(document["plan"]))

    assert said in refused(run, sharded.folders[0], other)


def test_a_shard_of_another_number_is_refused(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    other = changed(sharded.folders[1], tmp_path / "other", lambda document: document["shard"].update(of=5))

    assert "shard=2/5: expected one of 4" in refused(run, sharded.folders[0], other)


def _first(document: dict[str, Any]) -> dict[str, Any]:
    subject: dict[str, Any] = document["subjects"][0]
    return subject


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(version=1),
        lambda document: document.update(document="met"),
        lambda document: document.update(subjects=[{}]),
        lambda document: document.update(subjects=document["subjects"] * 2),
        lambda document: document["shard"].update(number=9),
        lambda document: document["plan"].update(seed="x"),
        lambda document: document["plan"]["subjects"][0]["scope"].update(T=["x"]),
        lambda document: _first(document).update(told=[]),
        lambda document: _first(document).update(more=1),
        lambda document: _first(document)["log"]["cases"].pop(),
        lambda document: _first(document)["log"]["cases"].extend([[0, None]] * 40),
        lambda document: _first(document)["log"]["cases"].append([99, None]),
        lambda document: (
            _first(document)["log"]["cases"].insert(0, [-1, None]) or _first(document)["log"]["cases"].pop()
        ),
        lambda document: _first(document)["log"]["cases"][4].__setitem__(1, 10**30),
        lambda document: _first(document)["log"].update(pursued={"0": {}}),
        lambda document: _first(document)["log"].update(results=[{"verdict": "fine"}]),
        lambda document: _first(document)["hunt"].update(stop="never"),
        lambda document: _first(document)["hunt"].update(seconds="nan"),
        lambda document: _first(document)["told"][0]["explanation"]["kernels"].update(passes=["x"]),
        lambda document: _first(document)["hunt"]["scope"].update(T=[7]),
        lambda document: _first(document)["told"][0]["finding"].update(case={"format": 1}),
        lambda document: _first(document)["told"][0]["explanation"]["diagnosis"]["causes"][0].update(code=["one"]),
        lambda document: _first(document)["told"][0]["explanation"]["error_maps"]["maps"][0].__setitem__(
            6, [[9], [1.0]]
        ),
    ],
)
def test_a_damaged_file_is_refused(
    sharded: Sharded, run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    damaged = changed(sharded.folders[1], tmp_path / "damaged", change)

    assert "Error: " in refused(run, sharded.folders[0], damaged)


def test_known_failures_are_those_of_all_shards(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    known = {"name": "old", "subject": "mine", "why": "it is", "link": "l", "until": "2030-01-01", "fails": ""}
    conditions = {"T": [">=", 2], "dtype": {"values": ["float32"]}}

    def add(document: dict[str, Any]) -> None:
        _first(document)["hunt"]["own"] = [{**known, "where": conditions}]

    every = [changed(one, tmp_path / str(number), add) for number, one in enumerate(sharded.folders)]

    (done,) = shards.combine(shards.read(every), str(tmp_path / "findings"), pytest.fail)

    assert done.examination.hunt.spared["old"] > 0
    assert "--known names other failures than in" in refused(run, sharded.folders[0], *every[1:])


def test_a_finding_that_cannot_be_kept_is_reported_all_the_same(sharded: Sharded, run: Run) -> None:
    Path("file").write_text("")

    code, out, err = run("merge", *sharded.folders, "--findings", "file")

    assert code == codes.FINDING
    assert "ignores bias_hh" in out
    assert err.startswith("Warning: --findings file: the finding could not be kept: ")


def test_a_folder_that_is_none_or_lost_its_findings_is_refused(sharded: Sharded, run: Run, tmp_path: Path) -> None:
    (finding,) = sharded.one.examination.hunt.findings
    without = changed(sharded.folders[0], tmp_path / "without", lambda _: None)
    (without / shards.FINDINGS / finding.id / "case.json").write_text("[")

    assert refused(run, tmp_path / "none") == f"Error: {tmp_path / 'none' / 'shard.json'}: no such file\n"
    assert "case.json: " in refused(run, without)


def test_a_shard_that_was_interrupted_counts_as_far_as_it_came(sharded: Sharded, tmp_path: Path) -> None:
    def cut(document: dict[str, Any]) -> None:
        one = _first(document)
        one["hunt"]["stop"] = Stop.INTERRUPTED.value
        one["told"], one["log"]["cases"], one["log"]["pursued"] = [], [], {}

    first, second, *others = sharded.folders
    early = changed(second, tmp_path / "early", cut)

    (done,) = shards.combine(shards.read([first, early, *others]), str(tmp_path / "findings"), pytest.fail)

    assert done.examination.hunt.total == sum(map(cases_of, [first, *others]))
    assert done.examination.interrupted


def test_the_command_writes_a_shard_and_says_what_it_needs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef rnn(x, h0, weights, config):\n    raise NotImplementedError('later')\n"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / shards.FILE).write_text("of an earlier run")

    for more in (["--shard", "1/2"], ["--into", "a"], ["--shard", "3/2", "--into", "a"]):
        code, out, err = run("check", "mine.py:rnn", *more)
        assert (code, out, err.count("\n")) == (codes.MISUSE, "", 1)
    code, _, err = run("check", "mine.py:rnn", "--shard", "1/2", "--into", "a", "--findings", "b")
    assert (code, err.count("\n")) == (codes.MISUSE, 1)
    code, out, _ = run("check", "mine.py:rnn", "--shard", "1/2", "--into", "a", "--examples", "20")

    assert code == codes.MISUSE
    assert out.startswith("mine.py:rnn refused everything it was asked in shard 1/2")
    code, out, _ = run("merge", "a")
    assert code == codes.MISUSE
    assert out.startswith("mine.py:rnn refused everything it was asked: shard 2/2 is missing")
