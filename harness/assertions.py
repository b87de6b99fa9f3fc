"""Assertions for a user's own tests: assert_agrees on a case, and assert_agrees_on a part of the space."""

import inspect
import os
import sys
from functools import lru_cache, partial
from typing import Any, Final

from hypothesis import currently_in_test_context, reject

from harness.checks.case_checks import check as check_everything
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic_assumptions import accepted
from harness.report.facts import plain_finding
from harness.search.capability_discovery import narrow
from harness.search.evidence import weigh
from harness.search.plan_shards import Shard
from harness.search.search import hunt
from harness.search.search_record import Stop
from harness.space.case import Case
from harness.space.errors import require_type
from harness.space.scope import Scope
from harness.space.strata import Stratum
from harness.subjects.protocol import Subject, Unsupported, choose_devices, scope_of
from harness.subjects.registry import as_subject


class Disagreement(AssertionError):
    """A subject failed on a case; the error carries both, and the result that says how."""

    def __init__(self, subject: Subject, case: Case, result: Result) -> None:
        super().__init__(f"{plain_finding(subject.name, case.config, result)}\n{case!r}")
        self.subject = subject
        self.case = case
        self.result = result


def offered(subject: Any, **only: Any) -> Scope:
    """Return the part of the space that ``subject`` does not refuse, with factors pinned as by ``Scope.only``.

    To find this out, the subject is called once for each value of each factor, at the smallest sizes. ``subject`` is as
    in ``assert_agrees``. ::

        @given(case=cases(offered(rnn)))
        def test_my_kernel(case):
            assert_agrees(rnn, case)
    """
    subject = _subject(subject)
    return narrow(subject, _everywhere(subject).only(**only), refused_only=True).scope


def assert_agrees(subject: Any, case: Case, *, tolerance: str = "derived") -> None:
    """Assert that ``subject`` computes on ``case`` what ``nn.RNN`` is documented to compute.

    ``tolerance`` is a looser one than the dtype's own, as for the command's ``--tolerance``. A case that is only
    suspicious is tried on other values of its distribution, and fails if the suspicion repeats.

    ``subject`` is a function ``rnn(x, h0, weights, config) -> (output, h_n)``, a drop-in class for ``nn.RNN``, a
    ``Subject``, or the name of one. Raises ``Disagreement`` if it fails. A config that it refuses is rejected inside a
    Hypothesis test, and raises ``Unsupported`` outside of one. Raises ``SubjectUnavailable`` if ``subject`` cannot be a
    subject.
    """
    __tracebackhide__ = True
    require_type("case", case, Case, "draw(config) makes one")
    original, subject = subject, _subject(subject)
    check = partial(check_everything, subject, accepted=accepted(tolerance), scope=_relations_of(original))
    result = check(case)
    if result.verdict is Verdict.UNSUPPORTED:
        if currently_in_test_context():
            reject()
        raise Unsupported(f"{subject.name} does not support {case.config!r}: {result.message}")
    repeats = False
    if result.verdict is Verdict.SUSPECT:
        suspicion = weigh(case, result, check)
        case, result, repeats = suspicion.case, suspicion.result, suspicion.repeats
    if result.failed or repeats:  # in one place, because Hypothesis takes two places for two failures
        raise Disagreement(subject, case, result)


def assert_agrees_on(
    subject: Any,
    scope: Scope | Stratum,
    *,
    cases: int = 100,
    seed: int = 0,
    shard: str | None = None,
    tolerance: str = "derived",
) -> None:
    """Assert that a search of ``scope`` with ``cases`` cases finds none on which ``subject`` disagrees.

    A failing case is shrunk first. For test items that several workers can share, see ``strata``, which gives each item
    a part of the space of its own, and take only the ``shard`` ``"3/8"`` of the cases in each of eight items. No case
    is in two of them; of few cases, an item may have none. Another ``seed`` gives other cases. ``subject``,
    ``tolerance`` and the errors raised are as in ``assert_agrees``; a subject that refuses the whole scope raises
    ``Unsupported``. If it refuses a whole stratum, pytest skips the item with the reason.
    """
    __tracebackhide__ = True
    if not isinstance(scope, Stratum):
        require_type("scope", scope, Scope, "Scope() is all of the space, and strata() its parts")
    subject = _subject(subject)
    within = scope.scope if isinstance(scope, Stratum) else scope
    part = None if shard is None else Shard.of_text(shard)
    record = hunt(subject, within, cases=cases, seed=seed, tolerance=tolerance, shard=part)
    if record.stop is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if (finding := record.finding) is not None:
        raise Disagreement(subject, finding.case, finding.result)
    if record.unsupported_unrefused:
        raise Disagreement(subject, *next(iter(record.unsupported_unrefused.values())))
    nothing_to_do = record.shard is not None and record.verdict is None
    if record.verdict is not Verdict.AGREES and not nothing_to_do:
        reason = "; ".join(dict.fromkeys(record.refused.values())) or "it refused every case"
        reason = f"{subject.name} supports nothing in this scope: {reason}"
        if isinstance(scope, Stratum) and "PYTEST_CURRENT_TEST" in os.environ:
            sys.modules["pytest"].skip(reason)
        raise Unsupported(reason)


def _subject(original: Any) -> Subject:
    return _cached(original) if isinstance(original, str | type) else as_subject(original)


def _everywhere(subject: Subject) -> Scope:
    """Return everything that is asked of a subject, on every device on which it runs."""
    return scope_of(subject).only(device=choose_devices(subject, ()))


def _relations_of(original: Any) -> Scope | None:
    """Return the part of the space on which relations may run a subject: what it supports, without errors and refusals.

    For a ``Subject``, which says what it offers, this is ``None``: all of its offers.
    """
    if isinstance(original, Subject) and not isinstance(original, type):
        return None
    parts = _parts(original)
    key = tuple(map(id, parts))
    if key not in _RELATIONS:
        subject = _subject(original)
        _RELATIONS[key] = parts, narrow(subject, _everywhere(subject)).scope
        if len(_RELATIONS) > MOST_SUBJECTS:
            _RELATIONS.pop(next(iter(_RELATIONS)))
    return _RELATIONS[key][1]


def _parts(original: Any) -> tuple[Any, ...]:
    """Return what a function computes with, which stays the same when the function is made again; else the object."""
    if inspect.ismethod(original):
        return (original.__self__, *_parts(original.__func__))
    if not inspect.isfunction(original):
        return (original,)
    defaults = (*(original.__defaults__ or ()), *(original.__kwdefaults__ or {}).values())
    return (original.__code__, *defaults, *(original.__closure__ or ()))


MOST_SUBJECTS: Final = 32  # The number of subjects that are kept; few test runs have more

_RELATIONS: dict[tuple[int, ...], tuple[tuple[Any, ...], Scope]] = {}
"""The scopes by the identities of a subject's parts. The parts are kept, too, so that no other object gets one of these
identities.
"""

# The subjects of names and classes, so that torch modules are not built again for every example.
_cached = lru_cache(MOST_SUBJECTS)(as_subject)
