"""The progress of a search: one line that counts on a terminal, and a plain line now and then elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from harness.report import wording
from harness.search.record import Hunt

EVERY: Final = 10.0
"""The seconds between two plain lines. A search that ends before the first of them prints none."""


@contextmanager
def shown(name: str, console: Console) -> Iterator[Callable[[Hunt], None]]:
    """Show the progress of a subject's search on a console, and give the function that is told of it."""
    line = _Line(name)
    if console.is_terminal and console.file.isatty():  # Jupyter and CI set FORCE_COLOR, and are no terminals
        with console.status(line):
            yield line.tell
        return
    ended = threading.Event()
    thread = threading.Thread(target=_print_now_and_then, args=(line, console, ended), daemon=True)
    thread.start()
    try:
        yield line.tell
    finally:
        ended.set()
        thread.join()


def _print_now_and_then(line: _Line, console: Console, ended: threading.Event) -> None:
    while not ended.wait(EVERY):
        console.print(line.text(), markup=False, emoji=False, highlight=False, soft_wrap=True)


def progress_line(hunt: Hunt, seconds: float) -> str:
    """Return the state of a search after some seconds: its cases, their rate, findings, its work, and what is left."""
    parts = [wording.counted(hunt.total, "case")]
    if hunt.total and seconds >= 1:
        parts[0] += f", {hunt.total / seconds:.0f}/s"
    if hunt.findings:
        parts.append(wording.counted(len(hunt.findings), "finding"))
    if hunt.explaining:
        parts.append("finding out why it fails")
    elif hunt.smallest is not None:
        parts.append(f"making a failure smaller: {hunt.shrink_checks:,} tried; {wording.sizes_line(hunt.smallest)}")
    elif not hunt.total:
        parts.append("finding out what it supports, and how precise it is")
    if (left := _left(hunt, seconds)) is not None:
        parts.append(left)
    return "; ".join(parts)


def _left(hunt: Hunt, seconds: float) -> str | None:
    """Return the time that is left where the search has a limit of time, or else the cases; ``None`` if unknown."""
    if hunt.until < math.inf:
        return f"{max(hunt.until - time.perf_counter(), 0):.0f} s left"
    busy = hunt.explaining or hunt.smallest is not None
    if hunt.limit is None or not hunt.total or busy:
        return None
    left = max(hunt.limit - hunt.total, 0)
    return f"{left:,} to go, some {left * seconds / hunt.total:.0f} s"


class _Line:
    """The line of one subject, which goes on counting seconds between two messages."""

    def __init__(self, name: str) -> None:
        self._name = name.rpartition("/")[2]  # the folders of a file would leave no room for the rest
        self._hunt: Hunt | None = None
        self._start = time.monotonic()

    def tell(self, hunt: Hunt) -> None:
        self._hunt = hunt

    def text(self) -> str:
        seconds = time.monotonic() - self._start
        if self._hunt is None:
            return f"{self._name}: starting; {seconds:.0f} s"
        return f"{self._name}: {progress_line(self._hunt, seconds)}; {seconds:.0f} s"

    def __rich__(self) -> RenderableType:
        return Text(self.text(), no_wrap=True, overflow="ellipsis")
