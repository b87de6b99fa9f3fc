"""Tests of recognition: further failures of a known cause are told apart from those of another cause."""

from typing import Any

import numpy as np
import pytest

from benchmarks.layers import first_torch
from benchmarks.layers.torch_base import ByHand
from benchmarks.planted import PlantedSubject
from harness import Case, RNNConfig, as_subject, draw
from harness.checks.agreement import assess, observe
from harness.checks.result import Result, Verdict
from harness.diagnosis.again import ByCause
from harness.diagnosis.factors import Factors, Size
from harness.diagnosis.faults import Fault, named
from harness.diagnosis.investigate import Investigation
from harness.diagnosis.likeness import Seen
from harness.diagnosis.pairs import pair_of
from harness.oracle.compare import Sort
from harness.search.record import Finding
from tests import implementations
from tests.diagnosis.halved_back import halved_back
from tests.searches import explained

WITHOUT_B_HH, AVERAGES, SORTED = map(named, ("IgnoresBiasHH", "AveragesOverTime", "LeavesHnSorted"))
RESETS_AT_32 = named("ResetsState", 32)
KNOWN = ByCause("3f9c2a11", (WITHOUT_B_HH,), Factors({"bias": True}), forwards=True)
CASE = draw(RNNConfig(3, 4, T=4, N=2, bidirectional=True), "normal", 1)


def excused(subject: Any, known: ByCause = KNOWN, case: Any = CASE) -> bool:
    observation = observe(subject, case, with_probes=False)
    result = assess(observation)
    assert result.verdict is Verdict.DISAGREES
    return known.excuses(observation, result)


def test_the_same_mistake_is_known_again_and_another_is_not() -> None:
    def both(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        lost = {name: array * (0 if "bias_hh" in name else 1) for name, array in weights.items()}
        return implementations.reverse_first(x, h0, lost, config)

    assert excused(as_subject(implementations.without_b_hh))
    assert not excused(as_subject(implementations.reverse_first))
    assert not excused(as_subject(both))


def test_a_mistake_that_cannot_be_told_step_by_step_is_known_where_it_is_made() -> None:
    rising, falling = (draw(RNNConfig(3, 4, T=4, N=2, lengths=both), "normal", 1) for both in ((2, 4), (4, 2)))
    known = ByCause("3f9c2a11", (SORTED,), Factors(), forwards=True)

    assert not SORTED.stepwise
    assert excused(PlantedSubject(SORTED), known, rising)
    assert not excused(PlantedSubject(WITHOUT_B_HH), known, falling)


@pytest.mark.parametrize("regime", ["normal", "saturated"])
@pytest.mark.parametrize(("nonlinearity", "input_size"), [("tanh", 1), ("relu", 1), ("tanh", 257)])
def test_a_gradient_that_autograd_lacks_is_of_the_mistake_that_cuts_it_off(
    nonlinearity: str, input_size: int, regime: str
) -> None:
    config = RNNConfig(input_size, 1, nonlinearity=nonlinearity, T=33, N=2, hx=True, loss="h_n", wrt="inputs")
    known, other = (ByCause("3f9c2a11", (fault,), Factors(), forwards=True) for fault in (RESETS_AT_32, WITHOUT_B_HH))
    chunks, case = as_subject(first_torch.Chunks), draw(config, regime, 1)

    assert assess(observe(chunks, case, with_probes=False)).kind == "hx.grad: missing"
    assert excused(chunks, known, case)
    assert not excused(chunks, other, case)


def test_a_mistake_made_forwards_that_shows_backwards_alone_is_known_again() -> None:
    config = RNNConfig(2, 3, T=33, N=2, loss="h_n")
    given = draw(config, "normal", 1)
    forgetful = {**given.arrays, "weight_hh_l0": np.zeros((3, 3), np.float32)}
    case = Case.from_arrays(config, forgetful)
    known, other = (ByCause("3f9c2a11", (fault,), Factors(), forwards=True) for fault in (RESETS_AT_32, WITHOUT_B_HH))
    chunks = PlantedSubject(RESETS_AT_32)

    assert assess(observe(chunks, case, with_probes=False)).kind == "weight_hh.grad: value"
    assert excused(chunks, known, case)
    assert not excused(chunks, other, case)


class HalvesBack(first_torch.StartsFromBelow):
    def initial(self, layer: int, d: int, hx: Any, finals: Any) -> Any:
        return halved_back(super().initial(layer, d, hx, finals))


@pytest.mark.parametrize(("layer", "known"), [(first_torch.StartsFromBelow, True), (HalvesBack, False)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_derivative_of_a_mistake_is_of_the_mistake_and_another_gradient_is_not(
    layer: Any, known: bool, dtype: str
) -> None:
    given = draw(RNNConfig(2, 3, num_layers=2, T=3, N=2, dtype=dtype, loss="both"), "normal", 1)
    silent = {
        name: array * 0 if name == "x" or name.startswith("bias") else array for name, array in given.arrays.items()
    }
    case = Case.from_arrays(given.config, silent)
    mistake, other = (
        ByCause("3f9c2a11", (fault,), Factors(), forwards=True)
        for fault in (named("StartsFromLayerBelow"), WITHOUT_B_HH)
    )

    assert assess(observe(as_subject(layer), case, with_probes=False)).kind.endswith(".grad: value")
    assert excused(as_subject(layer), mistake, case) is known
    assert not excused(as_subject(layer), other, case)


class ReadsX(ByHand):
    def stack(self, steps: list[Any], hx: Any) -> Any:
        self.x = steps
        return super().stack(steps, hx)

    def between(self, layer: int, steps: list[Any]) -> list[Any]:
        return self.x if layer + 1 < self.num_layers else steps


class SharesWeightHH(ByHand):
    def step(self, layer: int, d: int, i: int, x_t: Any, h: Any) -> Any:
        weights = {name: getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "bias_ih", "bias_hh")}
        summed = x_t @ weights["weight_ih"].T + weights["bias_ih"] + h @ self.weight_hh_l0.T + weights["bias_hh"]
        return self.act(summed)


@pytest.mark.parametrize(
    ("layer", "config", "cause"),
    [
        (ReadsX, RNNConfig(2, 2, num_layers=2, T=1, loss="output"), "EveryLayerReadsX"),
        (SharesWeightHH, RNNConfig(1, 1, num_layers=2, T=1, loss="output"), "SharesWeightHHOfFirstLayer"),
    ],
    ids=["equal sizes", "one step"],
)
def test_a_gradient_is_cut_off_at_one_step_and_at_equal_sizes_too(layer: Any, config: RNNConfig, cause: str) -> None:
    given = draw(config, "normal", 1)
    case = Case.from_arrays(config, {name: array * (name == "output.grad") for name, array in given.arrays.items()})
    known = ByCause("3f9c2a11", (named(cause),), Factors(), forwards=True)

    assert assess(observe(as_subject(layer), case, with_probes=False)).kind.endswith(".grad: missing")
    assert excused(as_subject(layer), known, case)
    assert not excused(as_subject(layer), KNOWN, case)


def test_it_is_known_there_beside_another_mistake_too() -> None:
    rising = draw(RNNConfig(3, 4, T=4, N=2, lengths=(2, 4)), "normal", 1)
    known = ByCause("3f9c2a11", (SORTED,), Factors(), forwards=True)

    assert excused(PlantedSubject(pair_of(SORTED, WITHOUT_B_HH)), known, rising)


@pytest.mark.parametrize(("made", "known"), [(WITHOUT_B_HH, True), (AVERAGES, False)])
def test_a_gradient_is_looked_at_only_where_the_way_there_is_right(made: Fault, known: bool) -> None:
    case = draw(RNNConfig(3, 4, T=4, N=2, loss="both"), "normal", 1)

    assert excused(PlantedSubject(made), KNOWN, case) is known


def test_a_gradient_that_is_wrong_where_the_mistake_changes_nothing_is_another_s() -> None:
    case = draw(RNNConfig(3, 4, T=4, N=2, bias=False, loss="both"), "normal", 1)

    assert not excused(PlantedSubject(AVERAGES), KNOWN, case)


@pytest.mark.parametrize(("hidden_size", "known"), [(4, True), (3, False)])
def test_of_infinities_it_is_enough_that_they_are_lost_where_the_mistake_shows(hidden_size: int, known: bool) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return tuple(np.nan_to_num(a) for a in implementations.without_b_hh(x, h0, weights, config))

    case = draw(RNNConfig(3, hidden_size, nonlinearity="relu"), "normal", 1)
    case = Case.from_arrays(case.config, {**case.arrays, "x": np.full_like(case.x, np.inf)})
    factors = Factors({"bias": True}, sizes={"hidden_size": Size(4, (5,), ())})
    observation = observe(as_subject(rnn), case, with_probes=False)
    result = assess(observation)
    assert result.mismatches[0].sort is Sort.FINITENESS

    assert ByCause("3f9c2a11", (WITHOUT_B_HH,), factors, forwards=True).excuses(observation, result) is known


def test_what_has_no_values_is_known_of_no_cause() -> None:
    observation = observe(as_subject(lambda x, h0: (x[..., :0], h0)), CASE, with_probes=False)
    assert observation.unfit is not None

    assert not KNOWN.excuses(observation, observation.unfit)
    assert not KNOWN.excuses(observe(as_subject(implementations.without_b_hh), CASE), Result(Verdict.BROKEN))


@pytest.mark.long
def test_a_mistake_in_the_gradient_by_x_is_known_again_though_probes_read_that() -> None:
    subject = PlantedSubject(named("ForgetsReverseToInput"))
    investigation, asked = Investigation(subject), list[Finding]()

    done = explained(investigation, subject.scope(), heard=lambda finding, _: asked.append(finding), cases=150)

    assert asked == done.findings
    assert len(asked) == 1


def test_a_mistake_that_is_known_as_a_whole_is_active_where_it_shows_in_the_last_bits_alone() -> None:
    subject = PlantedSubject(named("KeepsOutputInFloat32"))
    none: dict[str, Any] = {"weight_hh_l0": [[0]], "bias_ih_l0": [0], "bias_hh_l0": [0]}
    case = Case.of(RNNConfig(1, 1, dtype="float64", T=1), [[[15]]], weight_ih_l0=[[1]], **none)

    seen = Seen(observe(subject, case))

    assert not seen.right
    assert seen.active(named("KeepsOutputInFloat32"))


def test_gradients_of_infinities_are_compared_without_a_warning() -> None:
    case = draw(RNNConfig(2, 3, num_layers=2, T=3, N=2, loss="both", hx=True), "special", 0)

    assert not Seen(observe(as_subject("torch"), case)).differentiates(named("TransposesWeightHH"), "x.grad")
