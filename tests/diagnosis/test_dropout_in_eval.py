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


@pytest.mark.parametrize(
    ("layer", "options", "others"),
    [
        (always_dropping(torch.nn.RNN), {"cases": 40}, []),
        (always_dropping(torch.nn.LSTM), {"cases": 40}, []),
        (OwnDropout, {"cases": 40}, []),
        (
            always_dropping(torch.nn.RNN, ignores_hx=True),
            {"cases": 100, "lengths": None},
            ["ignores hx: it starts at zeros"],
        ),
    ],
    ids=["RNN", "LSTM", "no option", "another mistake"],
)
def test_dropout_in_evaluation_is_named_and_hides_no_other_mistake(
    layer: Any, options: Any, others: list[str], tmp_path: Any
) -> None:
    found = check(layer, **options, findings=str(tmp_path), quiet=True, training=False).summary.findings

    assert [one.cause for one in found] == [*others, "applies dropout in evaluation, too"]
