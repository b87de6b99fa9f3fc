"""The table of ``check --all``: what became of each subject, in a row, as text, as data and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from harness.report import wording
from harness.report.complaints import Summary
from harness.report.markdown import code, plain
from harness.space.searched import Share

NOT_REACHED: Final = "the run was interrupted before it was checked"
"""The reason why a subject was not asked after an interrupt."""


@dataclass(frozen=True)
class Row:
    """The fate of one subject."""

    subject: str
    verdict: str | None = None
    """Its verdict; ``None`` if nothing was asked of it."""
    covered: Share | None = None
    """The share of all pairs of nn.RNN's values that met; ``None`` if nothing was asked of it."""
    findings: int = 0
    seconds: float = 0.0
    """The time from the start of its process to the end of its report."""
    why: str = ""
    """The reason why it was not asked, or why it cannot be said to agree though nothing is wrong."""


def row_of(summary: Summary, seconds: float) -> Row:
    """Return the row of a subject that was checked."""
    hunt, verdict = summary.examination.hunt, summary.examination.verdict
    said = "interrupted" if summary.examination.interrupted and not summary.complaints else verdict and verdict.value
    why = summary.shortfall.removeprefix(f"{hunt.subject} ").removeprefix(f"{said}: ")
    return Row(hunt.subject, said or "not checked", hunt.searched.of_whole, len(summary.complaints), seconds, why)


def table(rows: Sequence[Row]) -> RenderableType:
    """Return a row for each subject, those that could not be asked at the end, and below them the reasons."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    drawn.add_column("subject", overflow="fold")
    drawn.add_column("verdict")
    for name in ("covered", "findings", "minutes"):
        drawn.add_column(name, justify="right", no_wrap=True)
    asked = [row for row in rows if row.covered is not None]
    for row in asked:
        drawn.add_row(*map(Text, (row.subject, *_cells(row))))
    drawn.add_section()
    found, minutes = sum(row.findings for row in asked), sum(row.seconds for row in asked) / 60
    drawn.add_row(wording.counted(len(asked), "subject"), "", "", f"{found:,}", f"{minutes:.1f}")
    said = Table.grid(Column(overflow="fold"), Column(), padding=(0, 2))
    for why, names in _reasons(rows).items():
        said.add_row(Text(", ".join(names)), Text(why))
    return Group("", drawn, *([Padding(said, (1, 0, 0, 0))] if said.row_count else []))


def _cells(row: Row) -> tuple[str, ...]:
    met, of = (0, 0) if row.covered is None else row.covered[1:]
    return (row.verdict or "", wording.share(met, of), f"{row.findings:,}", f"{row.seconds / 60:.1f}")


def _reasons(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return why subjects were not asked, or are not said to agree, each reason with the subjects."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.why:
            said.setdefault(row.why, []).append(row.subject)
    return said


def rows_record(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [
        {
            "subject": row.subject,
            "verdict": row.verdict,
            "covered": None if row.covered is None else {"met": row.covered.met, "of": row.covered.of},
            "findings": row.findings,
            "seconds": row.seconds,
            "why": row.why or None,
        }
        for row in rows
    ]


def absent_markdown(rows: Sequence[Row]) -> str:
    """Return the subjects that were not asked as a list, or nothing."""
    return "".join(f"\n- not checked: {code(row.subject)}: {plain(row.why)}" for row in rows if row.covered is None)
