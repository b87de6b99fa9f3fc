"""Sightings: where and when a kept finding was seen to fail, or to be fixed, as files that copying merges.

The folder ``seen`` of a finding has an empty file for each sighting, named ``ENVIRONMENT.TIME.FATE``, and a text that
describes each environment, named by a hash of that text. No file is ever changed, and two files of one name are equal.
So to copy such folders over each other merges them in any order, and so does Git, without conflicts.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Container
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from harness.report.place import Seen
from harness.search.replay import Fate
from harness.space.atomic import atomic_write
from harness.space.errors import UsageError
from harness.store import door

T = TypeVar("T")

FOLDER: Final = "seen"

_WORDS: Final = re.compile(r"([0-9a-f]{8})\.txt")
_SIGHTING: Final = re.compile(r"([0-9a-f]{8})\.(\d{8}T\d{6}\.\d{6}Z)\.(FAILED|FIXED)")

TRIES: Final = 50
MOMENT: Final = 0.02
"""The tries, and the seconds between them, to write into a finding's folder while another process puts a newer one in
its place. That takes two renames, but a busy machine may halt the process between them for a while.
"""


class _Sighting(NamedTuple):
    environment: str
    at: datetime
    fate: Fate

    @property
    def name(self) -> str:
        return f"{self.environment}.{self.at:%Y%m%dT%H%M%S.%fZ}.{self.fate.value}"


def note(finding: Path, environment: str, fate: Fate) -> None:
    """Note in a finding's folder what was seen now. Raise ``OSError`` if that fails, or if there is no such folder."""
    return while_replaced(partial(_note, finding / FOLDER, environment, fate))


def while_replaced(act: Callable[[], T]) -> T:
    """Do something in a finding's folder, again if the folder is not there for a moment."""
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):
            return act()
        time.sleep(MOMENT)
    return act()


def _note(folder: Path, environment: str, fate: Fate) -> None:
    """Add a sighting, and remove those of the same environment that no longer say anything.

    The first and the last failure stay, and what was seen last. A sighting that claims to be later than this one comes
    from a clock that was wrong.
    """
    folder.mkdir(exist_ok=True)
    key = _key(environment)
    earlier = [one for one in _sightings(folder)[0] if one.environment == key]
    if not (folder / f"{key}.txt").exists():
        with atomic_write(folder / f"{key}.txt") as file:
            file.write(f"{environment}\n".encode())
    now = _Sighting(key, datetime.now(UTC), fate)  # after those, so that none of this machine is later
    (folder / now.name).touch()
    failures = [one for one in (*earlier, now) if one.at <= now.at and one.fate is Fate.FAILED]
    telling = {now, *failures[:1], *failures[-1:]}
    for one in earlier:
        if one not in telling:
            (folder / one.name).unlink(missing_ok=True)


def read(finding: Path) -> tuple[tuple[Seen, ...], str]:
    """Return what was seen of a finding in each environment, and what is wrong with its files; empty if nothing is."""
    folder, found = finding / FOLDER, list[Seen]()
    sightings, damage = _sightings(folder)
    by_environment: dict[str, list[_Sighting]] = {}
    for one in sightings:
        by_environment.setdefault(one.environment, []).append(one)
    for key, every in by_environment.items():
        words = ""
        try:
            words = _words(folder / f"{key}.txt")
        except UsageError as error:
            damage = damage or str(error)
        failures = [one.at for one in every if one.fate is Fate.FAILED]
        first, last = (failures[0], failures[-1]) if failures else (None, None)
        found.append(Seen(key, words, first, last, every[-1].fate, every[-1].at))
    return tuple(found), damage


def carry(source: Path, target: Path, without: Container[str] = ()) -> set[str]:
    """Add what was seen of a finding to another folder of the same finding, and return the names of those files."""
    carried, found = set[str](), list[str]()
    with suppress(OSError):  # what is damaged is not carried
        found = _names(source / FOLDER)
    for name in set(found).difference(_names(target / FOLDER)):
        if name in without or not (_SIGHTING.fullmatch(name) or _WORDS.fullmatch(name)):
            continue
        (target / FOLDER).mkdir(exist_ok=True)
        if _SIGHTING.fullmatch(name):
            (target / FOLDER / name).touch()
        else:
            try:
                words = _words(source / FOLDER / name)
            except UsageError:  # it is damaged, or another process has put the folder elsewhere
                continue
            (target / FOLDER / name).write_bytes(f"{words}\n".encode())
        carried.add(name)
    return carried


def _sightings(folder: Path) -> tuple[list[_Sighting], str]:
    """Return all sightings in a folder, the earliest first, and what is wrong with the others."""
    found, damage = [], ""
    try:
        names = _names(folder)
    except OSError as error:
        return [], f"{folder}: cannot be read: {error.strerror or error}"
    for name in names:
        if name.startswith(".") or _WORDS.fullmatch(name):  # hidden are files that are being written
            continue
        try:
            environment, at, fate = _SIGHTING.fullmatch(name).groups()  # type: ignore[union-attr]
            found.append(_Sighting(environment, datetime.fromisoformat(at), Fate(fate)))
        except (AttributeError, ValueError):
            damage = f"{folder / name}: expected ENVIRONMENT.TIME.FAILED or ENVIRONMENT.TIME.FIXED"
    return sorted(found, key=lambda one: (one.at, one.fate is Fate.FAILED, one.environment)), damage


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return []


def _words(path: Path) -> str:
    """Return the description of an environment. Raise ``UsageError`` if it is not the one that its file's name says."""
    words = door.text(path).removesuffix("\n")
    if _key(words) != path.stem or not words.isprintable():
        raise UsageError(f"{path}: expected the environment whose hash is its name")
    return words


def _key(environment: str) -> str:
    """Return eight hex digits that identify an environment."""
    return hashlib.sha256(environment.encode("utf-8", "surrogateescape")).hexdigest()[:8]
