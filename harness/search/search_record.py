"""The record of a search: what it did, in which part of the space, what it found, and why it ended."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final

from harness.checks.activation_accuracy import Accuracy
from harness.checks.known_failures import KnownFailure
from harness.checks.result import DERIVATIVES, PROBES, TWICE, ComparisonMethod, Result, Verdict
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.search.evidence import NOT_SHRUNK, Certificate, Suspicion
from harness.search.log import Log, power
from harness.search.plan import PlannedCase
from harness.search.plan_shards import Shard
from harness.space.case import Case
from harness.space.config import RNNConfig, role_of
from harness.space.coverage_counts import Coverage
from harness.space.outcome import Failure, is_last
from harness.space.scope import Scope
from harness.space.searched_scope import AGREEMENT, SearchedScope
from harness.subjects.interpreters import portable

RELATIONS_COUNT: Final = "relations"
TIME_OVER: Final = "the time was over"  # why something was not done

# The checks in addition to agreement that are made on some cases.
BESIDE: Final = (RELATIONS_COUNT, TWICE, PROBES, DERIVATIVES)


class Stop(Enum):
    """The reasons why a search ends."""

    FINDING = "a finding, before the rest was searched"
    DEATHS = "20 more deaths of its process; mend what ends it, or leave that out with --only, and search again"
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
    accepted: AcceptedErrors | None = None  # the tolerance under which it was found, if that is known

    @property
    def minimal(self) -> bool:
        """True if every plainer neighbour was tried, and none fails so; false if shrinking was cut short."""
        return self.certificate.complete

    @cached_property
    def id(self) -> str:
        """Eight hex digits that identify this subject on this case; they do not depend on the machine."""
        named = f"{portable(self.subject)} {self.case.id}"
        return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:8]


@dataclass
class Helpers:
    """The workers that help with a search, and what became of them."""

    started: int = 0  # how many there were at the start
    scheduler: str = ""  # the address of the scheduler of the cluster that they are in, if they are in one
    answering: set[str] = field(default_factory=set)  # the names of those that have done a chunk
    lost_chunks: int = 0  # chunks that the search did itself, because they were lost with a worker
    alone: str = ""  # why the search did the rest without them, if it did

    @property
    def number(self) -> int:
        """The number of workers; of a cluster's, those that have done a chunk."""
        return len(self.answering) if self.scheduler else self.started


@dataclass
class SearchRecord:
    """The record of one search: what it did, in which part of the space, and what it found."""

    subject: str
    seed: int
    scope: Scope
    # The environment that the subject computed on (``subjects.environment``).
    environment: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    slow: bool = False  # it was declared to be slow, and asked for less because of that
    unsupported_unrefused: dict[str, tuple[Case, Result]] = field(default_factory=dict)
    """The values that it neither supports nor refuses, and that were left out: ``num_layers=2``, a case, and how that
    fails.
    """
    # What the subject offers and is not compared, by factor or array, with the reason, unless its user pinned it away.
    gaps: dict[str, str] = field(default_factory=dict)
    beyond: int = 0  # the findings on cases that are not of the plan
    weights: str = ""  # the file of the weights that all cases had, if they were not drawn
    accepted: AcceptedErrors = (
        STRICT  # the tolerance it was held to: what its user accepts, and what was measured of its functions
    )
    # The measured accuracy of its functions, by dtype, if it differs from what is assumed.
    accuracy: list[Accuracy] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)  # the coverage of the cases that were compared
    # The coverage of the checks in addition to agreement: ``RELATIONS_COUNT``, ``TWICE``, ``PROBES``, ``DERIVATIVES``.
    beside: dict[str, Coverage] = field(default_factory=dict)
    # Counts of how often the subject was held to each relation, and kept it.
    relations: Counter[str] = field(default_factory=Counter)
    # The number of compared cases, by the sharpness of the comparison.
    checks: Counter[ComparisonMethod] = field(default_factory=Counter)
    margins: dict[str, Counter[int]] = field(default_factory=dict)
    """Counts of passing cases by dtype and by the power of two up to which their largest difference over its tolerance
    reaches: 0 stands for half the tolerance to all of it, ``MARGINS`` for everything below.
    """
    # The number of compared cases that could not have shown a mistake, by mistake (``checks.vacuous``).
    vacuous: Counter[str] = field(default_factory=Counter)
    # The number of cases without a returned gradient, by the name that nn.RNN has for its array in any layer.
    not_compared: Counter[str] = field(default_factory=Counter)
    # Counts of how often each gradient was returned that nn.RNN does not have.
    ignored: Counter[str] = field(default_factory=Counter)
    # The number of cases that the subject refused, by what it said.
    unsupported: Counter[str] = field(default_factory=Counter)
    # Suspicions on one case that did not repeat on enough others to be a finding.
    suspicions: list[Suspicion] = field(default_factory=list)
    known: Counter[str] = field(default_factory=Counter)
    """The number of failing cases that a known issue, a known failure or an earlier finding explains, by its name.
    """
    own: tuple[KnownFailure, ...] = ()  # the known failures of the subject that its user named
    # The number of cases on which a known issue or failure would have shown and did not, by its name.
    spared: Counter[str] = field(default_factory=Counter)
    # The number of cases that failed, with a known cause or another one, by dtype.
    failing: Counter[str] = field(default_factory=Counter)
    shrink_checks: int = 0
    smallest: RNNConfig | None = None  # the config of the failure that is being shrunk, as small as it is so far
    explaining: bool = False  # True while a finding is being explained
    seconds: float = 0.0
    # The moments at which the time of the whole search, and that for explaining, are over, by ``time.perf_counter``.
    until: float = math.inf
    explaining_until: float = math.inf
    unrepeated: int = 0  # deaths of the subject's process that were not seen again when the same was asked
    unfinished: dict[str, str] = field(default_factory=dict)  # what was not done, or not to its end, and why
    limit: int | None = None  # the number of cases at which it ends, if nothing ends it before
    shard: Shard | None = None  # the part of the plan that it went through; ``None`` for the whole plan
    missing: tuple[Shard, ...] = ()  # the parts of the plan that are missing, where it is made of several
    helpers: Helpers | None = None  # the workers that helped; ``None`` without any
    stop: Stop = Stop.BUDGET
    # The cases in their order, by which all counts of cases can be made again.
    log: Log = field(default_factory=Log, repr=False)
    # The failures, each with a different cause as far as that is known.
    findings: list[Finding] = field(default_factory=list)

    @property
    def finding(self) -> Finding | None:
        """The first finding, or ``None``."""
        return self.findings[0] if self.findings else None

    @property
    def total(self) -> int:
        """The number of cases compared while searching."""
        return self.checks.total()

    @property
    def asked(self) -> int:
        """The number of cases that the subject was asked: those compared, and one that hung, which ends the search."""
        hung = sum(is_last(finding.result.failure, finding.result.message) for finding in self.findings)
        return self.total + hung

    def interrupt(self, *left: str) -> None:
        """Note that an interrupt ended it, and what that left to be done."""
        self.stop = Stop.INTERRUPTED
        self.unfinished |= dict.fromkeys(left, "an interrupt came")

    def report(self, case: Case, result: Result, certificate: Certificate) -> Finding:
        """Add a failure to the findings, and return it as one."""
        finding = Finding(self.subject, case, result, certificate, self.accepted)
        self.findings.append(finding)
        return finding

    def take(self, planned: PlannedCase, result: Result) -> None:
        """Count a case with its result, and log it."""
        self.log.add(planned, result)
        if result.verdict is Verdict.UNSUPPORTED:
            self.unsupported[result.message] += 1
            return
        answered = result.verdict is not Verdict.BROKEN or result.nondeterministic
        self.checks[result.method if answered else ComparisonMethod.NONE] += 1
        self._count(planned, result)
        self.known.update([result.known_as] if result.known_as else [])
        self.spared.update(result.spared)
        fails = result.failed or result.verdict is Verdict.SUSPECT
        if fails or result.known_as in {finding.id for finding in self.findings}:  # also where a finding explains it
            self.failing[planned.config.dtype] += 1

    @property
    def inaccurate(self) -> tuple[str, ...]:
        """The functions whose errors are a finding, and are allowed for in its cases."""
        wrong = [
            accuracy for accuracy in self.accuracy if not accuracy.close and accuracy.accepted in self.accepted.measured
        ]
        return tuple(dict.fromkeys(accuracy.function for accuracy in wrong))

    @property
    def deaths(self) -> int:
        """The number of further deaths of the subject's process, after those that are findings."""
        return sum(self.known[finding.id] for finding in self.findings if finding.result.failure is Failure.CRASHED)

    def _count(self, planned: PlannedCase, result: Result) -> None:
        """Count a case that was compared, and the checks made in addition to agreement."""
        self.coverage.add(planned.config, planned.distribution, new_config=planned.first)
        self.not_compared.update({role_of(name) for name in result.not_compared})
        self.ignored.update(result.ignored)
        self.vacuous.update(result.vacuous)
        if result.margin is not None:
            self.margins.setdefault(planned.config.plain.dtype, Counter())[power(result.margin) or 0] += 1
        for what in result.also:
            check = what if what in BESIDE else RELATIONS_COUNT
            self.relations.update([what] if check is RELATIONS_COUNT else [])
            if check not in self.beside:
                self.beside[check] = Coverage()
            self.beside[check].add(planned.config, planned.distribution)

    @property
    def searched(self) -> SearchedScope:
        """The part of the scope that was met, by check."""
        checks = {AGREEMENT: self.coverage}
        checks |= {check: self.beside[check] for check in BESIDE if check in self.beside}
        return SearchedScope(self.subject, self.scope, checks, self.relations)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the subject after this search; ``None`` if it ended before the first case."""
        if self.findings:
            return min((finding.result.verdict for finding in self.findings), key=_GRAVEST.index)
        if self.unsupported_unrefused:
            return Verdict.DISAGREES
        if self.total:
            return Verdict.AGREES
        return Verdict.UNSUPPORTED if self.unsupported or self.stop is Stop.REFUSED else None


_GRAVEST: Final = (Verdict.DISAGREES, Verdict.BROKEN, Verdict.SUSPECT)
