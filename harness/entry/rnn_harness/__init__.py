"""The entry points, in a package of a name of its own: they say so if another ``harness`` hides this project's.

This is installed beside ``harness``, because nothing inside a hidden package can be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

MARK: Final = '"""rnn-harness: '
"""The first words of the source of ``harness``, if it is this project's."""

MISUSE: Final = 2


def hidden() -> str | None:
    """Say what is in the way of ``harness`` and what to do, in one line; return ``None`` if nothing is."""
    spec = find_spec("harness")
    if spec is None:
        return "rnn-harness: its package harness is not installed; install rnn-harness again"
    if spec.origin is not None and Path(spec.origin).read_text(errors="replace").startswith(MARK):
        return None
    place = spec.origin or ", ".join(spec.submodule_search_locations or ())
    return f"rnn-harness: {place} hides its package harness; rename that, or work where it is not on the path"


def main() -> None:
    """Run the command rnn-harness."""
    if said := hidden():
        print(said, file=sys.stderr)  # noqa: T201 - without `harness` there is no console
        sys.exit(MISUSE)
    import_module("harness.cli.main").main()


class Absent:
    """A plugin for pytest without ``harness``: a session that asks nothing of it runs, and its header says so."""

    def __init__(self, said: str) -> None:
        self._said = said

    def pytest_load_initial_conftests(self, args: list[str]) -> None:
        """Stop a session that asks for what is not there."""
        import pytest

        if any(argument.startswith("--rnn-") for argument in args):
            raise pytest.UsageError(self._said)

    def pytest_report_header(self) -> str:
        """Return the line that says so."""
        return self._said


def __getattr__(name: str) -> Any:
    """Return the plugin when pytest asks for it, and only then."""
    if name != "plugin":
        raise AttributeError(f"module 'rnn_harness' has no attribute {name!r}")
    return Absent(said) if (said := hidden()) else import_module("harness.plugin")
