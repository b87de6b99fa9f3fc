"""numpy_module: a NumPy class as a class of modules, so that its constructor, arrays and call are read as of any class.

Its parameters are the arrays that it holds. Each call is that of a new copy: what it keeps from call to call is not
looked at.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, Final

import numpy as np
import torch

from harness.space.case import Array
from harness.subjects.signature import STATES, STATES_OF_C

# The methods that may be the call of a layer, or one step of a cell, the likeliest first.
METHODS: Final = ("forward", "__call__", "call", "run", "predict", "forward_pass", "fprop", "step", "forward_step")

_DEPTH: Final = 3  # the dicts, lists and objects within each other in which arrays are looked for


def modules_of(factory: Any) -> Iterator[type[torch.nn.Module]]:
    """Yield classes of modules that call a NumPy class by each of its methods, with rows and with columns (I, N)."""
    for method, columns in product((name for name in METHODS if has_method(factory, name)), (False, True)):
        yield _module_of(factory, method, columns=columns)


def calls_of(factory: Any) -> Iterator[Callable[..., Any]]:
    """Yield functions that make an object of weights, which the constructor takes, and call a method of it."""
    try:
        weights = [one for one in inspect.signature(factory).parameters.values() if one.default is one.empty]
    except (TypeError, ValueError):
        return
    for method in (name for name in METHODS if has_method(factory, name)):
        given = [*inspect.signature(getattr(factory, method)).parameters.values()][1:]
        if {one.name for one in given} & {one.name for one in weights}:
            continue
        yield _call_of(factory, method, [*given, *weights], {one.name for one in weights})


def _call_of(
    factory: Any, method: str, parameters: Sequence[inspect.Parameter], weights: Collection[str]
) -> Callable[..., Any]:
    def call(**named: Any) -> Any:
        layer = factory(**{name: one for name, one in named.items() if name in weights})
        return getattr(layer, method)(**{name: one for name, one in named.items() if name not in weights})

    kind = inspect.Parameter.KEYWORD_ONLY
    by_name = [one.replace(kind=kind) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    call.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    call.__name__, call.__qualname__ = factory.__name__, factory.__qualname__
    return call


def has_method(factory: Any, name: str) -> bool:
    """Tell whether objects of a class have a method; every class itself can be called."""
    return any(callable(vars(base).get(name)) for base in factory.__mro__)


def _module_of(factory: Any, method: str, *, columns: bool = False) -> type[torch.nn.Module]:
    class NumpyModule(torch.nn.Module):
        """The module of a NumPy class."""

        forward_only = True

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__()
            self._layer = factory(*arguments, **named)
            for path, array in parameters_held(self._layer).items():
                *holders, name = path
                module: torch.nn.Module = self
                for holder in holders:
                    if not hasattr(module, holder):
                        module.add_module(holder, torch.nn.Module())
                    module = getattr(module, holder)
                module.register_parameter(name, torch.nn.Parameter(torch.tensor(array)))

        def forward(self, *given: Any) -> Any:
            layer = deepcopy(self._layer)
            with torch.no_grad():
                for name, parameter in self.named_parameters():
                    _put(layer, name.split("."), parameter.numpy().copy())
                returned = getattr(layer, method)(*(to_numpy(one, columns=columns) for one in given))
                return to_torch(returned, columns=columns)

    NumpyModule.__signature__ = inspect.signature(factory)  # type: ignore[attr-defined]
    NumpyModule.forward.__signature__ = inspect.signature(getattr(factory, method))  # type: ignore[attr-defined]
    NumpyModule.__name__, NumpyModule.__qualname__ = factory.__name__, factory.__qualname__
    return NumpyModule


def parameters_held(layer: Any) -> dict[tuple[str, ...], Array]:
    """Return the arrays that an object holds by their paths, but for states, and for the gradients of others."""
    found = dict(_arrays(layer, ()))
    names = {path: "".join(path).lower() for path in found}
    last = {path: path[-1].lower().strip("_") for path in found}
    return {
        path: array
        for path, array in found.items()
        if not {last[path], last[path].removesuffix("prev").strip("_")} & (STATES | STATES_OF_C)
        and not any(
            names[path] != names[other] and names[other] in names[path] and found[other].shape == array.shape
            for other in found
        )
    }


def _arrays(holder: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Array]]:
    if isinstance(holder, np.ndarray):
        if holder.dtype.kind == "f" and holder.ndim:
            yield path, holder
    elif len(path) < _DEPTH:
        own = getattr(holder, "__dict__", {})
        entries = holder if isinstance(holder, Mapping) else own
        if isinstance(holder, list | tuple):
            entries = dict(enumerate(holder))
        for name, one in entries.items():
            if "." not in str(name):
                yield from _arrays(one, (*path, str(name)))


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


def to_numpy(given: Any, *, columns: bool = False) -> Any:
    """Return tensors, in whatever tuples and lists, as NumPy arrays; with ``columns``, the last two axes exchanged."""
    if isinstance(given, torch.Tensor):
        return (given.transpose(-1, -2) if columns and given.ndim > 1 else given).numpy().copy()
    return type(given)(to_numpy(one, columns=columns) for one in given)


def to_torch(returned: Any, *, columns: bool = False) -> Any:
    """Return what a call returned as tensors; one without any number for what is no array."""
    if isinstance(returned, np.ndarray | np.generic):
        array = np.asarray(returned)
        found = torch.from_numpy(np.ascontiguousarray(array)) if array.dtype.kind == "f" else torch.empty(0)
        return found.transpose(-1, -2) if columns and found.ndim > 1 else found
    if isinstance(returned, Mapping):
        return {name: to_torch(one, columns=columns) for name, one in returned.items()}
    if isinstance(returned, list | tuple):
        return type(returned)(to_torch(one, columns=columns) for one in returned)
    return torch.empty(0)
