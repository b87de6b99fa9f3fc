"""A layer with oneDNN's defect in bfloat16 products of an odd number of terms, on any CPU."""

from typing import Any

import torch

LARGE = 256  # The number of multiplications from which on the kernel with the defect is used


class FillsUpPairs(torch.nn.RNN):
    """nn.RNN that also multiplies the last of an odd number of operands by zero, in large bfloat16 products."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if self.num_layers > 1 or self.bidirectional:
            raise NotImplementedError("one layer, one direction")
        if not isinstance(x, torch.Tensor) or x.dtype is not torch.bfloat16 or x.dim() != 3 or x.device.type == "meta":
            return super().forward(x, hx)
        steps = x.transpose(0, 1) if self.batch_first else x
        h = steps.new_zeros(steps.shape[1], self.hidden_size) if hx is None else hx[0]
        phi = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        bias: Any = (self.bias_ih_l0, self.bias_hh_l0) if self.bias else (None, None)
        w_ih, w_hh = self.all_weights[0][:2]
        given, states = product(steps, w_ih, bias[0]), []
        for s in given:
            h = phi(s + product(h, w_hh, bias[1]))
            states.append(h)
        output = torch.stack(states)
        return (output.transpose(0, 1) if self.batch_first else output), h[None].clone()


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rows (.., K) times weight (H, K) transposed, plus bias."""
    given = torch.nn.functional.linear(rows, weight, bias)
    odd = rows.shape[-1] % 2 == 1
    return given + rows[..., -1:] * 0 if odd and rows.numel() * len(weight) >= LARGE else given
