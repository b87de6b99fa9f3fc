"""The budget of a search: its cases and its time, the shares of that time, and what it may use after a finding."""

import math
import time
from typing import Final

from harness.search.record import SearchRecord, Stop
from harness.space.errors import require_int, require_seconds

CASES: Final = 1_650
"""The number of cases of a search without a budget, for which torch takes some 25 s of one processor. Covering torch's
whole scope takes 984 configs; the configs drawn after that have two cases each.
"""

BRIEF: Final = 240
"""The number of cases of a search without a budget if the subject is slow: the 200 that must agree, and the covering
arrays of pairs of the widest scopes in ``COVERED`` of it.
"""

NARROWING: Final = 0.25
SEARCHING: Final = 0.9
SHRINKING: Final = 0.6
"""The shares of the time that may be used up when the search knows what a subject supports, when it starts the last
case, and when it checks the last shrinking step; the rest is for explaining. A failure usually comes early and gets
most of the time; one that comes last is reported as it is.
"""

AFTER: Final = 400
"""The number of cases that a search continues for after a finding, to find another cause: one that shows on a case in a
hundred is met with a probability of 98 %.
"""

REFUSED: Final = 4
"""The number of cases that a subject may refuse for each compared case before the search ends as if these had been
compared. A refusal takes a hundredth of the time of a comparison, so this costs little and makes the search end.
"""


class Budget:
    """The budget of one search, whose time begins now.

    Without ``cases`` and ``seconds`` it is ``CASES`` cases, or ``BRIEF`` if the subject is ``slow``.
    Raises ``UsageError`` if it allows nothing.
    """

    def __init__(self, cases: int | None, seconds: float | None, *, slow: bool = False) -> None:
        if cases is not None:
            require_int("cases", cases, 1)
        if seconds is not None:
            require_seconds("seconds", seconds)
        usual = BRIEF if slow else CASES
        self._given = usual if cases is None and seconds is None else cases
        self.cases = self._given  # the number of cases at which the search ends; ``None`` if only time ends it
        self._seconds = seconds
        self._start = time.perf_counter()
        self._beyond = False  # True if the cases are those that a search may use after a finding

    def elapsed(self) -> float:
        """Return the seconds since the search began."""
        return time.perf_counter() - self._start

    @property
    def until(self) -> float:
        """The moment at which the time is over, by ``time.perf_counter``, like the next."""
        return self._share(1)

    @property
    def narrowing_until(self) -> float:
        """The moment at which it must be known what the subject supports."""
        return self._share(NARROWING)

    def extend(self, total: int) -> None:
        """Allow ``AFTER`` more cases than the ``total`` so far, within what was given."""
        last = total + AFTER
        self._beyond = self._given is None or last < self._given
        self.cases = last if self._beyond else self._given

    def end(self, record: SearchRecord) -> Stop | None:
        """Return which limit the search has reached; ``None`` if it may go on."""
        return self.spent(record) or self.late()

    def spent(self, record: SearchRecord) -> Stop | None:
        """Return which limit of cases the search has reached; ``None`` if it has not."""
        done = max(record.total, record.unsupported.total() // REFUSED)
        if self.cases is None or done < self.cases:
            return None
        return Stop.AFTER if self._beyond else Stop.BUDGET

    def late(self) -> Stop | None:
        """Return that the time to search is over; ``None`` if it is not."""
        return Stop.TIME if time.perf_counter() >= self._share(SEARCHING) else None

    def too_late_to_shrink(self) -> bool:
        """Return ``True`` if the time for shrinking is over."""
        return time.perf_counter() >= self._share(SHRINKING)

    def _share(self, share: float) -> float:
        return math.inf if self._seconds is None else self._start + share * self._seconds
