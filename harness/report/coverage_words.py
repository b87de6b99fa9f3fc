"""Coverage reports: the thoroughness of a search, as a table, in a sentence, and as data."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.checks.result import TWICE
from harness.report import wording
from harness.report.facts import FACT_CHARACTERS
from harness.space.searched_scope import AGREEMENT, STRENGTH_WORDS, SearchedScope


def shares_record(searched: SearchedScope) -> dict[str, Any]:
    """Return the shares that the table shows, as plain data."""
    return {
        check: {
            "cases": coverage.cases,
            "configs": coverage.configs,
            **{name: {"met": met, "of": of} for name, met, of in searched.shares(check)},
        }
        for check, coverage in searched.checks.items()
    }


def table(searched: SearchedScope) -> Table:
    """Return a table with each check's number of cases, and its shares of what can meet in the scope."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    drawn.add_column("share of", no_wrap=True)
    none = searched.none()
    for name in ("cases", *(share.name for share in none)):
        drawn.add_column(name, justify="right", no_wrap=True)
    for check, coverage in searched.checks.items():
        shares = [wording.share(met, of) for _, met, of in searched.shares(check)]
        drawn.add_row(_shown(check), f"{coverage.cases:,}", *shares)
    drawn.add_section()
    drawn.add_row("of", "", *(f"{share.of:,}" for share in none))
    return drawn


def in_short(searched: SearchedScope) -> str:
    """Return the shares of agreement in a sentence, equal ones together, and the cases of every other check."""
    alike: dict[str, list[str]] = {}
    for name, met, of in searched.shares(AGREEMENT):
        if of:
            alike.setdefault(wording.share(met, of), []).append(name)
    said = ", ".join(f"{share} of {_listed(names)}" for share, names in alike.items())
    beside = ", ".join(
        f"{_shown(one)} in {wording.counted(c.cases, 'case')}" for one, c in searched.checks.items() if one != AGREEMENT
    )
    return f"{said}; also {beside}" if beside else said


def of_whole(searched: SearchedScope) -> str | None:
    """Return the share of nn.RNN's whole space that was met, and what it lacks; ``None`` if it was all met."""
    _, met, of = searched.of_whole
    if met == of:
        return None
    without = ", without gradients" if "loss" in searched.never_varied else ""
    said, left = f"{wording.share(met, of)} of its pairs of values{without}", list(searched.never_varied)
    if not left:
        return said
    said = f"{said}; never varied: {left.pop(0)}"
    while left and len(f"{said}, {left[0]}, …") <= 3 * FACT_CHARACTERS // 2:
        said += f", {left.pop(0)}"
    return f"{said}{', …' if left else ''}"


def _shown(check: str) -> str:
    return "second run" if check == TWICE else check


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def missing_lines(searched: SearchedScope, number: int) -> Iterator[Text]:
    """Yield at most ``number`` interactions that no case had, those of the fewest factors first."""
    left = number
    for strength in (1, *STRENGTH_WORDS):
        met, of = searched.checks[AGREEMENT].share(searched.scope, strength)
        if met == of:
            continue
        yield Text(f"not met: {of - met:,} of {of:,} {STRENGTH_WORDS.get(strength, 'values')}")
        for one in searched.checks[AGREEMENT].interactions(searched.scope, strength, met=False):
            if not left:
                yield Text("  …")
                return
            left -= 1
            yield Text("  " + ", ".join(f"{name}={value}" for name, value in one.items()))
