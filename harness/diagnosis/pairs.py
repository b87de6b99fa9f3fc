"""pairs: several faults at once, as one fault that makes all of the mistakes."""

from __future__ import annotations

from dataclasses import dataclass

from harness.diagnosis.faults import Fault
from harness.diagnosis.faults.base import Changes
from harness.space.config import RNNConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair(Fault):
    """Several mistakes at once."""

    members: tuple[Fault, ...]

    def layers(self) -> list[Changes]:
        """Return the changes of all members; those of the first are asked first."""
        return [changes for fault in reversed(self.members) for changes in fault.layers()]

    @property
    def sentence(self) -> str:
        """All mistakes for people."""
        return "; and ".join(fault.sentence for fault in self.members)

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:
        """Return the lines of the first mistake."""
        return self.members[0].lines(config)

    def concerned(self, config: RNNConfig) -> list[str]:
        """Return the parameters of a config that any of the mistakes gets wrong."""
        return list(dict.fromkeys(name for fault in self.members for name in fault.concerned(config)))


def pair_of(one: Fault, other: Fault) -> Fault:
    """Return a fault that makes both mistakes; of one that both make, it is made once."""
    given = (*_members(one), *_members(other))
    members = tuple({fault.name: fault for fault in reversed(given)}.values())[::-1]
    if len(members) == 1:
        return members[0]
    return Pair(
        "And".join(fault.name for fault in members),
        "",
        {},
        family=members[0].family,
        stepwise=all(fault.stepwise for fault in members),
        across=any(fault.across for fault in members),
        members=members,
    )


def _members(fault: Fault) -> tuple[Fault, ...]:
    return fault.members if isinstance(fault, Pair) else (fault,)
