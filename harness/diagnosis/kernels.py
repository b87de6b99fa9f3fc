"""kernels: the settings of torch and its libraries that make a failure go away, and what ran in it.

The failing case is run again under each setting alone, in a fresh process each. A mistake in a layer's own code fails
under all of them. A kernel's defect goes away with the kernel. A subject that has stages, such as a compiled module, is
run stage by stage.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from harness.checks.agreement import Observation
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import WholeCause
from harness.diagnosis.failure_conditions import like
from harness.diagnosis.first_departure import judge_worst
from harness.search.deadline import DeadlineSubject, Hang
from harness.space.case import Case
from harness.space.errors import UsageError
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject
from harness.subjects.torch_variants import KERNEL_SWITCHES

SubjectCheck = Callable[[Subject, Case], Result]


class FailingStage(NamedTuple):
    """The first stage of a subject that fails as the subject does (``Capabilities.stages``)."""

    name: str
    passes: tuple[str, ...]  # The stages before it; each agrees
    # The largest difference in each of these, as a multiple of its tolerance; ``None`` where no number tells.
    margins: tuple[float | None, ...]
    # The worst element of the subject itself, as a multiple of its tolerance; ``None`` if not a number is wrong.
    off: float | None


@dataclass(frozen=True)
class KernelSwitchResults:
    """The results of a failing case under other settings."""

    passes: tuple[str, ...] = ()  # The names of the switches under which it agrees
    fails: tuple[str, ...] = ()  # The names of the switches under which it fails in the same way
    ran: tuple[str, ...] = ()  # The implementations of oneDNN that ran in it, with their shapes
    stage: FailingStage | None = None  # The stage that fails first; ``None`` for a subject without stages


NONE: Final = KernelSwitchResults()


def kernels_of(subject: Subject, case: Case, result: Result, check: SubjectCheck) -> KernelSwitchResults:
    """Run a failing case in every stage and under every switch of its device; ``NONE`` if there are none of both."""
    process, stage = subject.capabilities.process, failing_stage(subject, case, result, check)
    if process is None or not process.switchable:
        return NONE if stage is None else KernelSwitchResults(stage=stage)
    passes, fails = [], []
    for name, switch in KERNEL_SWITCHES.items():
        if not switch.alone or switch.on != case.config.device.partition(":")[0]:
            continue
        with suppress(UsageError, Hang):  # a process that does not start, or does not answer, tells nothing
            with closing(process.switched(name)) as switched:
                answer = check(DeadlineSubject(switched), case)
            if answer.verdict is Verdict.AGREES:
                passes.append(name)
            elif like(answer) == like(result):
                fails.append(name)
    return KernelSwitchResults(tuple(passes), tuple(fails), process.kernels(case), stage)


def failing_stage(subject: Subject, case: Case, result: Result, check: SubjectCheck) -> FailingStage | None:
    """Return the first stage that fails like ``result``; ``None`` if one before it neither agrees nor does so."""
    passes: dict[str, float | None] = {}
    for name in subject.capabilities.stages:
        with suppress(UsageError, Hang), IsolatedSubject(name) as stage:
            answer = check(DeadlineSubject(stage), case)
            if answer.verdict is Verdict.AGREES:
                passes[name] = answer.margin
                continue
            return _failing(name, passes, result) if like(answer) == like(result) else None
        return None
    return _failing(subject.name, passes, result) if passes else None


def _failing(name: str, passes: Mapping[str, float | None], result: Result) -> FailingStage:
    """Return the stage of that name; what is exact says how far off the subject is, where the judge can tell."""
    judgement = judge_worst(result)
    off = None if judgement is None else judgement.subject
    if off is None and result.mismatches and (sites := result.mismatches[0].sites):
        off = sites[0].difference / sites[0].tolerance if sites[0].tolerance else math.inf
    return FailingStage(name, tuple(passes), tuple(passes.values()), off)


@dataclass(frozen=True)
class KernelCause(WholeCause):
    """What recognises failures of a like kind that go away with the same kernel as a finding."""

    original: Result
    switched: Subject  # the subject under the switch that makes it go away
    check: SubjectCheck

    def explains(self, _subject: Subject, observation: Observation, result: Result) -> bool:
        """Tell whether the failure is of a like kind, and the case that was observed agrees under the switch."""
        if like(result) != like(self.original) or observation.unfit is not None or not result.mismatches:
            return False
        if result.mismatches[0].sort is not self.original.mismatches[0].sort:
            return False
        with suppress(Hang):
            return self.check(DeadlineSubject(self.switched), observation.case).verdict is Verdict.AGREES
        return False
