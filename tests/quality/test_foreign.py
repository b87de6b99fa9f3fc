"""Measurement on twelve wrong implementations, in styles of their own, none from the reference: found, small, named."""

from typing import Any

import numpy as np
import pytest

from harness import as_subject, hunt
from harness.diagnosis.investigate import Investigation
from harness.search.search import Search
from harness.search.simplify import PLAIN
from harness.space.contract import KERNEL
from harness.subjects.protocol import scope_of
from tests.foreign.manifest import RIGHT, TWELVE, Right, Wrong
from tests.long import few

NAMED = {
    "plain_loops": "adds bias_ih twice",
    "einsum": "computes h @ W_hh where nn.RNN computes h @ W_hh.T",
    "folded": "ignores hx in the layers above the first",
    "generated": "concatenates reverse before forward",
    "stepped": "takes the reverse direction's h_n at the last time step",
    "recursive": "uses the second layer's parameters in all layers above it",
    "Handwritten": "detaches the state every 8 steps",
    "cells": "reshapes x to (T, N, input_size) with batch_first",
    "concatenated": "sums the first 16 states only in h @ W_hh.T, in the reverse direction only",
    "tiled": "sums states in blocks of 8",
    "flat": "takes h_n of a packed batch at T",
    "scanned": "precision: its activation is off",
}


KEPT = {"plain_loops", "generated", "flat"}


@pytest.mark.parametrize("wrong", few(TWELVE, lambda wrong: wrong.name in KEPT), ids=lambda wrong: wrong.name)
def test_a_foreign_mistake_is_found_small_and_named(wrong: Wrong) -> None:
    from harness.report.explained import cause_line

    subject = as_subject(wrong.subject, wrong.name)
    investigation = Investigation(subject)

    with Search(subject, scope_of(subject, KERNEL).only(**wrong.scope)) as search:
        list(search)  # a tanh that is off does not end it
    done = search.record

    finding = done.finding
    assert finding is not None
    config = finding.case.config
    assert {name: getattr(config, name) for name in wrong.smallest} == dict(wrong.smallest)
    numbers = np.concatenate([array.ravel().astype(float) for array in finding.case.arrays.values()])
    # For a tanh, the worst argument is shown instead of a plainer one.
    assert finding.result.of_tanh or (finding.minimal and np.isin(numbers[np.isfinite(numbers)], PLAIN).all())
    explanation = investigation.explain(finding, done.scope)
    assert explanation.diagnosis is not None
    said = cause_line(explanation.diagnosis, config, explanation.factors)
    assert said.startswith(NAMED[wrong.name])


@pytest.mark.long
@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.name)
def test_a_right_implementation_raises_nothing(right: Right) -> None:
    subject = as_subject(right.subject, right.name)

    done = hunt(subject, scope_of(subject, KERNEL), cases=300, seed=4)

    assert (done.findings, done.suspicions) == ([], [])


def rounds_its_state(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute in float32, and keep the state in the dtype that is asked for."""
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction")
    w = {name: array.astype(np.float32) for name, array in weights.items()}
    h, states = h0[0], []
    for frame in x:
        s = frame.astype(np.float32) @ w["weight_ih_l0"].T + h.astype(np.float32) @ w["weight_hh_l0"].T
        if config.bias:
            s = s + w["bias_ih_l0"] + w["bias_hh_l0"]
        h = (np.tanh(s) if config.nonlinearity == "tanh" else np.maximum(s, 0)).astype(x.dtype)
        states.append(h)
    return np.stack(states), h[None]


def test_a_state_that_is_rounded_to_the_dtype_that_was_declared_raises_nothing() -> None:
    subject = as_subject(rounds_its_state)

    done = hunt(subject, scope_of(subject).only(dtype=["bfloat16", "float16"]), cases=300)

    assert (done.findings, done.suspicions) == ([], [])
