"""Constraints: the values of factors that exclude each other, in one table.

``RNNConfig`` refuses values that no layer can have. A search also leaves out what torch does not have, and what would
look the same: of drawn values that exclude each other one gives way, and coverage does not wait for them to meet.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from harness.space.parts import FORWARD_MODES, PAIRS, PREPARATIONS

Condition = Callable[[Any], bool]
"""A condition on the value of a factor; for ``lengths``, on their kind (``RNNConfig.packing``)."""


class Constraint(NamedTuple):
    """Values that exclude each other: no config meets all these conditions."""

    excluded: Mapping[str, Condition]
    """The conditions by factor."""
    way_out: tuple[str, Any] | None = None
    """The factor that gives way, and the value that it then has; ``None`` if values that are drawn come out right."""
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

_UNBATCHED: Final = "batched=False with N={N}, lengths={lengths}: expected N=1 and no lengths"

CONSTRAINTS: Final = (
    Constraint({"batched": off, "N": other_than(1)}, ("N", 1), _UNBATCHED),
    Constraint({"batched": off, "lengths": given}, ("lengths", None), _UNBATCHED),
    # An empty batch has nothing to pack, and torch refuses it.
    Constraint({"lengths": given, "N": among(0)}, ("N", 1)),
    # A readout's gradient is zero in padding, but not elsewhere.
    Constraint({"lengths": given, "output_size": given, "strides": among("expanded")}, ("strides", "contiguous")),
    Constraint(
        {"enforce_sorted": on, "lengths": among(None, "any")},
        ("enforce_sorted", False),
        "enforce_sorted=True with lengths={lengths}: expected lengths that never rise",
    ),
    # Lengths of one sequence or of one step are equal.
    Constraint({"lengths": among("falling", "any"), "N": below(2)}, ("lengths", "equal")),
    Constraint({"lengths": among("falling", "any"), "T": below(2)}, ("lengths", "equal")),
    Constraint({"loss": among(None), "wrt": other_than("all")}, ("wrt", "all")),
    Constraint({"loss": given, "grad_mode": among(*FORWARD_MODES[1:])}, ("grad_mode", None)),
    Constraint({"loss": among(None), "grad_mode": among("accumulate")}, ("grad_mode", None)),
    Constraint(
        {"autocast": given, "dtype": other_than("float32")},
        ("autocast", None),
        "autocast={autocast!r} with dtype={dtype!r}: expected dtype='float32'",
    ),
    Constraint({"autocast": given, "device": among("meta")}, ("autocast", None)),
    # Autocast would draw the masks in another dtype.
    Constraint({"autocast": given, "training": on, "dropout": on}, ("dropout", 0.0)),
)
"""The constraints, in the order in which factors give way."""

ONE_AFTER_THE_OTHER: Final = tuple(
    Constraint({"after": holds, "preparation": among(*then)}, ("after", None))
    for holds, then in [
        (given, ["new"]),
        *(
            (among(first), [then for then in PREPARATIONS[1:] if (first, then) not in PAIRS])
            for first in PREPARATIONS[1:]
        ),
    ]
)
"""The constraints on two preparations, of factors whose interactions are not planned (``scope.APART``)."""

IMPOSSIBLE: Final = tuple(constraint for constraint in CONSTRAINTS if constraint.error)
"""The constraints that no layer can break."""


def settled(factors: Mapping[str, Any], constraints: Iterable[Constraint] = CONSTRAINTS) -> dict[str, Any]:
    """Return the factors after some have given way, so that none exclude each other."""
    found = dict(factors)
    for constraint in constraints:
        if constraint.way_out is not None and constraint.excludes(found):
            name, value = constraint.way_out
            found[name] = value
    return found


def excluded(factor: str, value: Any, values: Mapping[str, Sequence[Any]], constraints: Iterable[Constraint]) -> bool:
    """Return whether a constraint excludes a value beside all values of the other factors, and would not mend it.

    It would mend it if the factor were the one that gives way.
    """
    return any(
        one.forbids(factor, value, values)
        for one in constraints
        if one.way_out is not None and one.way_out[0] != factor
    )
