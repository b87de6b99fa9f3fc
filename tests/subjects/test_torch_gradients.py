"""Tests of gradients that two passes add up in ``.grad``, and of layers that are wrong only there."""

from typing import Any

import pytest
import torch

from harness import RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.oracle.compare import same_numbers
from harness.space.factor_table import PREPARATIONS
from harness.subjects.torch_autograd import Graph, accumulated
from harness.subjects.torch_module import TorchSubject

TWO = RNNConfig(2, 3, num_layers=2, bidirectional=True, T=3, N=2, hx=True, loss="both")


class WritesAnew(torch.nn.RNN):
    """A layer whose gradient by weight_ih_l0 replaces the one that is there."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        weight: Any = self.weight_ih_l0

        def forget(gradient: torch.Tensor) -> torch.Tensor:
            weight.grad = None
            return gradient

        weight.register_hook(forget)


class _TwiceAsMuch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: torch.Tensor) -> torch.Tensor:
        ctx.passes = 0
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        ctx.passes += 1
        return gradient * ctx.passes


class _Owned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: torch.Tensor, owned: bool) -> torch.Tensor:
        ctx.owned = owned
        return parameter.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient if ctx.owned else None, None


class KeepsItsOwn(torch.nn.RNN):
    """A layer through which a parameter gets its gradient only in the module that used it first."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        own = {}
        for name, parameter in self.named_parameters():
            parameter.owner = getattr(parameter, "owner", self)  # type: ignore[attr-defined]
            own[name] = _Owned.apply(parameter, parameter.owner is self)  # type: ignore[attr-defined,no-untyped-call]
        plain = torch.nn.RNN(self.input_size, self.hidden_size, self.num_layers, bidirectional=self.bidirectional)
        return torch.func.functional_call(plain, own, (input, hx))


class ChangesInTheSecondPass(torch.nn.RNN):
    """A layer whose second backward pass gives twice the first one's gradients."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        return _TwiceAsMuch.apply(output), h_n  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("mode", [{"grad_mode": "accumulate"}, {"tied": True}])
@pytest.mark.parametrize("preparation", PREPARATIONS)
@pytest.mark.parametrize(
    "config",
    [
        TWO,
        TWO.replace(dtype="float16", strides="expanded", wrt="inputs"),
        TWO.replace(autocast="bfloat16", lengths=(3, 1)),
        TWO.replace(wrt="weights", output_size=1, batched=True),
    ],
)
def test_what_two_passes_add_up_is_twice_what_one_gives_to_the_bit(
    config: RNNConfig, preparation: str, mode: dict[str, Any]
) -> None:
    subject = TorchSubject()
    plain = draw(config.replace(preparation=preparation), "normal", 1)
    twice = draw(plain.config.replace(**mode), "normal", 1)
    one, both = subject.run(plain), subject.run(twice)

    assert one.failure is None
    assert one.arrays.keys() == both.arrays.keys()
    assert all(same_numbers(array, both.arrays[name]) for name, array in one.arrays.items())


@pytest.mark.parametrize(
    ("factory", "name", "mode"),
    [
        (WritesAnew, "weight_ih_l0.grad", {"grad_mode": "accumulate"}),
        (ChangesInTheSecondPass, "x.grad", {"grad_mode": "accumulate"}),
        (WritesAnew, "weight_ih_l0.grad", {"tied": True}),
        (KeepsItsOwn, "weight_hh_l0.grad", {"tied": True}),
    ],
)
def test_a_layer_that_is_wrong_only_there_is_found(
    factory: type[torch.nn.Module], name: str, mode: dict[str, Any]
) -> None:
    subject = as_subject(factory)
    plain = check_agreement(subject, draw(TWO, "normal", 1))
    result = check_agreement(subject, draw(TWO.replace(**mode), "normal", 1))

    assert plain.verdict is Verdict.AGREES
    assert result.verdict is Verdict.DISAGREES
    assert name in {mismatch.array for mismatch in result.mismatches}


def test_a_sum_that_overflows_counts_as_the_gradient_of_one_pass_and_grad_is_left_empty() -> None:
    weight = torch.ones(2, dtype=torch.float16, requires_grad=True)
    [found] = accumulated(Graph([weight * 1.0], [weight]), [torch.tensor([40_000.0, torch.inf], dtype=torch.float16)])

    assert found is not None
    assert found.tolist() == [40_000.0, torch.inf]
    assert weight.grad is None


def test_what_is_lost_between_two_modules_is_told_as_half_of_the_gradient() -> None:
    subject = as_subject(KeepsItsOwn)

    assert check_agreement(subject, draw(TWO.replace(grad_mode="accumulate"), "normal", 1)).verdict is Verdict.AGREES
    result = check_agreement(subject, draw(TWO.replace(tied=True), "normal", 1))
    [site, *_] = next(one for one in result.mismatches if one.array == "weight_hh_l0.grad").sites
    assert site.actual == pytest.approx(site.expected / 2)
