"""Tests of arithmetic: formats as others know them, and what a user may accept."""

import math
from typing import Any

import ml_dtypes
import pytest
from hypothesis import given, strategies as st

from harness.oracle.arithmetic_assumptions import FORMATS, STRICT, TOLERANCES, AcceptedErrors, Arithmetic, accepted
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.space.errors import UsageError
from harness.space.factor_table import DTYPES
from harness.subjects.torch_class_facts import TORCH


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_its_format(dtype: str) -> None:
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]

    assert FORMATS[dtype].u == float(info.eps) / 2
    assert FORMATS[dtype].largest == float(info.max)
    lost = float(info.smallest_subnormal if dtype == "float16" else info.smallest_normal)
    assert FORMATS[dtype].underflow == lost


def test_every_backend_says_where_its_figures_are_from() -> None:
    assert all(backend.source and backend.tanh_error >= 1 for backend in (LEAST_ASSUMED, *TORCH.values()))
    assert not LEAST_ASSUMED.wide_sums
    assert LEAST_ASSUMED.stores_products


@pytest.mark.parametrize(
    ("dtype", "wide"), [("float32", False), ("float64", False), ("bfloat16", True), ("float16", True)]
)
def test_only_sixteen_bits_are_summed_more_widely_and_only_where_it_is_known(dtype: str, wide: bool) -> None:
    known, unknown = Arithmetic(dtype, TORCH["cpu"]), Arithmetic(dtype)

    assert known.wide == wide
    assert known.sum_u == (2.0**-24 if wide else FORMATS[dtype].u)
    assert not unknown.wide
    assert unknown.sum_u == FORMATS[dtype].u


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_wide_tanh_is_off_by_its_own_error_and_by_being_stored(dtype: str) -> None:
    u, own = FORMATS[dtype].u, 2 * 2.0**-24

    assert Arithmetic(dtype, TORCH["cpu"]).tanh_error == pytest.approx((1 + own) * (1 + u) - 1, rel=2.0**-40)
    assert Arithmetic(dtype).tanh_error == 2 * u


@pytest.mark.parametrize("name", list(TOLERANCES))
def test_a_tolerance_is_accepted_by_its_name(name: str) -> None:
    assert accepted(name) == TOLERANCES[name]


@given(rtol=st.floats(0, 1e300), atol=st.floats(0, 1e300))
def test_tolerances_are_accepted_together_alone_and_in_any_order(rtol: float, atol: float) -> None:
    assert accepted(f"rtol={rtol!r},atol={atol!r}") == AcceptedErrors(rtol=rtol, atol=atol)
    assert accepted(f" atol = {atol!r} , rtol={rtol!r}") == AcceptedErrors(rtol=rtol, atol=atol)
    assert accepted(f"rtol={rtol!r}") == AcceptedErrors(rtol=rtol)
    assert accepted(f"atol={atol!r}") == AcceptedErrors(atol=atol)


def test_only_the_dtype_s_own_roundings_are_derived() -> None:
    assert accepted("derived") == STRICT
    assert STRICT.derived
    assert not any(accepted(text).derived for text in ("tf32", "bf16", "rtol=1e-3", "atol=1e-3"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fp32",
        "rtol",
        "rtol=",
        "rtol=a",
        "rtol=-1",
        "rtol=nan",
        "rtol=inf",
        "rtol=1,btol=2",
        "1e-3",
        "rtol=1,tf32",
        "tanh=8",
        "tanh=ulp",
        "rtol=8ulp",
    ],
)
def test_what_is_no_tolerance_is_refused_with_all_that_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected derived, tf32, bf16, or rtol=R,atol=A") as refused:
        accepted(text)
    assert f"tolerance={text!r}" in str(refused.value)


def test_operands_that_lose_bits_underflow_at_least_as_the_dtype_does() -> None:
    assert Arithmetic("float64", accepted=TOLERANCES["tf32"]).underflow == 2.0**-126
    assert Arithmetic("float64").underflow == 2.0**-1022
    assert math.isclose(TOLERANCES["tf32"].operand_u, 2 * 2.0**-11)
    assert math.isclose(TOLERANCES["bf16"].operand_u, 2 * 2.0**-8)
