"""``rnn-harness adapt``: it writes the file by which a class in another form is checked."""

from __future__ import annotations

import click

from harness.cli.codes import AGREES


@click.command(short_help="Print an adapter for a class that check cannot call by itself.")
@click.argument("spec", metavar="FILE.py:CLASS")
def adapt(spec: str) -> int:
    """Print a Python file with an adapter for a class of modules: how it is built, its weights, and its call.

    What could not be found out is marked with "fill in". Complete it, and check the adapter in place of the class:

    rnn-harness adapt my_rnn.py:MyRNN > adapter.py && rnn-harness check adapter.py:layer
    """
    from harness.subjects.adapter_file import adapter_of
    from harness.subjects.registry import given_by

    click.echo(adapter_of(given_by(spec), spec), nl=False)
    return AGREES
