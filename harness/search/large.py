"""Large products: cases whose numbers of sequences, steps and units multiply to 2**24 and more, if they are asked for.

They are no part of the plan. Each runs alone, after the search and in the subject's one process, because it may take
most of the memory. It is left out, with the reason, if it does not fit into what is free, or into the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from typing import Final, NamedTuple

from harness.checks.agreement import check_agreement
from harness.checks.result import WAVERS, Result, Verdict
from harness.oracle.arithmetic import Accepted
from harness.search.certificate import Certificate
from harness.search.record import Finding, Hunt, Stop
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.memory import free, too_large
from harness.space.outcome import Failure
from harness.space.product_edges import EDGE, around, edges, narrowest
from harness.space.values import draw
from harness.subjects.protocol import Subject

SHARE: Final = 0.5
"""The share of the time that the search before them may take, if the time is limited."""

OUT_OF_MEMORY: Final = ("MemoryError", "out of memory", "can't allocate memory", "not enough memory")
"""The words of an error that says that memory is short: Python's and NumPy's, CUDA's, and those of torch on a CPU."""

KILLED: Final = "SIGKILL"
"""The word for the end of a process by which a system gets memory back."""

PART: Final = 16
"""The part of the first config that is timed, one sequence in this many. That takes a second and more of 2**24
sequences, mostly to start a process, so the estimate is rather too long."""

GALLOP: Final = 16
"""The factor by which the steps down from a failing N grow: a threshold mostly lies right at an edge."""

CERTIFICATE: Final = Certificate().but_for("a very large case: only a smaller N was looked for")


class Skipped(NamedTuple):
    """A config that was not compared, and why."""

    config: RNNConfig
    why: str


@dataclass
class Large:
    """The record of the large products of one subject."""

    edges: tuple[int, ...] = ()
    dtype: str = ""
    agreed: list[RNNConfig] = field(default_factory=list)
    failed: RNNConfig | None = None
    """The config that fails, which is the last that was compared."""
    found: bool = False
    """True if that is a finding, and no failure that the search met on smaller cases."""
    unfinished: str = ""
    """The reason why its threshold is not known; empty if it is."""
    skipped: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0
    none: str = ""
    """The reason why there is no such case at all."""


class TooLarge(Exception):
    """Raised in place of a result, where there is no memory or no time for a run; it says so."""


class Trial:
    """Runs of a subject on very large configs, each on drawn numbers and by itself, as far as they fit.

    They end at ``until``, a moment of ``time.perf_counter``.
    """

    def __init__(self, subject: Subject, accepted: Accepted, seed: int, until: float = math.inf) -> None:
        self._subject, self._accepted, self._seed, self._until = subject, accepted, seed, until
        self._timed = 0, 0.0
        """The states of the largest config so far, and the seconds that it took."""
        self._unanswered = math.inf
        """The fewest states with which there was no answer in time."""
        self.refused = ""
        """The reason why the last run that did not fit was not made; empty if there is none."""

    @property
    def fresh(self) -> bool:
        """True if the subject has a process of its own, which is then a new one for each run."""
        return self._subject.capabilities.process is not None

    def case(self, config: RNNConfig) -> Case:
        """Return the case that is tried of a config."""
        return draw(config, "normal", self._seed)

    def __call__(self, config: RNNConfig) -> Result:
        """Return the result on a config. Raise ``TooLarge`` if it does not fit.

        The time that the first one takes is estimated by a part of it.
        """
        try:
            return self._run(config)
        except TooLarge as error:
            self.refused = str(error)
            raise

    def _run(self, config: RNNConfig) -> Result:
        if self._until < math.inf and not self._timed[0]:
            self._timed = 1, 0.0
            self._run(config.replace(N=max(1, config.N // PART)))
        if why := self._misfit(config):
            raise TooLarge(why)
        start = time.perf_counter()
        result = check_agreement(self._subject, self.case(config), accepted=self._accepted, with_probes=False)
        if result.failure is Failure.HUNG:
            self._unanswered = min(self._unanswered, config.states)
            raise TooLarge(f"{result.message}; --timeout allows more")
        said = result.message
        if result.verdict is Verdict.BROKEN and any(words in said for words in (KILLED, *OUT_OF_MEMORY)):
            raise TooLarge(said.splitlines()[0])
        if config.states > self._timed[0]:
            self._timed = config.states, time.perf_counter() - start
        return result

    def _misfit(self, config: RNNConfig) -> str:
        """Return why a config does not fit; empty if it does."""
        process, device = self._subject.capabilities.process, config.device
        if config.states >= self._unanswered:
            return f"no answer in time with {self._unanswered:,} states; --timeout allows more"
        if process is not None:
            process.restart()  # what it holds for later calls is given back
        if said := too_large(config, None if process is None or device == "cpu" else process.free_memory(device)):
            return said
        states, seconds = self._timed
        left, takes = self._until - time.perf_counter(), seconds * config.states / max(1, states)
        return f"takes some {takes:.0f} s, {max(0.0, left):.0f} s are left" if takes >= left else ""


def hunt_large(subject: Subject, done: Hunt, largest: int, tell: Callable[[Hunt], None]) -> tuple[Large, Trial]:
    """Check a subject around every edge up to ``largest`` after a search, and return what was done, and the runs.

    The first failure ends it. It is reported in the record of the search, with the smallest N at which it shows.
    """
    start, dtype = time.perf_counter(), narrowest(done.scope)
    record = Large() if dtype is None else Large(tuple(edges(largest, dtype)), dtype)
    trial = Trial(subject, done.accepted, done.seed, done.until)
    configs = iter([one for edge in record.edges for one in _configs(edge, done, record.dtype)])
    if free() is None:
        record.none, configs = "this system does not tell how much memory is free", iter(())
    for config in configs:
        done.large = config
        tell(done)
        try:
            result = trial(config)
            if result.verdict is Verdict.UNSUPPORTED:
                record.skipped.append(Skipped(config, f"refused: {result.message}"))
            elif result.verdict is Verdict.SUSPECT:
                record.skipped.append(Skipped(config, "has suspicious values, which no bound proves wrong"))
            elif not result.failed:
                record.agreed.append(config)
            else:
                trial.refused = ""  # from here on, it says what keeps the threshold from being found
                record.failed, record.found = config, _pursued(trial, config, result, done) is not None
                record.skipped += [Skipped(one, "after a failure") for one in configs]  # which ends the loop
        except TooLarge as error:
            record.skipped.append(Skipped(config, str(error)))
        except KeyboardInterrupt:
            done.stop = Stop.INTERRUPTED
            record.skipped += [Skipped(one, "after an interrupt") for one in (config, *configs)]  # which ends the loop
    done.large = None
    if not (record.none or record.agreed or record.failed or record.skipped):
        record.none = "a size is pinned, or such a case has no real dtype, no single layer or no plain forward pass"
    record.seconds = time.perf_counter() - start
    return record, trial


def _configs(edge: int, done: Hunt, dtype: str) -> Iterator[RNNConfig]:
    for device in done.scope.values()["device"]:
        if device != "meta":  # which computes no element
            yield from around(edge, done.scope, device, dtype)


def _pursued(trial: Trial, config: RNNConfig, result: Result, done: Hunt) -> Finding | None:
    """Look for the smallest N that fails, and report the failure there; not if it is one that the search met."""
    best, kind, passes, certificate = (config, result), result.kind, 0, CERTIFICATE
    near = (config.N - GALLOP**power for power in count())
    steps = [*takewhile(lambda N: 2 * N > config.N, near), *(config.N >> by for by in range(1, config.N.bit_length()))]
    try:
        while N := _smaller(best[0].N, passes, steps):
            other = config.replace(N=N)
            seen = trial(other)
            if seen.shows(kind):
                best = other, seen
            else:
                passes = N
        again = trial(best[0])
    except TooLarge as error:
        again, certificate = best[1], certificate.but_for(f"not to the end: {error}")
    except KeyboardInterrupt:  # what was seen to fail is told
        done.stop, again = Stop.INTERRUPTED, best[1]
    if best[0].states <= EDGE and any(one.result.kind == kind for one in done.findings):
        return None
    if not again.shows(kind):
        best = best[0], Result(Verdict.BROKEN, message=f"{WAVERS}: it failed, then it did not")
    return done.report(trial.case(best[0]), best[1], replace(certificate, fresh_process=trial.fresh))


def _smaller(fails: int, passes: int, steps: Sequence[int]) -> int:
    """Return the next N to try, by ``steps`` down to the first that passes, and then by halves; 0 if there is none."""
    if not passes:
        return next((step for step in steps if step < fails), 0)
    middle = (fails + passes) // 2
    return middle if middle > passes else 0
