"""Tests of adapters: what they say is what is compared, the command writes them, and what makes no sense is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness import RNNConfig, Verdict, adapt, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.space.errors import UsageError
from harness.subjects.adapter import MARK
from harness.subjects.adapter_template import adapter_of
from harness.subjects.length_argument import LENGTH_KINDS, steps_in_code
from harness.subjects.protocol import SubjectUnavailable, scope_of

FORWARD = RNNConfig(4, 3, T=4, N=2)
BACK = RNNConfig(4, 3, T=4, N=2, loss="both")


class SearchOptions:
    def __init__(self, inputs: int, units: int) -> None:
        self.inputs, self.units = inputs, units


class OfOptions(nn.Module):
    """A layer whose constructor takes an object, with transposed weights, biases (H, 1) and a readout beside."""

    forgets = False

    def __init__(self, options: SearchOptions) -> None:
        super().__init__()
        self.Wx = nn.Parameter(torch.randn(options.inputs, options.units))
        self.Wh = nn.Parameter(torch.randn(options.units, options.units))
        self.b = nn.Parameter(torch.zeros(options.units, 1))
        self.out = nn.Linear(options.units, 2)

    def forward(self, x: Any, h: Any) -> Any:
        states = []
        for t in range(x.shape[1]):
            h = torch.tanh(x[:, t] @ self.Wx + h @ self.Wh + (0 if self.forgets else self.b.T))
            states.append(h)
        return self.out(h), torch.stack(states, 1), h


class OfOptionsForgetful(OfOptions):
    forgets = True


WEIGHTS = {"Wx": "weight_ih.T", "Wh": "weight_hh.T", "b": "bias_ih + bias_hh", "out.weight": "kept", "out.bias": "kept"}


def call(module: nn.Module, x: Any, h: Any) -> Any:
    _, output, h_n = module(x.transpose(0, 1), h[0])
    return output.transpose(0, 1), h_n[None]


def build_of(layer: Any) -> Any:
    return lambda config: layer(SearchOptions(config.input_size, config.hidden_size))


def verdicts(subject: Any, *configs: RNNConfig) -> set[Verdict]:
    return {check_agreement(subject, draw(config, "normal", 1)).verdict for config in configs}


@pytest.mark.parametrize("parts", [(WEIGHTS, call), (WEIGHTS,), ()], ids=["all", "no call", "build alone"])
def test_a_class_is_compared_as_its_adapter_says(parts: tuple[Any, ...]) -> None:
    right, wrong = (as_subject(adapt(build_of(layer), *parts), "mine") for layer in (OfOptions, OfOptionsForgetful))
    own = {} if len(parts) > 1 else {"batch_first": True}  # of its own call, only h_n is compared
    configs = [FORWARD.replace(hx=True, **own), BACK.replace(hx=True, loss="both" if len(parts) > 1 else "h_n", **own)]

    assert verdicts(right, *configs) == {Verdict.AGREES}
    assert verdicts(wrong, *configs) == {Verdict.DISAGREES}


class Unrolled:
    """A NumPy layer of fixed T and N, with shapes as arguments, whose states are among its arrays, and its way back."""

    forgets = False

    def __init__(self, batch: int, steps: int, shape: tuple[int, int]) -> None:
        self.w_in, self.w_rec, self.bias = np.ones(shape), np.ones((shape[1], shape[1])), np.ones(shape[1])
        self.kept = np.zeros((steps + 1, batch, shape[1]))

    def forward(self, x: Any, h0: Any = None) -> Any:
        self.x = x
        if h0 is not None:
            self.kept[0] = h0
        for t in range(len(self.kept) - 1):
            self.kept[t + 1] = np.tanh(x[:, t] @ self.w_in + self.kept[t] @ self.w_rec + self.bias)
        return self.kept[1:].swapaxes(0, 1).copy()

    def backward(self, d_out: Any) -> Any:
        later = np.zeros_like(self.kept[0])
        self.d_w_in, self.d_w_rec, self.d_bias = (np.zeros_like(one) for one in (self.w_in, self.w_rec, self.bias))
        d_x = np.zeros_like(self.x)
        for t in reversed(range(len(self.kept) - 1)):
            da = (d_out[:, t] + (0 if self.forgets else later)) * (1 - self.kept[t + 1] ** 2)
            self.d_w_in += self.x[:, t].T @ da
            self.d_w_rec += self.kept[t].T @ da
            self.d_bias += da.sum(0)
            d_x[:, t], later = da @ self.w_in.T, da @ self.w_rec.T
        self.d_h0 = later
        return d_x


class UnrolledForgetful(Unrolled):
    forgets = True


class UnrolledFromZeros(Unrolled):
    def forward(self, x: Any, h0: Any = None) -> Any:
        return super().forward(x)


def test_arrays_that_a_call_changes_are_states_of_a_wrong_layer_too() -> None:
    subject = as_subject(
        adapt(lambda config: UnrolledFromZeros(config.N, config.T, (config.input_size, config.hidden_size))), "mine"
    )
    config = FORWARD.replace(dtype="float64", batch_first=True)

    assert "kept taken for states" in subject.capabilities.read_as
    assert verdicts(subject, config.replace(hx=True)) == {Verdict.DISAGREES}
    assert verdicts(subject, config) == {Verdict.AGREES}


def of_numpy(module: Any, x: Any, h: Any) -> Any:
    return module.forward(x.swapaxes(0, 1), h[0]).swapaxes(0, 1), None


OF_NUMPY = {"w_in": "weight_ih.T", "w_rec": "weight_hh.T", "bias": "bias_ih + bias_hh", "kept": "kept"}


@pytest.mark.parametrize("parts", [(OF_NUMPY, of_numpy), ()], ids=["all", "build alone"])
def test_a_numpy_class_is_compared_as_its_adapter_says(parts: tuple[Any, ...]) -> None:
    def build_numpy(layer: Any) -> Any:
        return lambda config: layer(config.N, config.T, (config.input_size, config.hidden_size))

    right, wrong = (as_subject(adapt(build_numpy(layer), *parts), "mine") for layer in (Unrolled, UnrolledForgetful))
    config = FORWARD.replace(hx=True, dtype="float64", batch_first=not parts)
    back = config.replace(loss="output")

    assert verdicts(right, config) == verdicts(wrong, config) == {Verdict.AGREES}
    assert verdicts(right, config.replace(hx=False)) == {Verdict.UNSUPPORTED if parts else Verdict.AGREES}
    assert (verdicts(right, back), verdicts(wrong, back)) == (
        ({Verdict.UNSUPPORTED},) * 2 if parts else ({Verdict.AGREES}, {Verdict.DISAGREES})
    )


class Masked(nn.Module):
    def __init__(self, n_in: int, n_hidden: int) -> None:
        super().__init__()
        self.own = nn.RNN(n_in, n_hidden)

    def forward(self, x: Any, mask: Any = None, hidden: Any = None) -> Any:
        assert mask is None
        return self.own(x, hidden)


def test_states_of_what_an_adapter_builds_are_given_by_their_names() -> None:
    subject = as_subject(adapt(lambda config: Masked(config.input_size, config.hidden_size)), "mine")

    assert verdicts(subject, FORWARD.replace(hx=True), BACK.replace(hx=True)) == {Verdict.AGREES}
    assert "mask is never given" in subject.capabilities.read_as


def test_what_a_call_returns_is_compared_and_nothing_else() -> None:
    calls = (lambda module, x, h: (call(module, x, h)[0], None), lambda module, x, h: (None, call(module, x, h)[1]))
    one, other = (as_subject(adapt(build_of(OfOptions), WEIGHTS, of), "mine") for of in calls)

    for subject, missing in ((one, "h_n"), (other, "output")):
        outcome = subject.run(draw(FORWARD.replace(hx=True), "normal", 1))
        assert missing not in outcome.arrays
        assert outcome.not_returned == (missing,)
    assert scope_of(one).hx == (True,)


def test_what_build_does_not_read_is_not_varied() -> None:
    def build(config: Any) -> Any:
        return nn.LSTM(config.input_size, config.hidden_size, config.num_layers, bidirectional=config.bidirectional)

    numbers = {"weight_ih_l{layer}": "weight_ih", "weight_hh_l{layer}": "weight_hh"}
    numbers |= {"bias_ih_l{layer}": "bias_ih", "bias_hh_l{layer}": "bias_hh"}
    weights = numbers | {f"{own}_reverse": f"{text}_reverse" for own, text in numbers.items()}

    def lstm(module: Any, x: Any, h: Any, c: Any) -> Any:
        output, (h_n, c_n) = module(x, (h, c))
        return output, h_n, c_n

    scope = scope_of(subject := as_subject(adapt(build, weights, lstm), "mine"))
    deep = RNNConfig(4, 3, T=4, N=2, num_layers=2, bidirectional=True, hx=True, loss="both", cell="LSTM")

    assert ({*scope.num_layers} > {1}, {*scope.bidirectional}, {*scope.bias}) == (True, {False, True}, {True})
    assert verdicts(subject, deep) == {Verdict.AGREES}


def test_a_build_that_refuses_layers_is_read_as_far_as_it_goes() -> None:
    def build(config: Any) -> Any:
        if config.num_layers > 1:
            raise NotImplementedError
        return nn.RNN(config.input_size, config.hidden_size, nonlinearity=config.nonlinearity)

    subject = as_subject(adapt(build), "mine")

    assert {*scope_of(subject).nonlinearity} == {"tanh", "relu"}
    assert verdicts(subject, FORWARD.replace(nonlinearity="relu")) == {Verdict.AGREES}
    assert verdicts(subject, FORWARD.replace(num_layers=2)) == {Verdict.UNSUPPORTED}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({**WEIGHTS, "W": "weight_ih"}, "the module has no W; its parameters are Wx (5, 3), "),
        ({"Wx": "weight_ih.T"}, "Wh, b, out.weight, out.bias are not named; expected weight_ih, "),
        ({**WEIGHTS, "b": "bias"}, "weights['b']='bias': expected weight_ih, "),
        ({**WEIGHTS, "b": "bias_ih, bias_hh"}, "weights['b']='bias_ih, bias_hh': expected weight_ih, "),
        ({**WEIGHTS, "Wx": "weight_ih + weight_hh"}, "weights['Wx']='weight_ih + weight_hh': expected weight_ih, "),
        ({**WEIGHTS, "b": 3}, "weights['b']=3: expected weight_ih, "),
        (
            {**WEIGHTS, "Wx": "weight_ih"},
            "weights['Wx']: weight_ih is (3, 5) with input_size=5 and hidden_size=3, but Wx ",
        ),
        ({**WEIGHTS, "Wh": "weight_hh[rz].T"}, "2 gates, r, z: expected those of nn.RNN (h), nn.GRU (r, z, n), "),
    ],
)
def test_weights_that_say_nothing_are_refused(weights: dict[str, str], said: str) -> None:
    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(adapt(build_of(OfOptions), weights, call), "mine")

    assert said in str(caught.value)


def test_matrices_of_which_some_alone_are_turned_are_refused() -> None:
    weights = {"W": "weight_ih", "U": "weight_hh.T", "b": "bias_ih + bias_hh"}

    class Mixed(torch.nn.Module):
        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__()
            self.W = torch.nn.Parameter(torch.zeros(4 * hidden_size, input_size))
            self.U = torch.nn.Parameter(torch.zeros(hidden_size, 4 * hidden_size))
            self.b = torch.nn.Parameter(torch.zeros(4 * hidden_size))

    with pytest.raises(SubjectUnavailable, match=r"U is marked \.T, and W is not"):
        as_subject(adapt(lambda config: Mixed(config.input_size, config.hidden_size), weights, call), "mine")
    with pytest.raises(SubjectUnavailable, match="has its rows where the others have their columns"):
        as_subject(Mixed)


def test_arguments_that_make_no_sense_are_refused() -> None:
    for wrong in ({"build": 3}, {"call": 3}, {"weights": 3}, {"offers": {"layers": (1,)}}):
        with pytest.raises(UsageError):
            adapt(**{"build": build_of(OfOptions), **wrong})
    with pytest.raises(SubjectUnavailable, match="build returned list: "):
        as_subject(adapt(lambda _config: []), "mine")
    with pytest.raises(SubjectUnavailable, match=r"call\(module, …\) on \(4, 13, 5\) raises TypeError"):
        as_subject(adapt(build_of(OfOptions), WEIGHTS, lambda module, x: module(x)), "mine")


LAYERS = '''
import torch
from torch import nn

class Cell(nn.Module):
    """A cell of gates side by side, its state first."""
    def __init__(self, units, features):
        super().__init__()
        self.gates = nn.Linear(units + features, 4 * units)
    def forward(self, x, state=None):
        h, c = (x.new_zeros(len(x), self.gates.out_features // 4),) * 2 if state is None else state
        i, f, g, o = self.gates(torch.cat([h, x], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

class Stack(nn.Module):
    def __init__(self, n_in, n_hid, depth=2):
        super().__init__()
        self.cells = nn.ModuleList(nn.RNNCell(n_in if k == 0 else n_hid, n_hid) for k in range(depth))
    def forward(self, x, states):
        outputs, states = [], list(states)
        for step in x:
            for k, cell in enumerate(self.cells):
                step = states[k] = cell(step, states[k])
            outputs.append(step)
        return torch.stack(outputs), states

class Both(nn.Module):
    def __init__(self, mode, n_in, n_hid):
        super().__init__()
        self.fwd = nn.RNN(n_in, n_hid, batch_first=True, nonlinearity=mode)
        self.bwd = nn.RNN(n_in, n_hid, batch_first=True, nonlinearity=mode)
    def forward(self, x):
        return {"out": torch.cat([self.fwd(x)[0], self.bwd(x.flip(1))[0].flip(1)], 2)}

class Single(nn.Module):
    def __init__(self, n_in, n_hid, classes):
        super().__init__()
        self.i2h, self.h2h, self.fc = nn.Linear(n_in, n_hid), nn.Linear(n_hid, n_hid), nn.Linear(n_hid, classes)
    def forward(self, seq, h):
        steps = []
        for x in seq:
            h = torch.relu(self.i2h.weight @ x + self.i2h.bias + self.h2h(h))
            steps.append(h)
        return self.fc(torch.stack(steps)), h

class Summary(nn.Module):
    def __init__(self, n_in, n_hid):
        super().__init__()
        self.gru = nn.GRU(n_in, n_hid, bidirectional=True)
    def forward(self, x, lengths):
        output, h = self.gru(nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
        return nn.utils.rnn.pad_packed_sequence(output)[0], torch.cat([h[0], h[1]], 1)

class Encoder(nn.Module):
    """A layer that needs lengths, with blocks of columns in an order of its own."""
    def __init__(self, dim, units):
        super().__init__()
        self.units = units
        self.kernel = nn.Parameter(torch.randn(dim, 4 * units))
        self.rec = nn.Parameter(torch.randn(units, 4 * units))
        self.shift = nn.Parameter(torch.zeros(4 * units))
    def forward(self, emb, lens):
        h = c = emb.new_zeros(len(emb), self.units)
        steps = []
        for t in range(emb.shape[1]):
            i, f, o, g = (emb[:, t] @ self.kernel + h @ self.rec + self.shift).chunk(4, 1)
            new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            alive = (t < lens)[:, None]
            c = torch.where(alive, new, c)
            h = torch.where(alive, o.sigmoid() * new.tanh(), h)
            steps.append(h)
        return torch.stack(steps, 1), h
'''

WRONG = {
    "Encoder": ("f.sigmoid() * c", "(f + 1).sigmoid() * c"),
    "Cell": ("torch.sigmoid(f) * c", "torch.sigmoid(i) * c"),
    "Stack": ("cell(step, states[k])", "cell(step, states[0])"),
    "Both": (".flip(1)], 2", "], 2"),
    "Single": ("torch.relu(", "torch.sin("),
    "Summary": ("[h[0], h[1]]", "[h[1], h[0]]"),
}


def subjects_of(folder: Path, text: str, name: str) -> list[Any]:
    """Return a class as it is read, and as the adapter that is written of it."""
    folder.mkdir()
    stem = f"layers_{folder.name}"
    (folder / f"{stem}.py").write_text(text)
    sys.path.insert(0, str(folder))
    try:
        spec = f"{folder}/{stem}.py:{name}"
        (folder / "adapter.py").write_text(written := adapter_of(getattr(__import__(stem), name), spec))
        assert MARK not in written
        return [as_subject(one) for one in (spec, f"{folder}/adapter.py:layer")]
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize("name", WRONG)
def test_the_adapter_that_is_written_compares_what_is_read(tmp_path: Path, name: str) -> None:
    right = subjects_of(tmp_path / f"right_{name}", LAYERS, name)
    wrong = subjects_of(tmp_path / f"wrong_{name}", LAYERS.replace(*WRONG[name]), name)

    for subject, verdict in [*((one, Verdict.AGREES) for one in right), *((one, Verdict.DISAGREES) for one in wrong)]:
        scope = scope_of(subject)
        names = ("bidirectional", "batch_first", "cell", "nonlinearity", "batched")
        plain: dict[str, Any] = {one: getattr(scope, one)[0] for one in names}
        plain |= {"hx": scope.hx[-1], "num_layers": 1 + (2 in scope.num_layers), "N": 1 + plain["batched"]}
        assert verdicts(subject, RNNConfig(5, 3, T=4, **plain)) == {verdict}, subject.name


@pytest.mark.parametrize("kind", LENGTH_KINDS)
def test_an_adapter_says_how_many_steps_count_as_calls_do(kind: str) -> None:
    x = torch.zeros(4, 2, 5)

    written = eval(steps_in_code(kind), {"torch": torch, "x": x, "lengths": torch.tensor([4, 2])})  # noqa: S307
    given = LENGTH_KINDS[kind]([4, 2], 4, x)
    assert type(given) is type(written)
    torch.testing.assert_close(torch.as_tensor(written), torch.as_tensor(given))


@pytest.mark.parametrize("steps", ["lens", "a_mask", "padding_mask"])
def test_lengths_that_a_call_needs_are_given_to_a_class_and_through_its_adapter(tmp_path: Path, steps: str) -> None:
    config = RNNConfig(5, 3, T=4, N=3, cell="LSTM", lengths=(4, 2, 1))
    alive = {"lens": "(t < lens)", "a_mask": "(a_mask[:, t] > 0)", "padding_mask": "(~padding_mask[t])"}[steps]
    text = LAYERS.replace("emb, lens", f"emb, {steps}").replace("(t < lens)", alive)
    for subject, batch_first in zip(subjects_of(tmp_path / steps, text, "Encoder"), (True, False), strict=True):
        assert verdicts(subject, config.replace(batch_first=batch_first)) == {Verdict.AGREES}, subject.name

    (tmp_path / "ignores.py").write_text(text.replace(alive, "(torch.ones(len(emb)) > 0)"))
    with pytest.raises(SubjectUnavailable, match="makes a sequence shorter"):
        as_subject(f"{tmp_path}/ignores.py:Encoder")


class Padded:
    """A layer of NumPy that keeps the state behind the steps that count."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.Wx, self.Wh, self.b = np.ones((hidden_size, input_size)), np.ones((hidden_size,) * 2), np.ones(hidden_size)

    def run(self, x: Any, h: Any, lengths: Any) -> Any:
        output = []
        for t, x_t in enumerate(x):
            h = np.where((t < np.asarray(lengths))[:, None], np.tanh(x_t @ self.Wx.T + h @ self.Wh.T + self.b), h)
            output.append(h)
        return np.stack(output), h[None]


def test_an_adapter_of_numpy_is_given_lengths() -> None:
    def call(layer: Any, x: Any, lengths: Any = None) -> Any:
        return layer.run(x, np.zeros((x.shape[1], len(layer.b))), [len(x)] * x.shape[1] if lengths is None else lengths)

    weights = {"Wx": "weight_ih", "Wh": "weight_hh", "b": "bias_ih + bias_hh"}
    subject = as_subject(adapt(lambda config: Padded(config.input_size, config.hidden_size), weights, call), "mine")

    assert verdicts(subject, RNNConfig(5, 3, T=4, N=2, dtype="float64", lengths=(4, 2))) == {Verdict.AGREES}


def test_runs_tell_the_order_of_gates_that_an_adapter_does_not_name(tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "own_order.py").write_text(LAYERS)
    encoder = __import__("own_order").Encoder
    texts = {"kernel": "weight_ih{}.T", "rec": "weight_hh{}.T", "shift": "bias_ih{0} + bias_hh{0}"}

    def whole(module: Any, x: Any) -> Any:
        output, h = module(x.transpose(0, 1), torch.full((x.shape[1],), len(x)))
        return output.transpose(0, 1), h[None], None

    def verdicts_with(order: str) -> set[Verdict]:
        weights = {own: text.format(order) for own, text in texts.items()}
        layer = adapt(lambda config: encoder(config.input_size, config.hidden_size), weights, whole)
        return verdicts(as_subject(layer, "mine"), RNNConfig(5, 3, T=4, N=2, cell="LSTM"))

    assert verdicts_with("") == verdicts_with("[ifog]") == {Verdict.AGREES}
    assert verdicts_with("[ifgo]") == {Verdict.DISAGREES}  # which its user says


def test_what_no_run_tells_is_marked(tmp_path: Path) -> None:
    text = "from torch import nn\n" + "".join(
        f"class {name}(nn.Module):\n    def __init__(self, n_in, n_hid):\n        super().__init__()\n        {made}\n"
        "    def forward(self, x, h, scale):\n        return x * scale\n"
        for name, made in (
            ("Joined", "self.both = nn.Linear(n_in + n_hid, n_hid)"),
            ("Singles", "self.a1, self.a2, self.a3, self.a4 = (nn.Linear(n_in + n_hid, n_hid) for _ in range(4))"),
        )
    )
    (tmp_path / "unread.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    unread = __import__("unread")

    for name, said in (("Joined", "which columns come first"), ("Singles", "which gates these are")):
        marked = [line for line in adapter_of(getattr(unread, name), f"unread.py:{name}").splitlines() if MARK in line]
        assert any("weight" in line and said in line for line in marked)


def homework_with_a_comment(folder: Path) -> str:
    """Write a function in a file with a comment of its own that says "fill in"."""
    text = "def rnn(x, h0, weights, config):\n    # fill in: your code\n    return x, None\n"
    (folder / "homework.py").write_text(text)
    return f"{folder}/homework.py:rnn"


def test_what_is_not_filled_in_is_said_line_by_line(tmp_path: Path) -> None:
    layer = "class Mine(torch.nn.Module):\n    def __init__(self, cfg, a, b, c, d):\n        pass\n"
    (tmp_path / "options_layer.py").write_text(f"import torch\n{layer}")
    command = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    run = [*command, "adapt", f"{tmp_path}/options_layer.py:Mine"]
    (tmp_path / "adapter.py").write_text(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    with pytest.raises(SubjectUnavailable) as caught:
        as_subject(f"{tmp_path}/adapter.py:layer")

    lines = str(caught.value).splitlines()
    assert as_subject(homework_with_a_comment(tmp_path)).name
    assert lines[0].endswith("not all is filled in")
    assert all(line.startswith("line ") for line in lines[1:])
    assert len(lines) > 1


def test_a_class_that_prints_or_ends_its_process_leaves_the_command_alone(tmp_path: Path) -> None:
    layer = "class {}(torch.nn.Module):\n    def __init__(self, n, m):\n        super().__init__()\n        {}\n"
    text = layer.format("Prints", "print('constructed')") + layer.format("Ends", "os._exit(3)")
    (tmp_path / "loud.py").write_text(f"import os\nimport torch\n{text}")
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", "adapt"]
    prints, ends = (
        subprocess.run([*command, f"{tmp_path}/loud.py:{name}"], capture_output=True, text=True, check=False)
        for name in ("Prints", "Ends")
    )

    assert (prints.returncode, "constructed" in prints.stdout, "constructed" in prints.stderr) == (0, False, True)
    assert (ends.returncode, ends.stdout) == (2, "")
    assert "its process ended with exit code 3" in ends.stderr
