"""Tests of malformed calls: torch refuses each, and each wrong way to answer one is told."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Outcome, as_subject
from harness.checks.malformed import RULES, MalformedCallAnswers, MalformedRule, RefusalDefect, check_refusals, rules_of
from harness.oracle.arithmetic_assumptions import STRICT
from harness.search.case_replay import ReplayOutcome
from harness.space.cells import CELLS
from harness.space.outcome import Failure
from harness.store.save import FindingKeeper
from harness.store.scripts import run_alone
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()


def asked(module: type[torch.nn.Module]) -> MalformedCallAnswers:
    return check_refusals(TorchSubject(module, "mine").perform)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "rule"), [(cell, rule) for cell in CELLS for rule in rules_of(cell)], ids=str)
def test_torch_accepts_the_right_call_and_refuses_the_wrong_ones(cell: str, rule: MalformedRule, dtype: str) -> None:
    layer = TorchSubject(getattr(torch.nn, cell))
    right = layer.perform(rule.right.code(dtype), dtype, "cpu")
    wrong = [layer.perform(call.code(dtype), dtype, "cpu") for call in rule.wrong]

    assert right.failure is None, right
    assert all({*one.classes} & {*rule.raises} or rule.known for one in wrong), wrong
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("cell", CELLS)
def test_torch_breaks_no_rule_but_the_known_ones(cell: str) -> None:
    record = check_refusals(TorchSubject(getattr(torch.nn, cell)).perform, cell=cell)

    assert not record.findings
    assert not record.left_out
    assert {*record.known} <= {rule.name for rule in rules_of(cell) if rule.known}
    assert record.refused + len(record.known) == record.calls > 90
    assert len({rule.name for rule in rules_of(cell)}) == len(rules_of(cell))


class BroadcastsState(torch.nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        if isinstance(x, torch.Tensor) and isinstance(hx, torch.Tensor) and hx.shape[1:2] == (1,) and hx.dim() == 3:
            hx = hx.expand(-1, x.shape[1], -1)
        return super().forward(x, hx)


class Asserts(torch.nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        assert not isinstance(x, torch.Tensor) or x.dim() == 0 or x.shape[-1] == self.input_size
        return super().forward(x, hx)


class TakesNoSteps(torch.nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        empty = isinstance(x, torch.Tensor) and x.dim() == 3 and not len(x)
        return (x.new_zeros(0, 2, 4), hx) if empty else super().forward(x, hx)


class TakesAnyArgument(torch.nn.RNN):
    def __init__(self, *sizes: Any, momentum: float = 0.0, **arguments: Any) -> None:
        super().__init__(*sizes, **arguments)


class RaisesItsOwn(torch.nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        try:
            return super().forward(x, hx)
        except (ValueError, RuntimeError) as error:
            raise type("Wrong", (type(error),), {})(error) from None


class RefusesPacks(torch.nn.RNN):
    def forward(self, x: Any, hx: Any = None) -> Any:
        if isinstance(x, torch.nn.utils.rnn.PackedSequence):
            raise NotImplementedError("padded only")
        return super().forward(x, hx)


@pytest.mark.parametrize(
    ("module", "findings"),
    [
        (BroadcastsState, {("hx: batch of 1", RefusalDefect.ACCEPTED)}),
        (Asserts, {(name, RefusalDefect.EXCEPTION) for name in ("x: features", "x: features, unbatched")}),
        (TakesNoSteps, {("x: no steps", RefusalDefect.ACCEPTED)}),
        (TakesAnyArgument, {("argument unknown", RefusalDefect.ACCEPTED)}),
        (RaisesItsOwn, set()),
        (RefusesPacks, set()),
    ],
)
def test_a_class_that_breaks_a_rule_is_told(
    module: type[torch.nn.Module], findings: set[tuple[str, RefusalDefect]]
) -> None:
    record = asked(module)

    assert {(one.rule, one.lapse) for one in record.findings} == findings
    assert record.left_out == ({"padded only": 4} if module is RefusesPacks else {})


def test_a_finding_says_what_should_happen_and_its_code_makes_the_call() -> None:
    (finding,) = asked(BroadcastsState).findings

    assert finding.raises == ("ValueError", "RuntimeError")
    assert finding.happened == "no error"
    assert finding.code.splitlines() == [
        "rnn = RNN(3, 4)",
        "x = torch.ones(5, 2, 3)",
        "hx = torch.ones(1, 1, 4)",
        "rnn(x, hx)",
    ]
    exec(finding.code, {"torch": torch, "RNN": BroadcastsState})  # noqa: S102 - our own
    with pytest.raises(RuntimeError):
        exec(finding.code, {"torch": torch, "RNN": torch.nn.RNN})  # noqa: S102 - our own


class TakesOneState(torch.nn.LSTM):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x, (hx, hx) if isinstance(hx, torch.Tensor) else hx)


def test_an_lstm_that_takes_one_state_for_two_is_told() -> None:
    (finding,) = check_refusals(TorchSubject(TakesOneState, "mine").perform, cell="LSTM").findings

    assert (finding.rule, finding.lapse) == ("hx: one state", RefusalDefect.ACCEPTED)
    exec(finding.code, {"torch": torch, "RNN": TakesOneState})  # noqa: S102 - our own
    with pytest.raises((IndexError, RuntimeError)):
        exec(finding.code, {"torch": torch, "RNN": torch.nn.LSTM})  # noqa: S102 - our own


class TakesEverything(torch.nn.Module):
    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, *_: Any) -> None:
        """Return nothing."""


def test_a_class_that_refuses_nothing_breaks_every_rule_but_what_torch_breaks_too() -> None:
    found = {one.rule for one in check_refusals(TorchSubject(TakesEverything, "mine").perform).findings}

    assert found == {rule.name for rule in RULES if not rule.known}


def lost(failure: Failure) -> Callable[[str, str, str], Outcome]:
    """Return a subject's ``call`` whose process is lost where x has no steps, or is a list."""
    return lambda code, *rest: (
        Outcome(failure=failure, message="signal 11")
        if "(0, 2, 3)" in code or "tolist" in code
        else TORCH.perform(code, *rest)
    )


@pytest.mark.parametrize(
    ("failure", "lapses"), [(Failure.CRASHED, [RefusalDefect.CRASHED] * 3), (Failure.HUNG, [RefusalDefect.HUNG])]
)
def test_a_call_that_ends_the_process_is_told_and_a_hang_is_the_last(
    failure: Failure, lapses: list[RefusalDefect]
) -> None:
    assert [one.lapse for one in check_refusals(lost(failure)).findings] == lapses


def test_no_call_is_made_after_the_time_and_an_interrupt_leaves_what_was_found() -> None:
    def interrupt(code: str, *rest: str) -> Outcome:
        if "momentum" in code:
            raise KeyboardInterrupt
        return TORCH.perform(code, *rest)

    assert check_refusals(TORCH.perform, until=time.perf_counter()).calls == 0
    record = check_refusals(interrupt)
    assert record.interrupted
    assert record.refused > 40


def test_a_script_makes_the_calls_that_are_not_refused(tmp_path: Path) -> None:
    file, warned = tmp_path / "mine.py", list[str]()
    file.write_text(
        "import torch\nclass Mine(torch.nn.RNN):\n"
        "    def __init__(self, *sizes, momentum=0.0, **more):\n        super().__init__(*sizes, **more)\n"
    )
    subject = as_subject(f"{file}:Mine")
    assert subject.capabilities.call is not None
    found = check_refusals(subject.capabilities.call)

    FindingKeeper(subject, str(tmp_path / "kept"), STRICT, "derived", warned.append).refusals(found)

    script = Path(found.script)
    assert (run_alone(script).fate, warned) == (ReplayOutcome.FAILED, [])
    script.write_text(script.read_text().replace("RNN = Mine", "RNN = torch.nn.RNN"))
    assert run_alone(script).fate is ReplayOutcome.FIXED


def test_a_function_and_a_cell_are_not_asked() -> None:
    assert as_subject(lambda x: x).capabilities.call is None
    assert as_subject("torch:cell").capabilities.call is None
