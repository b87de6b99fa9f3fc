"""Known failures of a user's own subject: a search counts the cases that they name, and goes on around them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Final

from harness.checks.agreement import Observation
from harness.checks.result import Result
from harness.space.config import RNNConfig
from harness.space.scope import factors_of

BOUNDS: Final[dict[str, Callable[[int, int], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
"""The comparisons that a condition on a size may make."""


@dataclass(frozen=True)
class Bound:
    """A condition on a size: ``>= 9``."""

    comparison: str
    number: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and BOUNDS[self.comparison](value, self.number)


@dataclass(frozen=True)
class KnownFailure:
    """One known failure, which excuses the failing cases that it names, and nothing else."""

    name: str
    subject: str
    """The subject's name, in which ``*`` stands for any text."""
    why: str
    link: str
    until: date
    """The last day on which it excuses anything."""
    where: Mapping[str, Container[Any]]
    """The values of factors that a case must have, by factor; ``lengths`` are kinds of packing, as in a ``Scope``."""
    fails: str = ""
    """The kind of the failure, such as ``output: value``; empty for any kind."""

    @property
    def reason(self) -> str:
        """The reason with what else a reader wants to know of it."""
        return f"{self.why}; until {self.until}; {self.link}"

    def of(self, subject: str) -> bool:
        """Return whether it is about a subject of this name."""
        return fnmatchcase(subject, self.subject)

    def concerns(self, config: RNNConfig) -> bool:
        """Return whether a config has the values that it names."""
        factors = factors_of(config)
        return all(factors[name] in values for name, values in self.where.items())

    def excuses(self, observation: Observation, result: Result) -> bool:
        """Return whether a failing case is one that it names, and fails as it says."""
        return self.concerns(observation.config) and (not self.fails or result.shows(self.fails))
