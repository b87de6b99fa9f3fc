"""The door for documents that others may have written: they are read up to a size, and held against the schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.report import schema
from harness.space.errors import UsageError

LARGEST: Final = 2**26
"""The most bytes of a document; that of the longest search has less than a hundredth."""


def read(path: Path, kind: str, writer: str) -> dict[str, Any]:
    """Return a document of a kind, which the command ``writer`` writes.

    Raises ``UsageError``, in one line, if there is none, or another one.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    wanted = f"expected a file of `{writer}`"
    if len(text) > LARGEST:
        raise UsageError(f"{path}: more than {LARGEST:,} bytes; {wanted}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: not JSON; {wanted}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: no object; {wanted}")
    if document.get("version") != schema.version():
        raise UsageError(f"{path}: version={document.get('version')!r}: expected {schema.version()}; write it again")
    if (wrong := _first_error(document, kind)) is not None:
        raise UsageError(f"{path}: {wrong}; {wanted}")
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
