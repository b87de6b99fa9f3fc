"""The place in which a finding was kept."""

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
    """The stand-alone script, which was seen to fail in a fresh process; ``None`` if there is none."""
    no_script: str = ""
    """The reason why there is no script."""

    @property
    def elsewhere(self) -> bool:
        """True if it is not in the folder in which ``replay`` looks by default."""
        return self.folder.parent != Path(DIRECTORY)
