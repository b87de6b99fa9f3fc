"""``rnn-harness replay``: it runs a finding again, or all that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from harness.cli.codes import AGREES, EXIT_CODES_OF_REPLAY, FINDING, MISUSE
from harness.cli.options import FILE, findings_option, json_option, timeout_option
from harness.cli.output import complain, console_for, write_json
from harness.space.errors import UsageError

if TYPE_CHECKING:
    from harness.report.place import Stored
    from harness.report.replays import Replayed
    from harness.search.replay import Fate
    from harness.subjects.protocol import Subject


@click.command(epilog=EXIT_CODES_OF_REPLAY, short_help="Run findings again: fixed, or do they still fail?")
@click.argument("finding", type=FILE, required=False, metavar="[ID|FILE]")
@click.option("--all", "every", is_flag=True, help="Run every finding that was kept, one line each.")
@click.option(
    "--subject", "spec", type=FILE, metavar="SUBJECT", help="The subject to run.  [default: the one it was found on]"
)
@click.option("--tolerance", metavar="NAME|rtol=R,atol=A", help="What to accept.  [default: as when it was found]")
@click.option("--no-note", is_flag=True, help="Do not note in the findings' folders what became of them.")
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
    no_note: bool,
) -> int:
    """Run a finding again: FIXED (0), FAILED (1), KNOWN (0), or ERROR (2) if it could not be run.

    ID is the ID of a finding, or its first digits. FILE is a case.json or an .npz that was kept elsewhere.
    """
    if (finding is None) != every:
        raise UsageError("expected the ID of a finding, a FILE, or --all; `rnn-harness findings` lists them")
    noting = None if no_note else _Noting()
    if finding is None:
        return _all(spec, tolerance, folder, timeout, json_to, noting)
    from harness.report import text
    from harness.report.record import excuse_record, result_record
    from harness.store.findings import load

    console, stored = console_for(json_to), load(finding, folder)
    done = _again(stored, spec, tolerance, timeout, noting)
    assert done.result is not None
    console.print(text.replay_report(done, done.result))
    about = {"finding": finding, "subject": done.subject, "fate": done.fate.value, "same_kind": done.again}
    excuse = excuse_record(done.stored.excuse)
    write_json("replay", {**about, "excuse": excuse, **result_record(done.result)}, json_to)
    return _code([done])


def _all(
    spec: str | None, tolerance: str | None, folder: str, timeout: float, json_to: str | None, noting: _Noting | None
) -> int:
    """Run every finding in a folder again; one whose case cannot be read is left out."""
    from harness.oracle.arithmetic import accepted
    from harness.report.replays import replayed_line, replays_line, replays_record
    from harness.store.findings import Store
    from harness.subjects.isolated import ahead

    console = console_for(json_to)
    accepted(tolerance or "derived")  # nothing is run if it is none
    kept, every = [], []
    for stored in Store(folder).list():
        if stored.found is None:
            complain(f"Warning: {stored.path}: left out: {stored.damage}")
        else:
            kept.append(stored)
    ahead([one for stored in kept if (one := spec or stored.subject)])
    for stored in kept:
        every.append(_tried(stored, spec, tolerance, timeout, noting))
        console.print(replayed_line(every[-1]), soft_wrap=not console.is_terminal)  # a terminal breaks between words
    console.print(replays_line(every, folder), markup=False, highlight=False)
    write_json("replays", replays_record(every), json_to)
    return _code(every)


def _tried(stored: Stored, spec: str | None, tolerance: str | None, timeout: float, noting: _Noting | None) -> Replayed:
    """Run a finding again, or say why that is not possible."""
    from harness.report.replays import Replayed
    from harness.search.replay import Fate

    try:
        return _again(stored, spec, tolerance, timeout, noting)
    except UsageError as error:
        return Replayed(stored, spec or stored.subject, Fate.ERROR, why=str(error))


def _again(stored: Stored, spec: str | None, tolerance: str | None, timeout: float, noting: _Noting | None) -> Replayed:
    """Run a finding again, on a subject in a process of its own. Raise ``UsageError`` if that is not possible.

    Its fate is noted if it was run as it was found. An excuse counts only for the subject on which it was found.
    """
    from harness.oracle.arithmetic import accepted
    from harness.report.replays import Replayed
    from harness.search.preparation import asked_scope
    from harness.search.replay import Fate, replay
    from harness.subjects.isolated import IsolatedSubject

    contract = accepted(tolerance or stored.notes.get("tolerance", "derived"))
    own = spec in {None, stored.subject}
    stored = stored if own else replace(stored, excuse=None)
    spec = spec or stored.subject
    if spec is None:
        raise UsageError(f"{stored.path}: does not name the subject it was found on; name one with --subject")
    with IsolatedSubject(spec, timeout=timeout) as subject:
        asked_scope(subject, (stored.case.config.device,))
        fate, result = replay(subject, stored.case, contract, of_dropout=stored.of_dropout)
        if stored.wavers and fate is Fate.FIXED:
            fate = Fate.ERROR
        if noting is not None and own and tolerance is None:
            noting(stored, subject, fate)
    return Replayed(stored, subject.name, stored.told(fate, result), result)


class _Noting:
    """The noting of what became of findings; a store that cannot be written to costs one warning."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, stored: Stored, subject: Subject, fate: Fate) -> None:
        """Note the fate of a finding where the subject was run, unless it is not known."""
        from harness.search.replay import Fate
        from harness.store.seen import note
        from harness.subjects.protocol import environment_of

        if stored.id is None or fate is Fate.ERROR:
            return
        try:
            note(stored.path, environment_of(subject, stored.case.config.device), fate)
        except OSError as error:
            if not self._warned:
                complain(f"Warning: {stored.path}: its fate could not be noted: {error}")
            self._warned = True


def _code(every: Sequence[Replayed]) -> int:
    """Return the exit code: a failure counts more than what could not be run."""
    from harness.search.replay import Fate

    fates = {one.fate for one in every}
    return FINDING if Fate.FAILED in fates else MISUSE if Fate.ERROR in fates else AGREES
