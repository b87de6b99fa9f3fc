"""The command rnn-harness: it takes options, runs one use case, and gives an exit code."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from harness import __version__
from harness.space.config import RNNConfig
from harness.space.contract import CONTRACTS, KERNEL, PORT
from harness.space.errors import UsageError
from harness.space.parts import DTYPES, NONLINEARITIES
from harness.threads import one_thread_a_process

if TYPE_CHECKING:
    from rich.console import Console

    from harness.pipeline import Examined
    from harness.search.examination import Examination
    from harness.search.record import Hunt
    from harness.search.scan import Observe
    from harness.store.findings import Store
    from harness.subjects.protocol import Subject

AGREES: Final = 0
FINDING: Final = 1
MISUSE: Final = 2
FAULT: Final = 3
INTERRUPTED: Final = 130
READER_GONE: Final = 141
"""The exit code that a shell reports for a process that SIGPIPE ended."""

EXIT_CODES: Final = """\b
Exit codes:
  0    every subject agrees
  1    a finding: a subject disagrees or is broken
  2    misuse, or not enough could be checked
  3    the harness itself failed
  130  interrupted, with nothing found until then
  141  the reader of the output has gone"""


EXIT_CODES_OF_EXPLAIN: Final = """\b
Exit codes:
  0    the arrays agree with nn.RNN
  1    the arrays disagree with nn.RNN
  2    misuse"""

EXIT_CODES_OF_REPLAY: Final = """\b
Exit codes:
  0    FIXED: the subject passes now
  1    FAILED: the subject still fails
  2    ERROR: the finding could not be run, or misuse
  130  interrupted"""


FILE: Final = click.Path(readable=False)
"""A path as it was given; a shell completes it from the files there are."""


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Parse seconds from ``90``, ``60s``, ``2m`` or ``1h``."""
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
    help="How long a subject may take for one case before it counts as hung.",
)


json_option = click.option(
    "--json", "json_to", type=FILE, metavar="FILE", help="Also write the report as JSON; - means standard output."
)


report_option = click.option(
    "--report", "report_to", metavar="FILE", help="Also write the report as one HTML file, which needs no network."
)


tolerance_option = click.option(
    "--tolerance",
    default="derived",
    show_default=True,
    metavar="NAME|rtol=R,atol=A|tanh=Nulp",
    help="Accept more: tf32 or bf16 operands in products, a difference of your own, or a less accurate tanh.",
)


def _workers(_context: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    """Return the number of processes; ``None`` leaves it to the search."""
    if not text.isdecimal() and text != "auto":
        raise click.BadParameter(f"{text!r}: expected a number of processes, or auto")
    return None if text == "auto" else int(text)


workers_option = click.option(
    "-n",
    "--workers",
    callback=_workers,
    default="auto",
    show_default=True,
    metavar="N",
    help="Worker processes: a number, 0 for none, or auto: one a core for a large search. Findings stay the same.",
)


findings_option = click.option(
    "--findings",
    "folder",
    type=FILE,
    default=".rnn-harness",
    show_default=True,
    metavar="DIR",
    help="Where failing cases are kept.",
)


def _file_option(option: str, name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option that names the file of one format."""
    return click.option(option, name, type=FILE, metavar="FILE", help=f"Also write {what}; - means standard output.")


def _version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the version, those of what verdicts rest on, and the CPU."""
    if not asked or context.resilient_parsing:
        return
    from harness.subjects.ground import machine

    facts = machine()
    names = {"Python": "python", "torch": "torch", "NumPy": "numpy", "Hypothesis": "hypothesis"}
    click.echo(f"rnn-harness {__version__}")
    click.echo(", ".join(f"{shown} {facts[name]}" for shown, name in names.items() if name in facts))
    click.echo(facts["cpu"])
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
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


@cli.command(epilog=EXIT_CODES)
@click.argument("subjects", nargs=-1, type=FILE, metavar="[SUBJECT]...")
@click.option(
    "--device", "devices", multiple=True, help="Where to run; repeatable.  [default: every device found here]"
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    help=f"{', '.join(DTYPES)}; repeatable. Autocast is then off, unless --only asks for it.  "
    "[default: what the subject offers]",
)
@click.option("--examples", type=click.IntRange(min=1), help="Cases to check.  [default: 1650, or what --time allows]")
@click.option(
    "--time",
    "seconds",
    callback=_seconds,
    metavar="TIME",
    help="How long to search, shrink and explain, such as 60s or 5m; malformed calls take extra time.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same search.")
@click.option(
    "--contract",
    type=click.Choice(list(CONTRACTS)),
    help=f"port: {CONTRACTS[PORT]}; kernel: {CONTRACTS[KERNEL]}.  [default: port of functions, kernel of classes]",
)
@click.option("--output-size", type=int, metavar="O", help="Add a linear readout with O outputs to every time step.")
@click.option(
    "--only",
    "pins",
    multiple=True,
    metavar="FACTOR=VALUE[,VALUE]",
    help="Pin a factor: num_layers=1, T=5,6. Repeatable.",
)
@workers_option
@click.option(
    "--coverage",
    "coverage_to",
    type=FILE,
    metavar="FILE",
    help="Write what the search met, for `rnn-harness coverage`, which adds up several runs.",
)
@findings_option
@timeout_option
@tolerance_option
@click.option("-v", "--verbose", is_flag=True, help="Print everything about every finding, and what the search met.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print a line for each subject and for each finding, and no progress."
)
@report_option
@json_option
@_file_option("--junit", "junit_to", "the report as JUnit XML")
@_file_option("--markdown", "markdown_to", "a summary in Markdown, for the job pages of CI")
@_file_option("--observations", "observations_to", "every case as a line in Hypothesis's observability format")
@click.option(
    "--annotations/--no-annotations",
    envvar="GITHUB_ACTIONS",
    show_envvar=True,
    help="Print errors so that GitHub shows them beside the subject's code.",
)
def check(
    subjects: tuple[str, ...],
    devices: tuple[str, ...],
    dtypes: tuple[str, ...],
    examples: int | None,
    seconds: float | None,
    seed: int,
    contract: str | None,
    output_size: int | None,
    pins: tuple[str, ...],
    workers: int | None,
    coverage_to: str | None,
    folder: str,
    timeout: float,
    tolerance: str,
    report_to: str | None,
    json_to: str | None,
    junit_to: str | None,
    markdown_to: str | None,
    observations_to: str | None,
    *,
    verbose: bool,
    quiet: bool,
    annotations: bool,
) -> int:
    """Search for a case on which a SUBJECT fails; without a SUBJECT, check torch's own nn.RNN.

    A SUBJECT is a name that `rnn-harness subjects` lists, path/to/file.py:name or module:name, where name is a
    function rnn(x, h0, weights, config) -> (output, h_n) or a class with nn.RNN's constructor and state_dict.
    """
    from harness.subjects.isolated import ahead

    subjects = subjects or ("torch",)
    ahead(subjects)  # before the harness's own imports, which take as long
    from harness.oracle.arithmetic import accepted
    from harness.pipeline import go_through
    from harness.report import complaints, github, junit, markdown, record, text
    from harness.report.severity import in_order
    from harness.search.preparation import asked_scope, crew_of
    from harness.store import met

    if quiet and verbose:
        raise UsageError("--quiet with --verbose: expected one of them")
    accepted(tolerance)  # nothing starts if it is none
    pinned = _pins(pins) | ({} if output_size is None else {"output_size": output_size})
    pinned |= {"dtype": dtypes} if dtypes else {}
    if not {"dtype", "dtypes"}.isdisjoint(pinned):
        pinned.setdefault("autocast", None)  # it computes in another dtype
    found = [_isolated(spec, timeout) for spec in subjects]
    held = [contract or subject.capabilities.contract for subject in found]
    scopes = [asked_scope(subject, devices, pinned, one) for subject, one in zip(found, held, strict=True)]
    formats = {"--json": json_to, "--junit": junit_to, "--markdown": markdown_to, "--coverage": coverage_to}
    console = _console_beside({**formats, "--report": report_to, "--observations": observations_to})
    write_line = _lines_to(observations_to)
    _require_page(report_to)
    crew = crew_of(workers, examples)
    if crew is not None:
        click.get_current_context().with_resource(crew)
    every: list[Examined] = []
    for subject, scope, one in zip(found, scopes, held, strict=True):
        with _progress(subject.name, quiet=quiet) as progress:
            done = go_through(
                subject,
                scope,
                folder=folder,
                warn=lambda said: click.echo(f"Warning: {said}", err=True),
                tolerance=tolerance,
                cases=examples,
                seconds=seconds,
                seed=seed,
                contract=one,
                crew=crew,
                progress=progress,
                observe=_observing(write_line, subject.name, seed),
            )
        every.append(done)
        if quiet:
            console.print(text.quiet_report(done.examination, in_order(done.told)), soft_wrap=True)
        else:
            console.print(text.examination_report(done.examination, in_order(done.told), tolerance, verbose=verbose))
        if done.examination.interrupted:
            break
    examinations = [done.examination for done in every]
    summaries = [
        complaints.summary_of(done.examination, in_order(done.told), tolerance, subject.capabilities.place)
        for done, subject in zip(every, found, strict=False)
    ]
    records = [record.examination_record(done.examination, done.told) for done in every]
    _write("check", {"subjects": records}, json_to)
    _write("met", met.document([done.hunt.searched for done in examinations]), coverage_to, "--coverage")
    if junit_to is not None:
        _put(junit.junit(summaries), junit_to, "--junit")
    if markdown_to is not None:
        _put(markdown.markdown(summaries), markdown_to, "--markdown")
    for line in chain.from_iterable(map(github.workflow_commands, summaries)) if annotations else ():
        click.echo(line, err=console.stderr)
    if report_to is not None:
        _put(_page_of(every, tolerance), report_to, "--report")
    return _exit_code(examinations)


@cli.command("coverage")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--missing", type=click.IntRange(min=0), default=0, metavar="N", help="List up to N combinations that no run met."
)
@json_option
def coverage_command(files: tuple[Path, ...], missing: int, json_to: str | None) -> int:
    """Show how much of the space the runs that wrote these FILEs met together.

    `rnn-harness check --coverage FILE` writes a FILE; the runs may have other seeds or machines. Only what ran counts.
    The shares are of what can meet in the scope: values of factors, their pairs and triples (sizes by class: 1, 2 to 7,
    about 8, about 16, about 32, more), and edges, the sizes at which kernels change, alone and in pairs.
    """
    from harness.report import coverage
    from harness.store import met

    found = met.read(files)
    console = _console(json_to)
    for one in found:
        console.print(one.subject, markup=False)
        console.print(coverage.table(one))
        for line in coverage.missing_lines(one, missing) if missing else ():
            console.print(line)
    shares = [{"subject": one.subject, "checks": coverage.shares_record(one), "laws": one.laws} for one in found]
    _write("coverage", {"subjects": shares}, json_to)
    return AGREES


@cli.command(epilog=EXIT_CODES_OF_EXPLAIN)
@click.argument("model", type=FILE)
@click.argument("x", type=FILE)
@click.argument("actual", type=FILE)
@click.option("--hx", type=FILE, metavar="FILE", help="The initial hidden state.  [default: zeros]")
@click.option("--nonlinearity", type=click.Choice(NONLINEARITIES), help="[default: both are tried]")
@click.option(
    "--batch-first/--no-batch-first", default=None, help="Which axis of X is time.  [default: both are tried]"
)
@click.option(
    "--atol",
    type=float,
    default=0.0,
    help="How far each number of ACTUAL may be off by itself, as if rounded in print.",
)
@json_option
def explain(
    model: str,
    x: str,
    actual: str,
    hx: str | None,
    nonlinearity: str | None,
    atol: float,
    json_to: str | None,
    *,
    batch_first: bool | None,
) -> int:
    """Say whether ACTUAL is what nn.RNN computes from X, and if not, which known mistake computes it.

    MODEL holds the weights: a state_dict that torch.save wrote, or an .npz file. X and ACTUAL are .npy files, or
    tensors that torch.save wrote. ACTUAL is the output, the readout or h_n, or an .npz file with several of these by
    name. In Python: harness.explain(module, x, actual).
    """
    from dataclasses import asdict

    from harness.report import arrays
    from harness.subjects.handed import load

    console = _console(json_to)
    answer = arrays.explain(
        load(model),
        load(x),
        load(actual),
        hx=None if hx is None else load(hx),
        nonlinearity=nonlinearity,
        batch_first=batch_first,
        atol=atol,
    )
    console.print(str(answer), markup=False)
    _write("explain", asdict(answer), json_to)
    return AGREES if answer.agrees else FINDING


@cli.command()
@click.option("--input-size", type=int, required=True, metavar="I")
@click.option("--hidden-size", type=int, required=True, metavar="H")
@click.option("--num-layers", type=int, default=1, show_default=True, metavar="L")
@click.option("--nonlinearity", default="tanh", show_default=True, metavar="|".join(NONLINEARITIES))
@click.option("--bias/--no-bias", default=True, show_default=True)
@click.option("--batch-first", is_flag=True)
@click.option("--bidirectional", is_flag=True)
@click.option("--hx", is_flag=True, help="Pass an initial hidden state.")
@click.option("--output-size", type=int, metavar="O", help="Add a linear readout with O outputs to every time step.")
@click.option("-N", "N", type=int, default=1, show_default=True, help="Sequences in the batch.")
@click.option("-T", "T", type=int, default=1, show_default=True, help="Time steps.")
@json_option
def shapes(json_to: str | None, **fields: Any) -> int:
    """Show the shape of x, hx, every weight, output, h_n and readout, layer by layer, without running anything."""
    from harness.report import record, text

    config = RNNConfig(**fields)
    _console(json_to).print(text.shapes_table(config))
    _write("shapes", record.shapes_record(config), json_to)
    return AGREES


@cli.command()
@json_option
def subjects(json_to: str | None) -> int:
    """List the subjects that have a name, the devices they run on here, and why they do not run on others."""
    from harness.report import text
    from harness.subjects.registry import find_subject, registered

    rows: list[tuple[str, ...]] = []
    for name, entry in registered().items():
        absent: Mapping[str, str] = {}
        try:
            subject = find_subject(name)
            devices, absent = ", ".join(subject.devices()), subject.capabilities.absent
        except UsageError as error:
            devices = f"not here: {str(error).removeprefix(f'{name}: ')}"
        not_on = "\n".join(f"{device}: {why}" for device, why in absent.items())
        rows.append((name, devices, not_on, entry.dist.name if entry.dist else "rnn-harness"))
    console = _console(json_to)
    console.print(text.subjects_table(rows))
    console.print("Your own: path/to/file.py:name or module:name; see `rnn-harness check --help`.", highlight=False)
    columns = ("subject", "devices", "absent", "offered_by")
    _write("subjects", {"subjects": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES


@cli.command(epilog=EXIT_CODES_OF_REPLAY)
@click.argument("finding", type=FILE, metavar="ID|FILE")
@click.option(
    "--subject", "spec", type=FILE, metavar="SUBJECT", help="The subject to run.  [default: the one it was found on]"
)
@click.option("--tolerance", metavar="NAME|rtol=R,atol=A", help="What to accept.  [default: as when it was found]")
@findings_option
@timeout_option
@json_option
def replay(
    finding: str, spec: str | None, tolerance: str | None, folder: str, timeout: float, json_to: str | None
) -> int:
    """Run a finding again: FIXED (0), FAILED (1), or ERROR (2) if it could not be run.

    ID is the ID of a finding, or its first digits. FILE is a case.json or an .npz that was kept elsewhere.
    """
    from harness.oracle.arithmetic import accepted
    from harness.report import record, text
    from harness.search.preparation import asked_scope
    from harness.search.replay import Fate
    from harness.search.replay import replay as run_again
    from harness.store import findings

    stored = findings.load(finding, folder)
    contract = accepted(tolerance or stored.notes.get("tolerance", "derived"))
    spec = spec or stored.subject
    if spec is None:
        raise UsageError(f"{finding}: does not name the subject it was found on; name one with --subject")
    subject = _isolated(spec, timeout)
    asked_scope(subject, (stored.case.config.device,))
    fate, result = run_again(subject, stored.case, contract)
    again = stored.again(result)
    _console(json_to).print(text.replay_report(stored, subject.name, fate, result))
    about = {"finding": finding, "subject": subject.name, "fate": fate.value, "same_kind": again}
    _write("replay", {**about, **record.result_record(result)}, json_to)
    return {Fate.FIXED: AGREES, Fate.FAILED: FINDING, Fate.ERROR: MISUSE}[fate]


@cli.command()
@click.argument("name", required=False)
@json_option
def known(name: str | None, json_to: str | None) -> int:
    """List the known deviations of torch and its libraries; with a NAME, print the issue that reports it."""
    from harness.checks.deviations import DEVIATIONS
    from harness.checks.known import KNOWN, OF_NUMPY
    from harness.report import text

    issues = {one.name: one.report() for one in KNOWN if one.issue}
    if name is not None:
        if name not in issues:
            raise UsageError(f"{name}: no known deviation with an issue; expected {' or '.join(map(repr, issues))}")
        click.echo(issues[name], nl=False)
        return AGREES
    rows = [(one.name, one.whose.value, one.reason) for one in (*KNOWN, *OF_NUMPY, *DEVIATIONS)]
    console = _console(json_to)
    console.print(text.known_table(rows))
    for one in issues:
        console.print(f'The issue to send upstream: rnn-harness known "{one}"', highlight=False, markup=False)
    columns = ("name", "whose", "reason")
    _write("known", {"known": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES


@cli.command("findings")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--remove", is_flag=True, help="Remove the named findings.")
@findings_option
@report_option
@json_option
def findings_(ids: tuple[str, ...], folder: str, report_to: str | None, json_to: str | None, *, remove: bool) -> int:
    """List the findings that were kept; with an ID, show everything about it."""
    from harness.report import record, text
    from harness.store.findings import Store

    store, console = Store(folder), _console_beside({"--json": json_to, "--report": report_to})
    if remove and not ids:
        raise UsageError("--remove: expected the ID of a finding; `rnn-harness findings` lists them")
    if remove:
        for id_ in ids:
            click.echo(f"removed {_removed(store, id_)}", err=json_to == "-")
        return AGREES
    _require_page(report_to)
    stored = [store.open(id_) for id_ in ids] if ids else store.list()
    console.print(text.stored_report(stored) if ids else text.findings_table(stored, folder))
    _write("findings", {"findings": [record.stored_record(one) for one in stored]}, json_to)
    if report_to is not None:
        from harness.store import page

        _put(page.of_findings(stored, command=_command(), version=__version__), report_to, "--report")
    return AGREES


@cli.command(
    epilog="""\b
Exit codes:
  0    every fault found, none named wrongly, no false alarm
  1    otherwise
  130  interrupted; what was done so far is shown"""
)
@click.argument("names", nargs=-1, metavar="[FAULT|FAMILY]...")
@click.option("--family", "families", multiple=True, metavar="NAME", help="A family of faults; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same search.")
@click.option("--examples", type=click.IntRange(min=1), help="Cases for each subject.  [default: 1650]")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the work."
)
@json_option
def selftest(
    names: tuple[str, ...],
    families: tuple[str, ...],
    seed: int,
    examples: int | None,
    workers: int,
    json_to: str | None,
) -> int:
    """Measure the harness on itself: faults that it must find and name, and correct subjects that it must not accuse.

    Every fault of the catalogue is planted in a layer, which is then searched and explained like any subject. A FAULT
    is a fault's name, such as IgnoresBiasHH. With names or families, only these are measured. Correct subjects are
    named one by one, or all together as `correct`.
    """
    from rich.console import Console

    from harness.diagnosis.selftest import chosen
    from harness.diagnosis.selftest import selftest as measure
    from harness.report import selftest as report

    faults, correct = chosen(names, families)
    console = _console(json_to)
    with Console(stderr=True).status("selftest: starting") as status:

        def told(done: int, of: int, name: str) -> None:
            status.update(f"selftest: {done:,} of {of:,} subjects, {name} was the last")

        measured = measure(faults, correct, seed=seed, cases=examples, workers=workers, told=told)
    console.print(report.selftest_report(measured))
    _write("selftest", report.selftest_record(measured), json_to)
    if measured.interrupted:
        return INTERRUPTED
    return AGREES if measured.passed else FINDING


@cli.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of everything that --json and --coverage write, and of the file finding.json.

    A document says its kind in its field "document", and the schema has a definition of that name.
    """
    from harness.report import schema

    click.echo(schema.text(), nl=False)


def main() -> None:
    """Run the command, and exit with its code."""
    one_thread_a_process()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that findings are reported
    try:
        code = cli.main(prog_name="rnn-harness", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (SystemExit, BrokenPipeError) as error:
        code = READER_GONE  # click, rich or Python found that nobody reads the pipe any more
        if isinstance(error, SystemExit) and "_RNN_HARNESS_COMPLETE" in os.environ:
            code = int(error.code or 0)  # click has answered a shell that completes a line
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
    except OSError as error:  # such as a full disk behind standard output
        click.echo(f"Error: {error}", err=True)
        code = MISUSE
    except MemoryError as error:
        click.echo(f"Error: out of memory; pin smaller sizes with --only ({error})", err=True)
        code = MISUSE
    except Exception:  # noqa: BLE001 - any other error is the harness's own, and is reported as such
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
            raise UsageError(
                f"--only {pin}: expected another factor, because masks depend on the subject; pin dropout or training"
            )
        values_of = pinned.setdefault(name.strip().replace("-", "_"), [])
        values_of += [_literal(value.strip()) for value in values.split(",")]
    return pinned


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize() if text in {"true", "false", "none"} else text)
    except (ValueError, SyntaxError):
        return text


def _isolated(spec: str, timeout: float) -> Subject:
    """Return the subject in a process of its own, which ends with the command."""
    from harness.subjects.isolated import IsolatedSubject

    return click.get_current_context().with_resource(IsolatedSubject(spec, timeout=timeout))


def _console(json_to: str | None) -> Console:
    """Return the console for people beside a report as data."""
    return _console_beside({"--json": json_to})


def _console_beside(targets: Mapping[str, str | None]) -> Console:
    """Return the console for people, which is standard error if a document goes to standard output.

    Targets by their options that cannot be written to are refused at once.
    """
    from harness.report.paper import Paper
    from harness.store.document import require_targets

    require_targets(targets)
    return Paper(stderr="-" in targets.values(), highlight=False)


def _lines_to(target: str | None) -> Callable[[str], object] | None:
    """Return a function that writes a line to a file, which is there as a whole when the command ends."""
    from harness.store.document import lines_to

    return None if target is None else click.get_current_context().with_resource(lines_to(target))


def _observing(write_line: Callable[[str], object] | None, subject: str, seed: int) -> Observe | None:
    """Return a function that writes a line for each case of a subject's search, which begins now."""
    from harness.report.observations import observation

    start = time.time()
    return None if write_line is None else lambda seen: write_line(observation(seen, subject, seed, start))


def _require_page(target: str | None) -> None:
    """Refuse at once an HTML report that cannot be drawn."""
    from harness.report.page.render import require

    if target is not None:
        require("--report")


def _page_of(every: Sequence[Examined], tolerance: str) -> str:
    """Return the HTML report of a run."""
    from harness.store import page

    parts = [(done.examination, done.told, done.capabilities) for done in every]
    return page.of_run(parts, command=_command(), version=__version__, tolerance=tolerance)


def _command() -> str:
    """Return the command as it was typed."""
    return shlex.join(["rnn-harness", *sys.argv[1:]])


def _progress(name: str, *, quiet: bool) -> AbstractContextManager[Callable[[Hunt], None]]:
    """Show the progress of a search on standard error, unless that is to be quiet."""
    from rich.console import Console

    from harness.report import progress

    return nullcontext(lambda _hunt: None) if quiet else progress.shown(name, Console(stderr=True))


def _removed(store: Store, given: str) -> str:
    try:
        return store.remove(given)
    except OSError as error:
        raise UsageError(f"{given}: could not be removed: {error}") from None


def _write(name: str, record: Mapping[str, Any], target: str | None, option: str = "--json") -> None:
    """Write a JSON document, whose kind has this name in the schema."""
    from harness.store.document import as_json

    if target is not None:
        _put(as_json(name, record), target, option)


def _put(text: str, target: str, option: str) -> None:
    """Write a document to the target of an option."""
    from harness.store.document import write

    try:
        write(text, target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{option} {target}: cannot be written: {error}") from None


def _exit_code(examinations: list[Examination]) -> int:
    from harness.checks.result import Verdict

    verdicts = [done.verdict for done in examinations]
    if any(verdict in {Verdict.DISAGREES, Verdict.SUSPECT, Verdict.BROKEN} for verdict in verdicts):
        return FINDING
    if any(done.interrupted for done in examinations):
        return INTERRUPTED
    return AGREES if all(verdict is Verdict.AGREES for verdict in verdicts) else MISUSE
