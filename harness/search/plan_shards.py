"""Divide a plan into shards, the parts that several runs share without knowing each other."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from harness.search.plan import PlanChunk
from harness.space.errors import UsageError

MOST_SHARDS: Final = 1_000  # The most shards of a plan; GitHub's matrix has at most 256 jobs

GRADIENTS_COST: Final = 2
"""The cost of a case's gradients, in plain cases: torch takes 13 ms for a plain case, 26 ms more for its gradients, 14
for probes, and 16 for a relation, each of which counts as one.
"""

# The cost of all checks of a module besides its cases, in plain cases: 1.9 s for torch. The first shard makes them.
OTHER_CHECKS_COST: Final = 150


class Shard(NamedTuple):
    """One of several disjoint parts of a plan, numbered from 1."""

    number: int
    of: int

    @classmethod
    def of_text(cls, text: object) -> Self:
        """Return the shard that a text such as ``3/8`` means. Raise ``UsageError`` for other texts."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", str(text), re.ASCII)
        number, total = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= total <= MOST_SHARDS:
            raise UsageError(
                f"shard={text!r}: expected K/N, such as 3/8 for the third of eight, and N at most {MOST_SHARDS:,}"
            )
        return cls(number, total)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def chunks(self, planned: Iterable[PlanChunk], cases: int | None, *, aside: bool) -> Iterator[PlanChunk]:
        """Yield the chunks of this shard."""
        return (chunk for number, chunk in parted(planned, cases, self.of, aside=aside) if number == self.number)


def parted(
    planned: Iterable[PlanChunk], cases: int | None, shards: int, *, aside: bool
) -> Iterator[tuple[int, PlanChunk]]:
    """Yield the chunks that hold the first ``cases`` cases of a plan, or all chunks, each with the number of its shard.

    Each chunk goes to the shard with the least predicted cost so far. So every shard knows the part of every other one,
    and no two differ by more than a chunk. ``aside`` tells whether the first shard makes other checks, too.
    """
    costs = [OTHER_CHECKS_COST if aside else 0, *[0] * (shards - 1)]
    remaining = math.inf if cases is None else cases
    for chunk in planned:
        if remaining <= 0:
            return
        remaining -= chunk.cases
        shard = min(range(shards), key=costs.__getitem__)
        costs[shard] += cost(chunk)
        yield shard + 1, chunk


def cost(chunk: PlanChunk) -> int:
    """Return the predicted cost of a chunk, in plain cases."""
    return sum(
        1 + GRADIENTS_COST * (case.config.loss is not None) + case.with_probes + case.with_relation
        for case in chunk.planned()
    )
