"""Tests of what a layer does with its steps: which are computed, where the state stays, what is returned of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, as_subject, draw
from harness.diagnosis.identify.cause import identified_of
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.observation_cache import ObservationCache
from tests.diagnosis.identify.by_hand import FORWARD, Stack, said_of, sum_of

ONE = RNNConfig(1, 1, T=9, N=1)


def states(
    x: Any, h: Any, w: Any, config: Any, skips: Any = None, b_hh: bool = True, of_h: Any = lambda _t, h: h
) -> list[Any]:
    """Return hx and the state after each step; ``skips`` says of a step what its state is, if it is not computed.

    A step reads ``of_h`` of the state before.
    """
    found = [h]
    for t, x_t in enumerate(x):
        new = np.tanh(sum_of(x_t, of_h(t, h), w, config, b_hh=b_hh))
        h = new if skips is None else skips(t, x_t, h, new)
        found.append(h)
    return found


def blank(x_t: Any) -> Any:
    return (x_t == 0).all(1, keepdims=True)


def keeps(_t: int, x_t: Any, old: Any, new: Any) -> Any:
    return np.where(blank(x_t), old, new)


def anew(x: Any, h: Any, w: Any, config: Any, k: int) -> list[Any]:
    found = [h]
    for start in range(0, len(x), k):
        found += states(x[start : start + k], found[-1] if start == 0 else 0 * h, w, config)[1:]
    return found


def silent(x: Any, h: Any, w: Any, config: Any) -> Any:
    every = states(x, h, w, config, keeps)
    return [~blank(x_t) * h for x_t, h in zip(x, every[1:], strict=True)], every[-1]


LAYERS: dict[str, tuple[Callable[..., Any], str]] = {
    "late": (
        lambda *a: ((h := states(*a))[:-1], h[-1]),
        "returns the state before each step as its output, not the one after it",
    ),
    "last": (
        lambda *a: ([0 * (h := states(*a))[0]] * (len(h) - 2) + h[-1:], h[-1]),
        "writes its output at the last step only: elsewhere it is 0",
    ),
    "ring": (
        lambda x, *a: ((h := states(x, *a)[1:]) and [h[max(t, len(x) - 3)] for t in range(len(x))], h[-1]),
        "returns h[max(t, T-3)] as the output of step t, not h[t]",
    ),
    "buffers": (
        lambda x, *a: (
            (h := states(x, *a)[1:]) and [h[len(x) - 1 - (len(x) - 1 - t) % 3] for t in range(len(x))],
            h[-1],
        ),
        "returns h[T-1-(T-1-t)%3] as the output of step t, not h[t]: 3 buffers take turns",
    ),
    "squashed": (lambda *a: (np.tanh((h := states(*a))[1:]), h[-1]), "applies tanh to its output once more"),
    "short": (
        lambda x, h, w, c: ([*(o := states(x[:-1], h, w, c))[1:], 0 * h], o[-1]),
        "leaves out the last step: the state stays there, and the output is 0",
    ),
    "blocks": (lambda x, h, w, c: ((h := anew(x, h, w, c, 3))[1:], h[-1]), "starts anew from zeros every 3 steps"),
    "padding": (
        lambda x, h, w, c: ((h := states(x, h, w, c, keeps))[1:], h[-1]),
        "skips a step at which x is all zeros: its state stays",
    ),
    "silent": (silent, "skips a step at which x is all zeros: its state stays, and its output is 0"),
}


def ported(layer: Callable[..., Any]) -> Any:
    """Return a subject of a function of x, a state, the parameters and the config."""

    def port(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = layer(x, h0[0], weights, config)
        return np.stack(list(output)), h_n[None]

    return port


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_done_at_each_step_is_found(name: str) -> None:
    layer, sentence = LAYERS[name]

    found, said = said_of(ported(layer), FORWARD)

    assert said == [sentence]
    assert found.whole


def test_a_wrong_sum_is_found_beside_an_output_that_is_late() -> None:
    found, said = said_of(
        ported(lambda x, h, w, c: ((every := states(x, h, w, c, b_hh=False))[:-1], every[-1])), FORWARD
    )

    assert len(said) == 2
    assert found.whole


@pytest.mark.parametrize("sizes", [{}, {"hidden_size": 1}, {"hidden_size": 1, "input_size": 1}], ids=str)
def test_a_layer_that_takes_one_step_alone_is_asked_about_that_step(sizes: dict[str, int]) -> None:
    def stepped(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        h = np.maximum(sum_of(x[0], h0[0], weights, config, b_hh=0), 0)
        return h[None], h[None]

    _, said = said_of(stepped, FORWARD.only(T=1, **sizes))

    assert said[0] == "ignores bias_hh: b_hh is never added"


FACTORS: dict[str, Callable[[int, int], float]] = {
    "(h[t-1] @ W_hh.T) * 0.9**t": lambda t, T: 0.9**t,
    "(h[t-1] @ W_hh.T) * (1 - 0.5 * t / max(1, T - 1))": lambda t, T: 1 - t / max(1, T - 1) / 2,
    "(h[t-1] @ W_hh.T) * (1 + 0.125 * t)": lambda t, T: 1 + t / 8,
    "(h[t-1] @ W_hh.T if t < T - T % 3 else 0)": lambda t, T: t < T // 3 * 3,
    "(h[t-1] @ W_hh.T if t >= T - T % 3 else 0)": lambda t, T: t >= T // 3 * 3,
}


@pytest.mark.parametrize("term", FACTORS)
def test_a_factor_that_changes_from_step_to_step_is_found(term: str) -> None:
    def changing(x: Any, h: Any, weights: Any, config: Any) -> Any:
        every = states(x, h, weights, config, of_h=lambda t, h: FACTORS[term](t, len(x)) * h)[1:]
        return every, every[-1]

    found, _ = said_of(ported(changing), FORWARD)

    [mistake] = mistakes_of(found.network, "tanh")
    assert term in mistake.yours
    assert found.whole


def cut(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return what three mistakes at once make: W_hh, a limit of the sum, and the state before the last step as h_n."""
    history = [h0[0]]
    for x_t in x:
        turned = weights | {"weight_hh_l0": weights["weight_hh_l0"].T}
        history.append(np.tanh(np.clip(sum_of(x_t, history[-1], turned, config), -3, 3)))
    return np.stack(history[1:]), history[-2][None]


def test_of_two_forms_that_small_numbers_do_not_tell_apart_large_ones_decide() -> None:
    found, said = said_of(cut, FORWARD)

    assert said == [
        "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T",
        "applies np.tanh(np.clip(s, -3, 3)), not tanh",
        "returns h[T-2] as h_n, not the state after the last step",
    ]
    assert found.whole


def reading(x_of: Callable[[int, int], int], h_of: Callable[[int, int], int]) -> Any:
    """Return a layer each step of which reads x, and the state before, of other steps than its own."""

    def port(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        found = [h0[0]]
        for t in range(len(x)):
            found += states(x[x_of(t, len(x))][None], found[h_of(t, len(x))], weights, config)[1:]
        return np.stack(found[1:]), found[-1][None]

    return port


def own(t: int, _T: int) -> int:
    return t


@pytest.mark.parametrize(
    ("x_of", "h_of", "terms"),
    [
        (lambda t, _: t % 3, own, ["x[t % 3] @ W_ih.T"]),
        (own, lambda t, _: t // 4 * 4, ["h[t // 4 * 4 - 1] @ W_hh.T"]),
        (lambda t, T: min(2 * t, T - 1), own, ["x[min(2 * t, T - 1)] @ W_ih.T"]),
        (
            lambda t, _: min(t, 4),
            lambda t, _: max(t - 3, 0),
            ["x[min(t, 4)] @ W_ih.T", "h[max(t - 3, 0) - 1] @ W_hh.T"],
        ),
        (
            lambda t, T: t if t < T // 5 * 5 else t % 5,
            own,
            ["x[t] @ W_ih.T [at the steps of full blocks of 5 only] + x[t % 5] @ W_ih.T"],
        ),
    ],
)
def test_what_a_step_reads_of_other_steps_is_found(x_of: Any, h_of: Any, terms: list[str]) -> None:
    _, said = said_of(reading(x_of, h_of), FORWARD, ONE)

    assert [sentence.startswith(f"takes {term}") for sentence, term in zip(said, terms, strict=True)] == [True] * len(
        terms
    )


def test_what_a_block_of_many_steps_does_is_found_from_a_case_that_is_as_long() -> None:
    blocks = reading(own, lambda t, _: t - (t > 0 and t % 20 == 0))

    _, [said] = said_of(blocks, FORWARD, ONE.replace(T=21), longest=21)

    assert "h[t-2] @ W_hh.T [at every 20th step after the first only]" in said


def test_a_step_that_reads_others_by_no_known_index_is_not_known() -> None:
    subject = as_subject(reading(lambda t, T: min(max(t, 2), T - 1), own))

    assert identified_of(ObservationCache(subject), FORWARD, draw(ONE, "normal", 1)) is None


class Windows(Stack):
    """A layer whose way back is cut into windows from the end; hx is not in the last one."""

    size = T = 0

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)

    def forward(self, x: Any, hx: Any = None) -> Any:
        self.T = len(x)
        return super().forward(x, hx)

    def carried(self, t: int, h: Any) -> Any:
        return h.detach() if (self.T - t) % self.size == 0 else h


@pytest.mark.parametrize("size", [8, 40])
def test_a_way_back_is_cut_into_windows_of_any_length(size: int) -> None:
    config = RNNConfig(1, 1, T=size + 1, N=1, loss="output")

    found, said = said_of(type("OfSize", (Windows,), {"size": size}), {}, config, longest=config.T)

    assert said == [f"cuts the way back every {size} steps, counted from the end"]
    assert found.whole
