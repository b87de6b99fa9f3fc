"""programs: a program in any language as a subject: ``exec:./my_rnn``. It is asked by the protocol of ``wire``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from harness.processes import GRACE, how_it_ended
from harness.space.errors import UsageError
from harness.space.outcome import Failure, Outcome
from harness.subjects import wire
from harness.subjects.capabilities import Recipe
from harness.subjects.conventions import Conventions
from harness.subjects.function import USUAL_ARGUMENTS, FunctionSubject
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import FailedRunError, MalformedResultError

EXEC: Final = "exec:"  # The start of the name of a program as a subject; its command follows

BYTES_AT_ONCE: Final = 4096
"""The most bytes that are written without another thread: an empty pipe holds so many on every system, and a program
that answers before it has read everything would otherwise wait for us, and we for it."""

CHUNK: Final = 2**16  # The bytes that are read at once; a pipe holds no more by default
STDERR_BYTES: Final = 4000  # The most bytes of standard error that are kept for a report; those at the end tell most


def program_subject(spec: str) -> FunctionSubject:
    """Return the subject of a name ``exec:COMMAND``. Raise ``SubjectUnavailable`` if it cannot be started."""
    return subject_of(command_in(spec), spec)


def subject_of(command: Sequence[str], name: str, note: str = "", conventions: Sequence[str] = ()) -> FunctionSubject:
    """Return what a command starts as a subject of this name; ``note`` begins the code that a script asks it by.

    The names of ``conventions`` are those that it has besides what it declares itself.
    """
    program = Program(command, name)
    declared = Conventions.of((*program.conventions.names, *conventions))
    recipe = Recipe("rnn", (*[note] * bool(note), *_script_lines(command)), takes=program.takes)
    subject = FunctionSubject(program, name, recipe, declared)
    subject.capabilities = replace(
        subject.capabilities,
        takes=program.greeting.takes,
        run_twice=None,  # another call cannot overwrite what came through a pipe
        environment={"software": program.greeting.software or shlex.join(command)},
    )
    return subject


def command_in(spec: str) -> list[str]:
    """Return the command that ``exec:COMMAND`` names: a file, or words as a shell splits them; files by whole paths."""
    text = spec.removeprefix(EXEC)
    try:
        words = [text] if Path(text).is_file() else shlex.split(text)
    except ValueError as error:
        raise SubjectUnavailable(f"{spec}: {error}; expected a command, such as exec:./my_rnn") from None
    if not words:
        raise SubjectUnavailable(f"{spec}: names no program; expected a command, such as exec:./my_rnn")
    if shutil.which(words[0]) is None:
        why = "is not executable; chmod +x makes it so" if Path(words[0]).is_file() else "no such program"
        raise SubjectUnavailable(
            f"{spec}: {words[0]}: {why}; expected a command, such as exec:./my_rnn or 'exec:node rnn.js'"
        )
    return [str(Path(word).absolute()) if Path(word).is_file() else word for word in words]


# A function ``rnn`` that asks a program, for scripts.
_SCRIPT: Final = """
import builtins
import json
import os
import subprocess

program = subprocess.Popen({command}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
program.stdout.readline()  # its greeting


def rnn(x, h0, weights, config, cotangents={{}}, lengths=None, masks=None):
    arrays = {{"x": x, "h0": h0, **weights, **cotangents}}
    arrays |= {{f"mask_l{{i}}": mask.astype(x.dtype) for i, mask in enumerate(masks or [])}}
    raw = b"".join(array.tobytes() for array in arrays.values())
    shapes = {{name: array.shape for name, array in arrays.items()}}
    header = {{"cell": "rnn", **vars(config), "arrays": shapes, "bytes": len(raw)}}
    program.stdin.write(json.dumps(header).encode() + b"\\n" + raw)
    program.stdin.flush()
    line = program.stdout.readline()
    if not line:  # the program has ended, and this process ends in the same way
        code = program.wait()
        os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
    answer = json.loads(line)
    if "error" in answer:
        kind = answer.get("kind", "RuntimeError")
        raise getattr(builtins, kind, type(kind, (Exception,), {{}}))(answer["error"])
    dtypes, found = answer.get("dtype", x.dtype.name), {{}}
    for name, shape in answer["arrays"].items():
        dtype = np.dtype(dtypes[name] if isinstance(dtypes, dict) else dtypes)
        size = int(np.prod(shape)) * dtype.itemsize
        found[name] = np.frombuffer(program.stdout.read(size), dtype).reshape(shape)
    gradients = {{name: found.pop(name) for name in list(found) if name.endswith(".grad")}}
    order = ["output", "h_n", "readout"] if "output" in found else ["readout", "h_n"]
    outputs = [found[name] for name in order if name in found]
    return (*outputs, gradients) if gradients else outputs[0] if len(outputs) == 1 else tuple(outputs)
"""


def _script_lines(command: Sequence[str]) -> tuple[str, ...]:
    """Return the code by which a script, which has NumPy alone, asks a program: a function ``rnn``."""
    return tuple(_SCRIPT.strip("\n").format(command=json.dumps(list(command))).split("\n"))


class Program:
    """A running program, called as a function of a layer is; a call after it has ended starts it again.

    Raises ``SubjectUnavailable`` if it cannot be started, or does not greet.
    """

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._command, self._name = list(command), name
        self._running: _ProgramProcess | None = None
        self.greeting = self._started().greeting
        self.offers = {"strides": ("contiguous",), **self.greeting.offers}
        self.profile = self.greeting.profile
        self.conventions = self.greeting.conventions
        self.takes = (*USUAL_ARGUMENTS, *(name for name in self.greeting.takes if name not in USUAL_ARGUMENTS))
        self.__signature__ = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in self.takes])

    def __call__(self, **arguments: Any) -> Any:
        """Ask for a case. Raise ``NotImplementedError``, ``FailedRunError`` or ``MalformedResultError`` if it fails."""
        config = arguments["config"]
        try:
            running = self._started()
        except SubjectUnavailable as error:  # it was started before
            message = f"its process cannot be started again: {error}"
            raise FailedRunError(Outcome(failure=Failure.CRASHED, message=message)) from None
        try:
            return wire.returned(running.answer(wire.request(arguments), config), config)
        except NotImplementedError:
            raise
        except FailedRunError as error:
            if error.outcome.failure is Failure.CRASHED:
                self._kill(running)
            raise FailedRunError(replace(error.outcome, traceback=error.outcome.traceback or running.heard())) from None
        except MalformedResultError as error:
            self._kill(running)  # what it writes next would be taken for the next answer
            text = running.heard()
            raise FailedRunError(Outcome(failure=Failure.MALFORMED, message=str(error), traceback=text)) from None
        except BaseException:  # such as Ctrl-C
            self._kill(running)
            raise

    def _kill(self, running: _ProgramProcess) -> None:
        running.kill()
        self._running = None

    def _started(self) -> _ProgramProcess:
        if self._running is None:
            self._running = _ProgramProcess(self._command, self._name)
        return self._running


class _ProgramProcess:
    def __init__(self, command: Sequence[str], name: str) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise SubjectUnavailable(f"{name}: cannot be started: {error.strerror or error}") from None
        self._ear = _StderrTail(self._process)
        self.end = weakref.finalize(self, _end, self._process, self._ear)
        self.awaited = "its greeting"
        """The part of the answer that is still to come from it."""
        _EVERY.add(self)
        self._read = b""
        """The bytes that were read beyond the last message."""
        self._sending: threading.Thread | None = None
        """The thread that writes a large request; a program may answer before it has read all of it."""
        try:
            self.greeting = wire.Greeting.of(self._line())
        except (FailedRunError, MalformedResultError, UsageError) as error:
            self.end()
            text = self.heard().strip()
            last = f" (it said: {text.splitlines()[-1]})" if text else ""
            why = error.outcome.message if isinstance(error, FailedRunError) else str(error)
            raise SubjectUnavailable(f"{name}: {why}{last}; see docs/other-languages.md") from None

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self.end()

    def heard(self) -> str:
        """Return the end of what the program wrote to standard error during the last call."""
        return self._ear.text(wait=self._process.poll() is not None)

    def answer(self, request: bytes, config: Any) -> dict[str, Any]:
        """Send a request, and return the arrays that come back."""
        self._ear.forget()
        if self._sending is not None:
            self.awaited = "that it reads the case before this one to its end"
            self._sending.join()
        self.awaited = "the header of its answer"
        self._sending = self._send(request)
        header = wire.Header.of(self._line(), config)
        raw = self._exactly(header.size)
        if self._read:
            raise MalformedResultError(
                f"answered {len(self._read):,} bytes more than its header says: {self._read[:40]!r}"
            )
        return header.arrays(raw)

    def _send(self, data: bytes) -> threading.Thread | None:
        if len(data) <= BYTES_AT_ONCE:
            self._write(data)
            return None
        thread = threading.Thread(target=self._write, args=(data,), daemon=True)
        thread.start()
        return thread

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(data)
        with suppress(OSError, ValueError):  # it has ended, which reading tells
            while rest:
                rest = rest[self._process.stdin.write(rest) :]

    def _line(self) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > wire.LONGEST_HEADER:
                raise MalformedResultError(
                    f"answered {len(self._read):,} bytes without a line end, expected a line of JSON"
                )
            self._read += self._more()
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _exactly(self, count: int) -> bytes:
        parts, have = [self._read], len(self._read)
        while have < count:
            self.awaited = f"{count - have:,} of the {count:,} bytes that its header names"
            parts.append(self._more())
            have += len(parts[-1])
        data = b"".join(parts)
        self._read = data[count:]
        return data[:count]

    def _more(self) -> bytes:
        assert self._process.stdout is not None
        return os.read(self._process.stdout.fileno(), CHUNK) or self._died()

    def _died(self) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        code = self._process.poll()
        message = "its process closed its standard output" if code is None else f"its process {how_it_ended(code)}"
        raise FailedRunError(Outcome(failure=Failure.CRASHED, message=message))


_EVERY: Final[weakref.WeakSet[_ProgramProcess]] = weakref.WeakSet()  # The programs that this process has started


def tell_what_is_awaited(number: int, file: IO[str]) -> None:
    """Write into a file, whenever this signal comes, what has not come from each program, and what they last said."""

    def tell(_number: int, _frame: object) -> None:
        for running in list(_EVERY):
            if running.end.alive:
                print(f"awaited: {running.awaited}\n{running.heard().rstrip()}", file=file, flush=True)

    signal.signal(number, tell)


class _StderrTail:
    """The standard error of a program: passed on, and the end of it kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """Keep only what comes from now on."""
        self._tail.clear()

    def text(self, *, wait: bool) -> str:
        """Return what was kept; with ``wait``, after the last of it has come."""
        if wait:
            self._thread.join(GRACE)
        return bytes(self._tail).decode(errors="replace")

    def _listen(self, pipe: IO[bytes]) -> None:
        while chunk := pipe.read(CHUNK):
            self._tail += chunk
            del self._tail[:-STDERR_BYTES]
            with suppress(OSError, ValueError):
                os.write(2, chunk)
        pipe.close()


def _end(process: subprocess.Popen[bytes], ear: _StderrTail) -> None:
    """End a program: it sees the end of its input, and is killed if it does not heed it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    ear.text(wait=True)
