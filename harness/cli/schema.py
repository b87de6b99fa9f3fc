"""``rnn-harness schema``: it prints the JSON Schema of the documents."""

from __future__ import annotations

import click


@click.command(short_help="Print the JSON Schema of all that is written as JSON.")
def schema() -> None:
    """Print the JSON Schema of everything that --json and --coverage write, and of the file finding.json.

    A document says its kind in its field "document", and the schema has a definition of that name.
    """
    from harness.report.schema import text

    click.echo(text(), nl=False)
