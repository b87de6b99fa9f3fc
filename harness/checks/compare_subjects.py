"""between: two subjects on one case: their results are equal to the bit, apart by rounding, or further apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple

from harness.checks.agreement import REFERENCE, arithmetic_of, plain_outcome, unfit
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.bound import np
from harness.oracle.compare import Site, compare, over_allowance, same_numbers
from harness.oracle.expectation import Expected, Setting
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.known import to_float64
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome
from harness.subjects.protocol import Subject, masks_of


class Held(NamedTuple):
    """A subject, and the contract that it is held to."""

    subject: Subject
    accepted: Accepted = STRICT


@dataclass(frozen=True)
class Apart:
    """Two results that differ, and where they differ most, by what rounding allows there."""

    config: RNNConfig
    array: str
    site: Site  # the element: what the second subject has is actual, what the first one has is expected
    share: float  # the difference as a multiple of the allowance
    rounding: bool  # true if every number of both is within its allowance


@dataclass(frozen=True)
class Between:
    """The outcomes of two subjects on one case, and how far they are apart."""

    first: Outcome
    second: Outcome
    compared: bool = False  # true if both have values that can be compared
    apart: Apart | None = None  # ``None`` if what was compared is equal to the bit


def between(case: Case, first: Held, second: Held) -> Between:
    """Run two subjects on a case, and compare what both return; padding does not count."""
    outcomes = first.subject.run(case), second.subject.run(case)
    if any(unfit(case, one) is not None for one in outcomes) or case.config.device == "meta":
        return Between(*outcomes)
    masks, others = (masks_of(held.subject, case) for held in (first, second))
    if masks is None or others is None or not _same(masks, others):
        return Between(*outcomes)
    one, other = (plain_outcome(case.config, outcome).arrays for outcome in outcomes)
    if all(one[name].tobytes() == other[name].tobytes() for name in one.keys() & other.keys()):
        return Between(*outcomes, compared=True)
    plain = (replace(case, masks=masks) if masks else case).plain()
    expected = [_expected(case, plain, held) for held in (first, second)]
    right = not any(map(compare, [plain.config] * 2, (one, other), expected))
    names = [name for name in expected[1] if name in one and name in other and one[name].size]
    found = [_furthest(name, one[name], other[name], expected[1][name]) for name in names]
    name, index, share = max(found, key=lambda one: one[2])
    was, now = (arrays[name][index].item() for arrays in (one, other))
    site = Site(plain.config.locate(name, index), now, was, float(expected[1][name].allowance[index]))
    return Between(*outcomes, compared=True, apart=Apart(case.config, name, site, share, right))


def bits_of(arrays: Mapping[str, Array]) -> str:
    """Return 16 hex digits that tell the names, dtypes and bits of a case's results from any others."""
    told = sha256()
    for name, array in sorted(arrays.items()):
        told.update(f"{name} {array.dtype} ".encode())
        told.update(array.tobytes())  # bfloat16 has no buffer
    return told.hexdigest()[:16]


def _same(masks: Mapping[int, Array], others: Mapping[int, Array]) -> bool:
    return masks.keys() == others.keys() and all(same_numbers(masks[layer], others[layer]) for layer in masks)


def _expected(case: Case, plain: Case, held: Held) -> dict[str, Expected]:
    with np.errstate(all="ignore"):
        return expect_whole_run(Setting(REFERENCE, plain, arithmetic_of(held.subject, case, held.accepted)))


def _furthest(name: str, one: Array, other: Array, expected: Expected) -> tuple[str, tuple[int, ...], float]:
    """Return the element of an array that differs most by its allowance, and that share."""
    over = over_allowance(to_float64(other), to_float64(one), expected.allowance)
    index = tuple(int(i) for i in np.unravel_index(int(over.argmax()), over.shape))
    return name, index, float(over[index])
