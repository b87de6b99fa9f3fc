"""pool: worker processes that hear no Ctrl-C, end with whoever started them, and leave nobody waiting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, Final

LOOK: Final = 0.1
"""Seconds between two looks for a worker that died, each of which takes some 5 microseconds."""


@contextmanager
def worker_pool(
    workers: int, start_method: str = "spawn", initializer: Callable[..., Any] = dict, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes, all of them started; at the end they are ended, whatever they are doing.

    ``initializer`` runs in each before anything else; unless given, it does nothing.
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
        pool.shutdown()  # what was not done breaks with them; were it cancelled, Python 3.11 would stumble over it


def _break_with_one(pool: ProcessPoolExecutor, ended: threading.Event) -> None:
    """Break the pool when a worker dies, whatever that worker was doing.

    The executor sees a death between two results. In the middle of one it waits for the rest, and the other workers
    wait for their turn to write, which the dead one does not give up.
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

    A worker that ends in the middle of one leaves its beginning, and whoever reads that waits for the rest as long
    as anybody could write it: which the executor itself could, for it keeps that end open.
    """
    writer = getattr(getattr(pool, "_result_queue", None), "_writer", None)
    if writer is not None:
        writer.close()


def _ready(initializer: Callable[..., Any], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initializer(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextmanager
def _unheard_interrupts() -> Iterator[None]:
    """Processes started in here do not hear Ctrl-C, which a terminal sends to all, before they can say so."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
