"""The commands in the jobs of examples/ci and of this project parse."""

import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from harness.cli import main

ROOT: Final = Path(__file__).parents[1]
JOBS: Final = sorted([*(ROOT / "examples" / "ci").iterdir(), *(ROOT / ".github" / "workflows").glob("*.yml")])
COMMAND: Final = re.compile(r"rnn-harness (\w+) ([^|&;\n]+)")


@pytest.mark.parametrize("path", [path for path in JOBS if COMMAND.search(path.read_text())], ids=lambda one: one.name)
def test_its_commands_are_those_of_the_command_line(path: Path) -> None:
    text = path.read_text().replace("\n          ", " ").replace("$GITHUB_RUN_ID", "1")
    group = click.Context(main.cli, **main.cli.context_settings)  # without it, click keeps other help options

    for command, words in COMMAND.findall(text):
        main.cli.commands[command].make_context(command, shlex.split(words), parent=group)
