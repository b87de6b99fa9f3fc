"""Tests of examination: which checks are made of which subject, in one run, and the single verdict."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from harness import Case, Outcome, RNNConfig, Scope, Verdict, as_subject, draw, hunt
from harness.checks.dropout import check_dropout
from harness.checks.malformed import AcceptedMalformedCall, MalformedCallAnswers, RefusalDefect
from harness.checks.result import ComparisonMethod, Result
from harness.search import examination
from harness.search.deadline import Hang
from harness.search.evidence import Certificate
from harness.search.examination import DROPOUT_RUNS, Examination, examine
from harness.search.plan_shards import Shard
from harness.search.search_options import SearchOptions
from harness.search.search_record import Finding, SearchRecord, Stop
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject
from tests import implementations

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
ALL = scope_of(TORCH).only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])


def hunted(verdict: Verdict | None = Verdict.AGREES) -> SearchRecord:
    """Return a search that came to a verdict."""
    record = SearchRecord("mine", 7, ALL)
    if verdict is Verdict.AGREES:
        record.scope = record.scope.only(**{name: values[0] for name, values in record.scope.values().items()})
        record.checks[ComparisonMethod.LOCAL] = 200
    elif verdict is Verdict.UNSUPPORTED:
        record.unsupported["one layer only"] = 3
    elif verdict is not None:
        record.findings.append(Finding("mine", draw(RNNConfig(1, 1)), Result(verdict), certificate=Certificate()))
    return record


def refused(*lapses: RefusalDefect) -> MalformedCallAnswers:
    return MalformedCallAnswers(
        findings=[AcceptedMalformedCall("hx: batch", lapse, (), "", "rnn(x)") for lapse in lapses]
    )


ACCEPTED, CRASHED, HUNG = RefusalDefect.ACCEPTED, RefusalDefect.CRASHED, RefusalDefect.HUNG
BROKEN_STATISTICS, GOOD_STATISTICS = (
    Result(Verdict.DISAGREES, method=ComparisonMethod.DROPOUT),
    Result(Verdict.AGREES, method=ComparisonMethod.DROPOUT),
)


@pytest.mark.parametrize(
    ("hunt", "dropout", "answers", "verdict"),
    [
        (None, None, [], None),
        (Verdict.AGREES, None, [], Verdict.AGREES),
        (Verdict.AGREES, GOOD_STATISTICS, [], Verdict.AGREES),
        (Verdict.UNSUPPORTED, None, [], Verdict.UNSUPPORTED),
        (Verdict.AGREES, BROKEN_STATISTICS, [], Verdict.DISAGREES),
        (Verdict.AGREES, Result(Verdict.BROKEN), [], Verdict.BROKEN),
        (Verdict.AGREES, Result(Verdict.BROKEN), [ACCEPTED], Verdict.BROKEN),
        (Verdict.AGREES, GOOD_STATISTICS, [ACCEPTED], Verdict.DISAGREES),
        (Verdict.AGREES, GOOD_STATISTICS, [CRASHED], Verdict.BROKEN),
        (Verdict.AGREES, None, [CRASHED, HUNG], Verdict.BROKEN),
        (Verdict.AGREES, None, [CRASHED, ACCEPTED], Verdict.DISAGREES),
        (Verdict.UNSUPPORTED, None, [ACCEPTED], Verdict.DISAGREES),
        (None, None, [ACCEPTED], Verdict.DISAGREES),
        (None, BROKEN_STATISTICS, [], Verdict.DISAGREES),
        (Verdict.SUSPECT, BROKEN_STATISTICS, [ACCEPTED], Verdict.SUSPECT),
        (Verdict.BROKEN, BROKEN_STATISTICS, [ACCEPTED], Verdict.BROKEN),
        (Verdict.DISAGREES, Result(Verdict.BROKEN), [CRASHED], Verdict.DISAGREES),
    ],
)
def test_a_finding_among_cases_comes_first_then_dropout_then_refusals(
    hunt: Verdict | None, dropout: Result | None, answers: list[RefusalDefect], verdict: Verdict | None
) -> None:
    assert Examination(hunted(hunt), refused(*answers), dropout).verdict is verdict


@pytest.mark.parametrize(
    ("shard", "found", "verdict"),
    [
        (None, Verdict.AGREES, Verdict.NOT_ENOUGH),
        (Shard(1, 2), Verdict.AGREES, Verdict.AGREES),
        (None, Verdict.DISAGREES, Verdict.DISAGREES),
    ],
)
def test_what_is_offered_and_not_compared_is_not_enough_seen(
    shard: Shard | None, found: Verdict, verdict: Verdict
) -> None:
    record = hunted(found)
    record.gaps, record.shard = {"num_layers": "with 2, it raises ValueError"}, shard

    assert Examination(record).verdict is verdict


def test_what_a_user_pins_is_no_gap() -> None:
    class OneLayer(TorchSubject):
        def __init__(self) -> None:
            super().__init__(name="mine")
            gaps = {"num_layers": "it raises", "h_n": "is not read"}
            self.capabilities = replace(self.capabilities, not_compared=gaps)

    pins = frozenset[str](), frozenset({"num_layers"})
    searches = [hunt(OneLayer(), ALL, cases=1, pinned=pinned) for pinned in pins]

    assert [{*record.gaps} for record in searches] == [{"num_layers", "h_n"}, {"h_n"}]


def test_an_examination_is_interrupted_wherever_it_was() -> None:
    stopped = hunted()
    stopped.stop = Stop.INTERRUPTED
    late = refused()
    late.interrupted = True

    assert not Examination(hunted()).interrupted
    assert not Examination(hunted(), refused()).interrupted
    assert Examination(stopped).interrupted
    assert Examination(hunted(), late).interrupted


class Asked:
    """A record of what an examination asks after a search; each of its checks can be made to end differently."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.stop = Stop.BUDGET
        self.dropout: Any = GOOD_STATISTICS
        self.refusals: Any = refused()
        monkeypatch.setattr(examination, "check_dropout", self.check_dropout)
        monkeypatch.setattr(examination, "check_refusals", self.check_refusals)

    def examine(
        self,
        subject: Any,
        scope: Scope,
        *,
        seed: int = 0,
        dropping_until: float = math.inf,
        until: float = math.inf,
        **options: Any,
    ) -> Examination:
        """Examine a subject after a search that found nothing."""
        record = hunted()
        record.scope, record.stop, record.seed, record.until = scope, self.stop, seed, until
        return examine(subject, record, SearchOptions(**options), dropping_until=dropping_until)

    def check_dropout(self, subject: Any, device: str, seed: int, scope: Scope, until: float) -> Result:
        self.calls.append(("dropout", {"device": device, "seed": seed, "until": until}))
        if isinstance(self.dropout, BaseException):
            raise self.dropout
        return self.dropout  # type: ignore[no-any-return]

    def check_refusals(self, call: Any, dtype: str, device: str, until: float, *, cell: str) -> MalformedCallAnswers:
        self.calls.append(("refusals", {"dtype": dtype, "device": device, "until": until}))
        if isinstance(self.refusals, BaseException):
            raise self.refusals
        return self.refusals  # type: ignore[no-any-return]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_a_module_is_asked_for_the_relation_of_dropout_and_for_refusals(asked: Asked) -> None:
    done = asked.examine(TORCH, ALL, cases=500, seed=7, dropping_until=9.0, until=11.0)

    assert asked.names == ["dropout", "refusals"]
    assert dict(asked.calls)["dropout"] == {"device": "cpu", "seed": 7, "until": 9.0}
    assert dict(asked.calls)["refusals"] == {"dtype": "float32", "device": "cpu", "until": 11.0}
    assert (done.dropout, done.refusals) == (GOOD_STATISTICS, asked.refusals)


def test_a_function_is_asked_for_nothing_more(asked: Asked) -> None:
    done = asked.examine(as_subject(implementations.vectorised), Scope(), cases=500)

    assert asked.names == []
    assert (done.dropout, done.refusals) == (None, None)


@pytest.mark.parametrize(("cases", "times"), [(None, 1), (DROPOUT_RUNS, 1), (DROPOUT_RUNS - 1, 0), (1, 0), (5000, 1)])
def test_the_relation_of_dropout_is_not_asked_for_in_a_search_of_few_cases(
    asked: Asked, cases: int | None, times: int
) -> None:
    asked.examine(TORCH, ALL, cases=cases)

    assert asked.names.count("dropout") == times


def test_the_relation_of_dropout_takes_no_more_runs_than_it_is_said_to() -> None:
    runs: list[RNNConfig] = []

    class Counted(TorchSubject):
        def run(self, case: Case) -> Outcome:
            runs.append(case.config)
            return super().run(case)

    result = check_dropout(Counted())

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.DROPOUT)
    assert DROPOUT_RUNS - 20 < len(runs) <= DROPOUT_RUNS


@pytest.mark.parametrize("pins", [{"training": False}, {"dropout": 0.0}, {"device": "meta"}])
def test_the_relation_of_dropout_is_asked_for_only_if_it_is_in_the_scope(asked: Asked, pins: dict[str, Any]) -> None:
    asked.examine(TORCH, ALL.only(**pins))

    assert "dropout" not in asked.names


def test_where_there_are_no_numbers_neither_dropout_nor_refusals_are_asked_for(asked: Asked) -> None:
    done = asked.examine(TORCH, ALL.only(device="meta"))
    asked.examine(TORCH, ALL.only(device=["meta", "cuda:0", "cpu"]))

    assert (done.dropout, done.refusals) == (None, None)
    assert asked.names == ["dropout", "dropout", "refusals"]
    assert [told["device"] for name, told in asked.calls if name == "dropout"] == ["cuda:0", "cpu"]
    assert dict(asked.calls)["refusals"]["device"] == "cuda:0"


def test_who_refuses_dropout_is_not_held_to_its_relation(asked: Asked) -> None:
    asked.dropout = Result(Verdict.UNSUPPORTED, message="no dropout")

    done = asked.examine(TORCH, ALL)

    assert done.dropout is None
    assert done.hunt.verdict is Verdict.AGREES


def test_a_finding_in_one_does_not_keep_the_others_from_theirs(asked: Asked) -> None:
    asked.stop, asked.dropout = Stop.FINDING, BROKEN_STATISTICS

    done = asked.examine(TORCH, ALL)

    assert asked.names == ["dropout", "refusals"]
    assert done.verdict is Verdict.DISAGREES


def test_a_hang_in_the_relation_of_dropout_is_its_result(asked: Asked) -> None:
    hung = Result(Verdict.BROKEN, message="did not answer")
    asked.dropout = Hang(draw(RNNConfig(1, 1)), hung)

    done = asked.examine(TORCH, ALL)

    assert done.dropout is hung
    assert done.verdict is Verdict.BROKEN
    assert asked.names[-1] == "refusals"


def test_after_an_interrupt_nothing_more_is_asked(asked: Asked) -> None:
    asked.stop = Stop.INTERRUPTED

    done = asked.examine(TORCH, ALL)

    assert asked.names == []
    assert done.interrupted
    assert [*done.hunt.unfinished] == ["the statistics of dropout", "malformed calls"]
    assert not asked.examine(TORCH, ALL, profile="port", cases=50).hunt.unfinished


@pytest.mark.parametrize(
    ("cases", "gradients", "lacking"),
    [(200, 50, []), (199, 50, ["199 of 200 cases"]), (200, 49, ["49 of 50 cases with gradients"])],
)
def test_a_subject_agrees_where_enough_cases_and_gradients_do(cases: int, gradients: int, lacking: list[str]) -> None:
    record = hunted()
    record.scope = record.scope.only(loss=[None, "h_n"])
    record.checks[ComparisonMethod.LOCAL] = cases
    for number in range(cases):
        record.coverage.add(RNNConfig(1, 1, loss="h_n" if number < gradients else None), "normal")

    done = Examination(record)

    assert done.lacking == lacking
    assert done.verdict is (Verdict.NOT_ENOUGH if lacking else Verdict.AGREES)


@dataclass
class Process:
    """A process of a subject's own, of which nothing else is asked."""

    deaths: int = 0  # those that it has had at the end
    spoiled_in_the_end: str = ""
    unrepeated: int = 3  # of another search
    spoiled: str = "in another search"
    shared: Any = None
    switchable: bool = False

    def lines(self, _case: Case) -> int:
        return 0

    def environment(self, _device: str) -> dict[str, str]:
        self.unrepeated += self.deaths
        self.spoiled = self.spoiled_in_the_end or self.spoiled
        return {}

    def restart(self) -> None:
        return


@pytest.mark.parametrize(
    ("process", "verdict", "said"),
    [
        (Process(1), Verdict.NOT_ENOUGH, "its process died once, which was not seen again"),
        (Process(12), Verdict.NOT_ENOUGH, "its process died 12 times, which was not seen again"),
        (Process(spoiled_in_the_end="it spoils its process"), Verdict.BROKEN, "it spoils its process"),
        (Process(), Verdict.AGREES, ""),
    ],
)
def test_what_became_of_its_process_is_said(process: Any, verdict: Verdict, said: str) -> None:
    subject = as_subject(implementations.vectorised)
    subject.capabilities = replace(subject.capabilities, process=process)  # type: ignore[misc]
    scope = Scope().only(num_layers=1, bidirectional=False, T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2])

    done = Examination(hunt(subject, scope.only(dropout=0.0, training=False, dtype="float64"), cases=200))

    assert done.verdict is verdict
    messages = ["", *(one.result.message for one in done.hunt.findings)]
    assert said in (done.lacking if verdict is Verdict.NOT_ENOUGH else messages)


def test_a_subject_does_not_agree_before_pairs_of_what_it_offers_have_met() -> None:
    record = hunted()
    record.scope = record.scope.only(bias=[True, False], batch_first=[True, False])
    for bias, batch_first in ((True, True), (False, False), (True, False)):
        record.coverage.add(RNNConfig(1, 1, bias=bias, batch_first=batch_first), "normal")

    assert Examination(record).lacking == ["75.0 % of pairs of values"]


@pytest.mark.parametrize("where", ["dropout", "refusals"])
def test_an_interrupt_of_the_rest_keeps_what_was_found(asked: Asked, where: str) -> None:
    setattr(asked, where, KeyboardInterrupt())

    done = asked.examine(TORCH, ALL)

    assert done.interrupted
    assert done.hunt.total == 200
    assert done.refusals is None
    assert done.dropout is (None if where == "dropout" else GOOD_STATISTICS)
    left = ["the statistics of dropout"] * (where == "dropout") + ["malformed calls"]
    assert done.hunt.unfinished == dict.fromkeys(left, "an interrupt came")
    assert done.verdict is Verdict.AGREES


def test_a_right_module_agrees_and_one_that_takes_what_it_should_refuse_does_not() -> None:
    class Lenient(torch.nn.RNN):
        def check_forward_args(self, input: Any, hidden: Any, batch_sizes: Any) -> None:  # noqa: A002 - torch's own name
            pass

    small = ALL.only(loss=[None], lengths=[None], preparation=["new"])

    right = examine(TORCH, hunt(TORCH, small, cases=300), SearchOptions(300))
    lenient = as_subject(Lenient)
    wrong = examine(lenient, hunt(lenient, small, cases=300), SearchOptions(300))

    assert right.verdict is Verdict.AGREES
    assert right.refusals is not None
    assert not right.refusals.findings
    assert wrong.hunt.finding is None
    assert wrong.refusals is not None
    assert [one.rule for one in wrong.refusals.findings] == ["hx: batch beside one sequence"]
    assert wrong.verdict is Verdict.DISAGREES

    as_a_port = examine(lenient, hunt(lenient, small, cases=300), SearchOptions(300, profile="port"))
    assert as_a_port.refusals is None
    assert as_a_port.verdict is Verdict.AGREES
