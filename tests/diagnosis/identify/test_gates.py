"""What is wrong in a GRU or an LSTM is found by experiment, and said only where every number is reproduced."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import composed_gates
from benchmarks.composed import differing
from benchmarks.layers.gated_ports import MISTAKES, WAYS_BACK, one_gate, port, sigmoid, with_back
from harness import Case, LSTMConfig, Scope, Subject, as_subject, check_agreement
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.diagnosis.identify.activations import ACTIVATIONS, Activation
from harness.diagnosis.identify.autodiff import Var, backward
from harness.diagnosis.identify.ball import Ball
from harness.diagnosis.identify.cause import IdentifiedCause, identified_of
from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gated_layer_inquiry import identify_gated
from harness.diagnosis.identify.gates import SIGMOID, GatedModel, limited, right_of, step_of
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.model import Network
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.network_run import run
from harness.diagnosis.identify.questions import Asker, rounding_of
from harness.diagnosis.identify.step_patterns import TermSteps
from harness.diagnosis.observation_cache import ObservationCache
from harness.pipeline import check
from harness.search.search import hunt
from harness.space.config import RNNConfig
from harness.space.values import draw
from harness.subjects.protocol import scope_of
from tests.diagnosis.identify.by_hand import first_sentence
from tests.diagnosis.identify.gates_by_hand import lstm_of
from tests.long import few
from tests.searches import explained


def identified(subject: Subject, **factors: Any) -> Identification:
    scope = scope_of(subject)
    config = RNNConfig(2, 2, N=2, cell=scope.values()["cell"][0], **factors)
    return identify_gated(Asker(ObservationCache(subject), scope, "tanh"), config)


def said_of(found: Identification) -> list[str]:
    return [mistake.sentence for mistake in mistakes_of(found.network, "tanh")]


def changed(cell: str, letters: str, k: int, **fields: Any) -> GatedModel:
    """Return a model in which the k-th term of some gates is another; it is left out if its coefficient is 0."""
    gates = []
    for letter, gate in step_of(cell).gates:
        parts = [p._replace(**fields) if i == k and letter in letters else p for i, p in enumerate(gate.parts)]
        gates.append((letter, gate._replace(parts=tuple(p for p in parts if p.coef))))
    return replace(step_of(cell), gates=tuple(gates))


STACKS: Mapping[str, dict[str, Any]] = {"c0_of_forward": {"bidirectional": True}}
STEPS = (
    *("four_of_lstm", "three_without_c", "three_of_gru", "two_of_c", "n_relu", "reset_before", "r_h_in_mix", "r_on_x"),
    *("c0_of_forward", "cell_clip", "f_is_1_minus_i", "peepholes", "h_carried_as_c", "h_for_c_n", "g_identity"),
    *("lstm_hard_6", "gru_bias_rows", "caffe_rows"),
)
BACK = (
    *("two_back", "states_cyclic", "starts_detached", "dx_without_r", "dq_without_r", "db_hh_is_db_ih"),
    *("dr_without_b_hn", "dW_hn_without_r", "dW_hh_with_h_t", "dW_hh_without_first", "dW_hh_zero", "dc_not_carried"),
    *("da_f_with_c_t", "c0_left_out_of_df", "do_with_c", "first_step_left_out", "clip_5", "dz_of_other_sign"),
    *("dc_never_counts", "output_gradient_reversed"),
)


@pytest.mark.parametrize("name", [*few(STEPS, 5), *few(BACK, 5)])
def test_each_mistake_of_a_port_is_told_and_nothing_else(name: str) -> None:
    cell, choices, words = (MISTAKES | WAYS_BACK)[name]
    made = port if name in MISTAKES else with_back

    found = identified(as_subject(made(cell, choices)), **STACKS.get(name, {}))

    said = said_of(found)
    assert found.whole
    assert len(said) == len(words)
    assert all(any(part in sentence for sentence in said) for part in words)


class BatchFirst(torch.nn.Module):
    """A GRU that reads (N, T, input_size), whose r is read by n and by h."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x2h = torch.nn.Linear(input_size, 3 * hidden_size)
        self.h2h = torch.nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Any) -> Any:
        h, states = x.new_zeros(len(x), self.h2h.in_features), []
        for t in range(x.shape[1]):
            (x_r, x_z, x_n), (h_r, h_z, h_n) = self.x2h(x[:, t]).chunk(3, 1), self.h2h(h).chunk(3, 1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            h = z * h + (1 - r) * torch.tanh(x_n + r * h_n)
            states.append(h)
        return torch.stack(states, 1), h[None]


class BothWays(torch.nn.Module):
    """Two directions, always."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.fwd, self.bwd = BatchFirst(input_size, hidden_size), BatchFirst(input_size, hidden_size)

    def forward(self, x: Any) -> Any:
        return torch.cat([self.fwd(x)[0], self.bwd(x.flip(1))[0].flip(1)], 2)


@pytest.mark.parametrize(("layer", "bidirectional"), [(BatchFirst, False), (BothWays, True)])
def test_a_layer_with_the_batch_first_or_always_two_directions_is_asked_as_any_other(
    layer: Any, bidirectional: bool
) -> None:
    found = identified(as_subject(layer), bidirectional=bidirectional)

    assert found.whole
    assert said_of(found) == ["makes h of (1 - r) * n + z * h, not of (1 - z) * n + z * h"]


def test_a_function_that_is_not_applied_is_no_further_mistake() -> None:
    """Without tanh of c, it makes no difference which function would be applied."""
    subject = as_subject(port("LSTM", MISTAKES["no_tanh_of_c"][1]))
    scope = scope_of(subject).only(dtype="float32")

    found = identify_gated(Asker(ObservationCache(subject), scope, "tanh"), RNNConfig(2, 2, N=2, cell="LSTM"))

    [mistake] = mistakes_of(found.network, "tanh")
    case = draw(RNNConfig(2, 2, T=2, N=2, cell="LSTM"))
    mended, right = (run(one, case) for one in (mistake.without(found.network), right_of(case.config)))
    assert all(np.array_equal(values_of(one), values_of(right[name])) for name, one in mended.items())


def test_the_right_network_of_a_cell_is_one_whose_runs_are_known_again() -> None:
    assert right_of(RNNConfig(1, 1, cell="GRU")) is right_of(RNNConfig(2, 3, cell="GRU"))


@pytest.mark.parametrize("spec", ["torch:gru", "torch:lstm"])
def test_nothing_is_said_of_what_is_right(spec: str) -> None:
    found = identified(as_subject(spec))

    assert found.whole
    assert said_of(found) == []


class Returning(torch.nn.Module):
    """nn.LSTM, but for what is done to an array before it is returned."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(input_size, hidden_size)

    def forward(self, x: Any, state: Any = None) -> Any:
        output, (h_n, c_n) = self.lstm(x, state)
        return self.done(output, h_n, c_n)

    def done(self, output: Any, h_n: Any, c_n: Any) -> Any:
        return output.relu(), (h_n, c_n)


class Halved(Returning):
    """It returns half of c_n."""

    def done(self, output: Any, h_n: Any, c_n: Any) -> Any:
        return output, (h_n, 0.5 * c_n)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [(Returning, "returns np.maximum(output, 0) as output"), (Halved, "returns 0.5 * c_n as c_n")],
)
def test_what_is_done_to_what_is_returned_is_told(layer: Any, sentence: str) -> None:
    found = identified(as_subject(layer))

    assert (found.unknown, said_of(found)) == ((), [sentence])
    assert found.questions < 300  # the search of a step asks some 2,000


class Rounded(Returning):
    """It rounds what it returns of c to 8 bits."""

    def done(self, output: Any, h_n: Any, c_n: Any) -> Any:
        return output, (h_n, c_n.to(torch.bfloat16).to(c_n.dtype))


def test_an_array_in_fewer_bits_is_told_as_precision() -> None:
    subject = as_subject(Rounded)
    scope = scope_of(subject).only(dtype="float32", loss=None)
    finding = hunt(subject, scope).finding
    assert finding is not None

    diagnosis = FindingExplainer(subject).diagnosis(finding, scope)

    assert diagnosis is not None
    assert diagnosis.precision is not None
    assert diagnosis.precision.returned_bits == 8


def test_no_cause_is_named_of_a_step_that_no_sum_makes(tmp_path: Any) -> None:
    odd = port("GRU", {"mix": lambda z, n, h, r: (1 - z) * n + z * np.sin(3 * h) * np.cos(n)})

    assert "the step" in identified(as_subject(odd)).unknown
    said = str(check(odd, cases=3, findings=str(tmp_path), quiet=True))
    assert "disagrees with nn.GRU" in said
    assert "certain" not in said


def test_a_gradient_that_another_gate_multiplies_is_named() -> None:
    found = identified(as_subject(with_back("GRU", {"dh": lambda dh, z: dh * (1 - z)})))

    assert said_of(found) == ["multiplies the gradient of h[t] by (1 - z) for that of h[t-1], not by z"]


def test_a_gradient_that_nothing_explains_is_not_known() -> None:
    odd = identified(as_subject(with_back("GRU", {"dh": lambda dh, z: dh * np.sin(3 * z)})))

    assert not odd.whole
    assert "the step" not in odd.unknown


@pytest.mark.parametrize(("cell", "proj_size"), [("GRU", 0), ("LSTM", 0), ("LSTM", 2)])
@pytest.mark.parametrize(
    "factors",
    [{"num_layers": 2, "bidirectional": True}, {"lengths": (4, 2, 3)}, {"hx": True, "bias": False, "output_size": 2}],
)
def test_the_right_step_gives_what_torch_gives_within_its_bounds(
    cell: str, proj_size: int, factors: dict[str, Any]
) -> None:
    config = RNNConfig(3, 4, T=4, N=3, cell=cell, proj_size=proj_size, dtype="float64", loss="both", **factors)
    case = draw(config, "normal", 1)
    outcome = as_subject(f"torch:{cell.lower()}").run(case)

    plain = case.plain()
    made = run(right_of(plain.config), plain, rounding_of("float64"))

    assert made.keys() >= outcome.arrays.keys()
    for name, array in outcome.arrays.items():
        apart = np.abs(np.asarray(array, np.float64) - values_of(made[name]))
        assert (apart <= made[name].error).all(), name
        assert (made[name].error <= 1e-6 * (1 + np.abs(values_of(made[name])))).all(), name


def with_function(cell: str, letter: str, kind: Activation) -> GatedModel:
    """Return a model in which the function of a gate is another."""
    model = step_of(cell)
    gates = ((own, gate._replace(activation=kind) if own == letter else gate) for own, gate in model.gates)
    return replace(model, gates=tuple(gates))


def with_rows_in_turn() -> GatedModel:
    """Return a GRU whose gates have each other's rows, and whose n is of twice its sum."""
    gates = [
        (
            letter,
            gate._replace(
                inside=1.0 + (letter == "n"), parts=tuple(p._replace(block=(p.block + 1) % 3) for p in gate.parts)
            ),
        )
        for letter, gate in step_of("GRU").gates
    ]
    return replace(step_of("GRU"), gates=tuple(gates))


def of(cell: str, **changes: Any) -> GatedModel:
    """Return a model with some choices."""
    return replace(step_of(cell), **changes)


@pytest.mark.parametrize(
    ("model", "sentences"),
    few(
        [
            (
                of("LSTM", arranged=("weight_ih",)),
                ["reads the rows of weight_ih unit by unit, all gates of each, not gate by gate"],
            ),
            (of("GRU", returned=("h'", "n")), ["returns n as h_n, not h"]),
            (
                of("GRU", mix=((("n",), 1.0), (("n", "z"), -1.0), (("hx", "z"), 1.0))),
                ["makes h of (1 - z) * n + z * hx, not of (1 - z) * n + z * h"],
            ),
            (
                of("LSTM", memory=((("c", "f"), 1.0), (("f", "g", "i"), 1.0)), starts=("cx", "hx")),
                [
                    "exchanges hx and cx: h starts at cx, and c at hx",
                    "makes c of f * c + i * f * g, not of f * c + i * g",
                ],
            ),
            *(
                (
                    of("GRU", outer=ACTIVATIONS[outer], returned=("h'", "h")),
                    [
                        f"makes h of {outer}((1 - z) * n + z * h), not of (1 - z) * n + z * h",
                        "returns the h before the step as h_n, not h",
                    ],
                )
                for outer in ("tanh", "sigmoid")
            ),
            (
                with_rows_in_turn(),
                [
                    "reads its rows in the order n, r, z, not r, z, n",
                    "applies tanh to 2 times the sum of n, not tanh to the sum",
                ],
            ),
            (
                with_function("LSTM", "i", Activation("clip", (-1.0, 1.0))),
                ["applies clip, np.clip(s, -1, 1), to the sum of i, not sigmoid"],
            ),
            (with_function("LSTM", "f", ACTIVATIONS["identity"]), ["applies no function to the sum of f, not sigmoid"]),
            (
                of("LSTM", memory=((("c",), 1.0), (("c", "i"), -1.0), (("g", "i"), 1.0)), limit=1.0),
                [
                    (
                        "takes 1 - i in the place of f: the coupled input and forget gates of Greff et al. 2017, CIFG "
                        "(ONNX's input_forget=1)"
                    ),
                    "clips c to ±1",
                ],
            ),
            (of("LSTM", read=ACTIVATIONS["relu"]), ["applies relu to c, not tanh"]),
            (of("LSTM", returned=("c'", "h'", "c'")), ["returns c as output, not h"]),
            (
                of("GRU", outer=SIGMOID, returned=("h", "h'")),
                [
                    "makes h of sigmoid((1 - z) * n + z * h), not of (1 - z) * n + z * h",
                    "returns the h before the step as output, not h",
                ],
            ),
            (
                of("LSTM", outer=SIGMOID, read=SIGMOID),
                ["applies sigmoid to c, not tanh", "makes h of sigmoid(o * sigmoid(c)), not of o * tanh(c)"],
            ),
            (of("LSTM", mix=((("o", "tanh(c)"), 1.0),)), ["makes h of o * tanh(c[t-1]), not of o * tanh(c[t])"]),
            (of("LSTM", returned=("h'", "h'", "c")), ["returns the c before the step as c_n, not c"]),
            (changed("LSTM", "ig", 0, coef=0.0), ["leaves x @ weight_ih.T out of the sums of i and g"]),
            (
                changed("GRU", "n", 2, name="h[t-1] @ W_hh"),
                ["takes r * (h @ W_hn) in the sum of n, not r * (h @ W_hn.T)"],
            ),
            (
                changed("GRU", "zn", 0, coef=0.5),
                ["takes 0.5 * (x @ weight_ih.T) in the sums of z and n, not x @ weight_ih.T"],
            ),
            (changed("GRU", "z", 0, block=0), ["takes x @ W_ir.T in the sum of z, not x @ W_iz.T"]),
            (of("LSTM", limit=1.0), ["clips c to ±1"]),
            (of("LSTM", passes=TermSteps("but every", 2)), ["cuts the way back every 2 steps"]),
        ],
        10,
    ),
    ids=first_sentence,
)
def test_what_a_layer_computes_is_said(model: GatedModel, sentences: list[str]) -> None:
    found = composed_gates.identified(model)

    assert (found.unknown, said_of(found)) == ((), sentences)
    assert not differing(as_subject(composed_gates.subject_of(model)), found, cell=model.cell)


@pytest.mark.parametrize(("cell", "letter"), few([("LSTM", "c"), ("GRU", "h"), ("LSTM", "h")], 1))
def test_gradients_that_are_clipped_at_each_step_are_found(cell: str, letter: str) -> None:
    class Hooked(torch.nn.Module):
        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__()
            self.cell = getattr(torch.nn, f"{cell}Cell")(input_size, hidden_size)

        def forward(self, x: Any, hx: Any = None) -> Any:
            zeros = x.new_zeros(x.shape[1], self.cell.hidden_size)
            states = [zeros, zeros] if hx is None else [one[0] for one in (hx if cell == "LSTM" else [hx])]
            output = []
            for x_t in x:
                new = self.cell(x_t, tuple(states) if cell == "LSTM" else states[0])
                states = list(new) if cell == "LSTM" else [new]
                if (state := states["hc".index(letter)]).requires_grad:
                    state.register_hook(lambda g: g.clamp(-0.5, 0.5))
                output.append(states[0])
            last = [state[None] for state in states]
            return torch.stack(output), tuple(last) if cell == "LSTM" else last[0]

    found = identified(as_subject(Hooked), loss="output")

    assert said_of(found) == [f"clips the gradient by {letter}[t] to ±0.5 at each step"]
    assert found.whole


def test_a_mistake_excuses_no_other_one_in_16_bits() -> None:
    both = port("GRU", {**MISTAKES["z_exchanged"].choices, **MISTAKES["reset_before"].choices})

    def rounded(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return tuple(array.astype(x.dtype) for array in both(x, h0, weights, config))

    rounded.conventions = {"gru": True}  # type: ignore[attr-defined]
    investigation = FindingExplainer(as_subject(rounded))
    scope = Scope.around(RNNConfig(1, 1, T=1, N=1, hx=True, cell="GRU")).only(dtype=("float32", "float16", "bfloat16"))

    done = explained(investigation, scope, cases=60)

    every = [investigation.explanations[finding.id].factors for finding in done.findings]
    assert len(every) == 2
    assert all(one is not None and "dtype" in one.independent for one in every)


def test_what_cancels_in_16_bits_leaves_a_cause_its_explanation() -> None:
    class Late(torch.nn.GRU):
        def forward(self: Any, x: Any, hx: Any = None) -> Any:
            h = x.new_zeros(x.shape[1], self.hidden_size) if hx is None else hx[0]
            output = []
            for x_t in x:
                output.append(h)
                xr, xz, xn = torch.nn.functional.linear(x_t, self.weight_ih_l0, self.bias_ih_l0).chunk(3, -1)
                hr, hz, hn = torch.nn.functional.linear(h, self.weight_hh_l0, self.bias_hh_l0).chunk(3, -1)
                h = torch.lerp((xn + (xr + hr).sigmoid() * hn).tanh(), h, (xz + hz).sigmoid())
            return torch.stack(output), h[None]

    config = RNNConfig(1, 5, T=4, N=1, dtype="bfloat16", cell="GRU")
    arrays: dict[str, Any] = {name: np.zeros(spec.shape) for name, spec in config.given.items()}
    arrays["x"].flat[:] = 0.5, 0.875, 0.3125, -1.25
    arrays["weight_ih_l0"][11] = 0.59765625
    arrays["weight_hh_l0"][5:7] = (0, 0, 0, 1, 0), (0.4375, 0, -0.5, 0.5, -0.25)
    arrays["weight_hh_l0"][11] = 1, 0, 0, -1, 0
    arrays["bias_ih_l0"][[1, 5, 6, 10, 11, 12, 13, 14]] = -2, 0.5, -0.75, 1, 0.375, -1, -1.5, 1
    arrays["bias_hh_l0"][[1, 6]] = -1, 0.0625
    case = Case.from_arrays(config, {name: array.astype(config.dtype) for name, array in arrays.items()})
    subject = as_subject(Late)
    network = Network(replace(step_of("GRU"), returned=("h", "h'")), derived=True)
    cause = IdentifiedCause(Identification(network, "tanh", 3), tuple(mistakes_of(network, "tanh")))

    observation = ObservationCache(subject).of(case)

    assert cause.sentence == "returns the h before the step as output, not h"
    assert cause.explains(subject, observation, check_agreement(subject, case))


@pytest.mark.parametrize(
    ("layer", "stack", "sentences"),
    few(
        [
            (
                lstm_of(start=lambda layer, d, last, h, c: (h, last[layer - 1, d][1] if layer else c)),
                "num_layers",
                ["starts c at the last c of the layer below, not cx, in the layers above the first"],
            ),
            (
                lstm_of(start=lambda layer, d, last, h, c: last[layer, 0] if d else (h, c)),
                "bidirectional",
                ["starts at the last states of the forward direction, not at hx and cx, in the reverse direction"],
            ),
            (
                lstm_of(order=lambda layer, d: "ifog" if d else "ifgo", forget=lambda layer, d: float(d)),
                "bidirectional",
                [
                    "reads its rows in the order i, f, o, g, that of Core ML and Caffe, in the reverse direction",
                    "adds 1 to the sum of f, in the reverse direction",
                ],
            ),
            (
                lstm_of(forget=lambda layer, d: float(layer == 0)),
                "num_layers",
                ["adds 1 to the sum of f, in the first layer"],
            ),
            (
                lstm_of(late=True),
                "num_layers",
                ["returns the h before the step as output, not h, in all layers but the last"],
            ),
        ],
        2,
    ),
    ids=first_sentence,
)
def test_a_step_of_one_place_of_a_stack_is_found(layer: Any, stack: str, sentences: list[str]) -> None:
    found = identified(as_subject(layer), **{stack: 2 if stack == "num_layers" else True}, hx=True)

    assert said_of(found) == sentences


class StartsFromFirstC(torch.nn.LSTM):
    """An LSTM that starts from the first row of cx in all layers, and from its own of hx."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        if hx is not None and self.num_layers > 1:
            hx = hx[0], hx[1][:1].expand_as(hx[1]).contiguous()
        return super().forward(x, hx)


class ReturnsForwardC(torch.nn.LSTM):
    """An LSTM of two directions whose c_n is that of the forward one in both, and h_n its own."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, (h_n, c_n) = super().forward(x, hx)
        D = 1 + self.bidirectional
        return output, (h_n, torch.stack([c_n[k - k % D] for k in range(len(c_n))]))


@pytest.mark.parametrize(
    ("layer", "factors", "sentence"),
    [
        (StartsFromFirstC, {"num_layers": 2, "hx": True}, "starts from row 0 of cx, not from row l * D + d"),
        (
            ReturnsForwardC,
            {"bidirectional": True},
            "writes the last c of the forward direction to row l * D + d of c_n",
        ),
    ],
)
def test_the_rows_of_c_may_be_others_than_those_of_h(layer: Any, factors: Any, sentence: str) -> None:
    assert said_of(identified(as_subject(layer), **factors)) == [sentence]


def test_the_slope_of_a_clip_is_open_where_a_rounding_may_be_beyond_the_limit() -> None:
    ball = Ball(np.array([0.5, 1.99, 2.5]), np.array([0.0, 0.02, 0.1]), rounding_of("bfloat16"))
    v = Var(ball)

    by = backward({limited(v, 2.0): np.ones(3)}, {"v": v})["v"]

    assert values_of(by).tolist() == [1, 1, 0]
    assert (by.error >= [0, 1, 0]).all()
    assert (by.error < [0.1, 1.1, 0.1]).all()


def test_a_tanh_of_half_a_sum_may_be_made_of_a_sigmoid_whose_terms_cancel() -> None:
    subject = as_subject(port("LSTM", one_gate("g", lambda s: 2 * sigmoid(s) - 1)))
    found = identified(subject)
    config = RNNConfig(1, 1, T=1, N=1, cell="LSTM")
    zeros = {name: np.zeros_like(v) for name, v in draw(config, "normal", 1).arrays.items()}
    bias = np.array([0, 0, -0.0010986328, 0], np.float32)
    case = Case.from_arrays(config, zeros | {"bias_hh_l0": bias})
    result = check_agreement(subject, case)
    cause = IdentifiedCause(found, tuple(mistakes_of(found.network, "tanh")))

    assert said_of(found) == ["applies tanh to 0.5 times the sum of g, not tanh to the sum"]
    assert result.mismatches
    assert cause.explains(subject, ObservationCache(subject).of(case), result)


@pytest.mark.parametrize(
    ("kept", "drops_c_n", "said"),
    [
        (lambda kept, p: kept / (1 - p), False, []),
        (lambda kept, p: kept, False, ["does not divide what dropout keeps by 1 - p"]),
        (lambda kept, p: kept / (1 - p), True, ["drops the inner layers' c_n, too, like their output"]),
    ],
    ids=first_sentence,
)
def test_dropout_between_layers_of_gates(kept: Any, drops_c_n: bool, said: list[str]) -> None:
    lstm = lstm_of(kept=kept, drops_c_n=drops_c_n)

    found = identified(as_subject(lstm), num_layers=2, dropout=0.5, training=True, T=2)

    assert (found.unknown, said_of(found)) == ((), said)


class TwoWays(torch.nn.Module):
    """An LSTM of two directions always: the halves of its output, h_n and c_n, and what h is made of are others."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.there = torch.nn.LSTMCell(input_size, hidden_size)
        self.back = torch.nn.LSTMCell(input_size, hidden_size)

    def forward(self, x: Any, hx: Any) -> Any:
        ends, outputs = [], []
        for d, cell in enumerate((self.there, self.back)):
            h, c, states = hx[0][d], hx[1][d], []
            for frame in x.flip(0) if d else x:
                sums = frame @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
                i, f, g, o = sums.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = torch.tanh(o.sigmoid() * c)
                states.append(h)
            outputs.append(torch.stack(states[::-1] if d else states))
            ends.append((h, c))
        h_n, c_n = (torch.stack(one) for one in zip(*ends, strict=True))
        return torch.cat(outputs[::-1], -1), (c_n, h_n)


def test_three_mistakes_of_a_layer_that_always_has_two_directions_are_told() -> None:
    subject = as_subject(TwoWays, "two_ways+lstm")
    config = LSTMConfig(1, 1, T=1, N=1, bidirectional=True, hx=True)

    found = identified_of(ObservationCache(subject), scope_of(subject), draw(config, "normal", 1))

    assert found is not None
    assert said_of(found) == [
        "makes h of tanh(o * c), not of o * tanh(c)",
        "exchanges h_n and c_n",
        "makes a layer's output of [reverse, forward], not of [forward, reverse]",
    ]
