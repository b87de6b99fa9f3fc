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

Activation = Callable[[Any], Any]


def layer(activation: Activation, nonlinearity: str) -> Any:
    """Return a subject of one layer and direction."""

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        h, states = h0[0], []
        for x_t in x:
            s = x_t @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
            h = activation(s + weights["bias_ih_l0"] + weights["bias_hh_l0"] if config.bias else s).astype(x.dtype)
            states.append(h)
        return np.reshape(states, (config.T, config.N, config.hidden_size)), h[None].copy()

    subject = as_subject(rnn)
    own = {"num_layers": 1, "bidirectional": False, "batch_first": False, "nonlinearity": nonlinearity}
    return subject, scope_of(subject, KERNEL).only(**own, batched=True, dtype="float32")


def cause_of(activation: Activation, nonlinearity: str = "relu") -> Any:
    subject, scope = layer(activation, nonlinearity)
    record = hunt(subject, scope)
    assert record.finding is not None
    diagnosis = FindingExplainer(subject).explain(record.finding, scope).diagnosis
    return None if diagnosis is None else diagnosis.cause


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
