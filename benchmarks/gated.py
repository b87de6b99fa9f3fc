"""Each planted mistake of a GRU or LSTM, checked as a user checks it: what is said, on which smallest case, how long.

They are those of ``benchmarks/layers/gated_ports.py``, forward and back, with the part of a sentence that names each.
For every layer it prints the words that were said, the sizes and factors of each smallest case that are not the
plainest, and seconds of one processor. Run: ``python benchmarks/gated.py [NAME ...]``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

import harness  # noqa: E402
from benchmarks.layers.gated_ports import MISTAKES, WAYS_BACK  # noqa: E402
from harness.diagnosis.defects import raise_defects  # noqa: E402
from harness.space.config import RNNConfig  # noqa: E402

raise_defects()

PORTS = {**MISTAKES, **WAYS_BACK}


class PortReport(NamedTuple):
    """The report on a port."""

    name: str
    sentences: Sequence[str]
    certain: bool  # all of them
    mistakes: int
    cases: Sequence[str]
    seconds: float

    @property
    def right(self) -> bool:
        """True if each mistake has a certain sentence, and there is no other."""
        words = PORTS[self.name].words
        named = all(any(part in one for one in self.sentences) for part in words)
        return named and self.certain and self.mistakes == len(words)


def smallest(config: RNNConfig) -> str:
    """Return what a config has that the plainest one of its cell has not."""
    plain = RNNConfig(1, 1, T=1, N=1, cell=config.cell).to_dict()
    return ", ".join(f"{name}={value}" for name, value in config.to_dict().items() if plain[name] != value)


def checked(name: str) -> PortReport:
    """Check a port."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        subject = f"{Path(__file__).parent / 'layers' / 'gated_ports.py'}:{name}"
        done = harness.check(subject, findings=folder, quiet=True)
    cases = [smallest(one.finding.case.config) or "plainest" for one in done.findings]
    certain = all(one.certain for one in done.findings)
    # A mistake that no case shows without another one stands beside that.
    said = [", ".join([one.cause, *(f.text for f in one.all_facts if f.name == "beside")]) for one in done.findings]
    mistakes = sum(one.mistakes for one in done.findings)
    return PortReport(name, said, certain, mistakes, cases, time.process_time() - began)


def main() -> None:
    """Check all ports, or some, and print what was said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    every = []
    with ProcessPoolExecutor(options.workers) as pool:
        for said in pool.map(checked, options.names or PORTS):
            every.append(said)
            print(f"{'right' if said.right else 'OTHER'}  {said.name}, {said.seconds:.1f} s", flush=True)
            for sentence, case in zip(said.sentences, said.cases, strict=True):
                print(f"       {sentence}  [{case}]")
    wrong = [one for one in every if PORTS[one.name].words]
    right = sum(one.right for one in wrong)
    alarms = sum(bool(one.sentences) for one in every if not PORTS[one.name].words)
    print(f"{right} of {len(wrong)} wrong layers told rightly and certainly; {alarms} right ones accused")
    seconds = sorted(one.seconds for one in every)
    print(f"{statistics.median(seconds):.1f} s in the median, {seconds[-1]:.1f} s at most, of one processor")


if __name__ == "__main__":
    main()
