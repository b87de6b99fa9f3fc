"""Tests of what a notebook shows: the results as HTML, and the example from its first cell to its last."""

import ast
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import harness
from tests.unrun import let_scripts_fail_unrun

NOTEBOOK = Path(__file__).parents[1] / "examples" / "why_false.ipynb"


def identity(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if config.num_layers > 1 or config.bidirectional or config.input_size != config.hidden_size:
        raise NotImplementedError("one layer, one direction, as many units as inputs")
    return x, x[:, -1:].swapaxes(0, 1) if config.batch_first else x[-1:]


def answer() -> harness.ExplainReport:
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 4, 2)
    return harness.explain(nn.RNN(2, 2, batch_first=True), x, x)


def test_an_answer_shows_its_verdict_its_shapes_and_where_the_error_is() -> None:
    shown = answer()._repr_html_()

    assert "disagrees with nn.RNN in 8 of 8 numbers, step by step" in shown
    assert "weight_hh_l0" in shown
    assert "Errors over tolerance, made at each step" in shown
    assert "<script" not in shown


def test_an_answer_in_shapes_alone_shows_them() -> None:
    wrong = harness.explain(nn.RNN(2, 2), np.zeros((4, 1, 2), np.float32), np.zeros((3, 3), np.float32))

    shown = str(wrong._repr_html_())
    assert shown.count("disagrees with nn.RNN in shape: actual has shape (3, 3)") == 1
    assert shown.count("actual has shape") == 1
    assert "As text" not in shown


def test_a_check_shows_its_cause_and_prints_as_the_command_does(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)
    let_scripts_fail_unrun(monkeypatch)

    checked = harness.check(identity, cases=40, findings=str(tmp_path), nonlinearity="tanh", bias=False)

    assert not checked.agrees
    assert checked.verdict is harness.Verdict.DISAGREES
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter sets it for its kernels
    assert repr(checked).startswith("identity disagrees with nn.RNN: ")
    assert "\x1b" not in repr(checked)
    assert "checked" in repr(checked)
    shown = str(checked._repr_html_())
    assert f"<strong>{repr(checked).splitlines()[0]}</strong>" in shown
    assert str(checked.cause).split(" (")[0] in shown.replace("&#39;", "'")
    assert [one.finding.id for one in checked.findings] == sorted(
        [path.name for path in tmp_path.iterdir()], key=[one.finding.id for one in checked.findings].index
    )


def test_a_check_names_every_finding(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)
    let_scripts_fail_unrun(monkeypatch)

    def twice_wrong(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.hx:
            raise ValueError("no <hx>")
        return identity(x, h0, weights, config)

    checked = harness.check(twice_wrong, cases=40, findings=str(tmp_path), quiet=True, nonlinearity="tanh", bias=False)

    shown = str(checked._repr_html_())
    assert len(checked.findings) >= 2  # what is wrong with its numbers may be several mistakes
    assert "<p>Further findings:</p><ul>" in shown
    assert "<li>ValueError: no &lt;hx&gt;</li></ul>" in shown


def test_a_check_without_a_finding_shows_its_text(tmp_path: Path) -> None:
    checked = harness.check(identity, cases=1, findings=str(tmp_path), quiet=True, num_layers=2)

    shown = str(checked._repr_html_())
    assert '<p class="warn"><strong>identity refused everything it was asked: nothing is covered; ' in shown
    assert "<details open><summary>As text" in shown


def test_a_check_says_how_far_it_is_unless_it_is_to_be_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.report.progress.SECONDS_BETWEEN", 0.02)

    harness.check(identity, cases=20, findings=str(tmp_path), bias=False, quiet=True)
    assert capsys.readouterr() == ("", "")
    harness.check(identity, cases=20, findings=str(tmp_path), bias=False)
    assert "identity: " in capsys.readouterr().err


def test_the_example_names_the_cause_of_what_is_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown: list[Any] = []

    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        body = ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else []
        if body and isinstance(last := body[-1], ast.Expr):
            exec(compile(ast.Module(body[:-1], []), "cell", "exec"), names)  # noqa: S102 - the example's own code
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))  # noqa: S307
        else:
            exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102

    compared, answer, wrong, mended = (one for one in shown if one is not None)
    cause = "ignores bias_hh: b_hh is never added"
    assert not compared
    assert capsys.readouterr().out == f"{cause}\ncertain: True\n"
    assert cause in str(answer)
    assert cause in str(wrong)
    assert "mended agrees with nn.RNN" in str(mended)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # those of Jupyter are not ours
def test_the_example_ends_with_the_cause_named(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.read(NOTEBOOK, as_version=4)
    environ = {**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[1])}

    client = nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    asyncio.run(client.async_execute(env=environ))

    shown = [
        output.get("data", {}) | {"stream": output.get("text", "")}
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    said = "\n".join(one.get("text/plain", "") + one["stream"] for one in shown)
    assert said.startswith("False\n")
    assert said.count("ignores bias_hh: b_hh is never added") == 3
    assert "mended agrees with nn.RNN" in said
    assert sum("text/html" in one for one in shown) == 3
