"""Tests of the search for malformed calls that are not refused."""

import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch

from harness import Capabilities, Case, Outcome, scope_of
from harness.checks.breaks import BREAKS
from harness.checks.deviations import Lapse
from harness.search.refusals import CASES, Refusals, _base, _whole, hunt_refusals
from harness.space.config import RNNConfig
from harness.space.scope import Scope
from harness.subjects.answer import Answer, Stage
from harness.subjects.call import Base, Call, Form, Tensor
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()


class Unless:
    """Torch, with some calls answered by ``answer``."""

    name = "unless"

    def __init__(self, answer: Callable[[Call], Answer | None]) -> None:
        self.capabilities = Capabilities(call=self.call)
        self.calls: list[Call] = []
        self._answer = answer

    def devices(self) -> tuple[str, ...]:
        return TORCH.devices()

    def run(self, case: Case) -> Outcome:
        return TORCH.run(case)

    def call(self, call: Call) -> Answer:
        self.calls.append(call)
        return self._answer(call) or TORCH.perform(call)


def without_time(record: Refusals) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name != "seconds"}


@pytest.mark.parametrize("seed", range(3))
def test_torch_deviates_in_nothing_that_is_not_known(seed: int) -> None:
    record = hunt_refusals(TORCH, seed=seed)

    assert not record.findings
    assert not record.unusable
    assert record.calls > CASES * 0.95
    assert record.refused > CASES * 0.8
    assert set(record.tried) == {kind.name for kind in BREAKS}
    assert record.late["bidirectional no bool"]


def test_the_same_seed_gives_the_same_search_and_another_one_another() -> None:
    first, again, other = (hunt_refusals(TORCH, cases=150, seed=seed) for seed in (3, 3, 4))

    assert without_time(first) == without_time(again)
    assert first.tried != other.tried


def test_every_call_is_met_by_something() -> None:
    record = hunt_refusals(TORCH, cases=400)

    met_twice = sum(record.known.values()) + record.refused + record.unsupported
    assert met_twice >= record.calls


def test_a_search_goes_on_after_a_finding_and_finds_each_once() -> None:
    def answer(call: Call) -> Answer | None:
        if call.arguments.get("bias") is None and "bias" in call.arguments:
            return Answer.accepted("float32 (1,)")
        return Answer.refused(Stage.CALL, KeyError("hx")) if call.hx == 0 else None

    record = hunt_refusals(Unless(answer), cases=600)

    assert {(wrong.broken.name, wrong.refusal.lapse) for wrong in record.findings} == {
        ("bias no bool", Lapse.ACCEPTED),
        ("hx: no tensor", Lapse.CLASS),
    }
    assert len(record.findings) == 2
    for wrong in record.findings:
        assert wrong.broken.base == Base(RNNConfig(1, 1, T=1, N=1))


def test_what_shows_only_with_two_breaks_stays_broken_twice() -> None:
    def answer(call: Call) -> Answer | None:
        return Answer.accepted() if "momentum" in call.arguments and call.parameters else None

    record = hunt_refusals(Unless(answer), cases=1500)

    assert record.findings
    for wrong in record.findings:
        assert [kind.name for kind in wrong.broken.kinds][:-1] == ["argument unknown"]


def test_what_crashes_or_hangs_is_found_once_and_not_asked_again() -> None:
    def answer(call: Call) -> Answer | None:
        return Answer.hung("10 s") if isinstance(call.x, Tensor) and 0 in call.x.shape[:2] and call.hx == 0 else None

    def empty(call: Call) -> Answer | None:
        steps = isinstance(call.x, Tensor) and len(call.x.shape) == 3 and 0 in call.x.shape[:2]
        return Answer.crashed("exit code 7") if steps and call.packing is None else None

    hanging, crashing = Unless(answer), Unless(empty)
    hunt_refusals(hanging, Scope().only(N=2), cases=600)
    record = hunt_refusals(crashing, Scope().only(N=2), cases=600)

    assert [wrong.refusal.lapse for wrong in record.findings] == [Lapse.CRASHED]
    assert sum(empty(call) is not None for call in crashing.calls) < 20
    assert sum(answer(call) is not None for call in hanging.calls) <= 2


def test_a_base_that_the_subject_does_not_take_accuses_nobody() -> None:
    class NoPacks(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            if isinstance(input, torch.nn.utils.rnn.PackedSequence):
                raise NotImplementedError("padded only")
            return super().forward(input, hx)

    record = hunt_refusals(TorchSubject(NoPacks, "mine"), cases=300)

    assert not record.findings
    assert record.calls < 300
    assert {said.partition(":")[0] for said in record.unusable} == {Form.PACKED.value, Form.BY_HAND.value}
    assert all("NotImplementedError: padded only" in said for said in record.unusable)


def test_a_scope_is_kept_to() -> None:
    subject = Unless(lambda call: None)

    hunt_refusals(subject, Scope().only(hidden_size=9, dtype="float64", num_layers=1), cases=200)

    sizes = [call.arguments.get("hidden_size") for call in subject.calls]
    assert {size for size in sizes if type(size) is int and size > 0} == {9}


def test_no_call_is_made_after_the_time() -> None:
    assert hunt_refusals(TORCH, cases=50, until=time.perf_counter()).calls == 0
    assert hunt_refusals(TORCH, cases=50, until=time.perf_counter() + 1000).calls == 50


def test_an_interrupt_leaves_what_was_found() -> None:
    def answer(call: Call) -> Answer | None:
        if len(subject.calls) > 100:
            raise KeyboardInterrupt
        return None

    subject = Unless(answer)
    record = hunt_refusals(subject)

    assert record.interrupted
    assert 0 < record.calls <= 100


@pytest.mark.parametrize("pins", [{"nonlinearity": "relu"}, {"dropout": 0.5}])
def test_a_pin_that_the_search_of_values_would_not_draw_holds_for_malformed_calls(pins: dict[str, Any]) -> None:
    scope = _whole(scope_of(TorchSubject()).only(device="cpu", dtype="complex64", **pins))
    random = Random(1)

    bases = [_base(scope, Form.BATCHED, random).config for _ in range(20)]

    assert {(config.dtype, *(getattr(config, name) for name in pins)) for config in bases} == {
        ("complex64", *pins.values())
    }
