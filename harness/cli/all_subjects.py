"""The subjects of ``rnn-harness check --all``: those that are here, one after the other, and what each of them gets."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.cli.codes import FINDING, INTERRUPTED, MISUSE
from harness.cli.console import complain, print_summary
from harness.report.results_table import NOT_REACHED, SubjectRow, row_of, table
from harness.search.examination import LEAST_CASES
from harness.space.errors import UsageError
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.registry import registered
from harness.subjects.subject_names import cell_of

if TYPE_CHECKING:
    from rich.console import Console

    from harness.cli.check_documents import Outputs
    from harness.report.finding_entry import SubjectFindings
    from harness.report.json_record import RunOptions
    from harness.search.search_options import SearchOptions
    from harness.space.scope import Scope
    from harness.subjects.protocol import Subject

TIME: Final = 1800.0
"""The seconds that all of them share, unless ``--time`` or ``--examples`` says what each gets. On a CPU the quick ones
take some 25 s each, so most of it is left to those that compile, where a case may take 15 s.
"""

LEAST_SECONDS: Final = 1.0  # the seconds that one gets even if those before it have used up the time


class Target(NamedTuple):
    """A subject, and what is asked of it."""

    subject: Subject
    scope: Scope
    options: SearchOptions


class AvailableSubjects:
    """The subjects of one layer that have a name, as far as they are here, those that are slow at new shapes last.

    A slow one gets as many cases as it needs to be said to agree. Each gets an equal share of the time that is left, so
    what the quick ones leave goes to the slow ones. Each runs in a process of its own, which ends before the next one
    starts.
    """

    def __init__(self, ask: Callable[[Subject], Target], timeout: float, cell: str = "RNN") -> None:
        """Take a function that returns what is asked of a subject, how long each call may take, and whose layer."""
        self._ask, self._timeout = ask, timeout
        self.names = tuple(name for name in registered() if cell_of(name) == cell)  # of all, whether here or not
        self.absent: dict[str, str] = {}  # the names of those that cannot be asked, with the reasons

    def turns(self) -> Generator[Target]:
        """Yield one after the other. Raise ``UsageError`` if there is none, with the reasons."""
        until, slow, waiting = time.perf_counter() + TIME, set[str](), list(self.names)
        while waiting:
            share = max((until - time.perf_counter()) / len(waiting), LEAST_SECONDS)
            name = waiting.pop(0)
            try:
                with IsolatedSubject(name, timeout=self._timeout) as subject:
                    if name not in slow and subject.capabilities.slow:
                        slow.add(name)
                        waiting.append(name)
                        continue
                    target = self._ask(subject)
                    if target.options.cases is None and target.options.seconds is None:
                        cases = LEAST_CASES if name in slow else None
                        target = target._replace(options=replace(target.options, cases=cases, seconds=share))
                    yield target
            except UsageError as error:
                self.absent[name] = str(error).removeprefix(f"{name}: ")
        if len(self.absent) == len(self.names):
            raise UsageError("--all: no subject is here: " + "; ".join(dict.fromkeys(self.absent.values())))


def check_all(
    here: AvailableSubjects,
    search: Callable[[Target], SubjectFindings],
    console: Console,
    outputs: Outputs,
    run: RunOptions,
    *,
    quiet: bool,
    verbose: bool,
) -> int:
    """Search one subject after the other, report its findings, and end with the table; return the exit code.

    An interrupt ends it with what was done until then.
    """
    from harness.cli.check import exit_code
    from harness.report import terminal

    every: list[SubjectFindings] = []
    took: list[float] = []
    lost = interrupted = False
    with closing(here.turns()) as turns:
        start = time.perf_counter()
        try:
            for target in turns:
                try:
                    done = search(target)
                except UsageError as error:  # such as a subject that no worker can make
                    here.absent[target.subject.name] = str(error)
                    complain(f"Error: {error}")
                    lost = True
                    continue
                start, began = time.perf_counter(), start
                every.append(done)
                took.append(start - began)
                if quiet or verbose:
                    print_summary(console, done, quiet=quiet, verbose=verbose, first=len(every) == 1)
                else:
                    console.print(terminal.findings_report(done))
                if interrupted := done.examination.interrupted:
                    break
        except KeyboardInterrupt:  # between two searches
            if not every:
                raise
            interrupted = True
    rows = [row_of(done, seconds) for done, seconds in zip(every, took, strict=True)]
    rows += [SubjectRow(name, why=why) for name, why in here.absent.items()]
    reached = {row.subject for row in rows}
    rows += [SubjectRow(name, why=NOT_REACHED) for name in here.names if name not in reached]
    console.print(table(rows))
    outputs.write(every, run, rows=rows)
    code = exit_code([done.examination for done in every]) if every else MISUSE
    if code == FINDING:
        return FINDING
    return INTERRUPTED if interrupted else max(code, MISUSE) if lost else code
