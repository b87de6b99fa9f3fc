"""Tests of shrinking to a case that is plain in every factor; here the config alone, or one number, decides."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope, Verdict, draw
from harness.checks.result import Result
from harness.oracle.compare import Mismatch, MismatchKind, Site
from harness.search.shrink import LEAP, CaseShrinker, ShrinkBudgetSpent
from harness.space.case import Case
from harness.space.config import PREACTIVATION
from harness.space.factor_table import AUTOCASTS, DTYPES, GRAD_MODES, PACKINGS, PREPARATIONS, STRIDES, WRT

WIDE = Scope().only(
    dtype=("float32", *DTYPES),
    loss=[None, "output", "h_n", "both"],
    wrt=WRT,
    lengths=PACKINGS,
    batched=[True, False],
    strides=STRIDES,
    autocast=AUTOCASTS,
    grad_mode=GRAD_MODES,
    preparation=PREPARATIONS,
    masks=True,
)
SITES = (Site({}, 0.0, 1.0, 0.1),)
ENOUGH = 60  # The number of steps after which so short a descent has no end


def smallest(config: RNNConfig, fails: Callable[[RNNConfig], bool], scope: Scope = WIDE) -> RNNConfig:
    def check(case: Case) -> Result:
        return Result(Verdict.BROKEN, message="Error: no") if fails(case.config) else Result(Verdict.AGREES)

    case = draw(config, "normal", 3)
    steps = [case.config, *(found.config for found, _ in islice(CaseShrinker(case, check(case), scope, check), ENOUGH))]

    assert len(steps) < ENOUGH, steps[-4:]
    assert all(fails(step) for step in steps)
    return steps[-1]


def test_plainer_neighbours_that_fail_for_another_reason_are_named() -> None:
    def check(case: Case) -> Result:
        if not case.config.bias:
            return Result(Verdict.BROKEN, message="Error: no")
        return Result(Verdict.AGREES, known_as="3f9c2a11") if case.x.any() else Result(Verdict.BROKEN, message="E: x")

    plain = draw(RNNConfig(1, 1, T=1, N=1, bias=False), "normal", 3)
    zero = Case.from_arrays(RNNConfig(1, 1, T=1, N=1), {n: a * 0 for n, a in draw(RNNConfig(1, 1)).arrays.items()})
    by_config, by_number = (CaseShrinker(case, check(case), Scope(), check) for case in (plain, zero))
    for shrinking in (by_config, by_number):
        list(shrinking)

    assert by_config.certificate.otherwise == ("3f9c2a11", "broken: E")
    assert by_number.certificate.otherwise == ()


LONG = RNNConfig(2, 3, num_layers=2, T=6, N=4, hx=True, lengths=(2, 6, 4, 1))


def test_lengths_that_do_not_matter_are_gone() -> None:
    assert smallest(LONG, lambda config: config.T >= 3) == RNNConfig(1, 1, T=3, N=1)


def test_what_needs_a_packed_batch_has_sequences_of_one_length() -> None:
    found = smallest(LONG, lambda config: config.lengths is not None and config.T >= 2 and config.N >= 2)

    assert found == RNNConfig(1, 1, T=2, N=2, lengths=(2, 2))


def test_what_needs_a_shorter_sequence_has_one_as_short_as_can_be() -> None:
    found = smallest(LONG.replace(lengths=(3, 6, 4, 5)), lambda config: len(set(config.lengths or ())) >= 2)

    assert found == RNNConfig(1, 1, T=2, N=2, lengths=(2, 1))


def test_one_that_falls_short_and_rises_again_keeps_as_few_short_ones_as_it_can() -> None:
    def rises(config: RNNConfig) -> bool:
        return config.packing == "any" and config.T >= 4 and config.N >= 3

    assert smallest(LONG, rises) in {
        RNNConfig(1, 1, T=4, N=3, lengths=lengths) for lengths in [(1, 4, 4), (4, 1, 4), (1, 1, 4)]
    }


@pytest.mark.parametrize("lengths", [(6, 6, 2, 2), (6, 5, 4, 3), (6, 2, 2, 1)])
def test_what_needs_enforce_sorted_stays_sorted(lengths: tuple[int, ...]) -> None:
    config = LONG.replace(lengths=lengths, enforce_sorted=True)

    found = smallest(config, lambda config: config.enforce_sorted and config.packing == "falling" and config.N >= 3)

    assert (found.T, found.packing, found.enforce_sorted) == (2, "falling", True)
    assert sum(length == 1 for length in found.lengths or ()) == 1


def test_enforce_sorted_that_does_not_matter_is_gone() -> None:
    config = LONG.replace(lengths=(6, 6, 6, 6), enforce_sorted=True)

    assert smallest(config, lambda config: config.lengths is not None) == RNNConfig(1, 1, T=1, N=1, lengths=(1,))


def test_a_pinned_sort_of_lengths_stays() -> None:
    found = smallest(LONG, lambda config: True, WIDE.only(lengths="any", T=6, N=4))

    short = [(1, 6, 6, 6), (6, 1, 6, 6), (6, 6, 1, 6)]
    assert found in {RNNConfig(1, 1, T=6, N=4, lengths=lengths) for lengths in short}


def test_sizes_walk_down_with_lengths_that_fit_them() -> None:
    seen: list[tuple[int, ...] | None] = []

    def fails(config: RNNConfig) -> bool:
        seen.append(config.lengths)
        return config.lengths is not None and config.lengths[0] < config.T and config.T >= 3

    found = smallest(LONG, fails, WIDE.only(lengths="any"))

    assert (found.T, found.N, found.lengths) == (3, 2, (1, 3))
    assert all(lengths is not None for lengths in seen)


FANCY: dict[str, tuple[Any, dict[str, Any]]] = {
    "strides": ("stepped", {}),
    "preparation": ("parametrize", {}),
    "autocast": ("bfloat16", {}),
    "grad_mode": ("inference_mode", {}),
    "wrt": ("weights", {"loss": "both"}),
    "batched": (False, {}),
    "dtype": ("bfloat16", {}),
    "enforce_sorted": (True, {"lengths": (2,)}),
}


@pytest.mark.parametrize("name", FANCY)
def test_a_way_of_calling_that_does_not_matter_becomes_the_plainest_and_one_that_does_stays(name: str) -> None:
    value, needs = FANCY[name]
    config = RNNConfig(2, 3, T=2, **{name: value} | needs)

    assert smallest(config, lambda config: config.hidden_size >= 2) == RNNConfig(1, 2)
    found = smallest(config, lambda config: bool(getattr(config, name) == value))
    least = {"lengths": (1,)} if name == "enforce_sorted" else {"loss": "output"} if name == "wrt" else {}
    assert found == RNNConfig(1, 1, **{name: value} | least)


BOTH = "T and N"
SIZED = [("N", 2), ("N", 3), ("T", 3), (BOTH, 2)]


def reaches(config: RNNConfig, size: str, least: int) -> bool:
    return min(config.T, config.N) >= least if size == BOTH else bool(getattr(config, size) >= least)


def fails_unpacked(config: RNNConfig, size: str, least: int) -> bool:
    """Return whether an unpacked call, the case's own or the one before it, reaches a size."""
    before = config.replace(T=config.T + 1, N=config.N + 1, lengths=None, preparation="new")
    calls = [config] * (config.lengths is None) + [before] * (config.preparation == "used")
    return any(reaches(call, size, least) for call in calls)


@pytest.mark.parametrize(("size", "least"), SIZED)
def test_what_fails_in_the_call_before_is_that_call(size: str, least: int) -> None:
    found = smallest(LONG.replace(preparation="used"), lambda config: fails_unpacked(config, size, least))

    assert found == RNNConfig(1, 1).replace(**dict.fromkeys("TN" if size == BOTH else size, least))


def test_what_fails_since_it_was_used_stays_used() -> None:
    config = LONG.replace(preparation="used")

    assert smallest(config, lambda config: config.preparation == "used") == RNNConfig(1, 1, preparation="used")


PAIR = RNNConfig(2, 3, T=3, N=2, preparation="parametrize", after="functional_call", positional=True)


@pytest.mark.parametrize(
    ("needs", "smaller"),
    [
        (
            lambda c: c.preparation == "parametrize" and c.after is not None,
            {"preparation": "parametrize", "after": "used"},
        ),
        (lambda c: "parametrize" in {c.preparation, c.after}, {"preparation": "parametrize"}),
        (lambda c: "functional_call" in {c.preparation, c.after}, {"preparation": "functional_call"}),
        (lambda c: c.positional, {"positional": True}),
        (lambda _: True, {}),
    ],
)
def test_two_preparations_become_one_or_none_if_that_fails_too(
    needs: Callable[[RNNConfig], Any], smaller: dict[str, Any]
) -> None:
    scope = WIDE.only(after=(None, *PREPARATIONS[1:]), positional=(False, True))

    assert smallest(PAIR, lambda config: bool(needs(config)), scope) == RNNConfig(1, 1, **smaller)


@pytest.mark.parametrize("pin", [{"N": 1}, {"preparation": "used"}])
def test_a_call_before_that_the_scope_leaves_out_stays_a_call_before(pin: dict[str, Any]) -> None:
    config = RNNConfig(2, 3, T=3, preparation="used")

    smaller = smallest(config, lambda config: fails_unpacked(config, "N", 2), WIDE.only(**pin))

    assert smaller == RNNConfig(1, 1, preparation="used")


@pytest.mark.parametrize(("value", "plainest"), [("expanded", "transposed"), ("stepped", "transposed")])
def test_of_several_that_fail_the_first_in_the_scope_s_order_is_kept(value: str, plainest: str) -> None:
    config = RNNConfig(2, 3, T=2, lengths=(2,), strides=value)

    found = smallest(config, lambda config: config.strides != "contiguous" and config.lengths is not None)

    assert found == RNNConfig(1, 1, lengths=(1,), strides=plainest)


def test_dropout_goes_where_a_single_layer_is_left_and_stays_where_it_matters() -> None:
    config = RNNConfig(2, 3, num_layers=4, dropout=0.5, training=True, T=3, N=2, lengths=(3, 1))

    assert smallest(config, lambda config: config.training) == RNNConfig(1, 1, training=True)
    dropping = smallest(config, lambda config: config.drops)
    assert dropping == RNNConfig(1, 1, num_layers=2, dropout=0.5, training=True)


def test_without_masks_no_case_that_drops_is_tried() -> None:
    tried: list[RNNConfig] = []

    def fails(config: RNNConfig) -> bool:
        tried.append(config)
        return config.dropout > 0

    config = RNNConfig(2, 3, num_layers=3, dropout=0.5, T=2)
    scope = Scope().only(training=[True, False], dropout=[0.0, 0.5])
    found = smallest(config, fails, scope)

    assert (found.dropout, found.training) == (0.5, False)
    assert not [config for config in tried if config.drops]


def test_an_empty_batch_becomes_one_sequence_where_that_fails_too() -> None:
    config = RNNConfig(2, 3, N=0)

    assert smallest(config, lambda config: config.hidden_size >= 2) == RNNConfig(1, 2)
    assert smallest(config, lambda config: config.N == 0) == RNNConfig(1, 1, N=0)


def test_sizes_that_hang_together_by_a_sum_become_small_all_at_once() -> None:
    config = RNNConfig(5, 6, T=15, N=9)

    assert smallest(config, lambda config: config.N + config.hidden_size == config.T) == RNNConfig(1, 1, T=2)


def test_sizes_that_must_be_equal_become_smaller_together() -> None:
    beyond = LEAP + 2  # only shrinking by ties leads there

    equal = smallest(RNNConfig(9, 9), lambda config: config.input_size == config.hidden_size >= beyond)
    stacked = smallest(
        RNNConfig(16, 8, bidirectional=True),
        lambda config: config.bidirectional and config.input_size == 2 * config.hidden_size >= 2 * beyond,
    )

    assert equal == RNNConfig(beyond, beyond)
    assert stacked == RNNConfig(2 * beyond, beyond, bidirectional=True)


def test_a_number_that_matters_wherever_it_stands_stays_while_what_is_before_it_goes() -> None:
    def check(case: Case) -> Result:
        return Result(Verdict.BROKEN, message="Error: no") if np.float32(0.123) in case.x else Result(Verdict.AGREES)

    case = draw(RNNConfig(2, 1, T=3, N=3), "normal", 3)
    x = case.x.copy()
    x[-1, -1, -1] = 0.123
    case = Case.from_arrays(case.config, {**case.arrays, "x": x})

    *_, (smallest, _) = CaseShrinker(case, check(case), Scope(), check)

    assert smallest.config == RNNConfig(1, 1)


def test_a_suspicion_that_a_plainer_case_proves_has_its_numbers_made_plain() -> None:
    def check(case: Case) -> Result:
        verdict, sort = (
            (Verdict.SUSPECT, MismatchKind.SUSPICIOUS) if case.config.N > 1 else (Verdict.DISAGREES, MismatchKind.VALUE)
        )
        return Result(verdict, (Mismatch("output", sort, sites=SITES),))

    case = draw(RNNConfig(1, 1, N=2), "normal", 3)
    *_, (smallest, found) = CaseShrinker(case, check(case), Scope(), check)

    assert found.failed
    assert not any(array.any() for array in smallest.arrays.values())


def test_a_suspicion_alone_keeps_its_numbers() -> None:
    suspicion = Result(Verdict.SUSPECT, (Mismatch("output", MismatchKind.SUSPICIOUS, sites=SITES),))
    case = draw(RNNConfig(1, 1, N=2), "normal", 3)
    *_, (smallest, _) = CaseShrinker(case, suspicion, Scope(), lambda _case: suspicion)

    assert smallest.config == RNNConfig(1, 1)
    assert any(array.any() for array in smallest.arrays.values())


@pytest.mark.parametrize(("distribution", "least"), [("normal", 1), ("special", 3)])
def test_an_overflow_gives_way_to_wrong_finite_numbers_unless_it_needs_infinities(
    distribution: str, least: int
) -> None:
    def check(case: Case) -> Result:
        sort = MismatchKind.FINITENESS if case.config.T > 2 else MismatchKind.VALUE
        return Result(Verdict.DISAGREES, (Mismatch("output", sort, sites=SITES),))

    case = draw(RNNConfig(1, 1, T=5), distribution, 3)
    *_, (smallest, found) = CaseShrinker(case, check(case), Scope(), check)

    assert smallest.config == RNNConfig(1, 1, T=least)
    assert found.kind == ("output: value" if least == 1 else "output: finiteness")


@pytest.mark.parametrize("first", ["hx.grad", "weight_hh_l0.grad", PREACTIVATION])
def test_a_wrong_gradient_may_show_in_another_once_the_case_is_smaller(first: str) -> None:
    def check(case: Case) -> Result:
        config = case.config
        if config.loss is None:
            return Result(Verdict.AGREES)
        array = first if config.hx and config.num_layers > 1 else "x.grad"
        return Result(Verdict.DISAGREES, (Mismatch(array, MismatchKind.VALUE, sites=SITES),))

    case = draw(RNNConfig(1, 1, num_layers=2, hx=True, loss="both"), "normal", 3)
    *_, (smallest, _) = CaseShrinker(case, check(case), WIDE, check)

    assert smallest.config == RNNConfig(1, 1, loss="output")


def test_a_wrong_gradient_that_is_seen_from_outside_stays_so() -> None:
    inside, outside = (
        Result(Verdict.DISAGREES, (Mismatch(array, MismatchKind.VALUE, probed=probed, sites=SITES),))
        for array, probed in ((PREACTIVATION, True), ("x.grad", False))
    )

    assert not inside.shows(outside.kind)
    assert outside.shows(inside.kind)


def test_a_wrong_gradient_is_no_other_failure() -> None:
    of = {
        kind: Result(Verdict.DISAGREES, (Mismatch(array, sort, relation=relation, sites=SITES),))
        for kind, array, sort, relation in (
            ("gradient", "hx.grad", MismatchKind.VALUE, ""),
            ("output", "output", MismatchKind.VALUE, ""),
            ("finiteness", "hx.grad", MismatchKind.FINITENESS, ""),
            ("relation", "hx.grad", MismatchKind.VALUE, "batch"),
        )
    }

    for kind, other in product(of, repeat=2):
        assert of[kind].shows(of[other].kind) == (kind == other)


def test_shrinking_that_spends_its_checks_says_so_and_keeps_what_it_has() -> None:
    case = draw(LONG, "normal", 3)
    failed = Result(Verdict.BROKEN, message="Error: no")
    checked: list[Case] = []

    def check(case: Case) -> Result:
        if len(checked) == 5:
            raise ShrinkBudgetSpent("5 cases were tried")
        checked.append(case)
        return failed

    shrinking = CaseShrinker(case, failed, WIDE, check)

    steps = list(shrinking)

    assert 0 < len(steps) <= 5
    assert not shrinking.certificate.complete
    assert shrinking.certificate.untried == ("shrinking not finished: 5 cases were tried",)


def test_no_case_is_checked_twice() -> None:
    checked: list[bytes] = []

    def check(case: Case) -> Result:
        checked.append(case.digest)
        wrong = case.config.T >= 3 and case.config.hidden_size >= 2
        return Result(Verdict.BROKEN, message="Error: no") if wrong else Result(Verdict.AGREES)

    case = draw(LONG, "normal", 3)
    shrinking = CaseShrinker(case, check(case), WIDE, check)

    assert [found.config for found, _ in shrinking][-1] == RNNConfig(1, 2, T=3)
    assert len(set(checked[1:])) == len(checked[1:])


def test_what_takes_a_nan_is_made_small_where_another_way_to_it_was_found() -> None:
    def check(case: Case) -> Result:
        with np.errstate(invalid="ignore"):
            wrong = case.config.T >= 3 and bool(np.isnan(case.x.sum(-1)).all())
        site = Mismatch("output", MismatchKind.FINITENESS, sites=SITES)
        return Result(Verdict.DISAGREES, (site,)) if wrong else Result(Verdict.AGREES)

    infinities = np.array([np.inf, -np.inf], np.float32)  # whose sum is NaN: without either, there is none
    wild = replace(draw(RNNConfig(2, 1, T=3, N=1), "special", 0), x=np.broadcast_to(infinities, (3, 1, 2)).copy())

    *_, (smaller, _) = CaseShrinker(wild, check(wild), WIDE, check)

    assert smaller.config == RNNConfig(1, 1, T=3, N=1)


@pytest.mark.parametrize("of", [lambda c: c.N * c.T, lambda c: c.N * c.hidden_size, lambda c: c.states])
def test_a_product_of_sizes_ends_as_a_number_of_sequences_and_at_its_threshold(of: Callable[[RNNConfig], int]) -> None:
    start = RNNConfig(1, 8, num_layers=2, T=96, N=128)

    assert smallest(start, lambda config: of(config) > 1000 and config.N > 20) == RNNConfig(1, 1, T=1, N=1001)


def test_a_very_large_size_is_halved_to_its_threshold_and_the_certificate_says_so() -> None:
    def check(case: Case) -> Result:
        return Result(Verdict.BROKEN, message="Error: no") if case.config.T > 40_000 else Result(Verdict.AGREES)

    tried = set[int]()

    def noted(case: Case) -> Result:
        tried.add(case.config.T)
        return check(case)

    shrinking = CaseShrinker(case := draw(RNNConfig(1, 1, T=65_537)), check(case), Scope(), noted)

    assert [found.config for found, _ in shrinking][-1] == RNNConfig(1, 1, T=40_001)
    assert len(tried) < 100
    assert shrinking.certificate.untried == ("T=40001: only some of the smaller sizes were tried",)
