"""Tests of reproduction: a finding becomes a script, an issue, and a test; the script fails alone, until the fix."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Case, Disagreement, Failure, Outcome, Result, RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.checks.dropout import NOTHING, check_dropout, net
from harness.checks.full_check import check
from harness.checks.repeatability import check_repeatability
from harness.checks.result import Method
from harness.diagnosis.reproduce.law import law_script
from harness.diagnosis.reproduce.literals import Literals, nested
from harness.diagnosis.reproduce.program import Unwritten, User
from harness.diagnosis.reproduce.script import Script, index_of, script
from harness.oracle.arithmetic import accepted
from harness.oracle.compare import Mismatch, Site, Sort
from harness.report.issue import regression_test
from harness.search.record import Finding
from harness.search.replay import Fate
from harness.space.case_json import to_json
from harness.space.parts import PAIRS, PREPARATIONS, STRIDES
from harness.store.scripts import offer, run_alone, write
from harness.subjects.capabilities import Recipe
from harness.subjects.function import FunctionSubject
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject
from harness.subjects.recipes import RECIPES
from harness.subjects.registry import find_subject
from tests.diagnosis.subjects_by_hand import DROP_IN, FUNCTION

WRONG, RIGHT = "WRONG = True", "WRONG = False"


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the import path, so that imports from a test's folder, such as a random.py, end with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def saved(folder: Path, name: str, text: str) -> Path:
    """Write a file under a new name; Python would not reread a file replaced by one of equal length within a second."""
    path = folder / name
    path.write_text(text)
    return path


def found(spec: str, config: RNNConfig, regime: str = "normal", seed: int = 0) -> tuple[Finding, Subject]:
    subject, case = find_subject(spec), draw(config, regime, seed)
    return Finding(spec, case, check(subject, case, with_probes=False, laws=())), subject


def run_here(path: Path) -> str:
    """Return what a script prints when it is run in this process."""
    printed, before = io.StringIO(), list(sys.path)
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings(), contextlib.suppress(SystemExit):
            warnings.simplefilter("ignore")
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.path[:] = before
        for name in [name for name, module in sys.modules.items() if _lies_in(module, path.parent)]:
            del sys.modules[name]
    return printed.getvalue()


def assert_fails_until_mended(made: Script, path: Path, mended: str) -> str:
    """Assert that a script says FAILED, and FIXED once the file has the mended text; return what it said at first."""
    assert made.text is not None, made.reason
    assert "harness" not in made.text
    written = write(made, path.parent)
    said = run_here(written)
    assert said.endswith("FAILED\n"), said
    saved(path.parent, path.name, mended)
    assert run_here(written).endswith("FIXED\n")
    return said


def _lies_in(module: Any, folder: Path) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


class Lying:
    """A correct subject, but its first returned array is reported with wrong numbers."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.capabilities = subject.capabilities

    @property
    def name(self) -> str:
        return self._subject.name

    def devices(self) -> tuple[str, ...]:
        return self._subject.devices()

    def run(self, case: Case) -> Outcome:
        outcome = self._subject.run(case)
        lies: dict[str, Any] = dict(outcome.arrays)
        name = next(iter(lies))
        return replace(outcome, arrays=lies | {name: lies[name] + lies[name].dtype.type(4)})


PLAIN = RNNConfig(2, 3, T=3, N=2)
TWO = RNNConfig(2, 3, 2, bidirectional=True, T=3, N=2, hx=True)

FUNCTIONS = {
    "plain": PLAIN,
    "deep": TWO.replace(batch_first=True, nonlinearity="relu"),
    "unbatched": TWO.replace(batched=False, N=1, batch_first=True),
    "packed": TWO.replace(lengths=(1, 3)),
    "packed with a readout": TWO.replace(lengths=(3, 1), batch_first=True, output_size=2, enforce_sorted=True),
    "float64": PLAIN.replace(dtype="float64", bias=False),
    "bfloat16": PLAIN.replace(dtype="bfloat16"),
    "gradients with a readout": TWO.replace(output_size=2, loss="both"),
    "gradients of packed": TWO.replace(lengths=(1, 3), loss="h_n"),
    "transposed": TWO.replace(strides="transposed", loss="both"),
    "stepped": TWO.replace(strides="stepped", loss="output"),
    "expanded": TWO.replace(strides="expanded", loss="both"),
    "used before": TWO.replace(preparation="used", lengths=(3, 2)),
    "dropout": TWO.replace(dropout=0.5, training=True, loss="both", batch_first=True),
    "large": RNNConfig(33, 65, T=3, N=2, loss="output"),
}

CLASSES = {
    "plain": PLAIN,
    "packed": TWO.replace(lengths=(1, 3), loss="both"),
    "unbatched": TWO.replace(batched=False, N=1, dtype="bfloat16"),
    "expanded": PLAIN.replace(strides="expanded", loss="h_n", wrt="inputs"),
    "readout": TWO.replace(output_size=2, loss="both", batch_first=True, strides="transposed"),
    "autocast": TWO.replace(autocast="bfloat16", loss="both", strides="stepped"),
    "inference": PLAIN.replace(grad_mode="inference_mode", lengths=(3, 1), enforce_sorted=True, output_size=1),
    "accumulate": PLAIN.replace(grad_mode="accumulate", loss="both", hx=True),
    "tied": PLAIN.replace(tied=True, loss="both", hx=True, lengths=(3, 1), preparation="parametrize"),
    "tied with a readout": TWO.replace(tied=True, loss="both", output_size=2, wrt="inputs"),
    "grad mode": PLAIN.replace(grad_mode="enable_grad", dtype="float16"),
    "large": RNNConfig(33, 65, T=3, N=2, dtype="bfloat16"),
    "weights alone": TWO.replace(loss="output", wrt="weights", preparation="used"),
}


@pytest.mark.parametrize("config", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_wrong_function_fails_by_itself_until_it_is_mended(config: RNNConfig, tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, subject = found(f"{path}:rnn", config)
    assert finding.result.verdict is Verdict.DISAGREES

    offered = offer(finding, subject, tmp_path)

    assert offered.path is not None, offered.reason
    assert offered.script.text is not None
    assert "harness" not in offered.script.text
    assert "torch" not in offered.script.text
    assert run_alone(offered.path).fate is Fate.FAILED
    saved(tmp_path, "by_hand.py", FUNCTION.replace(WRONG, RIGHT))
    assert run_alone(offered.path).fate is Fate.FIXED


@pytest.mark.parametrize("changes", [{}, {"preparation": "used"}])
def test_a_function_is_passed_by_position_what_takes_no_name(changes: Mapping[str, Any], tmp_path: Path) -> None:
    text = FUNCTION.replace("lengths, masks):", "lengths, /, masks):")
    text += "\n\nrnn.conventions = {'transposed': True}\n" if not changes else ""
    assert text != FUNCTION
    path = saved(tmp_path, "by_hand.py", text)
    finding, subject = found(f"{path}:rnn", PLAIN.replace(input_size=3, **changes))
    assert finding.result.verdict is Verdict.DISAGREES

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert "rnn(x, h0, weights, config, cotangents, lengths, masks=masks)" in made.text
    assert run_here(write(made, tmp_path)).endswith("FAILED\n")


@pytest.mark.kernels
@pytest.mark.parametrize("config", CLASSES.values(), ids=CLASSES)
def test_a_wrong_class_fails_by_itself_until_it_is_mended(config: RNNConfig, tmp_path: Path) -> None:
    path = saved(tmp_path, "drop_in.py", DROP_IN)
    finding, subject = found(f"{path}:MyRNN", config)
    assert finding.result.verdict is Verdict.DISAGREES

    made = script(finding, subject)

    assert_fails_until_mended(made, path, DROP_IN.replace(WRONG, RIGHT))


KERAS = """
import numpy as np

def last_of(x, weights, config, cotangents):
    W, U, b = weights["weight_ih_l0"], weights["weight_hh_l0"], weights.get("bias_ih_l0", 0)
    h = [np.zeros((len(x), len(U)), x.dtype)]
    for t in range(x.shape[1]):
        h.append(np.tanh(x[:, t] @ W + h[-1] @ U + b))
    if not cotangents:
        return h[-1] * WRONG
    dh, dW, dU, db = cotangents["h_n.grad"][0], np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    for t in reversed(range(x.shape[1])):
        da = dh * (1 - h[t + 1] ** 2)
        dh, dW, dU, db = da @ U.T, dW + x[:, t].T @ da, dU + h[t].T @ da, db + da.sum(0)
    return h[-1], {"weight_ih_l0": dW, "weight_hh_l0": WRONG * dU, "bias_ih_l0": db}

last_of.conventions = {"one_bias": True, "batch_first": True, "last_output_only": True}
"""


@pytest.mark.parametrize("loss", [None, "h_n"])
def test_a_function_of_other_conventions_is_called_in_its_own(loss: str | None, tmp_path: Path) -> None:
    path = saved(tmp_path, "keras_like.py", KERAS + "WRONG = 2")
    config = RNNConfig(2, 3, T=4, N=5, batch_first=True, loss=loss, wrt="weights" if loss else "all")
    finding, subject = found(f"{path}:last_of+transposed", config)
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    made = script(finding, subject)

    assert_fails_until_mended(made, path, KERAS + "WRONG = 1.0")


STALE = """
import torch

class Keeps(torch.nn.Module):
    kept = None

    def __init__(self, features, units):
        super().__init__()
        self.i2h = torch.nn.Linear(features, units)
        self.h2h = torch.nn.Linear(units, units)

    def forward(self, x, hx=None):
        if self.kept is None or not KEEP:
            self.kept = self.h2h.weight.clone()
        h, states = x.new_zeros(x.shape[1], len(self.kept)) if hx is None else hx[0], []
        for step in x:
            h = torch.tanh(self.i2h(step) + h @ self.kept.T + self.h2h.bias)
            states.append(h)
        return torch.stack(states), h[None]

"""


@pytest.mark.parametrize(
    ("config", "renews"),
    [
        (PLAIN.replace(T=3, preparation="used"), "rnn.load_state_dict(weights, strict=False)\n"),
        (PLAIN.replace(T=3, preparation="used", training=True), "rnn.get_parameter(name).copy_(tensor)\n"),
    ],
)
def test_what_a_module_keeps_of_other_weights_is_in_the_script(config: RNNConfig, renews: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "keeps.py", STALE + "KEEP = True")
    finding, subject = found(f"{path}:Keeps", config)
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert renews in made.text
    assert_fails_until_mended(made, path, STALE + "KEEP = False")


FORMS = """
import torch

class Keras(torch.nn.Module):
    conventions = {"one_bias": True, "transposed": True}

    def __init__(self, input_size, hidden_size, *_, device, dtype, **options):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.weight_ih_l0 = torch.nn.Parameter(torch.zeros(input_size, hidden_size, **made))
        self.weight_hh_l0 = torch.nn.Parameter(torch.zeros(hidden_size, hidden_size, **made))
        self.bias_ih_l0 = torch.nn.Parameter(torch.zeros(hidden_size, **made))

    def forward(self, x, hx=None):
        h = x.new_zeros(x.shape[1], len(self.bias_ih_l0)) if hx is None else hx[0]
        states = []
        for step in x:
            h = torch.tanh(step @ self.weight_ih_l0 + WRONG * (h @ self.weight_hh_l0) + self.bias_ih_l0)
            states.append(h)
        return torch.stack(states), h[None].clone()

class Own(torch.nn.Module):
    def __init__(self, features, units, n_layers=1):
        super().__init__()
        sizes = [features] + [units] * (n_layers - 1)
        self.Wx = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(size, units)) for size in sizes)
        self.Wh = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(units, units)) for _ in sizes)
        self.b = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(units)) for _ in sizes)
        self.register_buffer("one", torch.ones(()))

    def forward(self, x, hx=None):
        last = []
        for k, (W, U, b) in enumerate(zip(self.Wx, self.Wh, self.b)):
            h = x.new_zeros(x.shape[1], len(b)) if hx is None else hx[k]
            states = []
            for step in x:
                h = torch.tanh(step @ W + WRONG * (h @ U) + self.one * b)
                states.append(h)
            x = torch.stack(states)
            last.append(h)
        return x, torch.stack(last)

class Flat(Own):
    def __init__(self, features, units):
        super().__init__(features, units)

    def forward(self, x, h=None):
        output, last = super().forward(x, h if h is None else h[None])
        return last[0], output

class Alone(Flat):
    def forward(self, x):
        return super().forward(x)[1]

class Rows(Alone):
    conventions = {"batch_first": True}

    def forward(self, x):
        return super().forward(x.transpose(0, 1)).transpose(0, 1)

class Step(torch.nn.Module):
    def __init__(self, vocab, features, units, outputs):
        super().__init__()
        self.table = torch.nn.Embedding(vocab, features)
        self.both = torch.nn.Linear(units + features, units)
        self.last = torch.nn.Linear(units, outputs)

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), self.both.out_features) if h is None else h
        h = torch.tanh(self.both(torch.cat([WRONG * h, self.table(x)], 1)))
        return self.last(h), h

class Headed(torch.nn.Module):
    def __init__(self, features, units, outputs):
        super().__init__()
        self.b = torch.nn.Parameter(torch.zeros(units))
        self.both = torch.nn.Parameter(torch.zeros(features + units, units))
        self.last = torch.nn.Linear(units, outputs)

    def forward(self, x, hx):
        h, outputs = hx[0], []
        for step in x:
            h = torch.tanh(torch.cat([step, WRONG * h], 1) @ self.both + self.b)
            outputs.append(self.last(h))
        return torch.cat(outputs), h[None]

class Soft(Headed):
    def forward(self, x, hx):
        output, h_n = super().forward(x, hx)
        return output.softmax(-1), h_n

class Last(Headed):
    def __init__(self, features, units, outputs):
        super().__init__(features, units, outputs)
        self.soft = torch.nn.Softmax(-1)

    def forward(self, x):
        output, _ = super().forward(x, self.b.new_zeros(1, x.shape[1], len(self.b)))
        return self.soft(output[-x.shape[1]:])
"""

OWN_WAYS = ["new", "used", "state_dict", "to_dtype", "functional_call", "deepcopy"]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("Keras", "parametrize"),
        *((name, way) for name in ("Keras", "Own") for way in OWN_WAYS),
        *((name, way) for name in ("Flat", "Alone", "Rows") for way in ("used", "functional_call")),
        *(
            (name, way)
            for name in ("Step", "Headed", "Soft", "Last")
            for way in ("used", "to_dtype", "functional_call")
        ),
    ],
)
def test_a_class_of_another_form_is_given_its_own_weights(name: str, way: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "forms.py", FORMS + "WRONG = 2")
    config = RNNConfig(2, 3, 1 + (name == "Own"), T=4, N=2, hx=True, loss="both", dtype="float64", preparation=way)
    alone = name in {"Alone", "Rows", "Last"}
    config = config.replace(loss="h_n" if name in {"Soft", "Last"} else "both")
    config = config.replace(hx=not alone, grad_mode="accumulate" if way == "deepcopy" or alone else None)
    config = config.replace(batch_first=name == "Rows")
    finding, subject = found(f"{path}:{name}", config)
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert '"bias_hh_l0.grad"' in made.text
    assert_fails_until_mended(made, path, FORMS + "WRONG = 1.0")


class NeverDrops(torch.nn.Module):
    def __init__(self, features: int, units: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.rnn = torch.nn.RNN(features, units, n_layers)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.rnn(x, hx)


def test_no_script_counts_what_a_class_of_another_form_drops() -> None:
    subject = as_subject(NeverDrops)
    result = check_dropout(subject)

    assert result.verdict is Verdict.DISAGREES
    with pytest.raises(Unwritten, match="names alone"):
        law_script("forms.py:NeverDrops", result, User(subject.capabilities.recipe or Recipe()))


DOUBLES = """
import torch

class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx, output):
        return output.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient

class Wrong(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        return output._replace(data=Doubles.apply(output.data)), h_n
"""


def test_a_script_goes_back_through_a_readout_of_packed_sequences(tmp_path: Path) -> None:
    path = saved(tmp_path, "doubles.py", DOUBLES)
    finding, subject = found(f"{path}:Wrong", RNNConfig(2, 3, T=2, N=2, lengths=(2, 1), output_size=2, loss="both"))

    assert run_here(write(script(finding, subject), tmp_path)).endswith("FAILED\n")


def test_a_script_of_two_modules_that_return_their_output_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, "forms.py", FORMS + "WRONG = 2")
    finding, subject = found(f"{path}:Alone", RNNConfig(2, 3, T=4, N=2, loss="both", tied=True))

    assert_fails_until_mended(script(finding, subject), path, FORMS + "WRONG = 1.0")


def test_a_script_sees_a_declaration_that_was_mended(tmp_path: Path) -> None:
    text = KERAS + "WRONG = 1.0"
    path = saved(tmp_path, "keras_like.py", text)
    finding, subject = found(f"{path}:last_of", RNNConfig(3, 3, T=4, N=5, batch_first=True))
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    made = script(finding, subject)

    assert_fails_until_mended(made, path, text.replace('{"one_bias"', '{"transposed": True, "one_bias"'))


@pytest.mark.long
def test_subjects_in_processes_of_their_own_are_told_apart(tmp_path: Path) -> None:
    path, other = saved(tmp_path, "drop_in.py", DROP_IN), saved(tmp_path, "by_hand.py", FUNCTION)
    for spec in (f"{path}:MyRNN", f"{other}:rnn"):
        case = draw(CLASSES["packed"], "normal")
        with IsolatedSubject(spec) as subject:
            offered = offer(Finding(spec, case, check_agreement(subject, case)), subject, tmp_path)

        assert offered.path is not None, offered.reason
        assert run_alone(offered.path).fate is Fate.FAILED


WAYS = [
    *(TWO.replace(preparation=preparation, loss="both") for preparation in PREPARATIONS),
    *(TWO.replace(strides=strides, loss="both", output_size=2) for strides in STRIDES),
    TWO.replace(dropout=0.5, training=True, loss="both"),
    TWO.replace(dropout=0.25, training=True, lengths=(1, 3), batch_first=True),
    TWO.replace(autocast="float16", output_size=2),
    TWO.replace(loss="h_n", output_size=2, wrt="inputs"),
    PLAIN.replace(batched=False, N=1, preparation="used", dtype="float64", loss="output"),
    PLAIN.replace(preparation="functional_call"),
    PLAIN.replace(N=0),
]


@pytest.mark.kernels
@pytest.mark.parametrize("config", WAYS, ids=repr)
def test_what_is_called_and_expected_is_what_was_asked_of_torch(config: RNNConfig, tmp_path: Path) -> None:
    right = find_subject("torch")
    subject, case = Lying(right), draw(config, "normal", 1)
    result = Result(Verdict.DISAGREES, (Mismatch("output", Sort.VALUE),))
    if config.N:
        result = check_agreement(subject, case, with_probes=False)

    made = script(Finding("torch", case, result), subject)

    if not config.N:
        assert made.text is None
        return
    assert made.text is not None, made.reason
    assert run_here(write(made, tmp_path)).endswith("FIXED\n")  # torch is correct


PREPARED = {
    "used": "rnn(torch.ones((4, 3, 2)))",
    "deepcopy": "rnn = copy.deepcopy(rnn)",
    "pickle": "rnn = pickle.loads(pickle.dumps(rnn))",
    "state_dict": "other.load_state_dict(rnn.state_dict())\n",
    "assign": "other.load_state_dict(rnn.state_dict(), assign=True)",
    "to_dtype": "other = other.to(torch.float32)",
    "replaced": "setattr(rnn, name, torch.nn.Parameter(tensor.clone()))",
    "parametrize": "register_parametrization(rnn, name, Same())",
    "functional_call": "torch.func.functional_call(rnn, ",
}
"""A line of each preparation in a script."""


@pytest.mark.kernels
def test_two_preparations_and_arguments_by_position_are_in_the_script(tmp_path: Path) -> None:
    right = find_subject("torch")
    # Each preparation is once the first and once the second; a parametrized module differs in every second one.
    pairs = [pair for number, pair in enumerate(sorted(PAIRS)) if "parametrize" in pair or number % 9 == 0]
    configs = [PLAIN.replace(preparation=then, after=first, loss="both") for first, then in pairs]
    for config in (*configs, configs[0].replace(loss=None), TWO.replace(positional=True, nonlinearity="relu")):
        subject, case = Lying(right), draw(config, "normal", 1)

        made = script(Finding("torch", case, check_agreement(subject, case, with_probes=False)), subject)

        assert made.text is not None, made.reason
        steps = [PREPARED[way] for way in (config.after, config.preparation) if way in PREPARED]
        assert sorted(steps, key=made.text.index) == steps, config
        assert ('torch.nn.RNN(2, 3, 2, "relu", True, False, 0.0, True)' in made.text) == config.positional
        assert run_here(write(made, tmp_path)).endswith("FIXED\n"), config


@pytest.mark.kernels
@pytest.mark.parametrize("preparation", ["new", "pickle", "parametrize", "functional_call"])
def test_a_cell_is_looped_over_time(preparation: str, tmp_path: Path) -> None:
    subject = Lying(find_subject("torch:cell"))
    case = draw(RNNConfig(2, 3, T=2, N=2, hx=True, loss="both", preparation=preparation), "normal", 1)

    made = script(Finding("torch:cell", case, check_agreement(subject, case, with_probes=False)), subject)

    assert made.text is not None, made.reason
    assert "class Cell(torch.nn.RNNCell):" in made.text
    assert run_here(write(made, tmp_path)).endswith("FIXED\n")


@pytest.mark.kernels
@pytest.mark.parametrize("mode", ["export", "trace"])
def test_a_mode_of_torch_is_made_in_the_script(mode: str, tmp_path: Path) -> None:
    config = RNNConfig(2, 3, T=2, N=2, hx=True, batch_first=True, loss="both", preparation="used")
    subject, case = Lying(find_subject(f"torch:{mode}")), draw(config, "normal", 1)

    made = script(Finding(f"torch:{mode}", case, check_agreement(subject, case, with_probes=False)), subject)

    assert made.text is not None, made.reason
    assert f"torch.{'jit.' if mode == 'trace' else 'export.'}{mode}(plain" in made.text
    assert run_here(write(made, tmp_path)).endswith("FIXED\n")


@pytest.mark.parametrize("flags", ["no-cudnn", "tf32", "ieee"])
def test_the_flags_of_cudnn_are_switched(flags: str, tmp_path: Path) -> None:
    subject, case = Lying(find_subject("torch")), draw(TWO.replace(loss="both"))
    subject.capabilities = replace(subject.capabilities, recipe=RECIPES[f"torch:{flags}"])

    made = script(Finding(f"torch:{flags}", case, check_agreement(subject, case, with_probes=False)), subject)

    assert made.text is not None, made.reason
    assert "with torch.backends.cudnn.flags(enabled=" in made.text
    assert run_here(write(made, tmp_path)).endswith("FIXED\n")


@pytest.mark.kernels
@pytest.mark.parametrize("large", [False, True])
def test_tensors_are_made_on_the_device(large: bool, tmp_path: Path) -> None:
    config = TWO.replace(
        device="cpu:0", dtype="bfloat16", loss="both", preparation="used", hidden_size=33 if large else 3
    )
    case = draw(config)

    class Elsewhere(Lying):
        def run(self, case: Case) -> Outcome:
            return super().run(replace(case, config=case.config.replace(device="cpu")))

    subject = Elsewhere(find_subject("torch"))

    made = script(Finding("torch", case, check_agreement(subject, case, with_probes=False)), subject)

    assert made.text is not None, made.reason
    assert ('to("cpu:0", torch.bfloat16)' if large else 'dtype=torch.bfloat16, device="cpu:0"') in made.text
    assert ".cpu()" in made.text
    assert run_here(write(made, tmp_path)).endswith("FIXED\n")


def test_what_is_accepted_is_allowed(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, subject = found(f"{path}:rnn", PLAIN)

    strict, loose = (script(finding, subject, accepted=accepted(text)).text for text in ("derived", "atol=0.01"))

    assert strict is not None
    assert loose is not None
    assert "can explain.\n" in strict
    assert "can explain, plus the accepted tolerance.\n" in loose
    assert run_here(write(script(finding, subject, accepted=accepted("atol=0.01")), tmp_path)).endswith("FAILED\n")


def test_a_script_that_does_not_fail_is_not_offered(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION.replace(WRONG, RIGHT))
    subject, case = Lying(find_subject(f"{path}:rnn")), draw(FUNCTIONS["large"], "normal", 0)
    finding = Finding(f"{path}:rnn", case, check_agreement(subject, case, with_probes=False))

    offered = offer(finding, subject, tmp_path)

    assert offered.path is None
    assert "does not fail" in offered.reason
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["by_hand.py"]


def test_a_script_reads_as_one_that_was_written_by_hand(tmp_path: Path) -> None:
    text = (
        "import numpy as np\n\ndef rnn(x, weights):\n    h = np.tanh(x @ weights['weight_ih_l0'].T)\n    return h, h\n"
    )
    path = saved(tmp_path, "mine.py", text)
    case = Case.of(
        RNNConfig(1, 1), [[[0.5]]], weight_ih_l0=[[0.25]], weight_hh_l0=[[0.0]], bias_ih_l0=[0.5], bias_hh_l0=[0.25]
    )
    subject = find_subject(f"{path}:rnn")

    made = script(Finding(f"{path}:rnn", case, check_agreement(subject, case)), subject)

    assert made.arrays == {}
    assert (
        made.text
        == f'''\
"""{path}:rnn computes another output than nn.RNN is documented to compute.

Prints FAILED and exits with 1 while that is so. Afterwards it prints FIXED and exits with 0.
"""

import sys

import numpy as np

FOLDER = "{tmp_path}"  # where mine.py is
sys.path.insert(0, FOLDER)
from mine import rnn

x = np.array([[[0.5]]], np.float32)
weights = {{
    "weight_ih_l0": np.array([[0.25]], np.float32),
    "weight_hh_l0": np.array([[0.0]], np.float32),
    "bias_ih_l0": np.array([0.5], np.float32),
    "bias_hh_l0": np.array([0.25], np.float32),
}}

print(f"NumPy {{np.__version__}}, Python {{sys.version.split()[0]}}")

output, h_n = rnn(x=x, weights=weights)
actual = {{"output": output, "h_n": h_n}}

# Expected: float64, from the equations. The allowance is what rounding in float32 can explain.
expected = {{
    "output": np.array([[[0.7039056039]]]),
    "h_n": np.array([[[0.7039056039]]]),
}}
allowance = {{"output": 2e-07, "h_n": 2e-07}}

failed = False
for name, want in expected.items():
    got = np.asarray(actual[name]).astype(np.float64)
    assert got.shape == want.shape, f"{{name}} has shape {{got.shape}}, expected {{want.shape}}"
    off = abs(got - want)
    right = off <= allowance[name]
    differing = np.argwhere(~right).tolist()
    for index in map(tuple, differing):
        print(f"{{name}}{{list(index)}} is {{got[index]:.9g}}, expected {{want[index]:.9g}},", end=" ")
        print(f"off by {{off[index]:.3g}}, allowance {{allowance[name]:.2g}}")
    print(f"{{name}}: {{len(differing)}} of {{off.size}} elements are wrong")
    failed = failed or bool(differing)
print("FAILED" if failed else "FIXED")
sys.exit(failed)
'''
    )


SUBSETS = {
    "x": "def rnn(x): return x * 0, x[-1:] * 0",
    "keywords": "def rnn(*, weights, x, **more): return x * 0, x[-1:] * 0",
    "a name that a script uses": "def output(x): return x * 0, x[-1:] * 0",
    "a method": "class Nets:\n    @staticmethod\n    def rnn(x): return x * 0, x[-1:] * 0",
    "a lambda": "rnn = lambda x, config: (x * 0, x[-config.num_layers * config.num_directions:] * 0)",
}
NAMED = {"a name that a script uses": "output", "a method": "Nets.rnn"}


@pytest.mark.parametrize("form", SUBSETS)
@pytest.mark.parametrize("file", ["mine.py", "random.py", "not-a-name.py"])
def test_functions_of_any_arguments_and_files_of_any_name(form: str, file: str, tmp_path: Path) -> None:
    path = saved(tmp_path, file, SUBSETS[form])
    finding, subject = found(f"{path}:{NAMED.get(form, 'rnn')}", RNNConfig(2, 2, T=2, N=2))

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert run_here(write(made, tmp_path)).endswith("FAILED\n")


def test_a_module_is_found_in_the_folder_in_which_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack_of_mine").mkdir()
    saved(tmp_path / "pack_of_mine", "nets.py", FUNCTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    finding, subject = found("pack_of_mine.nets:rnn", PLAIN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    offered = offer(finding, subject, elsewhere)

    assert offered.path is not None, offered.reason
    assert run_alone(offered.path, cwd=elsewhere).fate is Fate.FAILED


ALWAYS = "x * 0, h0"
READOUTS = {
    "all three": f"return ({ALWAYS}, x * 0)",
    "with h_n": "return x * 0, h0",
    "alone": "return x * 0",
}


@pytest.mark.parametrize("form", READOUTS)
def test_a_readout_comes_back_in_one_of_three_forms(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", f"def rnn(x, h0):\n    {READOUTS[form]}\n")
    finding, subject = found(f"{path}:rnn", RNNConfig(2, 2, T=2, N=2, output_size=2))

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert run_here(write(made, tmp_path)).endswith("FAILED\n")


RIGHT_BODY = """
    import numpy as np
    h, states, bias = h0[0], [], weights["bias_ih_l0"] + weights["bias_hh_l0"]
    for frame in x:
        h = np.tanh(frame @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T + bias)
        states.append(h)
    return np.stack(states), h[None]
"""

BROKEN = {
    "raises": ("raise ValueError('boom')", "ValueError: boom\nFAILED\n"),
    "raises one of its own": ("raise Own('boom')", "Own: boom\nFAILED\n"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3\nFAILED\n"),
    "returns nothing": ("return None", "FAILED\n"),
    "returns three": ("return x, h0, x", "FAILED\n"),
    "returns a list": ("return x.tolist(), h0", "FAILED\n"),
    "a wrong shape": ("return x[..., :1], h0", "output is float32 (2, 2, 1), expected float32 (2, 2, 2)\nFAILED\n"),
    "a wrong dtype": (
        "return x.astype(float), h0",
        "output is float64 (2, 2, 2), expected float32 (2, 2, 2)\nFAILED\n",
    ),
    "writes": (RIGHT_BODY.replace("return", "x[...] = 0; return"), "x was written into\nFAILED\n"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_gives_no_values_is_shown_as_it_is(how: str, tmp_path: Path) -> None:
    code, ends = BROKEN[how]
    path = saved(tmp_path, "mine.py", f"class Own(Exception): pass\n\n\ndef rnn(x, h0, weights):\n    {code}\n")
    finding, subject = found(f"{path}:rnn", RNNConfig(2, 2, T=2, N=2))
    assert finding.result.failed

    made = script(finding, subject)

    said = assert_fails_until_mended(made, path, "def rnn(x, h0, weights):\n    return x * 2, h0\n")
    assert said.endswith(ends)


KEEPS = """
import torch
import numpy as np

KEPT = {{}}

def kept(array):
    if isinstance(array, torch.Tensor):
        return KEPT.setdefault(array.shape, array.clone()).copy_(array)
    KEPT.setdefault(array.shape, array.copy())[...] = array
    return KEPT[array.shape]

class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        with torch.no_grad():
            return kept(gradient)

class MyRNN(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        return {returned}

class Back(torch.nn.RNN):
    def forward(self, x, hx=None):
        return super().forward(Backwards.apply(x), hx)

def rnn(x, h0, weights, config, cotangents):
    scale = x.sum() + sum(g.sum() for g in cotangents.values())
    gradients = {{"x": kept(x * scale), **weights}}
    output, h_n = np.tanh(x), np.tanh(x[-1:])
    return *({returned}), gradients
"""
OVERWRITTEN = {
    "output": ("kept(output), h_n", {}),
    "h_n": ("output, kept(h_n)", {}),
    "x.grad": ("output, h_n", {"loss": "both"}),
}


@pytest.mark.parametrize("array", OVERWRITTEN)
@pytest.mark.parametrize("form", ["rnn", "MyRNN"])
def test_what_the_next_call_overwrites_is_shown_by_a_next_call(array: str, form: str, tmp_path: Path) -> None:
    returned, changes = OVERWRITTEN[array]
    form = "Back" if form == "MyRNN" and changes else form
    text = KEEPS.format(returned=returned)
    path = saved(tmp_path, "mine.py", text)
    case = draw(RNNConfig(2, 2, T=2, N=2).replace(**changes), "normal", 0)
    result = Result(Verdict.DISAGREES, (Mismatch(array, Sort.OVERWRITTEN),))

    made = script(Finding(f"{path}:{form}", case, result), find_subject(f"{path}:{form}"))

    mended = text.replace("def kept(array):", "def kept(array):\n    return 1 * array")
    said = assert_fails_until_mended(made, path, mended)
    assert f"\n{array} was [[" in said
    assert said.endswith("after the next call\nFAILED\n")


def test_of_a_packed_output_that_is_overwritten_there_is_no_script(tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", KEEPS.format(returned="output, h_n"))
    case = draw(RNNConfig(2, 2, T=2, N=2, lengths=(2, 1)), "normal", 0)
    result = Result(Verdict.DISAGREES, (Mismatch("output", Sort.OVERWRITTEN),))

    made = script(Finding(f"{path}:MyRNN", case, result), find_subject(f"{path}:MyRNN"))

    assert "padded" in made.reason


def test_a_gradient_that_is_missing_is_missed(tmp_path: Path) -> None:
    text = "def rnn(x, h0, weights, cotangents):\n    return x * 0, h0, {'weight_hh_l0': weights['weight_hh_l0']}\n"
    config = RNNConfig(2, 2, num_layers=2, bias=False, T=2, N=2, loss="output", wrt="weights", hx=True)
    finding, subject = found(f"{saved(tmp_path, 'mine.py', text)}:rnn", config)

    made = script(finding, subject)

    assert made.text is not None, made.reason
    ground, *said = run_here(write(made, tmp_path)).splitlines()
    assert ground.startswith("NumPy ")
    assert said == ["weight_hh_l1.grad is missing", "FAILED"]


def test_another_error_than_the_one_found_is_no_failure(tmp_path: Path) -> None:
    text = "def rnn(x, config):\n    raise ValueError(config.cost)\n"
    path = saved(tmp_path, "mine.py", text)
    finding, subject = found(f"{path}:rnn", PLAIN)

    offered = offer(finding, subject, tmp_path)

    assert offered.path is None
    assert "AttributeError" in offered.reason
    assert not (tmp_path / "reproduce.py").exists()


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_a_process_that_dies_is_watched_from_another(death: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", f"import os\n\n\ndef rnn(x, h0):\n    {death}\n")
    case = draw(PLAIN)
    with IsolatedSubject(f"{path}:rnn") as subject:
        finding = Finding(f"{path}:rnn", case, check_agreement(subject, case))
        assert finding.result.failure is Failure.CRASHED

        offered = offer(finding, subject, tmp_path)

    assert offered.path is not None, offered.reason
    saved(tmp_path, "mine.py", "def rnn(x, h0):\n    return x, h0\n")
    assert run_alone(offered.path).fate is Fate.FIXED


TORCH_FORMS = {
    "shares memory": "return output, output[-1:]",
    "a wrong shape": "return output[..., :1], h_n",
    "writes": "x.zero_(); return output, h_n",
    "raises": "raise RuntimeError('boom')",
    "no tensor": "return output, None",
}


@pytest.mark.parametrize("how", TORCH_FORMS)
def test_what_a_module_does_otherwise_is_shown_as_it_is(how: str, tmp_path: Path) -> None:
    text = f"""\
import torch


class MyRNN(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        {TORCH_FORMS[how]}
"""
    loss = None if how == "writes" else "output"
    path = saved(tmp_path, "drop_in.py", text)
    finding, subject = found(f"{path}:MyRNN", PLAIN.replace(loss=loss))
    assert finding.result.failed

    made = script(finding, subject)

    assert_fails_until_mended(made, path, text.replace(TORCH_FORMS[how], "return output, h_n"))


def test_what_only_its_own_step_shows_is_compared_there(tmp_path: Path) -> None:
    text = """\
import numpy as np


def rnn(x, weights):
    h, states = np.zeros((x.shape[1], 2), x.dtype), []
    for t in range(len(x)):
        h = np.tanh(x[t] @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T)
        if t == 11:
            h = h * x.dtype.type(1 + 2e-6 * WRONG)
        states.append(h)
    return np.stack(states), np.stack(states)[-1:]
"""
    path = saved(tmp_path, "mine.py", f"{WRONG}\n{text}")
    case = draw(RNNConfig(2, 2, bias=False, T=12, N=1), "normal", 4)
    subject = find_subject(f"{path}:rnn")
    finding = Finding(f"{path}:rnn", case, check_agreement(subject, case))
    assert finding.result.verdict is Verdict.DISAGREES

    made = script(finding, subject)

    assert made.text is not None, made.reason
    assert "over one step, it cannot" in made.text
    assert_fails_until_mended(made, path, f"{RIGHT}\n{text}")

    doubts = tuple(replace(mismatch, sort=Sort.SUSPICIOUS) for mismatch in finding.result.mismatches)
    doubted = script(replace(finding, result=Result(Verdict.SUSPECT, doubts)), subject)

    assert doubted.text is not None, doubted.reason
    assert "No bound proves these wrong" in doubted.text


@pytest.mark.parametrize("config", [TWO, TWO.replace(batch_first=True), TWO.replace(batched=False, N=1)], ids=repr)
def test_elements_are_found_again_by_their_places(config: RNNConfig) -> None:
    config = config.replace(loss="both", output_size=2)
    for name, spec in config.returned.items():
        alone = len(config.plain.returned[name].shape) > len(spec.shape)
        for index in np.ndindex(*config.plain.returned[name].shape):
            site = Site(config.plain.locate(name, index), 0.0, 0.0, 0.0)

            assert index_of(config, name, site) == ((index[0], *index[2:]) if alone else index)


def test_what_no_script_can_show_has_a_reason(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, subject = found(f"{path}:rnn", PLAIN)

    def reason(spec: str = finding.subject, **changes: Any) -> str:
        made = script(Finding(spec, finding.case, replace(finding.result, **changes)), subject)
        assert made.text is None
        return made.reason

    (first, *_) = finding.result.mismatches
    assert "hangs" in reason(verdict=Verdict.BROKEN, mismatches=(), failure=Failure.HUNG)
    assert "law" in reason(mismatches=(replace(first, law="two directions"),))
    assert "derivatives" in reason(mismatches=(replace(first, sort=Sort.DERIVATIVE),))
    assert "other runs" in reason(verdict=Verdict.BROKEN, mismatches=(), message="ValueError: boom")
    assert "imported" in reason("by_hand")


def test_a_registered_subject_may_say_how_a_script_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding, subject = found(f"{saved(tmp_path, 'by_hand.py', FUNCTION)}:rnn", PLAIN)
    finding = replace(finding, subject="by-hand")
    monkeypatch.setattr("harness.diagnosis.reproduce.script.registered", lambda: {"by-hand": None})
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = Recipe("by_hand.rnn", (f"sys.path.insert(0, {str(tmp_path)!r})", "import by_hand"))

    untold = script(finding, subject)
    told = script(finding, FunctionSubject(import_module("by_hand").rnn, "by-hand", recipe))

    assert "only the package that offers by-hand knows" in untold.reason
    assert told.text is not None, told.reason
    assert "harness" not in told.text
    assert run_here(write(told, tmp_path)).endswith("FAILED\n")


def test_masks_that_cannot_be_known_have_a_reason(tmp_path: Path) -> None:
    path = saved(tmp_path, "drop_in.py", DROP_IN)
    case = draw(TWO.replace(dropout=0.5, training=True))
    result = Result(Verdict.DISAGREES, (Mismatch("output", Sort.VALUE, sites=(Site({}, 1.0, 2.0, 0.1),)),))

    made = script(Finding(f"{path}:MyRNN", case, result), find_subject(f"{path}:MyRNN"))

    assert made.text is None
    assert "masks" in made.reason


WAVERING = """
import numpy as np

def rnn(x, h0, lengths):
    return x + WRONG * np.random.random(x.shape), h0

"""


@pytest.mark.parametrize(("lengths", "differing"), [(None, 12), ((1, 3), 8)])
def test_a_function_that_wavers_is_called_again_and_again(lengths: Any, differing: int, tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", WAVERING + "WRONG = 1")
    spec = f"{path}:rnn"
    subject, case = find_subject(spec), draw(RNNConfig(2, 2, T=3, N=2, dtype="float64", lengths=lengths))

    made = script(Finding(spec, case, check_repeatability(subject, case)), subject)

    said = assert_fails_until_mended(made, path, WAVERING + "WRONG = 0  # mended")
    assert f"output of call 2 differs from call 1 in {differing} of 12 elements\nFAILED\n" in said


def test_a_class_that_wavers_is_called_again_and_again(tmp_path: Path) -> None:
    text = "import torch\n\n\nclass MyRNN(torch.nn.RNN):\n    def forward(self, x, hx=None):\n"
    text += "        output, h_n = super().forward(x, hx)\n        return output + torch.rand(()), h_n\n"
    path = saved(tmp_path, "mine.py", text)
    spec = f"{path}:MyRNN"
    config = TWO.replace(autocast="bfloat16", loss="both", grad_mode="accumulate")
    subject, case = find_subject(spec), draw(config)

    made = script(Finding(spec, case, check_repeatability(subject, case)), subject)

    assert_fails_until_mended(made, path, text.replace("torch.rand(())", "0"))


DROPPING = """
import numpy as np

def rnn(x, h0, weights, config):
    h_n = []
    for layer in range(config.num_layers):
        h, output = h0[layer], []
        for x_t in x:
            h = np.maximum(x_t @ weights[f"weight_ih_l{layer}"].T + h @ weights[f"weight_hh_l{layer}"].T, 0)
            output.append(h)
        x = np.stack(output)
        h_n.append(h)
        if layer < config.num_layers - 1:
            x = x * (np.random.random(x.shape) >= RATE)
    return x, np.stack(h_n)

"""


def test_a_function_that_drops_nothing_is_counted(tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", DROPPING + "RATE = 0")
    config = RNNConfig(33, 32, num_layers=2, nonlinearity="relu", dropout=0.5, training=True, T=8, N=32)
    result = Result(Verdict.DISAGREES, message=f"{NOTHING}: all are kept", method=Method.DROPOUT, net=config)

    made = script(Finding(f"{path}:rnn", net(config), result), find_subject(f"{path}:rnn"))

    said = assert_fails_until_mended(made, path, DROPPING + "RATE = 0.5  # mended")
    assert said.endswith("dropout keeps 16,384 of 16,384 elements, expected 0.5 of them\nFAILED\n")


def test_a_script_that_does_not_end_is_ended(tmp_path: Path) -> None:
    path = saved(tmp_path, "reproduce.py", "import time\nprint('begun', flush=True)\ntime.sleep(60)\n")

    run = run_alone(path, timeout=2)

    assert run.fate is Fate.ERROR
    assert run.output.startswith("begun\n")
    assert "no end within 2 s" in run.output


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        ("print('FAILED')", Fate.ERROR),
        ("import sys; print('FAILED'); sys.exit(1)", Fate.FAILED),
        ("import sys; sys.exit(1)", Fate.ERROR),
        ("print('FAILED'); raise ValueError", Fate.ERROR),
        ("print('FIXED')", Fate.FIXED),
        ("print(input())", Fate.ERROR),
        ("import os; print('FIXED' if os.environ['OMP_NUM_THREADS'] == '1' else 'not')", Fate.FIXED),
    ],
)
def test_a_script_is_believed_if_word_and_exit_code_agree(text: str, fate: Fate, tmp_path: Path) -> None:
    assert run_alone(saved(tmp_path, "reproduce.py", text)).fate is fate


def read_back(written: Literals, array: Any, library: Any) -> Any:
    code = written.code("a", array)
    names: dict[str, Any] = {written.library: library, "arrays": written.stored}
    exec("\n".join(code.assigned("a")), names)  # noqa: S102 - our own code
    return names["a"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3), (4, 5, 6), (17, 17)])
def test_numbers_are_written_to_the_last_bit(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    array: Any = np.asarray(rng.standard_normal(shape))
    sparse = array * (rng.random(shape) < 0.02)
    special = np.where(rng.random(shape) < 0.5, np.where(rng.random(shape) < 0.5, -0.0, np.inf), array)
    with np.errstate(invalid="ignore"):
        for given in (array, sparse, special, -np.abs(sparse)):
            numbers = np.asarray(given.astype(dtype))
            back = read_back(Literals("np"), numbers, np)

            assert back.dtype == dtype
            assert back.shape == shape
            assert back.tobytes() == numbers.tobytes()


def test_mostly_zeros_are_written_as_zeros_and_the_rest() -> None:
    array = np.zeros((17, 17), np.float32)
    array[16, 3] = 1

    code = Literals("torch").code("w", array)

    assert code.assigned("w") == ["w = torch.zeros((17, 17))", "w[16, 3] = 1.0"]


def test_long_arrays_are_broken_between_their_numbers() -> None:
    text = nested(np.linspace(-1, 0, 40), indent=4)

    assert max(map(len, text.split("\n"))) <= 100
    assert eval(text) == np.linspace(-1, 0, 40).tolist()  # noqa: S307 - our own code


def test_a_large_case_is_read_from_its_file_in_a_test(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, _ = found(f"{path}:rnn", RNNConfig(33, 33, T=2, N=1))
    finding = replace(finding, case=replace(finding.case, origin=None))
    (tmp_path / "case.json").write_text(to_json(finding.case))
    text = regression_test(finding)

    names = runpy.run_path(str(saved(tmp_path, "test_finding.py", text)))

    assert len(text) < 1_000
    with pytest.raises(Disagreement):
        names[f"test_rnn_on_{finding.id}"]()


@pytest.mark.parametrize("regime", ["normal", "special"])
def test_a_regression_test_fails_until_it_is_mended(regime: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    size = 1 if regime == "special" else 5
    finding, _ = found(f"{path}:rnn", RNNConfig(size, size, T=2, N=1, dtype="float64"), regime)
    test = saved(tmp_path, "test_finding.py", regression_test(finding))

    failed = in_pytest(test)
    saved(tmp_path, "by_hand.py", FUNCTION.replace(WRONG, RIGHT))
    passed = in_pytest(test)

    assert failed.returncode == 1, failed.stdout
    assert "Disagreement" in failed.stdout
    assert passed.returncode == 0, passed.stdout


def in_pytest(path: Path) -> subprocess.CompletedProcess[str]:
    environ: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, str(path)], cwd=path.parent, env=environ, capture_output=True, text=True, check=False
    )


def test_a_case_that_is_mostly_zeros_brings_what_it_is_written_with(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, _ = found(f"{path}:rnn", PLAIN)
    config = RNNConfig(1, 17)
    arrays = {name: np.zeros(spec.shape).tolist() for name, spec in {**config.inputs, **config.weights}.items()}
    mostly = replace(finding, case=Case.of(config, **arrays))

    imported = next(line for line in regression_test(mostly).split("\n") if line.startswith("from harness import"))
    assert "sparse" in imported
