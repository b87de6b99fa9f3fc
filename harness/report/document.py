"""Writing of reports as data, each with the version of its form."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from harness.space.atomic import atomic_write

VERSION: Final = 2
"""The version of the documents' form; a change that readers could stumble over raises it."""


def write(document: dict[str, Any], target: str) -> None:
    """Write a document to a file, atomically, or to standard output for ``-``. Raise ``OSError`` if that fails."""
    text = json.dumps({"version": VERSION, **document}, indent=2, default=str, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_write(target) as file:
        file.write(text.encode())
