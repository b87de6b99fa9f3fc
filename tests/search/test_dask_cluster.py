"""Tests of the way to a cluster, and of what its workers need; ``tests/quality`` has real clusters."""

import contextlib
import pickle
import socket
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from harness import Scope
from harness.oracle.arithmetic_assumptions import STRICT
from harness.search.dask_cluster import Cluster, _Call, difference
from harness.search.plan import CoveringChunk
from harness.search.workers import WorkerContext, _subject, answer
from harness.space.errors import UsageError
from harness.subjects.isolated import InProcessSubject, IsolatedSubject
from harness.subjects.registry import find_subject
from tests.dask_cluster import patience


def test_a_cluster_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    said = r"^scheduler=tcp://127\.0\.0\.1:1: needs one more package: pip install 'rnn-harness\[cluster\]'$"
    with pytest.raises(UsageError, match=said), Cluster("tcp://127.0.0.1:1"):
        pass


@pytest.mark.long
def test_a_scheduler_that_is_not_there_is_refused_in_the_time_that_dask_gives() -> None:
    pytest.importorskip("distributed", reason="the package distributed is not installed")

    with closing(socket.create_server(("127.0.0.1", 0))) as silent, patience(0.3):
        at = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        for address in ("tcp://127.0.0.1:1", at, "here://", "tcp://127.0.0.1:port"):
            with pytest.raises(UsageError) as caught, Cluster(address):
                pass
            said = str(caught.value)
            assert said.startswith(f"scheduler={address}: cannot be reached within 0.3 s (")
            assert said.endswith("; expected the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786")
            assert "\n" not in said


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"numpy": "2.4.6", "torch": "2.13.0"}, None),
        ({"numpy": "2.0.2", "torch": "2.13.0"}, "numpy=2.0.2: expected 2.4.6"),
        ({"numpy": "2.4.6"}, "torch=none: expected 2.13.0"),
        ({"numpy": "2.4.6", "torch": "2.13.0", "ATEN_X": "1"}, "ATEN_X=1: expected none"),
    ],
)
def test_a_worker_differs_in_a_version_or_in_what_chooses_kernels(there: dict[str, str], said: str | None) -> None:
    assert difference(there, {"numpy": "2.4.6", "torch": "2.13.0"}) == said


NOTHING = CoveringChunk(0, 0.0, 0, (), Scope())

RIGHT = """
import numpy as np

def rnn(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first:
        raise NotImplementedError("one layer, one direction, time first")
    h = h0[0] + 0 * x[0, ..., :1]
    return np.stack([h] * len(x)), h[None]
"""


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "mine.py:rnn: its file was deleted"), (f"{RIGHT}#", "mine.py:rnn: its file was changed")],
)
def test_a_worker_needs_the_same_file(
    content: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RIGHT)
    if content is not None:
        (there / "mine.py").write_text(content)

    _subject.cache_clear()
    with IsolatedSubject("mine.py:rnn") as subject, contextlib.chdir(there):
        error = answer(WorkerContext.of(subject, Scope(), STRICT), NOTHING).error

    assert isinstance(error, UsageError)
    assert said in str(error)


def test_a_subject_that_shares_the_process_of_a_worker_needs_the_same_file_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RIGHT)
    spec = f"{tmp_path}/mine.py:rnn"
    task = WorkerContext.of(find_subject(spec), Scope(), STRICT)._replace(
        subject=pickle.dumps(partial(InProcessSubject, spec, 1.0))
    )

    assert answer(task, NOTHING).error is None
    error = answer(task._replace(source="another"), NOTHING).error
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"{spec}: its file is not what it was")


def test_a_call_is_made_where_its_bytes_are_read() -> None:
    assert pickle.loads(pickle.dumps(_Call(divmod, (7, 2)))) == (3, 1)  # noqa: S301
