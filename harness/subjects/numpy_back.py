"""numpy_back: the way back of NumPy code, a method ``backward`` or a function beside the forward one, for autograd.

What it takes beside the gradient of the output is told by names. What it gives, returned or held by the object, is told
by names, or by a shape that nothing else has, with all sizes different, and of two states also by a run; and as a
gradient is, it is linear in what it takes. Where these do not tell, no gradient is compared.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from harness.space.case import Array
from harness.space.config import RNNConfig
from harness.subjects.axes import mapped
from harness.subjects.numpy_arrays import arrays_of, to_numpy, to_torch

# The names of methods that go back.
BACKWARD_METHODS: Final = ("backward", "bprop", "backprop", "backward_pass", "bptt", "bwd")
# A function that goes forward has a word in its name, and the one that goes back another.
FORWARD_WORDS: Final = {"forward": "backward", "fwd": "bwd", "fprop": "bprop"}

_SAVED: Final = re.compile("(?i)cache|ctx|tape|saved|history|memory|trace")
_MARK: Final = re.compile(r"(?i)^(grads?|gradients?|delta|d|g)_?(?=.)|_?(grads?|gradients?|d)$")
_HOLDS: Final = {"grad", "grads", "gradient", "gradients"}  # the names of what holds gradients alone

# The names of x, and of each state before the first step, plain and without a mark.
OF_X: Final = {"x", "xs", "input", "inputs", "seq"}
OF_STATES: Final = (
    {f"{h}{end}" for h in ("h", "a", "s") for end in ("0", "x", "prev", "init", "next")},
    {f"c{end}" for end in ("0", "x", "prev", "init", "next")},
)

RETURNED_PATH: Final = "returned"  # the first part of the path of what is returned
X_NUMBER: Final = "0"  # the number of x among the arguments

NO_ARGUMENTS: Final[Mapping[str, Any]] = {}

Path = tuple[str, ...]


class NumpyCall(NamedTuple):
    """A call: the object that was called, if there is one, its arguments, its parameters, and what it returned."""

    holder: Any
    arguments: tuple[Any, ...]
    parameters: Mapping[str, Array]
    returned: Any


@dataclass(frozen=True)
class BackwardFunction:
    """A method of an object, or a function, that may go back."""

    name: str
    function: Any
    is_method: bool

    def __call__(self, run: NumpyCall, of_output: Array) -> Any:
        """Return what it returns, a tuple by the names in its one return statement. Raise ``LookupError``."""
        parameters = [*inspect.signature(self.function).parameters.values()][self.is_method :]
        [_, *rest] = [arg.name for arg in parameters if arg.default is arg.empty]
        if len(rest) > 1 or not all(_SAVED.search(name) for name in rest):
            raise LookupError(f"{self.name} takes {', '.join(rest)}")
        saved = run.returned[-1] if isinstance(run.returned, tuple | list) else run.returned
        call = getattr(run.holder, self.name) if self.is_method else self.function
        returned = call(of_output, *([saved] * len(rest)))
        parts = [*_named_parts(self._return, returned)] if isinstance(self._return, ast.Tuple) else []
        distinct = len({name for name, _ in parts} - {""}) == len(parts)
        return dict(parts) if distinct and parts else returned

    @cached_property
    def _return(self) -> ast.expr | None:
        """The expression of its return statement, if there is one such statement alone."""
        with suppress(OSError, TypeError, SyntaxError):
            nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(self.function))))
            returns = [node.value for node in nodes if isinstance(node, ast.Return)]
            return returns[0] if len(returns) == 1 else None
        return None


def _named_parts(node: ast.expr | None, returned: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is returned by the names in the return statement, if it has some, tuples in tuples included."""
    if isinstance(node, ast.Tuple) and isinstance(returned, tuple) and len(returned) == len(node.elts):
        for element, part in zip(node.elts, returned, strict=True):
            yield from _named_parts(element, part)
    else:
        yield getattr(node, "id", getattr(node, "attr", "")), returned


Stack = tuple[int, int]  # A number of layers, and of directions


class BackwardRequest(NamedTuple):
    """A call of a stack, and the names of the parameters whose gradients must be there."""

    call: NumpyCall
    stack: Stack
    needed: frozenset[str]
    of_zeros: NumpyCall | None = None  # the same call with all parameters zero, if it has two states


class GradientPlaces(NamedTuple):
    """The paths of the gradients that a way back gives, after a call with some parameters and other arguments."""

    targets: frozenset[str]  # the names of the parameters, and the numbers of the other arguments
    sources: Mapping[str, Path]  # by these
    of_weights: bool  # it gives those by all parameters
    of_states: bool  # it gives those by all states


@dataclass(frozen=True)
class NumpyBackward:
    """The way back of a class or function."""

    call: BackwardFunction
    place: int  # of the array, among those that a call returned, whose gradient it takes
    of_last: bool  # that array is the last state alone
    given: Mapping[tuple[Stack, bool], GradientPlaces]  # by the stack, and whether it is given states

    @property
    def losses(self) -> tuple[str | None, ...]:
        """The losses that it takes the gradient of."""
        return None, "h_n" if self.of_last else "output"

    def lacks(self, config: RNNConfig) -> str:
        """Say which gradients of a config it does not give; nothing if it gives all."""
        stack = config.num_layers, config.num_directions
        if (places := self.given.get((stack, config.hx))) is None:
            what = ("num_layers", "bidirectional", "hx")
            return f"anything where {', '.join(f'{name}={getattr(config, name)}' for name in what)}"
        lacking = [("x", config.wrt != "weights" and X_NUMBER not in places.sources)]
        lacking.append(("hx", config.wrt != "weights" and config.hx and not places.of_states))
        lacking.append(("the weights", config.wrt != "inputs" and not places.of_weights))
        return " and ".join(name for name, does in lacking if does)

    def gradients(self, run: NumpyCall, of_output: Array) -> dict[str, Array]:
        """Return the gradients by what they are of. Raise ``ValueError`` for one of another shape."""
        run = deepcopy(run)  # it may be asked twice
        made = {**arrays_of({RETURNED_PATH: self.call(run, of_output)})}
        made = {**arrays_of(run.holder), **made}
        targets = _targets(run)
        sources = next(places.sources for places in self.given.values() if places.targets == targets.keys())
        gradients = {name: made[path] for name, path in sources.items() if path in made}
        for name, array in gradients.items():
            if array.shape != targets[name].shape:
                which = f"argument {name}" if name.isdigit() else name
                shape = targets[name].shape
                raise ValueError(
                    f"{self.call.name} gives a gradient of shape {array.shape} by {which}, of shape {shape}"
                )
        return gradients


def in_numpy(more: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that are given by name, with arrays for tensors: they have no axes of x to be turned."""
    return {name: arg.numpy() if isinstance(arg, torch.Tensor) else arg for name, arg in more.items()}


def called(
    run: Callable[[Any, dict[str, Any]], tuple[Any, Any]],
    arguments: tuple[Any, ...],
    parameters: Mapping[str, torch.Tensor],
    order: str,
    back: NumpyBackward | None,
) -> Any:
    """Return what a call in NumPy returns, as tensors that know its own way back, if it has one.

    ``run`` takes arguments and parameters as arrays, and returns the object that was called and what it returned.
    """
    if back is None or not torch.is_grad_enabled():
        with torch.no_grad():
            return to_torch(run(to_numpy(arguments, order), to_numpy(dict(parameters)))[1], order)
    structure = list[Any]()

    def forward(tensors: Sequence[torch.Tensor]) -> tuple[NumpyCall, list[torch.Tensor]]:
        rest = iter(tensors)
        arrays = to_numpy(mapped(arguments, lambda _: next(rest)), order)
        own = to_numpy(dict(zip(parameters, rest, strict=True)))
        holder, returned = run(arrays, own)
        structure.append(to_torch(returned, order))
        return NumpyCall(holder, arrays, own, returned), [tensor.clone() for tensor in _tensors(structure[0])]

    def backward(made: NumpyCall, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        arrays = back.gradients(made, to_numpy(gradients[back.place], order))
        tensors = {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}
        of_arguments = [arrays[number] if (number := str(i)) in arrays else None for i in range(len(flat))]
        turned = [None if array is None else to_torch(np.asarray(array), order) for array in of_arguments]
        return [*turned, *(tensors.get(name) for name in parameters)]

    flat = [*_tensors(arguments)]
    results = iter(_Differentiable.apply(forward, backward, *flat, *parameters.values()))  # type: ignore[no-untyped-call]
    return mapped(structure[0], lambda _: next(results))


class _Differentiable(torch.autograd.Function):
    """A call in NumPy, and its own way back."""

    @staticmethod
    def forward(ctx: Any, forward: Any, backward: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.run, outputs = forward([tensor.detach() for tensor in tensors])
        ctx.back = backward
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        return None, None, *ctx.back(ctx.run, gradients)


def way_back_of(runs: Sequence[BackwardRequest], sizes: tuple[int, int], function: Any = None) -> NumpyBackward | None:
    """Return the way back of an object, or of a function, by calls with these input_size and hidden_size.

    They are with states and without, as it can be called, the first of a plain layer. The gradients by the parameters
    that are needed, or that by x, must be there. The result is ``None`` where names and shapes do not tell that.
    """
    first = runs[0].call
    x, arrays = first.arguments[0], [np.asarray(array) for array in _arrays(first.returned)]
    every = tuple(sizes[1] if size == sizes[0] else size for size in x.shape)
    place = next((k for k, a in enumerate(arrays) if a.shape == every), None)
    of_last = place is None
    if place is None:
        place = next((k for k, a in enumerate(arrays) if a.ndim == x.ndim - 1 and sizes[1] in a.shape), None)
    if place is None:
        return None
    for call in calls_back(first.holder, function):
        by_stack: dict[tuple[Stack, bool], GradientPlaces] = {}
        for run, stack, needed, of_zeros in runs:
            with suppress(Exception), np.errstate(all="ignore"):
                shape = np.shape([*_arrays(run.returned)][place])
                # Small, so that a gradient that is clipped is linear, too.
                of_output = 0.01 * np.random.default_rng(0).normal(size=shape).astype(x.dtype)
                targets = _targets(run)
                made = _linear(call, run, of_output)
                sources = _sources(targets, made)
                if of_zeros is not None:
                    sources |= _two_states(targets, sources, made, _made(call, of_zeros, of_output))
                states = {name for name in targets if name.isdigit()} - {X_NUMBER}
                places = GradientPlaces(frozenset(targets), sources, needed <= {*sources}, states <= {*sources})
                if places.of_weights or X_NUMBER in sources:
                    by_stack[stack, bool(states)] = places
            if not by_stack:
                break  # what is not known of a plain layer is not known of a stack
        if by_stack:
            return NumpyBackward(call, place, of_last, by_stack)
    return None


def calls_back(holder: Any, function: Any = None) -> Iterator[BackwardFunction]:
    """Yield what may go back: methods of an object, or functions beside the one that goes forward."""
    for name in BACKWARD_METHODS:
        if callable(method := getattr(holder, name, None)):
            yield BackwardFunction(name, method.__func__ if inspect.ismethod(method) else method, True)
    beside, own = getattr(function, "__globals__", {}), getattr(function, "__name__", "")
    for word, opposite in FORWARD_WORDS.items():
        if word in own and callable(back := beside.get(name := own.replace(word, opposite))):
            yield BackwardFunction(name, back, False)


def _targets(run: NumpyCall) -> dict[str, Array]:
    """Return what there may be gradients by: parameters by their names, and arguments by their numbers."""
    return {**run.parameters, **{str(i): array for i, array in enumerate(_arrays(run.arguments))}}


def _linear(call: BackwardFunction, run: NumpyCall, of_output: Array) -> dict[Path, Array]:
    """Return what a way back returns or changes that is linear in what it is given, by its paths."""
    made, twice = (_made(call, run, factor * of_output) for factor in (1, 2))
    # Ten times what sums over 4 steps of fewer than 40 terms each may be off by in float32, some 160 u.
    near = 1e-4
    return {
        path: array
        for path, array in made.items()
        if path in twice and np.allclose(twice[path], 2 * array, near, near * np.abs(array).max(initial=0))
    }


def _made(call: BackwardFunction, run: NumpyCall, of_output: Array) -> dict[Path, Array]:
    """Return the arrays that a way back returns, and those that it changes in the object, by their paths."""
    run, before = deepcopy(run), arrays_of(run.holder)  # the copy is what changes
    returned = arrays_of({RETURNED_PATH: call(run, of_output)})
    held = arrays_of(run.holder)
    new = {path: array for path, array in held.items() if path not in before or not np.array_equal(array, before[path])}
    return {**returned, **new}


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
        free = [path for path in free if path[0] == RETURNED_PATH] or [
            path for path in free if {part.lower().strip("_") for part in path[:-1]} & _HOLDS
        ]
        if same == [name] and len(free) == 1:
            chosen[name] = free[0]
    return chosen


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
    """Return the path whose last part is a name with a mark of gradients, what is returned first, else the shortest."""
    own = {_plain(name.rpartition(".")[2])}
    if name.isdigit():
        own = OF_X if name == X_NUMBER else dict(enumerate(OF_STATES, 1)).get(int(name), set())
    fits = [path for path in paths if {_plain(_MARK.sub("", path[-1])), _plain(path[-1])} & own]
    fits.sort(key=lambda path: (path[0] != RETURNED_PATH, len(path)))
    first = [
        path for path in fits if (path[0] != RETURNED_PATH, len(path)) == (fits[0][0] != RETURNED_PATH, len(fits[0]))
    ]
    return first[0] if len(first) == 1 else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _arrays(value: Any) -> Iterator[Any]:
    """Yield what ``to_torch`` makes tensors of, in its order."""
    if isinstance(value, Mapping):
        yield from _arrays([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)
    elif value is not None:
        yield value if isinstance(value, np.ndarray | np.generic) else np.zeros(0)
