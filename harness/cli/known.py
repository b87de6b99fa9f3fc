"""``rnn-harness known``: it lists the known issues of torch, its libraries and other makers' layers."""

import click

from harness.cli.codes import AGREES
from harness.cli.console import console_for, write_json
from harness.cli.options import json_option
from harness.space.errors import UsageError


@click.command(short_help="List the known issues of torch, or print one's report.")
@click.argument("name", required=False)
@json_option
def known(name: str | None, json_to: str | None) -> int:
    """List the known issues of torch and of other libraries; with a NAME, print the report to send upstream."""
    from harness.checks.known_issues import KNOWN_ISSUES
    from harness.report import terminal

    reports = {issue.name: issue.report() for issue in KNOWN_ISSUES if issue.report()}
    if name is not None:
        if name not in reports:
            raise UsageError(f"{name}: no known issue with a report; expected {' or '.join(map(repr, reports))}")
        click.echo(reports[name], nl=False)
        return AGREES
    rows = [
        (
            issue.name,
            issue.whose,
            f"{issue.reason} {issue.link}".rstrip() if issue.name not in reports else issue.reason,
        )
        for issue in KNOWN_ISSUES
    ]
    console = console_for(json_to)
    console.print(terminal.known_table(rows))
    for title in reports:
        console.print(f'The report to send upstream: rnn-harness known "{title}"', highlight=False, markup=False)
    columns = ("name", "whose", "reason")
    write_json("known", {"known": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES
