"""The layer that faults are planted in is right without one: it computes what the reference does."""

from typing import Any

import numpy as np
import pytest

from benchmarks.planted.base import Changed
from benchmarks.planted.layer import Layer
from harness import Case, Reference, RNNConfig, draw
from harness.space.case import as_plain

PLAIN = RNNConfig(4, 3, T=5, N=3, dtype="float64", loss="both", hx=True)
STACK = PLAIN.replace(num_layers=3, bidirectional=True)
CONFIGS = [
    PLAIN,
    PLAIN.replace(loss=None, hx=False, bias=False, nonlinearity="relu"),
    PLAIN.replace(nonlinearity="relu", batch_first=True, loss="output", output_size=2),
    STACK.replace(loss="h_n", bias=False),
    STACK.replace(lengths=(2, 5, 1), loss="both", nonlinearity="relu"),
    STACK.replace(lengths=(5, 3, 3), output_size=2, loss="output", hx=False),
    STACK.replace(dropout=0.25, training=True, output_size=2),
    STACK.replace(dropout=1.0, training=True, lengths=(4, 5, 2)),
]
# The choices whose way back is found by counting places.
COUNTED = ("reads", "written", "layer_input", "hx_row", "step_weights")


def unchanged(name: str) -> Any:
    return lambda right, *given: getattr(right, name)(*given)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("layer", [Layer(), Changed([{n: unchanged(n) for n in COUNTED}])], ids=["right", "unchanged"])
def test_the_layer_without_a_fault_is_the_reference(config: RNNConfig, layer: Layer) -> None:
    random = np.random.default_rng(1)
    shape = (config.T, config.N, config.num_directions * config.hidden_size)
    masks = {k: random.random(shape) >= config.dropout for k in range(config.num_layers - 1)} if config.drops else {}
    plain = draw(config, "normal", 1).plain()
    case = Case.from_arrays(plain.config, plain.arrays, masks=masks)

    ours, right = (as_plain(case.config, one.run(case)) for one in (layer, Reference()))  # padding may be anything

    assert ours.keys() == right.keys()
    for name, array in right.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-12, atol=1e-12, err_msg=name)
