"""Tests of threshold: which quantity of a case decides whether it fails."""

from collections.abc import Callable

import numpy as np
import pytest

from harness import Case, RNNConfig
from harness.diagnosis.value_threshold import numbers_needed
from harness.oracle.setting import REFERENCE

SMALL = RNNConfig(1, 1, T=1, N=1, hx=True, loss="both")
WIDE = RNNConfig(3, 4, T=4, N=2, hx=True, loss="both")


def gradients(case: Case, *names: str) -> list[np.ndarray]:
    return [g for name, g in REFERENCE.run(case).items() if name.endswith(".grad") and name.startswith(names)]


def largest(case: Case, *names: str) -> float:
    return max(float(np.abs(g).max()) for g in gradients(case, *names))


def norm(case: Case) -> float:
    return float(np.sqrt(sum((g**2).sum() for g in gradients(case, "weight", "bias"))))


@pytest.mark.parametrize("config", [SMALL, WIDE])
@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (lambda case: largest(case, "") > 5, "where some gradients are beyond ±5"),
        (lambda case: largest(case, "weight", "bias") > 5, "where some gradients by parameters are beyond ±5"),
        (lambda case: largest(case, "x") > 0.25, "where some gradients by x are beyond ±0.25"),
        (lambda case: norm(case) > 2, "where the norm of all gradients by parameters is above 2"),
        (lambda case: case.x.min() < 0, "where some numbers of x are negative"),
        (lambda case: case.x.min() > 0, "where all numbers of x are positive"),
        (lambda case: np.abs(case.x).max() < 1.5, "where all numbers of x are within ±1.5"),
        (lambda case: case.hx.min() < 0, "where some numbers of hx are negative"),
    ],
)
def test_the_quantity_that_decides_is_found(config: RNNConfig, fails: Callable[[Case], bool], words: str) -> None:
    found = numbers_needed(config, lambda case: bool(fails(case)))

    assert found.threshold is not None
    assert found.threshold.words == words


@pytest.mark.parametrize(
    "fails",
    [
        lambda case: int(case.id, 16) % 3 == 0,
        lambda case: case.x.flat[0] > case.weights["weight_hh_l0"].flat[0],  # no quantity alone
        lambda case: largest(case, "weight_ih") > 5 > largest(case, "weight_hh"),
    ],
)
def test_nothing_is_said_to_decide_that_does_not(fails: Callable[[Case], bool]) -> None:
    found = numbers_needed(WIDE, lambda case: bool(fails(case)))

    assert 0 < found.fails < found.draws
    assert found.threshold is None


def test_what_fails_on_every_draw_is_asked_for_few() -> None:
    found = numbers_needed(WIDE, lambda _case: True)

    assert found.always
    assert found.draws < 10
