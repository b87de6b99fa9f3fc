"""The preparation of a search: the scope that its user asks for, and the crew that shares the work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from harness.search.budget import CASES
from harness.search.cluster import Cluster
from harness.search.crew import Crew
from harness.search.plan import UNIT
from harness.space.errors import UsageError
from harness.space.scope import Scope, lost_pins
from harness.subjects.protocol import Subject, choose_devices, scope_of

FEW: Final = 200
"""The number of cases that one process checks in the time that others take to start."""


def asked_scope(
    subject: Subject, devices: Sequence[str] = (), pinned: Mapping[str, Any] | None = None, contract: str | None = None
) -> Scope:
    """Return what a contract asks of a subject, on some devices and with some factors pinned.

    Raises ``UsageError`` for pins that exclude each other, and ``SubjectError`` for a device that is not here.
    """
    pinned = dict(pinned or {})
    asked = tuple(devices) or tuple(pinned.get("device", ()))
    scope = scope_of(subject, contract).only(**{**pinned, "device": choose_devices(subject, asked)})
    if lost := lost_pins(scope, {*pinned, "device"} if asked else pinned):
        shown = ", ".join(f"{name}={value}" for name, value in lost.items())
        raise UsageError(f"{shown}: no call of {subject.name} has this together with the other pins; leave one out")
    return scope


def crew_of(workers: int | None, cases: int | None, shards: int = 1, cluster: Cluster | None = None) -> Crew | None:
    """Return a crew for a search of ``cases`` cases in some shards; ``None`` if its own process does everything.

    ``workers`` is the number of workers. ``None`` stands for one a core, and for none if the search would be over
    before they start. There are no more workers than units, because units are what they share. With a ``cluster``, the
    workers are those of it.
    """
    most = ceil((cases or CASES) / UNIT / shards)
    if cluster is not None:
        return Crew(min(cluster.helpers.given, most), cluster.executor, cluster.helpers)
    if workers is None:
        workers = cores() if (cases or FEW * shards) >= FEW * shards else 0
    return Crew(min(workers, most)) if workers else None


def cores() -> int:
    """Return the number of cores this process may use, or 0 if there is only one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return here if here > 1 else 0
