"""Tests of derivatives beyond gradients: correct ones agree, and omissions in them are found."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from harness import (
    Capabilities,
    Case,
    Failure,
    Outcome,
    Reference,
    RNNConfig,
    Subject,
    Verdict,
    as_subject,
    cases,
    draw,
    hunt,
)
from harness.checks.agreement import check_agreement
from harness.checks.derivatives import check_derivatives
from harness.checks.full_check import check
from harness.checks.result import DERIVATIVES, Method, Result
from harness.oracle.compare import Sort
from harness.report.wording import plain_finding
from harness.space.scope import Scope
from harness.space.values import tangents
from harness.subjects.torch_module import TorchSubject

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
CASE = draw(RNNConfig(3, 4, 2, bidirectional=True, T=3, N=2, hx=True, loss="both", dtype="float64"), "default", 0)
SMALL: dict[str, Any] = {"T": [1, 2, 5], "N": [0, 1, 3], "input_size": [1, 4], "hidden_size": [1, 5]}
LOSSES = ["output", "h_n", "both"]


class Changed(TorchSubject):
    """torch with changed results of its derivatives; ``given`` changes the tangents that they get."""

    def __init__(
        self,
        jvp: Callable[[Case, dict[str, Any]], Any] | None = None,
        second: Callable[[Case, dict[str, Any]], Any] | None = None,
        given: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(name="changed")
        self._jvp, self._second, self._given, self.asked = jvp, second, given, 0

    def jvp(self, case: Case, tangents: Mapping[str, Any]) -> Outcome:
        self.asked += 1
        outcome = super().jvp(case, self._given(tangents))
        return outcome if self._jvp is None else replace(outcome, arrays=self._jvp(case, dict(outcome.arrays)))

    def second(self, case: Case, tangents: Mapping[str, Any]) -> Outcome:
        outcome = super().second(case, tangents)
        return outcome if self._second is None else replace(outcome, arrays=self._second(case, dict(outcome.arrays)))


def without(start: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    return lambda given: {name: a * 0 if name.startswith(start) else a for name, a in given.items()}


def without_slope(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
    h = arrays["output"]
    return {**arrays, "output.tangent": arrays["output.tangent"] / (1 - h * h)}


@settings(max_examples=60)
@given(cases(**SMALL, loss=LOSSES, output_size=[None, 2], dtypes=["float32", "float64", "bfloat16", "float16"]))
def test_torch_agrees(case: Case) -> None:
    result = check_derivatives(TORCH, case)

    assert result.verdict is Verdict.AGREES, result
    assert result.method is Method.LOCAL


@pytest.mark.parametrize("start", ["x", "hx", "weight_ih", "weight_hh", "bias_ih", "weight_hh_l1_reverse"])
def test_a_tangent_that_is_left_out_is_found(start: str) -> None:
    for seed in range(3):
        result = check_derivatives(Changed(given=without(start)), draw(CASE.config, "default", seed))

        assert result.verdict is Verdict.DISAGREES, result
        assert result.kind in {"output.tangent: value", "h_n.tangent: value"}


def test_a_slope_that_is_left_out_is_found_at_every_place() -> None:
    config = CASE.config.replace(num_layers=1)
    result = check_derivatives(Changed(without_slope), draw(config, "default", 0))

    assert (result.verdict, result.kind) == (Verdict.DISAGREES, "output.tangent: value")
    assert result.mismatches[0].count == result.mismatches[0].total
    assert set(result.mismatches[0].sites[0].place) == {"t", "n", "direction", "unit"}


@pytest.mark.parametrize(("T", "by", "verdict"), [(3, 100, Verdict.SUSPECT), (1, 10_000, Verdict.DISAGREES)])
def test_an_upper_layer_s_tangent_that_is_off_by_little_is_proved_where_no_prefix_is_needed(
    T: int, by: int, verdict: Verdict
) -> None:
    def off(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
        if case.config.num_layers == 1:
            return arrays
        return {**arrays, "output.tangent": arrays["output.tangent"] * (1 + by * 2.0**-53)}

    result = check_derivatives(Changed(off), draw(CASE.config.replace(T=T), "default", 0))

    assert result.verdict is verdict
    assert {m.sort for m in result.mismatches} == {Sort.SUSPICIOUS if verdict is Verdict.SUSPECT else Sort.VALUE}


def test_prefixes_that_are_not_the_stack_s_are_not_believed_and_the_rest_is_compared_end_to_end() -> None:
    def alone(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
        return {n: a + 1e-3 * (case.config.num_layers == 1) * (n == "h_n.tangent") for n, a in arrays.items()}

    assert check_derivatives(Changed(alone), CASE) == Result(
        Verdict.AGREES, method=Method.END_TO_END, also=(DERIVATIVES,)
    )
    result = check_derivatives(Changed(alone, given=without("weight_hh")), CASE)
    assert (result.verdict, result.method) == (Verdict.DISAGREES, Method.END_TO_END)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda c, a: {n: v for n, v in a.items() if n != "h_n.tangent"}, "h_n.tangent: missing"),
        (lambda c, a: {n: v for n, v in a.items() if n != "output"}, "output: missing"),
        (lambda c, a: {**a, "x.tangent": a["output"]}, "x.tangent: unexpected"),
        (lambda c, a: {**a, "h_n.tangent": a["h_n.tangent"][0]}, "h_n.tangent: shape"),
        (lambda c, a: {**a, "h_n.tangent": a["h_n.tangent"].astype("f4")}, "h_n.tangent: dtype"),
        (lambda c, a: {**a, "output": a["output"] + 1e-9}, "output: value"),
    ],
)
def test_each_way_in_which_forward_mode_fails_has_a_name_of_its_own(change: Any, kind: str) -> None:
    result = check_derivatives(Changed(change), draw(CASE.config.replace(num_layers=1), "default", 0))

    assert (result.verdict, result.kind) == (Verdict.DISAGREES, kind)


class Hessian(torch.nn.Module):
    """An nn.RNN of one layer whose phi' is correct in the backward pass, but constant when differentiated again."""

    def __init__(self, input_size: int, hidden_size: int, **others: Any) -> None:
        super().__init__()
        if others.pop("num_layers") > 1 or others.pop("bidirectional") or others.pop("dropout"):
            raise NotImplementedError
        self._rnn = torch.nn.RNN(input_size, hidden_size, **others)
        for name, parameter in self._rnn.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: torch.Tensor, hx: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        w = dict(self._rnn.named_parameters())
        h = x.new_zeros(x.shape[1], w["weight_hh_l0"].shape[0]) if hx is None else hx[0]
        states = []
        for x_t in x:
            s = torch.nn.functional.linear(x_t, w["weight_ih_l0"], w["bias_ih_l0"])
            h = _tanh(s + torch.nn.functional.linear(h, w["weight_hh_l0"], w["bias_hh_l0"]))
            states.append(h)
        return torch.stack(states), h[None]


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(s)
        ctx.h = h
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor) -> Any:
        return g[0] * (1 - ctx.h.detach() ** 2)


_tanh: Callable[[torch.Tensor], torch.Tensor] = _Tanh.apply

ONE = draw(RNNConfig(3, 4, T=3, N=2, hx=True, loss="both", dtype="float64"), "default", 0)


def test_a_double_backward_that_takes_the_slope_for_a_constant_is_found_by_its_rate() -> None:
    subject = TorchSubject(Hessian, "hessian")
    assert check_agreement(subject, ONE).verdict is Verdict.AGREES
    found = 0
    for regime in ("default", "normal", "spectral", "saturated", "sparse"):
        result = check_derivatives(OnlySecond(subject), draw(ONE.config, regime, 1))
        found += result.verdict is Verdict.SUSPECT
        assert {m.sort for m in result.mismatches} <= {Sort.RATE}
    assert found == 5
    assert "x.grad.tangent does not match differences of gradients" in plain_finding("s", ONE.config, result)


class OnlySecond:
    """A subject's runs and second order, without its forward mode."""

    def __init__(self, subject: Any) -> None:
        self.name, self.devices, self.run = "only second", subject.devices, subject.run
        self.capabilities = Capabilities(second=subject.second)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("by", [1e-4, 1.0, -1.0])
def test_a_second_derivative_that_is_off_in_one_array_is_found_there(nonlinearity: str, by: float) -> None:
    def off(case: Case, arrays: dict[str, Any]) -> dict[str, Any]:
        return {**arrays, "weight_hh_l0.grad": arrays["weight_hh_l0.grad"] * (1 + by)}

    case = draw(CASE.config.replace(nonlinearity=nonlinearity), "default", 0)
    result = check_derivatives(Changed(second=off), case)

    assert (result.verdict, result.kind) == (Verdict.SUSPECT, "weight_hh.grad.tangent: rate")
    assert len(result.mismatches) == 1
    site = result.mismatches[0].sites[0]
    assert site.actual == pytest.approx((1 + by) * site.expected, rel=1e-3, abs=abs(1e-3 * site.expected))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_torch_s_second_derivatives_are_the_references_gradients_central_differences(nonlinearity: str) -> None:
    case = draw(CASE.config.replace(nonlinearity=nonlinearity), "default", 0)
    along, reference, step = tangents(case), Reference(), 2.0**-17  # about u**(1/3), as for any central difference

    def gradients(by: float) -> dict[str, Any]:
        moved = {n: a + by * along[n] if n in along else a for n, a in case.arrays.items()}
        return reference.run(Case.from_arrays(case.config, moved))

    there, back, found = gradients(step), gradients(-step), TORCH.second(case, along).arrays

    for name in case.config.gradients:
        off = np.abs((there[name] - back[name]) / (2 * step) - found[name]).max()
        assert off < 4000 * step**2 * max(1, np.abs(found[name]).max()), name


def test_chaos_in_which_differences_tend_to_nothing_is_no_suspicion() -> None:
    wild = RNNConfig(17, 17, 2, batch_first=True, bidirectional=True, T=10, N=4, hx=True, dtype="float64", loss="h_n")
    wild = wild.replace(training=True)

    assert check_derivatives(OnlySecond(TORCH), draw(wild, "normal", 1045)).verdict is Verdict.AGREES


def test_a_kink_that_every_step_crosses_says_nothing() -> None:
    config = RNNConfig(1, 1, nonlinearity="relu", bias=False, N=2, dtype="float64", loss="output")
    for g in range(1, 9):  # a different id gives a different direction
        weights: dict[str, Any] = {"weight_ih_l0": [[1.0]], "weight_hh_l0": [[0.0]]}
        case = Case.of(config, [[[-(2.0**-50)], [1.0]]], output_grad=[[[g], [g]]], **weights)
        assert check_derivatives(TORCH, case).verdict is Verdict.AGREES


def test_a_unit_at_its_kink_says_nothing() -> None:
    config = RNNConfig(1, 2, nonlinearity="relu", bias=False, dtype="float64", loss="output")
    kink = Case.of(config, [[[0.0]]], weight_ih_l0=[[1], [2]], weight_hh_l0=[[0, 0]] * 2, output_grad=[[[1, 2]]])

    assert check_derivatives(TORCH, kink).verdict is Verdict.AGREES


def test_who_offers_nothing_is_asked_nothing_and_who_refuses_is_left_alone() -> None:
    class Refusing(TorchSubject):
        def jvp(self, case: Case, tangents: Any) -> Outcome:
            return Outcome(failure=Failure.UNSUPPORTED, message="no")

    class Raising(TorchSubject):
        def jvp(self, case: Case, tangents: Any) -> Outcome:
            return Outcome(failure=Failure.RAISED, message="ValueError: no")

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        raise AssertionError

    single = draw(CASE.config.replace(dtype="float32"), "default", 0)
    assert check_derivatives(as_subject(rnn), CASE).verdict is Verdict.UNSUPPORTED
    assert check_derivatives(Refusing(), single).verdict is Verdict.UNSUPPORTED
    assert check(Refusing(), single).verdict is Verdict.AGREES
    assert check(Raising(), single).verdict is Verdict.BROKEN
    assert check(Raising(), single.forward()).verdict is Verdict.AGREES
    assert check(Raising(), single, with_probes=False).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        (Changed(given=without("weight_hh")), ".tangent: value"),
        (Changed(second=lambda c, a: {n: v * 0 for n, v in a.items()}), ".grad.tangent: rate"),
    ],
)
def test_a_search_finds_them_and_makes_them_small(subject: Subject, kind: str) -> None:
    record = hunt(subject, Scope().only(dtype=["float64"], loss=["both"], T=[1, 2], N=[1, 2], hidden_size=[1, 2]))

    assert record.finding is not None
    assert record.finding.result.kind.endswith(kind)
    assert record.finding.case.config.num_layers == 1
    assert record.finding.case.config.hidden_size == 1
