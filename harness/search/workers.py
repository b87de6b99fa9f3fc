"""Workers: they go through the chunks of a search ahead of it, and their results come in the plan's order.

So the results are those of a single process, whatever the number of workers and their speed. The search itself goes
through a chunk that is lost with a worker and, where workers keep dying, through all that are left.
"""

import os
import pickle
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from queue import SimpleQueue
from socket import gethostname
from typing import Any, Final, NamedTuple, Self

from harness.oracle.arithmetic_assumptions import AcceptedErrors
from harness.processes import GRACE, LONGEST_WAIT, Child, start_server
from harness.search.checker import CheckedCase, Checker
from harness.search.deadline import DeadlineSubject
from harness.search.own_weights import OwnWeights
from harness.search.plan import PlanChunk
from harness.search.search_record import Helpers
from harness.space.errors import UsageError
from harness.space.scope import Scope
from harness.subjects.protocol import Subject, SubjectUnavailable

AHEAD: Final = 4  # chunks per worker given out before their turn, so that none waits while a failure is shrunk
FIRST_CHUNKS: Final = 2  # chunks that the search does itself while the workers start
MOST_CHUNKS_LOST: Final = 3  # chunks lost in a row after which the search goes on alone
HEARTBEAT: Final = 0.1  # seconds after which ``checked`` yields ``None`` if nothing has come


class Processes(Executor):
    """An executor of processes of this machine. One that dies loses its call, which raises ``LostError``, and no other.

    At the end all of them are ended, whatever they are doing.
    """

    def __init__(self, number: int) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._over = False
        self._children: dict[int, Child] = {}
        start_server()
        self._threads = [threading.Thread(target=self._make_calls, args=(n,), daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:  # type: ignore[override] # no keywords
        """Have a process make a call."""
        future: Future[Any] = Future()
        self._calls.put((future, function, arguments))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:  # noqa: ARG002 - nothing goes on
        """End the processes; calls that are not done are lost."""
        self._over = True
        for child in list(self._children.values()):
            child.terminate()
        for _ in self._threads:
            self._calls.put(None)
        until = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        for child in list(self._children.values()):
            child.terminate(at_once=True)  # a call that still goes on is lost
        for thread in self._threads:
            thread.join()
        for child in self._children.values():
            child.kill()

    def _make_calls(self, number: int) -> None:
        """Make one call after the other in a process, and in another one if that has died."""
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            if self._over:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if number not in self._children or self._children[number].ended:
                    self._children[number] = Child("worker", forks=True)
                if self._over:  # it may have begun too late to be told
                    self._children[number].terminate()
                future.set_result(self._children[number].call(LONGEST_WAIT, function, *arguments))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)


class WorkerContext(NamedTuple):
    """The facts that a worker must know of a search."""

    subject: bytes  # pickled, or a pickled function that makes it in the worker's own process
    source: str  # the hash of the file that the subject is in, which a worker must have, too
    scope: Scope
    accepted: AcceptedErrors
    weights: OwnWeights | None = None

    @classmethod
    def of(
        cls,
        subject: Subject,
        scope: Scope,
        accepted: AcceptedErrors,
        weights: OwnWeights | None = None,
        *,
        share: bool = True,
    ) -> Self:
        """Return the task of a search. With ``share``, workers run the subject in their own process if it allows that.

        Raises ``UsageError`` for a subject that cannot be copied.
        """
        process = subject.capabilities.process
        shared = process.shared if process is not None and share else None
        return cls(pickled(shared or subject, subject.name), subject.capabilities.source, scope, accepted, weights)


def pickled(subject: object, name: str) -> bytes:
    """Pickle a subject for the workers. Raise ``UsageError`` if that is not possible."""
    try:
        return pickle.dumps(subject)
    except Exception as error:  # noqa: BLE001 - what a class's own reduction raises
        raise UsageError(
            f"{name} cannot be sent to worker processes ({error}): search without workers, or pass "
            "IsolatedSubject('path/to/file.py:name')"
        ) from None


class WorkerAnswer(NamedTuple):
    """The answer of a worker for a chunk: the results of its cases, or an error that is no fault of the subject."""

    worker: str
    results: tuple[CheckedCase, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class WorkerPool:
    """The workers that may share searches: their number, and what starts an executor of them for each search."""

    number: int
    start: Callable[[int], Executor] = Processes
    share: bool = True  # True if a subject may run in the process of a worker, which may die of it
    scheduler: str = ""  # the address of the scheduler of the cluster that they are in, if they are in one

    def checked(
        self, task: WorkerContext, chunks: Iterator[PlanChunk], checker: Checker, helpers: Helpers
    ) -> Generator[CheckedCase | None]:
        """Yield the results of the cases of all chunks, in order, and ``None`` now and then if there is nothing yet.

        ``checker`` is for the chunks that are done here. What becomes of the workers is noted in ``helpers``.
        Raises any error of the harness in a worker, and ``UsageError`` if a worker cannot have the subject.
        """
        executor = self.start(self.number)
        pending: deque[tuple[PlanChunk, Future[WorkerAnswer]]] = deque()
        lost, own = 0, list(islice(chunks, FIRST_CHUNKS))
        try:
            while lost < MOST_CHUNKS_LOST:
                for chunk in islice(chunks, AHEAD * self.number - len(pending)):
                    pending.append((chunk, _submitted(executor, task, chunk)))
                while own:
                    yield from checker.chunk(own.pop(0))
                if not pending:
                    return
                if not wait([pending[0][1]], HEARTBEAT).done:
                    yield None
                    continue
                chunk, future = pending.popleft()
                answer = _answer_of(future)
                lost = 0 if isinstance(answer, WorkerAnswer) else lost + 1
                yield from _checked(answer, chunk, checker, helpers)
            helpers.alone = str(answer) or "the workers died"
            for chunk, future in pending:
                yield from _checked(_answer_of(future) if future.done() else None, chunk, checker, helpers)
        finally:
            executor.shutdown(wait=False)
        for chunk in chunks:
            yield from checker.chunk(chunk)


def _submitted(executor: Executor, task: WorkerContext, chunk: PlanChunk) -> Future[WorkerAnswer]:
    try:
        return executor.submit(answer, task, chunk)
    except Exception as error:  # noqa: BLE001 - executors raise several when they are broken
        future: Future[WorkerAnswer] = Future()
        future.set_exception(error)
        return future


def _answer_of(future: Future[WorkerAnswer]) -> WorkerAnswer | BaseException:
    """Return what a worker gave, or why it was lost."""
    try:
        return future.result()
    except ImportError as error:
        raise UsageError(f"a worker cannot work ({error}); `pip install` the same rnn-harness there") from None
    except (CancelledError, Exception) as lost:  # noqa: BLE001 - its own errors come in an answer
        return lost


def _checked(
    answer: WorkerAnswer | BaseException | None, chunk: PlanChunk, checker: Checker, helpers: Helpers
) -> Iterator[CheckedCase]:
    """Yield what a worker saw in a chunk, or go through it here if there is none."""
    if not isinstance(answer, WorkerAnswer):
        helpers.lost_chunks += 1
        yield from checker.chunk(chunk)
        return
    helpers.answering.add(answer.worker)
    if answer.error is not None:
        raise answer.error
    yield from answer.results


def answer(task: WorkerContext, chunk: PlanChunk, wanted: Callable[[], bool] = lambda: True) -> WorkerAnswer:
    """Go through a chunk, in a worker, as long as it is wanted."""
    here = f"{gethostname()}/{os.getpid()}"
    try:
        subject = DeadlineSubject(_subject(task.subject, task.source))
        checked = []
        for case in Checker(subject, task.accepted, task.scope, weights=task.weights).chunk(chunk):
            checked.append(case)
            if not wanted():
                break
        return WorkerAnswer(here, tuple(checked))
    except UsageError as error:
        return WorkerAnswer(here, error=error)
    except Exception:  # noqa: BLE001 - it is raised where the chunk was given
        return WorkerAnswer(here, error=RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


@lru_cache(1)
def _subject(data: bytes, source: str) -> Subject:
    """Return the subject of the current search; the previous one is dropped."""
    try:
        made = pickle.loads(data)  # noqa: S301 - it comes from the search itself
        subject: Subject = made() if isinstance(made, partial) else made
    except SubjectUnavailable:  # such as its file that was changed meanwhile
        raise
    except (ImportError, AttributeError, UsageError) as error:
        raise UsageError(f"a worker process cannot create the subject: {error}") from None
    if subject.capabilities.source != source:
        raise UsageError(
            f"{subject.name}: its file is not what it was where the search began; start again with the same"
        )
    return subject
