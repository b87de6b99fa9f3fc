"""Constraints on factors: values that exclude each other, and rules of a subject.

``RNNConfig`` refuses values that no layer can have. A search also leaves out what torch does not have, and what would
look the same: of drawn values that exclude each other one gives way, and coverage does not wait for them to meet.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

# A condition on the value of a factor; for ``lengths``, on their kind (``RNNConfig.packing``).
Condition = Callable[[Any], bool]


class Constraint(NamedTuple):
    """Values that exclude each other: no config meets all these conditions."""

    excluded: Mapping[str, Condition]  # The conditions by factor
    # The factor that gives way, and the value that it then has; ``None`` if values that are drawn come out right.
    way_out: tuple[str, Any] | None = None
    error: str = ""
    """The message of ``RNNConfig``, with fields in braces. Empty if a layer can have these values, or if the check of
    the lengths finds them."""

    def excludes(self, factors: Mapping[str, Any]) -> bool:
        """Return whether these factors meet all conditions."""
        for name, holds in self.excluded.items():  # noqa: SIM110 - a loop takes a third of the time
            if not holds(factors[name]):
                return False
        return True

    def forbids(self, factor: str, value: Any, values: Mapping[str, Sequence[Any]]) -> bool:
        """Return whether a factor cannot have a value beside any of these values of the other factors."""
        return (
            factor in self.excluded
            and self.excluded[factor](value)
            and all(all(map(holds, values[name])) for name, holds in self.excluded.items() if name != factor)
        )


def given(value: Any) -> bool:
    """Return whether a factor has a value other than ``None``, which stands for packed lengths, a loss, and so on."""
    return value is not None


def among(*values: Any) -> Condition:
    """Return the condition that a value is one of these."""
    return partial(operator.contains, values)


def other_than(value: Any) -> Condition:
    """Return the condition that a value is not this one."""
    return partial(operator.ne, value)


def below(size: int) -> Condition:
    """Return the condition that a size is below this one."""
    return partial(operator.gt, size)


def above(size: int) -> Condition:
    """Return the condition that a size is above this one."""
    return partial(operator.lt, size)


off: Final = operator.not_
on: Final = operator.truth


def settled(factors: Mapping[str, Any], constraints: Iterable[Constraint]) -> dict[str, Any]:
    """Return the factors after some have given way, so that none exclude each other."""
    result = dict(factors)
    for constraint in constraints:
        if constraint.way_out is not None and constraint.excludes(result):
            name, value = constraint.way_out
            result[name] = value
    return result


def excluded(factor: str, value: Any, values: Mapping[str, Sequence[Any]], constraints: Iterable[Constraint]) -> bool:
    """Return whether a constraint excludes a value beside all values of the other factors, and would not mend it.

    It would mend it if the factor were the one that gives way.
    """
    return any(
        constraint.forbids(factor, value, values)
        for constraint in constraints
        if constraint.way_out is not None and constraint.way_out[0] != factor
    )


class FactorRule(NamedTuple):
    """A value of one factor that a subject is asked for only beside some values of another.

    Gradients in float64 alone are an example.
    """

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
