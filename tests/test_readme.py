"""Tests of the README: its claims hold."""

import re
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    (command,) = re.findall(r"^python3 -m venv .*tox -e py$", README, re.MULTILINE)

    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("word", sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))))
def test_every_option_that_it_names_exists(word: str) -> None:
    plugin = (ROOT / "harness" / "plugin.py").read_text()
    ours = {option for command in cli.cli.commands.values() for p in command.params for option in p.opts}

    assert word in ours or f'"{word}"' in plugin or word == "--quiet"


def test_the_numbers_it_gives_are_the_code_s() -> None:
    from harness.search.hunt import AFTER, CASES
    from harness.search.shrink import SEEDS
    from harness.space.values import REGIMES

    assert f"{CASES:,} cases unless told otherwise" in README
    assert f"with {SEEDS * len(REGIMES)} drawn sets of values" in README
    assert f"{AFTER} cases\n  further" in README
