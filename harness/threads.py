"""The threads of a process: one that computes, and one that ends the process with its parent.

With several that compute, two workers on two cores slow each other down several times over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def one_thread_a_process() -> None:
    """Ask NumPy's and torch's thread pools for one thread, unless the user has set another number.

    Both read the variable once, when they are first imported: call this before, or in the parent of a worker.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def end_with_parent(last: Callable[[], object] | None = None) -> None:
    """End this process with its parent, so that a long call does not go on when nobody waits for it.

    ``last`` is called before it ends.
    """
    threading.Thread(target=_end_with_parent, args=(last,), daemon=True).start()


def _end_with_parent(last: Callable[[], object] | None) -> None:
    from multiprocessing import parent_process  # which the command's --help does not need

    parent = parent_process()
    if parent is not None:
        parent.join()
    if last is not None:
        last()
    os._exit(1)
