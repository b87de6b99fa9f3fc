"""Tests of known failures: their file, and that a search counts what they name and finds everything else."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Verdict, as_subject, draw, hunt
from harness.checks.agreement import assess, observe
from harness.checks.known_failures import KnownFailure, SizeCondition, parse
from harness.report import wording
from harness.search.workers import WorkerPool
from harness.space.errors import UsageError
from harness.space.scope import Scope
from tests import implementations
from tests.test_documents import blocks

PART = ": one layer, forward only, float32 alone"

SMALL = Scope().only(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], num_layers=1, dtype="float32")
WIDE = KnownFailure(
    "two units are off",
    "two_mistakes",
    "to be mended",
    "https://example.org/1",
    date(2027, 1, 31),
    {"hidden_size": (2,)},
)


def two_mistakes(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Be off with two units, and return a wrong shape for two sequences."""
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output + np.float32(config.hidden_size == 2), h_n[:, :1] if config.N == 2 else h_n


@pytest.mark.parametrize("workers", [0, 1])
def test_a_search_counts_what_is_known_and_finds_the_rest(workers: int) -> None:
    subject = as_subject(two_mistakes)

    record = hunt(subject, SMALL, cases=150, own=[WIDE], workers=WorkerPool(workers) if workers else None)

    assert record.finding is not None
    assert record.finding.result.kind == "h_n: shape"
    assert record.finding.case.config == RNNConfig(1, 1, N=2)
    assert record.known[WIDE.name] > 0


def test_a_known_failure_may_name_a_way_of_calling() -> None:
    known = replace(WIDE, where={"strides": ("stepped",)})
    subject, case = as_subject(two_mistakes), draw(RNNConfig(1, 2, strides="stepped"))
    observation = observe(subject, case)

    assert known.covers(observation, assess(observation))
    assert not known.covers(observe(subject, draw(RNNConfig(1, 2))), assess(observation))


def test_what_is_known_is_all_there_is_and_is_said_in_every_report() -> None:
    record = hunt(as_subject(two_mistakes), SMALL.only(N=1), cases=60, own=[WIDE])

    assert record.verdict is Verdict.AGREES
    assert (
        wording.verdict_on(record, record.verdict) == f"two_mistakes agrees with nn.RNN{PART}, but for known failures"
    )
    [said] = wording.known_lines(record.known, record.spared, record.own)
    assert said.endswith(
        " cases: two units are off (the subject): to be mended; until 2027-01-31; https://example.org/1"
    )


def test_one_that_no_longer_fails_is_reported_and_one_of_another_subject_is_not_asked() -> None:
    gone = replace(WIDE, name="gone", where={"T": SizeCondition(">=", 2)}, subject="two_*")
    other = replace(WIDE, name="of another", subject="three_*")

    record = hunt(as_subject(two_mistakes), SMALL.only(hidden_size=1, N=1), cases=40, own=[gone, other])

    assert record.own == (gone,)
    assert record.spared["gone"] > 0
    assert wording.known_lines(record.known, record.spared, record.own) == ["expected and not seen: gone"]
    assert wording.verdict_on(record, record.verdict) == f"two_mistakes agrees with nn.RNN{PART}"


def test_another_kind_of_failure_is_not_excused() -> None:
    shape = replace(WIDE, fails="output: shape")

    assert hunt(as_subject(two_mistakes), SMALL.only(N=1), cases=60, own=[shape]).finding is not None


# The file

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


def test_a_failure_is_read_with_its_conditions() -> None:
    [failure], idle = parse(GOOD, "known.toml", today=date(2027, 1, 31))

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
def test_one_that_excuses_nothing_any_more_is_reported(before: str, after: str, said: str) -> None:
    valid, [idle] = parse(GOOD.replace(before, after), "known.toml", today=date(2026, 11, 26))

    assert valid == []
    assert said in idle


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[[known]]", "[[known", "not TOML: "),
        ("[[known]]", "more = 1\n[[known]]", "expected a [[known]] table for each known failure"),
        ("reason", "because", "unknown key because: expected some of name, subject"),
        ('link = "https://example.org/1"', "", "link=None: expected text"),
        ('"long ones"', '" "', "name=' ': expected text"),
        ('"long ones"', '"0123abcd"', "name='0123abcd': expected words"),
        ("2027-01-31", '"2027-01-31"', "until='2027-01-31': expected a date, such as 2027-01-31"),
        ("2027-01-31", "2027-01-31T00:00:00", "expected a date"),
        ("T = ", "time = ", "where.time: unknown factor time"),
        ('">= 9"', '">= nine"', "where.T: T='>= nine'"),
        ('"float16"', '"flaot16"', "where.dtype: dtype='flaot16'"),
        ('">=1"', "1", "versions.numpy=1: expected versions"),
        ('{numpy = ">=1"}', '"numpy"', "versions='numpy': expected packages"),
        ('subject = "', 'subject = 3\n#"', "subject=3: expected text"),
        (GOOD, GOOD + GOOD, "known failure 2: name='long ones': expected a name of its own"),
    ],
)
def test_what_is_no_known_failure_is_refused_in_a_line(before: str, after: str, said: str) -> None:
    assert before in GOOD

    with pytest.raises(UsageError) as raised:
        parse(GOOD.replace(before, after, 1), "known.toml")

    assert str(raised.value).startswith("known.toml: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_manual_s_example_is_read() -> None:
    [text] = blocks((Path(__file__).parents[2] / "docs" / "how-to-teams.md").read_text(), "toml")

    [failure], _ = parse(re.sub("versions = .*", "", text), "known.toml", today=date(2027, 1, 31))

    assert failure.concerns(RNNConfig(1, 1, T=9, dtype="float16"))
