"""``rnn-harness coverage``: it shows how much of the space several runs met together."""

from pathlib import Path

import click

from harness.cli.codes import AGREES
from harness.cli.console import console_for, write_json
from harness.cli.options import WholeNumber, json_option


@click.command(short_help="Show how much of the space some runs met together.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--missing", type=WholeNumber(min=0), default=0, metavar="N", help="List up to N combinations that no run met."
)
@json_option
def coverage(files: tuple[Path, ...], missing: int, json_to: str | None) -> int:
    """Show how much of the space the runs that wrote these FILEs met together.

    `rnn-harness check --json FILE` writes a FILE; the runs may have other seeds or machines. Only what ran counts.
    The shares are of what can meet in the scope: values of factors, their pairs and triples (sizes by class: 1, 2 to 7,
    about 8, about 16, about 32, more), and edges, the sizes at which kernels change, alone and in pairs.
    """
    from harness.report.coverage_words import missing_lines, shares_record, table
    from harness.store.reports import met_together

    scopes = met_together(files)
    console = console_for(json_to)
    for scope in scopes:
        console.print(scope.subject, markup=False)
        console.print(table(scope))
        for line in missing_lines(scope, missing) if missing else ():
            console.print(line)
    shares = [
        {"subject": scope.subject, "checks": shares_record(scope), "relations": scope.relations} for scope in scopes
    ]
    write_json("coverage", {"subjects": shares}, json_to)
    return AGREES
