"""Scripts of findings: each is written and run in a fresh process, and handed over if it was seen to fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from harness.checks.result import ComparisonMethod
from harness.diagnosis.script.script_text import ARRAYS_FILE, NAME, Script, script, script_with_harness
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.search.case_replay import ReplayOutcome
from harness.search.search_record import Finding
from harness.space.atomic import atomic_write, write_text
from harness.space.case_json import to_json
from harness.space.outcome import Outcome
from harness.store.finding_folders import CASE
from harness.subjects.protocol import Subject

SCRIPT_SECONDS: Final = 120.0  # The seconds that a script may take: it imports torch, and runs one case


class ScriptRun(NamedTuple):
    """A script that was run: what its last word and its exit code say, and all that it printed."""

    fate: ReplayOutcome
    output: str


@dataclass(frozen=True)
class FindingScript:
    """A script that was seen to fail, where it lies; or the reason why there is none."""

    path: Path | None = None
    script: Script = field(default_factory=Script)
    reason: str = ""


def offer(
    finding: Finding,
    subject: Subject,
    folder: Path,
    *,
    accepted: AcceptedErrors = STRICT,
    tolerance: str = "derived",
    outcome: Outcome | None = None,
    timeout: float = SCRIPT_SECONDS,
) -> FindingScript:
    """Write the script of a finding into ``folder``, run it, and keep it if it says FAILED.

    Where no script can show the finding alone, one that asks this package is tried. The subject is asked for the case
    once more only if its ``outcome`` is not known. Raises ``OSError`` where the folder cannot be written.
    """
    alone = script(finding, subject, accepted=accepted, outcome=outcome)
    reason = _objection(alone, folder, timeout)
    if not reason:
        return FindingScript(folder / NAME, alone)
    if finding.case.is_large or finding.result.failure is not None or finding.result.method is ComparisonMethod.DROPOUT:
        return FindingScript(script=alone, reason=reason)
    (folder / CASE).write_text(to_json(finding.case))
    with_harness = script_with_harness(finding, reason, tolerance, CASE)
    if _objection(with_harness, folder, timeout):
        (folder / CASE).unlink()
        return FindingScript(script=alone, reason=reason)
    return FindingScript(folder / NAME, with_harness)


def _objection(made: Script, folder: Path, timeout: float) -> str:
    """Write and run a script. If it does not say FAILED, remove it, and return the reason why it is not offered."""
    if made.text is None:
        return made.reason
    run = ScriptRun(ReplayOutcome.ERROR, "")
    path = write(made, folder)
    try:
        run = run_alone(path, timeout)
    finally:
        if run.fate is not ReplayOutcome.FAILED:
            path.unlink(missing_ok=True)
            (folder / ARRAYS_FILE).unlink(missing_ok=True)
    if run.fate is ReplayOutcome.FAILED:
        return ""
    if run.fate is ReplayOutcome.FIXED:
        return "a script that makes the same call does not fail"
    last = (run.output.strip().splitlines() or ["it said nothing"])[-1]
    return f"a script that makes the same call ends in another way: {last}"


def write(made: Script, folder: Path) -> Path:
    """Write a script, and the arrays that it reads, into a folder, and return its path. Raise ``OSError`` as needed."""
    assert made.text is not None
    if made.arrays:
        with atomic_write(folder / ARRAYS_FILE) as file:
            np.savez(file, **made.arrays)  # type: ignore[arg-type]
    write_text(folder / NAME, made.text)
    return folder / NAME


def run_alone(path: Path, timeout: float = SCRIPT_SECONDS, cwd: Path | None = None) -> ScriptRun:
    """Run a script in a fresh process, as a user would, on one thread."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    with TemporaryDirectory(prefix="rnn-reproduce-") as own, (Path(own) / "output").open("w+b") as output:
        code = _ended([sys.executable, str(path.resolve())], environ, output, timeout, cwd)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code is None:
        return ScriptRun(ReplayOutcome.ERROR, f"{text}\nno end within {timeout:g} s")
    last = (text.strip().splitlines() or [""])[-1]
    ends = {(1, "FAILED"): ReplayOutcome.FAILED, (0, "FIXED"): ReplayOutcome.FIXED}
    return ScriptRun(ends.get((code, last), ReplayOutcome.ERROR), text)


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
