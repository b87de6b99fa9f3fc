"""Tests of sightings: what was seen of a finding, where and when, whoever writes or copies it at the same time."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from harness.report.place import State
from harness.search.replay import Fate
from harness.store import seen
from harness.store.findings import Store
from harness.subjects.ground import environment
from tests.store.test_findings import contents, finding_of

HERE, THERE = "this machine", "another machine"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def at(monkeypatch: pytest.MonkeyPatch, day: int, hour: int = 12) -> None:
    """Let it be an hour of a day of January."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls(2026, 1, day, hour, tzinfo=tz)

    monkeypatch.setattr(seen, "datetime", Clock)


def days(folder: Path) -> dict[str, tuple[int | None, int | None, str, int]]:
    """Return the first and last day of failure, the last fate and its day, by environment."""
    found, damage = seen.read(folder)
    assert damage == ""
    return {
        one.words: (
            one.first.day if one.first else None,
            one.last.day if one.last else None,
            one.fate.value,
            one.at.day,
        )
        for one in found
    }


def test_what_was_seen_is_told_by_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 1)
    folder = store.save(finding_of(), where=HERE)
    for day, where, fate in (
        *((2, THERE, Fate.FIXED), (3, HERE, Fate.FAILED), (4, HERE, Fate.FAILED), (5, HERE, Fate.FIXED)),
        *((6, HERE, Fate.FIXED), (7, THERE, Fate.FIXED)),
    ):
        at(monkeypatch, day)
        seen.note(folder, where, fate)

    assert days(folder) == {HERE: (1, 4, "FIXED", 6), THERE: (None, None, "FIXED", 7)}
    assert len(contents(folder / "seen")) == 2 + 3 + 1  # nothing grows with the number of replays
    (stored,) = store.list()
    assert (stored.state, stored.first_seen, stored.last_seen) == (
        State.FIXED,
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 4, 12, tzinfo=UTC),
    )


def test_a_finding_is_open_until_it_is_fixed_wherever_it_was_seen(store: Store) -> None:
    folder = store.save(finding_of(), where=HERE)
    states = []
    for where, fate in ((THERE, Fate.FAILED), (HERE, Fate.FIXED), (THERE, Fate.FIXED), (HERE, Fate.FAILED)):
        seen.note(folder, where, fate)
        states.append(store.open(folder.name).state)

    assert states == [State.OPEN, State.OPEN, State.FIXED, State.OPEN]


def test_a_finding_that_says_nothing_of_where_it_was_seen_is_open(store: Store) -> None:
    folder = store.save(finding_of())
    shutil.rmtree(folder / "seen")

    (stored,) = store.list()

    assert (stored.damage, stored.state, stored.first_seen) == ("", State.OPEN, stored.kept)


def test_to_save_again_keeps_what_was_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 1)
    folder = store.save(finding_of(), where=THERE)
    seen.note(folder, HERE, Fate.FIXED)
    at(monkeypatch, 2)

    store.save(finding_of(), where=HERE)

    assert days(folder) == {THERE: (1, 1, "FAILED", 1), HERE: (2, 2, "FAILED", 2)}


def test_what_was_seen_of_a_finding_is_taken_with_it(store: Store, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path / "elsewhere").save(finding_of(), where=THERE)
    seen.note(elsewhere, THERE, Fate.FIXED)
    folder = store.save(finding_of(), where=HERE)

    store.take(elsewhere, elsewhere.name)

    assert {one.words: one.fate for one in store.open(folder.name).seen} == {HERE: Fate.FAILED, THERE: Fate.FIXED}


def test_where_nobody_says_it_is_this_environment(store: Store) -> None:
    ((where, _),) = days(store.save(finding_of())).items()

    assert where == environment()


def test_the_order_in_which_stores_are_copied_over_each_other_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [tmp_path / name for name in "abc"]
    for day, (place, where, fate) in enumerate(
        (
            *((0, HERE, Fate.FAILED), (1, HERE, Fate.FAILED), (2, THERE, Fate.FAILED), (0, HERE, Fate.FIXED)),
            *((1, HERE, Fate.FAILED), (2, HERE, Fate.FIXED), (2, THERE, Fate.FIXED)),
        ),
        start=1,
    ):
        at(monkeypatch, day)
        folder = Store(stores[place]).save(finding_of(), where=where)
        at(monkeypatch, day, hour=13)
        seen.note(folder, where, fate)

    merged = []
    for number, order in enumerate(permutations(stores)):
        for one in order:
            shutil.copytree(one, tmp_path / f"merged{number}", dirs_exist_ok=True)
        merged.append(days(tmp_path / f"merged{number}" / finding_of().id))

    assert merged == [{HERE: (1, 6, "FIXED", 6), THERE: (3, 7, "FIXED", 7)}] * 6


def test_a_clock_that_was_wrong_does_not_have_the_last_word(store: Store) -> None:
    folder = store.save(finding_of(), where=HERE)
    (noted,) = (folder / "seen").glob("*.FAILED")
    noted.rename(folder / "seen" / f"{noted.name.partition('.')[0]}.99991231T235959.999999Z.FAILED")

    seen.note(folder, HERE, Fate.FIXED)

    assert store.open(folder.name).state is State.FIXED


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("96d6e37f.20261399T250000.000000Z.FAILED", b"", "expected ENVIRONMENT.TIME.FAILED or"),
        ("96d6e37f.20260101T000000.000000Z.KNOWN", b"", "expected ENVIRONMENT.TIME.FAILED or"),
        ("\x1b[31m", b"", "expected ENVIRONMENT.TIME.FAILED or"),
        ("a folder", None, "expected ENVIRONMENT.TIME.FAILED or"),
        ("HERE.txt", b"elsewhere\n", "expected the environment whose hash is its name"),
        ("HERE.txt", b"\xff", "expected text in UTF-8"),
        ("HERE.txt", b"x" * (2**26 + 1), "expected at most"),
        ("HERE.txt", None, "cannot be read: Is a directory"),
        (".", b"", "cannot be read: Not a directory"),
    ],
)
def test_a_damaged_sighting_is_told_in_a_line_and_hides_nothing_else(
    store: Store, name: str, content: bytes | None, words: str
) -> None:
    good, bad = store.save(finding_of(1), where=HERE), store.save(finding_of(2), where=HERE)
    (described,) = (bad / "seen").glob("*.txt")
    path = described if name == "HERE.txt" else bad / "seen" / name
    if name == ".":
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.mkdir() if content is None else path.write_bytes(content)

    listed = {one.id: one for one in store.list()}

    assert listed[good.name].damage == ""
    assert words in listed[bad.name].damage
    assert len(listed[bad.name].damage.splitlines()) == 1
    assert listed[bad.name].state is State.OPEN
    assert store.open(bad.name).case.id == finding_of(2).case.id
    assert store.save(finding_of(2), where=HERE) == bad


def test_hidden_files_say_nothing(store: Store) -> None:
    folder = store.save(finding_of(), where=HERE)
    (folder / "seen" / ".DS_Store").write_bytes(b"x")

    assert [one.damage for one in store.list()] == [""]


def test_nothing_is_noted_of_what_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MOMENT", 0)

    with pytest.raises(FileNotFoundError):
        seen.note(store.directory / "abcd0001", HERE, Fate.FIXED)

    assert not store.directory.exists()


# Full disks and other processes


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process have any bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_bytes_leaves_what_was_there(store: Store) -> None:
    folder = store.save(finding_of(), where=HERE)
    before = days(folder)

    with full_disk():
        with pytest.raises(OSError, match="File too large") as save:
            store.save(finding_of(), where=HERE)
        with pytest.raises(OSError, match="File too large"):
            seen.note(folder, THERE, Fate.FIXED)

    assert save.value.errno == errno.EFBIG
    assert days(folder) == before
    assert contents(store.directory) == [folder.name]
    assert contents(folder / "seen") == sorted(path.name for path in (folder / "seen").glob("????????.*"))


def test_what_is_noted_while_a_finding_is_put_in_place_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = store.save(finding_of(), where=HERE), Path.rename

    def noting(path: Path, target: Path) -> Path:
        if path == folder and THERE not in days(folder):  # it is about to be put aside
            seen.note(folder, THERE, Fate.FAILED)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", noting)
    store.save(finding_of(), where=HERE)

    assert set(days(folder)) == {HERE, THERE}


def test_what_is_noted_waits_for_a_finding_that_is_put_in_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.save(finding_of(), where=HERE)
    away = folder.rename(folder.with_name("away"))
    monkeypatch.setattr("time.sleep", lambda _: away.rename(folder))

    seen.note(folder, THERE, Fate.FIXED)

    assert set(days(folder)) == {HERE, THERE}


def test_what_was_seen_outlives_a_save_that_another_one_overtakes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename, overtaken = store.save(finding_of(), where=HERE), Path.rename, list[Path]()

    def overtaking(path: Path, target: Path) -> Path:
        done = rename(path, target)
        if path == folder and not overtaken:  # nothing is in its place for a moment
            overtaken.append(path)
            store.save(finding_of(), where="a faster one")
        return done

    monkeypatch.setattr(Path, "rename", overtaking)
    store.save(finding_of(), where=THERE)

    assert set(days(folder)) == {HERE, THERE, "a faster one"}
    assert contents(store.directory) == [folder.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_is_read_only_is_left_as_it_is(store: Store) -> None:
    folder = store.save(finding_of(), where=HERE)
    for path in (folder, folder / "seen"):
        path.chmod(0o500)

    with pytest.raises(PermissionError):
        seen.note(folder, THERE, Fate.FIXED)

    assert set(days(folder)) == {HERE}
