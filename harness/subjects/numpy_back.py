"""numpy_back: the way back of NumPy code, a method ``backward`` or a function beside the forward one, for autograd.

What it takes beside the gradient of the output is told by names. What it gives, returned or held by the object, is told
by names and by shapes, with all sizes different. Where these do not tell, no gradient is compared.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
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

RETURNED: Final = "returned"  # the first part of the path of what is returned
X: Final = "0"  # the number of x among the arguments

Path = tuple[str, ...]


class Run(NamedTuple):
    """A call: the object that was called, if there is one, its arguments, its parameters, and what it returned."""

    holder: Any
    given: tuple[Any, ...]
    parameters: Mapping[str, Array]
    returned: Any


Back = Callable[[Run, Array], Any]  # the call that goes back, given the gradient of the output


@dataclass(frozen=True)
class WayBack:
    """The way back of a class or function, and where it gives each gradient."""

    name: str  # of the method or function
    call: Back
    place: int  # of the array, among those that a call returned, whose gradient it takes
    of_last: bool  # that array is the last state alone
    sources: Mapping[str, Path]  # by the names of parameters, and by the numbers of the other arguments
    weights: bool  # it gives those by all parameters
    states: bool  # it gives those by all states
    layers: int  # of which that is known

    @property
    def losses(self) -> tuple[str | None, ...]:
        """The losses that it takes the gradient of."""
        return None, "h_n" if self.of_last else "output"

    def lacks(self, config: RNNConfig) -> str:
        """Say which gradients of a config it does not give."""
        if config.num_layers != self.layers:
            return f"what {config.num_layers} layers hold"
        lacking = [("x", config.wrt != "weights" and X not in self.sources)]
        lacking.append(("hx", config.wrt != "weights" and config.hx and not self.states))
        lacking.append(("the weights", config.wrt != "inputs" and not self.weights))
        return " and ".join(name for name, does in lacking if does)

    def gradients(self, run: Run, of_output: Array) -> dict[str, Array]:
        """Return the gradients by what they are of."""
        run = deepcopy(run)  # it may be asked twice
        returned = arrays_of({RETURNED: self.call(run, of_output)})
        made = {**arrays_of(run.holder), **returned}
        return {name: made[path] for name, path in self.sources.items() if path in made}


def called(
    run: Callable[[Any, dict[str, Any]], tuple[Any, Any]],
    given: tuple[Any, ...],
    parameters: Mapping[str, torch.Tensor],
    order: str,
    back: WayBack | None,
) -> Any:
    """Return what a call in NumPy returns, as tensors that know its own way back, if it has one.

    ``run`` takes arguments and parameters as arrays, and returns the object that was called and what it returned.
    """
    if back is None or not torch.is_grad_enabled():
        with torch.no_grad():
            return to_torch(run(to_numpy(given, order), to_numpy(dict(parameters)))[1], order)
    structure = list[Any]()

    def forward(tensors: Sequence[torch.Tensor]) -> tuple[Run, list[torch.Tensor]]:
        left = iter(tensors)
        arrays = to_numpy(mapped(given, lambda _: next(left)), order)
        own = to_numpy(dict(zip(parameters, left, strict=True)))
        holder, returned = run(arrays, own)
        structure.append(to_torch(returned, order))
        return Run(holder, arrays, own, returned), [one.clone() for one in _tensors(structure[0])]

    def backward(made: Run, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        found = back.gradients(made, to_numpy(gradients[back.place], order))
        tensors = {name: torch.tensor(np.asarray(array)) for name, array in found.items()}
        of_given = [found[number] if (number := str(i)) in found else None for i in range(len(flat))]
        turned = [None if one is None else to_torch(np.asarray(one), order) for one in of_given]
        return [*turned, *(tensors.get(name) for name in parameters)]

    flat = [*_tensors(given)]
    results = iter(_Call.apply(forward, backward, *flat, *parameters.values()))  # type: ignore[no-untyped-call]
    return mapped(structure[0], lambda _: next(results))


class _Call(torch.autograd.Function):
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
    run: Run, sizes: tuple[int, int], needed: Sequence[str], layers: int, function: Any = None
) -> WayBack | None:
    """Return the way back of an object, or of a function, by a call with these input_size and hidden_size.

    The gradients by the ``needed`` parameters, or that by x, must be there. The result is ``None`` where names and
    shapes do not tell that.
    """
    x, arrays = run.given[0], [np.asarray(one) for one in _arrays(run.returned)]
    every = tuple(sizes[1] if size == sizes[0] else size for size in x.shape)
    place = next((k for k, one in enumerate(arrays) if one.shape == every), None)
    of_last = place is None
    if place is None:
        place = next((k for k, one in enumerate(arrays) if one.ndim == x.ndim - 1 and sizes[1] in one.shape), None)
    if place is None:
        return None
    of_output = np.random.default_rng(0).normal(size=arrays[place].shape).astype(x.dtype)
    for name, call in _calls(run.holder, function).items():
        with suppress(Exception), np.errstate(all="ignore"):
            made = _made(call, run, of_output)
            of_given = {str(i): array for i, array in enumerate(_arrays(run.given))}
            sources = {**_sources(run.parameters, made), **_sources(of_given, made)}
            weights = {*needed} <= {*sources}
            if weights or X in sources:
                return WayBack(name, call, place, of_last, sources, weights, {*of_given} - {X} <= {*sources}, layers)
    return None


def names_back(holder: Any, function: Any = None) -> list[str]:
    """Return the names of what may go back: methods of an object, or functions beside the one that goes forward."""
    return [*_calls(holder, function)]


def _calls(holder: Any, function: Any) -> dict[str, Back]:
    methods = {name: getattr(holder, name, None) for name in METHODS}
    found: dict[str, Back] = {n: partial(_by_method, n, one) for n, one in methods.items() if callable(one)}
    beside = vars(sys.modules[function.__module__]) if hasattr(function, "__module__") else {}
    for word, other in WORDS.items():
        name = function.__name__ if function is not None else ""
        if word in name and callable(back := beside.get(other_name := name.replace(word, other))):
            found[other_name] = partial(_by_function, back)
    return found


def _by_method(name: str, method: Any, run: Run, of_output: Array) -> Any:
    return getattr(run.holder, name)(*_arguments(_needed(method), run, of_output))


def _by_function(back: Any, run: Run, of_output: Array) -> Any:
    return back(*_arguments(_needed(back), run, of_output))


def _needed(function: Any) -> list[str]:
    return [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]


def _arguments(names: Sequence[str], run: Run, of_output: Array) -> list[Any]:
    """Return the arguments of a way back: the gradient of the output, and what was saved. Raise ``LookupError``."""
    [_, *others] = names
    if len(others) > 1 or not all(_SAVED.search(name) for name in others):
        raise LookupError(f"it takes {', '.join(names)}")
    saved = run.returned[-1] if isinstance(run.returned, tuple | list) else run.returned
    return [of_output, *([saved] * len(others))]


def _made(call: Back, run: Run, of_output: Array) -> dict[Path, Array]:
    """Return the arrays that a way back returns, and those that it changes in the object, by their paths."""
    before = {path: array.copy() for path, array in arrays_of(run.holder).items()}
    returned = arrays_of({RETURNED: call(run, of_output)})
    held = arrays_of(run.holder)
    changed = {
        path: array for path, array in held.items() if path not in before or not np.array_equal(array, before[path])
    }
    return {**returned, **changed}


def _sources(targets: Mapping[str, Array], made: Mapping[Path, Array]) -> dict[str, Path]:
    """Return the paths of gradients, by the names of what they are of: of the same name, or else in the same order."""
    found: dict[str, Path] = {}
    for name, array in targets.items():
        alike = {path: one for path, one in made.items() if one.shape == array.shape}
        if (path := _named(name, alike)) is not None:
            found[name] = path
            continue
        left = [other for other, one in targets.items() if one.shape == array.shape and other not in found]
        free = [path for path in alike if path not in found.values()]
        for group in _groups(free):
            if len(group) == len(left):
                found[name] = group[left.index(name)]
                break
    return found


def _groups(paths: Sequence[Path]) -> list[list[Path]]:
    """Return the paths of what is returned, and those of what is held, the least deep ones."""
    returned = [path for path in paths if path[0] == RETURNED]
    held = [path for path in paths if path[0] != RETURNED]
    return [returned, [path for path in held if len(path) == min(map(len, held))]]


def _named(name: str, made: Mapping[Path, Array]) -> Path | None:
    """Return the path whose last part is a name with a mark of gradients, the shortest one."""
    own = name.rpartition(".")[2]
    paths = [path for path in made if _plain(_MARK.sub("", path[-1])) == _plain(own) or _plain(path[-1]) == _plain(own)]
    paths.sort(key=len)
    return paths[0] if paths and not own.isdigit() and (len(paths) == 1 or len(paths[0]) < len(paths[1])) else None


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
    else:
        yield given if isinstance(given, np.ndarray | np.generic) else np.zeros(0)
