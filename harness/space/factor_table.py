"""The factors: one table of what a layer and a call of it may vary in, in the four parts of a config.

A factor is a field of a part, and its row says everything else that is known of it: the values that it may have and
that are asked for, plainest first; what excludes it; what shows it; how it is said. All other tables of factors are
read off this one. ``RNNConfig`` is made from all parts.
"""

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from itertools import chain
from typing import Any, Final

from harness.space.cells import CELL_DEFINITIONS, CELLS
from harness.space.constraints import Constraint, among, below, given, off, on, other_than
from harness.space.errors import UsageError
from harness.space.factor import ROW, Factor, factor, of_torch, option, way

NONLINEARITIES: Final = ("tanh", "relu")

DTYPES: Final = ("float32", "float64", "bfloat16", "float16")
LOSSES: Final = (None, "output", "h_n", "both")
WRT: Final = ("all", "inputs", "weights")
STRIDES: Final = ("contiguous", "transposed", "stepped", "expanded")
AUTOCASTS: Final = (None, "bfloat16", "float16")
GRAD_MODES: Final = (None, "enable_grad", "inference_mode", "accumulate")
FORWARD_MODES: Final = GRAD_MODES[:3]  # those of a call without a loss
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

# The kinds of packing: not packed, or packed with lengths that are all the same, that never rise, or in any order.
PACKINGS: Final = (None, "equal", "falling", "any")

BOUNDARIES: Final = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33)
"""Sizes at which blocked and vectorised kernels change their path: one, two, and powers of two with their neighbours.
"""

LARGE_SIZES: Final = (63, 64, 65, 127, 128, 129, 255, 256, 257)  # Larger powers of two with their neighbours

# Multiples of the vector widths of 8, 16 and 32 numbers that are not powers of two, with their neighbours.
MULTIPLES: Final = (23, 24, 25, 47, 48, 49, 95, 96, 97)

SIZES: Final = (*range(1, 17), *range(1, 17), *BOUNDARIES * 4, *LARGE_SIZES, *MULTIPLES)
"""The values that a size is drawn from: in a third of draws any size up to 16, in half a boundary, else a larger one.
"""

# The number in every place of the other weights that a module was called with before; every dtype has it.
OTHER: Final = 0.5

# The preparations that give a module its weights themselves, whichever it had before.
WEIGHT_SETTING: Final = ("replaced", "parametrize", "functional_call")

PREPARATION_PAIRS: Final = frozenset(
    (first, then)
    for first in PREPARATIONS[1:]
    for then in PREPARATIONS[1:]
    if first != then and not (first == "parametrize" and then in {"pickle", "replaced", "functional_call"})
)
"""The preparations that a module can have one after the other. Torch does not pickle a module that is parametrized, and
its parameters can neither be replaced nor be given to a call."""

# The sizes that torch's own nn.LSTM is asked to project h to, of which 0 is no projection.
PROJECTIONS: Final = (0, 0, 0, 1, 2, 3, 8)

_DEVICE: Final = re.compile(r"[a-z_]\w*(:\d+)?")


class ConfigError(UsageError):
    """A config that no recurrent layer can have."""


@dataclass(frozen=True)
class LayerConfig:
    """The arguments of ``nn.RNN``'s constructor under their own names and defaults."""

    input_size: int = factor(usual=SIZES, axis="I", size=True, dear=5, required=True)
    hidden_size: int = factor(usual=SIZES, axis="H", size=True, dear=4, required=True)
    num_layers: int = option(usual=(1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5), axis="L", dear=1, opens_others=False)
    nonlinearity: str = option(NONLINEARITIES, usual=NONLINEARITIES, unseen=True, halves=NONLINEARITIES)
    bias: bool = option(usual=(True, False))
    batch_first: bool = option(usual=(False, True), unseen=True)
    dropout: float = factor(usual=(0.0, 0.5, 0.25), discovered=False, group="numbers")  # at 0.5, p is 1 - p
    bidirectional: bool = option(usual=(False, True), halves=("unidirectional", "bidirectional"))

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

    T: int = factor(usual=SIZES, axis="T", size=True, dear=2)
    N: int = factor(usual=(*SIZES, 0, 0), axis="N", size=True, dear=3)
    hx: bool = factor(usual=(False, True), opens_others=True, beside_apart=True)
    dtype: str = factor(
        DTYPES, usual=("float32", "float64"), torch=DTYPES, opens_others=True, beside_apart=True, group="numbers"
    )
    device: str = factor(usual=("cpu",), sent=False, group="numbers")
    training: bool = factor(usual=(False, True), discovered=False, beside_apart=True, group="numbers")

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

    output_size: int | None = factor(usual=(None,), axis="O", dear=6, group="layout")
    loss: str | None = option(
        LOSSES,
        torch=(*[None] * 3, *LOSSES[1:]),
        argument="cotangents",
        halves=("forward", "gradients"),
        group="gradients",
    )
    wrt: str = factor(
        WRT,
        torch=("all", *WRT),
        excluded=(Constraint({"loss": among(None), "wrt": other_than("all")}, ("wrt", "all")),),
        group="gradients",
        always_named=False,
    )

    def __post_init__(self) -> None:
        if self.output_size is not None:
            _require_int("output_size", self.output_size, at_least=1)
        _require_flags_and_choices(self, ResultConfig)


_UNBATCHED: Final = "batched=False with N={N}, lengths={lengths}: expected N=1 and no lengths"
_UNSORTED: Final = "enforce_sorted=True with lengths={lengths}: expected lengths that never rise"
_CAST: Final = "autocast={autocast!r} with dtype={dtype!r}: expected dtype='float32'"


@dataclass(frozen=True, kw_only=True)
class WayConfig:
    """The way in which the layer is called; ``RNNConfig.plain`` is the same computation without most of it.

    - ``batched``: if false, no array has a batch axis, and N is 1;
    - ``lengths``: if not ``None``, the batch is packed: sequence n has ``lengths[n]`` steps, and the steps after them
      are padding; a scope has their kinds (``PACKINGS``). ``enforce_sorted`` packs lengths that never rise as
      ``enforce_sorted=True`` does;
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

    batched: bool = way(
        usual=(True,),
        torch=(*[True] * 7, False),
        excluded=(
            Constraint({"batched": off, "N": other_than(1)}, ("N", 1), _UNBATCHED),
            Constraint({"batched": off, "lengths": given}, ("lengths", None), _UNBATCHED),
        ),
        feature=True,
        opens_others=True,
        drop_in=True,
        group="layout",
    )
    lengths: tuple[int, ...] | None = way(
        usual=(None,),
        torch=(*[None] * 5, *PACKINGS[1:]),
        argument="lengths",
        excluded=(
            # An empty batch has nothing to pack, and torch refuses it.
            Constraint({"lengths": given, "N": among(0)}, ("N", 1)),
            # Lengths of one sequence or of one step are equal.
            Constraint({"lengths": among("falling", "any"), "N": below(2)}, ("lengths", "equal")),
            Constraint({"lengths": among("falling", "any"), "T": below(2)}, ("lengths", "equal")),
        ),
        feature=True,
        probed=True,
        drop_in=True,
        group="layout",
    )
    enforce_sorted: bool = way(
        usual=(False, True),
        excluded=(
            Constraint({"enforce_sorted": on, "lengths": among(None, "any")}, ("enforce_sorted", False), _UNSORTED),
        ),
        probed=True,
        group="layout",
    )
    strides: str = way(
        STRIDES,
        torch=(*["contiguous"] * 5, *STRIDES[1:]),
        function=(*["contiguous"] * 5, *STRIDES[1:]),
        excluded=(
            # A readout's gradient is zero in padding, but not elsewhere.
            Constraint(
                {"lengths": given, "output_size": given, "strides": among("expanded")}, ("strides", "contiguous")
            ),
        ),
        sent=False,
        group="layout",
    )
    autocast: str | None = of_torch(
        AUTOCASTS,
        torch=(*[None] * 8, *AUTOCASTS[1:]),
        excluded=(
            Constraint({"autocast": given, "dtype": other_than("float32")}, ("autocast", None), _CAST),
            Constraint({"autocast": given, "device": among("meta")}, ("autocast", None)),
            # Autocast would draw the masks in another dtype.
            Constraint({"autocast": given, "training": on, "dropout": on}, ("dropout", 0.0)),
        ),
        feature=True,
        drop_in=True,
        group="numbers",
    )
    grad_mode: str | None = of_torch(
        GRAD_MODES,
        torch=(None, *GRAD_MODES),
        excluded=(
            Constraint({"loss": given, "grad_mode": among(*FORWARD_MODES[1:])}, ("grad_mode", None)),
            Constraint({"loss": among(None), "grad_mode": among("accumulate")}, ("grad_mode", None)),
        ),
        probed=True,
        group="gradients",
    )
    preparation: str = of_torch(PREPARATIONS, torch=(*["new"] * 18, *PREPARATIONS[1:]), function=(*["new"] * 9, "used"))
    after: str | None = of_torch(
        (None, *PREPARATIONS[1:]),
        torch=(None, *PREPARATIONS[1:]),
        excluded=(
            Constraint({"after": given, "preparation": among("new")}, ("after", None)),
            *(
                Constraint(
                    {
                        "after": among(first),
                        "preparation": among(
                            *(then for then in PREPARATIONS[1:] if (first, then) not in PREPARATION_PAIRS)
                        ),
                    },
                    ("after", None),
                )
                for first in PREPARATIONS[1:]
            ),
        ),
        apart=True,
        drop_in=True,
    )
    positional: bool = of_torch(usual=(False,), torch=(False, True), apart=True, drop_in=True)
    tied: bool = of_torch(usual=(False,), torch=(False, True), apart=True, drop_in=True)

    def __post_init__(self) -> None:
        _require_flags_and_choices(self, WayConfig)
        if self.after is not None and (self.after, self.preparation) not in PREPARATION_PAIRS:
            then = ", ".join(name for name in PREPARATIONS if (self.after, name) in PREPARATION_PAIRS)
            raise ConfigError(f"after={self.after!r} with preparation={self.preparation!r}: expected one of {then}")


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """The cell of the layer.

    - ``cell``: the layer's name, ``RNN``, ``GRU`` or ``LSTM``, or that of a ``Cell``; a subject has one of them;
    - ``proj_size``: an LSTM's argument of that name: if not 0, h is projected to so many units, fewer than H.
    """

    cell: str = factor(
        usual=tuple(CELLS)[:1],
        excluded=(
            Constraint(
                {"cell": other_than("RNN"), "nonlinearity": other_than("tanh")},
                ("nonlinearity", "tanh"),
                "nonlinearity={nonlinearity!r} with cell={cell!r}: expected cell='RNN', because the others have none",
            ),
            Constraint(
                {"cell": other_than("LSTM"), "proj_size": on},
                ("proj_size", 0),
                "proj_size={proj_size!r} with cell={cell!r}: expected proj_size=0, or cell='LSTM', which alone has it",
            ),
        ),
        discovered=False,
        apart=True,
        sent=False,
        always_named=False,
    )
    proj_size: int = factor(usual=(0,), axis="P", dear=7, sent=False, always_named=False)

    def __post_init__(self) -> None:
        if not isinstance(self.cell, str) or self.cell not in CELL_DEFINITIONS:
            own = "a Cell of your own is known once the file that makes it is loaded"
            raise ConfigError(f"cell={self.cell!r}: expected {', '.join(CELL_DEFINITIONS)}; {own}")
        _require_int("proj_size", self.proj_size, at_least=0)


def offers_of(cell: str) -> dict[str, tuple[Any, ...]]:
    """Return the values of factors that a layer of a cell is asked for because of it."""
    return {} if cell == "RNN" else {"cell": (cell,), "nonlinearity": ("tanh",)}


# The parts, in the order of their fields.
CONFIG_PARTS: Final[tuple[type[Any], ...]] = (LayerConfig, CallConfig, ResultConfig, WayConfig, CellConfig)

# The rows of the table, by the factor's name, in the order of a config's fields.
FACTORS: Final[dict[str, Factor]] = {field.name: field.metadata[ROW] for part in CONFIG_PARTS for field in fields(part)}


def having(column: str, names: Iterable[str] = tuple(FACTORS)) -> tuple[str, ...]:
    """Return the factors, of those with these names, of which something holds."""
    return tuple(name for name in names if getattr(FACTORS[name], column))


def lacking(column: str, names: Iterable[str] = tuple(FACTORS)) -> tuple[str, ...]:
    """Return the factors, of those with these names, of which something does not hold."""
    return tuple(name for name in names if not getattr(FACTORS[name], column))


def _names(part: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(part))


LAYER: Final = _names(LayerConfig)  # The names of the layer's fields, in the order of the constructor's arguments

# The layer's fields without a default, which are its sizes; no other part has any.
REQUIRED_FIELDS: Final = tuple(field.name for field in fields(LayerConfig) if field.default is MISSING)

OPTIONS: Final = tuple(name for name in LAYER if name not in REQUIRED_FIELDS)  # The layer's fields with a default

WAY: Final = _names(WayConfig)
MODULE_FACTORS: Final = having("modules_only")
SIZE_FACTORS: Final = having("size")  # The factors that are sizes of arrays and nothing else

APART: Final = having("apart")
"""The factors that are varied in cases of their own (``space.rare_factors``), and everywhere else have their first
value: no interaction of them is planned, because their many values would double the number of planned cases.
"""

# The plainest value of each factor, which is nn.RNN's default where it has one.
PLAIN: Final = {name: row.usual[0] for name, row in FACTORS.items()}

# The constraints, in the order in which factors give way.
CONSTRAINTS: Final = tuple(chain.from_iterable(FACTORS[name].excluded for name in lacking("apart")))

# The constraints on factors whose interactions are not planned.
OF_APART: Final = tuple(chain.from_iterable(FACTORS[name].excluded for name in APART))

# The constraints that no layer can break.
IMPOSSIBLE: Final = tuple(constraint for constraint in (*CONSTRAINTS, *OF_APART) if constraint.error)


def require_value(name: str, value: object) -> None:
    """Raise ``ConfigError`` if a field of no config has this value, whatever the other fields are."""
    beside = {"preparation": next((then for first, then in sorted(PREPARATION_PAIRS) if first == value), "new")}
    for part in CONFIG_PARTS:
        if name in _names(part):
            needed = beside if name == "after" else {field: 1 for field in REQUIRED_FIELDS if part is LayerConfig}
            part(**needed | {name: value})


_EXPECTED: Final = {
    part: [(name, FACTORS[name].choices) for name in _names(part) if FACTORS[name].choices or FACTORS[name].is_flag]
    for part in CONFIG_PARTS
}


def _require_flags_and_choices(config: Any, part: type[Any]) -> None:
    for name, choices in _EXPECTED[part]:
        value = getattr(config, name)
        if choices is None and not isinstance(value, bool):
            raise ConfigError(f"{name}={value!r}: expected True or False")
        if choices is not None and not (isinstance(value, str | None) and value in choices):
            raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def _require_int(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: expected an int of at least {at_least}")
    if value >= 2**63:
        raise ConfigError(f"{name}={value!r}: expected an int of 64 bits")
