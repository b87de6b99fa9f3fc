"""The schema of the JSON documents, which is published with the package; it alone says their version."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

_FILE: Final = Path(__file__).with_name("schema.json")


def text() -> str:
    """Return the JSON Schema of all documents, as its file has it."""
    return _FILE.read_text(encoding="utf-8")


@cache
def version() -> int:
    """Return the version of the schema, which every document carries."""
    number: int = json.loads(text())["$defs"]["version"]["const"]
    return number


def heading(document: str) -> dict[str, Any]:
    """Return the fields with which a document of this kind begins."""
    return {"version": version(), "document": document}
