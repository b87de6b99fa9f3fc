"""Tests of the command: exit codes, clear errors, JSON, and what is kept where."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import junitparser
import pytest
from click import Command, Context, Option

from harness import RNNConfig, __version__, draw
from harness.checks.agreement import check_agreement
from harness.cli import codes, main
from harness.cli.check import check, pinned_by
from harness.cli.options import seconds_of
from harness.diagnosis import first_departure
from harness.oracle.judge import Judgement, judge
from harness.processes import TERMINATION_SIGNALS, one_thread_a_process
from harness.report.wording import judgement_line
from harness.search.budget import USUAL_CASES
from harness.search.scope_and_workers import asked_scope, workers_of
from harness.search.search_record import Finding
from harness.search.workers import WorkerPool
from harness.space.errors import UsageError
from harness.store.finding_folders import Store
from harness.subjects.environment import environment
from harness.subjects.registry import find_subject
from harness.subjects.torch_module import TorchSubject
from tests.unrun import let_scripts_fail_unrun

EXAMPLES = Path(__file__).parents[1] / "examples"
WRONG = f"{EXAMPLES / 'notebook.py'}:rnn_without_b_hh"
RIGHT = f"{EXAMPLES / 'notebook.py'}:rnn_with_b_hh"


class Run:
    """The result of running a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def words(self) -> str:
        """Standard output without its layout."""
        return " ".join(self.out.split())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)  # it adds annotations to what is printed
    # To start workers takes longer than most searches here.
    monkeypatch.setattr("harness.search.scope_and_workers.cores", lambda: 0)
    # A second cause would show in fewer cases than 400.
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 100)
    let_scripts_fail_unrun(monkeypatch)

    def call(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["rnn-harness", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Run(int(exit_.value.code or 0), captured.out, captured.err)

    return call


def subject(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(f"import numpy as np\ndef rnn(x, h0, weights, config):\n    {body}\n")
    return "mine.py:rnn"


@pytest.mark.parametrize("readout", [[], ["--output-size", "2"]])
def test_the_notebook_s_mistake_is_found_small_and_named(run: Any, readout: list[str]) -> None:
    done = run("check", WRONG, *readout, "--json", "report.json")

    assert done.code == codes.FINDING
    for words in ("disagrees with nn.RNN: 1 bug; ", "should be", "ignores bias_hh", "bias_hh_l0", "certain", "fails"):
        assert words in done.words
    assert len(done.out.splitlines()) <= 40
    assert not [line for line in done.out.splitlines() if line.endswith(" ")]
    finding = json.loads(Path("report.json").read_text())["subjects"][0]["findings"][0]
    config = RNNConfig.from_dict(finding["config"])
    assert config == RNNConfig(1, 1, T=1, N=1, output_size=int(readout[1]) if readout else None)
    assert finding["cause"] == "ignores bias_hh: b_hh is never added"
    assert finding["certainty"] == "certain"
    assert finding["minimal"]


@pytest.mark.parametrize("readout", [[], ["--output-size", "2"]])
def test_the_notebook_mended_agrees(run: Any, readout: list[str]) -> None:
    done = run("check", RIGHT, *readout, "--examples", "200")

    assert done.code == codes.AGREES
    assert "agrees with nn.RNN" in done.words
    assert "200 cases in " in done.words
    assert "covered 100 % of values" in done.words or readout
    assert len(done.out.splitlines()) <= 25
    assert not Path(".rnn-harness").exists()


def test_torch_itself_agrees_and_the_command_does_without_it(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli.main import main; sys.argv[0] = 'rnn-harness'\n"
        "try: main()\nexcept SystemExit as exit_: sys.exit('torch' if 'torch' in sys.modules else exit_.code)"
    )
    small = ["--only", "loss=None", "--only", "num_layers=1,2", "--only", "T=1,2,3", "--only", "N=1,2,3"]
    command = ["check", *small, "-n", "0", "--examples", "200", "--seed", "3", "--json", "report.json"]

    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert done.returncode == codes.AGREES, done.stderr
    assert "--seed 3" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())["subjects"][0]
    assert (report["subject"], report["verdict"], report["checks"]) == ("torch", "agrees", 200)
    assert report["coverage"]["factors"]["nonlinearity"] == {"met": 2, "of": 2}


def test_all_that_is_known_of_a_finding_is_printed_where_asked_for(run: Any) -> None:
    done = run("check", WRONG, "--examples", "100", "-v")

    assert done.code == codes.FINDING
    for words in ("1 ignores bias_hh", "differs output differs", "whatever", "judge", "config", "minimal"):
        assert words in done.words


def test_the_judge_rules_once_on_a_finding_for_all_who_tell_of_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Judgement] = []

    def counted(*given: Any) -> Judgement:
        judged.append(judge(*given))
        return judged[-1]

    monkeypatch.setattr(first_departure, "judge", counted)

    done = run("check", WRONG, "--examples", "100", "-v", "--json", "report.json")

    (judgement,) = judged
    (finding,) = json.loads(Path("report.json").read_text())["subjects"][0]["findings"]
    said = judgement_line(judgement)
    assert said in [fact["text"] for fact in finding["facts"]]
    for name in ("finding.json", "issue.md"):
        assert said in Path(finding["saved"]["folder"], name).read_text()
    assert said in done.words


def test_quiet_is_a_line_for_each_subject_and_finding_and_one_finding_decides(run: Any) -> None:
    done = run("check", WRONG, RIGHT, "--examples", "200", "-q", "--json", "-")

    assert done.code == codes.FINDING
    assert [one["verdict"] for one in json.loads(done.out)["subjects"]] == ["disagrees", "agrees"]
    head, finding, agrees = done.err.splitlines()
    assert head.startswith(f"{WRONG} disagrees with nn.RNN: 1 bug;")
    assert "ignores bias_hh" in finding
    assert agrees == f"{RIGHT} agrees with nn.RNN: one tanh layer, one direction, forward only"


def test_quiet_and_verbose_at_once_are_misuse(run: Any) -> None:
    done = run("check", WRONG, "-q", "-v")

    assert done.code == codes.MISUSE
    assert "--quiet with --verbose: expected one of them" in done.err


@pytest.mark.parametrize(
    ("pins", "autocast"),
    [
        ([], [None, "bfloat16", "float16"]),
        (["--dtype", "float32"], [None]),
        (["--only", "dtype=float32,float64"], [None]),
        (["--only", "dtypes=float32"], [None]),
        (["--dtype", "float32", "--only", "autocast=bfloat16"], ["bfloat16"]),
    ],
)
def test_where_a_dtype_is_named_nothing_runs_under_autocast_unless_asked(
    pins: list[str], autocast: list[str | None]
) -> None:
    with check.make_context("check", list(pins)) as context:
        asked = (context.params[name] for name in ("pins", "dtypes", "output_size"))
        scope = asked_scope(TorchSubject(), pinned=pinned_by(*asked))

    assert list(dict.fromkeys(scope.autocast)) == autocast


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"num_layers": 10**8}, "num_layers=100000000: expected at most 1,000"),
        ({"T": 10**9}, "T=1000000000 with num_layers=1: expected at most 600,000 steps of all layers together"),
        ({"hidden_size": 10**12}, "hidden_size=1000000000000: a case takes 2,"),
        ({"input_size": 10**9, "dtype": "float64"}, "input_size=1000000000, hidden_size=1: a case takes 8,"),
        ({"N": 10**9, "lengths": "falling"}, "N=1000000000, input_size=1, hidden_size=1: a case takes 4,"),
        ({"output_size": 10**10}, "output_size=10000000000: a case takes 2"),
    ],
)
def test_sizes_that_no_case_can_have_are_refused_at_once(pins: dict[str, Any], said: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError) as error:
        asked_scope(TorchSubject(), pinned=pins)

    assert said in str(error.value)
    assert time.process_time() - start < 5


def test_little_evidence_is_no_agreement(run: Any) -> None:
    done = run("check", RIGHT, "--examples", "60", "--dtype", "float64")

    assert done.code == codes.MISUSE
    assert "rnn_with_b_hh: not enough seen to say that it agrees with nn.RNN" in done.words
    assert "60 of 200 cases" in done.words
    assert "search longer: --examples" in done.words


def test_a_profile_is_said_and_can_be_chosen(run: Any) -> None:
    port = run("check", RIGHT, "--examples", "50", "--json", "port.json")
    kernel = run("check", RIGHT, "--examples", "50", "--profile", "kernel", "--json", "kernel.json")

    reports = [json.loads(Path(f"{name}.json").read_text())["subjects"][0] for name in ("port", "kernel")]
    assert [one["profile"] for one in reports] == ["port", "kernel"]
    assert "profile port: finite numbers, one sequence or more, plain arrays" in port.words
    assert "profile" not in kernel.words
    assert [one["coverage"]["distributions"].get("special", 0) > 0 for one in reports] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "tocrh"], "did you mean torch?"),
        (["check", "none.py:rnn"], "none.py: no such file"),
        (["check", "torch", "--device", "cuda:99"], "device='cuda:99': torch runs here on cpu"),
        (["check", "torch", "--dtype", "int8"], "dtype='int8': expected one of 'float32', 'float64'"),
        (["check", "torch", "--only", "num_layers=0"], "num_layers=0: expected an int of at least 1"),
        (["check", "torch", "--only", "layers=2"], "unknown factor layers"),
        (["check", "torch", "--only", "T"], "expected FACTOR=VALUE"),
        (["check", "torch", "--output-size", "0"], "'--output-size': '0': expected a whole number of at least 1"),
        (["check", "torch", "--examples", "0"], "'0': expected a whole number of at least 1, such as --examples 1"),
        (["check", "torch", "--seed", "x"], "'--seed': 'x': expected a whole number of at least 0, such as --seed 1"),
        (["shapes", "--input-size", "x"], "'x': expected a whole number, such as --input-size 1"),
        (["explain", "m.pt", "x.npy", "y.npy", "--atol", "x"], "'x': expected a number of at least 0, such as 5e-5"),
        (["check", "torch", "--time", "soon"], "expected a time above zero"),
        (["check", "torch", "--timeout", "0"], "expected a time above zero"),
        (["check", "torch", "--json", "no/such/folder.json"], "its folder does not exist"),
        (["check", "torch", "--json", "."], "expected a file's name"),
        (["check", "torch", "--json", ""], "expected a file's name"),
        (["shapes", "--input-size", "0", "--hidden-size", "1"], "input_size=0"),
        (["shapes", "--input-size", "1"], "--hidden-size"),
        (["replay", "none.npz"], "none.npz: no such file"),
        (["replay", "3f9c2a11"], "3f9c2a11"),
        (["findings", "3f9c2a11"], "3f9c2a11"),
        (["findings", "--remove"], "expected the ID of a finding"),
        (["check", "--scheduler", "tcp://127.0.0.1:1", "-n", "2"], "-n with --scheduler: expected one of them"),
        (["check", "--resource", "GPU=1"], "--resource without --scheduler: expected both"),
        (["check", "--resource", "GPU"], "'GPU': expected NAME=NUMBER, such as GPU=1"),
        (["check", "--resource", "GPU=0"], "'GPU=0': expected NAME=NUMBER, such as GPU=1"),
        (["frobnicate"], "No such command"),
    ],
)
def test_misuse_is_exit_2_and_one_clear_error(run: Any, arguments: list[str], words: str) -> None:
    done = run(*arguments)

    assert done.code == codes.MISUSE
    assert words in done.err
    assert done.out == ""


WRITES = f"""
    import sys; sys.path.insert(0, {str(EXAMPLES.parent)!r})
    from tests.implementations import vectorised
    answer = vectorised(x, h0, weights, config)
    x *= 2
    return answer"""


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("return None", codes.FINDING, "returned None, expected (output, h_n)"),
        ("return x", codes.FINDING, "returned an ndarray, expected (output, h_n)"),
        (
            "return x[:1, :1, :0] + weights['weight_ih_l0'][0, 0], h0 + weights['weight_ih_l0'][0, 0]",
            codes.FINDING,
            "output has shape (1, 1, 0), expected (T, N, D*H) = (1, 1, 1)",
        ),
        (
            "return np.zeros(x.shape, 'f8') + weights['weight_ih_l0'][0, 0], h0",
            codes.FINDING,
            "output has dtype float64, expected float32",
        ),
        (
            "return np.full_like(x, np.nan), h0 + weights['weight_ih_l0'][0, 0]",
            codes.FINDING,
            "output is infinite or NaN where it should not be",
        ),
        ("raise ValueError('boom')", codes.FINDING, "ValueError: boom"),
        ("exit(0)", codes.FINDING, "SystemExit: 0"),
        (WRITES, codes.FINDING, "x was given to the subject, which wrote into it"),
        ("raise GeneratorExit('odd')", codes.FINDING, "GeneratorExit: odd"),
        ("raise NotImplementedError('never')", codes.MISUSE, "refused everything it was asked"),
    ],
)
def test_each_way_a_subject_fails_is_told_apart(run: Any, tmp_path: Path, body: str, code: int, words: str) -> None:
    # In float64, float64 zeros would be a mistake that no two faults make, and all pairs would be tried.
    pins = ("--only", "input_size=1", "--only", "hidden_size=1", "--dtype", "float32")
    done = run("check", subject(tmp_path, body), *pins)

    assert done.code == code
    assert words in done.words


def test_a_wrong_signature_is_shown_the_right_one(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def rnn(inputs, state): pass")

    done = run("check", "mine.py:rnn")

    assert done.code == codes.MISUSE
    assert "takes inputs, state, which are not passed" in done.err
    assert "def rnn(x, h0, weights, config)" in done.err


def refusing(folder: Path) -> str:
    return subject(folder, "raise NotImplementedError('no more')")


def test_a_finding_is_kept_listed_replayed_and_removed(run: Any) -> None:
    run("check", WRONG)
    (kept,) = Path(".rnn-harness").iterdir()

    listed = run("findings")
    shown = run("findings", kept.name[:4], "--json", "-")
    failed = run("replay", kept.name)
    fixed = run("replay", str(kept), "--subject", RIGHT, "--json", "-")
    refused = run("replay", kept.name[:5], "--subject", refusing(Path.cwd()))

    assert kept.name in listed.out
    assert "ignores bias_hh" in listed.words
    for words in (
        *(
            "output differs in 1 of 1 elements",
            "0, should be 0.761594156 (±1.7e-07)",
            f"{kept.name} ignores bias_hh",
            "fails with bias=True",
            "whatever T",
        ),
        *("yours h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T)", "nn.RNN h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T"),
        *("passes the same with bias=False", "judge", "config input_size=1", "minimal"),
    ):
        assert words in shown.err.replace("\n", " ") or words in " ".join(shown.err.split())
    assert json.loads(shown.out)["findings"][0]["subject"] == WRONG
    assert (refused.code, refused.out.split()[0]) == (codes.MISUSE, "ERROR")

    assert failed.code == codes.FINDING
    assert failed.out.startswith("FAILED")
    assert fixed.code == codes.AGREES
    assert json.loads(fixed.out)["fate"] == "FIXED"
    assert run("findings", "--remove", kept.name).code == codes.AGREES
    assert "no findings" in run("findings").out


def kept_of(spec: str, config: RNNConfig, seed: int, folder: str = ".rnn-harness") -> str:
    """Keep a finding of a subject, and return its id."""
    case = draw(config, "normal", seed)
    finding = Finding(spec, case, check_agreement(find_subject(WRONG), case))
    return Store(folder).save(finding).name


def test_a_file_that_changes_meanwhile_does_not_end_the_search_of_the_next_subject(run: Any) -> None:
    changing = (
        "import os\n\n\ndef rnn(x, h0, weights, config):\n    open(__file__, 'a').write('# more')\n    os._exit(3)\n"
    )
    said = "Error: changing.py:rnn: its file was changed while it was checked; start again\n"
    Path("wrong.py").write_text("def rnn(x, h0, weights, config):\n    pass\n")
    Path("first.py").write_text("def rnn(x, h0, weights, config):\n    pass\n")
    few = ("wrong.py:rnn", "--examples", "2", "--only", "T=1", "-q")

    Path("changing.py").write_text(changing)
    done = run("check", "changing.py:rnn", *few)
    Path("changing.py").write_text(changing)
    shard = run("check", "first.py:rnn", "changing.py:rnn", *few, "--shard", "1/1", "--json", "shard.json")

    assert {done.code, shard.code} == {codes.FINDING}
    assert done.err == shard.err == said
    assert all("wrong.py:rnn disagrees" in one.words for one in (done, shard))
    assert len(json.loads(Path("shard.json").read_text())["subjects"]) == 2
    assert run("merge", "shard.json").err == "Error: changing.py:rnn: no shard has come to it\n"


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_the_reports_of_several_subjects_stand_apart_unless_each_is_a_line(run: Any, quiet: tuple[str, ...]) -> None:
    Path("lost.py").write_text("def first(x, h0, weights, config):\n    pass\n\n\nsecond = third = first\n")
    done = run("check", *(f"lost.py:{name}" for name in ("first", "second", "third")), "--examples", "1", *quiet)

    above = ["first", *(lines := done.out.splitlines())]
    apart = [before == "" for before, line in zip(above, lines, strict=False) if line.startswith("lost.py:")]
    assert apart == [False, not quiet, not quiet]


def test_all_findings_are_replayed_in_a_line_each_and_what_cannot_be_run_is_told(run: Any) -> None:
    still = kept_of(WRONG, RNNConfig(1, 1), 0)
    mended = kept_of(RIGHT, RNNConfig(1, 1), 1)
    refused = kept_of(refusing(Path.cwd()), RNNConfig(1, 1), 2)
    gone = kept_of("gone.py:rnn", RNNConfig(1, 1), 3)
    damaged = kept_of(WRONG, RNNConfig(1, 1), 4)
    (Path(".rnn-harness") / damaged / "case.json").write_text("{}")

    done = run("replay", "--all", "--json", "replays.json")

    *lines, last = done.out.splitlines()
    assert done.code == codes.FINDING
    fates = dict(line.split()[:2] for line in lines)
    assert fates == {still: "FAILED", mended: "FIXED", refused: "ERROR", gone: "ERROR"}
    (failed,) = (line for line in lines if still in line)
    assert failed.startswith(f"{still}  FAILED  {WRONG}  output differs in 1 of 1 elements")
    assert f"{refused}  ERROR   mine.py:rnn  the subject now refuses the case: no more" in lines
    assert last == "4 findings: 1 FIXED, 1 FAILED, 2 ERROR"
    assert done.err.startswith(f"Warning: .rnn-harness/{damaged}: left out: ")
    document = json.loads(Path("replays.json").read_text())
    assert document["counts"] == {"FIXED": 1, "FAILED": 1, "ERROR": 2}
    assert {one["finding"]: one["result"] is None for one in document["replays"]} == {
        **dict.fromkeys([still, mended, refused], False),
        gone: True,
    }


def test_of_all_findings_those_of_others_are_errors_and_the_option_that_runs_them_is_named_once(run: Any) -> None:
    of_torch, *foreign = (
        kept_of(spec, RNNConfig(1, 1), seed, "from-elsewhere") for seed, spec in enumerate(("torch", WRONG, WRONG))
    )
    own = kept_of(WRONG, RNNConfig(1, 1), 3)
    shutil.copytree("from-elsewhere", ".rnn-harness", dirs_exist_ok=True)

    done = run("replay", "--all", "--json", "replays.json")
    recorded = run("replay", "--all", "--as-recorded")

    *lines, advice, last = done.out.splitlines()
    assert {line.split()[0]: line.split()[1] for line in lines} == {
        of_torch: "FIXED",
        own: "FAILED",
        **dict.fromkeys(foreign, "ERROR"),
    }
    assert advice.startswith("2 findings not run. To run what a file names: --as-recorded, ")
    assert (done.out.count("--as-recorded"), done.err) == (1, "")
    assert last == "4 findings: 1 FIXED, 1 FAILED, 2 ERROR"
    assert done.code == codes.FINDING
    assert "not run" in next(
        one["said"] for one in json.loads(Path("replays.json").read_text())["replays"] if one["finding"] == foreign[0]
    )
    assert recorded.out.splitlines()[-1] == "4 findings: 1 FIXED, 3 FAILED, 0 ERROR"
    assert "--as-recorded" not in recorded.out
    shutil.rmtree(Path(".rnn-harness", own))
    assert run("replay", "--all").code == codes.MISUSE


def test_a_report_names_the_option_with_which_a_finding_of_others_is_replayed(run: Any) -> None:
    for spec in (WRONG, "torch"):
        kept = kept_of(spec, RNNConfig(1, 1), 0)
        own = run("findings", kept).words
        shutil.rmtree("of-others", ignore_errors=True)
        shutil.move(".rnn-harness", "of-others")
        foreign = run("findings", kept, "--findings", "of-others").words

        assert f"replay rnn-harness replay {kept} kept" in own
        option = " --as-recorded" * (spec == WRONG)
        assert f"replay rnn-harness replay {kept} --findings of-others{option} kept" in foreign
        again = run("replay", kept, "--findings", "of-others", *option.split())
        assert again.out.startswith("FAILED" if option else "FIXED")


def test_a_check_without_a_state_folder_goes_on_without_a_word_and_its_replay_says_what_to_add(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(Path("file").absolute()))  # below which no folder can be

    done = run("check", WRONG, "--examples", "20", "-q")
    (kept,) = Path(".rnn-harness").iterdir()
    again = run("replay", kept.name)

    assert (done.code, done.err) == (codes.FINDING, "")
    assert (again.code, again.out, len(again.err.splitlines())) == (codes.MISUSE, "", 1)
    assert f"{kept} names the subject {WRONG!r}; what a file names is not run" in again.err
    assert "--as-recorded" in again.err
    assert run("replay", kept.name, "--as-recorded").out.startswith("FAILED")


def test_a_replay_is_one_line_that_a_terminal_breaks_between_words(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_of("gone.py:rnn", RNNConfig(1, 1), 0)

    piped = run("replay", "--all").out
    for name, value in (("TTY_COMPATIBLE", "1"), ("COLUMNS", "40")):
        monkeypatch.setenv(name, value)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", run("replay", "--all").out)

    assert max(map(len, shown.splitlines())) <= 40 < len(piped.splitlines()[0])
    assert shown.split() == piped.split()


def test_a_finding_that_depends_on_earlier_calls_is_not_called_fixed_because_it_passes_once(
    run: Any, tmp_path: Path
) -> None:
    body = WRITES.replace("x *= 2", "rnn.calls = getattr(rnn, 'calls', 0) + 1").replace(
        "return answer", "return (answer[0] + (rnn.calls > 60), answer[1])"
    )
    found = run("check", subject(tmp_path, body), "--examples", "60", "--only", "num_layers=1")
    again = run("replay", "--all")
    (kept,) = Path(".rnn-harness").iterdir()
    one = run("replay", kept.name)

    assert "not deterministic" in found.words
    assert (again.code, one.code) == (codes.MISUSE, codes.MISUSE)
    assert "it passes in this run, but it was not deterministic" in again.words
    assert "it passes in this run, but it was not deterministic" in one.words


@pytest.mark.parametrize(
    ("specs", "code"), [([], codes.AGREES), ([RIGHT, RIGHT], codes.AGREES), ([RIGHT, "gone.py:rnn"], codes.MISUSE)]
)
def test_the_exit_code_of_all_is_of_the_worst(run: Any, specs: list[str], code: int) -> None:
    for seed, spec in enumerate(specs):
        kept_of(spec, RNNConfig(1, 1), seed)

    done = run("replay", "--all")

    assert done.code == code
    if not specs:
        assert done.out == "no findings in .rnn-harness\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["3f9c2a11", "--all"], ["--all", "--tolerance", "none"], ["--all", "--as-recorded", "--subject", RIGHT]],
)
def test_a_replay_of_nothing_or_of_one_and_all_is_misuse(run: Any, arguments: list[str]) -> None:
    kept_of(RIGHT, RNNConfig(1, 1), 0)

    done = run("replay", *arguments)

    assert (done.code, done.out) == (codes.MISUSE, "")
    assert "expected" in done.err


def test_a_finding_is_kept_before_anything_else_can_go_wrong(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> Any:
        raise RuntimeError("the report cannot be made")

    monkeypatch.setattr("harness.report.terminal.subject_report", lost)
    monkeypatch.setattr("traceback.print_exc", lambda *_, **__: None)

    run("check", WRONG, "--examples", "50")

    assert "ignores bias_hh" in run("findings").words


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize(
    "line", ["PYTHONIOENCODING=ascii {}", "PYTHONUTF8=0 LC_ALL=C PYTHONCOERCECLOCALE=0 {}", "{} >&- 2>err", "{} | true"]
)
def test_no_output_stream_costs_a_report_or_is_the_subject_s_fault(line: str, tmp_path: Path) -> None:
    subject(tmp_path, "raise ValueError('schön')")
    (tmp_path / "mine.py").rename(tmp_path / "schön 子.py")
    command = "rnn-harness check 'schön 子.py:rnn' --examples 9 -n 0 --json a.json --junit a.xml --report a.html"
    where = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        [str(shutil.which("bash")), "-o", "pipefail", "-c", line.format(command)],
        env={**os.environ, "PATH": where},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, b"Traceback" in done.stderr) == (codes.FINDING, False), done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["subjects"][0]["findings"][0]["cause"].startswith("ValueError")
    assert (tmp_path / "a.xml").stat().st_size
    assert (tmp_path / "a.html").stat().st_size


MISBEHAVES = """
import os, signal, time
import numpy as np

print("hello from the import")

def right(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer")
    os.write(1, b"hello from C\\n")
    print("hello from Python")
    h, output = h0[0], []
    for x_t in x:
        s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            s = s + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h = np.tanh(s).astype(x.dtype)
        output.append(h)
    return np.stack(output), h[None]

def segfaults(x, h0, weights, config):
    if config.N >= 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return right(x, h0, weights, config)

def hangs(x, h0, weights, config):
    if config.T >= 2:
        time.sleep(1e6)
    return right(x, h0, weights, config)

def leaves(x, h0, weights, config):
    os._exit(0)
"""

LOUD = """
import warnings

def rnn(x, h0, weights, config):
    warnings.warn("no more than once")
    for i in range(1000):
        print(i)
    return right(x, h0, weights, config)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_a_subject_prints_is_shown_once_at_the_end(workers: str, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(MISBEHAVES.replace("hello from Python", "here") + LOUD)
    options = ("check", "loud.py:rnn", "--examples", "20", "-n", workers)

    out, err = process(*options, cwd=tmp_path).communicate(timeout=120)
    assert "agrees with nn.RNN" in out
    assert len((out + err).splitlines()) < 50
    assert re.search(r"^loud.py:rnn printed [\d,]+ lines, 1,0\d\d of them different", err, re.MULTILINE)
    assert re.search(r"^ +\d+ x  hello from the import$", err, re.MULTILINE)
    assert "UserWarning: no more than once" in err

    _, err = process(*options, "--capture", "no", cwd=tmp_path).communicate(timeout=120)
    assert len(err.splitlines()) > 20_000


@pytest.mark.long
def test_whatever_a_subject_does_to_its_process_the_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (tmp_path / "mine.py").write_text(MISBEHAVES)
    specs = [f"mine.py:{name}" for name in ("segfaults", "hangs", "leaves", "right")]

    small = ("--only", "T=1,2", "--only", "N=1,2", "--only", "input_size=1,2", "--only", "hidden_size=1,2")
    running = process("check", *specs, *small, "--timeout", "1s", "--examples", "200", "--json", "-", cwd=tmp_path)
    out, err = running.communicate(timeout=120)

    assert running.returncode == codes.FINDING, err
    reports = json.loads(out)["subjects"]
    assert [one["verdict"] for one in reports] == ["broken", "broken", "broken", "agrees"]
    segfaults, hangs, leaves = (one["findings"][0] for one in reports[:3])
    assert segfaults["cause"] == "its process died of SIGSEGV"
    assert "in segfaults" in next(fact["text"] for fact in segfaults["facts"] if fact["name"] == "traceback")
    assert RNNConfig.from_dict(segfaults["config"]) == RNNConfig(1, 1, N=2)
    assert segfaults["minimal"]
    assert hangs["cause"] == "no answer within 1 s"
    assert not hangs["minimal"]
    assert leaves["cause"] == "its process ended with exit code 0"
    printed = {line.partition(" x  ")[2] for line in err.splitlines() if " x  " in line}
    assert printed == {"hello from the import", "hello from C", "hello from Python"}

    again = process("replay", segfaults["id"], cwd=tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == codes.FINDING, err
    assert out.startswith("FAILED")


def test_a_document_goes_into_a_pipe_or_through_a_link_and_replaces_neither(run: Any, tmp_path: Path) -> None:
    target, link, pipe = (tmp_path / name for name in ("target.json", "link.json", "pipe"))
    link.symlink_to(target)
    os.mkfifo(pipe)
    reader = threading.Thread(target=pipe.read_text)
    reader.start()

    run("known", "--json", str(link))
    run("known", "--json", str(pipe))
    reader.join(timeout=10)

    assert link.is_symlink()
    assert json.loads(target.read_text())["known"]
    assert pipe.is_fifo()


def test_a_pin_given_twice_adds_up(run: Any) -> None:
    done = run("check", RIGHT, "--only", "T=1", "--only", "T=2", "--examples", "40", "--verbose")

    assert "T 2 of 2 1-2" in done.words


def test_a_subject_that_wavers_is_broken_and_shown_wavering(run: Any, tmp_path: Path) -> None:
    spec = subject(tmp_path, "r = np.random.random(h0.shape).astype(x.dtype); return x * 0 + r, h0")

    done = run("check", spec, "--only", "input_size=1", "--only", "hidden_size=1", "--only", "batch_first=False")

    assert done.code == codes.FINDING
    assert "not deterministic: two runs of the same case gave different results: output at t=0" in done.words
    assert "every plainer neighbour" not in done.words


def test_sizes_that_do_not_fit_into_memory_are_misuse(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.scope_and_workers.DRAWN", 2**80)  # which would refuse them before

    done = run("check", RIGHT, "--only", "hidden_size=100000000")

    assert done.code == codes.MISUSE
    assert "out of memory; pin smaller sizes" in done.err


def test_a_case_without_a_subject_asks_for_one(run: Any) -> None:
    draw(RNNConfig(1, 1)).save("case.npz")

    assert "name one with --subject" in run("replay", "case.npz").err
    assert run("replay", "case.npz", "--subject", "torch").code == codes.AGREES


def test_a_folder_that_cannot_be_written_costs_a_warning_not_the_report(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = run("check", WRONG, "--findings", "file")

    assert done.code == codes.FINDING
    assert "Warning: --findings file: the finding could not be kept" in done.err
    assert "ignores bias_hh" in done.words


def test_shapes_are_shown_layer_by_layer(run: Any) -> None:
    sizes = ["--input-size", "1", "--hidden-size", "5", "--output-size", "2", "-N", "1", "-T", "10"]
    done = run("shapes", *sizes, "--batch-first", "--json", "-")
    arrays = {one["name"]: one for one in json.loads(done.out)["arrays"]}

    assert done.code == codes.AGREES
    assert (arrays["x"]["axes"], arrays["x"]["shape"]) == (["N", "T", "I"], [1, 10, 1])
    assert arrays["weight_hh_l0"]["shape"] == [5, 5]
    assert arrays["readout"]["shape"] == [1, 10, 2]
    for name in ("x", "bias_hh_l0", "output", "h_n", "readout"):
        assert name in done.err


def test_subjects_are_listed_with_their_devices(run: Any) -> None:
    done = run("subjects", "--json", "-")

    assert {"subject": "torch", "offered_by": "rnn-harness"}.items() <= json.loads(done.out)["subjects"][0].items()


def test_a_fault_of_ours_is_exit_3_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: Any) -> Any:
        raise RuntimeError("our own")

    monkeypatch.setattr(main.cli, "main", broken)

    with pytest.raises(SystemExit) as exit_:
        main.main()

    assert exit_.value.code == codes.FAULT
    assert f"rnn-harness {__version__} itself failed" in capsys.readouterr().err


def test_what_is_known_to_fail_is_counted_and_what_is_no_longer_known_is_found(run: Any) -> None:
    entry = {"name": "no b_hh", "subject": "*:rnn_without_b_hh", "reason": "forgotten", "link": "https://example.org/1"}
    lines = ["[[known]]", *(f'{key} = "{text}"' for key, text in entry.items()), "where = {bias = true}"]
    Path("known.toml").write_text("\n".join([*lines, "until = 9999-12-31"]))
    Path("old.toml").write_text("\n".join([*lines, "until = 2020-01-31"]))

    known = run("check", WRONG, "--known", "known.toml", "--examples", "200", "--json", "report.json")
    old = run("check", WRONG, "--known", "old.toml", "--examples", "60")

    assert known.code == codes.AGREES
    assert "agrees with nn.RNN: one tanh layer, one direction, forward only, but for known failures" in known.words
    assert "no b_hh (the subject): forgotten; until 9999-12-31; https://example.org/1" in known.words
    assert json.loads(Path("report.json").read_text())["subjects"][0]["known_issues"]["no b_hh"] > 0
    assert old.code == codes.FINDING
    assert "Warning: old.toml: no b_hh: expired on 2020-01-31, so its cases are findings again" in old.err


@pytest.mark.parametrize(("text", "seconds"), [("2", 2), ("0.5s", 0.5), ("1.5m", 90), ("2h", 7200)])
def test_durations_in_every_unit(text: str, seconds: float) -> None:
    assert seconds_of(Context(Command("check")), Option(["--time"]), text) == seconds


@pytest.mark.parametrize("text", ["1", "0.01m"])
def test_durations(run: Any, text: str) -> None:
    done = run("check", RIGHT, "--time", text)

    assert done.code in {codes.AGREES, codes.MISUSE}  # this depends on how much is seen until then
    assert "ended by the time limit" in done.words


@pytest.mark.parametrize("text", ["", "-3", "0", "3d", "m"])
def test_durations_that_are_none(run: Any, text: str) -> None:
    done = run("check", RIGHT, "--time", text)

    assert done.code == codes.MISUSE
    assert "expected a time above zero" in done.err


def test_a_time_too_short_for_anything_is_no_agreement(run: Any) -> None:
    done = run("check", RIGHT, "--time", "0.0000001s")

    assert done.code == codes.MISUSE
    assert "rnn_with_b_hh was not checked" in done.words


def process(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, *TERMINATION_SIGNALS])
def test_an_interrupt_ends_cleanly_with_what_was_done(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        f"import os, sys, time; sys.path.insert(0, {str(EXAMPLES.parent)!r})\n"
        "from tests.implementations import vectorised\n"
        "calls = []\n"
        "def rnn(x, h0, weights, config):\n"
        "    calls.append(config)\n"
        "    if len(calls) == 100 and os.fork() == 0:\n"
        "        time.sleep(600)\n"
        "    if len(calls) == 200:\n"
        "        open('running', 'w').close()\n"
        "    return vectorised(x, h0, weights, config)\n"
    )
    if signal.getsignal(number) is signal.SIG_IGN:  # as nohup has it
        pytest.skip("this session ignores the signal")
    temporary = Path(tempfile.mkdtemp())  # its own path would be too long for a socket
    monkeypatch.setenv("TMPDIR", str(temporary))

    running = process("check", "mine.py:rnn", "--time", "5m", cwd=tmp_path)
    wait_for(tmp_path / "running")
    running.send_signal(number)
    out, err = running.communicate(timeout=60)  # which waits for all processes that could still write

    assert running.returncode == (codes.INTERRUPTED if number == signal.SIGINT else codes.TERMINATED), err
    temporary.rmdir()  # nothing was left in it
    assert "agrees with nn.RNN so far" in out
    assert "ended by an interrupt" in " ".join(out.split())
    assert "Traceback" not in err
    assert "leaked" not in err


def test_an_interrupt_before_the_first_case_says_that_nothing_was_checked(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.subjects.isolated.ahead", lambda _: signal.raise_signal(signal.SIGINT))

    done = run("check", "mine.py:rnn")

    assert done.code == codes.INTERRUPTED
    assert done.err.strip().startswith("interrupted before the first case: nothing was checked")


def test_an_interrupt_after_a_report_does_not_deny_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.check.print_summary", lambda *_, **__: signal.raise_signal(signal.SIGINT))

    done = run("check", "torch", "--examples", "1")

    assert done.code == codes.INTERRUPTED
    assert "nothing was checked" not in done.err


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGINT, signal.SIGINT), codes.INTERRUPTED),
        ((*TERMINATION_SIGNALS, *TERMINATION_SIGNALS, signal.SIGINT), codes.TERMINATED),
    ],
)
def test_the_first_signal_is_acknowledged_at_once_and_a_ctrl_c_after_it_ends_all(
    signals: tuple[int, ...], code: int, tmp_path: Path
) -> None:
    (tmp_path / "deaf.py").write_text(
        "import signal, time\n"
        "from harness.cli import main\n"
        "from harness.processes import TERMINATION_SIGNALS\n"
        "for number in TERMINATION_SIGNALS:\n"
        "    signal.signal(number, signal.SIG_DFL)\n"  # nohup, under which tests may run, has SIGHUP ignored
        "def command(**_):\n"
        "    while True:\n"
        "        try:\n"
        "            print('deaf', flush=True)\n"
        "            time.sleep(600)\n"
        "        except KeyboardInterrupt:\n"
        "            pass\n"
        "main.cli.main = command\n"
        "main.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "deaf.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for number in signals:
            assert running.stdout.readline() == "deaf\n"
            running.send_signal(number)
        _, err = running.communicate(timeout=60)

    assert err == "stopping; another Ctrl-C ends it at once\n"
    assert running.returncode == code


def test_an_interrupt_stops_a_subject_that_hangs(tmp_path: Path) -> None:
    spec = subject(tmp_path, "open('running', 'w').close(); import time; time.sleep(600)")

    running = process("check", spec, cwd=tmp_path)
    wait_for(tmp_path / "running")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)

    assert running.returncode == codes.INTERRUPTED, err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["Python", "torch", "NumPy", "Hypothesis"])
def test_the_version_is_that_of_all_a_verdict_rests_on(run: Any, name: str) -> None:
    done = run("--version")

    first, versions, cpu = done.out.splitlines()
    assert (done.code, first) == (0, f"rnn-harness {__version__}")
    installed = platform.python_version() if name == "Python" else metadata.version(name.lower())
    assert f"{name} {installed}" in versions.split(", ")
    assert cpu == environment()["cpu"]


def test_the_version_needs_no_import_of_what_it_names() -> None:
    code = (
        "import sys; from harness.cli.main import cli; cli.main(['--version'], standalone_mode=False);"
        "sys.exit(bool({'numpy', 'torch', 'hypothesis'} & set(sys.modules)))"
    )

    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_a_script_that_completes(run: Any, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *_: None)  # it asks bash
    monkeypatch.setenv("_RNN_HARNESS_COMPLETE", f"{shell}_source")

    done = run()

    assert (done.code, done.err) == (0, "")
    assert f"_RNN_HARNESS_COMPLETE={shell}_complete" in done.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rnn-harness jud", "plain,judge"),
        ("rnn-harness check --col", ""),
        ("rnn-harness check --prof", "plain,--profile"),
        ("rnn-harness check my_rn", "file,my_rn"),
        ("rnn-harness check --profile k", "plain,kernel"),
    ],
)
def test_a_line_is_completed(run: Any, monkeypatch: pytest.MonkeyPatch, line: str, offered: str) -> None:
    monkeypatch.setenv("_RNN_HARNESS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    done = run()

    assert (done.code, done.out.strip()) == (0, offered)


def test_help_needs_neither_numpy_nor_torch_nor_hypothesis() -> None:
    code = (
        "import sys; from harness.cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        "sys.exit(bool({'numpy', 'torch', 'hypothesis', 'rich'} & set(sys.modules)))"
    )

    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_one_thread_a_process_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    one_thread_a_process()
    assert os.environ["OMP_NUM_THREADS"] == "3"

    monkeypatch.delenv("OMP_NUM_THREADS")
    one_thread_a_process()
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("known", "--json", "-"), ("check", "mine.py:rnn", "--examples", "9")]
)
def test_a_reader_that_has_gone_is_told_from_a_finding(arguments: tuple[str, ...], tmp_path: Path) -> None:
    subject(tmp_path, "raise NotImplementedError")

    with process(*arguments, cwd=tmp_path) as running:
        assert running.stdout is not None
        running.stdout.close()

        assert running.wait(timeout=60) == codes.READER_GONE


def test_a_finding_keeps_the_looser_profile_it_was_found_under(run: Any, tmp_path: Path) -> None:
    done = run(
        "check",
        subject(tmp_path, "return x + 2 + weights['weight_ih_l0'].sum(), h0 * 0 + 2"),
        "--tolerance",
        "atol=1e-3",
    )

    assert done.code == codes.FINDING
    assert {one.notes["tolerance"] for one in Store().list()} == {"atol=1e-3"}


@pytest.mark.parametrize("tolerance", ["fp8", "rtol=-1", "rtol=nan", "atol=inf", "rtol", "rtol=1,btol=2"])
def test_a_tolerance_that_makes_no_sense_is_misuse(run: Any, tolerance: str) -> None:
    done = run("check", RIGHT, "--tolerance", tolerance)

    assert done.code == codes.MISUSE
    assert f"tolerance='{tolerance}'" in done.err


def test_what_is_found_and_observed_does_not_depend_on_the_number_of_workers(run: Any) -> None:
    found, observed = [], []
    for workers in ("0", "2"):
        files = ("--json", "report.json", "--observations", "seen.jsonl", "--findings", f"kept{workers}")
        run("check", WRONG, "-n", workers, *files)
        [record] = json.loads(Path("report.json").read_text())["subjects"]
        found.append({key: record[key] for key in ("checks", "configs", "stop", "coverage", "known_issues")})
        found[-1]["findings"] = [(one["id"], one["code"], one.get("further", 0)) for one in record["findings"]]
        lines = [json.loads(line) for line in Path("seen.jsonl").read_text().splitlines()]
        observed.append([(line["representation"], line["status"]) for line in lines])

    assert found[0] == found[1]
    assert found[0]["findings"]
    assert observed[0] == observed[1]


@pytest.mark.parametrize("workers", ["x", "-1", "1.5", ""])
def test_a_number_of_workers_that_is_none_is_misuse(run: Any, workers: str) -> None:
    done = run("check", RIGHT, "-n", workers)

    assert done.code == codes.MISUSE
    assert "expected a number of processes, or auto" in done.err


def test_coverage_of_two_runs_is_put_together(run: Any) -> None:
    for seed in ("1", "2"):
        run("check", RIGHT, "--examples", "30", "--seed", seed, "--json", f"{seed}.json")
    alone = run("coverage", "1.json", "--json", "alone.json")
    both = run("coverage", "1.json", "2.json", "--missing", "3", "--json", "both.json")

    assert alone.code == both.code == codes.AGREES
    assert "agreement" in both.words
    assert "not met: " in both.words
    met = [
        json.loads(Path(f"{name}.json").read_text())["subjects"][0]["checks"]["agreement"]["triples"]["met"]
        for name in ("alone", "both")
    ]
    assert 0 < met[0] < met[1]


def test_no_more_workers_are_started_than_there_are_units_of_work() -> None:
    assert workers_of(1_000_000, 200) == WorkerPool(13)


def test_a_report_counts_once_and_a_bad_one_is_said_in_words(run: Any) -> None:
    run("check", RIGHT, "--examples", "20", "--json", "1.json")
    for files, name in ((("1.json",), "once"), (("1.json", "./1.json"), "twice")):
        assert run("coverage", *files, "--json", f"{name}.json").code == codes.AGREES
    once, twice = (json.loads(Path(f"{name}.json").read_text())["subjects"] for name in ("once", "twice"))
    Path("99.json").write_text('{"version": 99}')
    Path("list.json").write_text("[]")

    assert once == twice
    assert "Error: 99.json: version=99: expected 4; write it again" in run("coverage", "99.json").err
    assert (
        run("coverage", "list.json").err
        == "Error: list.json: expected an object; write it again with `rnn-harness check --json`\n"
    )


@pytest.mark.parametrize(
    "arguments", [("replay", "deadbeef"), ("check", "mine.py:Mine"), ("check", "--examples", "several", "mine.py:Mine")]
)
def test_a_terminal_breaks_the_lines_of_an_error_between_words(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    layer = "class Mine(torch.nn.Module):\n    def __init__(self, cfg, a, b, c, d):\n        pass\n"
    (tmp_path / "mine.py").write_text(f"import torch\n{layer}")
    piped = run(*arguments).err
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr.isatty", lambda: True)
        patch.setenv("COLUMNS", "60")
        shown = run(*arguments).err

    assert max(map(len, piped.splitlines())) > 60 >= max(map(len, shown.splitlines()))
    assert shown.split() == piped.split()


def test_nothing_of_foreign_origin_controls_the_terminal(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, title = "\x1b[35;46m", "\x1b]0;title\x07"
    spec = subject(tmp_path, f"print({control!r}, '##[error]'); raise ValueError({control + title!r})")
    named = tmp_path / f"name{control}.py"
    (tmp_path / "mine.py").rename(named)
    (tmp_path / "bad.py").write_text(f"raise RuntimeError({control + title!r})")

    few = ("--examples", "5", "-n", "0")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr.isatty", lambda: True)  # or click takes some away
        told = [
            run("check", spec.replace("mine.py", named.name), *few),
            run("check", "bad.py:rnn", *few),
            run("check", f"none{control}.py:rnn"),
            run("findings"),
            run("replay", "--all"),
        ]

    for done in told:
        assert not any(one in done.out + done.err for one in (control, title[:4], "\x07"))
        assert "\\x1b[35;46m" in done.out + done.err
    assert [done.code for done in told] == [codes.FINDING, codes.MISUSE, codes.MISUSE, codes.AGREES, codes.FINDING]


def test_help_has_a_whole_sentence_for_each_command(run: Any) -> None:
    assert "..." not in run("--help").out.partition("Commands:")[2]


def test_help_says_the_budget_that_is_taken(run: Any) -> None:
    assert f"[default: {USUAL_CASES}" in run("check", "--help").words


def test_coverage_that_cannot_be_read_or_written_is_misuse(run: Any) -> None:
    Path("bad.json").write_text("{}")

    assert run("coverage", "bad.json").code == codes.MISUSE
    assert run("coverage", "none.json").code == codes.MISUSE
    assert run("coverage").code == codes.MISUSE
    assert run("check", RIGHT, "--examples", "5", "--json", "no/such/folder.json").code == codes.MISUSE


def test_known_deviations_are_listed_and_one_has_its_issue(run: Any) -> None:
    listed = run("known")
    issue = run("known", "bfloat16 pairs are filled up")
    unknown = run("known", "nothing of the kind")

    assert (listed.code, issue.code, unknown.code) == (codes.AGREES, codes.AGREES, codes.MISUSE)
    assert "dropout multiplies by zero" in listed.words
    assert issue.out.startswith("# bfloat16 matmul")
    assert "expected 'bfloat16 pairs are filled up'" in unknown.err


def test_each_format_goes_to_its_own_file(run: Any) -> None:
    formats = {name: f"{name}.txt" for name in ("json", "junit", "markdown", "observations")}
    options = [word for name, file in formats.items() for word in (f"--{name}", file)]

    done = run("check", WRONG, RIGHT, "--examples", "60", *options)

    assert done.code == codes.FINDING
    assert "::error" not in done.out
    [first, second] = json.loads(Path("json.txt").read_text())["subjects"]
    [wrong, right] = junitparser.JUnitXml.fromfile("junit.txt")
    assert (wrong.name, wrong.failures, wrong.errors) == (WRONG, 2, 0)  # in float32 and in float64
    assert (right.name, right.failures, right.errors) == (RIGHT, 0, 1)  # 60 cases are too few to agree
    assert Path("markdown.txt").read_text().startswith("## rnn-harness: 0 of 2 subjects agree")
    lines = [json.loads(line) for line in Path("observations.txt").read_text().splitlines()]
    seen = [[line for line in lines if line["property"] == one["subject"]] for one in (first, second)]
    assert [len(some) for some in seen] == [first["checks"], second["checks"]]
    failed = Counter(line["status"] for line in seen[0])["failed"]
    assert failed == 1 + first["findings"][0]["further"]
    assert {line["status"] for line in seen[1]} == {"passed"}
    assert sorted(Path().iterdir()) == sorted([Path(".rnn-harness"), *map(Path, formats.values())])


def test_annotations_are_printed_in_github_s_jobs_and_where_asked_for(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = subject(tmp_path, "raise ValueError('a%b')")

    asked = run("check", spec, "--examples", "5", "--annotations")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    there = run("check", spec, "--examples", "5")
    beside = run("check", spec, "--examples", "5", "--junit", "-")
    silent = run("check", spec, "--examples", "5", "--no-annotations")

    [line] = [line for line in asked.out.splitlines() if line.startswith("::error")]
    assert line.startswith("::error file=mine.py,line=3,title=mine.py%3Arnn is broken::ValueError: a%25b")
    assert line in there.out.splitlines()
    assert line in beside.err.splitlines()
    assert beside.out.startswith("<")
    assert "::error" not in silent.out + silent.err


@pytest.mark.parametrize("option", ["--json", "--junit", "--markdown", "--observations"])
def test_a_file_that_cannot_be_written_is_misuse_before_anything_is_searched(
    run: Any, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("harness.subjects.isolated.IsolatedSubject", None)  # to start one would fail

    for target, said in (
        ("no/such/folder.txt", "its folder does not exist"),
        (".", "expected a file's name"),
        ("", "expected a file's name"),
        *([("/proc/report.txt", "cannot be written")] if Path("/proc").is_dir() else []),
    ):
        done = run("check", RIGHT, "--examples", "5", option, target)
        assert (done.code, done.out) == (codes.MISUSE, "")
        assert f"Error: {option} {target!r}: {said}" in done.err or f"Error: {option} {target}: {said}" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_finding_outranks_what_a_full_disk_does_not_take(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, few = "cannot be written: [Errno 28] No space left on device", ("-n", "0", "-q", "--examples", "5")
    wrong = subject(tmp_path, "raise ValueError")

    other = wrong.replace("mine.py", "other.py")
    (tmp_path / "other.py").write_text((tmp_path / "mine.py").read_text())
    told = run("check", wrong, *few, "--observations", "/dev/full")
    none = run("shapes", "--input-size", "1", "--hidden-size", "1", "--json", "/dev/full")
    with Path("/dev/full").open("w") as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        found = run("check", wrong, other, *few, "--json", "/dev/full", "--junit", "whole.xml")

    assert found.err.splitlines() == [
        f"Warning: {target}: {full}" for target in ("standard output", "--json /dev/full")
    ]
    assert Path("whole.xml").exists()
    assert told.err == f"Warning: --observations /dev/full: {full}\n"
    assert {found.code, told.code} == {codes.FINDING}
    assert (none.code, none.err) == (codes.MISUSE, f"Error: --json /dev/full: {full}\n")


def test_a_subject_that_is_named_twice_is_checked_once(run: Any, tmp_path: Path) -> None:
    wrong = subject(tmp_path, "raise ValueError")

    done = run("check", wrong, wrong, "-n", "0", "-q", "--examples", "5", "--junit", "-")

    assert done.code == codes.FINDING
    assert len(junitparser.JUnitXml.fromstring(done.out.encode())) == 1


def test_two_formats_cannot_go_to_one_file(run: Any) -> None:
    for pair in (("a.txt", "./a.txt"), ("-", "-")):
        done = run("check", RIGHT, "--json", pair[0], "--junit", pair[1])

        assert done.code == codes.MISUSE
        assert f"--junit {pair[1]}: expected another file than --json writes to" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shapes", "--input-size", "1", "--hidden-size", "1", "--num-layers", str(10**8)), "expected at most 1000"),
        *([(("check", "/dev/zero:x"), "/dev/zero cannot be imported")] if Path("/dev/zero").exists() else []),
    ],
)
def test_what_has_no_end_is_refused_at_once(run: Any, arguments: tuple[str, ...], said: str) -> None:
    start = time.monotonic()
    done = run(*arguments)

    assert (done.code, done.out, time.monotonic() - start < 20) == (codes.MISUSE, "", True)
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_an_interrupted_command_leaves_no_half_of_its_observations(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.pipeline.run_pipeline", fail)

    assert run("check", RIGHT, "--observations", "observations.jsonl").code == codes.INTERRUPTED
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("number", "is of type int; expected"), ("json", "is of type module; expected"), ("Leaves", "SystemExit: 7")],
)
def test_what_no_adapter_can_be_written_for_is_said_in_a_line(run: Any, name: str, said: str) -> None:
    body = (
        "import json, torch\nnumber = 3\nclass Leaves(torch.nn.Module):\n    def __init__(self, a): raise SystemExit(7)"
    )
    Path("mine.py").write_text(body)

    done = run("adapt", f"mine.py:{name}")

    assert (done.code, done.err.count("\n")) == (codes.MISUSE, 1)
    assert f"mine.py:{name}: {said}" in done.err
