"""The output of the commands: the console for people, and documents, which go to files or standard output."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from harness.cli.codes import FINDING, MISUSE

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.complaints import Summary


# The options of ``textwrap`` by which a line is broken between words only.
WHOLE_WORDS: Final[Mapping[str, Any]] = {"break_on_hyphens": False, "break_long_words": False}

# The place of what could not be written among what click keeps for a command.
_UNWRITTEN: Final = "harness.cli.unwritten"


def complain(said: str) -> None:
    """Write an error or a warning to standard error, without terminal control: its parts may be of foreign origin.

    A terminal shows a line broken between words.
    """
    from harness.space.outcome import printable

    said = printable(said)
    if sys.stderr.isatty() and "\n" not in said:
        width = shutil.get_terminal_size().columns
        said = textwrap.fill(said, width, **WHOLE_WORDS)
    click.echo(said, err=True)


@contextmanager
def attempted(target: str) -> Iterator[None]:
    """Go on where something cannot be written, as on a full disk, until the command's code is known (``ended``)."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        said = f"{target}: cannot be written: {error}"
        click.get_current_context().meta.setdefault(_UNWRITTEN, {})[said] = None


@contextmanager
def _printing() -> Iterator[None]:
    """Print to standard output; when it takes nothing any more, what follows goes nowhere."""
    with attempted("standard output"):
        try:
            yield
            if sys.stdout is not None:
                sys.stdout.flush()  # multiprocessing flushes it, too, and would fail
        except BrokenPipeError:
            raise
        except OSError:
            with suppress(OSError):  # it may be no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def ended(code: int) -> int:
    """Say what could not be written, and return the exit code: a finding outranks a report."""
    with _printing():
        pass
    unwritten = click.get_current_context().meta.get(_UNWRITTEN, {})
    for said in unwritten:
        complain(f"{'Warning' if code == FINDING else 'Error'}: {said}")
    return MISUSE if unwritten and code != FINDING else code


def console_for(json_to: str | None) -> Console:
    """Return the console for people beside a report as data."""
    return console_beside({"--json": json_to})


def console_beside(targets: Mapping[str, str | None]) -> Console:
    """Return the console for people, which is standard error if a document goes to standard output.

    Targets by their options that cannot be written to are refused at once.
    """
    from harness.report.paper import Paper
    from harness.store.document import require_targets

    class Attempted(Paper):
        def print(self, *objects: Any, **options: Any) -> None:
            with _printing():
                super().print(*objects, **options)

    require_targets(targets)
    return Attempted(stderr="-" in targets.values(), highlight=False)


def print_summary(console: Console, summary: Summary, *, quiet: bool, verbose: bool) -> None:
    """Print what an examination of a subject found, the gravest first."""
    from harness.report import text

    if quiet:
        console.print(text.quiet_report(summary), soft_wrap=True)
    else:
        console.print(text.subject_report(summary, verbose=verbose))


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
