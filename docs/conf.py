"""The manual: its pages are the Markdown files that a code host shows; three of them go on with what is generated."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import generated  # noqa: E402 - it is found by the line above

project = "rnn-harness"
author = copyright = "the rnn-harness authors"  # noqa: A001 - Sphinx reads it by this name
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md"]
exclude_patterns = [".*", "build", "dist", "docs/_build"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "rnn-harness"
html_copy_source = False
html_static_path = html_css_files = ["narrow.css"]

GENERATED = {"docs/index": generated.contents, "docs/api": generated.api}


def setup(app: Sphinx) -> None:
    """Let the pages go on with what is generated."""
    app.connect("source-read", _go_on)


def _go_on(_app: Sphinx, page: str, source: list[str]) -> None:
    if page in GENERATED:
        source[0] += f"\n{GENERATED[page]()}"
