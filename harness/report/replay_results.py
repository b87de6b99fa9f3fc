"""Findings that were run again: a line for each, a line for all, and plain data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from harness.checks.result import Result, Verdict
from harness.report import wording
from harness.report.escaping_console import OPEN_STYLE
from harness.report.facts import failure_line
from harness.report.finding_files import SavedFinding
from harness.report.json_record import result_record
from harness.search.case_replay import ReplayOutcome

STYLES: Final = {ReplayOutcome.FIXED: "bold green", ReplayOutcome.FAILED: "bold red", ReplayOutcome.ERROR: OPEN_STYLE}


@dataclass(frozen=True)
class ReplayResult:
    """A finding that was run again."""

    stored: SavedFinding
    subject: str | None  # the subject on which it was run; ``None`` if nobody names one
    fate: ReplayOutcome
    result: Result | None = None  # the result; ``None`` if it could not be run
    why: str = ""  # the reason why it could not be run

    @property
    def again(self) -> bool | None:
        """True if it fails in the same way as before; ``None`` if that is not known."""
        return None if self.result is None else self.stored.again(self.result)

    @property
    def said(self) -> str:
        """The failure in one line, or why nothing is known; empty if the subject passes."""
        if self.result is None:
            return self.why.partition("\n")[0]
        if self.fate is ReplayOutcome.FIXED:
            return ""
        if self.fate is ReplayOutcome.ERROR and self.result.verdict is Verdict.AGREES:
            return self.unknown
        refused = f"{self.unknown}: " if self.fate is ReplayOutcome.ERROR else ""
        changed = "in another way than before: " if self.fate is ReplayOutcome.FAILED and self.again is False else ""
        return refused + changed + failure_line(self.result)

    @property
    def unknown(self) -> str:
        """The reason why a finding that was run neither fails nor is fixed."""
        if self.result is not None and self.result.verdict is Verdict.AGREES:
            return "it passes in this run, but it was not deterministic: `rnn-harness check` tells if it is fixed"
        return "the subject now refuses the case"


def replayed_line(replayed: ReplayResult) -> Text:
    """Return the finding, its fate, its subject, and what is wrong."""
    words = Text(f"{replayed.stored.name}  ")
    words.append(f"{replayed.fate.value:6}", STYLES[replayed.fate])
    return words.append("".join(f"  {text}" for text in (replayed.subject, replayed.said) if text))


def replays_line(every: Sequence[ReplayResult], directory: str) -> str:
    """Return how many findings have which fate."""
    if not every:
        return f"no findings in {directory}"
    counts = _counts(every)
    text = ", ".join(f"{counts[fate]:,} {fate.value}" for fate in ReplayOutcome)
    return f"{wording.counted(len(every), 'finding')}: {text}"


def replays_record(every: Sequence[ReplayResult]) -> dict[str, Any]:
    """Return all findings that were run again, and how many have which fate."""
    counts = _counts(every)
    return {
        "replays": [_record(replayed) for replayed in every],
        "counts": {fate.value: counts[fate] for fate in ReplayOutcome},
    }


def _record(replayed: ReplayResult) -> dict[str, Any]:
    return {
        "finding": replayed.stored.name,
        "subject": replayed.subject,
        "fate": replayed.fate.value,
        "same_kind": replayed.again,
        "said": replayed.said,
        "result": None if replayed.result is None else result_record(replayed.result),
    }


def _counts(every: Sequence[ReplayResult]) -> Counter[ReplayOutcome]:
    return Counter(replayed.fate for replayed in every)
