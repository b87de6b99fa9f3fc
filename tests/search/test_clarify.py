"""Tests of the choice of the case that tells most of a failure."""

from typing import Any

import numpy as np
import pytest

from harness import Result, RNNConfig, Scope, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.search.clarify import in_memory_of_their_own
from tests import implementations

CASE = draw(RNNConfig(2, 3, T=2, N=2, bidirectional=True, hx=True, strides="expanded"), "normal", 1)


@pytest.mark.parametrize(
    ("off", "scope", "told"),
    [(0, {}, "hx: changed input"), (1, {}, "output: value"), (0, {"strides": ("expanded",)}, "output: value")],
)
def test_a_write_into_an_expanded_input_is_told_as_one_unless_values_are_wrong_without_it(
    off: int, scope: dict[str, Any], told: str
) -> None:
    def writes(x: Any, h0: Any, weights: Any, config: RNNConfig) -> Any:
        h0[0] += 1  # with expanded strides, this also changes the state of the other direction
        states = h0.copy()
        states[0] -= 1
        return tuple(array + off for array in implementations.vectorised(x, states, weights, config))

    subject = as_subject(writes)

    def check(case: Any, **_: Any) -> Result:
        return check_agreement(subject, case)

    given = check(CASE)
    assert given.kind == "output: value"

    case, result = in_memory_of_their_own(
        CASE, given, check, Scope().only(strides=("contiguous", "expanded")).only(**scope)
    )

    assert result.kind == told
    assert case.config.strides == ("contiguous" if told.startswith("hx") else "expanded")
    assert np.array_equal(case.arrays["hx"], CASE.arrays["hx"])
