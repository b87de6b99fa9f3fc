"""place: where a finding was kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.search.findings import DIRECTORY


@dataclass(frozen=True)
class Kept:
    """A finding that was kept."""

    folder: Path
    files: tuple[str, ...] = ()
    script: str | None = None
    """The stand-alone script, which was seen to fail in a fresh process; ``None`` where there is none."""
    no_script: str = ""
    """Why there is none."""

    @property
    def elsewhere(self) -> bool:
        """Whether it is not where ``replay`` looks unless told otherwise."""
        return self.folder.parent != Path(DIRECTORY)
