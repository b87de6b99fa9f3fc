"""Tests of shared subjects: one in a worker's own process can do no more harm there than in a process of its own."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import RNNConfig, Scope, draw, hunt
from harness.search.search_record import SearchRecord, Stop
from harness.search.workers import WorkerPool
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.subjects.isolated import InProcessSubject, IsolatedSubject
from harness.subjects.protocol import backend_of
from tests.long import few

SMALL = Scope().only(T=[1, 2], N=[1, 1, 1, 2], input_size=[1, 2], hidden_size=[1, 2])

DEADLY = """
import multiprocessing, os, signal, time
from pathlib import Path
from harness import Capabilities, as_subject
from harness.space.declared_arithmetic import LEAST_ASSUMED
from tests import implementations

class Deadly:
    name = "deadly"
    capabilities = Capabilities(shares_process=True, arithmetic={"cpu": LEAST_ASSUMED})
    right = as_subject(implementations.vectorised)

    def devices(self):
        return ("cpu",)

    def run(self, case):
        with Path(__file__).with_name("pids").open("a") as file:
            file.write(f"{os.getpid()} {multiprocessing.current_process().name}\\n")
        if case.config.N == 2:
            DEATH
        return self.right.run(case)

subject = Deadly()
"""


def written(folder: Path, death: str) -> str:
    """Return the spec of a subject that dies in this way."""
    (folder / "deadly.py").write_text(DEADLY.replace("DEATH", death))
    return f"{folder / 'deadly.py'}:subject"


def search(spec: str, workers: int) -> SearchRecord:
    with IsolatedSubject(spec, timeout=2.0) as subject:
        return hunt(subject, SMALL, cases=300, workers=WorkerPool(workers) if workers else None)


DEATHS = ("os.kill(os.getpid(), signal.SIGSEGV)", "os._exit(3)", "time.sleep(60)")


@pytest.mark.parametrize("death", few(DEATHS, "os._exit(3)".__eq__))
def test_what_ends_a_worker_is_found_as_without(tmp_path: Path, death: str) -> None:
    spec = written(tmp_path, death)
    alone, shared = search(spec, 0), search(spec, 2)

    assert alone.stop is shared.stop is Stop.FINDING
    assert alone.finding is not None
    assert shared.finding is not None
    assert alone.finding.result.failure is shared.finding.result.failure
    assert alone.finding.result.message == shared.finding.result.message
    assert alone.finding.case.id == shared.finding.case.id


def test_it_runs_in_the_process_of_who_asks(tmp_path: Path) -> None:
    with IsolatedSubject(written(tmp_path, "pass")) as subject:
        shared = subject.shared
        assert shared is not None
        copy = pickle.loads(pickle.dumps(shared))()  # noqa: S301
        copy.run(draw(RNNConfig(1, 1)))
        subject.run(draw(RNNConfig(1, 1)))

    inside, apart = (int(line.split()[0]) for line in (tmp_path / "pids").read_text().splitlines())
    assert inside == os.getpid() != apart
    assert isinstance(copy, InProcessSubject)
    assert (copy.name, copy.devices(), backend_of(copy, RNNConfig(1, 1))) == ("deadly", ("cpu",), LEAST_ASSUMED)
    assert copy.capabilities.masks is None


def test_workers_share_their_processes_with_it(tmp_path: Path) -> None:
    spec = written(tmp_path, "pass")
    record = search(spec, 2)

    ran_in = {tuple(line.split(maxsplit=1)) for line in (tmp_path / "pids").read_text().splitlines()}
    children = [name for _, name in ran_in if name == spec]
    assert record.total == 300
    assert children == [spec]  # the search's own process; the workers have none
    assert 1 <= len(ran_in) - len(children) <= 2


def test_a_subject_that_does_not_say_so_is_not_shared(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from tests.implementations import vectorised")
    with IsolatedSubject(f"{file}:vectorised") as subject:
        assert subject.shared is None


def test_torch_s_own_are_shared_and_other_modules_are_not(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import torch\n\nclass Mine(torch.nn.RNN):\n    pass\n")
    for spec, shared in (("torch", True), ("torch:cell", True), (f"{file}:Mine", False)):
        with IsolatedSubject(spec) as subject:
            assert (subject.shared is not None) == shared


def test_a_call_without_end_ends_the_process(tmp_path: Path) -> None:
    spec = written(tmp_path, "time.sleep(60)")
    code = f"""
from harness import RNNConfig, draw
from harness.subjects.isolated import InProcessSubject
subject = InProcessSubject({spec!r}, 0.5)
subject.run(draw(RNNConfig(1, 1)))
print("one answered", flush=True)
subject.run(draw(RNNConfig(1, 1, N=2)))
print("another, too")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)

    assert (done.stdout, done.stderr) == ("one answered\n", "")
    assert done.returncode == -signal.SIGALRM
