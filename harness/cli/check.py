"""``rnn-harness check``: it searches for a case on which a subject fails, and reports the verdict."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from harness.cli.check_documents import Outputs, output_options
from harness.cli.codes import AGREES, EXIT_CODES, FINDING, INTERRUPTED, MISUSE
from harness.cli.console import complain, print_summary
from harness.cli.options import (
    PATH_TYPE,
    WholeNumber,
    dtypes_option,
    findings_option,
    only_option,
    output_size_option,
    seconds_of,
    seed_option,
    timeout_option,
)
from harness.space.cells import CELLS, cell_named
from harness.space.conformance_profile import KERNEL, PORT, PROFILE_WORDS
from harness.space.errors import UsageError

# The options that need the names of subjects, or gives them, by its parameter.
_NAMED: Final = {"subjects": "a subject", "pythons": "--python", "scheduler": "--scheduler", "shard_text": "--shard"}

if TYPE_CHECKING:
    from rich.console import Console

    from harness.checks.known_failures import KnownFailure
    from harness.cli.all_subjects import Target
    from harness.pipeline import UpgradeRun
    from harness.report.finding_entry import SubjectFindings
    from harness.report.json_record import RunOptions
    from harness.report.upgrade import UpgradeComparison
    from harness.search.examination import Examination
    from harness.search.plan_shards import Shard
    from harness.search.search_options import SearchOptions
    from harness.search.search_record import SearchRecord
    from harness.search.workers import WorkerPool
    from harness.subjects.protocol import Subject


def _workers(_context: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    """Return the number of processes; ``None`` leaves it to the search."""
    if not text.isdecimal() and text != "auto":
        raise click.BadParameter(f"{text!r}: expected a number of processes, or auto")
    return None if text == "auto" else int(text)


def _resources(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> dict[str, float]:
    resources = {}
    for text in texts:
        match = re.fullmatch(r"([^=]+)=(\d+(?:\.\d+)?)", text)
        if match is None or not float(match[2]):
            raise click.BadParameter(f"{text!r}: expected NAME=NUMBER, such as GPU=1")
        resources[match[1]] = float(match[2])
    return resources


@click.command(epilog=EXIT_CODES, short_help="Search for a case on which a subject fails, and say why.")
@click.argument("subjects", nargs=-1, type=PATH_TYPE, metavar="[SUBJECT]...")
@click.option(
    "--all",
    "all_here",
    is_flag=True,
    help="Check every subject of nn.RNN, or of --layer, that has a name and is here, in half an hour, and list them.",
)
@click.option(
    "--device", "devices", multiple=True, help="Where to run; repeatable.  [default: every device found here]"
)
@dtypes_option
@click.option("--examples", type=WholeNumber(min=1), help="Cases to check.  [default: 1650, or what --time allows]")
@click.option(
    "--time",
    "seconds",
    callback=seconds_of,
    metavar="TIME",
    help="How long to search, shrink and explain, such as 60s or 5m; malformed calls take extra time.",
)
@seed_option
@click.option(
    "--layer",
    metavar="gru|lstm|CELL",
    help="Compare with nn.GRU or nn.LSTM, where the arguments of a function or the shapes of a class do not tell that, "
    "or with a harness.Cell of its file; with --all, check the subjects of that layer.",
)
@click.option(
    "--profile",
    type=click.Choice(list(PROFILE_WORDS)),
    help=f"port: {PROFILE_WORDS[PORT]}; kernel: {PROFILE_WORDS[KERNEL]}.  "
    "[default: kernel of torch, port of what is yours]",
)
@output_size_option
@only_option
@click.option(
    "-n",
    "--workers",
    callback=_workers,
    default="auto",
    show_default=True,
    metavar="N",
    help="Worker processes: a number, 0 for none, or auto: one a core for a large search. Findings stay the same.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Share the search among the workers of a Dask cluster, such as tcp://10.0.0.1:8786, instead.",
)
@click.option(
    "--resource",
    "resources",
    multiple=True,
    callback=_resources,
    metavar="NAME=NUMBER",
    help="What a cluster's worker must have and lend to its work, such as GPU=1; repeatable.",
)
@click.option(
    "--shard",
    "shard_text",
    metavar="K/N",
    help="Check the K-th of N parts of the same search, for `rnn-harness merge`; needs --json.",
)
@click.option(
    "--weights",
    "weights_file",
    type=PATH_TYPE,
    metavar="FILE",
    help="Check on the weights of your model, and near them: .safetensors, .npz, .pt; sizes and layers are its own.",
)
@findings_option
@click.option(
    "--known",
    "known_file",
    type=PATH_TYPE,
    metavar="FILE",
    help="A TOML file of failures that are known; the search counts their cases and goes on around them.",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    type=PATH_TYPE,
    metavar="PATH",
    help="Run the subjects under another interpreter, such as ../old/bin/python, which needs NumPy; two are compared.",
)
@timeout_option
@click.option(
    "--tolerance",
    default="derived",
    show_default=True,
    metavar="NAME|rtol=R,atol=A|tanh=Nulp",
    help="Accept more: tf32 or bf16 operands in products, a difference of your own, or a less accurate tanh.",
)
@click.option(
    "--slow",
    is_flag=True,
    help="Each new shape takes the subject long, as where it compiles: ask for few sizes, layers and cases.",
)
@click.option(
    "--capture",
    type=click.Choice(["yes", "no"]),
    default="yes",
    show_default=True,
    help="Show each distinct line that a subject prints once, at the end; or all, as they come.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print everything about every finding, and what the search met.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print a line for each subject and for each finding, and no progress."
)
@output_options()
def check(**args: Any) -> int:
    """Search for a case on which a SUBJECT fails; without a SUBJECT, check torch's own nn.RNN.

    A SUBJECT is a name that `rnn-harness subjects` lists, path/to/file.py:name or module:name, where name is a
    function rnn(x, h0, weights, config) -> (output, h_n), or a class of a recurrent layer in torch or NumPy. It may
    be exec:PROGRAM, too, which docs/other-languages.md explains.
    """
    finished: list[SubjectFindings] = []
    try:
        return _checked(_Arguments(**args), finished)
    except KeyboardInterrupt:
        if finished:
            raise
        raise KeyboardInterrupt(
            "interrupted before the first case: nothing was checked, and the same command begins again"
        ) from None


@dataclass(frozen=True)
class _Arguments:
    """The options of the command line, by the names of click's parameters."""

    subjects: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    examples: int | None
    seconds: float | None
    seed: int
    layer: str | None
    profile: str | None
    output_size: int | None
    pins: tuple[str, ...]
    workers: int | None
    scheduler: str | None
    resources: Mapping[str, float]
    shard_text: str | None
    folder: str
    weights_file: str | None
    known_file: str | None
    pythons: tuple[str, ...]
    timeout: float
    tolerance: str
    outputs: Outputs
    slow: bool
    capture: str
    all_here: bool
    verbose: bool
    quiet: bool


def _checked(args: _Arguments, finished: list[SubjectFindings]) -> int:
    """Search as the command line asks, and return the exit code; ``finished`` gets what is searched to its end."""
    from harness.subjects import captured_output
    from harness.subjects.isolated import ahead

    began = time.perf_counter()
    _require_compatible(args)
    if args.capture == "yes":
        click.get_current_context().with_resource(captured_output.folder())  # before a process of a subject is started
    specs = tuple(dict.fromkeys(args.subjects)) or ("torch",)
    if args.layer is not None and args.all_here and cell_named(args.layer) not in CELLS:
        raise UsageError(f"layer={args.layer!r} with --all: expected gru or lstm, whose subjects are here")
    if args.layer is not None and not args.all_here:
        from harness.subjects.registry import of_layer

        specs = tuple(of_layer(spec, args.layer) for spec in specs)
    subjects, upgrades = _under(specs, args.pythons, sharded=args.shard_text is not None)
    shard = _shard(args)
    ahead(subjects)  # before the harness's own imports, which take as long
    from harness.cli.all_subjects import AvailableSubjects, check_all
    from harness.pipeline import UpgradeRun
    from harness.search.scope_and_workers import workers_of
    from harness.search.search_options import SearchOptions
    from harness.space.scope import TORCH_SCOPE

    quiet, verbose = args.quiet, args.verbose
    options = SearchOptions(args.examples, args.seconds, args.seed, tolerance=args.tolerance, slow=args.slow)
    options = replace(options, own=_own(args.known_file))
    console = args.outputs.required()
    workers = workers_of(args.workers, args.examples, 1 if shard is None else shard.of, _cluster(args))
    options = replace(options, shard=shard, workers=workers)
    pinned = pinned_by(args.pins, args.dtypes, args.output_size)
    if args.weights_file is not None:
        from harness.search.own_weights import load_weights

        weights = load_weights(args.weights_file)
        options, pinned = replace(options, weights=weights), {**pinned, **weights.pins}
    ask = partial(_target, options=options, devices=args.devices, pinned=pinned, profile=args.profile)
    targets = [] if args.all_here else _targets(subjects, ask, args.timeout)
    run = _run(targets, options, args.timeout)
    budget = args.examples, args.seconds
    upgrading = UpgradeRun(targets[0][:2], targets[1][:2], *budget, slow=args.slow) if upgrades else None
    search = partial(_searched, args, upgrading, None if args.all_here else began)
    if args.all_here:
        TORCH_SCOPE.only(**pinned)  # pins that no subject could have are refused before any is started
        here = AvailableSubjects(ask, args.timeout, (args.layer or "rnn").upper())
        code = check_all(here, search, console, args.outputs, run, quiet=quiet, verbose=verbose)
        _show_prints(quiet=quiet)
        return code
    show = partial(print_summary, console, quiet=quiet, verbose=verbose)
    done = _one_after_the_other(targets, search, show, finished)
    _show_prints(quiet=quiet)
    if not done.summaries:
        return MISUSE
    upgrade = None if upgrading is None else _compared(console, upgrading, done.summaries, quiet=quiet)
    args.outputs.write(done.summaries, run, upgrade)
    code = exit_code([summary.examination for summary in done.summaries], upgrade)
    return (
        code
        if code == FINDING
        else max(code, INTERRUPTED if done.interrupted else MISUSE if done.unsearched else AGREES)
    )


def _show_prints(*, quiet: bool) -> None:
    from harness.subjects import captured_output

    for line in () if quiet else captured_output.summary():
        complain(line)


class _CompletedSearches(NamedTuple):
    """The searches that came to their ends."""

    summaries: list[SubjectFindings]
    unsearched: bool  # a subject could not be searched
    interrupted: bool = False  # between two searches


def _searched(
    args: _Arguments, upgrading: UpgradeRun | None, began: float | None, target: Target, number: int = 0
) -> SubjectFindings:
    """Search a subject, of an upgrade the old one (0) or the new one (1). The first has the time from ``began`` on."""
    from harness.pipeline import run_pipeline
    from harness.search.deadline import uninterrupted

    name, options = target.subject.name, target.options
    observe = args.outputs.observing(name, options.seed)
    if number == 0 and began is not None and (seconds := options.seconds) is not None:
        options = replace(options, seconds=max(seconds - (time.perf_counter() - began), seconds / 2))
    if upgrading is not None:
        options = replace(options, narrowed=upgrading.narrowed(number))
    with _progress(name, quiet=args.quiet) as progress:
        done = run_pipeline(
            target.subject,
            target.scope,
            options,
            folder=args.folder,
            warn=lambda text: complain(f"Warning: {text}"),
            progress=progress,
            observe=observe,
        )
    if done.examination.interrupted:
        # What was found is reported before the command ends.
        click.get_current_context().with_resource(uninterrupted(done.examination.hunt))
    return done


def _one_after_the_other(
    targets: Sequence[Target],
    search: Callable[[Target, int], SubjectFindings],
    show: Callable[..., None],
    finished: list[SubjectFindings],
) -> _CompletedSearches:
    """Search the subjects and show what was found, until an interrupt."""
    from harness.subjects.protocol import SubjectUnavailable

    done = _CompletedSearches(finished, unsearched=False)
    for number, target in enumerate(targets):
        try:
            summary = search(target, number)
        except SubjectUnavailable as error:  # such as its file that was changed meanwhile; the next one can be checked
            complain(f"Error: {error}")
            done = done._replace(unsearched=True)
            continue
        except KeyboardInterrupt:
            if not done.summaries:
                raise
            complain(f"interrupted before the first case of {target.subject.name}")
            return done._replace(interrupted=True)
        done.summaries.append(summary)
        show(summary, first=len(done.summaries) == 1)
        if summary.examination.interrupted:
            break
    return done


def _under(specs: tuple[str, ...], pythons: tuple[str, ...], *, sharded: bool = False) -> tuple[tuple[str, ...], bool]:
    """Return the subjects under each interpreter, and whether these are an old and a new one of one subject."""
    if not pythons:
        return specs, False
    from harness.subjects.interpreters import InterpreterSpec

    for python in pythons:
        if pythons.count(python) > 1:
            raise UsageError(f"--python {python} twice: expected one interpreter, or an old and a new one")
    under = tuple(str(InterpreterSpec(python, spec)) for python in pythons for spec in specs)
    upgrades = (len(specs), len(pythons)) == (1, 2)
    if len(pythons) > 2:
        several = " ".join(f"--python {interpreter}" for interpreter in pythons)
        raise UsageError(f"{several}: expected one, or an old and a new one; compare more of them two by two")
    if upgrades and sharded:
        raise UsageError("--shard with two --python: expected one of them; an upgrade is compared in one run only")
    return under, upgrades


def _compared(
    console: Console, upgrading: UpgradeRun, every: Sequence[SubjectFindings], *, quiet: bool
) -> UpgradeComparison | None:
    """Print how the two interpreters differ, if both searches came to their ends."""
    from harness.report.upgrade import upgrade_report

    if len(every) < 2 or every[1].examination.interrupted:
        return None
    upgrade = upgrading.compared(*every)
    if upgrade is not None:
        console.print(upgrade_report(upgrade, quiet=quiet), soft_wrap=quiet)
    return upgrade


def _shard(args: _Arguments) -> Shard | None:
    from harness.search.plan_shards import Shard

    text = args.shard_text
    if text is not None and args.outputs.json is None:
        raise UsageError("--shard without --json: expected both, such as --shard 3/8 --json shard-3.json, to be merged")
    return None if text is None else Shard.of_text(text)


def _run(targets: Sequence[Target], options: SearchOptions, timeout: float) -> RunOptions:
    """Return what all subjects have in common, as it is before the search."""
    from harness.report.json_record import RunOptions
    from harness.subjects.environment import versions

    names = tuple(target.subject.name for target in targets)
    limits = options.seed, options.cases, options.seconds, options.tolerance
    return RunOptions(names, *limits, timeout, versions(), options.shard)


def _cluster(args: _Arguments) -> WorkerPool | None:
    from harness.search.dask_cluster import Cluster

    context = click.get_current_context()
    if args.scheduler is None:
        if args.resources:
            raise UsageError("--resource without --scheduler: expected both, because only a cluster's workers have any")
        return None
    if context.get_parameter_source("workers") is not click.core.ParameterSource.DEFAULT:
        raise UsageError("-n with --scheduler: expected one of them, because the cluster's workers do the work")
    return context.with_resource(Cluster(args.scheduler, args.resources))


def _targets(specs: Sequence[str], ask: Callable[[Subject], Target], timeout: float) -> list[Target]:
    """Return the subjects, each in a process of its own, which ends with the command."""
    from harness.subjects.isolated import IsolatedSubject

    context = click.get_current_context()
    return [ask(context.with_resource(IsolatedSubject(spec, timeout=timeout))) for spec in specs]


def _target(
    subject: Subject, *, options: SearchOptions, devices: Sequence[str], pinned: Mapping[str, Any], profile: str | None
) -> Target:
    from harness.cli.all_subjects import Target
    from harness.search.scope_and_workers import asked_scope
    from harness.space.scope import singular

    held = profile or subject.capabilities.profile
    scope = asked_scope(subject, devices, pinned, held)
    return Target(subject, scope, replace(options, profile=held, pinned=frozenset(singular(pinned))))


def _require_compatible(args: _Arguments) -> None:
    """Refuse options that exclude each other, and beside --all what needs the names of subjects."""
    if args.quiet and args.verbose:
        raise UsageError("--quiet with --verbose: expected one of them")
    for name, shown in _NAMED.items():
        if args.all_here and getattr(args, name):
            raise UsageError(f"--all with {shown}: expected one of them; name the subjects instead of --all")


def _own(file: str | None) -> tuple[KnownFailure, ...]:
    """Return the known failures of a file, and say which of them cover nothing."""
    from harness.checks.known_failures import parse
    from harness.space.reading import MOST_WRITTEN
    from harness.store.document import read_text

    own, idle = ([], []) if file is None else parse(read_text(Path(file), MOST_WRITTEN), file)
    for warning in idle:
        complain(f"Warning: {warning}")
    return tuple(own)


def pinned_by(pins: Sequence[str], dtypes: tuple[str, ...], output_size: int | None) -> dict[str, Any]:
    """Return the values of the factors that are pinned by any option."""
    pinned = _pins(pins) | ({} if output_size is None else {"output_size": output_size})
    pinned |= {"dtype": dtypes} if dtypes else {}
    if not {"dtype", "dtypes"}.isdisjoint(pinned):
        pinned.setdefault("autocast", None)  # it computes in another dtype
    return pinned


def _pins(pins: Sequence[str]) -> dict[str, Any]:
    from harness.space.scope import SCOPE_FLAGS

    pinned: dict[str, Any] = {}
    for pin in pins:
        name, equals, values = pin.partition("=")
        if not equals or not values:
            raise UsageError(f"--only {pin}: expected FACTOR=VALUE, such as num_layers=1 or T=5,6")
        if name.strip() in SCOPE_FLAGS:
            raise UsageError(f"--only {pin}: expected another factor, because {name.strip()} depend on the subject")
        values_of = pinned.setdefault(name.strip().replace("-", "_"), [])
        values_of += [_literal(value.strip()) for value in values.split(",")]
    return pinned


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize() if text in {"true", "false", "none"} else text)
    except (ValueError, SyntaxError):
        return text


def _progress(name: str, *, quiet: bool) -> AbstractContextManager[Callable[[SearchRecord], None]]:
    """Show the progress of a search on standard error, unless that is to be quiet."""
    from harness.report import progress
    from harness.report.escaping_console import EscapingConsole

    return nullcontext(lambda _hunt: None) if quiet else progress.shown(name, EscapingConsole(stderr=True))


def exit_code(examinations: Sequence[Examination], upgrade: UpgradeComparison | None = None) -> int:
    """Return the exit code that the verdicts on all subjects give; a shard may have nothing to check.

    After an ``upgrade`` it is that of the new interpreter, whichever search met a finding of it.
    """
    from harness.checks.result import Verdict
    from harness.report.upgrade import DefectStanding

    if upgrade is not None:
        examinations = examinations[1:]
        if upgrade.worst is not DefectStanding.GONE:
            return FINDING
    verdicts = [done.verdict for done in examinations]
    if any(verdict in {Verdict.DISAGREES, Verdict.SUSPECT, Verdict.BROKEN} for verdict in verdicts):
        return FINDING
    if any(done.interrupted for done in examinations):
        return INTERRUPTED
    enough = {Verdict.AGREES} if examinations[0].hunt.shard is None else {Verdict.AGREES, None}
    return AGREES if enough.issuperset(verdicts) else MISUSE
