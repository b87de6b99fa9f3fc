"""program: a script in the making: its imports, the arrays it holds, the call, and where the results are."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from harness.diagnosis.reproduce.literals import FILE, Literals, listed
from harness.space.case import Array, Case
from harness.subjects import mapped
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import MAPPED, Conventions

_TAKEN = """
    np torch sys os importlib subprocess arrays x h0 hx weights config cotangents lengths masks packed output h_n
    readout readout_weight readout_bias output_grad h_n_grad readout_grad gradients asked actual expected allowance
    failed name want got off right index differing tensor array other returned error code before call axes shape
    dtype file transposed stepped module spec n length Same Cell Path SimpleNamespace kept mapped as_nn_rnn Any
    declared maps turned by_name functools answers answer run was parted without looped others
"""
TAKEN: Final = frozenset(_TAKEN.split())
"""The names that a script uses itself."""


_GROUND: Final = {
    "torch": 'print(f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()},"\n'
    '      f" {torch.get_num_threads()} thread(s)")',
    "np": 'print(f"NumPy {np.__version__}, Python {sys.version.split()[0]}")',
}
"""The line in which a script says what it ran on, by the library whose arrays it makes."""


class Unwritten(Exception):
    """A failure that no script can show; its message says why."""


class User(NamedTuple):
    """The function or class that is called, in a script."""

    recipe: Recipe
    takes: tuple[str, ...] = ()
    """The names of the arguments that a function takes; there is at least one."""
    conventions: Conventions = Conventions()
    """Those of a class, for which a script holds the weights as the class has them."""

    @property
    def is_class(self) -> bool:
        """True if it is a class, False if it is a function."""
        return not self.takes


@dataclass
class Program:
    """The parts of a script, in the order in which they stand there."""

    literals: Literals
    user: User
    imports: set[str] = field(default_factory=set)
    helpers: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    """The statements that make what the call is given."""
    body: list[str] = field(default_factory=list)
    """The statements of the call, and of what is needed to make it."""
    again: list[str] = field(default_factory=list)
    """The statements of the call once more, with another x and other cotangents."""
    results: dict[str, str] = field(default_factory=dict)
    """The expression of each array that came back, by name."""
    gradients: str = ""
    """The expression of a dict of those that are gradients."""
    names: dict[str, str] = field(default_factory=dict)
    """The expression of each array that was given, by name."""


def user_of(spec: str, recipe: Recipe, takes: tuple[str, ...]) -> User:
    """Return how a script imports what ``spec`` names, ``path/to/file.py:name`` or ``module:name``."""
    place, _, name = spec.rpartition(":")
    outer, *inner = name.split(".")
    alias = "subject" if outer in TAKEN or (not takes and outer == "rnn") else outer
    imported = f"import {outer}" if alias == outer else f"import {outer} as {alias}"
    path = Path(place)
    if not place.endswith(".py"):
        folder, top = Path.cwd(), place.partition(".")[0]
        here = (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        lines = _looked_in(folder, top) if here else []
        lines.append(f"from {place} {imported}")
    elif _importable(path.stem):
        lines = [*_looked_in(path.resolve().parent, path.name), f"from {path.stem} {imported}"]
    else:
        lines = [
            f"FILE = {quoted(str(path.resolve()))}",
            'spec = importlib.util.spec_from_file_location("subject_file", FILE)',
            "module = importlib.util.module_from_spec(spec)",
            'sys.modules["subject_file"] = module',
            "sys.path.insert(0, os.path.dirname(FILE))",
            "spec.loader.exec_module(module)",
            f"{alias} = module.{outer}",
        ]
    expression = ".".join([alias, *inner])
    if recipe.positional:
        passed = ", ".join(name if name in recipe.positional else f"{name}={name}" for name in takes)
        head = f"def by_name({', '.join(takes)}):"
        lines += ["", "", f"@functools.wraps({expression})", head, f"    return {expression}({passed})"]
        expression = "by_name"
    return User(replace(recipe, expression=expression, lines=tuple(lines)), takes)


def with_conventions(user: User, conventions: Conventions, named: tuple[str, ...]) -> User:
    """Return how a script calls a function or a class of other conventions than nn.RNN's.

    Those ``named`` beside a function's name stay; its own are read when the script runs, so that it may mend them.
    """
    if user.is_class:
        return user._replace(conventions=conventions)
    if not conventions.names:
        return user
    text = inspect.getsource(mapped).partition("from typing import Any\n")[2].strip("\n")
    function = user.recipe.expression
    declared = [
        f'declared = getattr({function}, "conventions", {{}})',
        "declared = declared if isinstance(declared, dict) else dict.fromkeys(declared, True)",
        f"maps = {{name: name in {named} or bool(declared.get(name)) for name in {MAPPED}}}",
        listed("mapped = as_nn_rnn(", [function, str(user.takes), "**maps"], ")"),
    ]
    lines = (*user.recipe.lines, "", "", *text.split("\n"), "", "", *declared)
    recipe = replace(user.recipe, expression="mapped", lines=lines)
    return User(recipe, tuple(dict.fromkeys((*user.takes, "weights", "config"))))


def written(headline: str, program: Program, end: Sequence[str]) -> str:
    """Return the whole script; ``end`` is what makes the call and judges it."""
    imports, given = {"import sys", *program.imports}, list(program.given)
    library = program.literals.library
    third = {"import numpy as np"} if library == "np" else {"import torch"}
    if program.literals.stored:
        third.add("import numpy as np")
        imports.add("from pathlib import Path")
        opened = f'np.load(Path(__file__).with_name("{FILE}"), allow_pickle=False)'
        given = [f"with {opened} as file:", "    arrays = dict(file)", *given]
    if any(line.startswith("FILE =") for line in program.user.recipe.lines):
        imports |= {"import importlib.util", "import os"}
    if program.user.recipe.positional:
        imports.add("import functools")
    if any(line == "def as_nn_rnn(" for line in program.user.recipe.lines):
        imports.add("from typing import Any")
    if environ := program.user.recipe.environ:
        imports.add("import os")
    third |= {line for line in imports if "torch" in line or "ml_dtypes" in line}
    parts = [
        [
            f'"""{headline}',
            "",
            "Prints FAILED and exits with 1 while that is so. Afterwards it prints FIXED and exits with 0.",
            '"""',
        ],
        _in_order(imports - third),
        [f"os.environ[{quoted(name)}] = {quoted(value)}" for name, value in environ.items()],
        _in_order(third),
        program.user.recipe.lines,
        program.helpers,
        given,
        [_GROUND[library]],
        end,
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def indented(lines: Sequence[str]) -> list[str]:
    """Return the lines, as they stand inside a block."""
    return [f"    {line}" if line else line for text in lines for line in text.split("\n")]


def handed(case: Case) -> Mapping[str, Array]:
    """Return what a script writes of each array: all, or the repeated part of one that is expanded."""
    config = case.config
    if config.strides != "expanded":
        return case.arrays
    return {
        name: array
        if name in config.weights or not array.size
        else (array.reshape(-1)[:1].reshape(()) if name in config.cotangents else array[:1])
        for name, array in case.arrays.items()
    }


def handed_to(case: Case, user: User) -> Mapping[str, Array]:
    """Return the same, with the weights as the user's class has them, under nn.RNN's names."""
    one_bias, transposed = user.conventions.one_bias, user.conventions.transposed
    arrays = dict(handed(case))
    for name in case.config.weights:
        if name.startswith("bias_ih") and one_bias:
            arrays[name] = arrays[name] + arrays.pop(name.replace("_ih_", "_hh_"))
        elif name.startswith("weight") and transposed:
            arrays[name] = arrays[name].T
    return arrays


def quoted(text: str) -> str:
    """Return a string as code, in double quotes where that needs no escape."""
    shown = repr(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _looked_in(folder: Path, what: str) -> list[str]:
    return [f"FOLDER = {quoted(str(folder))}  # where {what} is", "sys.path.insert(0, FOLDER)"]


def _importable(stem: str) -> bool:
    """Tell whether a file can be imported by its name without being taken for something else."""
    return stem.isidentifier() and stem not in {*sys.stdlib_module_names, "numpy", "torch", "ml_dtypes"}


def _in_order(imports: set[str]) -> list[str]:
    return sorted(imports, key=lambda line: (line.startswith("from"), line))
