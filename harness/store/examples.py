"""Example databases of Hypothesis tests in several places, in which no environment deletes what another one found.

Hypothesis deletes an example that passes. So if jobs shared a database as it is, a job in which a mistake does not show
would delete what the others found.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    GitHubArtifactDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)
from hypothesis.errors import HypothesisWarning

from harness.space.errors import UsageError
from harness.subjects.ground import VARIABLES, ground, kernels

FOLDER: Final = ".hypothesis/examples"
"""Hypothesis's own folder, in the working folder."""

ARTIFACT: Final = "hypothesis-example-db"
"""Hypothesis's own name of an artifact that holds examples."""

ENVIRONMENTS: Final = b"rnn-harness environments"
"""The key under which a database holds the names of the environments that saved something in it."""

SECONDS: Final = 5
"""The time that a server has to answer. It is redis-py's own default; versions before 8 waited without end."""

_READ_ONLY: Final = "read-only:"
_EXPECTED: Final = (
    "expected a folder, redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER] (with %XX for special characters), "
    f"github://OWNER/REPO[/ARTIFACT], or {_READ_ONLY} before one of them"
)

_GITHUB: Final = re.compile(r"([^/]+)/([^/]+)(?:/([^/]+))?")

T = TypeVar("T")


class Connected(NamedTuple):
    """A database over several places."""

    database: ExampleDatabase
    places: tuple[str, ...]
    """Those of the given places that answered."""
    shown: tuple[str, ...]
    """All that is in use, without passwords."""


class _Place(NamedTuple):
    shown: str
    inner: ExampleDatabase
    writes: bool = True
    remote: bool = True


def connect(places: Sequence[str], root: Path, say: Callable[[str], None]) -> Connected:
    """Return the database over the places, each of which is asked once if it is there.

    ``say`` is told of a place that does not answer, now or later; it is left out from then on. If none of the places is
    a folder to write in, ``FOLDER`` is one more, so that nothing is lost with a server. Folders are relative to
    ``root``. Raises ``UsageError`` for what is not a place.
    """
    opened = [(place, _open(place, root, say)) for place in places]
    if not any(one.writes and not one.remote for _, one in opened):
        opened.append(("", _Place(FOLDER, DirectoryBasedExampleDatabase(Path.cwd() / FOLDER), remote=False)))
    kept = next(one.shown for _, one in opened if one.writes and not one.remote)
    databases, answered = [], []
    for place, one in opened:
        database: ExampleDatabase = one.inner
        if one.remote:
            database = guarded = _Guarded(one, kept, say)
            _ask(guarded)
            if guarded.lost:
                continue
        databases.append(database if one.writes else ReadOnlyDatabase(database))
        answered.append((place, one.shown))
    names, shown = zip(*answered, strict=True)
    return Connected(ByEnvironment(MultiplexedDatabase(*databases)), tuple(filter(None, names)), shown)


def _open(place: str, root: Path, say: Callable[[str], None]) -> _Place:
    """Return the database at a place, before anything is asked of it."""
    text = place.removeprefix(_READ_ONLY)
    writes = text == place
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return _folder(text, root, writes, say)
    if scheme == "github":
        named = _GITHUB.fullmatch(rest)
        if named is None:
            raise UsageError(f"rnn_database={text}: {_EXPECTED}")
        owner, repo, artifact = named.groups(ARTIFACT)
        return _Place(text, GitHubArtifactDatabase(owner, repo, artifact), writes=False)
    if scheme not in {"redis", "rediss", "unix"}:
        raise UsageError(f"rnn_database={scheme}://...: {_EXPECTED}")  # the rest may hold a password
    return _Place(_without_password(text), _redis(text), writes)


def _without_password(url: str) -> str:
    """Return the URL of a server as it may be shown. Raise ``UsageError`` if it cannot be read."""
    with suppress(ValueError):  # whose text may hold a password
        parts = urlsplit(url)
        if "@" not in f"{parts.path}{parts.query}{parts.fragment}":  # or else a part of the password is in them
            return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    raise UsageError(f"rnn_database={url.partition('://')[0]}://...: {_EXPECTED}")


def _folder(text: str, root: Path, writes: bool, say: Callable[[str], None]) -> _Place:
    path = Path(root, text)
    if writes:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"rnn_database={text}: cannot be made a folder: {error.strerror or error}") from None
    elif not path.is_dir():
        say(f"{text}: there is no such folder, so nothing is read from it")
    return _Place(text, DirectoryBasedExampleDatabase(path), writes, remote=False)


def _redis(url: str) -> ExampleDatabase:
    try:
        from hypothesis.extra.redis import RedisExampleDatabase
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise UsageError("rnn_database=redis://...: needs one more package: pip install redis") from None
    once_more = Retry(NoBackoff(), 1)  # a connection that was idle for long may have been cut on its way
    timeouts = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    return RedisExampleDatabase(Redis.from_url(url, retry=once_more, **timeouts))


def _ask(database: ExampleDatabase) -> None:
    """Ask a database for something. GitHub is asked only here: the artifact is then kept for a day."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", HypothesisWarning)  # which tells that there is no artifact
            list(database.fetch(ENVIRONMENTS))
    finally:
        socket.setdefaulttimeout(before)


def environment() -> bytes:
    """Return what may make a mistake show in one job and not in another, as far as this process can see it.

    Torch counts once it is imported; before that, no example failed because of it. ``RNN_ENVIRONMENT`` adds what cannot
    be seen.
    """
    return _environment(os.environ.get("RNN_ENVIRONMENT", ""), with_torch="torch" in sys.modules)


@cache
def _environment(given: str, *, with_torch: bool) -> bytes:
    import_module("numpy")  # which loads the BLAS that is told
    facts = ground(with_torch=with_torch)
    parts = [f"{platform.system()} {platform.machine()}", f"Python {facts['python']}", f"NumPy {facts['numpy']}"]
    if with_torch:
        from harness.subjects.torch_devices import devices

        parts += [f"torch {facts['torch']}", *devices()]
    parts += [kernels(facts), *(f"{name}={value}" for name, value in facts.items() if VARIABLES.match(name)), given]
    return "; ".join(parts).encode(errors="surrogateescape")


class ByEnvironment(ExampleDatabase):
    """A database in which every environment has keys of its own to write, and reads those of all.

    It also reads the keys without an environment, which Hypothesis writes by itself.
    """

    def __init__(self, inner: ExampleDatabase, own: Callable[[], bytes] = environment) -> None:
        super().__init__()
        self._inner, self._own = inner, own
        self._read: list[bytes] | None = None
        """The environments in the database, which are read once."""
        self._written: dict[bytes, None] = {}
        """The environments that this process saved something for."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r})"

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """Yield what all environments saved."""
        if self._read is None:
            self._read = sorted(self._inner.fetch(ENVIRONMENTS))
        names = dict.fromkeys([self._own(), *self._written, *self._read])
        keys = [*(_key(name, key) for name in names), key]
        yield from dict.fromkeys(value for one in keys for value in self._inner.fetch(one))

    def save(self, key: bytes, value: bytes) -> None:
        """Save it for this environment."""
        own = self._own()
        if own not in self._written:
            self._inner.save(ENVIRONMENTS, own)
            self._written[own] = None
        self._inner.save(_key(own, key), value)

    def delete(self, key: bytes, value: bytes) -> None:
        """Delete it for this environment alone."""
        self._inner.delete(_key(self._own(), key), value)


def _key(name: bytes, key: bytes) -> bytes:
    return name + b"\0" + key


class _Guarded(ExampleDatabase):
    """A database that may go away: its first error is told, and from then on it is left alone."""

    def __init__(self, place: _Place, instead: str, say: Callable[[str], None]) -> None:
        super().__init__()
        self._inner, self._shown, self._instead, self._say = place.inner, place.shown, instead, say
        self.lost = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown})"  # what a client shows of itself may hold a password

    def fetch(self, key: bytes) -> Iterable[bytes]:
        nothing: list[bytes] = []
        yield from self._tried(lambda: list(self._inner.fetch(key)), nothing)

    def save(self, key: bytes, value: bytes) -> None:
        self._tried(lambda: self._inner.save(key, value), None)

    def delete(self, key: bytes, value: bytes) -> None:
        self._tried(lambda: self._inner.delete(key, value), None)

    def _tried(self, do: Callable[[], T], otherwise: T) -> T:
        if self.lost:
            return otherwise
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - a test must not fail because of its database
            self.lost = True
            why = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(f"{self._shown}: left out after {why}; {self._instead} is used")
            return otherwise
