"""Tests of what is found in the factors apart: arguments in another order, and defects that need two preparations."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from harness import as_subject, draw, scope_of
from harness.checks.case_checks import check as check_everything
from harness.checks.result import Result, Verdict
from harness.diagnosis.argument_order import BY_NAME_OTHERWISE, PASSES, other_order
from harness.diagnosis.experiments import Question
from harness.diagnosis.observation_cache import ObservationCache
from harness.report.explanation_lines import fails_line
from harness.search.capability_discovery import narrow
from harness.search.search_record import Finding
from harness.space.config import RNNConfig
from tests.diagnosis.searched import Searched

PINS: dict[str, Any] = {
    "num_layers": (1, 2),
    "loss": None,
    "lengths": None,
    "batched": True,
    "strides": "contiguous",
    "autocast": None,
    "grad_mode": None,
    "dtype": "float32",
    "dropout": (0.0, 0.5),
    "training": False,
    "distributions": "normal",
    **dict.fromkeys(("input_size", "hidden_size", "T", "N"), (1, 2, 3, 4)),
}


class Swapped(torch.nn.RNN):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        layers = (num_layers, nonlinearity, bias, batch_first, float(dropout), bool(bidirectional))
        super().__init__(input_size, hidden_size, *layers, **options)


class Lenient(torch.nn.RNN):
    """It takes anything for a nonlinearity and a bias, so that some cases give wrong numbers and others errors."""

    def __init__(
        self,
        features: int,
        units: int,
        num_layers: int = 1,
        bias: Any = True,
        nonlinearity: Any = "tanh",
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **options: Any,
    ) -> None:
        layers = (num_layers, nonlinearity if isinstance(nonlinearity, str) else "tanh", bool(bias))
        super().__init__(features, units, *layers, batch_first, dropout, bidirectional, **options)


class ByName(torch.nn.RNN):
    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        super().__init__(input_size, hidden_size, **options)


class Hidden(torch.nn.RNN):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        if len(arguments) > 4:
            arguments = (*arguments[:4], not arguments[4], *arguments[5:])
        super().__init__(*arguments, **options)


class CopiesWrongly(torch.nn.RNN):
    """A copy of a module that was called before is wrong."""

    called, copied = False, False

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        self.called = True
        return (output + 1 if self.copied else output), h_n

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.copied = self.called


@pytest.fixture(scope="module", autouse=True)
def shorter() -> Iterator[None]:
    """End searches 60 cases after the last finding instead of 400: the mistakes here show in fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.search.budget.CASES_AFTER_FINDING", 60)
        yield


def searched(module: type[torch.nn.Module], **pins: Any) -> Searched:
    return Searched(module, PINS | pins, cases=250)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (Swapped, "takes bidirectional where nn.RNN takes dropout, if arguments are given by position"),
        (Lenient, "takes bias where nn.RNN takes nonlinearity, if arguments are given by position"),
    ],
)
def test_another_order_of_arguments_is_found_once_and_named(module: type[torch.nn.Module], sentence: str) -> None:
    done = searched(module, preparation="new", after=None)

    [finding], [cause] = done.findings, done.causes
    assert (cause.sentence, cause.evidence) == (sentence, PASSES)
    assert finding.minimal
    assert finding.case.config.positional
    assert done.record.known.total() > 0


def test_the_order_is_the_cause_only_where_the_same_case_does_not_fail_so_by_name() -> None:
    result = Result(Verdict.BROKEN, message="RuntimeError: no")
    finding = Finding("mine", draw(RNNConfig(1, 1, T=1, N=1, positional=True)), result)
    by_name = (
        result,
        Result(Verdict.AGREES),
        Result(Verdict.AGREES, known_as="3f9c2a11"),
        Result(Verdict.BROKEN, message="E"),
    )

    def asked(named: Result) -> str | None:
        observations = ObservationCache(as_subject(Swapped))
        found = other_order(Question(observations, finding, scope_of(observations.subject), lambda _case: named))
        return None if found is None else found.evidence

    assert [asked(named) for named in by_name] == [None, PASSES, BY_NAME_OTHERWISE, BY_NAME_OTHERWISE]


class SwappedAndShifted(Swapped):
    """It is wrong by name, too, with hx."""

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        return (output if hx is None else output + 0.5), h_n


@pytest.mark.parametrize(
    ("config", "explained"),
    [
        (RNNConfig(1, 1, positional=True, bidirectional=True), True),
        (RNNConfig(2, 3, T=3, N=2, batch_first=True, positional=True, hx=True), False),
        (RNNConfig(1, 1, bidirectional=True), False),
    ],
    ids=["order", "another mistake", "by name"],
)
def test_the_order_explains_no_failure_that_the_case_has_by_name_too(config: RNNConfig, explained: bool) -> None:
    subject = as_subject(SwappedAndShifted)
    observations, check = ObservationCache(subject), partial(check_everything, subject)
    finding = Finding("mine", draw(RNNConfig(1, 1, positional=True, bidirectional=True)), Result(Verdict.BROKEN))
    order = other_order(Question(observations, finding, scope_of(subject), check))
    case = draw(config, "normal", 1)
    failed = check(case)

    assert order is not None
    assert order.explains(subject, observations.of(case), failed) == explained


def test_another_order_that_no_signature_shows_is_found_and_told_by_what_it_needs() -> None:
    done = searched(Hidden, preparation="new", after=None)

    assert done.findings
    assert all(finding.case.config.positional for finding in done.findings)
    assert all("positional=True" in fails_line(conditions) for conditions in done.conditions)


def test_a_class_that_takes_its_options_by_name_only_is_not_accused() -> None:
    subject = as_subject(ByName)

    narrowed = narrow(subject, scope_of(subject).only(**PINS))

    assert narrowed.scope.positional == (False,)
    assert narrowed.refused["positional=True"] == "takes by position only input_size, hidden_size"


def test_a_defect_that_needs_two_preparations_is_found_minimal_and_told() -> None:
    done = searched(CopiesWrongly, bidirectional=False)

    [finding] = done.findings
    assert (finding.result.verdict, finding.minimal) == (Verdict.DISAGREES, True)
    assert finding.case.config == RNNConfig(1, 1, preparation="deepcopy", after="used")
    assert fails_line(done.conditions[0]) == "with preparation in (deepcopy, pickle), after in (used, functional_call)"
