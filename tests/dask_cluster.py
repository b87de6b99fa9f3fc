"""A real Dask cluster on the loopback interface, for the length of a block."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

STARTING = 60.0  # The most seconds that a scheduler or a worker may take to start on a busy machine


@dataclass
class DaskCluster:
    """A scheduler and its workers, each with its log in a folder."""

    folder: Path
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)  # The workers, or their nannies

    def begin(self, environment: Mapping[str, str]) -> None:
        """Start the scheduler."""
        place = self.folder / "scheduler.json"
        command = ["scheduler", "--port", "0", "--scheduler-file", str(place)]
        self.scheduler = self._started(command, "scheduler.log", environment)
        self._await(self.scheduler, place, "}")
        self.address = json.loads(place.read_text())["address"]

    def add(self, *options: str, nanny: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Start a worker."""
        log = f"worker{len(self.workers)}.log"
        command = ["worker", self.address, "--local-directory", str(self.folder)]
        command += ["--nanny" if nanny else "--no-nanny", *(options or ("--nthreads", "1"))]
        self.workers.append(self._started(command, log, environment or {}))

    def await_workers(self) -> None:
        """Wait until all workers have told the scheduler of themselves."""
        for number, worker in enumerate(self.workers):
            self._await(worker, self.folder / f"worker{number}.log", "Registered to")

    def kill_scheduler(self) -> None:
        """Kill the scheduler, as a crash would."""
        assert self.scheduler is not None
        self.scheduler.kill()

    def kill_workers(self) -> None:
        """Kill all workers, as a crash would."""
        for worker in self.workers:
            worker.kill()

    def end(self) -> None:
        """End all processes, whatever they are doing."""
        running = [*self.workers, *([] if self.scheduler is None else [self.scheduler])]
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in running:
            process.wait()

    def _started(self, command: list[str], log: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        whole = [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:], "--host", "127.0.0.1"]
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                [*whole, "--no-dashboard"],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def _await(self, process: subprocess.Popen[bytes], file: Path, text: str) -> None:
        until = time.monotonic() + STARTING
        while not (file.exists() and text in file.read_text()):
            logs = "\n".join(log.read_text() for log in self.folder.glob("*.log"))
            assert process.poll() is None, logs
            assert time.monotonic() < until, logs
            time.sleep(0.05)


@contextmanager
def dask_cluster(
    folder: Path, workers: int = 2, *, nanny: bool = False, scheduler: Mapping[str, str] | None = None
) -> Iterator[DaskCluster]:
    """Start a cluster, whose scheduler may have further environment variables, and end all of it."""
    cluster = DaskCluster(folder)
    try:
        cluster.begin(scheduler or {})
        for _ in range(workers):
            cluster.add(nanny=nanny)
        cluster.await_workers()
        yield cluster
    finally:
        cluster.end()


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Have Dask wait no longer for a connection."""
    import dask.config
    import distributed  # noqa: F401 - whose import sets the usual time

    with dask.config.set({"distributed.comm.timeouts.connect": seconds}):
        yield
