"""RNNConfig: one validated point of the space, and the shape of every array that follows from it.

These letters are used everywhere: T time, N batch, I input_size, H hidden_size, O output_size, L num_layers, D
directions (1 or 2), G gates, P proj_size.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Final, NamedTuple

from harness.space.cells import CELL_DEFINITIONS, CELLS, CellDefinition, cell_of_data, data_of, layer_named, make_known
from harness.space.factor_table import (
    CONFIG_PARTS,
    FACTORS,
    IMPOSSIBLE,
    PREPARATION_PAIRS,
    REQUIRED_FIELDS,
    WAY,
    CallConfig,
    CellConfig,
    ConfigError,
    LayerConfig,
    ResultConfig,
    WayConfig,
    having,
)

# The axis letter of each factor that is the length of an axis.
AXIS_LETTERS: Final = {name: FACTORS[name].axis for name in having("axis")}

# The name of a place on each of these axes: ``t=3, n=0, unit=1``.
PLACE_NAMES: Final = {"T": "t", "N": "n", "I": "feature", "H": "unit", "P": "unit", "O": "o"}

DIRECTIONS: Final = ("forward", "reverse")
# The axes of a layer's parameters, by role; ``rows`` are those of all gates, ``below`` is what the layer reads, and
# ``h`` its state.
PARAMETERS: Final = {"weight_ih": "{rows} {below}", "weight_hh": "{rows} {h}", "bias_ih": "{rows}", "bias_hh": "{rows}"}
PROJECTION: Final = "weight_hr"  # the role of the parameter (P, H) that projects h, the last one of its layer

PREACTIVATION: Final = "preactivation.grad"
"""The name used in comparisons for the gradient with respect to a layer's s_t = W_ih x_t + ...; no subject returns it.
"""


class ArraySpec(NamedTuple):
    """The shape of one array, and what each axis counts: ``axes=("T", "N", "I")`` beside ``shape=(10, 1, 3)``."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements in the array."""
        return prod(self.shape)


@dataclass(frozen=True, repr=False)
class RNNConfig(
    CellConfig, WayConfig, ResultConfig, CallConfig, LayerConfig
):  # a dataclass takes the last one's fields first
    """A layer, a call of it, the results that are asked for, and the way of the call.

    The fields are those of the parts. The layer's come first, and may be given by position as in ``nn.RNN``. The others
    are given by name.

    Raises ``ConfigError`` for a config that is not possible.
    """

    def __post_init__(self) -> None:
        for part in CONFIG_PARTS:
            part.__post_init__(self)
        if self.lengths is not None:
            object.__setattr__(self, "lengths", _lengths(self.lengths, self.T, self.N))
        if self.proj_size >= self.hidden_size:
            raise ConfigError(
                f"proj_size={self.proj_size} with hidden_size={self.hidden_size}: expected less than hidden_size, or 0 "
                "for no projection; lower the one or raise the other"
            )
        factors = vars(self) | {"lengths": self.packing}
        for constraint in IMPOSSIBLE:
            if constraint.excludes(factors):
                raise ConfigError(constraint.error.format_map(vars(self)))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RNNConfig:
        """Return the config that ``to_dict`` wrote. Raise ``ConfigError`` for unknown or missing names."""
        if not isinstance(fields, Mapping):
            raise ConfigError(f"fields={reprlib.repr(fields)}: expected a dict, as to_dict() makes it")
        known = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(map(str, set(fields) - set(known))):
            raise ConfigError(f"unknown config fields {', '.join(unknown)}: expected some of {', '.join(known)}")
        if missing := [name for name in REQUIRED_FIELDS if name not in fields]:
            raise ConfigError(f"missing config fields {', '.join(missing)}: they have no default")
        lengths, cell = fields.get("lengths"), cell_of_data(fields.get("cell", "RNN"))
        return cls(**{**fields, "lengths": tuple(lengths) if isinstance(lengths, list) else lengths, "cell": cell})

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, as plain data; a cell that torch does not have is written with its equations."""
        return self.fields | {"cell": data_of(self.cell)}

    @property
    def fields(self) -> dict[str, Any]:
        """Every field by name."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def calls_before(self) -> tuple[RNNConfig, ...]:
        """The configs of a used module's earlier calls: one longer, with one sequence more in a batch, and then itself.

        What a module keeps for a shape, or of a state, is taken up by a call of the same sizes only.
        """
        own = self.replace(preparation="new")
        return own.replace(T=self.T + 1, N=self.N + self.batched), own

    def replace(self, **changes: Any) -> RNNConfig:
        """Return the same config with ``changes``.

        Lengths are fitted to a new T or N, and proj_size to a new hidden_size, unless they are changed, too. Nothing
        comes before a new preparation that cannot come before it, and without lengths, none are sorted.
        """
        if self.proj_size and "hidden_size" in changes:
            changes.setdefault("proj_size", fitted_projection(self.proj_size, changes["hidden_size"]))
        if (self.after, changes.get("preparation", self.preparation)) not in PREPARATION_PAIRS:
            changes.setdefault("after", None)
        if self.lengths is not None and "lengths" not in changes and not {"T", "N"}.isdisjoint(changes):
            T, N = changes.get("T", self.T), changes.get("N", self.N)
            changes["lengths"] = fitted_lengths(self.lengths, T, N, falling=self.enforce_sorted)
        if changes.get("lengths", self.lengths) is None:
            changes.setdefault("enforce_sorted", False)
        return type(self)(**{**self.fields, **changes})

    @cached_property
    def plain(self) -> RNNConfig:
        """The same computation called in the plainest way: batched, in order, with a new module, in its own dtype."""
        usual = {name: getattr(PLAINEST, name) for name in WAY if name != "lengths"}
        usual |= {"batch_first": self.batch_first and self.batched, "dtype": self.autocast or self.dtype}
        is_plain = all(getattr(self, name) == value for name, value in usual.items())
        return self if is_plain else self.replace(**usual)

    def dtype_of(self, name: str) -> str:
        """Return the dtype of an array that a subject returns; a gradient has the dtype of its array."""
        return self.dtype if name.endswith(".grad") else self.autocast or self.dtype

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
        """The cost of a case of this config, as ``cost_of`` counts it."""
        cost: int = cost_of(vars(self))
        return cost

    @property
    def states(self) -> int:
        """The number of states: of all layers, directions, steps, sequences and units."""
        return self.num_layers * self.num_directions * self.T * self.N * self.hidden_size

    @property
    def form(self) -> CellDefinition:
        """The layer's cell, with its gates and the names of its states."""
        return CELL_DEFINITIONS[self.cell]

    @property
    def layer(self) -> str:
        """The name of torch's layer, such as ``nn.LSTM``, or that of a cell that torch does not have."""
        return layer_named(self.cell)

    @property
    def gated(self) -> bool:
        """True if the cell is not nn.RNN's, which has one sum and a function of its choice; others have gates."""
        return self.cell != "RNN"

    @property
    def h_size(self) -> int:
        """The number of units of h: P if it is projected, else H."""
        return self.proj_size or self.hidden_size

    @property
    def hidden(self) -> tuple[str, ...]:
        """The names of the initial states that are passed, ``hx`` and of an LSTM ``cx``; none if none is."""
        return self.form.hidden if self.hx else ()

    def prefix(self, num_layers: int) -> RNNConfig:
        """Return the config of this stack's first ``num_layers`` layers, without the readout and without gradients."""
        return _prefix(self, num_layers)

    def __repr__(self) -> str:
        """Return code that pastes back; fields at their defaults are left out."""
        shown = [repr(getattr(self, name)) for name in REQUIRED_FIELDS]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in {*REQUIRED_FIELDS, *(["cell"] if self.cell in CELLS else [])} and (
                value != field.default or field.name in {"T", "N"}
            ):
                shown.append(f"{field.name}={_code_of(value)}")
        return f"{self.cell if self.cell in CELLS else 'RNN'}Config({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields alone. Equal configs unpickle to one object, so that their shapes are derived only once."""
        return _unpickled, (type(self), self.form.equations, self.form.place, *self.fields.values())

    @property
    def num_directions(self) -> int:
        """D: 2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @cached_property
    def inputs(self) -> dict[str, ArraySpec]:
        """The arrays that the layer is given: ``x``, and the initial states if they are passed."""
        return {"x": _spec(f"{self._steps} I", self._sizes), **self._states(self.hidden)}

    @cached_property
    def weights(self) -> dict[str, ArraySpec]:
        """Every parameter in the order of ``nn.RNN``'s ``state_dict``, then the readout's parameters."""
        sizes = self._sizes
        specs: dict[str, ArraySpec] = {}
        for layer in range(self.num_layers):
            below = "I" if layer == 0 else f"D*{self._h}"
            axes = {role: form.format(rows=self._rows, below=below, h=self._h) for role, form in PARAMETERS.items()}
            own = {role: _spec(form, sizes) for role, form in {**axes, PROJECTION: "P H"}.items()}
            for direction in range(self.num_directions):
                names = weight_names(layer, direction, bias=self.bias, projected=self.proj_size > 0)
                specs |= {name: own[role_of(name)] for name in names}
        if self.output_size is not None:
            specs["readout.weight"] = _spec(f"O D*{self._h}", sizes)
            specs["readout.bias"] = _spec("O", sizes)
        return specs

    @cached_property
    def cotangents(self) -> dict[str, ArraySpec]:
        """The given gradients of the loss with respect to the outputs it reads: ``output.grad``, ``h_n.grad``.

        Whatever reads h_n reads all final states.
        """
        output, final = "output" if self.output_size is None else "readout", self.form.final
        read = {"output": (output,), "h_n": final, "both": (output, *final), None: ()}[self.loss]
        return {f"{name}.grad": self.outputs[name] for name in read}

    @cached_property
    def given(self) -> dict[str, ArraySpec]:
        """Everything that a subject is given: the inputs, the weights, the cotangents."""
        return {**self.inputs, **self.weights, **self.cotangents}

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
        """The outputs of the layer: ``output``, the final states, and ``readout`` if there is one."""
        sizes = self._sizes
        specs = {"output": _spec(f"{self._steps} D*{self._h}", sizes), **self._states(self.form.final)}
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
        axes = ("T", "N", "D*H") if name == PREACTIVATION else self.returned[name].axes
        if name.startswith(("weight", "readout.weight")):
            return dict(zip(("row", "column"), index, strict=True))
        place: dict[str, int | str] = {}
        for axis, i in zip(axes, index, strict=True):
            if axis == f"D*{self._h}":
                place |= self._direction(i // self.h_size) | {"unit": i % self.h_size}
            elif axis == "L*D":
                place |= {"layer": i // self.num_directions} | self._direction(i % self.num_directions)
            elif axis == "G*H":
                place |= {"gate": self.form.gates[i // self.hidden_size], "unit": i % self.hidden_size}
            else:
                place[PLACE_NAMES[axis]] = i
        return place

    def _direction(self, direction: int) -> dict[str, int | str]:
        return {"direction": DIRECTIONS[direction]} if self.bidirectional else {}

    def _states(self, names: tuple[str, ...]) -> dict[str, ArraySpec]:
        """Return the specs of states by name, of which the first is h, and the others are H wide."""
        return {
            name: _spec(f"L*D {self._batch} {'H' if number else self._h}", self._sizes)
            for number, name in enumerate(names)
        }

    @property
    def _h(self) -> str:
        return "P" if self.proj_size else "H"

    @property
    def _rows(self) -> str:
        return "G*H" if self.gated else "H"

    @cached_property
    def _sizes(self) -> dict[str, int]:
        sizes = {letter: getattr(self, factor) for factor, letter in AXIS_LETTERS.items()}
        D, H = self.num_directions, self.hidden_size
        own = {self._rows: len(self.form.gates) * H, f"D*{self._h}": D * self.h_size, "L*D": self.num_layers * D}
        return sizes | own


FIELDS: Final = tuple(field.name for field in dataclasses.fields(RNNConfig))  # The names of a config's fields

LARGE_STATES: Final = 2**14
"""The number of states from which they, and not the calls, take most of a case's time: torch and the comparison of so
many take 3 ms.
"""


def GRUConfig(*sizes: Any, **fields: Any) -> RNNConfig:  # noqa: N802 - named as what it makes
    """Return the config of an nn.GRU: an ``RNNConfig`` with ``cell="GRU"``, made with the same arguments."""
    return RNNConfig(*sizes, **fields, cell="GRU")


def LSTMConfig(*sizes: Any, **fields: Any) -> RNNConfig:  # noqa: N802 - named as what it makes
    """Return the config of an nn.LSTM, with ``proj_size``: an ``RNNConfig`` with ``cell="LSTM"``."""
    return RNNConfig(*sizes, **fields, cell="LSTM")


PLAINEST: Final = RNNConfig(1, 1)  # The config with every field at its default, and sizes of 1


@lru_cache(64)
def _unpickled(kind: type[RNNConfig], equations: str, place: str, *values: Any) -> RNNConfig:
    fields = dict(zip(FIELDS, values, strict=True))
    make_known(fields["cell"], equations, place)
    return kind(**fields)


@lru_cache(64)
def _prefix(config: RNNConfig, num_layers: int) -> RNNConfig:
    dropout = config.dropout if num_layers > 1 else 0.0
    return config.replace(num_layers=num_layers, dropout=dropout, output_size=None, loss=None, wrt="all")


def cost_of(factors: Mapping[str, Any]) -> Any:
    """Return the number of multiplications of a forward pass; each step of a layer and direction adds another 2**13.

    The 2**13 are the cost of such a step in the comparison, where a step of the backward pass takes some 0.1 ms. The
    factors are the sizes, layers and directions. They may be arrays; then the cost is an array.
    """
    H, L, D = factors["hidden_size"], factors["num_layers"], 1 + factors["bidirectional"]
    features = factors["input_size"] + (L - 1) * D * H + L * H
    return factors["T"] * D * (L * 2**13 + factors["N"] * H * features)


FEW_LENGTHS: Final = 3  # that are shown one by one, if they are equal


def _code_of(value: Any) -> str:
    """Return the code of a field; equal lengths are said once."""
    if isinstance(value, tuple) and len(value) > FEW_LENGTHS and len({*value}) == 1:
        return f"({value[0]!r},) * {len(value)}"
    return repr(value)


def never_rise(lengths: tuple[int, ...]) -> bool:
    """Return whether no sequence is longer than the one before it, as ``enforce_sorted=True`` demands."""
    return list(lengths) == sorted(lengths, reverse=True)


def fitted_projection(proj_size: int, hidden_size: int) -> int:
    """Return the projection to at most so many units, and fewer than there are; 0 if there is one unit alone."""
    return min(proj_size, max(hidden_size - 1, 0))


def fitted_lengths(lengths: Sequence[int], T: int, N: int, *, falling: bool = False) -> tuple[int, ...]:
    """Return lengths of N sequences like the given ones: repeated, cut at T, and the longest one set to T."""
    fitted = [min(lengths[n % len(lengths)], T) for n in range(N)]
    if fitted:
        fitted[fitted.index(max(fitted))] = T
    return tuple(sorted(fitted, reverse=True) if falling else fitted)


@lru_cache(256)
def weight_names(layer: int, direction: int, *, bias: bool = True, projected: bool = False) -> tuple[str, ...]:
    """Return torch's names for the parameters of one layer and direction: W_ih, W_hh, b_ih, b_hh, W_hr."""
    end = f"_l{layer}_reverse" if direction else f"_l{layer}"
    own = (*PARAMETERS, PROJECTION) if projected else PARAMETERS
    return tuple(role + end for role in own if bias or not role.startswith("bias"))


def role_of(name: str) -> str:
    """Return the part of an array's name that is the same in every layer and direction.

    For ``weight_ih_l0.grad`` it is ``weight_ih``.
    """
    return name.removesuffix(".grad").partition("_l")[0]


def _spec(axes: str, sizes: Mapping[str, int]) -> ArraySpec:
    names = tuple(axes.split())
    return ArraySpec(names, tuple([sizes[name] for name in names]))


def _lengths(lengths: Any, T: int, N: int) -> tuple[int, ...]:
    sound = isinstance(lengths, tuple | list) and len(lengths) == N > 0
    for length in lengths if sound else ():
        sound = sound and isinstance(length, int) and not isinstance(length, bool) and 1 <= length <= T
    if not sound or max(lengths) != T:
        raise ConfigError(f"lengths={lengths!r}: expected N={N} of them, from 1 to T={T}, and the longest T itself")
    return tuple(lengths)
