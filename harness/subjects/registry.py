"""The registry, which turns a name or an object of the user's into a Subject."""

import ast
import importlib
import importlib.util
import inspect
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeGuard

from harness.space.cells import CELLS
from harness.space.errors import UsageError, require_type
from harness.space.reading import MOST_WRITTEN, read_bytes, size_of
from harness.subjects.adapter import Adapter, AdapterModuleFactory, built_by, require_filled
from harness.subjects.capabilities import Capabilities
from harness.subjects.config_object import by_fields
from harness.subjects.conventions import CONVENTION_NAMES, Conventions, declared_by, named_conventions
from harness.subjects.function import SIGNATURES, FunctionSubject
from harness.subjects.interpreters import PYTHON, own_interpreter, parted, subject_elsewhere, under
from harness.subjects.programs import EXEC, program_subject
from harness.subjects.protocol import Subject, SubjectUnavailable
from harness.subjects.run_user_code import a_or_an, place_of
from harness.subjects.subject_names import of_cell
from harness.subjects.torch_variants import KERNEL_SUBJECTS, MODE_SUBJECTS, attribute_of

# The entry-point group in which other distributions offer subjects; calling an entry gives a ``Subject``.
GROUP: Final = "rnn_harness.subjects"

# Where the subjects of other libraries are, below ``harness.subjects.runtimes``; each has one for each cell.
RUNTIMES: Final = {
    "onnx:runtime": "onnx_runtimes:runtime",
    "onnx:reference": "onnx_runtimes:reference",
    "onnx:openvino": "onnx_runtimes:openvino",
    "onnx:torchscript": "onnx_exporters:torchscript",
    "onnx:dynamo": "onnx_exporters:dynamo",
    "jax:flax": "flax:subject",
    "keras:torch": "keras:subject",
    "paddle:layer": "paddle:subject",
    "mlx:cpu": "mlx:subject",
    "ncnn:cpu": "ncnn:subject",
}

MOST_NAMED: Final = 10  # the functions and classes of a user's files that an error names
MOST_FILES: Final = 100  # the files in a folder that are looked into for them

_SUBJECT: Final = "a Subject: name, capabilities = Capabilities(...), devices() and run(case)"
_FORMS: Final = "a name that 'rnn-harness subjects' lists, path/to/file.py:name, module:name or exec:program"


def registered() -> dict[str, EntryPoint]:
    """Return the subjects that this and other installed distributions offer, by name, without importing them."""
    own = {
        "torch": "harness.subjects.torch_module:TorchSubject",
        **{spec: f"harness.subjects.torch_switched:{attribute_of(spec)}" for spec in KERNEL_SUBJECTS},
        **{spec: f"harness.subjects.torch_compiled:{attribute_of(spec)}" for spec in MODE_SUBJECTS},
        "torch:gru": "harness.subjects.torch_module:gru",
        "torch:lstm": "harness.subjects.torch_module:lstm",
        "torch:cell": "harness.subjects.torch_cell:CellSubject",
        "torch:quantized-cell": "harness.subjects.torch_quantized:by_torch",
        **{
            of_cell(spec, cell): f"harness.subjects.runtimes.{place}.{cell}"
            for cell in CELLS
            for spec, place in RUNTIMES.items()
        },
    }
    offered = [*(EntryPoint(name, value, GROUP) for name, value in own.items()), *entry_points(group=GROUP)]
    return {entry.name: entry for entry in offered}


def find_subject(spec: str) -> Subject:
    """Return the subject of a name: a registered one, ``path/to/file.py:name``, ``module:name`` or ``exec:program``.

    Raises ``SubjectUnavailable`` if there is none, and says why and what there is instead.
    """
    offered = registered()
    if spec in offered:
        try:
            made = offered[spec].load()()
        except ImportError as error:
            raise SubjectUnavailable(f"{spec}: needs a package that is not installed ({error}); install it") from None
        if not _is_subject(made):
            raise SubjectUnavailable(f"{spec}: its entry point gave {made!r}, expected {_SUBJECT}")
        return made
    if spec.startswith(EXEC):
        return program_subject(spec)
    if spec.startswith(PYTHON):
        return subject_elsewhere(spec)
    place, _, name = spec.rpartition(":")
    if not place or not name or (":" in place and not place.endswith(".py")):  # no name of a module has a colon
        if (file := spec.removesuffix(":")).endswith(".py"):
            _require_source(Path(file))
            named = _listed(_named_in(Path(file))) or f"{file}:name"
            raise SubjectUnavailable(f"{spec}: expected a function or class of it: {named}")
        if os.path.isdir(spec) and (named := _listed(_named_beside(Path(spec)))):  # noqa: PTH112 - of what may be no path
            raise SubjectUnavailable(f"{spec}: is a folder; expected a function or class in it: {named}")
        if meant := _listed(_meant_by(Path(spec.strip(":")))):
            raise SubjectUnavailable(f"{spec}: unknown subject; did you mean {meant}?")
        close = get_close_matches(spec, offered)
        forms = f"did you mean {close[0]}?" if close else f"expected {_FORMS}"
        raise SubjectUnavailable(f"{spec}: unknown subject; {forms}")
    if python := own_interpreter(spec):
        return under(python, spec, spec)
    plain, conventions = named_conventions(spec)
    return _declared(given_by(plain), spec, conventions)


def given_by(spec: str) -> Any:
    """Return what is in a file or module under a name. Raise ``SubjectUnavailable`` if it is not there."""
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise SubjectUnavailable(f"{spec}: expected path/to/file.py:name or module:name")
    target: Any = _load_file(spec, Path(place)) if place.endswith(".py") else _load_module(spec, place)
    for part in name.split("."):
        if not hasattr(target, part):
            close = get_close_matches(spec, registered())
            instead = f"did you mean {close[0]}?" if close else _offer(target, part)
            raise SubjectUnavailable(f"{spec}: {place} has no {part}; {instead}")
        target = getattr(target, part)
    return target


def of_layer(spec: str, layer: str) -> str:
    """Return a subject's name with the layer that it is compared with, such as ``gru`` or ``lstm``.

    Raises ``SubjectUnavailable`` for what is an nn.RNN by its name, or may only be one.
    """
    if layer in CONVENTION_NAMES or not layer.isidentifier():
        raise SubjectUnavailable(f"layer={layer!r}: expected gru, lstm or the name of a harness.Cell")
    before, own = parted(spec)
    if before:
        return f"{before}{shlex.quote(of_layer(own, layer))}"
    if spec in registered() and (variant := of_cell(spec, layer.upper())) in registered():
        return variant
    if spec.startswith(EXEC):
        raise SubjectUnavailable(f'{spec}: a program says what it is in its greeting: "conventions": ["{layer}"]')
    if spec in registered():
        raise SubjectUnavailable(
            f"{spec}: has no {layer}; expected torch, torch:compile and so on, or a function or class of yours"
        )
    return f"{spec}+{layer}"


def _declared(target: Any, spec: str, names: Sequence[str]) -> Subject:
    """Return the subject of a function or class with the conventions that it declares and those in its name."""
    if not names:
        return as_subject(target, spec)
    if _is_subject(target) or not (callable(target) or isinstance(target, Adapter)):
        raise SubjectUnavailable(
            f"{spec}: is {a_or_an(type(target).__name__)}; expected a function or class with conventions"
        )
    named = Conventions.of(names, spec)
    if named.cell == "RNN":
        declared = declared_by(target, spec).names
    else:  # which is in the place of what the name of a function says
        declared = Conventions.of(getattr(target, "conventions", {}), f"{spec}: conventions").names
    if isinstance(target, Adapter) and named.forms:
        raise SubjectUnavailable(f"{spec}: is an Adapter, whose weights say what differs: expected no {named.forms[0]}")
    return _made(target, spec, Conventions.of((*declared, *names)))


def _named_in(path: Path) -> Iterator[str]:
    """Name the functions and classes of a file as subjects, without running it."""
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.parse(read_bytes(path, MOST_WRITTEN)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield f"{path}:{node.name}"


def _named_beside(folder: Path) -> Iterator[str]:
    """Name those of the files in a folder."""
    with suppress(OSError, ValueError):
        yield from chain.from_iterable(map(_named_in, islice(sorted(folder.glob("*.py")), MOST_FILES)))


def _meant_by(path: Path) -> Iterator[str]:
    """Name those in a path's folder that may be meant by a file's name without its end, or by their own names."""
    for spec in _named_beside(path.parent):
        file, _, name = spec.rpartition(":")
        if path.name in {Path(file).stem, name}:
            yield spec


def _listed(names: Iterator[str]) -> str:
    """Return the first few names in a line."""
    few = [*islice(names, MOST_NAMED + 1)]
    return ", ".join([*few[:MOST_NAMED], *["…"] * (len(few) > MOST_NAMED)])


def _offer(holder: Any, name: str) -> str:
    """List what ``name`` may have meant: the callables with the closest names, or the first few."""
    names = [n for n in vars(holder) if callable(getattr(holder, n)) and not n.startswith("_")]
    few = get_close_matches(name, names) or names[:10]
    return f"it has {', '.join(few) or 'nothing that can be called'}"


def spec_of(subject: Subject) -> str | None:
    """Return the spec of a subject: its own, or its file and name; ``None`` if neither finds it."""
    if subject.name in registered() or ":" in subject.name:
        return subject.name
    place = subject.capabilities.place
    return None if place is None else f"{near(Path(place[0]))}:{place[1]}"


def near(path: Path) -> str:
    """Return the path relative to the working folder if it is below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def as_subject(given: Any, name: str | None = None) -> Subject:
    """Return the subject for ``given``: a spec, a ``Subject``, a drop-in class for ``nn.RNN``, or a function.

    Reports call it ``name``. Raises ``SubjectUnavailable`` for anything else.
    """
    if name is not None:
        require_type("name", name, str, "reports call it by this name")
    if isinstance(given, str):
        return find_subject(given)
    if _is_subject(given):
        return given
    return _made(given, name or str(getattr(given, "__qualname__", type(given).__name__)))


def _made(target: Any, name: str, conventions: Conventions | None = None) -> Subject:
    try:
        with warnings.catch_warnings(action="ignore"):  # of the calls by which its form is found
            return _read(target, name, conventions)
    except SubjectUnavailable as error:
        spec = f"{name.partition('+')[0]}"
        if not (inspect.isclass(target) or inspect.isfunction(target)) or ":" not in spec:
            raise
        raise SubjectUnavailable(
            f"{error}\n`rnn-harness adapt {shlex.quote(spec)}` prints an adapter to complete"
        ) from error


def _read(target: Any, name: str, conventions: Conventions | None) -> Subject:
    if isinstance(target, Adapter):
        require_filled(target.build, name)
        return _of_modules(target, name, conventions, built_by(target), SubjectUnavailable(f"{name}: cannot be read"))
    if inspect.isclass(target) and not hasattr(target, "named_parameters"):
        from harness.subjects.function_module import modules_of_function
        from harness.subjects.numpy_module import CALL_METHODS, calls_of, modules_of

        methods = ", ".join(CALL_METHODS)
        what = f"a class must be a torch.nn.Module, or a NumPy class with one of the methods {methods}"
        modules = chain(modules_of(target), *map(modules_of_function, calls_of(target)))
        return _of_modules(target, name, conventions, modules, SubjectUnavailable(f"{name}: {what}"))
    if inspect.isclass(target):
        return _of_class(target, name, conventions)
    if hasattr(target, "named_parameters"):
        raise SubjectUnavailable(
            f"{name}: a module that is already built fits one config only; pass its class, or a function that calls it"
        )
    if hasattr(target, "devices") and hasattr(target, "run"):
        raise SubjectUnavailable(f"{name}: {a_or_an(type(target).__name__)} is not a subject; expected {_SUBJECT}")
    if not callable(target):
        raise SubjectUnavailable(
            f"{name}: {a_or_an(type(target).__name__)} is not a subject; expected a function, a class or {_FORMS}"
        )
    require_filled(target, name)
    try:
        return FunctionSubject(target, name, conventions=conventions)
    except SubjectUnavailable as error:
        if not inspect.isfunction(target):
            raise
        from harness.subjects.function_module import likeliest_failure, modules_of_function
        from harness.subjects.length_argument import LengthsUnreadError

        declared = declared_by(target, name) if conventions is None else conventions
        try:
            return _of_modules(target, name, conventions, modules_of_function(target), error, last=True)
        except LengthsUnreadError:  # of some calls that succeed
            raise
        except SubjectUnavailable as refusal:
            if not (failure := likeliest_failure(target, declared.cell)):
                raise
            what = f"{name}{inspect.signature(target)}: as a layer, the likeliest call of it raises {failure}"
            raise SubjectUnavailable(f"{what}\n{SIGNATURES}") from refusal


def _of_class(factory: Any, name: str, conventions: Conventions | None) -> Subject:
    from harness.subjects.axes import INPUT_ORDERS, with_axes
    from harness.subjects.torch_form import form_of, with_not_compared  # torch is imported when a subject needs it
    from harness.subjects.torch_module import TorchSubject
    from harness.subjects.torch_own_form import OwnFormSubject, completed

    declared = declared_by(factory, name) if conventions is None else conventions
    try:
        form = form_of(factory, name, "" if declared.cell == "RNN" else declared.cell)
    except SubjectUnavailable as error:
        others = [subclass for subclass in [by_fields(factory)] if subclass is not None]
        turned = [with_axes(factory, axes) for axes in INPUT_ORDERS[1:]]
        return _of_modules(factory, name, conventions, [*others, *turned], error, last=not others)
    if form is not None and not form.drop_in:
        own = partial(OwnFormSubject, factory, name, conventions=conventions)
        return own(completed(own, with_not_compared(factory, form)))
    if form is not None and declared.cell == "RNN":
        conventions = form.conventions.beside(declared)
    return TorchSubject(factory, name, conventions=conventions)


def _of_modules(
    target: Any,
    name: str,
    conventions: Conventions | None,
    modules: Iterable[Any],
    error: SubjectUnavailable,
    *,
    last: bool = False,
) -> Subject:
    """Return the subject of what classes of modules are made of, by the first of them that answers as a layer does.

    If none does, raise the error of the first of them, or that which is given if it is to be the ``last`` word.
    """
    from harness.subjects.axes import INPUT_ORDERS
    from harness.subjects.length_argument import LengthsUnreadError
    from harness.subjects.torch_form import (
        form_of,
        form_of_adapter,
        reads_each_gate,
        with_loader,
        with_not_compared,
        with_way_back,
    )
    from harness.subjects.torch_own_form import AdaptedSubject, ModuleOfSubject, OwnFormSubject, completed

    declared = declared_by(target, name) if conventions is None else conventions
    first: SubjectUnavailable | None = None
    of_lengths: SubjectUnavailable | None = None  # which says more
    for module in modules:
        adapted = isinstance(module, AdapterModuleFactory)
        try:
            form = (form_of_adapter if adapted else form_of)(
                module, name, "" if declared.cell == "RNN" else declared.cell
            )
        except SubjectUnavailable as refusal:
            first = first or refusal
            of_lengths = of_lengths or (refusal if isinstance(refusal, LengthsUnreadError) else None)
            continue
        if form is None or (
            form.conventions.batch_first and module.axes != INPUT_ORDERS[0]
        ):  # that is another of the orders
            continue
        if form.unbatched and module.axes not in INPUT_ORDERS[:2]:  # of (T, I) alone there are two
            continue
        if adapted or reads_each_gate(module, form):
            form = replace(form, axes=module.axes.removeprefix(INPUT_ORDERS[0]))
            if module.in_numpy:
                form = with_way_back(module, form if adapted else with_loader(module, form))
            own: Callable[..., OwnFormSubject] = (
                partial(AdaptedSubject, module, name)
                if adapted
                else partial(ModuleOfSubject, module, name, conventions=conventions, place=place_of(target))
            )
            return own(completed(own, with_not_compared(module, form)))
    raise of_lengths or (error if last or first is None else first)


def _is_subject(value: object) -> TypeGuard[Subject]:
    return isinstance(value, Subject) and not inspect.isclass(value) and isinstance(value.capabilities, Capabilities)


def _require_source(path: Path) -> None:
    try:
        size_of(path, MOST_WRITTEN)
    except UsageError as error:
        raise SubjectUnavailable(str(error)) from None


def _load_file(spec: str, path: Path) -> ModuleType:
    _require_source(path)
    location = importlib.util.spec_from_file_location(f"_rnn_harness_subject_{path.stem}", path)
    assert location is not None  # true of every .py file, like the next line
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    sys.modules[location.name] = module  # dataclasses and pickle look up a class's module there
    _look_in(path.parent.resolve())  # as `python path/to/file.py` would
    try:
        location.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[location.name]
        raise SubjectUnavailable(f"{spec}: {path} cannot be imported: {_reason(error)}") from error
    return module


def _load_module(spec: str, name: str) -> ModuleType:
    _look_in(Path.cwd())  # as `python -m name` would
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SubjectUnavailable(f"{spec}: {name} cannot be imported: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Describe an import's error, with the last line of user code that led to it."""
    own = ("importlib", str(Path(__file__).parent))
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not any(name in frame.filename for name in own)
    ]
    at = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    return f"{type(error).__name__}: {error}{at}"


def _look_in(folder: Path) -> None:
    """Let imports find modules in ``folder``, permanently, because a function may import when it is called."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
