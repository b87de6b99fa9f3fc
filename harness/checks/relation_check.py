"""The check of the relations: it tells whether a subject keeps them on a case.

Both sides of a relation come from the subject. If it declares that it keeps a relation to the bit (``exact_relations``,
for a config), any difference breaks the relation. Otherwise the two sides may differ by the sum of their tolerances:
each side is within its own end-to-end tolerance of the exact result, which is the same for both by the relation, and so
|A - B| <= a_A + a_B. The other side's tolerance is put together from those of its runs in the same way as its arrays,
because that is linear. If one run reads what another returned (a *composed* relation), the chain of runs is itself a
way to compute the case, with the same operations in the same formats, and its tolerance is the case's.

This needs no values of a reference, but becomes blind where errors grow: agreement is the sharp check. Beyond
agreement, relations see differences far below any tolerance if the subject promises equal bits.

The table shows how often torch 2.13 on an x86 CPU keeps each relation to the bit, in per cent (100 means always). The
first number of each pair is for outputs, the second for gradients:

                      in order                          otherwise
                      f32     f64     bf16    f16       f32     f64     bf16    f16
batch split           48 20   48 11   93 28   100 30    42 21   50 28   95 33   93 41
batch permutation     70 30   56 23   100 92  100 100   61 28   58 35   99 98   97 96
packed alone          63 71   38 30   100 50  100 28    43 42   49 30   90 41   96 51
packed equal lengths  93 100  92 78   100 100 100 100   93 85   83 66   75 80   80 79
padding unread        100 100 100 100 100 100 100 100   100 100 100 100 100 100 100 100
sorted or not         100 100 100 100 100 100 100 100   91 85   93 79   100 100 100 100
unbatched             100 100 100 100 100 100 100 100   98 100  98 100  97 96   98 100
batch first           94 100  79 83   72 88   56 73     95 94   93 83   93 95   91 95
time split            88 25   86 0    100 100 100 100   69 20   78 29   99 51   97 46
layer split           100 100 100 100 100 100 100 100   92 94   93 83   85 91   84 92
direction reversal    41 12   42 20   96 80   100 81    48 28   48 35   96 84   95 93
two directions        50 0    57 25   100 40  100 25    82 30   80 54   94 34   97 37
unit permutation      34 15   25 11   97 100  100 100   24 20   23 22   95 97   97 95
zero recurrence       100 40  95 42   100 75  100 40    81 58   80 51   88 80   82 80
grad mode             100 -   100 -   100 -   100 -     99 -    97 -    100 -   100 -
preparation           100 100 100 100 100 100 100 100   98 100  99 100  100 99  100 100
strides               100 89  79 82   59 82   50 60     88 90   87 78   89 92   91 92
wrt                   100 100 100 100 100 100 100 100   97 98   92 87   100 100 100 100
zero hx               100 100 100 100 100 100 100 100   100 100 100 100 100 100 100 100
training              100 100 100 100 100 100 100 100   100 100 100 100 100 100 100 100
loss sum              100 0   100 16  100 11  100 0     100 21  100 6   100 12  100 26
loss scale            - -     100 100 100 100 - -       100 100 100 100 100 100 - -

``in order`` is ``subjects.torch_module.in_order``. The numbers are from ``benchmarks/relations.py --cases 1600 --seed
2``: 17,971 trials of relations that apply, none of which was called broken; some cells rest on a few cases. A GEMM of
other sizes sums in another order, so neither splits nor packing are exact (for torch, other sizes are other operations:
pytorch issue 58128).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final

from harness.checks.agreement import arithmetic_of, unfit
from harness.checks.relations import RELATIONS, Arrays, Relation
from harness.checks.result import ComparisonMethod, Result, Verdict
from harness.oracle.arithmetic_assumptions import STRICT, U64, AcceptedErrors
from harness.oracle.bounded_array import Floats, to_float64
from harness.oracle.compare import Mismatch, compare, same_numbers
from harness.oracle.expected import ExpectedArray
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.pinned_numpy import np
from harness.oracle.setting import Setting
from harness.space.case import Array, Case, as_plain
from harness.space.config import RNNConfig
from harness.space.outcome import Failure, Outcome
from harness.space.scope import Scope, factors_of
from harness.subjects.protocol import Subject, masks_of, scope_of

# The suffix that marks the part of a relation about gradients, as in their names: ``batch first.grad``.
GRADIENT_SUFFIX: Final = ".grad"


def relations_for(case: Case) -> list[Relation]:
    """Return the relations that apply to a case, in an order drawn from its seed; a search checks one."""
    applicable = [relation for relation in RELATIONS.values() if relation.speaks_of(case)]
    return Random(case.seed).sample(applicable, len(applicable))


def relations_of(result: Result) -> tuple[Relation, ...]:
    """Return the relation that a result says is broken, by which its case is then shrunk; nothing if there is none."""
    return (RELATIONS[result.relation],) if result.relation else ()


def check_relations(
    subject: Subject,
    case: Case,
    accepted: AcceptedErrors = STRICT,
    *,
    relations: Iterable[Relation] | None = None,
    scope: Scope | None = None,
    outcome: Outcome | None = None,
) -> Result:
    """Check the first of ``relations_for`` that is possible on ``case``, or all given; return the first broken.

    The subject is asked nothing beyond ``scope``, which by default is all that it offers. A relation is skipped if it
    needs more, if it needs something that the subject refuses, or if it does not apply. ``outcome`` is what the subject
    gave on the case.
    """
    if case.config.device == "meta":
        return Result(Verdict.AGREES, method=ComparisonMethod.FORM)
    names: list[str] = []
    for relation in relations_for(case) if relations is None else relations:
        result = check_relation(subject, case, relation, accepted, scope=scope, outcome=outcome)
        if result is not None and result.verdict is not Verdict.AGREES:
            return result
        names += [] if result is None else [relation.name]
        if names and relations is None:
            break
    return Result(Verdict.AGREES, method=ComparisonMethod.RELATIONS, also=tuple(names))


def check_relation(
    subject: Subject,
    case: Case,
    relation: Relation,
    accepted: AcceptedErrors = STRICT,
    *,
    scope: Scope | None = None,
    outcome: Outcome | None = None,
) -> Result | None:
    """Check one relation on ``case``; return ``None`` if the relation does not apply or asks for too much."""
    if not relation.speaks_of(case):
        return None
    try:
        return _Application(subject, case, relation, accepted, scope or scope_of(subject), outcome=outcome).result()
    except _Ended as ended:
        return ended.result


def asked_by(subject: Subject, case: Case, relation: Relation, scope: Scope | None = None) -> list[Case]:
    """Return the cases on which a relation has the subject run; one of them may show by itself what is wrong."""
    trial = _Application(subject, case, relation, STRICT, scope or scope_of(subject))
    with suppress(_Ended):
        trial.result()
    return trial.asked


class _Ended(Exception):
    """Raised to end a trial before there is anything to compare, with a result or with ``None``."""

    def __init__(self, result: Result | None) -> None:
        super().__init__(result)
        self.result = result


class _Application:
    """One trial of a subject: one relation on one case."""

    def __init__(
        self,
        subject: Subject,
        case: Case,
        relation: Relation,
        accepted: AcceptedErrors,
        scope: Scope,
        *,
        outcome: Outcome | None = None,
    ) -> None:
        self._subject, self._relation, self._accepted, self._scope = subject, relation, accepted, scope
        self._case = relation.about(case)
        self.asked = [self._case]
        """Every case that the subject was run on."""
        self._outcome = outcome if self._case is case else None

    def result(self) -> Result:
        relation, case = self._relation, self._case
        returned = relation.derive(case, self._run)
        own = self._own()
        names = [name for name in own.arrays if name in returned]
        actual = _plain(case.config, {name: own.arrays[name] for name in names})
        derived = _plain(case.config, {name: returned[name] for name in names})
        if all(same_numbers(to_float64(actual[name]), to_float64(derived[name])) for name in names):
            return Result(Verdict.AGREES, method=ComparisonMethod.RELATIONS)
        mismatches: list[Mismatch] = []
        for within in self._within(own.arrays, derived):
            expected = {name: ExpectedArray(to_float64(derived[name]), within[name]) for name in names}
            if not (mismatches := compare(case.config.plain, actual, expected)):
                break
        return self._breaks(mismatches) if mismatches else Result(Verdict.AGREES, method=ComparisonMethod.RELATIONS)

    def _own(self) -> Outcome:
        """Return what the subject gives on the case itself; it is run only when this is needed."""
        if self._outcome is None:
            self._outcome = self._subject.run(self._case)
            if (bad := unfit(self._case, self._outcome)) is not None:
                raise _Ended(bad)
        return self._outcome

    def _run(self, case: Case) -> Arrays:
        if not _in_scope(self._scope, case.config, self._case.config):
            raise _Ended(None)
        self._own()  # otherwise an error of the case itself would be reported for the other run
        self.asked.append(case)
        outcome = self._subject.run(case)
        if outcome.failure is Failure.UNSUPPORTED or outcome.not_returned:
            raise _Ended(None)
        if (bad := unfit(case, outcome)) is not None:
            message = f"not the same with {self._relation.others}: {bad.message}" if bad.message else ""
            broken = replace(self._breaks(bad.mismatches), verdict=bad.verdict, message=message)
            raise _Ended(replace(broken, traceback=bad.traceback, raised=bad.raised))
        if self._relation.composed and not {"output", *case.config.form.final} <= outcome.arrays.keys():
            raise _Ended(None)
        return outcome.arrays

    def _breaks(self, mismatches: Sequence[Mismatch]) -> Result:
        named = tuple(
            replace(mismatch, relation=self._relation.name, others=self._relation.others) for mismatch in mismatches
        )
        return Result(Verdict.DISAGREES, named, method=ComparisonMethod.RELATIONS, relation=self._relation.name)

    def _within(self, arrays: Arrays, derived: Arrays) -> Iterator[dict[str, Floats]]:
        """Yield the allowed differences between the two sides; they are zero for what is declared exact.

        The first allows one side's tolerance, which usually is enough; the second allows those of both.
        """
        case, relation = self._case, self._relation
        exact = self._exact(arrays, derived)
        within = {name: np.zeros(array.shape) for name, array in derived.items()}
        if all(exact.values()):
            yield within
            return
        wide = [name for name in derived if not exact[name]]
        own = _plain(case.config, {name: array for name, array in self._tolerances(case).items() if name in derived})
        with np.errstate(over="ignore"):
            one_side = within | {name: own[name] + _added(derived[name]) for name in wide}
            yield one_side
            others = own
            if not relation.composed:
                returned = relation.derive(case, self._tolerances)
                others = _plain(case.config, {name: returned[name] for name in derived})
            yield one_side | {name: one_side[name] + others[name] for name in wide}

    def _exact(self, arrays: Arrays, names: Iterable[str]) -> dict[str, bool]:
        """Return for each array whether the subject declares that it keeps the relation to the bit there."""
        config, relation = self._case.config, self._relation
        declare = self._subject.capabilities.exact_relations
        if declare is None or not self._accepted.derived or not relation.exact(self._case, arrays):
            return dict.fromkeys(names, False)
        declared = declare(config)
        return {
            n: not self._of_readout(n) and relation.name + GRADIENT_SUFFIX * n.endswith(GRADIENT_SUFFIX) in declared
            for n in names
        }

    def _of_readout(self, name: str) -> bool:
        """Return whether an array went through the readout, for which no layer declares anything."""
        return self._case.config.output_size is not None and (name.endswith(GRADIENT_SUFFIX) or name == "readout")

    def _tolerances(self, case: Case) -> Arrays:
        """Return how far a correct subject's results may be from the exact result, in the shapes of the results."""
        arithmetic = arithmetic_of(self._subject, case, self._accepted)
        setting = Setting.of(replace(case, masks=self._masks(case)).plain(), arithmetic)
        expected = expect_whole_run(setting)
        return {
            name: np.nan_to_num(allowed.tolerance, nan=np.inf, posinf=np.inf).reshape(case.config.returned[name].shape)
            for name, allowed in expected.items()
        }

    def _masks(self, case: Case) -> dict[int, Array]:
        masks = masks_of(self._subject, case)
        if masks is None:
            raise _Ended(None)
        return masks


def _added(array: Array) -> Floats:
    """Return the rounding error of adding two parts in float64."""
    wide = to_float64(array)
    return np.where(np.isfinite(wide), U64 * np.abs(wide), 0.0)


def _plain(config: RNNConfig, arrays: Arrays) -> dict[str, Array]:
    """Return the results in the shapes of the plain form, in which padding is not compared."""
    return as_plain(config, arrays)


def _in_scope(scope: Scope, config: RNNConfig, known: RNNConfig) -> bool:
    """Return whether a scope has a config, ignoring factors that have the same value in a known config.

    Sizes are free unless they are pinned, and a config without gradients is always allowed.
    """
    here, there = factors_of(config), factors_of(known)
    free = _FREE if config.loss is not None else {*_FREE, "loss", "wrt"}
    return all(name in free or here[name] == there[name] or scope.allows(name, here[name]) for name in here)


_FREE: Final = frozenset({"dropout", "output_size"})  # factors that a relation changes only to their plainest value
