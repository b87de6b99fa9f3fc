"""The outcome of one run: arrays, a refusal, a crash, or something that is not an answer at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from harness.space.case import Array


class Failure(Enum):
    """The reasons why a run gave no arrays."""

    UNSUPPORTED = "unsupported"
    """The subject says that it does not support this config."""
    RAISED = "raised"
    """The subject raised an error."""
    MALFORMED = "malformed"
    """The subject returned something other than the arrays that it had to return."""
    CRASHED = "died"
    """The subject's process ended without an answer."""
    HUNG = "hung"
    """The subject did not answer in time."""


LOST: Final = frozenset({Failure.CRASHED, Failure.HUNG})
"""Failures after which there is no process left to ask again."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """The arrays of one run by name, or the failure of the run.

    The names are ``output``, ``h_n``, ``readout`` and those of the gradients; a subject may leave some out.
    ``changed_inputs`` names the arrays that the subject wrote into although they were only lent to it. ``aliased``
    lists pairs of arrays that share memory although each should be writable on its own, such as ``("h_n", "output")``.
    ``overwritten`` names the arrays that a further call changed, if one was made. ``not_returned`` names the gradients
    that the subject does not have, and ``ignored`` those that it returned although nn.RNN does not have them.
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
