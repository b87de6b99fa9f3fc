"""crew: processes that go through the units of a search ahead of it, whose results come back in the plan's order.

What comes back is what one process alone would have seen, whatever the number of workers, and whichever of them was
faster: the search takes no notice of a result before its turn. A worker that dies loses nothing, for its units are
given out again; where workers keep dying, the search goes through the units itself.
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
from itertools import chain, islice
from typing import Final, NamedTuple, Self

from harness.checks.everything import check as check_everything
from harness.oracle.arithmetic import Accepted
from harness.search.hang import Hang, ended_by_a_hang
from harness.search.plan import Unit
from harness.search.pool import worker_pool
from harness.search.scan import Check, Seen, scan
from harness.space.errors import UsageError
from harness.space.scope import Scope
from harness.subjects.isolated import forked_from_here
from harness.subjects.protocol import Subject

AHEAD: Final = 4
"""Units a worker that are given out before their turn, so that nobody waits while a failure is made small."""

DEATHS: Final = 3
"""Times in a row that the processes may die without a unit coming back."""

HEARTBEAT: Final = 0.1
"""Seconds between two words of ``seen`` that nothing has come."""


class Task(NamedTuple):
    """What a worker has to know of a search."""

    subject: bytes
    """As ``pickled`` makes it; equal ones are one and the same to a worker."""
    scope: Scope
    accepted: Accepted
    shared: bytes | None = None
    """Likewise a subject for the worker's own process, which is preferred until a worker dies."""

    @classmethod
    def of(cls, subject: Subject, scope: Scope, accepted: Accepted) -> Self:
        """That of a search. Raises ``UsageError`` for a subject that cannot be copied."""
        shared = getattr(subject, "shared", None)
        return cls(pickled(subject), scope, accepted, None if shared is None else pickle.dumps(shared))

    @property
    def apart(self) -> Self:
        """The same, but for the subject: that has a process of its own, whatever it is."""
        return self._replace(shared=None)


def pickled(subject: Subject) -> bytes:
    """What a worker makes its own subject from. Raises ``UsageError`` where that cannot be had."""
    try:
        return pickle.dumps(subject)
    except Exception as error:  # noqa: BLE001 - what a class's own reduction raises
        raise UsageError(
            f"{subject.name} cannot be sent to worker processes ({error}): search without a crew, or name it as "
            "path/to/file.py:name to IsolatedSubject, which can"
        ) from None


class _Scanned(NamedTuple):
    """What came of a unit, up to a hang if there was one."""

    seen: list[Seen]
    hang: Hang | None


@dataclass
class _Given:
    """A unit, and who has it: nobody yet, or any more, where there is no future."""

    unit: Unit
    future: Future[_Scanned] | None = None


class Crew:
    """So many worker processes; used as ``with Crew(2) as crew:``.

    ``start`` makes an executor of so many workers, anew after it broke.
    """

    def __init__(self, workers: int, start: Callable[[int], AbstractContextManager[Executor]] | None = None) -> None:
        self.workers = workers
        self._start = start or _processes
        self._stack = ExitStack()
        self._pool: Executor | None = None
        self._busy = False
        """Whether the workers have units of a search that is over."""
        self._shared: bytes | None = None
        """The subject that the workers' processes have been shared with."""

    def __enter__(self) -> Self:
        self._restart()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self, task: Task, units: Iterator[Unit], check: Check) -> Generator[Seen | None]:
        """What comes of the cases of all units, in order; ``None`` now and then where there is nothing yet.

        ``check`` is for the units that are gone through here: the first ones, until a worker is awake. Raises ``Hang``
        where the subject hung, and what the harness itself raised in a worker.
        """
        if self._busy or self._shared not in {None, task.shared}:  # no children are forked from what ran torch
            self._restart()
        self._shared = task.shared
        pending: deque[_Given] = deque()
        deaths = 0
        try:
            yield from self._until_awake(task, units, check)
            while deaths < DEATHS:
                try:
                    first = self._hand_out(task, units, pending)
                    if not wait([first], HEARTBEAT).done:
                        yield None
                        continue
                    scanned = first.result()
                except BrokenExecutor:
                    deaths += 1
                    task, self._shared = task.apart, None
                    if deaths < DEATHS:
                        self._restart()
                    for given in pending:
                        given.future = None
                    continue
                pending.popleft()
                deaths = 0
                yield from scanned.seen
                if scanned.hang is not None:
                    raise scanned.hang
        finally:
            self._busy = any(given.future is not None and not given.future.done() for given in pending)
        for unit in chain([given.unit for given in pending], units):
            yield from scan(unit, check)

    def _until_awake(self, task: Task, units: Iterator[Unit], check: Check) -> Iterator[Seen]:
        """Go through units here until a worker has its subject. Raises ``UsageError`` where it cannot have one."""
        try:
            awake = [self._pool_of_workers().submit(_wake, task) for _ in range(self.workers)]
            while not any(future.done() for future in awake):
                yield from scan(next(units), check)
            for future in awake:
                if future.done():
                    future.result()
        except BrokenExecutor:
            return  # which will be seen again
        except (ImportError, AttributeError, UsageError) as error:
            raise UsageError(f"a worker process cannot make the subject: {error}") from None

    def _hand_out(self, task: Task, units: Iterator[Unit], pending: deque[_Given]) -> Future[_Scanned]:
        """Give out as many units as there may be, each as soon as it is planned, and say what comes of the first."""
        pool = self._pool_of_workers()
        for given in pending:
            given.future = given.future or pool.submit(_scanned, task, given.unit)
        for unit in islice(units, max(0, AHEAD * self.workers - len(pending))):
            pending.append(_Given(unit))
            pending[-1].future = pool.submit(_scanned, task, unit)
        first = pending[0].future
        assert first is not None
        return first

    def _pool_of_workers(self) -> Executor:
        assert self._pool is not None
        return self._pool

    def _restart(self) -> None:
        self._stack.close()
        self._pool = self._stack.enter_context(self._start(self.workers))


def _processes(workers: int) -> AbstractContextManager[Executor]:
    """Processes of this machine: forked, where the fork server has imported what takes long."""
    return worker_pool(workers, "forkserver" if sys.platform == "linux" else "spawn", forked_from_here)


def _wake(task: Task) -> None:
    """In a worker: make the subject."""
    _subject(task.shared or task.subject)


def _scanned(task: Task, unit: Unit) -> _Scanned:
    """In a worker: what comes of a unit."""
    subject = ended_by_a_hang(_subject(task.shared or task.subject))
    seen: list[Seen] = []
    try:
        seen.extend(scan(unit, partial(check_everything, subject, accepted=task.accepted, scope=task.scope)))
    except Hang as hang:
        return _Scanned(seen, hang)
    return _Scanned(seen, None)


@lru_cache(1)
def _subject(of: bytes) -> Subject:
    """The subject of the search at hand; the one before it is let go."""
    made: Subject = pickle.loads(of)  # noqa: S301 - it comes from the search itself
    return made
