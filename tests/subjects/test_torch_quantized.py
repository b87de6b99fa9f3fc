"""Tests of torch's quantized cell as a subject: it agrees on every engine, and its mistakes are seen and named."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from harness import Case, Failure, RNNConfig, Verdict, as_subject, cases, check_agreement, draw
from harness.checks.agreement import arithmetic_of
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.script.script_text import script
from harness.oracle.compare import compare
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.search.search import hunt
from harness.subjects import torch_quantized
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from tests.causes import has_cause_of
from tests.scripts import says_failed

SUBJECT = as_subject("torch:quantized-cell")
SUPPORTED: dict[str, Any] = {
    "num_layers": 1,
    "bidirectional": False,
    "batch_first": False,
    "batched": True,
    "bias": True,
    "dtype": "float32",
}
SMALL: dict[str, Any] = SUPPORTED | {"T": (1, 2, 3), "N": (1, 2), "input_size": (1, 2), "hidden_size": (1, 2, 3)}
ZERO: dict[str, Any] = {"weight_hh_l0": [[0.0]], "bias_ih_l0": [0.0], "bias_hh_l0": [0.0]}
ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let torch's quantized cells use one engine, which may not be here."""
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"no {request.param} here")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield
    torch.backends.quantized.engine = before


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("distribution", ["dyadic", "default", "saturated"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_every_engine_agrees(nonlinearity: str, distribution: str) -> None:
    for seed in range(8):
        config = RNNConfig(1 + seed % 3, 1 + seed, nonlinearity=nonlinearity, T=3, N=1 + seed % 2, hx=True)

        result = check_agreement(SUBJECT, draw(config, distribution, seed))

        assert result.verdict is Verdict.AGREES, (seed, result)


FEW = {"T": [1, 2, 5], "N": [1, 3], "input_size": [1, 4, 33], "hidden_size": [1, 5, 32]}


@settings(max_examples=40)
@given(cases(scope_of(SUBJECT).only(**(SMALL | FEW))))
def test_it_agrees(case: Case) -> None:
    assert check_agreement(SUBJECT, case).verdict in {Verdict.AGREES, Verdict.UNSUPPORTED}


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_errors_of_a_whole_run_are_carried_along(nonlinearity: str) -> None:
    """The grid of a state that is off itself may be another one, so that its error is allowed for in every step."""
    for seed in range(20):
        config = RNNConfig(1 + seed % 3, 1 + seed % 5, nonlinearity=nonlinearity, T=5, N=1 + seed % 2, hx=True)
        case = draw(config, "default", seed)
        setting = Setting.of(case, arithmetic_of(SUBJECT, case))

        assert compare(config, SUBJECT.run(case).arrays, expect_whole_run(setting)) == []


def test_gradients_through_a_grid_are_not_compared() -> None:
    case = draw(RNNConfig(2, 3, T=2, N=2, loss="both"))

    with pytest.raises(NotImplementedError, match="gradients through a grid"):
        expect_whole_run(Setting.of(case, arithmetic_of(SUBJECT, case)))


def test_the_largest_weight_is_off_by_half_a_step_which_is_nearly_all_that_is_allowed() -> None:
    """The 255 steps of a weight w go from -w to w, so that whole steps from 0 meet neither: 127.5 of them would."""
    case = Case.of(RNNConfig(1, 1, nonlinearity="relu", T=1, N=1), [[[1.0]]], weight_ih_l0=[[1.0]], **ZERO)

    assert SUBJECT.run(case).arrays["output"].item() == pytest.approx(127 / 127.5, rel=1e-6)
    assert check_agreement(SUBJECT, case).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    "config",
    [
        RNNConfig(2, 3, 2, T=2, N=2),
        RNNConfig(2, 3, bidirectional=True, T=2, N=2),
        RNNConfig(2, 3, batch_first=True, T=2, N=2),
        RNNConfig(2, 3, bias=False, T=2, N=2),
        RNNConfig(2, 3, batched=False, T=2, N=1),
        RNNConfig(2, 3, dtype="float64", T=2, N=2),
        RNNConfig(2, 3, lengths=(2, 1), T=2, N=2),
        RNNConfig(2, 3, loss="both", T=2, N=2),
    ],
)
def test_what_it_does_not_have_is_unsupported(config: RNNConfig) -> None:
    assert SUBJECT.run(draw(config)).failure is Failure.UNSUPPORTED


@pytest.mark.parametrize("number", [np.inf, np.nan, 3e38])
def test_a_number_that_overflows_or_leaves_no_grid_is_unsupported(number: float) -> None:
    case = draw(RNNConfig(2, 3, T=2, N=2), "saturated")
    x = case.x.copy()
    x[1, 0, 0] = number

    assert SUBJECT.run(replace(case, x=x, origin=None)).failure is Failure.UNSUPPORTED


LOADED = 'torch.from_numpy(weights[f"{name}_l0"])'
# The right and the wrong text of the function, by the name of the fault that is planted by it.
MISTAKES = {
    "IgnoresBiasHH": (LOADED, f"{LOADED} * (name != 'bias_hh')"),
    "IgnoresBiasIH": (LOADED, f"{LOADED} * (name != 'bias_ih')"),
    "TransposesWeightHH": (LOADED, f"{LOADED}.T if name == 'weight_hh' else {LOADED}"),
    "ForgetsState": ("cell(step, h)", "cell(step)"),
    "IgnoresHx": ("torch.from_numpy(h0[0])", "torch.from_numpy(0 * h0[0])"),
    "AlwaysTanh": ("nonlinearity=config.nonlinearity", "nonlinearity='tanh'"),
    "AlwaysRelu": ("nonlinearity=config.nonlinearity", "nonlinearity='relu'"),
}


def with_mistake(right: str, wrong: str) -> FunctionSubject:
    """Return the subject of the function with a mistake in its text, held to the same arithmetic."""
    text = inspect.getsource(torch_quantized.quantized_cell)
    assert text.count(right) == 1
    made: dict[str, Any] = {"Any": Any}
    exec(text.replace(right, wrong), made)  # noqa: S102 - a function of this package, with a mistake
    subject = FunctionSubject(made["quantized_cell"], "mine")
    subject.capabilities = replace(subject.capabilities, arithmetic=SUBJECT.capabilities.arithmetic)
    return subject


@pytest.mark.parametrize("cause", MISTAKES)
def test_a_mistake_is_seen(cause: str) -> None:
    subject = with_mistake(*MISTAKES[cause])

    finding = hunt(subject, scope_of(subject).only(**SMALL), cases=100).finding

    assert finding is not None
    assert finding.minimal


@pytest.mark.long
@pytest.mark.parametrize("cause", MISTAKES)
def test_a_mistake_is_named(cause: str) -> None:
    subject = with_mistake(*MISTAKES[cause])

    found = hunt(subject, scope_of(subject).only(**SUPPORTED), cases=100)

    assert found.finding is not None
    assert has_cause_of(FindingExplainer(subject).explain(found.finding, found.scope).diagnosis, cause)


def test_a_grid_is_that_of_the_whole_batch() -> None:
    """The step that 1000 makes, 7.9, takes 1 in the other sequence to 0, which alone would hardly move."""
    config = RNNConfig(1, 1, nonlinearity="relu", T=1, N=2)
    case = Case.of(config, [[[1.0], [1000.0]]], weight_ih_l0=[[1.0]], **ZERO)

    assert SUBJECT.run(case).arrays["output"][0, 0].item() == pytest.approx(0.0)
    assert check_agreement(SUBJECT, case).verdict is Verdict.AGREES


def test_a_script_of_a_finding_needs_torch_only() -> None:
    subject = with_mistake(*MISTAKES["IgnoresBiasHH"])
    text = inspect.getsource(torch_quantized.quantized_cell).replace(*MISTAKES["IgnoresBiasHH"])
    recipe = SUBJECT.capabilities.recipe
    assert recipe is not None
    lines = ("from typing import Any", *text.split("\n"))
    subject.capabilities = replace(subject.capabilities, recipe=replace(recipe, lines=lines))
    finding = hunt(subject, scope_of(subject).only(**SMALL), cases=100).finding

    assert finding is not None
    assert says_failed(script(finding, subject).text)
