"""fresh_cases: cases around a failing one that tell apart mistakes which look alike on it."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from harness.space.case import Array, Case
from harness.space.config import LARGE_STATES, RNNConfig
from harness.space.factor_table import SIZE_FACTORS, ConfigError
from harness.space.scope import Scope, configure, factors_of
from harness.space.values import draw

# The values of the fresh cases: generic, so that no two different faults give equal results by chance.
FRESH_DISTRIBUTIONS: Final = ("normal", "default")

RARE: Final = ("saturated", "sparse", "special")  # The values on which alone some mistakes show

RARE_CASES: Final = 6
"""The number of cases of each of these. Of the special values, one in nine is a NaN, and one number in ten is
special."""

GENERIC: Final = {"T": 3, "N": 3, "input_size": 4, "hidden_size": 5}
"""The sizes of the generic case, all different but for T. ``wider`` makes T more than twice what it was, which tells a
mistake that is made once from one that is made again."""

# The steps up from each size of the failing case. With them, every remainder by 2 to 64 changes.
NEAR_SIZES: Final = (1, 2, 3, 8, 16, 32, 64)


LENGTHS_SEED: Final = 2
"""The seed of the lengths of a packed batch. With it they differ, and rise somewhere where they may, at each T from 3
to 29 and each N from 3 to 8. With a seed of 1, for example, all three of T=4 are 4."""


def fresh_cases(config: RNNConfig, scope: Scope) -> Iterator[Case]:
    """Yield cases around a config, within ``scope``: the generic one first, then ever nearer to the config itself.

    The first are wider and longer, also with each other factor flipped alone. Then come the config itself with other
    values, and each of its sizes a little larger. Rare values come last. Sizes are never smaller than the config's own,
    at which it fails.
    """
    earlier: set[RNNConfig] = set()
    wide = wider(config, scope)
    groups = (([wide], 2), (flipped(wide, scope), 1), ([config], 2), (_larger(config, scope), 1))
    for configs, seeds in groups:
        for number, variant in enumerate(configs):
            if variant in earlier:
                continue
            earlier.add(variant)
            for distribution in FRESH_DISTRIBUTIONS:
                for seed in range(seeds):
                    yield draw(variant, distribution, number + seed)
    for distribution in (distribution for distribution in RARE if distribution in scope.distributions):
        for seed in range(RARE_CASES):
            yield draw(config, distribution, seed)
            yield draw(wide, distribution, seed)


def stilled(config: RNNConfig, seed: int) -> Case:
    """Return a case of normal numbers in which nothing reaches the first unit of any layer."""
    arrays = dict(draw(config, "normal", seed).arrays)
    for name in config.weights:
        if not name.startswith("readout"):
            arrays[name] = arrays[name].copy()
            arrays[name][0] = 0
    return Case.from_arrays(config, arrays)


def infinite(config: RNNConfig, seed: int) -> Case:
    """Return a case of normal numbers and infinities.

    A third of the rows of x, and of hx, has an infinity in its last feature, a third in another one, and a third has
    none.
    """
    arrays = dict(draw(config, "normal", seed).arrays)
    for name in config.inputs:
        if config.strides == "expanded":  # one value is repeated along the first axis
            arrays[name] = np.broadcast_to(_with_infinities(arrays[name][:1]), arrays[name].shape).copy()
        else:
            arrays[name] = _with_infinities(arrays[name])
    return Case.from_arrays(config, arrays)


def _with_infinities(array: Array) -> Array:
    rows = array.reshape(-1, array.shape[-1]).copy()
    for number, row in enumerate(rows):
        if number % 3 < 2 and not np.isnan(row).any():  # padding is NaN
            row[-1 if number % 3 == 0 else number // 3 % row.size] = np.inf if number % 2 else -np.inf
    return rows.reshape(array.shape)


def wider(config: RNNConfig, scope: Scope) -> RNNConfig:
    """Return the config with generic sizes, where they are larger than its own; itself, if it is very large already."""
    if config.states > LARGE_STATES:
        return config
    longer = max(2 * config.T, GENERIC["T"]) + 1
    sizes = GENERIC | {"T": longer}
    return changed(
        config, {name: fitting(name, max(size, getattr(config, name)), scope) for name, size in sizes.items()}
    )


def flipped(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    """Yield the config with each factor, but for sizes, at each other value that the scope has.

    A larger projection comes with the units that it needs.
    """
    for name, values in scope.values().items():
        for value in values if name not in SIZE_FACTORS else ():
            if value != factors_of(config)[name] and value != "meta":
                changes: dict[str, Any] = {name: value}
                if name == "proj_size" and value >= config.hidden_size:
                    changes["hidden_size"] = fitting("hidden_size", value + 1, scope)
                variant = changed(config, changes)
                if variant != config and (scope.masks or not variant.drops):
                    yield variant


def _larger(config: RNNConfig, scope: Scope) -> Iterator[RNNConfig]:
    for name in SIZE_FACTORS:
        size = getattr(config, name)
        # In a large packed batch many sequences have the same length, and may be sorted in one order or another.
        for larger in (size + step for step in NEAR_SIZES if name != "N" or config.lengths is None or step < 8):
            if fitting(name, larger, scope) == larger and (name != "N" or config.batched):
                yield changed(config, {name: larger})


def fitting(name: str, size: int, scope: Scope) -> int:
    """Return the smallest size of the scope that is no smaller; else its largest.

    A factor that is not pinned may have any size.
    """
    allowed: tuple[int, ...] = getattr(scope, name)
    if scope.is_free(name):
        return size
    return min((value for value in allowed if value >= size), default=max(allowed))


def changed(config: RNNConfig, changes: dict[str, Any]) -> RNNConfig:
    """Return the config with some factors changed, and whatever these exclude given up; itself, if that cannot be."""
    try:
        if config.lengths is not None and "lengths" not in changes and changes.get("batched", True):
            return config.replace(**changes)
        made = configure(factors_of(config) | changes, LENGTHS_SEED)
        if made.proj_size != changes.get("proj_size", config.proj_size):
            return config
        return made.replace(dropout=0.0) if made.num_layers == 1 and config.num_layers > 1 else made
    except ConfigError:
        return config
