"""A finding's script, run as its reader would, in this process."""

import contextlib
import io

import pytest


def says_failed(text: str | None) -> bool:
    """Run a script that must not need the harness, and return ``True`` if it ends with FAILED and exit code 1."""
    assert text is not None
    assert "harness" not in text
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        exec(compile(text, "reproduce.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - as its reader would
    return bool(ended.value.code) and said.getvalue().splitlines()[-1] == "FAILED"
