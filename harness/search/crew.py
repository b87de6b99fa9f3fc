"""Crew: worker processes that go through the units of a search ahead of it and return results in the plan's order.

The results are those that a single process would have seen, whatever the number of workers and their speed, because the
search takes in no result before its turn. A worker that dies loses nothing, because its units are given out again. If
workers keep dying, the search goes through the units itself.
"""

from __future__ import annotations

import pickle
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Final, NamedTuple, Self

from harness.checks.full_check import check as check_everything
from harness.oracle.arithmetic import Accepted
from harness.search.hang import Hang, ended_by_a_hang
from harness.search.plan import Unit
from harness.search.pool import worker_pool
from harness.search.record import Helpers
from harness.search.scan import Checked, FullCheck, scan
from harness.space.errors import UsageError
from harness.space.scope import Scope
from harness.subjects.isolated import forked_from_here
from harness.subjects.protocol import Subject, SubjectError

AHEAD: Final = 4
"""The number of units per worker that are given out before their turn, so that nobody waits while a failure is shrunk.
"""

DEATHS: Final = 3
"""The number of times in a row that the processes may die without returning a unit."""

HEARTBEAT: Final = 0.1
"""The seconds after which ``seen`` yields ``None`` if nothing has come."""


class Task(NamedTuple):
    """The facts that a worker must know of a search."""

    subject: bytes
    """The subject as ``pickled`` makes it; a worker takes equal bytes for the same subject."""
    scope: Scope
    accepted: Accepted
    source: str = ""
    """The hash of the file that the subject is in, which a worker must have, too."""
    shared: bytes | None = None
    """A pickled subject for the worker's own process, which is preferred until a worker dies."""

    @classmethod
    def of(cls, subject: Subject, scope: Scope, accepted: Accepted) -> Self:
        """Return the task of a search. Raise ``UsageError`` for a subject that cannot be copied."""
        process = subject.capabilities.process
        shared = None if process is None else process.shared
        shared = None if shared is None else pickle.dumps(shared)
        return cls(pickled(subject), scope, accepted, subject.capabilities.source, shared)

    @property
    def apart(self) -> Self:
        """The same task with the subject in a process of its own."""
        return self._replace(shared=None)


def pickled(subject: Subject) -> bytes:
    """Pickle a subject for the workers. Raise ``UsageError`` if that is not possible."""
    try:
        return pickle.dumps(subject)
    except Exception as error:  # noqa: BLE001 - what a class's own reduction raises
        raise UsageError(
            f"{subject.name} cannot be sent to worker processes ({error}): search without a crew, or pass "
            "IsolatedSubject('path/to/file.py:name')"
        ) from None


class _Scanned(NamedTuple):
    """The results of a unit, up to a hang if there was one."""

    seen: list[Checked]
    hang: Hang | None

    def told(self) -> Iterator[Checked]:
        """Yield the results, and raise the hang."""
        yield from self.seen
        if self.hang is not None:
            raise self.hang


@dataclass
class _Given:
    """A unit, and the future of the worker that has it; ``None`` if no worker has it."""

    unit: Unit
    future: Future[_Scanned] | None = None
    lost: bool = False
    """True if a worker that had it was lost."""

    def take_back(self) -> bool:
        """Take it back unless it is done, and return whether it is lost for the first time."""
        future = self.future
        if future is None or (future.done() and not future.cancelled() and future.exception() is None):
            return False
        first, self.lost, self.future = not self.lost, True, None
        return first


class Crew:
    """A number of worker processes, used as ``with Crew(2) as crew:``.

    ``start`` makes an executor with that number of workers, and a new one after it broke. ``helpers`` is the record of
    them that it keeps.
    """

    def __init__(
        self,
        workers: int,
        start: Callable[[int], AbstractContextManager[Executor]] | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        self.workers = workers
        self.helpers = helpers or Helpers(workers)
        self._start = start or processes
        self._stack = ExitStack()
        self._pool: Executor | None = None
        self._busy = False
        """True if the workers have units of a search that is over."""
        self._shared: bytes | None = None
        """The subject that has run in the workers' own processes."""

    def __enter__(self) -> Self:
        self._restart()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self, task: Task, units: Iterator[Unit], check: FullCheck) -> Generator[Checked | None]:
        """Yield the results of the cases of all units, in order, and ``None`` now and then if there is nothing yet.

        ``check`` is for the units that are done in this process: the first ones, until a worker is ready. Raises
        ``Hang`` if the subject hung, and any error of the harness in a worker.
        """
        if self._busy or self._shared not in {None, task.shared}:  # no children are forked after torch ran
            self._restart()
        self._shared = task.shared
        self.helpers.begin()
        pending: deque[_Given] = deque()
        deaths = 0
        try:
            yield from self._until_awake(task, units, check)
            while deaths < DEATHS:
                try:
                    if (first := self._hand_out(task, units, pending)) is None:
                        return
                    if not wait([first], HEARTBEAT).done:
                        yield None
                        continue
                    scanned = first.result()
                except BrokenExecutor as error:
                    deaths += 1
                    task, self._shared = task.apart, None
                    for given in pending:
                        self.helpers.lost += given.take_back()
                    if deaths < DEATHS:
                        self._restart()
                    else:
                        self.helpers.alone = str(error) or "the workers died"
                    continue
                pending.popleft()
                deaths = 0
                yield from scanned.told()
        finally:
            self._busy = any(given.future is not None and not given.future.done() for given in pending)
        for given in pending:
            yield from scan(given.unit, check) if given.future is None else given.future.result().told()
        for unit in units:
            yield from scan(unit, check)

    def _until_awake(self, task: Task, units: Iterator[Unit], check: FullCheck) -> Iterator[Checked]:
        """Go through units here until a worker has its subject. Raise ``UsageError`` if it cannot have one."""
        try:
            awake = [self._pool_of_workers().submit(_wake, task) for _ in range(self.workers)]
            while not any(future.done() for future in awake):
                if (unit := next(units, None)) is None:
                    return
                yield from scan(unit, check)
            for future in awake:
                if future.done():
                    future.result()
        except BrokenExecutor:
            return  # the caller will see this, too
        except SubjectError:  # such as its file that was changed meanwhile
            raise
        except (ImportError, AttributeError, UsageError) as error:
            raise UsageError(f"a worker process cannot create the subject: {error}") from None

    def _hand_out(self, task: Task, units: Iterator[Unit], pending: deque[_Given]) -> Future[_Scanned] | None:
        """Give out units up to the limit, each as soon as it is planned, and return the future of the first.

        ``None`` is returned if no unit is left.
        """
        pool = self._pool_of_workers()
        for given in pending:
            given.future = given.future or pool.submit(_scanned, task, given.unit)
        for unit in islice(units, max(0, AHEAD * self.workers - len(pending))):
            pending.append(_Given(unit))
            pending[-1].future = pool.submit(_scanned, task, unit)
        return pending[0].future if pending else None

    def _pool_of_workers(self) -> Executor:
        assert self._pool is not None
        return self._pool

    def _restart(self) -> None:
        self._stack.close()
        self._pool = self._stack.enter_context(self._start(self.workers))


def processes(workers: int) -> AbstractContextManager[Executor]:
    """Return processes of this machine, forked if possible, where the fork server has done the slow imports."""
    return worker_pool(workers, "forkserver" if sys.platform == "linux" else "spawn", forked_from_here)


def _wake(task: Task) -> None:
    """Make the subject, in a worker."""
    _subject(task.shared or task.subject, task.source)


def _scanned(task: Task, unit: Unit) -> _Scanned:
    """Go through a unit, in a worker."""
    subject = ended_by_a_hang(_subject(task.shared or task.subject, task.source))
    seen: list[Checked] = []
    try:
        seen.extend(scan(unit, partial(check_everything, subject, accepted=task.accepted, scope=task.scope)))
    except Hang as hang:
        return _Scanned(seen, hang)
    return _Scanned(seen, None)


@lru_cache(1)
def _subject(of: bytes, source: str) -> Subject:
    """Return the subject of the current search; the previous one is dropped."""
    made: Subject = pickle.loads(of)  # noqa: S301 - it comes from the search itself
    if made.capabilities.source != source:
        raise UsageError(f"{made.name}: its file is not what it was where the search began; start again with the same")
    return made
