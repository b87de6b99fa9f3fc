"""HTML reports of runs and of kept findings, with the scripts and issues that lie beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from harness.diagnosis.upgrade import Upgrade
from harness.report.everything import Row
from harness.report.page.data import finding_data, page_data, stored_data, subject_data
from harness.report.page.render import page
from harness.report.place import ISSUE, Stored
from harness.report.severity import Told, in_order
from harness.report.upgrade import upgrade_data
from harness.search.examination import Examination
from harness.subjects.capabilities import Capabilities

SHOWN: Final = ("reproduce.py", ISSUE)
"""The files of a finding whose text a page shows."""

LONGEST: Final = 2**17
"""The most characters of a file that a page shows, so that it stays small."""


def of_run(
    every: Iterable[tuple[Examination, Sequence[Told], Capabilities]],
    *,
    command: str,
    version: str,
    tolerance: str = "derived",
    rows: Sequence[Row] | None = None,
    upgrade: Upgrade | None = None,
) -> str:
    """Return the page of a run: its subjects and their findings, the gravest first. ``command`` repeats the run.

    ``rows`` are those of the table of ``check --all``; an ``upgrade`` is told first.
    """
    subjects, findings, every = [], [], list(every)
    for done, told, capabilities in every:
        ordered = in_order(told)
        subjects.append(subject_data(done, ordered, capabilities))
        findings += [
            finding_data(one, _texts(None if one.kept is None else one.kept.folder), tolerance) for one in ordered
        ]
    between = None if upgrade is None else upgrade_data(upgrade, [one for _, told, _ in every for one in told])
    return _written(page_data(subjects, findings, command, version, rows=rows, upgrade=between))


def of_findings(stored: Sequence[Stored], *, command: str, version: str) -> str:
    """Return the page of findings that were kept earlier."""
    return _written(page_data([], [stored_data(one, _texts(one.path)) for one in stored], command, version))


def _written(data: dict[str, Any]) -> str:
    """Return the page of data, without what no file can hold."""
    return page(data).encode(errors="backslashreplace").decode()


def _texts(folder: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if folder is None:
        return found
    for name in SHOWN:
        with suppress(OSError):
            text = (folder / name).read_text(errors="replace")
            found[name] = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… the rest is in {folder / name}"
    return found
