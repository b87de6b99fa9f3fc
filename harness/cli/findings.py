"""``rnn-harness findings``: it lists the findings that were kept, and shows or removes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness import __version__
from harness.cli.codes import AGREES
from harness.cli.console import console_beside, put, typed, write_json
from harness.cli.options import findings_option, json_option, report_option
from harness.space.errors import UsageError

if TYPE_CHECKING:
    from harness.store.finding_folders import Store


@click.command(short_help="List the findings that were kept, or show some of them.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--remove", is_flag=True, help="Remove the named findings.")
@findings_option
@report_option
@json_option
def findings(ids: tuple[str, ...], folder: str, report_to: str | None, json_to: str | None, *, remove: bool) -> int:
    """List the findings that were kept; with an ID, show everything about it."""
    from harness.report import json_record, terminal
    from harness.store.finding_folders import Store

    store, console = Store(folder), console_beside({"--json": json_to, "--report": report_to})
    if remove:
        if not ids:
            raise UsageError("--remove: expected the ID of a finding; `rnn-harness findings` lists them")
        for id_ in ids:
            click.echo(f"removed {_removed(store, id_)}", err=json_to == "-")
        return AGREES
    stored = [store.open(id_) for id_ in ids] if ids else store.list()
    console.print(terminal.stored_report(stored) if ids else terminal.findings_table(stored, folder))
    write_json("findings", {"findings": [json_record.stored_record(finding) for finding in stored]}, json_to)
    if report_to is not None:
        from harness.report.page import page_of_findings

        put(page_of_findings(stored, command=typed(), version=__version__), report_to, "--report")
    return AGREES


def _removed(store: Store, name: str) -> str:
    try:
        return store.remove(name)
    except OSError as error:
        raise UsageError(f"{name}: could not be removed: {error}") from None
