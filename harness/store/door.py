"""The door for documents that others may have written: they are read up to a size, and held against the schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.report import schema
from harness.space.errors import UsageError

LARGEST: Final = 2**26
"""The most bytes of a document; those of the largest finding and the longest search have less than a hundredth."""


def read(path: Path, kind: str) -> dict[str, Any]:
    """Return a document of this kind. Raise ``UsageError`` in one line if there is none, or another one."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(text) > LARGEST:
        raise UsageError(f"{path}: expected at most {LARGEST:,} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected an object")
    if document.get("version") != schema.version():
        raise UsageError(f"{path}: version={document.get('version')!r}: expected {schema.version()}; write it again")
    if (error := _first_error(document, kind)) is not None:
        raise UsageError(f"{path}: {error}; write it again")
    return document


def _first_error(document: dict[str, Any], kind: str) -> str | None:
    """Return the first thing that a document has against the schema, with its place."""
    for error in _validator(kind).iter_errors(document):
        said = " ".join(error.message.split())
        return f"{error.json_path.removeprefix('$.')}: {said if len(said) <= 100 else f'{said[:99]}…'}"
    return None


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator  # takes a quarter of a second, and few commands need it

    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": json.loads(schema.text())["$defs"]})
