"""The cost of a search beside its runs: checks per second, and their growth with workers.

``torch`` is the time inside torch's own runs, all that the search asks for: the case, prefixes of its stack, probes,
relations, repeated runs. ``expected`` is the time of expected values, their tolerances and the comparison, and ``rest``
that of all else: drawing, counting, the cases themselves. ``overhead`` is what both add to torch's runs, and ``free``
what would be left of it if nothing had to be computed.

- small: sizes up to 16, float32 and float64, plain calls, forward, and with gradients, of nn.RNN, nn.GRU and nn.LSTM;
  in this process, CPU time;
- default: torch's whole scope, as ``rnn-harness check`` searches it, in this process, CPU time;
- start: seconds from the start of Python to the first run of a subject in a search, as in a command;
- workers: the same default search of torch in its own process, by several numbers of workers, in seconds on the clock:
  until everything that can be covered is met, and to its end;
- memory: MiB of this process after some numbers of small checks, and microseconds of CPU per check in each stretch.

Run: ``python benchmarks/throughput.py``, on a machine that does nothing else; ``--checks 1000000`` for the memory.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

from itertools import islice

import torch

from harness import Scope, hunt, scope_of
from harness.checks import case_checks
from harness.checks.relation_check import _Application
from harness.search.budget import USUAL_CASES
from harness.search.capability_discovery import narrow
from harness.search.plan import CoveringChunk, chunks
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.search.workers import WorkerPool
from harness.space.cells import CELLS
from harness.space.factor_table import offers_of
from harness.subjects.isolated import IsolatedSubject, ahead
from harness.subjects.torch_module import TorchSubject

SIZES: Final = tuple(range(1, 17))
SMALL: Final = Scope().only(input_size=SIZES, hidden_size=SIZES, T=SIZES, N=SIZES)
LAYERS: Final = {cell: getattr(torch.nn, cell) for cell in CELLS}
GRADIENTS: Final = SMALL.only(loss=["output", "h_n", "both"])

FIRST_RUN: Final = """
import os, time
os.environ["OMP_NUM_THREADS"] = "1"
from harness.subjects.isolated import IsolatedSubject, ahead
ahead(["torch"])
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.search import Search
from harness.subjects.protocol import scope_of
class First(IsolatedSubject):
    def run(self, case):
        print(time.time(), flush=True)
        os._exit(0)
subject = First("torch")
investigation = FindingExplainer(subject)
with Search(subject, scope_of(subject)) as search:
    for finding in search.findings():
        search.pass_over(investigation.recognise(finding, search.record))
"""


@dataclass
class Clock:
    """The processor's time that calls of some kind take, but for those within others."""

    seconds: float = 0.0
    running: bool = False

    def timed(self, call: Any) -> Any:
        """Return a call whose time counts."""

        def timed(*arguments: Any, **named: Any) -> Any:
            if self.running:
                return call(*arguments, **named)
            self.running, start = True, time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.process_time() - start
                self.running = False

        return timed


def timed_torch(cell: str, clock: Clock) -> TorchSubject:
    """Return torch's layer with a cell, with its runs timed."""
    subject = TorchSubject(LAYERS[cell])
    subject.run = clock.timed(subject.run)  # type: ignore[method-assign]
    runs = ("run_twice", "run_filled", "check_derivatives")
    subject.capabilities = subject.capabilities.with_methods(
        lambda name, call: clock.timed(call) if name in runs else call
    )
    return subject


def overhead(name: str, scope: Scope, count: int, cell: str = "RNN") -> dict[str, Any]:
    """Return how the time of a search is divided."""
    scope = scope.only(**offers_of(cell))
    hunt(TorchSubject(LAYERS[cell]), scope, cases=300)  # what happens once, such as imports, is not measured
    torch_runs, expected = Clock(), Clock()
    with ExitStack() as patches:
        for owner, method in ((case_checks, "assess"), (_Application, "_tolerances")):
            patches.enter_context(patch.object(owner, method, expected.timed(getattr(owner, method))))
        start = time.process_time()
        record = hunt(timed_torch(cell, torch_runs), scope, cases=count)
        whole = time.process_time() - start
    assert record.finding is None
    rest = whole - torch_runs.seconds - expected.seconds
    return {
        "search": name,
        "checks": record.total,
        "checks_a_second": record.total / whole,
        "torch": torch_runs.seconds / whole,
        "expected": expected.seconds / whole,
        "rest": rest / whole,
        "overhead": (whole - torch_runs.seconds) / torch_runs.seconds,
        "free": rest / torch_runs.seconds,
    }


def first_run() -> float:
    """Return the seconds until a search first runs its subject."""
    start = time.time()
    done = subprocess.run([sys.executable, "-c", FIRST_RUN], check=True, capture_output=True, text=True)
    return float(done.stdout) - start


def scaled(workers: int) -> dict[str, Any]:
    """Time a search with this number of workers, or with none in this process."""
    with IsolatedSubject("torch") as subject:
        scope = narrow(subject, scope_of(subject)).scope
        cover = sum(
            unit.cases for unit in islice(chunks(scope, 0, USUAL_CASES), 200) if isinstance(unit, CoveringChunk)
        )
        reached: list[float] = []

        start = time.perf_counter()
        with Search(subject, options=SearchOptions(workers=WorkerPool(workers) if workers else None)) as search:
            record = search.record
            for _ in search:
                if record.total >= cover and not reached:
                    reached.append(time.perf_counter() - start)
        seconds = time.perf_counter() - start
    met, of = record.coverage.share(record.scope, 3)
    edges = record.coverage.boundaries(record.scope).values()
    assert met == of
    assert all(a == b for a, b in edges)
    return {"workers": workers, "checks": record.total, "covered": reached[0], "seconds": seconds}


def resident() -> float:
    """Return the resident memory of this process in MiB, if the system tells it (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a pseudo-file
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def grown(checks: int) -> list[dict[str, Any]]:
    """Return memory and time per check, ten times on the way to ``checks`` checks."""
    rows: list[dict[str, Any]] = []
    last = [0, time.process_time()]

    scope = SMALL.only(T=[1, 2, 3], N=[1, 2], num_layers=1)
    with Search(TorchSubject(), scope, SearchOptions(checks + 1_000)) as search:
        record = search.record
        for _ in search:
            if record.total - last[0] >= checks // 10:
                now = time.process_time()
                per_check = 1e6 * (now - last[1]) / (record.total - last[0])
                rows.append({"checks": record.total, "MiB": resident(), "microseconds": per_check})
                last[:] = [record.total, now]
    return rows


def measured(checks: int) -> dict[str, Any]:
    """Measure everything, print each figure as it comes, and return them as plain data."""
    found: dict[str, Any] = {"overhead": [], "workers": []}
    shares = ("torch", "expected", "rest", "overhead", "free")
    print(f"{'':20}{'checks':>8}{'a second':>10}" + "".join(f"{share:>10}" for share in shares))
    small = (("forward", SMALL, 3_000), ("gradients", GRADIENTS, 2_000))
    for name, scope, count, cell in (
        *((f"{cell}, {way}", scope, count, cell) for cell in LAYERS for way, scope, count in small),
        ("default", scope_of(TorchSubject()), USUAL_CASES, "RNN"),
    ):
        row = overhead(name, scope, count, cell)
        figures = "".join(f"{row[share]:10.0%}" for share in shares)
        print(f"{name:20}{row['checks']:8,}{row['checks_a_second']:10.0f}{figures}", flush=True)
        found["overhead"].append(row)
    found["start"] = first_run()
    print(f"start to the first run: {found['start']:.1f} s")
    ahead(["torch"])
    for workers in (0, 1, 2):
        row = scaled(workers)
        print(f"{workers} workers: everything covered after {row['covered']:.1f} s, {row['checks']:,} checks in "
              f"{row['seconds']:.1f} s", flush=True)  # fmt: skip
        found["workers"].append(row)
    found["memory"] = grown(checks) if checks else []
    for row in found["memory"]:
        print(f"{row['checks']:9,} checks: {row['MiB']:5.0f} MiB, {row['microseconds']:5.0f} µs a check", flush=True)
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checks", type=int, default=20_000, help="over which memory is watched; 0 for none")
    measured(parser.parse_args().checks)


if __name__ == "__main__":
    main()
