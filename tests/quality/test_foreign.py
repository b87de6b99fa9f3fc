"""Measurement on forty foreign layers: the verdict, the smallest case, and the cause that a report names first.

``benchmarks/foreign.py`` measures all three sets of them.
"""

from typing import Any, Final

import numpy as np
import pytest

from benchmarks.foreign import Layer, layers, measured
from harness import as_subject, hunt, scope_of
from tests.long import few

LAYERS: Final[dict[str, Layer]] = {layer.name: layer for layer in layers()}

CASES: Final = 150

CAUSES: Final = {}


KEPT: Final = {"plain_loops", "generated", "flat", "accumulating", "UnreadBias", "vanilla"}
"""The layers that the default run takes."""


@pytest.mark.parametrize("name", few(CAUSES, KEPT.__contains__))
def test_a_foreign_layer_gets_its_verdict_and_its_cause(name: str) -> None:
    verdict, cause = CAUSES[name]

    row = measured(LAYERS[name], cases=CASES)

    assert row["verdict"] == verdict
    assert [one["said"].startswith(cause) for one in row["found"][:1]] == [True] * bool(cause)
    assert not any(one.get("larger") for one in row["found"][:1])


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
