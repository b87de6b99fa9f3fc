"""Tests of the workers: several processes find what one does, and lose nothing."""

import os
import signal
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Scope, Verdict, as_subject, hunt
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.plan_shards import Shard
from harness.search.search_record import SearchRecord, Stop
from harness.search.workers import AHEAD, MOST_CHUNKS_LOST, WorkerPool, pickled
from harness.space.errors import UsageError
from harness.subjects.isolated import IsolatedSubject
from tests import implementations
from tests.long import few
from tests.searches import explained

SMALL = Scope().only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])
RIGHT = as_subject(implementations.vectorised)
TWO_BUGS = """
import numpy as np

def rnn(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    x = x.swapaxes(0, 1) if config.batch_first else x
    f = np.tanh if config.nonlinearity == "tanh" else lambda s: np.maximum(s, 0) + (config.T == 2)
    h, out = h0[0], []
    for x_t in x:
        s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        h = f(s + weights["bias_ih_l0"] if config.bias else s)
        out.append(h)
    out = np.stack(out)
    return out.swapaxes(0, 1) if config.batch_first else out, h[None]
"""


def told(record: SearchRecord) -> Any:
    """Return all of a record that is not a time."""
    return (
        record.stop,
        record.checks,
        record.unsupported,
        dict(record.known),
        [(finding.id, finding.result.kind, finding.certificate) for finding in record.findings],
        record.coverage,
        record.coverage.share(record.scope, 3),
    )


@pytest.mark.parametrize("workers", few([1, 2], lambda workers: workers == 2))
def test_a_right_subject_is_seen_as_one_process_sees_it(workers: int) -> None:
    alone = hunt(RIGHT, SMALL, cases=500)
    shared = hunt(RIGHT, SMALL, cases=500, workers=WorkerPool(workers))
    again = hunt(RIGHT, SMALL, cases=500, seed=1, workers=WorkerPool(workers))

    assert told(alone) == told(shared)
    assert shared.total == 500
    assert told(again) != told(shared)


def test_a_shard_may_have_fewer_units_than_its_workers_would_take() -> None:
    alone = hunt(RIGHT, SMALL, cases=500, shard=Shard(2, 3))
    shared = hunt(RIGHT, SMALL, cases=500, shard=Shard(2, 3), workers=WorkerPool(1))
    none = hunt(RIGHT, SMALL, cases=10, shard=Shard(2, 2), workers=WorkerPool(1))

    assert told(alone) == told(shared)
    assert 100 < shared.total < 250
    assert none.total == 0


@pytest.mark.long
def test_what_is_found_is_what_one_process_finds(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TWO_BUGS)

    records = []
    for workers in (0, 2):
        with IsolatedSubject(f"{file}:rnn") as subject:
            helped = WorkerPool(workers) if workers else None
            records.append(explained(FindingExplainer(subject), cases=250, workers=helped))

    assert told(records[0]) == told(records[1])
    assert len(records[0].findings) > 1
    assert records[0].known.total() > 0


class KillsItsWorkerOnce:
    """A correct subject that kills the first worker that runs it on a batch of two."""

    name = "kills"
    capabilities = Capabilities()

    def __init__(self, folder: Path) -> None:
        self._folder, self._at_home = folder, os.getpid()

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        if case.config.N == 2 and self._is_first():
            os.kill(os.getpid(), signal.SIGKILL)
        return RIGHT.run(case)

    def _is_first(self) -> bool:
        """Return whether this is a worker, and the first one that asks."""
        if os.getpid() == self._at_home:
            return False
        try:
            (self._folder / "killed").mkdir()
        except FileExistsError:
            return False
        return True


class KillsItsWorkerAsItAnswers(KillsItsWorkerOnce):
    """A correct subject that kills the worker when it has written half of the unit's results."""

    def run(self, case: Case) -> Outcome:
        if case.config.N == 2 and self._is_first():
            setattr(Connection, "_send", _half)  # noqa: B010 - it is no attribute of its type
        return RIGHT.run(case)


def _half(connection: Any, message: bytes) -> None:
    os.write(connection.fileno(), message[: len(message) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kills", [KillsItsWorkerOnce, KillsItsWorkerAsItAnswers])
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, kills: type[KillsItsWorkerOnce]) -> None:
    alone = hunt(kills(tmp_path), SMALL, cases=400)
    assert not (tmp_path / "killed").exists()
    shared = hunt(kills(tmp_path), SMALL, cases=400, seconds=60, workers=WorkerPool(2))

    assert (tmp_path / "killed").exists()
    assert told(alone) == told(shared)
    assert shared.helpers is not None
    assert shared.helpers.lost_chunks == 1


class Dying(Executor):
    """Workers that die of any work but that of these numbers, counted from 0."""

    def __init__(self, *does: int) -> None:
        self.does, self.given = does, list[Any]()

    def submit(self, work: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append(arguments[-1])
        if len(self.given) - 1 in self.does:
            future.set_result(work(*arguments))
        else:
            future.set_exception(BrokenProcessPool("they died"))
        return future


def test_where_workers_keep_dying_the_search_goes_through_the_units_itself() -> None:
    dying = Dying(4)
    alone = hunt(RIGHT, SMALL, cases=200)
    shared = hunt(RIGHT, SMALL, cases=200, workers=WorkerPool(2, lambda _: dying))

    assert told(alone) == told(shared)
    assert shared.helpers is not None
    assert MOST_CHUNKS_LOST <= shared.helpers.lost_chunks <= MOST_CHUNKS_LOST + 2 * AHEAD
    assert shared.helpers.alone == "they died"
    assert len(shared.helpers.answering) == 1  # what was done when they died is not done again


def test_an_executor_that_takes_nothing_is_one_whose_workers_die() -> None:
    shared = hunt(RIGHT, SMALL, cases=200, workers=WorkerPool(1, lambda _: closed()))

    assert told(shared) == told(hunt(RIGHT, SMALL, cases=200))
    assert shared.helpers is not None
    assert "shutdown" in shared.helpers.alone


def closed() -> Executor:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    return threads


def test_what_was_done_when_a_worker_died_is_not_done_again() -> None:
    workers = Dying(*range(1, 99))
    alone = hunt(RIGHT, SMALL, cases=200)
    shared = hunt(RIGHT, SMALL, cases=200, workers=WorkerPool(1, lambda _: workers))

    assert told(alone) == told(shared)
    assert shared.helpers is not None
    assert (shared.helpers.lost_chunks, shared.helpers.alone) == (1, "")
    assert all(workers.given.count(one) == 1 for one in workers.given)


class Hangs(KillsItsWorkerOnce):
    """A correct subject that gives no answer on a batch of two."""

    def run(self, case: Case) -> Outcome:
        if case.config.N == 2:
            return Outcome(failure=Failure.HUNG, message="no answer")
        return RIGHT.run(case)


def test_a_hang_in_a_worker_is_reported_with_its_case(tmp_path: Path) -> None:
    record = hunt(Hangs(tmp_path), SMALL.only(N=[1, 1, 1, 2]), workers=WorkerPool(1, ThreadPoolExecutor))

    assert (record.verdict, record.stop) == (Verdict.BROKEN, Stop.FINDING)
    assert record.finding is not None
    assert record.finding.case.config.N == 2


class Faulty(KillsItsWorkerOnce):
    """A subject whose failure in a worker is an error of the harness."""

    def run(self, case: Case) -> Outcome:
        if os.getpid() != self._at_home:
            raise RuntimeError("our own")
        return RIGHT.run(case)


def test_a_fault_of_the_harness_in_a_worker_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="our own"):
        hunt(Faulty(tmp_path), SMALL, workers=WorkerPool(1))


def test_time_ends_a_shared_search_too() -> None:
    record = hunt(RIGHT, SMALL, seconds=2.0, workers=WorkerPool(2))

    assert record.stop is Stop.TIME
    assert record.total > 0
    assert record.seconds < 6


def test_an_interrupt_ends_a_shared_search_and_its_workers() -> None:
    from threading import Timer

    before = set(active_children())
    timer = Timer(1.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    record = hunt(RIGHT, SMALL, seconds=60, workers=WorkerPool(2))
    timer.join()

    assert record.stop is Stop.INTERRUPTED
    assert record.total > 0
    deadline = time.monotonic() + 5
    while set(active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(active_children()) - before


def test_a_subject_that_cannot_be_copied_is_misuse() -> None:
    def local(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config)

    with pytest.raises(UsageError, match=r"local cannot be sent to worker processes"):
        hunt(as_subject(local), SMALL, workers=WorkerPool(1))


class Nowhere(KillsItsWorkerOnce):
    """A subject that can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return gone, ()


def gone() -> None:
    raise ImportError("no such module here")


def test_a_subject_that_a_worker_cannot_make_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot create the subject: no such module here"):
        hunt(Nowhere(tmp_path), SMALL, workers=WorkerPool(1))


def test_a_copy_of_an_isolated_subject_is_another_of_the_same(tmp_path: Path) -> None:
    import pickle

    file = tmp_path / "mine.py"
    file.write_text(TWO_BUGS)
    with IsolatedSubject(f"{file}:rnn", timeout=7.0) as subject, pickle.loads(pickled(subject, subject.name)) as copy:  # noqa: S301
        assert copy.name == subject.name
        assert copy.run(draw_small()).arrays.keys() == subject.run(draw_small()).arrays.keys()
        assert pickled(copy, copy.name) == pickled(subject, subject.name)


def draw_small() -> Case:
    from harness import draw

    return draw(RNNConfig(1, 1))
