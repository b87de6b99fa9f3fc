"""The cost of a search by one process, by two, and by two workers of a Dask cluster on this machine.

The CPU seconds are those of all processes, the cluster's included. A cluster is started for one run, and for two in a
row: the second one costs what a run on a cluster costs that is there already.

Run: ``python benchmarks/cluster.py [SUBJECT] [--examples N]``; torch by default. Needs ``rnn-harness[cluster]``.
"""

import argparse
import ctypes
import os
import resource
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, run
from typing import NamedTuple

from tests.dask_cluster import dask_cluster

# The number of Linux's PR_SET_CHILD_SUBREAPER: what a command leaves behind becomes a child of this process.
SUBREAPER = 36


class Cost(NamedTuple):
    """The seconds of some runs: of all processors, and of the clock while commands ran."""

    cpu: float
    wall: float


def cost(subject: str, examples: int, *options: str, on_a_cluster: int = 0) -> Cost:
    """Measure one run, or as many as are asked for on a cluster, with its start and its end."""
    begun = used()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness", "check", subject, "--examples", str(examples), "-q"]
        command += ["--findings", f"{folder}/findings", *options]
        if not on_a_cluster:
            wall = seconds(command)
        else:
            with dask_cluster(Path(folder)) as cluster:
                wall = sum(seconds([*command, "--scheduler", cluster.address]) for _ in range(on_a_cluster))
    return Cost(used() - begun, wall)


def seconds(command: list[str]) -> float:
    """Run a command, and return the time that it took."""
    start = time.perf_counter()
    done = run(command, stdout=DEVNULL, check=False)
    if done.returncode not in {0, 1}:  # 1 is a finding
        sys.exit(f"{command}: exit code {done.returncode}")
    return time.perf_counter() - start


def used() -> float:
    """Return the CPU seconds of all processes that have ended by now; those that are ending are awaited."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("subject", nargs="?", default="torch")
    parser.add_argument("--examples", type=int, default=1650)
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name, number in {"one process": "0", "two workers of this machine": "2"}.items():
        tell(name, cost(given.subject, given.examples, "-n", number))
    one = cost(given.subject, given.examples, on_a_cluster=1)
    tell("a cluster that is started for it", one)
    both = cost(given.subject, given.examples, on_a_cluster=2)
    tell("a cluster that is there", Cost(both.cpu - one.cpu, both.wall - one.wall))


def tell(name: str, told: Cost) -> None:
    """Print a cost."""
    print(f"{name:34} {told.cpu:6.1f} CPU s {told.wall:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
