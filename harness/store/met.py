"""The files of ``check --coverage``, which hold what searches met: written, and read and merged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.space.errors import UsageError
from harness.space.searched import Searched
from harness.store.document import read as read_document


def document(searched: Sequence[Searched]) -> dict[str, Any]:
    """Return the data that ``read`` reads."""
    return {"coverage": [one.record() for one in searched]}


def read(paths: Sequence[Path]) -> list[Searched]:
    """Read files that ``check --coverage`` wrote, and merge them by subject. Raise ``UsageError`` for other files."""
    found: dict[str, Searched] = {}
    once = {os.path.realpath(path): path for path in paths}  # a run counts once, however often its file is named
    for path in once.values():
        for one in _of_file(path):
            if one.subject in found:
                found[one.subject].add(one)
            else:
                found[one.subject] = one
    return list(found.values())


def _of_file(path: Path) -> list[Searched]:
    again = "write it again with `rnn-harness check --coverage`"
    try:
        document = read_document(path, "met")
    except UsageError as error:
        raise UsageError(f"{error}; {again}") from None
    try:
        return [Searched.of_record(record) for record in document["coverage"]]
    except (UsageError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:200]}; {again}") from None
