"""Tests of known failures: a search counts what they name, finds everything else, and says which are gone."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Verdict, as_subject, draw, hunt
from harness.checks.agreement import assess, observe
from harness.checks.own import Bound, KnownFailure
from harness.report import wording
from harness.search.crew import Crew
from harness.space.scope import Scope
from tests import implementations

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

    if workers:
        with Crew(workers) as crew:
            record = hunt(subject, SMALL, cases=150, own=[WIDE], crew=crew)
    else:
        record = hunt(subject, SMALL, cases=150, own=[WIDE])

    assert record.finding is not None
    assert record.finding.result.kind == "h_n: shape"
    assert record.finding.case.config == RNNConfig(1, 1, N=2)
    assert record.known[WIDE.name] > 0


def test_a_known_failure_may_name_a_way_of_calling() -> None:
    known = replace(WIDE, where={"strides": ("stepped",)})
    subject, case = as_subject(two_mistakes), draw(RNNConfig(1, 2, strides="stepped"))
    observation = observe(subject, case)

    assert known.excuses(observation, assess(observation))
    assert not known.excuses(observe(subject, draw(RNNConfig(1, 2))), assess(observation))


def test_what_is_known_is_all_there_is_and_is_said_in_every_report() -> None:
    record = hunt(as_subject(two_mistakes), SMALL.only(N=1), cases=60, own=[WIDE])

    assert record.verdict is Verdict.AGREES
    assert wording.verdict_on(record, record.verdict) == "two_mistakes agrees with nn.RNN, but for known failures"
    [said] = wording.deviations_in_short(record.known, record.spared, record.own)
    assert said.endswith(
        " cases: two units are off (the subject): to be mended; until 2027-01-31; https://example.org/1"
    )


def test_one_that_no_longer_fails_is_reported_and_one_of_another_subject_is_not_asked() -> None:
    gone = replace(WIDE, name="gone", where={"T": Bound(">=", 2)}, subject="two_*")
    other = replace(WIDE, name="of another", subject="three_*")

    record = hunt(as_subject(two_mistakes), SMALL.only(hidden_size=1, N=1), cases=40, own=[gone, other])

    assert record.own == (gone,)
    assert record.spared["gone"] > 0
    assert wording.deviations_in_short(record.known, record.spared, record.own) == ["did not show: gone"]
    assert wording.verdict_on(record, record.verdict) == "two_mistakes agrees with nn.RNN"


def test_another_kind_of_failure_is_not_excused() -> None:
    shape = replace(WIDE, fails="output: shape")

    assert hunt(as_subject(two_mistakes), SMALL.only(N=1), cases=60, own=[shape]).finding is not None
