"""Outcome: what a run gave, be it arrays, a refusal, a crash, or something that is no answer at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from harness.space.case import Array


class Failure(Enum):
    """Why a run gave no arrays."""

    UNSUPPORTED = "unsupported"
    """The subject says that it cannot do this config."""
    RAISED = "raised"
    """The subject raised an error."""
    MALFORMED = "malformed"
    """The subject returned something that is not the arrays it owes."""
    CRASHED = "died"
    """The subject's process ended without an answer."""
    HUNG = "hung"
    """The subject did not answer in time."""


LOST: Final = frozenset({Failure.CRASHED, Failure.HUNG})
"""Failures that leave no process to ask again."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The arrays of one run by name (``output``, ``h_n``, ``readout``; a subject may leave some out), or its failure.

    ``changed_inputs`` names the arrays that the subject wrote into although they were only lent to it, and ``aliased``
    pairs of arrays that share memory although one can be written to for itself: ``("h_n", "output")``. ``overwritten``
    names those that a further call changed, where one was made. ``not_returned`` and ``ignored`` name gradients: those
    that a subject has none of, and those that were returned beside what nn.RNN has.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    failure: Failure | None = None
    message: str = ""
    traceback: str = ""
    changed_inputs: tuple[str, ...] = ()
    aliased: tuple[tuple[str, str], ...] = ()
    overwritten: tuple[str, ...] = ()
    not_returned: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
