"""The folders of findings: failing cases are kept in a folder each, and read back from there.

A folder is written under another name in the same directory, and then renamed. So a finding is there in full or not at
all.
"""

import os
import platform
import re
import shlex
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from errno import EEXIST, EIO, ENOTEMPTY
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from harness.checks.result import ComparisonMethod, is_id
from harness.report.error_map_records import MapsRecord
from harness.report.finding_files import DIRECTORY, Fact, SavedFinding
from harness.search.search_record import Finding
from harness.space.case import Case, CaseError, load_with_notes
from harness.space.case_json import load_json, to_json
from harness.space.errors import UsageError
from harness.space.reading import parsed, read_bytes
from harness.store.document import as_json, read_as
from harness.store.own_findings import is_noted, note
from harness.subjects.registry import registered

CASE: Final = "case.json"
RECORD: Final = "finding.json"

LISTING_COMMAND: Final = "rnn-harness findings"  # the command that lists findings, as errors name it

UNFINISHED_FACTS: Final = frozenset(
    {"cause", "case"}
)  # facts of a record whose cause or smaller case was not looked for

_PREFIX: Final = re.compile(r"[0-9a-f]{4,8}")
_NAME: Final = re.compile(r"\w[\w.-]*")


class Store:
    """The findings in a directory, each in a folder named by its id."""

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

        It is this machine's own. ``record`` is plain data about it; ``texts`` are further files by name. Raises
        ``OSError`` with the path if that fails, and then leaves nothing behind.
        """
        files = _files(finding, record or {}, texts or {}, tolerance)
        note(self.directory / finding.id, files[CASE], files[RECORD])  # before anybody can meet it
        return self._write(finding.id, files)

    def more_complete(self, finding: Finding, record: Mapping[str, Any]) -> SavedFinding | None:
        """Return this machine's own record of a finding, if it says more of the same file than a new one."""
        if not (self.directory / finding.id).is_dir():
            return None
        stored, new = self._read(finding.id), parsed(as_json("finding", record))
        same = (
            stored.own
            and not stored.damage
            and (stored.source or finding.subject in registered())
            and stored.notes.get("versions") == _versions()
            and (stored.source, stored.result) == (new["source"], new["finding"]["result"])
        )
        less, more = {fact["name"] for fact in new["facts"]} - UNFINISHED_FACTS, {fact.name for fact in stored.facts}
        return stored if same and less < more - UNFINISHED_FACTS else None

    def owns(self, id_: str) -> bool:
        """Tell if this machine wrote what is kept under an id, and nobody has edited it since."""
        return _is_own(self.directory / id_)

    def copy(self, folder: Path, id_: str) -> Path:
        """Keep a finding that is in a folder elsewhere, and return its folder here. That makes it nobody's own.

        Raises ``UsageError`` if it is damaged, and ``OSError`` if it cannot be kept.
        """
        if damage := _read(folder, id_).damage:
            raise UsageError(f"{folder}: {damage}")
        files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        return self._write(id_, {path.name: read_bytes(path) for path in files})

    def _write(self, id_: str, files: Mapping[str, bytes]) -> Path:
        """Write the files of a finding into its folder, in full or not at all."""
        place = self.directory / id_
        temporary = self.directory / f".{id_}.{uuid4().hex}"
        try:
            temporary.mkdir(parents=True)
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            _put(temporary, place)
        except OSError as error:
            if error.filename is None:  # a full disk does not name the file
                raise OSError(error.errno or EIO, error.strerror or str(error), str(place)) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return place

    def open(self, prefix: str) -> SavedFinding:
        """Return the finding with an id, or with an id that begins with at least four given digits.

        Raises ``UsageError`` if there is none or more than one, and ``CaseError`` if its case is damaged.
        """
        stored = self._read(self.resolve(prefix))
        if stored.saved_case is None:
            raise CaseError(stored.damage)
        return stored

    def remove(self, prefix: str) -> str:
        """Remove a finding by its id or a prefix of it, and return the id. Raise as ``open`` does, and ``OSError``."""
        id_ = self.resolve(prefix)
        place = self.directory / id_
        if place.is_dir() and not place.is_symlink():
            removed = self.directory / f".{id_}.{uuid4().hex}"
            place.rename(removed)  # at once, so that no interrupt leaves half of it
            shutil.rmtree(removed)
        else:
            place.unlink()
        return id_

    def resolve(self, prefix: str) -> str:
        """Return the id meant by an id or its first four digits or more. Raise ``UsageError`` as ``open`` does."""
        if not _PREFIX.fullmatch(prefix.lower()):
            raise UsageError(
                f"{prefix!r}: expected a finding's id, 8 hex digits, or its first 4 or more; {self._how_to_list()}"
            )
        ids = self.ids()
        matching = [id_ for id_ in ids if id_.startswith(prefix.lower())]
        if not matching:
            raise UsageError(self._unknown(prefix, ids))
        if len(matching) > 1:
            raise UsageError(
                f"{prefix}: {len(matching)} findings begin with it: {', '.join(matching)}; give more digits"
            )
        return matching[0]

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the findings, in order. Raise ``UsageError`` if the directory cannot be read."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UsageError(f"{self.directory}: cannot be read: {error.strerror or error}") from None
        return tuple(sorted(filter(is_id, names)))

    def _read(self, id_: str) -> SavedFinding:
        return _read(self.directory / id_, id_)

    def _unknown(self, prefix: str, ids: tuple[str, ...]) -> str:
        if not ids:
            return f"{prefix}: no such finding; {self.directory} has no findings"
        close = get_close_matches(prefix.lower(), ids, cutoff=0.5)
        closest = f"the closest: {', '.join(close)}; " if close else ""
        return f"{prefix}: no such finding in {self.directory}; {closest}{self._how_to_list()}"

    def _how_to_list(self) -> str:
        elsewhere = "" if self.directory == Path(DIRECTORY) else f" --findings {shlex.quote(str(self.directory))}"
        return f"`{LISTING_COMMAND}{elsewhere}` lists them"

    def list(self) -> list[SavedFinding]:
        """Return every finding, the newest first, including damaged ones, which say so."""
        every = map(self._read, self.ids())
        return sorted(every, key=lambda stored: stored.saved_at or datetime.min.replace(tzinfo=UTC), reverse=True)


def load(given: str | os.PathLike[str], directory: str | os.PathLike[str] = DIRECTORY) -> SavedFinding:
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
        stored = _stored(path, None, case, notes, _Record())
        return replace(stored, own=path.name == CASE and _is_own(path.parent))
    if not (path / CASE).exists():
        raise CaseError(f"{path}: a folder without {CASE}; expected a finding's id, its folder, or a case's file")
    name = path.absolute().name
    stored = Store(path.absolute().parent).open(name) if is_id(name) else _read(path, None)
    if stored.saved_case is None:
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
        RECORD: as_json("finding", document),
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


@dataclass(frozen=True)
class _Record:
    """The contents of ``finding.json``, as far as they are read."""

    subject: str = ""
    kind: str = ""
    kept: str = ""
    cause: str = ""
    certainty: str = ""
    method: str = ""
    nondeterministic: bool = False
    source: str = ""
    finding: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    error_maps: MapsRecord | None = None


def _read(path: Path, id_: str | None) -> SavedFinding:
    """Read a finding's folder; damage is recorded in the result and raises no error."""
    case: Case | None = None
    notes: dict[str, Any] = {}
    record, damages = _Record(), []
    try:
        case, notes = load_json(path / CASE)
    except CaseError as error:
        damages.append(str(error))
    try:
        record = read_as(path / RECORD, "finding", _Record)
    except UsageError as error:
        damages.append(str(error))
    stored = _stored(path, id_, case, notes, record)
    return replace(stored, own=_is_own(path), damage="; ".join(damages))


def _is_own(folder: Path) -> bool:
    """Tell if this machine wrote what decides what a replay of a finding runs."""
    with suppress(UsageError):
        return is_noted(folder, *(read_bytes(folder / name) for name in (CASE, RECORD)))
    return False


def _stored(path: Path, id_: str | None, case: Case | None, notes: dict[str, Any], record: _Record) -> SavedFinding:
    return SavedFinding(
        path,
        case,
        record.subject or _text(notes.get("subject")),
        id_,
        _time(record.kept) or _modified(path),
        record.kind or _text(notes.get("kind")),
        record.cause or None,
        record.certainty,
        record.facts,
        record.error_maps,
        record.source,
        record.finding.get("result") or {},
        of_dropout=record.method == ComparisonMethod.DROPOUT.name.lower(),
        nondeterministic=record.nondeterministic,
        notes=notes,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return None


def _put(temporary: Path, place: Path) -> None:
    """Put a folder in a finding's place; if another process was faster, its one stays.

    If that fails, what was there is put back.
    """
    if _renamed(temporary, place):
        return
    replaced = temporary.with_name(f"{temporary.name}.old")
    try:
        with suppress(FileNotFoundError):
            place.rename(replaced)
        _renamed(temporary, place)
    except BaseException:
        with suppress(OSError):
            replaced.rename(place)
        raise
    shutil.rmtree(replaced, ignore_errors=True)  # only now: the disk may fail between two renames


def _renamed(temporary: Path, place: Path) -> bool:
    """Rename a folder to a place, unless there is a folder that is not empty. Raise ``OSError`` for other obstacles."""
    try:
        temporary.rename(place)
    except OSError as error:
        if error.errno not in {EEXIST, ENOTEMPTY} or place.is_file():
            raise
        return False
    return True
