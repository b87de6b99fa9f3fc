"""A subject in a process of its own, so that a crash or any other effect on its process stays there."""

from __future__ import annotations

import atexit
import faulthandler
import hashlib
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import takewhile
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Final, NamedTuple, NoReturn, Self

import numpy as np

from harness.space.case import Case
from harness.space.errors import UsageError
from harness.space.outcome import ORPHANED, Failure, Outcome
from harness.subjects.capabilities import Capabilities
from harness.subjects.compiled import keep_compiled
from harness.subjects.ending import GRACE, how_it_ended
from harness.subjects.ground import ground, heard, machine, speak
from harness.subjects.portable import PYTHON, parted
from harness.subjects.programs import EXEC, tell_what_is_awaited
from harness.subjects.protocol import Subject, SubjectError
from harness.subjects.registry import find_subject
from harness.subjects.shared import Sharing
from harness.subjects.switches import apply, switch_of
from harness.subjects.wire import GREETING
from harness.threads import end_with_parent

TIMEOUT: Final = 60.0
"""The seconds that a subject may take over one case by default; a plain loop in Python takes about one second for the
largest case of the usual scope.
"""

STARTING: Final = 60.0
"""The least number of seconds that a subject may take to be imported."""

LONGEST: Final = 1e6
"""The longest wait in seconds that a system call accepts; nobody waits that long."""

UNTOLD: Final = 255
"""The exit code that Python gives a process whose fork server cannot tell it any more."""

OUTSIDE: Final = frozenset({-signal.SIGKILL, -signal.SIGTERM, UNTOLD} if sys.platform != "win32" else ())
"""The exit codes of a process that may have been ended from outside, as when memory is short: by a signal that nothing
raises by mistake, or together with its fork server.
"""

SPARED: Final = 3
"""The number of such deaths of a subject's processes after which a fresh one is asked the same again. A subject that
ends itself so does it again at once; one that does it now and then is reported after these.
"""

MOMENT: Final = 0.02
"""The seconds between two tries to start a process."""

WRITING: Final = 0.2
"""The seconds that a process gets to write down where it hangs."""

IF_LOST: Final[dict[str, Callable[[Outcome], Any]]] = {
    "exact_laws": lambda _outcome: frozenset(),
    "masks": lambda _outcome: None,
    "run_twice": lambda outcome: outcome,
    "run_as": lambda outcome: outcome,
    "check_derivatives": lambda outcome: outcome,
    "call": lambda outcome: outcome,
}
"""The results of a subject's methods if the child gives an outcome instead: its own, or that of a lost process."""

GROUND: Final = "ground"
SPEAK: Final = "speak"
"""The requests that a child answers itself: what it computes on, and a computation that makes oneDNN print."""

# From 3.14 on, CPython chooses the same: on macOS, system libraries do not survive a fork.
_CONTEXT: Any = get_context("forkserver") if sys.platform == "linux" else get_context("spawn")
_FORKS: Final = _CONTEXT.get_start_method() == "forkserver"


class _About(NamedTuple):
    """The facts that a subject gives about itself once it is found."""

    name: str
    devices: tuple[str, ...]
    capabilities: Capabilities
    """Its capabilities; in the place of each method stands ``_in_the_child``."""
    switchable: bool
    """True if it computes with torch."""


class _LostError(Exception):
    """A process that will not answer any more; the error carries the outcome to report, and the exit code if known."""

    def __init__(self, outcome: Outcome, code: int | None = None) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.code = code


class ChangedError(SubjectError):
    """The file of a subject is another one than that which was checked so far."""


class IsolatedSubject:
    """The subject that ``spec`` names, in a child process.

    If the process dies on a case, the case is *crashed*; if it does not answer within ``timeout`` seconds, the case is
    *hung*. The next case gets a fresh process. Raises what ``find_subject`` raises. The process ends with ``close``, at
    the end of a ``with`` block, and with this process. ``switches`` are names of ``SWITCHES``, which are set in the
    process. ``digest`` is that of its file; by default, as the file is now. A later process with another one is an
    error.
    """

    def __init__(
        self, spec: str, *, timeout: float = TIMEOUT, switches: tuple[str, ...] = (), digest: str | None = None
    ) -> None:
        self._spec = spec
        self._digest = _digest(spec) if digest is None else digest
        self._timeout = timeout
        own = switch_of(spec)
        self._switches = switches or (() if own is None else (own,))
        self._worker: _Worker | None = None
        self._spared = SPARED
        ahead([spec])
        about = self._start()
        self.name = about.name
        self._devices = about.devices
        self.switchable = about.switchable
        """True if it computes with torch, so that switches affect it."""
        shares = about.capabilities.shares_process and not self._switches
        self.shared = Sharing(spec, timeout) if shares else None
        """A ``Sharing`` that makes the same subject in the process that unpickles it, if the subject allows that."""
        self.capabilities = replace(about.capabilities.with_methods(self._asking), process=self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[str], IsolatedSubject], tuple[str]]:
        """Pickle the arguments, so that a copy is the same subject in another process."""
        made = partial(IsolatedSubject, timeout=self._timeout, switches=self._switches, digest=self._digest)
        return made, (self._spec,)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def devices(self) -> tuple[str, ...]:
        """Return the devices on which the subject said that it can run here."""
        return self._devices

    def run(self, case: Case) -> Outcome:
        """Run the subject on a case, and return its outcome or what became of its process."""
        outcome: Outcome = self._ask("run", case)
        return outcome

    def switched(self, switch: str) -> IsolatedSubject:
        """Return the same subject in another process, under one more switch."""
        switches = (*self._switches, switch)
        return IsolatedSubject(self._spec, timeout=self._timeout, switches=switches, digest=self._digest)

    def ground(self, device: str = "cpu") -> dict[str, str]:
        """Return what it computes on (``ground.ground``) and, with torch, the instruction set that oneDNN may use."""
        facts = self._ask(GROUND, device)
        if isinstance(facts, Outcome):
            return {}
        if self.switchable and (isa := heard(self._spoken(SPEAK))[0]) is not None:
            facts["oneDNN ISA"] = isa
        return dict(facts)

    def kernels(self, case: Case) -> tuple[str, ...]:
        """Return the oneDNN implementations that it runs on a case, with their shapes; there may be none."""
        return heard(self._spoken("run", case))[1] if self.switchable else ()

    def _spoken(self, method: str, *arguments: Any) -> str:
        """Return the text that oneDNN prints during a call in a process of its own."""
        worker: _Worker | None = None
        with suppress(_LostError, SubjectError):
            worker = _Worker(self._spec, self._switches, listening=True)
            worker.answer(max(self._timeout, STARTING))
            worker.request(method, arguments)
            worker.answer(self._timeout)
        spoken = "" if worker is None else worker.spoken()
        if worker is not None:
            worker.kill()
        return spoken

    def restart(self) -> None:
        """Use a fresh process for the next call, without memory of earlier calls."""
        self.close()

    def _abandon(self) -> None:
        """End the process, whatever it is doing."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _start(self) -> _About:
        if (found := _digest(self._spec)) != self._digest:
            what = "changed" if found else "deleted"
            raise ChangedError(f"{self._spec}: its file was {what} while it was checked; start again")
        try:
            self._worker = _Worker(self._spec, self._switches)
            about: _About = self._worker.answer(max(self._timeout, STARTING))
        except _LostError as lost:
            if self._asks_again(lost):
                return self._start()
            if self._spec.startswith(EXEC) and lost.outcome.failure is Failure.HUNG:
                raise SubjectError(
                    f"{self._spec}: {lost}, expected {GREETING}, before it is asked anything; "
                    "see docs/other-languages.md"
                ) from None
            raise SubjectError(f"{self._spec}: while it was imported, {lost}") from None
        except BaseException:
            self._abandon()
            raise
        return about

    def _asks_again(self, lost: _LostError) -> bool:
        """Return whether a fresh process is to be asked the same, because this one may have been ended from outside."""
        if lost.code not in OUTSIDE or not self._spared:
            return False
        self._spared -= 1
        self._worker = None
        return True

    def _asking(self, name: str, _method: object) -> Callable[..., Any]:
        """Return a method that asks the child for the subject's own."""
        ask = partial(self._ask_unless_lost, name)
        return lru_cache(256)(ask) if name == "exact_laws" else ask

    def _ask_unless_lost(self, name: str, *arguments: Any) -> Any:
        given = self._ask(name, *arguments)
        return IF_LOST[name](given) if isinstance(given, Outcome) else given

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            if self._worker is None:
                self._start()
            assert self._worker is not None
            self._worker.request(method, arguments)
            return self._worker.answer(self._timeout)
        except KeyboardInterrupt:
            self._abandon()
            raise
        except _LostError as lost:
            return self._ask(method, *arguments) if self._asks_again(lost) else lost.outcome
        except ChangedError:
            raise
        except SubjectError as error:  # the subject was found before
            return Outcome(failure=Failure.CRASHED, message=f"its process cannot be started again: {error}")
        finally:
            if self._worker is not None and self._worker.ended:
                self._worker = None


_WORKERS: Final[weakref.WeakSet[_Worker]] = weakref.WeakSet()
"""The child processes of this process."""


class _Worker:
    """One child process, the pipe to it, and the file that receives its last traceback."""

    def __init__(self, spec: str, switches: tuple[str, ...], *, listening: bool = False) -> None:
        self._folder = TemporaryDirectory(prefix="rnn-harness-")
        self._trace = Path(self._folder.name) / "traceback"
        setting = _Setting(dict(os.environ), switches, listening=listening)
        self._connection, theirs = _CONTEXT.Pipe()
        # A fork waits for what is imported ahead, and Ctrl-C must not; the fork server itself was started safely.
        with theirs, nullcontext() if _FORKS else _safely():
            self._process = _CONTEXT.Process(target=_serve, args=(theirs, spec, setting, self._trace), name=spec)
            _start(self._process)
        self.end = weakref.finalize(self, _end, os.getpid(), self._process, self._connection, self._folder)
        _WORKERS.add(self)
        atexit.register(self.end)  # runs before multiprocessing waits for it; a daemon may not have children of its own

    def spoken(self) -> str:
        """Return what a process with ``listening`` has printed on standard output so far."""
        return _beside(self._trace).read_text(errors="replace") if _beside(self._trace).exists() else ""

    @property
    def ended(self) -> bool:
        """True if the process is over."""
        return not self.end.alive

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if not self.ended:
            _kill(self._process)
            self.end()

    def request(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Ask for a call of the subject's method. Raise ``_LostError`` if the process is lost."""
        try:
            self._connection.send((method, arguments))
        except OSError:
            self._died()

    def answer(self, timeout: float) -> Any:
        """Wait for the answer. Raise ``_LostError`` if the process is lost, or what the child raised."""
        # The sentinel is needed because the child's own children may hold the pipe open after its death.
        ready = wait([self._connection, self._process.sentinel], min(timeout, LONGEST))
        if not ready:
            self._interrogate()
            _kill(self._process)
            self._lost(Failure.HUNG, f"no answer within {timeout:g} s")
        if self._connection not in ready:
            self._died()
        try:
            given, error = self._connection.recv()
        except (EOFError, OSError):
            self._died()
        if error is not None:
            raise error
        if self._process.sentinel in ready and self._was_orphaned():
            self._died()
        return given

    def _interrogate(self) -> None:
        """Have a hanging process write down where it hangs."""
        if hasattr(faulthandler, "register") and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGUSR1)
            self._process.join(WRITING)

    def _died(self) -> NoReturn:
        self._process.join(GRACE)
        code = self._process.exitcode
        if code is None:
            _kill(self._process)
            self._lost(Failure.CRASHED, "its process closed the pipe to the harness")
        ended = ORPHANED if self._was_orphaned() else f"its process {how_it_ended(code)}"
        self._lost(Failure.CRASHED, ended, code)

    def _was_orphaned(self) -> bool:
        """Return whether the process goes on without the fork server that would tell how it ended.

        It ends by itself: the pipe to it is closed, and if it never reads from that, with the command.
        """
        if not _FORKS or self._process.exitcode != UNTOLD:
            return False
        assert self._process.pid is not None
        try:
            os.kill(self._process.pid, 0)
        except OSError:  # there is none
            return False
        return True

    def _lost(self, failure: Failure, message: str, code: int | None = None) -> NoReturn:
        outcome = Outcome(failure=failure, message=message, traceback=_own_lines(self._trace))
        self.end()
        raise _LostError(outcome, code)


def _start(process: BaseProcess) -> None:
    """Start a process. A fork server that was just ended refuses; a moment later it is known to be, and replaced."""
    for _ in range(round(GRACE / MOMENT)):
        with suppress(ConnectionError, EOFError):
            return process.start()
        time.sleep(MOMENT)
    raise SubjectError("the fork server cannot be started again")


def forked_from_here() -> None:
    """Fork later children directly from this process, instead of from a fork server.

    The caller must itself be forked from the fork server, and must not run torch code. The children get what this
    process has imported; a fork server of its own would import torch once more.
    """
    global _CONTEXT  # noqa: PLW0603 - a property of the process
    signal.signal(signal.SIGTERM, _end_with_children)
    if _FORKS:
        _CONTEXT = get_context("fork")
        warnings.filterwarnings("ignore", r".*multi-threaded, use of fork", DeprecationWarning)


def _end_with_children(_signal: int, _frame: object) -> None:
    """End this process and its subjects, which may be unable to clean up by themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
    for worker in list(_WORKERS):
        worker.kill()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def ahead(specs: Sequence[str]) -> None:
    """Import what these subjects need in the fork server, while the caller goes on. It happens once per process.

    Every child is forked from the fork server, which makes a fresh child cheap. On systems other than Linux there is no
    fork server, and nothing happens.
    """
    if any(_mentions("jax", spec) for spec in specs):
        keep_compiled()
    if _CONTEXT.get_start_method() != "forkserver":
        return
    from multiprocessing.forkserver import ensure_running

    modules = [__name__]
    with_torch = [spec for spec in specs if _mentions("torch", spec)]
    if with_torch:
        modules.append("harness.subjects.torch_ahead")
    if not all(map(_is_function, with_torch)):
        modules.append("harness.subjects.module_ahead")
    _CONTEXT.set_forkserver_preload(modules)
    try:
        with _safely():
            ensure_running()
    except OSError as error:
        if "too long" not in str(error):
            raise
        raise UsageError(f"TMPDIR={gettempdir()!r}: its path is too long for a socket; set TMPDIR=/tmp") from None


def _mentions(library: str, spec: str) -> bool:
    """Tell if a subject seems to need torch, or jax; a wrong guess only costs time."""
    if spec.startswith((EXEC, PYTHON)):
        return False
    return spec.partition(":")[0] == library or library in _source(spec)


def _is_function(spec: str) -> bool:
    """Return whether a subject seems to be a function; a wrong guess only costs time."""
    return re.search(rf"^def {re.escape(spec.rpartition(':')[2])}\b", _source(spec), re.MULTILINE) is not None


def _digest(spec: str) -> str:
    """Return what tells the content of a subject's file from any other, or nothing if it has no file."""
    content = _content(spec)
    return hashlib.sha256(content).hexdigest() if content else ""


def _source(spec: str) -> str:
    """Return the text of a subject's file, or nothing if it cannot be read."""
    return _content(spec).decode(errors="replace")


def _content(spec: str) -> bytes:
    path = Path(parted(spec)[1].rpartition(":")[0])
    try:
        return path.read_bytes() if path.is_file() else b""  # /dev/zero has no end
    except (OSError, ValueError):
        return b""


@contextmanager
def _safely() -> Iterator[None]:
    """Start processes that survive Ctrl-C, which is meant for the parent, and import nothing from their folder."""
    given = os.environ.get("PYTHONSAFEPATH")
    in_main_thread = threading.current_thread() is threading.main_thread()
    os.environ["PYTHONSAFEPATH"] = "1"  # a user's random.py must not replace the one that multiprocessing imports
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, previous)
        if given is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = given


def _end(owner: int, process: BaseProcess, connection: Connection[Any, Any], folder: TemporaryDirectory[str]) -> None:
    if os.getpid() != owner:  # a process that was forked while it ran, such as that of the next subject
        return
    connection.close()
    process.join(GRACE)
    if process.is_alive():
        _kill(process)
        process.join()
    process.close()
    folder.cleanup()


def _kill(process: BaseProcess) -> None:
    """End a process, and with it those that the subject has started in it."""
    assert process.pid is not None
    if hasattr(os, "killpg") and process.is_alive():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it has no group of its own before it has begun


_ENDING: Final = threading.Lock()
"""Held by the thread that ends this process: another one must not end it before the folder is removed."""


def _end_with_group(folder: Path) -> None:
    """End this process, and with it those that the subject has started: they would keep the fork server alive."""
    with _ENDING:
        shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed did not clean up
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)


def _own_lines(trace: Path) -> str:
    """Return what faulthandler wrote of the thread that calls the subject, up to the first frame of the harness.

    The most recent call is first. The first line gives the folder of the child's harness, which need not be that of
    this process. The thread is the main one, which comes last; of many frames, those of the harness are missing.
    """
    folder, *lines = trace.read_text(errors="replace").splitlines(keepends=True) if trace.exists() else [""]
    starts = [i for i, line in enumerate(lines) if re.match(r"(Current thread|Thread) 0x", line)]
    ahead = lines[: starts[0]] if starts else []  # such as the name of a fatal error
    own = lines[starts[-1] :] if starts else lines
    return "".join([*ahead, *takewhile(lambda line: folder.strip() not in line, own)])


class _Setting(NamedTuple):
    """The settings of a child's process."""

    environ: dict[str, str]
    switches: tuple[str, ...]
    listening: bool
    """True if what oneDNN prints is kept."""


def _beside(trace: Path) -> Path:
    """Return the file for printed text, in a child with ``listening``."""
    return trace.with_name("spoken")


def _serve(connection: Connection[Any, Any], spec: str, setting: _Setting, trace: Path) -> None:
    """Run the child: find the subject, then answer requests until the parent is gone."""
    own_process = os.getpid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker that forked this process has a handler
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that what the subject starts can be ended with it
    os.environ.clear()
    os.environ.update(setting.environ)
    if setting.listening:
        os.environ["ONEDNN_VERBOSE"] = "1"
        os.dup2(os.open(_beside(trace), os.O_WRONLY | os.O_CREAT), 1)
    else:
        os.dup2(2, 1)  # standard output belongs to the harness, and C code must not write to it either
    sys.stdout = sys.stderr
    np.random.seed()  # noqa: NPY002 - after a fork, NumPy's own generator would repeat what its siblings drew
    end_with_parent(partial(_end_with_group, trace.parent))
    with suppress(EOFError, OSError):  # raised when the parent is gone
        file = trace.open("w")  # stays open as long as the process lives
        print(Path(__file__).parent, file=file, flush=True)
        faulthandler.enable(file, all_threads=False)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, file)  # of all threads, because one that blocks signals gets none
        found: list[Subject] = []
        _answer(connection, partial(_find, spec, setting.switches, found), own_process)
        if found and found[0].capabilities.ground and hasattr(signal, "SIGUSR1"):
            tell_what_is_awaited(signal.SIGUSR1, file)  # where this process waits says nothing
        while found:
            method, arguments = connection.recv()
            own: dict[str, Callable[..., Any]] = {
                "run": found[0].run,
                GROUND: partial(_ground, found[0], with_torch=_mentions("torch", spec)),
                SPEAK: speak,
            }
            call = own[method] if method in own else getattr(found[0].capabilities, method)
            _answer(connection, partial(call, *arguments), own_process)
    _end_with_group(trace.parent)


def _find(spec: str, switches: tuple[str, ...], found: list[Subject]) -> _About:
    for switch in switches:
        apply(switch)
    try:
        subject = find_subject(spec)
    except KeyboardInterrupt:  # raised by the subject itself: the user's Ctrl-C reaches the parent alone
        raise SubjectError(f"{spec}: while it was imported, KeyboardInterrupt") from None
    except UsageError as error:  # such as a declaration of conventions that makes no sense
        raise SubjectError(str(error)) from None
    found.append(subject)
    capabilities = replace(subject.capabilities.with_methods(lambda *_: _in_the_child), process=None)
    switchable = _mentions("torch", spec) and "torch" in sys.modules and not capabilities.ground
    return _About(subject.name, subject.devices(), capabilities, switchable)


def _ground(subject: Subject, device: str, *, with_torch: bool) -> dict[str, str]:
    """Return what a subject computes on: what it says itself, or else what this process has."""
    own = subject.capabilities.ground
    return {**machine(), **own} if own else ground(device, with_torch=with_torch)


def _in_the_child() -> NoReturn:
    """Stand for a method of the subject, which cannot leave its process."""
    raise NotImplementedError


def _answer(connection: Connection[Any, Any], call: Callable[[], Any], process: int) -> None:
    """Make a call and send what it gives, unless this is a copy of the process, which the subject has forked."""
    given: Any = None
    error: Exception | None = None
    try:
        given = call()
    except KeyboardInterrupt:  # raised by the subject itself, too
        given = Outcome(failure=Failure.RAISED, message="KeyboardInterrupt")
    except SubjectError as raised:
        error = SubjectError(str(raised))
    except MemoryError as raised:
        error = MemoryError(str(raised))
    except BaseException:  # noqa: BLE001 - others may not survive the pipe
        error = RuntimeError(f"in the subject's process:\n{traceback.format_exc()}")
    if os.getpid() != process:
        os._exit(0)
    connection.send((given, error))
