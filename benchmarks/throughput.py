"""Checks a second on torch's nn.RNN, sizes up to 16, one thread; beside the floor, and beside a naive property.

- search: ``harness.hunt``, the whole of it: drawing, torch, prefixes of the stack, reference, tolerance, comparison;
- floor: torch's forward and the plain reference's, on the same cases, and nothing else;
- naive: a Hypothesis property that draws its arrays element by element and compares with ``np.allclose``.

Run: ``python benchmarks/throughput.py``. Memory is the process's resident size after 1,000 and after 11,000 checks.
"""

from __future__ import annotations

import os
import time

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness import Case, RNNConfig, Scope, configs, draw, hunt
from harness.oracle.reference import Reference
from harness.space.values import REGIMES
from harness.subjects.torch_module import TorchSubject

SIZES = tuple(range(1, 17))
SCOPE = Scope().only(input_size=SIZES, hidden_size=SIZES, T=SIZES, N=SIZES)
SUBJECT = TorchSubject()


def resident() -> float:
    """Resident memory of this process in MiB, where the system tells (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a pseudo-file
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def search(cases: int) -> float:
    """Checks a second of the search."""
    record = hunt(SUBJECT, SCOPE, cases=cases)
    assert record.finding is None
    return record.total / record.seconds


def floor(count: int) -> float:
    """Cases a second of torch and the plain reference alone."""
    drawn: list[RNNConfig] = []

    @settings(max_examples=count // 4, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(configs(SCOPE))
    def collect(config: RNNConfig) -> None:
        drawn.append(config)

    collect()
    names = tuple(REGIMES)
    cases = [draw(config, names[(i + j) % len(names)], i) for i, config in enumerate(drawn) for j in range(4)]
    reference = Reference()
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        for case in cases:
            SUBJECT.run(case)
            reference.run(case)
    return len(cases) / (time.perf_counter() - start)


def naive(count: int) -> float:
    """Examples a second of a property with element-drawn arrays."""
    seen = 0

    @st.composite
    def drawn_cases(draw_from: st.DrawFn) -> Case:
        config = draw_from(configs(SCOPE))
        dtype = np.dtype(config.dtype)
        floats = st.floats(-4, 4, width=32)
        drawn = {
            name: draw_from(hnp.arrays(dtype, spec.shape, elements=floats))
            for name, spec in {**config.inputs, **config.weights}.items()
        }
        return Case(config, drawn.pop("x"), drawn.pop("hx", None), drawn)

    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn_cases())
    def agrees(case: Case) -> None:
        nonlocal seen
        seen += 1
        # Its verdict is left alone: on values like these it is often a false alarm.
        np.allclose(SUBJECT.run(case).arrays["output"], Reference().run(case)["output"])

    start = time.perf_counter()
    agrees()
    return seen / (time.perf_counter() - start)


if __name__ == "__main__":
    search(1_000)
    before = resident()
    print(f"search  {search(10_000):7.0f} checks/s")
    after = resident()
    print(f"floor   {floor(4_000):7.0f} cases/s")
    print(f"naive   {naive(500):7.0f} examples/s")
    print(f"memory  {before:7.0f} MiB after 1,000 checks, {after:.0f} MiB after 11,000")
