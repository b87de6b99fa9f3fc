"""The search for missing refusals: it breaks well-formed calls in one or two ways, and keeps wrong answers.

A finding does not end the search. There is one finding for each break and lapse, and it is shrunk at the end.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from operator import ne
from random import Random
from typing import Any, Final

from harness.checks.breaks import BREAKS, Break, Broken, broken
from harness.checks.cell_breaks import CELL_BREAKS
from harness.checks.deviations import Deviation, Lapse
from harness.checks.refusals import Refusal, check_refusal
from harness.space.config import PLAINEST, RNNConfig
from harness.space.constraints import CONSTRAINTS, settled
from harness.space.errors import UsageError
from harness.space.parts import RESULTS, WAY
from harness.space.scope import APART, SIZE_FACTORS, Scope
from harness.subjects.answer import Answer, Kind
from harness.subjects.call import Base, Call, CellBase, Form
from harness.subjects.protocol import Subject, scope_of

CASES: Final = 700
"""The number of malformed calls of a search by default: each break comes up four times in each form of the input."""

_BATCHED: Final = {Form.BATCHED: True, Form.UNBATCHED: False}

_BREAKS: Final = {Base: BREAKS, CellBase: CELL_BREAKS}
"""The breaks of the calls of a layer, and of a cell."""

_SMALL: Final = (1, 2, 3, 4, 5)
"""The sizes, unless the scope pins them; refusals depend on sizes that differ, not on how large they are."""

_TWICE: Final = 0.25
"""The share of calls that are broken twice."""

_NOT_VARIED: Final = ("training", *RESULTS, *WAY)
"""Factors that only values can show, and factors that a call sets in its own way: a ``Base`` says how it is packed."""


@dataclass(frozen=True)
class Wrong:
    """A malformed call that is not refused as it must be, reduced to the plainest call that shows it."""

    broken: Broken
    refusal: Refusal


@dataclass
class Refusals:
    """The record of a search for missing refusals: what it did, and what it found."""

    subject: str
    seed: int
    tried: Counter[str] = field(default_factory=Counter)
    """The number of malformed calls by break; a call that is broken twice counts for both."""
    calls: int = 0
    refused: int = 0
    """The number of calls refused as they must be."""
    late: Counter[str] = field(default_factory=Counter)
    """The number of these that were broken once and refused later than possible, by break."""
    unsupported: int = 0
    """The number of calls that the subject says it does not support."""
    known: Counter[Deviation] = field(default_factory=Counter)
    """The number of calls by known deviation of torch; a call may show several, and be refused all the same."""
    deviating: int = 0
    """The number of calls that were not refused as they must be, for a known deviation of torch."""
    unusable: Counter[str] = field(default_factory=Counter)
    """The number of well-formed calls that were not accepted, by what was said; breaking them would show nothing."""
    findings: list[Wrong] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


def hunt_refusals(
    subject: Subject, scope: Scope | None = None, *, cases: int = CASES, seed: int = 0, until: float = math.inf
) -> Refusals:
    """Make ``cases`` malformed calls of the configs in ``scope``, and report those that are not properly refused.

    Without a scope, everything that the subject offers on the CPU is searched. The same arguments give the same search.
    Ctrl-C ends it with what was found so far, and so does ``until`` (``time.perf_counter``). A call may end the
    process, so run an untrusted subject in another process. Raises ``UsageError`` for a subject that has no ``call``.
    """
    own = subject.capabilities
    if (call := own.call) is None:
        raise UsageError(f"{subject.name}: cannot be given malformed calls")
    record = Refusals(subject.name, seed)
    start = time.perf_counter()
    whole = scope or scope_of(subject)
    made = CellBase if own.recipe is not None and own.recipe.is_cell else Base
    search = _Search(call, _whole(whole), record, _forms(whole, made), made)
    try:
        search.run(cases, Random(seed), until)
        record.findings = [search.smallest(wrong) for wrong in record.findings]
    except KeyboardInterrupt:
        record.interrupted = True
    record.seconds = time.perf_counter() - start
    return record


def _whole(scope: Scope) -> Scope:
    """Return the scope with small sizes where it does not pin them, and without factors that only values can show."""
    small: dict[str, Any] = {name: _SMALL for name in SIZE_FACTORS if scope.is_free(name)}
    if "N" in small:
        small["N"] = (*_SMALL, 0)
    called = {name: (getattr(PLAINEST, name),) for name in _NOT_VARIED}
    return scope.only(**small, **called)


def _forms(scope: Scope, made: type[Base]) -> frozenset[Form]:
    """Return the forms of the input that a scope has; the step of a cell is never packed."""
    packed = {Form.PACKED, Form.BY_HAND} if any(scope.lengths) and made is Base else set()
    return frozenset({form for form, there in _BATCHED.items() if there in scope.batched} | packed)


class _Search:
    """The state of one search."""

    def __init__(
        self,
        call: Callable[[Call], Answer],
        scope: Scope,
        record: Refusals,
        forms: frozenset[Form],
        made: type[Base],
    ) -> None:
        self._kinds = _BREAKS[made]
        self._deck = [(kind, form) for kind in self._kinds for form in kind.forms if form in forms]
        self._made = made
        self._call = call
        self._scope = scope
        self._record = record
        self._usable: dict[Base, bool] = {}
        self._found: set[tuple[str, Lapse]] = set()
        self._costly: set[str] = set()
        """Breaks that ended the process or hung: each such call takes long, and one finding of it is enough."""

    def run(self, cases: int, random: Random, until: float) -> None:
        """Break ``cases`` calls; each break in each form comes up equally often, in a new order every round."""
        deck: list[tuple[Break, Form]] = []
        for _ in takewhile(lambda _: time.perf_counter() < until, range(cases)):
            deck = deck or random.sample(self._deck, len(self._deck))
            kind, form = deck.pop()
            kinds = self._with_another(kind, form, random) if random.random() < _TWICE else (kind,)
            if self._costly.isdisjoint(kind.name for kind in kinds) and (drawn := self._drawn(kinds, form, random)):
                self._try(drawn)

    def _drawn(self, kinds: tuple[Break, ...], form: Form, random: Random) -> Broken | None:
        """Return a call with these breaks whose base the subject accepts; ``None`` if a few draws give none."""
        if form is not Form.BATCHED and not any(self._scope.N):
            return None  # the scope has no sequences
        for _ in range(4):
            base = _base(self._scope, form, random, self._made)
            calls = list(broken(base, kinds))
            if calls and self._accepts(base):
                return random.choice(calls)
        return None

    def _accepts(self, base: Base) -> bool:
        """Return whether the well-formed call is accepted."""
        if base not in self._usable:
            answer = self._call(base.call)
            self._usable[base] = answer.kind is Kind.ACCEPTED
            if not self._usable[base]:
                said = f"{answer.classes[0]}: {answer.message}" if answer.classes else answer.kind.value
                self._record.unusable[f"{base.form.value}: {said}"] += 1
        return self._usable[base]

    def _try(self, drawn: Broken) -> None:
        record, refusal = self._record, check_refusal(self._call, drawn)
        record.calls += 1
        record.tried.update(kind.name for kind in drawn.kinds)
        record.known.update(refusal.deviations)
        if refusal.answer.unsupported:
            record.unsupported += 1
        elif refusal.lapse is None:
            record.refused += 1
            record.late.update([drawn.name] if refusal.late and len(drawn.kinds) == 1 else [])
        elif refusal.new:
            self._keep(drawn, refusal)
        else:
            record.deviating += 1

    def _keep(self, drawn: Broken, refusal: Refusal) -> None:
        """Keep a finding, broken only once if that shows it; there is one finding of each break and lapse."""
        for kind in drawn.kinds if len(drawn.kinds) > 1 else ():
            if (alone := self._shows(drawn.base, (kind,), refusal.lapse)) is not None:
                drawn, refusal = alone.broken, alone.refusal
                break
        assert refusal.lapse is not None
        if (drawn.name, refusal.lapse) not in self._found:
            self._found.add((drawn.name, refusal.lapse))
            self._costly.update(kind.name for kind in drawn.kinds if refusal.lapse in {Lapse.CRASHED, Lapse.HUNG})
            self._record.findings.append(Wrong(drawn, refusal))

    def smallest(self, wrong: Wrong) -> Wrong:
        """Return the finding on the plainest base: no factor of it can be made plainer alone. A hang is not shrunk."""
        kinds, lapse = wrong.broken.kinds, wrong.refusal.lapse
        if lapse is Lapse.HUNG:
            return wrong
        wrong = self._shows(wrong.broken.base, kinds, lapse) or wrong
        while True:
            for base in _plainer(wrong.broken.base, self._scope):
                if self._accepts(base) and (found := self._shows(base, kinds, lapse)) is not None:
                    wrong = found
                    break
            else:
                return wrong

    def _shows(self, base: Base, kinds: tuple[Break, ...], lapse: Lapse | None) -> Wrong | None:
        """Return the plainest variant of these breaks that fails in this way on ``base``, or ``None``."""
        for candidate in broken(base, kinds):
            refusal = check_refusal(self._call, candidate)
            if refusal.new and refusal.lapse is lapse:
                return Wrong(candidate, refusal)
        return None

    def _with_another(self, kind: Break, form: Form, random: Random) -> tuple[Break, ...]:
        """Return a break together with a second one that can be combined with it."""
        fitting = [other for other in self._kinds if form in other.forms and not {*other.parts} & {*kind.parts}]
        return tuple(sorted((kind, random.choice(fitting)), key=self._kinds.index))


def _base(scope: Scope, form: Form, random: Random, made: type[Base] = Base) -> Base:
    """Return a well-formed call of that form."""
    fields = {name: random.choice(getattr(scope, name)) for name in scope.values() if name not in APART}
    fields["dropout"], fields["training"] = random.choice(scope.modes)
    # A module is called as it is built. What is pinned does not give way.
    allowed = [
        one
        for one in CONSTRAINTS
        if one.error or one.way_out is None or one.way_out[1] in scope.values()[one.way_out[0]]
    ]
    fields = settled({**fields, "training": True}, allowed) | {"training": False}
    if form is not Form.BATCHED:
        fields["N"] = random.choice([N for N in scope.N if N])
    return made(RNNConfig(**fields), form, enforce_sorted=form is not Form.PACKED or random.random() < 0.5)


def _plainer(base: Base, scope: Scope) -> Iterator[Base]:
    """Yield bases that are plainer in one factor; the scope lists values plainest first."""
    for form in list(Form)[: list(Form).index(base.form)]:
        yield replace(base, form=form, enforce_sorted=True)
    if not base.enforce_sorted:
        yield replace(base, enforce_sorted=True)
    for name, values in scope.values().items():
        for value in takewhile(partial(ne, getattr(base.config, name)), values):
            yield replace(base, config=base.config.replace(**{name: value}))
