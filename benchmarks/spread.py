"""The spread of drawn configs: the number of different (hidden_size, T, N) among 1,000, as means over six seeds.

- sample: ``Stratum.sample``, as a search draws, in samples of ``plan.UNIT`` of one stratum after the other;
- configs(): the strategy of ``harness.configs``, as Hypothesis runs it in one ``@given``, and in runs of 10;
- untold: the same strategy drawn from values without names, so that Hypothesis confuses equal sets of values;
- one integer: a config decoded from one drawn integer, hashed first, or by mixed radix;
- independent: every factor drawn by itself.

``H17`` is the number of configs until one has hidden_size=17, relu and two directions, as the mean over 25 seeds. Run:
``python benchmarks/spread.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from random import Random
from statistics import mean
from typing import Any

from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from harness import RNNConfig, Scope, configs, strata
from harness.search.plan import UNIT
from harness.space.scope import assembled, factors_to_draw

CONFIGS = 1_000
SEEDS = range(6)
LATEST = 3_000
"""The number of configs after which the search for H17 ends; it then counts as met."""

Way = Callable[[int, int], Iterator[RNNConfig]]
"""A function that yields configs for a seed and the least number of configs that will be taken."""

SCOPE = Scope()
FACTORS = factors_to_draw(SCOPE)


def samples(seed: int, _configs: int) -> Iterator[RNNConfig]:
    """Yield configs as a search draws them."""
    for number in count():
        for stratum in strata(SCOPE):
            yield from stratum.sample(Random(f"{seed}/{stratum}/{number}"), UNIT)


def in_runs(strategy: st.SearchStrategy[RNNConfig], length: int | None = None) -> Way:
    """Return a way to draw configs by Hypothesis, in runs of this length, or in one run."""

    def drawn(seed: int, configs_: int) -> Iterator[RNNConfig]:
        engine = settings(max_examples=length or configs_, database=None, phases=[Phase.generate])
        for number in count():
            found: list[RNNConfig] = []

            def note(config: RNNConfig, found: list[RNNConfig] = found) -> bool:
                found.append(config)
                return False

            try:
                find(strategy, note, settings=engine, random=Random(f"{seed}/{number}"))
            except NoSuchExample:
                yield from found

    return drawn


def chosen(choose: Callable[[tuple[Any, ...]], Any]) -> RNNConfig:
    """Return a config with each factor chosen by ``choose``."""
    return assembled(SCOPE, {name: choose(values) for name, values in FACTORS.items()}, 0)


def independent(seed: int, _configs: int) -> Iterator[RNNConfig]:
    """Yield configs with each factor drawn by itself."""
    random = Random(seed)
    while True:
        yield chosen(random.choice)


def decoded(number: int) -> RNNConfig:
    """Return the config that a number encodes by mixed radix."""
    left = [number]

    def digit(values: tuple[Any, ...]) -> Any:
        left[0], which = divmod(left[0], len(values))
        return values[which]

    return chosen(digit)


def untold() -> st.SearchStrategy[RNNConfig]:
    """Return the strategy without the factors' names."""
    drawn = st.tuples(*map(st.sampled_from, FACTORS.values()))
    return drawn.map(lambda values: assembled(SCOPE, dict(zip(FACTORS, values, strict=True)), 0))


def main() -> None:
    """Print the table."""
    whole = 1
    for values in FACTORS.values():
        whole *= len(values)
    integers = st.integers(0, 2**64 - 1)
    ways: dict[str, Way] = {
        "sample": samples,
        "configs(), one run": in_runs(configs()),
        "configs(), runs of 10": in_runs(configs(), 10),
        "untold, one run": in_runs(untold()),
        "untold, runs of 10": in_runs(untold(), 10),
        "one integer, hashed": in_runs(integers.map(lambda n: decoded(Random(n).randrange(whole)))),
        "one integer, radix": in_runs(st.integers(0, whole - 1).map(decoded)),
        "independent": independent,
    }
    print(f"{'':24}{'triples':>8}{'H17':>8}{'ms':>8}")
    for name, way in ways.items():
        start = time.process_time()
        found = [list(islice(way(seed, CONFIGS), CONFIGS)) for seed in SEEDS]
        took = (time.process_time() - start) / len(SEEDS)
        triples = mean(len({(c.hidden_size, c.T, c.N) for c in configs_}) for configs_ in found)
        print(f"{name:24}{triples:8.0f}{mean(map(first(way), range(25))):8.0f}{took:8.2f}")


def first(way: Way) -> Callable[[int], int]:
    """Return a function that says after how many configs of a seed H17 is met."""

    def met(seed: int) -> int:
        for number, config in enumerate(islice(way(seed, LATEST), LATEST), 1):
            if config.hidden_size == 17 and config.nonlinearity == "relu" and config.bidirectional:
                return number
        return LATEST

    return met


if __name__ == "__main__":
    main()
