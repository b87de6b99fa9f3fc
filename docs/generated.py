"""The parts of the manual that are made from the code when it is built: API, known mistakes, and the order of pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import harness
from harness.diagnosis.faults import FAMILIES
from harness.diagnosis.faults.base import Fault

PARTS: Final = {
    "Start": ("../README", "tutorial"),
    "How-tos": ("how-to", "pytest", "parallel-jobs", "other-languages"),
    "Reference": ("reference", "findings", "formats", "faults", "api", "glossary"),
    "Explanation": ("explanation", "measurements", "limits"),
    "Development": ("architecture", "../CONTRIBUTING", "../CHANGELOG"),
}
"""The pages of the manual, in the order in which they stand beside every page."""

SHOWN: Final = 2
"""The number of smallest configs that a row shows; some faults have one for every size."""


def contents() -> str:
    """Return the tables of contents."""
    return "\n".join(
        ":::{toctree}\n:hidden:\n:caption: " + part + "\n\n" + "\n".join(pages) + "\n:::\n"
        for part, pages in PARTS.items()
    )


def api() -> str:
    """Return what the docstrings say of every public name."""
    return "\n".join(f"## `{name}`\n\n```{{eval-rst}}\n{_documented(name)}\n```\n" for name in harness.__all__)


def _documented(name: str) -> str:
    kind = "class" if isinstance(getattr(harness, name), type) else "function"
    return f".. auto{kind}:: harness.{name}"


def faults() -> str:
    """Return a table of the known mistakes for each family."""
    tables = "\n".join(line for family, some in FAMILIES.items() for line in _family(family, some))
    return f"<style>td code {{ white-space: nowrap; }}</style>\n\n{tables}"  # lines of code stay lines; a table scrolls


def _family(family: str, some: tuple[Fault, ...]) -> Iterator[str]:
    yield f"## {family}\n"
    yield "| mistake | its line of NumPy, and nn.RNN's | smallest |"
    yield "|---|---|---|"
    for fault in some:
        config = fault.smallest[0]
        lines = [_code(line) for line in fault.lines(config) or ()]
        smallest = [_code(repr(one)) for one in fault.smallest[:SHOWN]]
        more = len(fault.smallest) - SHOWN
        smallest += [f"and {more} more"] if more > 0 else []
        cells = (f"**{fault.name}** {_text(fault.sentence)}", "<br>".join(lines), "<br>".join(smallest))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _text(text: str) -> str:
    """Return a sentence in which no character marks anything up."""
    return _cell("".join(f"\\{char}" if char in "\\`*_[]<>$" else char for char in text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
