"""``rnn-harness shapes``: it shows the shape of every array of a config."""

from typing import Any

import click

from harness.cli.codes import AGREES
from harness.cli.console import console_for, write_json
from harness.cli.options import WholeNumber, json_option, output_size_option
from harness.space.cells import CELLS
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.factor_table import NONLINEARITIES


@click.command(short_help="Show the shape of every array of a config.")
@click.option("--layer", "cell", type=click.Choice([*CELLS], case_sensitive=False), default="RNN", show_default=True)
@click.option("--input-size", type=WholeNumber(), required=True, metavar="I")
@click.option("--hidden-size", type=WholeNumber(), required=True, metavar="H")
@click.option("--num-layers", type=WholeNumber(), default=1, show_default=True, metavar="L")
@click.option("--proj-size", type=WholeNumber(), default=0, show_default=True, metavar="P", help="Of an LSTM.")
@click.option("--nonlinearity", default="tanh", show_default=True, metavar="|".join(NONLINEARITIES))
@click.option("--bias/--no-bias", default=True, show_default=True)
@click.option("--batch-first", is_flag=True)
@click.option("--bidirectional", is_flag=True)
@click.option("--hx", is_flag=True, help="Pass an initial hidden state.")
@output_size_option
@click.option("-N", "N", type=WholeNumber(), default=1, show_default=True, help="Sequences in the batch.")
@click.option("-T", "T", type=WholeNumber(), default=1, show_default=True, help="Time steps.")
@json_option
def shapes(json_to: str | None, **fields: Any) -> int:
    """Show the shape of x, hx, every weight, output, h_n and readout, layer by layer, without running anything."""
    from harness.report import terminal
    from harness.space.scope import MOST_LAYERS

    config = RNNConfig(**fields)
    if config.num_layers > MOST_LAYERS:
        raise UsageError(
            f"--num-layers {config.num_layers}: expected at most {MOST_LAYERS}, because every layer has rows"
        )
    console_for(json_to).print(terminal.shapes_table(config))
    write_json("shapes", {"config": config.to_dict(), "arrays": terminal.shapes_rows(config)}, json_to)
    return AGREES
