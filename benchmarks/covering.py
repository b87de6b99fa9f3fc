"""The cost of covering arrays, and the number of random configs that meet as much (``search.covering``).

Both are measured for torch's whole scope, and for that of a function that takes every argument there is. Run: ``python
benchmarks/covering.py``.
"""

import time
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

from harness import RNNConfig, Scope, as_subject, scope_of, strata
from harness.search.covering import covering
from harness.search.plan import CONFIGS_PER_CHUNK
from harness.space.coverage_counts import Coverage
from harness.space.interactions import interactions_of
from harness.space.scope import HIGHEST_COST
from harness.subjects.torch_module import TorchSubject

DRAWN: Final = 20_000  # The number of drawn configs after which interactions that have not met are given up

SHARES: Final = (0.9, 0.99, 0.999, 1.0)


def everything(weights: object, config: object, cotangents: object, lengths: object, masks: object) -> None:
    """Take every argument, so that nearly everything is asked for; it is never run."""


def samples(scope: Scope, seed: int = 0) -> Iterator[RNNConfig]:
    """Yield configs as a search draws them."""
    for number in count():
        for stratum in strata(scope):
            yield from stratum.sample(Random(f"{seed}/{stratum}/{number}"), CONFIGS_PER_CHUNK)


def counted(ran: list[RNNConfig]) -> Coverage:
    """Return what these configs met."""
    coverage = Coverage()
    for config in ran:
        coverage.add_config(config)
    return coverage


def arrays(name: str, scope: Scope) -> None:
    """Print the sizes and costs of the arrays."""
    for strength in (2, 3):
        interactions_of.cache_clear()
        covering(scope.only(T=1), 2)  # for imports, and for NumPy's first use
        start = time.perf_counter()
        found = covering(scope, strength, seed=1)
        seconds = time.perf_counter() - start
        cost = sum(config.cost for config in found) / HIGHEST_COST
        interactions = len(interactions_of(scope).of(strength))
        print(
            f"{name:9} strength {strength}: {interactions:9,} interactions in {len(found):5,} configs, "
            f"{seconds:.2f} s, of {cost / len(found):.2f} COST each"
        )


def at_random(name: str, scope: Scope) -> None:
    """Print how many configs a search draws until they meet what the arrays meet."""
    start, coverage, drawn = time.perf_counter(), Coverage(), list[RNNConfig]()
    wanted = {(strength, share) for strength in (2, 3) for share in SHARES}
    for number, config in enumerate(samples(scope), start=1):
        coverage.add_config(config)
        drawn.append(config)
        if number % 100 and number != DRAWN:
            continue
        for strength, share in sorted(wanted):
            met, of = coverage.share(scope, strength)
            if met >= share * of:
                wanted.discard((strength, share))
                print(f"{name:9} drawn: {share:6.1%} of strength {strength} after {number:,} configs")
        if number in {700, 1_000} or number == DRAWN:
            shares = [coverage.share(scope, strength) for strength in (1, 2, 3)]
            text = ", ".join(f"{met / of:.2%}" for met, of in shares)
            met, of = coverage.boundary_pairs(scope)
            cost = sum(config.cost for config in drawn) / HIGHEST_COST / number
            print(
                f"{name:9} drawn: {number:,} configs, {text}, pairs of boundaries {met / of:.1%}, {cost:.2f} COST each"
            )
        if number == DRAWN or not wanted:
            break
    print(f"{name:9} drawn: {time.perf_counter() - start:.0f} s")


def left_out(scope: Scope) -> None:
    """Print the pairs of boundaries that cost too much."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for f, a, g, b in interactions_of(scope).payable_pairs(payable=False):
        found.setdefault((f, g), []).append((a, b))
    for (f, g), pairs in found.items():
        print(f"left out for their cost, {f} x {g}: {len(pairs)}, {pairs[0]} to {pairs[-1]}")


def counting(scope: Scope) -> None:
    """Print the cost of counting a config."""
    found = covering(scope)
    start = time.process_time()
    coverage = Coverage()
    for _ in range(10):
        for config in found:
            coverage.add_config(config)
    coverage.share(scope, 3)
    print(f"to count a config: {(time.process_time() - start) / 10 / len(found) * 1e6:.0f} µs")


if __name__ == "__main__":
    scopes = {"torch": scope_of(TorchSubject()), "function": scope_of(as_subject(everything))}
    for subject, whole in scopes.items():
        arrays(subject, whole)
    left_out(scopes["torch"])
    counting(scopes["torch"])
    for subject, whole in scopes.items():
        at_random(subject, whole)
