"""A subject in a process of its own, so that a crash or any other effect on its process stays there.

A worker may run a subject in its own process, which nothing is lost with, if the subject leaves that as it found it:
its floating-point environment, NumPy, the warnings. That saves a quarter of a search of small cases, an eighth of
torch's default one.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial, wraps
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Final, NamedTuple, NoReturn, Self

from harness.processes import UNTOLD, Child, HarnessFaultError, LostError, start_server, trace_file
from harness.space.case import Case
from harness.space.config import FIELDS
from harness.space.errors import UsageError
from harness.space.outcome import ORPHANED, Failure, Outcome
from harness.space.reading import MOST_WRITTEN, read_bytes
from harness.subjects import captured_output
from harness.subjects.capabilities import Capabilities
from harness.subjects.environment import environment, heard, machine, speak
from harness.subjects.interpreters import PYTHON, parted
from harness.subjects.line_runs import LineRun, line_runs_of, lines_of
from harness.subjects.programs import EXEC, tell_what_is_awaited
from harness.subjects.protocol import Subject, SubjectUnavailable
from harness.subjects.registry import find_subject
from harness.subjects.runtimes.library import keep_compiled
from harness.subjects.torch_variants import apply, switch_of
from harness.subjects.wire import GREETING

TIMEOUT: Final = 60.0  # seconds for one case by default; a loop in Python takes about one for the largest usual case
START_SECONDS: Final = 60.0  # the least number of seconds for a subject to be imported
# seconds for a call in a worker's own process; a longer one is made in a process of its own
SHARED_CALL_SECONDS: Final = 5.0
REPLAYED_CALLS: Final = 64
"""The last calls of a process that are made again where it may have been ended from outside: those of some 18 cases, at
the 5,700 calls that a search of 1,650 cases makes.
"""

REPEATED_ENDS: Final = 3
"""The times that a call must end its process again, alone, where that may come from outside. Kills one second apart hit
a call of 20 ms and the start of its process once in twenty, and three in a row once in 8,000.
"""

PAUSE: Final = 1.0  # the most seconds before it is made again: who ends processes at regular times would meet it again


MOST_STARTS: Final = 16
"""The times that a process must lose its fork server in a call, or end while it starts, before that is the subject's
doing. A server takes up to a second to start on a busy machine: kills one second apart end two of three starts, and 16
in a row once in 600.
"""

FRESH_PROCESSES: Final = 4
"""The fresh processes in which the harness may fail at a call before that is its own error. A layer that spoils its
process in one call of five does so in all four once in 600.
"""

OUTSIDE: Final = frozenset(
    {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGSTOP, UNTOLD} if sys.platform != "win32" else ()
)
"""The exit codes of a process that may have been ended from outside, as when memory is short: by a signal that nothing
raises by mistake, or together with its fork server; SIGSTOP stands for one that did not answer because it was stopped.
"""

# The results of a subject's methods if the child gives an outcome instead: its own, or that of a lost process.
IF_LOST: Final[dict[str, Callable[[Outcome], Any]]] = {
    "exact_relations": lambda _outcome: frozenset(),
    "masks": lambda _outcome: None,
    "reads": lambda _outcome: frozenset(FIELDS),
    "run_twice": lambda outcome: outcome,
    "run_as": lambda outcome: outcome,
    "run_filled": lambda outcome: outcome,
    "check_derivatives": lambda outcome: outcome,
    "call": lambda outcome: outcome,
}


class ChangedError(SubjectUnavailable):
    """The file of a subject, or the working folder, is not that in which it was checked so far."""


class IsolatedSubject:
    """The subject that ``spec`` names, in a child process.

    If the process dies on a case, the case is *crashed*; if it does not answer within ``timeout`` seconds, the case is
    *hung*. The next case gets a fresh process. A death that may have come from outside counts only if a fresh process
    dies of the same call, or of the same last calls at the same one; if not, it is counted in ``unrepeated``. Raises
    what ``find_subject`` raises. The process ends with ``close``, at the end of a ``with`` block, and with this
    process. ``switches`` are names of ``KERNEL_SWITCHES``, which are set in the process. ``digest`` is that of its
    file; by default, as the file is now. A later process with another one is an error.
    """

    def __init__(
        self, spec: str, *, timeout: float = TIMEOUT, switches: tuple[str, ...] = (), digest: str | None = None
    ) -> None:
        self._spec = spec
        self._digest = _digest(spec) if digest is None else digest
        self._timeout = timeout
        own = switch_of(spec)
        self._switches = switches or (() if own is None else (own,))
        self._child: Child | None = None
        # The last calls of the process that is there.
        self._calls: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=REPLAYED_CALLS)
        self.unrepeated = 0  # deaths of its process that were not seen again
        self._made = self._orphaned = 0  # calls, and those of them in which its process lost its fork server
        self._ends_its_server = False  # true once it has done so ``MOST_STARTS`` times, in a row or in most calls
        self.spoiled = ""  # the error of the harness in a process that the subject had changed, if there was one
        ahead([spec])
        about = self._start()
        self.name = about.name
        self._devices = about.devices
        self.switchable = about.switchable  # True if it computes with torch, so that switches affect it
        shares = about.capabilities.shares_process and not self._switches and hasattr(signal, "setitimer")
        self.shared = partial(InProcessSubject, spec, timeout) if shares else None
        """A function that makes the same subject in the process of its caller, if the subject allows that."""
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
        if self._child is not None:
            self._child.close()
            self._child = None

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

    def environment(self, device: str = "cpu") -> dict[str, str]:
        """Return its environment (``subjects.environment``), with torch including the instruction set of oneDNN."""
        facts = self._ask("environment", device, _mentions("torch", self._spec))
        if isinstance(facts, Outcome):
            return {}
        if self.switchable and (isa := heard(self._spoken("speak"))[0]) is not None:
            facts["oneDNN ISA"] = isa
        return dict(facts)

    def kernels(self, case: Case) -> tuple[str, ...]:
        """Return the oneDNN implementations that it runs on a case, with their shapes; there may be none."""
        return heard(self._spoken("run", case))[1] if self.switchable else ()

    def lines(self, case: Case) -> int:
        """Return how many of its own lines it runs on a case, as ``lines_of`` does."""
        count = self._ask("lines", case)
        return count if isinstance(count, int) else 0

    def line_runs(self, case: Case) -> list[LineRun]:
        """Return the runs of its own lines on a case, as ``line_runs_of`` does."""
        runs = self._ask("line_runs", case)
        return [] if isinstance(runs, Outcome) else list(runs)

    def _spoken(self, method: str, *arguments: Any) -> str:
        """Return the text that oneDNN prints during a call in a process of its own."""
        with TemporaryDirectory(prefix="rnn-harness-") as folder:
            printed = Path(folder, "printed")
            printed.touch()
            child = Child(self._spec)
            with suppress(LostError, SubjectUnavailable):
                child.call(self._timeout, _print_to, str(printed))
                child.call(max(self._timeout, START_SECONDS), _find, self._spec, self._switches)
                child.call(self._timeout, _be_verbose)
                child.call(self._timeout, _call, method, *arguments)
            child.kill()
            return printed.read_text(errors="replace")

    def restart(self) -> None:
        """Use a fresh process for the next call, without memory of earlier calls."""
        self.close()

    def _start(self, *, times: int = MOST_STARTS) -> _About:
        if (digest := _digest(self._spec)) != self._digest:
            what = "changed" if digest else "deleted"
            raise ChangedError(f"{self._spec}: its file was {what} while it was checked; start again")
        self._calls.clear()
        try:
            self._child = Child(self._spec)
        except FileNotFoundError as error:  # a process starts in a folder
            raise ChangedError(
                f"{self._spec}: the working folder was removed while it was checked; make it, and start again"
            ) from error
        try:
            about: _About = self._child.call(max(self._timeout, START_SECONDS), _find, self._spec, self._switches)
        except LostError as lost:
            if times > 1 and lost.code in OUTSIDE and not lost.hung:
                return self._start(times=times - 1)
            if self._spec.startswith(EXEC) and lost.hung:
                raise SubjectUnavailable(
                    f"{self._spec}: {lost}, expected {GREETING}, before it is asked anything; "
                    "see docs/other-languages.md"
                ) from None
            raise SubjectUnavailable(f"{self._spec}: while it was imported and read, {lost}") from None
        except BaseException:
            self._abandon()
            raise
        return about

    def _abandon(self) -> None:
        """End the process, whatever it is doing."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _asking(self, name: str, _method: object) -> Callable[..., Any]:
        """Return a method that asks the child for the subject's own."""

        def ask(*arguments: Any) -> Any:
            answer = self._ask(name, *arguments)
            return IF_LOST[name](answer) if isinstance(answer, Outcome) else answer

        return lru_cache(256)(ask) if name == "exact_relations" else ask

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._made += 1
        try:
            try:
                try:
                    return self._call_child(method, *arguments)
                except LostError as lost:
                    if lost.code not in OUTSIDE:
                        raise
                    return self._call_again(lost, tuple(self._calls), method, *arguments)
            except (HarnessFaultError, MemoryError) as fault:
                return self._call_afresh(fault, method, *arguments)
        except KeyboardInterrupt:
            self._abandon()
            raise
        except LostError as lost:
            message = ORPHANED if lost.orphaned else str(lost)
            failure = Failure.HUNG if lost.hung else Failure.CRASHED
            return Outcome(failure=failure, message=message, traceback=_own_lines(lost.trace))
        except ChangedError:
            raise
        except SubjectUnavailable as error:  # the subject was found before
            return Outcome(failure=Failure.CRASHED, message=f"its process cannot be started again: {error}")
        finally:
            if self._child is not None and self._child.ended:
                self._child = None

    def _call_child(self, method: str, *arguments: Any) -> Any:
        """Make a call in the process that is there, or in a new one. Raise ``LostError`` if that is lost."""
        if self._child is None or self._child.ended:
            self._start()
        assert self._child is not None
        answer = self._child.call(self._timeout, _call, method, *arguments)
        if not any(isinstance(argument, Case) and argument.is_large for argument in arguments):
            self._calls.append((method, arguments))
        return answer

    def _call_afresh(self, fault: HarnessFaultError | MemoryError, method: str, *arguments: Any) -> Any:
        """Make a call in a fresh process, where the harness failed in one that the subject had changed.

        If it fails in ``FRESH_PROCESSES`` of them, it raises that error, which is the harness's own then, unless the
        subject is known to spoil its process.
        """
        for remaining in reversed(range(FRESH_PROCESSES)):
            self.restart()
            try:
                answer = self._call_child(method, *arguments)
                break
            except (HarnessFaultError, MemoryError):
                if not remaining and not self.spoiled:
                    raise
        else:
            answer = {}
        reason = str(fault).strip().rpartition("\n")[2] or type(fault).__name__
        self.spoiled = f"it leaves its process unusable: {reason}"
        return answer if method == "environment" else Outcome(failure=Failure.CRASHED, message=self.spoiled)

    def _call_again(
        self, lost: LostError, before: Sequence[tuple[str, tuple[Any, ...]]], method: str, *arguments: Any
    ) -> Any:
        """Make a call again, alone, then after those before. Raise ``LostError`` if the process dies of it then, too.

        Alone it dies ``REPEATED_ENDS`` times if it is the cause: who ends processes from outside may end another one.
        Of its fork server, that is ``MOST_STARTS`` times.
        """
        died = orphaned = 0
        self._orphaned += lost.orphaned
        # An answer may come before the loss shows. Who ends a server a second ends that of few calls.
        self._ends_its_server |= self._orphaned >= MOST_STARTS and 2 * self._orphaned > self._made
        if lost.orphaned and self._ends_its_server:
            raise lost
        while True:
            time.sleep(random.uniform(0, PAUSE) if died else 0)
            try:
                answer = self._call_child(method, *arguments)
                break
            except LostError as again:
                died, orphaned = died + (not again.orphaned), orphaned + again.orphaned
                self._ends_its_server |= orphaned == MOST_STARTS
                if died == REPEATED_ENDS or self._ends_its_server:
                    raise
        if before:
            answer = self._call_after(before, answer, method, *arguments)
        # Before its first call, another subject may have ended the fork server, and it with that.
        self.unrepeated += bool(before) or lost.code != UNTOLD
        return answer

    def _call_after(
        self, before: Sequence[tuple[str, tuple[Any, ...]]], alone: Any, method: str, *arguments: Any
    ) -> Any:
        """Make a call after others, up to the time that a call may take, and return ``alone`` if one of those ends it.

        Raise ``LostError`` if the process dies of the call itself ``REPEATED_ENDS`` times.
        """
        for remaining in reversed(range(REPEATED_ENDS)):
            self.restart()
            time.sleep(random.uniform(0, PAUSE) if remaining < REPEATED_ENDS - 1 else 0)
            until = time.monotonic() + self._timeout
            try:
                for earlier, args in before:
                    if time.monotonic() < until:
                        self._call_child(earlier, *args)
            except LostError:  # of another call than before
                return alone
            try:
                return self._call_child(method, *arguments)
            except LostError:
                if not remaining:
                    raise
        return alone


def _own_lines(trace: str) -> str:
    """Return what faulthandler wrote of the thread that calls the subject, up to the first frame of the harness.

    The most recent call is first. The first line gives the folder of the child's harness, which need not be that of
    this process. The thread is the main one, which comes last; of many frames, those of the harness are missing.
    """
    folder, *lines = trace.splitlines(keepends=True) or [""]
    starts = [i for i, line in enumerate(lines) if re.match(r"(Current thread|Thread) 0x", line)]
    ahead = lines[: starts[0]] if starts else []  # such as the name of a fatal error
    own = lines[starts[-1] :] if starts else lines
    return "".join([*ahead, *takewhile(lambda line: folder.strip() not in line, own)])


class _About(NamedTuple):
    """The facts that a subject gives about itself once it is found."""

    name: str
    devices: tuple[str, ...]
    capabilities: Capabilities  # in the place of each method stands ``_in_the_child``
    switchable: bool


_subjects: Final[list[Subject]] = []  # the subject of this process, in a child


def _find(spec: str, switches: tuple[str, ...]) -> _About:
    captured_output.redirect(spec)
    for switch in switches:
        apply(switch)
    try:
        subject = find_subject(spec)
    except KeyboardInterrupt:  # raised by the subject itself: the user's Ctrl-C reaches the parent alone
        raise SubjectUnavailable(f"{spec}: while it was imported, KeyboardInterrupt") from None
    except UsageError as error:  # such as a declaration of conventions that makes no sense
        raise SubjectUnavailable(str(error)) from None
    _subjects[:] = [subject]
    file = trace_file()
    if subject.capabilities.environment and file is not None:
        tell_what_is_awaited(signal.SIGUSR1, file)  # where this process waits says nothing
    capabilities = replace(subject.capabilities.with_methods(lambda *_: _in_the_child), process=None)
    switchable = _mentions("torch", spec) and "torch" in sys.modules and not capabilities.environment
    return _About(subject.name, subject.devices(), capabilities, switchable)


def _call(method: str, *arguments: Any) -> Any:
    """Make a call of this child's subject, or of what its process tells itself."""
    [subject] = _subjects
    own: dict[str, Callable[..., Any]] = {"run": subject.run, "environment": _environment, "speak": speak}
    own |= {"lines": partial(lines_of, subject), "line_runs": partial(line_runs_of, subject)}
    try:
        return (own[method] if method in own else getattr(subject.capabilities, method))(*arguments)
    except KeyboardInterrupt:  # raised by the subject itself, too
        return Outcome(failure=Failure.RAISED, message="KeyboardInterrupt")


def _environment(device: str, with_torch: bool) -> dict[str, str]:
    """Return what a subject computes on: what it says itself, or else what this process has."""
    own = _subjects[0].capabilities.environment
    return {**machine(), **own} if own else environment(device, with_torch=with_torch)


def _print_to(file: str) -> None:
    os.environ["ONEDNN_VERBOSE"] = "1"
    os.environ.pop(captured_output.VARIABLE, None)  # this process has a file of its own, and says nothing new otherwise
    os.dup2(os.open(file, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _be_verbose() -> None:
    """Have oneDNN tell what it runs where it has run before, as in a fork server: it reads its variable once."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.backends.mkldnn.is_available():
        torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON).__enter__()


def _in_the_child() -> NoReturn:
    """Stand for a method of the subject, which cannot leave its process."""
    raise NotImplementedError


class InProcessSubject:
    """The subject that ``spec`` names, in this process, which a call ends that takes too long.

    That is more than ``timeout`` seconds, or than ``SHARED_CALL_SECONDS`` if these are fewer.
    """

    def __init__(self, spec: str, timeout: float) -> None:
        captured_output.redirect(spec)
        self._subject = find_subject(spec)
        self._patience = min(timeout, SHARED_CALL_SECONDS)
        self.name = self._subject.name
        self.devices = self._subject.devices
        self.run = self._within("run", self._subject.run)
        self.capabilities = self._subject.capabilities.with_methods(self._within)

    def _within(self, _name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that ends the process if it takes too long, no matter which thread holds Python's lock.

        An alarm signal without a handler ends it. That takes two system calls; starting and ending a watching thread
        takes 0.3 ms on a busy machine.
        """

        @wraps(method)
        def call(*arguments: Any) -> Any:
            signal.setitimer(signal.ITIMER_REAL, self._patience)
            try:
                return method(*arguments)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        return call


def ahead(specs: Sequence[str]) -> None:
    """Import what these subjects need in the fork server, while the caller goes on. It happens once per process."""
    if any(_mentions("jax", spec) for spec in specs):
        keep_compiled()
    modules = [__name__]
    with_torch = [spec for spec in specs if _mentions("torch", spec)]
    if with_torch:
        modules.append("harness.subjects.torch_preload")
    if not all(map(_is_function, with_torch)):
        modules.append("harness.subjects.torch_module_preload")
    try:
        start_server(modules)
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
        return read_bytes(path, MOST_WRITTEN)
    except UsageError:
        return b""
