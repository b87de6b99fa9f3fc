"""Tests of the progress of a search: what its line says, and when a plain line is printed."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from harness import RNNConfig, Scope
from harness.checks.result import ComparisonMethod
from harness.report import progress
from harness.search.search_record import Helpers, SearchRecord

RATE = 40.0


def record(**fields: Any) -> SearchRecord:
    hunt = SearchRecord("mine", 0, Scope())
    hunt.checks[ComparisonMethod.LOCAL] = 400
    for name, value in fields.items():
        setattr(hunt, name, value)
    return hunt


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "400 cases, 40/s"),
        ({"limit": 1650}, "400 cases, 40/s; 1,250 to go, some 31 s"),
        ({"limit": 1650, "findings": [None]}, "400 cases, 40/s; 1 finding; 1,250 to go, some 31 s"),
        ({"limit": 1650, "explaining": True}, "400 cases, 40/s; finding out why it fails"),
        ({"limit": 400, "environment": {"numpy": "2"}}, "400 cases, 40/s; making the last checks"),
        ({"helpers": Helpers(2, lost_chunks=1)}, "400 cases, 40/s"),
        ({"helpers": Helpers(2, "tcp://x:1", {"a"})}, "400 cases, 40/s; 1 worker"),
        ({"helpers": Helpers(2, "tcp://x:1", {"a"}, 3, "it was lost")}, "400 cases, 40/s; without the cluster"),
        (
            {"limit": 1650, "shrink_checks": 1214, "smallest": RNNConfig(3, 9, T=2, N=1)},
            "400 cases, 40/s; making a failure smaller: 1,214 tried; I=3, H=9, L=1, T=2, N=1",
        ),
    ],
)
def test_it_says_what_is_done_at_what_rate_and_what_is_left(fields: dict[str, Any], said: str) -> None:
    assert progress.progress_line(record(**fields), RATE) == said


def test_a_limit_of_time_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    hunt = record(until=120.4, limit=1650)

    assert progress.progress_line(hunt, RATE) == "400 cases, 40/s; 20 s left"


def test_before_the_first_case_it_finds_out_what_is_supported() -> None:
    assert progress.progress_line(SearchRecord("mine", 0, Scope()), None) == (
        "0 cases; finding out what it supports, and how precise it is"
    )


def test_a_slow_subject_has_a_rate_and_the_first_cases_have_none() -> None:
    assert progress.progress_line(record(limit=403), 0.3) == "400 cases, 0.3/s; 3 to go, some 10 s"
    assert progress.progress_line(record(limit=403), None) == "400 cases"


def test_the_time_before_the_first_cases_does_not_count_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 101.0, 101.0])  # at the start, at the first cases, and when the line is shown
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    line, hunt = progress._Line("mine"), record(limit=520)
    line.tell(SearchRecord("mine", 0, Scope()))
    line.tell(hunt)
    hunt.checks[ComparisonMethod.LOCAL] += 60

    assert line.text() == "mine: 460 cases, 60/s; 60 to go, some 1 s; 101 s"


@pytest.mark.long
def test_a_notebook_has_one_line_that_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display", reason="IPython is not installed")
    states: list[str] = []

    class Cell:
        def update(self, state: dict[str, str], *, raw: bool) -> None:
            states.append(state["text/plain"])

    def shown_once(state: dict[str, str], *, raw: bool, display_id: bool) -> Cell:
        states.append(state["text/plain"])
        return Cell()

    monkeypatch.setattr(display, "display", shown_once)
    monkeypatch.setattr(progress, "SECOND", 0.01)
    console, quiet = (Console(file=io.StringIO(), force_jupyter=True, quiet=quiet) for quiet in (False, True))

    shown(quiet, 0.1)
    assert states == []
    assert shown(console, 0.1) == ""
    assert states[0].startswith("my_[b]rnn.py:monkey: 400 cases")
    assert states[-1] == ""
    assert states.count("") == 1


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)


def shown(console: Console, rest: float = 0.0) -> str:
    with progress.shown("folder/my_[b]rnn.py:monkey", console) as tell:
        tell(record())
        time.sleep(rest)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("color", ["", "1"])
def test_without_a_terminal_a_plain_line_comes_now_and_then(color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", color)
    often, never = (Console(file=io.StringIO(), width=20, color_system=None) for _ in range(2))

    assert shown(never) == ""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0.05)
    lines = shown(often, 0.5).splitlines()

    assert len(lines) > 1
    assert set(lines) == {"my_[b]rnn.py:monkey: 400 cases; 0 s"}


@pytest.mark.usefixtures("still")
def test_a_terminal_has_one_line_that_fits() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    console = Console(file=Terminal(), width=30, force_terminal=True, color_system=None)

    said = shown(console)

    assert "my_[b]rnn.py:monkey: 400 c" in said
    assert "400 cases; 0 s" not in said  # it is cut where the line ends
