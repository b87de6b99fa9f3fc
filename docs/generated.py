"""The parts of the manual that are made from the code when it is built: the API, and the order of pages."""

from typing import Final

import harness

PARTS: Final = {
    "Start": ("../README", "tutorial"),
    "How-tos": (
        *("how-to-functions", "how-to-classes", "how-to-devices", "how-to-teams"),
        *("pytest", "parallel-jobs", "other-languages"),
    ),
    "Reference": ("reference-commands", "reference-space", "findings", "formats", "api", "glossary", "security"),
    "Explanation": ("explanation", "found-in-the-wild", "measurements", "limits"),
    "Development": ("architecture", "../CONTRIBUTING", "../CHANGELOG"),
}
"""The pages of the manual, in the order in which they stand beside every page."""


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
