"""Tests of what is made of infinities and NaN: it is told, and of nothing else that is wrong there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import as_subject
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.nan_and_inf import NonFiniteMistake
from harness.search.search import hunt
from harness.space.conformance_profile import KERNEL
from harness.subjects.protocol import scope_of
from tests.diagnosis.identify.by_hand import of_steps

Activation = Callable[[Any], Any]


def cause_of(activation: Activation, nonlinearity: str = "relu") -> Any:
    """Return the cause of what a layer of one direction makes of infinities and NaN."""
    subject = as_subject(of_steps(lambda _t, _x, h, s, _w: activation(s).astype(h.dtype)))
    own = {"num_layers": 1, "bidirectional": False, "batch_first": False, "nonlinearity": nonlinearity}
    scope = scope_of(subject, KERNEL).only(**own, batched=True, dtype="float32")
    record = hunt(subject, scope)
    assert record.finding is not None
    diagnosis = FindingExplainer(subject).explain(record.finding, scope).diagnosis
    return diagnosis and diagnosis.cause


@pytest.mark.parametrize(
    ("activation", "nonlinearity", "sentence"),
    [
        (lambda s: np.fmax(s, 0), "relu", "makes 0 of a sum that is NaN, not NaN"),
        (lambda s: s * (s > 0), "relu", "makes NaN of a sum that is -inf, not 0"),
        (lambda s: np.tanh(np.where(np.isfinite(s), s, 0)), "tanh", "makes 0 of a sum that is NaN, not NaN"),
    ],
)
def test_what_is_made_of_a_special_sum_is_told(activation: Activation, nonlinearity: str, sentence: str) -> None:
    cause = cause_of(activation, nonlinearity)

    assert isinstance(cause, NonFiniteMistake)
    assert cause.sentence.startswith(sentence)


def test_what_depends_on_more_than_the_sum_is_not_told() -> None:
    def first_unit_only(s: Any) -> Any:
        h = np.maximum(s, 0)
        h[:, :1] = np.fmax(s[:, :1], 0)
        return h

    assert cause_of(first_unit_only) is None
