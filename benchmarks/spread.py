"""How widely the configs of a search are spread, by the length of a round: where ``search.hunt.ROUND`` comes from.

How many different (hidden_size, T, N) there are among 1,000 configs; means over six seeds.
Run: ``python benchmarks/spread.py``.
"""

from __future__ import annotations

from random import Random
from statistics import mean

from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from harness import RNNConfig, Scope, configs

CONFIGS = 1_000
SEEDS = range(6)


def drawn(length: int, seed: int) -> list[RNNConfig]:
    """The first 1,000 configs of a search whose rounds have this length."""
    found: list[RNNConfig] = []

    def note(config: RNNConfig) -> bool:
        found.append(config)
        return False

    engine = settings(max_examples=length, database=None, phases=[Phase.generate])
    for number in range(CONFIGS // length):
        try:
            find(configs(), note, settings=engine, random=Random(f"{seed}/{number}"))
        except NoSuchExample:
            continue
    return found


def independent(seed: int) -> int:
    """Different triples of sizes among as many independent draws."""
    random, sizes = Random(seed), Scope().T
    return len({(random.choice(sizes), random.choice(sizes), random.choice(sizes)) for _ in range(CONFIGS)})


if __name__ == "__main__":
    for length in (10, 25, 50, 100, 1_000):
        searches = [drawn(length, seed) for seed in SEEDS]
        triples = mean(len({(c.hidden_size, c.T, c.N) for c in found}) for found in searches)
        print(f"rounds of {length:5}: {triples:4.0f} triples")
    print(f"independent    : {mean(map(independent, SEEDS)):4.0f} triples")
