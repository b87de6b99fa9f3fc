"""Tests of the progress of a search: what its line says, and when a plain line is printed."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from harness import RNNConfig, Scope
from harness.checks.result import Method
from harness.report import progress
from harness.search.record import Hunt

SECONDS = 10.0


def record(**fields: Any) -> Hunt:
    hunt = Hunt("mine", 0, Scope())
    hunt.checks[Method.LOCAL] = 400
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
        (
            {"limit": 1650, "shrink_checks": 1214, "smallest": RNNConfig(3, 9, T=2, N=1)},
            "400 cases, 40/s; making a failure smaller: 1,214 tried; T=2, N=1, I=3, H=9, L=1",
        ),
    ],
)
def test_it_says_what_is_done_at_what_rate_and_what_is_left(fields: dict[str, Any], said: str) -> None:
    assert progress.progress_line(record(**fields), SECONDS) == said


def test_a_limit_of_time_says_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    hunt = record(until=120.4, limit=1650)

    assert progress.progress_line(hunt, SECONDS) == "400 cases, 40/s; 20 s left"


def test_before_the_first_case_it_finds_out_what_is_supported() -> None:
    assert progress.progress_line(Hunt("mine", 0, Scope()), 0.5) == (
        "0 cases; finding out what it supports, and how precise it is"
    )


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
    monkeypatch.setattr(progress, "EVERY", 0.05)
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
