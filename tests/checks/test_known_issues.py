"""Tests of known issues: one of torch explains what it says, and no more; a report fits what it tells of."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, Outcome, RNNConfig, Verdict, as_subject, draw
from harness.checks import case_checks
from harness.checks.agreement import assess, check_agreement, observe
from harness.checks.case_checks import check
from harness.checks.known_issues import KNOWN_ISSUES, TORCH_ISSUES, known_or_not, reported
from harness.checks.result import ComparisonMethod, Result
from harness.oracle.compare import Mismatch, MismatchKind
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.torch_module import TorchSubject
from tests.calls_by_hand import doing
from tests.emulated import FillsUpPairs

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
NAME = "dropout multiplies by zero"
DROPPING = RNNConfig(3, 2, 2, dropout=0.9, T=3, N=5, training=True)


def with_nan(config: RNNConfig) -> Case:
    """Return a case with a NaN in the second step of each sequence, and so in all later states of the first layer."""
    arrays = dict(draw(config, "normal", 0).arrays)
    x = arrays["x"] = arrays["x"].copy()
    (x.swapaxes(0, 1) if config.batch_first else x)[1, ..., 0] = np.nan
    return Case.from_arrays(config, arrays)


def as_torch(factory: Any) -> TorchSubject:
    """Return a class as if it were torch's own layer, with the kernels of another machine."""
    subject = TorchSubject(factory)
    subject.capabilities = replace(subject.capabilities, is_torch=True)
    return subject


class Off(TorchSubject):
    """Torch with one wrong element in the first step's output."""

    def run(self, case: Case) -> Outcome:
        outcome = super().run(case)
        output = outcome.arrays["output"].copy()
        output[0, 0, 0] += 1
        return replace(outcome, arrays={**outcome.arrays, "output": output})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nonlinearity": "relu"},
        {"batch_first": True},
        {"lengths": (3, 2, 2, 2, 1), "enforce_sorted": True},
        {"lengths": (2, 1, 3, 3, 2)},
        {"dtype": "bfloat16"},
        {"dropout": 1.0},
        {"loss": "both"},
    ],
)
def test_torch_s_dropout_of_a_nan_is_no_agreement_but_known(changes: dict[str, Any]) -> None:
    case = with_nan(DROPPING.replace(**changes))

    alone, explained = check_agreement(TORCH, case), check(TORCH, case)

    assert alone.verdict is Verdict.DISAGREES
    assert alone.known_as is None
    assert (explained.verdict, explained.known_as, explained.mismatches) == (Verdict.AGREES, NAME, ())
    assert not explained.failed


def test_who_zeroes_what_it_drops_agrees_without_any_excuse() -> None:
    case = with_nan(DROPPING)

    result = check(as_subject(doing()), case)

    assert (result.verdict, result.known_as) == (Verdict.AGREES, None)


def test_another_mistake_beside_it_is_not_explained() -> None:
    case = with_nan(DROPPING)
    subject = Off()

    result = check(subject, case)

    assert (result.verdict, result.known_as) == (Verdict.DISAGREES, None)
    assert "output: value" in {mismatch.kind for mismatch in result.mismatches}


@pytest.mark.parametrize("changes", [{"training": False}, {"dropout": 0.0}, {"num_layers": 1}])
def test_without_dropout_nothing_is_explained(changes: dict[str, Any]) -> None:
    case = draw(DROPPING.replace(**changes), "normal", 0)
    seen = observe(TORCH, case)

    assert known_or_not(seen, assess(seen)).known_as is None
    assert check(TORCH, case).known_as is None


def test_finite_numbers_need_no_excuse() -> None:
    result = check(TORCH, draw(DROPPING, "normal", 0))

    assert (result.verdict, result.known_as, result.method) == (Verdict.AGREES, None, ComparisonMethod.LOCAL)


def test_what_has_no_values_is_explained_by_nothing() -> None:
    class Short(TorchSubject):
        def run(self, case: Case) -> Outcome:
            outcome = super().run(case)
            return replace(outcome, arrays={name: array[:1] for name, array in outcome.arrays.items()})

    observation = observe(Short(), with_nan(DROPPING))

    assert observation.unfit is not None
    assert known_or_not(observation, assess(observation)).known_as is None
    assert check(Short(), with_nan(DROPPING)).known_as is None


def test_where_masks_are_unknown_nothing_is_explained() -> None:
    class Mine(torch.nn.RNN):
        pass

    observation = observe(as_subject(Mine), with_nan(DROPPING))

    assert assess(observation).method is ComparisonMethod.FORM
    assert known_or_not(observation, assess(observation)).known_as is None


FILLED_UP = "bfloat16 pairs are filled up"


def with_an_infinity(config: RNNConfig, feature: int) -> Case:
    """Return a case with an infinity in one feature of the third sequence, at every step."""
    arrays = dict(draw(config, "normal", 0).arrays)
    x = arrays["x"] = arrays["x"].copy()
    x[:, 2, feature] = np.inf
    return Case.from_arrays(config, arrays)


LARGE = RNNConfig(9, 16, T=2, N=16, dtype="bfloat16")


def test_nan_where_pairs_are_filled_up_is_known() -> None:
    case = with_an_infinity(LARGE, -1)
    subject = as_torch(FillsUpPairs)

    assert check_agreement(subject, case).verdict is Verdict.DISAGREES
    assert check(subject, case).known_as == FILLED_UP


@pytest.mark.parametrize("shown", [True, False])
def test_a_users_layer_is_excused_only_where_torch_s_own_has_the_issue(
    monkeypatch: pytest.MonkeyPatch, *, shown: bool
) -> None:
    class InFloat32(torch.nn.RNN):
        def forward(self, x: Any, hx: Any = None) -> Any:
            output, h_n = deepcopy(self).float()._all_of(x.float())
            return output.to(x.dtype), h_n.to(x.dtype)

        def _all_of(self, x: torch.Tensor) -> Any:
            return super().forward(x)

    case, torch_layer = with_an_infinity(LARGE, -1), as_torch(FillsUpPairs if shown else InFloat32)
    monkeypatch.setattr(case_checks, "torch_layer", lambda _: torch_layer)

    result = check(as_subject(FillsUpPairs), case)

    assert result.verdict is (Verdict.AGREES if shown else Verdict.DISAGREES)
    assert (result.known_as, result.resembles) == ((FILLED_UP, "") if shown else (None, FILLED_UP))


@pytest.mark.parametrize(
    ("config", "feature"), [(LARGE, 0), (LARGE.replace(input_size=8), -1), (LARGE.replace(dtype="float32"), -1)]
)
def test_nan_elsewhere_is_not_known(config: RNNConfig, feature: int) -> None:
    class LosesInfinities(torch.nn.RNN):
        def forward(self, x: Any, hx: Any = None) -> Any:
            return super().forward(x + x * 0, hx)

    result = check(as_subject(LosesInfinities), with_an_infinity(config, feature))

    assert (result.verdict, result.known_as) == (Verdict.DISAGREES, None)


def test_a_wrong_number_where_nan_is_known_is_not_known() -> None:
    class Halves(FillsUpPairs):
        def forward(self, x: Any, hx: Any = None) -> Any:
            output, h_n = super().forward(x, hx)
            return torch.where(output.isnan(), 0.5, output), torch.where(h_n.isnan(), 0.5, h_n)

    result = check(as_subject(Halves), with_an_infinity(LARGE, -1))

    assert (result.verdict, result.known_as) == (Verdict.DISAGREES, None)


READ_ON = "bfloat16 rows are read on"


class ReadsOn(torch.nn.RNN):
    """nn.RNN to whose rows of x NaN is added where the first feature of the next row is not finite."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        rows = x.flatten(0, 1)
        behind = torch.cat([rows[1:, :1] * 0, rows[:1, :1] * 0 * 0])
        last = torch.arange(x.shape[-1]) == x.shape[-1] - 1  # which no kernel reads for another row
        return super().forward(torch.where(last, rows + behind.detach(), rows).view_as(x), hx)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        (LARGE, True),
        (LARGE.replace(loss="both"), True),
        (LARGE.replace(input_size=40), True),
        (LARGE.replace(input_size=8), False),
        (LARGE.replace(dtype="float32"), False),
    ],
)
def test_nan_of_the_next_row_is_known(config: RNNConfig, *, known: bool) -> None:
    case, subject = with_an_infinity(config, 0), as_torch(ReadsOn)

    assert check_agreement(subject, case).verdict is Verdict.DISAGREES
    assert check(subject, case).known_as == (READ_ON if known else None)


class ProjectsOn(torch.nn.LSTM):
    """nn.LSTM whose projection is NaN where that of the next row is, as if it read on."""

    def forward(self, x: Any, hx: Any = None) -> Any:
        output, (_, c_n) = super().forward(x, hx)
        output = torch.where(output.isnan().roll(-1, 1), torch.nan, output)
        return output, (output.clone(), c_n)


@pytest.mark.parametrize(("units", "known"), [(9, True), (8, False)])
def test_nan_of_the_next_row_reaches_a_projection(units: int, *, known: bool) -> None:
    config = RNNConfig(8, units, T=1, N=16, dtype="bfloat16", cell="LSTM", proj_size=2)
    arrays = dict(draw(config, "normal", 0).arrays)
    arrays["x"] = arrays["x"].copy()
    arrays["x"][:, 2] = np.nan
    case, subject = Case.from_arrays(config, arrays), as_torch(ProjectsOn)

    assert check_agreement(subject, case).verdict is Verdict.DISAGREES
    assert check(subject, case).known_as == (READ_ON if known else None)


class ReadsOnWhenPacked(TorchSubject):
    """Torch, which reads NaN where the row of x before is NaN, as if the batch were packed in another order."""

    def build(self, config: RNNConfig) -> torch.nn.Module:
        module = super().build(config)
        module.register_forward_pre_hook(lambda _module, given: (_with_nan_behind(given[0]), *given[1:]))
        return module


def _with_nan_behind(x: Any) -> Any:
    return x._replace(data=torch.where(x.data.isnan().roll(1, 0), torch.nan, x.data))


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, READ_ON), ({"num_layers": 2, "dropout": 0.9, "training": True}, NAME)],  # both issues in one case
)
@pytest.mark.parametrize("module", [torch.nn.RNN, torch.nn.LSTM])
def test_nan_of_any_row_of_a_packed_batch_is_known(module: Any, changes: dict[str, Any], known: str) -> None:
    config = RNNConfig(9, 8, T=1, N=4, lengths=(1,) * 4, dtype="bfloat16", cell=module.__name__).replace(**changes)
    arrays = dict(draw(config, "normal", 0).arrays)
    arrays["x"] = arrays["x"].copy()
    arrays["x"][:, 2] = np.nan
    case, subject = Case.from_arrays(config, arrays), ReadsOnWhenPacked(module)

    assert check_agreement(subject, case).verdict is Verdict.DISAGREES
    assert check(subject, case).known_as == known


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_nan_of_the_next_row_reaches_a_readout_and_the_rows_before_in_gradients(cell: str) -> None:
    config = RNNConfig(8, 9, T=1, N=4, dtype="bfloat16", output_size=2, cell=cell, loss="output")
    arrays = dict(draw(config, "normal", 0).arrays)
    arrays["x"] = arrays["x"].copy()
    arrays["x"][:, 2] = np.nan
    issue = next(one for one in TORCH_ISSUES if one.name == READ_ON)

    with np.errstate(invalid="ignore"):
        reads_on = issue.references(config)[0].run(Case.from_arrays(config, arrays))

    assert np.isnan(reads_on["readout"][0, :, 0]).tolist() == [False, True, True, False]
    assert np.isnan(reads_on["x.grad"][0, :, 0]).tolist() == [True, True, True, False]


def test_an_issue_that_could_show_and_does_not_is_told() -> None:
    with IsolatedSubject("torch:no-mkldnn") as right:
        assert check(right, with_an_infinity(LARGE, -1)).spared == (FILLED_UP,)
        assert check(right, with_an_infinity(LARGE, 0)).spared == (READ_ON,)
        assert check(right, with_an_infinity(LARGE, 1)).spared == ()
    assert check(as_subject(doing()), with_an_infinity(LARGE.replace(dtype="float32"), -1)).spared == ()


@pytest.mark.parametrize("name", [FILLED_UP, READ_ON])
def test_the_issue_s_script_says_what_this_machine_does(name: str) -> None:
    report = next(one for one in KNOWN_ISSUES if one.name == name).report()
    script = report.split("```python\n")[1].split("```")[0]

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    said = run.stdout.split()[-1]
    assert (run.returncode, said) in {(0, "FIXED"), (1, "FAILED")}
    assert not run.stderr


def dots(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute one layer by np.dot, whose BLAS skips a product with zero if the matrix is (1, 1)."""
    w = {name.removesuffix("_l0"): array for name, array in weights.items()}
    h, states = h0[0], []
    for frame in x:
        s = np.dot(frame, w["weight_ih"].T) + np.dot(h, w["weight_hh"].T)
        h = np.tanh(s + w["bias_ih"] + w["bias_hh"]).astype(x.dtype)
        states.append(h)
    return np.stack(states), h[None]


def skips(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Compute the same layer, with the same shortcut on any NumPy."""
    lost = x if weights["weight_ih_l0"].any() else np.where(np.isfinite(x), x, 0)
    return dots(lost, h0, weights, config)


@pytest.mark.parametrize(("rnn", "weight", "excused"), [(skips, 0.0, True), (dots, 0.0, True), (skips, 1.0, False)])
def test_a_function_is_not_held_to_a_shortcut_of_numpy_s(rnn: Any, weight: float, excused: bool) -> None:
    drawn = draw(RNNConfig(1, 1, T=2, N=3), "normal")
    x, w = drawn.x.copy(), np.full((1, 1), weight, np.float32)
    x[0, 1] = np.inf if weight else np.nan
    case = Case.from_arrays(drawn.config, {**drawn.arrays, "x": x, "weight_ih_l0": w})
    wrong = np.where(np.isfinite(x), x, 0) if weight else x

    result = check(as_subject(lambda x, h0, weights, config: rnn(wrong, h0, weights, config)), case)

    assert (result.verdict is Verdict.AGREES) == excused
    assert result.known_as in {None, "a product with zero is skipped"}


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("config", "seed"),
    [
        (RNNConfig(2, 2, num_layers=3, dropout=0.5, bidirectional=True, T=1, N=33, dtype="float64"), 1463699212),
        (
            RNNConfig(1, 2, num_layers=5, nonlinearity="relu", dropout=0.25, T=8, N=17, hx=True, dtype="float64"),
            2539257103,
        ),
    ],
)
def test_what_a_dropped_infinity_does_to_gradients_is_known_too(config: RNNConfig, seed: int) -> None:
    loss = "h_n" if config.nonlinearity == "tanh" else "both"
    case = draw(config.replace(training=True, loss=loss, wrt="inputs"), "special", seed)

    result = check(TorchSubject(), case)

    assert result.verdict is Verdict.AGREES, result
    assert result.known_as == "dropout multiplies by zero"


COPIED = RNNConfig(1, 1, T=1, N=1, preparation="deepcopy")
TURNED = RNNConfig(1, 1, batch_first=True, T=1, N=2)
DOUBLE = RNNConfig(1, 1, dtype="float64")
NO_LEAF = Result(Verdict.BROKEN, message="RuntimeError: you can only change requires_grad flags of leaf variables.")


def wrong(array: str, sort: MismatchKind) -> Result:
    return Result(Verdict.DISAGREES, (Mismatch(array, sort),))


@pytest.mark.parametrize(
    ("subject", "config", "result", "number"),
    [
        ("torch:script", COPIED, NO_LEAF, 44951),
        ("torch:trace", COPIED, wrong("weight_ih_l0.grad", MismatchKind.MISSING), 44951),
        ("onnx:openvino", TURNED, wrong("output", MismatchKind.SHAPE), 37820),
        ("onnx:openvino", TURNED, wrong("output", MismatchKind.VALUE), 37820),
        ("keras:torch", DOUBLE, wrong("x.grad", MismatchKind.VALUE), 23704),
    ],
)
def test_a_report_fits_what_was_seen_of_one_subject_in_such_cases_only(
    subject: str, config: RNNConfig, result: Result, number: int
) -> None:
    found = reported(subject, config, result)

    assert found is not None
    assert found.link.endswith(f"/{number}")
    assert reported("mine.py:rnn", config, result) is None
    assert reported(subject, replace(config, preparation="new", batch_first=False, dtype="float32"), result) is None
    assert reported(subject, config, wrong("output", MismatchKind.DTYPE)) is None
