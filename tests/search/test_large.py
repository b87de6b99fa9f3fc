"""Tests of large products of sizes, on small ones: the edge is a parameter, and the code is the same."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope, as_subject
from harness.checks.result import Result, Verdict
from harness.diagnosis.investigate import Investigation
from harness.diagnosis.large import explain_large
from harness.oracle.arithmetic import STRICT
from harness.pipeline import with_large_products
from harness.report.explained import fails_line
from harness.report.wording import large_lines
from harness.search import large
from harness.search.large import Large, TooLarge, Trial, hunt_large
from harness.search.record import Finding, Hunt, Stop
from harness.space import memory
from harness.space.outcome import Failure, Outcome
from tests import implementations

POWER = 2**12


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let edges begin at a small one, where the search itself has no cases, and compare few sequences at a time."""
    monkeypatch.setattr("harness.checks.agreement.CHUNK", 500)
    for place in ("harness.space.product_edges.EDGE", "harness.search.large.EDGE"):
        monkeypatch.setattr(place, 64)


def right(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return implementations.vectorised(x, h0, weights, config)


def with_rows(counted: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that writes each row of its output at an index that it counts in its own way."""

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        rows = output.reshape(-1, output.shape[-1])
        written = np.zeros_like(rows)
        written[counted(np.arange(len(rows)))] = rows
        return written.reshape(output.shape), h_n

    return rnn


def modulo(rows: Any) -> Any:
    return rows % POWER


def in_few_bits(rows: Any) -> Any:
    """Count as a number does whose significand has 12 bits: above 2**12 every second row is missed."""
    return np.where(rows > POWER, rows // 2 * 2, rows)


def searched(function: Any, largest: int = POWER, **pins: Any) -> tuple[Hunt, Large, Trial]:
    subject = as_subject(function)
    done = Hunt(subject.name, 0, Scope().only(**pins))
    record, trial = hunt_large(subject, done, largest, lambda _done: None)
    return done, record, trial


@pytest.mark.parametrize(
    ("counted", "N", "words"),
    [(modulo, POWER + 1, f"with N*T above {POWER}"), (in_few_bits, POWER + 2, f"with N*T above {POWER + 1}")],
)
def test_an_index_that_ends_is_found_and_told_with_its_threshold(counted: Any, N: int, words: str) -> None:
    done, record, trial = searched(with_rows(counted))
    [finding] = done.findings
    explained = explain_large(finding, done.scope, trial)

    assert finding.case.config == RNNConfig(1, 1, N=N)
    assert finding.result.failed
    assert explained.factors is not None
    assert fails_line(explained.factors) == words
    assert explained.factors.passing == ("N", N - 1)
    assert record.failed is not None
    assert [one.why for one in record.skipped] == ["after a failure"] * 11


def test_a_size_alone_is_told_from_a_product() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        return output * output.dtype.type(0.5 if config.N > POWER else 1), h_n

    done, _, trial = searched(rnn)
    explained = explain_large(done.findings[0], done.scope, trial)

    assert explained.factors is not None
    assert fails_line(explained.factors) == f"with N from {POWER + 1} on"


def test_a_threshold_far_below_the_edge_is_found() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        return output * output.dtype.type(0.5 if config.N >= 777 else 1), h_n

    done, _, _ = searched(rnn)

    assert done.findings[0].case.config.N == 777


def test_a_right_subject_agrees_below_at_and_above_each_product() -> None:
    done, record, _ = searched(right)

    assert not done.findings
    assert not record.skipped
    for name in ("N", "N*T", "N*H", "N*T*H"):
        met = {_product(config, name) - POWER for config in record.agreed}
        assert 0 in met, name
        assert any(-4 <= by < 0 for by in met), name
        assert any(2 <= by <= 4 for by in met), name


def test_only_the_edges_that_were_reached_are_said_to_agree() -> None:
    record = Large((2**12, 2**24), "float32", [RNNConfig(1, 1, N=2**12 + 2)], seconds=7.0)

    assert list(large_lines(record)) == ["1 case agrees around 2^12 in float32, forward only, in 7 s"]


def _product(config: RNNConfig, name: str) -> int:
    sizes = {"N": config.N, "T": config.T, "H": config.hidden_size}
    return math.prod(sizes[one] for one in name.split("*"))


def test_what_does_not_fit_into_memory_is_skipped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 3 * 10**8)
    done, record, _ = searched(right, 2**24)
    said = list(large_lines(record))

    assert not done.findings
    assert not record.agreed
    assert len(record.skipped) == 12
    # Of each 4 bytes: 4 copies of x, and 6 of output and h_n; and 2**28 bytes for all else.
    needs = (2**24 + 2) * 4 * (4 + 6 * 2) + 2**28
    assert said == [f"skipped N={2**24 + 2} and 11 more: needs {needs / 1e9:.3g} GB, 0.3 GB are free"]


def test_a_device_of_its_own_has_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RNNConfig(1, 1, N=2**20, device="cuda:0")
    monkeypatch.setattr(memory, "free", lambda: 2**40)

    assert memory.too_large(config) == ""
    assert memory.too_large(config, 2**31) == ""
    assert "on cuda:0" in memory.too_large(config, 2**28)


def test_a_system_that_tells_no_memory_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "free", lambda: None)
    _, record, _ = searched(right)

    assert not record.agreed
    assert list(large_lines(record)) == ["none: this system does not tell how much memory is free"]


@pytest.mark.parametrize(
    "pins", [{"N": 5}, {"loss": "h_n"}, {"num_layers": 2}, {"dtype": "complex64"}, {"device": "meta"}]
)
def test_none_is_asked_for_where_a_case_cannot_be_compared_in_pieces(pins: dict[str, Any]) -> None:
    _, record, _ = searched(right, **pins)

    assert not record.agreed
    assert next(large_lines(record)).startswith("none: a size is pinned")


class Answering:
    """A subject whose answer to a case is given, whatever the case."""

    def __init__(self, outcome: Outcome) -> None:
        own = as_subject(right)
        self.name, self.capabilities, self.outcome = "answering", own.capabilities, outcome

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, _case: Any) -> Outcome:
        return self.outcome


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure.RAISED, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 GiB: MemoryError"),
        (Failure.RAISED, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 16 GiB"),
        (Failure.RAISED, "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        (Failure.CRASHED, "its process died of SIGKILL"),
        (Failure.HUNG, "no answer within 60 s"),
    ],
)
def test_short_memory_and_time_are_no_failures(failure: Failure, message: str) -> None:
    trial = Trial(Answering(Outcome(failure=failure, message=message)), STRICT, 0)

    with pytest.raises(TooLarge, match=message.partition(":")[0]):
        trial(RNNConfig(1, 1, N=100))


def test_another_crash_is_a_failure() -> None:
    trial = Trial(Answering(Outcome(failure=Failure.CRASHED, message="its process died of SIGSEGV")), STRICT, 0)

    assert trial(RNNConfig(1, 1, N=100)).failed


def test_after_no_answer_larger_ones_are_not_asked() -> None:
    subject = Answering(Outcome(failure=Failure.HUNG, message="no answer within 60 s"))
    trial = Trial(subject, STRICT, 0)
    with pytest.raises(TooLarge):
        trial(RNNConfig(1, 1, N=100))
    subject.outcome = as_subject(right).run(trial.case(RNNConfig(1, 1, N=99)))

    assert not trial(RNNConfig(1, 1, N=99)).failed
    with pytest.raises(TooLarge, match="no answer in time with 100 states"):
        trial(RNNConfig(1, 1, N=101))


def test_what_the_time_does_not_allow_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: None)
    trial = Trial(as_subject(right), STRICT, 0, time.perf_counter() + 1000)
    assert not trial(RNNConfig(1, 1, N=100)).failed

    with pytest.raises(TooLarge, match=r"takes some .* s are left"):
        trial(RNNConfig(1, 1, N=10**12))


def test_a_failure_whose_threshold_the_time_does_not_allow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda: 10**10)
    subject = as_subject(with_rows(modulo))
    investigation, done = Investigation(subject), Hunt(subject.name, 0, Scope())
    asked: list[int] = []

    def misfit(trial: Trial, config: RNNConfig) -> str:
        asked.append(config.N)
        return "takes some 3 s, 2 s are left" if len(asked) > 3 else ""

    monkeypatch.setattr(Trial, "_misfit", misfit)
    record = with_large_products(investigation, done, POWER, None)

    [finding] = done.findings
    assert investigation.explanations[finding.id].factors is None
    unknown = "where that begins is not known: takes some 3 s, 2 s are left"
    assert next(large_lines(record)) == f"N={asked[0]}: fails; {unknown}"
    assert "not to the end: takes some 3 s, 2 s are left" in finding.certificate.untried


def test_the_first_case_is_not_begun_if_a_part_of_it_takes_too_long() -> None:
    asked: list[int] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        asked.append(config.N)
        time.sleep(0.2)
        return right(x, h0, weights, config)

    with pytest.raises(TooLarge, match=r"takes some .* s are left"):
        Trial(as_subject(rnn), STRICT, 0, time.perf_counter() + 2)(RNNConfig(1, 1, N=1600))
    assert asked == [100]


def test_a_failure_that_the_search_met_is_not_told_again() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        return output * output.dtype.type(0.5), h_n

    subject = as_subject(rnn)
    done = Hunt(subject.name, 0, Scope())
    trial = Trial(subject, STRICT, 0)
    config = RNNConfig(1, 1, N=1)
    before = Finding(subject.name, trial.case(config), trial(config))
    done.findings.append(before)
    record, _ = hunt_large(subject, done, POWER, lambda _done: None)

    assert done.findings == [before]
    assert record.failed is not None
    assert next(large_lines(record)) == f"N={record.failed.N}: fails where smaller cases do"


def test_suspicious_values_are_neither_a_failure_nor_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "check_agreement", lambda *_, **__: Result(Verdict.SUSPECT))
    done, record, _ = searched(right)

    assert not done.findings
    assert not record.agreed
    assert {one.why for one in record.skipped} == {"has suspicious values, which no bound proves wrong"}


def test_what_gives_two_answers_is_said_to_waver(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([0.5, 1.0, 1.0])  # at the edge, one below, and at the edge again

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        return output * output.dtype.type(next(answers, 1.0)), h_n

    done, _, _ = searched(rnn)

    assert done.findings[0].result.wavers


def test_a_failure_is_told_though_an_interrupt_ends_its_pursuit() -> None:
    asked: list[int] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        asked.append(config.N)
        if len(asked) == 3:
            raise KeyboardInterrupt
        output, h_n = right(x, h0, weights, config)
        return output * output.dtype.type(0.5 if config.N > POWER // 2 else 1), h_n

    done, record, _ = searched(rnn)

    assert done.stop is Stop.INTERRUPTED
    assert done.findings[0].case.config.N == asked[1] < asked[0]
    assert record.failed is not None
    assert [one.why for one in record.skipped] == ["after a failure"] * 11


def test_what_agreed_before_an_interrupt_is_told() -> None:
    asked: list[int] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        asked.append(config.N)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return right(x, h0, weights, config)

    done, record, _ = searched(rnn)

    assert done.stop is Stop.INTERRUPTED
    assert len(record.agreed) == 2
    assert [one.why for one in record.skipped] == ["after an interrupt"] * 10


def test_what_fails_in_more_arrays_on_fewer_sequences_does_not_waver() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = right(x, h0, weights, config)
        half = output.dtype.type(0.5)
        return output * half if 1000 < config.N < 3000 else output, h_n * half if config.N > 1000 else h_n

    done, _, _ = searched(rnn)

    assert done.findings[0].result.kind == "output: value"
    assert not done.findings[0].result.wavers
