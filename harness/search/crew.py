"""crew: processes that go through the units of a search ahead of it, whose results come back in the plan's order.

What comes back is what one process alone would have seen, whatever the number of workers, and whichever of them was
faster: the search takes no notice of a result before its turn. A worker that dies loses nothing, for its units are
given out again; where workers keep dying, the search goes through the units itself.
"""

from __future__ import annotations

import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Final, NamedTuple, Self, TypeVar

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


Returned = TypeVar("Returned")


class Task(NamedTuple):
    """What a worker has to know of a search."""

    subject: bytes
    """As ``pickled`` makes it; equal ones are one and the same to a worker."""
    scope: Scope
    accepted: Accepted


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


class Crew:
    """So many worker processes; used as ``with Crew(2) as crew:``."""

    def __init__(self, workers: int, start: Callable[[int], AbstractContextManager[Executor]] | None = None) -> None:
        self.workers = workers
        self._start = start or _processes
        self._stack = ExitStack()
        self._pool: Executor | None = None

    def __enter__(self) -> Self:
        self._pool = self._stack.enter_context(self._start(self.workers))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self, task: Task, units: Iterator[Unit], check: Check) -> Iterator[Seen | None]:
        """What comes of the cases of all units, in order; ``None`` now and then where there is nothing yet.

        ``check`` is for the units that are gone through here: the first ones, until a worker is awake. Raises ``Hang``
        where the subject hung, and what the harness itself raised in a worker.
        """
        awake = [self._submit(_wake, task) for _ in range(self.workers)]
        while not any(future.done() for future in awake):
            yield from scan(next(units), check)
        pending: deque[tuple[Unit, Future[_Scanned]]] = deque()
        deaths = 0
        while True:
            try:
                for unit in islice(units, max(0, AHEAD * self.workers - len(pending))):
                    pending.append((unit, self._submit(_scanned, task, unit)))
                unit, future = pending[0]
                if not wait([future], HEARTBEAT).done:
                    yield None
                    continue
                scanned = future.result()
            except BrokenExecutor:
                deaths += 1
                if deaths >= DEATHS:
                    break
                self._restart()
                pending = deque((unit, self._submit(_scanned, task, unit)) for unit, _ in pending)
                continue
            pending.popleft()
            deaths = 0
            yield from scanned.seen
            if scanned.hang is not None:
                raise scanned.hang
        for unit in [unit for unit, _ in pending]:
            yield from scan(unit, check)
        for unit in units:
            yield from scan(unit, check)

    def _submit(self, work: Callable[..., Returned], *arguments: Any) -> Future[Returned]:
        assert self._pool is not None
        return self._pool.submit(work, *arguments)

    def _restart(self) -> None:
        self._stack.close()
        self._pool = self._stack.enter_context(self._start(self.workers))


def _processes(workers: int) -> AbstractContextManager[Executor]:
    """Processes of this machine: forked, where the fork server has imported what takes long."""
    return worker_pool(workers, "forkserver" if sys.platform == "linux" else "spawn", forked_from_here)


def _wake(task: Task) -> None:
    """In a worker: make the subject."""
    _subject(task.subject)


def _scanned(task: Task, unit: Unit) -> _Scanned:
    """In a worker: what comes of a unit."""
    subject = ended_by_a_hang(_subject(task.subject))
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
