"""Common parts of the subjects of other libraries: packages, scripts, and padding that a library may read."""

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from harness.space.conformance_profile import PORT
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.subject_names import of_cell

# The plain way of calling: a library copies what it is given, and keeps nothing of a call.
LIBRARY_OFFERS: Final[dict[str, Any]] = {"strides": ("contiguous",), "preparation": ("new",)}


def installed(name: str, *packages: str, extra: str) -> str:
    """Return the versions of the packages that a subject needs. Raise ``SubjectUnavailable`` if one is missing."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in packages)
    except PackageNotFoundError as missing:
        remedy = f"pip install 'rnn-harness[{extra}]'"
        raise SubjectUnavailable(f"{name}: needs {missing.name}; {remedy}") from None


def recipe_of(name: str, *functions: Callable[..., Any], text: str = "", takes: tuple[str, ...] = ()) -> Recipe:
    """Return how a script runs a function: by the texts of some functions, and a last one."""
    texts = [inspect.getsource(function).strip("\n") for function in functions]
    parts = ["from functools import lru_cache\nfrom typing import Any", *texts, *filter(None, [text.strip("\n")])]
    return Recipe(name, tuple("\n\n\n".join(parts).split("\n")), takes=takes)


def subject_of(
    name: str,
    cell: str,
    extra: str,
    packages: tuple[str, ...],
    *functions: Callable[..., Any],
    slow: bool = False,
    **offers: Any,
) -> FunctionSubject:
    """Return the subject of a cell that the last of some functions runs; their texts are all that a script needs.

    ``name`` is that of the subject of nn.RNN; ``slow`` as in ``Capabilities``.
    """
    name = of_cell(name, cell)
    software = installed(name, *packages, extra=extra)
    run: Any = functions[-1]
    run.profile, run.offers, run.slow = PORT, {**LIBRARY_OFFERS, **offers}, slow
    recipe = replace(recipe_of(run.__name__, *functions), paired=cell == "LSTM")
    subject = FunctionSubject(run, name, recipe, Conventions(cell=cell))
    subject.capabilities = replace(subject.capabilities, environment={"software": software})
    return subject


class PerCell(NamedTuple):
    """A function for each cell, which makes its subject."""

    RNN: Callable[[], FunctionSubject]
    GRU: Callable[[], FunctionSubject]
    LSTM: Callable[[], FunctionSubject]


def of_each(make: Callable[[str], FunctionSubject]) -> PerCell:
    """Return a function for each cell, of one that takes the cell's name."""
    return PerCell(*(partial(make, cell) for cell in PerCell._fields))


def with_zeros(x: Any, lengths: Any, batch_first: Any) -> Any:
    """Return the input with zeros from each sequence's length on, where nn.RNN reads nothing.

    A library may multiply by 0 what is left out, and 0 * NaN is NaN.
    """
    import numpy as np

    if lengths is None:
        return x
    inside = np.arange(x.shape[1 if batch_first else 0]) < lengths[:, None]  # (N, T)
    return np.where((inside if batch_first else inside.T)[..., None], x, np.zeros((), x.dtype))


# The variable that names the folder; one that the user has set stays as it is.
FOLDER: Final = "JAX_COMPILATION_CACHE_DIR"

CACHE_VARIABLE: Final = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
"""The variable that says from how many seconds on a compilation is kept. A step of an RNN takes less than the usual 1.
"""

_FOLDERS: Final[list[TemporaryDirectory[str]]] = []  # the folder, which is removed when this process ends


def keep_compiled() -> None:
    """Name such a folder in the environment of this process and those that it starts."""
    if FOLDER not in os.environ:
        _FOLDERS.append(TemporaryDirectory(prefix="rnn-harness-jax-"))
        os.environ[FOLDER] = _FOLDERS[0].name
        os.environ.setdefault(CACHE_VARIABLE, "0")
