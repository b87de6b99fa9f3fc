"""Names of subjects that mean the same on every machine: a file is named by its place in its repository."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

PYTHON: Final = "python:"
"""The start of the name of a subject under another interpreter; the interpreter and the subject follow."""


def portable(spec: str) -> str:
    """Return a subject's name with its file by the path from the root of the file's repository.

    So the name depends neither on how the path was typed nor on where the repository lies. Outside of a repository it
    is the path from the working folder. Names without a file stay as they are, and so does another interpreter.
    """
    before, own = parted(spec)
    typed, _, name = own.rpartition(":")
    if not typed.endswith(".py"):
        return spec
    try:
        folder = Path(typed).parent.resolve()
        root = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), Path.cwd())
        path = os.path.relpath(folder / Path(typed).name, root)
    except (OSError, ValueError):  # no such path can be, or it is on another drive
        return spec
    found = f"{Path(path).as_posix()}:{name}"
    return f"{before}{shlex.quote(found)}" if before else found


def parted(spec: str) -> tuple[str, str]:
    """Return what names another interpreter, or nothing, and the rest of a subject's name."""
    try:
        words = shlex.split(spec.removeprefix(PYTHON)) if spec.startswith(PYTHON) else []
    except ValueError:
        words = []
    return (f"{PYTHON}{shlex.quote(words[0])} ", words[1]) if len(words) == 2 else ("", spec)
