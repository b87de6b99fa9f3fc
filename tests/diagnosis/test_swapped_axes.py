"""Tests of exchanged: a layer that runs along the sequences is one finding with that cause."""

from typing import Any

import pytest
from torch import nn

from harness import Verdict, check
from tests.long import few


class WithoutBatchFirst(nn.Module):
    """A class that reads (N, T, ...), but for its layer."""

    layer: Any = nn.RNN
    batch_first = False

    def __init__(self, n_in: int, n_hidden: int, n_classes: int) -> None:
        super().__init__()
        self.rnn, self.fc = self.layer(n_in, n_hidden, batch_first=self.batch_first), nn.Linear(n_hidden, n_classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.rnn(x)[0][:, -1])


class GRUWithoutBatchFirst(WithoutBatchFirst):
    layer = nn.GRU


class WithBatchFirst(WithoutBatchFirst):
    batch_first = True


@pytest.mark.parametrize("layer", few([WithoutBatchFirst, GRUWithoutBatchFirst], 1))
def test_a_layer_without_batch_first_is_one_finding(layer: Any, tmp_path: Any) -> None:
    done = check(layer, cases=210, quiet=True, findings=tmp_path)

    said = " ".join(str(done).split())
    assert "1 runs along the sequences, not along time" in said
    assert ": 1 bug; " in said


def test_a_layer_with_it_is_right(tmp_path: Any) -> None:
    assert check(WithBatchFirst, cases=210, quiet=True, findings=tmp_path).verdict is Verdict.AGREES
