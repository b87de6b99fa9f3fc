"""Values: the arrays of a case, made from a distribution and a seed.

Hypothesis draws only the seed. Drawing arrays element by element costs some ten times as much per example, and
Hypothesis prefers values (zeros, equal numbers) that hide a transposed or a forgotten matrix.
"""

from collections.abc import Callable
from dataclasses import replace
from math import log2, sqrt
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from harness.space.case import Array, Case, ValuesOrigin, padding, prescribe
from harness.space.config import RNNConfig, role_of
from harness.space.errors import UsageError, require_int, require_type
from harness.space.factor_table import OTHER

Floats = NDArray[np.float64]
NORMALS_AT_ONCE: Final = (
    2**20
)  # The count of normal numbers that are drawn at once: 8 MiB of float64, however many a case has

# A function that scales, in place, arrays that were filled with N(0, 1).
Filler = Callable[[Generator, RNNConfig, dict[str, Floats]], None]


def draw(config: RNNConfig, distribution: str = "default", seed: int = 0) -> Case:
    """Draw the case that ``seed`` gives in ``distribution``: the same bits on every machine with the same NumPy.

    No two arrays of a case are equal, and none is constant or symmetric by design, because equal values would hide a
    transposition, a permutation, or one array taken for another. Raises ``UsageError`` for an unknown distribution, and
    for other arguments that make no sense.
    """
    require_type("config", config, RNNConfig, "RNNConfig(input_size, hidden_size) makes one")
    require_int("seed", seed, 0)
    if not isinstance(distribution, str) or distribution not in DISTRIBUTIONS:
        raise UsageError(f"distribution={distribution!r}: expected one of {', '.join(DISTRIBUTIONS)}")
    rng = Generator(PCG64(seed))
    many = sum(spec.size for spec in config.given.values()) > NORMALS_AT_ONCE
    if many and distribution == "normal":
        cast = _normal_numbers(rng, config)
        prescribe(config, cast)
        return Case.from_arrays(config, cast, ValuesOrigin(distribution, seed))
    arrays = _filled(rng, config, distribution)
    cast = {name: array.astype(config.dtype) for name, array in arrays.items()}
    prescribe(config, cast)
    return Case.from_arrays(config, cast, ValuesOrigin(distribution, seed))


def earlier_case(before: RNNConfig, *, one_bias: bool = False) -> Case:
    """Return a call that a used module had before: ones, with ``OTHER`` in every parameter.

    A class with one bias has it there, as the sum of nn.RNN's two.
    """
    arrays = {name: np.full(spec.shape, 1.0, before.dtype) for name, spec in before.given.items()}
    for name, spec in before.weights.items():
        number = 0.0 if one_bias and role_of(name) == "bias_hh" else OTHER
        arrays[name] = np.full(spec.shape, number, before.dtype)
    if before.lengths is not None and "readout.grad" in arrays:
        arrays["readout.grad"][padding(before)] = 0
    return Case.from_arrays(before, arrays)


def with_other_inputs(case: Case) -> Case:
    """Return the case with 1 added to x and the cotangents doubled, so that everything returned is different."""
    with np.errstate(all="ignore"):
        x = case.x + case.x.dtype.type(1)
        cotangents = {name: array + array for name, array in case.cotangents.items()}
    return replace(case, x=x, cotangents=cotangents, origin=None)


def _filled(rng: Generator, config: RNNConfig, distribution: str) -> dict[str, Floats]:
    flat = rng.standard_normal(sum(spec.size for spec in config.given.values()))
    arrays: dict[str, Floats] = {}
    start = 0
    for name, spec in config.given.items():
        stop = start + spec.size
        arrays[name], start = flat[start:stop].reshape(spec.shape), stop
    DISTRIBUTIONS[distribution](rng, config, arrays)
    return arrays


def _normal_numbers(rng: Generator, config: RNNConfig) -> dict[str, Array]:
    """Return what ``_filled`` gives in the normal distribution, in the config's dtype, few in float64 at once."""
    arrays: dict[str, Array] = {}
    for name, spec in config.given.items():
        arrays[name] = np.empty(spec.shape, config.dtype)
        flat = arrays[name].reshape(-1)
        for start in range(0, spec.size, NORMALS_AT_ONCE):
            some = flat[start : start + NORMALS_AT_ONCE]
            some[...] = rng.standard_normal(some.size)
    return arrays


def _dyadic(rng: Generator, _config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Fill the arrays with multiples of 1/16 up to 1, all different in a small case.

    Sums of their products are exact, so that only tanh rounds.
    """
    pool = np.concatenate([np.arange(1, 17), -np.arange(1, 17)]) / 16
    total = sum(array.size for array in arrays.values())
    blocks = -(-total // pool.size)
    values = rng.permuted(np.tile(pool, (blocks, 1)), axis=1).ravel()
    start = 0
    for name, array in sorted(arrays.items(), key=lambda item: item[1].size):  # small arrays share a block
        array[...] = values[start : start + array.size].reshape(array.shape)
        start += array.size
        if name.startswith("weight"):
            # A power of two keeps them exact. Without the scaling, wide sums would saturate tanh and hide everything.
            array *= 2.0 ** -round(log2(array.shape[1]) / 2)


def _default(rng: Generator, config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Use ``nn.RNN``'s own initialisation, U(-1/sqrt(H), 1/sqrt(H)), for weights and biases; keep N(0, 1) inputs."""
    bound = 1 / sqrt(config.hidden_size)
    for name in config.weights:
        arrays[name][...] = rng.uniform(-bound, bound, arrays[name].shape)


def _normal(_rng: Generator, _config: RNNConfig, _arrays: dict[str, Floats]) -> None:
    """Leave N(0, 1) everywhere, as a hand-written test would draw it."""


def _spectral(rng: Generator, config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Scale the recurrent matrices to a spectral radius around and above 1, where states live long or become chaotic.

    By the circular relation, a matrix with N(0, 1) entries over sqrt(H) has a spectral radius that tends to 1.
    """
    radius = rng.choice([0.9, 1.0, 1.1, 2.0])
    for name, array in arrays.items():
        if name.startswith("weight_hh"):
            array *= radius / sqrt(config.hidden_size)


def _saturated(_rng: Generator, config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Multiply the weights by ten, which drives tanh to its ends and makes relu grow with every step.

    An LSTM's initial c, which nothing bounds, is multiplied, too.
    """
    for name in (*config.weights, *config.hidden[1:]):
        arrays[name] *= 10


def _sparse(rng: Generator, _config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Set seven of ten entries to zero, so that single terms stand alone."""
    for array in arrays.values():
        array[rng.random(array.shape) < 0.7] = 0


def _special(rng: Generator, config: RNNConfig, arrays: dict[str, Floats]) -> None:
    """Set one entry in ten to an edge value of its dtype: signed zero, subnormal, tiny, or huge.

    In x and hx infinities and NaN are among the edge values. At least one entry of x is set, so that small cases have
    an edge value, too.
    """
    limits: Any = ml_dtypes.finfo(config.dtype)  # type: ignore[no-untyped-call]
    subnormal, tiny, largest = float(limits.smallest_subnormal), float(limits.tiny), float(limits.max)
    finite = np.array([0.0, -0.0, subnormal, tiny, largest / 4, -largest / 4])
    wild = np.concatenate([finite, [np.inf, -np.inf, np.nan]])
    for name, array in arrays.items():
        edges = rng.choice(wild if name in config.inputs else finite, array.shape)
        chosen = rng.random(array.shape) < 0.1
        if name == "x" and array.size:
            chosen.flat[rng.integers(array.size)] = True
        np.copyto(array, edges, where=chosen)


# The distributions from plain to wild, which is also the order in which a failing case is simplified.
DISTRIBUTIONS: Final[dict[str, Filler]] = {
    "dyadic": _dyadic,
    "default": _default,
    "normal": _normal,
    "spectral": _spectral,
    "saturated": _saturated,
    "sparse": _sparse,
    "special": _special,
}
