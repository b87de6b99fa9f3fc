"""user: how a script imports what a user named, and the parameters as that has them."""

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from harness.space.case import Array
from harness.space.config import RNNConfig
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import Conventions, named_conventions
from harness.subjects.protocol import Subject
from harness.subjects.registry import registered

_USED = """
    np torch sys os math copy pickle pathlib runpy subprocess types arrays sparse laid_out x h0 hx weights head
    cotangents lengths masks config layer first tensor name call state states step output h_n readout last by found
    gradients gradient returned numbers array axes failed expected tolerance actual want got allowed off right wrong
    index given before one other kept answers outputs pairs total surprise file entries shape value
"""
SCRIPT_NAMES: Final = frozenset(_USED.split())  # The names that a script uses itself


class NoScript(Exception):
    """A failure that no script can show without this package; its message says why."""


class UserSubject(NamedTuple):
    """The function or class that is called."""

    recipe: Recipe  # with its expression
    takes: tuple[str, ...]  # the arguments of a function; a class has none
    conventions: Conventions
    lines: tuple[str, ...] = ()  # what imports it

    @property
    def is_class(self) -> bool:
        """True if it is a class of modules."""
        return not self.takes


def user_named(spec: str, subject: Subject) -> UserSubject:
    """Return how a script calls the subject of that name. Raise ``NoScript`` where none can."""
    own = subject.capabilities
    if own.recipe is None or (spec in registered() and not own.recipe.expression):
        raise NoScript(f"only this package knows how to call {spec}")
    takes = own.recipe.takes or own.takes or ()
    if own.recipe.expression:
        return UserSubject(own.recipe, takes, own.conventions)
    if ":" not in spec:
        raise NoScript(f"{spec} cannot be imported by that name")
    expression, lines = _imported(named_conventions(spec)[0])
    return UserSubject(replace(own.recipe, expression=expression), takes, own.conventions, lines)


def _imported(spec: str) -> tuple[str, tuple[str, ...]]:
    """Return the expression of ``path/to/file.py:name`` or ``module:name``, and the lines that import it."""
    place, _, name = spec.rpartition(":")
    outer, *inner = name.split(".")
    alias = "subject" if outer in SCRIPT_NAMES else outer
    path = Path(place).resolve()
    of_file = place.endswith(".py")
    lines = [f"sys.path.insert(0, {quoted(str(path.parent if of_file else Path.cwd()))})"]
    taken = {*sys.stdlib_module_names, "numpy", "torch", "ml_dtypes"}  # by other modules than the file
    if of_file and (path.stem in taken or not path.stem.isidentifier()):
        lines.append(f"{alias} = runpy.run_path({quoted(str(path))})[{quoted(outer)}]")
    else:
        module = path.stem if of_file else place
        lines.append(f"from {module} import {outer}" + f" as {alias}" * (alias != outer))
    return ".".join([alias, *inner]), tuple(lines)


def quoted(text: str) -> str:
    """Return a string as code, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def dict_of(names: Iterable[str], *more: str) -> str:
    """Return the code of a dict of variables by their names, and of ``more``."""
    return "{" + ", ".join([*(f'"{name}": {name}' for name in names), *more]) + "}"


def wrapped(code: str, indent: int = 0) -> str:
    """Return code between brackets, on several lines if it is long."""
    later = " " * (indent + 4)
    return textwrap.fill(code, 96 - indent, subsequent_indent=later, break_on_hyphens=False, break_long_words=False)


def own_parameters(
    user: UserSubject, config: RNNConfig, arrays: Mapping[str, Array], suffix: str = ""
) -> dict[str, Array]:
    """Return arrays by nn.RNN's parameters as the user's layer has them, under its own names.

    With the ``suffix`` ".grad" they are gradients: one by a single bias is that by either of nn.RNN's two.
    """
    conventions, form = user.conventions, user.recipe.form
    parameters = [name for name in config.weights if not name.startswith("readout")]
    names = [name for name in parameters if name + suffix in arrays]
    own = {}
    for name in names:
        array = arrays[name + suffix]
        if conventions.one_bias and name.startswith("bias_hh"):
            continue
        if conventions.one_bias and name.startswith("bias_ih") and not suffix:
            array = array + arrays[name.replace("_ih_", "_hh_")]
        own[name] = array.T if conventions.transposed and name.startswith("weight") else array
    if form is not None and own:
        if names != parameters:
            raise NoScript("some of its gradients are missing")
        own = form.merged(own, config.num_directions, np.concatenate)
    elif user.is_class and user.recipe.is_cell:
        own = {name.removesuffix("_l0"): array for name, array in own.items()}
    return {name + suffix: array for name, array in own.items()}
