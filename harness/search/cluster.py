"""The workers of a Dask cluster, as the executor of a crew; they do what the crew's own processes do.

The scheduler unpickles what it is sent, so it is sent nothing but bytes and needs no package of ours. The cluster gives
the units of a worker that died to others. When it cannot, because the scheduler is gone or no worker is left, the
executor breaks, as one of processes does.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from harness.search.cluster_worker import Order, call, difference, do
from harness.search.record import Helpers
from harness.space.errors import UsageError
from harness.subjects.ground import alike

if TYPE_CHECKING:
    from distributed import Client

LOOK: Final = 1.0
"""The seconds between two looks for the scheduler and its workers, each of which is one message."""

_SUCH: Final = "tcp://10.0.0.1:8786"


class Cluster:
    """The workers of a Dask cluster, used as ``with Cluster(address, subjects) as cluster:``.

    ``scheduler`` is the address of its scheduler. Only workers with all ``resources`` are asked, and a unit takes that
    much of them. Raises ``UsageError`` if the cluster cannot be reached in the time that Dask's own configuration
    gives, has no such worker, or if one computes with something else than this process.
    """

    def __init__(self, scheduler: str, subjects: Sequence[str], resources: Mapping[str, float] | None = None) -> None:
        self._resources = dict(resources or {})
        here = Path.cwd()
        specs = (str(here / spec) if Path(spec.rpartition(":")[0]).is_file() else spec for spec in subjects)
        self._order = Order("", str(here), tuple(alike().items()), tuple(specs))
        self.helpers = Helpers(scheduler=scheduler)
        """The record of its workers."""
        self._open: dict[str, Future[Any]] = {}
        """The units that were given out and have not come back, by their keys."""
        self._deserted = ""
        """Not empty if there has been no worker for too long."""
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._client, self._patience = _connected(self.helpers.scheduler)
        try:
            self._check(self._awaited())
        except BaseException:
            self._client.close()
            raise
        self._client.subscribe_topic("all", self._note)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._client.close()
        self._watch.join()

    @contextmanager
    def executor(self, _workers: int) -> Iterator[Executor]:
        """Open an executor, for which each worker has a fresh process."""
        inner = self._client.get_executor(pure=False, resources=self._resources or None)
        try:
            yield _Units(partial(self._give, inner, self._order._replace(token=uuid4().hex)))
        finally:
            with suppress(Exception):  # the client may have given the scheduler up
                inner.shutdown(wait=False)

    def _awaited(self) -> dict[str, Any]:
        """Return the workers that fit, as soon as there are any."""
        until = time.monotonic() + self._patience
        while not (workers := self._fitting()):
            if time.monotonic() > until:
                needed = " ".join(f"{name}={number:g}" for name, number in self._resources.items())
                which, how = (f" with {needed}", f" --resources '{needed}'") if needed else ("", "")
                at = self.helpers.scheduler
                raise UsageError(
                    f"scheduler={at}: no worker{which} within {self._patience:g} s; start one with "
                    f"`dask worker {at} --nthreads 1{how}`"
                )
            time.sleep(LOOK / 10)
        return workers

    def _fitting(self) -> dict[str, Any]:
        """Return what the scheduler knows of the workers that have what a unit takes, by their addresses."""
        known: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return {
            address: one
            for address, one in known.items()
            if all(one["resources"].get(name, 0) >= needed for name, needed in self._resources.items())
        }

    def _check(self, workers: Mapping[str, Any]) -> None:
        """Refuse workers that would see something else than this process."""
        at = f"scheduler={self.helpers.scheduler}: worker"
        for address, one in workers.items():
            if one["nthreads"] != 1:
                said = f"{at} {address} has nthreads={one['nthreads']}: expected 1, because a unit takes one process"
                raise UsageError(f"{said}; start it with --nthreads 1, and --nworkers for more than one")
        here = dict(self._order.facts)
        answers = self._client.run(pickle.loads, call(alike), workers=list(workers), on_error="return")
        for address, there in answers.items():
            if not isinstance(there, dict):
                installed = f"rnn-harness=={here['rnn-harness']}"
                raise UsageError(f"{at} {address} cannot work ({there}); `pip install {installed}` there")
            if (other := difference(there, here)) is not None:
                raise UsageError(f"{at} {address} has {other}, as here; give all machines the same")
        self.helpers.given = len(workers)

    def _give(self, inner: Any, order: Order, asked: bytes) -> Future[Any]:
        """Give a call to the cluster."""
        if self._gone:
            raise BrokenExecutor(self._gone)
        key, future = f"rnn-harness-{uuid4().hex}", Future[Any]()
        self._open[key] = future
        try:
            raw = inner.submit(pickle.loads, call(do, order, asked), key=key)
        except Exception as error:  # noqa: BLE001 - Dask raises several where the connection has just been lost
            raise BrokenExecutor(f"the scheduler was lost ({error})") from None
        raw.add_done_callback(partial(self._take, key, future))
        return future

    def _take(self, key: str, future: Future[Any], raw: Future[Any]) -> None:
        """Pass on what became of a call."""
        self._open.pop(key, None)
        try:
            address, answer = raw.result()
            given, error = pickle.loads(answer)  # noqa: S301 - it comes from the worker that was sent the call
        except Exception as lost:  # noqa: BLE001 - Dask's own errors, and those of a worker that is no good
            _fail(future, BrokenExecutor(self._gone or f"{type(lost).__name__}: {lost}".partition(". ")[0]))
            return
        self.helpers.heard.add(address)
        if isinstance(error, UsageError):
            folder = self._order.folder
            error = UsageError(f"{error} (worker {address}, which must have the same files as {folder} has here)")
        if error is not None:
            _fail(future, error)
        else:
            with suppress(InvalidStateError):
                future.set_result(given)

    @property
    def _gone(self) -> str:
        """Not empty if the cluster will do no more work."""
        return self._deserted if self._client.status == "running" else "the scheduler was lost"

    def _look(self) -> None:
        """Break what was given out when the cluster will do no more work."""
        last = time.monotonic()
        while not self._ended.wait(LOOK):
            with suppress(Exception):  # the next look will tell
                if self._client.status == "running" and self._fitting():
                    last, self._deserted = time.monotonic(), ""
            if time.monotonic() - last > self._patience:
                self._deserted = f"no worker was there for {self._patience:g} s"
            if why := self._gone:
                for future in list(self._open.values()):
                    _fail(future, BrokenExecutor(why))

    def _note(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Count the units that a worker had when it was lost."""
        _when, what = event
        had: Collection[str] = what.get("processing-tasks", ()) if what.get("action") == "remove-worker" else ()
        self.helpers.lost += len(self._open.keys() & set(had))


class _Units(Executor):
    """An executor that gives calls to a cluster."""

    def __init__(self, give: Any) -> None:
        self._give = give

    def submit(self, work: Any, /, *arguments: Any) -> Future[Any]:  # type: ignore[override] # a crew gives no options
        """Have a worker make a call. Raise ``BrokenExecutor`` if the cluster is gone."""
        given: Future[Any] = self._give(call(work, *arguments))
        return given


def _connected(scheduler: str) -> tuple[Client, float]:
    """Connect to a scheduler, and return for how many seconds Dask waits for a connection, too."""
    try:
        import dask
        from dask.utils import parse_timedelta
        from distributed import Client
    except ImportError:
        said = f"scheduler={scheduler}: needs one more package: pip install 'rnn-harness[cluster]'"
        raise UsageError(said) from None
    for name in ("distributed", "distributed.client"):  # all that matters is said in the report
        logging.getLogger(name).setLevel(logging.CRITICAL)
    patience = float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect")))
    try:
        asyncio.run(asyncio.wait_for(_greet(scheduler), patience))  # which ends in time, as a client does not
        return Client(scheduler, timeout=patience, set_as_default=False), patience
    except Exception as error:  # noqa: BLE001 - what the kinds of connections raise
        said = " ".join(str(error).split()) or "no answer"
        said = f"scheduler={scheduler}: cannot be reached within {patience:g} s ({said})"
        raise UsageError(f"{said}; expected the address that `dask scheduler` prints, such as {_SUCH}") from None


async def _greet(address: str) -> None:
    """Raise an error unless there is a scheduler at an address."""
    from distributed.core import rpc
    from distributed.security import Security

    async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
        answer = await there.identity()
    if answer["type"] != "Scheduler":
        raise ValueError(f"this is the address of a {answer['type']}")


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):  # it has come back meanwhile
        future.set_exception(error)
