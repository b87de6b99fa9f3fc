"""Strata: the parts of a scope that share no config, so that processes or test items can search different configs."""

from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

from harness.space.config import RNNConfig
from harness.space.factor_table import FACTORS, PLAIN, having
from harness.space.scope import Scope, assembled, factors_to_draw, whole_or


@dataclass(frozen=True, repr=False)
class Stratum:
    """A part of a scope, with its name."""

    name: str
    scope: Scope

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        """Return a short text, because pytest shows it above a failure and a scope in full takes a screen."""
        return f"<Stratum {self.name}>"

    def sample(self, random: Random, count: int) -> list[RNNConfig]:
        """Return ``count`` configs, in which the values of each factor are dealt like cards.

        No value of a factor comes again before each value was drawn as often as the scope lists it. Otherwise the
        configs are independent of each other. The same state of ``random`` gives the same configs on every machine.
        """
        columns = {name: _dealt(random, values, count) for name, values in factors_to_draw(self.scope).items()}
        return [
            assembled(self.scope, {name: column[row] for name, column in columns.items()}, random.randrange(2**32))
            for row in range(count)
        ]


def strata(scope: Scope | None = None) -> list[Stratum]:
    """Split ``scope`` (the whole space by default) into strata by nonlinearity, directions, and gradients or none.

    Together the strata are the scope, and no config is in two of them. A factor with only one half in the scope does
    not split it. ::

        @pytest.mark.parametrize("stratum", strata(), ids=str)
        def test_my_kernel(stratum):
            assert_agrees_on(my_rnn, stratum, cases=100)
    """
    space = whole_or(scope)
    split: list[list[tuple[str, str, tuple[Any, ...]]]] = []
    for name in having("halves"):
        plain, unusual = FACTORS[name].halves or ("", "")
        values = getattr(space, name)
        some, rest = ([value for value in values if (value == PLAIN[name]) is is_plain] for is_plain in (True, False))
        if some and rest:
            split.append([(plain, name, tuple(some)), (unusual, name, tuple(rest))])
    return [
        Stratum("-".join(word for word, *_ in parts) or "all", space.only(**{name: half for _, name, half in parts}))
        for parts in product(*split)
    ]


def _dealt(random: Random, values: tuple[Any, ...], count: int) -> list[Any]:
    """Return ``count`` of the values, dealt like cards from as many shuffled packs as it takes."""
    packs = -(-count // len(values))
    return [card for _ in range(packs) for card in random.sample(values, len(values))][:count]
