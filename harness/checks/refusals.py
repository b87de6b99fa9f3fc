"""The check of refusals: a malformed call must raise the right exception, with the facts that its author needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.checks.breaks import LATER, Break, Broken, Fact, Variant, carries
from harness.checks.deviations import Deviation, Lapse, known
from harness.subjects.answer import Answer, Kind
from harness.subjects.call import Call

_FAILURES: Final = {Kind.ACCEPTED: Lapse.ACCEPTED, Kind.CRASHED: Lapse.CRASHED, Kind.HUNG: Lapse.HUNG}


@dataclass(frozen=True)
class Refusal:
    """The answer to a malformed call, and what is wrong with it."""

    answer: Answer
    lapse: Lapse | None = None
    """The lapse in the answer; ``None`` if the call was refused as it must be."""
    late: bool = False
    """True if it was refused, but at a later stage than possible."""
    missing: tuple[Fact, ...] = ()
    """The facts that the message does not mention."""
    deviations: tuple[Deviation, ...] = ()
    """Known deviations of torch that explain the lapse."""

    @property
    def new(self) -> bool:
        """True if this is a finding: something is wrong, and no known deviation explains it."""
        return self.lapse is not None and not self.deviations


def check_refusal(make: Callable[[Call], Answer], broken: Broken) -> Refusal:
    """Make the call, by a subject's ``call``, and compare the answer with what each break asks for.

    It may be about any of the breaks.
    """
    answer = make(broken.call)
    if answer.unsupported:
        return Refusal(answer)
    graded = [_graded(answer, *pair) for pair in broken.breaks]
    if fitting := [refusal for refusal in graded if refusal.lapse is None]:
        return min(fitting, key=lambda refusal: refusal.late)
    found = [_explanation(broken, pair, refusal) for pair, refusal in zip(broken.breaks, graded, strict=True)]
    deviations = tuple(deviation for deviation in found if deviation is not None)
    # If two breaks are accepted, a deviation must be known for each; an exception is about one of them.
    if answer.kind is Kind.ACCEPTED and None in found:
        deviations = ()
    mildest = min(graded, key=lambda refusal: list(Lapse).index(refusal.lapse or Lapse.CRASHED))
    return Refusal(answer, mildest.lapse, missing=mildest.missing, deviations=deviations)


def _graded(answer: Answer, kind: Break, variant: Variant) -> Refusal:
    """Grade the answer as an answer to this break."""
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
