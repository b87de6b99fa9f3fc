"""A second run for a pytest item whose xdist worker died in a subject, which then gets a process of its own.

The controller and its workers are different processes. They share a folder with one empty file for each item that has
called a subject, and one for each item that runs again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

_CALLED, _AGAIN = ".called", ".again"

_folder: Path | None = None
"""The folder that the controller shares with this worker; ``None`` outside of a worker."""


def share(folder: Path) -> None:
    """Use the controller's folder in this worker."""
    global _folder  # noqa: PLW0603 - one worker, one folder
    _folder = folder


def before_call() -> bool:
    """Note that the running item calls a subject, and return ``True`` if this is the item's second run."""
    item = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    if _folder is None or not item:
        return False
    with suppress(OSError):  # then the item has no second run
        _file(_folder, item, _CALLED).touch()
    return runs_again(item)


def runs_again(item: str) -> bool:
    """Return ``True`` in a worker that gives an item its second run."""
    return _folder is not None and _file(_folder, item, _AGAIN).exists()


def has_a_second_run(folder: Path, item: str) -> bool:
    """Return ``True`` if an item that died was calling a subject, and note that it runs again; it does so only once."""
    again = _file(folder, item, _AGAIN)
    if again.exists() or not _file(folder, item, _CALLED).exists():
        return False
    again.touch()
    return True


def _file(folder: Path, item: str, kind: str) -> Path:
    return folder / f"{hashlib.sha256(item.encode('utf-8', 'surrogateescape')).hexdigest()}{kind}"
