"""Tests of identification: several mistakes at once are found, and nothing is said of what is right."""

import time
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.composed import ONLY, drawn, identified, subject_of
from benchmarks.layers import fourth_ports, third_back, third_numpy, third_torch
from harness import Case, RNNConfig, as_subject, conventions, draw
from harness.checks.agreement import assess, observe
from harness.checks.relation_check import check_relation
from harness.checks.relations import RELATIONS
from harness.diagnosis.identify.activations import ACTIVATIONS, Activation
from harness.diagnosis.identify.cause import answers_of, cause_of, identified_of, reproduced, seen_of
from harness.diagnosis.identify.inquiry import explains, states_of
from harness.diagnosis.identify.layer import FINAL_STATES
from harness.diagnosis.identify.model import Coef, GradientClip, LayerModel, Network, WeightedTerms, in_order
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Asker, CaseSizes, Response, SubjectTooSlow, rounding_of
from harness.diagnosis.identify.recurrence import step_lines
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.identify.terms import OVER_TIME
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.protocol import scope_of
from tests import implementations
from tests.diagnosis.identify.by_hand import FORWARD, ROLES, SCOPE, Stack, of_steps, said_of, sum_of
from tests.long import few

NO_B_HH = "ignores bias_hh: b_hh is never added"


@conventions(last_output_only=True)
def first_step(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return within the loop."""
    return np.tanh(sum_of(x[0], h0[0], weights, config))


@conventions(last_output_only=True)
def at_the_last_step(x: Any, h0: Any, weights: Any, config: Any, lengths: Any = None) -> Any:
    """Return the output at each sequence's last step, where the reverse direction has made one step only."""
    ends = [len(x)] * x.shape[1] if lengths is None else lengths
    pieces = ((x[:T, n : n + 1], h0[:, n : n + 1]) for n, T in enumerate(ends))
    return np.concatenate([implementations.vectorised(*piece, weights, config)[0][-1] for piece in pieces])


STACK: dict[str, Any] = {"num_layers": 1, "nonlinearity": "tanh", "batch_first": False, "loss": None}
GRADIENTS = RNNConfig(1, 1, T=2, N=1, loss="output")


@pytest.mark.parametrize(
    ("layer", "scope", "config", "sentence"),
    [
        (first_step, ONLY | {"dropout": 0}, None, "returns h[0] as h_n, not the state after the last step"),
        (  # what is not returned is not said to be wrong
            at_the_last_step,
            STACK,
            RNNConfig(3, 2, bidirectional=True, T=4, N=3, lengths=(2, 4, 1), hx=True),
            "returns the output at step lengths[n] - 1 as h_n, not the state after the last step",
        ),
        (  # though three mistakes would give the same numbers
            of_steps(
                lambda _t, x_t, h, _s, w: (
                    np.tanh(x_t @ w["weight_ih"].T + w["bias_ih"]) + h @ w["weight_hh"].T + w["bias_hh"]
                )
            ),
            FORWARD,
            None,
            "adds h[t-1] @ W_hh.T + b_hh to its activation, not to the sum of its step",
        ),
        (
            implementations.step_by_step(below="before", returned="after"),
            {},
            RNNConfig(1, 1, num_layers=2, nonlinearity="relu"),
            "takes h_below[t-1] @ W_ih.T in its step, not x[t] @ W_ih.T, in the layers above the first",
        ),
        (  # of one step alone
            subject_of(replace(LayerModel(), step_limit=("da", GradientClip("elements", 0.5)))),
            ONLY | {"T": 1},
            None,
            "clips da to ±0.5 at each step of the way back",
        ),
        # gradients that a narrow layer gives right
        (
            third_back.two_readers,
            {},
            GRADIENTS.replace(bidirectional=True),
            "gives x, and the layers below, no gradient from the reverse direction",
        ),
        (
            third_back.same_order,
            {},
            GRADIENTS.replace(bidirectional=True),
            "takes the gradient of the output in the order of time, not in that of its own steps",
        ),
        (
            third_back.tiles_back,
            {},
            GRADIENTS,
            "multiplies the gradient by weight_hh by np.kron(np.eye(H), np.ones((16, 16)))",
        ),
        (
            fourth_ports.p18,
            {},
            GRADIENTS.replace(num_layers=2),
            "takes 1 - x[t]**2 for the slope of tanh, not 1 - h[t]**2",
        ),
    ],
)
def test_a_mistake_is_named_and_nothing_else(layer: Any, scope: Any, config: RNNConfig | None, sentence: str) -> None:
    found, said = said_of(layer, scope, config, nonlinearity=config.nonlinearity if config else "tanh")

    assert [one.startswith(sentence) for one in said] == [True]
    assert found.whole


PASSED = {"x": (("dh[t] @ W_ih", Coef()),)}


def in_step(**terms: tuple[str, Coef]) -> WeightedTerms:
    """Return nn.RNN's sum of a step with other terms in the place of those of x, h and the biases."""
    return tuple(
        terms.get(part, (name, coef))
        for part, (name, coef) in zip(("x", "b", "h", "c"), LayerModel().step, strict=True)
    )


@pytest.mark.parametrize(
    "network",
    [
        *(Network(drawn(Random(f"0/{seed}"))[0]) for seed in (6, 27, 36, 41)),
        *few(
            [
                # a clip at each step shows in the gradients that are not clipped themselves, and those in large weights
                LayerModel(
                    step_limit=("dh", GradientClip("elements", 5.0)),
                    limits=dict.fromkeys(ROLES, GradientClip("elements", 1.0)),
                ),
                LayerModel(
                    step_limit=("da", GradientClip("elements", 1.0)), limits={"hx": GradientClip("elements", 0.5)}
                ),
                # gradients may be the derivative of a wrong way forward, and clipped
                LayerModel(written="h[min(t, 1)]", limits={"x": GradientClip("elements", 5.0)}),
                # states that the output does not show, and a matrix that is read otherwise; or either of two shows
                LayerModel(shown=TermSteps("last", 1), step=in_step(x=("x[t] @ W_ih[:, ::-1].T", Coef()))),
                LayerModel(shown=TermSteps("from", 1), final="h[0]"),
                # the last step differs from all others in two ways
                LayerModel(sloped=TermSteps("but last", 1), at="t-1"),
                LayerModel(sloped=TermSteps("last", 1), counted=TermSteps("but last", 1)),
                # what is 0 in long sequences, or in short ones
                LayerModel(
                    step=in_step(h=("h[t-1] @ W_hh.T", Coef(when=TermSteps("but block", 2)))),
                    written="h[max(t, T-5)]",
                    passes=TermSteps("but every from the end", 3),
                ),
                LayerModel(passes=TermSteps("but every", 2), gradient_sums={"bias_ih": (("dh[t].sum(0)", Coef()),)}),
                LayerModel(activation=Activation("softshrink", (0.5,)), step=(in_step()[0], *in_step()[2:])),
                # the words are those of the one mistake
                LayerModel(written="s[t]"),
                LayerModel(inside=2.0, step=in_step(c=("b_hh", Coef(2.0)))),
                LayerModel(step=in_step(h=("h[t-1] @ np.triu(W_hh).T", Coef()))),
            ],
            3,
        ),
        *few(
            [
                # each layer and direction is looked at for itself: its activation, and its way back
                Network(above=LayerModel(activation=Activation("softshrink", (0.5,)))),
                Network(LayerModel(passes=TermSteps("but every", 2)), above=LayerModel()),
                Network(reverse=LayerModel(slope=(("h", 1.0), ("h**2", -1.0)))),
                Network(LayerModel(gradient_sums=PASSED), reverse=LayerModel(gradient_sums=PASSED, links=())),
            ],
            2,
        ),
    ],
    ids=range(21),
)
def test_mistakes_at_once_are_named_each_for_itself(network: Network | LayerModel) -> None:
    network = network if isinstance(network, Network) else Network(network)

    found = identified(network, "layers" if network.above else "directions" if network.reverse else "")

    assert found.whole
    assert sorted(m.sentence for m in mistakes_of(found.network, "tanh")) == sorted(
        m.sentence for m in mistakes_of(network, "tanh")
    )


def test_a_right_layer_has_no_mistake() -> None:
    found, said = said_of("torch", SCOPE.only(loss=("output", "h_n", "both", None)))

    assert (said, found.whole) == ([], True)
    assert found.fresh > 10


class LosesBHh(torch.nn.RNNCell):
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - torch's own name
        return torch.tanh(input @ self.weight_ih.T + self.bias_ih + hx @ self.weight_hh.T + 0 * self.bias_hh)


class DetachedWithoutBHh(Stack):
    """Layers of that cell, which pass no gradient from step to step."""

    cell = LosesBHh

    def carried(self, _t: int, h: Any) -> Any:
        return h.detach()


def test_gradients_that_autograd_takes_of_a_wrong_step_are_no_mistakes_of_their_own() -> None:
    found, said = said_of(DetachedWithoutBHh, {"num_layers": 1})

    assert said == [NO_B_HH, "passes no gradient from a step to the one before it"]
    assert found.network.derived


# A layer without b_hh, which returns the first state for the last one.
no_bias_hh = of_steps(lambda _t, _x, _h, s, _w: np.tanh(s), b_hh=0.0, final=0)


def test_the_cause_of_a_failing_case_is_what_shows_on_it() -> None:
    subject, scope = as_subject(no_bias_hh), FORWARD
    one = observe(subject, draw(RNNConfig(1, 1, T=1, bias=True), "normal", 0))
    other = observe(subject, draw(RNNConfig(1, 1, T=2, bias=False, hx=True), "normal", 0))
    found = identified_of(ObservationCache(subject), scope, one.case)
    assert found is not None

    first = cause_of(found, answers_of(one, assess(one)), assess(one), [])
    assert first is not None
    assert first.sentence == NO_B_HH
    assert first.explains(subject, one, assess(one))
    assert not first.explains(subject, other, assess(other))  # it shows the other mistake

    second = cause_of(found, answers_of(other, assess(other)), assess(other), first.new)
    assert second is not None
    assert second.sentence == "returns h[0] as h_n, not the state after the last step"


def test_a_cause_explains_gradients_whose_bounds_are_beyond_all_differences() -> None:
    model = replace(LayerModel(), slope=(("1", 1.0), ("s**2", -1.0)))
    config = RNNConfig(1, 65, T=32, N=1, dtype="float64", loss="output")
    observation = observe(as_subject(subject_of(model)), draw(config, "normal", 0))

    result = assess(observation)

    assert result.failed
    assert reproduced(identified(model), answers_of(observation, result), result)


def test_a_mistake_is_the_same_one_wherever_it_is_made_and_is_placed_by_whoever_saw_most() -> None:
    wrong = replace(LayerModel(), step=tuple(one for one in LayerModel().step if one[0] != "b_hh"))
    late = replace(wrong, step=(("h_below[t-1] @ W_ih.T", Coef()), *wrong.step[1:]))
    sentence = NO_B_HH
    [alone] = mistakes_of(Network(wrong), "tanh")

    said = mistakes_of(Network(wrong, above=late), "tanh")
    [below] = mistakes_of(Network(wrong, above=LayerModel()), "tanh")
    [reverse] = mistakes_of(Network(reverse=wrong), "tanh")

    assert [m.sentence for m in said] == [
        sentence,
        "takes h_below[t-1] @ W_ih.T in its step, not x[t] @ W_ih.T, in the layers above the first",
    ]
    assert alone == said[0] == below == reverse
    assert alone.placed_as(below).sentence == f"{sentence}, in the first layer"
    assert reverse.sentence == f"{sentence}, in the reverse direction"


def step_with(changes: dict[str, Any]) -> LayerModel:
    """Return a layer of which some terms of the step are others, or left out."""
    step = ((changes.get(name, name), coef) for name, coef in LayerModel().step)
    return LayerModel(step=tuple((name, coef) for name, coef in step if name))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            Network(
                above=step_with({"x[t] @ W_ih.T": "x[t] @ W_ih_below.T"}), reverse=step_with({"b_hh": "b_hh_beside"})
            ),
            {"takes W_ih of the layer below, not its own", "takes b_hh of the other direction, not its own"},
        ),
        (Network(step_with({"b_ih": "", "b_hh": ""})), {"ignores both biases: neither is ever added"}),
    ],
)
def test_what_is_one_mistake_is_said_once_and_mended_at_once(network: Network, said: set[str]) -> None:
    mistakes = mistakes_of(network, "tanh")

    assert {mistake.what for mistake in mistakes} == said
    for mistake in mistakes:
        network = mistake.without(network)
    assert mistakes_of(network, "tanh") == []


def test_the_slope_of_the_activation_that_is_applied_is_no_mistake_of_its_own() -> None:
    tanh = ACTIVATIONS["tanh"]
    network = Network(LayerModel(activation=tanh, slope=(("1", 1.0), ("h**2", -1.0))))

    [mistake] = mistakes_of(network, "relu")

    assert mistake.sentence == "applies tanh, not relu"
    assert mistakes_of(mistake.without(network), "relu") == []
    assert len(mistakes_of(Network(LayerModel(activation=tanh, slope=(("1", 1.0),))), "relu")) == 2
    total = "x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh"
    assert step_lines("first", "s[t] = ...", "", network, "relu") == (f"h = tanh({total})", f"h = relu({total})")


class Detached(Stack):
    """A tanh layer that ignores hx and passes no gradient from step to step."""

    def carried(self, t: int, h: Any) -> Any:
        return h.detach() if t else torch.zeros_like(h)


def test_a_cause_explains_a_relation_that_breaks_where_the_case_itself_is_right() -> None:
    subject, case = as_subject(implementations.zero_start), draw(RNNConfig(1, 1, T=2, N=1), "normal", 0)
    observation = observe(subject, case)
    found = identified_of(ObservationCache(subject), scope_of(subject), case)
    broken = check_relation(subject, case, RELATIONS["time split"])
    assert found is not None
    assert broken is not None
    assert broken.failed
    assert not assess(observation).failed

    cause = cause_of(found, seen_of(subject, observation, broken), broken, [])

    assert cause is not None
    assert cause.sentence == "ignores hx: it starts at zeros"
    assert cause.explains(subject, observation, broken)


def test_a_layer_outside_of_all_sums_is_not_said_to_be_known() -> None:
    def odd(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return tuple(np.sort(array, axis=-1) for array in no_bias_hh(x, h0, weights, config))

    subject = as_subject(odd)

    assert identified_of(ObservationCache(subject), FORWARD, draw(RNNConfig(1, 1), "normal", 0)) is None


def test_a_subject_that_takes_long_is_not_asked_hundreds_of_questions() -> None:
    calls: list[None] = []

    def slow(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        calls.append(None)
        time.sleep(0.11)
        return no_bias_hh(x, h0, weights, config)

    subject = as_subject(slow)

    with pytest.raises(SubjectTooSlow):
        identified_of(ObservationCache(subject), FORWARD, draw(RNNConfig(1, 1), "normal", 0))
    assert len(calls) < 20


def coarse(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return tuple(array.astype(np.float16).astype(array.dtype) for array in (output, h_n))


@pytest.mark.parametrize(
    ("layer", "scope", "most"),
    [(coarse, FORWARD, 100), (implementations.without_b_hh, ONLY | {"dtype": "float16"}, 300)],
)
def test_where_all_is_rounded_little_is_asked_of_the_step(layer: Any, scope: Any, most: int) -> None:
    found, _ = said_of(layer, scope)

    assert "the step" in found.unknown
    assert found.questions < most  # a step that no sum explains is asked some 1,000


def test_an_unknown_gradient_leaves_a_proved_mistake_of_the_step_certain() -> None:
    model, _ = drawn(Random("0/5"))
    scaled = replace(model, step=((model.step[0][0], Coef(scale="np.sqrt(I)")), *model.step[1:]), limits={})
    right = subject_of(scaled)

    def odd(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        output, h_n, gradients = right(x, h0, weights, config, cotangents)
        return output, h_n, {n: np.abs(g) if n.startswith("bias") else g for n, g in gradients.items()}

    found, said = said_of(odd, ONLY | {"dtype": "float64"})

    assert set(found.unknown) == {"bias_ih", "bias_hh"}
    assert "takes (x[t] @ W_ih.T) / np.sqrt(I) in its step, not x[t] @ W_ih.T" in said
    assert not any("bias" in sentence for sentence in said)


def test_what_small_numbers_cannot_tell_is_not_said() -> None:
    clipped = as_subject(of_steps(lambda _t, _x, _h, s, _w: np.clip(s, -1, 1)))

    found = identified_of(ObservationCache(clipped), FORWARD, draw(RNNConfig(1, 1), "normal", 0))

    assert found is None or "clip" in mistakes_of(found.network, "tanh")[0].sentence


def test_a_sequence_without_a_batch_axis_is_asked_with_steps_whose_x_is_zero() -> None:
    asker = Asker(ObservationCache(as_subject("torch")), SCOPE.only(batched=False), "tanh")

    a = asker.ask(CaseSizes(4, 1, 3, 2), blank=True)

    assert a is not None
    assert [bool(x_t.any()) for x_t in a.case.x[:, 0]] == [True, False, False, True]


def test_a_gradient_that_follows_from_a_mistake_on_the_way_forward_is_none_of_its_own() -> None:
    late = Coef(when=TermSteps("from", 1))
    step = tuple((name, late if name == "b_hh" else coef) for name, coef in LayerModel().step)
    model = LayerModel(step=step, gradient_sums={"bias_hh": (("da[t].sum(0)", late),), "hx": ()})

    first, second = mistakes_of(Network(model), "tanh")

    assert first.what == "adds b_hh at all steps but the first"
    assert second.what == "returns 0 as the gradient by hx"
    assert mistakes_of(first.without(Network(model)), "tanh") == [second]


def test_a_gradient_inside_that_probes_show_is_of_the_mistake_that_makes_it() -> None:
    model = replace(LayerModel(), reached=TermSteps("last", 5))
    observation = observe(
        as_subject(third_back.few_steps), draw(RNNConfig(9, 127, T=16, N=1, loss="h_n"), "default", 1)
    )
    result = assess(observation)

    assert {mismatch.array for mismatch in result.mismatches} == {"preactivation.grad"}
    assert reproduced(identified(model), answers_of(observation, result), result)


def test_bounds_stay_small_in_long_cases_though_the_output_has_the_state_before_each_step() -> None:
    network = Network(LayerModel(written="h[t-1]"))
    case = draw(RNNConfig(1, 54, T=29, N=1), "normal", 0)
    arrays = as_subject(subject_of(network)).run(case).arrays
    a = Response(case, {name: np.asarray(array, np.float64) for name, array in arrays.items()})

    made = run(network, case, rounding_of("float32"), states_of(network, a))

    assert max(made[name].error.max() for name in ("output", "h_n")) < 1e-3
    assert explains(network, a, rounding_of("float32"))


def test_a_layer_that_returns_the_states_before_its_steps_may_end_a_step_early() -> None:
    model = LayerModel(written="h[t-1]", final="h[T-2]")
    found, _ = said_of(subject_of(model), {"loss": None})

    assert found.whole
    assert found.network.first == model


@pytest.mark.parametrize("final", FINAL_STATES)
def test_what_h_n_is_made_of_is_identified_from_a_program_that_makes_it(final: str) -> None:
    found, _ = said_of(subject_of(LayerModel(final=final)), {"loss": None})

    assert found.network.first.final == (
        "h[T-1]" if final == "output[T-1]" else final
    )  # which is the same where all is written


LAST = [0, 1]


@pytest.mark.parametrize(
    ("layer", "config", "arrays", "kind"),
    [
        # the gradient that a probe shows goes through the layer below
        (third_back.detached_stack, GRADIENTS.replace(num_layers=2, T=1), {"output.grad": [1]}, ""),
        # the last states are beyond the largest number
        (
            third_numpy.late_night,
            RNNConfig(1, 2, nonlinearity="relu", T=30, N=1),
            {"weight_hh_l0": [0, 16, 16, 16], "bias_ih_l0": [0, 1], "bias_hh_l0": [1, 0]},
            "",
        ),
        # the squares of the gradients are
        (
            third_back.safe_norm,
            GRADIENTS.replace(nonlinearity="relu", T=19),
            {"weight_hh_l0": [16], "weight_ih_l0": [1], "x": [1] * 19, "output.grad": [1] * 19},
            "",
        ),
        # most numbers tell little
        (Detached, GRADIENTS, {"x": LAST, "output.grad": LAST} | {f"{role}_l0": [1] for role in ROLES}, ""),
        # there is no sequence
        *((third_torch.UnreadBias, GRADIENTS.replace(nonlinearity=f, N=0), {}, "missing") for f in ("tanh", "relu")),
    ],
)
def test_a_cause_explains_what_is_out_of_range_or_inside(layer: Any, config: RNNConfig, arrays: Any, kind: str) -> None:
    zeros = {name: np.zeros(spec.shape, np.float32) for name, spec in config.given.items()}
    given = {n: np.array(values, np.float32).reshape(zeros[n].shape) for n, values in arrays.items()}
    subject = as_subject(layer)
    observation = observe(subject, Case.from_arrays(config, zeros | given))
    result = assess(observation)
    found = identified_of(ObservationCache(subject), scope_of(subject), observation.case)

    assert found is not None
    assert result.failed
    assert result.kind.endswith(kind)
    assert reproduced(found, answers_of(observation, result), result)


@pytest.mark.parametrize("name", OVER_TIME)
def test_a_sum_over_time_is_told_though_few_steps_make_it_up(name: str) -> None:
    model = LayerModel(step=in_order((*LayerModel().step, (name, Coef(-1.0)))))

    found = identified(model)

    assert found.whole
    [said] = [str(m) for m in mistakes_of(found.network, "tanh")]
    assert name in said  # at the first step, some are what nn.RNN's own term is
