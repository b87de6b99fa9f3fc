"""A subject that loops torch's nn.RNNCell over time.

A cell is one step of one layer in one direction; a loop over it must compute what such an ``nn.RNN`` computes.
"""

from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from harness.subjects.torch_class_facts import ClassFacts
from harness.subjects.torch_module import TorchSubject


class CellLoop(torch.nn.RNNCell):
    """An ``nn.RNNCell`` with ``nn.RNN``'s constructor, called on a whole sequence, batched or not."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **options: Any,
    ) -> None:
        """Build the cell. Raise ``NotImplementedError`` for arguments that a cell does not have."""
        if num_layers > 1 or bidirectional or batch_first or dropout:
            raise NotImplementedError("a cell is one layer and one direction, and takes one time step")
        super().__init__(input_size, hidden_size, bias, nonlinearity, **options)

    def forward(self, x: Any, hx: torch.Tensor | None = None) -> Any:
        """Return output (T, N, H) and h_n (1, N, H) for x (T, N, I) and hx (1, N, H); all without N if x has none."""
        if isinstance(x, PackedSequence):
            raise NotImplementedError("a cell takes no packed sequences")
        h, states = None if hx is None else hx[0], []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        output = torch.stack(states)
        return output, output[-1:].clone()


class CellSubject(TorchSubject):
    """The subject ``torch:cell``."""

    def __init__(self) -> None:
        super().__init__(CellLoop, "torch:cell", facts=ClassFacts(own=True, shares_process=True))
        self.capabilities = replace(self.capabilities, call=None)  # a loop over a cell refuses what its steps refuse
