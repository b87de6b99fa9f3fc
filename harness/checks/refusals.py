"""refusals: whether a malformed call is refused, by the right exception, with the facts that its author needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from harness.checks.deviations import Deviation, Lapse, known
from harness.space.answer import Answer, Kind
from harness.space.breaks import LATER, Break, Broken, Fact, Variant, carries
from harness.space.call import Call

_FAILURES: Final = {Kind.ACCEPTED: Lapse.ACCEPTED, Kind.CRASHED: Lapse.CRASHED, Kind.HUNG: Lapse.HUNG}


@runtime_checkable
class CallSubject(Protocol):
    """A subject whose module can be used as a whole, from its constructor on."""

    @property
    def name(self) -> str:
        """How the subject is asked for, and what reports call it."""
        ...

    def call(self, call: Call) -> Answer:
        """What comes of a call, malformed or not."""
        ...


@dataclass(frozen=True)
class Refusal:
    """How a malformed call was answered, and what is wrong with that."""

    answer: Answer
    lapse: Lapse | None = None
    """``None`` if it was refused as it must be."""
    late: bool = False
    """Whether it was refused, but at a later stage than it could have been."""
    missing: tuple[Fact, ...] = ()
    """What the message does not mention."""
    deviations: tuple[Deviation, ...] = ()
    """Known deviations of torch's that explain the lapse."""

    @property
    def new(self) -> bool:
        """Whether this is a finding: something is wrong, and no known deviation explains it."""
        return self.lapse is not None and not self.deviations


def check_refusal(subject: CallSubject, broken: Broken) -> Refusal:
    """Make the call, and hold the answer against what each of its breaks asks for; the answer may be about any."""
    answer = subject.call(broken.call)
    if answer.unsupported:
        return Refusal(answer)
    graded = [_graded(answer, *pair) for pair in broken.breaks]
    if fitting := [refusal for refusal in graded if refusal.lapse is None]:
        return min(fitting, key=lambda refusal: refusal.late)
    found = [_explanation(broken, pair, refusal) for pair, refusal in zip(broken.breaks, graded, strict=True)]
    deviations = tuple(deviation for deviation in found if deviation is not None)
    # What accepts two breaks has to be known for either; one exception is about one of them.
    if answer.kind is Kind.ACCEPTED and None in found:
        deviations = ()
    mildest = min(graded, key=lambda refusal: list(Lapse).index(refusal.lapse or Lapse.CRASHED))
    return Refusal(answer, mildest.lapse, missing=mildest.missing, deviations=deviations)


def _graded(answer: Answer, kind: Break, variant: Variant) -> Refusal:
    """The answer, taken for one to this break."""
    if answer.kind in _FAILURES:
        return Refusal(answer, _FAILURES[answer.kind])
    assert answer.stage is not None  # true of every refusal
    late = answer.stage.place > kind.stage.place
    if not {*answer.classes} & {*(LATER if late else kind.raises)}:
        return Refusal(answer, Lapse.CLASS, late)
    missing = () if late else tuple(fact for fact in variant.facts if not carries(answer.message, fact))
    return Refusal(answer, Lapse.MESSAGE if missing else None, late, missing)


def _explanation(broken: Broken, pair: tuple[Break, Variant], refusal: Refusal) -> Deviation | None:
    kind, variant = pair
    if refusal.lapse is None:
        return None
    said = f"{refusal.answer.classes[0]}: {refusal.answer.message}" if refusal.answer.classes else ""
    return known(refusal.lapse, kind.name, f"{variant.label}\n{broken.call.as_code()}", said)
