"""The cost of a comparison beside that of the run itself: milliseconds of one processor per case, nn.RNN in float32.

- reference: the plain reference's forward pass; hard: expectation and comparison, without the subject; soft: hard, and
  the check for suspicious elements. All use the default distribution, one layer, and tanh.
- torch: its forward and backward pass; running: the comparison of its gradients as they are; probes: the comparison,
  and the subject's second run, that shows every inner gradient.
- packed: the plain reference's forward and backward pass, and the whole comparison, for the same sizes packed in any
  lengths, as multiples of the time for padded input.
- memory: the peak of what the forward comparison of a large case allocates through NumPy.

Run: ``python benchmarks/cost.py``. Each figure is the median of repeated runs.
"""

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

from harness import RNNConfig, draw
from harness.checks.agreement import assess, observe
from harness.oracle.reference import Reference
from harness.space.scope import configure, factors_of
from harness.subjects.torch_module import TorchSubject

SIZES = {
    "tiny": RNNConfig(3, 4, T=5, N=1),
    "small": RNNConfig(8, 16, T=20, N=2),
    "mid": RNNConfig(32, 64, T=50, N=4),
    "big": RNNConfig(64, 128, T=100, N=8),
}
LARGE = RNNConfig(1024, 1024, T=500, N=64)


def median(call: Callable[[], Any], seconds: float = 1.0) -> float:
    """Return the median processor time of a call, in milliseconds."""
    times: list[float] = []
    call()
    end = time.process_time() + seconds
    while time.process_time() < end or len(times) < 5:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def forward(config: RNNConfig) -> tuple[float, float, float]:
    """Return the times of the reference, of the hard comparison, and of both comparisons."""
    case = draw(config)
    reference, seen = Reference(), observe(TorchSubject(), case)
    plain = median(lambda: reference.run(case))
    both = median(lambda: assess(seen))
    hard = median(lambda: assess(seen, soft=False))
    return plain, hard, both


def backward(config: RNNConfig) -> tuple[float, float, float]:
    """Return the times of torch forward and backward, of the running comparison, and of the one with probes."""
    case, subject = draw(config.replace(loss="both")), TorchSubject()
    torch = median(lambda: subject.run(case))
    running = observe(subject, case, with_probes=False)
    return torch, median(lambda: assess(running)), median(lambda: assess(observe(subject, case))) - torch


def packed(config: RNNConfig) -> tuple[float, float]:
    """Return how many times longer the reference, and the comparison, take for packed input."""
    padded = draw(config.replace(loss="both"))
    other = draw(configure(factors_of(padded.config) | {"lengths": "any"})).plain()
    reference, subject = Reference(), TorchSubject()
    plain = [median(partial(reference.run, case)) for case in (padded, other)]
    seen = [observe(subject, case, with_probes=False) for case in (padded, other)]
    whole = [median(partial(assess, one)) for one in seen]
    return plain[1] / plain[0], whole[1] / whole[0]


def memory() -> float:
    """Return the peak memory in MiB, without the case and the subject's results."""
    seen = observe(TorchSubject(), draw(LARGE))
    tracemalloc.start()
    assess(seen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


if __name__ == "__main__":
    print("              reference   hard   soft  |   torch  running  probes   (ms)")
    for name, config in SIZES.items():
        row = "{:9.3f} {:6.3f} {:6.3f}  | {:7.3f} {:8.3f} {:7.3f}".format(*forward(config), *backward(config))
        print(f"{name:13} {row}", flush=True)
    print("packed        reference comparison  (times padded)")
    for name, config in SIZES.items():
        print(f"{name:13} {{:9.2f}} {{:10.2f}}".format(*packed(config)), flush=True)
    print(f"memory        {memory():.0f} MiB")
