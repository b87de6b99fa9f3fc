"""Tests of functions as subjects: the supported signatures, and what their results become."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from harness import Case, Failure, RNNConfig, Verdict, as_subject, check_agreement, draw, hunt
from harness.space.factor_table import LOSSES
from harness.subjects.function import FUNCTION_ARGUMENTS
from harness.subjects.protocol import SubjectUnavailable, Unsupported, backend_of, scope_of
from tests.implementations import vectorised

CASE = draw(RNNConfig(2, 3, T=4, N=5, hx=True), "normal", 0)
READ = draw(RNNConfig(2, 3, T=4, N=5, output_size=6), "normal", 0)
OUTPUT, H_N, READOUT = np.zeros((4, 5, 3)), np.zeros((1, 5, 3)), np.zeros((4, 5, 6))


def test_it_is_given_what_it_asks_for_by_name() -> None:
    seen: dict[str, Any] = {}

    def keyword_only(*, config: Any, x: Any, unrelated: int = 3) -> Any:
        seen.update(config=config, x=x, unrelated=unrelated)
        return OUTPUT, H_N

    def everything(**given: Any) -> Any:
        seen.update(given)
        return OUTPUT, H_N

    as_subject(keyword_only).run(CASE)
    assert seen["config"] == CASE.config
    assert np.array_equal(seen["x"], CASE.x)
    assert seen["unrelated"] == 3
    as_subject(everything).run(CASE)
    assert list(seen["weights"]) == list(CASE.weights)
    assert np.array_equal(seen["h0"], CASE.arrays["hx"])


def test_h0_is_zeros_where_no_hx_is_passed() -> None:
    outcome = as_subject(lambda h0: (h0, h0)).run(draw(RNNConfig(2, 3, num_layers=2, N=5), "normal", 0))

    assert np.array_equal(outcome.arrays["h_n"], np.zeros((2, 5, 3), np.float32))
    assert outcome.arrays["h_n"].dtype == np.float32


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda x, h0, weights, config, sizes: None,
        lambda inputs, state: None,
        lambda x, /, y: None,
        lambda h0, hx: None,  # one argument by two names
        lambda *things: None,
    ],
)
def test_a_signature_that_cannot_be_served_is_shown_the_right_one(function: Any) -> None:
    with pytest.raises(SubjectUnavailable, match=r"\nexpected def rnn\(x, h0, weights, config\)") as refused:
        as_subject(function)

    said = str(refused.value).splitlines()
    assert len(said) == 3
    assert all(name in said[-1] for name in FUNCTION_ARGUMENTS)


def test_x_may_have_any_name_before_the_states_and_nothing_else_may() -> None:
    def rnn(inputs: Any, hx: Any, weights: Any, config: Any) -> Any:
        return vectorised(inputs, hx, weights, config)

    subject = as_subject(rnn)
    assert subject.capabilities.takes == ("x", "h0", "weights", "config")
    assert check_agreement(subject, draw(RNNConfig(2, 3, T=3, N=2, hx=True))).verdict is Verdict.AGREES
    with pytest.raises(SubjectUnavailable, match="takes inputs, state, which are not passed"):
        as_subject(lambda inputs, state, weights, config: None)
    with pytest.raises(SubjectUnavailable, match="takes mask, which is not passed"):
        as_subject(lambda x, mask, weights, config: None)


def test_parameters_that_take_no_name_are_passed_by_their_names_or_in_the_documented_order() -> None:
    seen: list[Any] = []

    def note(*given: Any) -> Any:
        x, h0, weights, config = given
        seen.append((x.shape, h0.shape, sorted(weights), config))
        return OUTPUT, H_N

    functions: list[Any] = [
        lambda x, h0, weights, config, /: note(x, h0, weights, config),
        lambda frames, state, parameters, how, scale=1.0, /: note(frames, state, parameters, how),
        lambda config, x, /, h0, *, weights: note(x, h0, weights, config),
        lambda input, config, weights, hx: note(input, hx, weights, config),  # noqa: A006 - nn.RNN's own name
        lambda weights, hx, x, *, config: note(x, hx, weights, config),
    ]
    for function in functions:
        assert as_subject(function).run(CASE).failure is None

    assert seen == [(CASE.x.shape, H_N.shape, sorted(CASE.weights), CASE.config)] * len(functions)


@pytest.mark.parametrize("function", [lambda frames, state, /: None, lambda h0, x, parameters, config, /: None])
def test_other_parameters_that_take_no_name_are_told_with_what_is_expected(function: Any) -> None:
    with pytest.raises(
        SubjectUnavailable, match=r"by position only: expected x, h0, weights, config, in this order, or the"
    ):
        as_subject(function)


def test_results_get_their_names_by_their_number() -> None:
    assert list(as_subject(lambda x: (OUTPUT, H_N)).run(CASE).arrays) == ["output", "h_n"]
    assert list(as_subject(lambda x: [OUTPUT, H_N]).run(CASE).arrays) == ["output", "h_n"]
    assert list(as_subject(lambda x: (READOUT, H_N)).run(READ).arrays) == ["readout", "h_n"]
    assert list(as_subject(lambda x: READOUT).run(READ).arrays) == ["readout"]
    assert list(as_subject(lambda x: (OUTPUT, H_N, READOUT)).run(READ).arrays) == ["output", "h_n", "readout"]


def test_tensors_are_taken_for_arrays() -> None:
    import torch

    outcome = as_subject(lambda x: (torch.zeros(4, 5, 3, requires_grad=True), torch.zeros(1, 5, 3))).run(CASE)

    assert outcome.arrays["output"].dtype == np.float32


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, r"returned None, expected \(output, h_n\)"),
        (OUTPUT, r"returned an ndarray, expected \(output, h_n\)"),
        ((OUTPUT,), r"returned 1 things"),
        ((OUTPUT, H_N, READOUT), r"returned 3 things"),
        ((OUTPUT, None), "returned None for h_n, expected an array"),
        ((OUTPUT.tolist(), H_N), "returned a list for output, expected an array"),
        ((np.array([object()]), H_N), "returned an array of object for output"),
        ({"output": OUTPUT}, "returned a dict"),
    ],
)
def test_what_is_no_answer_is_malformed(returned: Any, words: str) -> None:
    outcome = as_subject(lambda x: returned).run(CASE)

    assert outcome.failure is Failure.MALFORMED
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(outcome.message)


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), RecursionError("deep")])
def test_what_it_raises_is_its_outcome(error: BaseException) -> None:
    def rnn(x: Any) -> Any:
        raise error

    outcome = as_subject(rnn).run(CASE)

    assert outcome.failure is Failure.RAISED
    assert outcome.message.startswith(type(error).__name__)
    assert "in rnn" in outcome.traceback
    assert "harness/subjects" not in outcome.traceback


def test_a_message_without_end_is_cut_before_it_is_copied() -> None:
    error = ValueError("z" * 10**7)

    def rnn(x: Any) -> Any:
        raise error

    tracemalloc.start()
    try:
        outcome = as_subject(rnn).run(CASE)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()

    assert outcome.message.startswith("ValueError: zzz")
    assert "in rnn" in outcome.traceback
    assert outcome.traceback.endswith("zzz\n")


@pytest.mark.parametrize("error", [NotImplementedError("only tanh"), Unsupported("only tanh")])
def test_not_implemented_means_unsupported(error: Exception) -> None:
    def rnn(x: Any) -> Any:
        raise error

    outcome = as_subject(rnn).run(CASE)

    assert (outcome.failure, outcome.message) == (Failure.UNSUPPORTED, "only tanh")


def test_a_keyboard_interrupt_is_the_user_s_and_goes_through() -> None:
    def rnn(x: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_subject(rnn).run(CASE)


def test_writing_into_what_was_lent_is_seen_and_harms_nothing() -> None:
    def rnn(x: Any, weights: Any) -> Any:
        x[0, 0, 0] = 7
        weights["bias_hh_l0"] += 1
        return OUTPUT, H_N

    before = CASE.id
    outcome = as_subject(rnn).run(CASE)

    assert outcome.changed_inputs == ("x", "bias_hh_l0")
    assert CASE.id == before


LOST = draw(RNNConfig(2, 3, T=4, N=5, hx=True, loss="both"), "normal", 0)


def gradients_of(case: Case) -> dict[str, Any]:
    return {name: np.zeros(spec.shape, case.config.dtype) for name, spec in case.config.gradients.items()}


def test_who_takes_cotangents_offers_every_loss_and_is_given_them_by_name() -> None:
    seen: dict[str, Any] = {}

    def rnn(cotangents: Any) -> Any:
        seen.update(cotangents)
        return OUTPUT, H_N, gradients_of(LOST)

    mine = as_subject(rnn)

    assert scope_of(mine).loss == LOSSES
    assert list(mine.run(LOST).arrays) == ["output", "h_n", *LOST.config.gradients]
    assert all(np.array_equal(seen[name], LOST.cotangents[name]) for name in LOST.config.cotangents)
    assert scope_of(as_subject(lambda x: None)).loss == (None,)
    assert scope_of(as_subject(lambda **given: None)).loss == (None,)


def test_who_takes_none_does_no_gradients() -> None:
    outcome = as_subject(lambda x: (OUTPUT, H_N)).run(LOST)

    assert (outcome.failure, outcome.message) == (Failure.UNSUPPORTED, "no gradients: it does not take cotangents")


def test_without_a_loss_there_are_no_cotangents_and_gradients_are_dropped() -> None:
    seen: list[Any] = []

    def rnn(cotangents: Any) -> Any:
        seen.append(dict(cotangents))
        return OUTPUT, H_N, {"x": OUTPUT}

    assert list(as_subject(rnn).run(CASE).arrays) == ["output", "h_n"]
    assert seen == [{}]


def test_gradients_are_named_after_what_they_belong_to_with_or_without_the_ending() -> None:
    bare = {name.removesuffix(".grad"): array for name, array in gradients_of(LOST).items()}

    for returned in (bare, gradients_of(LOST)):
        arrays = as_subject(lambda cotangents, given=returned: (OUTPUT, H_N, given)).run(LOST).arrays
        assert list(arrays)[2:] == list(LOST.config.gradients)


def test_a_readout_alone_may_come_with_gradients() -> None:
    case = draw(READ.config.replace(loss="output"), "normal", 0)

    arrays = as_subject(lambda cotangents: (READOUT, gradients_of(case))).run(case).arrays

    assert list(arrays) == ["readout", *case.config.gradients]


@pytest.mark.parametrize(
    ("gradients", "words"),
    [({"x": None}, "returned None for x.grad, expected an array"), ({"x": [1.0]}, "returned a list for x")],
)
def test_a_gradient_that_is_no_array_is_malformed(gradients: Any, words: str) -> None:
    outcome = as_subject(lambda cotangents: (OUTPUT, H_N, gradients)).run(LOST)

    assert outcome.failure is Failure.MALFORMED
    assert words in outcome.message


def test_cotangents_are_lent_like_everything_else() -> None:
    def rnn(cotangents: Any) -> Any:
        cotangents["h_n.grad"][...] = 0
        return OUTPUT, H_N, gradients_of(LOST)

    assert as_subject(rnn).run(LOST).changed_inputs == ("h_n.grad",)


def test_bfloat16_tensors_are_taken_for_arrays() -> None:
    import torch

    case = draw(CASE.config.replace(dtype="bfloat16"), "normal", 0)
    values = torch.arange(60, dtype=torch.bfloat16).reshape(4, 5, 3) / 7

    outcome = as_subject(lambda x: (values, values[:1])).run(case)

    assert outcome.arrays["output"].dtype == np.dtype("bfloat16")
    assert np.array_equal(outcome.arrays["output"].astype(np.float32), values.float().numpy())


def test_of_a_function_s_arithmetic_nothing_is_known() -> None:
    assert backend_of(as_subject(lambda x: None), CASE.config) is None


def test_a_function_that_draws_masks_of_its_own_is_called_in_training() -> None:
    def rnn(x: Any) -> Any:
        return OUTPUT, H_N

    dropping = draw(CASE.config.replace(num_layers=2, dropout=0.5, training=True))
    assert as_subject(rnn).run(dropping).failure is Failure.UNSUPPORTED

    rnn.offers = {"masks": False}  # type: ignore[attr-defined]
    assert as_subject(rnn).run(dropping).failure is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [("gru", "GRU"), ("my_GRU_np", "GRU"), ("lstm_2", "LSTM"), ("gruff", "RNN"), ("gru_to_lstm", "RNN")],
)
def test_a_function_is_compared_with_the_layer_that_its_name_has_as_a_word(name: str, layer: str) -> None:
    def function(x: Any, weights: Any) -> Any: ...

    function.__name__ = name
    named = as_subject(function, "mine")
    function.conventions = {}  # type: ignore[attr-defined]

    assert named.capabilities.conventions.cell == layer
    assert as_subject(function, "mine").capabilities.conventions.cell == "RNN"


def of_lengths(X: Any, Wx: Any, Wh: Any, b: Any, h0: Any = None, seq_lens: Any = None, *, last: bool = False) -> Any:
    h, states = np.zeros((X.shape[0], Wh.shape[0]), X.dtype) if h0 is None else h0, []
    for t in range(X.shape[1]):
        new = np.tanh(X[:, t] @ Wx + h @ Wh + b)
        h = new if seq_lens is None or last else np.where((t < seq_lens)[:, None], new, h)
        states.append(h)
    return np.stack(states, 1), h


def without_lengths(X: Any, Wx: Any, Wh: Any, b: Any, h0: Any = None, seq_lens: Any = None) -> Any:
    return of_lengths(X, Wx, Wh, b, h0, seq_lens, last=True)


def masked(x: Any, h0: Any, W_ih: Any, masked_W_hh: Any, silent_b: Any) -> Any:
    return of_lengths(x, W_ih, masked_W_hh, silent_b, h0)


def test_a_weight_whose_name_has_letters_of_mask_or_len_is_a_weight() -> None:
    assert "silent_b as bias_ih + bias_hh" in as_subject(masked).capabilities.read_as


def test_lengths_are_given_to_a_function_with_arguments_of_its_own_and_else_that_is_said() -> None:
    right, wrong = as_subject(of_lengths), as_subject(without_lengths)

    assert right.capabilities.offers["lengths"][3:] == ("equal", "falling", "any")
    assert "seq_lens is given lengths" in right.capabilities.read_as
    assert "seq_lens is never given" in wrong.capabilities.read_as
    assert hunt(right, cases=60).verdict is Verdict.AGREES


def needing(emb: Any, seq_lens: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    return of_lengths(emb, Wx, Wh, b, seq_lens=seq_lens + 0)


def needing_a_mask(x: Any, mask: Any, params: Any) -> Any:
    h, states = np.zeros((x.shape[0], len(params["Wh"])), x.dtype), []
    for t in range(x.shape[1]):
        inside = mask[:, t, None]
        h = inside * np.tanh(x[:, t] @ params["Wx"] + h @ params["Wh"] + params["b"]) + (1 - inside) * h
        states.append(h)
    return np.stack(states, 1), h


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (needing, "seq_lens is always given lengths"),
        (needing_a_mask, "mask is always given a mask (N, T), 1.0 where a step counts"),
    ],
)
def test_lengths_are_given_to_a_function_that_has_no_default_for_them(function: Any, said: str) -> None:
    subject = as_subject(function)

    assert said in subject.capabilities.read_as
    for lengths in (None, (2, 4)):
        case = draw(RNNConfig(4, 3, T=4, N=2, batch_first=True, bias=True, lengths=lengths), "normal", 1)
        assert check_agreement(subject, case).verdict is Verdict.AGREES


def test_a_function_is_refused_whose_lengths_shorten_nothing() -> None:
    def rnn(X: Any, seq_lens: Any, Wx: Any, Wh: Any) -> Any:
        return of_lengths(X, Wx, Wh, 0, seq_lens=seq_lens, last=True)

    with pytest.raises(SubjectUnavailable, match="seq_lens has no default, and neither lengths"):
        as_subject(rnn)
