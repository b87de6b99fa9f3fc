"""Arguments of the Python API that make no sense: each is named in the error, with what was expected."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import harness
from harness.space.errors import UsageError
from tests.implementations import vectorised

api: Any = harness
CONFIG, RIGHT = harness.RNNConfig(1, 1), vectorised


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: api.hunt(3), "an int is not a subject; expected a function"),
        (lambda: api.hunt(RIGHT, CONFIG), "scope=RNNConfig(1, 1, T=1, N=1): expected Scope"),
        (lambda: api.hunt(RIGHT, cases="many"), "cases='many': expected an int of at least 1"),
        (lambda: api.hunt(RIGHT, cases=0), "cases=0: expected an int of at least 1"),
        (lambda: api.hunt(RIGHT, cases=True), "cases=True: expected an int"),
        (lambda: api.hunt(RIGHT, cases=1.5), "cases=1.5: expected an int"),
        (lambda: api.hunt(RIGHT, seconds=math.nan), "seconds=nan: expected seconds"),
        (lambda: api.hunt(RIGHT, seconds="60s"), "seconds='60s': expected seconds"),
        (lambda: api.hunt(RIGHT, seed=-1), "seed=-1: expected an int of at least 0"),
        (lambda: api.hunt(RIGHT, seed="x"), "seed='x': expected an int of at least 0"),
        (lambda: api.hunt(RIGHT, tolerance="tf31"), "tolerance"),
        (
            lambda: api.assert_agrees(RIGHT, CONFIG),
            "case=RNNConfig(1, 1, T=1, N=1): expected Case; draw(config) makes one",
        ),
        (lambda: api.assert_agrees(RIGHT, api.draw(CONFIG), tolerance=None), "tolerance=None: expected text"),
        (lambda: api.assert_agrees_on(RIGHT, CONFIG), "scope=RNNConfig(1, 1, T=1, N=1): expected Scope"),
        (lambda: api.assert_agrees_on(RIGHT, api.Scope(), seed=None), "seed=None: expected an int"),
        (lambda: api.check_agreement(api.as_subject(RIGHT), CONFIG), "case=RNNConfig(1, 1, T=1, N=1): expected Case"),
        (lambda: api.check(RIGHT, seconds=-1), "seconds=-1: expected seconds"),
        (lambda: api.check(RIGHT, seed=2.5), "seed=2.5: expected an int"),
        (lambda: api.check(RIGHT, tolerance=1e-3), "tolerance=0.001: expected text"),
        (lambda: api.check(RIGHT, profile="kernal"), "profile='kernal': expected"),
        (lambda: api.check_agreement(RIGHT, api.draw(CONFIG)), "expected Subject; as_subject(function) makes one"),
        (lambda: api.strata(CONFIG), "scope=RNNConfig(1, 1, T=1, N=1): expected Scope"),
        (lambda: api.configs(scope=3), "scope=3: expected Scope"),
        (lambda: api.cases(distributions=True), "distributions=[True]: expected some of"),
        (lambda: api.Case.from_arrays(CONFIG, {}), "arrays: no 'weight_ih_l0'; expected x, weight_ih_l0"),
        (lambda: api.draw(None), "config=None: expected RNNConfig"),
        (lambda: api.draw(CONFIG, seed="x"), "seed='x': expected an int"),
        (lambda: api.draw(CONFIG, "wild"), "distribution='wild': expected one of"),
        (lambda: api.RNNConfig("2", 1), "input_size='2': expected an int"),
        (lambda: api.RNNConfig(1, 1, lengths=[2]), "lengths="),
        (lambda: api.RNNConfig(1, 10**30), "hidden_size=1000000000000000000000000000000: expected an int of 64 bits"),
        (lambda: api.Scope().only(T="x"), "T='x'"),
        (lambda: api.RNNConfig.from_dict(None), "fields=None: expected a dict"),
        (lambda: api.Case(3, None, None, {}), "config=3: expected RNNConfig"),
        (lambda: api.Case.of(CONFIG, x="x"), "x='x': expected numbers"),
        (lambda: api.Case.load(3), "path=3: expected the name of a file"),
        (lambda: api.sparse("x", {}), "shape='x': expected a tuple of sizes"),
        (lambda: api.sparse((1,), {(3,): 1.0}), "entries: (3,): 1.0: expected a number at an index of (1,)"),
        (lambda: api.check(RIGHT, known=3), "known=3: expected the name of a file"),
        (lambda: api.check(RIGHT, weights=[]), "weights=[]: expected the name of a file"),
        (lambda: api.explain({}, [], [], more=5), "more=5: expected a list of cases"),
        (lambda: api.explain({}, [], [], cotangents="x"), "cotangents='x': expected Mapping"),
        (lambda: api.Scope().only(layers=1), "unknown factor layers"),
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
    case = api.draw(CONFIG, seed=np.int64(3))

    assert case.id == api.draw(CONFIG, seed=3).id
    assert api.hunt(RIGHT, api.Scope().only(T=1, N=1), cases=np.int32(3), seconds=np.float64(30)).total == 3
