"""The options of a search."""

from dataclasses import dataclass

from harness.checks.known_failures import KnownFailure
from harness.oracle.arithmetic_assumptions import AcceptedErrors, accepted
from harness.search.capability_discovery import DiscoveredScope
from harness.search.own_weights import OwnWeights
from harness.search.plan_shards import Shard
from harness.search.workers import WorkerPool
from harness.space.conformance_profile import KERNEL
from harness.space.errors import require_int, require_seconds, require_type


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search. Raises ``UsageError`` for values that make no sense.

    The same options give the same search, but for ``seconds``; the number of ``workers`` changes nothing.
    """

    cases: int | None = None  # compared at most; without any limit ``USUAL_CASES`` or, if it is slow, ``BRIEF``
    seconds: float | None = None  # for everything, explanations included
    seed: int = 0  # chooses the cases
    profile: str = KERNEL  # the profile that the subject is held to
    tolerance: str = "derived"  # the difference that is accepted, as its user wrote it
    own: tuple[KnownFailure, ...] = ()  # known failures of the subject; cases that they cover are counted, and pass
    shard: Shard | None = None  # the part of the cases; all parts together are those of one search
    workers: WorkerPool | None = None  # they share the work, each with a copy of the subject, made by pickle
    weights: OwnWeights | None = None  # those that all cases have
    slow: bool = False  # each new shape takes the subject long, as in ``Capabilities``
    pinned: frozenset[str] = frozenset()  # the factors that its user pinned
    narrowed: DiscoveredScope | None = None  # what the subject supports, if that is known

    def __post_init__(self) -> None:
        if self.cases is not None:
            require_int("cases", self.cases, 1)
        if self.seconds is not None:
            require_seconds("seconds", self.seconds)
        require_int("seed", self.seed, 0)
        if self.shard is not None:
            require_type("shard", self.shard, Shard, "Shard(3, 8) is the third of eight")
        accepted(self.tolerance)

    @property
    def accepted(self) -> AcceptedErrors:
        """The differences that ``tolerance`` accepts."""
        return accepted(self.tolerance)
