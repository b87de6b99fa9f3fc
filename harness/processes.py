"""Child processes, each with a pipe of its own.

Where a child dies, only the call that it had is lost. What it has started ends with it, and it ends with its parent,
whatever it is doing. The pools of pebble and loky share a pipe, so that half a result keeps everybody waiting; they do
not end what a worker has started, nor a worker whose parent is gone before its call is over; and a call through them
costs three to six times the CPU.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running as ensure_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, NoReturn

GRACE: Final = 1.0  # seconds for a process to end by itself when nobody waits for its work any more
LARGEST_ANSWER: Final = 2**30  # the most bytes of an answer; what begins with text would be longer
LONGEST_WAIT: Final = 1e6  # the longest wait in seconds that a system call accepts
MOMENT: Final = 0.02  # seconds between two tries to start a process
DUMP_SECONDS: Final = 0.2  # seconds for a process to write down where it hangs
UNTOLD: Final = 255  # the exit code that Python gives a process whose fork server cannot tell it any more

# The signals that end a process which can still say what it has done.
TERMINATION_SIGNALS: Final = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

# From 3.14 on, CPython chooses the same: on macOS, system libraries do not survive a fork.
_context: Any = get_context("forkserver" if sys.platform == "linux" else "spawn")


def one_thread_a_process() -> None:
    """Ask NumPy's and torch's thread pools for one thread, unless the user has set another number.

    With more, two processes on two cores slow each other down several times over. Both libraries read the variable
    once, when they are first imported: call this before, or in the parent of a worker.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


class HarnessFaultError(RuntimeError):
    """Raised for an error of the harness itself in a child process, which a subject may have changed."""


class LostError(BrokenExecutor):
    """Raised for a call whose process ended before it answered, or was ended because that took too long."""

    def __init__(
        self, message: str, *, code: int | None = None, hung: bool = False, orphaned: bool = False, trace: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code  # the exit code, if it ended by itself
        self.hung = hung
        self.orphaned = orphaned  # it goes on without the fork server that would tell how it ended
        self.trace = trace  # the folder of the child's harness, and what faulthandler wrote


class Child:
    """A child process, which makes the calls that it is sent, one after the other.

    It ends with ``close``, and with this process. With ``forks``, its own children are forked from it directly, with
    all that it has imported, and not from a fork server.
    """

    def __init__(self, name: str, *, forks: bool = False) -> None:
        with _STARTING:
            start_server()
            self._connection, theirs = _context.Pipe()
            self._traces, its_traces = _context.Pipe(duplex=False)
            with theirs, its_traces, nullcontext() if _context.get_start_method() != "spawn" else _safely():
                arguments = theirs, its_traces, {**os.environ, **_temporary()}, forks, _own_folders()
                self._process = _context.Process(target=_serve, args=arguments, name=name)
                _start(self._process)
        self.close = weakref.finalize(self, _end, os.getpid(), self._process, self._connection, self._traces)
        atexit.register(self.close)  # runs before multiprocessing waits for it; a daemon may have no children
        _CHILDREN.add(self)

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return int(self._process.pid)

    @property
    def ended(self) -> bool:
        """True if the process is over."""
        return not self.close.alive

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if not self.ended:
            _kill(self._process)
            self.close()

    def terminate(self, *, at_once: bool = False) -> None:
        """Have the process end its own children and itself; who waits for a call is told that it is lost."""
        with suppress(ValueError, OSError):  # it is over
            if at_once:
                self._process.kill()
            else:
                self._process.terminate()
                if hasattr(signal, "SIGCONT"):
                    os.kill(self.pid, signal.SIGCONT)  # one that is stopped hears nothing

    def call(self, timeout: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call gives there, or raise what it raises.

        Errors that are not the harness's own, nor a ``MemoryError``, become a ``HarnessFaultError``. Raises
        ``LostError`` if the process ends, or does not answer in time.
        """
        try:
            self._connection.send((function, arguments))
        except OSError:
            self._died()
        # The sentinel is needed because the child's own children may hold the pipe open after its death.
        ready = wait([self._connection, self._process.sentinel], min(timeout, LONGEST_WAIT))
        if not ready:
            stopped = _is_stopped(self.pid)
            self._interrogate()
            _kill(self._process)
            self._lost(f"no answer within {timeout:g} s", hung=True, code=-signal.SIGSTOP if stopped else None)
        if self._connection not in ready:
            self._died()
        try:
            answer, error = pickle.loads(self._connection.recv_bytes(LARGEST_ANSWER))  # noqa: S301 - from our own child
        except Exception:  # noqa: BLE001 - it ended, or what it wrote is no answer
            self._died()
        if error is not None:
            raise error
        if self._process.sentinel in ready and self._was_orphaned():
            self._died()
        return answer

    def _interrogate(self) -> None:
        """Have a hanging process write down where it hangs."""
        if hasattr(faulthandler, "register"):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
            self._process.join(DUMP_SECONDS)

    def _died(self) -> NoReturn:
        self._process.join(GRACE)
        code = self._process.exitcode
        if code is None:
            _kill(self._process)
            self._lost("its process closed the pipe to the harness")
        if self._was_orphaned():
            self._lost("its process lost its fork server", code=code, orphaned=True)
        self._lost(f"its process {how_it_ended(code)}", code=code)

    def _was_orphaned(self) -> bool:
        """Return whether the process goes on without its fork server; it ends by itself, as the pipe is closed."""
        if _context.get_start_method() != "forkserver" or self._process.exitcode != UNTOLD:
            return False
        try:
            os.kill(self.pid, 0)
        except OSError:  # there is none
            return False
        return True

    def _lost(self, message: str, **facts: Any) -> NoReturn:
        trace = _text_in(self._traces)
        self.close()
        raise LostError(message, trace=trace, **facts)


_CHILDREN: Final[weakref.WeakSet[Child]] = weakref.WeakSet()
_STARTING: Final = threading.Lock()  # of a child: two threads must not change the environment for it at once


def how_it_ended(code: int) -> str:
    """Return how a process with this exit code ended, in words; a negative one stands for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


@cache
def _folder() -> TemporaryDirectory[str] | None:
    with suppress(OSError):  # a full disk: a child may need no folder
        return TemporaryDirectory(prefix="rnn-harness-", ignore_cleanup_errors=True)
    return None


def _own_folders() -> tuple[str, ...]:
    """Return the folders that this process would leave if it were killed."""
    folder = _folder()
    return () if folder is None else (folder.name,)


def _temporary() -> dict[str, str]:
    """Return the variable by which what children leave behind, such as compiled code, ends with this process."""
    folder = _folder()
    return {} if folder is None else {"TMPDIR": folder.name}


def start_server(modules: Sequence[str] = ()) -> None:
    """Start the fork server where there is one, and have it import modules while the caller goes on.

    This happens once per process; every child is then forked from the fork server, which makes a fresh one cheap.
    """
    if _context.get_start_method() != "forkserver":
        return
    from multiprocessing.forkserver import ensure_running

    if modules:
        _context.set_forkserver_preload(list(modules))
    with _safely():
        ensure_running()


def trace_file() -> IO[str] | None:
    """Return the file into which this child writes what its parent is to be told if it is lost."""
    return _trace_file


_trace_file: IO[str] | None = None


def _serve(
    connection: Connection[Any, Any],
    traces: Connection[Any, Any],
    environ: dict[str, str],
    forks: bool,
    folders: tuple[str, ...],
) -> None:
    """Make calls in the child until the parent is gone, whose own folders are then removed."""
    process = os.getpid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker that forked this process has a handler
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that what it starts can be ended with it
    os.environ.clear()
    os.environ.update(environ)
    tempfile.tempdir = None  # that of the fork server
    os.dup2(2, 1)  # standard output belongs to the command, and C code must not write to it either
    sys.stdout = sys.stderr
    if "numpy" in sys.modules:  # after a fork, NumPy's own generator would repeat what its siblings draw
        sys.modules["numpy"].random.seed()
    if forks:
        _fork_from_here()
    end_with_parent(partial(_end_group, folders))
    with suppress(EOFError, OSError):  # raised when the parent is gone
        _write_traces(traces)
        while True:
            function, arguments = connection.recv()
            answer = _made(function, arguments)
            if os.getpid() != process:  # a copy of this process, which the call has forked
                os._exit(0)
            try:
                connection.send(answer)
            except Exception:  # noqa: BLE001 - what the subject did to its process, such as another NumPy
                connection.send((None, HarnessFaultError(f"in a child process:\n{traceback.format_exc()}")))
    parent = parent_process()
    _end_group(() if parent is not None and parent.is_alive() else folders)


def _made(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """Return what a call gives, or its error as it may be sent."""
    try:
        return function(*arguments), None
    except MemoryError as error:
        return None, MemoryError(str(error))
    except BaseException as error:  # noqa: BLE001 - others may not survive the pipe
        if type(error).__module__.partition(".")[0] == "harness":
            return None, error
        return None, HarnessFaultError(f"in a child process:\n{traceback.format_exc()}")


def _write_traces(traces: Connection[Any, Any]) -> None:
    """Have this process write where it is when it crashes, or is asked with SIGUSR1."""
    global _trace_file  # noqa: PLW0603 - a property of the process
    if sys.platform == "win32":
        return  # its pipes have no file descriptors
    _trace_file = os.fdopen(os.dup(traces.fileno()), "w")
    print(Path(__file__).parent, file=_trace_file, flush=True)
    faulthandler.enable(_trace_file, all_threads=False)
    faulthandler.register(signal.SIGUSR1, _trace_file)  # of all threads: one that blocks signals gets none


def _text_in(traces: Connection[Any, Any]) -> str:
    """Return what a child has written, of which others may still hold the end."""
    content = b""
    with suppress(OSError):
        os.set_blocking(traces.fileno(), False)
        while text := os.read(traces.fileno(), 2**16):
            content += text
    return content.decode(errors="replace")


def _fork_from_here() -> None:
    """Fork later children directly from this process, which must not run torch code before."""
    global _context  # noqa: PLW0603 - a property of the process
    _CHILDREN.clear()
    signal.signal(signal.SIGTERM, _end_with_children)
    if _context.get_start_method() == "forkserver":
        _context = get_context("fork")
        warnings.filterwarnings("ignore", r".*multi-threaded, use of fork", DeprecationWarning)


def _end_with_children(_signal: int, _frame: object) -> None:
    """End this process and its children, which may be unable to clean up by themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut this short
    for child in list(_CHILDREN):
        child.kill()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def end_at_once(code: int) -> NoReturn:
    """End this process with an exit code, its children and its temporary files, whatever it is doing."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # this may hang, too
    for child in list(_CHILDREN):
        child.kill()
    atexit._run_exitfuncs()  # noqa: SLF001 - nothing public ends a process so from inside of a handler
    os._exit(code)


def end_with_parent(last: Callable[[], object] = int) -> None:
    """End this process with its parent, after a last call, so that no call goes on when nobody waits for it."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        last()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_group(folders: tuple[str, ...] = ()) -> None:
    """End this process with those that it has started: they would keep the fork server alive."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _is_stopped(pid: int) -> bool:
    """Tell whether a process was stopped by a signal, as far as the system says so."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _wake_server() -> None:
    """Have the fork server go on if it was stopped: it would never answer, nor say that a process has ended."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if (pid := getattr(server, "_forkserver_pid", None)) is not None:
        with suppress(OSError):
            os.kill(pid, signal.SIGCONT)


def _start(process: BaseProcess) -> None:
    """Start a process. A fork server that was just ended refuses; a moment later it is known to be, and replaced."""
    _wake_server()
    for _ in range(round(GRACE / MOMENT)):
        with suppress(ConnectionError, EOFError):
            return process.start()
        time.sleep(MOMENT)
    raise LostError("the fork server cannot be started again")


@contextmanager
def _safely() -> Iterator[None]:
    """Start processes that survive Ctrl-C, which is meant for the parent, and import nothing from their folder.

    It is not for what the fork server forks: that waits for what the server imports, and Ctrl-C must not.
    """
    ensure_tracker()  # or its start would let Ctrl-C in again
    blocks = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else None
    # A user's random.py must not replace the one that multiprocessing imports.
    changed = {"PYTHONSAFEPATH": "1", **_temporary()}
    previous = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a Ctrl-C that came meanwhile is heard now


def _end(owner: int, process: BaseProcess, *pipes: Connection[Any, Any]) -> None:
    if os.getpid() != owner:  # a process that was forked while it ran, such as that of the next subject
        return
    for pipe in pipes:
        pipe.close()
    process.join(GRACE)
    if process.is_alive():
        _kill(process)
        process.join()
    process.close()


def _kill(process: BaseProcess) -> None:
    """End a process, and with it those that it has started."""
    assert process.pid is not None
    _wake_server()
    if hasattr(os, "killpg") and process.is_alive():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it has no group of its own before it has begun
