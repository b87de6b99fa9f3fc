"""Tests of hangs and crashes: a hang is asked once, crashes shrink within limits, varying ones are nondeterministic."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness import Capabilities, Case, Failure, Outcome, RNNConfig, Scope, Verdict, as_subject, draw, hunt
from harness.checks.case_checks import check as check_everything
from harness.checks.repeatability import STEADY
from harness.diagnosis.script.script_text import script
from harness.search import confirm_and_shrink
from harness.search.case_replay import ReplayOutcome, replay
from harness.search.deadline import DeadlineSubject, Hang, noted_interrupts
from harness.search.search_record import Stop
from harness.space.factor_table import LOSSES
from harness.space.outcome import ORPHANED
from harness.subjects.protocol import Subject
from harness.subjects.torch_module import TorchSubject
from tests import implementations

SMALL = Scope().only(T=[1, 2], N=[1, 2, 3], input_size=[1, 2], hidden_size=[1, 2])


class Isolated:
    """A stand-in for a subject in a process of its own; ``fate`` says what becomes of it on a case."""

    name = "isolated"
    capabilities = Capabilities()
    message = "its process did that"

    def __init__(self, fate: Callable[[Case], Failure | None], function: Any = implementations.vectorised) -> None:
        self._subject = as_subject(function)
        self._fate = fate
        self.asked: list[Case] = []
        self.hung = 0

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        self.asked.append(case)
        failure = self._fate(case)
        self.hung += failure is Failure.HUNG
        return Outcome(failure=failure, message=self.message) if failure else self._subject.run(case)


def test_a_hang_is_reported_at_once_as_it_is() -> None:
    subject = Isolated(lambda case: Failure.HUNG if case.config.N >= 2 else None)

    record = hunt(subject, SMALL)

    assert (record.verdict, record.stop, subject.hung) == (Verdict.BROKEN, Stop.FINDING, 1)
    assert record.finding is not None
    assert not record.finding.minimal
    assert record.finding.case is subject.asked[-1]
    assert (record.finding.result.kind, record.finding.result.message) == ("broken: hung", "its process did that")


def test_a_crash_that_ends_the_process_of_all_others_is_reported_at_once_as_it_is() -> None:
    subject = Isolated(lambda case: Failure.CRASHED if case.config.N >= 2 else None)
    subject.message = ORPHANED

    record = hunt(subject, SMALL)

    assert record.finding is not None
    assert (record.finding.case is subject.asked[-1], record.asked) == (True, record.total + 1)
    assert not record.finding.minimal
    assert script(record.finding, subject).reason.startswith("it ends the process that started its own")


def test_a_subject_that_always_hangs_is_asked_once_in_all() -> None:
    subject = Isolated(lambda _: Failure.HUNG)

    record = hunt(subject, SMALL)

    assert record.verdict is Verdict.BROKEN
    assert len(subject.asked) == record.asked == 1


def test_what_hangs_as_a_part_of_a_stack_is_found_as_that_part() -> None:
    subject = Isolated(lambda case: Failure.HUNG if case.config.num_layers == 2 else None)

    record = hunt(subject, SMALL.only(num_layers=3, T=2))

    assert record.finding is not None
    assert record.finding.case.config.num_layers == 2


def test_a_hang_while_something_else_shrinks_does_not_take_its_place() -> None:
    # It hangs on one sequence of one unit, which is rarely drawn, but which the first failure is shrunk to.
    def hangs(case: Case) -> Failure | None:
        return Failure.HUNG if case.config.N == case.config.hidden_size == 1 else None

    rarely = [*[2] * 20, 1]
    subject = Isolated(hangs, implementations.without_b_hh)

    record = hunt(subject, SMALL.only(N=rarely, hidden_size=rarely, bias=True), cases=2)

    assert record.finding is not None
    assert (record.finding.result.kind, subject.hung) == ("output: value", 1)
    assert not record.finding.minimal


def test_derivatives_that_hang_are_reported_at_once() -> None:
    class Derivatives(Isolated):
        def check_derivatives(self, case: Case) -> Outcome:
            self.hung += 1
            return Outcome(failure=Failure.HUNG, message="no answer")

    subject = Derivatives(lambda _: None, torch.nn.RNN)
    subject.capabilities = Capabilities(offers={"loss": LOSSES}, check_derivatives=subject.check_derivatives)

    record = hunt(subject, SMALL.only(loss="both"))

    assert (record.verdict, subject.hung) == (Verdict.BROKEN, 1)


def test_a_watched_subject_has_no_more_than_its_own() -> None:
    own = TorchSubject()
    watched = DeadlineSubject(own)

    assert isinstance(watched, Subject)
    assert watched.capabilities.check_derivatives == own.check_derivatives
    assert DeadlineSubject(as_subject(implementations.vectorised)).capabilities.check_derivatives is None
    with pytest.raises(Hang, match="its process did that"):
        DeadlineSubject(Isolated(lambda _: Failure.HUNG)).run(draw(RNNConfig(1, 1)))


def test_an_interrupt_that_was_swallowed_is_heard_before_the_next_run() -> None:
    def gc_callback() -> None:  # as Hypothesis names it
        signal.raise_signal(signal.SIGINT)

    watched, case = DeadlineSubject(as_subject(implementations.vectorised)), draw(RNNConfig(1, 1))
    with noted_interrupts():
        gc_callback()
        with pytest.raises(KeyboardInterrupt):
            watched.run(case)

    assert watched.run(case).arrays


def test_a_crash_shrinks_to_its_smallest_case() -> None:
    subject = Isolated(lambda case: Failure.CRASHED if case.config.N >= 2 and case.config.hidden_size >= 2 else None)

    record = hunt(subject, SMALL)

    assert record.finding is not None
    assert record.finding.minimal
    assert record.finding.case.config == RNNConfig(1, 2, N=2)
    assert record.finding.result.kind == "broken: died"


def test_a_crash_that_takes_long_to_shrink_is_reported_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm_and_shrink, "SECONDS", 0.05)

    def slow(case: Case) -> Failure | None:
        if case.config.N < 2:
            return None
        time.sleep(0.03)
        return Failure.CRASHED

    record = hunt(Isolated(slow), SMALL)

    assert record.finding is not None
    assert not record.finding.minimal
    assert record.seconds < 2


def test_a_crash_that_does_not_happen_again_is_wavering() -> None:
    subject = Isolated(lambda _: Failure.CRASHED if len(subject.asked) == 40 else None)

    record = hunt(subject, SMALL.only(num_layers=1))  # if the prefix of a stack dies, the check does without it

    assert record.finding is not None
    assert not record.finding.minimal
    assert "two runs of the same case gave different results" in record.finding.result.message


@pytest.mark.parametrize(("failure", "asked"), [(Failure.HUNG, 1), (Failure.CRASHED, 1 + STEADY)])
def test_a_replay_asks_no_more_than_it_has_to(failure: Failure, asked: int) -> None:
    subject = Isolated(lambda _: failure)

    fate, result = replay(subject, draw(RNNConfig(1, 1)))

    assert (fate, result.failure, len(subject.asked)) == (ReplayOutcome.FAILED, failure, asked)


def test_of_one_mistake_a_process_may_die_in_several_ways() -> None:
    kinds = set()
    for message in ("its process died of SIGSEGV", "its process died of SIGABRT"):
        subject = Isolated(lambda _: Failure.CRASHED)
        subject.message = message
        kinds.add(check_everything(subject, draw(RNNConfig(1, 1))).kind)

    assert kinds == {"broken: died"}
