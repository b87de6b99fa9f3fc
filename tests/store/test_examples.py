"""Tests of example databases: nothing is deleted for others, a server may go away, and no password is shown."""

import socket
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from hypothesis import configuration
from hypothesis.database import ExampleDatabase, InMemoryExampleDatabase

from harness.space.errors import UsageError
from harness.store import examples
from harness.store.examples import FOLDER, ByEnvironment, Connected, connect, environment
from tests.redis_server import PASSWORD, free_port, needs_redis, redis_server

KEY = b"a test"


class Jobs:
    """Jobs of several environments, each with a database over the same places."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._monkeypatch = root, monkeypatch
        self.said: list[str] = []

    def connected(self, name: str, *places: str) -> Connected:
        self._monkeypatch.setenv("RNN_ENVIRONMENT", name)
        return connect(places, self._root, self.said.append)

    def save(self, name: str, *places: str) -> None:
        """Save an example of the environment's name in the places."""
        self.connected(name, *places).database.save(KEY, name.encode())

    def seen(self, name: str, *places: str) -> set[bytes]:
        return set(self.connected(name, *places).database.fetch(KEY))


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "__hypothesis_home_directory", tmp_path / ".hypothesis")
    return Jobs(tmp_path, monkeypatch)


@pytest.fixture
def two() -> tuple[ExampleDatabase, ExampleDatabase, ExampleDatabase]:
    """A database, and what two environments make of it."""
    inner = InMemoryExampleDatabase()
    return inner, ByEnvironment(inner, lambda: b"a"), ByEnvironment(inner, lambda: b"b")


def test_an_environment_reads_what_another_one_saved_and_cannot_delete_it(two: Any) -> None:
    _, a, b = two
    a.save(KEY, b"found")

    assert list(b.fetch(KEY)) == [b"found"]
    b.delete(KEY, b"found")
    b.move(KEY, b"elsewhere", b"found")
    assert list(a.fetch(KEY)) == [b"found"]
    a.delete(KEY, b"found")
    assert not list(a.fetch(KEY))
    assert list(b.fetch(b"elsewhere")) == [b"found"]


def test_what_hypothesis_saved_by_itself_is_read_and_left_there(two: Any) -> None:
    inner, a, _ = two
    inner.save(KEY, b"earlier")

    assert list(a.fetch(KEY)) == [b"earlier"]
    a.delete(KEY, b"earlier")
    assert list(inner.fetch(KEY)) == [b"earlier"]


def test_an_example_of_two_environments_comes_once(two: Any) -> None:
    _, a, b = two
    a.save(KEY, b"found")
    b.save(KEY, b"found")

    assert list(ByEnvironment(two[0], lambda: b"c").fetch(KEY)) == [b"found"]


def test_an_environment_is_what_can_be_seen_and_what_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNN_ENVIRONMENT", raising=False)
    plain = environment()
    monkeypatch.setenv("RNN_ENVIRONMENT", "an H100")

    assert environment() == plain + b"an H100"
    assert f"torch {version('torch')}; cpu" in plain.decode()
    assert "BLAS" in plain.decode() or "ATen" in plain.decode()


def test_folders_of_two_jobs_are_merged_by_copying(jobs: Jobs, tmp_path: Path) -> None:
    jobs.save("a", "of-a")
    jobs.save("b", "of-b")
    for folder in ("of-a", "of-b"):
        subprocess.run(["cp", "-rn", f"{tmp_path / folder}/.", str(tmp_path / "merged")], check=True)  # noqa: S607

    assert jobs.seen("c", "merged") == jobs.seen("a", "read-only:merged") == {b"a", b"b"}
    assert not jobs.said


def test_a_place_that_is_only_read_is_not_written_and_hypothesis_s_own_folder_is_added(
    jobs: Jobs, tmp_path: Path
) -> None:
    jobs.save("a", "shared")
    before = sorted((tmp_path / "shared").rglob("*"))

    connected = jobs.connected("a", "read-only:shared")
    connected.database.save(KEY, b"new")
    connected.database.delete(KEY, b"a")

    assert connected.shown == ("shared", FOLDER)
    assert sorted((tmp_path / "shared").rglob("*")) == before
    assert jobs.seen("a", FOLDER) == {b"new"}


def test_a_folder_to_read_that_is_not_there_is_told(jobs: Jobs) -> None:
    assert jobs.seen("a", "read-only:merged") == set()

    assert jobs.said == ["merged: there is no such folder, so nothing is read from it"]


@pytest.mark.parametrize(
    "place",
    [
        "http://me:secret@host/0",
        "redis://:sec#ret@host/0",
        "redis://:sec/ret@host:6379",
        "redis://:12#secret@host",
        "redis://:secret@[host/0",
        "redis://:secret@host:port/0",
        "read-only:redis:///secret@host",
        "github://owner",
        "github://owner/repo/artifact/more",
        "a-file",
    ],
)
def test_what_is_no_place_is_refused_without_its_password(place: str, jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()

    with pytest.raises(UsageError, match=r"^rnn_database=.*: (expected|cannot be made) a folder") as error:
        jobs.connected("a", place)

    assert "sec" not in str(error.value)
    assert "\n" not in str(error.value)


def test_redis_without_its_package_is_refused(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "hypothesis.extra.redis", raising=False)

    with pytest.raises(UsageError, match=r"^rnn_database=redis://\.\.\.: needs one more package: pip install redis$"):
        jobs.connected("a", "redis://:secret@host")


def test_a_server_that_is_down_costs_a_line_and_the_folder_is_used(jobs: Jobs) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    port = free_port()

    connected = jobs.connected("a", f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
    connected.database.save(KEY, b"found")

    (said,) = jobs.said
    assert said.startswith(f"redis://127.0.0.1:{port}/0: left out after ConnectionError: ")
    assert said.endswith(f"; {FOLDER} is used")
    assert connected.shown == (FOLDER,)
    assert jobs.seen("a", FOLDER) == {b"found"}


def test_a_server_that_does_not_speak_is_not_waited_for(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    monkeypatch.setattr(examples, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        jobs.connected("a", f"redis://127.0.0.1:{silent.getsockname()[1]}")

    (said,) = jobs.said
    assert "left out after TimeoutError: " in said


@needs_redis
def test_a_wrong_password_is_told_and_not_shown(jobs: Jobs, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        jobs.connected("a", server.url.replace(PASSWORD, "secret"))

    (said,) = jobs.said
    assert "left out after AuthenticationError: " in said
    assert "secret" not in said


@needs_redis
def test_a_server_may_be_killed_at_any_time(jobs: Jobs, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        jobs.save("a", server.url, "of-a")
        assert jobs.seen("b", server.url, "of-b") == {b"a"}
        connected = jobs.connected("b", server.url, "of-b")
        connected.database.delete(KEY, b"a")
        connected.database.save(KEY, b"before")
        assert jobs.seen("c", f"read-only:{server.url}") == {b"a", b"before"}
        assert not jobs.said

        server.kill()
        connected.database.save(KEY, b"after")
        assert set(connected.database.fetch(KEY)) == {b"before", b"after"}

    (said,) = jobs.said
    assert "left out after ConnectionError: " in said
    assert PASSWORD not in f"{said}{connected.shown}{connected.database!r}"
    assert jobs.seen("b", "of-b") == {b"before", b"after"}


def test_an_artifact_of_github_is_read(jobs: Jobs, tmp_path: Path) -> None:
    jobs.save("a", "of-a")
    kept = tmp_path / ".hypothesis" / "github-artifacts" / "mine"
    kept.mkdir(parents=True)
    now = datetime.now(UTC).isoformat().replace(":", "_")
    with zipfile.ZipFile(kept / f"{now}.zip", "w") as archive:  # as if it was downloaded a moment ago
        for path in (tmp_path / "of-a").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "of-a"))

    connected = jobs.connected("b", "github://owner/repo/mine")

    assert connected.shown == ("github://owner/repo/mine", FOLDER)
    assert set(connected.database.fetch(KEY)) == {b"a"}
    connected.database.save(KEY, b"found")  # to the folder alone
    assert not jobs.said


def test_github_that_does_not_answer_costs_a_line(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_request: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", away)

    assert jobs.connected("a", "github://owner/repo").shown == (FOLDER,)
    (said,) = jobs.said
    assert "github://owner/repo: left out after HypothesisWarning: Could not connect to GitHub" in said
