"""The table of ``check --all``: what became of each subject, in a row, as text, as data, in Markdown and in a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from harness.report import wording
from harness.report.finding_entry import SubjectFindings
from harness.report.markdown import code, plain
from harness.space.searched_scope import Share, percent

LONGEST_SUBJECT: Final = 36  # characters of a name that is kept in one line of 80; the other columns take 44
COLUMNS: Final = ("subject", "verdict", "covered", "findings", "minutes")

# The reason why a subject was not asked after an interrupt.
NOT_REACHED: Final = "the run was interrupted before it was checked"


@dataclass(frozen=True)
class SubjectRow:
    """The fate of one subject."""

    subject: str
    verdict: str | None = None  # its verdict; ``None`` if nothing was asked of it
    # The share of all pairs of nn.RNN's values that met; ``None`` if nothing was asked of it.
    covered: Share | None = None
    findings: int = 0
    seconds: float = 0.0  # the time from the start of its process to the end of its report
    why: str = ""  # the reason why it was not asked, or why it cannot be said to agree though nothing is wrong


def row_of(summary: SubjectFindings, seconds: float) -> SubjectRow:
    """Return the row of a subject that was checked."""
    hunt, verdict = summary.examination.hunt, summary.verdict
    why = summary.shortfall.removeprefix(f"{hunt.subject} ").removeprefix(f"{verdict}: ")
    return SubjectRow(hunt.subject, verdict, hunt.searched.of_whole, len(summary.entries), seconds, why)


def table(rows: Sequence[SubjectRow]) -> RenderableType:
    """Return a row for each subject, those that could not be asked at the end, and below them the reasons."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    short = all(len(row.subject) <= LONGEST_SUBJECT for row in rows)
    drawn.add_column(COLUMNS[0], overflow="fold", no_wrap=short)
    drawn.add_column(COLUMNS[1])
    for name in COLUMNS[2:]:
        drawn.add_column(name, justify="right", no_wrap=True)
    *lines, total = _lines(rows)
    for line in lines:
        drawn.add_row(*map(Text, line))
    drawn.add_section()
    drawn.add_row(*total)
    reasons = Table.grid(Column(overflow="fold"), Column(), padding=(0, 2))
    for why, names in _reasons(rows).items():
        reasons.add_row(Text(", ".join(names)), Text(why))
    return Group("", drawn, *([Padding(reasons, (1, 0, 0, 0))] if reasons.row_count else []))


def table_data(rows: Sequence[SubjectRow]) -> dict[str, Any]:
    """Return the table for a page: its columns, its lines, of which the last one adds up, and the reasons below it."""
    return {"columns": COLUMNS, "lines": _lines(rows), "reasons": _reasons(rows)}


def _lines(rows: Sequence[SubjectRow]) -> list[tuple[str, ...]]:
    """Return the cells of each subject that was asked, and then those of all together."""
    pairs = [(row, row.covered) for row in rows if row.covered is not None]
    lines = [
        (row.subject, row.verdict or "", percent(covered.covered, covered.of), *_counts(row.findings, row.seconds))
        for row, covered in pairs
    ]
    findings, seconds = sum(row.findings for row, _ in pairs), sum(row.seconds for row, _ in pairs)
    return [*lines, (wording.counted(len(pairs), "subject"), "", "", *_counts(findings, seconds))]


def _counts(findings: int, seconds: float) -> tuple[str, str]:
    return f"{findings:,}", f"{seconds / 60:.1f}"


def _reasons(rows: Sequence[SubjectRow]) -> dict[str, list[str]]:
    """Return why subjects were not asked, or are not said to agree, each reason with the subjects."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.why:
            reasons.setdefault(row.why, []).append(row.subject)
    return reasons


def rows_record(rows: Sequence[SubjectRow]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [
        {
            "subject": row.subject,
            "verdict": row.verdict,
            "covered": None if row.covered is None else {"met": row.covered.covered, "of": row.covered.of},
            "findings": row.findings,
            "seconds": row.seconds,
            "why": row.why or None,
        }
        for row in rows
    ]


def absent_markdown(rows: Sequence[SubjectRow]) -> str:
    """Return the subjects that were not asked as a list, or nothing."""
    return "".join(f"\n- not checked: {code(row.subject)}: {plain(row.why)}" for row in rows if row.covered is None)
