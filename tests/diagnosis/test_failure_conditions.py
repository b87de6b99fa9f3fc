"""Tests of factors: what a failure needs, from which size on, and what passes; here the config alone decides."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import Case, RNNConfig, Scope, Verdict, as_subject, draw
from harness.checks.agreement import Observation, failure_of, observe
from harness.checks.result import RaisedError, Result
from harness.diagnosis.experiments import FindingCause
from harness.diagnosis.failure_conditions import IRREGULAR, FailingSizes, FailureConditions, depends_on
from harness.diagnosis.unexplained_cause import UnexplainedCause
from harness.diagnosis.value_threshold import NumbersNeeded
from harness.oracle.arithmetic_assumptions import Arithmetic
from harness.oracle.compare import Mismatch, MismatchKind
from harness.report.explanation_lines import fails_line
from harness.search.evidence import Certificate
from harness.search.search_record import Finding
from harness.space.outcome import Failure, Outcome

FAILS = Result(Verdict.BROKEN, message="Error: no")
OTHER = Result(Verdict.BROKEN, message="Other: no")
WRONG = Result(Verdict.DISAGREES, (Mismatch("output", MismatchKind.VALUE),))
AGREES = Result(Verdict.AGREES)
EXCUSED = Result(Verdict.AGREES, known_as="3f9c2a11")
REFUSES = Result(Verdict.UNSUPPORTED)
COMPLETE = Certificate()


def disagreeing(name: str, kind: MismatchKind = MismatchKind.VALUE, relation: str = "") -> Result:
    return Result(Verdict.DISAGREES, (Mismatch(name, kind, relation=relation),), relation=relation)


def factors(
    config: RNNConfig,
    check: Callable[[RNNConfig], Any],
    scope: Scope | None = None,
    *,
    found: Result = FAILS,
    certificate: Certificate = COMPLETE,
    **options: Any,
) -> FailureConditions:
    """Return what a failure depends on, given a result of each config, or whether it fails."""

    def result_of(case: Case) -> Result:
        answer = check(case.config)
        return answer if isinstance(answer, Result) else FAILS if answer else AGREES

    return depends_on(Finding("mine", draw(config), found, certificate), scope or Scope(), result_of, **options)


def test_what_fails_everywhere_needs_nothing() -> None:
    found = factors(RNNConfig(1, 1), lambda _config: True)

    assert found.needs == {}
    assert {"bias", "nonlinearity", "hx", "dtype", "bidirectional"} <= set(found.independent)
    assert [size.pattern for size in found.sizes.values()] == [""] * 5
    assert found.passing is None


@pytest.mark.parametrize(
    ("elsewhere", "options", "pattern"),
    [
        (WRONG, {}, "at 4 only"),  # where it answers, it does not crash, whatever else is wrong
        (EXCUSED, {"explains_all": lambda _case, _name: False}, None),  # of another crash that comes first
    ],
)
def test_a_crash_is_gone_where_an_answer_comes(elsewhere: Result, options: Any, pattern: str | None) -> None:
    crash = replace(FAILS, raised=RaisedError(("ValueError",), ("mine.py", "10")))

    found = factors(RNNConfig(1, 1, T=4), lambda config: crash if config.T == 4 else elsewhere, found=crash, **options)

    assert {name: size.pattern for name, size in found.sizes.items()}.get("T") == pattern
    assert found.passing is None


def test_a_flag_that_is_needed_is_told_from_those_that_are_not() -> None:
    found = factors(RNNConfig(1, 1, bidirectional=True), lambda config: config.bidirectional)

    assert found.needs == {"bidirectional": True}
    assert "bias" in found.independent
    assert found.passing == ("bidirectional", False)


def test_some_values_of_several_are_listed() -> None:
    scope = Scope().only(dtype=["float32", "float64", "bfloat16", "float16"])

    found = factors(RNNConfig(1, 1), lambda config: config.dtype != "float64", scope)

    assert found.partly == {"dtype": ("float32", "bfloat16", "float16")}


@pytest.mark.parametrize(
    ("smallest", "fails", "pattern"),
    [
        (17, lambda H: H >= 17, "from 17 on"),
        (9, lambda H: H > 8 and H % 8, "from 9 on, except at multiples of 8"),
        (8, lambda H: H % 8 == 0, "at multiples of 8"),
        (9, lambda H: H % 2 == 1, "odd"),
        (17, lambda H: H % 2 == 1 and H > 16, "odd, from 17 on"),
        (8, lambda H: H % 2 == 0, "even"),
        (16, lambda H: H % 8 == 0 and H > 8, "at multiples of 8, from 16 on"),
        (9, lambda H: H % 8 == 1, "at 1 more than multiples of 8"),
        (5, lambda H: H == 5, "at 5 only"),
        (5, lambda H: 5 <= H <= 12, "from 5 to 12"),
        (21, lambda H: 21 <= H <= 39, "from 21 to 39"),
        (1, lambda H: H <= 200, "from 1 to 200"),
        (1, lambda H: H != 65, "from 1 on, except at 65"),
        (3, lambda H: H > 2 and H & (H - 1), "from 3 on, except at powers of 2"),
        (5, lambda H: H > 4 and H % 4, "from 5 on, except at multiples of 4"),
        (3, lambda H: H in {3, 5, 11}, IRREGULAR),
    ],
)
def test_the_sizes_at_which_it_fails_have_a_pattern(smallest: int, fails: Callable[[int], Any], pattern: str) -> None:
    found = factors(RNNConfig(1, smallest), lambda config: fails(config.hidden_size))

    assert found.sizes["hidden_size"].pattern == pattern
    assert found.passing == ("hidden_size", smallest - 1 or min(found.sizes["hidden_size"].passes))


def test_far_sizes_cost_no_more_than_a_search_and_stay_within_the_scope() -> None:
    seen: list[RNNConfig] = []

    def fails(config: RNNConfig) -> bool:
        seen.append(config)
        return config.T <= 40

    wide = factors(RNNConfig(1, 1, 5, bidirectional=True), fails)
    narrow = factors(RNNConfig(1, 1), fails, Scope().only(T=[1, 30, 40, 50]))

    assert wide.sizes["T"].pattern == ""
    assert {config.T for config in seen if config.num_layers > 1} == {1, 2, 3, 4, 5, 8, 9, 16, 17}
    assert narrow.sizes["T"] == FailingSizes(1, (30, 40), (50,))


@pytest.mark.parametrize(("below", "passing"), [(AGREES, ("hidden_size", 16)), (REFUSES, None)])
def test_a_smaller_size_is_said_to_pass_where_it_was_seen_to(below: Result, passing: Any) -> None:
    found = factors(RNNConfig(1, 17), lambda config: config.hidden_size >= 17 or below)

    assert found.passing == passing


@pytest.mark.parametrize(
    ("config", "fails", "relation"),
    [
        (RNNConfig(2, 2), lambda one: one.input_size == one.hidden_size, ("input_size", "==", "hidden_size")),
        (RNNConfig(1, 1, T=1, N=2), lambda one: one.N > 1 and one.T != one.N, ("T", "!=", "N")),
        (RNNConfig(1, 1, T=2, N=1), lambda one: one.hidden_size < one.T, ("T", ">", "hidden_size")),
        (RNNConfig(1, 1, T=5, N=5), lambda one: one.T >= one.N >= 5, ("T", ">=", "N")),
        (RNNConfig(1, 1, T=3, N=1), lambda one: one.hidden_size + 1 < one.T, None),
        (RNNConfig(1, 1, T=2, N=1), lambda one: one.T >= 2 and one.hidden_size == 1, None),
    ],
)
def test_sizes_of_which_one_decides_on_the_other_are_related(config: RNNConfig, fails: Any, relation: Any) -> None:
    found = factors(config, fails)

    assert relation in found.relations if relation else found.relations == ()
    if relation and relation[1] in ("==", ">"):
        assert not {relation[0], relation[2]} & found.sizes.keys()


def test_a_size_that_is_related_to_another_is_covered_as_that_is() -> None:
    larger = factors(RNNConfig(1, 1, T=2, N=1), lambda config: config.hidden_size < config.T)
    at_least = factors(RNNConfig(1, 1, T=5, N=5), lambda config: config.T >= config.N >= 5)

    assert (at_least.sizes["N"].pattern, "T" in at_least.sizes) == ("from 5 on", False)
    assert [larger.covers(RNNConfig(1, H, T=T, N=1)) for T, H in ((30, 29), (30, 30), (2, 1))] == [True, False, True]
    assert [at_least.covers(RNNConfig(1, 1, T=T, N=N)) for T, N in ((9, 9), (9, 10), (4, 4))] == [True, False, False]


def test_sizes_that_may_be_one_but_not_all_at_once_are_told() -> None:
    either = factors(RNNConfig(1, 1, T=2, N=2), lambda config: config.T > 1 or config.N > 1)
    any_size = factors(RNNConfig(1, 1, T=2, N=2), lambda _config: True)

    assert fails_line(either) == "with T from 2 on or N from 2 on"
    assert [either.covers(RNNConfig(1, 1, T=T, N=N)) for T, N in ((1, 1), (2, 1), (1, 9))] == [False, True, True]
    assert any_size.either == ()


def test_a_need_that_another_change_meets_as_well_is_no_need_of_its_own() -> None:
    found = factors(RNNConfig(1, 2, T=1, hx=True), lambda one: one.hidden_size > 1 and (one.hx or one.T > 2))

    assert fails_line(found) == "with hidden_size from 2 on, and hx=True or T from 3 on"
    assert [found.covers(RNNConfig(1, 2, T=T, hx=hx)) for T, hx in ((1, True), (2, False), (3, False))] == [1, 0, 1]


def test_the_only_loss_of_a_subject_is_no_need_of_a_gradient() -> None:
    found = factors(
        RNNConfig(1, 1, T=1, loss="h_n"),
        lambda config: config.loss and disagreeing("x.grad"),
        Scope().only(loss=[None, "h_n"]),
        found=disagreeing("x.grad"),
    )

    assert not found.needs
    assert not found.partly
    assert fails_line(found, gradients=True) == "with any loss, at every size, whatever the other factors are"


def test_sizes_without_a_pattern_are_not_listed() -> None:
    found = factors(RNNConfig(1, 3), lambda config: config.hidden_size in {3, 5, 11})

    assert fails_line(found).startswith("irregular in hidden_size: perhaps not deterministic, or memory read")
    assert fails_line(found, ends=True) == "irregular in hidden_size"


def test_that_some_numbers_pass_is_said_and_which() -> None:
    def only(fails: Callable[[Case], Any]) -> str:
        finding = Finding("mine", draw(RNNConfig(1, 1)), FAILS)
        return fails_line(depends_on(finding, Scope(), lambda case: FAILS if fails(case) else AGREES))

    assert only(lambda case: case.x.min() < 0) == "only where some numbers of x are negative"
    assert only(lambda case: int(case.id, 16) % 2).endswith(" of 24 sets drawn at random")


@pytest.mark.parametrize(
    ("fails", "draws", "said"),
    [
        (0, 1, "not with all numbers: 1 set drawn at random does not show it"),
        (0, 7, "not with all numbers: 7 sets drawn at random do not show it"),
        (0, 8, "with rare numbers: it shows on none of 8 sets drawn at random"),
        (1, 8, "with few numbers: it shows on 1 of 8 sets drawn at random"),
        (5, 8, "with most numbers: it shows on 5 of 8 sets drawn at random"),
        (8, 8, "at every size, whatever the other factors are"),
    ],
)
def test_how_often_numbers_show_a_failure_is_said_as_far_as_that_is_known(fails: int, draws: int, said: str) -> None:
    assert fails_line(FailureConditions(numbers=NumbersNeeded(fails, draws))) == said


@pytest.mark.parametrize(
    ("other", "options", "needed"),
    [
        (REFUSES, {}, False),
        (OTHER, {"explains_all": lambda _case, _name: False}, False),
        (EXCUSED, {"explains_all": lambda _case, _name: False}, False),
        (EXCUSED, {}, True),  # a known mistake makes it fail there, which is not said to pass
        (FAILS, {"shows": lambda case: case.config.bias}, True),  # where a known cause does not show, it does not fail
        (EXCUSED, {"shows": lambda case: case.config.bias, "may_show": lambda _case: True}, False),  # roundings hide it
    ],
)
def test_what_another_result_tells_of_a_factor(other: Result, options: dict[str, Any], needed: bool) -> None:
    found = factors(RNNConfig(1, 1), lambda config: config.bias or other, **options)

    assert found.needs == ({"bias": True} if needed else {})
    assert "bias" not in found.independent
    assert (found.passing is None) is (other is not FAILS)


def test_whether_a_known_cause_surely_shows_is_asked_only_where_the_subject_passes() -> None:
    bounded, checked = list[int](), list[int]()  # the T of cases

    def shows(case: Case) -> bool:
        bounded.append(case.config.T)
        return True

    def check(case: Case) -> Result:
        checked.append(case.config.T)
        return FAILS if case.config.bias else AGREES

    finding = Finding("mine", draw(RNNConfig(1, 1)), FAILS, COMPLETE)
    found = depends_on(finding, Scope(), check, shows=shows, may_show=lambda _case: True)

    assert found.needs == {"bias": True}
    assert max(bounded) < max(checked)  # it fails at every size


def test_a_condition_on_how_large_gradients_are_is_no_need_of_a_size() -> None:
    config = RNNConfig(1, 1, T=1, N=1, loss="output")

    def check(case: Case) -> Result:
        loudest = max((np.abs(array).max(initial=0) for array in case.cotangents.values()), default=0)
        return FAILS if loudest > 20 else AGREES

    loud = draw(config, "normal").cotangents["output.grad"] * 0 + 32
    case = Case.from_arrays(config, {**draw(config, "normal").arrays, "output.grad": loud.astype("f4")})
    found = depends_on(Finding("mine", case, FAILS, COMPLETE), Scope().only(loss=[None, "output"]), check)

    assert {name: size.pattern for name, size in found.sizes.items()} == dict.fromkeys(found.sizes, "")


@pytest.mark.parametrize(
    ("size", "covered"),
    [
        (FailingSizes(1, (2, 9), ()), [1, 2, 4, 5, 6, 7, 100]),
        (FailingSizes(1, (), (2, 3, 5, 8, 9)), [1]),
        (FailingSizes(1, (3, 9), (2, 4, 8)), [1, 5, 7]),
        (FailingSizes(2, (3, 4), (9, 10)), [2, 4]),
        (FailingSizes(1, (2, 4, 5, 8, 9), (6,)), [1, 2, 4, 5, 7, 100]),
    ],
    ids=["every", "only", "odd", "up to", "but"],
)
def test_a_size_that_was_not_tried_is_covered_where_a_pattern_says_so(size: FailingSizes, covered: list[int]) -> None:
    conditions = FailureConditions(sizes={"T": size})

    assert [T for T in (1, 2, 4, 5, 6, 7, 100) if conditions.covers(RNNConfig(1, 1, T=T))] == covered


def test_factors_stay_within_the_scope() -> None:
    seen: list[RNNConfig] = []
    scope = Scope().only(hidden_size=[3, 9], bidirectional=False, dtype="float64")

    def fails(config: RNNConfig) -> bool:
        seen.append(config)
        return True

    factors(RNNConfig(1, 3, dtype="float64"), fails, scope)

    assert {config.hidden_size for config in seen} == {3, 9}
    assert {(config.bidirectional, config.dtype) for config in seen} == {(False, "float64")}


SEGV, EXIT = "its process died of SIGSEGV", "its process ended with exit code 7"
STACK = 'Stack (most recent call first):\nFile "/usr/lib/python3.11/ctypes/__init__.py", line 5\n'
LINE = STACK + 'File "mine.py", line 3\n'
TWO_WAYS: Any = {"needs": {"bidirectional": True}}
WIDE: Any = TWO_WAYS | {"sizes": {"hidden_size": FailingSizes(17, (18, 24), (32,))}}
LONG: Any = {"sizes": {"T": FailingSizes(2, (3, 4), ())}}
SHAPE = disagreeing("h_n", MismatchKind.SHAPE)


def known_cause(*parts: Any, **options: Any) -> FindingCause:
    return FindingCause("3f9c2a11", as_subject("torch"), UnexplainedCause(*parts, **options))


def ended(message: str, traceback: str = "") -> Result:
    """Return the result of a process that ended."""
    result = failure_of(Outcome(failure=Failure.CRASHED, message=message, traceback=traceback))
    assert result is not None
    return result


def raised(line: int, relation: str = "") -> Result:
    """Return the result of an exception at a line, perhaps in the other run of a relation."""
    where = RaisedError.of(("E",), f'File "mine.py", line {line}, in rnn')
    return Result(Verdict.BROKEN, message="E: no", raised=where, relation=relation)


@pytest.mark.parametrize(
    ("found", "conditions", "config", "met", "covered"),
    [
        # within a region, what is alike
        (WRONG, WIDE, {"hidden_size": 18, "bidirectional": True}, WRONG, True),
        (WRONG, WIDE, {"hidden_size": 18, "bidirectional": True}, disagreeing("h_n", MismatchKind.FINITENESS), True),
        (WRONG, WIDE, {"hidden_size": 18, "bidirectional": True}, disagreeing("x.grad"), False),
        (WRONG, WIDE, {"hidden_size": 18, "bidirectional": True}, FAILS, False),
        (WRONG, WIDE, {"hidden_size": 18}, WRONG, False),
        (WRONG, WIDE, {"hidden_size": 16, "bidirectional": True}, WRONG, False),
        (WRONG, WIDE, {"hidden_size": 32, "bidirectional": True}, WRONG, False),
        # what is wrong in form, wherever it shows in the same array
        *(
            (disagreeing("h_n", sort), TWO_WAYS, {}, disagreeing(array, sort), array == "h_n")
            for sort in (MismatchKind.SHAPE, MismatchKind.DTYPE, MismatchKind.MISSING, MismatchKind.CHANGED)
            for array in ("h_n", "output")
        ),
        # a relation whose other run fails as was found
        (SHAPE, TWO_WAYS, {}, disagreeing("h_n", MismatchKind.SHAPE, "batch first"), True),
        (SHAPE, TWO_WAYS, {}, disagreeing("output", MismatchKind.SHAPE, "batch first"), False),
        (raised(3), TWO_WAYS, {}, raised(3, "batch first"), True),
        (raised(3), TWO_WAYS, {}, raised(4, "batch first"), False),
        # what ends a process at one line, or within the region after memory was broken
        (ended(SEGV, LINE), TWO_WAYS, {}, ended(SEGV, LINE + 'File "mine.py", line 9'), True),
        (ended(SEGV, LINE), TWO_WAYS, {}, ended(SEGV, LINE.replace("3\n", "4\n")), False),
        (ended(SEGV, LINE), TWO_WAYS, {"bidirectional": True}, ended(SEGV, LINE.replace("3\n", "4\n")), True),
        (ended(SEGV, LINE), TWO_WAYS, {"bidirectional": True}, ended(EXIT), False),
        (ended(EXIT), TWO_WAYS, {}, ended(EXIT), True),
        (ended(EXIT), TWO_WAYS, {"bidirectional": True}, ended(EXIT.replace("7", "8")), False),
        (ended(EXIT), TWO_WAYS, {"bidirectional": True}, ended(SEGV, LINE), False),
        # a used module raises as its call before does
        (FAILS, LONG, {"preparation": "used"}, FAILS, True),
        (FAILS, LONG, {}, FAILS, False),
    ],
)
def test_a_known_cause_excuses_what_is_alike_within_its_region(
    found: Result, conditions: Any, config: dict[str, Any], met: Result, *, covered: bool
) -> None:
    known = known_cause(found, FailureConditions(**conditions))
    case = draw(RNNConfig(**{"input_size": 1, "hidden_size": 1} | config))

    assert known.covers(Observation(case, Outcome(), Arithmetic("float32")), met) is covered


def test_a_region_of_one_array_that_is_unknown_excuses_that_array_alone() -> None:
    known = known_cause(disagreeing("h_n"), FailureConditions(), arrays=("h_n",))
    observation = Observation(draw(RNNConfig(1, 1)), Outcome(), Arithmetic("float32"))

    assert known.covers(observation, disagreeing("h_n"))
    assert not known.covers(observation, WRONG)


def test_a_region_that_needs_a_way_of_calling_is_met_again_although_it_is_compared_in_the_plain_form() -> None:
    known = known_cause(WRONG, FailureConditions({"preparation": "assign"}))

    for preparation, met in (("assign", True), ("state_dict", False)):
        case = draw(RNNConfig(2, 3, preparation=preparation))
        assert known.covers(observe(as_subject("torch"), case), WRONG) is met


def test_a_factor_is_not_needed_where_the_certain_cause_shows_on_rare_values_only() -> None:
    def shown(case: Case) -> bool:
        return case.origin is not None and (case.origin.distribution, case.origin.seed) == ("normal", 12)

    def check(case: Case) -> Result:
        return FAILS if case.config.nonlinearity == "tanh" or shown(case) else AGREES

    finding = Finding("mine", draw(RNNConfig(1, 1)), FAILS, COMPLETE)
    blind = depends_on(finding, Scope(), check)
    told = depends_on(finding, Scope(), check, shows=shown)

    assert blind.needs == {"nonlinearity": "tanh"}
    assert "nonlinearity" in told.independent
