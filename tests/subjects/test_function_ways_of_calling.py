"""Tests of ways of calling functions: what a function is given, what it is asked for, and what it does not support."""

from typing import Any

import numpy as np
import pytest

from harness import Case, Failure, RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.space.factor_table import LOSSES, STRIDES, WRT
from harness.space.scope import Scope
from harness.subjects.function import FunctionSubject
from harness.subjects.protocol import scope_of
from tests import implementations
from tests.calls_by_hand import doing
from tests.subjects.test_torch_ways_of_calling import STRIDED

CONFIG = RNNConfig(2, 3, T=4, N=5, hx=True)
DROPPING = RNNConfig(2, 3, 3, bidirectional=True, dropout=0.25, T=4, N=5, training=True)


class Noting:
    """A function that takes every argument, and returns zeros in the right shapes."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, lengths: Any, masks: Any) -> Any:
        self.calls.append(
            {
                "x": x,
                "h0": h0,
                "weights": weights,
                "config": config,
                "cotangents": cotangents,
                "lengths": lengths,
                "masks": masks,
            }
        )
        gradients = {name: np.zeros(spec.shape, config.dtype) for name, spec in config.gradients.items()}
        return (*(np.zeros(spec.shape, config.dtype) for spec in config.outputs.values()), gradients)


def noted(config: RNNConfig) -> tuple[list[dict[str, Any]], FunctionSubject, Case]:
    function, case = Noting(), draw(config, "normal", 0)
    subject = FunctionSubject(function, "noting")

    outcome = subject.run(case)

    assert outcome.failure is None, outcome.message
    assert outcome.changed_inputs == ()
    return function.calls, subject, case


def test_lengths_are_an_array_of_ints_and_none_of_what_is_not_packed() -> None:
    (call,), _, _ = noted(CONFIG.replace(lengths=(2, 4, 1, 4, 3)))
    (other,), _, _ = noted(CONFIG)

    assert call["lengths"].dtype.kind == "i"
    assert call["lengths"].tolist() == [2, 4, 1, 4, 3]
    assert other["lengths"] is None


def test_padding_in_what_is_given_is_nan_and_the_rest_is_the_case_s() -> None:
    (call,), _, case = noted(CONFIG.replace(N=2, lengths=(1, 4), batch_first=True))

    assert call["x"].shape == (2, 4, 2)
    assert np.isnan(call["x"]).all(axis=2).tolist() == [[False, True, True, True], [False] * 4]
    assert np.array_equal(call["x"], case.x, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (4, 5, 6)),
        ({"batch_first": True}, (5, 4, 6)),
        ({"lengths": (4, 1, 2, 4, 3)}, (4, 5, 6)),
        ({"N": 1, "batched": False}, (4, 6)),
        ({"N": 1, "batched": False, "batch_first": True}, (4, 6)),
    ],
)
def test_masks_are_given_in_the_layout_of_the_call_and_told_time_first(
    changes: dict[str, Any], shape: tuple[int, ...]
) -> None:
    (call,), subject, case = noted(DROPPING.replace(**changes))

    told = subject.masks(case)

    assert told is not None
    assert [mask.shape for mask in call["masks"]] == [shape] * 2
    assert [mask.shape for mask in told] == [(4, case.config.N, 6)] * 2
    for mine, its in zip(told, call["masks"], strict=True):
        assert its.dtype == bool
        turned = its.swapaxes(0, 1) if shape == (5, 4, 6) else its[:, None] if len(shape) == 2 else its
        assert np.array_equal(turned, mine)


@pytest.mark.parametrize(
    "changes", [{"training": False}, {"dropout": 0.0}, {"num_layers": 1}, {"num_layers": 1, "dropout": 0.0}]
)
def test_where_nothing_is_dropped_there_are_no_masks(changes: dict[str, Any]) -> None:
    (call,), _, _ = noted(DROPPING.replace(**changes))

    assert call["masks"] is None


@pytest.mark.parametrize(("dropout", "least", "most"), [(0.25, 0.70, 0.80), (0.9, 0.07, 0.13), (1.0, 0.0, 0.0)])
def test_masks_keep_what_dropout_leaves(dropout: float, least: float, most: float) -> None:
    # For 20,000 elements, four standard deviations are 0.012 and 0.009.
    case = draw(RNNConfig(1, 50, 2, dropout=dropout, T=20, N=20, training=True), "normal", 0)

    masks = as_subject(doing()).masks(case)  # type: ignore[attr-defined]

    assert least <= np.mean(masks) <= most


def test_masks_are_the_case_s_own_and_a_prefix_has_the_first_of_them() -> None:
    _, subject, case = noted(DROPPING)
    other = draw(DROPPING, "normal", 1)

    masks, again, prefix, others = (subject.masks(one) for one in (case, case, case.prefix(2), other))

    assert masks is not None
    assert again is not None
    assert prefix is not None
    assert others is not None
    assert all(np.array_equal(a, b) for a, b in zip(masks, again, strict=True))
    assert len(prefix) == 1
    assert np.array_equal(prefix[0], masks[0])
    assert not np.array_equal(others[0], masks[0])
    assert not np.array_equal(masks[0], masks[1])


@pytest.mark.parametrize(("strides", "of_x", "of_h0", "of_gradient"), STRIDED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_given_lies_in_memory_as_strides_says(
    strides: str, of_x: tuple[int, ...], of_h0: tuple[int, ...], of_gradient: tuple[int, ...], dtype: str
) -> None:
    (call,), _, case = noted(CONFIG.replace(num_layers=2, strides=strides, loss="output", dtype=dtype))

    arrays = {"x": call["x"], "hx": call["h0"], "output.grad": call["cotangents"]["output.grad"]}

    for (name, array), expected in zip(arrays.items(), (of_x, of_h0, of_gradient), strict=True):
        assert tuple(stride // array.itemsize for stride in array.strides) == expected, name
        assert array.tobytes() == case.arrays[name].tobytes(), name
    assert all(weight.flags.c_contiguous for weight in call["weights"].values())


@pytest.mark.parametrize("strides", STRIDES)
def test_what_is_written_into_what_was_lent_is_seen_and_harms_nothing(strides: str) -> None:
    def rnn(x: Any, h0: Any, cotangents: Any) -> Any:
        for array in (x, h0, cotangents["output.grad"]):
            array[-1, -1, -1] += 1
        return np.zeros((4, 5, 3), np.float32), h0.copy(), {}

    case = draw(CONFIG.replace(strides=strides, loss="output"), "normal", 0)
    before = case.id

    outcome = as_subject(rnn).run(case)

    assert outcome.failure is None, outcome.message
    assert outcome.changed_inputs == ("x", "hx", "output.grad")
    assert case.id == before
    assert as_subject(implementations.vectorised).run(case.forward()).changed_inputs == ()


@pytest.mark.parametrize("strides", STRIDES)
def test_an_empty_batch_may_lie_in_any_way(strides: str) -> None:
    (call,), _, _ = noted(CONFIG.replace(N=0, strides=strides, loss="both"))

    assert call["x"].shape == (4, 0, 2)
    assert call["cotangents"]["h_n.grad"].shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("changes", "shape", "lengths"),
    [
        ({}, (5, 6, 2), None),
        ({"batch_first": True}, (6, 5, 2), None),
        ({"N": 1, "batched": False}, (5, 2), None),
        ({"N": 2, "lengths": (1, 4)}, (5, 3, 2), [1, 5, 1]),
        ({"N": 0}, (5, 1, 2), None),
        ({"loss": "both", "strides": "stepped"}, (5, 6, 2), None),
    ],
)
def test_a_function_that_was_used_was_called_at_another_shape_and_with_other_weights_before(
    changes: dict[str, Any], shape: tuple[int, ...], lengths: list[int] | None
) -> None:
    calls, _, case = noted(CONFIG.replace(preparation="used", **changes))

    first, second, last = calls

    assert first["x"].shape == shape
    assert (None if first["lengths"] is None else first["lengths"].tolist()) == lengths
    assert second["x"].shape == last["x"].shape
    assert not np.array_equal(second["weights"]["weight_ih_l0"], last["weights"]["weight_ih_l0"])
    assert np.array_equal(last["x"], case.x, equal_nan=True)
    assert last["config"] == case.config


def test_a_function_that_remembers_a_shape_is_found_where_it_was_used() -> None:
    steps: list[int] = []

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        steps.append(len(x))
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + (steps[0] != len(x)), h_n

    config = RNNConfig(2, 3, T=4, N=2)
    new = check_agreement(as_subject(rnn), draw(config, "normal", 0))
    steps.clear()
    used = check_agreement(as_subject(rnn), draw(config.replace(preparation="used"), "normal", 0))

    assert (new.verdict, used.verdict) == (Verdict.AGREES, Verdict.DISAGREES)


def test_what_fails_at_the_other_shape_alone_does_no_harm() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.T == 5:
            raise ValueError("five")
        return implementations.vectorised(x, h0, weights, config)

    case = draw(CONFIG.replace(preparation="used"), "normal", 0)

    assert check_agreement(as_subject(rnn), case).verdict is Verdict.AGREES


def test_a_function_is_asked_for_what_it_takes() -> None:
    takes = {
        name: scope_of(as_subject(function), "kernel")
        for name, function in {
            "nothing more": lambda x: None,
            "cotangents": lambda x, cotangents: None,
            "lengths": lambda x, lengths: None,
            "masks": lambda x, masks: None,
        }.items()
    }

    assert {name for name, scope in takes.items() if scope.loss != (None,)} == {"cotangents"}
    assert {name for name, scope in takes.items() if scope.lengths != (None,)} == {"lengths"}
    assert {name for name, scope in takes.items() if scope.masks} == {"masks"}
    for scope in takes.values():
        assert set(scope.strides) == set(STRIDES)
        assert set(scope.preparation) == {"new", "used"}
        assert (scope.batched, scope.wrt, scope.autocast, scope.grad_mode) == ((True,), ("all",), (None,), (None,))
    assert set(takes["lengths"].lengths) == {None, "equal", "falling", "any"}
    assert set(takes["cotangents"].loss) == set(LOSSES)


def test_a_function_may_offer_more_or_less() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return implementations.vectorised(x, h0, weights, config)

    rnn.offers = {"batched": (True, False), "strides": ("contiguous",), "dtypes": ["float64"]}  # type: ignore[attr-defined]

    scope = scope_of(as_subject(rnn))

    assert (scope.batched, scope.strides, scope.dtype) == ((True, False), ("contiguous",), ("float64",))
    assert set(scope.preparation) == {"new", "used"}
    assert scope.T == Scope().T


def test_whoever_offers_calls_without_a_batch_axis_is_given_none() -> None:
    (call,), _, _ = noted(RNNConfig(2, 3, 2, bidirectional=True, T=4, batched=False))
    (other,), _, case = noted(RNNConfig(2, 3, 2, T=4, hx=True, batched=False))

    assert (call["x"].shape, call["h0"].shape) == ((4, 2), (4, 3))
    assert not call["h0"].any()
    assert np.array_equal(other["h0"], case.arrays["hx"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CONFIG.replace(loss="both"), "no gradients: it does not take cotangents"),
        (CONFIG.replace(N=1, lengths=(4,)), "no packed sequences: it does not take lengths"),
        (DROPPING, "no dropout in training: it does not take masks"),
        (CONFIG.replace(autocast="bfloat16"), "autocast, grad modes and preparations of a module exist in torch only"),
        (
            CONFIG.replace(grad_mode="inference_mode"),
            "autocast, grad modes and preparations of a module exist in torch only",
        ),
        (
            CONFIG.replace(preparation="deepcopy"),
            "autocast, grad modes and preparations of a module exist in torch only",
        ),
    ],
)
def test_what_a_function_could_not_know_of_it_is_not_called_for(config: RNNConfig, words: str) -> None:
    called: list[bool] = []

    def rnn(x: Any, config: Any) -> Any:
        called.append(True)
        return x, x

    outcome = as_subject(rnn).run(draw(config, "normal", 0))

    assert (outcome.failure, outcome.message) == (Failure.UNSUPPORTED, words)
    assert called == []


@pytest.mark.parametrize("config", [DROPPING.replace(training=False), DROPPING.replace(num_layers=1)])
def test_who_takes_no_masks_still_does_dropout_where_nothing_is_dropped(config: RNNConfig) -> None:
    assert check_agreement(as_subject(implementations.vectorised), draw(config, "normal", 0)).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("wrt", "kept"),
    [
        ("all", ["x.grad", "hx.grad", "weight_ih_l0.grad", "weight_hh_l0.grad", "bias_ih_l0.grad", "bias_hh_l0.grad"]),
        ("inputs", ["x.grad", "hx.grad"]),
        ("weights", ["weight_ih_l0.grad", "weight_hh_l0.grad", "bias_ih_l0.grad", "bias_hh_l0.grad"]),
    ],
)
def test_gradients_that_are_not_asked_for_are_left_out_and_those_that_there_are_none_of_are_ignored(
    wrt: str, kept: list[str]
) -> None:
    def rnn(config: Any, cotangents: Any) -> Any:
        every = {name: np.zeros(spec.shape) for name, spec in config.replace(wrt="all", bias=True).gradients.items()}
        return np.zeros((4, 5, 3)), np.zeros((1, 5, 3)), {**every, "time": np.zeros(3)}

    outcome = as_subject(rnn).run(draw(CONFIG.replace(loss="both", wrt=wrt), "normal", 0))

    assert list(outcome.arrays) == ["output", "h_n", *kept]
    assert outcome.ignored == ("time",)
    # A bias's gradient is nothing odd where the config leaves the biases out.
    without = as_subject(rnn).run(draw(CONFIG.replace(loss="both", wrt=wrt, bias=False), "normal", 0))
    assert without.ignored == ("time",)
    assert set(WRT) == {"all", "inputs", "weights"}


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("lengths", [None, (1, 4, 2)])
def test_a_right_function_agrees_however_it_is_called(strides: str, lengths: tuple[int, ...] | None) -> None:
    config = RNNConfig(
        2, 3, 2, T=4, N=3, hx=True, loss="both", strides=strides, lengths=lengths, preparation="used", wrt="weights"
    )

    assert check_agreement(as_subject(doing()), draw(config, "normal", 0)).verdict is Verdict.AGREES
