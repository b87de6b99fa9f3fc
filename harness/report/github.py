"""GitHub: the workflow commands by which it shows errors beside the lines of a subject's file."""

import ast
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.report.finding_entry import FindingEntry, SubjectFindings
from harness.report.upgrade import DefectStanding, UpgradeComparison
from harness.space.reading import MOST_WRITTEN, read_bytes

# The variable that holds the folder of the checkout, to which the names of files are relative.
_WORKSPACE: Final = "GITHUB_WORKSPACE"

_DATA: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY: Final = {**_DATA, ":": "%3A", ",": "%2C"}  # the escapes of workflow commands, in a message and in a property


def workflow_commands(summary: SubjectFindings) -> Iterator[str]:
    """Yield a line for each thing that is wrong with a subject, and one if too little was seen."""
    return _commands(summary, lambda _entry: "error")


def upgrade_commands(upgrade: UpgradeComparison) -> Iterator[str]:
    """Yield the same of two interpreters: only what is new under the second is an error.

    What is in both is a warning, because the new one has it, and what the old one has is a notice.
    """
    both = {defect.id for defect in upgrade.of(DefectStanding.BOTH)}
    before = {(entry.title, entry.kind) for entry in upgrade.old.entries}

    def level(entry: FindingEntry | None) -> str:
        if entry is None:
            return "error"
        shared = entry.id in both if entry.id else (entry.title, entry.kind) in before
        return "warning" if shared else "error"

    yield from _commands(upgrade.old, lambda _entry: "notice")
    yield from _commands(upgrade.new, level)


def _commands(summary: SubjectFindings, level: Callable[[FindingEntry | None], str]) -> Iterator[str]:
    for entry in summary.entries:
        yield _command(level(entry), summary.headline, entry.text, _place(summary, entry))
    if summary.shortfall:
        yield _command(level(None), summary.headline, summary.shortfall, _place(summary, None))


def _place(summary: SubjectFindings, entry: FindingEntry | None) -> dict[str, str]:
    """Return the file and the line to which an annotation points: where an error was raised, or else the function."""
    if entry is not None and entry.at is not None and (name := _relative(entry.at[0])) is not None:
        return {"file": name, "line": str(entry.at[1])}
    if summary.place is None or (name := _relative(summary.place[0])) is None:
        return {}
    line = line_of(*summary.place)
    return {"file": name} | ({} if line is None else {"line": str(line)})


def line_of(file: str, name: str) -> int | None:
    """Return the line on which a file defines a function or class, by its qualified name; ``None`` if it does not."""
    try:
        body: Sequence[ast.AST] = ast.parse(read_bytes(file, MOST_WRITTEN)).body
    except (OSError, SyntaxError, ValueError):
        return None
    line = None
    for part in name.split("."):
        nodes = [node for node in body if getattr(node, "name", None) == part]
        if not nodes:
            return None
        line, body = nodes[-1].lineno, nodes[-1].body  # type: ignore[attr-defined]
    return line


def _relative(file: str) -> str | None:
    """Return a file's name in the checkout; ``None`` if it is not of the checkout."""
    folder = Path(os.environ.get(_WORKSPACE) or Path.cwd()).resolve()
    with suppress(ValueError, OSError):
        name = Path(file).resolve().relative_to(folder)
        return None if "site-packages" in name.parts else name.as_posix()
    return None


def _command(level: str, title: str, message: str, place: Mapping[str, str]) -> str:
    properties = ",".join(f"{name}={_escaped(value, _PROPERTY)}" for name, value in {**place, "title": title}.items())
    return f"::{level} {properties}::{_escaped(message, _DATA)}"


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)
