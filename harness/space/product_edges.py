"""Edges: configs in which a product of sizes, such as N*T, lies just below, at, or just above 2**16.

An index of 16 bits that counts along several axes overflows there, and a grid of 65,535 blocks ends. No other config of
a search has such a product, because several of its sizes are never large at once. Larger products, where wider types
end, are asked for only if the user wants that.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from harness.space.config import RNNConfig
from harness.space.constraints import is_complex
from harness.space.scope import SIZE_FACTORS, Scope

EDGE: Final = 2**16
"""The product around which a search has cases in any case; see ``edges`` for larger ones."""

_EDGES: Final[tuple[dict[str, Any], ...]] = (
    {"N": 255, "T": 257},  # 65,535
    {"N": 256, "T": 256},
    {"N": 65_537, "T": 1},
    {"N": 13_107, "hidden_size": 5},  # 65,535
    {"N": 16_384, "hidden_size": 4},
    {"N": 21_846, "hidden_size": 3},  # 65,538
    {"T": 257, "hidden_size": 255},  # 65,535
    {"T": 512, "hidden_size": 128},
    {"T": 331, "hidden_size": 198},  # 65,538
    {"num_layers": 3, "N": 257, "T": 17, "hidden_size": 5},  # 65,535
    {"N": 1024, "T": 16, "hidden_size": 4},
    {"num_layers": 2, "N": 331, "T": 33, "hidden_size": 3},  # 65,538
    {"N": 256, "T": 256, "loss": "both", "batch_first": True},
    {"N": 16_384, "hidden_size": 4, "loss": "both", "batch_first": True},
    {"T": 512, "hidden_size": 128, "loss": "both", "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "N": 1024, "T": 4, "hidden_size": 4, "loss": "both"},
)
"""The factors of each config by product: N*T, N*H, T*H, and num_layers*D*H*T*N while the others are smaller; then each
once more at 2**16, with gradients. All other factors are at their plainest, and sizes at 1. So a config takes some
10 ms of torch and comparison, and 35 ms with gradients, mostly for its 65,536 elements: all together take 0.3 to 0.5 s,
2 % of torch's default search.
"""


def product_edges(scope: Scope) -> list[RNNConfig]:
    """Return the configs on each real device of a scope; none of them has a factor that is not in the scope."""
    if not scope.products or not all(map(scope.is_free, SIZE_FACTORS)):
        return []
    plain = {name: values[0] for name, values in scope.values().items()} | dict.fromkeys(SIZE_FACTORS, 1)
    return [
        scope.config(plain | {"device": device} | factors)
        for device in scope.values()["device"]
        if device != "meta"  # which computes no element
        for factors in _EDGES
        if all(scope.allows(name, value) for name, value in factors.items())
    ]


NO_END: Final = 2**63
"""The largest product, as far as memory allows; no index counts so far."""

_PARTNERS: Final[tuple[dict[str, int], ...]] = ({}, {"T": 4}, {"hidden_size": 4}, {"T": 2, "hidden_size": 2})
"""The other sizes of configs with a large N: N, N*T, N*H and N*T*H then lie around an edge, and the rest below it."""

_IN_PIECES: Final[dict[str, Any]] = {
    "loss": None,
    "lengths": None,
    "batched": True,
    "num_layers": 1,
    "strides": "contiguous",
    "preparation": "new",
    "autocast": None,
    "grad_mode": None,
}
"""The values of a case that is compared a few sequences at a time, from one copy of its arrays and one call."""


def edges(largest: int, dtype: str) -> list[int]:
    """Return the edges above ``EDGE`` and up to ``largest``: where a type ends in which numbers are counted.

    A float32 holds every whole number up to 2**24. An int32 ends at 2**31, as does the first axis of CUDA's grids, and
    a uint32 at 2**32. One that counts bytes ends at these over the size of a number. ``largest`` is the last edge
    itself, unless it is ``NO_END``.
    """
    size = np.dtype(dtype).itemsize
    ends = {2**24, 2**31 // size, 2**32 // size, 2**31, 2**32, largest}
    return sorted(one for one in ends if EDGE < one <= largest and one < NO_END)


def narrowest(scope: Scope) -> str | None:
    """Return the real dtype of a scope whose numbers take least memory; ``None`` without one.

    bfloat16 is the last of its size, because its numbers pass through float32 between torch and NumPy.
    """
    real = [dtype for dtype in scope.values()["dtype"] if not is_complex(dtype)]
    return min(real, key=lambda dtype: (np.dtype(dtype).itemsize, dtype == "bfloat16"), default=None)


def around(edge: int, scope: Scope, device: str, dtype: str) -> list[RNNConfig]:
    """Return configs with N, N*T, N*H and N*T*H just above an edge, at it, and just below, in this order.

    Sequences cost least, and only they can be compared a few at a time: T*H alone and gradients cannot. There are none
    if a size is pinned, or anything else that such a case needs.
    """
    values = scope.values()
    if not all(map(scope.is_free, SIZE_FACTORS)) or any(one not in values[name] for name, one in _IN_PIECES.items()):
        return []
    plain = {name: of[0] for name, of in values.items()} | dict.fromkeys(SIZE_FACTORS, 1) | _IN_PIECES
    plain |= {"device": device, "dtype": dtype}
    sizes = [(factors, prod(factors.values())) for factors in _PARTNERS]
    # A float32 takes 2**24 + 1 for 2**24, and so counts wrongly from 2**24 + 2 rows on.
    above = [scope.config(plain | factors | {"N": (edge + 1) // size + 1}) for factors, size in sizes]
    at = [scope.config(plain | factors | {"N": edge // size}) for factors, size in sizes if edge % size == 0]
    below = [scope.config(plain | factors | {"N": (edge - 1) // size}) for factors, size in sizes]
    return above + at + below
