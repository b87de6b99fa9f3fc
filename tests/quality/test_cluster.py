"""A Dask cluster finds what one process finds, in the same order, whoever of it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from harness import Case, Outcome, Scope
from harness.cli import codes
from harness.oracle.arithmetic_assumptions import STRICT
from harness.search.capability_discovery import narrow
from harness.search.checker import Checker
from harness.search.dask_cluster import Cluster
from harness.search.deadline import DeadlineSubject
from harness.search.plan import chunks
from harness.search.search_record import Helpers
from harness.search.workers import WorkerContext
from harness.space.errors import UsageError
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import scope_of
from tests.dask_cluster import DaskCluster, dask_cluster, patience

Client: Final[Any] = pytest.importorskip("distributed", reason="the package distributed is not installed").Client

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of sockets to what was killed
]

ROOT: Final = Path(__file__).parents[2]

SOURCE: Final = """
import os
import signal
import time
from pathlib import Path

import numpy as np


def rnn(x, h0, weights, config):
    \"\"\"Two mistakes: one for relu with T=2, and one for single features without a bias.\"\"\"
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    x = x.swapaxes(0, 1) if config.batch_first else x
    f = np.tanh if config.nonlinearity == "tanh" else lambda s: np.maximum(s, 0) + (config.T == 2)
    h, out = h0[0], []
    for x_t in x:
        s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            s = s + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h = f(s)
        out.append(h)
    out = np.stack(out) * (1 if config.bias or config.input_size > 1 else 2)
    return out.swapaxes(0, 1) if config.batch_first else out, h[None]


def dask_worker():
    \"\"\"Return the process of the Dask worker above this one, or 0.\"\"\"
    pid = os.getpid()
    while pid > 1 and b"dask worker" not in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"_", b" "):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid if pid > 1 else 0


def dies(x, h0, weights, config):
    if config.N == 2 and config.bias:
        os.kill(os.getpid(), signal.SIGKILL)
    return rnn(x, h0, weights, config)


def killed_once(x, h0, weights, config):
    if dask_worker() and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return rnn(x, h0, weights, config)


def kills(x, h0, weights, config):
    if (worker := dask_worker()) and config.N == 2:
        os.kill(worker, signal.SIGKILL)
    return rnn(x, h0, weights, config)


def slow(x, h0, weights, config):
    if dask_worker():
        Path("slow").touch()
        time.sleep(3)
    return rnn(x, h0, weights, config)
"""

SMALL: Final[dict[str, list[Any]]] = {
    "T": [1, 2],
    "N": [1, 2],
    "input_size": [1, 2],
    "hidden_size": [1, 2],
    "dtype": ["float64"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


Seen = list[tuple[Any, ...]]


def scope_for(subject: IsolatedSubject) -> Scope:
    """Return a part of what a subject does, in which a case takes two milliseconds."""
    return narrow(subject, scope_of(subject).only(**SMALL, loss=[None])).scope


def of(results: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    for one in results:
        if one is not None:
            yield one.planned, one.result.verdict, one.result.kind, one.result.mismatches


@cache
def alone(number: int) -> Seen:
    """Return what one process sees in the first units of the plan."""
    with IsolatedSubject("mine.py:rnn") as subject:
        scope = scope_for(subject)
        checker = Checker(subject, STRICT, scope)
        return [one for unit in islice(chunks(scope, 0, None), number) for one in of(checker.chunk(unit))]


def shared(
    name: str,
    number: int,
    on: DaskCluster,
    meanwhile: Callable[[DaskCluster], object],
    resources: dict[str, float] | None = None,
    slowly: float = 0.0,
) -> tuple[Seen, Helpers]:
    """Return what a cluster sees in them, and what is known of its workers; something happens halfway."""
    with (
        IsolatedSubject("mine.py:rnn") as here,
        IsolatedSubject(f"mine.py:{name}") as subject,
        Cluster(on.address, resources) as workers,
    ):
        scope = scope_for(here)

        class Slowed(DeadlineSubject):
            def run(self, case: Case) -> Outcome:
                time.sleep(slowly)
                return super().run(case)

        checker = Checker(Slowed(here), STRICT, scope)
        seen, helpers = Seen(), Helpers(workers.number, workers.scheduler)
        task, planned = (
            WorkerContext.of(subject, scope, STRICT, share=workers.share),
            islice(chunks(scope, 0, None), number),
        )
        for one in of(workers.checked(task, planned, checker, helpers)):
            seen.append(one)
            if len(seen) == number * 8:
                meanwhile(on)
        return seen, helpers


def nothing(_cluster: DaskCluster) -> None:
    """Let it go on."""


def kill_a_worker(cluster: DaskCluster) -> None:
    with Client(cluster.address) as client:
        os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)


@pytest.mark.parametrize("nanny", [False, True])
def test_of_two_hundred_units_none_is_missing_if_a_worker_is_killed_halfway(nanny: bool, folder: Path) -> None:
    with dask_cluster(folder, nanny=nanny) as dask:
        seen, helpers = shared("rnn", 200, dask, kill_a_worker)

    assert seen == alone(200)
    assert len({kind for _, _, kind, _ in seen if kind}) > 1
    assert (helpers.lost_chunks, helpers.alone) == (0, "")  # Dask gave its units to others
    assert helpers.number in ({2, 3} if nanny else {2})


def test_what_a_killed_scheduler_had_is_done_by_the_command(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The rest takes longer than Dask tries to connect again, and then gives up.
    with dask_cluster(folder) as cluster, patience(3):
        seen, helpers = shared("rnn", 60, cluster, DaskCluster.kill_scheduler, slowly=0.01)

    assert capfd.readouterr().err == ""
    assert seen == alone(60)
    assert helpers.lost_chunks >= 1
    assert helpers.alone
    assert helpers.answering


def test_what_killed_workers_had_is_done_by_the_command_when_no_other_comes(folder: Path) -> None:
    with dask_cluster(folder) as cluster, patience(3):
        seen, helpers = shared("rnn", 60, cluster, DaskCluster.kill_workers)

    assert seen == alone(60)
    assert helpers.lost_chunks >= 1
    assert helpers.alone


def test_a_worker_that_comes_later_does_the_rest(folder: Path) -> None:
    def replace(dask: DaskCluster) -> None:
        dask.kill_workers()
        dask.add()

    with dask_cluster(folder) as dask:
        seen, helpers = shared("rnn", 100, dask, replace)

    assert seen == alone(100)
    assert helpers.alone == ""
    assert helpers.number == 3


def test_a_worker_goes_on_after_the_process_of_its_subject_was_killed(folder: Path) -> None:
    with dask_cluster(folder, 1) as dask:
        seen, helpers = shared("killed_once", 30, dask, nothing)
        assert dask.workers[0].poll() is None

    assert seen == alone(30)
    assert (folder / "killed").exists()
    assert (helpers.lost_chunks, helpers.alone) == (0, "")


def test_a_subject_that_kills_its_worker_is_looked_at_by_the_command_itself(folder: Path) -> None:
    """Dask gives up a unit whose worker died; the cluster here does so at once."""
    at_once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with dask_cluster(folder, scheduler=at_once) as cluster:
        with patience(3):
            seen, helpers = shared("kills", 30, cluster, nothing)
        assert any(worker.poll() is not None for worker in cluster.workers)

    assert seen == alone(30)
    assert helpers.alone
    assert helpers.lost_chunks >= 1


def test_only_workers_with_the_resource_are_asked(folder: Path) -> None:
    with dask_cluster(folder, 1) as dask:
        dask.add("--nthreads", "1", "--resources", "GPU=1")
        dask.await_workers()
        seen, helpers = shared("rnn", 30, dask, nothing, {"GPU": 1})
        (address,) = helpers.answering
        with Client(dask.address) as client:
            known = client.scheduler_info()["workers"]

    assert seen == alone(30)
    assert known[address]["resources"] == {"GPU": 1}


def test_the_scheduler_needs_no_package_of_ours(folder: Path) -> None:
    with dask_cluster(folder, 1) as dask:
        shared("rnn", 10, dask, nothing)
        with Client(dask.address) as client:
            imported = client.run_on_scheduler(eval, "'harness' in __import__('sys').modules")

    assert imported is False


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--nthreads", "2"), {}, "nthreads=2: expected 1"),
        (("--nthreads", "1"), {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "MKL_ENABLE_INSTRUCTIONS=AVX2: expected none"),
    ],
)
def test_workers_that_do_not_fit_are_refused(
    options: tuple[str, ...], environment: dict[str, str], said: str, folder: Path
) -> None:
    with dask_cluster(folder, 0) as cluster, patience(1):
        cluster.add(*options, environment=environment)
        cluster.await_workers()
        with pytest.raises(UsageError, match=rf"^worker tcp://\S+ has {said}"):
            shared("rnn", 10, cluster, nothing)
        with pytest.raises(UsageError, match=r"no worker with GPU=1 within 1 s; .* --nthreads 1 --resources 'GPU=1'`$"):
            Cluster(cluster.address, {"GPU": 1}).__enter__()


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )


PINS: Final = [f"--only={name}={','.join(map(str, values))}" for name, values in SMALL.items()]


def report(name: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return the report of the command on a function of the file, as data without times, and for people."""
    running = command(f"mine.py:{name}", "--examples", "400", *PINS, "--json", "report.json", *arguments)
    out, err = running.communicate(timeout=300)
    assert running.returncode == codes.FINDING, err
    document = json.loads(Path("report.json").read_text())
    (told,) = document["subjects"]
    return {name: value for name, value in told.items() if name != "seconds"}, " ".join(out.split())


@pytest.mark.parametrize("name", ["rnn", "dies"])
def test_the_command_reports_what_it_does_without_a_cluster(name: str, folder: Path) -> None:
    with dask_cluster(folder, nanny=name == "dies") as dask:
        told, said = report(name, "--scheduler", dask.address)
    without, _ = report(name, "-n", "0")

    workers = told.pop("workers")
    assert without.pop("workers") is None
    assert told == without
    assert (workers["scheduler"], workers["lost"], workers["alone"]) == (dask.address, 0, None)
    assert f"workers {workers['number']} of {dask.address}" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_what_was_done_and_frees_the_cluster(number: int, folder: Path) -> None:
    with dask_cluster(folder) as dask:
        right = ["--only", "bias=true", "--only", "nonlinearity=tanh", "--examples", "10000"]
        running = command("mine.py:slow", *right, *PINS, "--scheduler", dask.address)
        while not (folder / "slow").exists():
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
        begun = time.monotonic()
        told, _ = report("rnn", "--scheduler", dask.address)

    assert running.returncode == (codes.TERMINATED if number == signal.SIGTERM else codes.INTERRUPTED), err
    assert "agrees with nn.RNN so far" in out
    assert "ended by an interrupt" in " ".join(out.split())
    assert "Traceback" not in err
    assert told["workers"]["number"] >= 1
    assert time.monotonic() - begun < 60
