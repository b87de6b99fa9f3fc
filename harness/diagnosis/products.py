"""products: a threshold of a product of sizes, such as N*T above 65,535, told from a threshold of one size.

One size of the smallest failing config is halved, and another doubled. If it still fails, both are in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from harness.diagnosis.fresh import changed
from harness.space.config import RNNConfig
from harness.space.scope import Scope

FACTORS: Final = ("num_layers", "bidirectional", "N", "T", "hidden_size", "input_size")
"""The factors of products; ``bidirectional`` stands for the number of directions."""

LEAST: Final = 4
"""The smallest size that is told from a product: half of it, less one, is still a size."""

Fails = Callable[[RNNConfig], bool | None]


@dataclass(frozen=True)
class Product:
    """A product of sizes that makes a case fail."""

    factors: tuple[str, ...]
    passes: int
    """The largest value that was seen to pass."""
    fails: int
    """The smallest value that was seen to fail."""

    @property
    def pattern(self) -> str:
        """The values that fail: ``N*T above 65535``."""
        names = "*".join("D" if name == "bidirectional" else name for name in self.factors)
        return f"{names} above {self.passes}" if self.fails == self.passes + 1 else f"{names} from {self.fails} on"

    def of(self, config: RNNConfig) -> int:
        """Return the value of the product."""
        return prod(_count(config, name) for name in self.factors)

    def shows(self, config: RNNConfig) -> bool:
        """Tell if the failure shows at a config, as far as the product decides that."""
        return self.of(config) > self.passes


def product_of(config: RNNConfig, name: str, scope: Scope, fails: Fails) -> Product | None:
    """Return the product that makes a config fail; ``None`` if it is the size ``name`` alone.

    It fails at this size and at larger ones, and passes at the next smaller one.
    """
    size = getattr(config, name)
    half = (size + 1) // 2
    if size < LEAST or fails(changed(config, {name: half})) is not False:
        return None
    within = [name]
    for other in FACTORS if scope.is_free(name) else ():
        double = 2 * _count(config, other)
        if other == name or not scope.allows(other, _value(other, double)):
            continue
        doubled = _made(config, {name: half, other: double})
        below = _made(config, {name: half - 1, other: double})
        if doubled and below and fails(doubled) and fails(below) is False:
            within.append(other)
    if len(within) == 1:
        return None
    found = Product(tuple(one for one in FACTORS if one in within), 0, 0)
    step = found.of(config) // size
    return _narrowed(Product(found.factors, step * (size - 1), step * size), config, name, scope, fails)


def _narrowed(product: Product, config: RNNConfig, name: str, scope: Scope, fails: Fails) -> Product:
    """Return the product with its threshold as exact as further pairs of sizes near the failing ones tell it."""
    between = dict(_between(product, config, name, scope))
    passes, failing = product.passes, product.fails
    while left := sorted(value for value in between if passes < value < failing):
        value = left[len(left) // 2]
        failed = fails(between[value])
        if failed is None:
            del between[value]
        elif failed:
            failing = value
        else:
            passes = value
    return Product(product.factors, passes, failing)


def _between(product: Product, config: RNNConfig, name: str, scope: Scope) -> Iterator[tuple[int, RNNConfig]]:
    """Yield configs whose product lies between the one that passes and the one that fails, with the product."""
    other = max((one for one in product.factors if one != name), key=lambda one: _count(config, one))
    size, rest = getattr(config, name), _count(config, other)
    for partner in range(max(1, rest // 2), 2 * rest) if scope.is_free(other) else ():
        for own in range(max(1, size * rest // partner - 1), size * rest // partner + 2):
            made = _made(config, {name: own, other: partner})
            if made is not None and product.passes < product.of(made) < product.fails:
                yield product.of(made), made


def _made(config: RNNConfig, counts: dict[str, int]) -> RNNConfig | None:
    """Return the config with these counts; ``None`` if other factors exclude them."""
    made = changed(config, {name: _value(name, count) for name, count in counts.items()})
    return made if all(_count(made, name) == count for name, count in counts.items()) else None


def _count(config: RNNConfig, name: str) -> int:
    count: int = config.num_directions if name == "bidirectional" else getattr(config, name)
    return count


def _value(name: str, count: int) -> int | bool:
    return count == 2 if name == "bidirectional" else count
