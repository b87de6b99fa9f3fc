"""The search over the cases of a plan within a budget: a stream of checked cases, and of findings among them."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from harness.checks.activation_accuracy import Accuracy, TanhOverflow, measure
from harness.checks.case_checks import against
from harness.checks.known_issues import KnownCause
from harness.checks.repeatability import confirmed
from harness.checks.result import Result, Verdict
from harness.oracle.compare import MismatchKind
from harness.search.budget import CAPABILITIES_KNOWN, FUNCTIONS_MEASURED, LAST_EXPLANATION, Budget
from harness.search.capability_discovery import narrow, plainest, require_weights
from harness.search.checker import CheckedCase, Checker
from harness.search.confirm_and_shrink import FailureMinimiser, ShrinkingCutShort
from harness.search.deadline import (
    DeadlineSubject,
    Hang,
    TimeOver,
    noted_interrupts,
    stop_at_hang,
    stop_if_interrupted,
    uninterrupted,
)
from harness.search.evidence import Certificate
from harness.search.plan import chunks
from harness.search.search_options import SearchOptions
from harness.search.search_record import TIME_OVER, Finding, Helpers, SearchRecord, Stop
from harness.search.workers import WorkerContext
from harness.space.case import Case
from harness.space.errors import require_type
from harness.space.outcome import Failure
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.protocol import choose_devices, environment_of, has_more, scope_of, spoiled_by, unrepeated_of
from harness.subjects.registry import as_subject

MOST_DEATHS: Final = 20  # further deaths of a subject's process after which a search ends; each takes a second or two

# What a search yields: each case of the plan as it is counted, and each finding as soon as it is confirmed.
SearchEvent = CheckedCase | Finding


class RecognisedCause(NamedTuple):
    """A test that recognises further cases with the cause of a finding."""

    known_cause: KnownCause | None = None  # of further cases; there is none where nothing tells them from others
    earlier: str | None = None  # the id of the earlier finding that has the same cause, if there is one
    # It returns cases that are not of the plan, for causes that no case of it shows without another one.
    alone: Callable[[], Iterable[Case]] | None = None


def hunt(subject: Any, scope: Scope | None = None, **options: Any) -> SearchRecord:
    """Search ``scope`` for a case on which ``subject`` fails, and return the record of the search.

    The record holds the failing case, shrunk, in ``finding``, and why the search ended, in ``stop``. It ends with the
    first finding, or when the budget is used up. Ctrl-C ends it with what was done so far.

    ``subject`` is as for ``as_subject``, and ``scope`` the part of the space to search; ``None`` stands for everything
    that the subject offers. The ``options`` are those of ``SearchOptions``, such as ``cases=400`` and ``seed=1``. The
    search begins with a covering array, in which all values of three different factors that can meet do meet, or of
    two factors if the budget does not allow more.

    Raises ``UsageError`` for arguments that make no sense or a subject that cannot be copied, and
    ``SubjectUnavailable`` for what cannot be a subject or a device that is not here.
    """
    with Search(subject, scope, SearchOptions(**options)) as search:
        next(search.findings(), None)
    return search.record


class Search:
    """One search, which is read as a stream of events.

    This is how a reader goes on after a finding::

        with Search(subject, scope, Options(cases=400)) as search:
            for finding in search.findings():
                search.pass_over(RecognisedCause(known_cause))

    It ends with a finding, unless its reader says how further cases with the same cause are recognised, or the subject
    is nondeterministic there. Then it goes on for at most ``CASES_AFTER_FINDING`` more cases to the next finding of
    another cause. Leaving the ``for`` ends it. So does an interrupt, anywhere inside the ``with``, which loses
    nothing of the ``record``. Where an interrupt, a hang or slow crashes end it, the finding is in the record only:
    there is no time to explain it.
    """

    def __init__(self, subject: Any, scope: Scope | None = None, options: SearchOptions = SearchOptions()) -> None:  # noqa: B008
        if scope is not None:
            require_type("scope", scope, Scope, "Scope() is all of the space, and Scope().only(T=1) a part of it")
        self._subject, self._options = as_subject(subject), options
        subject, workers = self._subject, options.workers
        slow = options.slow or subject.capabilities.slow
        self._budget = Budget(options.cases, options.seconds, slow=slow, with_more=has_more(subject))
        scope = (scope or scope_of(subject)).only(device=choose_devices(subject, () if scope is None else scope.device))
        self.record = SearchRecord(subject.name, options.seed, scope, accepted=options.accepted)
        self.record.gaps = {n: why for n, why in subject.capabilities.not_compared.items() if n not in options.pinned}
        self.record.own = tuple(failure for failure in options.own if failure.of(subject.name))
        self.record.until, self.record.explaining_until = map(self._budget.moment, (1, LAST_EXPLANATION))
        self.record.shard, self.record.slow = options.shard, slow
        self.record.helpers = None if workers is None else Helpers(workers.number, workers.scheduler)
        self.record.weights = "" if options.weights is None else options.weights.name
        if workers is not None:
            self._task = WorkerContext.of(subject, scope, options.accepted, options.weights, share=workers.share)
        self._note_limit()
        self._before = unrepeated_of(subject), spoiled_by(subject)  # in another search
        guarded = DeadlineSubject(subject, self._budget.searching_until)
        self._checker = Checker(guarded, options.accepted, scope, [*self.record.own], options.weights)
        self._minimiser: FailureMinimiser | None = None  # of the current failure
        self._alone: Callable[[], Iterable[Case]] = tuple  # as ``RecognisedCause`` has it
        self._beyond = False  # True while it checks these
        self._events = self._run()

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[SearchEvent]:
        """Yield the events of the search."""
        return self._events

    def moment(self, share: float) -> float:
        """Return the moment at which a share of the time is over, by ``time.perf_counter``."""
        return self._budget.moment(share)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings alone."""
        return (event for event in self._events if isinstance(event, Finding))

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, KeyboardInterrupt):
            self._events.close()
            return False
        with suppress(StopIteration, KeyboardInterrupt):  # the latter comes back if the search was over
            self._events.throw(error)
        self.record.interrupt()
        return True

    def pass_over(self, recognised: RecognisedCause) -> None:
        """Count further cases with the cause of the last finding as known, and that finding, too, if it was known."""
        if recognised.known_cause is not None:
            self._checker.known.append(recognised.known_cause)
        self._alone = recognised.alone or self._alone
        if recognised.earlier is not None:
            self.record.findings.pop()
            self.record.known[recognised.earlier] += not self._beyond

    def _note_limit(self) -> None:
        """Note in the record how many cases the search may check."""
        limit, shard = self._budget.cases, self.record.shard
        self.record.limit = limit if shard is None or limit is None else ceil(limit / shard.of)

    def _run(self) -> Generator[SearchEvent]:
        """Go through the cases of the plan until the search ends, and note in the record why it did."""
        record = self.record
        try:
            with noted_interrupts():
                record.stop = yield from self._go_through()
        except TimeOver:
            record.stop = Stop.TIME
        except GeneratorExit:
            record.stop = Stop.FINDING
        except ShrinkingCutShort as cut:
            record.stop = Stop.FINDING
            self._report_as_it_is(str(cut))
        except Hang as hang:
            record.stop = Stop.FINDING
            self._report_as_it_is(hang.why, (hang.case, hang.result))
        except KeyboardInterrupt:
            with uninterrupted(record):
                record.interrupt()
                self._report_as_it_is("interrupted")  # not confirmed, because a subject that hung once may hang again
        with uninterrupted(record) as attempt:
            record.log.close(record)
            record.seconds = self._budget.elapsed()
            device = next((d for d in record.scope.device if d != "meta"), "meta")
            record.environment = attempt(partial(environment_of, self._subject, device)) or {}
            own = unrepeated_of(self._subject) - self._before[0]
            record.unrepeated = own + (record.unrepeated if record.helpers is not None else 0)
            spoiled = spoiled_by(self._subject)
            if spoiled != self._before[1] and not record.findings:
                last = Result(Verdict.BROKEN, failure=Failure.CRASHED, message=spoiled)
                record.report(draw(plainest(record.scope)), last, Certificate().but_for("it shows after the last case"))

    def _report_as_it_is(self, why: str, instead: tuple[Case, Result] | None = None) -> None:
        """Report the failure that is being pursued, which ``why`` ends, or else another one, if there is one."""
        failing = (None if self._minimiser is None else self._minimiser.failing) or instead
        if failing is not None:
            self.record.report(*failing, Certificate().but_for(why))

    def _go_through(self) -> Generator[SearchEvent, None, Stop]:
        """Take in one case after the other, yield it and what it leads to, and return why that ended."""
        if not self._narrow():
            return Stop.REFUSED
        yield from self._measure_functions()
        with closing(self._checked_cases()) as checked_cases:
            while (stop := self._end()) is None:
                try:
                    checked = next(checked_cases)
                except StopIteration:  # a shard has no more chunks
                    return Stop.BUDGET
                if checked is None:
                    continue
                checked = self._taken(checked)
                yield checked
                if (finding := self._minimised(checked)) is None:
                    continue
                self.record.log.explained()
                recognised = yield from self._reported(finding)
                if not recognised and not finding.result.nondeterministic:
                    return Stop.FINDING
                if self.record.shard is None:
                    self._budget.extend(self.record.total)
                    self._note_limit()
        yield from self._seek_alone()
        return stop

    def _seek_alone(self) -> Generator[Finding]:
        """Check cases outside of the plan, which are not counted, for causes that no case of it showed alone."""
        self._beyond = True
        for case in self._alone():
            if self._end() not in (Stop.BUDGET, Stop.AFTER) or self._budget.late():
                return
            result = self._checker(case)
            stop_at_hang(case, result)
            if against(result) and (finding := self._finding(case, result, with_probes=True)) is not None:
                yield from self._reported(finding)
                self.record.beyond += finding in self.record.findings

    def _end(self) -> Stop | None:
        """Return why the search ends before the next case; ``None`` if it goes on."""
        stop_if_interrupted()
        if self.record.deaths >= MOST_DEATHS:
            return Stop.DEATHS
        return self._budget.end(self.record) if self.record.shard is None else self._budget.late()

    def _checked_cases(self) -> Generator[CheckedCase | None]:
        """Yield the cases of the plan with their results, and ``None`` now and then where a worker takes long."""
        record, options = self.record, self._options
        record.log.planned = self._budget.cases
        planned = chunks(record.scope, record.seed, self._budget.cases)
        if record.shard is not None:
            planned = record.shard.chunks(
                planned, self._budget.cases, aside=self._subject.capabilities.call is not None
            )
        if options.workers is None or self._task is None or record.helpers is None:
            for chunk in planned:
                yield from self._checker.chunk(chunk)
            return
        task = self._task._replace(scope=record.scope, accepted=record.accepted)
        with closing(options.workers.checked(task, planned, self._checker, record.helpers)) as checked_cases:
            yield from checked_cases

    def _taken(self, checked: CheckedCase) -> CheckedCase:
        """Count a case in the record, as known if its cause is."""
        if checked.case is not None:
            stop_at_hang(checked.case, checked.result)
            checked = self._checker.known_or_not(checked)
        if checked.result.known_as is None and not against(checked.result):
            names = tuple(failure.name for failure in self.record.own if failure.concerns(checked.planned.config))
            checked = checked._replace(result=replace(checked.result, spared=(*checked.result.spared, *names)))
        self.record.log.close(self.record)
        self.record.take(checked.planned, checked.result)
        self.record.unrepeated += checked.unrepeated
        self.record.log.begin(self.record)
        return checked

    def _minimised(self, checked: CheckedCase) -> Finding | None:
        """Make a finding of a case that fails, if it is one."""
        if checked.case is None or not against(checked.result):
            return None
        return self._finding(checked.case, checked.result, with_probes=checked.planned.with_probes)

    def _finding(self, case: Case, result: Result, *, with_probes: bool) -> Finding | None:
        """Make a finding of a case that fails, if it is one. When the time is over, it is reported as it is then."""
        self._minimiser = minimiser = FailureMinimiser(self._checker, self.record, self._budget)
        try:
            return minimiser.minimise(case, result, with_probes=with_probes)
        except TimeOver:
            if minimiser.failing is None:
                return None
            return self.record.report(*minimiser.failing, Certificate().but_for("not confirmed: the time is over"))

    def _reported(self, finding: Finding) -> Generator[Finding, None, bool]:
        """Yield a finding, and return whether its reader knows now how to recognise its cause."""
        before, self.record.explaining = len(self._checker.known), True
        try:
            yield finding
        finally:
            self.record.explaining = False
        return len(self._checker.known) > before

    def _narrow(self) -> bool:
        """Leave out what the subject refuses, and return whether anything is left."""
        record, checker = self.record, self._checker
        until = self._budget.moment(CAPABILITIES_KNOWN)
        narrowed = self._options.narrowed or narrow(checker.subject, record.scope, slow=record.slow, until=until)
        if narrowed.accepted:
            require_weights(checker.subject, plainest(narrowed.scope))
        record.scope, record.refused = narrowed.scope, narrowed.refused
        checker.scope = record.scope
        record.unsupported_unrefused = {what: (case, result) for what, case, result in narrowed.unsupported_unrefused}
        return bool(narrowed.accepted)

    def _measure_functions(self) -> Generator[Finding]:
        """Report the large errors of a subject's functions, and accept what was measured, to find other mistakes.

        They are accepted together: an error of one hides that of another in the case that shows it alone.
        """
        record, within = self.record, []
        subject = DeadlineSubject(self._subject, self._budget.moment(FUNCTIONS_MEASURED))
        try:
            for accuracy in measure(subject, record.scope, record.accepted):
                record.accuracy.append(accuracy)
                wrong = False
                for case in accuracy.alone:
                    wrong = yield from self._report_function(accuracy, case)
                if not accuracy.assumed and (accuracy.close or wrong):
                    within.append(accuracy.accepted)
        except TimeOver:
            record.unfinished["how precise its functions are"] = TIME_OVER
        record.accepted = record.accepted._replace(measured=(*record.accepted.measured, *within))
        self._checker.accepted = record.accepted

    def _report_function(self, accuracy: Accuracy, case: Case) -> Generator[Finding, None, bool]:
        """Report where a function is wrong, once for all dtypes, and return whether it is the function that is wrong.

        It is not if another mistake explains the failure. NaN then passes in other cases. Nothing is measured where
        the subject is nondeterministic: cases of the plan show that.
        """
        alone = partial(self._checker, relations=(), with_probes=False)
        result = alone(case)
        if (
            result.verdict is not Verdict.DISAGREES
            or confirmed(self._checker.subject, case, result, alone).nondeterministic
        ):
            return False
        record, lost = self.record, result.mismatches[0].sort is MismatchKind.FINITENESS
        text = f"NaN from |x| = {accuracy.nan_from:.3g} on" if lost else accuracy.error_line
        tolerance = None if lost else accuracy.tolerance
        advice = "" if tolerance is None else f"--tolerance {tolerance} would accept that"
        kind, function = result.mismatches[0].kind, accuracy.function
        alike = (
            finding
            for finding in record.findings
            if (finding.result.inaccurate, finding.result.kind) == (function, kind)
        )
        before = next(alike, None)
        if before is None:
            worst = Certificate().but_for(f"it holds the worst of {accuracy.points:,} arguments alone")
            measured = replace(result, message=f"its {function} is {text}", inaccurate=function, advice=advice)
            recognised = yield from self._reported(record.report(case, measured, worst))
            if recognised:
                return False
            before = record.findings[-1]
        if lost:
            self._checker.known.append(TanhOverflow(before.id, accuracy.dtype, accuracy.nan_from))
        return True
