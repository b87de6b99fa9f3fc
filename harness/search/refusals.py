"""refusals: draws well-formed calls, breaks one thing in each, or two, and keeps what is not refused as it must be.

A search does not end with a finding: there is one for each break and what went wrong with it, made small at the end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from operator import ne
from random import Random
from typing import Any, Final

from harness.checks.deviations import Deviation, Lapse
from harness.checks.refusals import CallSubject, Refusal, check_refusal
from harness.space.answer import Kind
from harness.space.breaks import BREAKS, Break, Broken, broken
from harness.space.call import Base, Form
from harness.space.config import COMPLEX, RNNConfig
from harness.space.scope import SIZE_FACTORS, SIZES, Scope
from harness.subjects.protocol import scope_of

CASES: Final = 700
"""Malformed calls of a search that is given no number: each break comes up four times in each form of the input."""

_BATCHED: Final = {Form.BATCHED: True, Form.UNBATCHED: False}

_SMALL: Final = (1, 2, 3, 4, 5)
"""Sizes, unless the scope pins them: what is refused is refused for sizes that differ, however large they are."""

_TWICE: Final = 0.25
"""The share of calls that are broken twice."""

_PLAIN: Final = RNNConfig(1, 1)

_NOT_VARIED: Final = (
    *("training", "output_size", "loss", "wrt", "lengths", "enforce_sorted", "batched"),
    *("strides", "autocast", "grad_mode", "preparation"),
)
"""Factors that only values can show, and those that a call has in its own way: a ``Base`` says how it is packed."""


@dataclass(frozen=True)
class Wrong:
    """A malformed call that is not refused as it must be, on the plainest call that shows it."""

    broken: Broken
    refusal: Refusal


@dataclass
class Refusals:
    """What a search for calls that are not refused did, and what it found."""

    subject: str
    seed: int
    tried: Counter[str] = field(default_factory=Counter)
    """Malformed calls by the break; a call that is broken twice counts for either."""
    calls: int = 0
    refused: int = 0
    """Calls refused as they must be."""
    late: Counter[str] = field(default_factory=Counter)
    """Of these, calls broken once that were refused later than they could be, by the break."""
    unsupported: int = 0
    """Calls of which the subject says that it does not do them."""
    known: Counter[Deviation] = field(default_factory=Counter)
    """Calls that are met by a known deviation of torch's."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Well-formed calls that were not accepted, so that nothing follows from breaking them, by what was said."""
    findings: list[Wrong] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False


def hunt_refusals(subject: CallSubject, scope: Scope | None = None, *, cases: int = CASES, seed: int = 0) -> Refusals:
    """Make ``cases`` malformed calls of the configs in ``scope``, and report what is not refused as it must be.

    Without a scope, all that the subject offers is searched, on the CPU.

    The same arguments give the same search. Ctrl-C ends it with what was found so far. A call may end the process:
    a subject that is not trusted is to be run in another one.
    """
    record = Refusals(subject.name, seed)
    start = time.perf_counter()
    whole = scope or scope_of(subject)
    search = _Search(subject, _whole(whole), record, _forms(whole))
    try:
        search.run(cases, Random(seed))
        record.findings = [search.smallest(wrong) for wrong in record.findings]
    except KeyboardInterrupt:
        record.interrupted = True
    record.seconds = time.perf_counter() - start
    return record


def _whole(scope: Scope) -> Scope:
    """The scope, of small sizes where it pins none, and without what only values can show."""
    small: dict[str, Any] = {name: _SMALL for name in SIZE_FACTORS if set(getattr(scope, name)) >= set(SIZES)}
    if "N" in small:
        small["N"] = (*_SMALL, 0)
    called = {name: (getattr(_PLAIN, name),) for name in _NOT_VARIED}
    return scope.only(**small, **called)


def _forms(scope: Scope) -> frozenset[Form]:
    """The forms of the input that a scope has."""
    packed = {Form.PACKED, Form.BY_HAND} if any(scope.lengths) else set()
    return frozenset({form for form, there in _BATCHED.items() if there in scope.batched} | packed)


class _Search:
    """The state of one search."""

    def __init__(self, subject: CallSubject, scope: Scope, record: Refusals, forms: frozenset[Form]) -> None:
        self._deck = [(kind, form) for kind in BREAKS for form in kind.forms if form in forms]
        self._subject = subject
        self._scope = scope
        self._record = record
        self._usable: dict[Base, bool] = {}
        self._found: set[tuple[str, Lapse]] = set()
        self._costly: set[str] = set()
        """Breaks that ended the process or hung: each such call takes long, and one finding of it is enough."""

    def run(self, cases: int, random: Random) -> None:
        """Break ``cases`` calls; each break in each form comes up as often as the others, in a new order every time."""
        deck: list[tuple[Break, Form]] = []
        for _ in range(cases):
            deck = deck or random.sample(self._deck, len(self._deck))
            kind, form = deck.pop()
            kinds = _with_another(kind, form, random) if random.random() < _TWICE else (kind,)
            if self._costly.isdisjoint(kind.name for kind in kinds) and (drawn := self._drawn(kinds, form, random)):
                self._try(drawn)

    def _drawn(self, kinds: tuple[Break, ...], form: Form, random: Random) -> Broken | None:
        """A call that is broken so, of a base that the subject accepts; ``None`` where none is met in some draws."""
        if form is not Form.BATCHED and not any(self._scope.N):
            return None  # there are no sequences in the scope
        for _ in range(4):
            base = _base(self._scope, form, random)
            calls = list(broken(base, kinds))
            if calls and self._accepts(base):
                return random.choice(calls)
        return None

    def _accepts(self, base: Base) -> bool:
        """Whether the well-formed call is accepted."""
        if base not in self._usable:
            answer = self._subject.call(base.call)
            self._usable[base] = answer.kind is Kind.ACCEPTED
            if not self._usable[base]:
                said = f"{answer.classes[0]}: {answer.message}" if answer.classes else answer.kind.value
                self._record.unusable[f"{base.form.value}: {said}"] += 1
        return self._usable[base]

    def _try(self, drawn: Broken) -> None:
        record, refusal = self._record, check_refusal(self._subject, drawn)
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

    def _keep(self, drawn: Broken, refusal: Refusal) -> None:
        """Keep a finding, broken once where that shows it; there is one of each break and lapse."""
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
        """The same finding on the plainest base: no factor of it can be made plainer alone. A hang stays as it is."""
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
        """The plainest variant of these breaks that fails in this way on ``base``, if one does."""
        for candidate in broken(base, kinds):
            refusal = check_refusal(self._subject, candidate)
            if refusal.new and refusal.lapse is lapse:
                return Wrong(candidate, refusal)
        return None


def _with_another(kind: Break, form: Form, random: Random) -> tuple[Break, ...]:
    """A break and a second one that can be had with it."""
    fitting = [other for other in BREAKS if form in other.forms and not {*other.parts} & {*kind.parts}]
    return tuple(sorted((kind, random.choice(fitting)), key=BREAKS.index))


def _base(scope: Scope, form: Form, random: Random) -> Base:
    """A well-formed call of that form."""
    fields = {name: random.choice(getattr(scope, name)) for name in scope.values()}
    fields["dropout"], fields["training"] = random.choice(scope.modes)
    if fields["dtype"] in COMPLEX:  # of which torch takes tanh alone, and drops none
        fields["nonlinearity"] = "tanh" if "tanh" in scope.nonlinearity else "relu"
        fields["dropout"] = min(scope.dropout)  # a module is called as it is built, in training
    if form is not Form.BATCHED:
        fields["N"] = random.choice([N for N in scope.N if N])
    return Base(RNNConfig(**fields), form, enforce_sorted=form is not Form.PACKED or random.random() < 0.5)


def _plainer(base: Base, scope: Scope) -> Iterator[Base]:
    """Bases that are plainer in one factor; values of the scope stand plainest first."""
    for form in list(Form)[: list(Form).index(base.form)]:
        yield Base(base.config, form)
    if not base.enforce_sorted:
        yield Base(base.config, base.form)
    for name, values in scope.values().items():
        for value in takewhile(partial(ne, getattr(base.config, name)), values):
            yield Base(base.config.replace(**{name: value}), base.form, base.enforce_sorted)
