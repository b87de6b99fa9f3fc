"""The HTML report: the verdict, then the findings with maps of their errors, then what was checked and what was not.

Its sentences are those of the command; it adds the maps, and the texts that lie beside a kept finding.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from harness.report import coverage_words, wording
from harness.report.examination_facts import examination_facts
from harness.report.facts import code_of
from harness.report.finding_entry import FindingEntry, SubjectFindings, entry_of_stored, verdict_on_all
from harness.report.finding_files import ISSUE, SCRIPT, SavedFinding
from harness.report.results_table import SubjectRow, table_data
from harness.report.terminal import headline
from harness.report.upgrade import UpgradeComparison, upgrade_data
from harness.space.errors import UsageError
from harness.space.reading import read_bytes

FILES: Final = (SCRIPT, ISSUE)  # beside a finding, whose text is shown
LONGEST_TEXT: Final = 2**17  # characters of such a text, so that a page stays small

ERROR_LEVELS: Final = (
    (10.0, "l1"),
    (1e3, "l2"),
    (math.inf, "l3"),
)  # CSS classes of wrong elements, by error over tolerance


def page_of_run(
    summaries: Sequence[SubjectFindings],
    *,
    command: str,
    version: str,
    rows: Sequence[SubjectRow] | None = None,
    upgrade: UpgradeComparison | None = None,
) -> str:
    """Return the page of a run. ``command`` repeats it.

    ``rows`` are those of the table of ``check --all``; an ``upgrade`` is told first.
    """
    verdicts = [(wording.tone(summary.examination.verdict), headline(summary)) for summary in summaries]
    [tone, title] = verdicts[0] if len(verdicts) == 1 else (_worst(verdicts), verdict_on_all(summaries))
    between = None if upgrade is None else upgrade_data(upgrade)
    return _page(
        title=title if between is None else between["headline"],
        tone=tone if between is None else between["tone"],
        verdicts=verdicts if len(verdicts) > 1 else [],
        upgrade=between,
        table=None if rows is None else table_data(rows),
        findings=[_finding(summary.subject, entry) for summary in summaries for entry in summary.entries],
        checked=[_checked(summary) for summary in summaries],
        command=command,
        version=version,
    )


def page_of_findings(stored: Sequence[SavedFinding], *, command: str, version: str) -> str:
    """Return the page of findings that were kept earlier."""
    return _page(
        title=wording.counted(len(stored), "finding"),
        tone="bad" if stored else "good",
        verdicts=[],
        upgrade=None,
        table=None,
        findings=[_finding(finding.subject or "", entry_of_stored(finding)) for finding in stored],
        checked=[],
        command=command,
        version=version,
    )


def piece(data: Mapping[str, Any]) -> str:
    """Return what a notebook shows of a result: verdict, cause, shapes, and the maps of the errors."""
    return _template("piece.html.j2").render(data)


def _page(**data: Any) -> str:
    text = _template("page.html.j2").render(data)
    return text.encode(errors="backslashreplace").decode()  # without what no file can hold


def _worst(verdicts: Sequence[tuple[str, str]]) -> str:
    tones = [tone for tone, _ in verdicts]
    return next((tone for tone in ("bad", "warn") if tone in tones), "good")


def _finding(subject: str, entry: FindingEntry) -> dict[str, Any]:
    code = code_of(entry.facts)
    facts = [fact for fact in entry.facts if fact.name not in code]
    return {
        "subject": subject,
        "title": entry.title,
        "sure": entry.sure,
        "id": entry.id,
        "code": code,
        "facts": [(fact.name, fact.text) for fact in facts if not fact.detail and not fact.language],
        "copied": [(fact.name, fact.text) for fact in facts if not fact.detail and fact.language],
        "details": [fact for fact in facts if fact.detail],
        "error_maps": entry.error_maps,
        "texts": {} if entry.folder is None else _files(entry.folder),
    }


def _checked(summary: SubjectFindings) -> dict[str, Any]:
    done = summary.examination
    passed = done.hunt.checks and not done.hunt.findings
    return {
        "subject": summary.subject,
        "facts": [*examination_facts(done, summary.findings, verbose=True)],
        "met": [coverage_words.values_rows(done.hunt), coverage_words.shares_rows(done.hunt.searched)] * bool(passed),
    }


def _files(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name in FILES:
        with suppress(UsageError):
            text = read_bytes(folder / name).decode(errors="replace")
            texts[name] = (
                text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}\n… the rest is in {folder / name}"
            )
    return texts


def _cell(error: float | str) -> tuple[str, str] | None:
    """Return the class and the text of a cell; ``None`` if its number is within its tolerance."""
    error = float(error)  # a file has an infinity as text
    if math.isnan(error):
        return "pad", "pad"
    if error <= 1:
        return None
    text = "∞" if math.isinf(error) else f"{error:.2g}" if error < 99 else f"{error:.0e}".replace("e+0", "e")
    return next(level for most, level in ERROR_LEVELS if error <= most), text


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(name)
