"""cli: the command rnn-harness. Options in, one use case, exit code out."""

from __future__ import annotations

import ast
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from harness import __version__
from harness.space.config import DTYPES, NONLINEARITIES, RNNConfig
from harness.space.errors import UsageError
from harness.threads import one_thread_a_process

if TYPE_CHECKING:
    from rich.console import Console

    from harness.explain.diagnose import Diagnosis
    from harness.oracle.arithmetic import Accepted
    from harness.search.examination import Examination
    from harness.search.hunt import Finding, Hunt
    from harness.space.scope import Scope
    from harness.subjects.protocol import Subject

AGREES: Final = 0
FINDING: Final = 1
MISUSE: Final = 2
FAULT: Final = 3
INTERRUPTED: Final = 130
READER_GONE: Final = 141
"""What a shell says of a process that SIGPIPE ended."""

EXIT_CODES: Final = """\b
Exit codes:
  0    every subject agrees
  1    a finding: a subject disagrees or is broken
  2    misuse, or nothing could be checked
  3    the harness itself failed
  130  interrupted, with nothing found until then
  141  whoever read the output has gone"""


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Seconds, from ``90``, ``60s``, ``2m`` or ``1h``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{text!r}: expected a time above zero, such as 90, 60s, 2m or 1h")
    return seconds


timeout_option = click.option(
    "--timeout",
    callback=_seconds,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long a subject may take over one case before it counts as hung.",
)


json_option = click.option(
    "--json", "json_to", metavar="FILE", help="Write the report as JSON, too; - for standard output."
)


tolerance_option = click.option(
    "--tolerance",
    default="derived",
    show_default=True,
    metavar="NAME|rtol=R,atol=A",
    help="A looser contract: tf32 or bf16 operands in products, or numbers of your own.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="rnn-harness")
def cli() -> None:
    """Does a recurrent layer compute what torch.nn.RNN is documented to? If not: the smallest case, and why."""


@cli.command(epilog=EXIT_CODES)
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--device", "devices", multiple=True, help="Where to run; repeatable.  [default: every device found here]"
)
@click.option(
    "--dtype", "dtypes", multiple=True, help=f"{', '.join(DTYPES)}; repeatable.  [default: what the subject offers]"
)
@click.option("--examples", type=click.IntRange(min=1), help="Cases to check.  [default: 1400, or what --time allows]")
@click.option(
    "--time",
    "seconds",
    callback=_seconds,
    metavar="TIME",
    help="How long to search, such as 60s or 5m; what is done with a finding, and malformed calls, come on top.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same search.")
@click.option("--output-size", type=int, metavar="O", help="Read out every time step through a linear layer.")
@click.option(
    "--only",
    "pins",
    multiple=True,
    metavar="FACTOR=VALUE[,VALUE]",
    help="Pin a factor: num_layers=1, T=5,6. Repeatable.",
)
@click.option(
    "--findings",
    "folder",
    default=".rnn-harness",
    show_default=True,
    metavar="DIR",
    help="Where failing cases are kept.",
)
@timeout_option
@tolerance_option
@json_option
def check(
    subjects: tuple[str, ...],
    devices: tuple[str, ...],
    dtypes: tuple[str, ...],
    examples: int | None,
    seconds: float | None,
    seed: int,
    output_size: int | None,
    pins: tuple[str, ...],
    folder: str,
    timeout: float,
    tolerance: str,
    json_to: str | None,
) -> int:
    """Search for a case on which a SUBJECT fails; without one, check torch's own nn.RNN.

    A SUBJECT is a name that `rnn-harness subjects` lists, path/to/file.py:name or module:name, where name is a
    function rnn(x, h0, weights, config) -> (output, h_n) or a class with nn.RNN's constructor and state_dict.
    """
    from harness.subjects.isolated import ahead

    subjects = subjects or ("torch",)
    ahead(subjects)  # before imports of our own, which take as long
    from harness.oracle.arithmetic import accepted
    from harness.report import record, text
    from harness.search.examination import examine

    contract = accepted(tolerance)
    pinned = _pins(pins) | ({} if output_size is None else {"output_size": output_size})
    pinned |= {"dtype": dtypes} if dtypes else {}
    found = [_isolated(spec, timeout) for spec in subjects]
    scopes = [_scope(subject, devices, pinned) for subject in found]
    console = _console(json_to)
    examinations: list[Examination] = []
    records: list[dict[str, Any]] = []
    for subject, scope in zip(found, scopes, strict=True):
        with _progress(subject.name) as progress:
            done = examine(
                subject, scope, cases=examples, seconds=seconds, seed=seed, accepted=contract, progress=progress
            )
        examinations.append(done)
        finding = done.hunt.finding
        saved = _save(finding, folder) if finding else None
        diagnosis = _diagnose(subject, done.hunt, contract) if finding else None
        console.print(text.examination_report(done))
        if finding:
            console.print(text.finding_report(finding, diagnosis, saved, tolerance))
        records.append(record.examination_record(done, diagnosis, saved))
        if done.interrupted:
            break
    _write({"subjects": records}, json_to)
    return _exit_code(examinations)


@cli.command()
@click.option("--input-size", type=int, required=True, metavar="I")
@click.option("--hidden-size", type=int, required=True, metavar="H")
@click.option("--num-layers", type=int, default=1, show_default=True, metavar="L")
@click.option("--nonlinearity", default="tanh", show_default=True, metavar="|".join(NONLINEARITIES))
@click.option("--bias/--no-bias", default=True, show_default=True)
@click.option("--batch-first", is_flag=True)
@click.option("--bidirectional", is_flag=True)
@click.option("--hx", is_flag=True, help="An initial hidden state is passed.")
@click.option("--output-size", type=int, metavar="O", help="Read out every time step through a linear layer.")
@click.option("-N", "N", type=int, default=1, show_default=True, help="Sequences in the batch.")
@click.option("-T", "T", type=int, default=1, show_default=True, help="Time steps.")
@json_option
def shapes(json_to: str | None, **fields: Any) -> int:
    """Show the shape of x, hx, every weight, output, h_n and readout, layer by layer, without running anything."""
    from harness.report import record, text

    config = RNNConfig(**fields)
    _console(json_to).print(text.shapes_table(config))
    _write(record.shapes_record(config), json_to)
    return AGREES


@cli.command()
@json_option
def subjects(json_to: str | None) -> int:
    """List what can be checked here, on which devices, and why not where not."""
    from harness.report import text
    from harness.subjects.registry import find_subject, registered

    rows: list[tuple[str, ...]] = []
    for name, entry in registered().items():
        absent: dict[str, str] = {}
        try:
            subject = find_subject(name)
            devices = ", ".join(subject.devices())
            absent = getattr(subject, "absent", dict)()
        except UsageError as error:
            devices = f"not here: {str(error).removeprefix(f'{name}: ')}"
        not_on = "\n".join(f"{device}: {why}" for device, why in absent.items())
        rows.append((name, devices, not_on, entry.dist.name if entry.dist else "rnn-harness"))
    console = _console(json_to)
    console.print(text.subjects_table(rows))
    console.print("Your own: path/to/file.py:name or module:name; see `rnn-harness check --help`.", highlight=False)
    columns = ("subject", "devices", "absent", "offered_by")
    _write({"subjects": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES


@cli.command(epilog=EXIT_CODES)
@click.argument("file")
@click.option("--subject", "spec", help="What to run it on.  [default: what it was found on]")
@timeout_option
@tolerance_option
@json_option
def replay(file: str, spec: str | None, timeout: float, tolerance: str, json_to: str | None) -> int:
    """Run the case in FILE once more: FIXED (0), FAILED (1), or UNSUPPORTED (2) by its subject."""
    from harness.oracle.arithmetic import accepted
    from harness.report import record, text
    from harness.search import findings

    contract = accepted(tolerance)
    stored = findings.load(file)
    spec = spec or stored.subject
    if spec is None:
        raise UsageError(f"{file}: does not say which subject it was found on; name one with --subject")
    subject = _isolated(spec, timeout)
    _scope(subject, (stored.case.config.device,), {})
    fate, result = findings.replay(subject, stored.case, contract)
    _console(json_to).print(text.replay_report(stored, subject.name, fate, result))
    _write({"file": file, "subject": subject.name, "fate": fate.value, **record.result_record(result)}, json_to)
    return {findings.Fate.FIXED: AGREES, findings.Fate.FAILED: FINDING}.get(fate, MISUSE)


def main() -> None:
    """Run the command, and exit with its code."""
    one_thread_a_process()
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except (SystemExit, BrokenPipeError):  # click's, rich's and Python's word for a pipe that nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = READER_GONE
    except click.exceptions.Exit as exit_:  # --help, --version
        code = exit_.exit_code
    except click.ClickException as error:
        error.show()
        code = MISUSE
    except UsageError as error:
        click.echo(f"Error: {error}", err=True)
        code = MISUSE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except MemoryError as error:
        click.echo(f"Error: out of memory; pin smaller sizes with --only ({error})", err=True)
        code = MISUSE
    except Exception:  # noqa: BLE001 - whatever is left is a fault of ours, and says so
        traceback.print_exc()
        click.echo(f"rnn-harness {__version__} itself failed; this says nothing about the subject", err=True)
        code = FAULT
    sys.exit(code)


def _pins(pins: tuple[str, ...]) -> dict[str, Any]:
    pinned: dict[str, Any] = {}
    for pin in pins:
        name, equals, values = pin.partition("=")
        if not equals or not values:
            raise UsageError(f"--only {pin}: expected FACTOR=VALUE, such as num_layers=1 or T=5,6")
        if name.strip() == "masks":
            raise UsageError(f"--only {pin}: masks are had or not, as the subject says; pin dropout or training")
        values_of = pinned.setdefault(name.strip().replace("-", "_"), [])
        values_of += [_literal(value.strip()) for value in values.split(",")]
    return pinned


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize() if text in {"true", "false", "none"} else text)
    except (ValueError, SyntaxError):
        return text


def _isolated(spec: str, timeout: float) -> Subject:
    """The subject in a process of its own, which ends with the command."""
    from harness.subjects.isolated import IsolatedSubject

    return click.get_current_context().with_resource(IsolatedSubject(spec, timeout=timeout))


def _scope(subject: Subject, devices: tuple[str, ...], pinned: dict[str, Any]) -> Scope:
    """The scope asked for; a device that is not here is misuse, and said before anything runs."""
    from harness.space.scope import lost_pins
    from harness.subjects.protocol import choose_devices, scope_of

    asked = devices or tuple(pinned.get("device", ()))
    scope = scope_of(subject).only(**{**pinned, "device": choose_devices(subject, asked)})
    if lost := lost_pins(scope, {*pinned, "device"} if asked else pinned):
        shown = ", ".join(f"{name}={value}" for name, value in lost.items())
        raise UsageError(f"{shown}: no call of {subject.name} has that beside the other pins; leave one of them out")
    return scope


def _console(json_to: str | None) -> Console:
    """Where people read; beside a document on standard output, that is standard error."""
    from rich.console import Console

    if json_to not in {None, "-"}:
        target = Path(str(json_to)).absolute()
        if not json_to or target.is_dir():
            raise UsageError(f"--json {json_to!r}: expected a file's name")
        if not target.parent.is_dir():
            raise UsageError(f"--json {json_to}: its folder does not exist")
    return Console(stderr=json_to == "-", highlight=False)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[Hunt], None]]:
    """A line that counts while a search runs; nothing where there is no terminal."""
    from rich.console import Console
    from rich.markup import escape

    name = escape(name)
    with Console(stderr=True).status(f"{name}: starting") as status:
        yield lambda hunt: status.update(f"{name}: {hunt.total:,} cases in {hunt.seconds:.0f} s")


def _diagnose(subject: Subject, done: Hunt, contract: Accepted) -> Diagnosis | None:
    """The cause of a finding, unless the user does not wait for it, or the subject hangs on a case that it needs."""
    from harness.explain.diagnose import diagnose
    from harness.search.hang import Hang, ended_by_a_hang
    from harness.search.hunt import Stop

    if done.finding is None or done.stop is Stop.INTERRUPTED:
        return None
    try:
        return diagnose(ended_by_a_hang(subject), done.finding, done.scope, contract)
    except Hang:
        return None
    except KeyboardInterrupt:
        done.stop = Stop.INTERRUPTED
        return None


def _save(finding: Finding, folder: str) -> Path | None:
    """Keep the finding; a folder that cannot be written costs a warning, not the report."""
    from harness.search import findings

    try:
        return findings.save(finding, folder)
    except OSError as error:
        click.echo(f"Warning: --findings {folder}: the case could not be kept: {error}", err=True)
        return None


def _write(document: dict[str, Any], json_to: str | None) -> None:
    from harness.report import record

    if json_to is None:
        return
    try:
        record.write(document, json_to)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"--json {json_to}: cannot be written: {error}") from None


def _exit_code(examinations: list[Examination]) -> int:
    from harness.checks.result import Verdict

    verdicts = [done.verdict for done in examinations]
    if any(verdict in {Verdict.DISAGREES, Verdict.SUSPECT, Verdict.BROKEN} for verdict in verdicts):
        return FINDING
    if any(done.interrupted for done in examinations):
        return INTERRUPTED
    return AGREES if all(verdict is Verdict.AGREES for verdict in verdicts) else MISUSE
