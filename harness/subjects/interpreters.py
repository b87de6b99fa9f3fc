"""A subject under another interpreter, with other packages: ``python:INTERPRETER SUBJECT``.

There ``stand_alone_program`` runs it, which speaks the protocol of ``wire`` and needs no package but NumPy.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.space.cells import CELL_OF
from harness.space.factor_table import OPTIONS, PLAIN
from harness.space.reading import MOST_WRITTEN, read_bytes
from harness.subjects.conventions import named_conventions
from harness.subjects.function import LAYERS_NAMES, FunctionSubject
from harness.subjects.programs import subject_of
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.wire import UNSENT

# The variable of a file that names the interpreter for what is in it, by the path from the file.
INTERPRETER_VARIABLE: Final = "RNN_HARNESS_PYTHON"

STAND_ALONE_PROGRAM: Final = Path(__file__).with_name("stand_alone_program.py")

_NEEDS: Final = "# stand_alone_program.py is a file of rnn-harness that runs alone, under any Python with NumPy."


class InterpreterSpec(NamedTuple):
    """A subject, and the interpreter that runs it."""

    python: str
    spec: str

    @classmethod
    def of(cls, spec: str) -> InterpreterSpec:
        """Parse ``python:INTERPRETER SUBJECT``. Raise ``SubjectUnavailable`` for what does not name both."""
        try:
            words = shlex.split(spec.removeprefix(PYTHON))
        except ValueError:
            words = []
        if len(words) != 2:
            raise SubjectUnavailable(
                f"{spec}: expected an interpreter and a subject, such as python:../old/bin/python mine.py:rnn"
            )
        return cls(*words)

    def __str__(self) -> str:
        return f"{PYTHON}{shlex.join(self)}"


def subject_elsewhere(spec: str) -> FunctionSubject:
    """Return the subject of a name ``python:INTERPRETER SUBJECT``. Raise ``SubjectUnavailable`` if there is none."""
    return under(*InterpreterSpec.of(spec), spec)


def own_interpreter(spec: str) -> str | None:
    """Return the interpreter that the file of a subject names for itself, if it names one; it is not run for that."""
    path = Path(spec.rpartition(":")[0])
    try:
        body = ast.parse(read_bytes(path, MOST_WRITTEN)).body if path.suffix == ".py" else []
    except (OSError, SyntaxError, ValueError):
        return None
    for node in body:
        named = isinstance(node, ast.Assign) and [target.id for target in node.targets if isinstance(target, ast.Name)]
        if named == [INTERPRETER_VARIABLE] and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            return os.path.join(path.parent, str(node.value.value))  # noqa: PTH118 - an absolute one stays
    return None


def under(python: str, spec: str, name: str) -> FunctionSubject:
    """Return a subject as an interpreter runs it, under this name."""
    executable = shutil.which(python)
    if executable is None:
        raise SubjectUnavailable(f"{name}: {python}: no such interpreter; expected a path such as ../old/bin/python")
    spec, conventions = named_conventions(spec)
    place, colon, inner = spec.rpartition(":")
    if not (colon and place and inner) and spec != "torch":
        raise SubjectUnavailable(
            f"{name}: {spec}: expected torch, path/to/file.py:name or module:name under an interpreter"
        )
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise SubjectUnavailable(f"{name}: {place}: no such file")
        spec = f"{Path(place).absolute()}:{inner}"
    # A path is made absolute, not resolved: the link in a virtual environment is what chooses its packages.
    facts: dict[str, Any] = {"unsent": {name: PLAIN[name] for name in UNSENT}, "options": OPTIONS}
    facts |= {"cell_of": CELL_OF, "layers_names": LAYERS_NAMES}
    command = [str(Path(executable).absolute()), str(STAND_ALONE_PROGRAM), spec, json.dumps(facts)]
    return subject_of(command, name, _NEEDS, conventions)


# The start of the name of a subject under another interpreter; the interpreter and the subject follow.
PYTHON: Final = "python:"


def portable(spec: str) -> str:
    """Return a subject's name with its file by the path from the root of the file's repository.

    So the name depends neither on how the path was typed nor on where the repository lies. Outside of a repository it
    is the path from the working folder. Names without a file stay as they are, and so does another interpreter.
    """
    before, own = parted(spec)
    typed, _, name = own.rpartition(":")
    if not typed.endswith(".py"):
        return spec
    try:
        folder = Path(typed).parent.resolve()
        root = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), Path.cwd())
        path = os.path.relpath(folder / Path(typed).name, root)
    except (OSError, ValueError):  # no such path can be, or it is on another drive
        return spec
    relative = f"{Path(path).as_posix()}:{name}"
    return f"{before}{shlex.quote(relative)}" if before else relative


def parted(spec: str) -> tuple[str, str]:
    """Return what names another interpreter, or nothing, and the rest of a subject's name."""
    try:
        words = shlex.split(spec.removeprefix(PYTHON)) if spec.startswith(PYTHON) else []
    except ValueError:
        words = []
    return (f"{PYTHON}{shlex.quote(words[0])} ", words[1]) if len(words) == 2 else ("", spec)
