"""The output of the commands: the console for people, and documents, which go to files or standard output."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.space.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def console_for(json_to: str | None) -> Console:
    """Return the console for people beside a report as data."""
    return console_beside({"--json": json_to})


def console_beside(targets: Mapping[str, str | None]) -> Console:
    """Return the console for people, which is standard error if a document goes to standard output.

    Targets by their options that cannot be written to are refused at once.
    """
    from harness.report.paper import Paper
    from harness.store.document import require_targets

    require_targets(targets)
    return Paper(stderr="-" in targets.values(), highlight=False)


def require_page(target: str | None) -> None:
    """Refuse at once an HTML report that cannot be drawn."""
    from harness.report.page.render import require

    if target is not None:
        require("--report")


def typed() -> str:
    """Return the command as it was typed."""
    return shlex.join(["rnn-harness", *sys.argv[1:]])


def write_json(name: str, record: Mapping[str, Any], target: str | None, option: str = "--json") -> None:
    """Write a JSON document, whose kind has this name in the schema."""
    from harness.store.document import as_json

    if target is not None:
        put(as_json(name, record), target, option)


def put(text: str, target: str, option: str) -> None:
    """Write a document to the target of an option."""
    from harness.store import document

    try:
        document.write(text, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{option} {target}: cannot be written: {error}") from None
