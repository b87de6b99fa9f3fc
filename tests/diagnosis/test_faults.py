"""Tests of the catalogue: every fault is different, shows where it says, combines with others, and is recognisable."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks.planted import PlantedSubject
from harness import Case, draw
from harness.checks.agreement import assess, observe
from harness.checks.result import Verdict
from harness.diagnosis.faults import CATALOGUE, Fault, named
from harness.diagnosis.fresh import stilled, zeroed
from harness.diagnosis.pairs import pair_of
from harness.diagnosis.parts import in_outputs
from harness.oracle.reference import Reference
from harness.space.case import Array
from harness.space.config import RNNConfig
from harness.space.parts import LOSSES

GENERIC = (
    RNNConfig(9, 10, 2, bidirectional=True, T=4, N=9, hx=True, loss="both"),
    RNNConfig(3, 3, 3, T=3, N=3, hx=True, batch_first=True, loss="both", output_size=2),
    RNNConfig(3, 3, 2, "relu", bidirectional=True, T=5, N=2, hx=True, loss="both", output_size=2),
    RNNConfig(4, 2, 2, bidirectional=True, T=4, N=3, hx=True, lengths=(2, 1, 4), loss="both"),
    RNNConfig(2, 3, 3, "relu", T=4, N=3, hx=True, dropout=0.25, training=True, loss="both"),
    RNNConfig(2, 3, 2, T=4, N=3, hx=True, batch_first=True, bidirectional=True, loss="both", output_size=1),
)
REGIMES = ("normal", "default", "saturated")

# Faults of the forward pass whose gradients are not those of what they compute, with the gradients they have.
OTHERWISE_BACK = {
    "ActivatesOutput": "its output is given nothing of the slope",
    "CarriesStateToNextSequence": "in a packed batch, what a sequence starts from is given nothing",
    "DelaysOutput": "hx is given nothing of the output that starts with it",
    "ReverseStartsInPadding": "what is computed in padding is given nothing",
    "SkipsZeroX": "a step that is skipped is given what any other is",
    "SkipsZeroXAndOutput": "a step that is skipped is given what any other is",
    "UpdatesInPlace": "it goes back as if the whole state were replaced at once",
}

ONES: dict[str, Any] = {"weight_ih_l0": [[1]], "weight_hh_l0": [[1]], "bias_ih_l0": [1], "bias_hh_l0": [1]}

each_fault = pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name)


def masked(case: Case) -> Case:
    """Return the plain case, with masks if dropout draws them."""
    subject = PlantedSubject(CATALOGUE[0])
    return replace(case.plain(), masks=dict(enumerate(subject.masks(case))) if case.config.drops else {})


def generic(dtype: str = "float64") -> Iterator[Case]:
    for seed, (config, regime) in enumerate(itertools.product(GENERIC, REGIMES)):
        yield masked(draw(config.replace(dtype=dtype), regime, seed))
    yield from (masked(zeroed(GENERIC[0].replace(dtype=dtype), seed)) for seed in range(2))
    x = np.full((2, 1, 1), np.nan)  # relu must keep this NaN
    yield Case.of(RNNConfig(1, 1, nonlinearity="relu", dtype=dtype, T=2), x, **ONES)
    x = np.zeros((2, 4, 3))
    x[:, 0, 2] = x[:, 2, 0] = np.inf  # the last feature of one sequence, and the first of another
    ones: dict[str, Any] = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))}
    yield Case.of(RNNConfig(3, 2, nonlinearity="relu", bias=False, dtype=dtype, T=2, N=4), x, **ones)
    yield Case.of(RNNConfig(1, 1, nonlinearity="relu", dtype=dtype, T=2), np.full((2, 1, 1), -np.inf), **ONES)
    at_zero = RNNConfig(1, 1, nonlinearity="relu", dtype=dtype, T=1, loss="output")
    zero: dict[str, Any] = {"bias_ih_l0": [0], "bias_hh_l0": [0]}
    yield Case.of(at_zero, [[[0]]], weight_ih_l0=[[1]], weight_hh_l0=[[1]], output_grad=[[[1]]], **zero)


def bits(fault: Fault | Reference, case: Case) -> tuple[bytes, ...]:
    with np.errstate(all="ignore"):
        return tuple(np.round(array, 9).tobytes() for array in fault.run(case).values())


@pytest.fixture(scope="module")
def everything() -> dict[str, list[tuple[bytes, ...]]]:
    """Return the results of each fault, and of the reference, on the generic cases."""
    cases = list(generic())
    faults: dict[str, Fault | Reference] = {"": Reference(), **{fault.name: fault for fault in CATALOGUE}}
    return {name: [bits(fault, case) for case in cases] for name, fault in faults.items()}


@each_fault
def test_a_fault_shows_on_each_of_its_smallest_cases(fault: Fault) -> None:
    assert fault.smallest
    for config in fault.smallest[:6]:
        cases = [masked(draw(config, regime, seed)) for regime in (*REGIMES, "special", "sparse") for seed in range(24)]
        assert any(bits(fault, case) != bits(Reference(), case) for case in cases), config


@pytest.mark.long
def test_every_two_faults_differ_somewhere(everything: dict[str, list[tuple[bytes, ...]]]) -> None:
    alike = [pair for pair in itertools.combinations(everything, 2) if everything[pair[0]] == everything[pair[1]]]

    assert alike == []


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (("ForgetsState", "LeavesOutLastStates"), RNNConfig(3, 7, 2, T=3, N=2, hx=True)),
        (("LeavesOutLastUnits", "LeavesOutLastSequences"), RNNConfig(3, 7, 2, T=3, N=7)),
        (("ReadsHxAtEveryStep", "ForgetsState"), RNNConfig(3, 4, T=3, N=2)),
        (("LeavesOutFirstStep", "LeavesOutLastStep"), RNNConfig(3, 4, T=1, N=2)),
        (("IgnoresHx", "UpperLayersIgnoreHx"), RNNConfig(1, 1)),
        (("NoNonlinearity", "NoNonlinearityInLastLayer"), RNNConfig(3, 4, T=3, N=2)),
        (("ComputesFirstSequenceOnly", "LeavesOutLastSequences"), RNNConfig(3, 4, T=3, N=0)),
    ],
)
def test_some_faults_look_alike_where_a_size_or_a_factor_is_plain(names: tuple[str, str], config: RNNConfig) -> None:
    one, other = map(named, names)
    case = draw(config, "normal")

    assert bits(one, case) == bits(other, case)


def test_every_fault_has_a_sentence_of_its_own() -> None:
    config = RNNConfig(130, 130, 2, "relu", T=130, N=130, loss="both")
    fitted = [one for fault in CATALOGUE for one in (fault.fitted(config) or [fault])]
    sentences = [fault.sentence for fault in fitted]

    assert len(set(sentences)) == len(sentences)
    for fault in fitted:
        assert fault.sentence[0].islower()
        assert "\n" not in fault.sentence
        if fault.k is not None:
            assert f"{fault.k:g}" in fault.sentence or fault.k == 1


@each_fault
def test_a_fault_is_of_a_family_and_has_few_values(fault: Fault) -> None:
    assert fault.family
    for config in (RNNConfig(1, 1), RNNConfig(129, 129, 3, "relu", T=129, N=129)):
        values = [one.k for one in fault.fitted(config)]
        assert len(values) <= 12
        assert len(set(values)) == len(values)
    if fault.k is not None:
        assert any(fault.k in [one.k for one in fault.fitted(config)] for config in fault.smallest)


@each_fault
@pytest.mark.parametrize("order", [1, -1])
def test_a_fault_adds_up_with_another(fault: Fault, order: int) -> None:
    # To some it does not matter what x is, or when it is read.
    other = named("IgnoresBiasIH" if fault.name in {"ReadsXLate", "ForgetsInput"} else "ReadsXLate")
    both = pair_of(*(fault, other)[::order])
    cases = list(generic())

    for one in (fault, other):
        assert any(bits(both, case) != bits(one, case) for case in cases)


def test_two_parameters_stand_side_by_side() -> None:
    one, other = named("StopsBackpropagation", 1), named("ResetsState", 3)
    case = draw(RNNConfig(2, 3, T=7, N=2, loss="output"), "normal", 1)

    both, planted = pair_of(one, other), pair_of(named("StopsBackpropagation"), named("ResetsState"))

    assert both.sentence == f"{one.sentence}; and {other.sentence}"
    assert bits(both, case) != bits(planted, case)
    assert both.run(case)["output"].tobytes() == other.run(case)["output"].tobytes()


@cache
def edges_and_others() -> list[tuple[Case, dict[str, Any]]]:
    """Return cases with what the reference gives on each."""
    edges = [
        draw(RNNConfig(1, 1, 2, nonlinearity, bidirectional=True, T=1, N=N, hx=hx, loss="both", output_size=1))
        for nonlinearity in ("tanh", "relu")
        for N in (0, 1)
        for hx in (False, True)
    ]
    edges.append(draw(RNNConfig(2, 3, 2, T=2, N=2, bias=False, loss="both", dtype="bfloat16")))
    with np.errstate(all="ignore"):
        return [(case, Reference().run(case)) for case in [*generic(), *edges]]


@each_fault
def test_a_fault_gives_the_same_bits_again_in_the_shapes_of_the_reference(fault: Fault) -> None:
    with np.errstate(all="ignore"):
        for case, right in edges_and_others():
            first, again = fault.run(case), fault.run(case)
            assert {name: a.shape for name, a in first.items()} == {name: a.shape for name, a in right.items()}
            assert all(a.tobytes() == again[name].tobytes() for name, a in first.items())
            if case.config.lengths is not None:
                assert not first["output"][2:, 0].any()


@pytest.mark.parametrize(
    "fault",
    [
        f
        for f in CATALOGUE
        if f.family not in {"gradients", "rounding"} and not f.name.endswith(("MaskBack", "ScaleBack", "OfXTimeFirst"))
    ],
    ids=lambda fault: fault.name,
)
def test_what_is_wrong_there_is_wrong_back_in_the_same_way(fault: Fault) -> None:
    rng = np.random.default_rng(0)
    off = []
    for seed, config in enumerate(GENERIC):
        case = masked(draw(config.replace(dtype="float64"), "default", seed))
        along = {name: rng.standard_normal(array.shape) for name, array in case.arrays.items()}
        found = fault.run(case)
        expected = sum(float((found[name] * along[name.removesuffix(".grad")]).sum()) for name in config.gradients)
        step = 1e-6
        ends = [loss(fault, moved(case, along, sign * step)) for sign in (1, -1)]
        off.append(abs((ends[0] - ends[1]) / (2 * step) - expected) > 1e-6 * (1 + abs(expected)))

    assert any(off) == (fault.name in OTHERWISE_BACK)


def loss(fault: Fault, case: Case) -> float:
    outputs = fault.run(case)
    return sum(float((outputs[name.removesuffix(".grad")] * g).sum()) for name, g in case.cotangents.items())


def moved(case: Case, along: dict[str, Array], by: float) -> Case:
    arrays: dict[str, Any] = {
        name: array if name in case.cotangents else array + by * along[name] for name, array in case.arrays.items()
    }
    return replace(Case.from_arrays(case.config, arrays), masks=case.masks)


@pytest.mark.parametrize("returned", [True, False])
def test_what_is_wrong_in_some_outputs_is_wrong_back_in_the_same_way(returned: bool) -> None:
    part = in_outputs(named("ReturnsForwardTwice"), "", returned=returned)
    config = RNNConfig(2, 3, 3, bidirectional=True, T=3, N=2, hx=True, loss="both", dtype="float64")
    case = draw(config, "default", 1)
    found, right = part.run(case), Reference().run(case)

    for name in ("x", "hx", "weight_ih_l0", "weight_hh_l2"):
        along = {other: np.full(array.shape, float(other == name)) for other, array in case.arrays.items()}
        ends = [loss(part, moved(case, along, sign * 1e-6)) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(found[f"{name}.grad"].sum()), rel=1e-5, abs=1e-7)
        assert not np.allclose(found[f"{name}.grad"], right[f"{name}.grad"])


@pytest.mark.parametrize("fault", [f for f in CATALOGUE if f.stepwise], ids=lambda fault: fault.name)
def test_a_fault_that_can_be_told_step_by_step_agrees_with_itself(fault: Fault) -> None:
    back = any(config.loss for config in fault.smallest)
    subject = PlantedSubject(fault)

    for seed, config in enumerate(GENERIC):
        case = draw(config, "normal", seed)
        observation = observe(subject, case if back else case.forward(), with_probes=False)
        with np.errstate(all="ignore"):
            result = assess(observation, fault.reference, soft=False)
        assert result.verdict is Verdict.AGREES, (config, result)


@pytest.mark.parametrize(
    "fault",
    [
        f
        for f in CATALOGUE
        if f.stepwise and "slopes" in f.changes and f.family in {"gradients", "nonlinearity", "size"}
    ],
    ids=lambda fault: fault.name,
)
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_another_slope_can_be_told_step_by_step_where_some_preactivations_are_zero(
    fault: Fault, nonlinearity: str
) -> None:
    subject = PlantedSubject(fault)
    subject.capabilities = replace(subject.capabilities, offers={**subject.capabilities.offers, "loss": LOSSES})
    for seed in range(3):
        case = stilled(RNNConfig(3, 4, 2, nonlinearity, T=3, N=2, hx=True, loss="both"), seed)
        observation = observe(subject, case, with_probes=False)
        with np.errstate(all="ignore"):
            assert assess(observation, fault.reference, soft=False).verdict is Verdict.AGREES


@each_fault
def test_many_time_steps_at_once_are_the_same_as_one_after_the_other(fault: Fault) -> None:
    case = draw(RNNConfig(5, 3, T=4, N=3, hx=True), "special", 5)
    reference = fault.reference
    w, x = reference.step_weights(case, 0, 0), case.x.astype(np.float64)
    h = np.stack([reference.initial_state(case, 0, 0)] * 4)

    with np.errstate(all="ignore"):
        together = reference.preactivation(x, h, w)
        alone = [reference.preactivation(*rows, w) for rows in zip(x, h, strict=True)]

    np.testing.assert_array_equal(together, np.stack(alone))
