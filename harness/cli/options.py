"""The options that several commands take, with what becomes of their words."""

import re
from typing import Any, Final

import click

from harness.space.factor_table import DTYPES

PATH_TYPE: Final = click.Path(readable=False)  # a path as it was given; a shell completes it from the files there are


class WholeNumber(click.IntRange):
    """A whole number, of at least ``min`` if that is given."""

    name = "integer"

    def _describe_range(self) -> str:
        return "" if self.min is None else super()._describe_range()  # click says "x<=None"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Anything else is told with what was expected, as click does not."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            least = "" if self.min is None else f" of at least {self.min}"
            option = "" if param is None else f"{param.opts[0]} "
            self.fail(f"{value!r}: expected a whole number{least}, such as {option}{self.min or 1}", param, ctx)


class Distance(click.types.FloatParamType):
    """A distance by which a number may be off."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Anything else is told with what was expected."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r}: expected a number of at least 0, such as 5e-5", param, ctx)


def seconds_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Parse seconds from ``90``, ``60s``, ``2m`` or ``1h``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{text!r}: expected a time above zero, such as 90, 60s, 2m or 1h")
    return seconds


timeout_option = click.option(
    "--timeout",
    callback=seconds_of,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long a subject may take for one case before it counts as hung.",
)


json_option = click.option(
    "--json", "json_to", type=PATH_TYPE, metavar="FILE", help="Also write the report as JSON; - means standard output."
)


report_option = click.option(
    "--report", "report_to", metavar="FILE", help="Also write the report as one HTML file, which needs no network."
)


findings_option = click.option(
    "--findings",
    "folder",
    type=PATH_TYPE,
    default=".rnn-harness",
    show_default=True,
    metavar="DIR",
    help="Where failing cases are kept.",
)


seed_option = click.option(
    "--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Same seed, same search."
)


dtypes_option = click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    help=f"{', '.join(DTYPES)}; repeatable. Autocast is then off, unless --only asks for it.  "
    "[default: what the subject offers]",
)


output_size_option = click.option(
    "--output-size", type=WholeNumber(1), metavar="O", help="Add a linear readout with O outputs to every time step."
)


only_option = click.option(
    "--only",
    "pins",
    multiple=True,
    metavar="FACTOR=VALUE[,VALUE]",
    help="Pin a factor: num_layers=1, T=5,6. Repeatable.",
)
