"""Tests of the file of known failures: what it says, what excuses nothing any more, and what is refused in a line."""

import re
from datetime import date
from pathlib import Path

import pytest

from harness import RNNConfig
from harness.space.errors import UsageError
from harness.store.own import read
from tests.test_readme import blocks

GOOD = """
[[known]]
name = "long ones"
subject = "*mine.py:rnn"
where = {dtype = ["float16", "float32"], T = ">= 9", loss = "none"}
fails = "output: value"
reason = "the kernel stops at eight"
link = "https://example.org/1"
until = 2027-01-31
versions = {numpy = ">=1"}
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "known.toml"
    path.write_text(text)
    return path


def test_a_failure_is_read_with_its_conditions(tmp_path: Path) -> None:
    [failure], idle = read(file(tmp_path, GOOD), today=date(2027, 1, 31))

    assert idle == []
    assert failure.of("../mine.py:rnn")
    assert not failure.of("mine.py:other")
    long = RNNConfig(1, 1, T=9, dtype="float16")
    assert failure.concerns(long)
    assert not any(
        failure.concerns(long.replace(**change)) for change in ({"T": 8}, {"dtype": "float64"}, {"loss": "output"})
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("2027-01-31", "2026-01-31", "long ones: expired on 2026-01-31, so its cases are findings again"),
        ('">=1"', '"<1"', "long ones: does not apply, because numpy is "),
        ("numpy = ", "no-such-package = ", "long ones: does not apply, because no-such-package is not installed"),
    ],
)
def test_one_that_excuses_nothing_any_more_is_told(tmp_path: Path, before: str, after: str, said: str) -> None:
    valid, [idle] = read(file(tmp_path, GOOD.replace(before, after)), today=date(2026, 11, 26))

    assert valid == []
    assert said in idle


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[[known]]", "[[known", "not TOML: "),
        ("[[known]]", "[known]", "expected a [[known]] table for each known failure"),
        ("[[known]]", "more = 1\n[[known]]", "expected a [[known]] table for each known failure"),
        ("reason", "because", "unknown key because: expected some of name, subject"),
        ('link = "https://example.org/1"', "", "link=None: expected text"),
        ('"long ones"', '" "', "name=' ': expected text"),
        ('"long ones"', '"0123abcd"', "name='0123abcd': expected words"),
        ("2027-01-31", '"2027-01-31"', "until='2027-01-31': expected a date, such as 2027-01-31"),
        ("2027-01-31", "2027-01-31T00:00:00", "expected a date"),
        ("where", "whither = {}\nwhere", "unknown key whither"),
        ("T = ", "time = ", "where.time: unknown factor time"),
        ('">= 9"', '">= nine"', "where.T: T='>= nine'"),
        ('"float16"', '"flaot16"', "where.dtype: dtype='flaot16'"),
        ('">=1"', "1", "versions.numpy=1: expected versions"),
        ('{numpy = ">=1"}', '"numpy"', "versions='numpy': expected packages"),
        ('subject = "', 'subject = 3\n#"', "subject=3: expected text"),
    ],
)
def test_what_is_no_known_failure_is_refused_in_a_line(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    path = file(tmp_path, GOOD.replace(before, after, 1))

    with pytest.raises(UsageError) as raised:
        read(path)

    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_name_twice_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known failure 2: name='long ones': expected a name of its own"):
        read(file(tmp_path, GOOD + GOOD))
    with pytest.raises(UsageError) as raised:
        read(tmp_path / "none.toml")
    assert str(raised.value) == f"{tmp_path / 'none.toml'}: no such file"


def test_the_manual_s_example_is_read(tmp_path: Path) -> None:
    [text] = blocks((Path(__file__).parents[2] / "docs" / "how-to.md").read_text(), "toml")

    [failure], _ = read(file(tmp_path, re.sub("versions = .*", "", text)), today=date(2027, 1, 31))

    assert failure.concerns(RNNConfig(1, 1, T=9, dtype="float16"))
