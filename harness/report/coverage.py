"""Coverage reports: the thoroughness of a search, as a table, and as data that can be merged over several runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from rich import box
from rich.table import Table
from rich.text import Text

from harness.checks.result import TWICE
from harness.report import schema, wording
from harness.search.record import BESIDE, Hunt
from harness.space.coverage import Coverage
from harness.space.errors import UsageError
from harness.space.scope import Scope

AGREEMENT: Final = "agreement"

STRENGTHS: Final = {2: "pairs", 3: "triples"}
"""The words for interactions, by the number of factors."""


@dataclass
class Searched:
    """The part of a scope that was met with a subject, by check."""

    subject: str
    scope: Scope
    checks: dict[str, Coverage] = field(default_factory=dict)
    laws: Counter[str] = field(default_factory=Counter)

    @classmethod
    def by(cls, hunt: Hunt) -> Self:
        """Return what one search met."""
        checks = {AGREEMENT: hunt.coverage}
        checks |= {check: hunt.beside[check] for check in BESIDE if check in hunt.beside}
        return cls(hunt.subject, hunt.scope, checks, hunt.laws)

    def add(self, other: Searched) -> None:
        """Add what another search met, and its scope to this one."""
        self.scope = self.scope.joined(other.scope)
        self.laws.update(other.laws)
        for check, coverage in other.checks.items():
            if check not in self.checks:
                self.checks[check] = Coverage()
            self.checks[check].merge(coverage)

    def record(self) -> dict[str, Any]:
        """Return everything, exactly, as plain data."""
        return {
            "subject": self.subject,
            "scope": self.scope.record(),
            "checks": {check: coverage.record() for check, coverage in self.checks.items()},
            "laws": dict(self.laws),
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the object that ``record`` wrote. Raise ``UsageError`` or ``KeyError`` for anything else."""
        checks = {check: Coverage.of_record(one) for check, one in record["checks"].items()}
        return cls(record["subject"], Scope.of_record(record["scope"]), checks, Counter(record["laws"]))


def read(paths: Sequence[Path]) -> list[Searched]:
    """Read files that ``check --coverage`` wrote, and merge them by subject. Raise ``UsageError`` for other files."""
    found: dict[str, Searched] = {}
    for path in {path.resolve(): path for path in paths}.values():  # a run counts once, however often its file is named
        for one in _of_file(path):
            if one.subject in found:
                found[one.subject].add(one)
            else:
                found[one.subject] = one
    return list(found.values())


def document(searched: Sequence[Searched]) -> dict[str, Any]:
    """Return the data that ``read`` reads."""
    return {"coverage": [one.record() for one in searched]}


def shares_record(searched: Searched) -> dict[str, Any]:
    """Return the shares that the table shows, as plain data."""
    return {
        check: {
            "cases": coverage.cases,
            "configs": coverage.configs,
            **{name: {"met": met, "of": of} for name, met, of in _shares(searched.scope, coverage)},
        }
        for check, coverage in searched.checks.items()
    }


def table(searched: Searched) -> Table:
    """Return a table with each check's number of cases, and its shares of what can meet in the scope."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    drawn.add_column("share of", no_wrap=True)
    none = Coverage()
    for name in ("cases", *(name for name, *_ in _shares(searched.scope, none))):
        drawn.add_column(name, justify="right", no_wrap=True)
    for check, coverage in searched.checks.items():
        shares = [wording.share(met, of) for _, met, of in _shares(searched.scope, coverage)]
        drawn.add_row(_shown(check), f"{coverage.cases:,}", *shares)
    drawn.add_section()
    every = [f"{of:,}" for _, _, of in _shares(searched.scope, none)]
    drawn.add_row("of", "", *every)
    return drawn


def in_short(searched: Searched) -> str:
    """Return the shares of agreement in a sentence, equal ones together, and the cases of every other check."""
    alike: dict[str, list[str]] = {}
    for name, met, of in _shares(searched.scope, searched.checks[AGREEMENT]):
        if of:
            alike.setdefault(wording.share(met, of), []).append(name)
    said = ", ".join(f"{share} of {_listed(names)}" for share, names in alike.items())
    beside = ", ".join(
        f"{_shown(one)} in {wording.counted(c.cases, 'case')}" for one, c in searched.checks.items() if one != AGREEMENT
    )
    return f"{said}; also {beside}" if beside else said


def _shown(check: str) -> str:
    """Return the name of a check as tables show it."""
    return "second run" if check == TWICE else check


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def missing_lines(searched: Searched, number: int) -> Iterator[Text]:
    """Yield at most ``number`` interactions that no case had, those of the fewest factors first."""
    left = number
    for strength in (1, *STRENGTHS):
        met, of = searched.checks[AGREEMENT].share(searched.scope, strength)
        if met == of:
            continue
        yield Text(f"not met: {of - met:,} of {of:,} {STRENGTHS.get(strength, 'values')}")
        for one in searched.checks[AGREEMENT].interactions(searched.scope, strength, met=False):
            if not left:
                yield Text("  …")
                return
            left -= 1
            yield Text("  " + ", ".join(f"{name}={value}" for name, value in one.items()))


def _shares(scope: Scope, coverage: Coverage) -> list[tuple[str, int, int]]:
    """Return, for each share, its name, what was met, and how much there is."""
    boundaries = coverage.boundaries(scope).values()
    return [
        ("values", *map(sum, zip(*coverage.met(scope).values(), strict=True))),  # type: ignore[list-item]
        *((name, *coverage.share(scope, few)) for few, name in STRENGTHS.items()),
        ("edges", sum(met for met, _ in boundaries), sum(of for _, of in boundaries)),
        ("edge pairs", *coverage.boundary_pairs(scope)),
    ]


def _of_file(path: Path) -> list[Searched]:
    try:
        whole = json.loads(path.read_text())
        version = whole["version"]
        if version == schema.version():
            return [Searched.of_record(record) for record in whole["coverage"]]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path}: expected a file of `rnn-harness check --coverage`; write it again") from None
    raise UsageError(f"{path}: version={version!r}: expected {schema.version()}; write it again")
