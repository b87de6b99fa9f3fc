"""The scan of a unit: it goes through the unit's cases one after the other, and gives the result of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from harness.checks.full_check import against
from harness.checks.laws import Law
from harness.checks.result import Result, Verdict
from harness.search.guard import Hang
from harness.search.plan import Asked, Unit
from harness.space.case import Case
from harness.space.config import RNNConfig


class FullCheck(Protocol):
    """A function that checks a subject on a case in every way, as ``checks.full_check`` does."""

    def __call__(self, case: Case, *, with_probes: bool = ..., laws: tuple[Law, ...] | None = ...) -> Result:
        """Return the result."""
        ...


class Checked(NamedTuple):
    """A case of a search, and its result."""

    asked: Asked
    result: Result
    seconds: float  # for drawing and checking it
    case: Case | None = None  # if it fails; of a hang, it may be a prefix


Observe = Callable[[Checked], object]
"""A function that is told of every case of a search."""


def scan(unit: Unit, check: FullCheck) -> Iterator[Checked]:
    """Yield the results of a unit's cases, until one hangs.

    If the subject refuses a config, only its first case is tried.
    """
    refused: RNNConfig | None = None
    for asked in unit.asked():
        if asked.config is refused:
            continue
        start = time.perf_counter()
        case = asked.case()
        try:
            result = check(case, with_probes=asked.with_probes, laws=None if asked.with_law else ())
        except Hang as hang:
            yield Checked(asked, hang.result, time.perf_counter() - start, hang.case)
            return
        refused = asked.config if result.verdict is Verdict.UNSUPPORTED else None
        yield Checked(asked, result, time.perf_counter() - start, case if against(result) else None)
