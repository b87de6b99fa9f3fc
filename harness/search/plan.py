"""plan: the cases of a search in their order, in units that any process can go through without knowing the others.

First all pairs of flags on small sizes, which is planned in no time; then a covering array of everything; then samples
of one stratum of the scope after the other, for ever. What a unit asks depends on the scope, the seed and its own place
alone: it does not matter who goes through it, or when.

What is drawn comes from Python's own generator, and not from Hypothesis, which would draw numbers that stand in the
code at hand: another code in another process. It is also faster: 0.05 ms a config, not 0.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil, inf, prod
from random import Random
from typing import Final, NamedTuple, Protocol

from harness.search.covering import covering
from harness.space.case import Case
from harness.space.config import RNNConfig
from harness.space.scope import SIZE_FACTORS, Scope, configure, factors_of
from harness.space.strata import Stratum, strata
from harness.space.values import draw

COVERED: Final = 0.6
"""Of a budget, what covering arrays may take; the rest goes to what is drawn, several cases a config, for values
matter, too. Torch's take 984 of the default 1,650 cases, a budget that was chosen for them."""

STRENGTHS: Final = (3, 2)
"""Of how many factors all interactions are met, if the budget allows it, the first before the second."""

CASES_PER_CONFIG: Final = 2
"""Cases that ride on a drawn config, each of another regime of values: its module and its masks are made once."""

SMALL: Final = ((2, 3, 4, 5), (3, 3, 3, 3), (2, 2, 2, 2))
"""Small sizes, in the order of ``SIZE_FACTORS``, with which a search begins: all different, so that axes mixed up are
mistakes of shapes; and all the same, so that they are not."""

UNIT: Final = 16
"""Configs a unit: some 0.3 s of torch's, which is little to lose at the end of a search, and much beside the 2 ms that
it takes to send a unit away and its results back."""

THOROUGH: Final = 4
"""One case in so many has probes, which double the price of a gradient, and all that costs as much again. What can have
probes has them more often where few cases can: so often that they are one in so many, or all of these."""

LAWFUL: Final = 4
"""One case in so many is held to a law, for which the subject runs once or twice more."""


class Asked(NamedTuple):
    """A case of a search before its arrays are drawn, and what is asked of the subject on it."""

    config: RNNConfig
    regime: str
    seed: int
    first: bool
    """Whether it is the first of its config."""
    with_probes: bool
    with_law: bool

    def case(self) -> Case:
        """The case itself."""
        return draw(self.config, self.regime, self.seed)


class Unit(Protocol):
    """A few cases of a search."""

    def asked(self) -> Iterator[Asked]:
        """The cases in their order; the same ones every time."""
        ...

    @property
    def cases(self) -> int:
        """How many there are."""
        ...


@dataclass(frozen=True)
class Planned:
    """Some configs of a covering array, of one case each."""

    seed: int
    probing: float
    """The share of cases with probes, of those that can have them."""
    first: int
    """The place of the first of them in the array."""
    configs: tuple[RNNConfig, ...]
    scope: Scope

    def asked(self) -> Iterator[Asked]:
        """A case of each config, of a regime that is drawn."""
        for number, config in enumerate(self.configs, self.first):
            random = Random(f"{self.seed}/covering/{number}")
            values = random.randrange(2**32)
            regime, config = random.choice(self.scope.regimes), self.scope.abiding(config, number)
            yield _asked(config, regime, values, 0, self.probing)

    @property
    def cases(self) -> int:
        """One a config."""
        return len(self.configs)


@dataclass(frozen=True)
class Sampled:
    """A sample of a stratum, of several cases a config."""

    seed: int
    probing: float
    stratum: Stratum
    number: int

    def asked(self) -> Iterator[Asked]:
        """The cases of each config: as many regimes in a row, from a drawn one on, plainest first."""
        random = Random(f"{self.seed}/{self.stratum}/{self.number}")
        scope = self.stratum.scope
        names = scope.regimes
        for place, sampled in enumerate(self.stratum.sample(random, UNIT)):
            config = scope.abiding(sampled, place)
            first, values = random.randrange(len(names)), random.randrange(2**32)
            chosen = sorted((first + i) % len(names) for i in range(CASES_PER_CONFIG))
            for number, index in enumerate(chosen):
                yield _asked(config, names[index], values + number // len(names), number, self.probing)

    @property
    def cases(self) -> int:
        """Several a config."""
        return UNIT * CASES_PER_CONFIG


def units(scope: Scope, seed: int, cases: int | None, strength: int | None = None) -> Iterator[Unit]:
    """The units of a search of so many cases, or of any number, in their order; there is no end to them.

    The covering array is the strongest, of three factors or two, that leaves enough of the budget; or of ``strength``.
    """
    probing = min(1, 1 / (THOROUGH * _plain_share(scope)))
    left, place = inf if cases is None or strength is not None else COVERED * cases, 0
    for arrays in (_small(scope), _everything(scope, STRENGTHS if strength is None else (strength,))):
        planned = next((array for array in arrays if len(array) <= left), [])
        for start in range(0, len(planned), UNIT):
            yield Planned(seed, probing, place + start, tuple(planned[start : start + UNIT]), scope)
        left, place = left - len(planned), place + len(planned)
    parts = strata(scope)
    if cases is not None and cases - place < len(parts) * UNIT * CASES_PER_CONFIG:
        parts = [Stratum("all", scope)]  # where the budget does not hold a sample of each
    for number in count():
        for stratum in parts:
            yield Sampled(seed, probing, stratum, number)


def _small(scope: Scope) -> Iterator[list[RNNConfig]]:
    """The covering array of pairs of flags, on sizes of ``SMALL`` by turns, if the scope has such."""
    sized = [dict(zip(SIZE_FACTORS, sizes, strict=True)) for sizes in SMALL]
    sized = [sizes for sizes in sized if all(size in getattr(scope, name) for name, size in sizes.items())]
    if sized:
        array = covering(scope.only(**sized[0]), 2)
        yield [
            config if turn == 0 else configure(factors_of(config) | sized[turn], number)
            for number, config in enumerate(array)
            for turn in [number % len(sized)]
        ]


def enough_for(scope: Scope, strength: int) -> int:
    """The cases of a search with a covering array of this strength that leaves as much to what is drawn as others."""
    planned = [*_small(scope), *_everything(scope, (strength,))]
    return ceil(sum(map(len, planned)) / COVERED)


def _everything(scope: Scope, strengths: Sequence[int]) -> Iterator[list[RNNConfig]]:
    """The covering arrays, strongest first."""
    return (covering(scope, strength) for strength in strengths)


def _asked(config: RNNConfig, regime: str, values: int, number: int, probing: float) -> Asked:
    """A config's case of this number; its seed of values decides which of them are asked for more."""
    with_law = (values // THOROUGH + number) % LAWFUL == 0
    thorough = number == values % THOROUGH
    if config.loss is not None and all(getattr(config, name) == value for name, value in _PLAIN.items()):
        thorough = (values // (THOROUGH * LAWFUL) + number) % _PARTS < probing * _PARTS
    return Asked(config, regime, values, number == 0, thorough, with_law)


def _plain_share(scope: Scope) -> float:
    """Which share of draws can have probes, as far as the way of calling decides."""
    return prod(getattr(scope, name).count(value) / len(getattr(scope, name)) for name, value in _PLAIN.items()) or 1.0


_PLAIN: Final = {"batched": True, "strides": "contiguous", "autocast": None, "preparation": "new"}
"""How what has probes is called."""

_PARTS: Final = 2**16
