"""Tests of slope_error: it holds for a slope of tanh taken from the state, and for one taken from the preactivation."""

import numpy as np
import pytest

from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.tolerance import slope_error
from harness.space.declared_arithmetic import LEAST_ASSUMED, DeclaredArithmetic
from harness.subjects.torch_class_facts import TORCH

S = np.concatenate([np.linspace(-9, 9, 40_001), np.random.default_rng(0).normal(0, 2, 40_000)]).astype(np.float32)
H = np.tanh(S)
EXACT = 1 - H.astype(np.float64) ** 2  # The slope that the reference uses: 1 - h**2 of the state as it was returned

U = 2.0**-24


def of_state() -> np.ndarray:
    return np.asarray(1 - H * H)


def of_factors() -> np.ndarray:
    return np.asarray((1 - H) * (1 + H))


def of_preactivation() -> np.ndarray:
    # With a cosh that is off by one ulp, as kernels of some CPUs are and others are not.
    return np.asarray(1 / np.nextafter(np.cosh(S.astype(np.float64)).astype(np.float32), np.float32(np.inf)) ** 2)


def used(slope: np.ndarray, backend: DeclaredArithmetic) -> float:
    """Return the largest share of the tolerance that a slope and its product with 1 use."""
    allowed = slope_error(H.astype(np.float64), EXACT, Arithmetic("float32", backend)) * U
    return float((np.abs(slope.astype(np.float64) - EXACT) / allowed).max())


@pytest.mark.parametrize("slope", [of_state, of_factors, of_preactivation])
def test_it_holds_where_nothing_is_known(slope: object) -> None:
    assert callable(slope)
    assert used(slope(), LEAST_ASSUMED) <= 1


def test_a_backend_that_takes_it_from_the_state_is_held_to_that() -> None:
    assert used(of_state(), TORCH["cpu"]) <= 1
    assert used(of_factors(), TORCH["cpu"]) <= 1
    assert used(of_preactivation(), TORCH["cpu"]) > 1
