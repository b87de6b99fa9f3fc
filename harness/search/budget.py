"""The budget of a search: its cases and its time, the shares of that time, and what it may use after a finding."""

import math
import time
from typing import Final

from harness.search.search_record import SearchRecord, Stop
from harness.space.errors import require_int, require_seconds

USUAL_CASES: Final = 1_650
"""The number of cases of a search without a budget, for which torch takes some 25 s of one processor. Covering torch's
whole scope takes 929 configs; the configs drawn after that have two cases each.
"""

BRIEF: Final = 240
"""The number of cases of a search without a budget if the subject is slow: the 200 that must agree, and the covering
arrays of pairs of the widest scopes in ``COVERING_SHARE`` of it.
"""

CAPABILITIES_KNOWN: Final = 0.25
FUNCTIONS_MEASURED: Final = 0.4
LAST_SHRINKING: Final = 0.6
LAST_CASE: Final = 0.9
LAST_CASE_BEFORE_MORE: Final = 0.8
LAST_EXPLANATION: Final = 0.95
LAST_DROPOUT_CHECK: Final = 0.95
"""The shares of the time at which it is known what the subject supports; its functions are measured; the last shrinking
step and the last case of the search are over, which comes before where there is more to check; a finding is explained;
and the statistics of dropout are checked. The rest is for malformed calls. Both together take torch 1.9 s, which a
check of 10 s leaves them. A failure usually comes early and gets most of the time; one that comes last is reported as
it is.
"""

CASES_AFTER_FINDING: Final = 400
"""The number of cases that a search continues for after a finding, to find another cause: one that shows on a case in a
hundred is met with a probability of 98 %.
"""

REFUSALS_PER_CASE: Final = 4
"""The number of cases that a subject may refuse for each compared case before the search ends as if these had been
compared. A refusal takes a hundredth of the time of a comparison, so this costs little and makes the search end.
"""


class Budget:
    """The budget of one search, whose time begins now.

    Without ``cases`` and ``seconds`` it is ``USUAL_CASES`` cases, or ``BRIEF`` if the subject is ``slow``.
    ``with_more`` says that a search is followed by more checks. Raises ``UsageError`` if it allows nothing.
    """

    def __init__(
        self, cases: int | None, seconds: float | None, *, slow: bool = False, with_more: bool = False
    ) -> None:
        if cases is not None:
            require_int("cases", cases, 1)
        if seconds is not None:
            require_seconds("seconds", seconds)
        usual = BRIEF if slow else USUAL_CASES
        self._limit = usual if cases is None and seconds is None else cases
        self.cases = self._limit  # the number of cases at which the search ends; ``None`` if only time ends it
        self._seconds = seconds
        self._start = time.perf_counter()
        self.searching_until = self.moment(LAST_CASE_BEFORE_MORE if with_more else LAST_CASE)
        self._beyond = False  # True if the cases are those that a search may use after a finding

    def elapsed(self) -> float:
        """Return the seconds since the search began."""
        return time.perf_counter() - self._start

    def moment(self, share: float) -> float:
        """Return the moment at which a share of the time is over, by ``time.perf_counter``; never without a limit."""
        return math.inf if self._seconds is None else self._start + share * self._seconds

    def extend(self, total: int) -> None:
        """Allow ``CASES_AFTER_FINDING`` more cases than the ``total`` so far, within what was given."""
        last = total + CASES_AFTER_FINDING
        self._beyond = self._limit is None or last < self._limit
        self.cases = last if self._beyond else self._limit

    def end(self, record: SearchRecord) -> Stop | None:
        """Return which limit the search has reached; ``None`` if it may go on."""
        return self.spent(record) or self.late()

    def spent(self, record: SearchRecord) -> Stop | None:
        """Return which limit of cases the search has reached; ``None`` if it has not."""
        done = max(record.total, record.unsupported.total() // REFUSALS_PER_CASE)
        if self.cases is None or done < self.cases:
            return None
        return Stop.AFTER if self._beyond else Stop.BUDGET

    def late(self) -> Stop | None:
        """Return that the time to search is over; ``None`` if it is not."""
        return Stop.TIME if time.perf_counter() >= self.searching_until else None

    def too_late_to_shrink(self) -> bool:
        """Return ``True`` if the time for shrinking is over."""
        return time.perf_counter() >= self.moment(LAST_SHRINKING)
