"""The two profiles a subject can be held to: that of a port of a layer, or that of a kernel in torch's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.space.errors import UsageError

if TYPE_CHECKING:  # only for the type checker: the command's --help must not have to import NumPy
    from harness.space.scope import Scope

PORT: Final = "port"
KERNEL: Final = "kernel"

# One line per profile on what it asks.
PROFILE_WORDS: Final = {
    PORT: "finite numbers, one sequence or more, plain arrays",
    KERNEL: "all that nn.RNN promises: infinities and NaN, empty batches, any strides, malformed calls",
}


def under(scope: Scope, profile: str) -> Scope:
    """Return the part of a scope that a profile asks for. Raise ``UsageError`` for an unknown profile."""
    if not isinstance(profile, str) or profile not in PROFILE_WORDS:
        raise UsageError(f"profile={profile!r}: expected {' or '.join(PROFILE_WORDS)}")
    if profile == KERNEL:
        return scope
    return scope.only(
        N=[size for size in scope.N if size] or scope.N,
        strides=[layout for layout in scope.strides if layout == "contiguous"] or scope.strides,
        distributions=[distribution for distribution in scope.distributions if distribution != "special"],
    )
