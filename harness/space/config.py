"""RNNConfig: one validated point of the space, and the shape of every array that follows from it.

These letters are used everywhere: T time, N batch, I input_size, H hidden_size, O output_size, L num_layers, D
directions (1 or 2).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Final, NamedTuple

from harness.space.errors import UsageError

NONLINEARITIES: Final = ("tanh", "relu")
COMPLEX: Final = ("complex64", "complex128")
DTYPES: Final = ("float32", "float64", "bfloat16", "float16", *COMPLEX)
LOSSES: Final = (None, "output", "h_n", "both")
WRT: Final = ("all", "inputs", "weights")
STRIDES: Final = ("contiguous", "transposed", "stepped", "expanded")
AUTOCASTS: Final = (None, "bfloat16", "float16")
GRAD_MODES: Final = (None, "enable_grad", "inference_mode")
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
DIRECTIONS: Final = ("forward", "reverse")
PREACTIVATION: Final = "preactivation.grad"
"""The name used in comparisons for the gradient with respect to a layer's s_t = W_ih x_t + ...; no subject returns it.
"""

TANGENT: Final = ".tangent"
"""The suffix in the name of a directional derivative: ``h_n.tangent``, or ``x.grad.tangent`` for a gradient's."""

_DEVICE = re.compile(r"[a-z_]\w*(:\d+)?")


class ConfigError(UsageError):
    """A config that no recurrent layer can have."""


class ArraySpec(NamedTuple):
    """The shape of one array, and what each axis counts: ``axes=("T", "N", "I")`` beside ``shape=(10, 1, 3)``."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements in the array."""
        return prod(self.shape)


@dataclass(frozen=True, repr=False)
class RNNConfig:
    """The arguments of ``nn.RNN`` under their own names and defaults, and the way in which the layer is called.

    The first eight fields are the constructor's. The others describe the call:

    - ``T``, ``N``: the number of time steps, and of sequences in the batch;
    - ``hx``: true if an initial hidden state is passed, false if ``None`` is passed;
    - ``dtype``, ``device``: of every array;
    - ``training``: train or eval mode, which differ only in dropout;
    - ``output_size``: if not ``None``, an ``nn.Linear(D*H, O)`` reads out every time step;
    - ``loss``: if not ``None``, gradients are taken of a linear function of the output (of the readout if there is
      one), of h_n, or of both;
    - ``wrt``: what the gradients are taken with respect to: ``all`` inputs and weights, the ``inputs`` alone with
      frozen weights, or the ``weights`` alone;
    - ``lengths``: if not ``None``, the batch is packed: sequence n has ``lengths[n]`` steps, and the steps after them
      are padding; ``enforce_sorted`` packs lengths that never rise as ``enforce_sorted=True`` does;
    - ``batched``: if false, no array has a batch axis, and N is 1;
    - ``strides``: the layout in memory of x, hx and the gradients that a loss gives: in order (``contiguous``), with
      their axes ``transposed``, in every other place (``stepped``), or ``expanded``, which is one value along the first
      axis, and for a gradient one value throughout;
    - ``autocast``: the dtype of torch's automatic mixed precision around the call;
    - ``grad_mode``: the mode of a call without a loss: ``None`` is torch's no_grad, and ``enable_grad`` and
      ``inference_mode`` are the modes of those names;
    - ``preparation``: the way in which the module got its weights, or that it was ``used`` at another shape before.

    Raises ``ConfigError`` for a config that is not possible.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    _: KW_ONLY
    T: int = 1
    N: int = 1
    hx: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    training: bool = False
    output_size: int | None = None
    loss: str | None = None
    wrt: str = "all"
    lengths: tuple[int, ...] | None = None
    enforce_sorted: bool = False
    batched: bool = True
    strides: str = "contiguous"
    autocast: str | None = None
    grad_mode: str | None = None
    preparation: str = "new"

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "num_layers", "T"):
            _require_int(name, getattr(self, name), at_least=1)
        _require_int("N", self.N, at_least=0)
        if self.output_size is not None:
            _require_int("output_size", self.output_size, at_least=1)
        for name in ("bias", "batch_first", "bidirectional", "hx", "training", "enforce_sorted", "batched"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r}: expected True or False")
        for name, choices in _CHOICES.items():
            _require_one_of(name, getattr(self, name), choices)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout <= 1:
            raise ConfigError(f"dropout={self.dropout!r}: expected a probability, a number from 0 to 1")
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device={self.device!r}: expected a name like 'cpu', 'cuda' or 'cuda:0'")
        self._require_consistent()

    def _require_consistent(self) -> None:
        if self.lengths is not None:
            object.__setattr__(self, "lengths", _lengths(self.lengths, self.T, self.N))
        if self.enforce_sorted and (self.lengths is None or not never_rise(self.lengths)):
            raise ConfigError(f"enforce_sorted=True with lengths={self.lengths}: expected lengths that never rise")
        if not self.batched and (self.N != 1 or self.lengths is not None):
            raise ConfigError(f"batched=False with N={self.N}, lengths={self.lengths}: expected N=1 and no lengths")
        if self.autocast is not None and self.dtype != "float32":
            raise ConfigError(f"autocast={self.autocast!r} with dtype={self.dtype!r}: expected dtype='float32'")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RNNConfig:
        """Return the config that ``to_dict`` wrote. Raise ``ConfigError`` for unknown or missing names."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - set(known)):
            raise ConfigError(f"unknown config fields {', '.join(unknown)}: expected some of {', '.join(known)}")
        if missing := [name for name in ("input_size", "hidden_size") if name not in fields]:
            raise ConfigError(f"missing config fields {', '.join(missing)}: they have no default")
        lengths = fields.get("lengths")
        return cls(**{**fields, "lengths": tuple(lengths) if isinstance(lengths, list) else lengths})

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, as plain data."""
        return dataclasses.asdict(self)

    @property
    def call_before(self) -> RNNConfig:
        """The config of a used module's earlier call: one step longer, and one sequence more if there is a batch."""
        return self.replace(T=self.T + 1, N=self.N + self.batched, preparation="new")

    def replace(self, **changes: Any) -> RNNConfig:
        """Return the same config with ``changes``; lengths are fitted to a new T or N unless they are changed, too."""
        if self.lengths is not None and "lengths" not in changes and not {"T", "N"}.isdisjoint(changes):
            T, N = changes.get("T", self.T), changes.get("N", self.N)
            changes["lengths"] = fitted_lengths(self.lengths, T, N, falling=self.enforce_sorted)
        return dataclasses.replace(self, **changes)

    @cached_property
    def plain(self) -> RNNConfig:
        """The same computation called in the plainest way: batched, in order, with a new module, in its own dtype."""
        plain = self.replace(
            batch_first=self.batch_first and self.batched,
            batched=True,
            strides="contiguous",
            dtype=self.autocast or self.dtype,
            autocast=None,
            grad_mode=None,
            preparation="new",
            enforce_sorted=False,
        )
        return self if plain == self else plain

    def dtype_of(self, name: str) -> str:
        """Return the dtype of an array that a subject returns; a gradient has the dtype of its array."""
        return self.dtype if name.endswith(".grad") else self.autocast or self.dtype

    @property
    def is_complex(self) -> bool:
        """True if the numbers are complex."""
        return self.dtype in COMPLEX

    @property
    def drops(self) -> bool:
        """True if dropout draws masks, which it does in training and between layers."""
        return self.training and self.dropout > 0 and self.num_layers > 1

    @property
    def packing(self) -> str | None:
        """The kind of lengths of packed sequences: ``equal``, ``falling`` or ``any``; ``None`` without packing."""
        if self.lengths is None:
            return None
        if len(set(self.lengths)) == 1:
            return "equal"
        return "falling" if never_rise(self.lengths) else "any"

    @property
    def cost(self) -> int:
        """The number of multiplications of a forward pass; each step of a layer and direction adds another 2**13.

        The 2**13 are the cost of such a step in the comparison, where a step of the backward pass takes some 0.1 ms.
        """
        H, D, L = self.hidden_size, self.num_directions, self.num_layers
        features = self.input_size + (L - 1) * D * H + L * H
        return self.T * D * (L * 2**13 + self.N * H * features)

    def prefix(self, num_layers: int) -> RNNConfig:
        """Return the config of this stack's first ``num_layers`` layers, without the readout and without gradients."""
        return _prefix(self, num_layers)

    def __repr__(self) -> str:
        """Return code that pastes back; fields at their defaults are left out."""
        shown = [f"{self.input_size}, {self.hidden_size}"]
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default or field.name in {"T", "N"}:
                shown.append(f"{field.name}={value!r}")
        return f"RNNConfig({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields alone. Equal configs unpickle to one object, so that their shapes are derived only once."""
        return _unpickled, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def num_directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @cached_property
    def inputs(self) -> dict[str, ArraySpec]:
        """The arrays that the layer is given: ``x``, and ``hx`` if it is passed."""
        sizes = self._sizes
        specs = {"x": _spec(f"{self._steps} I", sizes)}
        if self.hx:
            specs["hx"] = _spec(f"L*D {self._batch} H", sizes)
        return specs

    @cached_property
    def weights(self) -> dict[str, ArraySpec]:
        """Every parameter in the order of ``nn.RNN``'s ``state_dict``, then the readout's parameters."""
        sizes = self._sizes
        specs: dict[str, ArraySpec] = {}
        for layer in range(self.num_layers):
            for direction in range(self.num_directions):
                for name in weight_names(layer, direction, bias=self.bias):
                    if name.startswith("bias"):
                        axes = "H"
                    elif name.startswith("weight_hh"):
                        axes = "H H"
                    else:
                        axes = "H I" if layer == 0 else "H D*H"
                    specs[name] = _spec(axes, sizes)
        if self.output_size is not None:
            specs["readout.weight"] = _spec("O D*H", sizes)
            specs["readout.bias"] = _spec("O", sizes)
        return specs

    @cached_property
    def cotangents(self) -> dict[str, ArraySpec]:
        """The given gradients of the loss with respect to the outputs it reads: ``output.grad``, ``h_n.grad``."""
        output = "output" if self.output_size is None else "readout"
        read = {"output": (output,), "h_n": ("h_n",), "both": (output, "h_n"), None: ()}[self.loss]
        return {f"{name}.grad": self.outputs[name] for name in read}

    @cached_property
    def gradients(self) -> dict[str, ArraySpec]:
        """The gradients that a backward pass returns, as far as ``wrt`` asks: those of ``x``, ``hx`` and the weights.

        Their names end in ``.grad``. There are none without a loss.
        """
        if self.loss is None:
            return {}
        by = {"all": {**self.inputs, **self.weights}, "inputs": self.inputs, "weights": self.weights}[self.wrt]
        return {f"{name}.grad": spec for name, spec in by.items()}

    @cached_property
    def returned(self) -> dict[str, ArraySpec]:
        """Everything that a subject may return: the outputs, then the gradients."""
        return {**self.outputs, **self.gradients}

    @cached_property
    def outputs(self) -> dict[str, ArraySpec]:
        """The outputs of the layer: ``output``, ``h_n``, and ``readout`` if there is one."""
        sizes = self._sizes
        specs = {"output": _spec(f"{self._steps} D*H", sizes), "h_n": _spec(f"L*D {self._batch} H", sizes)}
        if self.output_size is not None:
            specs["readout"] = _spec(f"{self._steps} O", sizes)
        return specs

    @property
    def _steps(self) -> str:
        if not self.batched:
            return "T"
        return "N T" if self.batch_first else "T N"

    @property
    def _batch(self) -> str:
        return "N" if self.batched else ""

    def locate(self, name: str, index: tuple[int, ...]) -> dict[str, int | str]:
        """Name the place of one element of a returned array: ``{"t": 3, "n": 0, "unit": 1}``."""
        name = name.removesuffix(TANGENT)
        axes = ("T", "N", "D*H") if name == PREACTIVATION else self.returned[name].axes
        if name.startswith(("weight", "readout.weight")):
            return dict(zip(("row", "column"), index, strict=True))
        place: dict[str, int | str] = {}
        for axis, i in zip(axes, index, strict=True):
            if axis == "D*H":
                place |= self._direction(i // self.hidden_size) | {"unit": i % self.hidden_size}
            elif axis == "L*D":
                place |= {"layer": i // self.num_directions} | self._direction(i % self.num_directions)
            else:
                place[{"T": "t", "N": "n", "I": "feature", "H": "unit", "O": "o"}[axis]] = i
        return place

    def _direction(self, direction: int) -> dict[str, int | str]:
        return {"direction": DIRECTIONS[direction]} if self.bidirectional else {}

    @property
    def _sizes(self) -> dict[str, int]:
        H, D = self.hidden_size, self.num_directions
        sizes = {"T": self.T, "N": self.N, "I": self.input_size, "H": H, "D*H": D * H, "L*D": self.num_layers * D}
        return sizes | ({} if self.output_size is None else {"O": self.output_size})


@lru_cache(64)
def _unpickled(*values: Any) -> RNNConfig:
    return RNNConfig(**{field.name: value for field, value in zip(dataclasses.fields(RNNConfig), values, strict=True)})


@lru_cache(64)
def _prefix(config: RNNConfig, num_layers: int) -> RNNConfig:
    dropout = config.dropout if num_layers > 1 else 0.0
    return config.replace(num_layers=num_layers, dropout=dropout, output_size=None, loss=None, wrt="all")


def never_rise(lengths: tuple[int, ...]) -> bool:
    """Return whether no sequence is longer than the one before it, as ``enforce_sorted=True`` demands."""
    return list(lengths) == sorted(lengths, reverse=True)


def fitted_lengths(lengths: Sequence[int], T: int, N: int, *, falling: bool = False) -> tuple[int, ...]:
    """Return lengths of N sequences like the given ones: repeated, cut at T, and the longest one set to T."""
    fitted = [min(lengths[n % len(lengths)], T) for n in range(N)]
    if fitted:
        fitted[fitted.index(max(fitted))] = T
    return tuple(sorted(fitted, reverse=True) if falling else fitted)


def weight_names(layer: int, direction: int, *, bias: bool = True) -> tuple[str, ...]:
    """Return ``nn.RNN``'s names for the parameters of one layer and direction: W_ih, W_hh, b_ih, b_hh."""
    end = f"_l{layer}_reverse" if direction else f"_l{layer}"
    roles = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if bias else ("weight_ih", "weight_hh")
    return tuple(role + end for role in roles)


def role_of(name: str) -> str:
    """Return the part of an array's name that is the same in every layer and direction.

    For ``weight_ih_l0.grad`` it is ``weight_ih``.
    """
    return name.removesuffix(".grad").partition("_l")[0]


def _spec(axes: str, sizes: Mapping[str, int]) -> ArraySpec:
    names = tuple(axes.split())
    return ArraySpec(names, tuple(sizes[name] for name in names))


def _require_int(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: expected an int of at least {at_least}")


_CHOICES: Final[dict[str, tuple[str | None, ...]]] = {
    "nonlinearity": NONLINEARITIES,
    "dtype": DTYPES,
    "loss": LOSSES,
    "wrt": WRT,
    "strides": STRIDES,
    "autocast": AUTOCASTS,
    "grad_mode": GRAD_MODES,
    "preparation": PREPARATIONS,
}


def _lengths(lengths: Any, T: int, N: int) -> tuple[int, ...]:
    sound = isinstance(lengths, tuple | list) and len(lengths) == N > 0
    for length in lengths if sound else ():
        sound = sound and isinstance(length, int) and not isinstance(length, bool) and 1 <= length <= T
    if not sound or max(lengths) != T:
        raise ConfigError(f"lengths={lengths!r}: expected N={N} of them, from 1 to T={T}, and the longest T itself")
    return tuple(lengths)


def _require_one_of(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")
