"""Tests of what a subject makes of the padding of a packed batch."""

from typing import Any

import numpy as np
import pytest

from harness import as_subject
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.subjects.protocol import scope_of
from tests.searches import explained


def packed(x: Any, h0: Any, weights: Any, config: Any, lengths: Any, *, fill: bool) -> Any:
    """Compute a layer whose mask is a factor; with ``fill``, the last states read the padding."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity == "relu":
        raise NotImplementedError("one layer, one direction")
    ends = np.full(x.shape[1], len(x)) if lengths is None else np.asarray(lengths)
    h, output = h0[0], []
    for t, x_t in enumerate(x):
        s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            s = s + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        on = (t < ends)[:, None].astype(x.dtype)
        h = np.tanh(s) if fill else on * np.tanh(s) + (1 - on) * h
        output.append(np.where(on > 0, h, 0).astype(x.dtype))
    return np.stack(output), h[None].astype(x.dtype)


def multiplies(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    return packed(x, h0, weights, config, lengths, fill=False)


def reads(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
    return packed(x, h0, weights, config, lengths, fill=True)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (multiplies, "lets a NaN in the padding of a packed batch through, as a mask does that is a factor"),
        (reads, "reads what stands in the padding of a packed batch: other numbers there change its results"),
    ],
)
def test_what_reaches_results_from_the_padding_is_one_finding(function: Any, sentence: str) -> None:
    investigation = FindingExplainer(as_subject(function))
    scope = scope_of(investigation.subject).only(dtype="float32")
    [finding] = explained(investigation, scope, cases=120).findings

    diagnosis = investigation.explanations[finding.id].diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.cause.sentence == sentence
