"""effort: how much all explanations of one subject may do: steps are counted first, and time is the last resort."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from harness.search.deadline import DeadlineSubject, TimeOver
from harness.space.case import Case
from harness.space.outcome import Outcome

STEPS: Final = 10_000
SECONDS: Final = 30.0
"""The steps and the seconds that explaining all findings of a subject may take. A step is a case that the subject is
asked, a sum that is solved for, or a run of a model: 1.5 to 5 ms of one processor, so that the steps decide unless the
subject or the machine is slow, and the same subject has the same causes. Measured on identifications: 150 to 600 steps
for one mistake, 1,800 for a clip of all gradients, 5,000 for a stack of which nothing is known in the end.
"""

OVER: Final = "the {} that all explanations may take were over before it was found"


class Effort:
    """What is left of the steps and seconds for the explanations of one subject."""

    def __init__(self) -> None:
        self.steps, self.seconds = STEPS, SECONDS
        self.over = ""  # which of them ended the last part before its end

    @property
    def spent(self) -> bool:
        """True if nothing is left."""
        return self.steps <= 0 or self.seconds <= 0

    @contextmanager
    def part(self, steps: float, seconds: float) -> Iterator[None]:
        """Do a part of an explanation within shares of what is left; end it there, and note that in ``over``."""
        part = _Part(int(steps * self.steps), seconds * self.seconds)
        self.over = ""
        before = _CURRENT.set(part)
        try:
            yield
        except _PartOver as end:
            self.over = OVER.format(end)
        finally:
            _CURRENT.reset(before)
            self.steps -= part.done
            self.seconds -= time.perf_counter() - part.start


class _PartOver(TimeOver):
    """Raised where a part of an explanation has used its share; it says of what."""


class _Part:
    """One part of an explanation."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.start, self.done = time.perf_counter(), 0
        self._steps, self._until = steps, self.start + seconds

    def spend(self) -> None:
        if self.done >= self._steps:
            raise _PartOver(f"{STEPS:,} steps")
        if time.perf_counter() >= self._until:
            raise _PartOver(f"{SECONDS:g} s")
        self.done += 1


_CURRENT: ContextVar[_Part | None] = ContextVar("the part of an explanation that is being done", default=None)


def spend() -> None:
    """Count a step of the current part of an explanation; without one, nothing is limited."""
    if (part := _CURRENT.get()) is not None:
        part.spend()


class CountedSubject(DeadlineSubject):
    """A subject each run of which is a step."""

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        spend()
        return super().run(case)
