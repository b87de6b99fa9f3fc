"""Tests of programs as subjects: the examples in other languages, and what becomes of programs that misbehave."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from harness import Failure, RNNConfig, draw
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.search import hunt
from harness.space.scope import Scope
from harness.store.scripts import offer
from harness.subjects import wire
from harness.subjects.function import FUNCTION_ARGUMENTS
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.programs import BYTES_AT_ONCE, STDERR_BYTES
from harness.subjects.protocol import SubjectUnavailable, environment_of, scope_of
from harness.subjects.registry import find_subject
from tests.causes import has_cause_of

LANGUAGES: Final = Path(__file__).parents[2] / "examples" / "languages"
NODE, COMPILER = shutil.which("node"), shutil.which("c++")
RUSTC = shutil.which("rustc")

PLAIN, BIG = draw(RNNConfig(1, 1)), draw(RNNConfig(1, 1, N=2))

PROGRAM: Final = '''
"""A layer that returns zeros; with N above 1, it does what its argument says."""
import json, os, signal, sys, time

read, write = sys.stdin.buffer, sys.stdout.buffer

def say(header, raw=b""):
    write.write(json.dumps(header).encode() + b"\\n" + raw)
    write.flush()

say({"protocol": 1, "software": "zeros", **json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}")})
while line := read.readline():
    asked = json.loads(line)
    T, N, H = asked["T"], asked["N"], asked["hidden_size"]
    right = {"arrays": {"output": [T, N, H], "h_n": [1, N, H]}}
    zeros = bytes(8 * (T + 1) * N * H)[:: 1 if asked["dtype"] == "float64" else 2]
    answered = False
    if N > 1:
        exec(sys.argv[1])
    read.read(asked["bytes"])
    if not answered:
        say(right, zeros)
'''


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Make the name of a program that does something with N above 1."""
    (tmp_path / "zeros.py").write_text(PROGRAM)

    def made(does: str = "pass", **greeting: Any) -> str:
        words = [sys.executable, "-I", "-S", str(tmp_path / "zeros.py"), does, json.dumps(greeting)]
        return f"exec:{shlex.join(words)}"

    return made


def built(folder: Path, change: Callable[[str], str] = lambda text: text) -> str:
    """The example in C++, changed and compiled."""
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    source = (LANGUAGES / "rnn.cpp").read_text()
    (folder / "rnn.cpp").write_text(change(source))
    subprocess.run([COMPILER, "-O1", str(folder / "rnn.cpp"), "-o", str(folder / "rnn")], check=True)
    return f"exec:{folder / 'rnn'}"


def rusted(folder: Path, change: Callable[[str], str] = lambda text: text) -> str:
    """The example in Rust, changed and compiled."""
    if RUSTC is None:
        pytest.skip("there is no rustc")
    (folder / "rnn.rs").write_text(change((LANGUAGES / "rnn.rs").read_text()))
    subprocess.run([RUSTC, "--edition", "2021", "-o", str(folder / "rnn"), str(folder / "rnn.rs")], check=True)
    return f"exec:{folder / 'rnn'}"


def scripted(folder: Path, change: Callable[[str], str] = lambda text: text) -> str:
    """The example in JavaScript, changed."""
    if NODE is None:
        pytest.skip("there is no node")
    (folder / "rnn.js").write_text(change((LANGUAGES / "rnn.js").read_text()))
    return f"exec:node {folder / 'rnn.js'}"


@pytest.mark.parametrize("example", ["rnn.cpp", "rnn.js", "rnn.rs"])
def test_an_example_is_short_and_needs_nothing(example: str) -> None:
    text = (LANGUAGES / example).read_text()

    assert len(text.splitlines()) <= 80
    uses = re.compile(r'require\("(.*?)"\)|#include "(.*?)"|^use (\w+)', re.MULTILINE)
    used = {name for names in uses.findall(text) for name in names}
    assert used <= {"", "node:fs", "std"}


@pytest.mark.parametrize("made", [built, rusted, scripted])
def test_an_example_agrees_with_nn_rnn(made: Callable[[Path], str], tmp_path: Path) -> None:
    subject = find_subject(made(tmp_path))

    scope = scope_of(subject).only(dropout=0)
    if made is scripted:
        scope = scope.only(num_layers=1, bidirectional=False)
    if made is rusted:
        scope = scope.only(bidirectional=False)
    assert hunt(subject, scope, cases=40).finding is None


@pytest.mark.parametrize(
    ("made", "right", "wrong", "fault"),
    [
        (built, "b_ih[j] + b_hh[j]", "b_ih[j]", "IgnoresBiasHH"),
        (rusted, "b_ih[j] + b_hh[j]", "b_hh[j]", "IgnoresBiasIH"),
        (scripted, "U[j * H + k]", "U[k * H + j]", "TransposesWeightHH"),
    ],
)
def test_a_wrong_one_is_explained_and_has_a_script(
    made: Callable[..., str], right: str, wrong: str, fault: str, tmp_path: Path
) -> None:
    subject = find_subject(made(tmp_path, lambda text: text.replace(right, wrong)))
    scope = scope_of(subject).only(num_layers=1, bidirectional=False)
    record = hunt(subject, scope.only(dtype=scope.dtype[-1], nonlinearity="tanh", T=(1, 2, 3), N=(1, 2)), cases=60)

    finding = record.finding

    assert finding is not None
    assert finding.minimal
    explanation = FindingExplainer(subject).explain(finding, record.scope)
    assert has_cause_of(explanation.diagnosis, fault)
    offered = offer(finding, subject, tmp_path)
    assert offered.path is not None, offered.reason


def test_a_program_is_asked_for_what_it_says(program: Callable[..., str]) -> None:
    subject = find_subject(program(takes=["cotangents", "lengths"], offers={"dtype": ["float64"], "batched": [True]}))

    assert subject.capabilities.takes == (*FUNCTION_ARGUMENTS[:4], "cotangents", "lengths")
    scope = scope_of(subject)
    assert (scope.dtype, scope.batched, set(scope.strides)) == (("float64",), (True,), {"contiguous"})
    assert {None, "both"} <= set(scope.loss)
    with IsolatedSubject(subject.name) as apart:
        assert environment_of(apart, "cpu")["software"] == "zeros"


def test_a_program_with_two_states_is_sent_both(program: Callable[..., str]) -> None:
    case = draw(RNNConfig(1, 1, N=2, cell="LSTM"))
    told = "json.dump({'output': asked['cell'], 'h_n': list(asked['arrays'])[:3]}, sys.stderr)"
    more = "right['arrays']['c_n'] = [1, N, H]; zeros += bytes(4 * N * H); answered = False"

    one, other = (find_subject(program(does, conventions=["lstm"])).run(case) for does in ("pass", f"{told}; {more}"))

    assert (one.failure, one.message) == (
        Failure.MALFORMED,
        "answered arrays output, h_n, expected output, h_n, c_n or h_n, c_n, and gradients such as x.grad",
    )
    assert set(other.arrays) == {"output", "h_n", "c_n"}


DIES: Final = [
    ("os.kill(os.getpid(), signal.SIGSEGV)", Failure.CRASHED, "its process died of SIGSEGV"),
    ("sys.exit(3)", Failure.CRASHED, "its process ended with exit code 3"),
    ("os.close(1); time.sleep(9)", Failure.CRASHED, "its process closed its standard output"),
    ("write.write(b'hello\\n')", Failure.MALFORMED, "answered 'hello', expected one line of JSON"),
    ("write.write(b'\\xff\\n')", Failure.MALFORMED, "answered '\ufffd', expected one line of JSON"),
    ("write.write(b'[' * 10**5 + b'\\n')", Failure.MALFORMED, "expected one line of JSON"),
    ("while True: write.write(b'no end of it')", Failure.MALFORMED, "bytes without a line end"),
    ("right = {}", Failure.MALFORMED, "answered '{}', expected one line of JSON"),
    ("right['arrays']['h_n'] = [-1]", Failure.MALFORMED, r"answered h_n of shape \[-1\], expected a list of sizes"),
    ("right['arrays']['h_n'] = [10**9, 10**9]", Failure.MALFORMED, r"bytes, expected about 16"),
    ("right['dtype'] = 'int7'", Failure.MALFORMED, "answered dtype 'int7', expected one of float32"),
    ("zeros += b'more'", Failure.MALFORMED, "answered 4 bytes more than its header says: b'more'"),
    ("del right['arrays']['h_n']; zeros = zeros[:-8]", Failure.MALFORMED, "answered arrays output, exp"),
    ("right['arrays']['cell'] = [0]", Failure.MALFORMED, "answered arrays output, h_n, cell, expected output, h_n"),
    ("right = {'unsupported': 'one sequence'}; zeros = b''", Failure.UNSUPPORTED, "one sequence"),
    ("right = {'error': 'N is 2'}; zeros = b''", Failure.RAISED, "RuntimeError: N is 2"),
    ("right['arrays']['output'] = [N, T, H]", None, ""),
]


@pytest.mark.parametrize(("does", "failure", "words"), DIES)
def test_what_a_program_does_has_a_verdict_and_the_next_case_an_answer(
    does: str, failure: Failure | None, words: str, program: Callable[..., str]
) -> None:
    subject = find_subject(program(does))

    outcomes = [subject.run(case) for case in (PLAIN, BIG, PLAIN)]

    assert [outcome.failure for outcome in outcomes] == [None, failure, None]
    assert re.search(words, outcomes[1].message)
    assert "Traceback" not in outcomes[1].traceback


@pytest.mark.parametrize("ends", ["sys.exit(3)", "write.write(b'hello\\n')"])
def test_the_end_of_standard_error_is_kept(
    ends: str, program: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    subject = find_subject(program(f"print('begin' + 10**6 * '.' + 'the end', file=sys.stderr, flush=True); {ends}"))

    outcome = subject.run(BIG)

    assert outcome.traceback.endswith("the end\n")
    assert len(outcome.traceback) <= STDERR_BYTES
    assert "begin" in capfd.readouterr().err  # it is passed on as it comes


def test_a_program_that_answers_before_it_has_read_everything_is_no_hang(program: Callable[..., str]) -> None:
    case = draw(RNNConfig(40, 40, T=60, N=60, dtype="float64"))
    subject = find_subject(program("say(right, zeros); answered = True"))

    assert len(wire.request({"x": case.x, "h0": case.x, "weights": {}, "config": case.config})) > BYTES_AT_ONCE
    assert subject.run(case).arrays["output"].shape == (60, 60, 40)


def test_a_program_that_refuses_before_it_has_read_everything_is_asked_on(program: Callable[..., str]) -> None:
    big = draw(RNNConfig(200, 200, T=20, N=20, dtype="float64"))
    subject = find_subject(program("say({'unsupported': 'no'}); answered = True; time.sleep(0.1)"))

    outcomes = [subject.run(case) for case in (big, PLAIN, big, PLAIN)]

    assert [outcome.failure for outcome in outcomes] == [Failure.UNSUPPORTED, None] * 2


def test_a_program_that_cannot_be_started_again_has_crashed(program: Callable[..., str], tmp_path: Path) -> None:
    subject = find_subject(program("os.unlink(__file__); sys.exit(1)"))

    outcomes = [subject.run(case) for case in (BIG, PLAIN)]

    assert [outcome.failure for outcome in outcomes] == [Failure.CRASHED, Failure.CRASHED]
    assert outcomes[1].message.startswith("its process cannot be started again: exec:")


def test_a_program_that_hangs_is_ended_and_the_next_case_has_an_answer(
    program: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pid = tmp_path / "pid"
    does = (
        f"print(os.getpid(), file=open({str(pid)!r}, 'w'), flush=True); print('I sleep', file=sys.stderr, flush=True)"
    )
    does += "; say(right, b'123'); time.sleep(1e6)"
    with IsolatedSubject(program(does), timeout=0.5) as subject:
        outcomes = [subject.run(case) for case in (PLAIN, BIG, PLAIN)]

        assert [outcome.failure for outcome in outcomes] == [None, Failure.HUNG, None]
        assert outcomes[1].traceback == "awaited: 13 of the 16 bytes that its header names\nI sleep\n"
        status = Path(f"/proc/{pid.read_text().strip()}/status")
        assert not status.exists() or "zombie" in status.read_text()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("exec:", "names no program; expected a command, such as exec:./my_rnn"),
        ("exec:'open", "No closing quotation; expected a command"),
        ("exec:./no_such_program", "./no_such_program: no such program; expected a command"),
        ("exec:./plain.txt", "./plain.txt: is not executable; chmod"),
        ("exec:true", "its process ended with exit code 0; see docs/other-languages.md"),
        ("exec:ls /no/such/folder", r"exit code \d+ \(it said: .*No such file"),
        ("exec:yes", "said 'y', expected a greeting"),
        ("exec:cat /dev/zero", "bytes without a line end"),
        ("exec:echo {}", "protocol=None: expected 1"),
        ("exec:echo '{\"protocol\": 2}'", "protocol=2: expected 1"),
        ('exec:echo \'{"protocol": 1, "takes": ["y"]}\'', r"takes=\['y'\]: expected a list of some of cotangents"),
        ('exec:echo \'{"protocol": 1, "offers": {"color": 1}}\'', "unknown factor color"),
        ('exec:echo \'{"protocol": 1, "profile": "none"}\'', "profile='none': expected port or kernel"),
    ],
)
def test_what_is_no_subject_is_refused_in_one_line(
    spec: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain.txt").write_text("")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SubjectUnavailable, match=words) as caught:
        find_subject(spec)

    assert str(caught.value).startswith(spec)
    assert "\n" not in str(caught.value)


def test_a_program_that_waits_to_be_asked_is_told_to_greet_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.subjects.isolated.START_SECONDS", 0.5)

    with pytest.raises(SubjectUnavailable) as caught:
        IsolatedSubject("exec:cat", timeout=0.5)

    greeting = 'a greeting, one line of JSON such as {"protocol": 1}, before it is asked anything'
    assert str(caught.value) == f"exec:cat: no answer within 0.5 s, expected {greeting}; see docs/other-languages.md"


def test_a_crash_has_a_script_that_ends_in_the_same_way(program: Callable[..., str], tmp_path: Path) -> None:
    with IsolatedSubject(program("sys.exit(3)")) as subject:
        finding = hunt(subject, Scope().only(nonlinearity="relu", num_layers=1, N=2), cases=3).finding

        assert finding is not None
        offered = offer(finding, subject, tmp_path)

    assert offered.path is not None, offered.reason
