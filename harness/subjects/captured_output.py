"""captured_output: what subjects print and warn while they are checked, which is no part of the report.

Their processes write it into files, one each, because lines of two would be mixed in one, in a folder that the command
makes and an environment variable names. At the end, each distinct line is shown once for a subject.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, unquote

from harness.space.outcome import printable

VARIABLE: Final = "RNN_HARNESS_PRINTS"
LINES_SHOWN: Final = 10  # the distinct lines that are shown of a subject
LONGEST_NAME: Final = 200  # characters of a file's name, of which file systems take 255


@contextmanager
def folder() -> Iterator[None]:
    """Make a folder for what the processes of subjects print that are started from here on."""
    with TemporaryDirectory(prefix="rnn-harness-") as path:
        os.environ[VARIABLE] = path
        try:
            yield
        finally:
            os.environ.pop(VARIABLE, None)


def redirect(spec: str) -> None:
    """Send what this process prints from here on to the file of a subject, if there is a folder for that."""
    path = os.environ.get(VARIABLE)
    if path is None or not Path(path).is_dir():  # a worker elsewhere has none
        return
    name = f"{quote(printable(spec), safe='')[-LONGEST_NAME:]}.{os.getpid()}"
    opened = os.open(Path(path, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(opened, stream)
    os.close(opened)


def summary() -> Iterator[str]:
    """Yield for each subject how many lines it printed, and the first distinct ones."""
    path = os.environ.get(VARIABLE)
    printed: dict[str, Counter[str]] = {}
    for file in () if path is None else sorted(Path(path).iterdir()):
        with file.open(errors="replace") as lines:
            printed.setdefault(file.stem, Counter()).update(line.rstrip() for line in lines if line.strip())
    for name, counts in printed.items():
        if not counts:
            continue
        rest = len(counts) - LINES_SHOWN
        yield f"{unquote(name)} printed {counts.total():,} lines, {len(counts):,} of them different" + (
            f"; {rest:,} are not shown here. --capture no shows all" if rest > 0 else ""
        )
        yield from (f"  {number:>7,} x  {line}" for line, number in islice(counts.items(), LINES_SHOWN))
