"""Documents: JSON that is read up to a size and held to its types, and files that are written in full or not at all."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, TypeVar

import cattrs

from harness.space.atomic import atomic_write, write_text
from harness.space.errors import UsageError
from harness.space.reading import TEXT, parsed, read_bytes

T = TypeVar("T")

DOCUMENT_VERSION: Final = 4  # of all JSON documents; it rises when a field goes, or changes its meaning


def heading(name: str) -> dict[str, Any]:
    """Return the fields with which a document of this kind begins."""
    return {"version": DOCUMENT_VERSION, "document": name}


def read_text(path: Path, most: int = TEXT) -> str:
    """Return the text in a file. Raise ``UsageError`` in one line if there is none."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected text in UTF-8") from None


def read(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return the JSON object in a file, a document of this kind. Raise ``UsageError`` in one line if there is none."""
    content = read_text(path)
    try:
        document = parsed(content)
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected an object")
    for field, expected in {} if name is None else heading(name).items():
        if document.get(field) != expected:
            raise UsageError(f"{path}: {field}={document.get(field)!r}: expected {expected!r}")
    return document


def read_as(path: Path, name: str, kind: type[T]) -> T:
    """Return the document in a file as an object of a type, whose fields it has. Raise ``UsageError`` as ``read``."""
    document = read(path, name)
    try:
        return _converter().structure(document, kind)
    except cattrs.BaseValidationError as error:
        text = cattrs.transform_error(error)[0]
    raise UsageError(f"{path}: {text if len(text) <= 200 else f'{text[:199]}…'}")


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for kind in (str, bool):  # by default, anything becomes one

        def exactly(value: Any, _: Any, kind: type = kind) -> Any:
            if not isinstance(value, kind):
                raise TypeError(f"{value!r} is no {kind.__name__}")
            return value

        converter.register_structure_hook(kind, exactly)
    return converter


def require_targets(targets: Mapping[str, str | None]) -> None:
    """Raise ``UsageError`` at once if the document of an option cannot be written to its target, or two have one."""
    taken: dict[str, str] = {}
    for option, target in targets.items():
        if target is None:
            continue
        if target != "-":
            _require(target, option)
        place = target if target == "-" else str(Path(target).resolve())
        if place in taken:
            raise UsageError(f"{option} {target}: expected another file than {taken[place]} writes to")
        taken[place] = option


def _require(target: str, option: str) -> None:
    path = Path(str(target)).absolute()
    if not target or path.is_dir():
        raise UsageError(f"{option} {target!r}: expected a file's name")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {target}: its folder does not exist")
    if path.exists() and not path.is_file():  # a pipe, which may have no folder to write to
        return
    try:
        with TemporaryFile(dir=path.resolve().parent):  # permissions alone do not tell
            pass
    except OSError as error:
        raise UsageError(f"{option} {target}: cannot be written: {error.strerror or error}") from None


def as_json(name: str, record: Mapping[str, Any]) -> str:
    """Return a record as a JSON document; ``name`` is its kind."""
    return json.dumps({**heading(name), **record}, indent=2, default=str, allow_nan=False) + "\n"


def write(text: str, target: str) -> None:
    """Write a text to a file, atomically, or to standard output for ``-``. Raise ``OSError`` if that fails."""
    if target == "-":
        sys.stdout.write(text)
        return
    write_text(target, text, follow=True)


@contextmanager
def lines_to(target: str) -> Iterator[Callable[[str], object]]:
    """Return a function that writes a line; the file is there as a whole, and only if the block ends well."""
    if target == "-":
        yield sys.stdout.write
        return
    with atomic_write(target, follow=True) as file:
        yield lambda line: file.write(line.encode(errors="backslashreplace"))
