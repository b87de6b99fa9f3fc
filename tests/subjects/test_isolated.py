"""Tests of a subject in a process of its own: whatever it does there has a verdict, and the next case an answer."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from harness import Failure, RNNConfig, draw, processes
from harness.processes import UNTOLD, LostError
from harness.search.plan import DERIVATIVE_CONFIGS
from harness.search.search import hunt
from harness.space.config import FIELDS
from harness.space.scope import Scope
from harness.subjects import captured_output, isolated
from harness.subjects.capabilities import Capabilities
from harness.subjects.isolated import IF_LOST, MOST_STARTS, IsolatedSubject, _own_lines
from harness.subjects.protocol import Subject, SubjectUnavailable, backend_of, scope_of
from harness.subjects.registry import as_subject, find_subject
from harness.subjects.torch_class_facts import TORCH

SOURCE = """
import multiprocessing, os, signal, time

assert not os.path.exists("gone")

def right(x, h0, weights, config):
    return x[..., :1] * 0, h0

def segfaults(x, h0, weights, config):
    if config.N >= 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return right(x, h0, weights, config)

def leaves(x, h0, weights, config):
    os._exit(0)

def hangs(x, h0, weights, config):
    if config.N >= 2:
        time.sleep(1e6)
    return right(x, h0, weights, config)

def hangs_deaf(x, h0, weights, config):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    while True:
        pass

def forks(x, h0, weights, config):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3,))
    child.start()
    if config.N >= 2:
        os._exit(1)
    child.kill()
    return right(x, h0, weights, config)

def returns_twice(x, h0, weights, config):
    os.fork()
    return right(x, h0, weights, config)

def raises_twice(x, h0, weights, config):
    os.fork()
    raise SystemExit

def says_where(x, h0, weights, config):
    with open("pid", "w") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(1)
    return right(x, h0, weights, config)

def stops_once(x, h0, weights, config):
    if not os.path.exists("stopped"):
        open("stopped", "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
    return right(x, h0, weights, config)

def dies_at_its_third_call(x, h0, weights, config, calls=[]):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return right(x, h0, weights, config)

def is_killed_in_turn(x, h0, weights, config):
    with open("calls", "a") as file:
        file.write("x")
    with open("calls") as file:
        number = len(file.read())
    if number in (2, 5):  # its second call, and the same call after the first one, but not alone
        os.kill(os.getpid(), signal.SIGKILL)
    return right(x, h0, weights, config)

def spoils_in_turn(x, h0, weights, config):
    with open("calls", "a") as file:
        file.write("x")
    with open("calls") as file:
        number = len(file.read())
    if number == 1 or number > 3:
        import builtins
        builtins.__dict__.pop("hasattr", None)
    return right(x, h0, weights, config)

def empties_its_path(x, h0, weights, config):
    import sys
    sys.path[:] = []
    sys.modules.pop("threadpoolctl", None)
    return right(x, h0, weights, config)

def writes_everywhere(x, h0, weights, config):
    for number in range(3, 100):
        try:
            os.write(number, b"what is no answer " * 10)
        except OSError:
            pass
    return right(x, h0, weights, config)

def kills_itself(x, h0, weights, config):
    os.kill(os.getpid(), signal.SIGKILL)

def kills_its_parent(x, h0, weights, config):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)
    return right(x, h0, weights, config)

def raises(x, h0, weights, config):
    raise KeyboardInterrupt

def environment(x, h0, weights, config):
    raise ValueError(f"{os.getcwd()} {os.environ.get('PYTHONSAFEPATH')} {os.environ['OMP_NUM_THREADS']}")

def with_gradients(x, h0, weights, config, cotangents):
    return x, h0, {}
"""

PLAIN, BIG = draw(RNNConfig(1, 1)), draw(RNNConfig(1, 1, N=2))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine.py").write_text(SOURCE)
    processes._folder()  # that of this whole process is elsewhere
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not multiprocessing.active_children()
    assert not list(tmp_path.glob("rnn-harness-*"))


def test_it_is_the_subject_that_it_stands_for() -> None:
    with IsolatedSubject("mine.py:with_gradients") as subject:
        real = find_subject("mine.py:with_gradients")

        assert isinstance(subject, Subject)
        assert (subject.name, subject.devices()) == (real.name, real.devices())
        assert scope_of(subject) == scope_of(real)
        assert backend_of(subject, PLAIN.config) is None
        assert subject.capabilities.takes == ("x", "h0", "weights", "config", "cotangents")
        assert subject.capabilities.check_derivatives is None


@pytest.mark.kernels
def test_torch_gives_there_what_it_gives_here() -> None:
    case = draw(RNNConfig(2, 3, num_layers=2, T=3, N=2, hx=True, dtype="bfloat16", loss="both"))
    real = as_subject("torch")

    with IsolatedSubject("torch") as subject:
        outcome = subject.run(case)

        assert backend_of(subject, case.config) == backend_of(real, case.config) == TORCH["cpu"]
        assert scope_of(subject) == scope_of(real)
        check_derivatives = subject.capabilities.check_derivatives
        assert check_derivatives is not None
        assert check_derivatives(draw(DERIVATIVE_CONFIGS[0])).failure is None
    for name, array in real.run(case).arrays.items():
        assert outcome.arrays[name].tobytes() == array.tobytes()
        assert outcome.arrays[name].dtype == array.dtype


def test_a_process_that_dies_is_a_crash_and_the_next_case_is_answered() -> None:
    with IsolatedSubject("mine.py:segfaults") as subject:
        outcomes = [subject.run(case) for case in (PLAIN, BIG, BIG, PLAIN)]

    assert [outcome.failure for outcome in outcomes] == [None, Failure.CRASHED, Failure.CRASHED, None]
    assert outcomes[1].message == "its process died of SIGSEGV"
    assert "in segfaults" in outcomes[1].traceback
    assert "harness" not in outcomes[1].traceback


@pytest.mark.skipif(sys.platform != "linux", reason="rests on /proc, and on a fork server")
def test_a_process_that_is_killed_from_outside_is_no_crash() -> None:
    def kill(place: Path) -> None:
        while not place.exists() or not (pid := place.read_text()).endswith("\n"):
            time.sleep(0.02)
        os.kill(int(pid), signal.SIGKILL)

    killing = threading.Thread(target=kill, args=(Path("pid"),))
    killing.start()
    with IsolatedSubject("mine.py:says_where") as subject:
        outcome = subject.run(PLAIN)
        killing.join()

        assert (outcome.failure, subject.unrepeated) == (None, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="rests on /proc")
def test_a_process_that_was_stopped_from_outside_does_not_hang() -> None:
    with IsolatedSubject("mine.py:stops_once", timeout=2) as subject:
        assert (subject.run(PLAIN).failure, subject.unrepeated) == (None, 1)


def test_a_death_that_depends_on_the_calls_before_is_a_crash() -> None:
    with IsolatedSubject("mine.py:dies_at_its_third_call") as subject:
        outcomes = [subject.run(case) for case in (PLAIN, BIG, PLAIN)]

        assert [one.failure for one in outcomes] == [None, None, Failure.CRASHED]
        assert subject.unrepeated == 0


def test_a_death_after_the_calls_before_counts_only_if_it_repeats_there() -> None:
    with IsolatedSubject("mine.py:is_killed_in_turn") as subject:
        outcomes = [subject.run(PLAIN), subject.run(PLAIN)]

        assert [one.failure for one in outcomes] == [None, None]
        assert subject.unrepeated == 1


def test_a_subject_known_to_spoil_its_process_is_not_the_harness_s_error() -> None:
    with IsolatedSubject("mine.py:spoils_in_turn") as subject:
        outcomes = [subject.run(PLAIN), subject.run(PLAIN), subject.run(PLAIN)]  # the second in a fresh process

        assert [one.failure for one in outcomes] == [Failure.CRASHED, None, Failure.CRASHED]
        assert "unusable: NameError" in outcomes[2].message


def test_a_process_in_which_the_harness_fails_is_spoiled_by_its_subject() -> None:
    with IsolatedSubject("mine.py:empties_its_path") as subject:
        assert subject.run(PLAIN).failure is None

        assert "numpy" in subject.environment()
        assert subject.spoiled.startswith("it leaves its process unusable: ModuleNotFoundError")


@pytest.mark.skipif(sys.platform != "linux", reason="rests on a fork server")
def test_what_is_no_answer_is_a_crash() -> None:
    with IsolatedSubject("mine.py:writes_everywhere", timeout=20) as subject:
        assert subject.run(PLAIN).failure is Failure.CRASHED


@pytest.mark.parametrize(
    ("name", "message"),
    [("kills_itself", "its process died of SIGKILL"), ("kills_its_parent", "its process lost its fork server")],
)
def test_a_process_that_is_killed_again_and_again_is_a_crash(name: str, message: str) -> None:
    with IsolatedSubject(f"mine.py:{name}") as subject:
        assert subject.run(PLAIN).message == message


@pytest.mark.parametrize(("spec", "function"), [("mine.py:right", True), ("mine.py:os", False), ("torch", False)])
def test_what_only_modules_need_is_not_imported_ahead_for_a_function(spec: str, function: bool) -> None:
    assert isolated._is_function(spec) == function


@pytest.mark.parametrize(("name", "failure"), [("returns_twice", None), ("raises_twice", Failure.RAISED)])
def test_a_copy_of_its_process_that_it_forks_says_nothing(name: str, failure: Failure | None) -> None:
    with IsolatedSubject(f"mine.py:{name}") as subject:
        outcomes = [subject.run(case) for case in (PLAIN, BIG, PLAIN)]

    assert [outcome.failure for outcome in outcomes] == [failure] * 3
    if failure is None:  # each answer is that of its own call
        assert [outcome.arrays["output"].shape[1] for outcome in outcomes] == [1, 2, 1]


def test_a_process_that_ends_itself_is_a_crash_however_well_it_means_it() -> None:
    with IsolatedSubject("mine.py:leaves") as subject:
        outcome = subject.run(PLAIN)

    assert (outcome.failure, outcome.message) == (Failure.CRASHED, "its process ended with exit code 0")


def test_no_answer_in_time_is_a_hang_and_the_next_case_is_answered() -> None:
    with IsolatedSubject("mine.py:hangs", timeout=1) as subject:
        hung, answered = subject.run(BIG), subject.run(PLAIN)

    assert (hung.failure, hung.message, answered.failure) == (Failure.HUNG, "no answer within 1 s", None)
    assert "in hangs" in hung.traceback


def test_a_subject_may_have_children_which_do_not_hide_its_death() -> None:
    with IsolatedSubject("mine.py:forks", timeout=2) as subject:
        assert subject.run(PLAIN).failure is None
        assert subject.run(BIG).message == "its process ended with exit code 1"


def test_a_subject_that_nobody_closed_does_not_keep_its_user() -> None:
    code = (
        "import weakref; weakref.finalize(weakref, int)\n"  # so that other finalizers run after multiprocessing's end
        "from harness.subjects.isolated import IsolatedSubject\n"
        "subject = IsolatedSubject('mine.py:right')\n"  # a global, which nothing collects before the end
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signals")
def test_a_hang_that_hears_no_signal_shows_where_it_is_all_the_same() -> None:
    with IsolatedSubject("mine.py:hangs_deaf", timeout=0.5) as subject:
        hung = subject.run(draw(RNNConfig(1, 1)))

    assert hung.failure is Failure.HUNG
    assert "in hangs_deaf" in hung.traceback
    assert "harness" not in hung.traceback


def test_a_file_that_is_changed_or_deleted_meanwhile_is_told(tmp_path: Path) -> None:
    file, spec = tmp_path / "own.py", f"{tmp_path}/own.py:right"
    file.write_text(SOURCE)
    with IsolatedSubject(spec) as subject:
        copy = pickle.dumps(subject)
        assert subject.run(draw(RNNConfig(1, 1))).failure is None
        file.write_text(f"{SOURCE}\n")
        assert subject.run(draw(RNNConfig(1, 1))).failure is None  # its process goes on
        subject.restart()

        with pytest.raises(SubjectUnavailable, match=r"own\.py:right: its file was changed while it was checked"):
            subject.run(draw(RNNConfig(1, 1)))
        with pytest.raises(SubjectUnavailable, match=r"its file was changed"):
            pickle.loads(copy)  # noqa: S301 - its own
        file.unlink()
        with pytest.raises(SubjectUnavailable, match=r"its file was deleted"):
            subject.run(draw(RNNConfig(1, 1)))


def test_a_working_folder_that_is_removed_meanwhile_is_said_of_the_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "work", tmp_path / "own.py"
    folder.mkdir()
    file.write_text(SOURCE)
    monkeypatch.chdir(folder)
    with IsolatedSubject(f"{file}:right") as subject:
        folder.rmdir()
        subject.restart()

        with pytest.raises(SubjectUnavailable, match=r"own\.py:right: the working folder was removed"):
            subject.run(draw(RNNConfig(1, 1)))


def test_a_traceback_ends_where_the_child_s_own_harness_begins() -> None:
    trace = "/elsewhere/harness\nFatal\n  mine.py\n  /elsewhere/harness/subjects/run_user_code.py\n  main.py\n"

    assert not _own_lines("")
    assert _own_lines(trace) == "Fatal\n  mine.py\n"


def test_an_interrupt_that_a_subject_raises_is_no_one_else_s() -> None:
    with IsolatedSubject("mine.py:raises") as subject:
        assert subject.run(PLAIN).message == "KeyboardInterrupt"


def test_an_interrupt_while_waiting_ends_the_child_at_once() -> None:
    main = threading.main_thread().ident
    assert main is not None
    with IsolatedSubject("mine.py:hangs") as subject:
        timer = threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT])
        start = time.perf_counter()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            subject.run(BIG)
        timer.join()

        assert time.perf_counter() - start < 10
        assert not multiprocessing.active_children()
        assert subject.run(PLAIN).failure is None


def test_an_interrupt_does_not_wait_for_what_is_imported_ahead() -> None:
    code = (
        "import os, signal, sys, threading; from harness.subjects.isolated import IsolatedSubject\n"
        "threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()\n"
        "try: IsolatedSubject('torch')\n"
        "except KeyboardInterrupt: sys.exit(7)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (7, "")


def test_a_subject_is_where_its_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with IsolatedSubject("mine.py:environment") as subject:
        assert subject.run(PLAIN).message == f"ValueError: {tmp_path} None 7"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("tocrh", ""),
        ("bad.py:rnn", "1 / 0"),
        ("bad.py:rnn", "raise SystemExit(3)"),
        ("bad.py:rnn", "def rnn(inputs): pass"),
        ("no_such_module:rnn", ""),
    ],
)
def test_what_cannot_be_found_is_said_in_the_same_words(spec: str, text: str) -> None:
    Path("bad.py").write_text(text)
    with pytest.raises(SubjectUnavailable) as here:
        find_subject(spec)

    with pytest.raises(SubjectUnavailable) as there:
        IsolatedSubject(spec)

    assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("os.kill(os.getpid(), 11)", "its process died of SIGSEGV"),
        ("os._exit(3)", "its process ended with exit code 3"),
    ],
)
def test_an_import_that_ends_the_process_is_no_subject(text: str, words: str) -> None:
    Path("bad.py").write_text(f"import os\n{text}\ndef rnn(x): pass")

    with pytest.raises(SubjectUnavailable, match=f"bad.py:rnn: while it was imported and read, {words}"):
        IsolatedSubject("bad.py:rnn")


def test_an_import_that_worked_once_and_not_again_is_a_crash() -> None:
    with IsolatedSubject("mine.py:segfaults") as subject:
        subject.run(BIG)
        Path("gone").touch()
        outcome = subject.run(PLAIN)

    assert outcome.failure is Failure.CRASHED
    assert "cannot be started again: mine.py:segfaults: mine.py cannot be imported" in outcome.message


def test_a_crash_is_made_as_small_as_any_failure() -> None:
    scope = Scope().only(T=[1, 2], N=[1, 2, 3], input_size=[1, 2], hidden_size=1, num_layers=1, bidirectional=False)
    Path("mine.py").write_text(SOURCE.replace("x[..., :1] * 0, h0", "x[..., :1] * np.nan, h0") + "\nimport numpy as np")
    with IsolatedSubject("mine.py:segfaults") as subject:
        finding = hunt(subject, scope.only(N=[2, 3])).finding

    assert finding is not None
    assert finding.minimal
    assert finding.result.kind == "broken: died"
    assert finding.case.config == RNNConfig(1, 1, N=2)


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_child_does_not_outlive_a_parent_that_is_killed(sequences: int) -> None:
    code = (
        "from harness.subjects.isolated import IsolatedSubject; from harness import *; import threading\n"
        "subject = IsolatedSubject('mine.py:hangs')\n"
        "print(subject._child.pid, flush=True)\n"
        f"subject.run(draw(RNNConfig(1, 1, N={sequences})))\n"  # the first is answered, the second hangs
        "threading.Event().wait()\n"
    )
    environ = os.environ | {"TMPDIR": tempfile.gettempdir()}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()

    for _ in range(100):
        time.sleep(0.1)
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
    pytest.fail(f"process {child} is still there")


def test_a_file_of_the_user_s_does_not_come_before_python_s_own() -> None:
    for name in ("random", "socket", "tempfile"):
        Path(f"{name}.py").write_text("raise RuntimeError('not this one')")
    Path("a").mkdir()
    Path("mine.py").rename("a/mine.py")
    Path("bin").mkdir()
    Path("bin/command").write_text(
        "from harness.subjects.isolated import IsolatedSubject\n"
        "if __name__ == '__main__':\n    IsolatedSubject('a/mine.py:right').close()\n"
    )

    subprocess.run([sys.executable, "bin/command"], check=True)


def data_and_methods(capabilities: Capabilities) -> tuple[dict[str, Any], set[str]]:
    """Return what is the same wherever a subject is, and the names of its methods."""
    place = capabilities.place and (Path(capabilities.place[0]).name, capabilities.place[1])  # a checkout is a copy
    alone = replace(capabilities, process=None, place=place)
    values = {one.name: getattr(alone, one.name) for one in fields(alone)}
    methods = {name for name, value in values.items() if callable(value)}
    return {name: value for name, value in values.items() if name not in methods}, methods


@pytest.mark.parametrize("spec", ["torch", "torch:cell", "mine.py:with_gradients"])
def test_what_a_subject_is_capable_of_it_is_in_a_process_of_its_own_too(spec: str) -> None:
    own = find_subject(spec).capabilities

    with IsolatedSubject(spec) as subject:
        assert data_and_methods(subject.capabilities) == data_and_methods(own)
        here, there = own.exact_relations, subject.capabilities.exact_relations
        assert here is there is None or (here and there and here(RNNConfig(2, 3)) == there(RNNConfig(2, 3)))


NOT_TORCHS = (
    "reads",
    "run_as",
    "run_filled",
)  # its own layer gets no config, declares nothing, and writes what it reads


def test_every_method_has_a_result_where_the_process_is_lost() -> None:
    own = find_subject("torch").capabilities
    methods = {one.name for one in fields(Capabilities) if "Callable" in str(one.type) or "Derivative" in str(one.type)}

    assert methods == {*IF_LOST} == {*data_and_methods(own)[1], *NOT_TORCHS}


LEAVES = """
import os
from harness import Capabilities

class Leaves:
    name = "leaves"

    def __init__(self):
        methods = ("exact_relations", "masks", "reads", "run_twice", "run_as", "run_filled", "check_derivatives")
        methods += ("call",)
        self.capabilities = Capabilities(**dict.fromkeys(methods, self.leave))

    def devices(self):
        return ("cpu",)

    def run(self, case):
        raise ValueError

    def leave(self, *_):
        os._exit(3)

subject = Leaves()
"""


def test_a_process_that_a_method_ends_is_told_in_its_result() -> None:
    Path("leaves.py").write_text(LEAVES)
    with IsolatedSubject("leaves.py:subject") as subject:
        own: Any = subject.capabilities
        said = {name: getattr(own, name)("a question") for name in IF_LOST}

    died = "its process ended with exit code 3"
    outcomes = ("run_twice", "run_as", "run_filled", "check_derivatives", "call")
    assert {said.pop(name).message for name in outcomes} == {died}
    assert said == {"exact_relations": frozenset(), "masks": None, "reads": frozenset(FIELDS)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_does_not_end_a_subject_that_it_inherits() -> None:
    with IsolatedSubject("mine.py:right") as subject:
        assert subject._child is not None
        forked = multiprocessing.get_context("fork").Process(target=subject._child.close)
        forked.start()
        forked.join(30)

        assert forked.exitcode == 0
        assert subject.run(draw(RNNConfig(1, 1))).failure is None


def test_what_a_process_tells_of_its_kernels_is_not_what_the_subject_prints() -> None:
    case = draw(RNNConfig(4, 4, T=2, N=2, cell="LSTM"))  # which oneDNN computes where it is

    with IsolatedSubject("torch:lstm") as subject:
        alone = subject.kernels(case)
    with captured_output.folder(), IsolatedSubject("torch:lstm") as subject:
        assert subject.kernels(case) == alone
        assert not [*captured_output.summary()]


def test_a_process_that_tells_of_its_kernels_shows_nothing_that_the_subject_prints(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import torch, sys\nclass Loud(torch.nn.LSTM):\n    def __init__(self, *sizes, **more):\n"
        "        super().__init__(*sizes, **more)\n        print('made', file=sys.stderr)\n"
    )
    code = (
        "from harness import RNNConfig, draw\nfrom harness.subjects import captured_output\n"
        "from harness.subjects.isolated import IsolatedSubject\nif __name__ == '__main__':\n"
        f"    with captured_output.folder(), IsolatedSubject('{tmp_path}/loud.py:Loud') as subject:\n"
        "        assert subject.kernels(draw(RNNConfig(4, 4, T=2, N=2, cell='LSTM')))\n"
    )
    (tmp_path / "main.py").write_text(code)
    done = subprocess.run([sys.executable, tmp_path / "main.py"], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("every", "lost"), [(1, True), (3, False)])
def test_a_process_that_loses_its_server_in_most_calls_is_the_cause_even_if_the_next_one_answers(
    every: int, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, calls = draw(RNNConfig(2, 3)), count()
    with IsolatedSubject("torch") as subject:
        answer = subject.run(case)
        subject._calls.clear()

        def call_child(*_: Any) -> Any:
            if next(calls) % (every + 1) == 0:
                raise LostError("", code=UNTOLD, orphaned=True)
            return answer

        monkeypatch.setattr(subject, "_call_child", call_child)
        outcomes = [subject.run(case) for _ in range(2 * MOST_STARTS * every)]

    assert any(outcome.failure is Failure.CRASHED for outcome in outcomes) is lost
