"""Documents, written to files or to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from harness.report.schema import heading
from harness.space.atomic import atomic_write
from harness.space.errors import UsageError


def require_targets(targets: Mapping[str, str | None]) -> None:
    """Raise ``UsageError`` at once if the document of an option cannot be written to its target, or two have one."""
    taken: dict[str, str] = {}
    for option, target in targets.items():
        if target is None:
            continue
        if target != "-":
            _require(target, option)
        place = target if target == "-" else str(Path(target).resolve())
        if place in taken:
            raise UsageError(f"{option} {target}: expected another file than {taken[place]} writes to")
        taken[place] = option


def _require(target: str, option: str) -> None:
    path = Path(str(target)).absolute()
    if not target or path.is_dir():
        raise UsageError(f"{option} {target!r}: expected a file's name")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {target}: its folder does not exist")
    if path.exists() and not path.is_file():  # a pipe, which may have no folder to write to
        return
    try:
        with TemporaryFile(dir=path.resolve().parent):  # permissions alone do not tell
            pass
    except OSError as error:
        raise UsageError(f"{option} {target}: cannot be written: {error.strerror or error}") from None


def as_json(name: str, record: Mapping[str, Any]) -> str:
    """Return a record as a JSON document of the schema; ``name`` is the kind of document."""
    return json.dumps({**heading(name), **record}, indent=2, default=str, allow_nan=False) + "\n"


def write(text: str, target: str) -> None:
    """Write a text to a file, atomically, or to standard output for ``-``. Raise ``OSError`` if that fails."""
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_write(target) as file:
        file.write(text.encode())


@contextmanager
def lines_to(target: str) -> Iterator[Callable[[str], object]]:
    """Return a function that writes a line; the file is there as a whole, and only if the block ends well."""
    if target == "-":
        yield sys.stdout.write
        return
    with atomic_write(target) as file:
        yield lambda line: file.write(line.encode())
