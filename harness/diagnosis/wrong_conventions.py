"""wrong_conventions: the conventions of which a subject works as if it had declared them, or had not.

It is run as if it had declared others. If it agrees then, on the failing case and on fresh ones where it otherwise
fails, too, its declaration is the cause, whatever the failure looks like.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Final

from harness.checks.agreement import Observation, check_agreement
from harness.checks.result import Result, Verdict
from harness.diagnosis.experiments import WholeCause
from harness.diagnosis.fresh_cases import fresh_cases
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.oracle.compare import same_numbers
from harness.search.deadline import DeadlineSubject, Hang
from harness.space.case import Case
from harness.space.outcome import Outcome
from harness.space.scope import Scope
from harness.space.values import draw
from harness.subjects.conventions import Conventions, turned
from harness.subjects.protocol import Subject

# The number of fresh cases on which a subject must fail as it is declared, and agree as it is declared instead.
FRESH_WITH_DECLARATION: Final = 3

MOST_DECLARED: Final = 24
"""The number of fresh cases that are tried at most; a generic case of other sizes, with which they begin, shows every
convention but ``batch_first`` of one sequence of one step."""

# How a subject works that has not declared a convention, and one that has declared it wrongly, for people. A run can
# tell these from none. What is declared as ``zero_state_only`` is asked for less, which no run shows to be wrong.
TESTABLE_CONVENTIONS: Final = {
    "one_bias": ("works as if it had one bias", "works as if it had two biases"),
    "transposed": ("works as if its weights were transposed", "works as if its weights were not"),
    "batch_first": ("works as if batch_first were always True", "works as if batch_first were always False"),
    "last_output_only": ("returns the last output alone", "returns every output"),
}


@dataclass(frozen=True)
class WrongConventions(WholeCause):
    """The declaration with which a subject would agree."""

    declared: Conventions
    instead: Conventions
    # The number of fresh cases, beside the failing one, on which it fails as declared, and agrees with the other.
    fresh: int

    @property
    def sentence(self) -> str:
        wrong = [name for name in self.declared.names if name not in self.instead.names]
        missing = [name for name in self.instead.names if name not in self.declared.names]
        parts = [f"declares {name}, but {TESTABLE_CONVENTIONS[name][1]}" for name in wrong]
        if missing:
            [name, *others], meant = missing, "" if self.declared.forms else ", if that is meant"
            as_if = f"works as if it declared {', '.join(missing)}" if others else TESTABLE_CONVENTIONS[name][0]
            parts.append(f"{as_if}: declare {'them' if others else name}{meant}")
        return "; ".join(parts)

    @property
    def evidence(self) -> str:
        return f"so declared, it agrees on this case and on {self.fresh} fresh ones; as it is, it fails on them"

    def explains(self, subject: Subject, observation: Observation, _result: Result) -> bool:
        """Tell if the subject agrees on the case as if it had declared the other conventions."""
        case = _laid_out(observation.case, subject, self.instead)
        with suppress(Hang):
            return check_agreement(_as(subject, self.instead), case).verdict is Verdict.AGREES
        return False


class _DeclaredConventions:
    """A subject as if it had declared other conventions."""

    def __init__(self, subject: Subject, conventions: Conventions) -> None:
        self.name, self.capabilities = subject.name, subject.capabilities
        self._subject, self._conventions = subject, conventions

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        run_as = self.capabilities.run_as
        assert run_as is not None
        return run_as(case, self._conventions)


def instead_of(
    subject: Subject, case: Case, scope: Scope, accepted: AcceptedErrors = STRICT, until: float = math.inf
) -> WrongConventions | None:
    """Return the declaration with which a subject that fails on a case would agree; ``None`` if none or several would.

    The one that differs least from the subject's own is chosen. If a run hangs there is none, and after ``until``
    (``time.perf_counter``) it raises ``Late``.
    """
    own = subject.capabilities.conventions
    if subject.capabilities.run_as is None:
        return None
    cases = [case, *islice(fresh_cases(case.config, scope), MOST_DECLARED)]
    # The other layout is contiguous: where x is not, that alone may make the failure go away.
    toggled = [name for name in TESTABLE_CONVENTIONS if name != "batch_first" or case.config.strides == "contiguous"]
    with suppress(Hang):
        for count in range(1, len(toggled) + 1):
            causes = []
            for names in combinations(toggled, count):
                conventions = own.switched(*names)
                if conventions.batch_first and not _ignores_layout(subject, case, conventions):
                    continue
                as_other = DeadlineSubject(_as(subject, conventions), until)
                if fresh := _fits(subject, as_other, conventions, cases, accepted):
                    causes.append(WrongConventions(own, conventions, fresh))
            if causes:
                return causes[0] if len(causes) == 1 else None
    return None


def _ignores_layout(subject: Subject, case: Case, conventions: Conventions) -> bool:
    """Tell whether a subject reads the same numbers alike whatever batch_first is, if it takes both values of that.

    Otherwise it is right with another value than the one it fails with, which is no declaration.
    """
    if len(set(subject.capabilities.offers.get("batch_first", (False, True)))) < 2:
        return True
    config = case.config.replace(T=3, N=3, batched=True, batch_first=False, lengths=None, loss=None)
    plain = draw(config, "normal", 0)
    both = plain, Case.from_arrays(config.replace(batch_first=True), plain.arrays)
    run = _DeclaredConventions(subject, replace(conventions, batch_first=False)).run
    arrays, others = (run(each).arrays for each in both)
    return bool(arrays) and all(name in others and same_numbers(arrays[name], others[name]) for name in arrays)


def _as(subject: Subject, conventions: Conventions) -> Subject:
    return DeadlineSubject(_DeclaredConventions(subject, conventions))


def _fits(
    subject: Subject, as_other: Subject, conventions: Conventions, cases: Iterable[Case], accepted: AcceptedErrors
) -> int:
    """Return on how many fresh cases another declaration makes right what fails; 0 if it does not do so everywhere.

    The first of the ``cases`` is the failing one.
    """

    def verdict(candidate: Case) -> Verdict:
        return check_agreement(
            as_other, _laid_out(candidate, subject, conventions), accepted=accepted, with_probes=False
        ).verdict

    first, *fresh = cases
    if verdict(first) is not Verdict.AGREES:
        return 0
    hits = 0
    for case in fresh:
        here = check_agreement(subject, case, accepted=accepted, with_probes=False).verdict
        if here in {Verdict.AGREES, Verdict.UNSUPPORTED}:
            continue
        there = verdict(case)
        if there not in {Verdict.AGREES, Verdict.UNSUPPORTED}:
            return 0
        hits += there is Verdict.AGREES
        if hits == FRESH_WITH_DECLARATION:
            return hits
    return 0


def _laid_out(case: Case, subject: Subject, conventions: Conventions) -> Case:
    """Return a case in the layout in which another declaration is asked for it."""
    if conventions.batch_first:
        return turned(case, batch_first=True)
    return turned(case, batch_first=False) if subject.capabilities.conventions.batch_first else case
