"""Coverage reports: the thoroughness of a search, as a table, in a sentence, and as data."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from harness.checks.result import TWICE
from harness.report import wording
from harness.report.facts import FACT_CHARACTERS
from harness.search.search_record import SearchRecord
from harness.space.searched_scope import AGREEMENT, STRENGTH_WORDS, SearchedScope, percent


def shares_record(searched: SearchedScope) -> dict[str, Any]:
    """Return the shares that the table shows, as plain data."""
    return {
        check: {
            "cases": coverage.cases,
            "configs": coverage.configs,
            **{name: {"met": covered, "of": total} for name, covered, total in searched.shares(check)},
        }
        for check, coverage in searched.checks.items()
    }


class TextTable(NamedTuple):
    """A table as text: the names of its columns, and its lines."""

    columns: tuple[str, ...]
    lines: list[tuple[str, ...]]


def shares_rows(searched: SearchedScope) -> TextTable:
    """Return each check's number of cases, and its shares of what can meet in the scope, whose sizes stand last."""
    none = searched.none()
    lines = [
        (_shown(check), f"{coverage.cases:,}", *(percent(*share[1:]) for share in searched.shares(check)))
        for check, coverage in searched.checks.items()
    ]
    sizes = ("of", "", *(f"{share.of:,}" for share in none))
    return TextTable(("share of", "cases", *(share.name for share in none)), [*lines, sizes])


def table(searched: SearchedScope) -> Table:
    """Return the same as a table."""
    [columns, [*lines, sizes]] = shares_rows(searched)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(name, justify="left" if name == columns[0] else "right", no_wrap=True)
    for line in lines:
        drawn.add_row(*line)
    drawn.add_section()
    drawn.add_row(*sizes)
    return drawn


def values_rows(hunt: SearchRecord) -> TextTable:
    """Return the values of each factor that were met, and how many of how many these are."""
    values, counts, lines = hunt.scope.values(), hunt.coverage.factors, list[tuple[str, ...]]()
    for name, (covered, total) in hunt.coverage.met(hunt.scope).items():
        if total > 1 or name not in wording.CALL_FACTORS:
            there = wording.values_line(value for value in values[name] if value in counts.get(name, {}))
            lines.append((name, f"{covered} of {total}", there))
    drawn = hunt.coverage.distributions
    lines.append(("distributions", str(len(drawn)), ", ".join(drawn)))
    return TextTable(("factor", "met", "values"), lines)


def values_table(hunt: SearchRecord) -> Table:
    """Return the same as a table."""
    [columns, lines] = values_rows(hunt)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(name, no_wrap=name != "values", overflow="fold")
    for line in lines:
        drawn.add_row(*map(Text, line))
    return drawn


def in_short(searched: SearchedScope) -> str:
    """Return the shares of agreement in a sentence, equal ones together, and the cases of every other check."""
    alike: dict[str, list[str]] = {}
    for name, covered, total in searched.shares(AGREEMENT):
        if total:
            alike.setdefault(percent(covered, total), []).append(name)
    text = ", ".join(f"{share} of {_listed(names)}" for share, names in alike.items())
    beside = ", ".join(
        f"{_shown(check)} in {wording.counted(c.cases, 'case')}"
        for check, c in searched.checks.items()
        if check != AGREEMENT
    )
    return f"{text}; also {beside}" if beside else text


def of_whole(searched: SearchedScope, *, verbose: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the share of nn.RNN's whole space that was met, unless all of it was, and the factors that never varied.

    A layer of gates has no such share, and no nonlinearity. Not all factors are named, unless ``verbose``.
    """
    _, covered, total = searched.of_whole
    if searched.scope.cell != ("RNN",):
        if names := [name for name in searched.never_varied if name != "nonlinearity"]:
            yield "never varied", _some(names, verbose=verbose)
    elif covered < total:
        without = ", without gradients" if "loss" in searched.never_varied else ""
        text = f"{percent(covered, total)} of its pairs of values{without}"
        names = searched.never_varied
        yield "of nn.RNN", _some(names, f"{text}; never varied: ", verbose=verbose) if names else text


def _some(names: Sequence[str], start: str = "", *, verbose: bool) -> str:
    """Return names behind the start of a sentence, as many as fit beside it, at least one."""
    text, rest = start + names[0], list(names[1:])
    while rest and (verbose or len(f"{text}, {rest[0]}, …") <= 3 * FACT_CHARACTERS // 2):
        text += f", {rest.pop(0)}"
    return f"{text}{', …' if rest else ''}"


def _shown(check: str) -> str:
    return "second run" if check == TWICE else check


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def missing_lines(searched: SearchedScope, number: int) -> Iterator[Text]:
    """Yield at most ``number`` interactions that no case had, those of the fewest factors first."""
    remaining = number
    for strength in (1, *STRENGTH_WORDS):
        covered, total = searched.checks[AGREEMENT].share(searched.scope, strength)
        if covered == total:
            continue
        yield Text(f"not met: {total - covered:,} of {total:,} {STRENGTH_WORDS.get(strength, 'values')}")
        for interaction in searched.checks[AGREEMENT].interactions(searched.scope, strength, met=False):
            if not remaining:
                yield Text("  …")
                return
            remaining -= 1
            yield Text("  " + ", ".join(f"{name}={value}" for name, value in interaction.items()))
