"""The store of findings: failing cases are kept in a folder each, and replayed from there.

A finding's folder is there in full or not at all. It is written under another name in the same directory, and then
renamed. An older folder in its place is renamed away first, and readers use it until then.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from errno import EEXIST, EIO, ENOTEMPTY
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from harness.checks.result import OF_TANH
from harness.report.place import DIRECTORY, Stored
from harness.search.hunt import Finding
from harness.space.case import Case, CaseError, load_with_notes
from harness.space.case_json import load_json, to_json
from harness.space.errors import UsageError

CASE: Final = "case.json"
RECORD: Final = "finding.json"

LISTING: Final = "rnn-harness findings"
"""The command that lists findings, as errors name it."""

STALE: Final = 24 * 60 * 60.0
"""The seconds after which a folder that was never put in its place is taken to be a dead process's, and removed."""

UNKNOWN: Final = "cause unknown"
_ID: Final = re.compile(r"[0-9a-f]{8}")
_PREFIX: Final = re.compile(r"[0-9a-f]{4,8}")
_LEFT: Final = re.compile(r"\.([0-9a-f]{8})\.(?:npz\.)?[0-9a-f]{32}(\.old)?")
"""The names of a finding that is being written and, with ``.old``, of one that was replaced."""

_NAME: Final = re.compile(r"\w[\w.-]*")
_TRIES: Final = 100
"""The number of times a finding is read again if others keep replacing it."""


class Store:
    """The findings in a directory, each in a folder named by its id, or in a file ``ID.npz`` from an older version."""

    def __init__(self, directory: str | os.PathLike[str] = DIRECTORY) -> None:
        self.directory = Path(directory)

    def save(
        self,
        finding: Finding,
        record: Mapping[str, Any] | None = None,
        texts: Mapping[str, str | bytes] | None = None,
        *,
        tolerance: str = "derived",
    ) -> Path:
        """Keep a finding, in full or not at all, in place of an earlier one with its id, and return its folder.

        ``record`` is plain data about it; ``texts`` are further files by name. Raises ``OSError`` with the path if that
        fails, and then leaves nothing behind.
        """
        files = _files(finding, record or {}, texts or {}, tolerance)
        place = self.directory / finding.id
        temporary = self._beside(finding.id)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            temporary.mkdir()
            for name, content in files.items():
                with (temporary / name).open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            _sync(temporary)
            self._put(temporary, finding.id)
        except OSError as error:
            if error.filename is None:  # a full disk does not name the file
                raise OSError(error.errno or EIO, error.strerror or str(error), str(place)) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return place

    def open(self, given: str) -> Stored:
        """Return the finding with an id, or with an id that begins with at least four given digits.

        Raises ``UsageError`` if there is none or more than one, and ``CaseError`` if its case is damaged.
        """
        stored = self._steady(self.resolve(given))
        if stored is None:
            raise UsageError(self._unknown(given, self.ids()))
        if stored.found is None:
            raise CaseError(stored.damage)
        return stored

    def remove(self, given: str) -> str:
        """Remove a finding by its id or a prefix of it, and return the id. Raise as ``open`` does, and ``OSError``."""
        id_ = self.resolve(given)
        for place in (self.directory / id_, *self._replaced(id_)):
            gone = self._beside(id_)
            with suppress(FileNotFoundError):
                place.rename(gone)
                _remove(gone)
        (self.directory / f"{id_}.npz").unlink(missing_ok=True)
        _sync(self.directory)
        return id_

    def resolve(self, given: str) -> str:
        """Return the id meant by an id or its first four digits or more. Raise ``UsageError`` as ``open`` does."""
        if not _PREFIX.fullmatch(given.lower()):
            raise UsageError(
                f"{given!r}: expected a finding's id, 8 hex digits, or its first 4 or more; {self._how_to_list()}"
            )
        ids = self.ids()
        matching = [id_ for id_ in ids if id_.startswith(given.lower())]
        if not matching:
            raise UsageError(self._unknown(given, ids))
        if len(matching) > 1:
            raise UsageError(
                f"{given}: {len(matching)} findings begin with it: {', '.join(matching)}; give more digits"
            )
        return matching[0]

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the findings, in order. Raise ``UsageError`` if the directory cannot be read."""
        try:
            names = {*self._names(), *self._names()}  # one look may miss a finding that is being renamed
        except OSError as error:
            raise UsageError(f"{self.directory}: cannot be read: {error.strerror or error}") from None
        replaced = {left[1] for name in names if (left := _LEFT.fullmatch(name)) and left[2]}
        return tuple(sorted(replaced | {id_ for name in names if _ID.fullmatch(id_ := name.removesuffix(".npz"))}))

    def _steady(self, id_: str) -> Stored | None:
        """Return the finding under an id, all from one save; ``None`` if it is gone by now."""
        for _ in range(_TRIES):
            place = self._place(id_)
            before = _identity(place)
            stored = _read(place, id_)
            if before is not None and _identity(place) == before:
                return replace(stored, path=self.directory / id_) if _LEFT.fullmatch(place.name) else stored
            time.sleep(0.001)
        return None

    def _place(self, id_: str) -> Path:
        """Return the path of a finding: in its place, renamed away for a later one, or in an older version's file."""
        place = self.directory / id_
        others = () if place.exists() else (*self._replaced(id_), self.directory / f"{id_}.npz")
        return next((other for other in others if other.exists()), place)

    def _put(self, temporary: Path, id_: str) -> None:
        """Put a folder in a finding's place; if several processes do that at once, the last one stays."""
        place = self.directory / id_
        replaced: list[Path] = []
        try:
            while not _renamed(temporary, place):
                replaced.append(self._beside(id_, ".old"))
                with suppress(FileNotFoundError):
                    place.rename(replaced[-1])
        except BaseException:
            with suppress(OSError, IndexError):
                replaced[-1].rename(place)
            raise
        _sync(self.directory)
        for old in replaced:
            self._discard(old)

    def _discard(self, old: Path) -> None:
        """Remove a replaced finding, under another name first, so that no reader sees a part of it."""
        gone = self._beside(_LEFT.sub(r"\1", old.name))
        with suppress(OSError):
            old.rename(gone)
            _remove(gone)

    def _sweep(self) -> None:
        """Remove what dead processes left; a finding that they renamed away and did not replace is put back."""
        with suppress(OSError):
            for name in self._names():
                left, path = _LEFT.fullmatch(name), self.directory / name
                with suppress(OSError):
                    if left is None or time.time() - path.lstat().st_mtime < STALE:
                        continue
                    if not left[2]:
                        _remove(path)
                    elif (self.directory / left[1]).exists():
                        self._discard(path)
                    else:
                        path.rename(self.directory / left[1])

    def _names(self) -> tuple[str, ...]:
        with suppress(FileNotFoundError):
            return tuple(os.listdir(self.directory))  # noqa: PTH208 - names, not paths
        return ()

    def _replaced(self, id_: str) -> tuple[Path, ...]:
        lefts = filter(None, map(_LEFT.fullmatch, self._names()))
        return tuple(self.directory / left[0] for left in lefts if left[1] == id_ and left[2])

    def _beside(self, id_: str, end: str = "") -> Path:
        return self.directory / f".{id_}.{uuid4().hex}{end}"

    def _unknown(self, given: str, ids: tuple[str, ...]) -> str:
        if not ids:
            return f"{given}: no such finding; {self.directory} has no findings"
        close = get_close_matches(given.lower(), ids, cutoff=0.5)
        closest = f"the closest: {', '.join(close)}; " if close else ""
        return f"{given}: no such finding in {self.directory}; {closest}{self._how_to_list()}"

    def _how_to_list(self) -> str:
        elsewhere = "" if self.directory == Path(DIRECTORY) else f" --findings {shlex.quote(str(self.directory))}"
        return f"`{LISTING}{elsewhere}` lists them"

    def list(self) -> list[Stored]:
        """Return every finding, the newest first, including damaged ones, which say so."""
        every = [stored for id_ in self.ids() if (stored := self._steady(id_)) is not None]
        return sorted(every, key=lambda stored: stored.kept or datetime.min.replace(tzinfo=UTC), reverse=True)


def load(given: str | os.PathLike[str], directory: str | os.PathLike[str] = DIRECTORY) -> Stored:
    """Return a finding in ``directory`` by its id or a prefix of it, or a case by its path.

    The path is a finding's folder, or a file that ``to_json`` or ``Case.save`` wrote. Raises ``UsageError`` if there is
    no such thing, and ``CaseError`` if it holds no case.
    """
    path, store = Path(given), Store(directory)
    if isinstance(given, str) and path.name == given and not path.suffix:
        known = _PREFIX.fullmatch(given.lower()) and any(id_.startswith(given.lower()) for id_ in store.ids())
        if known or not path.exists():
            return store.open(given)
    if not path.is_dir():
        case, notes = load_json(path) if path.suffix == ".json" else load_with_notes(path)
        return _stored(path, None, case, notes, {})
    if not (path / CASE).exists():
        raise CaseError(f"{path}: a folder without {CASE}; expected a finding's id, its folder, or a case's file")
    name = path.absolute().name
    stored = Store(path.absolute().parent).open(name) if _ID.fullmatch(name) else _read(path, None)
    if stored.found is None:
        raise CaseError(stored.damage)
    return replace(stored, path=path)


def _files(
    finding: Finding, record: Mapping[str, Any], texts: Mapping[str, str | bytes], tolerance: str
) -> dict[str, bytes]:
    """Return the contents of a finding's folder by file name."""
    for name in texts:
        if not _NAME.fullmatch(name) or name in {CASE, RECORD}:
            raise ValueError(f"{name!r}: expected a plain file name other than {CASE} and {RECORD}")
    what = {"id": finding.id, "subject": finding.subject, "kind": finding.result.kind}
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    document = {**what, "kept": now, "minimal": finding.minimal, **record}
    files = {
        CASE: to_json(finding.case, **what, tolerance=tolerance, versions=_versions()),
        RECORD: json.dumps(document, indent=2, default=str, allow_nan=False) + "\n",
        **texts,
    }
    return {
        name: text if isinstance(text, bytes) else text.encode(errors="backslashreplace")
        for name, text in files.items()
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("rnn-harness", "numpy", "torch"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _read(path: Path, id_: str | None) -> Stored:
    """Read a finding's folder, or an older version's file; damage is recorded in the result and raises no error."""
    if path.suffix == ".npz":
        try:
            return _stored(path, id_, *load_with_notes(path), {})
        except CaseError as error:
            return Stored(path, None, id=id_, kept=_modified(path), damage=str(error))
    case: Case | None = None
    notes: dict[str, Any] = {}
    record: dict[str, Any] = {}
    damages = []
    try:
        case, notes = load_json(path / CASE)
    except CaseError as error:
        damages.append(str(error))
    try:
        record = _record(path / RECORD)
    except UsageError as error:
        damages.append(str(error))
    return replace(_stored(path, id_, case, notes, record), damage="; ".join(damages))


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: expected an object")
    return record


def _stored(path: Path, id_: str | None, case: Case | None, notes: dict[str, Any], record: dict[str, Any]) -> Stored:
    subject, kind = (_text(record.get(name)) or _text(notes.get(name)) for name in ("subject", "kind"))
    kept = _time(record.get("kept")) or _modified(path)
    cause = _cause(record.get("cause"))
    if cause == UNKNOWN and (_text(record.get("message")) or "").startswith(OF_TANH):  # measured, it needs no cause
        cause = "measured"
    return Stored(path, case, subject, id_, kept, kind, cause, notes, record)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return None


def _cause(given: Any) -> str | None:
    """Return the cause in one line from a record's ``cause``: text, a dict with ``text``, or the faults' sentences."""
    if isinstance(given, dict):
        faults = given.get("faults")
        faults = faults if isinstance(faults, list) else []
        sentences = [fault["sentence"] for fault in faults if isinstance(fault, dict) and _text(fault.get("sentence"))]
        return _cause(given.get("text") or " or ".join(sentences))
    if isinstance(given, list):
        return _cause(given[0] if given else None)
    line = (_text(given) or "").partition("\n")[0]
    return UNKNOWN if line.startswith("unknown: ") else line or None


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return numbers that change when something else takes a path's place."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns


def _renamed(temporary: Path, place: Path) -> bool:
    """Rename a folder to a place, unless there is a folder that is not empty. Raise ``OSError`` for other obstacles."""
    try:
        temporary.rename(place)
    except OSError as error:
        if error.errno not in {EEXIST, ENOTEMPTY} or place.is_file():
            raise
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync(folder: Path) -> None:
    """Have the names in a folder written to the disk, if the system can do that."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
