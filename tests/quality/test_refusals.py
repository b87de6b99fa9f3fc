"""Measurement on planted faults of refusing: the default search finds each on the plainest call that shows it."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from harness import Capabilities, Case, Outcome
from harness.checks.deviations import Lapse
from harness.search.refusals import hunt_refusals
from harness.space.config import RNNConfig
from harness.subjects.answer import Answer
from harness.subjects.call import Base, Call
from harness.subjects.torch_module import TorchSubject
from tests.long import few

PLAINEST = RNNConfig(1, 1, T=1, N=1)


def is_batched(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dim() == 3


class BroadcastsState(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        if is_batched(input) and is_batched(hx) and hx.shape[1] == 1:
            hx = hx.expand(-1, input.shape[0 if self.batch_first else 1], -1)
        return super().forward(input, hx)


class Asserts(torch.nn.RNN):
    def check_input(self, input: Any, batch_sizes: Any) -> None:  # noqa: A002 - nn.RNN's own name
        if input.dim() == (3 if batch_sizes is None else 2):
            assert input.shape[-1] == self.input_size, f"{input.shape[-1]} != {self.input_size}"
        super().check_input(input, batch_sizes)


class TakesNoSteps(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        if is_batched(input) and input.shape[1 if self.batch_first else 0] == 0:
            return input.new_zeros(*input.shape[:2], self.hidden_size), hx
        return super().forward(input, hx)


class SaysTooLittle(torch.nn.RNN):
    def check_hidden_size(self, hx: Any, expected_hidden_size: Any, msg: str = "") -> None:
        if hx.shape[-1] != expected_hidden_size[-1]:
            raise RuntimeError("bad hx")
        super().check_hidden_size(hx, expected_hidden_size)


class TakesAnyArgument(torch.nn.RNN):
    def __init__(self, *sizes: Any, momentum: float = 0.0, **arguments: Any) -> None:
        super().__init__(*sizes, **arguments)


class Dies(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        if is_batched(input) and input.shape[1 if self.batch_first else 0] == 0:
            os._exit(7)
        return super().forward(input, hx)


class InChild:
    """A subject whose calls are made in a process that may end."""

    def __init__(self, subject: TorchSubject) -> None:
        self.name = subject.name
        self.capabilities = Capabilities(call=self.call)
        self._subject = subject
        self._start()

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        return self._subject.run(case)

    def call(self, call: Call) -> Answer:
        self._pipe.send(call)
        try:
            answer: Answer = self._pipe.recv()
        except EOFError:
            self.end()
            code = self._child.exitcode
            self._start()
            return Answer.crashed(f"exit code {code}")
        return answer

    def end(self) -> None:
        self._pipe.close()
        self._child.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=serve, args=(self._subject, theirs, self._pipe), daemon=True)
        self._child.start()
        theirs.close()


def serve(subject: TorchSubject, pipe: Connection, others: Connection) -> None:
    others.close()
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send(subject.perform(call))


PLANTED = [
    (BroadcastsState, "hx: batch of 1", Lapse.ACCEPTED, PLAINEST.replace(N=2)),
    (Asserts, "x: features", Lapse.CLASS, PLAINEST),
    (TakesNoSteps, "x: no steps", Lapse.ACCEPTED, PLAINEST),
    (SaysTooLittle, "hx: features", Lapse.MESSAGE, PLAINEST),
    (TakesAnyArgument, "argument unknown", Lapse.ACCEPTED, PLAINEST),
]
KEPT = {(BroadcastsState, 0), (Asserts, 0), (SaysTooLittle, 0)}
"""A fault of every lapse."""


@pytest.mark.parametrize(
    ("module", "name", "lapse", "smallest", "seed"),
    few(((*fault, seed) for fault in PLANTED for seed in range(3)), lambda one: (one[0], one[-1]) in KEPT),
)
def test_a_planted_fault_is_found_small(
    module: type[torch.nn.Module], name: str, lapse: Lapse, smallest: RNNConfig, seed: int
) -> None:
    record = hunt_refusals(TorchSubject(module, module.__name__), seed=seed)

    assert [(wrong.broken.name, wrong.refusal.lapse) for wrong in record.findings] == [(name, lapse)]
    assert record.findings[0].broken.base == Base(smallest)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_module_that_ends_the_process_is_found_small() -> None:
    subject = InChild(TorchSubject(Dies, "Dies"))

    record = hunt_refusals(subject)

    subject.end()
    assert [(wrong.broken.name, wrong.refusal.lapse) for wrong in record.findings] == [("x: no steps", Lapse.CRASHED)]
    assert record.findings[0].broken.base == Base(PLAINEST)
    assert record.findings[0].refusal.answer.message == "exit code 7"
    assert record.calls > 600
