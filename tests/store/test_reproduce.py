"""Tests of scripts: each finding becomes one that shows it by itself, until the mistake is mended."""

import contextlib
import io
import runpy
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness import Case, Failure, Outcome, Result, RNNConfig, Verdict, check_agreement, draw
from harness.checks.case_checks import check
from harness.checks.dropout import NOTHING_DROPPED, net
from harness.checks.jvp_and_double_backward import check_derivatives
from harness.checks.repeatability import check_repeatability
from harness.checks.result import ComparisonMethod
from harness.diagnosis.script.module_call import WRITTEN_PREPARATIONS
from harness.diagnosis.script.script_text import Script, script
from harness.oracle.arithmetic_assumptions import accepted
from harness.oracle.compare import Mismatch, MismatchKind
from harness.search.case_replay import ReplayOutcome
from harness.search.plan import DERIVATIVE_CONFIGS
from harness.search.search_record import Finding
from harness.space.factor_table import STRIDES
from harness.store.scripts import offer, run_alone, write
from harness.subjects.capabilities import Recipe
from harness.subjects.function import FunctionSubject
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import Subject
from harness.subjects.registry import find_subject
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_variants import RECIPES
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


def found(spec: str, config: RNNConfig, distribution: str = "normal", seed: int = 0) -> tuple[Finding, Subject]:
    subject, case = find_subject(spec), draw(config, distribution, seed)
    return Finding(spec, case, check(subject, case, with_probes=False, relations=())), subject


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


def lying(subject: Subject, spec: str, case: Case) -> tuple[Finding, Outcome]:
    """Return what a right subject gives, with a wrong number, and a finding of that."""
    outcome = subject.run(replace(case, config=case.config.replace(device="cpu")))
    wrong = outcome.arrays["output"] + outcome.arrays["output"].dtype.type(4)
    result = Result(Verdict.DISAGREES, (Mismatch("output", MismatchKind.VALUE),))
    return Finding(spec, case, result), replace(outcome, arrays={**outcome.arrays, "output": wrong})


PLAIN = RNNConfig(2, 3, T=3, N=2)
TWO = RNNConfig(2, 3, 2, bidirectional=True, T=3, N=2, hx=True)

FUNCTIONS = {
    "plain": PLAIN,
    "unbatched": TWO.replace(batched=False, N=1, batch_first=True),
    "packed with a readout": TWO.replace(lengths=(3, 1), batch_first=True, output_size=2, enforce_sorted=True),
    "float64": PLAIN.replace(dtype="float64", bias=False),
    "bfloat16": PLAIN.replace(dtype="bfloat16"),
    "gradients with a readout": TWO.replace(output_size=2, loss="both"),
    "gradients of packed": TWO.replace(lengths=(1, 3), loss="h_n"),
    "transposed": TWO.replace(strides="transposed", loss="both"),
    "stepped": TWO.replace(strides="stepped", loss="output"),
    "expanded": TWO.replace(strides="expanded", loss="both"),
    "dropout": TWO.replace(dropout=0.5, training=True, loss="both", batch_first=True),
    "large": RNNConfig(33, 65, T=3, N=2, loss="output"),
}

CLASSES = {
    "packed": TWO.replace(lengths=(1, 3), loss="both"),
    "unbatched": TWO.replace(batched=False, N=1, dtype="bfloat16"),
    "readout": TWO.replace(output_size=2, loss="both", batch_first=True, strides="transposed"),
    "inference": PLAIN.replace(grad_mode="inference_mode", lengths=(3, 1), enforce_sorted=True, output_size=1),
    "grad mode": PLAIN.replace(grad_mode="enable_grad", dtype="float16"),
    "autocast": PLAIN.replace(autocast="bfloat16"),
    "large": RNNConfig(33, 65, T=3, N=2, dtype="bfloat16"),
    "weights alone": TWO.replace(loss="output", wrt="weights", preparation="used"),
}


@pytest.mark.parametrize("config", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_wrong_function_fails_by_itself_until_it_is_mended(config: RNNConfig, tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, subject = found(f"{path}:rnn", config)

    made = script(finding, subject)

    assert "torch" not in (made.text or "")
    assert_fails_until_mended(made, path, FUNCTION.replace(WRONG, RIGHT))


@pytest.mark.kernels
@pytest.mark.parametrize("config", CLASSES.values(), ids=CLASSES)
def test_a_wrong_class_fails_by_itself_until_it_is_mended(config: RNNConfig, tmp_path: Path) -> None:
    path = saved(tmp_path, "drop_in.py", DROP_IN)
    finding, subject = found(f"{path}:MyRNN", config)

    assert_fails_until_mended(script(finding, subject), path, DROP_IN.replace(WRONG, RIGHT))


GATED = """
import numpy as np
import torch

WRONG = True
OFF = 1.01 if WRONG else 1


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def lstm(x, h0, c0, weights, config):
    W, U = weights["weight_ih_l0"], weights["weight_hh_l0"]
    h, c, output = h0[0], c0[0], []
    for x_t in x:
        i, f, g, o = np.split(x_t @ W.T + h @ U.T + weights["bias_ih_l0"] + weights["bias_hh_l0"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c) * x.dtype.type(OFF)
        output.append(h)
    return np.stack(output), (h[None], c[None])


def lstm_of_pair(x, hx, weights, config):
    return lstm(x, *hx, weights, config)


class LSTM(torch.nn.LSTM):
    def forward(self, x, hx=None):
        output, (h, c) = super().forward(x, hx)
        return output, (h, c * OFF)


class GRU(torch.nn.GRU):
    def forward(self, x, hx=None):
        output, h = super().forward(x, hx)
        return output, h * OFF


class Cell(torch.nn.LSTMCell):
    def forward(self, x, state=None):
        h, c = super().forward(x, state)
        return h, c * OFF


class Apart(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.own = torch.nn.Linear(input_size + hidden_size, 4 * hidden_size)

    def forward(self, x, h, c):
        h, c, output = h[0], c[0], []
        for x_t in x:
            i, f, g, o = self.own(torch.cat([x_t, h], -1)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            output.append(h)
        return torch.stack(output), (h[None], c[None] * OFF)
"""
ONE_GATED = RNNConfig(2, 3, T=3, N=2, hx=True, cell="LSTM")
OF_GATES = {
    "lstm": ONE_GATED,
    "lstm_of_pair": ONE_GATED.replace(dtype="float64"),
    "LSTM": ONE_GATED.replace(num_layers=2, bidirectional=True, loss="both", lengths=(1, 3)),
    "LSTM projected": ONE_GATED.replace(proj_size=2, loss="h_n", preparation="used"),
    "LSTM unbatched": ONE_GATED.replace(N=1, batched=False, loss="both"),
    "GRU": RNNConfig(2, 3, T=3, N=2, bidirectional=True, loss="both", cell="GRU"),
    "Cell": ONE_GATED.replace(loss="both"),
    "Cell without states": ONE_GATED.replace(hx=False),
    "Apart": ONE_GATED.replace(loss="both", dtype="float64"),
}


@pytest.mark.kernels
@pytest.mark.parametrize("name", OF_GATES)
def test_a_wrong_layer_with_gates_fails_by_itself_until_it_is_mended(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "gates_by_hand.py", GATED)
    finding, subject = found(f"{path}:{name.partition(' ')[0]}", OF_GATES[name])

    said = assert_fails_until_mended(script(finding, subject), path, GATED.replace(WRONG, RIGHT))

    assert "c_n" in said or "GRU" in name


WITH_HARNESS = {
    "a used function": ("rnn", PLAIN.replace(preparation="used")),
    "two modules": ("MyRNN", PLAIN.replace(tied=True, loss="both", preparation="parametrize")),
    "two passes": ("MyRNN", PLAIN.replace(grad_mode="accumulate", loss="both")),
}


@pytest.mark.parametrize(("name", "config"), WITH_HARNESS.values(), ids=WITH_HARNESS)
def test_where_no_script_can_do_without_it_one_asks_this_package(name: str, config: RNNConfig, tmp_path: Path) -> None:
    text = FUNCTION + DROP_IN.replace(WRONG, "")
    path = saved(tmp_path, "mine.py", text)
    finding, subject = found(f"{path}:{name}", config)

    offered = offer(finding, subject, tmp_path)

    assert offered.path is not None, offered.reason
    assert not offered.script.alone
    assert "It needs rnn-harness, and case.json beside it: " in (offered.script.text or "")
    saved(tmp_path, "mine.py", text.replace(WRONG, RIGHT))
    assert run_alone(offered.path, cwd=tmp_path).fate is ReplayOutcome.FIXED


@pytest.mark.parametrize("transposed", [True, False])
def test_a_function_is_passed_by_position_what_takes_no_name(transposed: bool, tmp_path: Path) -> None:
    text = FUNCTION.replace("lengths, masks):", "lengths, /, masks):")
    text += f"\n\nrnn.conventions = {{'transposed': {transposed}}}\n"
    path = saved(tmp_path, "by_hand.py", text)
    finding, subject = found(f"{path}:rnn", PLAIN.replace(input_size=3))

    made = script(finding, subject)

    assert "rnn(x, h0, weights, config, cotangents, lengths, masks=masks)" in (made.text or made.reason)
    assert run_here(write(made, tmp_path)).endswith("FAILED\n")


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


def test_a_function_of_other_conventions_is_called_in_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path, "keras_like.py", KERAS + "WRONG = 2")
    config = RNNConfig(2, 3, T=4, N=5, batch_first=True, loss="h_n", wrt="weights")
    finding, subject = found(f"{path}:last_of+transposed", config)
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    made = script(finding, subject)

    assert_fails_until_mended(made, path, KERAS + "WRONG = 1.0")


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

class Rows(torch.nn.Module):
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

class Last(Rows):
    def forward(self, x):
        output, _ = super().forward(x, self.b.new_zeros(1, x.shape[1], len(self.b)))
        return output[-x.shape[1]:]

class Flat(torch.nn.Module):
    def __init__(self, features, units):
        super().__init__()
        self.rnn = torch.nn.RNN(features, units, batch_first=True)

    def forward(self, x, h=None):
        output, last = self.rnn(x, h if h is None else h[None])
        return last[0] * WRONG, output * WRONG
"""
FORMS_OF: dict[str, dict[str, Any]] = {
    "Keras": {"preparation": "state_dict"},
    "Step": {"preparation": "to_dtype"},
    "Rows": {"preparation": "used"},
    "Last": {"hx": False, "loss": "h_n"},
    "Flat": {"batch_first": True, "preparation": "used"},
}


@pytest.mark.parametrize("name", FORMS_OF)
def test_a_class_of_another_form_is_given_its_own_weights(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "forms.py", FORMS + "WRONG = 2")
    config = RNNConfig(2, 3, T=4, N=2, hx=True, loss="both", dtype="float64").replace(**FORMS_OF[name])
    finding, subject = found(f"{path}:{name}", config)
    assert finding.result.verdict is Verdict.DISAGREES, finding.result

    assert_fails_until_mended(script(finding, subject), path, FORMS + "WRONG = 1.0")


STALE = """
import torch

class Keeps(torch.nn.RNN):
    kept = None

    def forward(self, x, hx=None):
        if KEEP and self.kept is not None:
            self.load_state_dict(self.kept)
        self.kept = {name: one.clone() for name, one in self.state_dict().items()}
        return super().forward(x, hx)

"""


@pytest.mark.parametrize("training", [False, True])
def test_what_a_module_keeps_of_other_weights_is_in_the_script(training: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, "keeps.py", STALE + "KEEP = True")
    finding, subject = found(f"{path}:Keeps", PLAIN.replace(preparation="used", training=training))

    assert_fails_until_mended(script(finding, subject), path, STALE + "KEEP = False")


WAYS = [
    *(TWO.replace(preparation=preparation, loss="both") for preparation in WRITTEN_PREPARATIONS),
    *(TWO.replace(strides=strides, loss="both", output_size=2) for strides in STRIDES),
    TWO.replace(dropout=0.5, training=True, loss="both"),
    TWO.replace(dropout=0.25, training=True, lengths=(1, 3), batch_first=True),
    TWO.replace(autocast="float16", output_size=2),
    TWO.replace(loss="h_n", output_size=2, wrt="inputs"),
    TWO.replace(lengths=(3, 1), output_size=2, loss="both"),
    TWO.replace(positional=True, nonlinearity="relu"),
    TWO.replace(device="cpu:0", dtype="bfloat16", loss="both", preparation="used"),
    PLAIN.replace(batched=False, N=1, preparation="used", dtype="float64", loss="output"),
]


@pytest.mark.kernels
@pytest.mark.parametrize("config", WAYS, ids=repr)
def test_what_is_called_and_expected_is_what_was_asked_of_torch(config: RNNConfig, tmp_path: Path) -> None:
    says_that_torch_is_right("torch", config, tmp_path)


@pytest.mark.kernels
@pytest.mark.parametrize("spec", ["torch:cell", "torch:export", "torch:trace", "torch:tf32", "torch:onednn-avx2"])
def test_other_layers_and_modes_of_torch_are_made_in_the_script(spec: str, tmp_path: Path) -> None:
    says_that_torch_is_right(spec, RNNConfig(2, 3, T=2, N=2, hx=True, loss="both"), tmp_path)


def says_that_torch_is_right(spec: str, config: RNNConfig, folder: Path) -> None:
    subject = TorchSubject()
    finding, outcome = lying(subject, spec, draw(config, "normal", 1))
    subject.capabilities = replace(subject.capabilities, recipe=RECIPES[spec])

    made = script(finding, subject, outcome=outcome)

    assert made.text is not None, made.reason
    assert run_here(write(made, folder)).endswith("FIXED\n")


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
    subject = find_subject(f"{path}:rnn")
    finding, outcome = lying(subject, f"{path}:rnn", draw(FUNCTIONS["large"], "normal"))

    offered = offer(finding, subject, tmp_path, outcome=outcome)

    assert offered.path is None
    assert "does not fail" in offered.reason
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["by_hand.py"]


def test_a_script_shows_the_call_and_its_numbers_plainly(tmp_path: Path) -> None:
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
    assert made.text is not None
    assert (
        made.text.partition("\n\ndef numbers")[0]
        == f'''\
"""{path}:rnn computes another output than nn.RNN is documented to compute.

Prints FAILED and exits with 1 while that is so. Afterwards it prints FIXED and exits with 0.
"""

import sys

import numpy as np

sys.path.insert(0, "{tmp_path}")
from mine import rnn

x = np.array([[[0.5]]], dtype=np.float32)
weights = {{
    "weight_ih_l0": np.array([[0.25]], dtype=np.float32),
    "weight_hh_l0": np.array([[0.0]], dtype=np.float32),
    "bias_ih_l0": np.array([0.5], dtype=np.float32),
    "bias_hh_l0": np.array([0.25], dtype=np.float32),
}}


def call():
    output, h_n = rnn(x=x, weights=weights)
    return {{"output": output, "h_n": h_n}}
'''
    )
    assert 'tolerance = {\n    "output": 1.' in made.text
    assert run_here(write(made, tmp_path)).split("\n")[1].startswith("output[0, 0, 0] is 0.124352999, expected 0.7039")


SUBSETS = {
    "x": "def rnn(x): return x * 0, x[-1:] * 0",
    "a name that a script uses": "def output(x): return x * 0, x[-1:] * 0",
    "a method": "class Nets:\n    @staticmethod\n    def rnn(x): return x * 0, x[-1:] * 0",
    "a lambda": "rnn = lambda x, config: (x * 0, x[-config.num_layers * config.num_directions:] * 0)",
}
NAMED = {"a name that a script uses": "output", "a method": "Nets.rnn"}


CALLED = [*((form, "mine.py") for form in SUBSETS), ("x", "random.py"), ("a lambda", "not-a-name.py")]


@pytest.mark.parametrize(("form", "file"), CALLED)
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
    assert run_alone(offered.path, cwd=elsewhere).fate is ReplayOutcome.FAILED


ALWAYS = "x * 0, h0"
READOUTS = {"all three": f"return ({ALWAYS}, x * 0)", "with h_n": "return x * 0, h0", "alone": "return x * 0"}


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

KEPT = {}

def kept(array):
    if isinstance(array, torch.Tensor):
        return KEPT.setdefault(array.shape, array.clone()).copy_(array)
    KEPT.setdefault(array.shape, array.copy())[...] = array
    return KEPT[array.shape]

class MyRNN(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        return output, kept(h_n)

def rnn(x, h0, weights, config, cotangents):
    gradients = {"x": kept(x * (x.sum() + sum(g.sum() for g in cotangents.values()))), **weights}
    return np.tanh(x), np.tanh(x[-1:]), gradients
"""


@pytest.mark.parametrize(("name", "array", "loss"), [("MyRNN", "h_n", None), ("rnn", "x.grad", "both")])
def test_what_the_next_call_overwrites_is_shown_by_a_next_call(
    name: str, array: str, loss: str | None, tmp_path: Path
) -> None:
    path = saved(tmp_path, "mine.py", KEEPS)
    case = draw(RNNConfig(2, 2, T=2, N=2, loss=loss), "normal", 0)
    result = Result(Verdict.DISAGREES, (Mismatch(array, MismatchKind.OVERWRITTEN),))

    made = script(Finding(f"{path}:{name}", case, result), find_subject(f"{path}:{name}"))

    said = assert_fails_until_mended(made, path, KEEPS.replace("kept(array):", "kept(array):\n    return 1 * array"))
    assert f"\n{array} was [[" in said


DERIVED = """
import torch

class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g

    @staticmethod
    def jvp(ctx, dx):
        return dx

class MyRNN(torch.nn.RNN):
    def forward(self, x, hx=None):
        output, h_n = super().forward(x, hx)
        return Same.apply(output), h_n
"""


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [("return g", "return g.detach()", "of its gradients"), ("return dx", "return 2 * dx", "in forward mode")],
)
def test_a_derivative_beyond_gradients_is_shown_by_torch_s_own_check(
    right: str, wrong: str, named: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, "mine.py", DERIVED.replace(right, wrong))
    spec, case = f"{path}:MyRNN", draw(DERIVATIVE_CONFIGS[1])
    subject = find_subject(spec)

    made = script(Finding(spec, case, check_derivatives(subject, case)), subject)

    assert f"has wrong derivatives {named}" in str(made.text)
    assert "mismatch for output 0" in assert_fails_until_mended(made, path, DERIVED)


def test_a_gradient_that_is_missing_is_missed(tmp_path: Path) -> None:
    text = "def rnn(x, h0, weights, cotangents):\n    return x * 0, h0, {'weight_hh_l0': weights['weight_hh_l0']}\n"
    config = RNNConfig(2, 2, num_layers=2, bias=False, T=2, N=2, loss="output", wrt="weights", hx=True)
    finding, subject = found(f"{saved(tmp_path, 'mine.py', text)}:rnn", config)

    made = script(finding, subject)

    assert made.text is not None, made.reason
    said = run_here(write(made, tmp_path)).splitlines()[1:]
    assert said == ["weight_hh_l1.grad is NoneType (), expected float32 (2, 2)", "FAILED"]


def test_what_needs_more_of_its_config_than_a_script_has_is_asked_by_this_package(tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", "def rnn(x, config):\n    raise ValueError(config.cost)\n")
    finding, subject = found(f"{path}:rnn", PLAIN)

    offered = offer(finding, subject, tmp_path)

    assert not offered.script.alone
    assert "AttributeError" in (offered.script.text or "")


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
    assert run_alone(offered.path).fate is ReplayOutcome.FIXED


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


def test_what_no_script_can_show_has_a_reason(tmp_path: Path) -> None:
    path = saved(tmp_path, "by_hand.py", FUNCTION)
    finding, subject = found(f"{path}:rnn", PLAIN)

    def reason(spec: str = finding.subject, **changes: Any) -> str:
        made = script(Finding(spec, finding.case, replace(finding.result, **changes)), subject)
        assert made.text is None
        return made.reason

    (first, *_) = finding.result.mismatches
    assert "hangs" in reason(verdict=Verdict.BROKEN, mismatches=(), failure=Failure.HUNG)
    assert "relation" in reason(mismatches=(replace(first, relation="two directions"),))
    assert "imported" in reason("by_hand")


def test_a_registered_subject_may_say_how_a_script_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding, _ = found(f"{saved(tmp_path, 'by_hand.py', FUNCTION)}:rnn", PLAIN)
    finding = replace(finding, subject="by-hand")
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = Recipe("by_hand.rnn", (f"sys.path.insert(0, {str(tmp_path)!r})", "import by_hand"))

    told = script(finding, FunctionSubject(import_module("by_hand").rnn, "by-hand", recipe))

    assert told.text is not None, told.reason
    assert "harness" not in told.text
    assert run_here(write(told, tmp_path)).endswith("FAILED\n")


WAVERING = """
import numpy as np

def rnn(x, h0):
    return x + WRONG * np.random.random(x.shape), h0

"""


def test_a_function_that_wavers_is_called_again_and_again(tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.py", WAVERING + "WRONG = 1")
    spec = f"{path}:rnn"
    subject, case = find_subject(spec), draw(RNNConfig(2, 2, T=3, N=2, dtype="float64"))

    made = script(Finding(spec, case, check_repeatability(subject, case)), subject)

    said = assert_fails_until_mended(made, path, WAVERING + "WRONG = 0  # mended")
    assert "output: 19 of 20 calls gave something else than the first one" in said


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
    result = Result(
        Verdict.DISAGREES, message=f"{NOTHING_DROPPED}: all are kept", method=ComparisonMethod.DROPOUT, net=config
    )

    made = script(Finding(f"{path}:rnn", net(config), result), find_subject(f"{path}:rnn"))

    said = assert_fails_until_mended(made, path, DROPPING + "RATE = 0.5  # mended")
    assert said.endswith("dropout keeps 16,384 of 16,384 elements, expected 0.5 of them\nFAILED\n")


def test_a_script_that_does_not_end_is_ended(tmp_path: Path) -> None:
    path = saved(tmp_path, "reproduce.py", "import time\nprint('begun', flush=True)\ntime.sleep(60)\n")

    run = run_alone(path, timeout=2)

    assert run.fate is ReplayOutcome.ERROR
    assert run.output.startswith("begun\n")
    assert "no end within 2 s" in run.output


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        ("print('FAILED')", ReplayOutcome.ERROR),
        ("import sys; print('FAILED'); sys.exit(1)", ReplayOutcome.FAILED),
        ("import sys; sys.exit(1)", ReplayOutcome.ERROR),
        ("print('FAILED'); raise ValueError", ReplayOutcome.ERROR),
        ("print('FIXED')", ReplayOutcome.FIXED),
        ("print(input())", ReplayOutcome.ERROR),
        ("import os; print('FIXED' if os.environ['OMP_NUM_THREADS'] == '1' else 'not')", ReplayOutcome.FIXED),
    ],
)
def test_a_script_is_believed_if_word_and_exit_code_agree(text: str, fate: ReplayOutcome, tmp_path: Path) -> None:
    assert run_alone(saved(tmp_path, "reproduce.py", text)).fate is fate
