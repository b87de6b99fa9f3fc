"""numpy_module: a NumPy class as a class of modules, so that its constructor, arrays and call are read as of any class.

Its parameters are the arrays that it holds. Each call is that of a new copy: what it keeps from call to call is not
looked at.
"""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from typing import Any, Final

import torch

from harness.space.case import Array
from harness.subjects.axes import INPUT_ORDERS
from harness.subjects.numpy_arrays import arrays_of, to_numpy
from harness.subjects.numpy_back import NO_ARGUMENTS, NumpyBackward, called, in_numpy
from harness.subjects.signature import STATE_WORDS, STATES_OF_C, by_state_names, states_by_name

# The methods that may be the call of a layer, or one step of a cell, the likeliest first.
CALL_METHODS: Final = ("forward", "__call__", "call", "run", "predict", "forward_pass", "fprop", "step", "forward_step")

# The names of methods that take the weights of another layer.
_LOADS: Final = re.compile("(?i)(load|set|import|assign|copy|from)_?\\w*(weight|param|state|torch|dict)")

# What stands beside a parameter's name in those of its gradient, and of an optimiser's state.
OF_OTHERS: Final = {
    *("d", "g", "grad", "grads", "gradient", "gradients", "delta", "diff", "m", "v", "mem", "cache", "velocity"),
    *("momentum", "adam", "adagrad", "rms", "mean", "var", "old", "last", "best", "copy", "init"),
}


def modules_of(factory: Any) -> Iterator[type[torch.nn.Module]]:
    """Yield classes of modules that call a NumPy class by each of its methods, with x's axes in each order.

    One that is not given the size of its input may make its arrays in its first call.
    """
    for built_by_call, axes, method in product((False, True), INPUT_ORDERS, methods_of(factory)):
        if not (built_by_call and "input_size" in inspect.signature(factory).parameters):
            yield _module_of(factory, method, axes, built_by_call=built_by_call)


def calls_of(factory: Any) -> Iterator[Callable[..., Any]]:
    """Yield functions that make an object of weights, which the constructor takes, and call a method of it."""
    try:
        weights = [arg for arg in inspect.signature(factory).parameters.values() if arg.default is arg.empty]
    except (TypeError, ValueError):
        return
    for method in methods_of(factory):
        taken = [*inspect.signature(getattr(factory, method)).parameters.values()][1:]
        if {arg.name for arg in taken} & {arg.name for arg in weights}:
            continue
        yield _call_of(factory, method, [*taken, *weights], {arg.name for arg in weights})


def _call_of(
    factory: Any, method: str, parameters: Sequence[inspect.Parameter], weights: Collection[str]
) -> Callable[..., Any]:
    def call(**named: Any) -> Any:
        layer = factory(**{name: value for name, value in named.items() if name in weights})
        call.holder = layer  # type: ignore[attr-defined]  # which may go back
        return getattr(layer, method)(**{name: value for name, value in named.items() if name not in weights})

    kind = inspect.Parameter.KEYWORD_ONLY
    by_name = [arg.replace(kind=kind) for arg in parameters if arg.kind is arg.POSITIONAL_OR_KEYWORD]
    call.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    call.__name__, call.__qualname__ = factory.__name__, factory.__qualname__
    return call


def methods_of(factory: Any) -> list[str]:
    """Return the names of methods that may be the call, in any capitals, or begin so, the likeliest first."""
    own = dict.fromkeys(name for base in factory.__mro__ for name, value in vars(base).items() if callable(value))
    exact = [name for method in CALL_METHODS for name in own if name.lower() == method]
    return exact + [
        name for method in CALL_METHODS for name in own if name.lower().startswith(f"{method}_") and name not in exact
    ]


class NumpyModule(torch.nn.Module):
    """A NumPy object as a module: its parameters are the arrays that it holds."""

    in_numpy, function = True, None
    back: NumpyBackward | None = None  # its own way back, once that is known

    def __init__(self, layer: Any, call: Callable[..., Any], axes: str, states: Collection[str]) -> None:
        """Take an object, a function that calls it on arrays, the order of the axes of x, and its arrays of states."""
        super().__init__()
        self._layer, self._call, self.axes = layer, call, axes
        for path, array in parameters_held(layer).items():
            if ".".join(path) in states:
                continue
            *holders, name = path
            module: torch.nn.Module = self
            for holder in holders:
                if not hasattr(module, holder):
                    module.add_module(holder, torch.nn.Module())
                module = getattr(module, holder)
            module.register_parameter(name, torch.nn.Parameter(torch.tensor(array)))

    def run(
        self, arguments: Any, parameters: Mapping[str, Array], more: Mapping[str, Any] = NO_ARGUMENTS
    ) -> tuple[Any, Any]:
        """Return a new copy of the object, and what a call of it returns."""
        layer = deepcopy(self._layer)
        for name, array in parameters.items():
            _put(layer, name.split("."), array)
        return layer, self._call(layer, *arguments, **more)

    def loaders(self) -> Iterator[str]:
        """Yield the names of the object's methods that may take weights by torch's names."""
        for name in dict.fromkeys(name for base in type(self._layer).__mro__ for name in vars(base)):
            method = getattr(self._layer, name, None)
            if _LOADS.match(name) and callable(method):
                parameters = inspect.signature(method).parameters.values()
                if [arg.kind for arg in parameters if arg.default is arg.empty] == [
                    inspect.Parameter.POSITIONAL_OR_KEYWORD
                ]:
                    yield name

    def load_by(self, loader: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Let a method take weights by torch's names, for the object itself or a new one.

        Raise ``NotImplementedError`` if it rounds them to a narrower dtype.
        """
        layer, arrays = deepcopy(self._layer), to_numpy(dict(weights))
        made = getattr(layer, loader)(arrays)
        holder = made if isinstance(made, type(layer)) else layer
        held = {".".join(path): array for path, array in arrays_of(holder).items()}
        wide = max(array.dtype.itemsize for array in arrays.values())
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if held[name].dtype.itemsize < wide:
                    raise NotImplementedError(f"its {loader} makes {held[name].dtype} of the weights")
                parameter.copy_(torch.tensor(held[name]).broadcast_to(parameter.shape))

    def forward(self, *arguments: Any, **more: Any) -> Any:
        """Return what a call returns, as tensors."""
        run = partial(self.run, more=in_numpy(more))
        return called(run, arguments, dict(self.named_parameters()), self.axes, self.back)


def _module_of(factory: Any, method: str, order: str, *, built_by_call: bool) -> type[torch.nn.Module]:
    class ModuleOfClass(NumpyModule):
        """The module of a NumPy class."""

        axes = order
        states: Final = set[str]()  # the names of arrays that are no parameters, once that is known

        def __init__(self, *arguments: Any, **named: Any) -> None:
            first, *others = arguments if built_by_call else [0, *arguments]
            layer = factory(*others, **named)
            if built_by_call:
                call(layer, to_numpy(torch.zeros(1, 1, first), order))
            super().__init__(layer, call, order, self.states)

    call = with_states_first(getattr(factory, method))
    own = [*inspect.signature(factory).parameters.values()]
    first = [inspect.Parameter("input_size", inspect.Parameter.POSITIONAL_ONLY)] * built_by_call
    ModuleOfClass.__signature__ = inspect.Signature([*first, *own])  # type: ignore[attr-defined]

    def forward(self: Any, *arguments: Any, **more: Any) -> Any:
        return NumpyModule.forward(self, *arguments, **more)

    forward.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    ModuleOfClass.forward = forward  # type: ignore[method-assign]
    ModuleOfClass.__name__, ModuleOfClass.__qualname__ = factory.__name__, factory.__qualname__
    return ModuleOfClass


def with_states_first(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that takes its states by place after x, if they must be given by name."""
    if not (names := states_by_name(call)):
        return call

    def by_place(layer: Any, x: Any, *states: Any, **more: Any) -> Any:
        return by_state_names(partial(call, layer), names, x, *states, **more)

    parameters = inspect.signature(call).parameters
    states = [parameters[name].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    others = [arg.replace(kind=arg.KEYWORD_ONLY) for name, arg in parameters.items() if name not in names]
    first = [*parameters.values()][:2]
    by_place.__signature__ = inspect.Signature([*first, *states, *others[2:]])  # type: ignore[attr-defined]
    return by_place


def parameters_held(layer: Any) -> dict[tuple[str, ...], Array]:
    """Return the arrays that an object holds by their paths, but for states, and for the gradients of others."""
    arrays = {
        path: array
        for path, array in arrays_of(layer).items()
        if not any(len(part) > 1 and part.lower().strip("_") in OF_OTHERS for part in path[:-1])  # g may be a gate
    }
    names = {path: "".join(path).lower() for path in arrays}
    last = {path: path[-1].lower().strip("_") for path in arrays}
    return {
        path: array
        for path, array in arrays.items()
        if not {last[path], last[path].removesuffix("prev").strip("_")} & (STATE_WORDS | STATES_OF_C)
        and not any(
            arrays[base].shape == array.shape
            and (
                (names[base] in names[path] and names[path].replace(names[base], "", 1).strip("_") in OF_OTHERS)
                or (base[:-1] == path[:-1] != () and len(last[path]) > 1 and last[path] in OF_OTHERS - {last[base]})
            )
            for base in arrays
        )
    }


def _put(holder: Any, path: list[str], array: Array) -> None:
    for name in path[:-1]:
        holder = _entry(holder, name)
    name = path[-1]
    if isinstance(holder, Mapping | list):
        holder[_key(holder, name)] = array  # type: ignore[index]
    else:
        setattr(holder, name, array)


def _entry(holder: Any, name: str) -> Any:
    return holder[_key(holder, name)] if isinstance(holder, Mapping | list | tuple) else getattr(holder, name)


def _key(holder: Any, name: str) -> Any:
    return int(name) if isinstance(holder, list | tuple) else next(key for key in holder if str(key) == name)
