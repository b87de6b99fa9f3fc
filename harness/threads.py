"""One thread per process; with more, two workers on two cores slow each other down several times over."""

from __future__ import annotations

import os


def one_thread_a_process() -> None:
    """Ask NumPy's and torch's thread pools for one thread, unless the user has set another number.

    Both read the variable once, when they are first imported: call this before, or in the parent of a worker.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
