"""``rnn-harness replay``: it runs a finding again, or all that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from harness.cli.codes import AGREES, EXIT_CODES_OF_REPLAY, FINDING, MISUSE
from harness.cli.console import complain, console_for, write_json
from harness.cli.options import PATH_TYPE, findings_option, json_option, timeout_option
from harness.space.errors import UsageError

SHOWN: Final = 200  # the characters of a name in an error; a file may have one of millions

_HOW: Final = "--as-recorded, if you trust it, or --subject NAME, which runs what you name"
_NOT_OWN: Final = "this machine has no note that it wrote it as it is"

if TYPE_CHECKING:
    from harness.report.finding_files import SavedFinding
    from harness.report.replay_results import ReplayResult


@click.command(epilog=EXIT_CODES_OF_REPLAY, short_help="Run findings again: fixed, or do they still fail?")
@click.argument("finding", type=PATH_TYPE, required=False, metavar="[ID|FILE]")
@click.option("--all", "every", is_flag=True, help="Run every finding that was kept, one line each.")
@click.option(
    "--subject",
    "spec",
    type=PATH_TYPE,
    metavar="SUBJECT",
    help="The subject to run.  [default: the one it was found on]",
)
@click.option(
    "--as-recorded",
    is_flag=True,
    help="Run what the file names, though it came from elsewhere or was edited: that may be any program.",
)
@click.option("--tolerance", metavar="NAME|rtol=R,atol=A", help="What to accept.  [default: as when it was found]")
@findings_option
@timeout_option
@json_option
def replay(
    finding: str | None,
    spec: str | None,
    tolerance: str | None,
    folder: str,
    timeout: float,
    json_to: str | None,
    *,
    every: bool,
    as_recorded: bool,
) -> int:
    """Run a finding again: FIXED (0), FAILED (1), or ERROR (2) if it could not be run.

    ID is the ID of a finding, or its first digits. FILE is a case.json or an .npz that was kept elsewhere. What a file
    names is run if `rnn-harness subjects` lists it, or if this machine wrote the finding.
    """
    if (finding is None) != every:
        raise UsageError("expected the ID of a finding, a FILE, or --all; `rnn-harness findings` lists them")
    if as_recorded and spec is not None:
        raise UsageError("--as-recorded with --subject: expected one of them, because both say what to run")
    if finding is None:
        return _all(spec, tolerance, folder, timeout, json_to, as_recorded=as_recorded)
    from harness.report import terminal
    from harness.report.json_record import result_record
    from harness.store.finding_folders import load

    console, stored = console_for(json_to), load(finding, folder)
    if not _may_run(stored, spec, as_recorded=as_recorded):
        shown = repr(stored.subject)
        shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
        raise UsageError(
            f"{stored.path} names the subject {shown}; what a file names is not run. To run it: {_HOW}; {_NOT_OWN}"
        )
    done = _again(stored, spec, tolerance, timeout)
    assert done.result is not None
    console.print(terminal.replay_report(done, done.result))
    about = {"finding": finding, "subject": done.subject, "fate": done.fate.value, "same_kind": done.again}
    write_json("replay", {**about, **result_record(done.result)}, json_to)
    return _code([done])


def _may_run(stored: SavedFinding, spec: str | None, *, as_recorded: bool) -> bool:
    """Tell if the user, or this machine, or this program chose what is to run, and not whoever wrote a file."""
    from harness.subjects.registry import registered

    return as_recorded or bool(spec) or stored.own or stored.subject is None or stored.subject in registered()


def _all(
    spec: str | None, tolerance: str | None, folder: str, timeout: float, json_to: str | None, *, as_recorded: bool
) -> int:
    """Run every finding in a folder again; one whose case cannot be read is left out."""
    from harness.oracle.arithmetic_assumptions import accepted
    from harness.report.replay_results import ReplayResult, replayed_line, replays_line, replays_record
    from harness.report.wording import counted
    from harness.search.case_replay import ReplayOutcome
    from harness.store.finding_folders import Store
    from harness.subjects.isolated import ahead

    console = console_for(json_to)
    accepted(tolerance or "derived")  # nothing is run if it is none
    readable, every = [], []
    for stored in Store(folder).list():
        if stored.saved_case is None:
            complain(f"Warning: {stored.path}: left out: {stored.damage}")
        else:
            readable.append(stored)
    may_run = [_may_run(stored, spec, as_recorded=as_recorded) for stored in readable]
    ahead([name for stored, may in zip(readable, may_run, strict=True) if may and (name := spec or stored.subject)])
    for stored, may in zip(readable, may_run, strict=True):
        if may:
            every.append(_outcome(stored, spec, tolerance, timeout))
        else:
            every.append(ReplayResult(stored, stored.subject, ReplayOutcome.ERROR, why=f"not run: {_NOT_OWN}"))
        console.print(replayed_line(every[-1]), soft_wrap=not console.is_terminal)  # a terminal breaks between words
    if not_run := may_run.count(False):
        text = f"{counted(not_run, 'finding')} not run. To run what a file names: {_HOW}"
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)
    console.print(replays_line(every, folder), markup=False, highlight=False)
    write_json("replays", replays_record(every), json_to)
    return _code(every)


def _outcome(stored: SavedFinding, spec: str | None, tolerance: str | None, timeout: float) -> ReplayResult:
    """Run a finding again, or say why that is not possible."""
    from harness.report.replay_results import ReplayResult
    from harness.search.case_replay import ReplayOutcome

    try:
        return _again(stored, spec, tolerance, timeout)
    except UsageError as error:
        return ReplayResult(stored, spec or stored.subject, ReplayOutcome.ERROR, why=str(error))


def _again(stored: SavedFinding, spec: str | None, tolerance: str | None, timeout: float) -> ReplayResult:
    """Run a finding again, on a subject in a process of its own. Raise ``UsageError`` if that is not possible."""
    from harness.oracle.arithmetic_assumptions import accepted
    from harness.report.replay_results import ReplayResult
    from harness.search.case_replay import ReplayOutcome, replay
    from harness.search.scope_and_workers import asked_scope
    from harness.space.cells import local_cells
    from harness.subjects.isolated import IsolatedSubject

    within = accepted(tolerance or stored.notes.get("tolerance", "derived"))
    spec = spec or stored.subject
    if spec is None:
        raise UsageError(f"{stored.path}: does not name the subject it was found on; name one with --subject")
    with local_cells(), IsolatedSubject(spec, timeout=timeout) as subject:
        asked_scope(subject, (stored.case.config.device,))
        fate, result = replay(subject, stored.case, within, of_dropout=stored.of_dropout)
    if stored.nondeterministic and fate is ReplayOutcome.FIXED:
        fate = ReplayOutcome.ERROR
    return ReplayResult(stored, subject.name, fate, result)


def _code(every: Sequence[ReplayResult]) -> int:
    """Return the exit code: a failure counts more than what could not be run."""
    from harness.search.case_replay import ReplayOutcome

    fates = {replayed.fate for replayed in every}
    return FINDING if ReplayOutcome.FAILED in fates else MISUSE if ReplayOutcome.ERROR in fates else AGREES
