"""Metamorphic relations between runs of one subject that a correct subject satisfies whatever its arithmetic.

A relation says that the arrays of a case can also be computed from runs on other cases, whose arrays are rearranged
into the case's own. It knows no values. Each relation's docstring gives its statement, in which ``rnn(x)`` stands for
everything that is returned. Gradients with respect to parameters add up wherever several runs are put together.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from harness.oracle.arithmetic_assumptions import FORMATS
from harness.oracle.bounded_array import to_float64
from harness.oracle.pinned_numpy import np
from harness.space.case import Array, Case, padding
from harness.space.config import ArraySpec, RNNConfig, never_rise
from harness.space.factor_table import FORWARD_MODES, PREPARATIONS

BOTH_DIRECTIONS: Final = ("D*H", "D*P")  # the axes that hold both directions' features
Arrays = Mapping[str, Array]
# The results of a subject on a case, or its tolerances, which are put together in the same way.
Run = Callable[[Case], Arrays]


@dataclass(frozen=True)
class Relation:
    """One relation: its name, the cases it applies to, and another way to get a case's arrays."""

    name: str
    others: str  # a phrase for the other runs that completes the sentence "differs from that of ..."
    applies: Callable[[Case], bool]
    derive: Callable[[Case, Run], Arrays]
    """A function that returns the case's arrays from other runs, as far as the relation covers them.

    Except in a composed relation, it is linear in the results of the runs, without subtractions, so that it can carry
    error bounds, too.
    """
    # True if dropout draws the same masks in the other runs; if not, the relation does not apply when dropout draws
    # any.
    same_masks: bool = False
    composed: bool = False  # true if one run reads what another one returned
    about: Callable[[Case], Case] = lambda case: (
        case
    )  # the case that the relation is about, derived from the case at hand
    # A test of whether a subject that keeps the relation to the bit must do so here, given what it returned on the
    # case.
    exact: Callable[[Case, Arrays], bool] = lambda _case, _arrays: True

    def speaks_of(self, case: Case) -> bool:
        """Return whether the relation applies to a case."""
        return (self.same_masks or not case.config.drops) and self.applies(case)


RELATIONS: Final[dict[str, Relation]] = {}  # every relation by its name


def _relation(
    others: str, applies: Callable[[RNNConfig], bool], **more: Any
) -> Callable[[Callable[..., Arrays]], Relation]:
    """Return a decorator that makes a relation of a function and names the relation after it."""

    def made(function: Callable[..., Arrays]) -> Relation:
        name = function.__name__.replace("_", " ")
        premise: Callable[[Case], bool] = more.pop("given", lambda _case: True)
        RELATIONS[name] = Relation(name, others, lambda case: applies(case.config) and premise(case), function, **more)
        return RELATIONS[name]

    return made


def _packable(config: RNNConfig) -> bool:
    """Return whether a batch may be packed: a readout's gradient is zero in padding, so it cannot be expanded."""
    return config.N > 0 and not (config.output_size is not None and config.strides == "expanded")


def _finite(case: Case) -> bool:
    return all(bool(np.isfinite(array).all()) for array in case.arrays.values())


# Sequences


@_relation("two parts of the batch", lambda config: config.N > 1)
def batch_split(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x) == [rnn(x[:, :k]), rnn(x[:, k:])]``."""
    k = _random(case).randrange(1, case.config.N)
    return _sequences_joined(case, run, [_sequences(case, range(k)), _sequences(case, range(k, case.config.N))])


@_relation("the same sequences in another order", lambda config: config.N > 1)
def batch_permutation(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x[:, p]) == rnn(x)[:, p]`` for a permutation p."""
    order = _order(case, case.config.N)
    return _taken(case.config, run(_sequences(case, order)), "N", np.argsort(order))


@_relation("one sequence alone, and the others together", lambda config: config.lengths is not None)
def packed_alone(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(packed)[:, n] == rnn(x[:lengths[n], n])`` for one n; the others are packed again."""
    config = case.config
    n = _random(case).randrange(config.N)
    others = [m for m in range(config.N) if m != n]
    alone = _sequences(case, [n])
    alone = _changed(alone, lengths=None)
    parts = [alone, _sequences(case, others)] if others else [alone]
    return _taken(config, _sequences_joined(case, run, parts), "N", np.argsort([n, *others]))


@_relation(
    "the same batch, packed if it was padded and padded if it was packed",
    lambda config: config.packing == "equal" or (config.lengths is None and config.batched and _packable(config)),
)
def packed_equal_lengths(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(pack(x, [T] * N)) == rnn(x)``."""
    config = case.config
    return run(_changed(case, lengths=(config.T,) * config.N if config.lengths is None else None, enforce_sorted=False))


@_relation("other numbers in the padding", lambda config: config.lengths is not None and config.strides != "expanded")
def padding_unread(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(packed) == rnn(packed with zeros for padding)``."""
    hidden = padding(case.config)[..., None]
    return run(_case(case.config, {**case.arrays, "x": np.where(hidden, case.x.dtype.type(0), case.x)}))


@_relation(
    "enforce_sorted=True instead of False, or the other way round",
    lambda config: config.packing in {"equal", "falling"},
)
def sorted_or_not(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(pack(x, enforce_sorted=True)) == rnn(pack(x, enforce_sorted=False))``.

    It holds for lengths that never rise.
    """
    return run(_changed(case, enforce_sorted=not case.config.enforce_sorted))


@_relation(
    "a batch of 1 instead of no batch, or the other way round",
    lambda config: config.N == 1 and config.lengths is None,
    same_masks=True,
)
def unbatched(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x[:, 0]) == rnn(x)[:, 0]`` for N = 1."""
    config = case.config.replace(batched=not case.config.batched)
    arrays = run(_case(config, _reshaped(case.arrays, _specs(config))))
    return _reshaped(arrays, _specs(case.config))


@_relation("the transposed input with the other batch_first", lambda config: config.batched)
def batch_first(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x.T, batch_first=True) == rnn(x, batch_first=False).T``."""
    config = case.config

    def turned(arrays: Arrays) -> dict[str, Array]:
        specs = _specs(config)
        return {n: a.swapaxes(0, 1) if {"T", "N"} <= {*specs[n].axes} else a for n, a in arrays.items()}

    return turned(run(_case(config.replace(batch_first=not config.batch_first), turned(case.arrays))))


# Time, directions, layers, units


@_relation(
    "two stretches of time, with the state carried over",
    lambda config: config.T > 1 and not config.bidirectional and config.lengths is None,
    composed=True,
)
def time_split(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x, hx) == [rnn(x[:k], hx), rnn(x[k:], h_k)]``, where h_k is the first run's h_n.

    In the backward pass, the second run's gradient with respect to h_k is given to the first run's h_n. An LSTM's c is
    carried over in the same way.
    """
    config = case.config
    states = dict(zip(config.form.hidden, config.form.final, strict=True))
    k = _random(case).randrange(1, config.T)
    first, later = (_taken(config, case.arrays, "T", steps) for steps in (range(k), range(k, config.T)))
    before, after = config.replace(T=k, loss=None, wrt="all"), config.replace(T=config.T - k, hx=True, wrt="all")
    start = run(_case(before, first))
    end = run(_case(after, {**later, **{initial: start[last] for initial, last in states.items()}}))
    if config.loss is not None:
        loss = "h_n" if config.loss == "h_n" else "both"
        passed = {f"{last}.grad": end[f"{initial}.grad"] for initial, last in states.items()}
        start = run(_case(before.replace(loss=loss), {**first, **passed}))
    last = {name: end[name] for name in states.values()}
    return _joined(config, [start, end], "T") | last | {n: a for n, a in start.items() if n in _starts(config)}


@_relation("a stack's lower layers, and then its upper ones", lambda config: config.num_layers > 1, composed=True)
def layer_split(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x) == upper(lower(x))``, where h_n is made of both parts' h_n.

    In the backward pass, the gradient with respect to the upper part's input is given to the lower part's output.
    """
    config, D = case.config, case.config.num_directions
    k = _random(case).randrange(1, config.num_layers)
    lower = _of_layers(config, k).replace(output_size=None, loss=None, wrt="all")
    upper = _of_layers(config, config.num_layers - k).replace(input_size=D * config.h_size, wrt="all")
    below, above = (_rows(config, case.arrays, rows) for rows in (slice(k * D), slice(k * D, None)))
    low = run(_case(lower, below))
    high = run(_case(upper, {_renumbered(n, -k): a for n, a in above.items()} | {"x": low["output"]}))
    if config.loss is not None:
        lower = lower.replace(loss="output" if config.loss == "output" else "both")
        low = run(_case(lower, {**below, "output.grad": high["x.grad"]}))
    every = [n for n in (*config.form.final, *_starts(config)) if n in low and n in high]
    stacked = {n: np.concatenate([low[n], high[n]]) for n in every}
    return {**{_renumbered(n, k): a for n, a in high.items()}, **_without(low, "output"), **stacked}


@_relation("the reversed input with the two directions' weights exchanged", lambda config: config.bidirectional)
def direction_reversal(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(flip(x), exchanged weights) == flip(rnn(x))``.

    The features and rows of the two directions are exchanged, too. A packed sequence is reversed within its own length.
    """
    config = case.config
    return _mirrored(config, run(_case(config, _mirrored(config, case.arrays))))


@_relation(
    "two runs of one direction, one on the reversed input",
    lambda config: config.bidirectional and config.num_layers == 1 and config.output_size is None,
)
def two_directions(case: Case, run: Run) -> Arrays:
    """Apply the relation ``birnn(x) == [rnn(x), flip(rnn(flip(x)))]`` for one layer."""
    config = case.config
    way = config.replace(bidirectional=False)
    forward, backward = case.arrays, _mirrored(config, case.arrays)
    ways = [run(_case(way, _first_direction(config, arrays))) for arrays in (forward, backward)]
    there, back = (ways[0], {n: _flipped(config, a) if "T" in _specs(way)[n].axes else a for n, a in ways[1].items()})
    joined: dict[str, Array] = {}
    for name, array in there.items():
        axes = _specs(config)[name].axes
        if name.startswith(("weight", "bias")):
            joined |= {name: array, _other_direction(name): back[name]}
        elif name == "x.grad":
            joined[name] = _sum([array, back[name]])
        else:
            axis = next(i for i, counted in enumerate(axes) if counted in ("L*D", *BOTH_DIRECTIONS))
            joined[name] = np.concatenate([array, back[name]], axis)
    return joined


@_relation("the same units in another order", lambda config: config.hidden_size > 1)
def unit_permutation(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x, P W_ih, P W_hh P^T, P b) == P rnn(x)``, with one P for all layers and directions."""
    config = case.config
    order = _order(case, config.hidden_size)
    return _reordered(config, run(_case(config, _reordered(config, case.arrays, order))), np.argsort(order))


def _without_recurrence(case: Case) -> Case:
    return _case(
        case.config, {n: a * a.dtype.type(0) if "_hh_l" in n and a.ndim > 1 else a for n, a in case.arrays.items()}
    )


@_relation(
    "every time step as a sequence of its own",
    # The gates of other cells let the state pass beside W_hh.
    lambda config: config.T > 1 and config.batched and config.lengths is None and not config.gated,
    given=_finite,
    about=_without_recurrence,
)
def zero_recurrence(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x) == rnn(x as T * N sequences of one step)`` for W_hh = 0.

    The gradient with respect to W_hh is left out. The inputs must be finite, because 0 times anything else is NaN.
    """
    config = case.config
    folded = config.replace(T=1, N=config.T * config.N, hx=False)
    steps = (config.N, config.T) if config.batch_first else (config.T, config.N)
    final = np.zeros((config.num_layers, config.num_directions, *steps), bool)  # true for states that are in h_n
    by_time = final.swapaxes(-1, -2) if config.batch_first else final
    by_time[:, 0, -1] = True
    by_time[:, 1:, 0] = True
    arrays = dict(case.arrays)
    if "h_n.grad" in arrays:
        gradients = np.zeros((*final.shape, config.hidden_size), config.dtype)
        gradients[final] = arrays["h_n.grad"].reshape(-1, config.hidden_size)
        arrays["h_n.grad"] = gradients
    returned = dict(run(_case(folded, _reshaped(arrays, _specs(folded)))))
    if "h_n" in returned:
        returned["h_n"] = returned["h_n"].reshape(*final.shape, config.hidden_size)[final]
    return _reshaped({n: a for n, a in returned.items() if not n.startswith("weight_hh")}, _specs(config))


# Ways of calling


@_relation("another grad mode", lambda _config: True, same_masks=True)
def grad_mode(case: Case, run: Run) -> Arrays:
    """Apply the relation that ``rnn(x)`` is the same with and without gradients, and in inference mode."""
    if case.config.loss is not None:
        return run(_changed(case, loss=None, wrt="all", grad_mode=None))
    return run(_changed(case, grad_mode=_another(case, FORWARD_MODES, case.config.grad_mode)))


@_relation("a module that got its weights in another way", lambda _config: True, same_masks=True)
def preparation(case: Case, run: Run) -> Arrays:
    """Apply the relation ``prepared(rnn)(x) == rnn(x)`` for any preparation."""
    new = case.config.preparation != "new"
    return run(_changed(case, preparation="new" if new else _another(case, PREPARATIONS, "new")))


@_relation("arrays with another layout in memory", lambda _config: True, same_masks=True)
def strides(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(strided x) == rnn(contiguous x)``."""
    if case.config.strides != "contiguous":
        return run(_changed(case, strides="contiguous"))
    return run(_changed(case, strides=_random(case).choice(("transposed", "stepped"))))


@_relation("gradients by more arrays, or by fewer", lambda config: config.loss is not None, same_masks=True)
def wrt(case: Case, run: Run) -> Arrays:
    """Apply the relation that outputs and common gradients do not depend on which other gradients are asked for."""
    part = case.config.wrt != "all"
    return run(_changed(case, wrt="all" if part else _random(case).choice(("inputs", "weights"))))


@_relation("hx of zeros", lambda config: not config.hx, same_masks=True)
def zero_hx(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn(x, None) == rnn(x, zeros)``."""
    config = case.config.replace(hx=True)
    zeros = {name: np.zeros(config.inputs[name].shape, config.dtype) for name in config.hidden}
    return run(Case.from_arrays(config, {**case.arrays, **zeros}))


@_relation("the other mode, train or eval", lambda _config: True)
def training(case: Case, run: Run) -> Arrays:
    """Apply the relation ``rnn.train()(x) == rnn.eval()(x)`` where dropout draws nothing, or in eval mode."""
    return run(_changed(case, training=not case.config.training, dropout=0.0))


# Cotangents


@_relation("the loss of the output plus that of h_n", lambda config: config.loss == "both", same_masks=True)
def loss_sum(case: Case, run: Run) -> Arrays:
    """Apply the relation ``grad(loss of output + loss of h_n) == grad(loss of output) + grad(loss of h_n)``."""
    by_output, by_h_n = (run(_changed(case, loss=loss)) for loss in ("output", "h_n"))
    return {n: _sum([a, by_h_n[n]]) if n.endswith(".grad") else a for n, a in by_output.items()}


QUARTER: Final = 0.25


def _divisible(case: Case) -> bool:
    with np.errstate(under="ignore"):
        return all(np.array_equal(_scaled(_scaled(a, QUARTER), 1 / QUARTER), a) for a in case.cotangents.values())


def _in_range(case: Case, arrays: Arrays) -> bool:
    """Return whether no operation of the backward pass can have underflowed or overflowed, for one layer of nn.RNN.

    Numbers of p bits that are at least m in size are multiples of 2**-p m. So are their sums, rounded or not, because
    rounding does not make the multiple finer; and products are multiples of the product of the two. A slope 1 - h**2 is
    a multiple of 2**-2p. If every number on the longest path back is a multiple of a normal number, none of them is
    rounded because it is small.

    An overflow would show, because an infinity is never hidden: it ends up in the sums that are the gradients. The
    scaled-down loss overflows only where the original loss does.
    """
    config = case.config
    if (
        config.gated
        or config.num_layers > 1
        or "output" not in arrays
        or not all(np.isfinite(a).all() for a in arrays.values())
    ):
        return False
    bits = 53 if config.plain.dtype == "float64" else 24  # 16-bit products are summed in 24 bits, or in fewer
    weights = min((_grain(a, bits) for n, a in case.weights.items() if n.startswith("weight")), default=0)
    beside = min(_grain(a, bits) for a in (case.x, arrays["output"], case.arrays.get("hx", case.x)))
    readout = _grain(case.weights["readout.weight"], bits) if config.output_size is not None else 0
    slope = -2 * bits if config.nonlinearity == "tanh" else 0
    cotangents = min((_grain(a, bits) for a in case.cotangents.values()), default=0)
    finest = cotangents + math.log2(QUARTER) + readout + config.T * (weights + slope) + min(weights, beside)
    return finest >= math.log2(FORMATS[config.plain.dtype].underflow)


def _grain(array: Array, bits: int) -> float:
    """Return the binary logarithm of a number that divides all numbers of the array; at most 0."""
    with np.errstate(invalid="ignore"):
        sizes = np.abs(array.astype(np.float64))
    smallest = sizes[sizes > 0].min(initial=1.0)
    return math.floor(math.log2(smallest)) - bits


@_relation(
    "a loss a quarter as large, with its gradients times four",
    lambda config: config.loss is not None,
    given=_divisible,
    same_masks=True,
    exact=_in_range,
)
def loss_scale(case: Case, run: Run) -> Arrays:
    """Apply the relation ``grad(loss / 4) * 4 == grad(loss)``, to the bit where nothing underflows or overflows."""
    less = {n: _scaled(a, QUARTER) if n in case.cotangents else a for n, a in case.arrays.items()}
    returned = run(Case.from_arrays(case.config, less))
    with np.errstate(over="ignore"):
        return {n: to_float64(a) / QUARTER if n.endswith(".grad") else a for n, a in returned.items()}


# Helpers


def _random(case: Case) -> Random:
    """Return a generator for a relation's choices: the same for the same case, not the one that chose the relation."""
    return Random(f"relation {case.seed}")


def _another(case: Case, choices: Sequence[Any], than: Any) -> Any:
    return _random(case).choice([choice for choice in choices if choice != than])


def _order(case: Case, count: int) -> list[int]:
    """Return a permutation that is not the identity."""
    order = _random(case).sample(range(count), count)
    return order if order != sorted(order) else order[1:] + order[:1]


def _specs(config: RNNConfig) -> dict[str, ArraySpec]:
    """Return the shape of every input, every output, and every gradient, even of gradients that are not asked for."""
    into = {**config.inputs, **config.weights, **config.outputs}
    return into | {f"{name}.grad": spec for name, spec in into.items()}


def _case(config: RNNConfig, arrays: Arrays) -> Case:
    """Build a case from arrays in any dtype.

    Expanded arrays become contiguous, because after a rearrangement they are not one value any more.
    """
    if config.strides == "expanded":
        config = config.replace(strides="contiguous")
    return Case.from_arrays(config, {name: np.asarray(array, config.dtype) for name, array in arrays.items()})


def _changed(case: Case, **changes: Any) -> Case:
    """Return the same arrays, called in another way."""
    return Case.from_arrays(case.config.replace(**changes), case.arrays)


def _reshaped(arrays: Arrays, specs: Mapping[str, ArraySpec]) -> dict[str, Array]:
    return {name: array.reshape(specs[name].shape) for name, array in arrays.items() if name in specs}


def _scaled(array: Array, by: float) -> Array:
    return np.asarray(array * array.dtype.type(by))


def _sum(arrays: Iterable[Array]) -> Array:
    """Return a sum in float64, which adds no rounding that the dtype would notice."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(sum(to_float64(array) for array in arrays))


def _without(arrays: Arrays, name: str) -> dict[str, Array]:
    return {key: array for key, array in arrays.items() if key != name}


def _taken(config: RNNConfig, arrays: Arrays, axis: str, index: Any) -> dict[str, Array]:
    """Return the arrays with some places taken along every axis that counts ``axis``."""
    specs, taken = _specs(config), dict(arrays)
    for name in taken.keys() & specs.keys():
        for place, counted in enumerate(specs[name].axes):
            if counted == axis:
                taken[name] = taken[name].take(index, place)
    return taken


def _joined(config: RNNConfig, parts: Sequence[Arrays], axis: str) -> dict[str, Array]:
    """Join the arrays of several parts along the axis that counts ``axis``, and add up the arrays without it."""
    joined: dict[str, Array] = {}
    for name in config.returned.keys() & set.intersection(*map(set, parts)):
        axes, arrays = config.returned[name].axes, [part[name] for part in parts]
        joined[name] = np.concatenate(arrays, axes.index(axis)) if axis in axes else _sum(arrays)
    return joined


def _sequences(case: Case, index: Sequence[int]) -> Case:
    """Return some sequences of a batch; if they are packed, without padding that none of them needs."""
    config = case.config
    arrays = _taken(config, case.arrays, "N", index)
    if config.lengths is None:
        return _case(config.replace(N=len(index)), arrays)
    lengths = tuple(config.lengths[n] for n in index)
    falling = config.enforce_sorted and never_rise(tuple(lengths))
    fewer = config.replace(N=len(index), T=max(lengths), lengths=lengths, enforce_sorted=falling)
    return _case(fewer, _taken(config, arrays, "T", range(fewer.T)))


def _sequences_joined(case: Case, run: Run, parts: Sequence[Case]) -> dict[str, Array]:
    """Return the arrays of a batch from those of its parts, each padded to the whole batch's length."""
    specs = _specs(case.config)

    def padded(arrays: Arrays) -> dict[str, Array]:
        filled = dict(arrays)
        for name, array in arrays.items():
            if "T" in specs[name].axes:
                axis = specs[name].axes.index("T")
                shape = (*array.shape[:axis], case.config.T - array.shape[axis], *array.shape[axis + 1 :])
                filled[name] = np.concatenate([array, np.zeros(shape, array.dtype)], axis)
        return filled

    return _joined(case.config, [padded(run(part)) for part in parts], "N")


def _of_layers(config: RNNConfig, num_layers: int) -> RNNConfig:
    return config.replace(num_layers=num_layers, dropout=0.0)  # dropout draws nothing where this is used


def _starts(config: RNNConfig) -> list[str]:
    """Return the names of the gradients by the initial states."""
    return [f"{name}.grad" for name in config.form.hidden]


def _rows(config: RNNConfig, arrays: Arrays, rows: slice) -> dict[str, Array]:
    """Return the arrays with only some rows of the initial states and of the gradients of the final ones."""
    stacked = {*config.form.hidden, *(f"{name}.grad" for name in config.form.final)}
    return {name: array[rows] if name in stacked else array for name, array in arrays.items()}


def _renumbered(name: str, by: int) -> str:
    """Return the name of a parameter (or its gradient) some layers up; a negative layer gives an unused name."""
    return re.sub(r"_l(-?\d+)", lambda match: f"_l{int(match[1]) + by}", name)


def _other_direction(name: str) -> str:
    base, gradient, _ = name.partition(".grad")
    if not base.startswith(("weight", "bias")):
        return name
    return (base.removesuffix("_reverse") if base.endswith("_reverse") else base + "_reverse") + gradient


def _flipped(config: RNNConfig, array: Array) -> Array:
    """Reverse an array in time; packed sequences are reversed within their own lengths."""
    if config.lengths is None:
        return np.flip(array, 1 if config.batched and config.batch_first else 0)
    steps, lengths = np.arange(config.T)[:, None], np.array(config.lengths)
    index = np.where(steps < lengths, lengths - 1 - steps, steps)
    if config.batch_first:
        return np.asarray(array[np.arange(config.N)[:, None], index.T])
    return np.asarray(array[index, np.arange(config.N)])


def _mirrored(config: RNNConfig, arrays: Arrays) -> dict[str, Array]:
    """Return inputs or outputs with time reversed and the directions exchanged. This is its own inverse."""
    specs, mirrored = _specs(config), {}
    for name, array in arrays.items():
        axes = specs[name].axes
        if "T" in axes:
            array = _flipped(config, array)
        for axis in (i for i, counted in enumerate(axes) if counted in BOTH_DIRECTIONS):
            array = np.roll(array, config.h_size, axis)
        if "L*D" in axes:
            array = array[[row ^ 1 for row in range(len(array))]]
        mirrored[_other_direction(name)] = array
    return mirrored


def _first_direction(config: RNNConfig, arrays: Arrays) -> dict[str, Array]:
    """Return the inputs of the forward direction of a single layer."""
    specs = _specs(config)
    forward = {name: array for name, array in arrays.items() if "_reverse" not in name}
    for name, array in forward.items():
        if "L*D" in specs[name].axes:
            forward[name] = array[:1]
        if {*BOTH_DIRECTIONS} & {*specs[name].axes}:
            forward[name] = array[..., : config.h_size]
    return forward


def _reordered(config: RNNConfig, arrays: Arrays, order: Any) -> dict[str, Array]:
    """Return inputs or outputs with the units of every layer in another order."""
    H, index = config.hidden_size, np.asarray(order)
    features, rows = (
        (index + H * np.arange(n)[:, None]).ravel() for n in (config.num_directions, len(config.form.gates))
    )
    return _taken(config, _taken(config, _taken(config, arrays, "H", index), "D*H", features), "G*H", rows)
