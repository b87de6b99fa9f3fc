"""Tests of excuses: a kept finding is known until a day, and a damaged excuse excuses nothing."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.report.place import Excuse, State
from harness.search.replay import Fate
from harness.space.errors import UsageError
from harness.store import excuse
from harness.store.findings import Store
from harness.store.seen import note
from tests.store.test_findings import contents, finding_of

TODAY = datetime.now(UTC).date()
LINK = "https://example.org/issues/7"
FATES = (Fate.FAILED, Fate.FIXED, Fate.ERROR)
HOLDS, OVER = Excuse(TODAY + timedelta(1), LINK), Excuse(TODAY - timedelta(1), LINK)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_an_excuse_is_read_back_and_taken_back(store: Store) -> None:
    folder = store.save(finding_of())

    excuse.write(folder, OVER)
    excuse.write(folder, HOLDS)

    assert excuse.read(folder) == store.open(folder.name).excuse == HOLDS
    assert contents(folder) == ["case.json", "excuse.json", "finding.json", "seen"]
    for _ in range(2):
        excuse.take_back(folder)
        assert excuse.read(folder) is None


def test_the_state_and_the_fate_of_an_excused_finding(store: Store) -> None:
    folder = store.save(finding_of(), where="here")
    told = []
    for one in (HOLDS, OVER):
        excuse.write(folder, one)
        stored = store.open(folder.name)
        told.append((stored.state, [stored.told(fate, finding_of().result) for fate in FATES]))
    excuse.write(folder, HOLDS)
    note(folder, "here", Fate.FIXED)

    assert told == [
        (State.KNOWN, [Fate.KNOWN, Fate.FIXED, Fate.ERROR]),
        (State.OPEN, [Fate.FAILED, Fate.FIXED, Fate.ERROR]),
    ]
    assert store.open(folder.name).state is State.FIXED


def test_a_failure_of_another_kind_is_not_excused(store: Store) -> None:
    folder = store.save(finding_of())
    excuse.write(folder, HOLDS)

    stored = store.open(folder.name)

    assert stored.told(Fate.FAILED, finding_of(message="KeyError: 1").result) is Fate.FAILED


@pytest.mark.parametrize(("days", "holds"), [(-1, False), (0, True), (1, True)])
def test_an_excuse_holds_until_the_end_of_its_last_day(days: int, *, holds: bool) -> None:
    assert Excuse(TODAY + timedelta(days), LINK).holds is holds


def test_to_save_again_keeps_the_excuse(store: Store) -> None:
    excuse.write(store.save(finding_of()), HOLDS)

    folder = store.save(finding_of())

    assert excuse.read(folder) == HOLDS


def document(**fields: Any) -> bytes:
    whole = {"version": 2, "document": "excuse", "until": "2099-01-31", "because": LINK}
    return json.dumps({**whole, **fields}).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[" * 10**6, "not JSON"),
        (b"[]", "expected an object"),
        (b"\xff", "expected text in UTF-8"),
        (b"{}", "version=None: expected 2"),
        (document(version=99), "version=99: expected 2"),
        (document(document="finding"), "document: 'excuse' was expected"),
        (document(until=[[[]]]), "until: "),
        (document(until="9999-99-99"), "until='9999-99-99': expected a date, such as 2027-01-31"),
        (document(until="soon\n" * 9), "expected a date, such as 2027-01-31"),
        (document(because=" "), "because=' ': expected a link or a reason, in one line"),
        (document(because="\x1b[31m"), "because='\\x1b[31m': expected a link"),
        (document(more=1), "('more' was unexpected)"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_damaged_excuse_excuses_nothing_and_is_told_in_a_line(
    store: Store, content: bytes | None, words: str
) -> None:
    good, bad = store.save(finding_of(1)), store.save(finding_of(2))
    path = bad / "excuse.json"
    path.mkdir() if content is None else path.write_bytes(content)

    listed = {one.id: one for one in store.list()}

    assert listed[good.name].damage == ""
    assert words in listed[bad.name].damage
    assert len(listed[bad.name].damage.splitlines()) == 1
    assert (listed[bad.name].excuse, listed[bad.name].state) == (None, State.OPEN)
    assert store.open(bad.name).case.id == finding_of(2).case.id
    assert store.save(finding_of(2)) == bad


@pytest.mark.parametrize("until", ["", "tomorrow", "2027-02-30", "31.01.2027", "1"])
def test_what_is_no_day_is_refused(until: str) -> None:
    with pytest.raises(UsageError, match=r"--known-until: until=.*: expected a date"):
        excuse.made(until, LINK, "--known-until")
    assert excuse.made("2027-01-31", LINK, "") == Excuse(date(2027, 1, 31), LINK)
