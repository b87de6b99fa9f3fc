"""Configs of the factors apart: two preparations in a row, arguments by position, and modules that share parameters.

A defect may need two preparations, such as a copy of a module that was called before. All pairs of them beside all
pairs of other values would take some thousand cases, so each pair has one config, which is rich in everything else.
"""

from random import Random
from typing import Any, Final

from harness.space.config import RNNConfig
from harness.space.factor_table import OPTIONS, PREPARATION_PAIRS, PREPARATIONS, SIZE_FACTORS, having
from harness.space.scope import Scope, assembled, factors_to_draw

DISTINCT_SIZES: Final = (
    2,
    3,
    4,
    5,
)  # The sizes, all different, so that arguments and axes that are mixed up give wrong shapes

POSITIONAL: Final = 6
"""The number of constructors by position, beside one with every argument at another value than its default. In each of
them an argument has its default or another value, so any two arguments that are swapped differ in half of them."""

TIED_PAIRS: Final = 6  # The number of pairs of modules that share their parameters, two for each loss

_DRAWN: Final = tuple("mode" if name == "training" else name for name in having("beside_apart"))
"""The factors that are drawn, training with dropout as their mode. All others have their first value, or small sizes.
"""


def apart(scope: Scope, seed: int) -> list[RNNConfig]:
    """Return the configs of the factors apart in a scope: by position, tied, and the rest in an order by ``seed``."""
    values, random = factors_to_draw(scope), Random(f"{seed}/apart")
    plain = {name: choices[0] for name, choices in values.items()} | _sizes(scope)
    if plain["device"] == "meta":  # where nothing has numbers
        return []

    def made(factors: dict[str, Any]) -> RNNConfig:
        return assembled(scope, plain | factors, seed)

    def drawn() -> dict[str, Any]:
        return {name: random.choice(values[name]) for name in _DRAWN}

    configs = []
    if True in scope.positional:
        others = {name: values[name][-1] for name in _DRAWN if name in {*OPTIONS, "mode"}}
        configs = [made(factors | {"positional": True}) for factors in (others, *(drawn() for _ in range(POSITIONAL)))]
    losses = [loss for loss in dict.fromkeys(values["loss"]) if loss is not None]
    if losses and True in scope.tied:
        configs += [made(drawn() | {"tied": True, "loss": losses[i % len(losses)]}) for i in range(TIED_PAIRS)]
    lasts = [name for name in PREPARATIONS if name in scope.preparation]
    firsts = [name for name in PREPARATIONS if name in scope.after]
    if len(firsts) > 1:  # a single one is asked for by a pin, or by a mode of torch that does not have it alone
        firsts = [name for name in firsts if name in lasts]
    pairs = [(a, b) for a in firsts for b in lasts if (a, b) in PREPARATION_PAIRS]
    random.shuffle(pairs)
    return [*configs, *(made(drawn() | {"after": first, "preparation": then}) for first, then in pairs)]


def _sizes(scope: Scope) -> dict[str, int]:
    return {
        name: min(getattr(scope, name), key=lambda size: (abs(size - small), size))
        for name, small in zip(SIZE_FACTORS, DISTINCT_SIZES, strict=True)
    }
