"""scan: goes through the cases of a unit, one after the other, and says of each what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from harness.checks.laws import Law
from harness.checks.result import Result, Verdict
from harness.search.plan import Asked, Unit
from harness.space.case import Case
from harness.space.config import RNNConfig


class Check(Protocol):
    """Everything that is asked of a subject on a case, as ``checks.everything`` asks it."""

    def __call__(self, case: Case, *, with_probes: bool = ..., laws: tuple[Law, ...] | None = ...) -> Result:
        """The result."""
        ...


class Seen(NamedTuple):
    """A case of a search, and what came of it."""

    asked: Asked
    result: Result


def scan(unit: Unit, check: Check) -> Iterator[Seen]:
    """What comes of a unit's cases; of a config that the subject refuses, only the first is tried."""
    refused: RNNConfig | None = None
    for asked in unit.asked():
        if asked.config is refused:
            continue
        result = check(asked.case(), with_probes=asked.with_probes, laws=None if asked.with_law else ())
        refused = asked.config if result.verdict is Verdict.UNSUPPORTED else None
        yield Seen(asked, result)
