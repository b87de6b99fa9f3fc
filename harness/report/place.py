"""Findings on disk, as reports tell of them: the place in which one was kept, and what was read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from harness.checks.result import WAVERS, Method, Result
from harness.search.replay import Fate
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


class State(Enum):
    """The states of a kept finding."""

    OPEN = "open"
    """It failed when it was last run, in some environment at least."""
    KNOWN = "known"
    """It is open, and has an excuse that holds today."""
    FIXED = "fixed"
    """It passed when it was last run, in every environment in which it was seen."""


@dataclass(frozen=True)
class Seen:
    """The sightings of a finding in one environment, summed up."""

    environment: str
    """Eight hex digits that identify the environment."""
    words: str
    """The description of the environment; empty if it is lost."""
    first: datetime | None
    """The time at which it was first seen to fail there; ``None`` if it never was."""
    last: datetime | None
    """The time at which it was last seen to fail there."""
    fate: Fate
    """Its fate when it was last run there: FAILED or FIXED."""
    at: datetime
    """The time of that."""


@dataclass(frozen=True)
class Excuse:
    """The reason why a finding may go on failing until some day."""

    until: date
    """The last day on which it holds, in UTC."""
    because: str
    """A link, or other words."""

    @property
    def holds(self) -> bool:
        """True until the end of the last day."""
        return datetime.now(UTC).date() <= self.until


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
    seen: tuple[Seen, ...] = ()
    """The sightings of it, by environment."""
    excuse: Excuse | None = None
    """The reason why it may fail for now, if someone gave one."""

    @property
    def of_dropout(self) -> bool:
        """True if it breaks the law of dropout, which one call does not show."""
        return self.record.get("method") == Method.DROPOUT.name.lower()

    @property
    def wavers(self) -> bool:
        """True if it did not fail in every run: one run that passes does not show that it is fixed."""
        return str(self.record.get("message") or "").startswith(WAVERS)

    @property
    def state(self) -> State:
        """The state, which follows from what was seen last in each environment."""
        if self.seen and all(one.fate is Fate.FIXED for one in self.seen):
            return State.FIXED
        return State.KNOWN if self.excuse is not None and self.excuse.holds else State.OPEN

    @property
    def first_seen(self) -> datetime | None:
        """The time at which it was first seen to fail, as far as that is known."""
        return min((one.first for one in self.seen if one.first is not None), default=self.kept)

    @property
    def last_seen(self) -> datetime | None:
        """The time at which it was last seen to fail, as far as that is known."""
        return max((one.last for one in self.seen if one.last is not None), default=self.kept)

    def told(self, fate: Fate, result: Result) -> Fate:
        """Return the fate to report for one of today: it is known if an excuse holds, and it fails as it did before."""
        excused = self.excuse is not None and self.excuse.holds and self.again(result) is not False
        return Fate.KNOWN if fate is Fate.FAILED and excused else fate

    @property
    def case(self) -> Case:
        """The case. Raises ``CaseError`` if the file is damaged."""
        if self.found is None:
            raise CaseError(self.damage)
        return self.found

    def again(self, result: Result) -> bool | None:
        """Return whether a result shows the same kind of failure as before; ``None`` if that kind is not known."""
        return None if self.kind is None else result.shows(self.kind)
