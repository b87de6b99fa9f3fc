"""The preparation of a search: the scope that its user asks for, and the workers that share it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, Final

import numpy as np

from harness.search.budget import USUAL_CASES
from harness.search.plan import CONFIGS_PER_CHUNK
from harness.search.workers import WorkerPool
from harness.space.cells import CELL_DEFINITIONS
from harness.space.errors import UsageError
from harness.space.scope import MOST_LAYERS, Scope, lost_pin, singular
from harness.subjects.isolated import TIMEOUT
from harness.subjects.protocol import Subject, choose_devices, scope_of

CASES_A_PROCESS: Final = 200  # the number of cases that one process checks in the time that others take to start
DRAWN: Final = 300_000_000
"""The most bytes of the arrays of a case that is drawn: those of an LSTM of four layers of 1,024 units are 134 million.
The reference takes some ten times as much.
"""

MOST_TIME_STEPS: Final = round(TIMEOUT / 1e-4)
"""The most time steps of all layers together: to compare one takes some 0.1 ms (``cost_of``), and so many take as long
as a subject may.
"""


def asked_scope(
    subject: Subject, devices: Sequence[str] = (), pinned: Mapping[str, Any] | None = None, profile: str | None = None
) -> Scope:
    """Return what a profile asks of a subject, on some devices and with some factors pinned.

    Raises ``UsageError`` for pins that exclude each other or leave no case small enough to be compared and kept, and
    ``SubjectUnavailable`` for a device that is not here.
    """
    pinned = singular(pinned or {})
    wanted = tuple(devices) or pinned.get("device", ())
    scope = scope_of(subject, profile).only(**{**pinned, "device": choose_devices(subject, wanted)})
    _require_feasible(scope)
    if lost := lost_pin(scope, pinned | ({"device": wanted} if wanted else {})):
        beside = (f"{name}={', '.join(map(str, values))}" for name, values in scope.beside(*lost).items())
        others = ", ".join(beside) or "the other pins"
        name, value = lost
        raise UsageError(f"{name}={value}: no call of {subject.name} has this together with {others}; leave one out")
    return scope


def _require_feasible(scope: Scope) -> None:
    """Raise ``UsageError`` if the smallest case of a scope takes too long to compare, or too many bytes to be kept."""
    T, N, I, H, L = (  # noqa: E741 - the published name
        min(getattr(scope, name)) for name in ("T", "N", "input_size", "hidden_size", "num_layers")
    )
    O = min(size or 0 for size in scope.output_size)  # noqa: E741 - the published name
    size = min(np.dtype(name).itemsize for name in scope.dtype)
    rows = H * len(CELL_DEFINITIONS[scope.cell[0]].gates)
    size *= T * N * (I + H + O) + rows * (I + (2 * L - 1) * H) + O * H  # x, output, readout and the matrices
    if L > MOST_LAYERS:
        raise UsageError(f"num_layers={L}: expected at most {MOST_LAYERS:,}")
    if T * L > MOST_TIME_STEPS:
        raise UsageError(
            f"T={T} with num_layers={L}: expected at most {MOST_TIME_STEPS:,} steps of all layers together"
        )
    if size > DRAWN:
        sizes = f"T={T}, N={N}, input_size={I}, hidden_size={H}" + (f", output_size={O}" if O else "")
        raise UsageError(f"{sizes}: a case takes {size:,} bytes, expected at most {DRAWN:,}; pin smaller ones")


def workers_of(
    number: int | None, cases: int | None, shards: int = 1, cluster: WorkerPool | None = None
) -> WorkerPool | None:
    """Return the workers for a search of ``cases`` cases in some shards; ``None`` if its own process does everything.

    Without a ``number`` there is one worker a core, or none if the search would be over before they start. There are no
    more workers than chunks, because chunks are what they share. Those of a ``cluster`` are taken instead.
    """
    most = ceil((cases or USUAL_CASES) / CONFIGS_PER_CHUNK / shards)
    if cluster is not None:
        return replace(cluster, number=min(cluster.number, most))
    if number is None:
        number = cores() if (cases or CASES_A_PROCESS * shards) >= CASES_A_PROCESS * shards else 0
    return WorkerPool(min(number, most)) if number else None


def cores() -> int:
    """Return the number of cores this process may use, or 0 if there is only one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return here if here > 1 else 0
