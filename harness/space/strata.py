"""strata: a scope in parts that share no config, so that processes, or items of a test run, look at different ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any, Final

from harness.space.config import RNNConfig
from harness.space.scope import Scope, assembled, factors_to_draw

_HALVES: Final[dict[str, dict[str, Callable[[Any], bool]]]] = {
    "nonlinearity": {"tanh": lambda value: value == "tanh", "relu": lambda value: value == "relu"},
    "bidirectional": {"unidirectional": lambda value: not value, "bidirectional": bool},
    "loss": {"forward": lambda value: value is None, "gradients": lambda value: value is not None},
}
"""The factors that a scope is split by, into halves of about the same size; what each is called, and what is of it."""


@dataclass(frozen=True, repr=False)
class Stratum:
    """A part of a scope, and what it is called."""

    name: str
    scope: Scope

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        """Short, for pytest shows it above a failure: a scope in full takes a screen."""
        return f"<Stratum {self.name}>"

    def sample(self, random: Random, count: int) -> list[RNNConfig]:
        """So many configs, in which no value of a factor comes again before each was drawn as often as the scope says.

        Independent of each other otherwise. The same state of ``random`` gives the same configs, wherever it is.
        """
        columns = {name: _dealt(random, values, count) for name, values in factors_to_draw(self.scope).items()}
        return [
            assembled(self.scope, {name: column[row] for name, column in columns.items()}, random.randrange(2**32))
            for row in range(count)
        ]


def strata(scope: Scope | None = None) -> list[Stratum]:
    """The parts of ``scope`` (the whole space unless given): by nonlinearity, directions, and gradients or none.

    Together they are the scope, and no config is in two. Factors of which it has one half only split nothing. ::

        @pytest.mark.parametrize("stratum", strata(), ids=str)
        def test_my_kernel(stratum):
            assert_agrees_on(my_rnn, stratum, cases=100)
    """
    whole = scope or Scope()
    split: list[list[tuple[str, str, tuple[Any, ...]]]] = []
    for name, halves in _HALVES.items():
        values = getattr(whole, name)
        parts = [(word, name, tuple(filter(is_of_it, values))) for word, is_of_it in halves.items()]
        split.append([part for part in parts if part[-1]])
    split = [parts for parts in split if len(parts) > 1]
    return [
        Stratum("-".join(word for word, *_ in parts) or "all", whole.only(**{name: kept for _, name, kept in parts}))
        for parts in product(*split)
    ]


def _dealt(random: Random, values: tuple[Any, ...], count: int) -> list[Any]:
    """So many of the values, dealt like cards, from as many packs as it takes."""
    packs = -(-count // len(values))
    return [card for _ in range(packs) for card in random.sample(values, len(values))][:count]
