"""compiled: a folder in which JAX keeps what it compiles, so that each process of a subject need not do it again.

A function that traces a new closure in every call compiles in every call, also for a shape that it knows.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Final

FOLDER: Final = "JAX_COMPILATION_CACHE_DIR"
"""The variable that names the folder; one that the user has set stays as it is."""

LEAST: Final = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
"""The variable that says from how many seconds on a compilation is kept. A step of an RNN takes less than the usual 1.
"""

_FOLDERS: Final[list[TemporaryDirectory[str]]] = []
"""The folder, which is removed when this process ends."""


def keep_compiled() -> None:
    """Name such a folder in the environment of this process and those that it starts."""
    if FOLDER not in os.environ:
        _FOLDERS.append(TemporaryDirectory(prefix="rnn-harness-jax-"))
        os.environ[FOLDER] = _FOLDERS[0].name
        os.environ.setdefault(LEAST, "0")
