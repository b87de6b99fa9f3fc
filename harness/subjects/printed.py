"""printed: what subjects print and warn while they are checked, which is no part of the report.

Their processes write it into files, one for each subject, in a folder that the command makes and an environment
variable names. At the end, each distinct line is shown once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote

VARIABLE: Final = "RNN_HARNESS_PRINTED"
MOST: Final = 10  # the distinct lines that are shown of a subject


@contextmanager
def kept() -> Iterator[None]:
    """Keep what the processes of subjects print that are started from here on."""
    with TemporaryDirectory(prefix="rnn-harness-") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(VARIABLE, None)


def keep(spec: str) -> None:
    """Write what this process prints from here on into the file of a subject, if there is a folder for that."""
    if (file := _file_of(spec)) is not None and file.parent.is_dir():  # a worker elsewhere has none
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(opened, stream)
        os.close(opened)


def lines_of(spec: str) -> Iterator[str]:
    """Yield what is said of a subject's printed lines: how many there are, and the first distinct ones."""
    if (file := _file_of(spec)) is None or not file.is_file():
        return
    with file.open(errors="replace") as lines:
        counts = Counter(line.rstrip() for line in lines if line.strip())
    if counts:
        rest = len(counts) - MOST
        yield f"{spec} printed {counts.total():,} lines, {len(counts):,} of them different" + (
            f"; {rest:,} are not shown here. --capture no shows all" if rest > 0 else ""
        )
        yield from (f"  {number:>7,} x  {line}" for line, number in islice(counts.items(), MOST))


def _file_of(spec: str) -> Path | None:
    folder = os.environ.get(VARIABLE)
    return None if folder is None else Path(folder, quote(spec, safe="")[-200:])
