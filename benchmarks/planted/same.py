"""same: the test whether a layer that was identified computes what a planted fault does."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from benchmarks.planted.base import Fault
from harness.diagnosis.fresh_cases import infinite
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.network_run import run
from harness.oracle.reference import Reference
from harness.space.case import Case
from harness.space.config import RNNConfig, fitted_lengths, role_of
from harness.space.values import draw


def same_as(identified: Identification, fault: Fault, config: RNNConfig) -> bool:
    """Tell whether a known mistake gives what an identified layer does, of gradients those that it returns.

    They are held against each other on cases with the layers, directions, lengths and layout of ``config``.
    """
    with np.errstate(all="ignore"):
        for case in _generic(config.replace(nonlinearity=identified.nonlinearity)):
            made, known = run(identified.network, case), fault.run(case)
            names = [n for n in known if n in made and (role_of(n) in identified.roles or not n.endswith(".grad"))]
            if not all(np.allclose(values_of(made[n]), known[n], 1e-6, 1e-9, equal_nan=True) for n in names):
                return False
    return True


def same_special(reference: Reference, fault: Fault, config: RNNConfig) -> bool:
    """Tell whether a known mistake gives what a reference does where numbers are not finite, in a single step."""
    with np.errstate(all="ignore"):
        for seed, (N, K, H) in product(range(6), ((1, 1, 1), (3, 1, 1), (4, 3, 5), (5, 4, 6))):
            case = infinite(config.plain.replace(T=1, N=N, input_size=K, hidden_size=H, dtype="float64"), seed)
            made, known = reference.run(case), fault.run(case)
            if not all(np.allclose(made[n], known[n], 1e-6, 1e-9, equal_nan=True) for n in known):
                return False
    return True


def _generic(config: RNNConfig) -> Iterator[Case]:
    """Yield cases of several sizes, with and without hx and a loss, of small gradients and of large ones."""
    packed = config.lengths is not None
    plainest = config.plain.replace(
        lengths=None,
        input_size=4,
        hidden_size=5,
        dtype="float64",
        loss=None,
        wrt="all",
        dropout=config.dropout and 0.25,
    )
    for T, N in ((1, 1), (3, 3), (4, 5), (11, 2)):
        lengths = fitted_lengths((3, 1, 4, 2, 2), T, N) if packed else None
        for hx, loss in product((True, False), (None, "output", "both")):
            stack = plainest.replace(T=T, N=N, hx=hx, loss=loss)
            stack = stack.replace(lengths=lengths, num_layers=3 if config.num_layers > 1 else 1)
            case = draw(stack, "normal", 7).plain()
            random = np.random.default_rng(7)
            shape = (T, N, stack.num_directions * stack.hidden_size)
            masks = {layer: random.random(shape) >= stack.dropout for layer in range(2)} if stack.drops else {}
            large = {n: v * 1e4 if n.endswith(".grad") else v for n, v in case.arrays.items()}
            yield from (Case.from_arrays(case.config, arrays, masks=masks) for arrays in (case.arrays, large))
