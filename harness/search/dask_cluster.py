"""The workers of a Dask cluster, which share a search as those of this machine do.

A Dask worker goes through a chunk in its own thread, and the subject has a process of its own beside it, so a crash
leaves the worker alone. Dask gives the chunks of a worker that died to others. The scheduler unpickles what it is sent,
so it is sent nothing but bytes and needs no package of ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from contextlib import suppress
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from harness.processes import one_thread_a_process
from harness.search.plan import PlanChunk
from harness.search.workers import WorkerAnswer, WorkerContext, WorkerPool, answer
from harness.space.errors import UsageError
from harness.subjects.environment import alike

if TYPE_CHECKING:
    from distributed import Client

LOOK: Final = 1.0  # seconds between two looks for the workers, each of which is one message


class Cluster:
    """The workers of a Dask cluster, used as ``with Cluster(address) as workers:``.

    ``scheduler`` is the address of its scheduler. Only workers with all ``resources`` are asked, and a chunk takes that
    much of them. Raises ``UsageError`` if the cluster cannot be reached in the time that Dask's own configuration
    gives, or has no such worker. If it has none later for as long, or the scheduler is lost, the workers are lost.
    """

    def __init__(self, scheduler: str, resources: Mapping[str, float] | None = None) -> None:
        self._scheduler, self._resources = scheduler, dict(resources or {})
        self._futures: WeakSet[Future[Any]] = WeakSet()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> WorkerPool:
        self._client, self._patience = _connected(self._scheduler)
        until = time.monotonic() + self._patience
        while not (number := self._fitting()):
            if time.monotonic() > until:
                self._client.close()
                raise UsageError(self._no_worker())
            time.sleep(LOOK / 10)
        self._watch.start()
        return WorkerPool(number, self._executor, share=False, scheduler=self._scheduler)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._client.close()
        self._watch.join()

    def _executor(self, _number: int) -> Executor:
        return _Bytes(self._client.get_executor(pure=False, resources=self._resources or None), self._futures)

    def _fitting(self) -> int:
        """Return the number of workers that have what a chunk takes."""
        workers: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        needed = self._resources.items()
        return sum(all(info["resources"].get(name, 0) >= least for name, least in needed) for info in workers.values())

    def _no_worker(self) -> str:
        needed = " ".join(f"{name}={number:g}" for name, number in self._resources.items())
        which, how = (f" with {needed}", f" --resources '{needed}'") if needed else ("", "")
        return (
            f"scheduler={self._scheduler}: no worker{which} within {self._patience:g} s; start one with "
            f"`dask worker {self._scheduler} --nthreads 1{how}`"
        )

    def _look(self) -> None:
        """Break what was given out when the scheduler is lost, or there has been no worker for too long."""
        last = time.monotonic()
        while not self._ended.wait(LOOK):
            with suppress(Exception):  # the next look will tell
                if self._client.status == "running" and self._fitting():
                    last = time.monotonic()
            if self._client.status == "closed" or time.monotonic() - last > self._patience:
                for future in list(self._futures):  # Dask itself may leave them as they are
                    with suppress(InvalidStateError):
                        future.set_exception(BrokenExecutor("the workers were lost"))


class _Bytes(Executor):
    """Dask's executor, which is given bytes."""

    def __init__(self, inner: Executor, futures: WeakSet[Future[Any]]) -> None:
        self._inner, self._futures = inner, futures
        self._order = str(Path.cwd()), tuple(alike().items())

    def submit(self, _function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:  # type: ignore[override] # no keywords
        """Have a worker go through a chunk."""
        future = self._inner.submit(pickle.loads, pickle.dumps(_Call(do, (*self._order, *arguments))))
        self._futures.add(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:  # noqa: ARG002 - Dask knows no more
        """Cancel what is not done."""
        with suppress(Exception):  # the client may have given the scheduler up
            self._inner.shutdown(wait=False)


class _Call(NamedTuple):
    """A call that is made where it is unpickled."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.work, self.arguments


def do(folder: str, facts: tuple[tuple[str, str], ...], task: WorkerContext, chunk: PlanChunk) -> WorkerAnswer:
    """Go through a chunk in this Dask worker, from the command's folder if it is here, too.

    The ``facts`` are the versions and variables that the worker must have, as in ``alike``.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        here = worker.state.tasks.get(key)
        return here is not None and here.state == "executing"

    differing = difference({**alike(), "nthreads": str(worker.state.nthreads)}, {**dict(facts), "nthreads": "1"})
    if differing is not None:
        return WorkerAnswer(
            worker.address, error=UsageError(f"worker {worker.address} has {differing}; give all the same")
        )
    current_process().daemon = False  # a nanny starts its worker as one, which may have no processes of its own
    one_thread_a_process()
    if Path(folder).is_dir():
        os.chdir(folder)
    reply = answer(task, chunk, wanted)
    if isinstance(reply.error, UsageError):
        text = f"{reply.error} (worker {worker.address}, which must have the same files as {folder} has here)"
        reply = reply._replace(error=UsageError(text))
    return reply._replace(worker=worker.address)


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Return the first fact in which a worker differs from the command; ``None`` if there is none."""
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            return f"{name}={there.get(name, 'none')}: expected {here.get(name, 'none')}"
    return None


def _connected(scheduler: str) -> tuple[Client, float]:
    """Connect to a scheduler, and return for how many seconds Dask waits for a connection, too."""
    try:
        import dask
        from dask.utils import parse_timedelta
        from distributed import Client
    except ImportError:
        text = f"scheduler={scheduler}: needs one more package: pip install 'rnn-harness[cluster]'"
        raise UsageError(text) from None
    for name in ("distributed", "distributed.client"):  # all that matters is said in the report
        logging.getLogger(name).setLevel(logging.CRITICAL)
    patience = float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect")))
    try:
        asyncio.run(asyncio.wait_for(_greet(scheduler), patience))  # which ends in time, as a client does not
        return Client(scheduler, timeout=patience, set_as_default=False), patience
    except Exception as error:  # noqa: BLE001 - what the kinds of connections raise
        text = " ".join(str(error).split()) or "no answer"
        text = f"scheduler={scheduler}: cannot be reached within {patience:g} s ({text})"
        raise UsageError(
            f"{text}; expected the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786"
        ) from None


async def _greet(address: str) -> None:
    """Raise an error unless there is a scheduler at an address."""
    from distributed.core import rpc
    from distributed.security import Security

    async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
        answer = await there.identity()
    if answer["type"] != "Scheduler":
        raise ValueError(f"this is the address of a {answer['type']}")
