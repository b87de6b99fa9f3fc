"""Tests of the reports that makers have: each fits the failures that were seen, and no other subject or case."""

from dataclasses import replace

import pytest

from harness.checks.result import Result, Verdict
from harness.checks.upstream import reported
from harness.oracle.compare import Mismatch, Sort
from harness.space.config import RNNConfig

COPIED = RNNConfig(1, 1, T=1, N=1, preparation="deepcopy")
TURNED = RNNConfig(1, 1, batch_first=True, T=1, N=2)
DOUBLE = RNNConfig(1, 1, dtype="float64")
NO_LEAF = Result(Verdict.BROKEN, message="RuntimeError: you can only change requires_grad flags of leaf variables.")


def wrong(array: str, sort: Sort) -> Result:
    return Result(Verdict.DISAGREES, (Mismatch(array, sort),))


@pytest.mark.parametrize(
    ("subject", "config", "result", "number"),
    [
        ("torch:script", COPIED, NO_LEAF, 44951),
        ("torch:trace", COPIED, wrong("weight_ih_l0.grad", Sort.MISSING), 44951),
        ("onnx:openvino", TURNED, wrong("output", Sort.SHAPE), 37820),
        ("onnx:openvino", TURNED, wrong("output", Sort.VALUE), 37820),
        ("keras:torch", DOUBLE, wrong("x.grad", Sort.VALUE), 23704),
    ],
)
def test_a_report_fits_what_was_seen_of_one_subject_in_such_cases_only(
    subject: str, config: RNNConfig, result: Result, number: int
) -> None:
    found = reported(subject, config, result)

    assert found is not None
    assert found.link.endswith(f"/{number}")
    assert reported("mine.py:rnn", config, result) is None
    assert reported(subject, replace(config, preparation="new", batch_first=False, dtype="float32"), result) is None
    assert reported(subject, config, wrong("output", Sort.DTYPE)) is None
