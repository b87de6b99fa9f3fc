"""Tests of subjects under another interpreter: they are told of as here, and what is missing there is said."""

import ast
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from harness import Failure, RNNConfig, Verdict, draw
from harness.checks.agreement import check_agreement
from harness.cli.check import _under
from harness.cli.main import cli
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.search import hunt
from harness.space.errors import UsageError
from harness.store.scripts import offer
from harness.subjects.interpreters import STAND_ALONE_PROGRAM, InterpreterSpec, portable
from harness.subjects.isolated import _content
from harness.subjects.protocol import SubjectUnavailable, masks_of, scope_of
from harness.subjects.registry import find_subject
from tests.causes import has_cause_of
from tests.rounding import assert_same_but_for_rounding
from tests.unrun import let_scripts_fail_unrun

SOURCE: Final = '''
import numpy as np

def rnn(x, h0, weights, config, cotangents, lengths, masks):
    """Something of everything that it is given, in the right shapes."""
    print("not an answer")
    if config.nonlinearity == "relu":
        raise NotImplementedError("tanh only")
    H = config.num_directions * config.hidden_size
    shape = x.shape[:-1] + (H,)
    output = np.full(shape, 0.0 if lengths is None else lengths.sum(), x.dtype)
    if masks is not None:
        output = output + masks[0]
    h_n = h0 + sum(w.sum() for n, w in weights.items() if "hh" in n).astype(x.dtype) / 0
    if config.output_size is not None:
        return np.zeros(x.shape[:-1] + (config.output_size,), "float32"), h_n
    if cotangents:
        return output, h_n, {"x": 2 * x, "h0": h0 + cotangents["output.grad"].sum(), "other": x}
    return output, h_n

def lstm(x, h0, c0, weights, config, cotangents):
    assert config.cell == "LSTM"
    output = np.full(x.shape[:-1] + (config.num_directions * config.hidden_size,), 2, x.dtype)
    if cotangents:
        return output, (h0, c0 + 1), {"h0": h0, "c0": c0 + cotangents["output.grad"].sum()}
    return output, (h0, c0 + 1)

def none(x, h0, weights, config):
    return None

def text(x, h0):
    return x, "h0"

def raises(x, h0, weights, config):
    deeper = {}
    return deeper["missing"]

def any_(**given):
    return given["x"], given["h0"], given["config"].N

any_.offers = {"dtype": ("float64", "bfloat16")}
any_.profile = "kernel"

def by_place(frames, h0, parameters, config, /):
    return frames + config.N, h0 + parameters["weight_hh_l0"].sum()

def own_names(input, hx, weights, config):
    return input + config.N, hx + weights["weight_hh_l0"].sum()

def ignores(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity != "tanh":
        raise NotImplementedError("one layer, time first")
    h = [h0[0]]
    for x_t in x:
        b = weights["bias_ih_l0"] if config.bias else 0
        h.append(np.tanh(x_t @ weights["weight_ih_l0"].T + h[-1] @ weights["weight_hh_l0"].T + b))
    return np.stack(h[1:]), h[-1][None]

def odd(x, y):
    return x
'''

CASES: Final = [
    RNNConfig(2, 3, T=2, N=2),
    RNNConfig(2, 3, T=2, N=2, hx=True, batch_first=True, dtype="float64", bidirectional=True),
    RNNConfig(2, 3, T=3, N=2, lengths=(3, 1)),
    RNNConfig(2, 3, 2, T=3, N=2, dropout=0.5, training=True),
    RNNConfig(2, 3, T=3, N=2, output_size=4),
    RNNConfig(2, 3, T=3, N=2, loss="output", hx=True),
    RNNConfig(2, 3, nonlinearity="relu"),
]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)


def elsewhere(spec: str) -> str:
    return str(InterpreterSpec(sys.executable, spec))


@pytest.mark.parametrize("name", ["rnn", "none", "text", "raises", "any_", "by_place", "own_names", "lstm"])
def test_a_function_is_told_of_there_as_it_is_here(name: str) -> None:
    here, there = find_subject(f"mine.py:{name}"), find_subject(elsewhere(f"mine.py:{name}"))

    assert there.capabilities.takes == here.capabilities.takes
    assert scope_of(there) == scope_of(here).only(strides="contiguous")
    for config in CASES:
        case = draw(config if name != "lstm" else config.replace(nonlinearity="tanh", cell="LSTM"), "normal", 1)
        one, other = here.run(case), there.run(case)
        assert (one.failure, one.message) == (other.failure, other.message)
        assert (one.ignored, one.not_returned) == (other.ignored, other.not_returned)
        assert one.traceback.rpartition("line")[2] == other.traceback.rpartition("line")[2]
        assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in one.arrays.items()} == {
            n: (a.dtype, a.shape, a.tobytes()) for n, a in other.arrays.items()
        }


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_a_class_is_compared_there_with_the_layer_that_it_stands_for(cell: str, tmp_path: Path) -> None:
    (tmp_path / "classes.py").write_text(
        f"import torch\nclass Mine(torch.nn.Module):\n"
        f"    def __new__(cls, *sizes, **options):\n        return torch.nn.{cell}(*sizes, **options)\n"
    )
    subject = find_subject(elsewhere("classes.py:Mine"))

    assert subject.capabilities.conventions.cell == cell
    assert check_agreement(subject, draw(RNNConfig(2, 3, T=3, N=2, cell=cell), "normal", 1)).verdict is Verdict.AGREES


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["torch", "torch:gru", "torch:lstm"])
def test_torch_gives_there_what_it_gives_here(name: str) -> None:
    here, there = find_subject(name), find_subject(elsewhere(name))
    cell = name.rpartition(":")[2].upper() if ":" in name else "RNN"

    assert there.capabilities.environment["software"].startswith("torch")
    for config in [
        RNNConfig(2, 3, 2, bidirectional=True, T=3, N=2, hx=True, loss="both", dtype="float64"),
        RNNConfig(2, 3, T=3, N=3, lengths=(1, 3, 2), loss="output", wrt="weights", batch_first=True),
        RNNConfig(2, 3, T=3, batched=False, output_size=2, loss="both", wrt="inputs"),
        RNNConfig(2, 3, nonlinearity="relu", bias=False, T=4, N=2),
    ]:
        case = draw(config if cell == "RNN" else config.replace(nonlinearity="tanh", cell=cell), "normal", 1)
        given, expected = there.run(case).arrays, here.run(case).arrays
        assert given.keys() == expected.keys()
        assert_same_but_for_rounding(case, given, expected)
    dropping = draw(RNNConfig(2, 3, 2, dropout=0.5, training=True, cell=cell))
    assert masks_of(there, dropping) is not None
    assert there.run(dropping).failure is Failure.UNSUPPORTED


def test_a_wrong_one_is_explained_and_has_a_script(tmp_path: Path) -> None:
    subject = find_subject(elsewhere("mine.py:ignores"))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False, batch_first=False, nonlinearity="tanh", T=2, N=1)
    record = hunt(subject, scope, cases=30)

    finding = record.finding

    assert finding is not None
    explanation = FindingExplainer(subject).explain(finding, record.scope)
    assert has_cause_of(explanation.diagnosis, "IgnoresBiasHH")
    assert offer(finding, subject, tmp_path).path is not None


UPGRADED: Final = """
import os
import numpy as np

def rnn(x, h0, weights, config):
    new = os.environ["CALLED_AS"].endswith("new")
    if config.num_layers > 1 or config.bidirectional or config.batch_first or new and config.nonlinearity == "relu":
        raise NotImplementedError("one layer, time first")
    h = [h0[0]]
    for x_t in x:
        a = x_t @ weights["weight_ih_l0"].T + h[-1] @ weights["weight_hh_l0"].T
        a = a + weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else a
        h.append(np.tanh(a) if config.nonlinearity == "tanh" else np.maximum(a, 0))
    return np.stack(h[1:]), (-h[-1] if new and config.hx else h[-1])[None].copy()
"""


def same_interpreter(path: Path) -> None:
    """Write a program that is this interpreter; a link to it would lose its packages in some versions of Python."""
    path.write_text(f'#!/bin/sh\nCALLED_AS="$0" exec {shlex.quote(sys.executable)} "$@"\n')
    path.chmod(0o755)


@pytest.mark.long
def test_the_command_compares_one_subject_under_two_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "upgraded.py").write_text(UPGRADED)
    for name in ("old", "new"):
        same_interpreter(tmp_path / name)
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 20)
    let_scripts_fail_unrun(monkeypatch)
    pins = [f"--only={name}=1,2" for name in ("T", "N", "input_size", "hidden_size")]
    typed = ["check", "upgraded.py:rnn", "-q", "-n", "0", "--examples", "40", *pins, "--json", "report.json"]
    typed += ["--markdown", "report.md", "--junit", "report.xml", "--report", "report.html"]
    typed += ["--python", "./old", "--python", "./new"]

    code = cli.main(typed, standalone_mode=False)

    report = json.loads(Path("report.json").read_text())
    found = report["upgrade"]
    assert code == 1
    assert [one["id"] for one in found["findings"]["new"]] == [report["subjects"][1]["findings"][0]["id"]]
    assert [one["text"] for one in found["behaviour"]] == [
        "nonlinearity=relu: the old one supports it; the new one refuses: one layer, time first"
    ]
    assert 5 < found["equal"] <= found["compared"]
    said = capsys.readouterr().out
    assert "python:./new upgraded.py:rnn disagrees" in said
    assert "the upgrade brings 1 new finding" in said
    assert "### the upgrade brings 1 new finding" in Path("report.md").read_text()
    page = Path("report.html").read_text()
    assert '<h1 class="bad">the upgrade brings 1 new finding</h1>' in page
    assert f"<dt>behaviour</dt><dd>{found['behaviour'][0]['text']}</dd>" in page
    (suite,) = ET.parse("report.xml").getroot().findall("testsuite[last()]")  # noqa: S314 - ours
    assert suite.attrib["name"] == "the upgrade of python:./old upgraded.py:rnn to python:./new upgraded.py:rnn"
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("1", "1")
    (failure,) = suite.iter("failure")
    assert failure.attrib["message"] == found["findings"]["new"][0]["text"]
    assert suite.find("properties/property[@name='equal']") is not None


def test_two_interpreters_of_one_subject_are_an_upgrade_and_nothing_else_is() -> None:
    assert _under(("torch",), ("a", "b")) == (("python:a torch", "python:b torch"), True)
    assert _under(("torch",), ("a",)) == (("python:a torch",), False)
    assert _under(("torch", "mine.py:rnn"), ("a", "b"))[1] is False
    assert _under(("torch",), ()) == (("torch",), False)
    assert _under(("torch",), ("a",), sharded=True)[1] is False


@pytest.mark.parametrize(
    ("pythons", "sharded", "said"),
    [
        ("abc", False, "--python a --python b --python c: expected one, or an old and a new one; compare more of them"),
        ("aa", False, "--python a twice: expected one interpreter, or an old and a new one"),
        ("ab", True, "--shard with two --python: expected one of them; an upgrade is compared in one run only"),
    ],
)
def test_what_the_comparison_cannot_do_is_refused(pythons: str, sharded: bool, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        _under(("torch",), tuple(pythons), sharded=sharded)


def test_a_file_names_its_own_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    same_interpreter(tmp_path / "bin" / "python")
    (tmp_path / "own.py").write_text(
        "import os\nRNN_HARNESS_PYTHON = 'bin/python'\ndef rnn(x, h0):\n    raise ValueError(os.environ['CALLED_AS'])\n"
    )

    subject = find_subject("own.py:rnn")

    assert subject.name == "own.py:rnn"
    assert subject.run(draw(RNNConfig(1, 1))).message == f"ValueError: {tmp_path}/bin/python"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("python:no_such_python mine.py:rnn", "no_such_python: no such interpreter; expected a path"),
        ("python:mine.py:rnn", "expected an interpreter and a subject"),
        (elsewhere("mine.py"), "mine.py: expected torch, path/to/file.py:name or module:name"),
        (elsewhere("none.py:rnn"), "none.py: no such file"),
        (elsewhere("bad.py:rnn"), r"cannot be imported by .*: ZeroDivisionError: division .*\(line 1 of .*bad.py"),
        (elsewhere("neighbour.py:rnn"), "No module named 'portable'"),  # a neighbour of the worker's is not imported
        (elsewhere("mine.py:nope"), "has no attribute 'nope'"),
        (elsewhere("mine.py:odd"), r"odd\(x, y\): expected a function of some of x, h0"),
        ("python:./bare mine.py:rnn", r"has no NumPy \(.*\); expected one that has: .* -m pip install numpy"),
    ],
)
def test_what_cannot_be_had_there_is_refused_in_one_line(spec: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "neighbour.py").write_text("import portable")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)

    with pytest.raises(SubjectUnavailable, match=words) as caught:
        find_subject(spec)

    assert str(caught.value).startswith(spec)
    assert "\n" not in str(caught.value)


def test_the_worker_runs_in_old_pythons_and_knows_nothing_of_this_package() -> None:
    tree = ast.parse(STAND_ALONE_PROGRAM.read_text(), feature_version=(3, 8))

    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    top = {name.partition(".")[0] for name in names}
    assert top - set(sys.stdlib_module_names) == {"numpy", "torch", "ml_dtypes"}


def test_the_name_and_the_content_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()

    assert (
        portable(f"python:../old/bin/python {tmp_path}/below/../mine.py:rnn") == "python:../old/bin/python mine.py:rnn"
    )
    assert portable("python:x torch") == "python:x torch"
    assert _content("python:x mine.py:rnn").decode() == SOURCE
