"""numpy_arrays: the arrays of NumPy objects, and tensors as arrays and back."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch

from harness.space.case import Array
from harness.subjects.axes import INPUT_ORDERS, in_order, mapped

_DEPTH: Final = 4  # the dicts, lists and objects within each other in which arrays are looked for


def arrays_of(holder: Any) -> dict[tuple[str, ...], Array]:
    """Return the arrays of real numbers that an object, a dict or a list holds, by their paths."""
    return dict(_walked(holder, ()))


def stacks_of(arrays: Mapping[tuple[str, ...], Array]) -> dict[tuple[str, ...], Array]:
    """Return each list of arrays of one shape, of arrays by their paths, as one array by the path of the list."""
    lists: dict[tuple[str, ...], dict[int, Array]] = {}
    for path, array in arrays.items():
        if path and path[-1].isdigit():
            lists.setdefault(path[:-1], {})[int(path[-1])] = array
    return {
        path: np.stack([steps[t] for t in range(len(steps))])
        for path, steps in lists.items()
        if {*steps} == {*range(len(steps))} and len({array.shape for array in steps.values()}) == 1
    }


def _walked(holder: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Array]]:
    if isinstance(holder, np.ndarray):
        if holder.dtype.kind == "f" and holder.ndim:
            yield path, holder
    elif len(path) < _DEPTH:
        own = getattr(holder, "__dict__", {})
        entries = holder if isinstance(holder, Mapping) else own
        if isinstance(holder, list | tuple):
            entries = dict(enumerate(holder))
        for name, entry in entries.items():
            if "." not in str(name):
                yield from _walked(entry, (*path, str(name)))


def to_numpy(tensors: Any, axes: str = INPUT_ORDERS[0]) -> Any:
    """Return tensors, in whatever tuples and lists, as NumPy arrays with the axes in an order."""
    return mapped(tensors, lambda tensor: in_order(tensor, axes).numpy().copy())


def to_torch(returned: Any, axes: str = INPUT_ORDERS[0]) -> Any:
    """Return what a call returned as tensors with the usual axes.

    ``None`` stays, and what is no array either is one without any number.
    """
    if isinstance(returned, np.ndarray | np.generic):
        array = np.asarray(returned)
        tensor = torch.from_numpy(np.ascontiguousarray(array)) if array.dtype.kind == "f" else torch.empty(0)
        return in_order(tensor, axes, back=True)
    if isinstance(returned, Mapping):
        return {name: to_torch(part, axes) for name, part in returned.items()}
    if isinstance(returned, list | tuple):
        return type(returned)(to_torch(part, axes) for part in returned)
    return None if returned is None else torch.empty(0)
