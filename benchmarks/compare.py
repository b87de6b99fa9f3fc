"""The cost of usual commands beside that of another commit: CPU seconds in pairs, and the median of the ratios.

Each command runs on both trees by turns, so that a machine that slows down slows both. The seconds are those of the
command's processes and of all that they started, so other busy processes matter little. The order changes from pair to
pair. A ratio below 1 means that this tree is cheaper.

Both trees run with this interpreter and its packages. The other tree is checked out into a temporary folder.

Run: ``python benchmarks/compare.py [COMMIT] [--pairs N] [--json FILE]``; the commit before is compared by default.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
CHECK: Final = ("-m", "harness", "check", "-n", "0", "-q")
COMMANDS: Final = {
    "the help": ("-m", "harness", "--help"),
    "the notebook's mistake, found and explained": (*CHECK, "examples/notebook.py:rnn_without_b_hh"),
    "the notebook mended, 400 cases": (*CHECK, "examples/notebook.py:rnn_with_b_hh", "--examples", "400"),
    "torch, 400 cases": (*CHECK, "torch", "--examples", "400"),
}
# The number of Linux's PR_SET_CHILD_SUBREAPER: what a command leaves behind becomes a child of this process.
SUBREAPER: Final = 36


class Pair(NamedTuple):
    """The CPU seconds of one command on the other tree and on this one."""

    other: float
    this: float

    @property
    def ratio(self) -> float:
        return self.this / self.other


def cpu_seconds(tree: Path, command: tuple[str, ...]) -> float:
    """Return the CPU seconds of a command and of all processes it started. Raise ``SystemExit`` if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(tree / "examples")
        done = subprocess.run([sys.executable, *command], cwd=folder, env=variables, capture_output=True, check=False)
    if done.returncode not in {0, 1}:  # 1 is a finding
        sys.exit(f"{tree}: {' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
    while True:
        try:
            os.wait()  # for the fork server, for example, which ends a moment later
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compared(other: Path, pairs: int) -> dict[str, list[Pair]]:
    """Return the pairs of every command."""
    found: dict[str, list[Pair]] = {}
    for name, command in COMMANDS.items():
        for tree in (other, ROOT):  # what is compiled or cached on the way is paid before
            cpu_seconds(tree, command)
        for number in range(pairs):
            trees = (other, ROOT) if number % 2 else (ROOT, other)
            seconds = {tree: cpu_seconds(tree, command) for tree in trees}
            found.setdefault(name, []).append(Pair(seconds[other], seconds[ROOT]))
        print(line(name, found[name]), flush=True)
    return found


def line(name: str, pairs: list[Pair]) -> str:
    """Return the medians of a command's pairs, and the range of their ratios."""
    ratios = [pair.ratio for pair in pairs]
    other, this = (statistics.median(times) for times in zip(*pairs, strict=True))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"{name:45}{other:9.2f}{this:9.2f}{statistics.median(ratios):9.2f}   {spread}"


def main() -> None:
    """Compare the trees, print a line for each command, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="HEAD~1")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, dest="file")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    git = ("git", "-C", str(ROOT))
    commit = subprocess.run(
        [*git, "rev-parse", "--short", asked.commit], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(other), commit], check=True)
        try:
            print(f"{'CPU seconds, medians':45}{commit:>9}{'this':>9}{'ratio':>9}   in {asked.pairs} pairs")
            found = compared(other, asked.pairs)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(other)], check=True)
    if asked.file is not None:
        ratios = {name: statistics.median(pair.ratio for pair in pairs) for name, pairs in found.items()}
        document = {
            "commit": commit,
            "ratios": ratios,
            "pairs": {name: [*map(list, pairs)] for name, pairs in found.items()},
        }
        asked.file.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
