"""``rnn-harness known``: it lists the known deviations of torch and its libraries."""

from __future__ import annotations

import click

from harness.cli.codes import AGREES
from harness.cli.options import json_option
from harness.cli.output import console_for, write_json
from harness.space.errors import UsageError


@click.command(short_help="List the known deviations of torch, or print one's issue.")
@click.argument("name", required=False)
@json_option
def known(name: str | None, json_to: str | None) -> int:
    """List the known deviations of torch and its libraries; with a NAME, print the issue that reports it."""
    from harness.checks.known import KNOWN, OF_NUMPY, Whose
    from harness.checks.malformed import RULES
    from harness.report import text

    issues = {one.name: one.report() for one in KNOWN if one.issue}
    if name is not None:
        if name not in issues:
            raise UsageError(f"{name}: no known deviation with an issue; expected {' or '.join(map(repr, issues))}")
        click.echo(issues[name], nl=False)
        return AGREES
    rows = [(one.name, one.whose.value, one.reason) for one in (*KNOWN, *OF_NUMPY)]
    rows += [(rule.name, Whose.TORCH.value, rule.known) for rule in RULES if rule.known]
    console = console_for(json_to)
    console.print(text.known_table(rows))
    for one in issues:
        console.print(f'The issue to send upstream: rnn-harness known "{one}"', highlight=False, markup=False)
    columns = ("name", "whose", "reason")
    write_json("known", {"known": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES
