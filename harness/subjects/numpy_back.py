"""numpy_back: the way back of NumPy code, a method ``backward`` or a function beside the forward one, for autograd.

How it is called, and what it gives, is told by runs (``numpy_back_reading``).
"""

import ast
import inspect
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
from harness.subjects.numpy_arrays import arrays_of, stacks_of, to_numpy, to_torch

RETURNED_PATH: Final = "returned"  # the first part of the path of what is returned
X_NUMBER: Final = "0"  # the number of x among the arguments

NO_ARGUMENTS: Final[Mapping[str, Any]] = {}

Path = tuple[str, ...]
Paths = dict[Path, Array]
Stack = tuple[int, int]  # A number of layers, and of directions


class NumpyCall(NamedTuple):
    """A call: the object that was called, if there is one, its arguments, its parameters, and what it returned."""

    holder: Any
    arguments: tuple[Any, ...]
    parameters: Mapping[str, Array]
    returned: Any

    @property
    def targets(self) -> dict[str, Array]:
        """What there may be gradients by: parameters by their names, and arguments by their numbers."""
        return {**self.parameters, **{str(i): array for i, array in enumerate(each_array(self.arguments))}}


@dataclass(frozen=True)
class BackwardFunction:
    """A method of an object, or a function, that may go back."""

    name: str
    function: Any
    is_method: bool

    def __call__(self, run: NumpyCall, given: Mapping[str, Any]) -> Any:
        """Return what it returns, a tuple by the names in its one return statement."""
        call = getattr(run.holder, self.name) if self.is_method else self.function
        by_name = {name: value for name, value in given.items() if name not in self.needed}
        returned = call(*(given[name] for name in self.needed), **by_name)
        parts = [*_named_parts(self._return, returned)] if isinstance(self._return, ast.Tuple) else []
        distinct = len({name for name, _ in parts} - {""}) == len(parts)
        return dict(parts) if distinct and parts else returned

    @property
    def words(self) -> str:
        """Its name and its arguments."""
        return f"{self.name}({', '.join(arg.name for arg in self._arguments)})"

    @property
    def needed(self) -> tuple[str, ...]:
        """The names of its arguments without a default."""
        return tuple(arg.name for arg in self._arguments if arg.default is arg.empty)

    @property
    def optional(self) -> tuple[str, ...]:
        """The names of its arguments with a default."""
        return tuple(arg.name for arg in self._arguments if arg.default is not arg.empty)

    @cached_property
    def _arguments(self) -> list[inspect.Parameter]:
        with suppress(TypeError, ValueError):
            parameters = [*inspect.signature(self.function).parameters.values()][self.is_method :]
            return [arg for arg in parameters if arg.kind not in {arg.VAR_POSITIONAL, arg.VAR_KEYWORD}]
        return []

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


class ArgumentSource(NamedTuple):
    """What an argument of a way back is given: of what a call returned, or took, or of the gradients by the former."""

    origin: str  # GRADIENT, ZERO as one, RETURNED or TAKEN
    path: tuple[Any, ...]  # the keys of a part in it
    stacked: bool = False  # the part is a list, and given as one array
    axis: int | None = None  # the axis of the part of which the last place alone is given

    def value(self, run: NumpyCall, of_returned: Any) -> Any:
        """Return it, of a call and the gradients by all that the call returned."""
        value = {RETURNED: run.returned, TAKEN: run.arguments}.get(self.origin, of_returned)
        for key in self.path:
            value = value[key]
        value = np.stack(value) if self.stacked else value
        value = value if self.axis is None else value.take(-1, self.axis)
        return in_form(value, (np.zeros_like(array) for array in each_array(value))) if self.origin == ZERO else value


GRADIENT, ZERO, RETURNED, TAKEN = "gradient", "zero", "returned", "taken"


@dataclass(frozen=True)
class BackwardCall:
    """A way to call a function that goes back."""

    function: BackwardFunction
    given: Mapping[str, ArgumentSource]  # by the names of its arguments

    def made(self, run: NumpyCall, of_returned: Sequence[Array]) -> tuple[Paths, Paths]:
        """Return the arrays that it returns, and those that the object then holds, by their paths."""
        run = deepcopy(run)  # it may be asked twice
        tree = in_form(run.returned, iter(of_returned))
        returned = self.function(run, {name: source.value(run, tree) for name, source in self.given.items()})
        return stacked_arrays({RETURNED_PATH: returned}), stacked_arrays(run.holder)


class GradientPlaces(NamedTuple):
    """The paths of the gradients that a way back gives, after a call with some parameters and other arguments."""

    targets: frozenset[str]  # the names of the parameters, and the numbers of the other arguments
    sources: Mapping[str, Path]  # by these


@dataclass(frozen=True)
class NumpyBackward:
    """The way back of a class or function."""

    call: BackwardCall
    losses: tuple[str | None, ...]  # those that it takes the gradients of
    places: Mapping[tuple[Stack, bool], GradientPlaces]  # by the stack, and whether it is given states

    def places_of(self, config: RNNConfig) -> GradientPlaces | None:
        """Return the places of the gradients of a config; ``None`` if none are known."""
        return self.places.get(((config.num_layers, config.num_directions), config.hx))

    def gradients(self, run: NumpyCall, of_returned: Sequence[Array]) -> dict[str, Array]:
        """Return the gradients by what they are of. Raise ``ValueError`` for one of another shape."""
        returned, held = self.call.made(run, of_returned)
        made, targets = {**held, **returned}, run.targets
        sources = next(places.sources for places in self.places.values() if places.targets == targets.keys())
        gradients = {name: made[path] for name, path in sources.items() if path in made}
        for name, array in gradients.items():
            if array.shape != targets[name].shape:
                which = f"argument {name}" if name.isdigit() else name
                shape = targets[name].shape
                raise ValueError(
                    f"{self.call.function.name} gives a gradient of shape {array.shape} by {which}, of shape {shape}"
                )
        return gradients


class BackwardRecorder:
    """In the place of a way back, what notes a call, and the gradients by what it returned."""

    run: NumpyCall
    of_returned: Sequence[Array]

    def gradients(self, run: NumpyCall, of_returned: Sequence[Array]) -> dict[str, Array]:
        """Note them, and return no gradient."""
        self.run, self.of_returned = run, of_returned
        return {}


def in_numpy(more: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that are given by name, with arrays for tensors: they have no axes of x to be turned."""
    return {name: arg.numpy() if isinstance(arg, torch.Tensor) else arg for name, arg in more.items()}


def called(
    run: Callable[[Any, dict[str, Any]], tuple[Any, Any]],
    arguments: tuple[Any, ...],
    parameters: Mapping[str, torch.Tensor],
    order: str,
    back: NumpyBackward | BackwardRecorder | None,
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
        arrays = back.gradients(made, to_numpy(list(gradients), order))
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


def in_form(returned: Any, parts: Iterator[Any]) -> Any:
    """Return parts, one for each array, in the form of what a call returned."""
    if isinstance(returned, Mapping):
        return {name: in_form(part, parts) for name, part in returned.items()}
    if isinstance(returned, list | tuple):
        made = [in_form(part, parts) for part in returned]
        return tuple(made) if isinstance(returned, tuple) else made
    return None if returned is None else next(parts)


def each_array(value: Any) -> Iterator[Any]:
    """Yield what ``to_torch`` makes tensors of, in its order."""
    if isinstance(value, Mapping):
        yield from each_array([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from each_array(part)
    elif value is not None:
        yield value if isinstance(value, np.ndarray | np.generic) else np.zeros(0)


def stacked_arrays(holder: Any) -> Paths:
    """Return the arrays that an object holds by their paths, and lists of arrays of one shape as one array, too."""
    arrays = arrays_of(holder)
    return {**arrays, **stacks_of(arrays)}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors([*value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
