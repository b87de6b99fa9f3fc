"""numpy_back_reading: how the way back of NumPy code is called, and which gradients it gives, told by runs.

An argument of it is the gradient by a part of what the forward call returned, or such a part itself, as a cache is, or
an argument of that call. Of all ways to call it, the one counts that gives most gradients, which are linear in those
that it is given. What they are of is told by names, or by a shape that nothing else has, with all sizes different, and
of two states also by a run.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice, product
from typing import Any, Final, NamedTuple

import numpy as np

from harness.space.case import Array
from harness.subjects.numpy_back import (
    GRADIENT,
    RETURNED,
    RETURNED_PATH,
    TAKEN,
    X_NUMBER,
    ZERO,
    ArgumentSource,
    BackwardCall,
    BackwardFunction,
    GradientPlaces,
    NumpyBackward,
    NumpyCall,
    Path,
    Paths,
    Stack,
    each_array,
    in_form,
    stacked_arrays,
)

# What the names of methods begin with that go back.
BACKWARD_METHODS: Final = ("backward", "bprop", "backprop", "backpropagate", "backpropagation", "bptt", "bwd")
# A function that goes forward has a word in its name, and the one that goes back another.
FORWARD_WORDS: Final = {"forward": "backward", "fwd": "bwd", "fprop": "bprop"}

_SAVED: Final = re.compile("(?i)cache|ctx|tape|saved|history|memory|trace")
_MARK: Final = re.compile(r"(?i)^(grads?|gradients?|delta|d|g)_?(?=.)|_?(grads?|gradients?|d)$")
_HOLDS: Final = {"grad", "grads", "gradient", "gradients"}  # the names of what holds gradients alone

# The names of arguments that may be the gradient of a final state.
_OF_FINAL: Final = re.compile(
    r"(?i)^(grads?|gradients?|delta|d|g)_?(h|c|a|s|state|hidden|cell)_?(n|t|last|final|next)?$"
)

# The names of x, and of each state before the first step, plain and without a mark.
OF_X: Final = {"x", "xs", "input", "inputs", "seq"}
OF_STATES: Final = (
    {f"{h}{end}" for h in ("h", "a", "s") for end in ("0", "x", "prev", "init", "next")},
    {f"c{end}" for end in ("0", "x", "prev", "init", "next")},
)

# The most calls of one function that are tried, the likeliest first: all of three arguments, each of ten kinds.
MOST_CALLS: Final = 1000

# Ten times what sums over 4 steps of fewer than 40 terms each may be off by in float32, some 160 u.
NEAR: Final = 1e-4

Masks = Mapping[str, Sequence[Array]]
"""By the name of a result, on which elements of what a call returned it depends, array by array."""


class _UnfitCallError(Exception):
    """Raised for a call with arguments of which it makes nothing."""


class BackwardTrial(NamedTuple):
    """A forward call of a stack, on which its way back is tried."""

    call: NumpyCall
    masks: Masks
    needed: frozenset[str]  # the names of the parameters that are compared
    stack: Stack
    of_zeros: NumpyCall | None = None  # the same call with all parameters zero, if it has two states
    of_large: NumpyCall | None = None  # the same with a c whose tanh is one, if it has two states
    longer: "BackwardTrial | None" = None  # a call of more steps than sequences and units

    @property
    def states(self) -> tuple[str, ...]:
        """The numbers of the arguments that are states."""
        return tuple(name for name in self.call.targets if name.isdigit() and name != X_NUMBER)


class BackwardReading(NamedTuple):
    """What is known of a way back, and what it offers that is not, with the reasons."""

    back: NumpyBackward | None = None
    not_compared: Mapping[str, str] = {}

    @property
    def gaps(self) -> dict[str, str]:
        """What of its gradients is not compared, in a line, as a ``ClassForm`` has it."""
        lines = [why if what == "gradients" else f"{what}: {why}" for what, why in self.not_compared.items()]
        return {"loss": "; ".join(lines)} if lines else {}


def read_backward(
    trials: Sequence[BackwardTrial], finals: Sequence[str], function: Any = None, *, is_cell: bool = False
) -> BackwardReading:
    """Return what is known of the way back of an object, or of a function, by calls of it, that of a plain layer first.

    Some gradient must be there; of a cell, those by its states, by which its steps hang together.
    """
    refused: BackwardReading | None = None
    for call in calls_back(trials[0].call.holder, function):
        way = _likeliest(call, trials[0])
        if way is None:
            if _is_refused(call, trials[0]):
                continue
            why = "no call of it with gradients by what is compared gives gradients by x, states or parameters"
            refused = refused or BackwardReading(not_compared={"gradients": f"its {call.words} is not read: {why}"})
            continue
        if is_cell and (lacks := _steps_apart(way, finals)):
            refused = refused or BackwardReading(not_compared={"gradients": f"its {call.words} is not read: {lacks}"})
            continue
        return _read_stacks(way, trials, finals)
    return refused or BackwardReading()


def _steps_apart(way: "_Way", finals: Sequence[str]) -> str:
    """Say why the steps of a cell do not hang together; nothing if they do."""
    if lacks := [name for name in finals if name not in way.covered]:
        return f"it takes no gradient of {lacks[0]}, which the next step has"
    return (
        "" if {*way.trial.states} <= {*way.sources} else "nothing that it gives is known to be the gradient by a state"
    )


def _read_stacks(way: "_Way", trials: Sequence[BackwardTrial], finals: Sequence[str]) -> BackwardReading:
    """Return what is known of a way back from each stack."""
    losses = [loss for loss, reads in (("output", {"output"}), ("h_n", {*finals})) if reads <= way.covered]
    losses += ["both"] * (len(losses) == 2)
    places: dict[tuple[Stack, bool], GradientPlaces] = {}
    not_compared: dict[str, str] = {}
    for trial in trials:
        here = replace(way, trial=trial)
        with suppress(_UnfitCallError), np.errstate(all="ignore"):
            if here.sources:
                places[trial.stack, bool(trial.states)] = GradientPlaces(frozenset(trial.call.targets), here.sources)
                words = {X_NUMBER: "x", **dict.fromkeys(trial.states, "hx")}
                back = way.call.function.name
                for name, why in here.unclear.items():
                    not_compared[f"gradients by {words.get(name, name)}"] = why.format(back)
                for name in here.without_effect:
                    not_compared[f"{name} of {back}"] = "no gradient of a final state has an effect there"
                continue
        (layers, directions), hx = trial.stack, bool(trial.states)
        where = f"num_layers={layers}, bidirectional={directions > 1}, hx={hx}"
        not_compared[f"gradients where {where}"] = f"{way.call.function.name} gives none that are known there"
    return BackwardReading(NumpyBackward(way.call, (None, *losses), places), not_compared)


def calls_back(holder: Any, function: Any = None) -> Iterator[BackwardFunction]:
    """Yield what may go back: methods of an object, or functions beside the one that goes forward."""
    own = [name for name in dir(holder) if not name.startswith("_")] if holder is not None else []
    exact = [name for name in BACKWARD_METHODS if name in own]
    begun = [name for name in own if name not in exact and name.startswith(tuple(f"{m}_" for m in BACKWARD_METHODS))]
    for name in (*exact, *begun):
        if callable(method := getattr(holder, name, None)):
            yield BackwardFunction(name, method.__func__ if inspect.ismethod(method) else method, True)
    beside, own_name = getattr(function, "__globals__", {}), getattr(function, "__name__", "")
    for word, opposite in FORWARD_WORDS.items():
        if word in own_name and callable(back := beside.get(name := own_name.replace(word, opposite))):
            yield BackwardFunction(name, back, False)


def _likeliest(call: BackwardFunction, trial: BackwardTrial) -> "_Way | None":
    """Return the way to call a function that gives most gradients, the first of several; ``None`` if none gives any."""
    best: _Way | None = None
    for given in _ways_to_call(call, trial):
        way = _Way(BackwardCall(call, given), trial)
        with suppress(_UnfitCallError), np.errstate(all="ignore"):
            if way.number > (0 if best is None else best.number) and way.counts:
                best = way
                if {X_NUMBER, *trial.states, *trial.needed} <= {*way.sources}:
                    break
    if best is None:
        return None
    best = best.in_order
    for name, result in product(call.optional, trial.masks):
        if name not in best.call.given and result not in best.covered:
            for source in _gradients_of(trial, result):
                more = replace(best, call=replace(best.call, given={**best.call.given, name: source}))
                with suppress(_UnfitCallError), np.errstate(all="ignore"):
                    if more.adds(name, best):
                        best = more
                        break
    return best.in_order


def _is_refused(call: BackwardFunction, trial: BackwardTrial) -> bool:
    """Tell whether a function, no call of which gives gradients, raises ``NotImplementedError``."""
    for given in _ways_to_call(call, trial):
        try:
            if _Way(BackwardCall(call, given), trial).number:
                return False
        except _UnfitCallError as error:
            if isinstance(error.__cause__, NotImplementedError):
                return True
    return False


def _ways_to_call(call: BackwardFunction, trial: BackwardTrial) -> Iterator[dict[str, ArgumentSource]]:
    """Yield what the arguments of a function may be, the likeliest first, each result's gradient at most once."""
    of = [source for result in trial.masks for source in _gradients_of(trial, result)]
    of += [source for source in _gradients_of_several(trial) if source not in of]
    of = list(dict.fromkeys(of))
    returned = trial.call.returned
    several = isinstance(returned, tuple | list) and len(returned) > 1
    saved = [ArgumentSource(RETURNED, (-1,))] * several + [ArgumentSource(RETURNED, ())]
    saved += [ArgumentSource(RETURNED, (k,)) for k in range(len(returned) - 1)] if several else []
    saved += [ArgumentSource(TAKEN, (k,)) for k in range(len(trial.call.arguments))]
    # Where no final state is returned, its gradient is zero.
    saved += [source._replace(origin=ZERO) for result in trial.masks for source in _gradients_of(trial, result)]
    choices = [[*saved, *of] if _SAVED.search(name) else [*of, *saved] for name in call.needed]
    every = chain.from_iterable(_of_rank(choices, rank) for rank in range(sum(map(len, choices))))
    for sources in islice(every, MOST_CALLS):
        if _are_apart([source for source in sources if source.origin == GRADIENT], trial):
            yield dict(zip(call.needed, sources, strict=True))


def _of_rank(choices: Sequence[Sequence[ArgumentSource]], rank: int) -> Iterator[list[ArgumentSource]]:
    """Yield one of each of several choices, whose places in these have a sum."""
    if not choices:
        yield from [[]] * (rank == 0)
        return
    first, *others = choices
    for place in range(min(rank + 1, len(first))):
        yield from ([first[place], *rest] for rest in _of_rank(others, rank - place))


def _are_apart(sources: Sequence[ArgumentSource], trial: BackwardTrial) -> bool:
    """Tell whether there are gradients, and none is given twice."""
    given = [np.concatenate([mask.ravel() for mask in _marked(source, trial)]) for source in sources]
    return bool(given) and np.sum(given, 0).max() < 2


def _gradients_of(trial: BackwardTrial, result: str) -> Iterator[ArgumentSource]:
    """Yield the parts of what a call returned on which a result depends, as a list first where it is a list."""
    needs = {k for k, mask in enumerate(trial.masks[result]) if mask.any()}
    for path, leaves, node in _nodes(trial):
        if leaves != needs:
            continue
        if isinstance(node, np.ndarray):
            [mask] = [trial.masks[result][k] for k in needs]
            if mask.all():
                yield ArgumentSource(GRADIENT, path)
            for axis in range(mask.ndim):
                if mask.take(-1, axis).all() and mask.sum() == mask.take(-1, axis).size < mask.size:
                    yield ArgumentSource(GRADIENT, path, axis=axis)
        else:
            yield ArgumentSource(GRADIENT, path)
            parts = [*node.values()] if isinstance(node, Mapping) else node
            if not isinstance(node, Mapping) and len({getattr(part, "shape", None) for part in parts} - {None}) == 1:
                yield ArgumentSource(GRADIENT, path, stacked=True)


def _gradients_of_several(trial: BackwardTrial) -> Iterator[ArgumentSource]:
    """Yield the parts of what a call returned in which several results are beside each other."""
    results = {k for masks in trial.masks.values() for k, mask in enumerate(masks) if mask.any()}
    for path, leaves, node in _nodes(trial):
        if leaves and leaves <= results and not isinstance(node, np.ndarray):
            yield ArgumentSource(GRADIENT, path)


def _nodes(trial: BackwardTrial) -> Iterator[tuple[tuple[Any, ...], set[int], Any]]:
    """Yield the parts of what a call returned, each before its own, with their paths and the numbers of their arrays.

    The last of several has the number -1, so that it is the last step of another number of steps.
    """
    numbers = iter(range(len([*each_array(trial.call.returned)])))

    def walked(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], set[int], Any]]:
        parts: list[tuple[Any, Any]] = [*node.items()] if isinstance(node, Mapping) else []
        if isinstance(node, list | tuple):
            parts = [(k if k < len(node) - 1 else -1, part) for k, part in enumerate(node)]
        elif not isinstance(node, Mapping):
            yield path, ({next(numbers)} if node is not None else set()), node
            return
        below = [found for key, part in parts for found in walked(part, (*path, key))]
        own = {number for below_path, leaves, _ in below if len(below_path) == len(path) + 1 for number in leaves}
        yield path, own, node
        yield from below

    return walked(trial.call.returned, ())


def _marked(source: ArgumentSource, trial: BackwardTrial) -> list[Array]:
    """Return of which elements that a call returned an argument is the gradient, array by array."""
    marks = [np.zeros(np.shape(array), bool) for array in each_array(trial.call.returned)]
    tree = in_form(trial.call.returned, iter(marks))
    try:
        for key in source.path:
            tree = tree[key]
        for mark in each_array(tree):
            (mark if source.axis is None else mark.swapaxes(0, source.axis)[-1])[...] = True
    except (LookupError, TypeError, ValueError) as error:  # another stack returns something else
        raise _UnfitCallError from error
    return marks


@dataclass(frozen=True)
class _Way:
    """A way to call what goes back, after a forward call."""

    call: BackwardCall
    trial: BackwardTrial

    @cached_property
    def sources(self) -> dict[str, Path]:
        """The paths of the gradients that it gives, by what they are of."""
        targets, linear = self.trial.call.targets, self._linear(self.random())
        sources = _sources(targets, linear)
        if self.trial.of_zeros is not None:
            of_zeros = replace(self, trial=self.trial._replace(call=self.trial.of_zeros))
            sources |= _two_states(targets, sources, linear, of_zeros.made(self.random()))
        return sources

    @property
    def unclear(self) -> dict[str, str]:
        """What it may give gradients by that are not known, and why."""
        sources, targets, linear = self.sources, self.trial.call.targets, self._linear(self.random())
        free = {path: array for path, array in self.made(self.random()).items() if path not in sources.values()}
        reasons: dict[str, str] = {}
        for name, (path, array) in product(
            {X_NUMBER, *self.trial.states, *self.trial.needed} - {*sources}, free.items()
        ):
            own = path == (*name.split("."),)  # which it changes, as a step of an optimiser does
            if (
                array.shape == targets[name].shape
                and array.any()
                and (_is_given(path) or _fits(name, path))
                and not own
            ):
                many = "names and shapes do not tell which of what {} gives they are"
                reasons[name] = many if path in linear else "what {} gives is not linear in the gradients that it takes"
        return reasons

    @property
    def without_effect(self) -> list[str]:
        """The arguments by whose names it takes the gradient of a state, and which have no effect."""
        given = {name: source for name, source in self.call.given.items() if source.origin == GRADIENT}
        every = (*self.call.function.needed, *self.call.function.optional)
        missing = {*self.trial.masks} - self.covered
        return [name for name in every if name not in given and _OF_FINAL.match(name)] if missing else []

    @cached_property
    def covered(self) -> set[str]:
        """The results whose whole gradients it is given."""
        given = [_marked(source, self.trial) for source in self._gradients.values()]
        every = [np.logical_or.reduce(marks) for marks in zip(*given, strict=True)]
        return {
            name
            for name, masks in self.trial.masks.items()
            if all(not (mask & ~has).any() for mask, has in zip(masks, every, strict=True))
        }

    @cached_property
    def number(self) -> int:
        """The number of gradients that it gives, but for zeros."""
        made = self.made(self.random())
        return sum(bool(made[path].any()) for path in self.sources.values())

    @property
    def counts(self) -> bool:
        """True if each gradient that it is given has an effect, and steps are not taken from the gradient of one.

        One that is zero must have an effect where it is not, and all must be linear in that, too.
        """
        sources = self.sources
        if not all(self._effect(name, sources) for name in self._gradients):
            return False
        for name, source in self.call.given.items():
            if source.origin == ZERO:
                given = {**self.call.given, name: source._replace(origin=GRADIENT)}
                other = replace(self, call=replace(self.call, given=given))
                zero, made = self.made(self.random()), other.made(self.random())
                if not {*other.sources} >= {*sources} or all(_near(zero[p], made.get(p)) for p in sources.values()):
                    return False
        longer = self.trial.longer
        if "output" in self.covered or longer is None:
            return True
        return {*replace(self, trial=longer).sources} >= {*sources} - {*self.trial.states}  # of two, other runs tell

    @property
    def in_order(self) -> "_Way":
        """The same, with the gradients by h and c exchanged if a run tells that.

        Where c is large, tanh(c) does not depend on it, and the gradient by the c before it is that by c alone.
        """
        alone = {"h_n": "", "c_n": ""}
        for name, source in self._gradients.items():
            marks = _marked(source, self.trial)
            for result in alone:
                masks = self.trial.masks.get(result, ())
                if masks and all(np.array_equal(mark, mask) for mark, mask in zip(marks, masks, strict=True)):
                    alone[result] = name
        of_h, of_c = alone.values()
        states, call = self.trial.states, self.trial.of_large
        path = self.sources.get(states[1]) if len(states) == len(alone) else None
        if not (of_h and of_c) or call is None or path is None:
            return self
        given, large = self.call.given, replace(self, trial=self.trial._replace(call=call))
        with suppress(_UnfitCallError), np.errstate(all="ignore"):
            by_h, by_c = (np.abs(large.made(large.random(name)).get(path, 0)).max() for name in (of_h, of_c))
            if by_c < NEAR * by_h:
                turned = {**given, of_h: given[of_c], of_c: given[of_h]}
                return replace(self, call=replace(self.call, given=turned))
        return self

    def adds(self, name: str, before: "_Way") -> bool:
        """Tell whether one more gradient has an effect, none if it is zero, and gives all that was given before."""
        sources, others = self.sources, [other for other in self._gradients if other != name]
        if not before.sources.items() <= sources.items() or not self._effect(name, sources):
            return False
        without, zero = before.made(before.random()), self.made(self.random(*others))
        return all(_near(without[path], zero.get(path)) for path in before.sources.values())

    @property
    def _gradients(self) -> dict[str, ArgumentSource]:
        return {name: source for name, source in self.call.given.items() if source.origin == GRADIENT}

    def _effect(self, name: str, sources: Mapping[str, Path]) -> bool:
        made = self.made(self.random(name))
        return any(path in made and made[path].any() for path in sources.values())

    def random(self, *names: str) -> list[Array]:
        """Return random gradients by what the call returned, those that some arguments are given, or all.

        They are small, so that a gradient that is clipped is linear, too.
        """
        generator, dtype = np.random.default_rng(0), next(each_array(self.trial.call.arguments)).dtype
        shapes = [np.shape(array) for array in each_array(self.trial.call.returned)]
        drawn = [0.01 * generator.normal(size=shape).astype(dtype) for shape in shapes]
        given = [_marked(self._gradients[name], self.trial) for name in names or self._gradients]
        every = [np.logical_or.reduce(marks) for marks in zip(*given, strict=True)]
        return [array * mark for array, mark in zip(drawn, every, strict=True)]

    def made(self, of_returned: Sequence[Array]) -> Paths:
        """Return the arrays that it returns, and those that it changes in the object, by their paths."""
        try:
            returned, held = self.call.made(self.trial.call, of_returned)
        except Exception as error:  # whatever the user's code raises for arguments that are others
            raise _UnfitCallError from error
        before = stacked_arrays(self.trial.call.holder)
        new = {
            path: array for path, array in held.items() if path not in before or not np.array_equal(array, before[path])
        }
        return {**returned, **new}

    def _linear(self, of_returned: Sequence[Array]) -> Paths:
        """Return what it gives that is linear in the gradients that it is given."""
        made, twice = (self.made([factor * array for array in of_returned]) for factor in (1, 2))
        return {
            path: array
            for path, array in made.items()
            if path in twice and np.allclose(twice[path], 2 * array, NEAR, NEAR * np.abs(array).max(initial=0))
        }


def _near(array: Array, other: Array | None) -> bool:
    return other is not None and array.shape == other.shape and np.allclose(array, other, NEAR, 0)


def _sources(targets: Mapping[str, Array], made: Mapping[Path, Array]) -> dict[str, Path]:
    """Return the paths of gradients by what they are of: those of its name, or the only one of its shape."""
    alike = {name: [path for path, g in made.items() if g.shape == array.shape] for name, array in targets.items()}
    chosen = {name: path for name, paths in alike.items() if (path := _named(name, paths)) is not None}
    if all(
        _same_numbers(name, path) for name, path in chosen.items() if not name.isdigit()
    ):  # the first layer comes first
        of_layers = {name: [path for path in paths if _same_numbers(name, path)] for name, paths in alike.items()}
        more = {name: path for name, paths in of_layers.items() if (path := _named(name, paths)) is not None}
        chosen = {**more, **chosen}
    chosen |= _in_lists([name for name in targets if name.isdigit() and name != X_NUMBER and name not in chosen], alike)
    for name, array in targets.items():
        same = [own for own, target in targets.items() if target.shape == array.shape and own not in chosen]
        free = [path for path in alike[name] if path not in chosen.values()]
        free = [path for path in free if path[0] == RETURNED_PATH] or [path for path in free if _is_given(path)]
        if same == [name] and len(free) == 1:
            chosen[name] = free[0]
    return chosen


def _is_given(path: Path) -> bool:
    """Tell whether an array is returned, or in what holds gradients alone."""
    return path[0] == RETURNED_PATH or bool({part.lower().strip("_") for part in path[:-1]} & _HOLDS)


def _two_states(
    targets: Mapping[str, Array],
    sources: Mapping[str, Path],
    made: Mapping[Path, Array],
    of_zeros: Mapping[Path, Array],
) -> dict[str, Path]:
    """Return the paths of the gradients by h and c, if nothing else of their shape is returned, by a run.

    Where all parameters are zero, so that no gate reads h, the gradient by h is zero, and that by c is not.
    """
    states = [name for name in targets if name.isdigit() and name != X_NUMBER]
    shapes = {targets[name].shape for name in states}
    free = [path for path, g in made.items() if path[0] == RETURNED_PATH and g.shape in shapes]
    if len(states) != 2 or len(shapes) > 1 or len(free) != 2 or {*states, *free} & {*sources, *sources.values()}:
        return {}
    of_h, of_c = sorted(free, key=lambda path: bool(of_zeros[path].any()))
    told = not of_zeros[of_h].any() and of_zeros[of_c].any()
    return dict(zip(states, (of_h, of_c), strict=True)) if told else {}


def _same_numbers(name: str, path: Path) -> bool:
    """Tell whether the numbers in a parameter's name, such as that of its layer, are the last ones of a path."""
    own, numbers = ([part for part in parts if part.isdigit()] for parts in (name.split("."), path))
    return not own or numbers[-len(own) :] == own


def _in_lists(states: Sequence[str], alike: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Return the places of gradients by all states, if as many arrays of their shape are returned in lists."""
    shaped = [path for path in alike[states[0]] if path[0] == RETURNED_PATH and len(path) > 2] if states else []
    in_lists = [path for path in shaped if path[-1].isdigit()]
    return dict(zip(states, in_lists, strict=True)) if len(in_lists) == len(states) else {}


def _named(name: str, paths: Sequence[Path]) -> Path | None:
    """Return the path whose last part is a name with a mark of gradients; ``None`` if there is none, or several.

    What is in a list of the same name comes first, then what is returned, then the shortest path, then that which has
    most in common with the name's own.
    """
    own, rank = tuple(name.split(".")), dict[Path, tuple[bool, bool, int, int]]()
    for path in paths:
        if _fits(name, path):
            common = next(
                (k for k, parts in enumerate(zip(own, path, strict=False)) if parts[0] != parts[1]), len(path)
            )
            listed = own[-1].isdigit() and len(own) > 1 < len(path) and _fits(own[-2], path[:-1])
            rank[path] = (not listed, path[0] != RETURNED_PATH, len(path), -common)
    best = [path for path, place in rank.items() if place == min(rank.values())]
    return best[0] if len(best) == 1 else None


def _fits(name: str, path: Path) -> bool:
    """Tell whether the last part of a path is a name with a mark of gradients, as ``W.grad`` beside ``W.data`` is."""
    *holder, last = name.split(".")
    own = {_plain(last)}
    if name.isdigit():
        own = OF_X if name == X_NUMBER else dict(enumerate(OF_STATES, 1)).get(int(name), set())
    beside = bool(holder) and (*holder,) == path[:-1] and path[-1] in _HOLDS
    return beside or bool({_plain(_MARK.sub("", path[-1])), _plain(path[-1])} & own)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
