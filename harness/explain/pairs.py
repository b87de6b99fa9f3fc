"""pairs: several faults at once, as one fault that makes all of the mistakes."""

from __future__ import annotations

from functools import lru_cache

from harness.explain.faults import Fault
from harness.space.config import RNNConfig


class Pair(Fault):
    """makes several mistakes at once."""

    members: tuple[Fault, ...] = ()

    @property
    def sentence(self) -> str:
        return "; and ".join(fault.sentence for fault in self.members)

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:
        return self.members[0].lines(config)

    def concerned(self, config: RNNConfig) -> list[str]:
        return list(dict.fromkeys(name for fault in self.members for name in fault.concerned(config)))


def pair_of(one: Fault, other: Fault) -> Fault:
    """Return a fault that makes both mistakes: a class below those of both, with the parameters of both.

    Each class stands in it only once, because a mistake that is made twice is made once.
    """
    given = [*_members(one), *_members(other)]
    members = tuple({type(fault): fault for fault in reversed(given)}.values())[::-1]
    if len(members) == 1:
        return members[0]
    both = object.__new__(_class_of(tuple(type(fault) for fault in members)))
    for fault in reversed(members):
        both.__dict__.update(vars(fault))
    both.members = members
    return both


def _members(fault: Fault) -> tuple[Fault, ...]:
    return fault.members if isinstance(fault, Pair) else (fault,)


@lru_cache(None)
def _class_of(kinds: tuple[type[Fault], ...]) -> type[Pair]:
    stepwise = all(kind.stepwise for kind in kinds)
    ordered = sorted(kinds, key=lambda kind: -len(kind.__mro__))  # a class stands before those that it derives from
    return type("And".join(kind.__name__ for kind in kinds), (Pair, *ordered), {"stepwise": stepwise})
