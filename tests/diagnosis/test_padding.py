"""Tests of what a subject makes of the padding of a packed batch."""

from typing import Any

import numpy as np
import pytest

from tests.diagnosis.identify.by_hand import sum_of
from tests.diagnosis.searched import Searched

PADDING = "the padding of a packed batch"


def packed(*, fill: bool) -> Any:
    """Return a layer whose mask is a factor; with ``fill``, the last states read the padding."""

    def layer(x: Any, h0: Any, weights: Any, config: Any, lengths: Any) -> Any:
        if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity == "relu":
            raise NotImplementedError("one layer, one direction")
        ends = np.full(x.shape[1], len(x)) if lengths is None else np.asarray(lengths)
        h, output = h0[0], []
        for t, x_t in enumerate(x):
            new, on = np.tanh(sum_of(x_t, h, weights, config)), (t < ends)[:, None].astype(x.dtype)
            h = new if fill else on * new + (1 - on) * h
            output.append(np.where(on > 0, h, 0).astype(x.dtype))
        return np.stack(output), h[None].astype(x.dtype)

    return layer


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (packed(fill=False), f"lets a NaN in {PADDING} through, as a mask does that is a factor"),
        (
            packed(fill=True),
            "reads what stands in the padding of a packed batch: other numbers there change its results",
        ),
    ],
)
def test_what_reaches_results_from_the_padding_is_one_finding(function: Any, sentence: str) -> None:
    assert Searched(function, {"dtype": "float32"}, cases=120).sentences == [sentence]
