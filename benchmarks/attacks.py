"""Attacks on whole commands: nothing breaks them, nothing sways them, and nothing outside is blamed on the subject.

Each section prints how many attacks were tried, how many went right, the longest, the largest peak of memory of the
command's own process, and those that went wrong:

- streams: output that takes no such characters, is closed or full, or whose reader has gone;
- files: devices, pipes, bombs, and damaged files, given to every command that reads one;
- disks: commands whose files may have so many KB, and those that begin full;
- lines: each option of each command, with values chosen at random;
- spoilers: layers that misbehave (``layers/spoilers.py``);
- kills: SIGKILL and SIGSTOP of the processes below a command, which has a right layer;
- signals: SIGINT, SIGTERM and SIGHUP to the command, which reports what it has and leaves nothing;
- times: how far a command goes beyond ``--time``;
- arguments: of the Python API, of wrong types;
- same: the same search under load, with workers and in shards, whose reports must be equal but for times.

Right is: the expected exit code, no traceback of this package, within the seconds that an attack may take. Run:
``python benchmarks/attacks.py`` (an hour on two cores), or with the names of sections.
"""

import argparse
import inspect
import io
import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.layers.spoilers import EXPECTED  # noqa: E402

LAYERS: Final = str(ROOT / "benchmarks/layers/spoilers.py")
CODES: Final = {"agrees": {0}, "broken": {1}}
PATIENCE: Final = 120.0  # the seconds that an attack may take if nothing else is said


class Ran(NamedTuple):
    """What became of a command."""

    code: int
    seconds: float
    peak: float  # MB
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        """True if it shows a traceback of this package."""
        return "itself failed" in self.err or (
            "Traceback" in self.out + self.err and "/harness/" in self.out + self.err
        )


class Attack(NamedTuple):
    """One attack, what came of it, and whether that is right."""

    name: str
    ran: Ran
    wrong: str = ""


def command(*arguments: str) -> list[str]:
    """Return a command of the package."""
    return [sys.executable, "-m", "harness", *arguments]


def _heed_signals() -> None:
    """Undo what a shell does for what runs in its background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ran(
    arguments: Sequence[str],
    *,
    redirected: str = "",
    meanwhile: Callable[[int], object] | None = None,
    environ: dict[str, str] | None = None,
) -> Ran:
    """Run a command, in a session of its own; ``redirected`` is what a shell has after it."""
    given = ["bash", "-c", f'exec "$@" {redirected}', "-", *arguments] if redirected else list(arguments)
    given = ["bash", "-c", f'"$@" {redirected}', "-", *arguments] if "|" in redirected else given
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            given,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_heed_signals,  # noqa: PLW1509 - before any thread
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        )
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        if meanwhile is not None:
            meanwhile(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
        seconds = time.perf_counter() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
        return Ran(process.returncode, seconds, usage.ru_maxrss / 1024, *texts)


def judged(name: str, one: Ran, codes: set[int], seconds: float = PATIENCE) -> Attack:
    """Return an attack with what is wrong about it, if anything is."""
    wrong = [f"exit code {one.code}, not {' or '.join(map(str, sorted(codes)))}"] * (one.code not in codes)
    wrong += ["a traceback"] * one.traceback + [f"{one.seconds:.1f} s"] * (one.seconds > seconds)
    return Attack(name, one, ", ".join(wrong))


def check(*arguments: str, examples: int = 210) -> list[str]:
    """Return a check in this process."""
    return command("check", *arguments, "-n", "0", "--examples", str(examples))


def streams(_folder: Path) -> Iterator[Attack]:
    """Yield attacks on the output of a search with a finding."""
    asked = [*check(f"{LAYERS}:wrong", examples=40), "--json", "report.json", "--report", "page.html"]
    ways: dict[str, dict[str, Any]] = {
        "ascii": {"environ": {"PYTHONIOENCODING": "ascii"}},
        "latin-1": {"environ": {"PYTHONIOENCODING": "latin-1"}},
        "cp1252": {"environ": {"PYTHONIOENCODING": "cp1252"}},
        "C": {"environ": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
        "standard output closed": {"redirected": ">&-"},
        "standard error closed": {"redirected": "2>&-"},
        "both closed": {"redirected": ">&- 2>&-"},
        "full": {"redirected": "> /dev/full"},
        "both full": {"redirected": "> /dev/full 2> /dev/full"},
        "no standard input": {"redirected": "<&-"},
    }
    for name, how in ways.items():
        for report in ("report.json", "page.html"):
            Path(report).unlink(missing_ok=True)
        attack = judged(name, ran(asked, **how), {1})
        there = all(Path(report).exists() for report in ("report.json", "page.html"))
        yield attack if there else attack._replace(wrong=f"{attack.wrong} no report".strip())
    yield judged("no reader", ran(asked, redirected="| true; exit ${PIPESTATUS[0]}"), {1, 141})


def _safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode().ljust(117) + b"\n" + body


class _Touches:
    """An object whose unpickling writes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled",)


def _hostile(folder: Path) -> list[str]:
    """Write hostile files into a folder, and return their names."""
    (sparse := folder / "sparse").touch()
    os.truncate(sparse, 2**33)
    os.mkfifo(folder / "fifo")
    names = [str(sparse), "/dev/zero", "/dev/urandom", str(folder / "fifo"), str(folder)]
    zipped, good = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        huge = _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000000,), }", bytes(2**29))
        archive.writestr("x.npy", huge)
    np.savez(good, x=np.zeros(3))
    plain = good.getvalue()
    at = plain.find(b"PK\x01\x02")
    encrypted, unknown, corrupt = bytearray(plain), bytearray(plain), bytearray(plain)
    encrypted[at + 8], encrypted[6] = encrypted[at + 8] | 1, encrypted[6] | 1
    unknown[at + 10] = unknown[8] = 99
    corrupt[80] ^= 255
    one = {"dtype": "F32", "data_offsets": [0, 4]}
    files = {
        "empty": b"",
        "brackets.json": b"[" * 2**24,
        "deep.json": b'{"a":' * 5000 + b"1" + b"}" * 5000,
        "big.json": b'{"a":"' + b"x" * 120 * 2**20 + b'"}',
        "zeros.json": bytes(100),
        "bom.json": b"\xff\xfe{}",
        "nan.json": b"NaN",
        "large.json": b"1e999",
        "digits.json": b"9" * 100_000,
        "list.json": b"[]",
        "dict.json": b"{}",
        "axes.safetensors": _safetensors({"x": {**one, "shape": [1] * 100}}, bytes(4)),
        "size.safetensors": _safetensors({"x": {**one, "shape": [0, 2**70], "data_offsets": [0, 0]}}),
        "long.safetensors": struct.pack("<Q", 2**63) + b"{}",
        "number.safetensors": _safetensors({"x": 5}),
        "negative.safetensors": _safetensors({"x": {**one, "shape": [-1]}}, bytes(4)),
        "brackets.safetensors": _safetensors(b"[" * 100_000),
        "brackets.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 5000) + b"(" * 5000,
        "size.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"),
        "object.npy": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps(_Touches())),
        "bomb.npz": zipped.getvalue(),
        "encrypted.npz": bytes(encrypted),
        "unknown.npz": bytes(unknown),
        "corrupt.npz": bytes(corrupt),
        "cut.npz": plain[:-30],
        "pickle.pt": pickle.dumps(_Touches()),
        "bytes.toml": b"a" * 10 + b"\xff",
        "long.toml": b"[[failure]]\n" * 100_000,
        "broken.py": b"def rnn(x",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
        names.append(str(folder / name))
    return names


def files(folder: Path) -> Iterator[Attack]:
    """Yield hostile files, each given to every command that reads one."""
    subprocess.run(command("vectors", "vectors", "--examples", "2"), check=True, capture_output=True)
    hostile, places = folder / "hostile", {"found/aaaaaaaa": "case.json", "a": "001.npz", "b": "001.safetensors"}
    hostile.mkdir()
    with ProcessPoolExecutor(1) as pool:  # a command counts the memory of the process that it is forked from
        names = pool.submit(_hostile, hostile).result()
    for name in names:
        for place, own in places.items():
            Path(place).mkdir(parents=True, exist_ok=True)
            (Path(place) / own).unlink(missing_ok=True)
            (Path(place) / own).symlink_to(name)
        asked = [
            (command("replay", "found/aaaaaaaa"), {2}),
            (command("findings", "--findings", "found"), {0, 2}),
            (command("judge", "vectors", "a"), {2}),
            (command("judge", "vectors", "b"), {2}),
            (command("merge", name), {2}),
            (command("explain", name, name, name), {2}),
            ([*check(f"{LAYERS}:right"), "--weights", name], {2}),
            ([*check(f"{LAYERS}:right", examples=5), "--known", name], {2}),
            (check(f"{name}:rnn", examples=5), {2}),
            (command("adapt", f"{name}:rnn"), {2}),
        ]
        for given, codes in asked:
            attack = judged(f"{given[3]} of {Path(name).name}", ran(given), codes, seconds=10)
            yield attack._replace(wrong=f"{attack.wrong} unpickled") if Path("unpickled").exists() else attack


def disks(_folder: Path) -> Iterator[Attack]:
    """Yield searches with a finding that can write so many KB into a file, which ends as one that finds it."""
    for kilobytes in (1, 4, 16, 64, 256):
        for name in ("wrong", "right"):
            asked = [*check(f"{LAYERS}:{name}", examples=40), "--json", "report.json", "--report", "page.html"]
            limited = f'(ulimit -f {kilobytes}; exec "$@") 2>&1 | cat; exit ${{PIPESTATUS[0]}}'
            one = ran(["bash", "-c", limited, "-", *asked])
            attack = judged(f"{name}, {kilobytes} KB", one, {1} if name == "wrong" else {0, 2})
            yield attack if "agrees" in one.out or "disagrees" in one.out else attack._replace(wrong="no verdict")


def lines(_folder: Path) -> Iterator[Attack]:
    """Yield commands with options whose values are chosen at random."""
    from harness.cli.main import cli

    values = ["", "-1", "0", "2", "1e309", "nan", "x", "x=1", "atol=x", "=", "1/2", "3/2", "5s", "-5s", "1e9h", "ü"]
    values += ["\x1b[31m", "/dev/null", "/nonexistent/x", "a" * 5000, "[", "{}", ".", "*", "--", "torch", "../.."]
    first = {
        "check": [f"{LAYERS}:right", "-n", "0", "--examples", "5"],
        "vectors": ["vectors", "--examples", "2"],
        "adapt": [f"{LAYERS}:right"],
    }
    chosen = random.Random(0)
    for name, one in sorted(cli.commands.items()):
        for parameter in one.params:
            if "--help" in parameter.opts or parameter.name == "time":
                continue
            for _ in range(2):
                flag = getattr(parameter, "is_flag", False)
                value = [] if flag else [chosen.choice(values)]
                option = [parameter.opts[0]] if parameter.opts[0].startswith("-") else []
                given = [*first.get(name, []), *option, *value]
                yield judged(f"{name} {given}", ran(command(name, *given)), {0, 1, 2}, seconds=30)


def spoilers(_folder: Path) -> Iterator[Attack]:
    """Yield checks of layers that spoil their process, without workers and with them."""
    for name, expected in EXPECTED.items():
        asked = ["--examples", "300", "--timeout", "5s"]
        yield judged(name, ran(command("check", f"{LAYERS}:{name}", "-n", "0", *asked)), CODES[expected])
        again = command("check", f"{LAYERS}:{name}", f"{LAYERS}:right", "-n", "2", *asked)
        both = judged(f"{name}, and the next subject", ran(again), CODES[expected])
        yield both if f"{LAYERS}:right agrees" in both.ran.out else both._replace(wrong=f"{both.wrong} no next one")


def _below(pid: int) -> list[int]:
    """Return the processes that a process has started, and that those have."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found + [one for child in found for one in _below(child)]


def _sending(number: int, times: int, gap: float, seed: int) -> Callable[[int], None]:
    """Return what sends a signal to processes below a command, one after the other, chosen at random."""
    chosen = random.Random(seed)

    def send(pid: int) -> None:
        time.sleep(4)
        for _ in range(times):
            with suppress(OSError, IndexError):
                os.kill(chosen.choice(sorted(_below(pid))), number)
            time.sleep(gap)

    return send


def kills(_folder: Path) -> Iterator[Attack]:
    """Yield kills and stops of the processes below a search of a right layer, which is never blamed for them."""
    for workers in ("0", "2"):
        for seed in range(6):
            asked = command("check", f"{LAYERS}:slow", "-n", workers, "--examples", "300")
            one = ran(asked, meanwhile=_sending(signal.SIGKILL, 12, 0.9, seed))
            yield judged(f"12 kills, {workers} workers, {seed}", one, {0, 2})
        for seed in range(2):
            asked = command("check", f"{LAYERS}:slow", "-n", workers, "--time", "20s", "--timeout", "10s")
            one = ran(asked, meanwhile=_sending(signal.SIGSTOP, 3, 1.5, seed))
            yield judged(f"3 stops, {workers} workers, {seed}", one, {0, 2}, seconds=20 + 2 * 10 + 2)


def signals(folder: Path) -> Iterator[Attack]:
    """Yield signals to a command, before a finding and after it, which reports what it has, and leaves nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for name, after, found in (("slow", 8, False), ("slow_and_wrong", 20, True), ("slow_and_wrong", 9, None)):
            for workers in ("0", "2"):
                (own := folder / "temporary").mkdir()
                asked = [*command("check", f"{LAYERS}:{name}", "-n", workers), "--json", "report.json"]
                asked += ["--report", "page.html"]

                def send(pid: int, number: int = number, after: int = after) -> None:
                    time.sleep(after)
                    os.kill(pid, number)

                one = ran(asked, meanwhile=send, environ={"TMPDIR": str(own)})
                ends = {130 if number == signal.SIGINT else 143}
                codes = {1} if found else ends if found is False else {1, *ends}
                attack = judged(f"{signal.Signals(number).name} after {after} s, {name}, -n {workers}", one, codes)
                left = [*(one.name for one in own.iterdir())]
                there = all(Path(report).exists() for report in ("report.json", "page.html"))
                wrong = [attack.wrong, f"left {', '.join(left)}" * bool(left), "" if there else "no report"]
                yield attack._replace(wrong=" ".join(filter(None, wrong)))
                shutil.rmtree(own)
                for report in ("report.json", "page.html"):
                    Path(report).unlink(missing_ok=True)


def times(_folder: Path) -> Iterator[Attack]:
    """Yield searches with a limit of time, which they exceed by one call and 2 s at most."""
    limits = [
        *((f"{LAYERS}:very_slow", 20, 2), (f"{LAYERS}:very_slow_and_wrong", 20, 2), (f"{LAYERS}:its_input", 5, 0)),
        *((f"{LAYERS}:slow_and_wrong", 10, 0), (f"{LAYERS}:wrong", 3, 0), ("torch", 10, 0), ("torch:gru", 10, 0)),
        *(("torch:script", 20, 2), ("torch:lstm:compile-eager", 30, 5)),
    ]
    for name, limit, call in limits:
        one = ran(command("check", name, "--time", f"{limit}s", "-n", "0"))
        yield judged(f"{name.rpartition('/')[2]} --time {limit}s", one, {0, 1, 2}, seconds=limit + call + 2)


def arguments(_folder: Path) -> Iterator[Attack]:
    """Yield the number of calls of the Python API with arguments of wrong types whose errors are not this package's."""
    start, tried, raw = time.perf_counter(), 0, list[str]()
    import harness
    from harness.space.errors import UsageError

    given = [None, 1, -1, 2.5, float("nan"), "x", "", [], {}, {"a": 1}, object(), np.zeros(0), True, b"x", (1, 2), int]

    def call(name: str, function: Any, /, *arguments: Any, **named: Any) -> None:
        nonlocal tried
        tried += 1
        try:
            function(*arguments, **named)
        except UsageError:
            pass
        except TypeError as error:
            if "argument" not in str(error):  # Python's own word of a signature
                raw.append(f"{name}: {error!r}")
        except Exception as error:  # noqa: BLE001 - these are what is looked for
            raw.append(f"{name}: {error!r}")

    left_out = {"check", "Disagreement", "Failure", "Subject", "Unsupported", "Verdict"}
    for name in harness.__all__:
        function = getattr(harness, name)
        if name in left_out or not callable(function):
            continue
        for one in given:
            for number in (1, 2, 3):
                call(name, function, *[one] * number)
            for parameter in inspect.signature(function).parameters.values():
                if parameter.default is not parameter.empty:
                    call(f"{name}({parameter.name}=…)", function, **{parameter.name: one})
    seconds = time.perf_counter() - start
    wrong = "; ".join(dict.fromkeys(raw))[:500]
    yield Attack(f"{tried:,} calls", Ran(0, seconds, 0.0, "", ""), wrong)


def _without_times(report: Any) -> Any:
    if isinstance(report, dict):
        return {name: _without_times(value) for name, value in report.items() if name not in {"seconds", "workers"}}
    return [_without_times(value) for value in report] if isinstance(report, list) else report


def same(folder: Path) -> Iterator[Attack]:
    """Yield the same searches under load, with workers and in shards: their reports are equal but for times."""
    busy = [sys.executable, "-c", "while True: pass"]
    for name in ("torch", f"{LAYERS}:wrong", f"{LAYERS}:right", "torch:gru", "torch:lstm"):
        first: Any = None
        for number, (workers, load) in enumerate((("0", 0), ("1", 6), ("2", 0), ("2", 6), ("0", 6))):
            others = [subprocess.Popen(busy) for _ in range(load)]
            shutil.rmtree(folder / "found", ignore_errors=True)
            asked = command("check", name, "--examples", "400", "-n", workers, "--json", f"{number}.json")
            one = ran([*asked, "--findings", str(folder / "found")])
            for other in others:
                other.kill()
                other.wait()
            attack = judged(f"{name.rpartition('/')[2]}, {workers} workers, {load} busy processes", one, {0, 1})
            report = json.dumps(_without_times(json.loads(Path(f"{number}.json").read_text())["subjects"]))
            first = report if first is None else first
            yield attack if report == first else attack._replace(wrong="another report")
        shards = []
        for number in (1, 2):
            asked = command("check", name, "--examples", "400", "--shard", f"{number}/2", "-n", "0")
            shards.append(ran([*asked, "--json", f"shard{number}.json", "--findings", str(folder / "found")]))
        merged = ran(command("merge", "shard1.json", "shard2.json", "--json", "merged.json"))
        attack = judged(f"{name.rpartition('/')[2]}, 2 shards", merged, {0, 1})
        own, other = (_without_times(json.loads(text)) for text in (first, Path("merged.json").read_text()))
        differ = own[0]["checks"] != other["subjects"][0]["checks"]
        yield attack._replace(wrong="another number of cases") if differ else attack


SECTIONS: Final = [streams, files, disks, lines, spoilers, kills, signals, times, arguments, same]


def main() -> None:
    """Run the sections, and print what came of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(names)}; by default all")
    chosen = parser.parse_args().sections or names
    for section in SECTIONS:
        if section.__name__ not in chosen:
            continue
        with tempfile.TemporaryDirectory(prefix="attacks-") as place:
            before = Path.cwd()
            os.chdir(place)
            attacks = []
            for attack in section(Path(place)):
                attacks.append(attack)
                if attack.wrong:
                    print(f"  {attack.name}: {attack.wrong}", flush=True)
            os.chdir(before)
        right = sum(not attack.wrong for attack in attacks)
        slow, large = max(attacks, key=lambda one: one.ran.seconds), max(attacks, key=lambda one: one.ran.peak)
        said = f"{slow.ran.seconds:.1f} s at most ({slow.name}), {large.ran.peak:.0f} MB at most ({large.name})"
        print(f"{section.__name__}: {len(attacks)} tried, {right} right; {said}", flush=True)


if __name__ == "__main__":
    main()
