"""Tests of tangent expectation: by central differences and by torch; roundings stay within it, and mistakes do not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from harness import Case, Reference, RNNConfig, cases, draw
from harness.oracle.arithmetic import U64, Arithmetic
from harness.oracle.expectation import Expected, Setting, end_to_end_states
from harness.oracle.known import Known
from harness.oracle.tangent_expectation import expect_tangents
from harness.space.values import tangents
from tests.oracle.by_hand import PRODUCTS, run_by_hand

SMALL: dict[str, Any] = {"T": [1, 2, 4], "N": [1, 3], "input_size": [1, 4], "hidden_size": [1, 2, 5]}
CASE = draw(RNNConfig(3, 4, 2, bidirectional=True, T=3, N=2, hx=True, dtype="float64"), "default", 0)


def moved(case: Case, along: Any, step: float) -> Case:
    return Case.from_arrays(case.config, {name: a + step * along[name] for name, a in case.arrays.items()})


def forwards(case: Case, along: Any, product: Any, **wrong: bool) -> tuple[list[Any], list[Any], Any]:
    """Return every layer's states and tangents, and h_n's, in the case's own dtype, sharing nothing with the oracle."""
    config, w = case.config, case.weights
    H, D = config.hidden_size, config.num_directions
    states = run_by_hand(case, product).states
    below, d_below = (a.swapaxes(0, 1) if config.batch_first else a for a in (case.x, along["x"]))
    found, rows = [], []
    for layer in range(config.num_layers):
        out = np.zeros_like(states[layer])
        for d in range(D):
            end = f"_l{layer}" + "_reverse" * d
            zero = np.zeros((config.N, H), below.dtype)
            h = case.hx[layer * D + d] if case.hx is not None else zero
            dh = along["hx"][layer * D + d] if config.hx else zero
            for t in range(config.T)[:: -1 if d else 1]:
                ds = product(d_below[t], w["weight_ih" + end]) + product(dh, w["weight_hh" + end])
                if "without dW" not in wrong:
                    ds = ds + product(below[t], along["weight_ih" + end])
                if "without dV" not in wrong:
                    ds = ds + product(h, along["weight_hh" + end])
                if config.bias:
                    ds = ds + along["bias_ih" + end] + along["bias_hh" + end]
                h = states[layer][t][:, d * H : (d + 1) * H]
                slope = 1 - h * h if config.nonlinearity == "tanh" else (h > 0).astype(h.dtype)
                dh = ds if "without slope" in wrong else slope * ds
                out[t][:, d * H : (d + 1) * H] = dh
            rows.append(dh)
        found.append(out)
        below, d_below = states[layer], out
    return states, found, np.stack(rows)


def expected(case: Case, along: Any, states: list[Any], observed: list[Any] | None) -> list[dict[str, Expected]]:
    setting = Setting(Reference(), case, Arithmetic(case.config.dtype))
    known = [Known(a.astype(float)) for a in states] if observed else end_to_end_states(setting)
    seen = [a.astype(float) for a in observed] if observed else None
    return expect_tangents(setting, Case.from_arrays(case.config, along), known, seen)


def outside(case: Case, along: Any, product: Any, *, local: bool, **wrong: bool) -> list[str]:
    with np.errstate(all="ignore"):
        states, found, h_n = forwards(case, along, product, **wrong)
        allowed = expected(case, along, states, found if local else None)
        pairs = [
            (f"output of {k}", a, one["output.tangent"]) for k, (a, one) in enumerate(zip(found, allowed, strict=True))
        ]
        pairs = [(n, a.swapaxes(0, 1) if case.config.batch_first else a, e) for n, a, e in pairs]
        pairs.append(("h_n", h_n, allowed[-1]["h_n.tangent"]))
        return [n for n, a, e in pairs if not ((np.abs(a - e.values) <= e.allowance) | np.isinf(e.allowance)).all()]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_reference_s_tangents_are_what_central_differences_tend_to(nonlinearity: str) -> None:
    case = draw(CASE.config.replace(nonlinearity=nonlinearity), "default", 0)
    along, reference, step = tangents(case), Reference(), U64 ** (1 / 3)

    there, back = (reference.run(moved(case, along, s)) for s in (step, -step))
    found = reference.tangents(case, along)

    for name in ("output", "h_n"):
        # The third derivative's step**2 / 6 and the rounding's u / step are about equal at u**(1/3): some thousands of
        # each.
        off = np.abs((there[name] - back[name]) / (2 * step) - found[f"{name}.tangent"])
        assert off.max() < 4000 * step**2
        assert np.abs(found[f"{name}.tangent"]).max() > 0.1


@settings(max_examples=40)
@given(case=cases(**SMALL, dtypes=["float64"], regimes=["default", "normal", "sparse"]))
def test_the_reference_is_within_the_running_allowance_of_the_expectation(case: Case) -> None:
    along = tangents(case)
    found = Reference().tangents(case, along)

    for name, one in expected(case, along, [], None)[-1].items():
        assert (np.abs(found[name] - one.values) <= one.allowance).all(), name


@pytest.mark.parametrize("order", list(PRODUCTS))
@settings(max_examples=25)
@given(case=cases(**SMALL, dtypes=["float32"]))
def test_float32_in_any_order_stays_within_both(order: str, case: Case) -> None:
    along = tangents(case)

    assert not outside(case, along, PRODUCTS[order], local=True)
    assert not outside(case, along, PRODUCTS[order], local=False)


@settings(max_examples=25)
@given(case=cases(**SMALL, dtypes=["bfloat16", "float16"]))
def test_sixteen_bits_whose_every_operation_rounds_stay_within_both(case: Case) -> None:
    along = tangents(case)

    assert not outside(case, along, PRODUCTS["forwards"], local=True)
    assert not outside(case, along, PRODUCTS["forwards"], local=False)


@pytest.mark.parametrize("wrong", ["without dW", "without dV", "without slope"])
@pytest.mark.parametrize("local", [True, False])
def test_what_is_left_out_leaves_them(wrong: str, local: bool) -> None:
    assert outside(CASE, tangents(CASE), PRODUCTS["forwards"], local=local, **{wrong: True})


def test_tangents_are_drawn_by_the_case_s_id_and_finite_in_every_regime() -> None:
    wild = draw(RNNConfig(3, 4, T=2, N=2, dtype="float16", loss="both", output_size=2), "special", 1)
    along = tangents(wild)

    assert list(along) == [*wild.config.inputs, *wild.config.weights]
    assert all(np.isfinite(a).all() and a.dtype == np.float16 for a in along.values())
    assert all(np.array_equal(a, again) for a, again in zip(along.values(), tangents(wild).values(), strict=True))
    assert not np.array_equal(along["x"], tangents(draw(wild.config, "special", 2))["x"])
