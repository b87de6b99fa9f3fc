"""findings: failing cases kept as files, and replayed from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from harness.checks.everything import check as check_everything
from harness.checks.laws import LAWS
from harness.checks.repeatability import confirmed
from harness.checks.result import Result, Verdict
from harness.oracle.arithmetic import STRICT, Accepted
from harness.search.hunt import Finding
from harness.space.case import Case, load_with_notes
from harness.subjects.protocol import Subject


class Fate(Enum):
    """What became of a finding."""

    FIXED = "FIXED"
    FAILED = "FAILED"
    UNSUPPORTED = "UNSUPPORTED"
    """The subject now refuses the case, which is neither."""


@dataclass(frozen=True)
class Stored:
    """A case read from a file, and the subject it was found on, if the file says so."""

    path: Path
    case: Case
    subject: str | None


def save(finding: Finding, directory: str | os.PathLike[str]) -> Path:
    """Write the finding's case to ``directory`` under its id, atomically. Raises ``OSError`` where it cannot."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.id}.npz"
    finding.case.save(path, subject=finding.subject)
    return path


def load(path: str | os.PathLike[str]) -> Stored:
    """Read a finding, or any file that ``Case.save`` wrote. Raises ``CaseError`` where it holds no case."""
    case, notes = load_with_notes(path)
    subject: Any = notes.get("subject")
    return Stored(Path(path), case, subject if isinstance(subject, str) else None)


def replay(subject: Subject, case: Case, accepted: Accepted = STRICT) -> tuple[Fate, Result]:
    """Run the case once more: fixed, still failing (be it under suspicion), or refused, and the result that says so."""
    check = partial(check_everything, subject, accepted=accepted, laws=tuple(LAWS.values()))
    result = check(case)
    if result.verdict is Verdict.UNSUPPORTED:
        return Fate.UNSUPPORTED, result
    result = confirmed(subject, case, result, check)
    return (Fate.FIXED if result.verdict is Verdict.AGREES else Fate.FAILED), result
