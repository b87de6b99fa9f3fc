"""Whole commands to which something happens from outside: a worker is killed, a disk is full or read-only."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="rests on /proc, and on tmpfs")]

ROOT: Final = Path(__file__).parents[2]

SOURCE: Final = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.implementations import vectorised as right

def wrong(x, h0, weights, config):
    output, h_n = right(x, h0, weights, config)
    return output + (config.hidden_size > 1), h_n
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness", "check", *arguments]


def without_times(report: Any) -> Any:
    """Return a report without the values that depend on time and on workers."""
    if isinstance(report, dict):
        return {name: without_times(value) for name, value in report.items() if name not in {"seconds", "workers"}}
    return [without_times(value) for value in report] if isinstance(report, list) else report


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(command: int) -> list[int]:
    """Return the workers, which the fork server forks, and each of which has the subject in a process of its own."""
    return [forked for child in children(command) for forked in children(child) if children(forked)]


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_a_worker_that_is_killed_from_outside_changes_nothing(name: str, folder: Path) -> None:
    asked = [f"mine.py:{name}", "--examples", "1200", "--only", "num_layers=1"]
    alone = subprocess.run(command(*asked, "-n", "0", "--json", "alone.json"), check=False, cwd=folder)
    shutil.rmtree(".rnn-harness", ignore_errors=True)  # where a finding was met before is no part of a search
    asked += ["-n", "2", "--json", "shared.json"]
    with subprocess.Popen(command(*asked), cwd=folder, text=True) as running:
        until = time.monotonic() + 60
        while len(workers := workers_of(running.pid)) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(1)  # it is at work by now
        os.kill(workers[0], signal.SIGKILL)
        running.wait(timeout=200)

    assert running.returncode == alone.returncode == (name == "wrong")
    whole, shared = (json.loads((folder / f"{which}.json").read_text()) for which in ("alone", "shared"))
    assert without_times(shared) == without_times(whole)
    if name == "right":  # otherwise the search may end before the kill
        assert shared["subjects"][0]["workers"]["lost"] >= 1


def on_a_small_disk(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with a disk of 1 MB mounted at ``disk``, which nobody else sees and which ends with the script."""
    (folder / "disk").mkdir()
    mounted = "mount -t tmpfs -o size=1m tmpfs disk"
    unshare = [*("unshare --mount" if os.geteuid() == 0 else "unshare --user --map-root-user --mount").split(), "sh"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "-c", mounted], cwd=folder, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    return subprocess.run(
        [*unshare, "-c", f"{mounted}\n{script}"], cwd=folder, check=False, capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize(
    ("spoil", "mend", "reports", "said"),
    [
        (
            "head -c 2M /dev/zero > disk/filler 2> /dev/null",
            "rm disk/filler",
            "--json disk/report.json --report disk/page.html",
            "No space left on device",
        ),
        ("mount -o remount,ro disk", "mount -o remount,rw disk", "", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_finding_outranks_a_disk_that_takes_nothing(
    spoil: str, mend: str, reports: str, said: str, folder: Path
) -> None:
    asked = command("mine.py:wrong", "--examples", "300", "-n", "0", "--findings", "disk/findings", *reports.split())
    check = " ".join(asked)
    replay = f"{sys.executable} -m harness replay --all --findings disk/findings"
    ran = on_a_small_disk(
        f"""{check} > first.txt 2>&1; echo first $?
        find disk -type f | sort > before.txt; cat $(cat before.txt) | sha256sum > before.sum
        {spoil}
        {check} > second.txt 2>&1; echo second $?
        {mend}
        find disk -type f | sort > after.txt; cat $(cat after.txt) | sha256sum > after.sum
        {replay} > replay.txt 2>&1; echo replay $?""",
        folder,
    )

    assert ran.stdout.split() == ["first", "1", "second", "1", "replay", "1"], ran.stderr
    second = (folder / "second.txt").read_text()
    assert said in second
    assert "Traceback" not in second
    for kind in ("txt", "sum"):
        assert (folder / f"before.{kind}").read_text() == (folder / f"after.{kind}").read_text()
    assert "FAILED" in (folder / "replay.txt").read_text()
