"""Tests of the pool: it ends, whatever its workers were doing."""

import subprocess
import sys

HALF_A_RESULT = """
import os, struct, time
from harness.search.pool import worker_pool

if __name__ == "__main__":
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        os.write(pool._result_queue._writer.fileno(), struct.pack("!i", 1000) + b"the beginning")
        time.sleep(0.5)  # until whoever reads results waits for the rest
    print("ended")
"""


def test_half_a_result_does_not_keep_it_from_ending() -> None:
    command = [sys.executable, "-c", HALF_A_RESULT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert (done.stdout, done.stderr) == ("ended\n", "")
