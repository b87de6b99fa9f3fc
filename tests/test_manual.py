"""The manual: its examples run, its tables are those of the code, and Sphinx builds it without a warning."""

from __future__ import annotations

import ctypes
import doctest
import importlib.util
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import harness
from harness.checks.result import Verdict
from harness.diagnosis.faults import CATALOGUE, FAMILIES
from harness.space.case_json import from_json, to_json
from harness.store.met import document
from harness.subjects.function import FunctionSubject
from tests.test_readme import DOCUMENTS, FENCED, PAGES, ROOT, blocks, first_column, section

TALKS: Final = [name for name in PAGES if name != "docs/architecture.md" and blocks(PAGES[name], "pycon")]


@pytest.fixture(scope="module")
def generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Examples


@pytest.mark.parametrize("page", TALKS)
def test_what_is_typed_into_python_answers_as_it_is_told(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    unfenced = re.sub(r"^```.*$", "", PAGES[page], flags=re.MULTILINE)
    example = doctest.DocTestParser().get_doctest(unfenced, {}, page, None, 0)

    assert len(example.examples) > 10
    assert doctest.DocTestRunner().run(example).failed == 0


def test_there_is_a_tutorial_in_python() -> None:
    assert TALKS == ["docs/tutorial.md"]


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no c++")
def test_the_port_to_cpp_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how_to = section(PAGES["docs/how-to.md"], "## Check a port to C++")
    (code,), (shell,), (python,) = (blocks(how_to, kind) for kind in ("cpp", "sh", "python"))
    (tmp_path / "rnn.cpp").write_text(code)
    subprocess.run(shell.splitlines()[0].split(), check=True, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    port = ModuleType("port")
    exec(python, vars(port))  # noqa: S102

    offered = harness.offered(port.rnn)
    record = harness.hunt(FunctionSubject(port.rnn, "port"), offered, cases=60)

    assert isinstance(port.lib, ctypes.CDLL)
    assert record.verdict is Verdict.AGREES
    assert record.undone == {}
    assert offered.bias == (True, False)


# File formats


def test_the_case_in_the_file_formats_is_one_with_all_that_is_told() -> None:
    part = section(PAGES["docs/formats.md"], "## A case")
    case, notes = from_json(blocks(part, "json")[0])
    told = [cell.strip("`") for cell in first_column(part)[1:]]

    assert case.config == harness.RNNConfig(1, 1, T=2, N=1, bias=False)
    assert case.x.ravel().tolist() == [0.5, float("inf")]
    assert notes == {"subject": "my_rnn.py:rnn"}
    assert told == re.findall(r'^  "(\w+)": ', to_json(harness.draw(case.config), note=1), re.MULTILINE)


def test_the_order_of_arrays_in_a_case_is_as_it_is_told() -> None:
    case = harness.draw(harness.RNNConfig(1, 1, hx=True, loss="both"))

    assert list(case.arrays) == ["x", "hx", *case.weights, "output.grad", "h_n.grad"]
    assert "`x`, `hx` if it is passed, the weights under" in PAGES["docs/formats.md"]


def test_what_a_search_met_is_written_as_it_is_told() -> None:
    assert list(document([])) == ["coverage"]
    assert "an object with `version` and `coverage`" in " ".join(PAGES["docs/formats.md"].split())


# Tables


def test_the_families_of_mistakes_are_told_as_their_files_tell_them() -> None:
    rows = [line for line in PAGES["docs/faults.md"].splitlines() if line.startswith("| `")]
    files = [re.findall(r"\[(\w+)\.py\]", row)[0] for row in rows]
    says = [str(import_module(f"harness.diagnosis.faults.{file}").__doc__).splitlines()[0] for file in files]

    assert [row.split("`")[1] for row in rows] == list(FAMILIES)
    assert [row.split(" | ")[1] for row in rows] == [said.partition(": ")[2].removesuffix(".") for said in says]
    assert [import_module(f"harness.diagnosis.faults.{file}").FAULTS for file in files] == list(FAMILIES.values())


def test_the_tables_of_mistakes_have_each_one_with_three_cells(generated: Any) -> None:
    text = generated.faults()
    rows = [line for line in text.splitlines() if line.startswith("| **")]

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(FAMILIES)
    assert [row.split("**")[1] for row in rows] == [fault.name for fault in CATALOGUE]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {5}
    row = next(row for row in rows if row.startswith("| **IgnoresBiasHH**"))
    assert row.endswith(
        "| `h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T)`<br>`h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)` "
        "| `RNNConfig(1, 1, T=1, N=1)` |"
    )


def test_the_api_has_every_public_name(generated: Any) -> None:
    said = re.findall(r"^\.\. auto(class|function):: harness\.(\w+)$", generated.api(), re.MULTILINE)

    assert [name for _, name in said] == harness.__all__
    assert {kind for kind, name in said if isinstance(getattr(harness, name), type)} == {"class"}


def test_every_page_has_its_place_beside_the_others(generated: Any) -> None:
    placed = [(Path("docs") / f"{page}.md") for pages in generated.PARTS.values() for page in pages]
    names = [path.as_posix().replace("docs/../", "") for path in placed]

    assert sorted(names) == sorted({*DOCUMENTS, "CHANGELOG.md"} - {"docs/index.md"})
    assert all(f":caption: {part}\n" in generated.contents() for part in generated.PARTS)


# The build


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason="`tox -e docs` has Sphinx")
def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".git", ".[!g]*", "*.egg-info", "build", "dist", "_build", "tests")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)
    with (tmp_path / "source" / "docs" / "limits.md").open("a") as page:
        page.write("\nSee [nothing](how-to.md#no-such-part).\n")

    built = (sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", "html")
    done = subprocess.run(built, cwd=tmp_path / "source", capture_output=True, text=True, check=False)

    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert done.returncode != 0
    assert len(warnings) == 1, done.stderr
    assert "no-such-part" in warnings[0]


def test_no_page_has_what_only_sphinx_reads() -> None:
    fences = {kind for text in PAGES.values() for kind, _ in FENCED.findall(text)}

    assert fences <= {"", "python", "pycon", "sh", "fish", "json", "cpp", "toml", "yaml", "xml"}
    assert [name for name, text in PAGES.items() if re.search(r"^(?:```|:::)\{|^\(\w+\)=$", text, re.MULTILINE)] == []
