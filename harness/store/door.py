"""The door for documents that others may have written: they are read up to a size, and JSON is held to the schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.report import schema
from harness.space.errors import UsageError

LARGEST: Final = 2**26
"""The most bytes of a document; that of the longest search has less than a hundredth."""


def text(path: Path) -> str:
    """Return the text in a file. Raise ``UsageError`` in one line if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise UsageError(f"{path}: expected at most {LARGEST:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected text in UTF-8") from None


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raise ``UsageError`` in one line if there is none."""
    content = text(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected an object")
    return document


def error_in(document: dict[str, Any], kind: str, *, whole: bool = True) -> str | None:
    """Return the first thing that a document has against the schema of its kind, with its place.

    One that need not be ``whole`` may lack fields, and have others.
    """
    if document.get("version") != schema.version():
        return f"version={document.get('version')!r}: expected {schema.version()}"
    for error in _validator(kind).iter_errors(document):
        if not whole and not error.absolute_path and error.validator in {"required", "unevaluatedProperties"}:
            continue
        said = " ".join(error.message.split())
        return f"{error.json_path.removeprefix('$.')}: {said if len(said) <= 100 else f'{said[:99]}…'}"
    return None


@cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator  # takes a quarter of a second, and few commands need it

    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": json.loads(schema.text())["$defs"]})
