"""Settings of this project's own test run; the harness's pytest plugin is loaded through its entry point."""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness.processes import one_thread_a_process

one_thread_a_process()  # before NumPy or torch is imported
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a process that a shell starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]

TOGETHER: Final = {
    "tests/diagnosis/test_investigate.py",
    "tests/report/test_page.py",
    "tests/report/test_schema.py",
    "tests/store/test_hostile_files.py",
    "tests/test_shards.py",
}
"""Files whose tests go to one worker, because what their fixtures make takes seconds.

``--dist loadgroup`` is for that, but pytest-xdist 3.8 forgets its groups under pytest 9.2 (pytest-xdist 1386).
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Start a worker more than there are cores, because many tests wait: for processes, for a time to pass."""
    from harness.search.scope_and_workers import cores

    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (cores() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker one test at a time, or all tests of a file whose tests go together."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return Together(config, log) if config.getoption("dist") == "load" else None


def pytest_configure(config: pytest.Config) -> None:
    """Import torch in a worker's fork server, so that no subject of any test imports it again."""
    if hasattr(config, "workerinput"):
        from harness.subjects.isolated import ahead

        ahead(["torch"])


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is noted of findings, also by child processes, out of the state folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_collection_finish() -> None:
    """Keep the collector of garbage from going through all tests again and again, which is 3 % of the run."""
    gc.collect()
    gc.freeze()
