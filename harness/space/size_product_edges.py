"""Edges: configs in which a product of sizes, such as N*T, lies just below, at, or just above 2**16.

An index of 16 bits that counts along several axes overflows there, and a grid of 65,535 blocks ends. No other config of
a search has such a product, because several of its sizes are never large at once.
"""

from typing import Any, Final

from harness.space.config import RNNConfig
from harness.space.factor_table import SIZE_FACTORS
from harness.space.scope import Scope

EDGE: Final = 2**16  # The product around which the configs lie

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
