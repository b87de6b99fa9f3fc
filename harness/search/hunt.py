"""hunt: goes through the cases of a plan within a budget; what fails comes back small, each cause once."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import product
from typing import Any, Final, NoReturn

from harness.checks.accuracy import Accuracy, Overflows, measure
from harness.checks.everything import against
from harness.checks.everything import check as check_everything
from harness.checks.known import Excuse
from harness.checks.lawfulness import GRADIENTS, asked_by, law_of
from harness.checks.laws import Law
from harness.checks.repeatability import confirmed
from harness.checks.result import DERIVATIVES, OF_TANH, PROBES, TWICE, Method, Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.compare import OF_VALUE, Sort
from harness.search.certificate import NOT_SHRUNK, Certificate
from harness.search.crew import Crew, Task
from harness.search.hang import Hang, ended_by_a_hang
from harness.search.interrupt import noted_interrupts
from harness.search.narrow import narrow
from harness.search.plan import Asked, enough_for, units
from harness.search.scan import Seen, scan
from harness.search.shrink import Shrinking, Spent
from harness.search.suspicion import Suspicion, weigh
from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.coverage import Coverage
from harness.space.errors import UsageError
from harness.space.outcome import Failure
from harness.space.scope import Scope, configure, factors_of
from harness.space.values import draw
from harness.subjects.protocol import Subject, choose_devices, ground_of, scope_of

CASES: Final = 1_650
"""Cases of a search that is given no budget, which torch takes some 25 s of one processor for. To cover its whole scope
takes 984 configs; of what is drawn after that, two cases ride on a config."""

CRASHES: Final = 20.0
"""Seconds that making a crash smaller may take. A fresh process takes 20 to 30 ms, or one or two seconds where it
imports torch anew, and a crash dies 12 to 20 times on its way down: what takes longer is not worth waiting for."""

DEATHS: Final = 20
"""Further deaths of a subject's process that a search goes on past: a second or two each, where torch is imported."""

NARROWING: Final = 0.25
SEARCHING: Final = 0.9
SHRINKING: Final = 0.6
"""Shares of the time that may be gone when it is known what a subject does, when the last case is searched, and when a
failure is last made smaller; what is left is for explaining. A failure comes early as a rule, and has most of the time;
one that comes last is told as is."""

AFTER: Final = 400
"""Cases that a search goes on for after a finding, for another of another cause: one that shows on a case in a hundred
is met with 98 %."""

REFUSED: Final = 4
"""Cases that a subject may refuse for each that is compared, before the search ends as if these had been compared: to
refuse takes a hundredth of what a comparison takes, so that this costs little, and ends."""

TAME: Final = ("normal", "default")
"""Regimes whose numbers stay numbers."""

TAMELY: Final = 2
"""Cases of each that are tried where others gave infinities or NaN: a mistake that shows on half of tame cases is met
with 94 % in four."""

FORWARDS: Final = 2
"""Sets of generic values with which the way there is tried where a gradient is wrong, for one may hide a mistake."""

TOLD: Final = 64
"""Checks between two words on how far it is."""

_INTERRUPTED: Final = Certificate().but_for("interrupted")

TOLD_CASES: Final = 20
"""Cases between two words on how far it is, while nothing fails."""


LAWS: Final = "laws"

BESIDE: Final = (LAWS, TWICE, PROBES, DERIVATIVES)
"""What is asked of some cases beside agreement."""


class Stop(Enum):
    """Why a hunt ended."""

    FINDING = "a finding"
    BUDGET = "the number of cases"
    AFTER = "the number of cases after the last cause that was found"
    TIME = "the time"
    INTERRUPTED = "an interrupt"
    REFUSED = "a refusal of every config near the plainest"


@dataclass(frozen=True)
class Finding:
    """A failing case made small, and what failed."""

    subject: str
    case: Case
    result: Result
    certificate: Certificate = NOT_SHRUNK
    accepted: Accepted | None = None
    """The contract under which it was found, where that is known."""

    @property
    def minimal(self) -> bool:
        """Whether every plainer neighbour was tried and passes; not where shrinking was cut short, or means nothing."""
        return self.certificate.complete

    @property
    def id(self) -> str:
        """Eight hex digits that stand for this subject on this case."""
        return hashlib.sha256(f"{self.subject} {self.case.id}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass
class Hunt:
    """What a search did, over which part of the space, and what it found."""

    subject: str
    seed: int
    scope: Scope
    ground: dict[str, str] = field(default_factory=dict)
    """What the subject computed on (``subjects.ground``)."""
    refused: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    """Seconds that it takes over a shape that is new to it, if it was asked for few of them for that."""
    undone: dict[str, tuple[Case, Result]] = field(default_factory=dict)
    """What it neither does nor refuses, and was left out: ``num_layers=2``, a case of it, and how that fails."""
    accepted: Accepted = STRICT
    """What it was held to: what its user accepts, and what was measured of its tanh."""
    accuracy: list[Accuracy] = field(default_factory=list)
    """What was measured of its tanh, by dtype, where that is not what is assumed."""
    coverage: Coverage = field(default_factory=Coverage)
    """What was met in cases that were compared."""
    beside: dict[str, Coverage] = field(default_factory=dict)
    """The same of what was asked beside: ``LAWS``, ``TWICE``, ``PROBES``, ``DERIVATIVES``."""
    laws: Counter[str] = field(default_factory=Counter)
    """How often the subject was held to each law, and kept it."""
    checks: Counter[Method] = field(default_factory=Counter)
    """Cases compared, by how sharply."""
    not_compared: Counter[str] = field(default_factory=Counter)
    """In how many cases the gradient by what was not returned, by what nn.RNN calls that in any layer."""
    ignored: Counter[str] = field(default_factory=Counter)
    """How often a gradient was returned that nn.RNN does not have."""
    unsupported: int = 0
    """Cases that the subject refused."""
    suspicions: list[Suspicion] = field(default_factory=list)
    """What was suspicious on one case, and did not repeat on enough others to be a finding."""
    known: Counter[str] = field(default_factory=Counter)
    """Cases that do not agree, but in the way of a known deviation, or of what was found before, by its name."""
    spared: Counter[str] = field(default_factory=Counter)
    """Cases on which a known deviation would have shown and did not, by its name."""
    shrink_checks: int = 0
    shrinking: bool = False
    """Whether a failure is being made smaller."""
    smallest: RNNConfig | None = None
    """The config of that failure, as small as it is by now."""
    explaining: bool = False
    """Whether a finding is being explained."""
    seconds: float = 0.0
    until: float = math.inf
    """When the time of the whole search is over, by ``time.perf_counter``."""
    stop: Stop = Stop.BUDGET
    findings: list[Finding] = field(default_factory=list)
    """What failed, each of another cause than those before, as far as that is known."""

    @property
    def finding(self) -> Finding | None:
        """The first finding, if there is one."""
        return self.findings[0] if self.findings else None

    @property
    def total(self) -> int:
        """Cases compared while searching."""
        return self.checks.total()

    def count(self, asked: Asked, result: Result) -> None:
        """Count a case that was compared, and what was asked beside."""
        self.coverage.add(asked.config, asked.regime, new_config=asked.first)
        self.not_compared.update({role_of(name) for name in result.not_compared})
        self.ignored.update(result.ignored)
        for what in result.also:
            check = what if what in BESIDE else LAWS
            self.laws.update([what] if check is LAWS else [])
            if check not in self.beside:
                self.beside[check] = Coverage.counting(self.coverage.strength)
            self.beside[check].add(asked.config, asked.regime)

    @property
    def verdict(self) -> Verdict | None:
        """What can be said of the subject after this search; ``None`` where it ended before the first case."""
        if self.findings:
            return min((finding.result.verdict for finding in self.findings), key=_GRAVEST.index)
        if self.undone:
            return Verdict.DISAGREES
        if self.total:
            return Verdict.AGREES
        return Verdict.UNSUPPORTED if self.unsupported or self.stop is Stop.REFUSED else None


_GRAVEST: Final = (Verdict.DISAGREES, Verdict.BROKEN, Verdict.SUSPECT)

Recognise = Callable[[Finding, Hunt], Excuse | None]
"""How further cases of a finding's cause are known, for a search that goes on; ``None`` ends it."""


def hunt(
    subject: Subject,
    scope: Scope | None = None,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    strength: int | None = None,
    accepted: Accepted = STRICT,
    progress: Callable[[Hunt], None] | None = None,
    recognise: Recognise | None = None,
    crew: Crew | None = None,
) -> Hunt:
    """Search ``scope`` for a case on which ``subject`` fails, until one is found or the budget is used up.

    With ``recognise``, which is asked of every finding, the search goes on past those whose cause it can tell again,
    for ``AFTER`` cases more than at the last one.

    Without a scope, all that the subject offers is searched. ``accepted`` is a contract looser than the dtypes' own.

    It begins with a covering array: every three values of different factors that can meet do, or every two where the
    budget does not allow more; or every ``strength`` of them, 2, 3 or 4, whatever that takes.

    The budget is ``cases`` that are compared or ``seconds`` of searching, whichever ends first; with neither, ``CASES``
    of them, and more if a ``strength`` takes more.
    ``seconds`` bounds all of it: searching ends after ``SEARCHING`` of it, making smaller after ``SHRINKING``, and what
    explains a finding hears of the end by the record's ``until``. ``CRASHES`` bounds the shrinking of a process's
    death, and a hang ends it. The same arguments give the same search, whatever the number of workers in the ``crew``,
    with which it is shared, or without one; each worker has a copy of the subject, as pickle makes it. Ctrl-C ends the
    search with what was done so far. Raises ``UsageError`` for a budget that allows nothing or a subject that cannot be
    copied, ``SubjectError`` for a device that is not here.
    """
    if (cases is not None and cases < 1) or (seconds is not None and seconds <= 0):
        raise UsageError(f"cases={cases}, seconds={seconds}: expected a budget above zero")
    if strength not in {None, 2, 3, 4}:
        raise UsageError(f"strength={strength!r}: expected 2, 3 or 4")
    asked = () if scope is None else scope.device
    scope = (scope or scope_of(subject)).only(device=choose_devices(subject, asked))
    record = Hunt(subject.name, seed, scope, accepted=accepted, coverage=Coverage.counting(strength or 3))
    task = None if crew is None else Task.of(subject, scope, accepted)
    subject = ended_by_a_hang(subject)

    excuses: list[Excuse] = []

    def check(case: Case, **options: Any) -> Result:
        within = record.accepted
        return check_everything(subject, case, accepted=within, scope=record.scope, excuses=excuses, **options)

    hunter = _Hunter(subject, check, record, CASES if cases is None and seconds is None else cases, seconds)
    hunter.recognise, hunter.excuses, hunter.progress = recognise, excuses, progress or (lambda _record: None)
    try:
        with noted_interrupts() as hunter.stop_if_interrupted:
            hunter.narrow()
            hunter.measure_tanh()
            if strength is not None and cases is None and seconds is None:
                hunter.cases = max(CASES, enough_for(record.scope, strength))
            planned = units(record.scope, seed, hunter.cases, strength)
            if crew is None or task is None:
                hunter.go_through(seen for unit in planned for seen in scan(unit, check))
            else:
                hunter.unexcused = True
                with closing(
                    crew.seen(task._replace(scope=record.scope, accepted=record.accepted), planned, check)
                ) as seen:
                    hunter.go_through(seen)
    except _Enough as enough:
        record.stop = enough.stop
    except Hang as hang:
        record.stop = Stop.FINDING
        hunter.report_hang(hang)
    except KeyboardInterrupt:
        record.stop = Stop.INTERRUPTED
        hunter.report(_INTERRUPTED)  # unconfirmed: what hangs once may hang again
    record.seconds = hunter.elapsed()
    record.ground = ground_of(subject, next((d for d in record.scope.device if d != "meta"), "meta"))
    return record


class _Enough(BaseException):
    """Ends a search, from wherever it is; no ``Exception``, which a subject's own code might catch."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


class _Hunter:
    """The state of one search: its budget, its record, and the failure that is being made smaller."""

    def __init__(
        self,
        subject: Subject,
        check: Callable[..., Result],
        record: Hunt,
        cases: int | None,
        seconds: float | None,
    ) -> None:
        self._subject = subject
        self._check = check
        self._record = record
        self.cases = cases
        self._seconds = seconds
        self._start = time.perf_counter()
        if seconds is not None:
            record.until = self._start + seconds
        self.stop_if_interrupted: Callable[[], None] = lambda: None
        self.recognise: Recognise | None = None
        self.excuses: list[Excuse] = []
        self.unexcused = False
        """Whether what is seen was checked without the excuses."""
        self.progress: Callable[[Hunt], None]
        self._beyond = False
        """Whether the budget is what a search may take beyond a finding."""
        self._failing: tuple[Case, Result] | None = None
        self._shrink_until = math.inf
        self._kind = ""
        self._proved = False
        self._probing = True
        """Whether it takes probes, or what is asked along with them, to see the failure at hand."""

    def elapsed(self) -> float:
        return time.perf_counter() - self._start

    def tell(self) -> None:
        """Say how far the search is."""
        self._record.seconds, self._record.shrinking = self.elapsed(), self._failing is not None
        self._record.smallest = None if self._failing is None else self._failing[0].config
        self.progress(self._record)

    def narrow(self) -> None:
        """Leave out what the subject refuses; raise ``_Enough`` if that is everything."""
        until = math.inf if self._seconds is None else self._start + NARROWING * self._seconds
        narrowed = narrow(self._subject, self._record.scope, until=until)
        self._record.scope, self._record.refused = narrowed.scope, narrowed.refused
        self._record.slow = narrowed.slow
        self._record.undone = {what: (case, result) for what, case, result in narrowed.undone}
        if not narrowed.accepted:
            raise _Enough(Stop.REFUSED)

    def measure_tanh(self) -> None:
        """Accept what the subject's tanh is off, so that all else is found; report it where that is too much."""
        record = self._record
        if record.slow:  # a sweep has shapes of its own
            return
        for accuracy in measure(self._subject, record.scope, record.accepted):
            record.accuracy.append(accuracy)
            told = [self._report_tanh(accuracy, case) for case in accuracy.alone]
            if not accuracy.assumed and (accuracy.close or told[-1]):
                record.accepted = record.accepted._replace(measured=(*record.accepted.measured, accuracy.accepted))

    def _report_tanh(self, accuracy: Accuracy, case: Case) -> bool:
        """Report an argument on which tanh is wrong, once for all dtypes, and say whether that is how tanh is.

        It is not, where another mistake explains it. NaN is excused in other cases.
        """
        seen = self._check(case, laws=(), with_probes=False)
        if seen.verdict is not Verdict.DISAGREES:
            return False
        record, lost = self._record, seen.mismatches[0].sort is Sort.FINITENESS
        said = f"NaN from |x| = {accuracy.nan_from:.3g} on" if lost else accuracy.error_line
        said = f"{OF_TANH}{said}" + ("" if lost else f"\n--tolerance {accuracy.tolerance} would accept that")
        kind = seen.mismatches[0].kind
        before = next((one for one in record.findings if one.result.of_tanh and one.result.kind == kind), None)
        if before is None:
            self._failing = case, replace(seen, message=said)
            self.report(Certificate().but_for(f"the worst of {accuracy.points:,} arguments, and nothing else"))
            if self.recognise is None:
                raise _Enough(Stop.FINDING)
            if (excuse := self._explained(self.recognise)) is not None:
                self.excuses.append(excuse)
                return False
            before = record.findings[-1]
        else:
            record.known[before.id] += 1
        if lost:
            self.excuses.append(Overflows(before.id, accuracy.dtype, accuracy.nan_from))
        return True

    def go_through(self, seen: Iterator[Seen | None]) -> NoReturn:
        """Take in one case after the other; raise ``_Enough`` at the end of the budget, or with a finding."""
        while True:
            self._stop_at_budget()
            if (one := next(seen)) is not None:
                self._take_in(one)

    def _make_small(self) -> None:
        """Make the failure at hand as small as it can be, and report it; raise ``_Enough`` if the search ends there."""
        assert self._failing is not None
        shrinking = Shrinking(*self._failing, self._record.scope, self._check_while_shrinking)
        for smaller in shrinking:
            self._failing = smaller
            self._proved |= smaller[1].failed
        self._report_confirmed(shrinking.certificate)

    def _report_confirmed(self, certificate: Certificate) -> None:
        """Ask once more, in a fresh process where there is one; then go on where the cause can be told again."""
        assert self._failing is not None
        case, result = self._failing
        if (restart := getattr(self._subject, "restart", None)) is not None:
            restart()
        sure = confirmed(self._subject, case, result, partial(self._check, laws=self._laws()))
        self._failing = case, sure
        if sure.wavers:
            self._note_wavering()
            return
        self.report(replace(certificate, fresh_process=restart is not None))
        excuse = None if self.recognise is None else self._explained(self.recognise)
        if excuse is None:
            raise _Enough(Stop.FINDING)
        self._start_again(excuse)

    def _explained(self, recognise: Recognise) -> Excuse | None:
        """Have the last finding explained, and say so meanwhile."""
        self._record.explaining = True
        self.tell()
        try:
            return recognise(self._record.findings[-1], self._record)
        finally:
            self._record.explaining = False

    def _start_again(self, excuse: Excuse | None) -> None:
        """Search for what is not of the same cause."""
        self.excuses += [] if excuse is None else [excuse]
        self._failing, self._kind, self._proved, self._shrink_until = None, "", False, math.inf
        last = self._record.total + AFTER
        if self.cases is None or last < self.cases:
            self.cases, self._beyond = last, True

    def report(self, certificate: Certificate) -> None:
        """Make the failure, if there is one, a finding of the record's."""
        if self._failing is not None:
            self._record.findings.append(
                Finding(self._subject.name, *self._failing, certificate, self._record.accepted)
            )
            self._failing = None

    def report_hang(self, hang: Hang) -> None:
        """Report what was being made smaller, or else the hang: neither any smaller, as every try may take as long."""
        self._failing = self._failing or (hang.case, hang.result)
        self.report(Certificate().but_for("not made smaller: every try may take as long"))

    def _take_in(self, seen: Seen) -> None:
        """Count a case, and go after it if it failed."""
        asked, result = seen
        if result.verdict is Verdict.UNSUPPORTED:
            self._record.unsupported += 1
            return
        case: Case | None = None
        if against(result):
            case = asked.case()
            self._stop_at_hang(case, result)
            if self.unexcused and self.excuses:
                result = self._excused(case, seen)
        self._record.checks[result.method] += 1
        self._record.count(asked, result)
        self._record.known.update([result.deviation] if result.deviation else [])
        self._record.spared.update(result.spared)
        if self._record.total % TOLD_CASES == 0:
            self.tell()
        if case is not None and against(result):
            self._go_after(case, result, with_probes=asked.with_probes)

    def _excused(self, case: Case, seen: Seen) -> Result:
        """What an excuse makes of a failure, if one does."""
        laws = None if seen.asked.with_law else ()
        again = self._check(case, with_probes=seen.asked.with_probes, laws=laws)
        return again if again.deviation is not None or against(again) else seen.result

    def _go_after(self, case: Case, result: Result, *, with_probes: bool) -> None:
        """Weigh a suspicion, look for a better case of a failure, and make it small."""
        given = case
        if result.verdict is Verdict.SUSPECT:
            suspicion = weigh(case, result, self._check)
            if not suspicion.repeats:
                self._record.suspicions.append(suspicion)
                return
            case, result = suspicion.case, suspicion.result
        wild = case.origin is not None and case.origin.regime == "special"
        if result.failed and result.mismatches and (wild or result.mismatches[0].sort is Sort.FINITENESS):
            case, result = self._tamed(case, result)
            self._record.known.update([result.deviation] if result.deviation else [])
        if against(result):
            case, result = self._without_law(case, result)
            self._record.known.update([result.deviation] if result.deviation else [])
        if against(result):
            case, result = self._forwards(case, result)
            if self._take(case, result, with_probes=with_probes or case is not given):
                self._make_small()

    def _take(self, case: Case, result: Result, *, with_probes: bool) -> bool:
        """Keep a failure that is to be made smaller, unless it wavers."""
        self._failing, self._kind, self._proved = (case, result), result.kind, result.failed
        first = result.mismatches[0] if result.mismatches else None
        forward = first is not None and first.sort in OF_VALUE and first.array in case.config.outputs
        self._probing = first is None or not forward or first.probed or bool(first.law)
        self.tell()
        again = partial(self._check, with_probes=with_probes, laws=self._laws())
        sure = confirmed(self._subject, case, result, again)
        self._failing = case, sure
        if sure.wavers:
            self._note_wavering()
            return False
        if result.failure is Failure.CRASHED:
            self._shrink_until = time.perf_counter() + CRASHES
        return True

    def _note_wavering(self) -> None:
        """Report that the subject gives two answers to one question, once; and go on, if others are asked for."""
        before = next((one for one in self._record.findings if one.result.wavers), None)
        if before is not None:
            self._record.known[before.id] += 1
            self._failing = None
            return
        self.report(Certificate().but_for("it wavers, which cannot be made smaller"))
        if self.recognise is None:
            raise _Enough(Stop.FINDING)
        self._explained(self.recognise)
        self._start_again(None)

    def _laws(self) -> tuple[Law, ...]:
        """The law that the failure at hand breaks, if it breaks one."""
        return law_of(self._kind) or ()

    def _tamed(self, case: Case, result: Result) -> tuple[Case, Result]:
        """Of a failure among infinities or NaN, the same config on tame values, if it fails there or is known for it.

        What it comes of shows better on numbers that stay numbers, all of which can be compared.
        """
        for regime, seed in product(TAME, range(TAMELY)):
            tame = draw(case.config, regime, seed)
            seen = self._check(tame, laws=())
            if seen.deviation is not None or (seen.failed and seen.mismatches[:1] and seen.mismatches[0].sites):
                return tame, seen
        return case, result

    def _without_law(self, case: Case, result: Result) -> tuple[Case, Result]:
        """A failing case, and how it fails; of one that breaks a law, another that the law ran, if it fails alone.

        Or if it is known to fail.
        """
        for law in law_of(result.kind) or () if result.failure is None else ():
            for other in asked_by(self._subject, case, law, self._record.scope):
                alone = self._check(other, laws=())
                if alone.failed or alone.deviation is not None:
                    return other, alone
        return case, result

    def _forwards(self, case: Case, result: Result) -> tuple[Case, Result]:
        """Of a gradient that is wrong, a case of the same sizes that is wrong on the way there, if there is one.

        Such a mistake is wrong on the way back, too, and what it does first tells more.
        """
        first, scope = result.mismatches[0] if result.mismatches else None, self._record.scope
        if first is None or first.law or not first.array.endswith(GRADIENTS) or None not in scope.loss:
            return case, result
        plain = {"loss": None, "autocast": scope.autocast[0], "dtype": scope.dtype[0]}
        there = configure(factors_of(case.config) | plain, 0 if case.origin is None else case.origin.seed)
        for seed in range(FORWARDS):
            seen = self._check(candidate := draw(there, TAME[0], seed), laws=(), with_probes=False)
            if seen.failed and seen.mismatches and seen.mismatches[0].sort in OF_VALUE:
                return candidate, seen
        return case, result

    def _check_while_shrinking(self, case: Case) -> Result:
        self.stop_if_interrupted()
        if time.perf_counter() >= self._shrink_until:
            self._cut_short(f"not made smaller to the end: after {CRASHES:g} s of crashes")
        if self._seconds is not None and self.elapsed() >= SHRINKING * self._seconds:
            raise Spent("the time was over")
        self._record.shrink_checks += 1
        if self._record.shrink_checks % TOLD == 0:
            self.tell()
        result = self._check(case, laws=self._laws(), with_probes=self._probing)
        self._stop_at_hang(case, result)
        if result.verdict is Verdict.SUSPECT:
            suspicion = weigh(case, result, self._check)
            return result if suspicion.repeats and not self._proved else Result(Verdict.AGREES)
        return result

    def _cut_short(self, why: str) -> NoReturn:
        self.report(Certificate().but_for(why))
        raise _Enough(Stop.FINDING)

    @staticmethod
    def _stop_at_hang(case: Case, result: Result) -> None:
        """For what hangs elsewhere than in ``run``."""
        if result.failure is Failure.HUNG:
            raise Hang(case, result)

    def _stop_at_budget(self) -> None:
        self.stop_if_interrupted()
        dead = {one.id for one in self._record.findings if one.result.failure is Failure.CRASHED}
        if sum(self._record.known[id_] for id_ in dead) >= DEATHS:
            raise _Enough(Stop.FINDING)
        done = max(self._record.total, self._record.unsupported // REFUSED)
        if self.cases is not None and done >= self.cases:
            raise _Enough(Stop.AFTER if self._beyond else Stop.BUDGET)
        if self._seconds is not None and self.elapsed() >= SEARCHING * self._seconds:
            raise _Enough(Stop.TIME)
