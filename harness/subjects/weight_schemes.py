"""The names under which other frameworks keep the weights of a layer, and what they are in nn.RNN's."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from harness.space.case import Array
from harness.space.cells import CELL_OF, CELLS, GATE_ORDERS
from harness.space.config import weight_names
from harness.space.errors import UsageError


class Scheme(NamedTuple):
    """The names of one framework, and how its matrices lie."""

    framework: str
    # the name of each parameter by its role. ``bias`` stands for one bias, or for both in a row.
    names: Mapping[str, str]
    # true if a step is ``x @ W``, False if it is ``x @ W.T``; ``None`` if code of both kinds has these names.
    transposed: bool | None


# The names that are known, each of one layer. A prefix may stand before them all: ``simple_rnn/kernel:0``.
SCHEMES: Final = (
    Scheme("Keras", {"weight_ih": "kernel", "weight_hh": "recurrent_kernel", "bias": "bias"}, True),
    Scheme("Flax", {"weight_ih": "i/kernel", "weight_hh": "h/kernel", "bias_ih": "i/bias", "bias_hh": "h/bias"}, True),
    Scheme("ONNX", {"weight_ih": "W", "weight_hh": "R", "bias": "B"}, False),
    Scheme("NumPy code", {"weight_ih": "Wx", "weight_hh": "Wh", "bias": "b"}, None),
    Scheme("NumPy code", {"weight_ih": "Wxh", "weight_hh": "Whh", "bias": "bh"}, None),
    Scheme("NumPy code", {"weight_ih": "W_xh", "weight_hh": "W_hh", "bias_ih": "b_xh", "bias_hh": "b_hh"}, None),
    Scheme("NumPy code", {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}, None),
    Scheme("NumPy code", {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias": "b"}, None),
)


DEEPEST: Final = 8  # the most dicts that may lie in each other


def flat(nested: Mapping[Any, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield what dicts in dicts hold, as Flax has them, under names with a slash."""
    for name, value in nested.items():
        if isinstance(value, Mapping) and depth < DEEPEST:
            yield from flat(value, f"{before}{name}/", depth + 1)
        else:
            yield f"{before}{name}", value


class TranslatedWeights(NamedTuple):
    """Weights under nn.RNN's names, and how they were understood."""

    weights: dict[str, Array]
    words: str


def translated(weights: Mapping[str, Array]) -> list[TranslatedWeights]:
    """Return weights under nn.RNN's names, in each way in which they can be meant; none if no scheme has their names.

    There are two ways if square matrices may be transposed or not. Raises ``UsageError`` in one line if the names are
    those of several layers, or of several frameworks.
    """
    plain = {name.replace(".", "/").removesuffix(":0"): array for name, array in weights.items()}
    fits = [(scheme, prefix) for scheme in SCHEMES for prefix in _prefixes(scheme, plain)]
    fits = [(fit, prefix) for fit, prefix in fits if not any(_more(rival, fit, plain, prefix) for rival, _ in fits)]
    if len(fits) > 1:
        held = " or ".join(f"{prefix}{', '.join(fit.names.values())} ({fit.framework})" for fit, prefix in fits)
        raise UsageError(f"module holds {held[:300]}: expected the weights of one layer; leave out the others")
    return [reading for scheme, prefix in fits for reading in _read(scheme, prefix, plain)]


def _prefixes(scheme: Scheme, plain: Mapping[str, Array]) -> list[str]:
    """Return what stands before a scheme's two matrices, wherever both are there."""
    first, second = scheme.names["weight_ih"], scheme.names["weight_hh"]
    starts = [name.removesuffix(first) for name in plain if name == first or name.endswith(f"/{first}")]
    return [start for start in starts if start + second in plain]


def _more(first: Scheme, second: Scheme, plain: Mapping[str, Array], prefix: str) -> bool:
    """Tell if another scheme with the same matrices has the names of more of what is given."""
    if (first.names["weight_ih"], first.names["weight_hh"]) != (second.names["weight_ih"], second.names["weight_hh"]):
        return False
    has, less = (sum(prefix + name in plain for name in scheme.names.values()) for scheme in (first, second))
    return has > less or (has == less and SCHEMES.index(first) < SCHEMES.index(second))


def _read(scheme: Scheme, prefix: str, plain: Mapping[str, Array]) -> Iterator[TranslatedWeights]:
    own = {role: plain[prefix + name] for role, name in scheme.names.items() if prefix + name in plain}
    rest = {name: array for name, array in plain.items() if not any(array is used for used in own.values())}
    if "bias" in own and own["bias"].ndim == own["weight_ih"].ndim == 2:  # Keras's two biases of a GRU
        own["bias"] = own["bias"].reshape(-1)
    if scheme.transposed:  # a dense layer after it is
        rest = {name.replace("kernel", "weight"): _turned(array) for name, array in rest.items()}
    rest = {name.replace("/", "."): array for name, array in rest.items()}
    w, r = own["weight_ih"], own["weight_hh"]
    fits = [turn for turn in (False, True) if _fits(*(_turned(a) if turn else a for a in (w, r)))]
    declared = [] if scheme.transposed is None else [scheme.transposed]
    for turn in ([way for way in fits if way in declared] or fits or declared or [False]) if w.ndim == 2 else [False]:
        named, order = _in_order(_named(own, turn=turn), scheme.framework)
        symbols = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
        both = "bias" in own and own["bias"].shape[-1:] == (2 * len(named["weight_hh_l0"]),)
        symbols["bias"] = "[b_ih, b_hh]" if both else "b_ih + b_hh"
        turned = {role: ".T" * (turn and "weight" in role) for role in own}
        words = ", ".join(f"{symbols[role]} is your {prefix}{scheme.names[role]}{turned[role]}" for role in own)
        words += f", its rows in the order {', '.join(order)}" * bool(order)
        yield TranslatedWeights({**named, **rest}, f"names of {scheme.framework}: {words}")


def _in_order(named: dict[str, Array], framework: str) -> tuple[dict[str, Array], str]:
    """Return weights with the gates' rows in torch's order, and the framework's order if that is another."""
    rows, size = [*named["weight_hh_l0"].shape, 0][:2]
    cell = CELL_OF.get(rows // size, "") if size and rows % size == 0 else ""
    of_cell = (gates for gates, several in GATE_ORDERS.items() if framework in several and CELL_OF[len(gates)] == cell)
    if (order := next(of_cell, "")) == "":
        return named, ""
    places = [order.index(gate) for gate in CELLS[cell].gates]
    blocks = {name: np.split(array, len(order)) for name, array in named.items() if len(array) == rows}
    return named | {name: np.concatenate([parts[k] for k in places]) for name, parts in blocks.items()}, order


def _fits(w: Array, r: Array) -> bool:
    """Tell if matrices have the shapes of nn.RNN's: rows of the same number, a multiple of hidden_size."""
    return w.ndim == r.ndim == 2 and len(w) == len(r) and r.shape[1] > 0 and len(r) % r.shape[1] == 0


def _turned(array: Array) -> Array:
    return array.T if array.ndim == 2 else array


def _named(own: Mapping[str, Array], *, turn: bool) -> dict[str, Array]:
    """Return weights under nn.RNN's names; the first axis of ONNX's arrays is the direction."""
    by_direction = own["weight_ih"].ndim == 3
    weights: dict[str, Array] = {}
    for direction in range(len(own["weight_ih"]) if by_direction else 1):
        roles = {role: array[direction] if by_direction and array.ndim > 1 else array for role, array in own.items()}
        rows = len(roles["weight_hh"].T if turn else roles["weight_hh"])
        if (bias := roles.pop("bias", None)) is not None:
            both = bias.shape == (2 * rows,)
            roles |= {"bias_ih": bias[:rows], "bias_hh": bias[rows:] if both else np.zeros_like(bias)}
        elif "bias_ih" in roles:
            roles.setdefault("bias_hh", np.zeros_like(roles["bias_ih"]))
        elif "bias_hh" in roles:
            roles["bias_ih"] = np.zeros_like(roles["bias_hh"])
        for name in weight_names(0, direction, bias="bias_ih" in roles):
            array = roles[name.partition("_l0")[0]]
            weights[name] = _turned(array) if turn else array
    return weights
