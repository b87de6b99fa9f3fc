"""Rules about values of a factor that a subject supports only beside certain values of another factor.

A rule is one subject's; the constraints on all configs are in ``constraints``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A value of one factor that is asked for only beside some values of another, such as gradients in float64."""

    factor: str
    value: Any
    beside: str
    opening: tuple[Any, ...]

    @property
    def words(self) -> str:
        """The condition of the rule in words, such as ``dtype=float64``."""
        return f"{self.beside}={' or '.join(map(str, self.opening))}"

    def excludes(self, factors: Mapping[str, Any]) -> bool:
        """Return whether these factors break the rule.

        They cannot break it if one of the rule's two factors is missing from them.
        """
        if not {self.factor, self.beside} <= factors.keys():
            return False
        return bool(factors[self.factor] == self.value and factors[self.beside] not in self.opening)
