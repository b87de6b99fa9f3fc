"""Tests of investigation: findings are explained given earlier ones, and a search continues after known causes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.layers import fourth_ports, third_numpy
from benchmarks.layers.torch_base import ByHand
from harness import Case, RNNConfig, Scope, Verdict, as_subject, check, draw, hunt
from harness.checks import case_checks
from harness.checks.agreement import check_agreement
from harness.checks.known_issues import TORCH_ISSUES
from harness.checks.repeatability import FLAKY_RUNS
from harness.diagnosis import defects
from harness.diagnosis.failure_conditions import FailureConditions
from harness.diagnosis.finding_explainer import SEARCH_OVER, Explanation, FindingExplainer
from harness.diagnosis.first_departure import judge_worst
from harness.diagnosis.identify import questions
from harness.diagnosis.kernels import KernelSwitchResults
from harness.report.explanation_lines import fails_line
from harness.report.facts import failure_line
from harness.report.reported_finding import reported
from harness.search.evidence import NOT_SHRUNK
from harness.search.search_record import Finding, SearchRecord, Stop
from harness.subjects.protocol import Subject, scope_of
from tests import implementations
from tests.diagnosis.identify.by_hand import Stack, sums_of, with_gradients
from tests.diagnosis.identify.test_steps import cut
from tests.diagnosis.searched import Searched
from tests.emulated import FillsUpPairs
from tests.long import few

NOT_TRANSPOSED = "takes x[t] @ W_ih in its step, not x[t] @ W_ih.T, where input_size = hidden_size"
NO_B_HH = "ignores bias_hh: b_hh is never added"
ONE_LAYER = Scope().only(num_layers=1, bidirectional=False)
PLAIN: dict[str, Any] = {"num_layers": 1, "bidirectional": False, "nonlinearity": "tanh"}


@pytest.fixture(scope="module", autouse=True)
def shorter() -> Iterator[None]:
    """End searches 100 cases after the last finding instead of 400: each mistake here shows in fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.search.budget.CASES_AFTER_FINDING", 100)
        yield


def without_b_hh_and_hx(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return implementations.without_b_hh(x, np.zeros_like(h0), weights, config)


def late_without_b_hh(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    lost = {name: array * 0 if "bias_hh" in name else array for name, array in weights.items()}
    return implementations.step_by_step(below="before", returned="after")(x, h0, lost, config)


def transposed_and_reversed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    wrong = {name: array.T if "weight_hh" in name else array for name, array in weights.items()}
    return implementations.reverse_first(x, h0, wrong, config)


@pytest.fixture(scope="module")
def transposed() -> Searched:
    """Run a search for several tests."""
    return Searched(implementations.transposed_recurrence)


@pytest.mark.parametrize(
    ("function", "sentences", "seed"),
    [
        pytest.param(without_b_hh_and_hx, {NO_B_HH, "ignores hx: it starts at zeros"}, 0, marks=pytest.mark.long),
        pytest.param(
            late_without_b_hh,
            {NO_B_HH, "takes h_below[t-1] @ W_ih.T in its step, not x[t] @ W_ih.T, in the layers above the first"},
            0,
            marks=pytest.mark.long,
        ),
        (
            transposed_and_reversed,
            {
                "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T",
                "makes a layer's output of [reverse, forward], not of [forward, reverse]",
            },
            1,
        ),
    ],
)
def test_two_mistakes_come_out_one_after_the_other_and_end_a_search_a_while_after(
    function: Any, sentences: set[str], seed: int
) -> None:
    totals: list[int] = []

    done = Searched(function, heard=lambda _, record: totals.append(record.total), seed=seed)

    assert len(done.findings) == len(totals) == 2
    assert {*done.sentences} == sentences
    assert all(finding.minimal for finding in done.findings)
    assert done.record.stop is Stop.AFTER
    assert totals[0] < totals[1]
    assert done.record.limit == done.record.total == totals[1] + 100


def test_each_mistake_has_a_finding_of_its_own_though_others_show_in_the_first_ones() -> None:
    done = Searched(cut, ONE_LAYER.only(batch_first=False, bias=True, loss=None), cases=100)

    assert {*done.sentences} == {
        "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T",
        "applies np.tanh(np.clip(s, -3, 3)), not tanh",
        "returns h[T-2] as h_n, not the state after the last step",
    }
    assert [reported(*one).mistakes for one in zip(done.findings, done.explanations, strict=True)] == [1, 1, 1]


def test_the_line_of_the_code_that_makes_the_mistake_is_named(transposed: Searched) -> None:
    diagnosis = transposed.explanations[0].diagnosis

    assert diagnosis is not None
    assert diagnosis.line is not None
    assert diagnosis.line.file == implementations.__file__


def test_cases_of_a_known_cause_are_counted_and_not_made_smaller_again() -> None:
    done = Searched(implementations.without_b_hh)
    alone = hunt(as_subject(implementations.without_b_hh))

    assert done.sentences == [NO_B_HH]
    assert done.record.known[done.findings[0].id] > 50
    assert done.record.shrink_checks == alone.shrink_checks
    assert done.record.verdict is Verdict.DISAGREES
    assert done.record.total > alone.total


def found(subject: Subject, config: RNNConfig, **zero: int) -> Finding:
    """Return what is wrong on a case of a config, of which some arrays are zero."""
    case = draw(config, "normal", 1)
    case = Case.from_arrays(case.config, {name: array * zero.get(name, 1) for name, array in case.arrays.items()})
    return Finding(subject.name, case, check_agreement(subject, case))


def test_what_a_second_mistake_needs_is_told_apart_from_the_first() -> None:
    subject = as_subject(without_b_hh_and_hx)
    investigation, scope = FindingExplainer(subject), Scope.around(RNNConfig(1, 1))
    investigation.recognise(found(subject, RNNConfig(1, 1)), SearchRecord(subject.name, 0, scope))

    second = investigation.explain(found(subject, RNNConfig(1, 1, hx=True), bias_hh_l0=0), scope.only(hx=[False, True]))

    assert second.factors is not None
    assert second.factors.needs == {"hx": True}


class LateAndTwice(ByHand):
    """A layer whose upper layers read late, and start from twice their rows of hx."""

    def between(self, layer: int, steps: list[Any]) -> list[Any]:
        late = [torch.zeros_like(steps[0]), *steps[:-1]]
        return late if layer + 1 < self.num_layers else steps

    def initial(self, layer: int, d: int, hx: Any, finals: Any) -> Any:
        return super().initial(layer, d, hx, finals) * (1 + (layer > 0))


def test_a_missing_gradient_of_a_known_mistake_hides_whether_another_one_shows() -> None:
    subject = as_subject(LateAndTwice)
    config = RNNConfig(1, 1, num_layers=2, T=1, hx=True)
    few = Scope.around(config.replace(hx=False)).only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])
    investigation = FindingExplainer(subject)
    investigation.recognise(found(subject, config.replace(hx=False)), SearchRecord(subject.name, 0, few))

    second = investigation.explain(
        found(subject, config, weight_ih_l1=0), few.only(hx=[False, True], loss=[None, "output"])
    )

    assert check_agreement(subject, draw(config.replace(loss="output"), "normal", 1)).kind.endswith("missing")
    assert second.factors is not None
    assert second.factors.needs == {"hx": True}
    assert second.factors.partly == {}


def test_what_a_known_mistake_explains_is_no_part_of_a_finding_of_unknown_gradients() -> None:
    odd = partial(
        with_gradients,
        slope=lambda h, _: np.exp(-(h**2)),
        factors=(1.0, 0.0),
        returned=lambda found: found | {"bias_hh_l0": found["bias_ih_l0"].copy()},
    )

    done = Searched(odd, PLAIN | {"batch_first": False, "bias": True, "lengths": None})

    assert done.sentences == [NO_B_HH, ""]
    assert {mismatch.array.endswith(".grad") for mismatch in done.findings[1].result.mismatches} == {True}


def test_a_cause_that_has_no_name_is_known_again_by_where_it_shows() -> None:
    done = Searched(implementations.wide_reverse_is_off, cases=600)

    assert done.sentences == [""]
    [conditions], where = done.conditions, done.explanations[0].where
    assert conditions.needs == {"bidirectional": True}
    assert conditions.sizes["hidden_size"].pattern == "from 17 on"
    assert where is not None
    assert (where.place["direction"], where.place["unit"]) == ("reverse", 16)
    assert done.record.known[done.findings[0].id] > 5


def test_an_error_and_a_wrong_value_are_two_findings() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.T >= 3 and config.nonlinearity == "relu":
            raise ValueError("too long")
        return implementations.without_b_hh(x, h0, weights, config)

    done = Searched(rnn, Scope().only(T=[1, 2, 3, 4]))

    assert sorted(finding.result.kind for finding in done.findings) == ["broken: ValueError", "output: value"]
    assert done.findings[-1].case.config.T in {1, 3}


def test_what_wavers_is_told_once_with_the_number_of_its_answers() -> None:
    rng = np.random.default_rng(0)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + rng.random(), h_n

    done = Searched(rnn, Scope().only(dtype="float64"))

    assert (done.record.stop, len(done.findings)) == (Stop.AFTER, 1)
    [told] = done.explanations
    assert (told.diagnosis, told.factors, told.answers) == (None, None, FLAKY_RUNS)


@pytest.mark.parametrize(("factor", "steady"), [("batch_first", False), ("hx", True)])
def test_a_flaky_subject_is_searched_on_where_it_gives_one_answer(factor: str, steady: bool) -> None:
    rng = np.random.default_rng(0)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        h0 = h0 if getattr(config, factor) is steady else rng.standard_normal(h0.shape).astype(h0.dtype)
        return implementations.without_b_hh(x, h0, weights, config)

    done = Searched(rnn, Scope().only(dtype="float64"))

    flaky = [finding.result.nondeterministic for finding in done.findings]
    assert sorted(flaky) == [False, True]
    assert done.explanations[flaky.index(True)].deterministic == {factor: (steady,)}
    assert done.sentences[flaky.index(False)] == NO_B_HH


def test_the_same_seed_finds_and_says_the_same(transposed: Searched) -> None:
    again = Searched(implementations.transposed_recurrence)

    one, other = ([(f.id, f.certificate) for f in done.findings] for done in (transposed, again))
    assert (one, transposed.conditions) == (other, again.conditions)


def test_the_certificate_counts_what_was_tried(transposed: Searched) -> None:
    [finding] = transposed.findings
    assert finding.case.config in {RNNConfig(1, 2, T=2), RNNConfig(1, 2, hx=True)}
    assert finding.certificate.complete
    assert finding.certificate.configs >= 2
    assert finding.certificate.cases >= 28
    assert finding.certificate.numbers >= 2
    assert not finding.certificate.fresh_process  # a function in this process has no other process


SAME = Explanation(factors=FailureConditions({"bias": True}))


@pytest.mark.parametrize(
    ("other", "one"),
    [
        (SAME, True),
        (Explanation(factors=FailureConditions({"bias": False})), False),
        (replace(SAME, kernels=KernelSwitchResults(passes=("no-mkldnn",))), False),
    ],
)
def test_two_findings_with_the_same_needs_and_kernels_are_one(other: Explanation, one: bool) -> None:
    subject, said = as_subject(implementations.without_b_hh), iter([SAME, other])
    investigation = FindingExplainer(subject)
    investigation._explanation = lambda *_: next(said)  # type: ignore[method-assign]
    record = SearchRecord("mine", 0, Scope())

    for T in (1, 2):
        case = draw(RNNConfig(2, 3, T=T, N=2), "normal", 0)
        record.report(case, check_agreement(subject, case), NOT_SHRUNK)
        recognised = investigation.recognise(record.findings[-1], record)

    first, second = record.findings
    assert recognised.earlier == (first.id if one else None)
    assert list(investigation.explanations) == ([first.id] if one else [first.id, second.id])


def test_a_case_that_is_found_again_keeps_its_explanation_and_at_last_ends_a_search_that_knows_its_region() -> None:
    subject, said = as_subject(implementations.without_b_hh), iter([SAME])
    investigation = FindingExplainer(subject)
    investigation._explanation = lambda *_: next(said)  # type: ignore[method-assign]
    record, case = SearchRecord("mine", 0, Scope()), draw(RNNConfig(2, 3, T=2, N=2), "normal", 0)
    finding = Finding("mine", case, check_agreement(subject, case))

    recognised = []
    for _ in range(3):
        record.findings.append(finding)
        recognised.append(investigation.recognise(finding, record))

    assert [one.earlier for one in recognised] == [None, finding.id, finding.id]
    assert investigation.explanations == {finding.id: replace(SAME, judgement=judge_worst(finding.result))}
    assert [one.known_cause is None for one in recognised] == [False, False, True]


def test_what_fails_at_sizes_without_a_pattern_is_at_most_two_findings() -> None:
    def odd(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        T = output.shape[1 if config.batch_first else 0]
        return output + np.cos(output) * ((T * T + 3 * T) % 7 in (1, 4)), h_n

    done = Searched(odd, ONE_LAYER.only(loss=None), cases=100)

    assert 1 <= len(done.findings) <= 2
    assert done.record.stop is Stop.BUDGET


def not_transposed(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return with_gradients(x, h0, weights | {"weight_ih_l0": weights["weight_ih_l0"].T}, config, {})


@pytest.mark.parametrize(
    ("function", "loss", "sentence"),
    [
        (not_transposed, None, NOT_TRANSPOSED),
        (
            partial(with_gradients, sums=lambda _, before, after, da: sums_of(before, before, after, da)),
            "output",
            "makes the gradient by weight_ih of da[t] and h[t-1], not of da[t] and x[t]",
        ),
    ],
)
def test_what_has_a_shape_where_two_sizes_are_equal_alone_is_one_mistake(
    function: Any, loss: str | None, sentence: str
) -> None:
    done = Searched(function, PLAIN | {"lengths": None, "batch_first": False, "bias": True, "loss": loss})

    assert done.sentences == [sentence]


def test_an_error_beside_a_mistake_of_equal_sizes_is_not_said_to_be_of_it() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.input_size > 8:
            raise ValueError("too wide")
        wrong = config.input_size == config.hidden_size
        return implementations.vectorised(
            x, h0, weights | {"weight_ih_l0": weights["weight_ih_l0"].T} if wrong else weights, config
        )

    done = Searched(rnn, PLAIN | {"lengths": None, "loss": None, "batch_first": False})

    of_error = [finding for finding, one in zip(done.findings, done.sentences, strict=True) if not one]
    assert [finding.case.config for finding in of_error] == [RNNConfig(9, 1, T=1, N=1)]
    assert NOT_TRANSPOSED in done.sentences


def test_the_other_need_of_a_mistake_of_equal_sizes_is_told() -> None:
    done = Searched(third_numpy.by_shape)

    told = zip(done.sentences, done.conditions, strict=True)
    assert ["hx" in conditions.needs for said, conditions in told if "h[t-1] @ W_ih.T in" in said] == [False]


@pytest.mark.parametrize("needs", [{"hx": True}, {"hx": False}, {"bias": False}])
def test_a_mistake_of_one_path_alone_is_told_with_the_factor_that_takes_it(needs: dict[str, bool]) -> None:
    [(name, value)] = needs.items()

    def two_paths(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        wrong = weights | {"weight_hh_l0": 2 * weights["weight_hh_l0"]} if getattr(config, name) == value else weights
        return implementations.vectorised(x, h0, wrong, config)

    done = Searched(two_paths, PLAIN | {"lengths": None, "loss": None})

    assert done.sentences == ["takes 2 * (h[t-1] @ W_hh.T) in its step, not h[t-1] @ W_hh.T"]
    assert done.conditions[0].needs == needs


@pytest.mark.long
def test_a_layer_that_loses_infinities_is_one_finding_and_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_checks, "TORCH_ISSUES", tuple(one for one in TORCH_ISSUES if "bfloat16" not in one.name))
    pins = {"dtype": "bfloat16", "device": "cpu", "loss": None, "lengths": None, "batched": True}

    done = Searched(FillsUpPairs, pins, cases=600)

    [told] = done.explanations
    assert not told.diagnosis or told.diagnosis.precision is None
    assert "input_size odd" in fails_line(done.conditions[0])


def test_of_a_finding_that_there_was_no_time_to_explain_the_judge_s_ruling_is_told_alone() -> None:
    subject = as_subject(implementations.without_b_hh)
    finding = hunt(subject).finding
    assert finding is not None
    known = FindingExplainer(subject).known_of(finding)

    assert known == Explanation(why_unknown=SEARCH_OVER, judgement=judge_worst(finding.result))
    assert known.judgement is not None
    assert reported(finding, known).certainty == "cause not looked for"


def test_where_a_subject_is_too_slow_to_be_asked_a_missing_declaration_is_no_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = as_subject(implementations.without_b_hh)
    finding, scope = hunt(subject).finding, scope_of(subject).only(T=1, N=1, input_size=1, hidden_size=1)
    assert finding is not None
    monkeypatch.setattr(questions, "QUESTION_SECONDS", 0.0)

    told = reported(finding, FindingExplainer(subject).explain(finding, scope))

    assert (told.cause, told.certainty) == (failure_line(finding.result), "cause not looked for")
    assert any(fact.name == "cause" and "each takes long" in fact.text for fact in told.facts)


def three_mistakes(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Leave out b_hh, transpose W_hh in the reverse direction, and scale the output of relu in a deep stack."""
    wrong = {name: array.T if "weight_hh" in name and "reverse" in name else array for name, array in weights.items()}
    output, h_n = implementations.without_b_hh(x, h0, wrong, config)
    return (output * 1.01 if config.num_layers > 1 and config.nonlinearity == "relu" else output), h_n


@pytest.mark.long
def test_a_mistake_is_named_though_others_show_with_other_factors() -> None:
    assert Searched(three_mistakes).sentences == [
        NO_B_HH,
        "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T, in the reverse direction",
        "",
    ]


def elsewhere(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
    """Ignore hx with batch_first, and h_n's gradient where the output has one."""
    first = config.batch_first

    def turned(v: Any) -> Any:
        return v.swapaxes(0, 1) if first else v

    of_output = {name: turned(g) for name, g in cotangents.items() if name == "output.grad"}
    output, h_n, *back = with_gradients(turned(x), 0 * h0 if first else h0, weights, config, of_output or cotangents)
    given = {name: turned(g) if name == "x" else g for found in back for name, g in found.items()}
    return turned(output), h_n, {name: g for name, g in given.items() if name != "hx" or (config.hx and not first)}


def test_a_single_step_may_be_computed_in_a_way_of_its_own() -> None:
    def shortcut(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.T > 1:
            return implementations.vectorised(x, h0, weights, config)
        return implementations.without_b_hh(x, h0, weights, config)

    done = Searched(shortcut, ONE_LAYER.only(loss=None), cases=100)

    assert done.sentences == [NO_B_HH]
    assert "T at 1 only" in fails_line(done.conditions[0])


def test_what_is_computed_may_depend_on_the_layout_and_on_the_loss() -> None:
    done = Searched(elsewhere, PLAIN | {"bias": True, "loss": (None, "output", "both")}, cases=100)

    assert sorted(done.sentences) == ["ignores hx: it starts at zeros", "ignores the gradient of h_n"]


def back_by_sequence(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, *, joined: bool) -> Any:
    """Double bias_hh's gradient, and if ``joined``, begin each sequence's way back with what another one passes on.

    Otherwise nothing is passed on if the loss is of h_n alone.
    """
    sequences, passed = list[Any](), 0 * h0[:, :1]
    for n in reversed(range(x.shape[1])):
        own = {name: g[:, n : n + 1] for name, g in cotangents.items()}
        own["h_n.grad"] = own.get("h_n.grad", 0 * passed) + (passed if joined else 0)
        stops = not joined and "output.grad" not in cotangents
        read = (lambda h, way: h * (way > 0)) if stops else (lambda h, _: h)
        sequences.insert(0, with_gradients(x[:, n : n + 1], h0[:, n : n + 1], weights, config, own, read=read))
        passed = sequences[0][2]["hx"] if config.loss else passed
    output, h_n = (np.concatenate(arrays, 1) for arrays in list(zip(*sequences, strict=True))[:2])
    if config.loss is None:
        return output, h_n
    found = {
        name: np.concatenate(parts, 1) if name in ("x", "hx") else sum(parts) * (1 + (name == "bias_hh_l0"))
        for name in sequences[0][2]
        if (parts := [one[2][name] for one in sequences])
    }
    return output, h_n, found


@pytest.mark.parametrize(("joined", "loss"), few([(True, "output"), (False, "h_n")], 1))
def test_where_the_way_back_is_no_sum_what_is_wrong_in_one_sequence_or_with_one_loss_is_told(
    loss: str, *, joined: bool
) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        return back_by_sequence(x, h0, weights, config, cotangents, joined=joined)

    done = Searched(rnn, PLAIN | {"bias": True, "batch_first": False, "loss": (None, "output", loss)}, cases=100)

    assert "multiplies the gradient by bias_hh by 2" in done.sentences
    assert joined or "passes no gradient from a step to the one before it" in done.sentences


@pytest.mark.parametrize(
    "copied",
    few(
        [
            lambda h_n: h_n * h_n.dtype.type(0.5),
            lambda h_n: h_n * h_n.dtype.type(0.97),
            lambda h_n: h_n.mean(axis=-1, keepdims=True).astype(h_n.dtype) + 0 * h_n,
        ],
        1,
    ),
)
def test_a_wrong_copy_of_the_final_state_is_one_finding_and_no_rounding(copied: Any) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, copied(h_n)

    done = Searched(rnn, cases=300)

    [finding], [told] = done.findings, done.explanations
    assert {mismatch.array for mismatch in finding.result.mismatches} == {"h_n"}
    assert told.diagnosis is not None
    assert told.diagnosis.precision is None
    assert done.record.shrink_checks < 1_000  # where errors are large, so that the copy looks right, it is known again


class OneStepLate(Stack):
    """A layer that returns each state before its step, so that in one step nothing reaches the loss of the output."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, h_n = super().forward(x, hx)
        return torch.cat([torch.zeros_like(h_n) if hx is None else hx, output[:-1]]), h_n


def test_gradients_that_are_missing_where_nothing_is_connected_are_no_further_finding(tmp_path: Path) -> None:
    done = check(OneStepLate, cases=210, quiet=True, findings=str(tmp_path), T=(1, 2), loss=("output", "both"))

    assert len(done.findings) == 1
    assert "returns the state before each step as its output" in str(done)


@pytest.mark.parametrize("name", ["identified_of", "own_line", "stale_of", "depends_on", "locate"])
def test_a_defect_of_ours_in_looking_for_a_cause_loses_no_finding_and_is_a_line(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise KeyError(1)

    monkeypatch.setattr(defects, "_RAISED", [False])
    place = "identified_layers" if name == "identified_of" else "finding_explainer"
    monkeypatch.setattr(f"harness.diagnosis.{place}.{name}", broken)
    if name == "stale_of":
        monkeypatch.setattr("harness.diagnosis.finding_explainer.CHECKS_BEFORE", (broken,))

    done = Searched(implementations.without_b_hh, {"loss": None}, cases=20)

    lines = [fact.text for fact in reported(done.findings[0], done.explanations[0]).facts]
    failed = [line for line in lines if line.startswith("identification failed")]
    assert len(failed) == 1
    assert re.fullmatch(
        r"identification failed: KeyError at test_finding_explainer.py:\d+ \(a defect of rnn-harness\)", failed[0]
    )


def test_a_defect_of_ours_in_looking_for_a_cause_ends_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise KeyError(1)

    monkeypatch.setattr("harness.diagnosis.identified_layers.identified_of", broken)

    with pytest.raises(KeyError):
        Searched(implementations.without_b_hh, {"loss": None}, cases=20)


def test_a_mistake_that_no_case_of_the_plan_shows_alone_has_a_case_of_its_own() -> None:
    done = Searched(fourth_ports.p08, {"T": (1, 2), "N": 1, "input_size": 1, "hidden_size": 1}, cases=60)

    assert [sentence.partition(",")[0] for sentence in done.sentences] == [
        "takes 1 - np.tanh(h[t])**2 for the slope of tanh",
        "adds what the next step passes back behind the slope",
        "makes the gradient by weight_hh of da[t] and h[t]",
    ]
    assert done.findings[-1].case.config == RNNConfig(1, 1, T=1, N=1, hx=True, loss="output")  # the slope at 0 is right
    assert not done.findings[-1].case.arrays["weight_hh_l0"].any()
