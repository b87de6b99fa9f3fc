"""``rnn-harness subjects``: it lists the subjects that have a name."""

from collections.abc import Mapping

import click

from harness.cli.codes import AGREES
from harness.cli.console import console_for, write_json
from harness.cli.options import json_option
from harness.space.errors import UsageError


@click.command(short_help="List the subjects that have a name, and what they run on.")
@json_option
def subjects(json_to: str | None) -> int:
    """List the subjects that have a name, the devices they run on here, and why they do not run on others."""
    from harness.report import terminal
    from harness.space.cells import CELLS
    from harness.subjects.registry import find_subject, registered
    from harness.subjects.subject_names import cell_of, of_cell

    offered, rows = registered(), list[tuple[str, ...]]()
    for name, entry in offered.items():
        if cell_of(name) != "RNN":
            continue
        absent: Mapping[str, str] = {}
        try:
            subject = find_subject(name)
            devices, absent = ", ".join(subject.devices()), subject.capabilities.absent
        except UsageError as error:
            devices = f"not here: {str(error).removeprefix(f'{name}: ')}"
        not_on = "; ".join(f"{device}: {why}" for device, why in absent.items())
        others = (of_cell(name, cell) for cell in CELLS)  # which run where nn.RNN's does
        package = entry.dist.name if entry.dist else "rnn-harness"
        rows += [(variant, devices, not_on, package) for variant in others if variant in offered]
    console = console_for(json_to)
    console.print(terminal.subjects_list([row for row in rows if cell_of(row[0]) == "RNN"]))
    console.print(
        "For nn.GRU and nn.LSTM, too: torch:gru, torch:lstm:compile, onnx:gru:runtime, … (all but the cells).\n",
        highlight=False,
    )
    console.print(
        "Your own: path/to/file.py:name, module:name or exec:program; see `rnn-harness check --help`.", highlight=False
    )
    columns = ("subject", "devices", "absent", "offered_by")
    write_json("subjects", {"subjects": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES
