"""Examination: all that a subject is checked for, which is its cases, its refusals, and the statistics of dropout."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.checks.dropout import applies, check_dropout
from harness.checks.malformed import MalformedCallAnswers, RefusalDefect, check_refusals
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.checks.vacuous import MISTAKES, NO_GRADIENT, NO_RECURRENT
from harness.search.deadline import DeadlineSubject, Hang, TimeOver
from harness.search.search_options import SearchOptions
from harness.search.search_record import TIME_OVER, SearchRecord, Stop
from harness.space.conformance_profile import KERNEL
from harness.space.factor_table import SIZE_FACTORS
from harness.space.outcome import Outcome
from harness.space.scope import Scope
from harness.space.searched_scope import percent
from harness.subjects.protocol import Subject, has_more

DROPOUT_RUNS: Final = 74
"""The number of runs that the statistics of dropout takes for a subject of four real dtypes, two for each of 37 nets; a
search of fewer cases leaves it out.
"""

DROPOUT_REST: Final = "the statistics of dropout"  # what is checked after a search, in words
MALFORMED_REST: Final = "malformed calls"

LEAST_CASES: Final = 200
"""The number of cases that must agree before the subject is said to agree: a mistake that shows on one in 66 is met
with a probability of 95 %.
"""

LEAST_WITH_GRADIENTS: Final = 50
"""The number of these cases that must have gradients, if gradients are offered: a mistake on one in 17 is met as
surely.
"""

# The share of all pairs of values that a subject offers, without sizes, that must have met in these cases.
LEAST_PAIRS: Final = 0.9


class EqualBits(NamedTuple):
    """The cases, of those that were compared, in which a subject gives the very bits of another one."""

    to: str
    same: int
    of: int


def equal_of(stages: Sequence[str], same: Collection[bool]) -> EqualBits | None:
    """Return how many cases have the bits of the first of the stages; ``None`` if that was tried of no case."""
    return EqualBits(stages[0], sum(same), len(same)) if same else None


@dataclass
class Examination:
    """The checks made of a subject, and their results."""

    hunt: SearchRecord
    refusals: MalformedCallAnswers | None = (
        None  # the record of refusals; ``None`` if the subject cannot be given malformed calls
    )
    dropout: Result | None = None  # the result for the statistics of dropout; ``None`` if the subject draws no masks
    profile: str = KERNEL
    read_as: str = ""  # the names of the subject's parameters and what they are read as, if they are not nn.RNN's
    # The further facts of a broken statistics of dropout, by name: where it begins, and how it is run again.
    dropout_facts: Mapping[str, str] = field(default_factory=dict)

    # The cases in which it gives the bits of its first stage, such as eager torch; ``None`` if it has no stages.
    equal: EqualBits | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the subject; ``None`` if there is none."""
        if self.hunt.finding is not None:
            return self.hunt.verdict
        if self.dropout is not None and self.dropout.failed:
            return self.dropout.verdict
        if self.refusals is not None and self.refusals.findings:
            lapses = {finding.lapse for finding in self.refusals.findings}
            return Verdict.BROKEN if lapses <= {RefusalDefect.CRASHED, RefusalDefect.HUNG} else Verdict.DISAGREES
        little = self.hunt.verdict is Verdict.AGREES and not self.interrupted and (self.lacking or self.gaps)
        return Verdict.NOT_ENOUGH if little else self.hunt.verdict

    @property
    def lacking(self) -> list[str]:
        """The conditions missing before the subject can be said to agree, with how much of each was seen.

        A shard need not see enough by itself.
        """
        hunt = self.hunt
        if hunt.shard is not None:
            return []
        lacking = [f"no shard {shard}" for shard in hunt.missing]
        if (times := hunt.unrepeated) > 0:
            lacking.append(f"its process died {'once' if times == 1 else f'{times:,} times'}, which was not seen again")
        if hunt.total < LEAST_CASES:
            lacking.append(f"{hunt.total} of {LEAST_CASES} cases")
        losses = dict(hunt.coverage.factors.get("loss", {}))
        if any(hunt.scope.loss) and (gradients := sum(n for loss, n in losses.items() if loss)) < LEAST_WITH_GRADIENTS:
            lacking.append(f"{gradients} of {LEAST_WITH_GRADIENTS} cases with gradients")
        covered, missing = (_pairs(hunt, met=True), _pairs(hunt, met=False))
        if covered < LEAST_PAIRS * (covered + missing):
            lacking.append(f"{percent(covered, covered + missing)} of pairs of values")
        return lacking

    @property
    def gaps(self) -> Mapping[str, str]:
        """What it offers and is not compared, with the reason. Of a shard, that is said of the whole."""
        return self.hunt.gaps if self.hunt.shard is None else {}

    @property
    def unshown(self) -> dict[str, int]:
        """The mistakes that fewer than ``LEAST_WITH_GRADIENTS`` cases could have shown, with the number of these cases.

        Where fewer than ``LEAST_CASES`` were compared, or none by its numbers, that is said otherwise.
        """
        compared = self.hunt.total - self.hunt.checks[ComparisonMethod.FORM]
        if not compared or self.hunt.total < LEAST_CASES:
            return {}
        scope, applicable = self.hunt.scope, dict.fromkeys(MISTAKES, True)
        applicable[NO_GRADIENT] = any(scope.loss)
        applicable[NO_RECURRENT] = any(scope.loss) and {*scope.wrt} != {"inputs"}
        shown = {mistake: compared - self.hunt.vacuous[mistake] for mistake in MISTAKES if applicable[mistake]}
        return {mistake: number for mistake, number in shown.items() if number < min(LEAST_WITH_GRADIENTS, compared)}

    @property
    def interrupted(self) -> bool:
        """True if it was not finished."""
        return self.hunt.stop is Stop.INTERRUPTED or (self.refusals is not None and self.refusals.interrupted)


def _pairs(hunt: SearchRecord, *, met: bool) -> int:
    """Count the pairs of two factors' values that met, or did not.

    Pairs with sizes, and pairs that the subject's rules exclude, are not counted.
    """
    pairs = (pair for pair in hunt.coverage.interactions(hunt.scope, 2, met=met) if not {*SIZE_FACTORS} & pair.keys())
    return sum(not any(rule.excludes(pair) for rule in hunt.scope.rules) for pair in pairs)


def examine(
    subject: Subject,
    hunt: SearchRecord,
    options: SearchOptions = SearchOptions(),  # noqa: B008 - it does not change
    *,
    dropping_until: float = math.inf,
) -> Examination:
    """Check the rest after a search of a subject's cases: for a module, its refusals and the statistics of its dropout.

    Refusals belong to the kernel's profile only. A search of few cases leaves the statistics of dropout out. Nets with
    dropout are run up to ``dropping_until`` (``time.perf_counter``), and malformed calls are made up to the search's
    end. A finding in one of them does not stop the others, but an interrupted search does.
    """
    own = subject.capabilities
    done = Examination(hunt, profile=options.profile, read_as=own.read_as)
    call = own.call if options.profile == KERNEL and _with_numbers(hunt.scope) else None
    left = [DROPOUT_REST] * _drops(subject, hunt.scope, options.cases) + [MALFORMED_REST] * (call is not None)
    try:
        if DROPOUT_REST in left and not done.interrupted:
            done.dropout = _dropout(subject, hunt, dropping_until)
            left.remove(DROPOUT_REST)
        if call is not None and not done.interrupted:
            done.refusals = _refusals(call, hunt)
    except KeyboardInterrupt:
        hunt.interrupt()
    if done.interrupted:
        hunt.interrupt(*left)
    return done


def _refusals(call: Callable[[str, str, str], Outcome], done: SearchRecord) -> MalformedCallAnswers | None:
    """Make malformed calls in the plainest dtype, except on meta, where few of the rules of a call matter."""
    scope = done.scope
    made = check_refusals(call, scope.dtype[0], _with_numbers(scope)[0], done.until, cell=scope.values()["cell"][0])
    if made.late:
        done.unfinished[MALFORMED_REST] = TIME_OVER
    return None if made.late and not made.calls else made


def _with_numbers(scope: Scope) -> tuple[str, ...]:
    return tuple(device for device in scope.device if device != "meta")


def _drops(subject: Subject, scope: Scope, cases: int | None) -> bool:
    """Tell whether the statistics of dropout are checked: dropout in training must be in the scope, and numbers."""
    drops = any(scope.dropout) and True in scope.training and any(_with_numbers(scope))
    return drops and applies(subject) and has_more(subject) and (cases is None or cases >= DROPOUT_RUNS)


def _dropout(subject: Subject, done: SearchRecord, until: float) -> Result | None:
    """Check the statistics of dropout on every device that has numbers."""
    scope, results = done.scope, list[Result]()
    for device in dict.fromkeys(_with_numbers(scope)):
        try:
            results.append(check_dropout(DeadlineSubject(subject, until), device, done.seed, scope, until))
        except Hang as hang:
            results.append(hang.result)
        except TimeOver:
            done.unfinished[DROPOUT_REST] = TIME_OVER
    answered = [result for result in results if result.verdict is not Verdict.UNSUPPORTED]
    return next((result for result in answered if result.failed), answered[0] if answered else None)
