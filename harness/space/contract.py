"""The two contracts a subject can be held to: that of a port of a layer, or that of a kernel in torch's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.space.errors import UsageError

if TYPE_CHECKING:  # only for the type checker: the command's --help must not have to import NumPy
    from harness.space.scope import Scope

PORT: Final = "port"
KERNEL: Final = "kernel"

# One line per contract on what it asks.
CONTRACTS: Final = {
    PORT: "finite numbers, one sequence or more, plain arrays",
    KERNEL: "all that nn.RNN promises: infinities and NaN, empty batches, any strides, malformed calls",
}


def under(scope: Scope, contract: str) -> Scope:
    """Return the part of a scope that a contract asks for. Raise ``UsageError`` for an unknown contract."""
    if not isinstance(contract, str) or contract not in CONTRACTS:
        raise UsageError(f"contract={contract!r}: expected {' or '.join(CONTRACTS)}")
    if contract == KERNEL:
        return scope
    return scope.only(
        N=[size for size in scope.N if size] or scope.N,
        strides=[one for one in scope.strides if one == "contiguous"] or scope.strides,
        regimes=[regime for regime in scope.regimes if regime != "special"],
    )
