"""The HTML report: a page, or the pieces of one for a notebook, from data and templates."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Final

from harness.report.picture import as_numbers
from harness.report.wording import number
from harness.space.errors import UsageError

NEEDS: Final = ("jinja2", "vl_convert")
"""The modules that draw the page."""

LABEL: Final = 50
"""The characters of a line of a chart's label."""


def require(option: str) -> None:
    """Raise ``UsageError`` if what draws the page is not installed."""
    if not available():
        raise UsageError(f"{option} needs two more packages: pip install jinja2 vl-convert-python")


def available() -> bool:
    """Tell whether the page can be drawn."""
    return all(find_spec(name) is not None for name in NEEDS)


def page(data: Mapping[str, Any]) -> str:
    """Return the whole page of a report."""
    made: str = _template("page.html.j2").render(data)
    return made


def piece(data: Mapping[str, Any]) -> str:
    """Return what a notebook shows of a result: verdict, cause, shapes, and the picture of the error."""
    made: str = _template("piece.html.j2").render(as_numbers(data))
    return made


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from harness.report.page import charts

    environment = Environment(
        loader=PackageLoader("harness.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["charts"] = charts
    environment.filters["number"] = _number
    environment.filters["wrapped"] = partial(textwrap.wrap, width=LABEL)
    return environment.get_template(name)


def _number(value: Any, dtype: str | None = None) -> str:
    """Return a number, with all the digits that the ``dtype`` tells apart if one is given."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if dtype is None else number(value, dtype)
