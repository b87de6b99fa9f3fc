"""The parts of a config: the layer, the call, the results that are asked for, and the way of the call.

Each part is a dataclass that checks its own fields. ``RNNConfig`` is made from all of them.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final

from harness.space.errors import UsageError

NONLINEARITIES: Final = ("tanh", "relu")
DTYPES: Final = ("float32", "float64", "bfloat16", "float16")
LOSSES: Final = (None, "output", "h_n", "both")
WRT: Final = ("all", "inputs", "weights")
STRIDES: Final = ("contiguous", "transposed", "stepped", "expanded")
AUTOCASTS: Final = (None, "bfloat16", "float16")
GRAD_MODES: Final = (None, "enable_grad", "inference_mode", "accumulate")
FORWARD_MODES: Final = GRAD_MODES[:3]
"""The grad modes of a call without a loss."""

PREPARATIONS: Final = (
    "new",
    "used",
    "deepcopy",
    "pickle",
    "state_dict",
    "assign",
    "to_dtype",
    "replaced",
    "parametrize",
    "functional_call",
)

OTHER: Final = 0.5
"""The number in every place of the other weights that a module was called with before; every dtype has it."""

SETTING: Final = ("replaced", "parametrize", "functional_call")
"""The preparations that give a module its weights themselves, whichever it had before."""

PAIRS: Final = frozenset(
    (first, then)
    for first in PREPARATIONS[1:]
    for then in PREPARATIONS[1:]
    if first != then and not (first == "parametrize" and then in {"pickle", "replaced", "functional_call"})
)
"""The preparations that a module can have one after the other. Torch does not pickle a module that is parametrized, and
its parameters can neither be replaced nor be given to a call."""

_DEVICE: Final = re.compile(r"[a-z_]\w*(:\d+)?")
_CHOICES: Final = "choices"


class ConfigError(UsageError):
    """A config that no recurrent layer can have."""


def _one_of(choices: tuple[str | None, ...]) -> Any:
    """Return a field that has one of these values, by default the first."""
    return field(default=choices[0], metadata={_CHOICES: choices})


@dataclass(frozen=True)
class LayerConfig:
    """The arguments of ``nn.RNN``'s constructor under their own names and defaults."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = _one_of(NONLINEARITIES)
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "num_layers"):
            _require_int(name, getattr(self, name), at_least=1)
        _require_flags_and_choices(self, LayerConfig)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout <= 1:
            raise ConfigError(f"dropout={self.dropout!r}: expected a probability, a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class CallConfig:
    """The arrays that a call is given, the device, and the mode of the layer.

    - ``T``, ``N``: the number of time steps, and of sequences in the batch;
    - ``hx``: true if an initial hidden state is passed, false if ``None`` is passed;
    - ``dtype``, ``device``: of every array;
    - ``training``: train or eval mode, which differ only in dropout.
    """

    T: int = 1
    N: int = 1
    hx: bool = False
    dtype: str = _one_of(DTYPES)
    device: str = "cpu"
    training: bool = False

    def __post_init__(self) -> None:
        _require_int("T", self.T, at_least=1)
        _require_int("N", self.N, at_least=0)
        if str(self.dtype).startswith("complex"):
            real = ", ".join(map(repr, DTYPES))
            raise ConfigError(f"dtype={self.dtype!r}: complex numbers are not checked; expected one of {real}")
        _require_flags_and_choices(self, CallConfig)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device={self.device!r}: expected a name like 'cpu', 'cuda' or 'cuda:0'")


@dataclass(frozen=True, kw_only=True)
class ResultConfig:
    """The results that are asked for beside ``output`` and ``h_n``.

    - ``output_size``: if not ``None``, an ``nn.Linear(D*H, O)`` reads out every time step;
    - ``loss``: if not ``None``, gradients are taken of a linear function of the output (of the readout if there is
      one), of h_n, or of both;
    - ``wrt``: what the gradients are taken with respect to: ``all`` inputs and weights, the ``inputs`` alone with
      frozen weights, or the ``weights`` alone.
    """

    output_size: int | None = None
    loss: str | None = _one_of(LOSSES)
    wrt: str = _one_of(WRT)

    def __post_init__(self) -> None:
        if self.output_size is not None:
            _require_int("output_size", self.output_size, at_least=1)
        _require_flags_and_choices(self, ResultConfig)


@dataclass(frozen=True, kw_only=True)
class WayConfig:
    """The way in which the layer is called; ``RNNConfig.plain`` is the same computation without most of it.

    - ``lengths``: if not ``None``, the batch is packed: sequence n has ``lengths[n]`` steps, and the steps after them
      are padding; ``enforce_sorted`` packs lengths that never rise as ``enforce_sorted=True`` does;
    - ``batched``: if false, no array has a batch axis, and N is 1;
    - ``strides``: the layout in memory of x, hx and the gradients that a loss gives: in order (``contiguous``), with
      their axes ``transposed``, in every other place (``stepped``), or ``expanded``, which is one value along the first
      axis, and for a gradient one value throughout;
    - ``autocast``: the dtype of torch's automatic mixed precision around the call;
    - ``grad_mode``: the mode of a call without a loss: ``None`` is torch's no_grad, and ``enable_grad`` and
      ``inference_mode`` are the modes of those names. With a loss, ``None`` asks for gradients as a result, and
      ``accumulate`` goes back twice through one graph, where the second gradients are added to those in ``.grad``;
    - ``preparation``: the way in which the module got its weights; or that it was ``used`` before, at another shape and
      with other weights;
    - ``after``: if not ``None``, another preparation that came before that one;
    - ``positional``: true if the constructor's arguments are given by position, and not by name;
    - ``tied``: true if another module with the same parameters is called as well, and gradients go back through both.
    """

    lengths: tuple[int, ...] | None = None
    enforce_sorted: bool = False
    batched: bool = True
    strides: str = _one_of(STRIDES)
    autocast: str | None = _one_of(AUTOCASTS)
    grad_mode: str | None = _one_of(GRAD_MODES)
    preparation: str = _one_of(PREPARATIONS)
    after: str | None = _one_of((None, *PREPARATIONS[1:]))
    positional: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        _require_flags_and_choices(self, WayConfig)
        if self.after is not None and (self.after, self.preparation) not in PAIRS:
            then = ", ".join(name for name in PREPARATIONS if (self.after, name) in PAIRS)
            raise ConfigError(f"after={self.after!r} with preparation={self.preparation!r}: expected one of {then}")


PARTS: Final[tuple[type[Any], ...]] = (LayerConfig, CallConfig, ResultConfig, WayConfig)
"""The parts, in the order of their fields."""


def require_value(name: str, value: object) -> None:
    """Raise ``ConfigError`` if a field of no config has this value, whatever the other fields are."""
    beside = {"preparation": next((then for first, then in sorted(PAIRS) if first == value), "new")}
    for part in PARTS:
        if name in _names(part):
            needed = beside if name == "after" else {one: 1 for one in REQUIRED if part is LayerConfig}
            part(**needed | {name: value})


def _names(part: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(part))


LAYER: Final = _names(LayerConfig)
"""The names of the layer's fields, in the order of the constructor's arguments."""

REQUIRED: Final = tuple(one.name for one in fields(LayerConfig) if one.default is MISSING)
"""The layer's fields without a default, which are its sizes; no other part has any."""

OPTIONS: Final = tuple(name for name in LAYER if name not in REQUIRED)
"""The layer's fields with a default."""

RESULTS: Final = _names(ResultConfig)
WAY: Final = _names(WayConfig)

OF_TORCH: Final = tuple(name for name in WAY if name not in {"lengths", "enforce_sorted", "batched", "strides"})
"""The fields of the way that exist in torch only; the others are about the arrays."""


def _require_flags_and_choices(config: Any, part: type[Any]) -> None:
    for name, choices in _EXPECTED[part]:
        value = getattr(config, name)
        if choices is None and not isinstance(value, bool):
            raise ConfigError(f"{name}={value!r}: expected True or False")
        if choices is not None and not (isinstance(value, str | None) and value in choices):
            raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


_EXPECTED: Final[dict[type[Any], list[tuple[str, tuple[str | None, ...] | None]]]] = {
    part: [
        (one.name, one.metadata.get(_CHOICES))
        for one in fields(part)
        if isinstance(one.default, bool) or _CHOICES in one.metadata
    ]
    for part in PARTS
}
"""The fields of each part that are flags, and those that have choices, with the choices."""


def _require_int(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: expected an int of at least {at_least}")
    if value >= 2**63:
        raise ConfigError(f"{name}={value!r}: expected an int of 64 bits")
