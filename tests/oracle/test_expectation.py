"""expectation: local and end-to-end say the same of the reference's own states, and each knows its limits."""

import numpy as np
from hypothesis import given

from harness import Case, RNNConfig, cases, draw
from harness.oracle.expectation import Expected, expect_end_to_end, expect_local, single_step_states
from harness.oracle.reference import Floats, Reference

REFERENCE = Reference()


def own_states(case: Case) -> list[Floats]:
    return [REFERENCE.run(case.prefix(layers))["output"] for layers in range(1, case.config.num_layers + 1)]


def within(expected: Expected, array: Floats) -> bool:
    with np.errstate(invalid="ignore"):  # inf - inf
        return bool((~(np.abs(array - expected.values) > expected.allowance)).all())


@given(cases(output_size=[None, 3], T=[1, 2, 5], N=[1, 2]))
def test_the_reference_agrees_with_itself_both_ways(case: Case) -> None:
    with np.errstate(all="ignore"):
        run = REFERENCE.run(case)
        local = expect_local(REFERENCE, case, own_states(case)).arrays
    whole = expect_end_to_end(REFERENCE, case)

    assert run.keys() == local.keys() == whole.keys()
    for name, array in run.items():
        assert array.shape == local[name].values.shape == case.config.outputs[name].shape
        assert within(local[name], array)
        assert within(whole[name], array)


@given(cases(output_size=[None, 3], T=[1, 2, 5], N=[1, 2], regimes=["dyadic", "default", "normal"], dtypes=["float32"]))
def test_every_layer_below_the_top_is_expected_too(case: Case) -> None:
    states = own_states(case)

    inner = expect_local(REFERENCE, case, states).inner

    assert len(inner) == case.config.num_layers - 1
    assert all(within(expected, state) for expected, state in zip(inner, states, strict=False))


def test_only_the_step_that_is_off_departs_locally() -> None:
    case = draw(RNNConfig(2, 3, T=6, N=1), "normal", 1)
    states = own_states(case)
    bent = states[0].copy()
    bent[3:] += 1e-3  # a subject that goes wrong at t=3 and carries it on

    expected = expect_local(REFERENCE, case, [bent]).arrays["output"]

    departs = np.asarray(np.abs(bent - expected.values) > expected.allowance).reshape(6, -1).max(axis=1)
    assert departs[3]
    assert not departs[:3].any()


def test_end_to_end_grows_with_time_where_local_does_not() -> None:
    case = draw(RNNConfig(4, 16, T=25, N=1), "normal", 1)

    local = expect_local(REFERENCE, case, own_states(case)).arrays["output"].allowance.max(axis=(1, 2))
    whole = expect_end_to_end(REFERENCE, case)["output"].allowance.max(axis=(1, 2))

    assert local[-1] < 1e-4
    assert whole[-1] > 1e3 * local[-1]
    assert (whole >= local - 1e-12).all()


def test_a_readout_inherits_the_error_of_the_states_it_reads() -> None:
    case = draw(RNNConfig(4, 16, T=25, N=1, output_size=3), "normal", 1)

    whole = expect_end_to_end(REFERENCE, case)

    weight = np.abs(case.weights["readout.weight"].astype(float))
    assert (whole["readout"].allowance >= whole["output"].allowance @ weight.T).all()


@given(cases(T=1, N=[1, 2], num_layers=[2, 3], regimes=["normal"]))
def test_a_single_step_s_h_n_holds_the_output_of_every_layer(case: Case) -> None:
    states = single_step_states(REFERENCE, case, REFERENCE.run(case)["h_n"])

    assert all(np.array_equal(a, b) for a, b in zip(states, own_states(case), strict=True))


def test_what_a_fault_overrides_reaches_both_ways() -> None:
    class Halved(Reference):
        def activation(self, s: Floats, nonlinearity: str) -> Floats:
            return super().activation(s, nonlinearity) / 2

    case = draw(RNNConfig(2, 3, T=3, N=2, dtype="float64"), "normal", 1)

    assert np.array_equal(expect_end_to_end(Halved(), case)["output"].values, Halved().run(case)["output"])
    local = expect_local(Halved(), case, [Halved().run(case)["output"]]).arrays["output"]
    assert within(local, Halved().run(case)["output"])
    assert not within(local, REFERENCE.run(case)["output"])
