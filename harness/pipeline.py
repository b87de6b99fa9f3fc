"""The way of a subject through the packages: it is examined; each finding is explained, judged, saved and reported."""

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from harness.checks import known_failures
from harness.checks.agreement import plain_outcome
from harness.checks.case_checks import bits_of
from harness.checks.dropout import check_net, net
from harness.checks.result import Result, Verdict
from harness.diagnosis.finding_explainer import Explanation, FindingExplainer
from harness.diagnosis.kernels import NONE, KernelSwitchResults, failing_stage
from harness.oracle.arithmetic_assumptions import STRICT
from harness.report.check_report import CheckReport
from harness.report.finding_entry import SubjectFindings
from harness.report.finding_files import DIRECTORY
from harness.report.progress import shown
from harness.report.reported_finding import ReportedFinding, dropout_facts, reported
from harness.report.upgrade import UpgradeComparison, compared
from harness.search.budget import CAPABILITIES_KNOWN, LAST_DROPOUT_CHECK, Budget
from harness.search.capability_discovery import DiscoveredScope
from harness.search.case_replay import ReplayOutcome, replay
from harness.search.checker import CheckedCase
from harness.search.common_scope import joint_scope
from harness.search.deadline import DeadlineSubject, Hang, TimeOver, uninterrupted
from harness.search.examination import Examination, equal_of, examine
from harness.search.own_weights import load_weights
from harness.search.plan import PlannedCase
from harness.search.scope_and_workers import asked_scope
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.search.search_record import TIME_OVER, Finding, SearchRecord
from harness.space.case import Case
from harness.space.conformance_profile import PROFILE_WORDS
from harness.space.errors import UsageError, require_type
from harness.space.reading import MOST_WRITTEN, require_path
from harness.space.scope import Scope, singular
from harness.store.document import read_text
from harness.store.save import FindingKeeper
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject, environment_of
from harness.subjects.registry import as_subject

Progress = Callable[[SearchRecord], object]
Observe = Callable[[CheckedCase], object]

_COMPARISON: Final = "the comparison with {}"  # with a subject's first stage, of what both return


def run_pipeline(
    subject: Subject,
    scope: Scope,
    options: SearchOptions,
    *,
    folder: str,
    warn: Callable[[str], None],
    progress: Progress | None = None,
    observe: Observe | None = None,
) -> SubjectFindings:
    """Search a subject's cases, explain, judge and keep each finding as soon as there is one, and check the rest.

    ``examine`` checks the rest, in the first shard only. Findings are kept in ``folder``; ``warn`` is told of those
    that cannot be. ``progress`` is given the record of the search as it begins, and ``observe`` each of its cases.
    """
    bits, shard = dict[PlannedCase, str](), options.shard
    investigation = FindingExplainer(subject, options.accepted)
    with Search(subject, scope, options) as search:
        keeping = FindingKeeper(subject, folder, options.accepted, options.tolerance, warn, search.record.until)
        if progress is not None:
            progress(search.record)
        for event in search:
            if isinstance(event, CheckedCase):
                bits[event.planned] = event.result.bits
                if observe is not None:
                    observe(event)
                continue
            recognised = investigation.recognise(event, search.record)
            if recognised.earlier is None:
                keeping(event, investigation.known_of(event), with_script=not investigation.interrupted)
            search.pass_over(recognised)
            if investigation.interrupted:
                raise KeyboardInterrupt
    done = Examination(search.record, profile=options.profile, read_as=subject.capabilities.read_as)
    if shard is None or shard.number == 1:
        done = examine(subject, search.record, options, dropping_until=search.moment(LAST_DROPOUT_CHECK))
    with uninterrupted(search.record) as attempt:
        if done.refusals is not None and done.refusals.findings:
            keeping.refusals(done.refusals)
        of_dropout = attempt(partial(reported_dropout, subject, done, keeping))
        done.dropout_facts = {} if of_dropout is None else dropout_facts(of_dropout)
        drawn = {} if options.weights is not None else bits  # the first stage would have other weights
        same = attempt(partial(same_as_the_first_stage, subject, drawn, search.record))
        if same is None and any(drawn.values()):  # an interrupt came
            search.record.interrupt(*map(_COMPARISON.format, subject.capabilities.stages[:1]))
        same = same or {}
        done.equal = equal_of(subject.capabilities.stages, same.values())
        search.record.log.same = {number: same[planned] for number, planned in enumerate(bits) if planned in same}
        findings = []
        for finding in done.hunt.findings:
            explanation = investigation.known_of(finding)
            if finding.id not in keeping.places:  # the search ended before it was explained, or while it was kept
                attempt(partial(keeping, finding, explanation))
            if finding.id not in keeping.places:
                keeping(finding, explanation, with_script=False)
            findings.append(reported(finding, explanation, keeping.places[finding.id], done.hunt.known[finding.id]))
    about = subject.capabilities
    return SubjectFindings(done, tuple(findings), about.place, of_dropout, about.stages, about.source)


def same_as_the_first_stage(
    subject: Subject, bits: Mapping[PlannedCase, str], hunt: SearchRecord
) -> dict[PlannedCase, bool]:
    """Run the subject's first stage on the cases in which the subject agrees, and tell which have the same bits.

    These are the cases whose bits are known.
    """
    known = {planned: value for planned, value in bits.items() if value}
    for name in subject.capabilities.stages[:1] if known else ():
        hunt.unfinished[what := _COMPARISON.format(name)] = TIME_OVER
        with suppress(UsageError, Hang, TimeOver), IsolatedSubject(name) as process:
            first = DeadlineSubject(process, hunt.until)
            outcomes = ((planned, plain_outcome(planned.config, first.run(planned.case()))) for planned in known)
            same = {planned: bits_of(outcome.arrays) == known[planned] for planned, outcome in outcomes}
            del hunt.unfinished[what]
            return same
    return {}


def reported_dropout(subject: Subject, done: Examination, keeping: FindingKeeper) -> ReportedFinding | None:
    """Keep broken statistics of dropout as a finding, and return it."""
    result = done.dropout
    if result is None or result.net is None:
        return None
    finding = Finding(subject.name, net(result.net), result)

    def check(part: Subject, case: Case) -> Result:
        return check_net(part, case.config, done.hunt.seed)

    stage = failing_stage(subject, finding.case, result, check)
    kernels, environment = (
        NONE if stage is None else KernelSwitchResults(stage=stage),
        environment_of(subject, result.net.device),
    )
    explanation = Explanation(kernels=kernels, environment=environment)
    keeping(finding, explanation)
    return reported(finding, explanation, keeping.places[finding.id])


class UpgradeRun:
    """The way of one subject through an old and a new interpreter with one plan, and then what differs.

    Both are asked at once for what they support of their scopes. The options are those of each search.
    """

    def __init__(
        self,
        old: tuple[Subject, Scope],
        new: tuple[Subject, Scope],
        cases: int | None,
        seconds: float | None,
        *,
        slow: bool = False,
    ) -> None:
        self._subjects = old[0], new[0]
        self._joint = joint_scope(old, new, slow=slow, until=Budget(cases, seconds).moment(CAPABILITIES_KNOWN))

    def narrowed(self, number: int) -> DiscoveredScope | None:
        """Return what the old one (0) or the new one (1) supports, for the ``SearchOptions`` of its search."""
        return (self._joint.old, self._joint.new)[number]

    def compared(self, old: SubjectFindings, new: SubjectFindings) -> UpgradeComparison | None:
        """Return what differs, after both searches; ``None`` if an interrupt comes, which ends the new one's."""
        try:
            earlier, later = (partial(_fails, subject) for subject in self._subjects)
            return compared(old, new, self._joint.behaviour, (earlier, later))
        except KeyboardInterrupt:
            new.examination.hunt.interrupt()
            return None


def _fails(subject: Subject, finding: Finding) -> bool:
    """Run a finding under another interpreter, and tell whether it fails there as it does, or raises as it does."""
    fate, result = replay(subject, finding.case, finding.accepted or STRICT)
    both_raise = result.verdict is finding.result.verdict is Verdict.BROKEN and not finding.result.mismatches
    return fate is ReplayOutcome.FAILED and (both_raise or result.shows(finding.result.kind))


def check(
    subject: Any,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    profile: str | None = None,
    tolerance: str = "derived",
    findings: str = DIRECTORY,
    known: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    slow: bool = False,
    quiet: bool = False,
    **only: Any,
) -> CheckReport:
    """Search for a case on which ``subject`` fails, and explain it, as ``rnn-harness check`` does, in this process.

    ``subject`` is a function ``rnn(x, h0, weights, config) -> (output, h_n)``, a drop-in class for ``nn.RNN``, a
    ``Subject``, or the name of one. The options are the command's; ``only`` pins factors, as ``Scope.only`` does.
    Findings are kept in the folder ``findings``; ``known`` is a file of known failures, and ``weights`` one of the
    weights that all cases have; ``slow`` says that each new shape takes it long. Unless ``quiet``, the progress is
    shown on standard error, or in a notebook as a line below the cell.

    Raises ``UsageError`` for options that make no sense, and ``SubjectUnavailable`` if ``subject`` cannot be a subject.
    """
    for name, file in (("known", known), ("weights", weights), ("findings", findings)):
        if file is not None or name == "findings":
            require_path(name, file)
    require_type("slow", slow, bool, "it says that each new shape takes the subject long")
    if profile is not None:
        require_type("profile", profile, str, f"one of {', '.join(PROFILE_WORDS)}")
    subject = as_subject(subject)
    held = profile or subject.capabilities.profile
    fixed = None if weights is None else load_weights(os.fspath(weights))
    pins = singular({**only, **({} if fixed is None else fixed.pins)})
    scope = asked_scope(subject, (), pins, held)
    own, idle = ([], []) if known is None else known_failures.parse(read_text(Path(known), MOST_WRITTEN), str(known))
    for text in idle:
        warnings.warn(text, stacklevel=2)
    with shown(subject.name, Console(stderr=True, quiet=quiet)) as progress:
        done = run_pipeline(
            subject,
            scope,
            SearchOptions(
                cases, seconds, seed, held, tolerance, tuple(own), weights=fixed, slow=slow, pinned=frozenset(pins)
            ),
            folder=findings,
            warn=lambda text: warnings.warn(text, stacklevel=3),
            progress=progress,
        )
    return CheckReport(done)
