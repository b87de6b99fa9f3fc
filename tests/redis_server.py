"""A real Redis server on a free port of the loopback interface, for the length of a block."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None or find_spec("redis") is None,
    reason="redis-server or the package redis is not installed; `apt install redis-server`, `pip install redis`",
)

PASSWORD = "not-to-be-shown"  # noqa: S105 - of a server that lives for a second


class Server(NamedTuple):
    """A server that runs."""

    url: str
    pid: int

    def kill(self) -> None:
        """Kill it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """Run a server with a password that keeps nothing on the disk."""
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --requirepass {PASSWORD} --save".split()
    command = [str(shutil.which("redis-server")), *options, "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        assert any("Ready to accept connections" in line for line in lines), "the server ended"
        yield Server(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", server.pid)
    finally:
        server.kill()
        server.communicate()
