"""Findings on disk, as reports show them: the folder in which one was kept, and what was read back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from harness.checks.result import Result
from harness.space.case import Case, CaseError

CAUSE_UNKNOWN: Final = "cause unknown"
NOT_LOOKED_FOR: Final = "cause not looked for"
SCRIPT: Final = "reproduce.py"
ISSUE: Final = "issue.md"  # a finding as a report to those who can mend it
DIRECTORY: Final = ".rnn-harness"  # where findings are kept by default


@dataclass(frozen=True)
class Fact:
    """A line of a report."""

    name: str
    text: str
    detail: bool = False  # for readers who ask for everything: with -v, of a kept finding, in an issue
    language: str = ""  # python or sh: code, which is copied and never cut


@dataclass(frozen=True)
class FindingFiles:
    """A finding that was kept."""

    folder: Path
    files: tuple[str, ...] = ()
    script: str | None = None  # the stand-alone script, which was seen to fail in a fresh process, if there is one
    no_script: str = ""  # the reason why there is no script
    earlier: str = ""  # the headline of an earlier record, which is kept because it says more
    own: bool = True  # this machine wrote it, so a replay runs what it names

    @property
    def elsewhere(self) -> bool:
        """True if it is not in the folder in which ``replay`` looks by default."""
        return self.folder.parent != Path(DIRECTORY)


@dataclass(frozen=True)
class SavedFinding:
    """A finding as it was kept, or any case in a file; ``None`` stands for what the file does not say."""

    path: Path  # the finding's folder, or the file
    saved_case: Case | None  # the case; None if the file is damaged
    subject: str | None = None  # the subject it was found on
    id: str | None = None
    saved_at: datetime | None = None  # when it was saved, in UTC
    kind: str | None = None  # Result.shows tells whether it still fails in this way
    cause: str | None = None  # the cause, or else what is wrong, in a sentence
    certainty: str = ""  # how certain the cause is
    facts: tuple[Fact, ...] = ()
    error_maps: Mapping[str, Any] | None = None
    source: str = ""  # the hash of the file that the subject was in
    result: Mapping[str, Any] = field(default_factory=dict)  # as plain data
    of_dropout: bool = False  # it breaks the statistics of dropout, which one call does not show
    nondeterministic: bool = (
        False  # it did not fail in every run, so one run that passes does not show that it is fixed
    )
    notes: Mapping[str, Any] = field(default_factory=dict)  # saved with the case: the tolerance, the versions
    own: bool = False  # this machine wrote it, and nobody has edited it since
    damage: str = ""  # the reason why it cannot be read, if it cannot

    @property
    def case(self) -> Case:
        """The case. Raises ``CaseError`` if the file is damaged."""
        if self.saved_case is None:
            raise CaseError(self.damage)
        return self.saved_case

    @property
    def name(self) -> str:
        """The id, or else the name of the file or folder."""
        return self.id or self.path.name

    @property
    def files(self) -> FindingFiles:
        """The files in its folder."""
        names = tuple(sorted(path.name for path in self.path.iterdir())) if self.path.is_dir() else ()
        return FindingFiles(self.path, names, SCRIPT if SCRIPT in names else None, own=self.own)

    def again(self, result: Result) -> bool | None:
        """Return whether a result shows the same kind of failure as before; ``None`` if that kind is not known."""
        return None if self.kind is None else result.shows(self.kind)
