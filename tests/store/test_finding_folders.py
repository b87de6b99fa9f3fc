"""Tests of findings: kept in full or not at all, found by their ids, read back, and replayed."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

import pytest

from harness import Result, RNNConfig, Verdict, __version__, as_subject, check_agreement, draw, hunt
from harness.search.case_replay import ReplayOutcome, replay
from harness.search.search_record import Finding
from harness.space.case import CaseError
from harness.space.errors import UsageError
from harness.store import finding_folders
from harness.store.document import DOCUMENT_VERSION
from harness.store.finding_folders import Store
from tests import implementations


def cause(text: str) -> dict[str, Any]:
    """Return a record with this cause."""
    return {"cause": text, "certainty": "certain"}


RECORD = {"kind": "output: value", **cause("ignores bias_hh: b_hh is never added")}
TEXTS: dict[str, str | bytes] = {
    "issue.md": "# An issue\nmit Umlauten: äöü\n",
    "reproduce.py": "print('here')\n",
    "arrays.npz": b"PK\x00\xff",
}


def finding_of(seed: int = 0, subject: str = "mine", message: str = "ValueError: boom") -> Finding:
    case = draw(RNNConfig(2, 3, T=2), "normal", seed)
    return Finding(subject, case, Result(Verdict.BROKEN, message=message))


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "new" / "folder")


def test_a_finding_is_kept_under_its_id_and_read_back(store: Store) -> None:
    finding = hunt(as_subject(implementations.without_b_hh)).finding
    assert finding is not None
    before = datetime.now(UTC)

    folder = store.save(finding, RECORD, TEXTS, tolerance="tf32")
    stored = store.open(finding.id)

    assert folder == store.directory / finding.id
    assert contents(folder) == ["arrays.npz", "case.json", "finding.json", "issue.md", "reproduce.py"]
    assert contents(store.directory) == [finding.id]
    assert (stored.case.id, stored.case.origin) == (finding.case.id, finding.case.origin)
    assert (stored.id, stored.subject, stored.path) == (finding.id, finding.subject, folder)
    assert stored.saved_at is not None
    assert before <= stored.saved_at <= datetime.now(UTC)
    assert (stored.kind, stored.cause) == ("output: value", "ignores bias_hh: b_hh is never added")
    assert stored.certainty == "certain"
    assert stored.notes["tolerance"] == "tf32"
    assert stored.notes["versions"]["rnn-harness"] == __version__
    assert {"python", "numpy", "torch"} < set(stored.notes["versions"])
    assert (folder / "issue.md").read_text("utf-8") == TEXTS["issue.md"]
    assert (folder / "arrays.npz").read_bytes() == TEXTS["arrays.npz"]


def test_a_finding_needs_no_record(store: Store) -> None:
    finding = finding_of()

    store.save(finding)
    stored = store.open(finding.id)

    assert (stored.kind, stored.cause, stored.subject) == (finding.result.kind, None, "mine")
    assert stored.again(finding.result)
    assert stored.again(Result(Verdict.BROKEN, message="KeyError: 1")) is False


def test_saving_again_replaces_the_whole_folder(store: Store) -> None:
    finding = finding_of()
    store.save(finding, cause("old"), TEXTS)

    store.save(finding, cause("new"), {"issue.md": "new"})

    assert store.open(finding.id).cause == "new"
    assert contents(store.directory / finding.id) == ["case.json", "finding.json", "issue.md"]
    assert contents(store.directory) == [finding.id]


def test_two_subjects_that_fail_on_the_same_case_keep_a_finding_each(store: Store) -> None:
    case = draw(RNNConfig(1, 1))
    result = check_agreement(as_subject(implementations.without_b_hh), case)

    paths = {store.save(Finding(name, case, result)) for name in ("one", "another")}

    assert len(paths) == 2


@pytest.mark.parametrize("name", ["case.json", "finding.json", "../outside", "a/b", ".hidden", "", "a\\b"])
def test_a_text_has_a_plain_name_of_its_own(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="expected a plain file name"):
        store.save(finding_of(), {}, {name: ""})

    assert not store.directory.exists()


def test_odd_characters_cost_nothing(store: Store) -> None:
    finding = finding_of(subject="mäne.py:ä", message="\udcff: boom")

    folder = store.save(finding, cause("\udcff"), {"issue.md": "\udcff"})

    assert store.open(finding.id).subject == "mäne.py:ä"
    assert store.open(finding.id).kind == "broken: \udcff"
    assert (folder / "issue.md").read_text() == "\\udcff"


# Looking up


def kept(store: Store, *ids: str) -> None:
    """Save findings under ids of a test's choice."""
    for id_ in ids:
        store.save(finding_of()).rename(store.directory / id_)


def test_an_id_may_be_cut_short_where_it_is_the_only_one(store: Store) -> None:
    kept(store, "abcd0001", "abcd0022", "12345678")

    assert store.open("1234").id == "12345678"
    assert store.open("ABCD0001").id == "abcd0001"
    assert store.open("abcd002").id == "abcd0022"
    with pytest.raises(UsageError, match="abcd: 2 findings begin with it: abcd0001, abcd0022; give more digits"):
        store.open("abcd")


def test_an_unknown_id_is_answered_by_the_closest_and_how_to_list_all(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"abcd0001: no such finding; .*folder has no findings"):
        store.open("abcd0001")
    kept(store, "abcd0001", "12345678")
    with pytest.raises(UsageError, match=r"abcd0011: no such finding in .*; the closest: abcd0001; `rnn-harness fin"):
        store.open("abcd0011")

    monkeypatch.chdir(tmp_path)
    kept(Store(), "abcd0001")
    with pytest.raises(UsageError, match=r"9999: no such finding in \.rnn-harness; `rnn-harness findings` lists them"):
        Store().open("9999")
    kept(Store("a b"), "abcd0001")
    with pytest.raises(UsageError, match=r"`rnn-harness findings --findings 'a b'` lists them"):
        Store("a b").open("9999")


@pytest.mark.parametrize(
    "given", ["", "abc", "abcd0001x", "../abcd", "/etc", ".", "..", "*", "abcd\n", "ABCG", "abcd/.."]
)
def test_what_is_no_id_leads_nowhere(store: Store, given: str) -> None:
    kept(store, "abcd0001")

    for ask in (store.open, store.remove, store.resolve):
        with pytest.raises(UsageError, match="expected a finding's id, 8 hex digits, or its first 4 or more"):
            ask(given)
    assert store.ids() == ("abcd0001",)


def test_a_finding_is_removed_and_only_that(store: Store) -> None:
    kept(store, "abcd0001", "abcd0022")

    assert store.remove("abcd0001") == "abcd0001"

    assert contents(store.directory) == ["abcd0022"]
    with pytest.raises(UsageError, match="no such finding"):
        store.remove("abcd0001")


def test_removing_what_is_a_link_leaves_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    folder = store.save(finding_of())
    outside = folder.rename(tmp_path / "outside")
    folder.symlink_to(outside)

    store.remove(folder.name)

    assert contents(store.directory) == []
    assert "case.json" in contents(outside)


# Listing


def test_findings_are_listed_the_newest_first(store: Store) -> None:
    assert store.list() == []
    for seed in (3, 1, 2):
        store.save(finding_of(seed), {**cause(f"cause {seed}"), "kept": f"2026-01-0{seed}T00:00:00Z"})

    listed = store.list()

    assert [one.cause for one in listed] == ["cause 3", "cause 2", "cause 1"]
    assert listed[0].saved_at == datetime(2026, 1, 3, tzinfo=UTC)
    assert {(one.subject, one.kind, one.damage) for one in listed} == {("mine", "broken: ValueError", "")}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cause": 3}, "invalid value for type, expected str @ $.cause"),
        ({"kept": None}, "invalid value for type, expected str @ $.kept"),
        ({"nondeterministic": "no"}, "invalid value for type, expected bool @ $.nondeterministic"),
        ({"facts": [{}]}, "required field missing @ $.facts[0].name"),
        ({"facts": 3}, "invalid value for type, expected tuple @ $.facts"),
        ({"error_maps": {"text": "", "maps": [{}]}}, "required field missing @ $.error_maps.maps[0]"),
        ({"version": 1}, f"version=1: expected {DOCUMENT_VERSION}"),
    ],
)
def test_a_record_of_wrong_types_is_none(store: Store, wrong: dict[str, Any], words: str) -> None:
    store.save(finding_of(), {**RECORD, **wrong})

    (listed,) = store.list()

    assert f"finding.json: {words}" in listed.damage
    assert (listed.cause, listed.kind, listed.subject) == (None, "broken: ValueError", "mine")
    assert listed.facts == ()


def damage(path: Path, what: bytes | str) -> None:
    """Put bytes, a folder, a link or nothing in the place of a file or a folder."""
    path.rename(path.with_name("before"))
    if isinstance(what, bytes):
        path.write_bytes(what)
    elif what == "a folder":
        path.mkdir()
    elif what == "a link to nowhere":
        path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("case.json", "nothing", "case.json: no such file"),
        ("case.json", b'{"format": 1,', "case.json: not JSON"),
        ("case.json", b"{}", "case.json: no 'format'"),
        ("case.json", "a folder", "case.json: expected a file"),
        ("finding.json", "nothing", "finding.json: no such file"),
        ("finding.json", "a folder", "finding.json: expected a file"),
        ("finding.json", b"\xff{", "finding.json: expected text in UTF-8"),
        ("finding.json", b"[" * 10**5, "finding.json: not JSON"),
        ("finding.json", b"[]", "finding.json: expected an object"),
        ("", b"x", "cannot be read"),
        ("", "a folder", "case.json: no such file"),
        ("", "a link to nowhere", "case.json: no such file"),
    ],
)
def test_a_damaged_finding_says_so_and_hides_no_other(store: Store, name: str, what: bytes | str, words: str) -> None:
    good, bad = store.save(finding_of(1)), store.save(finding_of(2))
    damage(bad / name, what)

    listed = {one.id: one for one in store.list()}

    assert set(listed) == {good.name, bad.name}
    assert listed[good.name].damage == ""
    assert words in listed[bad.name].damage
    if listed[bad.name].saved_case is None:
        with pytest.raises(CaseError, match=words):
            store.open(bad.name)
        with pytest.raises(CaseError, match=words):
            listed[bad.name].case.forward()
    else:  # its case can be run
        assert store.open(bad.name).case.id == finding_of(2).case.id
    store.remove(bad.name)
    assert store.ids() == (good.name,)


def test_other_things_in_the_directory_are_no_findings(store: Store) -> None:
    folder = store.save(finding_of())
    (store.directory / ".gitignore").write_text("*")
    (store.directory / "notes.txt").write_text("")
    (store.directory / "abcd").mkdir()
    (store.directory / f".abcd0001.{uuid4().hex}").mkdir()  # being written, or left by a dead process

    assert [one.id for one in store.list()] == [folder.name]


# Loading by id or path


def test_a_finding_is_loaded_by_its_id_its_folder_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = finding_of()
    folder = Store().save(finding, RECORD)
    npz = Path("old", f"{finding_of(1).id}.npz")
    npz.parent.mkdir()
    finding_of(1).case.save(npz, subject=finding_of(1).subject)
    here = Path(finding.id)
    here.write_text("of that name, by chance")

    for given in (finding.id, finding.id[:4], str(folder), folder, f"{folder}/", folder / "case.json"):
        assert finding_folders.load(given).case.id == finding.case.id
        assert finding_folders.load(given).subject == "mine"
    assert finding_folders.load(str(npz)).case.id == finding_of(1).case.id
    assert finding_folders.load(folder).cause == "ignores bias_hh: b_hh is never added"
    monkeypatch.chdir(folder)
    assert finding_folders.load(".").id == finding.id
    monkeypatch.chdir("..")
    assert finding_folders.load(finding.id).id == finding.id
    moved = Path(folder.name).rename(tmp_path / "moved")
    assert (finding_folders.load(moved).id, finding_folders.load(moved).kind) == (None, "output: value")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none.npz", "none.npz: no such file"),
        ("none.json", "none.json: no such file"),
        ("no/such", "no/such: no such file"),
        ("none", "'none': expected a finding's id"),
        ("abcd0001", "abcd0001: no such finding; .rnn-harness has no findings"),
        ("folder", "folder: a folder without case.json; expected a finding's id, its folder, or a case's file"),
        ("text.npz", "text.npz: not a case file"),
        ("text.json", "text.json: not JSON"),
    ],
)
def test_what_is_no_finding_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name in ("text.npz", "text.json"):
        Path(name).write_text("hello")

    with pytest.raises(UsageError) as refusal:
        finding_folders.load(given)

    assert words in str(refusal.value)


def test_nothing_is_unpickled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    finding = finding_of()
    folder = store.save(finding)
    hostile = pickle.dumps(Path("x"))
    (folder / "case.json").write_bytes(hostile)
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))

    assert all(one.damage for one in store.list())


# Whose a finding is


def edit(path: Path) -> None:
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize(
    ("change", "own"),
    [
        (lambda folder: (folder / "issue.md").write_text("my notes"), True),
        (lambda folder: edit(folder / "case.json"), False),
        (lambda folder: edit(folder / "finding.json"), False),
        (lambda folder: (folder / "finding.json").unlink(), False),
        (lambda folder: folder.rename(folder.with_name("abcd0001")), False),
        (lambda folder: folder.parent.rename(folder.parent.with_name("moved")), False),
        (lambda folder: shutil.copytree(folder.parent, folder.parent.with_name("moved")), True),
        (lambda folder: Store(folder.parent.with_name("moved")).copy(folder, folder.name), True),
    ],
    ids=["notes", "case", "record", "no record", "id", "moved", "copied", "merged"],
)
def test_a_finding_is_this_machine_s_own_where_and_as_it_wrote_it(
    store: Store, change: Callable[[Path], object], own: bool
) -> None:
    folder = store.save(finding_of(), RECORD, TEXTS)

    change(folder)

    moved = Store(folder.parent.with_name("moved"))
    assert [one.own for one in store.list()] == [own] * len(store.ids())
    assert [one.own for one in moved.list()] == [False] * len(moved.ids())
    store.save(finding_of(), RECORD)
    assert store.open(folder.name).own


def test_a_path_to_a_finding_of_this_machine_s_own_is_as_good_as_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Store(tmp_path / "store").save(finding_of(), RECORD)
    (tmp_path / "link").symlink_to(folder)
    shutil.copy(folder / "case.json", tmp_path)
    shutil.copy(folder / "case.json", folder / "mine.json")

    monkeypatch.chdir(folder)
    own: list[str | Path] = [".", folder, folder / "case.json", "case.json", f"../{folder.name}"]
    foreign: list[str | Path] = [tmp_path / "link", tmp_path / "case.json", "mine.json"]

    assert [finding_folders.load(given).own for given in (*own, *foreign)] == [True] * len(own) + [False] * len(foreign)


def test_processes_that_keep_findings_at_once_lose_no_note(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.store.test_finding_folders import finding_of; from harness.store.finding_folders import"
        " Store\nfor seed in range(20): Store(sys.argv[1]).save(finding_of(seed))"
    )
    places = [tmp_path / str(number) for number in range(2)]
    running = [subprocess.Popen([sys.executable, "-c", code, place]) for place in places]
    assert [process.wait() for process in running] == [0, 0]

    assert [one.own for place in places for one in Store(place).list()] == [True] * 40


@pytest.mark.parametrize(
    "environment",
    [
        {"XDG_STATE_HOME": "/dev/null"},
        {"XDG_STATE_HOME": "relative", "HOME": "/dev/null"},  # which the specification has everybody ignore
        {"XDG_STATE_HOME": "", "HOME": "/dev/null"},
    ],
)
def test_without_a_state_folder_findings_are_kept_and_are_nobody_s(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    folder = store.save(finding_of(), RECORD)

    assert store.open(folder.name).cause == RECORD["cause"]
    assert not store.open(folder.name).own
    assert contents(tmp_path) == ["new"]


# Places in which nothing can be kept


def fails(*_: Any, **__: Any) -> NoReturn:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("holder", "name"), [(Path, "write_bytes"), (Path, "rename"), (Path, "mkdir")])
def test_a_full_disk_costs_an_error_with_the_path_and_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, holder: Any, name: str
) -> None:
    finding = finding_of()
    store.save(finding, cause("old"), TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(holder, name, fails)
        with pytest.raises(OSError, match="No space left on device") as error:
            store.save(finding, cause("new"))

    assert error.value.filename == str(store.directory / finding.id)
    assert contents(store.directory) == [finding.id]
    assert store.open(finding.id).cause == "old"


def test_an_interrupt_leaves_nothing_half_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save(finding_of())

    assert contents(store.directory) == []


def test_a_file_in_the_way_costs_an_error_with_the_path(tmp_path: Path) -> None:
    file, finding = tmp_path / "file", finding_of()
    file.write_text("mine")
    for directory in (file, file / "below"):
        with pytest.raises(OSError, match="file"):
            Store(directory).save(finding)
    with pytest.raises(UsageError, match="file: cannot be read: Not a directory"):
        Store(file).list()

    store = Store(tmp_path / "store")
    store.directory.mkdir()
    (store.directory / finding.id).write_text("mine")
    with pytest.raises(OSError, match=finding.id):
        store.save(finding)

    assert file.read_text() == (store.directory / finding.id).read_text() == "mine"
    assert contents(store.directory) == [finding.id]


# Other processes at the same time


STEPS = ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "rmdir"), (os, "unlink"), (Path, "write_bytes"))


def dies_at(step: int, save: Callable[[], object]) -> bool:
    """Return whether a process that is killed at its ``step``-th call of the file system finished saving."""
    count = iter(range(step))

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(count, None) is None:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the child does nothing that other threads could hold up
        child = os.fork()
    if child == 0:
        for holder, name in STEPS:
            setattr(holder, name, counted(getattr(holder, name)))
        save()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("again", [False, True])
def test_a_process_that_dies_at_any_step_leaves_a_whole_finding_or_none(store: Store, again: bool) -> None:
    finding, seen = finding_of(), set()
    for step in range(1_000):
        if again:
            store.save(finding, cause("old"), {"text": "old"})
        done = dies_at(step, lambda: store.save(finding, cause("new"), {"text": "new"}))
        listed = store.list()
        seen.add(None if not listed else listed[0].cause)
        for one in listed:
            assert one.damage == ""
            assert store.open(finding.id).cause == one.cause
        if done:
            break
        for id_ in store.ids():
            store.remove(id_)

    assert seen == ({"old", None, "new"} if again else {None, "new"})
    assert step > 4


# Replaying


def test_replaying_tells_fixed_failed_and_error_apart() -> None:
    case = draw(RNNConfig(2, 3, T=2), "normal", 0)

    def refuses(x: Any) -> Any:
        raise NotImplementedError("never")

    fates = [
        replay(as_subject(function), case)[0]
        for function in (implementations.vectorised, implementations.without_b_hh, refuses)
    ]

    assert fates == [ReplayOutcome.FIXED, ReplayOutcome.FAILED, ReplayOutcome.ERROR]


def test_a_finding_that_fails_in_another_way_has_failed_and_says_so(store: Store) -> None:
    finding = hunt(as_subject(implementations.without_b_hh)).finding
    assert finding is not None
    store.save(finding)
    stored = store.open(finding.id)

    def raises(x: Any) -> Any:
        raise ValueError("boom")

    same, other = (replay(as_subject(one), stored.case) for one in (implementations.without_b_hh, raises))

    assert (same[0], stored.again(same[1])) == (ReplayOutcome.FAILED, True)
    assert (other[0], stored.again(other[1])) == (ReplayOutcome.FAILED, False)


def test_a_subject_that_wavers_has_not_been_fixed() -> None:
    answers = iter([0.0, 0.0, 1e-9])

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + next(answers), h_n

    fate, result = replay(as_subject(rnn), draw(RNNConfig(1, 1, dtype="float64"), "normal", 0))

    assert fate is ReplayOutcome.FAILED
    assert "not deterministic" in result.message
