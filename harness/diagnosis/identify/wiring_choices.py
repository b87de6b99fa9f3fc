"""wiring_choices: which row, sequence, step and feature each step of a stack reads and writes.

A layer's sums say what a step makes of its operands (``model``); its wiring says where these come from and where the
results go. Each slot has a table of choices: an expression of NumPy, which is its name, and what it is worth. nn.RNN's
own comes first. The letters are those of a config: l of L layers, d of D directions, t of T, n of N; ``k`` counts a
direction's own ``steps`` from 0, and ``order`` sorts a packed batch, the longest sequence first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig

Ints = NDArray[np.intp]
Place = tuple[int, int]  # a layer and a direction


class LayersByDirections(NamedTuple):
    """The sizes of a stack."""

    L: int
    D: int


TWO_BY_TWO: Final = LayersByDirections(2, 2)


_LAYERS: Final[dict[str, Callable[[int, int], int]]] = {
    "l": lambda layer, L: layer,
    "L - 1 - l": lambda layer, L: L - 1 - layer,
    "0": lambda layer, L: 0,
    "L - 1": lambda layer, L: L - 1,
    "max(l - 1, 0)": lambda layer, L: max(layer - 1, 0),
    "min(l, 1)": lambda layer, L: min(layer, 1),
    "(L - 1) * (l > 0)": lambda layer, L: (L - 1) * (layer > 0),
    "l % 2": lambda layer, L: layer % 2,
    "(l + 1) % L": lambda layer, L: (layer + 1) % L,
    "(l - 1) % L": lambda layer, L: (layer - 1) % L,
}
_DIRECTIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "d": lambda d, D: d,
    "D - 1 - d": lambda d, D: D - 1 - d,
    "0": lambda d, D: 0,
    "D - 1": lambda d, D: D - 1,
}


def _place(of_layer: str, of_direction: str) -> Callable[[Place, LayersByDirections], Place]:
    return lambda at, sizes: (_LAYERS[of_layer](at[0], sizes.L), _DIRECTIONS[of_direction](at[1], sizes.D))


# A layer and direction, as an expression of another one.
OWN_PLACE: Final = "l, d"
MOVED_PLACES: Final[dict[str, Callable[[Place, LayersByDirections], Place]]] = {
    f"{of_layer}, {of_direction}": _place(of_layer, of_direction)
    for of_layer, of_direction in product(_LAYERS, _DIRECTIONS)
}


def _sum(left: str | bool, right: str) -> str:
    return f"{left} + {right}" if left and right != "0" else str(left or right)


def _rows() -> Iterator[tuple[str, Callable[[Place, LayersByDirections], int]]]:
    for layer_text, d in product(_LAYERS, _DIRECTIONS):
        at = _place(layer_text, d)
        left, right = (f"({text})" if " " in text and not text.startswith("m") else text for text in (layer_text, d))

        def by_layer(
            place: Place, sizes: LayersByDirections, at: Callable[[Place, LayersByDirections], Place] = at
        ) -> int:
            layer, direction = at(place, sizes)
            return layer * sizes.D + direction

        def by_direction(
            place: Place, sizes: LayersByDirections, at: Callable[[Place, LayersByDirections], Place] = at
        ) -> int:
            layer, direction = at(place, sizes)
            return direction * sizes.L + layer

        def summed(
            place: Place, sizes: LayersByDirections, at: Callable[[Place, LayersByDirections], Place] = at
        ) -> int:
            return min(sum(at(place, sizes)), sizes.L * sizes.D - 1)

        yield _sum(layer_text != "0" and f"{left} * D", d), by_layer
        yield _sum(d != "0" and f"{right} * L", layer_text), by_direction
        yield _sum(layer_text != "0" and layer_text, d), summed


# A row of hx or h_n.
STATE_ROWS: Final[dict[str, Callable[[Place, LayersByDirections], int]]] = dict(_rows())
# Layers and directions.
WHERE: Final[dict[str, Callable[[Place, LayersByDirections], bool]]] = {
    "True": lambda at, sizes: True,
    "l == L - 1": lambda at, sizes: at[0] == sizes.L - 1,
    "0 < l == L - 1": lambda at, sizes: 0 < at[0] == sizes.L - 1,
    "l == 0": lambda at, sizes: at[0] == 0,
    "l == 0 < L - 1": lambda at, sizes: at[0] == 0 < sizes.L - 1,
    "l > 0": lambda at, sizes: at[0] > 0,
    "l < L - 1": lambda at, sizes: at[0] < sizes.L - 1,
    "l == 1": lambda at, sizes: at[0] == 1,
    "l > 1": lambda at, sizes: at[0] > 1,
    "l % 2 == 1": lambda at, sizes: at[0] % 2 == 1,
    "d == 0": lambda at, sizes: at[1] == 0,
    "d == 1": lambda at, sizes: at[1] == 1,
}


def order_of(lengths: Ints) -> Ints:
    """Return the sequences of a batch, the longest first."""
    return np.argsort(-lengths, kind="stable")


def back_of(order: Ints) -> Ints:
    """Return what undoes an order."""
    return np.argsort(order, kind="stable")


# A sequence, as an expression of another one.
SEQUENCE_ORDERS: Final[dict[str, Callable[[Ints], Ints]]] = {
    "n": lambda lengths: np.arange(len(lengths)),
    "order[n]": order_of,
    "np.argsort(order)[n]": lambda lengths: back_of(order_of(lengths)),
    "order[order[n]]": lambda lengths: order_of(lengths)[order_of(lengths)],
    "np.argsort(order[order])[n]": lambda lengths: back_of(order_of(lengths)[order_of(lengths)]),
    "np.argsort(lengths)[n]": lambda lengths: np.argsort(lengths, kind="stable"),
    "np.argsort(np.argsort(lengths))[n]": lambda lengths: back_of(np.argsort(lengths, kind="stable")),
    "0": lambda lengths: np.zeros(len(lengths), np.intp),
    "N - 1": lambda lengths: np.full(len(lengths), len(lengths) - 1),
    "N - 1 - n": lambda lengths: np.arange(len(lengths))[::-1],
    "n - 1": lambda lengths: (np.arange(len(lengths)) - 1) % max(len(lengths), 1),
    "(n + 1) % N": lambda lengths: (np.arange(len(lengths)) + 1) % max(len(lengths), 1),
    "max(n - 1, 0)": lambda lengths: np.maximum(np.arange(len(lengths)) - 1, 0),
}


# The sequences that start from hx; others start at zeros.
FROM_HX: Final[dict[str, Callable[[Ints], Any]]] = {
    "True": lambda lengths: np.full(len(lengths), True),
    "lengths[n] == max(lengths)": lambda lengths: lengths == lengths.max(initial=0),
    "lengths[n] < max(lengths)": lambda lengths: lengths < lengths.max(initial=0),
    "n == 0": lambda lengths: np.arange(len(lengths)) == 0,
    "n > 0": lambda lengths: np.arange(len(lengths)) > 0,
}


def _at(lengths: Ints, which: Callable[[Ints], Any]) -> Ints:
    return np.where(which(np.arange(len(lengths))), lengths, 0)


def _length_of(sequence: str) -> Callable[[Ints, int], Ints]:
    return lambda lengths, T: lengths[SEQUENCE_ORDERS[sequence](lengths)]


# The steps of each sequence.
STEP_ORDERS: Final[dict[str, Callable[[Ints, int], Ints]]] = {
    "lengths[n]": lambda lengths, T: lengths,
    "T": lambda lengths, T: np.full(len(lengths), T),
    "max(lengths[n] - 1, 1)": lambda lengths, T: np.maximum(lengths - 1, 1),
    "lengths[n] - 1": lambda lengths, T: lengths - 1,
    "min(lengths[n] + 1, T)": lambda lengths, T: np.minimum(lengths + 1, T),
    "min(lengths)": lambda lengths, T: np.full(len(lengths), lengths.min(initial=T)),
    **{f"lengths[{sequence}]": _length_of(sequence) for sequence in SEQUENCE_ORDERS if sequence != "n"},
    "lengths[n] if n == 0 else 0": lambda lengths, T: _at(lengths, lambda n: n == 0),
    "lengths[n] if n == N - 1 else 0": lambda lengths, T: _at(lengths, lambda n: n == len(lengths) - 1),
    "lengths[n] if n < N - 1 else 0": lambda lengths, T: _at(lengths, lambda n: n < len(lengths) - 1),
    "lengths[n] if n > 0 else 0": lambda lengths, T: _at(lengths, lambda n: n > 0),
}
# A time step, as an expression of a direction's own step k of ``steps``.
TIMES: Final[dict[str, Callable[[Any, Any, int], Ints]]] = {
    "k": lambda k, steps, T: k + 0 * steps,
    "steps - 1 - k": lambda k, steps, T: steps - 1 - k,
    "T - 1 - k": lambda k, steps, T: T - 1 - k + 0 * steps,
    "T - steps + k": lambda k, steps, T: T - steps + k,
    "-k % steps": lambda k, steps, T: -k % np.maximum(steps, 1),
    "(k + 1) % steps": lambda k, steps, T: (k + 1) % np.maximum(steps, 1),
    "(k - 1) % steps": lambda k, steps, T: (k - 1) % np.maximum(steps, 1),
}
# The time step whose output is returned as h_n; "" stands for the state after the last step that was made.
FINALS: Final[dict[str, Callable[[Ints, int], Ints]]] = {
    "": lambda lengths, T: lengths - 1,
    "T - 1": lambda lengths, T: np.full(len(lengths), T - 1),
    "lengths[n] - 1": lambda lengths, T: lengths - 1,
    "max(lengths[n] - 2, 0)": lambda lengths, T: np.maximum(lengths - 2, 0),
    "T - 2": lambda lengths, T: np.full(len(lengths), max(T - 2, 0)),
    "0": lambda lengths, T: np.zeros(len(lengths), np.intp),
}


def _halves(*which: int | None) -> Callable[[int, int, int], Ints]:
    def features(H: int, D: int, _d: int) -> Ints:
        if D == 1:
            return np.arange(H)
        return np.concatenate([np.full(H, -1) if half is None else half * H + np.arange(H) for half in which])

    return features


def _own(H: int, D: int, d: int) -> Ints:
    return np.where(np.arange(D * H) // H == d, np.arange(D * H), -1)


# The features of an output, of those of the two directions side by side, by the direction that reads them; -1 is a 0.
FEATURE_ORDERS: Final[dict[str, Callable[[int, int, int], Ints]]] = {
    "forward, reverse": _halves(0, 1),
    "reverse, forward": _halves(1, 0),
    "forward, forward": _halves(0, 0),
    "reverse, reverse": _halves(1, 1),
    "forward, 0": _halves(0, None),
    "0, reverse": _halves(None, 1),
    "own half": _own,
    "other half": lambda H, D, d: _own(H, D, D - 1 - d),
    "in turns": lambda H, D, d: np.arange(D * H).reshape(D, H).T.ravel(),
    "out of turns": lambda H, D, d: np.arange(D * H).reshape(H, D).T.ravel(),
}
READ_STEPS: Final[dict[str, Callable[[Ints, int], Ints]]] = {  # the step that is read out at step t
    "t": lambda t, T: t,
    "t - 1": lambda t, T: t - 1,
    "t + 1": lambda t, T: np.where(t < T - 1, t + 1, -1),
    "T - 1": lambda t, T: np.full(len(t), T - 1),
    "T - 1 - t": lambda t, T: T - 1 - t,
    "0": lambda t, T: 0 * t,
}
LAYOUTS: Final[
    dict[str, Callable[[RNNConfig], bool]]
] = {  # how x, hx or an output lies: as it is asked for, or with its first two axes taken the other way
    "as asked": lambda config: False,
    "always the other": lambda config: True,
    "other where T == N": lambda config: config.batch_first and config.T == config.N,
    "other": lambda config: config.batch_first,
    "always batch first": lambda config: not config.batch_first,
    "always batch first where T == N": lambda config: not config.batch_first and config.T == config.N,
}
INPUTS: Final = ("below", "x", "below + x")  # what a layer above the first reads
SKIPS: Final = ("", "above the first", "every layer", "x")  # what is added to a layer's output: its input, or x on top
DROPOUT_MASKS: Final[dict[str, Callable[[Any, Mapping[int, Any], int], Any]]] = {  # masks (T, N, D*H) by layer
    "mask": lambda mask, masks, H: mask,
    "mask[:1]": lambda mask, masks, H: mask[:1],
    "mask[:, :1]": lambda mask, masks, H: mask[:, :1],
    "mask[:, :, :1]": lambda mask, masks, H: mask[:, :, :1],
    "mask[:1, :1]": lambda mask, masks, H: mask[:1, :1],
    "mask[..., :H] of both directions": lambda mask, masks, H: np.tile(mask[..., :H], mask.shape[-1] // H),
    "masks[0]": lambda mask, masks, H: masks[min(masks)],
    "mask of the next layer": lambda mask, masks, H: masks.get(max(masks), mask),
}
DROPOUT_SCALES: Final[dict[str, Callable[[Any, float], Any]]] = {  # what multiplies a dropped output
    "mask / (1 - p)": lambda mask, p: mask / (1 - p) if p < 1 else mask,
    "mask": lambda mask, p: mask,
    "mask * (1 - p)": lambda mask, p: mask * (1 - p),
    "mask / p": lambda mask, p: mask / p,
    "1": lambda mask, p: np.ones_like(mask),
    "1 - p": lambda mask, p: np.full_like(mask, 1 - p),
    "(1 - mask) / (1 - p)": lambda mask, p: (1 - mask) / (1 - p) if p < 1 else 1 - mask,
    "mask / (1 - p)**2": lambda mask, p: mask / (1 - p) ** 2 if p < 1 else mask,
}
EVALUATION: Final[dict[str, Callable[[float], float]]] = {  # what multiplies the same output where nothing is dropped
    "1": lambda p: 1.0,
    "1 - p": lambda p: 1 - p,
    "1 / (1 - p)": lambda p: 1 / (1 - p) if p < 1 else 1.0,
    "p": lambda p: p,
    "1 / p": lambda p: 1 / p if p else 1.0,
}
_FLIPS: Final[dict[str, Callable[[Ints], Ints]]] = {
    "{0}[::-1]": lambda W: W[::-1],
    "{0}[:, ::-1]": lambda W: W[:, ::-1],
    "{0}[::-1, ::-1]": lambda W: W[::-1, ::-1],
    "{0}.reshape({0}.T.shape).T": lambda W: W.reshape(W.shape[::-1]).T,
    "np.roll({0}, 1, 0)": lambda W: np.roll(W, 1, 0),
    "np.roll({0}, -1, 0)": lambda W: np.roll(W, -1, 0),
}


def _flipped(role: str, flip: Callable[[Ints], Ints]) -> Callable[[Ints, Ints], tuple[Ints, Ints]]:
    return lambda ih, hh: (flip(ih) if role != "W_hh" else ih, flip(hh) if role != "W_ih" else hh)


def _other_order(ih: Ints, hh: Ints) -> tuple[Ints, Ints]:
    side, H = np.concatenate([ih, hh], 1), len(hh)
    return side[:, H:], side[:, :H]


# How the numbers of W_ih and W_hh lie.
MATRICES: Final[dict[str, Callable[[Ints, Ints], tuple[Ints, Ints]]]] = {
    "W_ih, W_hh": lambda ih, hh: (ih, hh),
    "np.split(np.hstack([W_ih, W_hh]), [H], 1)[::-1]": _other_order,
    **{flip.format(W): _flipped(W, turn) for flip, turn in _FLIPS.items() for W in ("W_ih", "W_hh")},
    **{f"{flip.format('W_ih')}, {flip.format('W_hh')}": _flipped("both", turn) for flip, turn in _FLIPS.items()},
}
GRADIENT_LOSSES: Final = (
    "from layer to layer",
    "from the reverse direction",
    "from the forward direction",
    "through reverse",
)


@dataclass(frozen=True)
class DirectionPass:
    """The way of one direction through its sequences."""

    steps: str = "lengths[n]"
    reads: str = "k"  # the time step of x, or of the output below, that step k reads
    writes: str = "k"  # the time step of the output that step k writes
    final: str = ""
    x_of: str = "n"  # the sequence of x that a sequence reads
    hx_of: str = "n"
    started: str = "True"  # the sequences that start from hx
    output_of: str = "n"  # the sequence that is returned as the n-th of the output
    h_n_of: str = "n"


# The choices of a reverse direction that flips x, or its output, along the batch and not along the steps.
FLIPS: Final = {"x": {"reads": "k", "x_of": "N - 1 - n"}, "output": {"writes": "k", "output_of": "N - 1 - n"}}
REVERSE: Final = DirectionPass(reads="steps - 1 - k", writes="steps - 1 - k")


@dataclass(frozen=True)
class Wiring:
    """The choices of a stack outside of the steps; nn.RNN's unless given."""

    forward: DirectionPass = DirectionPass()
    reverse: DirectionPass = REVERSE
    carries: bool = False  # True if a sequence starts at the state that the one before it ended with
    hx_row: str = "l * D + d"
    cx_row: str = ""  # the row of cx, if it is not that of hx
    h_n_row: str = "l * D + d"
    h_n_place: str = OWN_PLACE  # the layer and direction whose last state is written to that row
    h_n_where: str = "True"  # the layers and directions that are written to h_n
    # Those of c_n, if they are not h_n's.
    c_n_row: str = ""
    c_n_place: str = ""
    c_n_where: str = ""
    weights: tuple[tuple[str, str], ...] = ()  # roles of parameters, and the layer and direction whose are used
    matrices: str = "W_ih, W_hh"
    layers: str = "L"
    directions: str = "D"
    input: str = "below"
    skip: str = ""
    joined: str = "forward, reverse"  # the features of a layer's output
    inner: str = "forward, reverse"  # those that the layer above reads
    inner_reverse: str = "t"  # the step of the reverse half that it reads at step t
    output: str = "forward, reverse"  # those that are returned
    padding: str = ""  # "0" if what a layer wrote to padding is set to zero, "held" if its state stays there
    mask: str = "mask"
    factor: str = "mask / (1 - p)"
    evaluation: str = "1"  # what multiplies it in evaluation
    drops_last: tuple[str, ...] = ()  # the final states of the inner layers that are dropped like their output
    readout: str = "forward, reverse"
    readout_step: str = "t"
    readout_where: str = ""  # "t == T - 1" if the readout is zero at other steps
    readout_bias: bool = True
    x_layout: str = "as asked"
    output_layout: str = "as asked"
    hx_layout: str = "as asked"
    h_n_layout: str = "as asked"
    above: str = "l > 0"  # the layers that compute with the model of those above the first
    activation: str = ""  # another nonlinearity, and the layers and directions that have it
    activation_where: str = "True"
    turned: str = "d == 1"  # the layers and directions that compute with the model of the reverse direction
    gradient_stop: str = ""  # where the way back passes nothing on
    gradients_of: tuple[tuple[str, str], ...] = ()  # roles, and the layer and direction whose gradients are returned

    def last(self, name: str, slot: str) -> str:
        """Return the choice of a slot of h_n, or c_n, whose choices are h_n's unless they are its own."""
        choice: str = getattr(self, f"{name}_{slot}") or getattr(self, f"h_n_{slot}")
        return choice

    def way(self, d: int) -> DirectionPass:
        """Return the way of a direction."""
        return self.reverse if d else self.forward

    def changes(self, wiring: Wiring) -> list[tuple[str, ...]]:
        """Return the slots in which this wiring is not another one; those of a direction as ``forward.steps``."""
        slots: list[tuple[str, ...]] = []
        for name, value in vars(self).items():
            if name in ("forward", "reverse"):
                choices = vars(getattr(wiring, name))
                slots += [(name, slot) for slot, choice in vars(value).items() if choice != choices[slot]]
            elif value != getattr(wiring, name):
                slots.append((name,))
        return slots

    def put(self, slot: tuple[str, ...], value: Any) -> Wiring:
        """Return the wiring with another choice in a slot."""
        changed: dict[str, Any] = {slot[0]: value}
        if len(slot) == 2:
            inner: dict[str, Any] = {slot[1]: value}
            changed = {slot[0]: replace(getattr(self, slot[0]), **inner)}
        return replace(self, **changed)

    def at(self, slot: tuple[str, ...]) -> Any:
        """Return the choice in a slot."""
        value: Any = self
        for name in slot:
            value = getattr(value, name)
        return value


OWN_WIRING: Final = Wiring()


def lengths_of(config: RNNConfig) -> Ints:
    """Return the steps that each sequence has."""
    return np.array(config.lengths or (config.T,) * config.N, np.intp)
