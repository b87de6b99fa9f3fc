"""The output of the commands: the console for people, and documents, which go to files or standard output."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final

import click

from harness.cli.codes import FINDING, MISUSE, READER_GONE

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.finding_entry import SubjectFindings


# The options of ``textwrap`` by which a line is broken between words only.
WHOLE_WORDS: Final[Mapping[str, Any]] = {"break_on_hyphens": False, "break_long_words": False}

# The places among what click keeps for a command: of what could not be written, and of whether nobody reads a pipe.
_UNWRITTEN: Final = "harness.cli.unwritten"
_UNREAD: Final = "harness.cli.unread"


def open_streams() -> None:
    """Open the standard streams that are closed, or files would get their numbers, and have them take any character."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Write an error or a warning to standard error, without terminal control: its parts may be of foreign origin.

    A terminal shows lines broken between words.
    """
    from harness.space.outcome import printable

    text = printable(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(textwrap.fill(line, width, **WHOLE_WORDS) for line in text.split("\n"))
    with suppress(OSError):  # there is nobody else to tell
        click.echo(text, err=True)


@contextmanager
def attempted(target: str) -> Iterator[None]:
    """Go on where something cannot be written, as on a full disk, until the command's code is known (``ended``)."""
    try:
        yield
    except BrokenPipeError:
        click.get_current_context().meta[_UNREAD] = True
    except OSError as error:
        text = f"{target}: cannot be written: {error}"
        click.get_current_context().meta.setdefault(_UNWRITTEN, {})[text] = None


@contextmanager
def _printing() -> Iterator[None]:
    """Print to standard output; when it takes nothing any more, what follows goes nowhere."""
    with attempted("standard output"):
        try:
            yield
            sys.stdout.flush()  # multiprocessing flushes it, too, and would fail
        except OSError:
            with suppress(OSError):  # it may be no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def ended(code: int) -> int:
    """Say what could not be written, and return the exit code: a finding outranks a report."""
    with _printing():
        pass
    unwritten = click.get_current_context().meta.get(_UNWRITTEN, {})
    for text in unwritten:
        complain(f"{'Warning' if code == FINDING else 'Error'}: {text}")
    if code == FINDING:
        return FINDING
    return MISUSE if unwritten else READER_GONE if _UNREAD in click.get_current_context().meta else code


def console_for(json_to: str | None) -> Console:
    """Return the console for people beside a report as data."""
    return console_beside({"--json": json_to})


def console_beside(targets: Mapping[str, str | None]) -> Console:
    """Return the console for people, which is standard error if a document goes to standard output.

    Targets by their options that cannot be written to are refused at once.
    """
    from harness.report.escaping_console import EscapingConsole
    from harness.store.document import require_targets

    files = any(target not in {None, "-"} for target in targets.values())

    class BrokenPipeConsole(EscapingConsole):
        def print(self, *objects: Any, **options: Any) -> None:
            with _printing():
                super().print(*objects, **options)
            if _UNREAD in click.get_current_context().meta and not files:
                raise BrokenPipeError  # nothing else was asked for

    require_targets(targets)
    return BrokenPipeConsole(stderr="-" in targets.values(), highlight=False)


def print_summary(console: Console, summary: SubjectFindings, *, quiet: bool, verbose: bool, first: bool) -> None:
    """Print what an examination of a subject found, the gravest first, apart from the report above unless ``first``."""
    from harness.report import terminal

    if quiet:
        console.print(terminal.quiet_report(summary), soft_wrap=True)
    else:
        if not first:
            console.print()
        console.print(terminal.subject_report(summary, verbose=verbose))


def typed() -> str:
    """Return the command as it was typed."""
    return shlex.join(["rnn-harness", *sys.argv[1:]])


def write_json(name: str, record: Mapping[str, Any], target: str | None, option: str = "--json") -> None:
    """Write a JSON document, whose kind has this name in the schema."""
    from harness.store.document import as_json

    if target is not None:
        put(as_json(name, record), target, option)


def put(text: str, target: str, option: str) -> None:
    """Write a document to the target of an option."""
    from harness.store import document

    with attempted(f"{option} {target}"):
        document.write(text, target)
