"""``rnn-harness explain``: it says which mistakes compute some arrays."""

import click

from harness.cli.codes import AGREES, EXIT_CODES_OF_EXPLAIN, FINDING
from harness.cli.console import WHOLE_WORDS, console_for, write_json
from harness.cli.options import PATH_TYPE, Distance, json_option
from harness.space.factor_table import NONLINEARITIES


@click.command(epilog=EXIT_CODES_OF_EXPLAIN, short_help="Say whether arrays are what nn.RNN computes, or why not.")
@click.argument("model", type=PATH_TYPE)
@click.argument("x", type=PATH_TYPE)
@click.argument("actual", type=PATH_TYPE)
@click.option(
    "--hx",
    type=PATH_TYPE,
    metavar="FILE",
    help="The initial hidden state, or hx and cx by name.  [default: the one in the file of X, or zeros]",
)
@click.option("--nonlinearity", type=click.Choice(NONLINEARITIES), help="[default: both are tried]")
@click.option(
    "--batch-first/--no-batch-first", default=None, help="Which axis of X is time.  [default: both are tried]"
)
@click.option(
    "--atol",
    type=Distance(),
    default=0.0,
    help="How far each number of ACTUAL may be off by itself, as if rounded in print.",
)
@json_option
def explain(
    model: str,
    x: str,
    actual: str,
    hx: str | None,
    nonlinearity: str | None,
    atol: float,
    json_to: str | None,
    *,
    batch_first: bool | None,
) -> int:
    """Say whether ACTUAL is what nn.RNN, nn.GRU or nn.LSTM computes from X, and if not, which mistakes compute it.

    MODEL holds the weights: a state_dict that torch.save wrote, or an .npz, .safetensors or .json file, under torch's
    names or those of Keras, Flax, ONNX or plain NumPy code. X and ACTUAL may have any of these formats, and .npy.
    ACTUAL is the output, the readout, h_n or c_n, or several of these by name, and gradients,
    if the file of X holds those of the loss by outputs, as output.grad. In Python: harness.explain(module, x,
    actual).
    """
    from dataclasses import asdict
    from textwrap import fill

    from harness.report import given_arrays_report
    from harness.subjects.array_files import load_array, load_cotangents, load_model, load_returned, load_start

    console = console_for(json_to)
    start = load_start(x if hx is None else hx)
    answer = given_arrays_report.explain(
        load_model(model),
        load_array(x, "x"),
        load_returned(actual),
        cotangents=load_cotangents(x),
        hx=load_array(hx, "hx", "h0") if start is None and hx is not None else start,
        nonlinearity=nonlinearity,
        batch_first=batch_first,
        atol=atol,
    )
    for line in answer.lines:
        console.print(
            fill(line, console.width, subsequent_indent=" " * given_arrays_report.WORD_COLUMNS, **WHOLE_WORDS),
            markup=False,
        )
    write_json("explain", asdict(answer), json_to)
    return AGREES if answer.agrees else FINDING
