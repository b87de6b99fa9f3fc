"""Measure calls a second of a program through the protocol, beside a function in the same process.

    python benchmarks/programs.py

The program is examples/languages/rnn.js on node, and rnn.cpp where there is a C++ compiler. The function is the NumPy
port of the README. Each is given the same small case in the process of this script, and then as the command gives it,
in a process of its own.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from harness import RNNConfig, draw
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject
from harness.subjects.registry import find_subject

LANGUAGES = Path(__file__).parents[1] / "examples" / "languages"
NOTEBOOK = LANGUAGES.parent / "notebook.py"
CASE = draw(RNNConfig(3, 5, T=4, N=2, dtype="float64"))
SECONDS = 2.0


def specs(folder: Path) -> Iterator[str]:
    """Yield the subjects that can run here."""
    yield f"{NOTEBOOK}:rnn_with_b_hh"
    if compiler := shutil.which("c++"):
        subprocess.run([compiler, "-O2", str(LANGUAGES / "rnn.cpp"), "-o", str(folder / "rnn")], check=True)
        yield f"exec:{folder / 'rnn'}"
    if node := shutil.which("node"):
        yield f"exec:{node} {LANGUAGES / 'rnn.js'}"


def rate(subject: Subject) -> float:
    """Return how many times a second a subject runs the case."""
    assert subject.run(CASE).failure is None
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for _ in range(100):
            subject.run(CASE)
        calls += 100
    return calls / (time.perf_counter() - start)


def main() -> None:
    """Print a line for each subject."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'calls a second':40}{'here':>10}{'apart':>10}")
        for spec in specs(Path(folder)):
            here = rate(find_subject(spec))
            with closing(IsolatedSubject(spec)) as subject:
                print(f"{spec.replace(folder + '/', '').rpartition('/')[2]:40}{here:10,.0f}{rate(subject):10,.0f}")


if __name__ == "__main__":
    main()
