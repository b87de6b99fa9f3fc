"""Scope: the part of the space to look at, as the values that each factor of a config may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from harness.space.config import NONLINEARITIES, ConfigError, RNNConfig
from harness.space.errors import UsageError

BOUNDARIES: Final = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33)
"""Sizes at which blocked and vectorised kernels change their path: one and two, and powers of two with neighbours."""

SIZES: Final = (*range(1, 17), *BOUNDARIES)
"""Every size up to 16, and the boundaries once more, so that a draw meets them more often."""

SIZE_FACTORS: Final = ("input_size", "hidden_size", "T", "N")
"""The factors that are sizes of arrays and nothing else."""

_PLURALS: Final = {"dtypes": "dtype", "devices": "device", "losses": "loss"}


@dataclass(frozen=True)
class Scope:
    """The values that each field of an ``RNNConfig`` may take, plainest first; listed twice is drawn twice as often.

    What only some subjects do (16-bit dtypes, gradients) is not in it unless asked for, or offered by the subject.

    Dropout in training mode is outside every scope: its masks are random, and the reference has none to replay.
    """

    input_size: tuple[int, ...] = SIZES
    hidden_size: tuple[int, ...] = SIZES
    num_layers: tuple[int, ...] = (1, 2, 3)
    nonlinearity: tuple[str, ...] = NONLINEARITIES
    bias: tuple[bool, ...] = (True, False)
    batch_first: tuple[bool, ...] = (False, True)
    dropout: tuple[float, ...] = (0.0, 0.5)
    bidirectional: tuple[bool, ...] = (False, True)
    T: tuple[int, ...] = SIZES
    N: tuple[int, ...] = SIZES
    hx: tuple[bool, ...] = (False, True)
    dtype: tuple[str, ...] = ("float32", "float64")
    device: tuple[str, ...] = ("cpu",)
    training: tuple[bool, ...] = (False, True)
    output_size: tuple[int | None, ...] = (None,)
    loss: tuple[str | None, ...] = (None,)

    @classmethod
    def around(cls, config: RNNConfig) -> Scope:
        """Any sizes, and everything else as in ``config``."""
        kept = {name: (value,) for name, value in config.to_dict().items() if name not in SIZE_FACTORS}
        return cls().only(**kept)

    def only(self, **pins: Any) -> Scope:
        """This scope with some factors pinned: to one value, or to several given as a collection.

        Plurals may be written: ``dtypes``, ``devices``, ``losses``. Raises ``ConfigError`` for a value
        that no config can have, ``UsageError`` for an unknown factor or an empty collection.
        """
        named = {_PLURALS.get(name, name): value for name, value in pins.items()}
        known = [field.name for field in dataclasses.fields(self)]
        if unknown := sorted(set(named) - set(known)):
            raise UsageError(f"unknown factor {', '.join(unknown)}: expected some of {', '.join(known)}")
        pinned = {name: _values(name, value) for name, value in named.items()}
        scope = dataclasses.replace(self, **pinned)
        if not scope.modes:
            raise UsageError(
                f"dropout={scope.dropout} with training={scope.training}: dropout draws random masks in training, and "
                "the reference has none to replay; pin dropout=0 or training=False"
            )
        return scope

    @property
    def modes(self) -> tuple[tuple[float, bool], ...]:
        """The pairs (dropout, training) that can be compared."""
        return tuple((p, training) for p in self.dropout for training in self.training if not (p and training))

    def values(self) -> dict[str, tuple[Any, ...]]:
        """Every factor and its values, each once."""
        fields = dataclasses.fields(self)
        return {field.name: tuple(dict.fromkeys(getattr(self, field.name))) for field in fields}


def _values(name: str, value: Any) -> tuple[Any, ...]:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    values = tuple(value) if several else (value,)
    if not values:
        raise UsageError(f"{name}={value!r}: expected at least one value")
    plain: dict[str, Any] = {"input_size": 1, "hidden_size": 1}
    for one in values:
        try:
            RNNConfig(**plain | {name: one})
        except TypeError as error:  # an unhashable or otherwise unfit value
            raise ConfigError(f"{name}={one!r}: {error}") from None
    return values
