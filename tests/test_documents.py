"""The examples in README.md, CONTRIBUTING.md and docs/ run, and do what the text says."""

import ast
import doctest
import io
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Final

import click
import pytest

import harness
from harness.checks.result import Verdict
from harness.cli import main
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.report.escaping_console import EscapingConsole
from harness.report.finding_entry import entry_of
from harness.report.finding_files import FindingFiles
from harness.report.reported_finding import reported
from harness.report.terminal import finding_report
from harness.space.case_json import from_json
from harness.subjects.function import FunctionSubject
from harness.subjects.registry import find_subject

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [body for kind, body in FENCED.findall(text) if kind == language]


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one of its rank or higher."""
    marks, _, _ = heading.partition(" ")
    pattern = rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)"
    found = re.search(pattern, DOCUMENTS[page], re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


# The shell


def commands(page: str) -> list[str]:
    """Return the lines of a page's shell examples that run rnn-harness."""
    lines = [line.strip() for block in blocks(DOCUMENTS[page], "sh") for line in re.split(r"[\n;]", block)]
    return [line for line in lines if line.startswith("rnn-harness ")]


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if commands(page)])
def test_the_command_takes_what_a_page_types(page: str) -> None:
    group = click.Context(main.cli, **main.cli.context_settings)  # without it, click keeps other help options
    for line in commands(page):
        _, name, *words = re.sub(r'"\$\w+"', "1", line).split()
        main.cli.commands[name].make_context(name, words, parent=group)


def test_the_finding_in_the_readme_is_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = next(block for block in blocks(DOCUMENTS["README.md"], "") if "my_rnn.py:rnn disagrees" in block)
    Path("my_rnn.py").write_text(blocks(DOCUMENTS["README.md"], "python")[0])
    subject = find_subject("my_rnn.py:rnn")
    record = harness.hunt(subject)
    assert record.finding is not None
    explanation = FindingExplainer(subject).explain(record.finding, record.scope)
    kept = FindingFiles(Path(".rnn-harness", record.finding.id), script="reproduce.py")
    further = int(re.findall(r"(\d+) more cases", shown)[0])

    paper = EscapingConsole(width=80, file=io.StringIO(), highlight=False)
    paper.print(finding_report("1", entry_of(reported(record.finding, explanation, kept, further))))

    assert f"{further + 1} of " in shown.partition("\n")[0]
    assert paper.file.getvalue() in shown  # type: ignore[attr-defined]


# Python


@pytest.mark.parametrize("page", [page for page, text in DOCUMENTS.items() if blocks(text, "python")])
def test_the_python_examples_parse_and_import_what_there_is(page: str) -> None:
    for block in blocks(DOCUMENTS[page], "python"):
        for statement in ast.walk(ast.parse(block)):
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("harness"):
                exec(ast.unparse(statement))  # noqa: S102


@pytest.mark.parametrize("page", [page for page, text in DOCUMENTS.items() if blocks(text, "pycon")])
def test_what_is_typed_into_python_answers_as_it_is_told(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    unfenced = re.sub(r"^```.*$", "", DOCUMENTS[page], flags=re.MULTILINE)
    example = doctest.DocTestParser().get_doctest(unfenced, {}, page, None, 0)

    assert len(example.examples) > 10
    assert doctest.DocTestRunner().run(example).failed == 0


def assert_agrees(code: str, cases: int) -> harness.Scope:
    """Run an example that defines ``rnn``, which must agree, and return what it offers."""
    port = ModuleType("port")
    exec(code, vars(port))  # noqa: S102

    offered = harness.offered(port.rnn)
    record = harness.hunt(FunctionSubject(port.rnn, "port"), offered, cases=cases)

    assert record.verdict is Verdict.AGREES
    assert record.unsupported_unrefused == {}
    return offered


def test_the_port_of_the_how_to_guide_agrees() -> None:
    offered = assert_agrees(blocks(section("docs/how-to-functions.md", "## Check gradients"), "python")[0], 40)

    assert any(offered.loss)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no c++")
def test_the_port_to_cpp_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = section("docs/how-to-devices.md", "## Check a port to C++")
    (shell,), (python,) = (blocks(part, kind) for kind in ("sh", "python"))
    shutil.copy(ROOT / "examples" / "languages" / "rnn_ctypes.cpp", tmp_path)
    subprocess.run(shell.splitlines()[0].split(), check=True, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)

    assert_agrees(python, 60)


def test_the_case_in_the_file_formats_is_read() -> None:
    case, notes = from_json(blocks(section("docs/formats.md", "## A case"), "json")[0])

    assert case.config == harness.RNNConfig(1, 1, T=2, N=1, bias=False)
    assert case.x.ravel().tolist() == [0.5, float("inf")]
    assert notes == {"subject": "my_rnn.py:rnn"}


# pytest


FUNCTIONS: Final = {
    "right": "from tests.implementations import vectorised as rnn",
    "refuses": """
from tests.implementations import vectorised

def rnn(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity == "relu":
        raise NotImplementedError("one tanh layer, one direction")
    if config.batch_first and config.dtype != "float64":
        raise NotImplementedError("batch first in float64 only")
    return vectorised(x, h0, weights, config)
""",
    "wrong": "from tests.implementations import without_b_hh as rnn",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_for_pytest(name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [DOCUMENTS["README.md"], DOCUMENTS["docs/pytest.md"]]
    tests = [block for page in pages for block in blocks(page, "python") if "def test_" in block]
    (conftest,) = [block for page in pages for block in blocks(page, "python") if "def pytest_sessionstart" in block]
    monkeypatch.setenv("DEVICE", "cpu")
    pytester.makeconftest(conftest)
    pytester.makepyfile(my_rnn=f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FUNCTIONS[name]}")
    files = {}
    for kind, block in zip(("property", "pinned", "strata"), tests, strict=True):
        for given, less in (
            ("range(2)", "range(1)"),
            ("cases=200", "cases=40"),
            ("(deadline=", "(max_examples=20, deadline="),
        ):
            block = block.replace(given, less)  # which takes a tenth of the time
        files[f"test_{kind}"] = block
    pytester.makepyfile(**files)

    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--rnn-profile=ci")

    if name == "wrong":
        failed = [line.split()[1] for line in result.outlines if line.startswith("FAILED ")]
        assert {line.partition(".py")[0] for line in failed} == set(files)
        named = [line for line in result.outlines if line.startswith("E ") and "ignores bias_hh: b_hh is never" in line]
        assert len(named) == len(failed)
        assert list(Path(pytester.path, "examples", "cpu").iterdir())
    else:
        assert result.parseoutcomes().keys() == {"passed"}, result.outlines
