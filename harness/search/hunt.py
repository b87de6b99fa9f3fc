"""The search over the cases of a plan within a budget; it shrinks failures and reports each cause once."""

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
from harness.search.plan import Asked, units
from harness.search.scan import Checked, Observe, scan
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
"""The number of cases of a search without a budget, for which torch takes some 25 s of one processor. Covering torch's
whole scope takes 984 configs; the configs drawn after that have two cases each.
"""

CRASHES: Final = 20.0
"""The seconds that shrinking a crash may take. A fresh process takes 20 to 30 ms, or one or two seconds if it imports
torch again, and shrinking a crash kills 12 to 20 processes; if that takes longer, it is not worth the wait.
"""

DEATHS: Final = 20
"""The number of further deaths of a subject's process that a search continues after; each takes a second or two if
torch is imported.
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

TAME: Final = ("normal", "default")
"""Regimes whose numbers stay finite."""

TAMELY: Final = 2
"""The number of seeds tried per tame regime when a failure had infinities or NaN: a mistake that shows on half of tame
cases is met in one of the four with a probability of 94 %.
"""

FORWARDS: Final = 2
"""The number of sets of generic values tried in the forward pass when a gradient is wrong, because one set may hide a
mistake.
"""

TOLD: Final = 64
"""The number of shrinking checks between two progress messages."""

_INTERRUPTED: Final = Certificate().but_for("interrupted")

TOLD_CASES: Final = 20
"""The number of cases between two progress messages while nothing fails."""


MARGINS: Final = -16
"""The lowest power of two by which margins are counted; exact results are below it."""

LAWS: Final = "laws"

BESIDE: Final = (LAWS, TWICE, PROBES, DERIVATIVES)
"""The checks in addition to agreement that are made on some cases."""


class Stop(Enum):
    """The reasons why a search ends."""

    FINDING = "a finding"
    BUDGET = "the limit of cases"
    AFTER = "the limit of cases after the last cause"
    TIME = "the time limit"
    INTERRUPTED = "an interrupt"
    REFUSED = "the refusal of every plain config"


@dataclass(frozen=True)
class Finding:
    """A failing case, shrunk, and its result."""

    subject: str
    case: Case
    result: Result
    certificate: Certificate = NOT_SHRUNK
    accepted: Accepted | None = None
    """The contract under which it was found, if that is known."""

    @property
    def minimal(self) -> bool:
        """True if every plainer neighbour was tried and passes; false if shrinking was cut short or is meaningless."""
        return self.certificate.complete

    @property
    def id(self) -> str:
        """Eight hex digits that identify this subject on this case."""
        return hashlib.sha256(f"{self.subject} {self.case.id}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass
class Hunt:
    """The record of one search: what it did, in which part of the space, and what it found."""

    subject: str
    seed: int
    scope: Scope
    ground: dict[str, str] = field(default_factory=dict)
    """The ground that the subject computed on (``subjects.ground``)."""
    refused: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    """The seconds that it takes for a shape that is new to it, if it was asked for few shapes because of that."""
    undone: dict[str, tuple[Case, Result]] = field(default_factory=dict)
    """The values that it neither supports nor refuses, and that were left out: ``num_layers=2``, a case, and how that
    fails.
    """
    accepted: Accepted = STRICT
    """The contract it was held to: what its user accepts, and what was measured of its tanh."""
    accuracy: list[Accuracy] = field(default_factory=list)
    """The measured accuracy of its tanh, by dtype, if it differs from what is assumed."""
    coverage: Coverage = field(default_factory=Coverage)
    """The coverage of the cases that were compared."""
    beside: dict[str, Coverage] = field(default_factory=dict)
    """The coverage of the checks in addition to agreement: ``LAWS``, ``TWICE``, ``PROBES``, ``DERIVATIVES``."""
    laws: Counter[str] = field(default_factory=Counter)
    """Counts of how often the subject was held to each law, and kept it."""
    checks: Counter[Method] = field(default_factory=Counter)
    """The number of compared cases, by the sharpness of the comparison."""
    margins: dict[str, Counter[int]] = field(default_factory=dict)
    """Counts of passing cases by dtype and by the power of two up to which their largest difference over its allowance
    reaches: 0 stands for half the allowance to all of it, ``MARGINS`` for everything below.
    """
    not_compared: Counter[str] = field(default_factory=Counter)
    """The number of cases without a returned gradient, by the name that nn.RNN has for its array in any layer."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Counts of how often each gradient was returned that nn.RNN does not have."""
    unsupported: int = 0
    """The number of cases that the subject refused."""
    suspicions: list[Suspicion] = field(default_factory=list)
    """Suspicions on one case that did not repeat on enough others to be a finding."""
    known: Counter[str] = field(default_factory=Counter)
    """The number of failing cases that a known deviation or an earlier finding explains, by its name."""
    spared: Counter[str] = field(default_factory=Counter)
    """The number of cases on which a known deviation would have shown and did not, by its name."""
    failing: Counter[str] = field(default_factory=Counter)
    """The number of cases that failed, with a known cause or another one, by dtype."""
    shrink_checks: int = 0
    shrinking: bool = False
    """True while a failure is being shrunk."""
    smallest: RNNConfig | None = None
    """The config of that failure, as small as it is so far."""
    explaining: bool = False
    """True while a finding is being explained."""
    seconds: float = 0.0
    until: float = math.inf
    """The moment at which the time of the whole search is over, by ``time.perf_counter``."""
    limit: int | None = None
    """The number of cases at which it ends, if nothing ends it before."""
    stop: Stop = Stop.BUDGET
    findings: list[Finding] = field(default_factory=list)
    """The failures, each with a different cause as far as that is known."""

    @property
    def finding(self) -> Finding | None:
        """The first finding, or ``None``."""
        return self.findings[0] if self.findings else None

    @property
    def total(self) -> int:
        """The number of cases compared while searching."""
        return self.checks.total()

    def count(self, asked: Asked, result: Result) -> None:
        """Count a case that was compared, and the checks made in addition to agreement."""
        self.coverage.add(asked.config, asked.regime, new_config=asked.first)
        self.not_compared.update({role_of(name) for name in result.not_compared})
        self.ignored.update(result.ignored)
        if result.margin is not None:
            power = max(MARGINS, math.frexp(result.margin)[1]) if result.margin else MARGINS
            self.margins.setdefault(asked.config.plain.dtype, Counter())[min(power, 0)] += 1
        for what in result.also:
            check = what if what in BESIDE else LAWS
            self.laws.update([what] if check is LAWS else [])
            if check not in self.beside:
                self.beside[check] = Coverage()
            self.beside[check].add(asked.config, asked.regime)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the subject after this search; ``None`` if it ended before the first case."""
        if self.findings:
            return min((finding.result.verdict for finding in self.findings), key=_GRAVEST.index)
        if self.undone:
            return Verdict.DISAGREES
        if self.total:
            return Verdict.AGREES
        return Verdict.UNSUPPORTED if self.unsupported or self.stop is Stop.REFUSED else None


_GRAVEST: Final = (Verdict.DISAGREES, Verdict.BROKEN, Verdict.SUSPECT)

Recognise = Callable[[Finding, Hunt], Excuse | None]
"""A function that returns how to recognise further cases of a finding's cause, so that the search can continue;
``None`` ends the search.
"""

Progress = Callable[[Hunt], None]
"""A function that is told of the record as the search goes on."""


def hunt(
    subject: Subject,
    scope: Scope | None = None,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    accepted: Accepted = STRICT,
    progress: Progress | None = None,
    recognise: Recognise | None = None,
    crew: Crew | None = None,
    observe: Observe | None = None,
) -> Hunt:
    """Search ``scope`` for a case on which ``subject`` fails, and return the record of the search.

    The record holds the failing cases, shrunk, in ``findings``, and why the search ended, in ``stop``. It ends with the
    first finding, or when the budget is used up. Ctrl-C ends it with what was done so far.

    - ``scope`` is the part of the space to search; ``None`` stands for everything that the subject offers.
    - ``cases`` and ``seconds`` are the budget: the cases that are compared, and the time of everything, whichever ends
      first. Without either, it is ``CASES`` cases. Searching ends after ``SEARCHING`` of the time, shrinking after
      ``SHRINKING``, and explanations learn of the end from the record's ``until``. ``CRASHES`` limits the shrinking of
      a crash, and a hang ends it.
    - ``seed`` chooses the cases. The search begins with a covering array, in which all values of three different
      factors that can meet do meet, or of two factors if the budget does not allow more. The same arguments give the
      same search.
    - ``accepted`` is a contract looser than the dtypes' own.
    - ``progress`` is told of the record, again and again.
    - ``recognise`` is asked about every finding. With it, the search continues after findings whose cause it can
      recognise, for ``AFTER`` more cases after the last one.
    - ``observe`` is told of the cases of the plan with their results, in the plan's order, but not of one that hangs,
      which ends the search, nor of those that shrinking and explaining try.
    - ``crew`` shares the work. Each worker has a copy of the subject, made by pickle; their number changes nothing.

    Raises ``UsageError`` for a budget that allows nothing or a subject that cannot be copied, and ``SubjectError`` for
    a device that is not here.
    """
    if (cases is not None and cases < 1) or (seconds is not None and seconds <= 0):
        raise UsageError(f"cases={cases}, seconds={seconds}: expected a budget above zero")
    asked = () if scope is None else scope.device
    scope = (scope or scope_of(subject)).only(device=choose_devices(subject, asked))
    record = Hunt(subject.name, seed, scope, accepted=accepted)
    limit = CASES if cases is None and seconds is None else cases
    told = progress or (lambda _record: None)
    heard = observe or (lambda _checked: None)
    _Search(
        subject, record, cases=limit, seconds=seconds, progress=told, recognise=recognise, crew=crew, observe=heard
    ).run()
    record.ground = ground_of(subject, next((d for d in record.scope.device if d != "meta"), "meta"))
    return record


class _Enough(BaseException):
    """Raised to end a search from anywhere; not an ``Exception``, which a subject's own code might catch."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


class _Search:
    """One search: its budget, its record, and the failure that is being shrunk."""

    def __init__(
        self,
        subject: Subject,
        record: Hunt,
        *,
        cases: int | None,
        seconds: float | None,
        progress: Progress,
        recognise: Recognise | None,
        crew: Crew | None,
        observe: Observe,
    ) -> None:
        self._task = None if crew is None else Task.of(subject, record.scope, record.accepted)
        self._subject = ended_by_a_hang(subject)
        self._record = record
        self._budget = self._cases = cases
        self._seconds = seconds
        record.limit = cases
        self._progress, self._recognise, self._observe = progress, recognise, observe
        self._crew = crew
        self._excuses: list[Excuse] = []
        self._start = time.perf_counter()
        if seconds is not None:
            record.until = self._start + seconds
        self._stop_if_interrupted: Callable[[], None] = lambda: None
        self._beyond = False
        """True if the budget is what a search may use after a finding."""
        self._failing: tuple[Case, Result] | None = None
        self._shrink_until = math.inf
        self._kind = ""
        self._proved = False
        self._probing = True
        """True if it takes probes, or the checks made together with them, to see the current failure."""

    def run(self) -> None:
        """Go through the cases of the plan until the search ends, and note in the record why it did."""
        record = self._record
        try:
            with noted_interrupts() as self._stop_if_interrupted:
                self._tell()
                self._narrow()
                self._measure_tanh()
                planned = units(record.scope, record.seed, self._cases)
                if self._crew is None or self._task is None:
                    self._go_through(seen for unit in planned for seen in scan(unit, self._check))
                else:
                    task = self._task._replace(scope=record.scope, accepted=record.accepted)
                    with closing(self._crew.seen(task, planned, self._check)) as seen:
                        self._go_through(seen)
        except _Enough as enough:
            record.stop = enough.stop
        except Hang as hang:
            record.stop = Stop.FINDING
            self._report_hang(hang)
        except KeyboardInterrupt:
            record.stop = Stop.INTERRUPTED
            self._report(_INTERRUPTED)  # not confirmed, because a subject that hung once may hang again
        record.seconds = self._elapsed()

    def _check(self, case: Case, **options: Any) -> Result:
        record = self._record
        return check_everything(
            self._subject, case, accepted=record.accepted, scope=record.scope, excuses=self._excuses, **options
        )

    def _elapsed(self) -> float:
        return time.perf_counter() - self._start

    def _tell(self) -> None:
        """Report the progress of the search."""
        self._record.seconds, self._record.shrinking = self._elapsed(), self._failing is not None
        self._record.smallest = None if self._failing is None else self._failing[0].config
        self._progress(self._record)

    def _narrow(self) -> None:
        """Leave out what the subject refuses. Raise ``_Enough`` if that is everything."""
        until = math.inf if self._seconds is None else self._start + NARROWING * self._seconds
        narrowed = narrow(self._subject, self._record.scope, until=until)
        self._record.scope, self._record.refused = narrowed.scope, narrowed.refused
        self._record.slow = narrowed.slow
        self._record.undone = {what: (case, result) for what, case, result in narrowed.undone}
        if not narrowed.accepted:
            raise _Enough(Stop.REFUSED)

    def _measure_tanh(self) -> None:
        """Accept the measured error of the subject's tanh, so that other mistakes are found; report a large one."""
        record = self._record
        if record.slow:  # a sweep needs shapes of its own
            return
        for accuracy in measure(self._subject, record.scope, record.accepted):
            record.accuracy.append(accuracy)
            told = [self._report_tanh(accuracy, case) for case in accuracy.alone]
            if not accuracy.assumed and (accuracy.close or told[-1]):
                record.accepted = record.accepted._replace(measured=(*record.accepted.measured, accuracy.accepted))

    def _report_tanh(self, accuracy: Accuracy, case: Case) -> bool:
        """Report an argument on which tanh is wrong, once for all dtypes, and return whether the tanh itself is wrong.

        It is not if another mistake explains the failure. NaN is then excused in other cases.
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
            self._report(Certificate().but_for(f"it holds the worst of {accuracy.points:,} arguments alone"))
            if self._recognise is None:
                raise _Enough(Stop.FINDING)
            if (excuse := self._explained(self._recognise)) is not None:
                self._excuses.append(excuse)
                return False
            before = record.findings[-1]
        else:
            record.known[before.id] += 1
        if lost:
            self._excuses.append(Overflows(before.id, accuracy.dtype, accuracy.nan_from))
        return True

    def _go_through(self, seen: Iterator[Checked | None]) -> NoReturn:
        """Take in one case after the other. Raise ``_Enough`` at the end of the budget, or with a finding."""
        while True:
            self._stop_at_budget()
            if (one := next(seen)) is not None:
                self._take_in(one)

    def _make_small(self) -> None:
        """Shrink the current failure as far as possible, and report it. Raise ``_Enough`` if the search ends there."""
        assert self._failing is not None
        shrinking = Shrinking(*self._failing, self._record.scope, self._check_while_shrinking)
        for smaller in shrinking:
            self._failing = smaller
            self._proved |= smaller[1].failed
        self._report_confirmed(shrinking.certificate)

    def _report_confirmed(self, certificate: Certificate) -> None:
        """Confirm the failure, in a fresh process if there is one; then continue if the cause can be recognised."""
        assert self._failing is not None
        case, result = self._failing
        if (process := self._subject.capabilities.process) is not None:
            process.restart()
        sure = confirmed(self._subject, case, result, partial(self._check, laws=self._laws()))
        self._failing = case, sure
        if sure.wavers:
            self._note_wavering()
            return
        self._report(replace(certificate, fresh_process=process is not None))
        excuse = None if self._recognise is None else self._explained(self._recognise)
        if excuse is None:
            raise _Enough(Stop.FINDING)
        self._start_again(excuse)

    def _explained(self, recognise: Recognise) -> Excuse | None:
        """Have the last finding explained, and show that in the progress meanwhile."""
        self._record.explaining = True
        self._tell()
        try:
            return recognise(self._record.findings[-1], self._record)
        finally:
            self._record.explaining = False

    def _start_again(self, excuse: Excuse | None) -> None:
        """Continue the search for failures with another cause."""
        self._excuses += [] if excuse is None else [excuse]
        self._failing, self._kind, self._proved, self._shrink_until = None, "", False, math.inf
        last = self._record.total + AFTER
        self._beyond = self._budget is None or last < self._budget
        self._cases = self._record.limit = last if self._beyond else self._budget

    def _report(self, certificate: Certificate) -> None:
        """Add the current failure, if there is one, to the record's findings."""
        if self._failing is not None:
            self._record.findings.append(
                Finding(self._subject.name, *self._failing, certificate, self._record.accepted)
            )
            self._failing = None

    def _report_hang(self, hang: Hang) -> None:
        """Report the failure that was being shrunk, or else the hang.

        Neither is shrunk further, because every try may take as long.
        """
        self._failing = self._failing or (hang.case, hang.result)
        self._report(Certificate().but_for("not made smaller, because every try may hang"))

    def _take_in(self, seen: Checked) -> None:
        """Count a case, and pursue it if it failed."""
        asked, result, _ = seen
        if result.verdict is Verdict.UNSUPPORTED:
            self._observe(seen)
            self._record.unsupported += 1
            return
        case: Case | None = None
        if against(result):
            case = asked.case()
            self._stop_at_hang(case, result)
            if self._crew is not None and self._excuses:  # the workers know of no excuses
                result = self._excused(case, seen)
        self._observe(seen._replace(result=result))
        self._record.checks[result.method] += 1
        self._record.count(asked, result)
        self._record.known.update([result.deviation] if result.deviation else [])
        self._record.spared.update(result.spared)
        if self._fails(result):
            self._record.failing[asked.config.dtype] += 1
        if self._record.total % TOLD_CASES == 0:
            self._tell()
        if case is not None and against(result):
            self._go_after(case, result, with_probes=asked.with_probes)

    def _fails(self, result: Result) -> bool:
        """Return whether a case fails, also where an earlier finding explains it."""
        return against(result) or result.deviation in {one.id for one in self._record.findings}

    def _excused(self, case: Case, seen: Checked) -> Result:
        """Return the result with the excuses applied, if one explains the failure."""
        laws = None if seen.asked.with_law else ()
        again = self._check(case, with_probes=seen.asked.with_probes, laws=laws)
        return again if again.deviation is not None or against(again) else seen.result

    def _go_after(self, case: Case, result: Result, *, with_probes: bool) -> None:
        """Weigh a suspicion, look for a better case of a failure, and shrink it."""
        given = case
        if result.verdict is Verdict.SUSPECT:
            try:
                suspicion = weigh(case, result, self._check)
            except KeyboardInterrupt:
                self._record.suspicions.append(Suspicion(case, result, again=0, tried=0))
                raise
            if not suspicion.repeats:
                self._record.suspicions.append(suspicion)
                return
            case, result = suspicion.case, suspicion.result
        self._failing = case, result  # an interrupt reports it as it is
        self._tell()
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
        else:
            self._failing = None

    def _take(self, case: Case, result: Result, *, with_probes: bool) -> bool:
        """Take a failure as the one to shrink, unless it wavers; return whether it was taken."""
        self._failing, self._kind, self._proved = (case, result), result.kind, result.failed
        first = result.mismatches[0] if result.mismatches else None
        forward = first is not None and first.sort in OF_VALUE and first.array in case.config.outputs
        self._probing = first is None or not forward or first.probed or bool(first.law)
        self._tell()
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
        """Report once that the subject wavers, and continue if further findings are wanted."""
        before = next((one for one in self._record.findings if one.result.wavers), None)
        if before is not None:
            self._record.known[before.id] += 1
            self._failing = None
            return
        self._report(Certificate().but_for("not made smaller, because the subject is flaky"))
        if self._recognise is None:
            raise _Enough(Stop.FINDING)
        self._explained(self._recognise)
        self._start_again(None)

    def _laws(self) -> tuple[Law, ...]:
        """Return the law that the current failure breaks, if it breaks one."""
        return law_of(self._kind) or ()

    def _tamed(self, case: Case, result: Result) -> tuple[Case, Result]:
        """Return the same config with tame values if it fails there, too, or is known to; otherwise the given case.

        The cause of a failure among infinities or NaN shows better on finite numbers, all of which can be compared.
        """
        for regime, seed in product(TAME, range(TAMELY)):
            tame = draw(case.config, regime, seed)
            seen = self._check(tame, laws=())
            if seen.deviation is not None or (seen.failed and seen.mismatches[:1] and seen.mismatches[0].sites):
                return tame, seen
        return case, result

    def _without_law(self, case: Case, result: Result) -> tuple[Case, Result]:
        """Return a case that the failing law ran and that fails alone, or else the given case; and the case's result.

        A case with a known deviation counts, too.
        """
        for law in law_of(result.kind) or () if result.failure is None else ():
            for other in asked_by(self._subject, case, law, self._record.scope):
                alone = self._check(other, laws=())
                if alone.failed or alone.deviation is not None:
                    return other, alone
        return case, result

    def _forwards(self, case: Case, result: Result) -> tuple[Case, Result]:
        """Look for a case of the same sizes that is wrong in the forward pass, if a gradient is wrong, and return it.

        A mistake in the forward pass makes gradients wrong, too, and its first effect says more. Without such a case,
        the given one is returned.
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
        self._stop_if_interrupted()
        if time.perf_counter() >= self._shrink_until:
            self._cut_short(f"shrinking not finished: {CRASHES:g} s of crashes are over")
        if self._seconds is not None and self._elapsed() >= SHRINKING * self._seconds:
            raise Spent("the time is over")
        self._record.shrink_checks += 1
        if self._record.shrink_checks % TOLD == 0:
            self._tell()
        result = self._check(case, laws=self._laws(), with_probes=self._probing)
        self._stop_at_hang(case, result)
        if result.verdict is Verdict.SUSPECT:
            suspicion = weigh(case, result, self._check)
            return result if suspicion.repeats and not self._proved else Result(Verdict.AGREES)
        return result

    def _cut_short(self, why: str) -> NoReturn:
        self._report(Certificate().but_for(why))
        raise _Enough(Stop.FINDING)

    @staticmethod
    def _stop_at_hang(case: Case, result: Result) -> None:
        """Raise ``Hang`` for a hang outside ``run``."""
        if result.failure is Failure.HUNG:
            raise Hang(case, result)

    def _stop_at_budget(self) -> None:
        self._stop_if_interrupted()
        dead = {one.id for one in self._record.findings if one.result.failure is Failure.CRASHED}
        if sum(self._record.known[id_] for id_ in dead) >= DEATHS:
            raise _Enough(Stop.FINDING)
        done = max(self._record.total, self._record.unsupported // REFUSED)
        if self._cases is not None and done >= self._cases:
            raise _Enough(Stop.AFTER if self._beyond else Stop.BUDGET)
        if self._seconds is not None and self._elapsed() >= SEARCHING * self._seconds:
            raise _Enough(Stop.TIME)
