"""The exporter of torch.export, at length: an export takes seconds."""

import pytest

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.checks.dropout import check_dropout
from harness.space.outcome import Failure

pytestmark = pytest.mark.long

PLAIN = RNNConfig(3, 4, nonlinearity="relu", T=2, N=3)


def test_an_export_agrees_and_refuses_packed_sequences_and_loses_dropout() -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra onnx")
    subject = as_subject("onnx:dynamo")

    stack = PLAIN.replace(num_layers=2, bidirectional=True, hx=True, preparation="used")
    for config in (PLAIN.replace(dtype="float64", nonlinearity="tanh"), stack, PLAIN.replace(batched=False, N=1)):
        assert check_agreement(subject, draw(config)).verdict is Verdict.AGREES, config

    assert subject.run(draw(PLAIN.replace(lengths=(2, 1, 1)))).failure is Failure.UNSUPPORTED

    dropped = check_dropout(subject)
    assert dropped.verdict is Verdict.DISAGREES
    assert "are kept, expected 0.5" in dropped.message
