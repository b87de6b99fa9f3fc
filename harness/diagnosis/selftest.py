"""selftest: the harness measured on itself: it must find, shrink and name every known fault, and accuse nothing else.

Each fault is planted as a subject, and searched and explained as the command does it. Correct subjects are asked as
much, and must raise no alarm. All of it runs in worker processes, even if there is only one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final

import numpy as np

from harness.diagnosis.correct import CORRECT, correct_subject
from harness.diagnosis.diagnose import Diagnosis
from harness.diagnosis.faults import BY_NAME, CATALOGUE, Fault, named
from harness.diagnosis.investigate import Investigation
from harness.diagnosis.parts import Part
from harness.diagnosis.planted import PlantedSubject
from harness.diagnosis.precision import Precision
from harness.search.examination import Examination, examine
from harness.search.hunt import Search, hunt
from harness.search.pool import worker_pool
from harness.search.record import Finding, Hunt, Stop
from harness.search.simplify import PLAIN
from harness.space.case import Case, as_plain
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.subjects.protocol import scope_of

ALL_CORRECT: Final = "correct"
"""The name by which all correct subjects are asked for, as the faults of a family are by its name."""


class Naming(Enum):
    """The way in which a fault that was found was named."""

    RIGHTLY = "rightly"
    """The name was its own class, and no other."""
    AMONG = "among several"
    """The names were its own class and others, which nothing told from it."""
    WRONGLY = "wrongly"
    """The name was another class, for certain."""
    NOT = "not"


@dataclass(frozen=True)
class Cause:
    """A fault that a diagnosis gave as a cause."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Kill:
    """The results for the first case on which a fault showed."""

    case: str
    config: RNNConfig
    verdict: str
    kind: str
    minimal: bool
    """True if the config is one of the fault's smallest: the true minimum."""
    plain: bool
    """True if all numbers are plain (``simplify.PLAIN``), padding left out."""
    untried: tuple[str, ...]
    """The neighbours that the certificate leaves open; none, if it is complete."""
    shrink_checks: int
    shrink_seconds: float
    explain_seconds: float
    naming: Naming
    causes: tuple[Cause, ...]
    certain: bool
    precision: Precision | None
    """The properties of the arithmetic, where no cause explains the subject."""

    @property
    def seconds(self) -> float:
        """The seconds of all that came after the kill."""
        return self.shrink_seconds + self.explain_seconds


@dataclass(frozen=True)
class Trial:
    """A planted fault, and what the harness made of it. All seconds are the process's own, of CPU time."""

    name: str
    family: str
    sentence: str
    smallest: RNNConfig | None
    """The first of its true minima."""
    checks: int
    """The number of cases up to the first kill, or of all."""
    seconds: float
    """The seconds until the search said that it shrinks a failure, or ended."""
    kill: Kill | None

    @property
    def passed(self) -> bool:
        """True if the fault was found, and not named wrongly."""
        return self.kill is not None and self.kill.naming is not Naming.WRONGLY


@dataclass(frozen=True)
class Alarm:
    """A failure that a correct subject was accused of."""

    verdict: str
    kind: str
    case: str


@dataclass(frozen=True)
class Acquittal:
    """A correct subject, and what the harness made of it."""

    name: str
    what: str
    checks: int
    refusals: int
    """The number of malformed calls that it was also given."""
    seconds: float
    """The seconds by the clock, because a subject may compute in a process of its own."""
    alarms: tuple[Alarm, ...]


@dataclass
class Selftest:
    """The measurements, as far as they went."""

    seed: int
    cases: int | None
    workers: int
    asked: int
    """The number of subjects that were to be measured."""
    trials: list[Trial] = field(default_factory=list)
    acquittals: list[Acquittal] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def alarms(self) -> int:
        """The number of false alarms, of all correct subjects."""
        return sum(len(one.alarms) for one in self.acquittals)

    @property
    def passed(self) -> bool:
        """True if every fault was found, none was named wrongly, and no correct subject was accused."""
        return all(trial.passed for trial in self.trials) and not self.alarms


Told = Callable[[int, int, str], None]
"""A function that is told how many subjects are done, of how many, and which one was last."""


def chosen(names: Sequence[str], families: Sequence[str] = ()) -> tuple[list[Fault], list[str]]:
    """Return the faults and correct subjects of these names, or of these families; everything, if there are none.

    Raises ``UsageError`` for a name that is unknown.
    """
    if not names and not families:
        return list(CATALOGUE), list(CORRECT)
    of_families = list(dict.fromkeys(fault.family for fault in CATALOGUE))
    of_faults = [fault.name for fault in CATALOGUE]
    for family in families:
        _known(family, of_families, "family", ", ".join(of_families))
    everything = [*of_faults, *of_families, *CORRECT, ALL_CORRECT]
    for name in names:
        _known(name, everything, "fault", f"a fault's name, a family, or {ALL_CORRECT}")
    asked = {*names, *families}
    faults = [fault for fault in CATALOGUE if not asked.isdisjoint((fault.name, fault.family))]
    correct = [name for name in CORRECT if not set(names).isdisjoint((name, ALL_CORRECT))]
    return faults, correct


def selftest(
    faults: Sequence[Fault],
    correct: Sequence[str] = (),
    *,
    seed: int = 0,
    cases: int | None = None,
    workers: int = 1,
    told: Told = lambda _done, _of, _name: None,
) -> Selftest:
    """Measure the harness on these faults and correct subjects, each with the budget of a search.

    Whatever the number of workers, the results are the same, times apart, and in the order that was asked for. Ctrl-C
    ends the measurement with what was done so far.
    """
    start = time.perf_counter()
    done = Selftest(seed, cases, workers, asked=len(faults) + len(correct))
    tried: list[Future[Trial]] = []
    acquitted: list[Future[Acquittal]] = []
    with suppress(KeyboardInterrupt), worker_pool(workers, "spawn", _ready) as pool:
        done.interrupted = True
        for fault in faults:  # one of the catalogue goes by its name: its functions cannot be sent to another process
            sent = fault.name if BY_NAME.get(fault.name) is fault else fault
            tried.append(pool.submit(_tried, sent, seed, cases))
        acquitted += [pool.submit(acquitted_of, name, seed, cases) for name in correct]
        of = [*(fault.name for fault in faults), *correct]
        names: dict[Future[Any], str] = dict(zip([*tried, *acquitted], of, strict=True))
        for number, future in enumerate(as_completed(names), 1):
            future.result()
            told(number, done.asked, names[future])
        done.interrupted = False
    done.trials = [future.result() for future in tried if _succeeded(future)]
    done.acquittals = [future.result() for future in acquitted if _succeeded(future)]
    done.seconds = time.perf_counter() - start
    return done


def _tried(fault: str | Fault, seed: int, cases: int | None) -> Trial:
    return tried_on(named(fault) if isinstance(fault, str) else fault, seed, cases)


def tried_on(fault: Fault, seed: int = 0, cases: int | None = None) -> Trial:
    """Try the harness on a planted fault."""
    subject = PlantedSubject(fault)
    start, began = time.process_time(), list[float]()

    def note(record: Hunt) -> None:
        if record.shrinking and not began:
            began.append(time.process_time())

    record = hunt(subject, subject.scope(), cases=cases, seed=seed, progress=note)
    searched = time.process_time()
    _stop_if_interrupted(record)
    shrinking = began[0] if began else searched
    kill = None
    if record.finding is not None:
        kill = _kill(fault, subject, record.finding, record, searched - shrinking)
    smallest = next(iter(fault.smallest), None)
    about = fault.name, fault.family, fault.sentence, smallest
    return Trial(*about, record.total, shrinking - start, kill)


def acquitted_of(name: str, seed: int = 0, cases: int | None = None) -> Acquittal:
    """Try the harness on a correct subject."""
    start = time.perf_counter()
    with correct_subject(name) as subject:
        investigation = Investigation(subject)
        with Search(subject, scope_of(subject), cases=cases, seed=seed) as search:
            for finding in search:
                search.go_on(investigation.recognise(finding, search.record))
        done = examine(subject, search.record, cases=cases)
    _stop_if_interrupted(done.hunt)
    calls = 0 if done.refusals is None else done.refusals.calls
    seconds = time.perf_counter() - start
    return Acquittal(name, CORRECT[name], done.hunt.total, calls, seconds, tuple(_alarms(done)))


def _kill(fault: Fault, subject: PlantedSubject, finding: Finding, record: Hunt, shrink_seconds: float) -> Kill:
    start = time.process_time()
    diagnosis = Investigation(subject).explain(finding, record.scope).diagnosis
    seconds = time.process_time() - start
    return Kill(
        case=repr(finding.case),
        config=finding.case.config,
        verdict=finding.result.verdict.value,
        kind=finding.result.kind,
        minimal=finding.case.config in fault.smallest,
        plain=_is_plain(finding.case),
        untried=finding.certificate.untried,
        shrink_checks=record.shrink_checks,
        shrink_seconds=shrink_seconds,
        explain_seconds=seconds,
        naming=naming(fault, diagnosis),
        causes=() if diagnosis is None else tuple(Cause(one.name, one.sentence) for one in diagnosis.causes),
        certain=diagnosis is not None and diagnosis.certain,
        precision=None if diagnosis is None else diagnosis.precision,
    )


def naming(fault: Fault, diagnosis: Diagnosis | None) -> Naming:
    """Return how a diagnosis names a fault. Only the fault itself is right, not a part of it or a look-alike."""
    names = [] if diagnosis is None else [cause.name for cause in diagnosis.causes if not isinstance(cause, Part)]
    if diagnosis is not None and fault.name in names:
        return Naming.RIGHTLY if len(diagnosis.causes) == 1 else Naming.AMONG
    return Naming.WRONGLY if diagnosis is not None and diagnosis.certain else Naming.NOT


def _is_plain(case: Case) -> bool:
    arrays = as_plain(case.config, case.arrays)  # padding, which is NaN, is zero in these
    return all(bool(np.isin(array.astype(complex), PLAIN).all()) for array in arrays.values())


def _alarms(done: Examination) -> Iterator[Alarm]:
    for finding in done.hunt.findings:
        yield Alarm(finding.result.verdict.value, finding.result.kind, repr(finding.case))
    if done.dropout is not None and done.dropout.failed:
        yield Alarm(done.dropout.verdict.value, done.dropout.kind, "the law of dropout")
    for wrong in done.refusals.findings if done.refusals is not None else ():
        lapse = wrong.refusal.lapse
        yield Alarm("malformed call", f"{wrong.broken.name}: {lapse.value if lapse else ''}", wrong.broken.label)


def _known(name: str, known: Sequence[str], what: str, expected: str) -> None:
    if name in known:
        return
    lower = {one.lower(): one for one in known}
    close = [lower[one] for one in get_close_matches(name.lower(), lower)]
    instead = f"did you mean {' or '.join(close)}?" if close else f"expected {expected}"
    raise UsageError(f"{name}: no such {what}; {instead}")


def _stop_if_interrupted(record: Hunt) -> None:
    if record.stop is Stop.INTERRUPTED:  # it may have found less than it would have
        raise KeyboardInterrupt


def _succeeded(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _ready() -> None:
    """Import and cache what the first fault would pay for."""
    tried_on(CATALOGUE[0])
