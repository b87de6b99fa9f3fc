"""line_runs: the arrays that each line of a subject's own Python made while it ran, as a debugger would see them."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import numpy as np

from harness.space.case import Array, Case
from harness.subjects.protocol import Subject

LINES_WATCHED: Final = 20_000  # lines of a run that are watched; of a longer one nothing is known
SECONDS: Final = 3.0  # and the time that they may take
NESTED_CONTAINERS: Final = 3  # containers within each other in which arrays are looked for
ENTRIES_WATCHED: Final = 200  # entries of each

_HARNESS: Final = Path(__file__).parents[1]
_INSTALLED: Final = {"site-packages", "dist-packages"}
_OPAQUE: Final = (str, bytes, int, type, ModuleType, FunctionType)


class CodeSite(NamedTuple):
    """A place in a file: a line, and the instruction of it that calls the next site, if it calls one."""

    file: str
    line: int
    instruction: int = 0


class SourceLineArray(NamedTuple):
    """An array that a line made or changed, flat; ``shared`` if it changed in place and has two names there."""

    array: Array
    shared: bool


class LineRun(NamedTuple):
    """One run of a line: where it is, innermost first, and the arrays that it made."""

    stack: tuple[CodeSite, ...]
    values: tuple[SourceLineArray, ...]


def line_runs_of(subject: Subject, case: Case) -> list[LineRun]:
    """Return the runs of a subject's own lines on a case, in the order of time; nothing if it cannot be watched.

    Its own lines are those of its file and of files beside it. A subject that is no Python has none, nor has code that
    was compiled.
    """
    process, place = subject.capabilities.process, subject.capabilities.place
    if process is not None:
        return process.line_runs(case)
    return [] if place is None else watched(lambda: subject.run(case), Path(place[0]))


def lines_of(subject: Subject, case: Case) -> int:
    """Return how many of its own lines a subject runs on a case; 0 where that cannot be counted."""
    process, place = subject.capabilities.process, subject.capabilities.place
    if process is not None:
        return process.lines(case)
    return 0 if place is None else _counted(lambda: subject.run(case), Path(place[0]))


def _counted(call: Callable[[], object], file: Path) -> int:
    """Return how many lines of a file, and of files beside it, run during a call."""
    watch, before, lines = _Watch(file), sys.gettrace(), 0

    def each(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return each

    sys.settrace(lambda frame, _event, _argument: each if watch.is_own(frame) else None)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def progress_of(call: Callable[[], object], file: str) -> tuple[tuple[int, ...], Exception | None]:
    """Return how far a call comes in a file, and the error that it raises; of those that raise none, how far is empty.

    That is the number of lines that run, and then the last instruction of each frame, the outermost first.
    """
    before, lines = sys.gettrace(), 0

    def each(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return each

    sys.settrace(lambda frame, _event, _argument: each if frame.f_code.co_filename == file else None)
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        sys.settrace(before)
        places, frames = list[int](), error.__traceback__
        while frames is not None:
            if frames.tb_frame.f_code.co_filename == file:
                places.append(frames.tb_lasti)
            frames = frames.tb_next
        return (lines, *places) if places else (), error
    finally:
        sys.settrace(before)
    return (), None


def watched(call: Callable[[], object], file: Path) -> list[LineRun]:
    """Return the runs of lines of a file, and of files beside it, during a call; nothing if there are too many."""
    watch, before = _Watch(file), sys.gettrace()
    sys.settrace(watch)
    try:
        call()
        undisturbed = sys.gettrace() == watch
    finally:
        sys.settrace(before)
    return watch.runs if undisturbed else []


class _Watch:
    """A trace function, which follows every frame of the user's own code."""

    def __init__(self, file: Path) -> None:
        self.runs: list[LineRun] = []
        self._file, self._folder = str(file), file.resolve().parent
        self._own: dict[str, bool] = {}
        self._lines, self._until = 0, time.perf_counter() + SECONDS
        self._contents: dict[int, tuple[object, bytes]] = {}  # the content of arrays, which are kept so that ids stay
        self._scalars: set[float] = set()

    def __call__(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        return _FrameWatch(self, frame) if self.is_own(frame) else None

    def is_own(self, frame: FrameType) -> bool:
        """Tell whether a frame is of the user's own code, and no import."""
        name = frame.f_code.co_filename
        if name not in self._own:
            path = Path(name).resolve()
            beside = path.is_relative_to(self._folder) and not _INSTALLED & {*path.relative_to(self._folder).parts}
            beside = beside and not name.startswith("<") and not path.is_relative_to(_HARNESS)
            self._own[name] = name == self._file or beside
        return self._own[name] and frame.f_code.co_name != "<module>"

    def add(self, stack: tuple[CodeSite, ...], values: tuple[SourceLineArray, ...]) -> None:
        """Note a run of a line. After too many, nothing is watched any more."""
        self._lines += 1
        if self._lines > LINES_WATCHED or time.perf_counter() > self._until:
            sys.settrace(None)
        elif values:
            self.runs.append(LineRun(stack, values))

    def values(self, frame: FrameType, *returned: object) -> tuple[SourceLineArray, ...]:
        """Return the arrays that a frame sees and that are new, or not what they were."""
        changed: dict[int, SourceLineArray] = {}
        try:
            pairs = list(_arrays([*frame.f_locals.values(), *returned], NESTED_CONTAINERS, set()))
        except Exception:  # noqa: BLE001 - whatever an object of the user's raises where it is looked at
            sys.settrace(None)
            return ()
        names = [id(value) for value, _ in pairs]
        for value, array in pairs:
            if array.ndim == 0:
                if (number := float(array)) not in self._scalars:
                    self._scalars.add(number)
                    changed[id(value)] = SourceLineArray(array.reshape(1), shared=False)
                continue
            content = array.tobytes()
            old = self._contents.get(id(value))
            if old is None or old[1] != content:
                self._contents[id(value)] = value, content
                flat = np.array(array, np.float64).ravel()
                changed[id(value)] = SourceLineArray(flat, old is not None and names.count(id(value)) > 1)
        return tuple(changed.values())


class _FrameWatch:
    """The trace function of one frame: what has changed is what the line before made."""

    def __init__(self, watch: _Watch, frame: FrameType) -> None:
        self._watch, self._line = watch, frame.f_lineno
        callers: list[CodeSite] = []
        caller = frame.f_back
        while caller is not None:
            if watch.is_own(caller):
                callers.append(CodeSite(caller.f_code.co_filename, caller.f_lineno, caller.f_lasti))
            caller = caller.f_back
        self._callers = tuple(callers)
        arguments = watch.values(frame)
        if callers:  # whose line made them
            watch.add(self._callers, arguments)

    def __call__(self, frame: FrameType, event: str, argument: object) -> _FrameWatch:
        if event in ("line", "return"):
            returned = (argument,) if event == "return" else ()
            here = CodeSite(frame.f_code.co_filename, self._line)
            self._watch.add((here, *self._callers), self._watch.values(frame, *returned))
            self._line = frame.f_lineno
        return self


def _arrays(values: Any, depth: int, visited: set[int]) -> Iterator[tuple[object, Array]]:
    """Yield arrays, tensors and numbers among values, and in their entries and attributes; a list of numbers is one."""
    for value in values:
        if isinstance(value, _OPAQUE) or value is None:
            continue
        if (array := _array(value)) is not None:
            yield value, array
        elif depth and id(value) not in visited:
            visited.add(id(value))
            yield from _arrays(_entries(value), depth - 1, visited)


def _array(value: Any) -> Array | None:
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        with suppress(Exception):  # of a tensor without numbers, or that torch only follows
            array = torch.Tensor.detach(value).numpy()
            return array if array.dtype.kind == "f" else None
        return None
    if isinstance(value, np.ndarray | np.floating | float):
        array = np.asarray(value)
        return array if array.dtype.kind == "f" else None
    if isinstance(value, list) and 0 < len(value) <= ENTRIES_WATCHED and all(isinstance(item, float) for item in value):
        return np.array(value)
    return None


def _entries(value: Any) -> list[Any]:
    """Return what a container holds, or the attributes of an object."""
    with suppress(Exception):  # whatever a class of the user's raises
        if isinstance(value, dict):
            return list(value.values())[:ENTRIES_WATCHED]
        if isinstance(value, list | tuple | deque):
            return list(value)[:ENTRIES_WATCHED]
        return list(vars(value).values())[:ENTRIES_WATCHED]
    return []
