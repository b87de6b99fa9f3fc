"""The progress of a search: a line that counts on a terminal or in a notebook, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.text import Text

from harness.report import wording
from harness.search.search_record import SearchRecord
from harness.space.outcome import printable

# The seconds between two plain lines. A search that ends before the first of them prints none.
SECONDS_BETWEEN: Final = 10.0
ENOUGH_CASES: Final = 50  # The cases before which nobody can say how long the rest will take
SECOND: Final = 1.0  # The seconds between two states of a notebook's line, which counts them


@contextmanager
def shown(name: str, console: Console) -> Iterator[Callable[[SearchRecord], None]]:
    """Show the progress of a subject's search on a console, and give the function that is told of it."""
    line = _Line(name)
    if console.is_terminal and console.file.isatty():  # Jupyter and CI set FORCE_COLOR, and are no terminals
        with console.status(line):
            yield line.tell
        return
    ended = threading.Event()
    show = _count_in_a_notebook if console.is_jupyter and not console.quiet else _print_now_and_then
    thread = threading.Thread(target=show, args=(line, console, ended), daemon=True)
    thread.start()
    try:
        yield line.tell
    finally:
        ended.set()
        thread.join()


def _print_now_and_then(line: _Line, console: Console, ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN):
        with suppress(OSError):  # nobody reads it any more
            console.print(line.text(), markup=False, emoji=False, highlight=False, soft_wrap=True)


def _count_in_a_notebook(line: _Line, _console: Console, ended: threading.Event) -> None:
    """Show one line below the cell, not in the red of standard error, and take it away at the end."""
    if ended.wait(SECOND):
        return
    display: Any = import_module("IPython.display").display
    cell = display({"text/plain": line.text()}, raw=True, display_id=True)
    while not ended.wait(SECOND):
        cell.update({"text/plain": line.text()}, raw=True)
    cell.update({"text/plain": ""}, raw=True)


def progress_line(hunt: SearchRecord, rate: float | None) -> str:
    """Return the state of a search: its cases, their ``rate`` a second if known, findings, its work, what is left."""
    parts = [wording.counted(hunt.total, "case")]
    if rate is not None:
        parts[0] += f", {rate:.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
    if hunt.helpers is not None and hunt.helpers.scheduler:
        alone, number = hunt.helpers.alone, hunt.helpers.number
        parts.append("without the cluster" if alone else wording.counted(number, "worker"))
    if hunt.findings:
        parts.append(wording.counted(len(hunt.findings), "finding"))
    if hunt.environment:  # it is noted when the search has ended
        return "; ".join([*parts, "making the last checks"])
    if hunt.explaining:
        parts.append("finding out why it fails")
    elif hunt.smallest is not None:
        parts.append(f"making a failure smaller: {hunt.shrink_checks:,} tried; {wording.sizes_line(hunt.smallest)}")
    elif not hunt.total:
        parts.append("finding out what it supports, and how precise it is")
    if (remaining := _remaining(hunt, rate)) is not None:
        parts.append(remaining)
    return "; ".join(parts)


def _remaining(hunt: SearchRecord, rate: float | None) -> str | None:
    """Return the time that is left where the search has a limit of time, or else the cases; ``None`` if unknown."""
    if hunt.until < math.inf:
        return f"{max(hunt.until - time.perf_counter(), 0):.0f} s left"
    busy = hunt.explaining or hunt.smallest is not None
    if hunt.limit is None or not rate or busy:
        return None
    cases = max(hunt.limit - hunt.total, 0)
    return f"{cases:,} to go, some {cases / rate:.0f} s"


class _Line:
    """The line of one subject, which goes on counting seconds between two messages."""

    def __init__(self, name: str) -> None:
        self._name = printable(name.rpartition("/")[2])  # the folders of a file would leave no room for the rest
        self._hunt: SearchRecord | None = None
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        """The moment at which there were cases for the first time, and their number: what came before is no rate."""

    def tell(self, hunt: SearchRecord) -> None:
        self._hunt = hunt
        if self._first is None and hunt.total:
            self._first = time.monotonic(), hunt.total

    def text(self) -> str:
        seconds = time.monotonic() - self._start
        if self._hunt is None:
            return f"{self._name}: starting; {seconds:.0f} s"
        return f"{self._name}: {progress_line(self._hunt, self._rate(self._hunt.total))}; {seconds:.0f} s"

    def _rate(self, total: int) -> float | None:
        """Return the cases a second, once ``ENOUGH_CASES`` were counted: the first ones are small, or large."""
        if self._first is None or total - self._first[1] < ENOUGH_CASES:
            return None
        seconds = time.monotonic() - self._first[0]
        return (total - self._first[1]) / seconds

    def __rich__(self) -> RenderableType:
        return Text(self.text(), no_wrap=True, overflow="ellipsis")
