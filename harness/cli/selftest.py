"""``rnn-harness selftest``: it measures the harness on itself."""

from __future__ import annotations

import click

from harness.cli.codes import AGREES, EXIT_CODES_OF_SELFTEST, FINDING, INTERRUPTED
from harness.cli.options import Whole, json_option, seed_option
from harness.cli.output import console_for, write_json


@click.command(epilog=EXIT_CODES_OF_SELFTEST, short_help="Measure the harness on faults that it must find and name.")
@click.argument("names", nargs=-1, metavar="[FAULT|FAMILY]...")
@click.option("--family", "families", multiple=True, metavar="NAME", help="A family of faults; repeatable.")
@seed_option
@click.option("--examples", type=Whole(min=1), help="Cases for each subject.  [default: 1650]")
@click.option("--workers", type=Whole(min=1), default=1, show_default=True, help="Processes that share the work.")
@json_option
def selftest(
    names: tuple[str, ...],
    families: tuple[str, ...],
    seed: int,
    examples: int | None,
    workers: int,
    json_to: str | None,
) -> int:
    """Measure the harness on itself: faults that it must find and name, and correct subjects that it must not accuse.

    Every fault of the catalogue is planted in a layer, which is then searched and explained like any subject. A FAULT
    is a fault's name, such as IgnoresBiasHH. With names or families, only these are measured. Correct subjects are
    named one by one, or all together as `correct`.
    """
    from rich.console import Console

    from harness.diagnosis.selftest import chosen
    from harness.diagnosis.selftest import selftest as measure
    from harness.report import selftest as report

    faults, correct = chosen(names, families)
    console = console_for(json_to)
    with Console(stderr=True).status("selftest: starting") as status:

        def told(done: int, of: int, name: str) -> None:
            status.update(f"selftest: {done:,} of {of:,} subjects, {name} was the last")

        measured = measure(faults, correct, seed=seed, cases=examples, workers=workers, told=told)
    console.print(report.selftest_report(measured))
    write_json("selftest", report.selftest_record(measured), json_to)
    if measured.interrupted:
        return INTERRUPTED
    return AGREES if measured.passed else FINDING
