"""Dropout that acts in evaluation is named, and hides no other mistake."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from harness.pipeline import check


def always_dropping(of: Any, *, ignores_hx: bool = False) -> Any:
    """Return a class that drops in either mode."""

    class Dropping(of):  # type: ignore[misc]
        def forward(self, x: Any, hx: Any = None) -> Any:
            training = bool(self.training)  # type: ignore[has-type]
            self.training = True
            found = super().forward(x, None if ignores_hx else hx)
            self.training = training
            return found

    return Dropping


@pytest.mark.parametrize("cell", ["RNN", "LSTM"])
def test_dropout_in_evaluation_is_named(cell: str, tmp_path: Any) -> None:
    subject = always_dropping(getattr(torch.nn, cell))

    found = check(subject, cases=40, findings=str(tmp_path), quiet=True, training=False).summary.findings

    assert [one.cause for one in found] == ["applies dropout in evaluation, too"]


class OwnDropout(torch.nn.Module):
    """A stack with dropout of its own in either mode, for which its constructor has no option."""

    def __init__(self, n_in: int, n_hidden: int, n_layers: int = 1) -> None:
        super().__init__()
        sizes = [n_in, *[n_hidden] * n_layers]
        self.layers = torch.nn.ModuleList(torch.nn.RNN(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Any) -> Any:
        for k, layer in enumerate(self.layers):
            x, _ = layer(torch.nn.functional.dropout(x, 0.25) if k else x)
        return x


def test_dropout_that_has_no_option_is_named_in_evaluation(tmp_path: Any) -> None:
    found = check(OwnDropout, cases=40, findings=str(tmp_path), quiet=True, training=False).summary.findings

    assert [one.cause for one in found] == ["applies dropout in evaluation, too"]


def test_it_hides_no_other_mistake(tmp_path: Any) -> None:
    subject = always_dropping(torch.nn.RNN, ignores_hx=True)

    found = check(subject, cases=100, findings=str(tmp_path), quiet=True, training=False, lengths=None).summary.findings

    assert [one.cause for one in found] == ["ignores hx: it starts at zeros", "applies dropout in evaluation, too"]
