"""Tests of everything: which checks are made of a subject on a case, in which order, and how often."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Subject, Verdict, as_subject, draw
from harness.checks import case_checks
from harness.checks.agreement import Observation
from harness.checks.case_checks import bits_of, check
from harness.checks.repeatability import DEAREST, confirmed
from harness.checks.result import ComparisonMethod, Result
from harness.oracle.compare import Mismatch, MismatchKind
from harness.subjects.torch_module import TorchSubject
from tests import implementations

pytestmark = pytest.mark.kernels

LOST = draw(RNNConfig(2, 3, T=3, N=2, loss="both", dtype="float64"), "normal", 0)
FORWARD = LOST.forward()


class Watched(TorchSubject):
    """Torch that records what it is asked, and whose answers can be changed."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.wrong = wrong

    def run(self, case: Case) -> Outcome:
        self.asked.append("run")
        return self._answer("run", super().run(case))

    def run_twice(self, case: Case) -> Outcome:
        self.asked.append("run")
        return self._answer("run", super().run_twice(case))

    def check_derivatives(self, case: Case) -> Outcome:
        self.asked.append("derivatives")
        return self._answer("derivatives", super().check_derivatives(case))

    def _answer(self, name: str, outcome: Outcome) -> Outcome:
        if name not in self.wrong:
            return outcome
        if isinstance(self.wrong[name], Failure):
            return Outcome(failure=self.wrong[name], message="no")
        off = self.wrong[name](self.asked.count(name))
        return replace(outcome, arrays={key: array + off for key, array in outcome.arrays.items()})


def test_a_right_subject_is_asked_everything_and_agrees() -> None:
    subject = Watched()

    result = check(subject, LOST)

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.LOCAL)
    assert {"run", "derivatives"} <= set(subject.asked)


def test_without_probes_values_alone_are_asked_once() -> None:
    subject = Watched()

    result = check(subject, LOST, with_probes=False, relations=())

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.CARRIED)
    assert subject.asked == ["run"]


def test_without_a_loss_the_same_answer_is_asked_for_twice_and_no_derivative() -> None:
    subject = Watched()

    result = check(subject, FORWARD, relations=())

    assert result.verdict is Verdict.AGREES
    assert subject.asked == ["run", "run"]


@pytest.mark.parametrize("case", [LOST, FORWARD])
def test_who_disagrees_is_asked_no_further(case: Case) -> None:
    subject = Watched(run=lambda count: 1.0)

    result = check(subject, case, with_probes=True)

    assert result.verdict is Verdict.DISAGREES
    assert result.kind == "output: value"
    assert "derivatives" not in subject.asked


def test_who_refuses_is_asked_once() -> None:
    subject = Watched(run=Failure.UNSUPPORTED)

    result = check(subject, LOST)

    assert (result.verdict, result.message) == (Verdict.UNSUPPORTED, "no")
    assert subject.asked == ["run"]


def test_who_gives_another_answer_the_second_time_is_broken_before_derivatives_are_asked() -> None:
    subject = Watched(run=lambda count: 0.0 if count == 1 else 1e-13)

    result = check(subject, FORWARD)
    once = check(Watched(run=lambda count: 0.0 if count == 1 else 1e-13), FORWARD, with_probes=False, relations=())

    assert result.verdict is Verdict.BROKEN
    assert "not deterministic" in result.message
    assert "derivatives" not in subject.asked
    assert once.verdict is Verdict.AGREES


def test_a_derivative_that_raises_is_broken_and_one_that_is_refused_is_not() -> None:
    raised = check(Watched(derivatives=Failure.RAISED), LOST)
    refused = check(Watched(derivatives=Failure.UNSUPPORTED), LOST)

    assert (raised.verdict, raised.message) == (Verdict.BROKEN, "no")
    assert (refused.verdict, refused.method) == (Verdict.AGREES, ComparisonMethod.LOCAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": (3, 1)},
        {"N": 1, "batched": False},
        {"strides": "stepped"},
        {"preparation": "deepcopy"},
        {"wrt": "inputs"},
        {"num_layers": 2, "dropout": 0.5, "training": True},
    ],
)
def test_derivatives_are_asked_of_the_plainest_call_alone(changes: dict[str, Any]) -> None:
    subject = Watched()

    result = check(subject, draw(LOST.config.replace(**changes), "normal", 0))

    assert result.verdict is Verdict.AGREES
    assert subject.asked.count("run") >= 2
    assert "derivatives" not in subject.asked


def test_on_meta_and_with_masks_unknown_forms_are_compared_and_repeated() -> None:
    subject = Watched()

    result = check(subject, draw(LOST.config.replace(device="meta"), "normal", 0))

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.FORM)
    assert subject.asked == ["run", "run"]


class Known(NamedTuple):
    """A known cause for everything, or for nothing."""

    name: str
    everything: bool

    def covers(self, observation: Observation, result: Result) -> bool:
        return self.everything


@pytest.mark.parametrize("verdict", [Verdict.SUSPECT, Verdict.DISAGREES])
@pytest.mark.parametrize("excused", [False, True])
def test_a_known_issue_makes_a_failure_or_a_suspicion_agree_and_is_named(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, excused: bool
) -> None:
    mismatch = Mismatch("output", MismatchKind.SUSPICIOUS)
    found = Result(verdict, (mismatch,), method=ComparisonMethod.END_TO_END)
    monkeypatch.setattr(case_checks, "assess", lambda *_, **__: found)
    subject = Watched()

    result = check(subject, FORWARD, known_causes=[Known("other", everything=False), Known("mine", excused)])

    assert result == (Result(Verdict.AGREES, method=ComparisonMethod.END_TO_END, known_as="mine") if excused else found)
    assert subject.asked == ["run"]


def test_a_failure_of_repeatability_is_not_explained_by_any_issue() -> None:
    answers = iter(np.arange(10.0))

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + next(answers) * 1e-14, h_n

    result = check(as_subject(rnn), FORWARD, known_causes=[Known("mine", everything=True)])

    assert (result.verdict, result.known_as) == (Verdict.BROKEN, None)


class Keeps:
    """A correct subject whose ``run_twice`` adds chosen fields to the outcome."""

    name = "keeps"

    def __init__(self, **word: Any) -> None:
        self.capabilities = Capabilities(run_twice=self.run_twice)
        self._word = word
        self._own = as_subject(implementations.vectorised)

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        return self._own.run(case)

    def run_twice(self, case: Case) -> Outcome:
        return replace(self.run(case), **self._word)


def test_what_a_further_call_overwrites_is_held_against_it_where_the_same_answer_is_asked_for_twice() -> None:
    subject = Keeps(overwritten=("output", "h_n"))

    result = check(subject, FORWARD, relations=())
    once = check(subject, FORWARD, with_probes=False, relations=())

    assert result.verdict is Verdict.DISAGREES
    assert [mismatch.kind for mismatch in result.mismatches] == [
        "output: overwritten by the next call",
        "h_n: overwritten by the next call",
    ]
    assert once.verdict is Verdict.AGREES


def test_a_case_that_is_dear_gets_no_further_call() -> None:
    dear = draw(RNNConfig(256, 256, T=17, N=2), "normal", 0)
    assert dear.config.cost > DEAREST

    assert check(Keeps(overwritten=("output",)), dear, relations=()).verdict is Verdict.AGREES


@pytest.mark.parametrize("failure", [Failure.CRASHED, Failure.HUNG])
def test_a_process_that_is_lost_in_a_further_call_is_no_second_answer(failure: Failure) -> None:
    result = check(Keeps(failure=failure, message="no", arrays={}), FORWARD, relations=())

    assert (result.verdict, result.failure, result.nondeterministic) == (Verdict.BROKEN, failure, False)


def test_masks_that_cannot_be_had_do_not_waver() -> None:
    class Dropping:
        name = "dropping"
        capabilities = Capabilities()

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Case) -> Outcome:
            numbers = np.random.default_rng()
            specs = case.config.returned.items()
            return Outcome({name: numbers.random(spec.shape, np.float32) for name, spec in specs})

    case = draw(RNNConfig(2, 3, 2, dropout=0.5, T=3, N=2, training=True), "normal", 0)

    result = check(Dropping(), case)

    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.FORM)
    assert confirmed(Dropping(), case, result, lambda _: result) is result


class Beside(Keeps):
    """A subject whose calls do something beside their results, which are off from a size on."""

    def __init__(self, off: float = 0, **beside: Any) -> None:
        super().__init__()
        self._off, self._beside = off, beside
        self.runs = 0

    def run(self, case: Case) -> Outcome:
        self.runs += 1
        right = super().run(case)
        off = {name: array + self._off * (case.config.hidden_size > 2) for name, array in right.arrays.items()}
        return replace(right, arrays=off, **self._beside)


@pytest.mark.parametrize(
    ("beside", "kind"),
    [({"aliased": (("h_n", "output"),)}, "h_n: shared memory"), ({"changed_inputs": ("x",)}, "x: changed input")],
)
def test_what_a_call_does_beside_its_results_is_told_last_and_hides_nothing(beside: dict[str, Any], kind: str) -> None:
    small, large = (draw(RNNConfig(2, size, T=3, N=2), "normal", 0) for size in (2, 3))
    right, wrong = Beside(**beside), Beside(off=1, **beside)

    results = [check(right, large), check(wrong, small), check(wrong, large)]

    assert [result.kind for result in results] == [kind, kind, "output: value"]
    assert all(result.failed for result in results)
    assert right.runs > 1  # it was asked twice, and held to a relation


def test_an_agreement_has_the_bits_of_its_values_and_a_failure_has_none() -> None:
    def changed(by: Any) -> Subject:
        def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            output, h_n = (array.copy() for array in implementations.vectorised(x, h0, weights, config))
            output[0, 1, 2] = by(output[0, 1, 2])
            return output, h_n

        return as_subject(rnn)

    case, right = draw(RNNConfig(3, 4, T=5, N=2), "normal", 1), changed(lambda h: h)
    plain, other = check(right, case), check(changed(lambda h: np.nextafter(h, np.float32(2))), case)

    assert plain.bits == bits_of(right.run(case).arrays) != ""
    assert other.bits not in {plain.bits, ""}
    assert check(changed(lambda h: h + 1), case).bits == ""
    assert bits_of({"a": np.zeros(2)}) != bits_of({"a": np.zeros(2, np.float32).repeat(2)})
    assert bits_of({"a": np.zeros(2)}) != bits_of({"b": np.zeros(2)})
    assert bits_of({"a": np.zeros(2, "bfloat16")}) != bits_of({"a": np.ones(2, "bfloat16")})
