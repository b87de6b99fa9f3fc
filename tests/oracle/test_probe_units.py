"""Tests of probes: the given network is unchanged inside the wider one, and its carriers show what it holds."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from harness import Case, RNNConfig, cases, draw
from harness.oracle import probe_units
from harness.oracle.arithmetic_assumptions import AcceptedErrors, Arithmetic
from harness.oracle.element_equation import ElementEquation
from harness.oracle.expectation import end_to_end_states, expect_end_to_end
from harness.oracle.expected import ExpectedArray
from harness.oracle.gradient_expectation import expect_gradients
from harness.oracle.setting import REFERENCE, Setting
from harness.space.config import PREACTIVATION
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.subjects.torch_class_facts import TORCH
from tests.oracle.by_hand import PRODUCTS, Run, run_by_hand

pytestmark = pytest.mark.kernels

SMALL: dict[str, Any] = {
    "T": [1, 2, 4],
    "N": [1, 3],
    "input_size": [1, 4],
    "hidden_size": [1, 2, 3],
    "loss": ["output", "h_n", "both"],
}
FINITE = ["dyadic", "default", "normal", "spectral", "sparse"]


def setting(case: Case, arithmetic: Arithmetic | None = None) -> Setting:
    return Setting.of(case, arithmetic or Arithmetic(case.config.dtype))


def expected_of(case: Case) -> dict[str, ExpectedArray]:
    given = setting(case)
    states = end_to_end_states(given)
    return expect_end_to_end(given, states) | expect_gradients(given, states).arrays


def with_pilots(case: Case) -> Case:
    """Return a relu network as in the wider one: each layer above the first reads a pilot, which adds to its bias."""
    lifted = {
        name: array + probe_units.PILOT if name.startswith("bias_ih") and "_l0" not in name else array
        for name, array in case.weights.items()
    }
    return Case(case.config, case.x, case.hx, lifted, cotangents=case.cotangents)


@pytest.mark.parametrize(("nonlinearity", "bias"), [("tanh", True), ("tanh", False), ("relu", True)])
@settings(max_examples=30)
@given(data=st.data())
def test_the_given_network_computes_in_the_wider_one_what_it_computes_alone(
    nonlinearity: str, bias: bool, data: Any
) -> None:
    pins: dict[str, Any] = {"nonlinearity": nonlinearity, "bias": bias, "dtypes": ["float64"], "output_size": [None, 2]}
    case = data.draw(cases(**SMALL, **pins, distributions=FINITE))
    wider = probe_units.probed(case)
    alone, inside = expected_of(with_pilots(case) if nonlinearity == "relu" else case), expected_of(wider)

    for name in set(alone) & set(inside):
        part = probe_units.cut(inside[name], probe_units.selection(case.config, name))
        assert part.values.shape == alone[name].values.shape
        assert (np.abs(part.values - alone[name].values) <= alone[name].tolerance + part.tolerance).all(), name


@settings(max_examples=60)
@given(cases(**SMALL, distributions=["dyadic"], dtypes=["float64"], nonlinearity="relu", bias=True, num_layers=[1, 2]))
def test_where_nothing_rounds_it_does_so_bit_for_bit(case: Case) -> None:
    wider, lifted = probe_units.probed(case), with_pilots(case)
    alone, inside = REFERENCE.run(lifted), REFERENCE.run(wider)

    for name in set(alone) & set(inside):
        assert np.array_equal(inside[name][probe_units.selection(case.config, name)], alone[name]), name
    for layer, (state, whole) in enumerate(zip(REFERENCE.states(lifted), REFERENCE.states(wider), strict=True)):
        assert np.array_equal(whole[probe_units.selection(case.config, PREACTIVATION, layer)], state)


def shown(case: Case, run: Run, arithmetic: Arithmetic | None = None) -> probe_units.ProbedStates:
    """Return what a run by hand of the probed case shows."""
    seen = probe_units.witness(setting(case, arithmetic), run.arrays)
    assert seen is not None
    return seen


ARITHMETICS: list[tuple[str, str | None]] = [
    ("float32", None),
    ("float64", None),
    ("bfloat16", None),
    ("float16", None),
    ("bfloat16", "float32"),
    ("float16", "float32"),
]


@pytest.mark.parametrize(("dtype", "work"), ARITHMETICS)
@pytest.mark.parametrize("order", ["forwards", "in pairs"])
@settings(max_examples=15)
@given(data=st.data())
def test_relu_carries_every_state_and_da_bit_for_bit(order: str, dtype: str, work: str | None, data: Any) -> None:
    case = data.draw(cases(**SMALL, distributions=FINITE, dtypes=[dtype], nonlinearity="relu"))
    run = run_by_hand(probe_units.probed(case), PRODUCTS[order], work=work, stored=work is not None)

    seen = shown(case, run)

    for layer, da in enumerate(run.da):
        assert seen.states[layer].error is None
        assert np.array_equal(seen.states[layer].values, run.states[layer].astype(float))
        chosen = probe_units.selection(case.config, PREACTIVATION, layer)
        assert np.array_equal(seen.preactivation_gradients[layer][chosen], da.astype(float)[chosen])


@pytest.mark.parametrize(("dtype", "work"), ARITHMETICS)
@pytest.mark.parametrize("order", ["forwards", "in pairs"])
@settings(max_examples=15)
@given(data=st.data())
def test_tanh_carries_every_da_bit_for_bit_and_every_state_to_within_what_is_stated(
    order: str, dtype: str, work: str | None, data: Any
) -> None:
    case = data.draw(cases(**SMALL, distributions=FINITE, dtypes=[dtype], nonlinearity="tanh"))
    run = run_by_hand(probe_units.probed(case), PRODUCTS[order], work=work, stored=work is not None)
    arithmetic = Arithmetic(dtype, TORCH["cpu"] if work else LEAST_ASSUMED)

    seen = shown(case, run, arithmetic)

    for layer, state in enumerate(run.states):
        output, error = seen.states[layer]
        off = np.abs(output - state.astype(float))
        assert (off <= (0 if error is None else error)).all()
        chosen = probe_units.selection(case.config, PREACTIVATION, layer)
        assert np.array_equal(seen.preactivation_gradients[layer][chosen], run.da[layer].astype(float)[chosen])
    assert seen.states[-1].error is None


@pytest.mark.parametrize("layers", [2, 3])
def test_a_tanh_that_is_off_by_one_in_its_last_place_at_every_carrier_is_within_what_is_stated(layers: int) -> None:
    case = draw(RNNConfig(2, 3, layers, T=3, N=2, loss="output"), "normal", 0)
    run = run_by_hand(probe_units.probed(case))
    carried = run.arrays["output"][..., : 3 * (layers - 1)]  # all but the given top layer
    for layer in range(layers - 1):
        block = carried[..., 3 * layer : 3 * layer + 3]
        for _ in range(layers - 1 - layer):
            block[...] = np.nextafter(block, np.float32(0))

    seen = shown(case, run)

    for layer in range(layers - 1):
        chosen = probe_units.selection(case.config, PREACTIVATION, layer)
        output, error = seen.states[layer]
        assert error is not None
        off = np.abs(output - run.states[layer].astype(float))[chosen]
        assert (off <= error[chosen]).all()
        assert (off > error[chosen] / 4).any()


@settings(max_examples=40)
@given(cases(**SMALL, distributions=FINITE, num_layers=[2, 3], dtypes=["float32"]))
def test_the_carriers_own_da_is_shown_too(case: Case) -> None:
    run = run_by_hand(probe_units.probed(case))
    H, L = case.config.hidden_size, case.config.num_layers

    seen = shown(case, run)

    for layer, da in enumerate(run.da):
        for d in range(case.config.num_directions):
            down = slice((d * L + layer) * H, (d + 1) * L * H)  # the given layer and its carrier downwards
            assert np.array_equal(seen.preactivation_gradients[layer][..., down], da[..., down].astype(float))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("loss", ["output", "h_n", "both"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_is_carried_down_through_torch_is_da_as_its_autograd_has_it(
    nonlinearity: str, loss: str, bidirectional: bool
) -> None:
    config = RNNConfig(3, 4, 1, nonlinearity, T=5, N=2, hx=True, bidirectional=bidirectional, loss=loss)
    case = draw(config, "normal", 0)
    wider = probe_units.probed(case)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in wider.arrays.items()}
    leaves = {n: tensors[n].requires_grad_() for n in (g.removesuffix(".grad") for g in wider.config.gradients)}
    x = leaves["x"]
    sums, outputs, finals = [], [], []
    for d in range(config.num_directions):  # nn.RNN's own operations, one after the other
        W, V, b, c = (
            tensors[f"{role}_l0" + "_reverse" * d] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, rows, states = tensors["hx"][d], torch.nn.functional.linear(x, W, b), {}
        for t in reversed(range(5)) if d else range(5):
            s = torch.nn.functional.linear(h, V, c) + rows[t]
            s.retain_grad()
            h = torch.tanh(s) if nonlinearity == "tanh" else torch.relu(s)
            sums.append((t, d, s))
            states[t] = h
        outputs.append(torch.stack([states[t] for t in range(5)]))
        finals.append(h)
    returned = {"output": torch.cat(outputs, 2), "h_n": torch.stack(finals)}
    names = list(wider.cotangents)
    torch.autograd.backward([returned[n.removesuffix(".grad")] for n in names], [tensors[n] for n in names])
    tensors_of: dict[str, Any] = {**returned, **{f"{n}.grad": t.grad for n, t in leaves.items()}}

    seen = probe_units.witness(setting(case), {name: t.detach().numpy() for name, t in tensors_of.items()})

    assert seen is not None
    for t, d, s in sums:
        assert s.grad is not None
        # This holds for any kernel: it multiplies by a single 1 and adds zeros, which rounds nothing.
        assert np.array_equal(seen.preactivation_gradients[0][t][:, 4 * d : 4 * d + 4], s.grad.numpy().astype(float))


@settings(max_examples=60)
@given(cases(**SMALL, distributions=["normal"], output_size=[None, 2], hx=[False, True]))
def test_a_selection_finds_again_what_was_put_there(case: Case) -> None:
    wider = probe_units.probed(case)

    for name, array in case.arrays.items():
        if not name.startswith("readout"):
            assert np.array_equal(wider.arrays[name][probe_units.selection(case.config, name)], array), name


@settings(max_examples=60)
@given(cases(**SMALL, distributions=["normal"], num_layers=[1, 2, 3]))
def test_all_else_is_a_matrix_of_units_or_nothing(case: Case) -> None:
    wider = probe_units.probed(case)
    allowed = {0.0, 1.0, probe_units.PROBE_SCALE[case.config.dtype], probe_units.PILOT}

    for name, array in wider.arrays.items():
        rest = array.astype(float).copy()
        rest[probe_units.selection(case.config, name)] = 0
        assert set(rest.ravel()) <= allowed
        if name.startswith("weight_ih"):
            assert ((rest != 0).sum(1) <= 1).all()
            assert ((rest != 0).sum(0) <= 1).all()
        elif name != "x":
            assert not rest.any()


@settings(max_examples=60)
@given(cases(**SMALL, distributions=["normal"], batch_first=[False, True]))
def test_what_is_cut_stands_where_its_equation_does(case: Case) -> None:
    wider = probe_units.probed(case)
    for name, spec in wider.config.returned.items():
        values = np.arange(spec.size, dtype=float).reshape(spec.shape)

        def equation(index: Any, values: Any = values) -> ElementEquation:
            return ElementEquation(np.array([values[index]]), np.ones(1))

        part = probe_units.cut(
            ExpectedArray(values, -values, 2 * values, equation), probe_units.selection(case.config, name)
        )

        assert part.values.shape == case.config.returned[name].shape
        assert part.equation is not None
        assert part.floor is not None
        assert np.array_equal(part.tolerance, -part.values)
        assert np.array_equal(part.floor, 2 * part.values)
        for index in np.ndindex(*part.values.shape):
            assert part.equation(index).a[0] == part.values[index]


@pytest.mark.parametrize("name", ["output", "x.grad"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_what_shows_the_inside_is_not_finite_nothing_is_said(name: str, value: float) -> None:
    case = draw(RNNConfig(2, 3, 2, T=2, loss="both"), "normal", 0)
    arrays = {n: array.copy() for n, array in run_by_hand(probe_units.probed(case)).arrays.items()}
    assert probe_units.witness(setting(case), arrays) is not None

    arrays[name].flat[1] = value

    assert probe_units.witness(setting(case), arrays) is None


@pytest.mark.parametrize("dtype", list(probe_units.PROBE_SCALE))
def test_the_scale_costs_less_than_tanh_itself(dtype: str) -> None:
    a = probe_units.PROBE_SCALE[dtype]  # tanh(a) is a - a**3/3 + ...

    assert a**2 / 3 <= Arithmetic(dtype).format.u / 2**0.5
    assert float(np.asarray(a).astype(dtype)) == a


@pytest.mark.parametrize("hops", [1, 4])
def test_what_tanh_may_be_off_absolutely_is_paid_for_at_every_hop(hops: int) -> None:
    within = Arithmetic("float64", accepted=AcceptedErrors(tanh_atol=1e-12))
    state, scale = np.array([1e-3, 0.5, 1.0]), probe_units.PROBE_SCALE["float64"]

    carried = state * scale
    for _ in range(hops):
        carried = np.tanh(carried) + 1e-12

    off = np.abs(carried / scale - state)
    assert (off <= probe_units._carried_error(state, hops, scale, within)).all()
    assert (off > probe_units._carried_error(state, hops, scale, Arithmetic("float64"))).all()
