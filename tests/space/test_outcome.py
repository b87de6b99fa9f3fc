"""Tests of outcomes: what a subject says is kept as it may be printed."""

from dataclasses import replace

import pytest

from harness import Failure, Outcome
from harness.space.outcome import LONGEST_TEXTS


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a plain word, ü and 界", "a plain word, ü and 界"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("back\rspace\x08 \x9b2J", r"back\rspace\x08 \x9b2J"),
        ("half \udcff", r"half \udcff"),
        ("std::move\n  ::error::x\na ##[error]y", "std::move\n  \\x3a:error::x\na \\x23#[error]y"),
    ],
)
def test_what_would_steer_a_terminal_or_github_is_written_out(said: str, kept: str) -> None:
    outcome = Outcome(failure=Failure.RAISED, message=said, traceback=said)

    assert (outcome.message, outcome.traceback) == (kept, kept)


@pytest.mark.parametrize("name", LONGEST_TEXTS)
def test_long_text_is_cut_in_the_middle_and_says_so(name: str) -> None:
    text = "a" * 10**6 + "b" * 10**6
    kept: str = getattr(Outcome(failure=Failure.RAISED, message=text, traceback=text), name)

    assert LONGEST_TEXTS[name] - 2 < len(kept) <= LONGEST_TEXTS[name]
    assert kept.startswith("aaa")
    assert kept.endswith("bbb")
    assert kept.count(" ... (cut) ... ") == 1


def test_what_is_legible_stays_as_it_is() -> None:
    outcome = Outcome(failure=Failure.RAISED, message="\x1b" * 10**5, traceback="a\x00" * 10**5)

    again = replace(outcome, arrays={})

    assert (again.message, again.traceback) == (outcome.message, outcome.traceback)
