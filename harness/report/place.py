"""Findings on disk, as reports tell of them: the place in which one was kept, and what was read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from harness.checks.result import Method, Result
from harness.space.case import Case, CaseError

UNKNOWN: Final = "cause unknown"
"""The cause of a kept finding that has none."""

ISSUE: Final = "issue.md"
"""The file that holds a finding as a report to those who can mend it."""

DIRECTORY: Final = ".rnn-harness"
"""The directory in which findings are kept by default."""


@dataclass(frozen=True)
class Kept:
    """A finding that was kept."""

    folder: Path
    files: tuple[str, ...] = ()
    script: str | None = None
    """The stand-alone script, which was seen to fail in a fresh process; ``None`` if there is none."""
    no_script: str = ""
    """The reason why there is no script."""

    @property
    def elsewhere(self) -> bool:
        """True if it is not in the folder in which ``replay`` looks by default."""
        return self.folder.parent != Path(DIRECTORY)


@dataclass(frozen=True)
class Stored:
    """A finding as it was kept, or any case in a file; ``None`` stands for what the file does not say."""

    path: Path
    """The finding's folder, or the file."""
    found: Case | None
    """The case; ``None`` if the file is damaged."""
    subject: str | None = None
    """The subject it was found on."""
    id: str | None = None
    kept: datetime | None = None
    """The time at which it was saved, in UTC."""
    kind: str | None = None
    """The kind of failure; ``Result.shows`` tells whether it still fails in this way."""
    cause: str | None = None
    """The cause in one line."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """The notes saved with the case: the tolerance, the versions."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The contents of ``finding.json``."""
    damage: str = ""
    """The reason why it cannot be read, if it cannot."""

    @property
    def of_dropout(self) -> bool:
        """True if it breaks the law of dropout, which one call does not show."""
        return self.record.get("method") == Method.DROPOUT.name.lower()

    @property
    def wavers(self) -> bool:
        """True if it did not fail in every run: one run that passes does not show that it is fixed."""
        return self.record.get("nondeterministic") is True

    @property
    def case(self) -> Case:
        """The case. Raises ``CaseError`` if the file is damaged."""
        if self.found is None:
            raise CaseError(self.damage)
        return self.found

    def again(self, result: Result) -> bool | None:
        """Return whether a result shows the same kind of failure as before; ``None`` if that kind is not known."""
        return None if self.kind is None else result.shows(self.kind)
