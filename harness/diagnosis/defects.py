"""defects: what a mistake of this package in looking for a cause does: it ends tests and benchmarks, and no command."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RAISED = [False]


def raise_defects() -> None:
    """Let each mistake of this package be raised from now on, as the tests and benchmarks of this package want it."""
    _RAISED[0] = True


@contextmanager
def noted_defects(lines: list[str], *own: type[Exception]) -> Iterator[None]:
    """Note a mistake of this package as a line for the report, whose finding it must not lose; ``own`` is none."""
    try:
        yield
    except own:
        raise
    except Exception as error:
        if _RAISED[0]:
            raise
        *_, at = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}"
        lines.append(f"identification failed: {place} (a defect of rnn-harness)")
