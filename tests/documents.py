"""Documents held against the schema that is published with the package."""

import json
from typing import Any, Final

from jsonschema import Draft202012Validator

from harness.report import schema

SCHEMA: Final[dict[str, Any]] = json.loads(schema.text())


def fits(record: Any, name: str) -> bool:
    """Return whether a plain record fits a definition of the schema."""
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}).is_valid(record)


def errors(record: Any, name: str | None = None) -> list[str]:
    """Return what a document has against the schema, or a record against one of its definitions, with the places."""
    wanted = SCHEMA if name is None else {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    plain = json.loads(json.dumps(record, default=str, allow_nan=False))
    found = Draft202012Validator(wanted).iter_errors(plain)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]
