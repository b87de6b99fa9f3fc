"""own_findings: notes of the findings that this machine wrote, in the user's state folder and not beside them.

A finding names what ``replay`` runs, and may come from anybody. One that was written here is noted by its place and its
content, so that none which was moved, edited or copied here passes for it.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.space.errors import UsageError
from harness.space.reading import read_bytes

NOTES: Final = "own-findings"  # the file of the notes, a line of 65 bytes for each time that a finding was written

MOST_NOTES: Final = 2**30  # the most bytes of it that are read, 16 million lines


def note(folder: Path, *contents: bytes) -> None:
    """Note that this machine writes a finding of these contents into a folder; without a state folder, do nothing.

    A line is added by one call to the system, so processes that add one at once lose none.
    """
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        state = _state_folder()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (state / NOTES).open("ab", buffering=0) as file:
            file.write(_line(folder, contents))


def is_noted(folder: Path, *contents: bytes) -> bool:
    """Tell if this machine wrote a finding of these contents into a folder."""
    with suppress(OSError, RuntimeError, UsageError):
        return _line(folder, contents) in read_bytes(_state_folder() / NOTES, MOST_NOTES)
    return False


def _line(folder: Path, contents: tuple[bytes, ...]) -> bytes:
    # The path as it is typed, not where links lead: a link in somebody's folder must not lead to a finding of ours.
    parts = [os.path.abspath(folder), *(hashlib.sha256(content).hexdigest() for content in contents)]  # noqa: PTH100
    return f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}\n".encode()


def _state_folder() -> Path:
    """Return the folder for this program's state, as the platform has it. Raise ``RuntimeError`` without a home."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():  # the specification has a relative one ignored
        return given / "rnn-harness"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "rnn-harness"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "rnn-harness"
    return Path.home() / ".local" / "state" / "rnn-harness"
