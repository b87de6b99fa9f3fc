"""Tests of what each line of a subject made: values of its own code, in the order of time."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, draw
from harness.processes import one_thread_a_process
from harness.subjects import line_runs
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.line_runs import line_runs_of, watched

HERE = Path(__file__)


def made(call: Any, value: float) -> set[str]:
    """Return the texts of the innermost lines that made a number."""
    text = HERE.read_text(encoding="utf-8").splitlines()
    runs = watched(call, HERE)
    return {text[run.stack[0].line - 1].strip() for run in runs if any(value in one.array for one in run.values)}


def in_place() -> Any:
    states = np.zeros((2, 3))
    for t in range(2):
        states[t] = t + 0.25
    return states


def in_a_list() -> Any:
    found: list[Any] = []
    while len(found) < 2:
        found.append(np.full(3, len(found) + 0.25))
    return found


def in_an_object() -> Any:
    cell = SimpleNamespace(h=0.0)
    cell.h = np.array([1.25])
    return cell


def in_a_generator() -> Any:
    def steps() -> Any:
        yield np.array([0.25])
        yield np.array([1.25])

    return [h * 2 for h in steps()]


def for_a_call() -> Any:
    def doubled(h: Any) -> Any:
        return 2 * h

    return doubled(np.array([0.5]) + 0.75)


def number_by_number() -> Any:
    s = 0.25
    s += 1.0
    return s


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (in_place, "states[t] = t + 0.25"),
        (in_a_list, "found.append(np.full(3, len(found) + 0.25))"),
        (in_an_object, "cell.h = np.array([1.25])"),
        (in_a_generator, "yield np.array([1.25])"),
        (for_a_call, "return doubled(np.array([0.5]) + 0.75)"),  # who calls makes the arguments
        (number_by_number, "s += 1.0"),
    ],
)
def test_the_line_that_made_a_number_is_known(function: Any, line: str) -> None:
    assert made(function, 1.25) == {line}


def test_two_names_for_an_array_that_changes_in_place_are_noted() -> None:
    def layer() -> Any:
        one = other = np.zeros(3)
        one += 1.25
        return other

    assert [value.shared for run in watched(layer, HERE) for value in run.values] == [False, True]


def test_tracing_ends_with_the_call_and_a_subject_that_traces_itself_is_left_alone() -> None:
    before = sys.gettrace()

    assert watched(lambda: sys.settrace(None), HERE) == []
    assert sys.gettrace() is before


def test_nothing_is_known_of_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_runs, "LINES_WATCHED", 5)

    assert watched(in_place, HERE) == []


class Unfriendly:
    """An object that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"do not look at {name}")


def test_an_object_that_fails_where_it_is_looked_at_does_not_harm_the_subject() -> None:
    def layer() -> Any:
        found = Unfriendly()
        return [found, 1.25]

    assert watched(layer, HERE) == []


def test_a_subject_in_its_own_process_is_watched_there(tmp_path: Path) -> None:
    one_thread_a_process()
    file = tmp_path / "mine.py"
    file.write_text("def rnn(x, h0, weights):\n    h_n = h0 + 1.25\n    return x, h_n\n", encoding="utf-8")

    with IsolatedSubject(f"{file}:rnn") as subject:
        runs = line_runs_of(subject, draw(RNNConfig(2, 3, dtype="float64")))

    assert [(run.stack[0].line, [v.array.size for v in run.values]) for run in runs] == [(2, [3])]
