"""Arguments of the Python API that make no sense: each is named in the error, with what was expected."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import harness
from harness import RNNConfig, Scope, draw
from harness.space.errors import UsageError
from tests.implementations import vectorised

CONFIG: Any = RNNConfig(1, 1)
RIGHT: Any = vectorised


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: harness.hunt(3), "an int is not a subject; expected a function"),
        (lambda: harness.hunt(RIGHT, CONFIG), "scope=RNNConfig(1, 1, T=1, N=1): expected Scope"),
        (lambda: harness.hunt(RIGHT, cases="many"), "cases='many': expected an int of at least 1"),
        (lambda: harness.hunt(RIGHT, cases=0), "cases=0: expected an int of at least 1"),
        (lambda: harness.hunt(RIGHT, cases=True), "cases=True: expected an int"),
        (lambda: harness.hunt(RIGHT, cases=1.5), "cases=1.5: expected an int"),
        (lambda: harness.hunt(RIGHT, seconds=math.nan), "seconds=nan: expected seconds"),
        (lambda: harness.hunt(RIGHT, seconds="60s"), "seconds='60s': expected seconds"),
        (lambda: harness.hunt(RIGHT, seed=-1), "seed=-1: expected an int of at least 0"),
        (lambda: harness.hunt(RIGHT, seed="x"), "seed='x': expected an int of at least 0"),
        (lambda: harness.hunt(RIGHT, accepted="tf32"), "accepted='tf32': expected Accepted"),
        (
            lambda: harness.assert_agrees(RIGHT, CONFIG),
            "case=RNNConfig(1, 1, T=1, N=1): expected Case; draw(config) makes one",
        ),
        (lambda: harness.assert_agrees(RIGHT, draw(CONFIG), tolerance=None), "tolerance=None: expected text"),
        (lambda: harness.assert_agrees_on(RIGHT, CONFIG), "scope=RNNConfig(1, 1, T=1, N=1): expected Scope"),
        (lambda: harness.assert_agrees_on(RIGHT, Scope(), seed=None), "seed=None: expected an int"),
        (
            lambda: harness.check_agreement(harness.as_subject(RIGHT), CONFIG),
            "case=RNNConfig(1, 1, T=1, N=1): expected Case",
        ),
        (lambda: harness.check(RIGHT, seconds=-1), "seconds=-1: expected seconds"),
        (lambda: harness.check(RIGHT, seed=2.5), "seed=2.5: expected an int"),
        (lambda: harness.check(RIGHT, tolerance=1e-3), "tolerance=0.001: expected text"),
        (lambda: harness.check(RIGHT, contract="kernal"), "contract='kernal': expected"),
        (lambda: draw(None), "config=None: expected RNNConfig"),
        (lambda: draw(CONFIG, seed="x"), "seed='x': expected an int"),
        (lambda: draw(CONFIG, "wild"), "regime='wild': expected one of"),
        (lambda: RNNConfig("2", 1), "input_size='2': expected an int"),
        (lambda: RNNConfig(1, 1, lengths=[2]), "lengths="),
        (lambda: RNNConfig(1, 10**30), "hidden_size=1000000000000000000000000000000: expected an int of 64 bits"),
        (lambda: Scope().only(T="x"), "T='x'"),
        (lambda: Scope().only(layers=1), "unknown factor layers"),
    ],
)
def test_it_is_named_and_so_is_what_was_expected(
    call: Callable[[], object], said: str, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError) as error:
        call()

    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_numpy_s_own_numbers_are_numbers() -> None:
    case = draw(CONFIG, seed=np.int64(3))  # type: ignore[arg-type]

    assert case.id == draw(CONFIG, seed=3).id
    assert harness.hunt(RIGHT, Scope().only(T=1, N=1), cases=np.int32(3), seconds=np.float64(30)).total == 3  # type: ignore[arg-type]
