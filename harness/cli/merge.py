"""``rnn-harness merge``: it says of all shards together what one run would have said."""

from pathlib import Path

import click

from harness.cli.check import exit_code
from harness.cli.check_documents import Outputs, output_options
from harness.cli.codes import EXIT_CODES
from harness.cli.console import complain, print_summary
from harness.cli.options import findings_option
from harness.space.errors import UsageError


@click.command(epilog=EXIT_CODES)
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@findings_option
@click.option("-v", "--verbose", is_flag=True, help="Print everything about every finding, and what the shards met.")
@click.option("-q", "--quiet", is_flag=True, help="Print a line for each subject and for each finding.")
@output_options("observations")
def merge(reports: tuple[Path, ...], folder: str, outputs: Outputs, *, verbose: bool, quiet: bool) -> int:
    """Report what all shards of a search found, as one run would.

    `rnn-harness check --shard K/N --json FILE` writes a FILE. Nothing is run, and the subjects are not needed. A shard
    that is missing is named, and then no subject is said to agree. Findings whose folder lies beside FILE are kept.
    """
    from dataclasses import replace

    from harness.store.reports import add_up, read_shards

    if quiet and verbose:
        raise UsageError("--quiet with --verbose: expected one of them")
    console = outputs.required()
    shards = read_shards(reports)
    every = []
    for summary in add_up(shards, folder, lambda text: complain(f"Warning: {text}")):
        every.append(summary)
        print_summary(console, summary, quiet=quiet, verbose=verbose, first=len(every) == 1)
    outputs.write(every, replace(shards[0].run, shard=None))
    return exit_code([result.examination for result in every])
