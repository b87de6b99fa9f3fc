"""Tests of child processes and of their executor: each call is its own, and all of them end."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.processes import Child, LostError
from harness.search.workers import Processes


def half(connection: Any, message: bytes) -> None:
    os.write(connection.fileno(), message[: len(message) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def answer_half() -> bytes:
    setattr(Connection, "_send", half)  # noqa: B010 - it is no attribute of its type
    return b"x" * 1000


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def raise_a_user_s() -> NoReturn:
    class Own(Exception):
        pass

    raise Own("of a module that is not here")


@pytest.mark.parametrize("dies", [die, answer_half])
def test_a_process_that_dies_loses_its_own_call_and_no_other(dies: Any) -> None:
    with Processes(2) as processes:
        calls = [processes.submit(*call) for call in ((os.getpid,), (dies,), (divmod, 7, 2), (os.getpid,), (dies,))]
        after = [processes.submit(divmod, 7, 2) for _ in range(8)]
        _, not_done = wait([*calls, *after], timeout=60)

    assert not not_done
    assert [type(call.exception()) for call in calls] == [type(None), LostError, type(None), type(None), LostError]
    assert {call.result() for call in after} == {(3, 1)}


def test_at_the_end_they_are_ended_whatever_they_do() -> None:
    start = time.monotonic()
    with Processes(2) as processes:
        pids = [processes.submit(os.getpid).result() for _ in range(2)]
        calls = [processes.submit(time.sleep, 60) for _ in range(4)]
        time.sleep(0.2)

    assert time.monotonic() - start < 30
    assert [type(call.exception()) for call in calls[:2]] == [LostError] * 2
    assert all(call.cancelled() for call in calls[2:])
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_error_that_might_not_survive_the_pipe_is_told_in_another() -> None:
    child = Child("child")
    with pytest.raises(RuntimeError, match="Own: of a module that is not here"):
        child.call(60, raise_a_user_s)
    assert child.call(60, divmod, 7, 2) == (3, 1)
    child.close()


LEAVES_WORK = """
import os, time
from harness.search.workers import Processes

if __name__ == "__main__":
    processes = Processes(2)
    print(*(processes.submit(os.getpid).result() for _ in range(4)), flush=True)
    for _ in range(4):
        processes.submit(time.sleep, 60)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="rests on signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_the_process_that_started_them(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES_WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = {int(pid) for pid in parent.stdout.readline().split()}
        time.sleep(0.3)
        parent.send_signal(number)

    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
