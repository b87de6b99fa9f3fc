"""The search over the cases of a plan within a budget, which is pulled: it yields one finding after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from harness.checks.accuracy import Accuracy, Overflows, measure
from harness.checks.full_check import against
from harness.checks.full_check import check as check_everything
from harness.checks.known_failures import KnownFailure
from harness.checks.known_issues import KnownCause
from harness.checks.repeatability import confirmed
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.compare import Sort
from harness.search.budget import Budget
from harness.search.certificate import Certificate
from harness.search.guard import Guarded, Hang, noted_interrupts, stop_at_hang
from harness.search.log import Log
from harness.search.narrow import Narrowed, narrow
from harness.search.plan import units
from harness.search.pursuit import CutShort, Pursuit
from harness.search.record import Finding, Helpers, Hunt, Stop
from harness.search.scan import Checked, Observe, scan
from harness.search.shards import Shard
from harness.search.workers import Task, Workers
from harness.space.case import Case
from harness.space.errors import require_int, require_type
from harness.space.scope import Scope
from harness.subjects.protocol import choose_devices, ground_of, scope_of
from harness.subjects.registry import as_subject

DEATHS: Final = 20
"""The number of further deaths of a subject's process that a search continues after; each takes a second or two if
torch is imported.
"""

TOLD_CASES: Final = 20
"""The number of cases between two progress messages while nothing fails."""

Progress = Callable[[Hunt], None]
"""A function that is told of the record as the search goes on."""


class Recognised(NamedTuple):
    """The answer to a finding, by which a search goes on: how its cause is recognised."""

    excuse: KnownCause | None = None
    """The excuse of further cases with its cause. Without one the search ends, except after a subject that wavers, and
    after a measured error of its tanh, which the search recognises by what was measured.
    """
    earlier: str | None = None
    """The id of the earlier finding that has the same cause, and that it is counted with, if there is one."""


def hunt(
    subject: Any,
    scope: Scope | None = None,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    accepted: Accepted = STRICT,
    progress: Progress | None = None,
    workers: Workers | None = None,
    observe: Observe | None = None,
    own: Sequence[KnownFailure] = (),
    shard: Shard | None = None,
) -> Hunt:
    """Search ``scope`` for a case on which ``subject`` fails, and return the record of the search.

    The record holds the failing case, shrunk, in ``finding``, and why the search ended, in ``stop``. It ends with the
    first finding, or when the budget is used up. Ctrl-C ends it with what was done so far.

    - ``subject`` is as for ``as_subject``.
    - ``scope`` is the part of the space to search; ``None`` stands for everything that the subject offers.
    - ``cases`` and ``seconds`` are the budget: the cases that are compared, and the time of everything, whichever ends
      first. Without either, it is ``CASES`` cases, or ``BRIEF`` if the subject is slow. Searching ends after
      ``SEARCHING`` of the time, shrinking after ``SHRINKING``, and explanations learn of the end from the record's
      ``until``. ``CRASHES`` limits the shrinking of a crash, and a hang ends it.
    - ``seed`` chooses the cases. The search begins with a covering array, in which all values of three different
      factors that can meet do meet, or of two factors if the budget does not allow more. The same arguments give the
      same search.
    - ``accepted`` is a contract looser than the dtypes' own.
    - ``progress`` is told of the record, again and again.
    - ``observe`` is told of the cases of the plan with their results, in the plan's order, but not of one that hangs,
      which ends the search, nor of those that shrinking and explaining try.
    - ``own`` are known failures of the subject; cases that they excuse are counted, and pass.
    - ``shard`` is a part of the cases; all parts together are those of one search, and no case is in two of them.
    - ``workers`` share the work. Each has a copy of the subject, made by pickle; their number changes nothing.

    Raises ``UsageError`` for arguments that make no sense or a subject that cannot be copied, and ``SubjectError`` for
    what cannot be a subject or a device that is not here.
    """
    with Search(
        subject,
        scope,
        cases=cases,
        seconds=seconds,
        seed=seed,
        accepted=accepted,
        progress=progress,
        workers=workers,
        observe=observe,
        own=own,
        shard=shard,
    ) as search:
        next(iter(search), None)
    return search.record


class Search:
    """One search, with the arguments of ``hunt``, that may go on after a finding.

    ``narrowed`` is what the subject supports, if that is known already.

    Its user pulls the findings, and says after each how to go on::

        with Search(subject) as search:
            for finding in search:
                search.go_on(Recognised(excuse))

    It goes on for at most ``AFTER`` more cases, and yields the next finding of another cause. Leaving the ``for``
    ends it. So does an interrupt, anywhere inside the ``with``, which loses nothing of the ``record``. A finding that
    an interrupt, a hang or slow crashes end the search with is in the record only: there is no time to explain it.
    """

    def __init__(
        self,
        subject: Any,
        scope: Scope | None = None,
        *,
        cases: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
        accepted: Accepted = STRICT,
        progress: Progress | None = None,
        workers: Workers | None = None,
        observe: Observe | None = None,
        own: Sequence[KnownFailure] = (),
        shard: Shard | None = None,
        narrowed: Narrowed | None = None,
    ) -> None:
        self._budget = Budget(cases, seconds)
        require_int("seed", seed, 0)
        if scope is not None:
            require_type("scope", scope, Scope, "Scope() is all of the space, and Scope().only(T=1) a part of it")
        if shard is not None:
            require_type("shard", shard, Shard, "Shard(3, 8) is the third of eight")
        require_type("accepted", accepted, Accepted, "harness.oracle.arithmetic.accepted makes one of text")
        subject = as_subject(subject)
        asked = () if scope is None else scope.device
        scope = (scope or scope_of(subject)).only(device=choose_devices(subject, asked))
        self.record = Hunt(subject.name, seed, scope, accepted=accepted)
        self.record.own = tuple(one for one in own if one.of(subject.name))
        self.record.until, self.record.shard = self._budget.until, shard
        self._note_limit()
        self.log = Log()
        """The log of its cases, if it is a shard."""
        self._narrowed = narrowed
        self._task = None if workers is None else Task.of(subject, scope, accepted, share=workers.share)
        self._workers = workers
        self.record.helpers = None if workers is None else Helpers(workers.number, workers.scheduler)
        self._given = subject
        self._subject = Guarded(subject)
        self._progress = progress or (lambda _record: None)
        self._observe = observe or (lambda _checked: None)
        self._stop_if_interrupted: Callable[[], None] = lambda: None
        self._excuses: list[KnownCause] = [*self.record.own]
        self._recognised = Recognised()
        self._pursuit: Pursuit | None = None
        """The pursuit of the current failure."""
        self._findings = self._run()

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[Finding]:
        """Yield the findings after which the search may go on, as soon as each is confirmed."""
        return self._findings

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, KeyboardInterrupt):
            self._findings.close()
            return False
        with suppress(StopIteration, KeyboardInterrupt):  # the latter comes back if the search was over
            self._findings.throw(error)
        self.record.stop = Stop.INTERRUPTED
        return True

    def go_on(self, recognised: Recognised) -> None:
        """Say how to go on after the finding that was yielded last."""
        self._recognised = recognised
        if recognised.earlier is not None:
            self.record.findings.pop()
            self.record.known[recognised.earlier] += 1

    def _note_limit(self) -> None:
        """Note in the record how many cases the search may check."""
        limit, shard = self._budget.cases, self.record.shard
        self.record.limit = limit if shard is None or limit is None else ceil(limit / shard.of)

    def _run(self) -> Generator[Finding]:
        """Go through the cases of the plan until the search ends, and note in the record why it did."""
        record = self.record
        try:
            with noted_interrupts() as self._stop_if_interrupted:
                record.stop = yield from self._go_through()
        except GeneratorExit:
            record.stop = Stop.FINDING
        except CutShort as cut:
            record.stop = Stop.FINDING
            self._report_as_it_is(str(cut))
        except Hang as hang:
            record.stop = Stop.FINDING
            self._report_as_it_is(hang.why, (hang.case, hang.result))
        except KeyboardInterrupt:
            record.stop = Stop.INTERRUPTED
            self._report_as_it_is("interrupted")  # not confirmed, because a subject that hung once may hang again
        self.log.close(record)
        record.seconds = self._budget.elapsed()
        record.ground = ground_of(self._given, next((d for d in record.scope.device if d != "meta"), "meta"))

    def _go_through(self) -> Generator[Finding, None, Stop]:
        """Take in one case after the other, yield what is found, and return why that ended."""
        self._tell()
        if not self._narrow():
            return Stop.REFUSED
        yield from self._measure_tanh()
        with closing(self._seen()) as seen:
            while (stop := self._end()) is None:
                try:
                    one = next(seen)
                except StopIteration:  # a shard has no more units
                    return Stop.BUDGET
                if one is None or (finding := self._take_in(one)) is None:
                    continue
                self.log.explained()
                excuse = yield from self._hand_over(finding)
                if excuse is None and not finding.result.nondeterministic:
                    return Stop.FINDING
                self._excuses += [] if excuse is None else [excuse]
                if self.record.shard is None:
                    self._budget.extend(self.record.total)
                    self._note_limit()
        return stop

    def _hand_over(self, finding: Finding) -> Generator[Finding, None, KnownCause | None]:
        """Yield a finding, show in the progress that it is being explained, and return the excuse of its cause."""
        self._recognised, self.record.explaining = Recognised(), True
        self._tell()
        try:
            yield finding
        finally:
            self.record.explaining = False
        return self._recognised.excuse

    def _report_as_it_is(self, why: str, instead: tuple[Case, Result] | None = None) -> None:
        """Report the failure that is being pursued, which ``why`` ends, or else another one, if there is one."""
        failing = (None if self._pursuit is None else self._pursuit.failing) or instead
        if failing is not None:
            self.record.report(*failing, Certificate().but_for(why))

    def _seen(self) -> Generator[Checked | None]:
        """Yield the results of the cases of the plan."""
        record = self.record
        planned = units(record.scope, record.seed, self._budget.cases)
        if record.shard is not None:
            planned = record.shard.units(planned, self._budget.cases, aside=self._given.capabilities.call is not None)
        if self._workers is None or self._task is None or record.helpers is None:
            for unit in planned:
                yield from scan(unit, self._check)
            return
        task = self._task._replace(scope=record.scope, accepted=record.accepted)
        with closing(self._workers.checked(task, planned, self._check, record.helpers)) as seen:
            yield from seen

    def _check(self, case: Case, **options: Any) -> Result:
        record = self.record
        return check_everything(
            self._subject, case, accepted=record.accepted, scope=record.scope, excuses=self._excuses, **options
        )

    def _tell(self) -> None:
        """Report the progress of the search."""
        failing = None if self._pursuit is None else self._pursuit.failing
        self.record.seconds, self.record.shrinking = self._budget.elapsed(), failing is not None
        self.record.smallest = None if failing is None else failing[0].config
        self._progress(self.record)

    def _narrow(self) -> bool:
        """Leave out what the subject refuses, and return whether anything is left."""
        narrowed = self._narrowed or narrow(self._subject, self.record.scope, until=self._budget.narrowing_until)
        self.record.scope, self.record.refused = narrowed.scope, narrowed.refused
        self.record.slow, self.record.every_call = narrowed.slow, narrowed.every_call
        if narrowed.slow:
            self._budget.for_slow()
            self._note_limit()
        self.record.undone = {what: (case, result) for what, case, result in narrowed.undone}
        return bool(narrowed.accepted)

    def _measure_tanh(self) -> Generator[Finding]:
        """Accept the measured error of the subject's tanh, so that other mistakes are found; report a large one."""
        record = self.record
        for accuracy in measure(self._subject, record.scope, record.accepted):
            record.accuracy.append(accuracy)
            wrong = False
            for case in accuracy.alone:
                wrong = yield from self._report_tanh(accuracy, case)
            if not accuracy.assumed and (accuracy.close or wrong):
                record.accepted = record.accepted._replace(measured=(*record.accepted.measured, accuracy.accepted))

    def _report_tanh(self, accuracy: Accuracy, case: Case) -> Generator[Finding, None, bool]:
        """Report an argument on which tanh is wrong, once for all dtypes, and return whether the tanh itself is wrong.

        It is not if another mistake explains the failure. NaN is then excused in other cases. Nothing is measured where
        the subject wavers: cases of the plan show that.
        """
        alone = partial(self._check, laws=(), with_probes=False)
        seen = alone(case)
        if seen.verdict is not Verdict.DISAGREES or confirmed(self._subject, case, seen, alone).nondeterministic:
            return False
        record, lost = self.record, seen.mismatches[0].sort is Sort.FINITENESS
        said = f"NaN from |x| = {accuracy.nan_from:.3g} on" if lost else accuracy.error_line
        tolerance = None if lost else accuracy.tolerance
        advice = "" if tolerance is None else f"--tolerance {tolerance} would accept that"
        kind = seen.mismatches[0].kind
        before = next((one for one in record.findings if one.result.of_tanh and one.result.kind == kind), None)
        if before is None:
            worst = Certificate().but_for(f"it holds the worst of {accuracy.points:,} arguments alone")
            measured = replace(seen, message=f"its tanh is {said}", of_tanh=True, advice=advice)
            excuse = yield from self._hand_over(record.report(case, measured, worst))
            if excuse is not None:
                self._excuses.append(excuse)
                return False
            before = record.findings[-1]
        if lost:
            self._excuses.append(Overflows(before.id, accuracy.dtype, accuracy.nan_from))
        return True

    def _take_in(self, seen: Checked) -> Finding | None:
        """Count a case, and pursue it if it failed."""
        asked, result, _, case = seen
        if case is not None:
            stop_at_hang(case, result)
            if self._workers is not None and self._excuses:  # the workers know of no excuses
                result = self._excused(case, seen)
        self._observe(seen._replace(result=result))
        if self.record.shard is not None:
            self.log.close(self.record)
        self.record.take(asked, result)
        if self.record.shard is not None:
            self.log.taken(self.record, result)
        if self.record.total % TOLD_CASES == 0 and result.verdict is not Verdict.UNSUPPORTED:
            self._tell()
        if case is None or not against(result):
            return None
        self._pursuit = Pursuit(
            self._subject,
            self.record,
            self._check,
            self._budget,
            tell=self._tell,
            stop_if_interrupted=self._stop_if_interrupted,
        )
        return self._pursuit.of(case, result, with_probes=asked.with_probes)

    def _excused(self, case: Case, seen: Checked) -> Result:
        """Return the result with the excuses applied, if one explains the failure."""
        laws = None if seen.asked.with_law else ()
        again = self._check(case, with_probes=seen.asked.with_probes, laws=laws)
        return again if again.deviation is not None or against(again) else seen.result

    def _end(self) -> Stop | None:
        """Return why the search ends before the next case; ``None`` if it goes on."""
        self._stop_if_interrupted()
        if self.record.deaths >= DEATHS:
            return Stop.DEATHS
        return self._budget.end(self.record) if self.record.shard is None else self._budget.late()
