"""The entry points of the command and of the pytest plugin, which say so if another ``harness`` hides this project's.

This package is installed beside ``harness``, because nothing inside a hidden package can be imported.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

OURS = '"""rnn-harness: '  # the first words of the source of ``harness``, if it is this project's


def hidden() -> str:
    """Return what is in the way of ``harness`` and what to do, in one line; empty if nothing is."""
    spec = find_spec("harness")
    if spec is None:
        return "rnn-harness: its package harness is not installed; install rnn-harness again"
    place = spec.origin or next(iter(spec.submodule_search_locations or ()))
    if spec.origin and Path(spec.origin).read_text(errors="replace").startswith(OURS):
        return ""
    return f"rnn-harness: {place} hides its package harness; rename that, or work where it is not on the path"


def main() -> None:
    """Run the command rnn-harness."""
    if said := hidden():
        print(said, file=sys.stderr)  # noqa: T201 - without `harness` there is no console
        sys.exit(2)
    import_module("harness.cli.main").main()


def __getattr__(name: str) -> ModuleType:
    """Return the plugin when pytest asks for it, and only then; one that does nothing if it cannot be imported."""
    if name != "plugin":
        raise AttributeError(f"module 'rnn_harness' has no attribute {name!r}")
    if not (said := hidden()):
        return import_module("harness.plugin")
    print(said, file=sys.stderr)  # noqa: T201 - pytest has no reporter yet
    return ModuleType("absent")
