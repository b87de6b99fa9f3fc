"""Tests of the registry: from names and objects to subjects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Capabilities, Outcome, RNNConfig, as_subject, conventions, draw
from harness.subjects.protocol import Subject, SubjectUnavailable
from harness.subjects.registry import find_subject, of_layer, registered

SOURCE = """
import numpy as np
import helper_beside_it

def rnn(x, h0, weights, config):
    return np.zeros((config.T, config.N, config.hidden_size), x.dtype), h0

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "helper_beside_it.py").write_text("")
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "module_for_registry_test.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_torch_is_registered() -> None:
    assert "torch" in registered()
    assert find_subject("torch").name == "torch"


@pytest.mark.parametrize("spec", ["mine.py:rnn", "./mine.py:rnn", "module_for_registry_test:rnn"])
@pytest.mark.usefixtures("folder")
def test_functions_are_found_in_files_and_modules(spec: str) -> None:
    subject = find_subject(spec)

    assert subject.name == spec
    assert set(subject.run(draw(RNNConfig(1, 1))).arrays) == {"output", "h_n"}


def test_a_function_may_import_its_neighbours_when_it_is_called(folder: Path) -> None:
    (folder / "lazy.py").write_text("def rnn(x, h0):\n    import helper_beside_it\n    return x, h0")

    assert find_subject("lazy.py:rnn").run(draw(RNNConfig(1, 1))).failure is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("tocrh", "unknown subject; did you mean torch"),
        ("torch:lstm:compil", "did you mean torch:lstm:compile?"),
        ("zebra", "unknown subject; expected a name that 'rnn-harness subjects' lists"),
        (":rnn", "unknown subject"),
        ("mine", "^mine: unknown subject; did you mean mine.py:rnn\\?$"),
        ("./rnn", r"did you mean mine.py:rnn, module_for_registry_test.py:rnn\?$"),
        (".", "^.: is a folder; expected a function or class in it: .*mine.py:rnn"),
        ("mine.py", "expected a function or class of it: mine.py:rnn"),
        ("mine.py:", "^mine.py:: expected a function or class of it: mine.py:rnn"),
        ("none.py", "^none.py: no such file$"),
        ("none.py:", "^none.py: no such file$"),
        ("bad.py", "expected a function or class of it: bad.py:name$"),
        ("mine.py:rnn.inner", "mine.py has no inner"),
        ("none.py:rnn", "none.py: no such file"),
        ("mine.py:nope", "mine.py has no nope; it has rnn"),
        ("mine.py:number", "an int is not a subject"),
        ("bad.py:rnn", "bad.py cannot be imported: ZeroDivisionError: division by zero"),
        ("no_such_module:rnn", "no_such_module cannot be imported: ModuleNotFoundError"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_found_says_why(spec: str, words: str) -> None:
    with pytest.raises(SubjectUnavailable, match=words):
        find_subject(spec)


def test_objects_are_taken_as_they_are() -> None:
    class Mine:
        name = "mine"
        capabilities = Capabilities()

        def devices(self) -> tuple[str, ...]:
            return ("cpu",)

        def run(self, case: Any) -> Outcome:
            return Outcome({"output": np.zeros(1)})

    mine = Mine()
    assert as_subject(mine) is mine
    assert isinstance(as_subject(torch.nn.RNN), Subject)
    assert as_subject("torch").name == "torch"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.nn.RNN(1, 1), "a module that is already built fits one config only"),
        (int, "a class must be a torch.nn.Module"),
        (3, "an int is not a subject"),
    ],
)
def test_what_is_no_subject_is_refused(given: Any, words: str) -> None:
    with pytest.raises(SubjectUnavailable, match=words):
        as_subject(given)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("torch", "torch:lstm"),
        ("torch:compile", "torch:lstm:compile"),
        ("mine.py:f", "mine.py:f+lstm"),
        ("mine.py:f+transposed", "mine.py:f+transposed+lstm"),
        ("python:x mine.py:f", "python:x mine.py:f+lstm"),
        ("python:x torch", "python:x torch:lstm"),
    ],
)
def test_a_layer_is_part_of_a_subject_s_name(spec: str, named: str) -> None:
    assert of_layer(spec, "lstm") == named


@pytest.mark.parametrize("layer", ["transposed", "", "a b"])
def test_what_is_no_layer_is_refused(layer: str) -> None:
    with pytest.raises(SubjectUnavailable, match=r"expected gru, lstm or the name of a harness\.Cell"):
        of_layer("mine.py:rnn", layer)


@pytest.mark.parametrize("spec", ["torch:cell", "torch:gru", "exec:./program"])
def test_what_is_another_layer_by_its_name_is_refused(spec: str) -> None:
    with pytest.raises(
        SubjectUnavailable, match=r"has no lstm; expected torch|in its greeting: \"conventions\": \[\"lstm\"\]"
    ):
        of_layer(spec, "lstm")


def test_a_function_takes_the_states_that_its_layer_has() -> None:
    class OfOne:
        conventions = ("lstm",)

        def __call__(self, x: Any, h0: Any, weights: Any) -> None: ...

    def of_pair(x: Any, h0: Any, weights: Any) -> None: ...

    def of_two(x: Any, h0: Any, c0: Any, weights: Any) -> None: ...

    with pytest.raises(SubjectUnavailable, match="an LSTM starts from two states"):
        as_subject(OfOne(), "mine")
    with pytest.raises(SubjectUnavailable, match="takes c0"):
        as_subject(conventions(gru=True)(of_two))
    assert as_subject(conventions(lstm=True)(of_pair)).capabilities.takes == ("x", "h0", "weights", "c0")


def test_a_layer_that_is_asked_for_beats_a_function_s_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def gru(x, h0, c0, weights, config): ...\n")

    assert find_subject(f"{tmp_path / 'mine.py'}:gru+lstm").capabilities.conventions.cell == "LSTM"
