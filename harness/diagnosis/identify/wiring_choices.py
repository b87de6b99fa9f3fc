"""wiring_choices: which row, sequence, step and feature each step of a stack reads and writes.

A layer's sums say what a step makes of its operands (``model``); its wiring says where these come from and where the
results go. Each slot has a table of choices: the name that a report prints, and the expression of NumPy that it stands
for, which is the name itself wherever that can be evaluated. nn.RNN's own comes first. The letters are those
of a config: l of L layers, d of D directions, t of T, n of N; ``k`` counts a direction's own ``steps`` from 0, and
``order`` sorts a packed batch, the longest sequence first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import product
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from harness.diagnosis.identify.line import Line
from harness.oracle.pinned_numpy import np
from harness.space.config import RNNConfig

Ints = NDArray[np.intp]
Place = tuple[int, int]  # a layer and a direction
Choices = Mapping[Any, str]


class LayersByDirections(NamedTuple):
    """The sizes of a stack."""

    L: int
    D: int


TWO_BY_TWO: Final = LayersByDirections(2, 2)


@cache
def at_place(text: str, at: Place, sizes: LayersByDirections) -> Any:
    """Return the value of an expression at a layer and direction of a stack."""
    return Line(text).of({"l": at[0], "d": at[1], "L": sizes.L, "D": sizes.D})


@lru_cache(maxsize=4096)
def by_sequence(text: str, T: int, lengths: tuple[int, ...]) -> Ints:
    """Return the value of an expression of the letter n for each sequence of a batch."""
    line, steps = Line(text), np.array(lengths, np.intp)
    letters = {"T": T, "N": len(steps), "lengths": steps, "order": np.argsort(-steps, kind="stable")}
    return np.array([line.of(letters | {"n": n}) for n in range(len(steps))], np.intp)


def _texts(*texts: str) -> dict[str, str]:
    """Return choices whose names are the expressions themselves."""
    return {text: text for text in texts}


_LAYERS: Final = (
    *("l", "L - 1 - l", "0", "L - 1", "max(l - 1, 0)", "min(l, 1)", "(L - 1) * (l > 0)", "l % 2"),
    *("(l + 1) % L", "(l - 1) % L"),
)
_DIRECTIONS: Final = ("d", "D - 1 - d", "0", "D - 1")
OWN_PLACE: Final = "l, d"
# A layer and direction, as an expression of another one.
MOVED_PLACES: Final = _texts(*(f"{layer}, {d}" for layer, d in product(_LAYERS, _DIRECTIONS)))


def _sum(left: str | bool, right: str) -> str:
    return f"{left} + {right}" if left and right != "0" else str(left or right)


def _rows() -> Iterator[str]:
    for layer, d in product(_LAYERS, _DIRECTIONS):
        left, right = (f"({text})" if " " in text and not text.startswith("m") else text for text in (layer, d))
        yield _sum(layer != "0" and f"{left} * D", d)
        yield _sum(d != "0" and f"{right} * L", layer)
        yield _sum(layer != "0" and layer, d)


STATE_ROWS: Final = {row: f"min({row}, L * D - 1)" for row in _rows()}  # a row of hx or h_n
# Layers and directions.
WHERE: Final = _texts(
    *("True", "l == L - 1", "0 < l == L - 1", "l == 0", "l == 0 < L - 1", "l > 0", "l < L - 1", "l == 1", "l > 1"),
    *("l % 2 == 1", "d == 0", "d == 1"),
)


def _of_sequences(*texts: str) -> dict[str, str]:
    """Return choices of the letter n; among sequences of one length, the first stays the first."""
    return {text: text.replace("argsort(lengths)", "argsort(lengths, kind='stable')") for text in texts}


_ORDERS: Final = (
    *("n", "order[n]", "np.argsort(order)[n]", "order[order[n]]", "np.argsort(order[order])[n]"),
    *("np.argsort(lengths)[n]", "np.argsort(np.argsort(lengths))[n]"),
    *("0", "N - 1", "N - 1 - n", "n - 1", "(n + 1) % N", "max(n - 1, 0)"),
)
SEQUENCE_ORDERS: Final = _of_sequences(*_ORDERS)  # a sequence, as an expression of another one
# The sequences that start from hx; others start at zeros.
FROM_HX: Final = _texts("True", "lengths[n] == max(lengths)", "lengths[n] < max(lengths)", "n == 0", "n > 0")
# The steps of each sequence.
STEP_ORDERS: Final = _of_sequences(
    *("lengths[n]", "T", "max(lengths[n] - 1, 1)", "lengths[n] - 1", "min(lengths[n] + 1, T)", "min(lengths)"),
    *(f"lengths[{sequence}]" for sequence in _ORDERS if sequence != "n"),
    *(f"lengths[n] if n {which} else 0" for which in ("== 0", "== N - 1", "< N - 1", "> 0")),
)
# A time step, as an expression of a direction's own step k of ``steps``, of which a sequence may have none.
TIMES: Final = {
    **_texts("k", "steps - 1 - k", "T - 1 - k", "T - steps + k"),
    **{f"{k} % steps": f"{k} % np.maximum(steps, 1)" for k in ("-k", "(k + 1)", "(k - 1)")},
}
# The time step whose output is returned as h_n; "" stands for the state after the last step that was made.
FINALS: Final = {"": "lengths[n] - 1"} | _texts("T - 1", "lengths[n] - 1", "max(lengths[n] - 2, 0)", "T - 2", "0")
# The features of an output by half, of those of the two directions; d is the direction that reads them.
FEATURE_ORDERS: Final = {
    **_texts(
        "forward, reverse", "reverse, forward", "forward, forward", "reverse, reverse", "forward, 0", "0, reverse"
    ),
    "own half": "(forward, 0) if d == 0 else (0, reverse)",
    "other half": "(0, reverse) if d == 0 else (forward, 0)",
    "in turns": "np.stack([forward, reverse], -1).reshape(2, H)",
    "out of turns": "np.hstack([forward, reverse]).reshape(H, 2).T",
}
READ_STEPS: Final = _texts("t", "t - 1", "t + 1", "T - 1", "T - 1 - t", "0")  # the step that is read out at step t
# Whether the first two axes of x, hx or an output lie the other way than it is asked for.
LAYOUTS: Final = {
    "as asked": "False",
    "always the other": "True",
    "other where T == N": "batch_first and T == N",
    "other": "batch_first",
    "always batch first": "not batch_first",
    "always batch first where T == N": "not batch_first and T == N",
}
INPUTS: Final = _texts("below", "x", "below + x")  # what a layer above the first reads
# The layers to whose output something is added: their input, or x.
SKIPS: Final = {"": "False", "above the first": "l > 0", "every layer": "True", "x": "l == L - 1"}
# Masks (T, N, D*H) by layer.
DROPOUT_MASKS: Final = {
    **_texts("mask", "mask[:1]", "mask[:, :1]", "mask[:, :, :1]", "mask[:1, :1]"),
    "mask[..., :H] of both directions": "np.tile(mask[..., :H], D)",
    "masks[0]": "masks[0]",
    "mask of the next layer": "masks[max(masks)]",
}
# What multiplies a dropped output.
DROPOUT_SCALES: Final = _texts(
    *("mask / (1 - p)", "mask", "mask * (1 - p)", "mask / p", "1", "1 - p", "(1 - mask) / (1 - p)"), "mask / (1 - p)**2"
)
EVALUATION: Final = _texts("1", "1 - p", "1 / (1 - p)", "p", "1 / p")  # and what multiplies it in evaluation
_FLIPS: Final = (
    *("{0}[::-1]", "{0}[:, ::-1]", "{0}[::-1, ::-1]", "{0}.reshape({0}.T.shape).T", "np.roll({0}, 1, 0)"),
    "np.roll({0}, -1, 0)",
)
_OWN_MATRICES: Final = "W_ih, W_hh"
# How the numbers of W_ih and W_hh lie.
MATRICES: Final = {
    **_texts(_OWN_MATRICES, "np.split(np.hstack([W_ih, W_hh]), [H], 1)[::-1]"),
    **{flip.format(W): _OWN_MATRICES.replace(W, flip.format(W)) for flip in _FLIPS for W in ("W_ih", "W_hh")},
    **_texts(*(f"{flip.format('W_ih')}, {flip.format('W_hh')}" for flip in _FLIPS)),
}
# The layers and directions that pass no gradient to their operand, or, "through reverse", to their parameters either.
GRADIENT_LOSSES: Final = {
    "": "False",
    "from layer to layer": "l > 0",
    "from the reverse direction": "d == 1",
    "from the forward direction": "d == 0 < D - 1",
    "through reverse": "d == 1",
}


class Slot(NamedTuple):
    """A place in a stack that has a choice."""

    own: Any  # nn.RNN's choice
    choices: Choices
    line: tuple[str, ...] = ()  # in a report: the subject's, and nn.RNN's unless it is the same with nn.RNN's choice


def _features(array: str) -> Slot:
    return Slot("forward, reverse", FEATURE_ORDERS, (f"{array} = np.concatenate([{{choice}}], -1)",))


WAYS: Final = ("forward", "reverse")
# The way of one direction through its sequences: as reverse.reads, the slot of the reverse direction.
_OF_WAY: Final = {
    "steps": Slot("lengths[n]", STEP_ORDERS, ("steps = {choice}",)),
    "reads": Slot("k", TIMES, ("x[{choice}, n]",)),  # the time step of x, or of the output below, that step k reads
    "writes": Slot("k", TIMES, ("output[{choice}, n] = h",)),  # the time step of the output that step k writes
    "final": Slot("", FINALS, ("h_n[l * D + d, n] = output[{choice}, n]", "h_n[l * D + d, n] = h")),
    "x_of": Slot("n", SEQUENCE_ORDERS, ("x[t, {choice}]",)),  # the sequence of x that a sequence reads
    "hx_of": Slot("n", SEQUENCE_ORDERS, ("h = hx[l * D + d, {choice}]",)),
    "started": Slot("True", FROM_HX, ("h = hx[l * D + d, n] if {choice} else 0", "h = hx[l * D + d, n]")),
    # The sequence that is returned as the n-th of the output.
    "output_of": Slot("n", SEQUENCE_ORDERS, ("output[:, n] = result_of({choice})",)),
    "h_n_of": Slot("n", SEQUENCE_ORDERS, ("h_n[:, n] = result_of({choice})",)),
}
_OF_REVERSE: Final = _OF_WAY | {name: _OF_WAY[name]._replace(own="steps - 1 - k") for name in ("reads", "writes")}
_LAYOUT: Final = Slot("as asked", LAYOUTS)
SLOTS: Final[dict[str, Slot]] = {
    **{f"{way}.{name}": s for way, of in zip(WAYS, (_OF_WAY, _OF_REVERSE), strict=True) for name, s in of.items()},
    # True if a sequence starts at the state that the one before it ended with.
    "carries": Slot(False, {}, ("h = hx[l * D + d, 0] if n == 0 else h", "h = hx[l * D + d, n]")),
    "hx_row": Slot("l * D + d", STATE_ROWS, ("h = hx[{choice}]",)),
    "cx_row": Slot("", STATE_ROWS, ("c = cx[{choice}]",)),  # the row of cx, if it is not that of hx
    "h_n_row": Slot("l * D + d", STATE_ROWS, ("h_n[{choice}] = h",)),
    # The layer and direction whose last state is written to that row.
    "h_n_place": Slot(OWN_PLACE, MOVED_PLACES, ("h_n[l * D + d] = last[{choice}]",)),
    # The layers and directions that are written to h_n.
    "h_n_where": Slot("True", WHERE, ("h_n[l * D + d] = h if {choice} else 0", "h_n[l * D + d] = h")),
    # Those of c_n, if they are not h_n's.
    "c_n_row": Slot("", STATE_ROWS, ("c_n[{choice}] = c",)),
    "c_n_place": Slot("", MOVED_PLACES, ("c_n[l * D + d] = last[{choice}]",)),
    "c_n_where": Slot("", WHERE, ("c_n[l * D + d] = c if {choice} else 0", "c_n[l * D + d] = c")),
    "weights": Slot((), {}, ("{parameters}",)),  # roles of parameters, and the layer and direction whose are used
    "matrices": Slot(_OWN_MATRICES, MATRICES, ("{choice}", "")),
    "layers": Slot("L", _texts("1", "L - 1", "L"), ("layers = range({choice})",)),
    "directions": Slot("D", _texts("1", "D"), ("directions = range({choice})",)),
    "input": Slot("below", INPUTS, ("read = {choice}",)),
    "skip": Slot("", SKIPS, ("output[t] = h + read[t]", "output[t] = h")),
    "joined": _features("output"),  # of a layer's output
    "inner": _features("x"),  # those that the layer above reads
    # The step of the reverse half that it reads at step t.
    "inner_reverse": Slot("t", _texts("t", "T - 1 - t"), ("below[t] = np.hstack([forward[t], reverse[{choice}]])",)),
    "output": _features("output"),  # those that are returned
    "padding": Slot("", {}),  # "0" if what a layer wrote to padding is set to zero, "held" if its state stays there
    "mask": Slot("mask", DROPOUT_MASKS, ("mask = {choice}", "")),
    "factor": Slot("mask / (1 - p)", DROPOUT_SCALES, ("x = output * ({choice})", "x = output * mask / (1 - p)")),
    "evaluation": Slot("1", EVALUATION, ("x = output * ({choice})", "x = output")),
    "drops_last": Slot((), {}),  # the final states of the inner layers that are dropped like their output
    "readout": _features("read"),
    "readout_step": Slot("t", READ_STEPS, ("readout[t] = W @ h[{choice}] + b",)),
    "readout_where": Slot("True", _texts("True", "t == T - 1")),  # the readout is zero at other steps
    "readout_bias": Slot(True, {}, ("readout[t] = W @ h[t]", "readout[t] = W @ h[t] + b")),
    "x_layout": _LAYOUT,
    "output_layout": _LAYOUT,
    "hx_layout": _LAYOUT,
    "h_n_layout": _LAYOUT,
    "above": Slot("l > 0", WHERE),  # the layers that compute with the model of those above the first
    # Another nonlinearity, and the layers and directions that have it.
    "activation": Slot("", {}),
    "activation_where": Slot("True", WHERE),
    "turned": Slot("d == 1", WHERE),  # the layers and directions that compute with the model of the reverse direction
    "gradient_stop": Slot("", GRADIENT_LOSSES),  # where the way back passes nothing on
    "gradients_of": Slot((), {}),  # roles, and the layer and direction whose gradients are returned
}
_OWN: Final = {slot: row.own for slot, row in SLOTS.items()}
# The slots of h by those of c, which have the same choice unless they have one of their own.
OF_H: Final = {"cx_row": "hx_row", "c_n_row": "h_n_row", "c_n_place": "h_n_place", "c_n_where": "h_n_where"}
# The choices of a reverse direction that flips x, or its output, along the batch and not along the steps.
FLIPS: Final = {
    "x": (("reverse.reads", "k"), ("reverse.x_of", "N - 1 - n")),
    "output": (("reverse.writes", "k"), ("reverse.output_of", "N - 1 - n")),
}


@dataclass(frozen=True)
class Wiring:
    """The choices of a stack outside of the steps, by slot; nn.RNN's unless given."""

    others: frozenset[tuple[str, Any]] = frozenset()  # the slots whose choice is not nn.RNN's, and these choices

    @cached_property
    def _choices(self) -> dict[str, Any]:
        return _OWN | dict(self.others)

    def __getitem__(self, slot: str) -> Any:
        """Return the choice in a slot."""
        return self._choices[slot]

    def put(self, slot: str, choice: Any) -> Wiring:
        """Return the wiring with another choice in a slot."""
        rest = frozenset(pair for pair in self.others if pair[0] != slot)
        return Wiring(rest if choice == SLOTS[slot].own else rest | {(slot, choice)})

    def changes(self, wiring: Wiring) -> list[str]:
        """Return the slots in which this wiring is not another one."""
        return [slot for slot in SLOTS if self[slot] != wiring[slot]]

    def inherited(self, slot: str) -> Any:
        """Return the choice in a slot; in one of c that has none of its own, that of h."""
        return self[slot] or self[OF_H.get(slot, slot)]

    def text(self, slot: str) -> str:
        """Return the expression that the choice in a slot stands for."""
        return SLOTS[slot].choices[self.inherited(slot)]

    def at_place(self, slot: str, at: Place, sizes: LayersByDirections) -> Any:
        """Return the value of the choice in a slot at a layer and direction."""
        return at_place(self.text(slot), at, sizes)


OWN_WIRING: Final = Wiring()


def lengths_of(config: RNNConfig) -> Ints:
    """Return the steps that each sequence has."""
    return np.array(config.lengths or (config.T,) * config.N, np.intp)
