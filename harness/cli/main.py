"""The command as a whole: its group, and how it ends, whatever happens."""

import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from io import StringIO
from types import FrameType
from typing import Final, NoReturn

import click

from harness import __version__
from harness.cli.adapt import adapt
from harness.cli.check import check
from harness.cli.codes import EXIT_CODES, FAULT, INTERRUPTED, MISUSE, READER_GONE, TERMINATED
from harness.cli.console import complain, ended, open_streams
from harness.cli.coverage import coverage
from harness.cli.explain import explain
from harness.cli.findings import findings
from harness.cli.known import known
from harness.cli.merge import merge
from harness.cli.replay import replay
from harness.cli.shapes import shapes
from harness.cli.subjects import subjects
from harness.cli.vectors import judge, vectors
from harness.processes import TERMINATION_SIGNALS, end_at_once, one_thread_a_process
from harness.space.errors import UsageError

_SIGNALS: Final[list[int]] = []  # the signals that have interrupted this command


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Have a signal interrupt this process as Ctrl-C does, and say so at once; a Ctrl-C after that ends it.

    A terminal that is closed may send SIGHUP twice, and a CI SIGTERM after SIGINT: these are answered once.
    """
    _SIGNALS.append(number)
    clear, cursor = ("\r\x1b[K", "\x1b[?25h") if sys.stderr.isatty() else ("", "")  # of the line of the progress
    if len(_SIGNALS) > 1 and number == signal.SIGINT:
        _write(cursor)
        end_at_once(_interrupted())
    if len(_SIGNALS) == 1:
        _write(f"{clear}stopping; another Ctrl-C ends it at once\n")
    raise KeyboardInterrupt


def _write(text: str) -> None:
    """Write to standard error from a signal's handler, which may have interrupted another write."""
    with suppress(OSError):
        os.write(2, text.encode())


def _interrupted() -> int:
    return INTERRUPTED if {*_SIGNALS} <= {signal.SIGINT} else TERMINATED


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version, those of what verdicts rest on, and the CPU."""
    if not value or context.resilient_parsing:
        return
    from harness.subjects.environment import machine

    facts = machine()
    names = {"Python": "python", "torch": "torch", "NumPy": "numpy", "Hypothesis": "hypothesis"}
    click.echo(f"rnn-harness {__version__}")
    click.echo(", ".join(f"{shown} {facts[name]}" for shown, name in names.items() if name in facts))
    click.echo(facts["cpu"])
    context.exit()


@click.group(result_callback=ended, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the versions of rnn-harness and of what it computes with, and the CPU, and exit.",
)
def cli() -> None:
    """Check that a recurrent layer computes what torch.nn.RNN is documented to; if not, find the case and the cause."""


for command in (adapt, check, coverage, explain, findings, judge, known, merge, replay, shapes, subjects, vectors):
    cli.add_command(command)


def main() -> None:
    """Run the command, and exit with its code."""
    open_streams()
    one_thread_a_process()
    _SIGNALS.clear()
    # One that was killed from outside is replaced, and nothing of this package's is kept in it.
    warnings.filterwarnings("ignore", "resource_tracker: process died", UserWarning)
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL
    for number in (signal.SIGINT, *TERMINATION_SIGNALS):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)  # so that findings are reported
    try:
        code = cli.main(prog_name="rnn-harness", standalone_mode=False)
    except (SystemExit, BrokenPipeError) as error:
        code = READER_GONE  # click, rich or Python found that nobody reads the pipe any more
        if isinstance(error, SystemExit) and "_RNN_HARNESS_COMPLETE" in os.environ:
            code = int(error.code or 0)  # click has answered a shell that completes a line
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except click.exceptions.Exit as exit_:  # --help, --version
        code = exit_.exit_code
    except click.ClickException as error:
        error.show(shown := StringIO())
        complain(shown.getvalue().rstrip("\n"))
        code = MISUSE
    except UsageError as error:
        complain(f"Error: {error}")
        code = MISUSE
    except (click.Abort, KeyboardInterrupt) as error:
        complain(str(error.__cause__ or error) or "interrupted")  # click makes its own of an interrupt
        code = INTERRUPTED
    except OSError as error:  # such as a full disk behind standard output
        complain(f"Error: {error}")
        code = MISUSE
    except MemoryError as error:
        complain(f"Error: out of memory; pin smaller sizes with --only ({error})")
        code = MISUSE
    except Exception:  # noqa: BLE001 - any other error is the harness's own, and is reported as such
        traceback.print_exc()
        complain(f"rnn-harness {__version__} itself failed; this says nothing about the subject")
        code = FAULT
    signal.signal(signal.SIGINT, before)  # the process may be somebody else's, and go on
    sys.exit(_interrupted() if code == INTERRUPTED else code)
