"""rules: what a subject does only beside certain values of another factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A factor's value that is asked for only beside some values of another factor: gradients in float64, say."""

    factor: str
    value: Any
    beside: str
    opening: tuple[Any, ...]

    @property
    def words(self) -> str:
        """``dtype=float64``."""
        return f"{self.beside}={' or '.join(map(str, self.opening))}"

    def excludes(self, factors: Mapping[str, Any]) -> bool:
        """Whether values of some factors break the rule; they cannot where one of its two factors is not among them."""
        if not {self.factor, self.beside} <= factors.keys():
            return False
        return bool(factors[self.factor] == self.value and factors[self.beside] not in self.opening)
