"""Files that others wrote, or that were damaged: each is refused in one line, and costs neither memory nor time."""

import copy
import json
import os
import pickle
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, Result, RNNConfig, Verdict, draw
from harness.cli import codes
from harness.cli.main import cli, main
from harness.report import coverage_words, terminal
from harness.report.escaping_console import printed
from harness.report.finding_files import DIRECTORY
from harness.report.json_record import subject_record
from harness.search.search_record import Finding
from harness.space.case import CaseError
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


# What a file names


RUNS = """
import pathlib

pathlib.Path(__file__).with_name("ran").touch()

def rnn(x, h0, weights, config):
    pathlib.Path(__file__).with_name("ran").touch()
"""

# Names of what must not run because a file has them; each would leave a file.
NAMED = ("exec:touch ran", "python:./runs.sh runs.py:rnn", "runs:rnn", "runs.py:rnn", "{}/runs.py:rnn", "./runs.py:rnn")


class Pickled:
    """What makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Return the file that is there once something of the folder has run."""
    (tmp_path / "runs.py").write_text(RUNS)
    (tmp_path / "runs.sh").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "runs.sh").chmod(0o700)
    return tmp_path / "ran"


def cases_of(subject: str) -> list[str]:
    """Write a case that names a subject in each way in which one can, and return what a replay calls them."""
    case = draw(RNNConfig(1, 1))
    Path("CASE.json").write_text(to_json(case, subject=subject))
    case.save("case.npz", subject=subject)
    folder = Path(DIRECTORY, "abcd0001")
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(to_json(case))
    document = {"version": 4, "document": "finding", "subject": subject}
    (folder / "finding.json").write_text(json.dumps(document))
    return ["CASE.json", "case.npz", str(folder), "abcd0001"]


@pytest.mark.parametrize("subject", NAMED)
def test_a_replay_runs_what_a_file_names_only_where_it_is_told_to(
    run: Any, tmp_path: Path, trap: Path, subject: str
) -> None:
    subject = subject.format(tmp_path)

    for given in cases_of(subject):
        code, said = run("replay", given)

        assert (code, len(said.splitlines())) == (codes.MISUSE, 1)
        assert f"{given} names the subject {subject!r}; what a file names is not run. To run it: " in said
        assert "--as-recorded" in said
        assert "--subject" in said
        assert run("replay", given, "--subject", "torch")[0] == codes.AGREES
        assert run("replay", given, "--subject", "")[0] == codes.MISUSE  # as of a variable that is not set
        assert not trap.exists()
    assert run("replay", "--all")[0] == codes.MISUSE
    assert not trap.exists()
    run("replay", "CASE.json", "--as-recorded")
    assert trap.exists()


def test_a_name_of_ours_is_replayed_whoever_wrote_the_file(run: Any) -> None:
    for given in cases_of("torch:cell"):
        assert run("replay", given) == (codes.AGREES, "")


def test_a_long_name_is_told_in_a_line(run: Any) -> None:
    cases_of(f"exec:{' ' * 10**6}touch ran")

    code, said = run("replay", "CASE.json")

    assert code == codes.MISUSE
    assert len(said) < 700


def hostile_store(kept: Path, subject: str) -> str:
    """Write a report and a finding that name what must not run wherever they name their subject; return its id."""
    (source,) = (kept / DIRECTORY).iterdir()
    id_ = Finding(subject, Case.load(source / "case.json"), Result(Verdict.BROKEN)).id
    folder = Path(DIRECTORY, id_)
    shutil.copytree(source, folder)
    shutil.copy(kept / "report.json", "report.json")
    for path in (Path("report.json"), folder / "finding.json", folder / "case.json"):
        text = path.read_text()
        assert "mine.py:rnn" in text
        path.write_text(text.replace("mine.py:rnn", json.dumps(subject)[1:-1]).replace(source.name, id_))
    (folder / "reproduce.py").write_text(RUNS.replace("with_name", "parents[2].joinpath"))
    return id_


@pytest.mark.parametrize("subject", NAMED)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("findings",), codes.AGREES),
        (("findings", "{id}", "--report", "page.html"), codes.AGREES),
        (("merge", "report.json", "-v", "--report", "page.html", "--findings", "all"), codes.FINDING),
        (("coverage", "report.json", "--missing", "5"), codes.AGREES),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_reading_a_report_or_a_finding_runs_nothing_that_it_names(
    run: Any, kept: Path, tmp_path: Path, trap: Path, command: tuple[str, ...], code: int, subject: str
) -> None:
    id_ = hostile_store(kept, subject.format(tmp_path))

    assert run(*(word.format(id=id_) for word in command)) == (code, "")
    assert not trap.exists()


@pytest.mark.parametrize("subject", NAMED)
def test_a_case_and_known_failures_run_nothing_that_they_name(
    run: Any, tmp_path: Path, trap: Path, subject: str
) -> None:
    subject = subject.format(tmp_path)
    cases_of(subject)
    texts = "\n".join(f"{field} = {json.dumps(subject)}" for field in ("name", "subject", "fails", "reason", "link"))
    Path("known.toml").write_text(f"[[known]]\n{texts}\nwhere = {{dtype = 'float32'}}\nuntil = 2999-12-31\n")
    (tmp_path / "mine.py").write_text(SOURCE)

    assert Case.load("CASE.json").id == Case.load("case.npz").id
    run("check", "mine.py:rnn", "--known", "known.toml", "--examples", "5", "-n", "0", "-q")
    assert not trap.exists()


def pickled(path: Path) -> Path:
    """Write a file that runs code where it is unpickled without care, as its suffix has it, and return its path."""
    if path.suffix == ".npz":
        case = draw(RNNConfig(1, 1))
        np.savez(path, header=np.array(Pickled(), object), output=np.array(Pickled(), object), **case.arrays)  # type: ignore[arg-type]
    elif path.suffix == ".npy":
        np.save(path, np.array(Pickled(), object), allow_pickle=True)
    elif path.suffix == ".pt":
        torch.save({"weight_ih_l0": Pickled()}, path)
    else:
        path.write_bytes(pickle.dumps(Pickled()))
    return path


@pytest.mark.parametrize("name", ["001.npz", "001.npy", "001.pt", "001.json", "001.safetensors", "001.pkl"])
def test_nothing_is_unpickled_that_can_run_code(run: Any, tmp_path: Path, trap: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    run("vectors", "vectors", "--examples", "1")
    Path("results").mkdir()
    path = str(pickled(Path(name)))
    pickled(Path("results", name))

    commands: list[tuple[str, ...]] = [
        ("explain", path, path, path),
        ("check", "mine.py:rnn", "--weights", path, "--examples", "1", "-n", "0"),
        ("check", "mine.py:rnn", "--known", path, "--examples", "1", "-n", "0"),
        ("judge", "vectors", "results"),
        *((command, path) for command in ("replay", "merge", "coverage")),
    ]
    for command in commands:
        assert run(*command)[0] == codes.MISUSE, command
    with pytest.raises(CaseError):
        Case.load(path)
    assert not trap.exists()
