"""``rnn-harness subjects``: it lists the subjects that have a name."""

from collections.abc import Mapping

import click

from harness.cli.codes import AGREES
from harness.cli.options import json_option
from harness.cli.output import console_for, write_json
from harness.space.errors import UsageError


@click.command(short_help="List the subjects that have a name, and what they run on.")
@json_option
def subjects(json_to: str | None) -> int:
    """List the subjects that have a name, the devices they run on here, and why they do not run on others."""
    from harness.report import text
    from harness.subjects.registry import find_subject, registered

    rows: list[tuple[str, ...]] = []
    for name, entry in registered().items():
        absent: Mapping[str, str] = {}
        try:
            subject = find_subject(name)
            devices, absent = ", ".join(subject.devices()), subject.capabilities.absent
        except UsageError as error:
            devices = f"not here: {str(error).removeprefix(f'{name}: ')}"
        not_on = "\n".join(f"{device}: {why}" for device, why in absent.items())
        rows.append((name, devices, not_on, entry.dist.name if entry.dist else "rnn-harness"))
    console = console_for(json_to)
    console.print(text.subjects_table(rows))
    console.print(
        "Your own: path/to/file.py:name, module:name or exec:program; see `rnn-harness check --help`.", highlight=False
    )
    columns = ("subject", "devices", "absent", "offered_by")
    write_json("subjects", {"subjects": [dict(zip(columns, row, strict=True)) for row in rows]}, json_to)
    return AGREES
