"""``rnn-harness merge``: it says of all shards together what one run would have said."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.check import exit_code
from harness.cli.codes import EXIT_CODES
from harness.cli.options import findings_option
from harness.cli.output import complain, print_examined
from harness.cli.outputs import Outputs, coverage_option, output_options
from harness.space.errors import UsageError


@click.command(epilog=EXIT_CODES)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@coverage_option
@findings_option
@click.option("-v", "--verbose", is_flag=True, help="Print everything about every finding, and what the shards met.")
@click.option("-q", "--quiet", is_flag=True, help="Print a line for each subject and for each finding.")
@output_options("report", "observations")
def merge(folders: tuple[Path, ...], folder: str, outputs: Outputs, *, verbose: bool, quiet: bool) -> int:
    """Report what all shards of a search found, as one run would.

    `rnn-harness check --shard K/N --into DIR` writes a DIR. Nothing is run, and the subjects are not needed. A shard
    that is missing is named, and then no subject is said to agree.
    """
    from harness.pipeline import Examined
    from harness.store import shards
    from harness.subjects.capabilities import Capabilities

    if quiet and verbose:
        raise UsageError("--quiet with --verbose: expected one of them")
    console = outputs.required()
    read = shards.read(folders)
    every = []
    for done, told, place in shards.combine(read, folder, lambda said: complain(f"Warning: {said}")):
        every.append(Examined(done, told, Capabilities(place=place)))
        print_examined(console, every[-1], quiet=quiet, verbose=verbose)
    outputs.write(every)
    return exit_code([one.examination for one in every])
