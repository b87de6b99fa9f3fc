"""Tests of the search: budgets, records, reproducibility, and the findings that it returns."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.layers import first_torch
from harness import Capabilities, Case, Result, RNNConfig, Scope, Verdict, as_subject, draw, hunt
from harness.checks.agreement import Observation, check_agreement
from harness.checks.result import ComparisonMethod
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.oracle.compare import Mismatch, MismatchKind
from harness.search import checker, confirm_and_shrink
from harness.search.budget import REFUSALS_PER_CASE
from harness.search.capability_discovery import narrow, plainest
from harness.search.covering import covering
from harness.search.log import MARGINS
from harness.search.plan import COVERING_SHARE
from harness.search.search import RecognisedCause, Search
from harness.search.search_options import SearchOptions
from harness.search.search_record import Finding, Stop
from harness.search.shrink import CaseShrinker
from harness.space.errors import UsageError
from harness.space.factor_table import SIZES
from harness.space.outcome import Failure, Outcome
from harness.subjects.protocol import SubjectUnavailable, scope_of
from tests import implementations
from tests.searches import explained

SMALL = Scope().only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])
RIGHT = as_subject(implementations.vectorised)


def test_a_right_subject_agrees_within_the_budget_that_was_given() -> None:
    record = hunt(RIGHT, SMALL, cases=130)

    assert (record.verdict, record.stop, record.total, record.finding) == (Verdict.AGREES, Stop.BUDGET, 130, None)
    assert 65 < record.coverage.configs < 130  # a drawn config has two cases, a config of the covering array one
    assert record.coverage.distributions.total() == 130


def test_how_near_passing_cases_came_to_their_tolerance_is_counted_by_dtype() -> None:
    record = hunt(RIGHT, SMALL, cases=60)

    assert record.margins.keys() == set(SMALL.dtype)
    assert sum(counts.total() for counts in record.margins.values()) == record.total
    assert all(MARGINS <= power <= 0 for counts in record.margins.values() for power in counts)
    assert len(record.margins["float32"]) > 2


def test_time_ends_a_search_with_what_was_done() -> None:
    record = hunt(RIGHT, SMALL, seconds=0.5)

    assert record.stop is Stop.TIME
    assert record.total > 0
    assert 0.4 <= record.seconds < 5


def test_the_same_seed_gives_the_same_search_and_another_another() -> None:
    def seen(seed: int) -> list[str]:
        ids: list[str] = []

        def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            ids.append(f"{config!r} {x.tobytes()!r}")
            return implementations.vectorised(x, h0, weights, config)

        hunt(as_subject(rnn), SMALL, cases=40, seed=seed)
        return ids

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_the_first_failure_comes_back_with_every_size_at_its_minimum() -> None:
    record = hunt(as_subject(implementations.without_b_hh))

    assert record.stop is Stop.FINDING
    assert record.finding is not None
    assert record.finding.minimal
    assert record.finding.case.config == RNNConfig(1, 1, T=1, N=1)
    assert sum(np.count_nonzero(array) for array in record.finding.case.arrays.values()) == 1
    assert record.finding.case.weights["bias_hh_l0"].tolist() == [1.0]


def test_a_threshold_is_found_exactly_though_it_is_no_boundary_of_ours() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return (output + 1, h_n) if config.hidden_size >= 11 and config.T >= 5 else (output, h_n)

    finding = hunt(as_subject(rnn)).finding

    assert finding is not None
    assert finding.case.config == RNNConfig(1, 11, T=5, N=1)


def test_a_pinned_factor_stays_pinned_while_shrinking() -> None:
    scope = Scope().only(hidden_size=[6, 9], bidirectional=True, output_size=3)

    finding = hunt(as_subject(implementations.without_b_hh), scope).finding

    assert finding is not None
    assert finding.case.config == RNNConfig(1, 6, bidirectional=True, T=1, N=1, output_size=3)


def test_a_failure_keeps_its_kind_while_it_shrinks() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.T >= 3:
            raise ValueError("too long")
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n + (config.T == 2)  # a second, smaller bug that must not take the first one's place

    found = {}
    for steps in ([1, 2], [4, 3]):
        finding = hunt(as_subject(rnn), SMALL.only(T=steps)).finding
        assert finding is not None
        found[finding.result.kind] = finding.case.config
        assert shrunk_to(rnn, finding.case.config.replace(T=4)) == RNNConfig(1, 1, T=3, N=1)

    assert found == {"broken: ValueError": RNNConfig(1, 1, T=3, N=1), "h_n: value": RNNConfig(1, 1, T=2, N=1)}


def shrunk_to(rnn: Any, config: RNNConfig) -> RNNConfig:
    return shrunk(rnn, draw(config, "normal", 0), SMALL.only(T=[1, 2, 3, 4])).config


def test_a_subject_that_changes_its_answers_is_broken() -> None:
    rng = np.random.default_rng(0)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + rng.random(), h_n

    record = hunt(as_subject(rnn), SMALL.only(dtype="float64"))

    assert record.verdict is Verdict.BROKEN
    assert record.finding is not None
    assert "not deterministic" in record.finding.result.message


def test_the_tanh_of_a_subject_that_changes_its_answers_is_not_said_to_be_off() -> None:
    rng = np.random.default_rng(0)

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return tuple(a * (1 + 1e-6 * rng.random()) for a in implementations.vectorised(x, h0, weights, config))

    record = hunt(as_subject(rnn), SMALL.only(dtype="float64"))

    assert record.finding is not None
    assert record.finding.result.nondeterministic


def test_what_the_subject_refuses_is_left_out_and_said() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.num_layers > 1 or not config.batch_first:
            raise NotImplementedError("one layer, batch first")
        return implementations.vectorised(x, h0, weights, config)

    record = hunt(as_subject(rnn), SMALL, cases=50)

    assert (record.verdict, record.total, record.unsupported) == (Verdict.AGREES, 50, Counter())
    assert set(record.scope.num_layers) == {1}
    assert record.scope.batch_first == (True,)
    assert set(record.refused) == {*(f"num_layers={L}" for L in (2, 3, 4, 5)), "batch_first=False"}


def test_a_subject_that_refuses_everything_is_unsupported_not_in_agreement() -> None:
    def rnn(x: Any) -> Any:
        raise NotImplementedError("never")

    record = hunt(as_subject(rnn))

    assert (record.verdict, record.stop, record.total) == (Verdict.UNSUPPORTED, Stop.REFUSED, 0)


def test_refusals_by_size_are_counted_and_end_a_search_that_compares_little() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.T * config.N > 2:
            raise NotImplementedError("two rows at most")
        return implementations.vectorised(x, h0, weights, config)

    record = hunt(as_subject(rnn), cases=60)

    assert record.stop is Stop.BUDGET
    assert 0 < record.total < 60
    assert record.unsupported == {"two rows at most": 60 * REFUSALS_PER_CASE}


class DiesOnce:
    """A correct subject whose process dies in a single run."""

    name = "dies once"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.runs = 0

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        self.runs += 1
        return Outcome(failure=Failure.CRASHED, message="its process died") if self.runs == 200 else RIGHT.run(case)


def test_a_death_that_does_not_come_again_is_told_as_wavering() -> None:
    finding = hunt(DiesOnce(), Scope().only(T=[1, 2]), cases=200).finding

    assert finding is not None
    assert finding.result.nondeterministic
    assert "first its process died, then it did not die" in finding.result.message


class DiesOfZeros(DiesOnce):
    """A subject that dies of an initial state of zeros, which only a relation passes."""

    def run(self, case: Case) -> Outcome:
        if case.hx is not None and not case.hx.any():
            return Outcome(failure=Failure.CRASHED, message="its process died")
        return RIGHT.run(case)


def test_a_death_in_a_relation_s_run_is_told_of_that_run() -> None:
    finding = hunt(
        DiesOfZeros(), Scope().only(num_layers=1, T=[1, 2], N=[1, 2], distributions="normal"), cases=300
    ).finding

    assert finding is not None
    assert finding.result.failure is Failure.CRASHED
    assert finding.case.hx is not None
    assert not finding.case.hx.any()


def test_refusals_spend_nothing_where_enough_is_compared() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.hidden_size % 2 and config.T > 1:
            raise NotImplementedError("even sizes only")
        return implementations.vectorised(x, h0, weights, config)

    record = hunt(as_subject(rnn), Scope().only(T=[1, 2]), cases=60)

    assert record.unsupported["even sizes only"] > 0
    assert record.total == 60


def test_a_device_that_is_not_the_subject_s_is_refused_before_anything_runs() -> None:
    with pytest.raises(SubjectUnavailable, match=r"device='cuda': .* runs here on cpu"):
        hunt(RIGHT, Scope().only(device="cuda"))


def test_a_fault_of_the_harness_is_raised_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("our own")

    monkeypatch.setattr(checker, "check", broken)

    with pytest.raises(RuntimeError, match="our own"):
        hunt(RIGHT, SMALL)


def interrupt_after(seconds: float) -> threading.Timer:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(seconds, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    return timer


def test_an_interrupt_keeps_what_was_done() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        calls.append(config)
        if len(calls) == 400:  # after narrowing and the sweep of tanh, however long they take
            signal.raise_signal(signal.SIGINT)
        return implementations.vectorised(x, h0, weights, config)

    calls: list[RNNConfig] = []

    record = hunt(as_subject(rnn), SMALL, seconds=30)

    assert record.stop is Stop.INTERRUPTED
    assert record.total > 0
    assert record.seconds < 10


def test_a_subject_that_swallows_an_interrupt_is_left_all_the_same() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.05)
        return implementations.vectorised(x, h0, weights, config)

    timer = interrupt_after(0.5)
    record = hunt(as_subject(rnn), SMALL, seconds=30)
    timer.join()

    assert record.stop is Stop.INTERRUPTED
    assert record.seconds < 10


def test_an_interrupt_while_shrinking_keeps_the_failure_found() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.hidden_size >= 2:
            calls.append(config)
            if len(calls) > 20:  # after narrowing
                time.sleep(30)
            return x + weights["weight_ih_l0"].sum(), h0
        return implementations.vectorised(x, h0, weights, config)

    calls: list[RNNConfig] = []
    timer = interrupt_after(1.5)

    record = hunt(as_subject(rnn), seconds=30)
    timer.join()

    assert record.stop is Stop.INTERRUPTED
    assert record.finding is not None
    assert not record.finding.minimal
    assert record.finding.result.kind == "output: shape"


def test_every_case_of_the_plan_is_an_event() -> None:
    with Search(RIGHT, SMALL, SearchOptions(cases=100)) as search:
        totals = [search.record.total for _ in search]

    assert totals[-1] == 100
    assert totals == sorted(totals)
    assert len(totals) == 100 + search.record.unsupported.total()


def test_narrowing_finds_a_base_two_steps_away_and_leaves_sizes_alone() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.nonlinearity != "relu" or config.bias:
            raise NotImplementedError("relu without bias")
        return implementations.vectorised(x, h0, weights, config)

    narrowed = narrow(as_subject(rnn), Scope())

    assert narrowed.accepted
    assert narrowed.scope == Scope().only(nonlinearity="relu", bias=False)
    assert narrowed.scope.T == SIZES


def test_a_subject_that_does_multiples_of_eight_only_is_met_there() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.hidden_size % 8 or config.nonlinearity == "tanh":
            raise NotImplementedError("relu, multiples of 8")
        return implementations.vectorised(x, h0, weights, config)

    record = hunt(as_subject(rnn), cases=200)

    assert record.verdict is Verdict.AGREES
    assert record.total > 0
    assert record.scope.nonlinearity == ("relu",)


@pytest.mark.parametrize("budget", [{"cases": 0}, {"cases": -1}, {"seconds": 0.0}])
def test_a_budget_that_allows_nothing_is_refused(budget: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected (an int of at least 1|seconds, a number above zero)"):
        hunt(RIGHT, **budget)


def shrunk(function: Any, case: Case, scope: Scope) -> Case:
    subject = as_subject(function)
    result = check_agreement(subject, case)
    plainer = [case, *(found for found, _ in CaseShrinker(case, result, scope, lambda c: check_agreement(subject, c)))]
    return plainer[-1]


def test_shrinking_ends_where_the_scope_lists_the_plainest_dropout_last() -> None:
    case = draw(RNNConfig(1, 1, dropout=0.5), "normal", 0)

    smallest = shrunk(implementations.without_b_hh, case, Scope().only(dropout=[0.5, 0.0], num_layers=1))

    assert smallest.config.hidden_size == 1


def test_shrinking_leaves_out_the_readout_and_takes_the_plainest_values() -> None:
    case = draw(RNNConfig(2, 2, output_size=2, training=True), "saturated", 3)

    smallest = shrunk(implementations.without_b_hh, case, Scope().only(output_size=[None, 1, 2]))

    assert smallest.config == RNNConfig(1, 1)
    assert sorted(abs(array).max() for array in smallest.arrays.values()) == [0, 0, 0, 0, 1]


def test_shrinking_a_config_that_is_minimal_takes_the_plainest_values() -> None:
    smallest = shrunk(implementations.without_b_hh, draw(RNNConfig(1, 1), "normal", 3), Scope())

    assert smallest.config == RNNConfig(1, 1)
    assert sorted(abs(array).max() for array in smallest.arrays.values()) == [0, 0, 0, 0, 1]


def test_shrinking_never_turns_dropout_and_training_on_together() -> None:
    seen: list[RNNConfig] = []
    case = draw(RNNConfig(2, 2, num_layers=2, dropout=0.5, T=2), "normal", 3)

    def check(candidate: Case) -> Any:
        seen.append(candidate.config)
        return check_agreement(as_subject(implementations.without_b_hh), candidate)

    list(CaseShrinker(case, check(case), Scope().only(num_layers=2, training=[True, False], dropout=[0.5, 0.0]), check))

    assert not any(config.dropout and config.training for config in seen)


def test_the_plainest_config_is_all_defaults() -> None:
    assert plainest(Scope()) == RNNConfig(1, 1)


def test_shrinking_ends_where_every_plainer_neighbour_passes() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return (output + 1, h_n) if config.N * config.T >= 6 else (output, h_n)

    subject = as_subject(rnn)
    case = draw(RNNConfig(5, 4, num_layers=2, T=4, N=7, hx=True), "normal", 3)

    def check(case: Case) -> Any:
        return check_agreement(subject, case)

    *_, (smallest, result) = CaseShrinker(case, check(case), Scope(), check)

    config = smallest.config
    assert result.failed
    assert config.N * config.T >= 6
    assert (config.N - 1) * config.T < 6
    assert config.N * (config.T - 1) < 6
    assert config == RNNConfig(1, 1, T=config.T, N=config.N)


@pytest.mark.parametrize(("cases", "strength"), [(100, 3), (60, 2), (30, None)])
def test_a_covering_array_that_leaves_enough_of_the_budget_comes_first(cases: int, strength: int | None) -> None:
    seen: list[RNNConfig] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        seen.append(config)
        return implementations.vectorised(x, h0, weights, config)

    scope = SMALL.only(dtype="float32", loss=None, device="cpu")
    record = hunt(as_subject(rnn), scope, cases=cases)
    small = covering(record.scope.only(T=2, N=2, input_size=2, hidden_size=2), 2)
    left = COVERING_SHARE * cases - len(small)
    assert left >= 0
    assert [left >= len(covering(record.scope, t)) for t in (3, 2)] == [strength == 3, strength is not None]

    planned = small + ([] if strength is None else covering(record.scope, strength))
    run = iter(seen)
    assert all(config in run for config in planned)  # in this order, among prefixes of stacks and cases of relations
    assert record.total == cases


def test_a_failure_met_on_infinities_is_looked_for_on_numbers_that_stay_numbers() -> None:
    kinds: list[Any] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.without_b_hh(x, h0, weights, config)
        kinds.append(bool(np.isfinite(output).all()))
        return np.nan_to_num(output), np.nan_to_num(h_n)

    # relu, so that infinities come from large numbers, too, and are met first in some seeds
    scope = SMALL.only(nonlinearity="relu", loss=None)
    findings = [hunt(as_subject(rnn), scope, seed=seed).finding for seed in range(6)]

    assert {finding.result.mismatches[0].sort for finding in findings if finding is not None} == {MismatchKind.VALUE}
    assert not all(kinds)


def test_a_subject_whose_path_is_no_text_has_an_id_all_the_same() -> None:
    case = draw(RNNConfig(1, 1))
    result = check_agreement(RIGHT, case)

    odd, plain = (Finding(name, case, result).id for name in ("caf\udce9.py:rnn", "cafe.py:rnn"))

    assert len(odd) == len(plain) == 8
    assert odd != plain


def test_a_finding_is_asked_for_once_more_in_a_fresh_process() -> None:
    restarts: list[None] = []
    subject: Any = as_subject(implementations.without_b_hh)
    given = {"restart": lambda: restarts.append(None), "environment": lambda _device: {}}
    process: Any = SimpleNamespace(**given, lines=lambda _case: 0, unrepeated=0, spoiled="")
    subject.capabilities = replace(subject.capabilities, process=process)

    finding = hunt(subject, SMALL).finding

    assert finding is not None
    assert finding.certificate.fresh_process
    assert len(restarts) == 1


def test_the_time_bounds_what_is_done_with_a_failure_too() -> None:
    def slow(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        time.sleep(0.1)
        return implementations.without_b_hh(x, h0, weights, config)

    subject = as_subject(slow)
    investigation = FindingExplainer(subject)
    start = time.perf_counter()

    record = explained(investigation, seconds=4)

    assert time.perf_counter() - start < 15  # shrinking and explaining to the end would take minutes
    assert record.finding is not None
    assert all("the time is over" in said for said in record.finding.certificate.untried)
    assert not record.finding.minimal
    assert investigation.explanations[record.finding.id].where is None


def wrong_by_many_numbers(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Go wrong by the sizes of many numbers together, as a clip by a norm does."""
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output * (1 if np.abs(x).sum() < 300 else 0.5), h_n


@pytest.mark.parametrize(
    ("limit", "cut_at"),
    [({}, "300 cases were tried"), ({"TRIES": 7}, "7 cases were tried"), ({"SECONDS": 0.0}, "0 s are over")],
)
def test_a_failure_is_made_smaller_by_so_many_tries_and_so_long_and_says_what_cut_it(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, float], cut_at: str
) -> None:
    for name, value in ({"SECONDS": 1e9} | limit).items():
        monkeypatch.setattr(confirm_and_shrink, name, value, raising=False)

    record = hunt(wrong_by_many_numbers, Scope().only(num_layers=1, N=8, T=8, input_size=8, loss=None), cases=20)

    assert record.finding is not None
    assert record.finding.certificate.untried == (f"shrinking not finished: {cut_at}",)
    assert record.shrink_checks == int(cut_at.split(maxsplit=1)[0])


def test_a_failure_that_comes_last_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.budget.LAST_SHRINKING", 0.0)

    record = hunt(as_subject(implementations.without_b_hh), SMALL, seconds=60)

    assert record.finding is not None
    assert record.finding.certificate.untried == ("shrinking not finished: the time is over",)
    assert record.shrink_checks == 0


def test_a_terminated_search_keeps_what_was_done() -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.7, signal.pthread_kill, [main, signal.SIGTERM])
    timer.start()

    record = hunt(RIGHT, SMALL, seconds=30)
    timer.join()

    assert (record.stop, record.total > 0) == (Stop.INTERRUPTED, True)


SIZED = """
import os, torch
from tests import implementations

def raises():
    raise ValueError

def layer(fails, axis, least):
    class Layer(torch.nn.RNN):
        def forward(self, x, hx=None):
            if torch.is_tensor(x) and x.shape[axis] >= least:
                fails()
            return super().forward(x, hx)
    return Layer

def function(fails, axis, least):
    def rnn(x, h0, weights, config):
        if x.shape[axis] >= least:
            fails()
        return implementations.vectorised(x, h0, weights, config)
    return rnn

for form in (layer, function):
    for fails in (raises, os.abort):
        for size, least in (("N", 2), ("N", 3), ("T", 3)):
            globals()[f"{form.__name__}_{fails.__name__}_{size}{least}"] = form(fails, "TN".index(size), least)
"""
HUNTED = """
import sys
from harness import Scope, hunt
from harness.subjects.isolated import IsolatedSubject

if __name__ == "__main__":
    sizes = {"T": (1, 2, 3), "N": (1, 2, 3), "input_size": (1, 2), "hidden_size": (1, 2), "num_layers": 1}
    plain = {"bidirectional": False, "batch_first": False, "dtype": "float32", "training": False, "dropout": 0.0}
    scope = Scope().only(**sizes, **plain, hx=False, preparation=("new", "used", "used"))
    for name in sys.argv[2:]:
        with IsolatedSubject(f"{sys.argv[1]}:{name}") as subject:
            packed = scope.only(lengths=[None, "any"]) if name.startswith("layer") else scope
            found = hunt(subject, packed, cases=100).finding
            print(name, found.case.config, found.result.kind)
"""


def test_a_gradient_that_is_wrong_for_what_was_wrong_before_it_is_told_by_that() -> None:
    subject = as_subject(first_torch.Chunks)  # in float16 it is seen in the backward pass first

    scope = scope_of(subject).only(T=[49], N=[2], loss=[None, "h_n"], wrt=["all", "inputs"])
    scope = scope.only(distributions=["normal", "dyadic", "sparse"])
    found = hunt(subject, scope.only(dtype=["float32", "float16"], lengths=None), cases=100).finding

    assert found is not None
    assert found.result.kind == "output: value"
    assert found.case.config.loss is None


@pytest.mark.long
def test_what_fails_from_a_size_on_is_shown_at_that_size(tmp_path: Path) -> None:
    file = tmp_path / "sized.py"
    file.write_text(SIZED)
    kinds = {"raises": "ValueError", "abort": "died"}
    forms = ("layer_raises_N", "layer_abort_T", "function_raises_T", "function_abort_N")  # every two meet once
    expected = {
        f"{form}3": f"{RNNConfig(1, 1).replace(**{form[-1]: 3})} broken: {kinds[form.split('_')[1]]}" for form in forms
    }

    command = [sys.executable, "-c", HUNTED, str(file), *expected]  # a process that forks others with torch imported
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert dict(line.split(" ", 1) for line in done.stdout.splitlines()) == expected


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_an_interrupt_while_a_failure_is_pursued_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm_and_shrink, "in_the_forward_pass", interrupted)

    record = hunt(as_subject(implementations.without_b_hh), SMALL)

    assert (record.stop, record.verdict) == (Stop.INTERRUPTED, Verdict.DISAGREES)
    assert not record.findings[0].minimal


def test_an_interrupt_while_a_suspicion_is_weighed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def suspicious(_subject: Any, _case: Case, **_: Any) -> Result:
        return Result(Verdict.SUSPECT, (Mismatch("output", MismatchKind.SUSPICIOUS),))

    monkeypatch.setattr(checker, "check", suspicious)
    monkeypatch.setattr(confirm_and_shrink, "weigh", interrupted)

    record = hunt(as_subject(implementations.vectorised), SMALL)

    assert record.stop is Stop.INTERRUPTED
    assert [one.runs for one in record.suspicions] == [0]


class Everything(NamedTuple):
    """A known cause of every failure."""

    name: str

    def covers(self, _observation: Observation, _result: Result) -> bool:
        return True


def test_a_search_goes_on_after_a_finding_that_it_can_recognise() -> None:
    known_cause = Everything("6dfbaed6")
    with Search(as_subject(implementations.without_b_hh), SMALL, SearchOptions(cases=60)) as search:
        for finding in search.findings():
            assert search.record.explaining
            assert search.record.findings[-1] is finding
            search.pass_over(RecognisedCause(known_cause))

    assert search.record.stop is Stop.BUDGET
    assert search.record.total == 60
    assert search.record.known[known_cause.name] > 10
    assert not search.record.explaining


class OfFewSteps(Everything):
    """A known cause of every failure but of those of seven steps."""

    def covers(self, observation: Observation, _result: Result) -> bool:
        return observation.case.config.T != 7


def test_cases_that_may_show_a_cause_alone_are_checked_after_those_of_the_plan_and_not_counted() -> None:
    def alone() -> Iterator[Case]:
        assert search.record.total == 60
        yield from (draw(RNNConfig(1, 1, T=T, N=1), "normal", 1) for T in (6, 7))

    with Search(as_subject(implementations.without_b_hh), SMALL, SearchOptions(cases=60)) as search:
        first, second = search.findings(), list[Finding]()
        search.pass_over(RecognisedCause(OfFewSteps(next(first).id), alone=alone))
        for finding in first:
            second.append(finding)
            search.pass_over(RecognisedCause(Everything(finding.id)))

    assert [one.case.config.T for one in second] == [7]
    assert (search.record.stop, search.record.total, search.record.beyond) == (Stop.BUDGET, 60, 1)


def test_such_cases_are_not_checked_when_the_time_is_over() -> None:
    asked = list[Case]()

    def slow(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        time.sleep(0.02)
        return implementations.without_b_hh(x, h0, weights, config)

    def alone() -> Iterator[Case]:
        for seed in range(1000):
            asked.append(draw(RNNConfig(1, 1, T=1, N=1), "normal", seed))
            yield asked[-1]

    with Search(as_subject(slow), SMALL, SearchOptions(cases=20, seconds=3.0)) as search:
        for finding in search.findings():
            search.pass_over(RecognisedCause(Everything(finding.id), alone=alone))

    assert len(asked) < 200
    assert search.record.seconds < 10


class DiesAlways(DiesOnce):
    """A subject whose process ends on every case."""

    def run(self, case: Case) -> Outcome:
        return Outcome(failure=Failure.CRASHED, message="its process died")


def test_a_search_that_ends_because_of_deaths_says_so_and_what_to_do() -> None:
    with Search(DiesAlways(), SMALL, SearchOptions(cases=60)) as search:
        for finding in search.findings():
            search.pass_over(RecognisedCause(Everything(finding.id)))

    record = search.record
    assert record.stop is Stop.DEATHS
    assert record.known == {finding.id: 20}
    assert record.stop.value.startswith(
        "20 more deaths of its process; mend what ends it, or leave that out with --only"
    )


def test_a_search_ends_with_a_finding_that_it_cannot_recognise() -> None:
    with Search(as_subject(implementations.without_b_hh), SMALL) as search:
        assert len(list(search.findings())) == 1

    assert search.record.stop is Stop.FINDING


def test_a_finding_that_is_another_s_is_counted_with_that() -> None:
    with Search(as_subject(implementations.without_b_hh), SMALL) as search:
        [finding] = search.findings()
        search.record.findings.append(finding)
        search.pass_over(RecognisedCause(None, finding.id))

    assert search.record.findings == [finding]
    assert search.record.known == {finding.id: 1}


def test_who_leaves_a_search_ends_it_and_has_its_record() -> None:
    with Search(as_subject(implementations.without_b_hh), SMALL) as search:
        for _ in search.findings():
            break

    assert search.record.stop is Stop.FINDING
    assert search.record.seconds > 0
    assert search.record.environment
    assert list(search) == []


@pytest.mark.parametrize("pulled", [0, 1, 2])
def test_an_interrupt_between_two_findings_keeps_what_was_found(pulled: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Search(as_subject(implementations.without_b_hh), SMALL) as search:
        found = [next(search.findings(), None) for _ in range(pulled)]
        raise KeyboardInterrupt

    assert search.record.stop is Stop.INTERRUPTED
    assert search.record.findings == [one for one in found if one is not None]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_who_pulls_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), Search(as_subject(implementations.without_b_hh), SMALL) as search:
        assert not [1 / 0 for _ in search.findings()]


def test_a_failure_without_time_to_make_it_smaller_is_confirmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    confirmations: list[Case] = []

    def confirming(subject: Any, case: Case, result: Result, check: Any) -> Result:
        confirmations.append(case)
        return result

    monkeypatch.setattr(confirm_and_shrink, "confirmed", confirming)
    monkeypatch.setattr("harness.search.budget.LAST_SHRINKING", 0)

    record = hunt(
        lambda x, h0, weights, config: (x + weights["weight_ih_l0"].sum(), h0), Scope().only(num_layers=1), seconds=60
    )

    assert record.finding is not None
    assert len(confirmations) == len(record.findings)
    assert "the time is over" in str(record.finding.certificate)


def test_a_case_without_an_answer_is_not_counted_as_compared_step_by_step() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        raise ZeroDivisionError

    record = hunt(rnn, Scope().only(num_layers=1, T=[1, 2]), cases=5)

    assert set(record.checks) == {ComparisonMethod.NONE}
