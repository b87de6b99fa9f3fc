"""Tests of the relations: correct subjects keep them all; each alone shows some mistake."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from harness import Case, Failure, Outcome, RNNConfig, Scope, Verdict, as_subject, cases, draw
from harness.checks.agreement import check_agreement
from harness.checks.relation_check import check_relation, check_relations, relations_for, relations_of
from harness.checks.relations import RELATIONS
from harness.checks.result import ComparisonMethod
from harness.oracle.arithmetic_assumptions import accepted
from harness.oracle.compare import MismatchKind
from harness.search.shrink import CaseShrinker
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject
from tests import implementations

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
SCOPE = scope_of(TORCH)
SMALL: dict[str, Any] = {"T": [1, 2, 5], "N": [0, 1, 3], "input_size": [1, 4], "hidden_size": [1, 5], "device": "cpu"}
EVERY = tuple(RELATIONS.values())

Change = Callable[[Case, dict[str, Any]], dict[str, Any]]


class Changed(TorchSubject):
    """torch with changed inputs or results, which therefore declares no relation to the bit."""

    def __init__(
        self,
        change: Change = lambda _case, arrays: arrays,
        given: Callable[[Case], Case] = lambda c: c,
        of: type[torch.nn.Module] = torch.nn.RNN,
    ) -> None:
        super().__init__(of, "changed")
        self._change, self._given = change, given

    def exact_relations(self, config: RNNConfig) -> frozenset[str]:
        return frozenset()

    def run(self, case: Case) -> Outcome:
        return self._changed(case, super().run(self._given(case)))

    def run_twice(self, case: Case) -> Outcome:
        return self._changed(case, super().run_twice(self._given(case)))

    def _changed(self, case: Case, outcome: Outcome) -> Outcome:
        return outcome if outcome.failure else replace(outcome, arrays=self._change(case, dict(outcome.arrays)))


def off_where(
    wrong: Callable[[RNNConfig], bool], *names: str, by: float = 0.01, of: type[torch.nn.Module] = torch.nn.RNN
) -> Changed:
    """Return a subject with some arrays off by one part in a hundred, in some configs."""

    def change(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
        factor = 1 + by * wrong(case.config)
        return {n: a * a.dtype.type(factor) if n in (names or ("output",)) else a for n, a in arrays.items()}

    return Changed(change, of=of)


def shifted(by: Callable[[Case], Any]) -> Changed:
    return Changed(lambda case, arrays: {**arrays, "output": (arrays["output"] + by(case)).astype(case.config.dtype)})


def number(case: Case, axis: str) -> Any:
    """Return one hundredth of the index along an axis of the output."""
    axes = case.config.outputs["output"].axes
    shape = [size if name == axis else 1 for name, size in zip(axes, case.config.outputs["output"].shape, strict=True)]
    return 0.01 * np.arange(max(shape)).reshape(shape)


def without_hx(case: Case) -> Case:
    return case if case.hx is None else Case.from_arrays(case.config, {**case.arrays, "hx": case.hx * 0})


def clipped(_case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    return {n: np.clip(a, -0.01, 0.01) if n.endswith(".grad") else a for n, a in arrays.items()}


ONE = RNNConfig(3, 4, T=6, N=3)
TWO = ONE.replace(bidirectional=True)
PACKED = ONE.replace(lengths=(6, 4, 2))
BACK = ONE.replace(loss="both")

PLANTED: dict[str, tuple[TorchSubject, RNNConfig]] = {
    "batch split": (shifted(lambda case: 0.01 * case.config.N), ONE),
    "batch permutation": (shifted(lambda case: number(case, "N")), ONE.replace(batch_first=True)),
    "packed alone": (off_where(lambda c: c.packing == "falling"), PACKED),
    "packed equal lengths": (off_where(lambda c: c.lengths is not None), ONE),
    "padding unread": (shifted(lambda case: 0.01 * np.isnan(case.x).sum()), PACKED),
    "sorted or not": (off_where(lambda c: c.enforce_sorted, "h_n"), PACKED),
    "unbatched": (off_where(lambda c: not c.batched), ONE.replace(N=1)),
    "batch first": (off_where(lambda c: c.batch_first, "h_n"), PACKED),
    "time split": (Changed(given=without_hx), ONE),
    "layer split": (off_where(lambda c: c.num_layers > 2), TWO.replace(num_layers=3)),
    "direction reversal": (shifted(lambda case: 0.01 * (number(case, "D*H") >= 0.04)), TWO.replace(num_layers=2)),
    "two directions": (off_where(lambda c: c.bidirectional, "h_n"), TWO.replace(lengths=(6, 4, 2))),
    "unit permutation": (shifted(lambda case: number(case, "D*H")), TWO),
    "zero recurrence": (shifted(lambda case: number(case, "T")), TWO.replace(num_layers=2, batch_first=True)),
    "grad mode": (off_where(lambda c: c.grad_mode is not None), ONE),
    "preparation": (off_where(lambda c: c.preparation != "new"), ONE),
    "strides": (off_where(lambda c: c.strides != "contiguous"), ONE),
    "wrt": (off_where(lambda c: c.wrt != "all", "x.grad", "weight_hh_l0.grad"), BACK),
    "zero hx": (off_where(lambda c: c.hx), ONE),
    "training": (off_where(lambda c: c.training), ONE),
    "loss sum": (off_where(lambda c: c.loss == "both", "x.grad"), BACK),
    "loss scale": (Changed(clipped), BACK),
}
BACKWARDS: dict[str, tuple[TorchSubject, RNNConfig]] = {
    "batch split": (off_where(lambda c: c.N > 2, "weight_ih_l0.grad"), BACK),
    "packed alone": (off_where(lambda c: c.lengths is not None, "bias_hh_l0.grad"), BACK.replace(lengths=(6, 4, 2))),
    "time split": (off_where(lambda c: c.T > 5, "x.grad"), BACK.replace(num_layers=2)),
    "layer split": (off_where(lambda c: c.num_layers > 1, "hx.grad"), BACK.replace(num_layers=2, hx=True)),
    "two directions": (off_where(lambda c: c.bidirectional, "x.grad"), BACK.replace(bidirectional=True)),
}

OF_C: list[tuple[str, tuple[TorchSubject, RNNConfig]]] = [
    (name, (off_where(wrong, *names, of=torch.nn.LSTM), RNNConfig(3, 4, cell="LSTM", T=6, N=3, **fields)))
    for name, wrong, names, fields in (
        ("batch split", lambda c: c.N > 2, ["c_n"], {}),
        ("time split", lambda c: c.T > 5, ["c_n"], {"proj_size": 2}),
        ("time split", lambda c: c.T > 5, ["cx.grad"], {"hx": True, "loss": "both"}),
        ("layer split", lambda c: c.num_layers > 1, ["cx.grad"], {"hx": True, "loss": "h_n", "num_layers": 2}),
        ("two directions", lambda c: c.bidirectional, ["c_n"], {"proj_size": 2, "bidirectional": True}),
        ("zero hx", lambda c: c.hx, ["c_n"], {}),
    )
]


def test_every_relation_has_a_mistake_that_breaks_it() -> None:
    assert PLANTED.keys() == RELATIONS.keys()
    assert all("``" in (relation.derive.__doc__ or "") or name == "wrt" for name, relation in RELATIONS.items())


@pytest.mark.parametrize(("name", "planted"), [*PLANTED.items(), *BACKWARDS.items(), *OF_C])
def test_a_planted_mistake_breaks_its_relation_and_shows_in_no_other_way(
    name: str, planted: tuple[TorchSubject, RNNConfig]
) -> None:
    subject, config = planted
    case, relation = draw(config, "default", 3), RELATIONS[name]

    result = check_relation(subject, case, relation)
    removed = check_relation(
        subject, case, replace(relation, derive=lambda case, run: run(case), about=lambda case: case)
    )

    assert result is not None
    assert (result.verdict, result.method) == (Verdict.DISAGREES, ComparisonMethod.RELATIONS)
    assert result.kind.startswith(f"{name}: ")
    assert all(mismatch.relation == name and mismatch.others == relation.others for mismatch in result.mismatches)
    assert removed is not None
    assert removed.verdict is Verdict.AGREES
    right = check_relation(TorchSubject(torch.nn.LSTM) if config.cell == "LSTM" else TORCH, case, relation)
    assert right is not None
    assert right.verdict is Verdict.AGREES


@settings(max_examples=50)
@given(cases(SCOPE, **SMALL))
def test_torch_keeps_every_relation(case: Case) -> None:
    for relation in EVERY:
        result = check_relation(TORCH, case, relation)
        assert result is None or result.verdict is Verdict.AGREES, (relation.name, result)


@settings(max_examples=20)
@given(st.data())
@pytest.mark.parametrize("of", [torch.nn.GRU, torch.nn.LSTM])
def test_torch_s_gru_and_lstm_keep_every_relation(of: type[torch.nn.Module], data: st.DataObject) -> None:
    subject = TorchSubject(of)
    case = data.draw(cases(scope_of(subject), **SMALL))
    for relation in EVERY:
        result = check_relation(subject, case, relation)
        assert result is None or result.verdict is Verdict.AGREES, (relation.name, result)


@settings(max_examples=40)
@given(cases(**SMALL, output_size=[None, 2]))
@pytest.mark.parametrize("function", [implementations.plain_python, implementations.vectorised])
def test_right_implementations_keep_every_relation(function: Any, case: Case) -> None:
    result = check_relations(as_subject(function), case, relations=EVERY)

    assert result.verdict is Verdict.AGREES, result


@settings(max_examples=30)
@given(cases(**SMALL, bidirectional=False, bias=True, batch_first=False))
def test_an_order_of_summation_that_depends_on_the_config_breaks_no_relation(case: Case) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.batch_first:
            raise NotImplementedError
        return implementations.order_by_depth(x, h0, weights, config)

    assert check_relations(as_subject(rnn), case, relations=EVERY).verdict is Verdict.AGREES


def test_every_relation_is_met_by_the_schedule_and_the_same_one_again() -> None:
    met = set()
    for seed in range(300):
        config = BACK if seed % 3 else PACKED.replace(bidirectional=True, num_layers=1 + seed % 2)
        case = draw(config.replace(N=1, lengths=None) if seed % 4 == 1 else config, "normal", seed)
        assert relations_for(case) == relations_for(draw(case.config, "normal", seed))
        met.add(relations_for(case)[0].name)

    assert met == RELATIONS.keys()


def test_a_search_tries_one_relation_that_says_something_however_little_a_subject_offers() -> None:
    asked: list[Case] = []

    class Noting(TorchSubject):
        def run(self, case: Case) -> Outcome:
            asked.append(case)
            return super().run(case)

    few = Noting()
    few.capabilities = replace(few.capabilities, offers={})
    for seed in range(20):
        asked.clear()
        assert check_relations(few, draw(ONE, "default", seed)).method is ComparisonMethod.RELATIONS
        assert 2 <= len(asked) <= 3  # the case itself, and one or two others
        assert all(case.config.batched and case.config.lengths is None for case in asked)


def test_relations_reach_into_packed_bidirectional_stacks_under_autocast() -> None:
    config = RNNConfig(4, 5, num_layers=3, bidirectional=True, T=7, N=4, lengths=(3, 7, 1, 7), hx=True, loss="both")
    expected = {"batch split", "batch permutation", "packed alone", "padding unread", "batch first", "layer split"}

    for one in (config, config.replace(autocast="bfloat16", batch_first=True), config.replace(dtype="float16")):
        case = draw(one, "default", 0)
        done = {
            relation.name
            for relation in EVERY
            if (result := check_relation(TORCH, case, relation)) and not result.failed
        }
        assert done >= expected | {"direction reversal", "unit permutation", "wrt", "loss sum", "loss scale"}


def test_where_dropout_draws_only_relations_that_keep_x_apply() -> None:
    config = RNNConfig(3, 4, num_layers=2, dropout=0.5, training=True, T=5, N=3, loss="both")

    applied = {relation.name for relation in EVERY if relation.speaks_of(draw(config, "default", 0))}

    assert applied == {"grad mode", "preparation", "strides", "wrt", "zero hx", "loss sum", "loss scale"}


def ulp_off_when_unbatched(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    if case.config.batched:
        return arrays
    h = arrays["h_n"].copy()
    h.flat[0] = np.nextafter(h.flat[0], np.inf)
    return {**arrays, "h_n": h, "output": arrays["output"]}


class Ulp(Changed):
    """torch that is off by one unit in the last place without a batch axis, although it declares what torch does."""

    def exact_relations(self, config: RNNConfig) -> frozenset[str]:
        return TORCH.exact_relations(config)


def test_one_unit_in_the_last_place_is_seen_by_a_relation_that_is_kept_to_the_bit_and_by_nothing_else() -> None:
    config = RNNConfig(8, 4, num_layers=2, T=6, N=1, batched=False)
    for seed in range(5):
        case = draw(config, "default", seed)
        result = check_relation(Ulp(ulp_off_when_unbatched), case, RELATIONS["unbatched"])
        loose = check_relation(Changed(ulp_off_when_unbatched), case, RELATIONS["unbatched"])
        wider = check_relation(Ulp(ulp_off_when_unbatched), case, RELATIONS["unbatched"], accepted("rtol=1e-5"))

        assert result is not None
        assert (result.verdict, result.kind) == (Verdict.DISAGREES, "unbatched: h_n: value")
        assert (result.mismatches[0].count, result.mismatches[0].sites[0].tolerance) == (1, 0.0)
        assert loose is not None
        assert wider is not None
        assert Verdict.AGREES is loose.verdict is wider.verdict
        assert not check_agreement(Changed(ulp_off_when_unbatched), case).failed


def test_a_subject_that_raises_in_another_run_is_broken_by_the_relation_that_asked_for_it() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if len(x) < 6:
            raise ValueError("too short")
        return implementations.vectorised(x, h0, weights, config)

    result = check_relation(as_subject(rnn), draw(ONE), RELATIONS["time split"])

    assert result is not None
    assert (result.verdict, result.kind) == (
        Verdict.BROKEN,
        "broken: not the same with two stretches of time, with the state carried over",
    )
    assert result.message.endswith("too short")
    assert "in rnn" in result.traceback
    assert relations_of(result) == (RELATIONS["time split"],)


def test_what_has_no_form_in_another_run_breaks_the_relation_too() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n if len(x) == 6 else h_n[:, 0]

    result = check_relation(as_subject(rnn), draw(ONE), RELATIONS["time split"])

    assert result is not None
    assert result.kind == "time split: h_n: shape"
    assert relations_of(result) == (RELATIONS["time split"],)


def test_a_relation_that_asks_for_what_is_refused_or_not_offered_is_left_out() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        assert config.batched
        assert config.lengths is None
        assert config.preparation == "new"
        if len(x) < 6:
            raise NotImplementedError("six steps only")
        return implementations.vectorised(x, h0, weights, config)

    rnn.offers = {"preparation": ("new",)}  # type: ignore[attr-defined]
    subject, case = as_subject(rnn), draw(ONE.replace(N=1))

    assert check_relation(subject, case, RELATIONS["time split"]) is None
    assert check_relation(subject, case, RELATIONS["unbatched"]) is None
    assert check_relation(subject, case, RELATIONS["batch split"]) is None
    assert check_relations(subject, case, relations=EVERY).verdict is Verdict.AGREES
    pinned = SCOPE.only(batch_first=False, T=6)
    assert check_relation(TORCH, case, RELATIONS["batch first"], scope=pinned) is None
    assert check_relation(TORCH, case, RELATIONS["time split"], scope=pinned) is None
    assert check_relation(TORCH, case, RELATIONS["training"], scope=pinned) is not None


def test_a_subject_that_refuses_or_breaks_on_the_case_itself_says_so() -> None:
    def refuses(x: Any) -> Any:
        raise NotImplementedError("no")

    def breaks(x: Any) -> Any:
        raise ValueError("no")

    assert check_relations(as_subject(refuses), draw(ONE)).verdict is Verdict.UNSUPPORTED
    assert check_relations(as_subject(breaks), draw(ONE)).verdict is Verdict.BROKEN
    assert as_subject(breaks).run(draw(ONE)).failure is Failure.RAISED


@pytest.mark.parametrize(
    ("subject", "name", "smallest"),
    [
        (Changed(given=without_hx), "time split", RNNConfig(1, 1, T=2)),
        (Ulp(ulp_off_when_unbatched), "unbatched", RNNConfig(1, 1)),
        (PLANTED["unit permutation"][0], "unit permutation", RNNConfig(1, 2)),
    ],
)
def test_a_case_is_made_small_by_the_relation_that_it_breaks(subject: Any, name: str, smallest: RNNConfig) -> None:
    config = RNNConfig(3, 4, num_layers=2, T=6, N=1)
    case = draw(config, "default", 0)
    found = check_relations(subject, case, relations=[RELATIONS[name]])
    relations = relations_of(found)

    *_, (last, result) = CaseShrinker(
        case, found, Scope(), lambda smaller: check_relations(subject, smaller, relations=relations)
    )

    assert last.config == smallest
    assert result.kind == found.kind


def test_meta_has_nothing_to_compare() -> None:
    result = check_relations(TORCH, draw(ONE.replace(device="meta")), relations=EVERY)

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.FORM)


def test_a_readout_whose_gradient_is_one_value_is_not_packed_where_padding_has_none() -> None:
    config = BACK.replace(output_size=1, strides="expanded", preparation="used")

    assert not RELATIONS["packed equal lengths"].applies(draw(config))
    assert RELATIONS["packed equal lengths"].applies(draw(config.replace(output_size=None)))


def test_a_readout_alone_is_enough_for_relations_that_pass_nothing_on() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config)[-1]

    case = draw(ONE.replace(output_size=2))

    assert check_relation(as_subject(rnn), case, RELATIONS["time split"]) is None
    for name in ("batch split", "zero recurrence", "unit permutation", "batch first"):
        assert check_relation(as_subject(rnn), case, RELATIONS[name]) is not None, name


def test_a_loss_is_scaled_to_the_bit_where_nothing_can_underflow() -> None:
    relation, exact = RELATIONS["loss scale"], 0
    for seed in range(40):
        config = RNNConfig(3, 4, nonlinearity="relu", T=1 + seed % 3, N=2, hx=True, dtype="float64", loss="both")
        case = draw(config, "normal", seed)
        exact += relation.exact(case, TORCH.run(case).arrays)

    assert exact == 40
    long = draw(RNNConfig(3, 4, T=40, N=2, loss="both"), "normal", 0)
    assert not relation.exact(long, TORCH.run(long).arrays)


def test_infinities_and_nan_on_both_sides_are_the_same() -> None:
    config = RNNConfig(3, 4, T=4, N=3, hx=True, loss="both", nonlinearity="relu")
    for seed in range(20):
        case = draw(config, "special", seed)
        assert check_relations(TORCH, case, relations=EVERY).verdict is Verdict.AGREES, seed
    nan = Changed(lambda case, arrays: {**arrays, "h_n": arrays["h_n"] * (np.nan if case.config.T < 4 else 1)})
    result = check_relation(nan, draw(config, "default", 0), RELATIONS["time split"])
    assert result is not None
    assert result.mismatches[0].sort is MismatchKind.FINITENESS
