"""Tests of the four steps of a torch subject: each can be replaced alone, and all that it runs goes through it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, RNNConfig, Verdict, check_agreement, draw
from harness.space.case import Array
from harness.space.factor_table import PREPARATIONS
from harness.space.outcome import Outcome
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()
BACK = RNNConfig(2, 3, T=4, N=2, hx=True, dtype="float64", loss="both")


class Built(TorchSubject):
    """torch, whose modules are built as if for relu."""

    def build(self, config: RNNConfig) -> torch.nn.Module:
        return super().build(config.replace(nonlinearity="relu"))


class Prepared(TorchSubject):
    """torch, whose modules come to hold twice the weights."""

    def prepare(self, config: RNNConfig, weights: Any) -> torch.nn.Module:
        return super().prepare(config, {name: 2 * tensor for name, tensor in weights.items()})


class Called(TorchSubject):
    """torch, whose modules are called with twice the input."""

    def call(self, module: torch.nn.Module, parameters: Any, *arguments: Any, **named: Any) -> Any:
        x, *hx = arguments
        return super().call(module, parameters, 2 * x, *hx, **named)


class Differentiated(TorchSubject):
    """torch, whose gradients are doubled."""

    def differentiate(self, roots: Any, by: Any, cotangents: Any) -> Any:
        found = super().differentiate(roots, by, cotangents)
        return [None if gradient is None else 2 * gradient for gradient in found]


def doubled(case: Case, *names: str) -> Case:
    return Case.from_arrays(case.config, {n: 2 * a if n in names else a for n, a in case.arrays.items()})


def given(subject: TorchSubject, case: Case, how: str) -> Outcome:
    return subject.run_twice(case) if how == "run_twice" else subject.run(case)


def forward(outcome: Outcome) -> dict[str, Array]:
    assert outcome.failure is None, outcome.message
    return {name: array for name, array in outcome.arrays.items() if "." not in name}


def same(left: dict[str, Array], right: dict[str, Array]) -> bool:
    pairs = [(left[name], right[name]) for name in left.keys() & right.keys()]
    return left.keys() == right.keys() and all(np.allclose(one, other, rtol=1e-12, atol=0) for one, other in pairs)


AS_IF: dict[type[TorchSubject], Callable[[Case], Case]] = {
    Built: lambda case: Case.from_arrays(case.config.replace(nonlinearity="relu"), case.arrays),
    Prepared: lambda case: doubled(case, *case.config.weights),
    Called: lambda case: doubled(case, "x"),
}


@pytest.mark.parametrize("how", ["run", "run_twice"])
@pytest.mark.parametrize("replaced", AS_IF)
def test_a_step_of_the_forward_pass_is_replaced_in_all_that_is_run(replaced: type[TorchSubject], how: str) -> None:
    case = draw(BACK, "normal")

    found, expected = forward(given(replaced(), case, how)), forward(given(TORCH, AS_IF[replaced](case), how))

    assert same(found, expected)
    assert not same(found, forward(given(TORCH, case, how)))


@pytest.mark.parametrize("replaced", AS_IF)
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_step_is_replaced_however_the_weights_come_in(preparation: str, replaced: type[TorchSubject]) -> None:
    case = draw(BACK.replace(preparation=preparation), "normal")
    by_its_own = preparation == "functional_call" and replaced is Prepared  # the weights are given to the call

    found, expected = forward(replaced().run(case)), forward(TORCH.run(AS_IF[replaced](case)))

    assert same(found, expected) is not by_its_own


def test_the_way_back_is_replaced_and_nothing_else() -> None:
    case = draw(BACK, "normal")

    for how in ("run", "run_twice"):
        found, own = given(Differentiated(), case, how).arrays, given(TORCH, case, how).arrays
        assert found.keys() == own.keys()
        for name in found:
            assert np.allclose(found[name], own[name] * (2 if "grad" in name else 1), atol=0), (how, name)


def test_a_module_that_is_compiled_has_a_place() -> None:
    class Compiled(TorchSubject):
        """torch, whose modules are compiled, here without code of their own."""

        def prepare(self, config: RNNConfig, weights: Any) -> torch.nn.Module:
            module = super().prepare(config, weights)
            module.compile(backend="eager")
            return module

    for config in (BACK, BACK.replace(num_layers=2, bidirectional=True, loss=None)):
        assert check_agreement(Compiled(), draw(config, "normal"), with_probes=False).verdict is Verdict.AGREES
