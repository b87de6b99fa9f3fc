"""The work of a Dask worker: it has a process of its own make each call, as a crew of this machine would.

So a subject that crashes leaves the Dask worker alone, and what Dask's threads do, such as to use ``random``, leaves
the subject alone.
"""

from __future__ import annotations

import atexit
import os
import pickle
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, wait
from contextlib import ExitStack
from functools import lru_cache
from multiprocessing import current_process
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.search.crew import processes
from harness.space.errors import UsageError
from harness.subjects.ground import alike
from harness.subjects.isolated import ahead
from harness.threads import one_thread_a_process

LOOK: Final = 0.5
"""The seconds between two looks whether anybody still waits for a call."""

_OPENED: Final = ExitStack()
"""The process of the last order."""


class Order(NamedTuple):
    """The facts that calls have in common."""

    token: str
    """Calls with the same one share a process."""
    folder: str
    """The folder of the command, where a worker that has it looks for files, too."""
    facts: tuple[tuple[str, str], ...]
    """The versions and variables that the worker must have, as in ``alike``."""
    subjects: tuple[str, ...]


class _Call(NamedTuple):
    work: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.work, self.arguments


def call(work: Callable[..., Any], *arguments: Any) -> bytes:
    """Return a call as bytes: unpickling them makes it, and gives its result."""
    return pickle.dumps(_Call(work, arguments))


def do(order: Order, asked: bytes) -> tuple[str, bytes]:
    """Make a call in this worker's process for an order, and return the worker's address and what ``answer`` gives.

    Raises ``UsageError`` if the worker has not what it must have, and ``BrokenProcessPool`` if the process dies. It is
    ended if the call is cancelled.
    """
    from distributed import get_worker

    worker = get_worker()
    future = _process(order).submit(answer, order.folder, asked)
    while not wait([future], LOOK).done:
        task = worker.state.tasks.get(worker.get_current_task())
        if task is None or task.state != "executing":
            _process.cache_clear()
            _OPENED.close()
            raise CancelledError("nobody waits for it any more")
    return worker.address, future.result()


@lru_cache(1)
def _process(order: Order) -> Executor:
    """Return a process for an order; that of the order before ends."""
    if (other := difference(alike(), dict(order.facts))) is not None:
        raise UsageError(other)
    _OPENED.close()
    current_process().daemon = False  # a nanny starts its worker as one, which may have no processes of its own
    one_thread_a_process()
    ahead(order.subjects)
    return _OPENED.enter_context(processes(1))


atexit.register(_OPENED.close)


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Return the first fact in which a worker differs from the command; ``None`` if there is none."""
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            return f"{name}={there.get(name, 'none')}: expected {here.get(name, 'none')}"
    return None


def answer(folder: str, asked: bytes) -> bytes:
    """Make a call, and return its result and its error, one of which is ``None``."""
    try:
        if Path(folder).is_dir():
            os.chdir(folder)
        return pickle.dumps((pickle.loads(asked), None))  # noqa: S301 - it comes from the command
    except Exception as error:  # noqa: BLE001 - it is raised where it was asked
        error.add_note(traceback.format_exc())
        return pickle.dumps((None, error))
