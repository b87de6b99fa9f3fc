"""``rnn-harness findings``: it lists the findings that were kept, and shows, excuses or removes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness import __version__
from harness.cli.codes import AGREES
from harness.cli.options import findings_option, json_option, report_option
from harness.cli.output import console_beside, put, require_page, typed, write_json
from harness.space.errors import UsageError

if TYPE_CHECKING:
    from harness.store.findings import Store


@click.command(short_help="List the findings that were kept, or show some of them.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--remove", is_flag=True, help="Remove the named findings.")
@click.option(
    "--known-until", "until", metavar="DATE", help="Excuse the named findings until the end of a day, as 2027-01-31."
)
@click.option("--because", metavar="LINK", help="Why they are excused: a link, or a reason in one line.")
@click.option("--open", "reopen", is_flag=True, help="Take back the excuse of the named findings.")
@findings_option
@report_option
@json_option
def findings(
    ids: tuple[str, ...],
    until: str | None,
    because: str | None,
    folder: str,
    report_to: str | None,
    json_to: str | None,
    *,
    remove: bool,
    reopen: bool,
) -> int:
    """List the findings that were kept, with their states; with an ID, show everything about it."""
    from harness.report import record, text
    from harness.store.findings import Store

    store, console = Store(folder), console_beside({"--json": json_to, "--report": report_to})
    if (option := _changing(remove=remove, until=until, because=because, reopen=reopen)) and not ids:
        raise UsageError(f"{option}: expected the ID of a finding; `rnn-harness findings` lists them")
    if remove:
        for id_ in ids:
            click.echo(f"removed {_removed(store, id_)}", err=json_to == "-")
        return AGREES
    require_page(report_to)
    if option:
        _excuse(store, ids, until, because)
    stored = [store.open(id_) for id_ in ids] if ids else store.list()
    console.print(text.stored_report(stored) if ids else text.findings_table(stored, folder))
    write_json("findings", {"findings": [record.stored_record(one) for one in stored]}, json_to)
    if report_to is not None:
        from harness.store import page

        put(page.of_findings(stored, command=typed(), version=__version__), report_to, "--report")
    return AGREES


def _changing(*, remove: bool, until: str | None, because: str | None, reopen: bool) -> str | None:
    """Return the option that changes the named findings, if there is one. Raise ``UsageError`` if several do."""
    if (until is None) != (because is None):
        raise UsageError("expected --known-until DATE and --because LINK together, or neither")
    given = {"--remove": remove, "--known-until": until is not None, "--open": reopen}
    options = [option for option, there in given.items() if there]
    if len(options) > 1:
        raise UsageError(f"{' and '.join(options)}: expected one of them")
    return options[0] if options else None


def _excuse(store: Store, ids: tuple[str, ...], until: str | None, because: str | None) -> None:
    """Excuse findings, or take their excuses back."""
    from harness.store import excuse

    given = None if until is None or because is None else excuse.made(until, because, "--known-until")
    if given is not None and not given.holds:
        raise UsageError(f"--known-until {until}: expected today or a later day")
    for id_ in map(store.resolve, ids):
        place = store.directory / id_
        try:
            excuse.take_back(place) if given is None else excuse.write(place, given)
        except OSError as error:
            raise UsageError(f"{id_}: {excuse.FILE} could not be changed: {error}") from None


def _removed(store: Store, given: str) -> str:
    try:
        return store.remove(given)
    except OSError as error:
        raise UsageError(f"{given}: could not be removed: {error}") from None
