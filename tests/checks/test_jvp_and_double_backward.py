"""Tests of derivatives beyond gradients: torch's are right, and what is wrong in them alone is found."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, Failure, Outcome, RNNConfig, Verdict, as_subject, draw, hunt
from harness.checks.agreement import check_agreement
from harness.checks.case_checks import check
from harness.checks.jvp_and_double_backward import FAR_FROM_KINK, check_derivatives, differentiable
from harness.checks.result import DERIVATIVES
from harness.search.plan import DERIVATIVE_CONFIGS
from harness.space.scope import Scope
from harness.subjects.torch_module import TorchSubject

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
ONE = draw(DERIVATIVE_CONFIGS[1], "default", 0)
SMALL = Scope().only(
    dtype=["float64"], loss=["output", "both"], T=[1, 3], N=[1, 2], input_size=[1, 2], hidden_size=[1, 3]
)


class Slope(torch.autograd.Function):
    """tanh, whose slope is right, but a constant when it is differentiated again; without forward mode."""

    @staticmethod
    def forward(ctx: Any, s: torch.Tensor) -> torch.Tensor:
        ctx.h = torch.tanh(s)
        h: torch.Tensor = ctx.h.clone()
        return h

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor) -> Any:
        return g[0] * (1 - ctx.h.detach() ** 2)


class Forward(torch.autograd.Function):
    """tanh, right in all but its forward mode."""

    @staticmethod
    def forward(ctx: Any, s: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(s)
        ctx.save_for_backward(h)
        ctx.save_for_forward(h)
        return h

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor) -> Any:
        return g[0] * (1 - ctx.saved_tensors[0] ** 2)

    @staticmethod
    def jvp(_ctx: Any, *along: Any) -> Any:
        return along[0]


class Own(torch.nn.RNN):
    """An nn.RNN of one tanh layer with a phi of its own."""

    phi: Any = torch.tanh

    def forward(self, x: Any, hx: Any = None) -> Any:
        if self.num_layers > 1 or self.bidirectional or self.nonlinearity != "tanh":
            raise NotImplementedError("one tanh layer")
        x = x.transpose(0, 1) if self.batch_first else x
        h = x.new_zeros(x.shape[1], self.hidden_size) if hx is None else hx[0]
        w: Any = dict(self.named_parameters())
        linear, states = torch.nn.functional.linear, []
        for x_t in x:
            s = linear(x_t, w["weight_ih_l0"], w.get("bias_ih_l0"))
            h = self.phi(s + linear(h, w["weight_hh_l0"], w.get("bias_hh_l0")))
            states.append(h)
        output = torch.stack(states)
        return output.transpose(0, 1) if self.batch_first else output, h[None].clone()


class SlopeRNN(Own):
    phi: Any = staticmethod(Slope.apply)


class ForwardRNN(Own):
    phi: Any = staticmethod(Forward.apply)


NO_SEQUENCES = RNNConfig(1, 1, bidirectional=True, T=1, N=0, dtype="float64", loss="output")


@pytest.mark.parametrize("config", [*DERIVATIVE_CONFIGS, NO_SEQUENCES])
@pytest.mark.parametrize("seed", range(5))
def test_torch_s_are_right(config: RNNConfig, seed: int) -> None:
    case = draw(config, "default", seed)

    assert check_derivatives(TORCH, case).verdict is (Verdict.AGREES if differentiable(case) else Verdict.UNSUPPORTED)


@pytest.mark.parametrize("factory", [SlopeRNN, ForwardRNN])
def test_what_is_wrong_beyond_gradients_alone_is_found_and_made_small(factory: Any) -> None:
    subject = TorchSubject(factory, "mine")

    assert check_agreement(subject, ONE).verdict is Verdict.AGREES
    assert check_derivatives(subject, ONE).kind == "derivatives: derivative"
    finding = hunt(subject, SMALL).finding
    assert finding is not None
    assert finding.result.mismatches[0].actual == ("gradcheck" if factory is ForwardRNN else "gradgradcheck")
    assert finding.case.config == RNNConfig(1, 1, T=1, N=1, dtype="float64", loss="output")


def test_a_subject_with_neither_is_refused_and_one_that_raises_is_broken() -> None:
    class Answering(TorchSubject):
        answer = Outcome(failure=Failure.UNSUPPORTED, message="no")

        def check_derivatives(self, case: Case) -> Outcome:
            return self.answer

    class Raising(Answering):
        answer = Outcome(failure=Failure.RAISED, message="ValueError: no")

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        raise AssertionError

    assert check_derivatives(as_subject(rnn), ONE).verdict is Verdict.UNSUPPORTED
    assert check(Answering(), ONE).verdict is Verdict.AGREES
    assert DERIVATIVES not in check(Answering(), ONE).also
    assert DERIVATIVES in check(TORCH, ONE).also
    assert check(Raising(), ONE).verdict is Verdict.BROKEN
    assert check(Raising(), ONE.forward()).verdict is Verdict.AGREES
    assert check(Raising(), ONE, with_probes=False).verdict is Verdict.AGREES


def test_differences_are_not_asked_for_where_they_say_nothing() -> None:
    relu = draw(RNNConfig(1, 1, nonlinearity="relu", bias=False, dtype="float64", loss="output"))
    flat: dict[str, Any] = {"weight_hh_l0": [[0.0]], "output_grad": [[[1.0]]]}
    near, far = (
        Case.of(relu.config, [[[x]]], weight_ih_l0=[[1.0]], **flat) for x in (FAR_FROM_KINK / 2, 2 * FAR_FROM_KINK)
    )

    assert (differentiable(near), differentiable(far)) == (False, True)
    assert not differentiable(replace(ONE, x=ONE.x * np.inf))
    assert not differentiable(replace(ONE, x=ONE.x * 100))
    assert not differentiable(draw(ONE.config.replace(dtype="float32")))
    assert not differentiable(draw(ONE.config.replace(hidden_size=65)))
