"""effort: how much all explanations of one subject may do: steps are counted first, and time is the last resort."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from harness.search.deadline import DeadlineSubject, TimeOver
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome

STEPS: Final = 30_000
SECONDS: Final = 30.0
"""The steps and the seconds that explaining all findings of a subject may take. A step is a case that the subject is
asked, a sum that is solved for, or a run of a model, which counts for more if it is long: some 1 ms of one processor.
So the steps decide unless the subject or the machine is slow, and the same subject has the same causes. Measured on
identifications: 150 to 800 steps for one mistake, 1,800 for a clip of all gradients, 5,000 for a layer of which several
gradients are not known in the end.
"""

STEPS_OF_A_RUN: Final = 8  # the steps of a layer and direction that one run of a model makes while others count once
OVER: Final = "the {} that finding causes may take were over before it was found"


class Effort:
    """What is left of a share of the steps and seconds for the explanations of one subject."""

    def __init__(self, share: float = 1.0) -> None:
        self.steps, self.seconds = round(share * STEPS), share * SECONDS
        self._all = self.steps, self.seconds
        self.over = ""  # which of them ended the last part before its end

    @property
    def spent(self) -> bool:
        """True if nothing is left."""
        return self.steps <= 0 or self.seconds <= 0

    @contextmanager
    def part(self, steps: float, seconds: float) -> Iterator[None]:
        """Do a part of an explanation within shares of what is left; end it there, and note that in ``over``."""
        part = _Part(round(steps * self.steps), seconds * self.seconds)
        self.over = ""
        before = _CURRENT.set(part)
        try:
            yield
        except _PartOver as end:
            self.over = OVER.format(f"{self._all[1]:g} s" if end.late else f"{self._all[0]:,} steps")
        finally:
            _CURRENT.reset(before)
            self.steps -= part.done
            self.seconds -= time.perf_counter() - part.start


class _PartOver(TimeOver):
    """Raised where a part of an explanation has used its share, of the time if it is ``late``."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late


class _Part:
    """One part of an explanation."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.start, self.done = time.perf_counter(), 0
        self._steps, self._until = steps, self.start + seconds

    def spend(self, steps: int) -> None:
        if self.done >= self._steps:
            raise _PartOver(late=False)
        if time.perf_counter() >= self._until:
            raise _PartOver(late=True)
        self.done += steps


_CURRENT: ContextVar[_Part | None] = ContextVar("the part of an explanation that is being done", default=None)


def spend(steps: int = 1) -> None:
    """Count steps of the current part of an explanation; without one, nothing is limited."""
    if (part := _CURRENT.get()) is not None:
        part.spend(steps)


def spend_run(config: RNNConfig) -> None:
    """Count a run of a model on a case."""
    spend(1 + config.T * config.num_layers * config.num_directions // STEPS_OF_A_RUN)


class CountedSubject(DeadlineSubject):
    """A subject each run of which is a step."""

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case."""
        spend()
        return super().run(case)
