"""Example databases in whole pytest sessions: jobs with folders of their own share what one of them found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.redis_server import PASSWORD, Server, needs_redis, redis_server

pytestmark = pytest.mark.long

ROOT: Final = Path(__file__).parents[2]

SOURCE: Final = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from hypothesis import given
from harness import assert_agrees, cases
from tests.implementations import vectorised

WRONG = "BUG" in os.environ  # the source is the same in all jobs, because the key of an example is made from it

def rnn(x, h0, weights, config):
    output, h_n = vectorised(x, h0, weights, config)
    return output + (WRONG and config.hidden_size > 1), h_n

@given(case=cases(dtypes=["float64"], T=[1, 2], N=[1, 2], input_size=[1, 2]))
def test_first(case):
    with open("seen.txt", "a") as file:
        print(case.config.hidden_size, file=file)
    assert_agrees(rnn, case)

def test_in_the_middle():
    if "SERVER" in os.environ:
        os.kill(int(os.environ["SERVER"]), signal.SIGKILL)

@given(case=cases(dtypes=["float64"], T=[1, 2], N=[1, 2], input_size=[1, 2]))
def test_last(case):
    assert_agrees(rnn, case)
"""


class Jobs:
    """CI jobs, each of which runs the same tests in a folder of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester, self._monkeypatch, self.folder = pytester, monkeypatch, pytester.path

    def run(self, name: str, *arguments: str, bug: bool = True, server: Server | None = None) -> pytest.RunResult:
        """Run a job; with a server, that is killed between two tests."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "test_mine.py").write_text(SOURCE)
        given = {"BUG": "1" if bug else None, "SERVER": None if server is None else str(server.pid)}
        with self._monkeypatch.context() as patched:
            patched.chdir(folder)
            for variable, value in given.items():
                patched.delenv(variable, raising=False) if value is None else patched.setenv(variable, value)
            patched.setenv("RNN_ENVIRONMENT", "with" if bug else "without")
            result = self._pytester.runpytest_subprocess(
                "-p", "no:randomly", "-p", "no:cacheprovider", "--rnn-profile=ci", "-v", "-W", "error", *arguments
            )
        assert PASSWORD not in f"{result.stdout}{result.stderr}"
        return result

    def sizes(self, name: str) -> list[int]:
        """Return the hidden sizes that the first test was given; it fails above 1, and the plainest case has 1."""
        path = self.folder / name / "seen.txt"
        sizes = [int(line) for line in path.read_text().split()]
        path.unlink()
        return sizes


@pytest.fixture
def jobs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return Jobs(pytester, monkeypatch)


@needs_redis
def test_what_one_job_found_fails_first_in_another_and_outlives_a_job_without_the_bug(
    jobs: Jobs, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as server:
        database = f"--rnn-database={server.url}"
        jobs.run("a", "-n", "0", database).assert_outcomes(failed=2, passed=1)
        found_by_search = jobs.sizes("a")

        jobs.run("without", "-n", "0", database, bug=False).assert_outcomes(passed=3)
        assert jobs.sizes("without")[0] > 1  # it tries what was found first
        jobs.run("b", "-n", "2", database).assert_outcomes(failed=2, passed=1)
        replayed = jobs.sizes("b")

    assert found_by_search[0] == 1
    assert replayed[0] > 1
    assert len(replayed) < 5 < len(found_by_search)


def test_a_folder_that_a_job_without_the_bug_was_given_keeps_what_is_in_it_and_is_merged_by_copying(jobs: Jobs) -> None:
    jobs.run("a", "-n", "0", "--rnn-database=examples")
    shutil.copytree(jobs.folder / "a" / "examples", jobs.folder / "without" / "examples")
    jobs.run("without", "-n", "0", "-o", "rnn_database=examples", bug=False).assert_outcomes(passed=3)
    for name in ("a", "without"):
        assert jobs.sizes(name)
        command = ["cp", "-rn", f"{jobs.folder / name / 'examples'}/.", str(jobs.folder / "merged")]
        subprocess.run(command, check=True)

    jobs.run("b", "-n", "2", f"--rnn-database=read-only:{jobs.folder / 'merged'}").assert_outcomes(failed=2, passed=1)

    assert jobs.sizes("b")[0] > 1


@needs_redis
@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_killed_in_the_middle_costs_a_line_and_no_finding(workers: int, jobs: Jobs, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        result = jobs.run("a", "-n", str(workers), f"--rnn-database={server.url}", server=server)
        lost = server.url.replace(f":{PASSWORD}@", "")

    result.assert_outcomes(failed=2, passed=1)
    assert sum(f"{lost}: left out after ConnectionError: " in line for line in result.outlines) == 1
    jobs.sizes("a")
    again = jobs.run("a", "-n", "0", "--rnn-database=.hypothesis/examples")
    again.assert_outcomes(failed=2, passed=1)
    assert jobs.sizes("a")[0] > 1
