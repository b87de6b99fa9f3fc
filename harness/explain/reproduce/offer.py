"""offer: the script of a finding, handed over if it was seen to fail, and else the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.explain.reproduce.alone import PATIENCE, Ended, run_alone
from harness.explain.reproduce.literals import FILE
from harness.explain.reproduce.script import Script, script
from harness.oracle.arithmetic import STRICT, Accepted
from harness.search.findings import Fate
from harness.search.hunt import Finding
from harness.subjects.protocol import Subject


@dataclass(frozen=True)
class Offer:
    """A script that was seen to fail, where it lies; or the reason why there is none."""

    path: Path | None = None
    script: Script = field(default_factory=Script)
    reason: str = ""


def offer(
    finding: Finding, subject: Subject, folder: Path, *, accepted: Accepted = STRICT, timeout: float = PATIENCE
) -> Offer:
    """Write the script of a finding into ``folder``, run it, and keep it if it says FAILED.

    Raises ``OSError`` where the folder cannot be written.
    """
    made = script(finding, subject, accepted=accepted)
    if made.text is None:
        return Offer(script=made, reason=made.reason)
    run = Ended(Fate.ERROR, "")
    path = made.write(folder)
    try:
        run = run_alone(path, timeout)
    finally:
        if run.fate is not Fate.FAILED:
            path.unlink(missing_ok=True)
            if made.arrays:
                (folder / FILE).unlink(missing_ok=True)
    if run.fate is Fate.FAILED:
        return Offer(path, made)
    if run.fate is Fate.FIXED:
        return Offer(script=made, reason="a script that makes the same call does not fail")
    last = (run.output.strip().splitlines() or ["it said nothing"])[-1]
    return Offer(script=made, reason=f"a script that makes the same call ends in another way: {last}")
