"""The whole space of nn.RNN, which torch's own layer is asked for, and against which a subject's share is told."""

from __future__ import annotations

from typing import Any, Final

from harness.space.parts import AUTOCASTS, DTYPES, GRAD_MODES, LOSSES, PREPARATIONS, STRIDES, WRT
from harness.space.scope import PACKINGS, Scope

OFFERS: Final[dict[str, Any]] = {
    "dtype": DTYPES,
    "loss": (*[None] * 3, *LOSSES[1:]),
    "wrt": ("all", *WRT),
    "lengths": (*[None] * 5, *PACKINGS[1:]),
    "batched": (*[True] * 7, False),
    "strides": (*["contiguous"] * 5, *STRIDES[1:]),
    "autocast": (*[None] * 8, *AUTOCASTS[1:]),
    "grad_mode": (*[None] * 2, *GRAD_MODES[1:]),
    "preparation": (*["new"] * 18, *PREPARATIONS[1:]),
    "after": (None, *PREPARATIONS[1:]),
    "positional": (False, True),
    "tied": (False, True),
}
"""The values of the factors of which a scope usually has one. Those that are expensive, or that are plain in all but
one respect, are drawn less often.
"""

WHOLE: Final = Scope().only(**OFFERS, masks=True)
"""Everything that can be asked of a layer on a CPU, without a readout, which is no part of nn.RNN."""
