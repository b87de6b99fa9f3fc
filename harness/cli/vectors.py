"""``rnn-harness vectors`` and ``rnn-harness judge``: cases as files, and a verdict on what came back of them."""

from pathlib import Path

import click

from harness.cli.check import pinned_by
from harness.cli.codes import AGREES, EXIT_CODES_OF_JUDGE, FINDING, MISUSE
from harness.cli.console import console_for, write_json
from harness.cli.options import (
    PATH_TYPE,
    WholeNumber,
    dtypes_option,
    json_option,
    only_option,
    output_size_option,
    seed_option,
)
from harness.space.errors import UsageError


@click.command(short_help="Write cases with their expected values as files.")
@click.argument("folder", type=PATH_TYPE, metavar="DIR")
@dtypes_option
@only_option
@output_size_option
@seed_option
@click.option("--layer", type=click.Choice(["rnn", "gru", "lstm"]), default="rnn", help="The layer.  [default: rnn]")
@click.option("--examples", type=WholeNumber(min=1), help="Write the smallest cases only.  [default: all]")
@json_option
def vectors(
    folder: str,
    dtypes: tuple[str, ...],
    pins: tuple[str, ...],
    output_size: int | None,
    seed: int,
    layer: str,
    examples: int | None,
    json_to: str | None,
) -> int:
    """Write cases as files into DIR, for where nothing can be called, such as firmware or a phone.

    They are a covering array of all pairs of factors, smallest first, each with its inputs, weights, expected values,
    and the tolerance of every element. docs/other-languages.md explains the files.
    """
    from harness.search.vector_cases import cases_of
    from harness.store import vector_files as store

    console = console_for(json_to)
    cases = cases_of(pinned_by(pins, dtypes, output_size), seed, layer)[:examples]
    try:
        listed = store.write(Path(folder), cases)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from None
    text = f"{len(listed)} cases in {folder}; rnn-harness judge {folder} RESULTS judges what comes back"
    console.print(text, markup=False, soft_wrap=True)
    write_json("vectors", {"folder": folder, "cases": listed}, json_to)
    return AGREES


@click.command(epilog=EXIT_CODES_OF_JUDGE, short_help="Judge and explain what came back of such files.")
@click.argument("folder", type=PATH_TYPE, metavar="DIR")
@click.argument("results", type=PATH_TYPE, metavar="RESULTS")
@click.option(
    "--tolerance",
    default="derived",
    show_default=True,
    metavar="NAME|rtol=R,atol=A|tanh=Nulp",
    help="Accept more, as in `rnn-harness check`.",
)
@json_option
def judge(folder: str, results: str, tolerance: str, json_to: str | None) -> int:
    """Judge RESULTS, a folder with what a layer computed of the cases that `rnn-harness vectors` wrote into DIR.

    A result has the name of its case, 001.safetensors or 001.npz, and holds output, h_n, and c_n of an LSTM, by name.
    """
    from harness.diagnosis.vector_comparison import judged
    from harness.oracle.arithmetic_assumptions import accepted
    from harness.report.vector_report import judged_lines, judged_record
    from harness.store import vector_files as store

    within, console = accepted(tolerance), console_for(json_to)
    every = store.read(Path(folder))
    came = store.results(Path(results), every)
    outcome = judged(((vector.name, vector.case, arrays) for vector, arrays in came), within)
    console.print("\n".join(judged_lines(outcome)), markup=False)
    write_json("judge", judged_record(outcome, [vector.name for vector in every]), json_to)
    if outcome.found is None and not outcome.unfit:
        return MISUSE
    return AGREES if outcome.agrees else FINDING
