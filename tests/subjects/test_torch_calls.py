"""Tests of the answers to calls of a torch module."""

from typing import Any

import pytest
import torch

from harness.space.config import RNNConfig
from harness.space.parts import COMPLEX, DTYPES
from harness.subjects.answer import Kind, Stage
from harness.subjects.call import Base, ByHand, Call, Code, Form, Packing, Tensor
from harness.subjects.torch_calls import perform

GOOD = Base(RNNConfig(3, 4, T=5, N=2, hx=True)).call


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", Form)
def test_a_well_formed_call_is_accepted(form: Form, dtype: str) -> None:
    for config in (
        RNNConfig(3, 4, 2, bidirectional=True, batch_first=True, T=3, N=2, hx=True, dtype=dtype),
        RNNConfig(
            1, 2, bias=False, dropout=0.5, nonlinearity="tanh" if dtype in COMPLEX else "relu", T=1, N=1, dtype=dtype
        ),
    ):
        for enforce_sorted in (True, False):
            answer = perform(torch.nn.RNN, Base(config, form, enforce_sorted).call)
            assert answer.kind is Kind.ACCEPTED, answer


@pytest.mark.parametrize(
    ("call", "stage", "name"),
    [
        (GOOD.with_arguments(hidden_size=0), Stage.CONSTRUCTOR, "ValueError"),
        (GOOD.replace(parameters={"weight_ih_l0": 3}), Stage.PARAMETERS, "TypeError"),
        (GOOD.replace(packing=Packing([5])), Stage.PACKING, "RuntimeError"),
        (GOOD.replace(packing=ByHand([5])), Stage.PACKING, "AttributeError"),
        (GOOD.replace(x=Tensor((5, 2, 7))), Stage.CALL, "RuntimeError"),
    ],
)
def test_a_refusal_says_where_and_by_which_exception(call: Call, stage: Stage, name: str) -> None:
    answer = perform(torch.nn.RNN, call)

    assert (answer.kind, answer.stage, answer.classes[0]) == (Kind.REFUSED, stage, name)
    assert "BaseException" in answer.classes


def test_what_was_returned_is_described() -> None:
    assert perform(torch.nn.RNN, GOOD).returned == ("float32 (5, 2, 4)", "float32 (1, 2, 4)")
    packed = Base(RNNConfig(3, 4, T=2, N=2), Form.PACKED).call
    assert perform(torch.nn.RNN, packed).returned == ("PackedSequence of float32 (3, 4)", "float32 (1, 2, 4)")


def test_other_returns_are_described_too() -> None:
    class Odd(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            return [input.to("meta"), input / 0, None]

    returned = perform(Odd, GOOD).returned

    assert returned == ("float32 (5, 2, 3) on meta", "float32 (5, 2, 3), not all finite", "NoneType")


def test_a_parameter_that_is_not_there_is_not_replaced() -> None:
    class Renamed(torch.nn.Module):
        def __init__(self, *sizes: int) -> None:
            super().__init__()
            self.inner = torch.nn.RNN(*sizes)

    assert perform(Renamed, GOOD.replace(parameters={"bias_ih_l0": Tensor((1,))})).unsupported


def test_what_makes_the_arguments_does_not_count_as_a_refusal() -> None:
    with pytest.raises(NameError):
        perform(torch.nn.RNN, GOOD.replace(x=Code("nonsense")))


def test_whatever_a_module_raises_is_a_refusal_but_an_interrupt() -> None:
    class Leaves(torch.nn.RNN):
        error: type[BaseException] = SystemExit

        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            raise self.error

    assert perform(Leaves, GOOD).classes[0] == "SystemExit"
    Leaves.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        perform(Leaves, GOOD)
