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
            **{name: {"met": covered, "of": total} for name, covered, total in searched.shares(check)},
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
        shares = [wording.share(covered, total) for _, covered, total in searched.shares(check)]
        drawn.add_row(_shown(check), f"{coverage.cases:,}", *shares)
    drawn.add_section()
    drawn.add_row("of", "", *(f"{share.of:,}" for share in none))
    return drawn


def in_short(searched: SearchedScope) -> str:
    """Return the shares of agreement in a sentence, equal ones together, and the cases of every other check."""
    alike: dict[str, list[str]] = {}
    for name, covered, total in searched.shares(AGREEMENT):
        if total:
            alike.setdefault(wording.share(covered, total), []).append(name)
    text = ", ".join(f"{share} of {_listed(names)}" for share, names in alike.items())
    beside = ", ".join(
        f"{_shown(check)} in {wording.counted(c.cases, 'case')}"
        for check, c in searched.checks.items()
        if check != AGREEMENT
    )
    return f"{text}; also {beside}" if beside else text


def of_whole(searched: SearchedScope) -> str | None:
    """Return the share of nn.RNN's whole space that was met, and what it lacks; ``None`` if it was all met."""
    _, covered, total = searched.of_whole
    if covered == total:
        return None
    without = ", without gradients" if "loss" in searched.never_varied else ""
    text, names = f"{wording.share(covered, total)} of its pairs of values{without}", list(searched.never_varied)
    if not names:
        return text
    text = f"{text}; never varied: {names.pop(0)}"
    while names and len(f"{text}, {names[0]}, …") <= 3 * FACT_CHARACTERS // 2:
        text += f", {names.pop(0)}"
    return f"{text}{', …' if names else ''}"


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
