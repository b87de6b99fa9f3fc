"""Tests of explaining arrays: the reference judges them alone, and the mistake that reproduces them is named."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
from benchmarks.layers.gated_ports import MISTAKES, port
from harness import Case, Reference, RNNConfig, draw
from harness.diagnosis import defects
from harness.diagnosis.explain_given_arrays import GivenCase, explained
from harness.diagnosis.identify.choices import choices
from harness.diagnosis.identify.gates import right_of
from harness.diagnosis.identify.network_run import run
from harness.space.errors import UsageError
from harness.subjects.explain_inputs import models
from tests import implementations
from tests.diagnosis.identify.by_hand import sums_of, with_gradients
from tests.long import few

NOTEBOOK = RNNConfig(1, 5, batch_first=True, T=10, N=1, output_size=2)
DEEP = RNNConfig(3, 4, num_layers=2, bidirectional=True, T=6, N=3, hx=True)
BOTH_WAYS = RNNConfig(3, 4, bidirectional=True, T=5, N=2)
RELU = RNNConfig(4, 4, nonlinearity="relu", T=4, N=2)
PLAIN = RNNConfig(3, 4, T=5, N=2)
GRU, LSTM = (RNNConfig(3, 4, T=4, N=2, cell=cell) for cell in ("GRU", "LSTM"))


def of(config: RNNConfig, seed: int = 1) -> Case:
    return draw(config, "default", seed)


Change = Callable[[str, Any], Any]  # of an array of parameters, given its name


def right(_name: str, w: Any) -> Any:
    return w


def without_b_hh(name: str, w: Any) -> Any:
    return 0 * w if "bias_hh" in name else w


def without_b_ih(name: str, w: Any) -> Any:
    return 0 * w if "bias_ih" in name else w


def turned(name: str, w: Any) -> Any:
    return w.T if "weight_hh" in name else w


def made(case: Case, *names: str, change: Change = right, hx: bool = True, **factors: Any) -> Any:
    """Return the named results of a layer with other parameters, computed in float64 and rounded once to float32."""
    config = case.config.replace(**factors)
    shape = config.num_layers * config.num_directions, config.N, config.hidden_size
    h0 = np.zeros(shape) if case.hx is None or not hx else case.hx.astype(float)
    weights = {name: change(name, w.astype(float)) for name, w in case.weights.items()}
    arrays = implementations.vectorised(case.x.astype(float), h0, weights, config)
    found = dict(zip(("output", "h_n", "readout"), (array.astype(np.float32) for array in arrays), strict=False))
    return found[names[0]] if len(names) == 1 else {name: found[name] for name in names or found}


def ask(case: Case, actual: Any, **options: Any) -> harness.ExplainReport:
    told: dict[str, Any] = {
        "nonlinearity": case.config.nonlinearity,
        "batch_first": case.config.batch_first,
        "hx": case.hx,
    }
    return harness.explain(dict(case.weights), case.x, actual, **(told | options))


@pytest.mark.parametrize(
    ("config", "options", "said", "names"),
    [
        *(
            (NOTEBOOK, {"change": without_b_hh}, "ignores bias_hh: b_hh is never added", names)
            for names in (("readout",), ("output",), ("h_n",), ("output", "h_n"), ("readout", "h_n"))
        ),
        *(
            (*row, names)
            for names in (("output", "h_n"), ("output",), ("h_n",))
            for row in (
                (DEEP, {"change": turned}, "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T"),
                (DEEP, {"hx": False}, "ignores hx: it starts at zeros"),
                (RELU, {"nonlinearity": "tanh"}, "applies tanh, not relu"),
                (RELU, {"change": without_b_ih}, "ignores bias_ih: b_ih is never added"),
                (
                    BOTH_WAYS,
                    {"change": lambda name, w: turned(name, w) if "reverse" in name else w},
                    "takes h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T, in the reverse direction",
                ),
                (
                    BOTH_WAYS,
                    {"change": lambda name, w: w if "reverse" in name else without_b_hh(name, w)},
                    "ignores bias_hh: b_hh is never added, in the forward direction",
                ),
            )
        ),
    ],
)
def test_a_mistake_is_named_in_stacks_directions_and_relu(
    config: RNNConfig, options: dict[str, Any], said: str, names: tuple[str, ...]
) -> None:
    case = of(config)

    answer = ask(case, made(case, *names, **options))

    assert not answer.agrees
    assert any(one.startswith(said) for one in [answer.cause or "", *answer.others]), answer
    assert answer.certain or config != NOTEBOOK
    assert str(answer).startswith("disagrees with nn.RNN")


@pytest.mark.parametrize(
    ("config", "each"),
    few(
        [(NOTEBOOK, 19), (RELU, 19), (PLAIN.replace(T=1), 19), (LSTM, 19), (GRU, 19), (GRU, 99)],
        lambda one: one == (GRU, 99),
    ),
)
def test_what_is_certain_is_never_another_mistake(config: RNNConfig, each: int) -> None:
    """Two of the mistakes that are tried are made at once; what is called certain gives their output on another x."""
    case, every = of(config), choices(config, {})
    several = [
        one.apply(other.apply(right_of(config))) for one, other in zip(every[::each], every[3::each], strict=False)
    ]
    certain = 0

    for network in several:
        arrays = {name: array.astype(np.float32) for name, array in run(network, case).items()}
        found, _ = explained(
            models(dict(case.weights)),
            [GivenCase(case.x, {"output": arrays["output"]}, case.hx)],
            None if config.gated else config.nonlinearity,
            batch_first=config.batch_first,
            atol=0.0,
        )
        certain += found.certain
        if found.certain:
            fresh = Case(config, of(config, 2).x, None, case.weights)
            given, expected = found.causes[0].run(fresh)["output"], run(network, fresh)["output"]
            assert np.allclose(given, expected, 1e-6, 1e-6)

    assert certain > len(several) / 4


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["right_gru"], ""),
        (
            ["reset_before"],
            (
                "applies r to h before W_hn, not to the product with it: the GRU of Cho et al. 2014 "
                "(Keras's reset_after=False, ONNX's linear_before_reset=0)"
            ),
        ),
        (
            ["reset_before", "z_exchanged"],
            (
                "applies r to h before W_hn, not to the product with it: part of the GRU of Chung et al. 2014; "
                "and exchanges z and 1 - z: part of the GRU of Chung et al. 2014"
            ),
        ),
        (["right_lstm"], ""),
        (["onnx_rows"], "reads its rows in the order i, o, f, g, ONNX's"),
        (["no_tanh_of_c"], "makes h of o * c, not of o * tanh(c)"),
        (
            ["forget_bias"],
            "adds 1 to the sum of f: the forget bias of Jozefowicz et al. 2015 (TensorFlow 1's forget_bias=1.0)",
        ),
    ],
)
def test_gates_are_explained(names: list[str], said: str) -> None:
    mistakes = [MISTAKES[name] for name in names]
    cell, choices = mistakes[0].cell, {name: value for one in mistakes for name, value in one.choices.items()}
    case = of((GRU if cell == "GRU" else LSTM).replace(hx=True))
    given = [v for v in (case.hx, case.cx) if v is not None]
    weights = {name: w.astype(float) for name, w in case.weights.items()}
    output, *states = port(cell, choices)(case.x, *given, weights, case.config)

    answer = harness.explain(
        dict(case.weights), case.x, (output.astype(np.float32), tuple(states)), hx=given[0] if cell == "GRU" else given
    )

    assert (answer.agrees, answer.cause or "", answer.certain) == (not said, said, bool(said)), answer
    assert answer.lines[0].startswith(f"{'dis' * bool(said)}agrees with nn.{cell} in ")


def test_arrays_that_no_mistake_of_gates_gives_are_compared_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.diagnosis.identify.networks_fitting_arrays.GATED_RUNS", 1000)
    case = of(GRU.replace(T=1, N=1))

    answer = harness.explain(dict(case.weights), case.x, np.full((1, 1, 4), [[0.1, 0.2, 0.3, 0.4]]), batch_first=False)

    assert (answer.agrees, answer.cause, answer.certain) == (False, None, False)
    assert "first   output[t=0, n=0, unit=0]; 4 of 4 are wrong in themselves" in answer.lines


def test_several_mistakes_at_once_are_all_named() -> None:
    case = of(PLAIN)

    answer = ask(case, made(case, "output", change=lambda name, w: turned(name, without_b_hh(name, w))))

    assert answer.cause is not None
    assert "h[t-1] @ W_hh in its step, not h[t-1] @ W_hh.T; and ignores bias_hh:" in answer.cause
    assert answer.certain
    assert "yours   h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh)" in answer.lines


@pytest.mark.parametrize("config", [PLAIN, DEEP, NOTEBOOK.replace(N=3)])
def test_an_output_that_ends_with_its_first_step_is_told(config: RNNConfig) -> None:
    case = of(config)

    answer = ask(case, np.flip(made(case, "output"), 1 if config.batch_first else 0))

    assert answer.cause == "returns the output with its last time step first: turned, everything is right"
    assert answer.certain


@pytest.mark.parametrize("names", [("output",), ("h_n",), ("output", "h_n")])
@pytest.mark.parametrize("batch_first", [False, True])
def test_sequences_that_changed_places_are_told(batch_first: bool, names: tuple[str, ...]) -> None:
    case = of(DEEP.replace(batch_first=batch_first))
    axes = {"output": 0 if batch_first else 1, "h_n": 1}

    answer = ask(case, {name: np.take(made(case, name), [1, 2, 0], axes[name]) for name in names})

    assert answer.cause is not None
    assert answer.cause.startswith("returns the sequences of the batch in another order")
    assert answer.certain


def test_sequences_in_another_order_of_which_one_is_wrong_are_not_called_right() -> None:
    case = of(PLAIN)
    moved = made(case, "output")[:, ::-1].copy()
    moved[2, 1, 3] = np.nan

    assert ask(case, moved).cause is None


def test_numbers_that_nothing_explains_have_no_cause_but_a_first_place() -> None:
    case = of(PLAIN)
    wrong = made(case, "output").copy()
    wrong[2, 1, 3] += 0.01

    answer = ask(case, wrong)

    assert (answer.agrees, answer.cause, answer.certain) == (False, None, False)
    assert "first   output[t=2, n=1, unit=3]" in str(answer)


def test_what_several_mistakes_would_give_is_said_and_a_further_case_tells() -> None:
    case = of(PLAIN.replace(T=1))
    longer = Case(PLAIN.replace(T=2), of(PLAIN, 2).x[:2], None, case.weights)

    alone = ask(case, made(case, "output", change=without_b_hh))
    both = ask(
        case, made(case, "output", change=without_b_hh), more=[(longer.x, made(longer, "output", change=without_b_hh))]
    )

    assert alone.cause == both.cause == "ignores bias_hh: b_hh is never added"
    assert not alone.certain
    assert "adds b_hh at all steps but the first" in alone.others
    assert "T=2 tells, with more=[(x, actual)]" in str(alone)
    assert both.certain


def test_what_every_explanation_has_in_common_is_certain() -> None:
    case = of(RNNConfig(3, 4, T=5, N=2, dtype="float64"))

    def halved(name: str, w: Any) -> Any:
        return w / 2 if "weight_hh" in name else without_b_hh(name, w)

    answer = ask(case, made(case, "output", change=halved))

    assert not answer.certain
    assert "another hidden_size tells" in str(answer)
    assert "certain ignores bias_hh: b_hh is never added, whichever it is" in answer.lines


def test_gradients_are_explained_from_the_gradients_of_the_loss() -> None:
    """The slope lacks its square, and each step's part of dW_hh is made of the state after it."""
    case = of(RNNConfig(3, 4, T=5, N=3, dtype="float64", loss="output"))
    output, _, found = with_gradients(
        case.x,
        np.zeros((1, 3, 4)),
        case.weights,
        case.config,
        case.cotangents,
        slope=lambda h, _: 1 - h,
        sums=lambda x, _, after, da: sums_of(x, after, after, da),
    )
    gradients = {f"{name}.grad": found[name] for name in case.weights}

    answer = ask(case, {"output": output, **gradients}, cotangents=case.cotangents)

    assert answer.cause == (
        "takes 1 - h[t] for the slope of tanh, not 1 - h[t]**2; and makes the gradient by weight_hh of da[t] and h[t],"
        " not of da[t] and h[t-1]"
    )
    assert answer.certain


@pytest.mark.parametrize("config", [NOTEBOOK, DEEP, RELU])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_arrays_agree_in_the_precision_of_any_of_them(config: RNNConfig, dtype: Any) -> None:
    case = of(config)
    arrays = {name: array.astype(dtype) for name, array in Reference().run(case).items()}

    answers = [ask(case, array) for array in (*arrays.values(), arrays)]

    assert all(answer.agrees for answer in answers)
    assert not any(answer.cause or answer.certain for answer in answers)


@pytest.mark.kernels
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"nonlinearity": "relu"}])
def test_torch_s_own_arrays_agree_whatever_the_dtype_of_x(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    rnn = nn.RNN(3, 5, batch_first=True, **options)
    x = np.random.default_rng(0).standard_normal((2, 7, 3))
    given = rnn(torch.from_numpy(x).float())

    answers = [harness.explain(rnn, some, given) for some in (x, x.astype(np.float32), torch.from_numpy(x).float())]

    assert all(answer.agrees for answer in answers)


def test_numbers_typed_from_a_print_agree_with_their_own_rounding_and_a_mistake_is_still_named() -> None:
    case = of(NOTEBOOK)
    printed, wrong = (np.round(made(case, "readout", change=one), 4) for one in (right, without_b_hh))

    answers = ask(case, printed, atol=5e-5), ask(case, wrong, atol=5e-5)

    assert answers[0].agrees
    assert answers[1].cause == "ignores bias_hh: b_hh is never added"


def test_weights_alone_have_both_layouts_and_both_functions_tried() -> None:
    case = of(RELU.replace(batch_first=True))

    answer = harness.explain(dict(case.weights), case.x, made(case, "output"))

    assert answer.agrees
    assert "relu, batch_first=True" in str(answer)


def test_a_whole_model_s_state_dict_is_taken_with_its_prefixes() -> None:
    model = nn.ModuleDict({"rnn": nn.RNN(3, 4), "fc": nn.Linear(4, 2)})
    x = torch.randn(5, 2, 3, requires_grad=True)
    output, h_n = model["rnn"](x)

    answers = [
        harness.explain(of, x, {"readout": model["fc"](output), "h_n": h_n}) for of in (model, model.state_dict())
    ]

    assert all(answer.agrees for answer in answers)


def test_what_is_right_but_for_a_rounding_to_float32_is_told_from_a_mistake() -> None:
    wide = {name: array.astype(np.float64) + 1e-9 for name, array in of(PLAIN).arrays.items()}
    case = Case.from_arrays(PLAIN.replace(dtype="float64"), wide)
    rounded = {name: array.astype(np.float32).astype(np.float64) for name, array in case.weights.items()}
    actual = Reference().run(Case(case.config, case.x, None, rounded))["output"]

    answer = ask(case, actual)

    assert answer.cause == "rounds to float32 somewhere: to that precision, everything is right"


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        (PLAIN, (2, 5, 4), "its first two axes are exchanged; with batch_first=False, T comes first"),
        (PLAIN, (6, 2, 4), "one step too many; leave the initial state out"),
        (PLAIN, (4, 2, 4), "x has T=5 steps"),
        (BOTH_WAYS, (5, 2, 4), "one direction is missing"),
        (PLAIN.replace(bidirectional=True), (2, 8), "it holds one step; give all steps"),
        (DEEP, (2, 3, 4), "h_n holds a row for each layer and direction"),
        (PLAIN, (7, 7), "expected output (T, N, D*H) = (5, 2, 4) or h_n (L*D, N, H) = (1, 2, 4)"),
    ],
)
def test_a_wrong_shape_is_said_with_its_likely_reason(config: RNNConfig, shape: tuple[int, ...], said: str) -> None:
    answer = ask(of(config), np.zeros(shape))

    assert not answer.agrees
    assert f"actual has shape {shape}, expected " in str(answer)
    assert said in str(answer)
    assert len(answer.lines) == 1


def test_zeros_alone_are_called_so_and_no_mistake_is_guessed() -> None:
    answer = ask(of(PLAIN), np.zeros((5, 2, 4)))

    assert answer.cause == "all of the numbers are zeros"
    assert (answer.certain, answer.others) == (False, ())
    assert "cause   all of the numbers are zeros: they tell nothing of what your code" in str(answer)
    assert "rounded" not in str(answer)


def test_an_array_that_lacks_axes_of_size_one_is_taken_as_it_must_be() -> None:
    case = of(NOTEBOOK)
    readout = made(case, "readout")

    assert ask(case, readout[0]).agrees
    assert not ask(case, readout.swapaxes(0, 1)).agrees


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module": None}, "module is a NoneType: expected a torch.nn.RNN"),
        ({"module": nn.Sequential(nn.LSTM(3, 4), nn.GRU(3, 4))}, "module=Sequential holds 2 recurrent layers"),
        (
            {"module": nn.LSTM(3, 4).state_dict(), "hx": np.zeros((1, 2, 4))},
            "hx is one array: expected a tuple (hx, cx)",
        ),
        ({"module": nn.GRU(3, 4), "nonlinearity": "tanh"}, "nonlinearity='tanh': nn.GRU has none; leave it out"),
        ({"module": {"W_xh": np.zeros((4, 3))}}, "module holds no weight_ih_l0, only W_xh"),
        ({"module": {"a": np.zeros(1), **nn.RNN(3, 4).state_dict()}}, "module holds a beside the nn.RNN"),
        (
            {"module": {k: v for k, v in nn.RNN(3, 4).state_dict().items() if k != "bias_hh_l0"}},
            "bias_hh_l0 is missing",
        ),
        ({"x": np.zeros(3)}, "x has shape (3,): expected (T, N, 3)"),
        ({"x": np.zeros((5, 2, 3), complex)}, "x is of complex128: expected real numbers"),
        ({"x": "x.npy"}, "x is a str: expected an array"),
        ({"actual": [torch.zeros(2, requires_grad=True)]}, "actual is a list: expected an array"),
        ({"actual": ()}, "actual holds 0 arrays"),
        ({"actual": {"out": np.zeros(1)}}, "actual holds 'out': expected any of readout, output, h_n"),
        ({"actual": {"x.grad": np.zeros(1)}}, "expected any of readout, output, h_n; gradients need cotangents"),
        ({"cotangents": {"x.grad": np.zeros(1)}}, "cotangents holds 'x.grad': expected any of readout.grad, output.gr"),
        (
            {"cotangents": {"output.grad": np.zeros(1)}, "actual": {"x.grad": np.zeros((5, 2, 3))}},
            "cotangents['output.grad'] has shape (1,): expected (T, N, D*H)",
        ),
        ({"hx": np.zeros((2, 2, 4))}, "hx has shape (2, 2, 4): expected (L*D, N, H) = (1, 2, 4)"),
        ({"atol": -1}, "atol=-1: expected a number of at least 0"),
        ({"nonlinearity": "gelu"}, "nonlinearity='gelu': expected 'tanh' or 'relu'"),
        ({"batch_first": "yes"}, "batch_first='yes': expected True or False"),
        ({"more": [1]}, "more holds an int: expected cases"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_was_given_and_expected(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"module": nn.RNN(3, 4), "x": np.zeros((5, 2, 3)), "actual": np.zeros((5, 2, 4))} | change

    with pytest.raises(UsageError) as refused:
        harness.explain(**given)

    assert said in str(refused.value)


ROUNDED = "rounded actual has at most 4 digits after the point, and is taken so"


def test_numbers_that_come_from_a_print_are_said_to_be_rounded() -> None:
    case = of(PLAIN)
    wrong = made(case, "output", change=without_b_hh)

    printed, whole = ask(case, np.round(wrong, 4)), ask(case, wrong)

    assert printed.cause == whole.cause == "ignores bias_hh: b_hh is never added"
    assert (printed.certain, whole.certain) == (True, True)
    assert ROUNDED in printed.lines
    assert not any(line.startswith("rounded") for line in whole.lines)


@pytest.mark.parametrize("lost", [np.inf, np.nan])
def test_numbers_that_come_from_a_print_may_be_infinite_or_nan(lost: float) -> None:
    case = of(PLAIN)
    actual = np.round(made(case, "output"), 4)
    actual[0, 0, 0] = lost

    answer = ask(case, actual)

    assert ROUNDED in answer.lines
    assert answer.lines[0].startswith("disagrees with nn.RNN in 1 of ")
    assert "unknown: 1 of 40 numbers are NaN or infinite" in str(answer)


@pytest.mark.parametrize("digits", [None, 4])
def test_the_other_axis_taken_for_time_is_a_cause(digits: int | None) -> None:
    case = of(PLAIN.replace(N=4, batch_first=True))
    turned = Case(case.config.replace(batch_first=False, T=4, N=5), case.x, None, case.weights)
    actual = made(turned, "output")

    answer = ask(case, actual if digits is None else np.round(actual, digits))

    assert answer.cause == "takes the other axis for time: it computes what nn.RNN does with batch_first=False"
    assert answer.certain
    assert (ROUNDED in answer.lines) is (digits is not None)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_right_numbers_that_are_rounded_are_told_from_wrong_ones(nonlinearity: str) -> None:
    case = of(PLAIN.replace(nonlinearity=nonlinearity))

    answer = ask(case, np.round(made(case, "output"), 4), nonlinearity=None)

    assert answer.agrees
    assert answer.lines[0].startswith("agrees with nn.RNN in all 40 numbers as rounded to 4 digits after the point, ")
    assert any(f"; {nonlinearity}, batch_first=False" in line for line in answer.lines)


def test_of_two_readings_in_which_all_is_wrong_the_nearer_one_is_told() -> None:
    case = of(PLAIN.replace(N=PLAIN.T, batch_first=True))
    near = made(case, "output") + np.random.default_rng(0).normal(0, 1e-2, case.config.outputs["output"].shape)

    answer = ask(case, near, batch_first=None)

    assert not answer.agrees
    assert any("batch_first=True" in line for line in answer.lines)


@pytest.mark.parametrize("actual", [np.full((5, 2, 4), 0.3), np.arange(40).reshape(5, 2, 4) / 4])
def test_one_number_everywhere_and_small_multiples_of_powers_of_two_are_not_called_rounded(actual: Any) -> None:
    assert not any("digit" in line for line in ask(of(PLAIN), actual).lines)


def test_a_defect_of_ours_in_looking_for_mistakes_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any, **_options: Any) -> None:
        raise KeyError(1)

    monkeypatch.setattr(defects, "_RAISED", [False])
    monkeypatch.setattr("harness.diagnosis.explain_given_arrays.explanations", broken)
    module = nn.RNN(1, 2)
    x = torch.ones(3, 1, 1)

    report = harness.explain(module, x, module(x)[0].detach() + 1)

    assert not report.agrees
    assert re.search(
        r"identification failed: KeyError at test_explain_given_arrays.py:\d+ \(a defect of rnn-harness\)", str(report)
    )
