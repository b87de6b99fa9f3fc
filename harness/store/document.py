"""Documents, written to files or to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.report.schema import heading
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


def write_json(name: str, record: Mapping[str, Any], target: str) -> None:
    """Write a record as a JSON document of the schema, as ``write`` does; ``name`` is the kind of document."""
    write(json.dumps({**heading(name), **record}, indent=2, default=str, allow_nan=False) + "\n", target)


def write(text: str, target: str) -> None:
    """Write a text to a file, atomically, or to standard output for ``-``. Raise ``OSError`` if that fails."""
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_write(target) as file:
        file.write(text.encode())
