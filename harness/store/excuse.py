"""The excuse of a kept finding: a file in its folder that says until when its failure is known, and why."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Final

from harness.report.place import Excuse
from harness.report.record import excuse_record
from harness.space.atomic import atomic_write
from harness.space.errors import UsageError
from harness.store import door
from harness.store.document import as_json

FILE: Final = "excuse.json"


def read(finding: Path) -> Excuse | None:
    """Return the excuse in a finding's folder, if there is one. Raise ``UsageError`` if it is damaged."""
    path = finding / FILE
    if not os.path.exists(path):  # noqa: PTH110 - where it may not be looked at, that of pathlib raises
        return None
    document = door.read(path)
    if wrong := door.error_in(document, "excuse"):
        raise UsageError(f"{path}: {wrong}")
    return made(document["until"], document["because"], str(path))


def made(until: str, because: str, place: str) -> Excuse:
    """Return an excuse made of texts. Raise ``UsageError`` with their place if they make none."""
    try:
        day = date.fromisoformat(until)
    except ValueError:
        raise UsageError(f"{place}: until={until!r}: expected a date, such as 2027-01-31") from None
    if not because.strip() or not because.isprintable():
        raise UsageError(f"{place}: because={because!r}: expected a link or a reason, in one line")
    return Excuse(day, because)


def write(finding: Path, excuse: Excuse) -> None:
    """Put an excuse into a finding's folder, in place of an earlier one. Raise ``OSError`` if that fails."""
    with atomic_write(finding / FILE) as file:
        file.write(as_json("excuse", excuse_record(excuse) or {}).encode())


def take_back(finding: Path) -> None:
    """Remove the excuse from a finding's folder, if there is one. Raise ``OSError`` if that fails."""
    (finding / FILE).unlink(missing_ok=True)
