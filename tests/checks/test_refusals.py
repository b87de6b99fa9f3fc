"""Tests of refusals: which answers to a malformed call are right, and which deviations are known."""

from collections.abc import Callable

import pytest

from harness.checks.breaks import BREAKS, Broken, broken, carries
from harness.checks.deviations import DEVIATIONS, Lapse, Whose
from harness.checks.refusals import Refusal, check_refusal
from harness.space.config import RNNConfig
from harness.subjects.answer import Answer, Stage
from harness.subjects.call import Base, Call, Form
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()
BASE = Base(RNNConfig(3, 4, T=3, N=2))


def says(answer: Answer) -> Callable[[Call], Answer]:
    """Return the ``call`` of a subject that gives the same answer to every call."""
    return lambda _call: answer


def one(label: str, *names: str, base: Base = BASE) -> Broken:
    kinds = tuple(kind for kind in BREAKS if kind.name in names)
    return next(found for found in broken(base, kinds) if label in found.label)


def judged(label: str, name: str, answer: Answer) -> Refusal:
    return check_refusal(says(answer), one(label, name))


def refused(error: BaseException, stage: Stage = Stage.CALL) -> Answer:
    return Answer.refused(stage, error)


@pytest.mark.parametrize(
    ("answer", "lapse"),
    [
        (refused(ValueError("expected 3 features, got 7")), Lapse.MESSAGE),
        (refused(ValueError("expected 3 features, got 4")), None),
        (refused(RuntimeError("3 != 4")), None),
        (refused(RuntimeError("wrong size")), Lapse.MESSAGE),
        (refused(RuntimeError("13 != 40")), Lapse.MESSAGE),
        (refused(AssertionError("3 != 4")), Lapse.CLASS),
        (refused(KeyError("3, 4")), Lapse.CLASS),
        (refused(ValueError("3, 4"), Stage.CONSTRUCTOR), None),
        (Answer.accepted("float32 (3, 2, 4)"), Lapse.ACCEPTED),
        (Answer.crashed("signal 11"), Lapse.CRASHED),
        (Answer.hung("10 s"), Lapse.HUNG),
    ],
)
def test_what_is_wrong_with_an_answer(answer: Answer, lapse: Lapse | None) -> None:
    result = judged("4 features", "x: features", answer)

    assert result.lapse is lapse
    assert result.new is (lapse is not None)


def test_a_message_lacks_what_it_does_not_mention() -> None:
    assert judged("4 features", "x: features", refused(ValueError("not 3"))).missing == (("4",),)


def test_later_is_a_remark_and_then_the_reason_is_another() -> None:
    late = judged("bidirectional=2", "bidirectional no bool", refused(TypeError("invalid combination of arguments")))

    assert (late.lapse, late.late) == (None, True)
    assert judged("bidirectional=2", "bidirectional no bool", refused(KeyError("?"))).lapse is Lapse.CLASS


def test_an_error_of_a_class_that_inherits_is_one_of_that_class() -> None:
    class Wrong(ValueError):
        pass

    assert judged("4 features", "x: features", refused(Wrong("3, 4"))).lapse is None


def test_what_is_not_supported_is_neither_right_nor_wrong() -> None:
    result = judged("4 features", "x: features", refused(NotImplementedError("no")))

    assert result.answer.unsupported
    assert result.lapse is None


def test_of_two_breaks_the_message_may_be_about_either() -> None:
    both = one("", "x: features", "hx: features")

    for words in ("3, 4", "4, 5"):
        assert check_refusal(says(refused(ValueError(words))), both).lapse is None
    assert check_refusal(says(refused(ValueError("7"))), both).lapse is Lapse.MESSAGE
    assert check_refusal(says(refused(OSError("3, 4"))), both).lapse is Lapse.CLASS


def test_accepting_two_breaks_is_known_only_if_either_is() -> None:
    accepted, packed = says(Answer.accepted()), Base(BASE.config, Form.PACKED)

    known = check_refusal(
        accepted, one("floats; bias_ih_l0 of shape (1,)", "lengths: no ints", "bias_ih: shape", base=packed)
    )
    new = check_refusal(accepted, one("4 features for 3; lengths", "x: features", "lengths: no ints", base=packed))

    assert [deviation.name for deviation in known.deviations] == [
        "lengths that are no ints",
        "parameters that broadcast",
    ]
    assert new.new


@pytest.mark.parametrize(
    ("message", "fact", "found"),
    [
        ("got 4D", "4", True),
        ("got 14", "4", False),
        ("[-1]", "-1", True),
        ("an empty tensor", "Empty", True),
        ("", "4", False),
    ],
)
def test_a_message_carries_whole_numbers_and_words_in_any_case(message: str, fact: str, found: bool) -> None:
    assert carries(message, ("never", fact)) is found


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("kind", BREAKS, ids=lambda kind: kind.name)
def test_torch_refuses_what_it_is_not_known_to_accept(kind: object, form: Form) -> None:
    for config in (
        RNNConfig(3, 4, T=3, N=2),
        RNNConfig(1, 1, T=1, N=1, nonlinearity="relu", bias=False),
        RNNConfig(2, 3, 2, bidirectional=True, batch_first=True, T=4, N=3, hx=True, dtype="float64"),
    ):
        for enforce_sorted in (True, False):
            base = Base(config, form, enforce_sorted)
            for candidate in broken(base, tuple(one for one in BREAKS if one is kind)):
                result = check_refusal(TORCH.perform, candidate)
                assert not result.new, (candidate.label, result, candidate.call.as_code())


def test_each_deviation_is_told_with_its_reason() -> None:
    assert len({deviation.name for deviation in DEVIATIONS}) == len(DEVIATIONS)
    for deviation in DEVIATIONS:
        assert len(deviation.reason) > 40
        assert isinstance(deviation.whose, Whose)
