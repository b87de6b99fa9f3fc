"""Files that others wrote, or that were damaged: each is refused in one line, and costs neither memory nor time."""

import copy
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, draw
from harness.cli import codes
from harness.cli.main import cli, main
from harness.report import coverage_words, terminal
from harness.report.escaping_console import printed
from harness.report.finding_files import DIRECTORY
from harness.report.json_record import subject_record
from harness.space.case_json import to_json
from harness.space.errors import UsageError
from harness.store.finding_folders import Store
from harness.store.reports import add_up, met_together, read_shards
from tests.unrun import let_scripts_fail_unrun

SOURCE = """
import numpy as np

def rnn(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.batch_first or config.nonlinearity != "tanh":
        raise NotImplementedError
    h, output = h0[0], []
    for frame in x:
        s = frame @ weights["weight_ih_l0"].T + weights.get("bias_ih_l0", 0) + h @ weights["weight_hh_l0"].T
        h = np.tanh(s).astype(x.dtype)
        output.append(h)
    return np.stack(output), h[None]
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the report of a shard and a kept finding."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "mine.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("harness.search.budget.CASES_AFTER_FINDING", 5)
        let_scripts_fail_unrun(patch)
        options = ["--examples", "20", "-n", "0", "-q", "--json", "report.json", "--shard", "1/1"]
        cli.main(["check", "mine.py:rnn", *options], standalone_mode=False)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["rnn-harness", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return int(exit_.value.code or 0), told.err

    return call


@contextmanager
def peak_of_memory() -> Iterator[Callable[[], int]]:
    """Measure the most bytes that Python and NumPy hold at a time."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zipped(**members: bytes) -> Callable[[Path], object]:
    """Return what writes an archive of these members."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return write


def bomb(path: Path) -> None:
    """Write an array of zeros that is larger than allowed when it is unpacked."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as x:
        np.lib.format.write_array_header_1_0(x, {"descr": "<f4", "fortran_order": False, "shape": (LARGEST // 4,)})
        x.write(bytes(LARGEST))


def encrypted(path: Path) -> None:
    zipped(**{"x.npy": b"nothing"})(path)
    content = bytearray(path.read_bytes())
    for flags in (6, content.index(b"PK\x01\x02") + 8):
        content[flags] |= 1
    path.write_bytes(content)


def sparse(path: Path) -> None:
    """Write a file of 8 GiB that takes no place."""
    path.touch()
    os.truncate(path, 2**33)


def header(**fields: Any) -> Callable[[Path], object]:
    """Return what writes a case's file with other fields in its header."""

    def write(path: Path) -> None:
        case = draw(RNNConfig(1, 1))
        case.save(path)
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "header"}
            old = json.loads(str(stored["header"]))
        np.savez(path, header=json.dumps(old | fields), **arrays)

    return write


CASE = json.loads(to_json(draw(RNNConfig(1, 1))))
CONFIG = CASE["config"]
NOT_A_FILE = "/dev/zero" if Path("/dev/zero").exists() else "."

LARGEST = 2**25

HOSTILE: dict[str, str | bytes | Callable[[Path], object]] = {
    "empty.json": "",
    "brackets.json": "[" * 10**7,
    "version.json": json.dumps(CASE | {"format": 99}),
    "huge.json": json.dumps(CASE | {"config": CONFIG | {"hidden_size": 10**9}}),
    "layers.json": json.dumps(CASE | {"config": CONFIG | {"num_layers": 10**8}}),
    "terminal.json": json.dumps(CASE | {"config": CONFIG | {"T": "1"}}),
    "path.json": json.dumps(CASE | {"arrays": CASE["arrays"] | {"../../x": [1.0]}}),
    "notes.json": json.dumps(CASE | {"notes": {"tolerance": {}, "subject": "mine.py:rnn"}}),
    "deep.json": json.dumps(CASE).replace("[[", "[" * 5000, 1),
    "commas.json": "[" + "1," * 2**23 + "1]",
    "sparse.json": sparse,
    "pipe.json": os.mkfifo,
    "parentheses.npz": zipped(**{"x.npy": b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000}),
    "encrypted.npz": encrypted,
    "no_archive.npz": b"PK\x03\x04" + bytes(100),
    "members.npz": zipped(**{"../../header.npy": b"nothing"}),
    "bomb.npz": bomb,
    "origin.npz": header(origin=[1, 2, 3, 4]),
    "notes.npz": header(notes=[1]),
}


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 300, NOT_A_FILE])
def test_a_case_that_is_none_is_refused_in_a_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = HOSTILE.get(name)
    if callable(content):
        content(tmp_path / name)
    elif content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.setattr("harness.space.reading.MOST_ARRAY_BYTES", LARGEST)

    with peak_of_memory() as peak:
        code, said = run("replay", name, "--subject", "mine.py:rnn")
        assert peak() < LARGEST or name == "brackets.json"  # which is as long itself

    assert code == codes.MISUSE
    assert len(said.splitlines()) == 1, said
    assert len(said) < 700


@pytest.mark.parametrize("command", ["coverage", "merge"])
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 5000,
        "[]",
        "{}",
        '{"version": 99}',
        '{"version": 4, "document": "check", "subjects": []}',
        '{"version": 4, "document": "check", "run": [], "subjects": [[]]}',
        '{"version": 4, "document": "finding", "subjects": []}',
        "x" * (2**26 + 1),
    ],
)
def test_a_report_that_is_none_is_refused_in_a_line(run: Any, tmp_path: Path, command: str, content: str) -> None:
    (tmp_path / "report.json").write_text(content)

    code, said = run(command, "report.json")

    assert code == codes.MISUSE
    assert said.startswith("Error: report.json: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["x" * 300, NOT_A_FILE, "pipe"])
def test_a_report_that_cannot_be_one_is_refused_in_a_line(run: Any, name: str) -> None:
    os.mkfifo("pipe")  # which nobody writes to

    code, said = run("coverage", name)

    assert code == codes.MISUSE
    assert len(said.splitlines()) == 1


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in a document; of a long list, of its first value."""
    yield path
    for key, one in (
        node.items() if isinstance(node, dict) else list(enumerate(node))[:1] if isinstance(node, list) else ()
    ):
        yield from places(one, (*path, key))


def damaged(document: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the document with each of its values replaced by another, with its place."""
    others: Iterator[Any] = cycle(("x", -1, None, [], {}, 10**30, [[[]]], "x" * 10))
    for path in places(document):
        changed = copy.deepcopy(document)
        if not path:
            continue
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = next(others)
        yield path, changed


@pytest.mark.long
def test_no_damage_to_a_report_is_a_fault_of_ours(kept: Path, tmp_path: Path) -> None:
    for _, changed in damaged(json.loads((kept / "report.json").read_text())):
        (tmp_path / "report.json").write_text(json.dumps(changed))
        with suppress(UsageError):
            for searched in met_together([tmp_path / "report.json"]):
                coverage_words.table(searched)
        with suppress(UsageError):
            for summary in add_up(read_shards([tmp_path / "report.json"]), str(tmp_path / "findings"), lambda _: None):
                printed(terminal.subject_report(summary, verbose=True))
                subject_record(summary)


def test_no_damage_to_the_record_of_a_finding_is_a_fault_of_ours(kept: Path) -> None:
    (stored,) = Store(kept / DIRECTORY).list()
    file = stored.path / "finding.json"
    whole = file.read_text()
    refused = 0
    for _, changed in damaged(json.loads(whole)):
        file.write_text(json.dumps(changed))
        (one,) = Store(kept / DIRECTORY).list()
        refused += bool(one.damage)
        assert len(one.damage.splitlines()) <= 1
        terminal.stored_report([one])
        terminal.findings_table([one], DIRECTORY)
    file.write_text(whole)
    assert refused > 10
    assert not Store(kept / DIRECTORY).list()[0].damage
