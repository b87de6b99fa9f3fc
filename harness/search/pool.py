"""Worker processes that ignore Ctrl-C, end with the process that started them, and never leave it waiting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.connection import wait
from typing import Any, Final

from harness.threads import end_with_parent

LOOK: Final = 0.1
"""The seconds between two looks for a dead worker; each look takes some 5 microseconds."""


@contextmanager
def worker_pool(
    workers: int, start_method: str = "spawn", initializer: Callable[..., Any] = dict, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of ``workers`` processes, all of them started; at the end they are ended, whatever they are doing.

    ``initializer`` runs in each of them before anything else; by default, it does nothing.
    """
    before = set(active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context(start_method), initializer=_ready, initargs=(initializer, *arguments)
    )
    ended = threading.Event()
    watch = threading.Thread(target=_break_with_one, args=(pool, ended), daemon=True)
    watch.start()
    try:
        with _unheard_interrupts():
            for _ in range(workers):
                pool.submit(os.getpid)
        yield pool
    finally:
        for child in active_children():
            if child not in before:
                child.terminate()
        ended.set()
        watch.join()
        _await_no_more(pool)
        pool.shutdown()  # unfinished work breaks with them; cancelling it would make Python 3.11 fail


def _break_with_one(pool: ProcessPoolExecutor, ended: threading.Event) -> None:
    """Break the pool when a worker dies, whatever that worker was doing.

    The executor notices a death between two results. In the middle of a result it waits for the rest, and the other
    workers wait for their turn to write, which the dead one does not give up.
    """
    while not ended.wait(LOOK):
        processes = list((getattr(pool, "_processes", None) or {}).values())
        if wait([process.sentinel for process in processes], 0):
            for process in processes:
                process.terminate()
            _await_no_more(pool)
            return


def _await_no_more(pool: ProcessPoolExecutor) -> None:
    """Close this process's own end of the pipe for results.

    A worker that ends in the middle of a result leaves its beginning in the pipe. The reader waits for the rest as long
    as any process could write it; the executor itself could, because it keeps that end open.
    """
    writer = getattr(getattr(pool, "_result_queue", None), "_writer", None)
    if writer is not None:
        writer.close()


def _ready(initializer: Callable[..., Any], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    initializer(*arguments)


@contextmanager
def _unheard_interrupts() -> Iterator[None]:
    """Start processes that do not receive Ctrl-C, which a terminal sends to all, before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
