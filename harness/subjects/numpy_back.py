"""numpy_back: the way back of NumPy code, a method ``backward`` or a function beside the forward one, for autograd.

What it takes beside the gradient of the output is told by names. What it gives, returned or held by the object, is told
by names, or by a shape that nothing else has, with all sizes different; and as a gradient is, it is linear in what it
takes. Where these do not tell, no gradient is compared.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
METHODS: Final = ("backward", "bprop", "backprop", "backward_pass", "bptt", "bwd")
# A function that goes forward has a word in its name, and the one that goes back another.
WORDS: Final = {"forward": "backward", "fwd": "bwd", "fprop": "bprop"}

_SAVED: Final = re.compile("(?i)cache|ctx|tape|saved|history|memory|trace")
_MARK: Final = re.compile(r"(?i)^(grads?|gradients?|delta|d|g)_?(?=.)|_?(grads?|gradients?|d)$")
_HOLDS: Final = {"grad", "grads", "gradient", "gradients"}  # the names of what holds gradients alone

# The names of x, and of each state before the first step, plain and without a mark.
OF_X: Final = {"x", "xs", "input", "inputs", "seq"}
OF_STATES: Final = (
    {f"{h}{end}" for h in ("h", "a", "s") for end in ("0", "x", "prev", "init", "next")},
    {f"c{end}" for end in ("0", "x", "prev", "init", "next")},
)

RETURNED: Final = "returned"  # the first part of the path of what is returned
X: Final = "0"  # the number of x among the arguments

Path = tuple[str, ...]


class NumpyCall(NamedTuple):
    """A call: the object that was called, if there is one, its arguments, its parameters, and what it returned."""

    holder: Any
    given: tuple[Any, ...]
    parameters: Mapping[str, Array]
    returned: Any


@dataclass(frozen=True)
class BackwardCall:
    """A method of an object, or a function, that may go back."""

    name: str
    function: Any
    is_method: bool

    def __call__(self, run: NumpyCall, of_output: Array) -> Any:
        """Return what it returns, a tuple by the names in its one return statement. Raise ``LookupError``."""
        parameters = [*inspect.signature(self.function).parameters.values()][self.is_method :]
        [_, *others] = [one.name for one in parameters if one.default is one.empty]
        if len(others) > 1 or not all(_SAVED.search(name) for name in others):
            raise LookupError(f"{self.name} takes {', '.join(others)}")
        saved = run.returned[-1] if isinstance(run.returned, tuple | list) else run.returned
        call = getattr(run.holder, self.name) if self.is_method else self.function
        returned = call(of_output, *([saved] * len(others)))
        by_name = isinstance(returned, tuple) and len(returned) == len(self._names)
        return dict(zip(self._names, returned, strict=True)) if by_name else returned

    @cached_property
    def _names(self) -> list[str]:
        with suppress(OSError, TypeError, SyntaxError):
            nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(self.function))))
            returns = [node.value for node in nodes if isinstance(node, ast.Return)]
            if len(returns) == 1 and isinstance(returns[0], ast.Tuple):
                names = [getattr(one, "id", getattr(one, "attr", "")) for one in returns[0].elts]
                return names if all(names) and len({*names}) == len(names) else []
        return []


class GradientPlaces(NamedTuple):
    """The paths of the gradients that a way back gives, after a call with a number of arguments."""

    sources: Mapping[str, Path]  # by the names of parameters, and by the numbers of the other arguments
    of_weights: bool  # it gives those by all parameters
    of_states: bool  # it gives those by all states


@dataclass(frozen=True)
class NumpyBackward:
    """The way back of a class or function."""

    call: BackwardCall
    place: int  # of the array, among those that a call returned, whose gradient it takes
    of_last: bool  # that array is the last state alone
    given: Mapping[int, GradientPlaces]  # by the number of arguments: x and states
    layers: int  # of which that is known

    @property
    def losses(self) -> tuple[str | None, ...]:
        """The losses that it takes the gradient of."""
        return None, "h_n" if self.of_last else "output"

    def lacks(self, config: RNNConfig) -> str:
        """Say which gradients of a config it does not give; nothing if it gives all."""
        given = self.given.get(1 + len(config.form.hidden) * config.hx)
        if config.num_layers != self.layers or given is None:
            return f"anything where num_layers={config.num_layers} and hx={config.hx}"
        lacking = [("x", config.wrt != "weights" and X not in given.sources)]
        lacking.append(("hx", config.wrt != "weights" and config.hx and not given.of_states))
        lacking.append(("the weights", config.wrt != "inputs" and not given.of_weights))
        return " and ".join(name for name, does in lacking if does)

    def gradients(self, run: NumpyCall, of_output: Array) -> dict[str, Array]:
        """Return the gradients by what they are of. Raise ``ValueError`` for one of another shape."""
        run = deepcopy(run)  # it may be asked twice
        made = {**arrays_of({RETURNED: self.call(run, of_output)})}
        made = {**arrays_of(run.holder), **made}
        targets = _targets(run)
        sources = self.given[len(targets) - len(run.parameters)].sources
        found = {name: made[path] for name, path in sources.items() if path in made}
        for name, array in found.items():
            if array.shape != targets[name].shape:
                which = f"argument {name}" if name.isdigit() else name
                shape = targets[name].shape
                raise ValueError(
                    f"{self.call.name} gives a gradient of shape {array.shape} by {which}, of shape {shape}"
                )
        return found


def called(
    run: Callable[[Any, dict[str, Any]], tuple[Any, Any]],
    given: tuple[Any, ...],
    parameters: Mapping[str, torch.Tensor],
    order: str,
    back: NumpyBackward | None,
) -> Any:
    """Return what a call in NumPy returns, as tensors that know its own way back, if it has one.

    ``run`` takes arguments and parameters as arrays, and returns the object that was called and what it returned.
    """
    if back is None or not torch.is_grad_enabled():
        with torch.no_grad():
            return to_torch(run(to_numpy(given, order), to_numpy(dict(parameters)))[1], order)
    structure = list[Any]()

    def forward(tensors: Sequence[torch.Tensor]) -> tuple[NumpyCall, list[torch.Tensor]]:
        left = iter(tensors)
        arrays = to_numpy(mapped(given, lambda _: next(left)), order)
        own = to_numpy(dict(zip(parameters, left, strict=True)))
        holder, returned = run(arrays, own)
        structure.append(to_torch(returned, order))
        return NumpyCall(holder, arrays, own, returned), [one.clone() for one in _tensors(structure[0])]

    def backward(made: NumpyCall, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        found = back.gradients(made, to_numpy(gradients[back.place], order))
        tensors = {name: torch.tensor(np.asarray(array)) for name, array in found.items()}
        of_given = [found[number] if (number := str(i)) in found else None for i in range(len(flat))]
        turned = [None if one is None else to_torch(np.asarray(one), order) for one in of_given]
        return [*turned, *(tensors.get(name) for name in parameters)]

    flat = [*_tensors(given)]
    results = iter(_Differentiable.apply(forward, backward, *flat, *parameters.values()))  # type: ignore[no-untyped-call]
    return mapped(structure[0], lambda _: next(results))


class _Differentiable(torch.autograd.Function):
    """A call in NumPy, and its own way back."""

    @staticmethod
    def forward(ctx: Any, forward: Any, backward: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.run, outputs = forward([one.detach() for one in tensors])
        ctx.back = backward
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        return None, None, *ctx.back(ctx.run, gradients)


def way_back_of(
    runs: Sequence[NumpyCall], sizes: tuple[int, int], needed: Collection[str], layers: int, function: Any = None
) -> NumpyBackward | None:
    """Return the way back of an object, or of a function, by calls with these input_size and hidden_size.

    They are with states and without, as it can be called. The gradients by the ``needed`` parameters, or that by x,
    must be there. The result is ``None`` where names and shapes do not tell that.
    """
    x, arrays = runs[0].given[0], [np.asarray(one) for one in _arrays(runs[0].returned)]
    every = tuple(sizes[1] if size == sizes[0] else size for size in x.shape)
    place = next((k for k, one in enumerate(arrays) if one.shape == every), None)
    of_last = place is None
    if place is None:
        place = next((k for k, one in enumerate(arrays) if one.ndim == x.ndim - 1 and sizes[1] in one.shape), None)
    if place is None:
        return None
    # Small, so that a gradient that is clipped is linear, too.
    of_output = 0.01 * np.random.default_rng(0).normal(size=arrays[place].shape).astype(x.dtype)
    for call in calls_back(runs[0].holder, function):
        given: dict[int, GradientPlaces] = {}
        for run in runs:
            with suppress(Exception), np.errstate(all="ignore"):
                sources = _sources(_targets(run), _linear(call, run, of_output))
                states = {name for name in _targets(run) if name.isdigit()} - {X}
                found = GradientPlaces(sources, {*needed} <= {*sources}, states <= {*sources})
                if found.of_weights or X in sources:
                    given[1 + len(states)] = found
        if given:
            return NumpyBackward(call, place, of_last, given, layers)
    return None


def calls_back(holder: Any, function: Any = None) -> Iterator[BackwardCall]:
    """Yield what may go back: methods of an object, or functions beside the one that goes forward."""
    for name in METHODS:
        if callable(method := getattr(holder, name, None)):
            yield BackwardCall(name, method.__func__ if inspect.ismethod(method) else method, True)
    beside, own = getattr(function, "__globals__", {}), getattr(function, "__name__", "")
    for word, other in WORDS.items():
        if word in own and callable(back := beside.get(name := own.replace(word, other))):
            yield BackwardCall(name, back, False)


def _targets(run: NumpyCall) -> dict[str, Array]:
    """Return what there may be gradients by: parameters by their names, and arguments by their numbers."""
    return {**run.parameters, **{str(i): array for i, array in enumerate(_arrays(run.given))}}


def _linear(call: BackwardCall, run: NumpyCall, of_output: Array) -> dict[Path, Array]:
    """Return what a way back returns or changes that is linear in what it is given, by its paths."""
    made, twice = (_made(call, run, factor * of_output) for factor in (1, 2))
    # Ten times what sums over 4 steps of fewer than 40 terms each may be off by in float32, some 160 u.
    near = 1e-4
    return {
        path: array
        for path, array in made.items()
        if path in twice and np.allclose(twice[path], 2 * array, near, near * np.abs(array).max(initial=0))
    }


def _made(call: BackwardCall, run: NumpyCall, of_output: Array) -> dict[Path, Array]:
    """Return the arrays that a way back returns, and those that it changes in the object, by their paths."""
    run, before = deepcopy(run), arrays_of(run.holder)  # the copy is what changes
    returned = arrays_of({RETURNED: call(run, of_output)})
    held = arrays_of(run.holder)
    new = {path: array for path, array in held.items() if path not in before or not np.array_equal(array, before[path])}
    return {**returned, **new}


def _sources(targets: Mapping[str, Array], made: Mapping[Path, Array]) -> dict[str, Path]:
    """Return the paths of gradients by what they are of: those of its name, or the only one of its shape."""
    alike = {name: [path for path, one in made.items() if one.shape == array.shape] for name, array in targets.items()}
    found = {name: path for name, paths in alike.items() if (path := _named(name, paths)) is not None}
    for name, array in targets.items():
        same = [other for other, one in targets.items() if one.shape == array.shape and other not in found]
        free = [path for path in alike[name] if path not in found.values()]
        free = [path for path in free if path[0] == RETURNED] or [
            path for path in free if {part.lower().strip("_") for part in path[:-1]} & _HOLDS
        ]
        if same == [name] and len(free) == 1:
            found[name] = free[0]
    return found


def _named(name: str, paths: Sequence[Path]) -> Path | None:
    """Return the path whose last part is a name with a mark of gradients, what is returned first, else the shortest."""
    own = {_plain(name.rpartition(".")[2])}
    if name.isdigit():
        own = OF_X if name == X else OF_STATES[int(name) - 1]
    fits = [path for path in paths if {_plain(_MARK.sub("", path[-1])), _plain(path[-1])} & own]
    fits.sort(key=lambda path: (path[0] != RETURNED, len(path)))
    first = [path for path in fits if (path[0] != RETURNED, len(path)) == (fits[0][0] != RETURNED, len(fits[0]))]
    return first[0] if len(first) == 1 else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _tensors(given: Any) -> Iterator[torch.Tensor]:
    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, Mapping):
        yield from _tensors([*given.values()])
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _tensors(one)


def _arrays(given: Any) -> Iterator[Any]:
    """Yield what ``to_torch`` makes tensors of, in its order."""
    if isinstance(given, Mapping):
        yield from _arrays([*given.values()])
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _arrays(one)
    elif given is not None:
        yield given if isinstance(given, np.ndarray | np.generic) else np.zeros(0)
