"""``rnn-harness replay``: it runs a finding again, or all that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harness.cli.codes import AGREES, EXIT_CODES_OF_REPLAY, FINDING, MISUSE
from harness.cli.console import complain, console_for, write_json
from harness.cli.options import PATH_TYPE, findings_option, json_option, timeout_option
from harness.space.errors import UsageError

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
) -> int:
    """Run a finding again: FIXED (0), FAILED (1), or ERROR (2) if it could not be run.

    ID is the ID of a finding, or its first digits. FILE is a case.json or an .npz that was kept elsewhere.
    """
    if (finding is None) != every:
        raise UsageError("expected the ID of a finding, a FILE, or --all; `rnn-harness findings` lists them")
    if finding is None:
        return _all(spec, tolerance, folder, timeout, json_to)
    from harness.report import terminal
    from harness.report.json_record import result_record
    from harness.store.finding_folders import load

    console, stored = console_for(json_to), load(finding, folder)
    done = _again(stored, spec, tolerance, timeout)
    assert done.result is not None
    console.print(terminal.replay_report(done, done.result))
    about = {"finding": finding, "subject": done.subject, "fate": done.fate.value, "same_kind": done.again}
    write_json("replay", {**about, **result_record(done.result)}, json_to)
    return _code([done])


def _all(spec: str | None, tolerance: str | None, folder: str, timeout: float, json_to: str | None) -> int:
    """Run every finding in a folder again; one whose case cannot be read is left out."""
    from harness.oracle.arithmetic_assumptions import accepted
    from harness.report.replay_results import replayed_line, replays_line, replays_record
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
    ahead([name for stored in readable if (name := spec or stored.subject)])
    for stored in readable:
        every.append(_outcome(stored, spec, tolerance, timeout))
        console.print(replayed_line(every[-1]), soft_wrap=not console.is_terminal)  # a terminal breaks between words
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
