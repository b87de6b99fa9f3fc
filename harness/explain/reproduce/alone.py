"""alone: the run of a script in a fresh process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, NamedTuple

from harness.search.findings import Fate

PATIENCE: Final = 120.0
"""The seconds that a script may take: it imports torch, and runs one case."""


class Ended(NamedTuple):
    """A script that was run: what its last word and its exit code say, and all that it printed."""

    fate: Fate
    output: str


def run_alone(path: Path, timeout: float = PATIENCE, cwd: Path | None = None) -> Ended:
    """Run a script in a fresh process, as a user would, on one thread."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    with TemporaryDirectory(prefix="rnn-reproduce-") as own, (Path(own) / "output").open("w+b") as output:
        code = _ended([sys.executable, str(path.resolve())], environ, output, timeout, cwd)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code is None:
        return Ended(Fate.ERROR, f"{text}\nno end within {timeout:g} s")
    last = (text.strip().splitlines() or [""])[-1]
    ends = {(1, "FAILED"): Fate.FAILED, (0, "FIXED"): Fate.FIXED}
    return Ended(ends.get((code, last), Fate.ERROR), text)


def _ended(
    command: Sequence[str],
    environ: Mapping[str, str],
    output: BinaryIO,
    timeout: float,
    cwd: Path | None,
    *,
    merged: bool = True,
) -> int | None:
    """Return the exit code of a process of one thread, without input; ``None`` where it had to be ended."""
    errors = subprocess.STDOUT if merged else subprocess.DEVNULL
    environ = {**environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}  # the last line must not wait in a buffer
    process = _process(command, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    with suppress(subprocess.TimeoutExpired), process as started:
        return started.wait(timeout)
    return None


@contextmanager
def _process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process; it, and what it started, does not outlive the block, unless it ended by itself."""
    process = subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603 - this interpreter
    try:
        yield process
    finally:
        if process.poll() is None:
            if hasattr(os, "killpg"):
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
