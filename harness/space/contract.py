"""contract: how strictly a subject is held, as a port of a layer or as a kernel in the place of torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.space.errors import UsageError

if TYPE_CHECKING:  # the command's --help needs no NumPy
    from harness.space.scope import Scope

PORT: Final = "port"
KERNEL: Final = "kernel"

CONTRACTS: Final = {
    PORT: "finite numbers, one sequence or more, plain arrays",
    KERNEL: "all that nn.RNN promises: infinities and NaN, empty batches, any strides, malformed calls",
}
"""What each asks, in a line."""


def under(scope: Scope, contract: str) -> Scope:
    """The part of a scope that a contract asks for. Raises ``UsageError`` for an unknown contract."""
    if contract not in CONTRACTS:
        raise UsageError(f"contract={contract!r}: expected {' or '.join(CONTRACTS)}")
    if contract == KERNEL:
        return scope
    return scope.only(
        N=[size for size in scope.N if size] or scope.N,
        strides=[one for one in scope.strides if one == "contiguous"] or scope.strides,
        regimes=[regime for regime in scope.regimes if regime != "special"],
    )
