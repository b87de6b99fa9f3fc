"""Tests of two subjects on one case: equal to the bit, apart by rounding, or further apart."""

from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, as_subject, draw
from harness.checks.compare_subjects import Held, between, bits_of
from harness.checks.full_check import check
from tests import implementations

RIGHT = Held(as_subject(implementations.vectorised))
CASE = draw(RNNConfig(3, 4, T=5, N=2), "normal", 1)


def changed(by: Any, *, name: str = "output") -> Held:
    """Return a subject whose first step's output, or h_n, is what ``by`` makes of the right one."""

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = (array.copy() for array in implementations.vectorised(x, h0, weights, config))
        array = output if name == "output" else h_n
        array[0, 1, 2] = by(array[0, 1, 2])
        return output, h_n

    return Held(as_subject(rnn))


def test_equal_bits_are_equal_and_the_next_number_is_a_rounding_with_its_place() -> None:
    assert between(CASE, RIGHT, RIGHT).compared
    assert between(CASE, RIGHT, RIGHT).apart is None

    found = between(CASE, RIGHT, changed(lambda h: np.nextafter(h, np.float32(2)))).apart

    assert found is not None
    assert found.rounding
    assert (found.array, found.site.place) == ("output", {"t": 0, "n": 1, "unit": 2})
    assert found.site.difference == abs(np.spacing(np.float32(found.site.expected.real)))
    assert found.share == found.site.excess <= 1


@pytest.mark.parametrize(("by", "share"), [(lambda h: h + np.float32(0.5), 1e4), (lambda _h: np.nan, np.inf)])
def test_wrong_numbers_are_no_rounding_whichever_of_both_has_them(by: Any, share: float) -> None:
    wrong = changed(by, name="h_n")

    for pair in ((RIGHT, wrong), (wrong, RIGHT)):
        found = between(CASE, *pair).apart
        assert found is not None
        assert not found.rounding
        assert found.array == "h_n"
        assert found.share >= share


def test_a_zero_of_another_sign_is_another_bit_and_no_difference() -> None:
    zero = draw(RNNConfig(3, 4, T=1, N=2, bias=False), "normal", 1)
    zero = type(zero).from_arrays(zero.config, {name: array * 0 for name, array in zero.arrays.items()})

    found = between(zero, RIGHT, changed(lambda h: -h)).apart

    assert found is not None
    assert (found.rounding, found.share) == (True, 0.0)


def test_padding_does_not_count() -> None:
    def padded_with(value: float) -> Held:
        def rnn(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
            output, h_n = np.zeros((*x.shape[:2], config.hidden_size), x.dtype), h0.copy()
            output[lengths[1] :, 1] = value
            return output, h_n

        return Held(as_subject(rnn))

    case = draw(RNNConfig(3, 4, T=5, N=2, lengths=(5, 2)), "normal", 1)
    assert between(case, padded_with(0), padded_with(7)).apart is None


def test_what_has_no_values_of_the_right_form_is_not_compared() -> None:
    def refusing(x: Any) -> Any:
        raise NotImplementedError

    assert not between(CASE, RIGHT, Held(as_subject(refusing))).compared
    assert not between(CASE, RIGHT, Held(as_subject(lambda x, h0: (x, h0)))).compared


def test_an_agreement_has_the_bits_of_its_values_and_a_failure_has_none() -> None:
    plain, other = check(RIGHT.subject, CASE), check(changed(lambda h: np.nextafter(h, np.float32(2))).subject, CASE)

    assert plain.bits == bits_of(RIGHT.subject.run(CASE).arrays) != ""
    assert other.bits not in {plain.bits, ""}
    assert check(changed(lambda h: h + 1).subject, CASE).bits == ""
    assert bits_of({"a": np.zeros(2)}) != bits_of({"a": np.zeros(2, np.float32).repeat(2)})
    assert bits_of({"a": np.zeros(2)}) != bits_of({"b": np.zeros(2)})
    assert bits_of({"a": np.zeros(2, "bfloat16")}) != bits_of({"a": np.ones(2, "bfloat16")})
