"""Known failures of a user's own subject: a search counts the cases that they name, and goes on around them."""

import operator
import re
import tomllib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Final

from harness.checks.agreement import Observation
from harness.checks.result import Result, is_id
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import SIZE_FACTORS
from harness.space.scope import Scope, factors_of

BOUNDS: Final[dict[str, Callable[[int, int], bool]]] = {  # the comparisons that a condition on a size may make
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

_TEXTS: Final = ("name", "subject", "reason", "link")
_KEYS: Final = (*_TEXTS, "until", "where", "fails", "versions")
_SIZES: Final = (*SIZE_FACTORS, "num_layers", "output_size")
_BOUND: Final = re.compile(rf"({'|'.join(BOUNDS)})\s*(\d{{1,9}})")


@dataclass(frozen=True)
class SizeCondition:
    """A condition on a size: ``>= 9``."""

    comparison: str
    number: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and BOUNDS[self.comparison](value, self.number)


@dataclass(frozen=True)
class KnownFailure:
    """One known failure, which covers the failing cases that it names, and nothing else."""

    name: str
    subject: str  # the subject's name, in which ``*`` stands for any text
    why: str
    link: str
    until: date  # the last day on which it covers anything
    # The values of factors that a case must have, by factor; ``lengths`` are kinds of packing, as in a ``Scope``.
    where: Mapping[str, Container[Any]] = field(default_factory=dict)
    fails: str = ""  # the kind of the failure, such as ``output: value``; empty for any kind

    whose: ClassVar = "the subject"

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

    def covers(self, observation: Observation, result: Result) -> bool:
        """Return whether a failing case is one that it names, and fails as it says."""
        return self.concerns(observation.config) and (not self.fails or result.shows(self.fails))


def parse(text: str, source: str, *, today: date | None = None) -> tuple[list[KnownFailure], list[str]]:
    """Return the known failures in a TOML file, and a sentence for each that covers nothing today.

    Raises ``UsageError`` for text that is not as the manual describes it, with the file, the entry and the key.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    entries = document.pop("known", None)
    if document or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{source}: expected a [[known]] table for each known failure, and nothing else")
    today = today or datetime.now(UTC).date()
    valid: list[KnownFailure] = []
    idle: list[str] = []
    for number, entry in enumerate(entries, 1):
        place = f"{source}: known failure {number}"
        failure = _failure(entry, place)
        if any(failure.name == earlier.name for earlier in valid):
            raise UsageError(f"{place}: name={failure.name!r}: expected a name of its own")
        if failure.until < today:
            idle.append(f"{source}: {failure.name}: expired on {failure.until}, so its cases are findings again")
        elif others := _other_versions(entry.get("versions", {}), place):
            idle.append(f"{source}: {failure.name}: does not apply, because {others}")
        else:
            valid.append(failure)
    return valid, idle


def _failure(entry: Mapping[str, Any], place: str) -> KnownFailure:
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise UsageError(f"{place}: unknown key {unknown[0]}: expected some of {', '.join(_KEYS)}")
    for key in (*_TEXTS, *(["fails"] if "fails" in entry else [])):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise UsageError(f"{place}: {key}={entry.get(key)!r}: expected text")
    if is_id(entry["name"]):
        raise UsageError(f"{place}: name={entry['name']!r}: expected words, because findings have such names")
    until = entry.get("until")
    if not isinstance(until, date) or isinstance(until, datetime):
        raise UsageError(f"{place}: until={until!r}: expected a date, such as 2027-01-31")
    where = entry.get("where")
    if not isinstance(where, dict) or not where:
        raise UsageError(f"{place}: where={where!r}: expected values of factors, such as {{dtype = 'float16'}}")
    conditions = {name: _values(name, value, place) for name, value in where.items()}
    name, subject, why, link = (entry[key] for key in _TEXTS)
    return KnownFailure(name, subject, why, link, until, conditions, entry.get("fails", ""))


def _values(name: str, allowed: Any, place: str) -> Container[Any]:
    """Return the values of a factor that a condition allows; ``none`` stands for ``None``."""
    if isinstance(allowed, str) and name in _SIZES and (bound := _BOUND.fullmatch(allowed.strip())):
        return SizeCondition(bound[1], int(bound[2]))
    values = [None if value == "none" else value for value in (allowed if isinstance(allowed, list) else [allowed])]
    try:
        Scope().only(**{name: values})
    except (UsageError, TypeError) as error:
        raise UsageError(f"{place}: where.{name}: {error}") from None
    return tuple(values)


def _other_versions(table: Any, place: str) -> str:
    """Return which package has a version that an entry is not about, in words; empty if there is none."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if not isinstance(table, dict):
        raise UsageError(f"{place}: versions={table!r}: expected packages with versions, such as {{torch = '<2.14'}}")
    for package, wanted in table.items():
        try:
            versions = SpecifierSet(wanted)
        except (InvalidSpecifier, TypeError, AttributeError):
            raise UsageError(
                f"{place}: versions.{package}={wanted!r}: expected versions, such as '>=2.6,<2.14'"
            ) from None
        try:
            installed = version(package)
        except PackageNotFoundError:
            return f"{package} is not installed"
        if not versions.contains(installed, prereleases=True):
            return f"{package} is {installed}, and it is about {wanted}"
    return ""
