"""What is installed: the metadata, the entry points beside another ``harness``, and a wheel in an empty environment."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, Final

import pytest

import harness

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
HIDES: Final = "hides its package harness; rename that, or"


def run(*command: str | Path, cwd: Path, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


# The metadata


def test_the_version_is_written_in_one_place_and_the_citation_has_it() -> None:
    citation = (ROOT / "docs" / "CITATION.cff").read_text()

    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "harness.__version__"
    assert f"\nversion: {harness.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['project']['license']}\n" in citation
    assert f"\n## {harness.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_is_no_code_goes_into_the_wheel() -> None:
    package = ROOT / "harness"
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["harness"]

    assert others - {path for pattern in patterns for path in package.glob(pattern)} == set()
    assert [pattern for pattern in patterns if not list(package.glob(pattern))] == []


def imported(path: Path) -> Iterator[str]:
    """Yield the first names of what a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    required = PROJECT["project"]["dependencies"]
    extras = [one for some in PROJECT["project"]["optional-dependencies"].values() for one in some]
    needed, declared = (
        {re.split(r"[^\w-]", one)[0].lower() for one in some} for some in (required, [*required, *extras])
    )
    names = {name for path in (ROOT / "harness").rglob("*.py") for name in imported(path)}
    offered = {"paddle": ["paddlepaddle"]}  # which may not be installed
    offered |= {name: [one.lower() for one in some] for name, some in packages_distributions().items()}
    names -= {*sys.stdlib_module_names, "harness"}

    assert {name for name in names if not {*offered.get(name, [name])} & declared} == set()
    assert needed - {one for name in names for one in offered.get(name, [name])} == set()


# The entry points


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with what an installation has, but for its dependencies."""
    info = tmp_path / "site" / "rnn_harness-0.1.0.dist-info"
    info.mkdir(parents=True)
    copytree(ROOT / "harness" / "entry" / "rnn_harness", tmp_path / "site" / "rnn_harness")
    (tmp_path / "site" / "harness").symlink_to(ROOT / "harness")
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: rnn-harness\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("harness/__init__.py,,\nrnn_harness/__init__.py,,\n")  # pytest rewrites what is here
    (info / "entry_points.txt").write_text("[pytest11]\nrnn-harness = rnn_harness:plugin\n")
    return tmp_path / "site"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a user's project, which has a ``harness`` with modules of our names."""
    package = tmp_path / "theirs" / "harness"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Harness of a user."""\n')
    for name in ("cli", "plugin"):
        (package / f"{name}.py").write_text("raise SystemExit('theirs was run')\n")
    (package.parent / "test_theirs.py").write_text("def test_theirs():\n    import harness\n")
    return package.parent


COMMAND: Final = (sys.executable, "-c", "from rnn_harness import main; main()", "--version")
PYTEST: Final = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly")


def test_the_command_says_in_one_line_what_hides_it(site: Path, theirs: Path) -> None:
    done = run(*COMMAND, cwd=theirs, path=(site,))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rnn-harness: {theirs / 'harness' / '__init__.py'} {HIDES}")
    assert done.stderr.count("\n") == 1


def test_a_session_of_pytest_gets_the_plugin_where_nothing_hides_it(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine():\n    import harness\n")

    done = run(*PYTEST, "--rnn-profile=ci", cwd=tmp_path, path=(site,))

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_session_of_pytest_with_another_harness_runs_and_says_so(site: Path, theirs: Path) -> None:
    done = run(*PYTEST, cwd=theirs, path=(site,))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert f"rnn-harness: {theirs / 'harness' / '__init__.py'} {HIDES}" in done.stderr


# The wheel


def in_(place: Path, name: str) -> Path:
    """Return a program of an environment."""
    return place / ("Scripts" if os.name == "nt" else "bin") / name


@pytest.mark.long
@pytest.mark.skipif(not (find_spec("build") and find_spec("twine")), reason="`tox -e package` has build and twine")
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path, theirs: Path) -> None:
    source, built, clean = tmp_path / "source", tmp_path / "dist", tmp_path / "clean"
    copytree(ROOT, source, ignore=ignore_patterns(".*", "*.egg-info", "build", "dist"))  # a build writes beside it
    made = run(sys.executable, "-m", "build", "--outdir", built, source, cwd=tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,), (_,) = built.glob("*.whl"), built.glob("*.tar.gz")
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    venv.create(clean, with_pip=True)
    installed = run(in_(clean, "python"), "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert run(in_(clean, "python"), "-m", "pip", "check", cwd=tmp_path).returncode == 0

    names = run(in_(clean, "python"), "-c", "from harness import *; print(explain, assert_agrees)", cwd=tmp_path)
    version = run(in_(clean, "rnn-harness"), "--version", cwd=tmp_path)
    notebook = f"{ROOT / 'examples' / 'notebook.py'}:rnn_without_b_hh"
    checking = run(in_(clean, "rnn-harness"), "check", notebook, "--examples", "20", "-n", "0", cwd=tmp_path)
    hidden = run(in_(clean, "rnn-harness"), "--version", cwd=tmp_path, path=(theirs,))

    assert names.returncode == 0, names.stderr
    assert version.stdout.startswith(f"rnn-harness {harness.__version__}\n"), version.stderr
    assert "ignores bias_hh: b_hh is never added" in checking.stdout, checking.stderr
    assert (hidden.returncode, HIDES in hidden.stderr, hidden.stderr.count("\n")) == (2, True, 1)
