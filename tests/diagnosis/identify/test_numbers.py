"""Tests of balls and tapes: bounds hold what roundings make, and derivatives are those of differences."""

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from harness.diagnosis.identify.activations import TANH
from harness.diagnosis.identify.autodiff import Var, backward
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.coefficient_patterns import named
from harness.diagnosis.identify.fit import solve
from harness.diagnosis.identify.layer import limited
from harness.diagnosis.identify.model import Coef, GradientClip
from harness.diagnosis.identify.questions import rounding_of
from harness.diagnosis.identify.terms import SLOPES, STEP_TERMS, LayerTrace


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["float32", "float16"]))
def test_a_ball_holds_what_the_narrow_dtype_computes(seed: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    a, b, c = (random.uniform(-2, 2, (3, 3)).astype(dtype) for _ in range(3))
    narrow = np.tanh(a @ b + c) * c + a.sum(0)

    balls = [Ball(v, 0.0, rounding_of(dtype)) for v in (a, b, c)]
    bound = TANH.of(balls[0] @ balls[1] + balls[2]) * balls[2] + balls[0].sum(0)

    assert (np.abs(narrow.astype(float) - bound.value) <= bound.error).all()
    assert bound.error.max() < 100 * rounding_of(dtype).u * 16  # and says something


@pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.matmul])
def test_a_ball_beside_a_tape_keeps_its_bound(operation: Any) -> None:
    first, second = (Ball(np.eye(2) * k, 0.5, rounding_of("float32")) for k in (2, 3))

    made, expected = operation(first, Var(second)), operation(first, second)

    assert (made.value.value == expected.value).all()
    assert (made.value.error == expected.error).all()


TERMS = [name for name, term in STEP_TERMS.items() if not term.other]


def trace_of(arrays: list[Any]) -> LayerTrace:
    """Return the trace of a layer of x (T, N, H), hx and the parameters, with states that are made of hx."""
    trace = LayerTrace(list(arrays[0]), *arrays[1:])
    trace.h = {t: arrays[1] * 0.5 ** (t + 1) for t in range(3)}
    return trace


@pytest.mark.parametrize("name", TERMS)
def test_the_bounds_of_each_term_hold_what_float32_makes_of_operands_within_theirs(name: str) -> None:
    random = np.random.default_rng(5)
    shapes, off = ((3, 3, 4), (3, 4), (4, 4), (4, 4), (4,), (4,)), 0.01
    arrays = [random.uniform(-1, 1, shape) for shape in shapes]
    near = [(v + random.choice([-off, off], v.shape) * 0.99).astype(np.float32) for v in arrays]
    narrow = STEP_TERMS[name].value(trace_of(near), 1) + np.zeros((3, 4), np.float32)

    x, *others = arrays
    balls = [[Ball(v, off, rounding_of("float32")) for v in x], *(Ball(v, off, rounding_of("float32")) for v in others)]
    bound = STEP_TERMS[name].value(trace_of(balls), 1) + np.zeros((3, 4))

    value, error = (bound.value, bound.error) if isinstance(bound, Ball) else (bound, 0.0)
    assert (np.abs(narrow - value) <= error).all()


@pytest.mark.parametrize("name", SLOPES)
def test_the_bounds_of_each_slope_hold_what_operands_within_theirs_make(name: str) -> None:
    random, off = np.random.default_rng(5), 0.01
    arrays = [random.uniform(-1, 1, (9, 9)) for _ in range(4)]
    bound = SLOPES[name](*(Ball(v, off, rounding_of("float32")) for v in arrays))
    value, error = (bound.value, bound.error) if isinstance(bound, Ball) else (bound, 0.0)

    for _ in range(8):
        near = [(v + random.uniform(-off, off, v.shape)).astype(np.float32) for v in arrays]
        assert (np.abs(SLOPES[name](*near) * 1.0 - value) <= error).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_bounds_of_a_clip_hold_what_the_limit_of_a_narrow_dtype_makes(dtype: Any) -> None:
    v = np.array([-2.0, 0.5, 2.0])

    bound: Any = np.clip(Ball(v, 0.0, rounding_of(dtype)), -0.9, 0.9)  # type: ignore[call-overload]

    narrow = np.clip(v.astype(dtype), np.array(-0.9, dtype), np.array(0.9, dtype))
    assert (np.abs(narrow.astype(float) - bound.value) <= bound.error).all()
    assert bound.error.max() < 100 * rounding_of(dtype).u


@pytest.mark.parametrize(
    ("limit", "off"),
    [(1.0, 0.01), (1.0, 10.0), (1.0, np.inf), (5.0, 0.5), (5.75, 0.01)],
    ids=["beyond", "vague", "unknown", "perhaps within", "just within"],
)
def test_the_bounds_of_a_clip_by_a_norm_hold_what_a_norm_of_numbers_within_theirs_makes(
    limit: float, off: float
) -> None:
    random = np.random.default_rng(5)
    v, first = random.uniform(-1, 1, (10, 10)), np.arange(100).reshape(10, 10) < 10  # the others are exact

    bound: Any = limited(Ball(v, np.where(first, off, 0.0), rounding_of("float32")), GradientClip("norm", limit))

    for sign in (-1, 1):
        near = (v * np.where(first, 1 + sign * min(off, 1e6) * 0.99, 1)).astype(np.float32)
        narrow = near * np.float32(min(1, limit / np.sqrt(np.square(near).sum())))
        assert (np.abs(narrow - bound.value) <= bound.error).all()


@pytest.mark.parametrize("name", TERMS)
def test_each_term_has_a_value_where_there_is_no_sequence(name: str) -> None:
    arrays = [np.ones(shape) for shape in ((3, 0, 4), (0, 4), (4, 4), (4, 4), (4,), (4,))]

    assert np.shape(STEP_TERMS[name].value(trace_of(arrays), 1) + np.zeros((0, 4))) == (0, 4)


@pytest.mark.parametrize("name", TERMS)
def test_the_tape_of_each_term_of_a_step_is_the_derivative_of_what_it_computes(name: str) -> None:
    random = np.random.default_rng(7)
    arrays = [random.uniform(-1, 1, shape) for shape in ((3, 3, 4), (3, 4), (4, 4), (4, 4), (4,), (4,))]
    seed = random.uniform(-1, 1, (3, 4))

    def value(values: list[np.ndarray]) -> np.ndarray:
        return np.broadcast_to(STEP_TERMS[name].value(trace_of(values), 1), (3, 4))

    leaves = [[Var(v) for v in arrays[0]], *(Var(v) for v in arrays[1:])]
    made = STEP_TERMS[name].value(trace_of(leaves), 1) + np.zeros((3, 4))
    inputs = {"hx": leaves[1], "W_ih": leaves[2], "W_hh": leaves[3], "b_ih": leaves[4], "b_hh": leaves[5]}
    by = backward({made: seed}, inputs) if isinstance(made, Var) else {}  # type: ignore[arg-type]

    for place, key in enumerate(inputs, 1):
        direction = random.uniform(-1, 1, arrays[place].shape)
        near = [[v + sign * 1e-6 * direction if i == place else v for i, v in enumerate(arrays)] for sign in (1, -1)]
        slope = ((value(near[0]) - value(near[1])) * seed).sum() / 2e-6
        taken = (by[key] * direction).sum() if by else 0.0
        assert taken == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("apart", [1.0, 1e-5])
def test_two_columns_of_many_are_found_by_few_equations_also_if_they_are_nearly_equal(apart: float) -> None:
    random = np.random.default_rng(3)
    columns = {k: random.standard_normal(14) for k in range(12)}
    columns[9] = columns[5] + apart * random.standard_normal(14)

    found = solve(columns, 3 * columns[5] - 2 * columns[9], 1e-16)

    assert found == pytest.approx({5: 3.0, 9: -2.0})


def test_a_coefficient_keeps_all_its_digits() -> None:
    trace = LayerTrace(np.zeros((2, 1, 1)), *[np.zeros((1, 1))] * 3, *[np.zeros(1)] * 2)

    assert named([(trace, {0: 2 / 3, 1: 2 / 3})], 1e-15) == (Coef(2 / 3),)
