"""Names of subjects that mean the same on every machine: a file is named by its place in its repository."""

from __future__ import annotations

import os
from pathlib import Path


def portable(spec: str) -> str:
    """Return a subject's name with its file by the path from the root of the file's repository.

    So the name depends neither on how the path was typed nor on where the repository lies. Outside of a repository it
    is the path from the working folder. Names without a file stay as they are.
    """
    typed, _, name = spec.rpartition(":")
    if not typed.endswith(".py"):
        return spec
    try:
        folder = Path(typed).parent.resolve()
        root = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), Path.cwd())
        path = os.path.relpath(folder / Path(typed).name, root)
    except (OSError, ValueError):  # no such path can be, or it is on another drive
        return spec
    return f"{Path(path).as_posix()}:{name}"
