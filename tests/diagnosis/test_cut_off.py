"""Tests of missing gradients: the mistake that cuts one off is told by the numbers that it would have."""

from typing import Any

import pytest
import torch

from benchmarks.layers import first_styles
from harness import RNNConfig, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.diagnosis.cut_off import Completed, with_numbers
from harness.diagnosis.investigate import Investigation
from harness.oracle.arithmetic import STRICT
from harness.search.record import Finding
from harness.subjects.protocol import scope_of


class Detached(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        return super().forward(input, None if hx is None else hx.detach())


def finding_of(subject: Any, config: RNNConfig) -> Finding:
    case = draw(config, "normal")
    return Finding(subject.name, case, check_agreement(subject, case))


@pytest.mark.parametrize(
    ("layer", "config", "cause"),
    [
        (Detached, RNNConfig(1, 1, hx=True, loss="output"), "NoGradientOfHx"),
        (first_styles.Handwritten, RNNConfig(1, 1, T=9, hx=True, loss="h_n"), "DetachesState"),
    ],
    ids=["always", "every 8 steps"],
)
def test_the_mistake_that_cuts_a_gradient_off_is_named(layer: Any, config: RNNConfig, cause: str) -> None:
    subject = as_subject(layer)
    finding = finding_of(subject, config)
    assert finding.result.kind == "hx.grad: missing"

    diagnosis = Investigation(subject).explain(finding, scope_of(subject)).diagnosis

    assert diagnosis is not None
    assert [one.name for one in diagnosis.causes] == [cause]
    assert diagnosis.certain


def test_what_is_not_missing_is_left_as_it_is() -> None:
    subject = as_subject(Detached)
    finding = finding_of(subject, RNNConfig(2, 3, T=2, loss="output"))

    assert with_numbers(subject, finding, STRICT) is None
    given, completed = (one.run(finding.case).arrays for one in (subject, Completed(subject)))
    assert given.keys() == completed.keys()


class DetachedHn(torch.nn.RNN):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        output, h_n = super().forward(input, hx)
        return output, h_n.data


@pytest.mark.parametrize("loss", ["h_n", "both"])
def test_a_detached_final_state_is_no_error_and_every_loss_that_reads_it_fails(loss: str) -> None:
    subject = as_subject(DetachedHn)
    finding = finding_of(subject, RNNConfig(1, 1, T=2, loss=loss))
    scope = scope_of(subject).only(loss=(None, "output", "h_n", "both"), num_layers=1, bidirectional=False)

    explanation = Investigation(subject).explain(finding, scope)

    assert explanation.diagnosis is not None
    assert [one.name for one in explanation.diagnosis.causes] == ["IgnoresGradientOfHn"]
    assert explanation.factors is not None
    assert set(explanation.factors.partly["loss"]) == {"h_n", "both"}
