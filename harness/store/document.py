"""Reports as data, written to a file or to standard output, each with the version of its form."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harness.report.coverage import VERSION
from harness.space.atomic import atomic_write
from harness.space.errors import UsageError


def require_target(target: str | None, option: str) -> None:
    """Raise ``UsageError`` at once if the document of an option cannot be written to a target."""
    if target in {None, "-"}:
        return
    path = Path(str(target)).absolute()
    if not target or path.is_dir():
        raise UsageError(f"{option} {target!r}: expected a file's name")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {target}: its folder does not exist")


def write(document: dict[str, Any], target: str) -> None:
    """Write a document to a file, atomically, or to standard output for ``-``. Raise ``OSError`` if that fails."""
    text = json.dumps({"version": VERSION, **document}, indent=2, default=str, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_write(target) as file:
        file.write(text.encode())
