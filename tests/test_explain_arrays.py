"""Tests of the command `explain`, the example, and what the README says about them."""

import io
import json
import math
import os
import pickle
import re
import runpy
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness import RNNConfig, as_subject, draw
from harness.cli import codes, main
from harness.space import safetensors_file
from harness.space.errors import UsageError
from harness.store import vector_files

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rnn-harness", "explain", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), " ".join(out.split()), err

    return call


@pytest.fixture
def rnn(run: Any) -> nn.RNN:
    """Write ``model.pt``, ``x.npy``, ``h0.npy``, and the results without b_hh and with it; return the layer."""
    torch.manual_seed(0)
    rnn = nn.RNN(3, 4, batch_first=True, nonlinearity="relu")
    x, h0 = np.random.default_rng(0).standard_normal((2, 5, 3)), np.ones((1, 2, 4))
    torch.save(rnn.state_dict(), "model.pt")
    np.savez("model.npz", **{name: value.numpy() for name, value in rnn.state_dict().items()})
    np.save("x.npy", x)
    np.save("h0.npy", h0)
    given = torch.from_numpy(x).float(), torch.from_numpy(h0).float()
    np.save("right.npy", rnn(*given)[0].detach().numpy())
    with torch.no_grad():
        dict(rnn.named_parameters())["bias_hh_l0"].zero_()
    np.save("wrong.npy", rnn(*given)[0].detach().numpy())
    return rnn


@pytest.mark.kernels
@pytest.mark.parametrize("model", ["model.pt", "model.npz"])
def test_files_are_explained_with_exit_codes_and_json(run: Any, rnn: nn.RNN, model: str) -> None:
    options = ("--hx", "h0.npy", "--nonlinearity", "relu", "--batch-first")

    right = run(model, "x.npy", "right.npy", *options)
    wrong = run(model, "x.npy", "wrong.npy", *options, "--json", "told.json")
    untold = run(model, "x.npy", "wrong.npy", "--hx", "h0.npy")

    assert right[0] == codes.AGREES
    assert right[1].startswith("agrees with nn.RNN in all 40 numbers, step by step")
    assert wrong[0] == untold[0] == codes.FINDING
    assert "cause ignores bias_hh: b_hh is never added yours " in wrong[1]
    assert "certain it reproduces all 40 numbers" in wrong[1]
    assert "relu, batch_first=True" in untold[1]
    told = json.loads(Path("told.json").read_text())
    assert (told["agrees"], told["certain"], told["others"]) == (False, True, [])
    assert told["cause"].startswith("ignores bias_hh")


def test_lines_that_are_broken_go_on_below_their_words(capsys: Any, monkeypatch: Any, rnn: nn.RNN) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "argv", ["rnn-harness", "explain", "model.pt", "x.npy", "wrong.npy", "--hx", "h0.npy"])
    with pytest.raises(SystemExit):
        main.main()

    first, *lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert first.startswith("disagrees")
    assert {line[:8].strip() for line in lines if line.startswith(" ")} == {""}
    begun = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert begun == ["cause", "yours", "nn.RNN", "certain", "first", "worst", "taken"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("gone.pt", "x.npy", "x.npy"), "gone.pt: no such file"),
        (("x.npy", "x.npy", "x.npy"), "x.npy: holds an array without a name: expected the weights of a layer"),
        (("model.pt", "ragged.json", "x.npy"), "ragged.json: its content is no array, because its lists differ"),
        (("model.pt", "words.json", "x.npy"), "words.json: its content holds more than numbers: expected nested"),
        (("whole.pt", "x.npy", "x.npy"), "whole.pt: holds more than tensors, such as a whole module"),
        (("junk.pt", "x.npy", "x.npy"), "junk.pt: expected what np.save"),
        (("model.pt", "objects.npy", "x.npy"), "objects.npy: expected what np.save"),
        (("model.pt", "x.npy", "x.npy", "--atol", "nan"), "atol=nan: expected a number"),
    ],
)
def test_misuse_is_said_and_no_file_may_run_code(run: Any, rnn: nn.RNN, files: tuple[str, ...], said: str) -> None:
    torch.save(rnn, "whole.pt")
    Path("junk.pt").write_text("no tensors")
    Path("ragged.json").write_text("[[1, 2], [3]]")
    Path("words.json").write_text('[["one"]]')
    np.save("objects.npy", np.array([print], object), allow_pickle=True)

    code, out, err = run(*files)

    assert (code, out) == (codes.MISUSE, "")
    assert said in err
    assert "Traceback" not in err


def test_arrays_that_are_too_long_to_try_mistakes_on_are_compared(
    run: Any, rnn: nn.RNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.diagnosis.explain_given_arrays.MOST_COST", 1000)  # they cost 5 * 8,192 and more

    code, out, err = run("model.pt", "x.npy", "wrong.npy", "--hx", "h0.npy", "--batch-first")

    assert (code, err) == (codes.FINDING, "")
    assert "cause unknown: 40 numbers are too many to try what may explain them: give fewer time steps first" in out


def npy(shape: str, version: bytes = b"\x01\x00") -> bytes:
    """Return a file of NumPy's with six numbers, and any shape in its header."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + bytes(24)


def zipped(**members: bytes) -> bytes:
    """Return an archive of these members, compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def saved(held: Any) -> bytes:
    """Return what ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


LARGEST = 2**22

HOSTILE: dict[str, Callable[[], bytes]] = {
    "huge.npy": lambda: npy("(1099511627776,)"),
    "negative.npy": lambda: npy("(2, -5, 3)"),
    "nan.npy": lambda: npy("(nan,)"),
    "deep.npy": lambda: npy("(" * 900),
    "version.npy": lambda: npy("(6,)", b"\x09\x09"),
    "bomb.npz": lambda: zipped(**{"weight_ih_l0.npy": bytes(LARGEST + 1)}),
    "member.npz": lambda: zipped(**{"../../weight_ih_l0\n\x1b[31m.npy": npy("(2, 3)")}),
    "many.npz": lambda: zipped(**{f"{'x' * 900}{i}.npy": npy("(2, 3)") for i in range(9)}),
    "members.npz": lambda: zipped(**{f"{i}.npy": npy("(2, 3)") for i in range(20)}),
    "layers.npz": lambda: zipped(**{f"weight_{kind}h_l{n}.npy": npy("(2, 3)") for kind in "ih" for n in (0, 10**8)}),
    "digits.npz": lambda: zipped(**{f"weight_ih_l{'9' * 5000}.npy": npy("(2, 3)")}),
    "brackets.pt": lambda: b"\x80\x02" + b"]" * 10**7,
    "brackets_zipped.pt": lambda: zipped(**{"a/data.pkl": b"\x80\x02" + b"]" * 2**21, "a/version": b"3\n"}),
    "lists.pt": lambda: saved([[[1.0]]]),
    "view.pt": lambda: saved(torch.zeros(1).expand(2**20, 2**20)),
    "meta.pt": lambda: saved(torch.empty(2**20, 2**20, device="meta")),
    "pickle.pt": lambda: pickle.dumps(print),
    "long.safetensors": lambda: (2**31).to_bytes(8, "little") + b"{}",
    "short.safetensors": lambda: b"\0",
    "outside.safetensors": lambda: safetensors({"x": ("F32", [2, 3], 8, 32)}),
    "negative.safetensors": lambda: safetensors({"x": ("F32", [2, 3], -24, 0)}),
    "sizes.safetensors": lambda: safetensors({"x": ("F32", [-2, -3], 0, 24)}),
    "overlap.safetensors": lambda: safetensors({name: ("F32", [2, 3], 0, 24) for name in ("x", "output")}),
    "nan.safetensors": lambda: safetensors({"x": ("F32", [math.nan, 3], 0, 24)}),
    "dtype.safetensors": lambda: safetensors({"x": ("O", [2, 3], 0, 24)}),
    "deep.safetensors": lambda: headed(b"[" * 10**5),
    "list.safetensors": lambda: headed(b"[1, 2]"),
    "deep.json": lambda: b"[" * 10**6,
    "nested.json": lambda: b"[" * 500 + b"]" * 500,
    "dicts.json": lambda: b'{"x":' * 500 + b"1" + b"}" * 500,
    "long.json": lambda: b" " * (2**24 + 1),
    "text.json": lambda: b'[["1", "\\u001b[31m"]]',
    "ragged.json": lambda: b"[[1, 2], [3]]",
    "digits.json": lambda: b"[" + b"9" * 10**5 + b"]",
    "number.json": lambda: b"3",
    "dtype.json": lambda: b'{"dtype": "O", "shape": [1], "data": [1]}',
    "shape.json": lambda: b'{"dtype": "float64", "shape": [1099511627776], "data": [1]}',
    "binary.json": lambda: b"\xff\xfe\x00",
}


def headed(header: bytes) -> bytes:
    """Return a file with a header as safetensors has it, and 24 bytes of data."""
    return len(header).to_bytes(8, "little") + header + bytes(24)


def safetensors(arrays: dict[str, tuple[str, list[float], int, int]]) -> bytes:
    """Return such a file whose header says anything of its arrays."""
    about = {name: {"dtype": d, "shape": s, "data_offsets": [i, j]} for name, (d, s, i, j) in arrays.items()}
    return headed(json.dumps(about).encode())


@pytest.mark.parametrize("name", [*HOSTILE, "/dev/zero", "x" * 300, "pipe.npy"])
def test_a_hostile_file_is_refused_in_a_line(run: Any, rnn: nn.RNN, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for place in ("space.reading", "subjects.array_files", "space.safetensors_file"):
        monkeypatch.setattr(f"harness.{place}.MOST_ARRAY_BYTES", LARGEST)
    monkeypatch.setattr("harness.space.reading.MEMBERS", 10)
    if name == "pipe.npy":
        os.mkfifo(name)
    elif name in HOSTILE:
        Path(name).write_bytes(HOSTILE[name]())

    tracemalloc.start()
    before = time.process_time()
    ends = [run(name, "x.npy", "right.npy"), run("model.npz", name, "right.npy"), run("model.npz", "x.npy", name)]
    seconds, peak = time.process_time() - before, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    for code, out, err in ends:
        assert (code, out, err.count("\n")) == (codes.MISUSE, "", 1), err
        assert len(err) < 900
        assert name != "members.npz" or "holds 20 arrays, expected at most 10" in err
    assert peak < 8 * LARGEST or name == "huge.npy"  # which NumPy reserves, and does not fill
    assert seconds < 5


def forms(arrays: dict[str, Any]) -> dict[str, str]:
    """Write arrays in each format, and return the files' names."""
    safetensors_file.write(Path("w.safetensors"), arrays)
    np.savez("w.npz", **arrays)
    Path("w.json").write_text(json.dumps({name: one.tolist() for name, one in arrays.items()}))
    about = {
        n: {"dtype": one.dtype.name, "shape": one.shape, "data": one.ravel().tolist()} for n, one in arrays.items()
    }
    Path("about.json").write_text(json.dumps(about))
    return {suffix: f"w.{suffix}" for suffix in ("safetensors", "npz", "json")} | {"about": "about.json"}


def test_files_of_every_format_are_read_alike(run: Any, rnn: nn.RNN) -> None:
    options = ("--hx", "h0.npy", "--nonlinearity", "relu", "--batch-first")
    weights = dict(np.load("model.npz"))
    x, h0, wrong = (np.load(f"{name}.npy") for name in ("x", "h0", "wrong"))
    Path("x.json").write_text(json.dumps(x.tolist()))
    safetensors_file.write(Path("x.safetensors"), {"x": x, "h0": h0})

    said = [run(model, "x.npy", "wrong.npy", *options) for model in ("model.npz", *forms(weights).values())]
    said += [
        run("model.npz", "x.json", "wrong.npy", *options),
        run("w.json", "x.safetensors", "wrong.npy", *options[2:]),
    ]
    forms({"output": wrong})
    said.append(run("model.npz", "x.npy", "w.safetensors", *options))

    assert len(set(said)) == 1
    assert said[0][0] == codes.FINDING
    assert "certain it reproduces all 40 numbers" in said[0][1]


def test_test_vectors_are_weights_input_and_result_at_once(run: Any) -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, hx=True, loss="both"), "normal")
    vector_files.write(Path("v"), [case])
    arrays = as_subject("torch").run(case).arrays
    np.savez("out.npz", output=arrays["output"], other=arrays["output"])
    doubled: dict[str, Any] = {**arrays, "weight_hh_l0.grad": 2 * arrays["weight_hh_l0.grad"]}
    np.savez("doubled.npz", **doubled)

    file = str(Path("v") / "001.safetensors")

    assert run(file, file, file)[1].startswith("agrees with nn.RNN in all 151 numbers")
    assert "cause multiplies the gradient by weight_hh by 2 yours" in run(file, file, "doubled.npz")[1]
    assert run(file, file, "out.npz")[1].startswith("agrees with nn.RNN in all 60 numbers")


@pytest.mark.parametrize("sizes", [(2, 3), (3, 3)])
@pytest.mark.parametrize("of", ["keras", "keras_alone", "flax", "onnx", "numpy", "turned", "prefix", "both"])
def test_weights_under_other_names_are_understood(run: Any, of: str, sizes: tuple[int, int]) -> None:
    """A square matrix under the names of plain code may be transposed or not: what fits is taken, and said."""
    case = draw(RNNConfig(*sizes, T=4, N=5, dtype="float64"), "normal")
    w, r, b, c = case.weights.values()
    given, words = {
        "keras": (
            {"rnn/kernel:0": w.T, "rnn/recurrent_kernel:0": r.T, "rnn/bias:0": b + c},
            "of Keras: W_ih is your rnn/kernel.T, W_hh is your rnn/recurrent_kernel.T, b_ih + b_hh is your rnn/bias",
        ),
        "keras_alone": ({"kernel": w.T, "recurrent_kernel": r.T, "bias": b + c}, "of Keras: W_ih is your kernel.T,"),
        "flax": (
            {"params": {"i": {"kernel": w.T, "bias": b + c}, "h": {"kernel": r.T}}},
            "params/i/kernel.T, W_hh is your params/h/kernel.T",
        ),
        "onnx": (
            {"W": w[None], "R": r[None], "B": np.concatenate([b, c])[None]},
            "of ONNX: W_ih is your W, W_hh is your R, [b_ih, b_hh] is your B",
        ),
        "numpy": (
            {"Wx": w, "Wh": r, "b": b + c},
            "of NumPy code: W_ih is your Wx, W_hh is your Wh, b_ih + b_hh is your b",
        ),
        "turned": (
            {"W_ih": w.T, "W_hh": r.T, "b_ih": b, "b_hh": c},
            "of NumPy code: W_ih is your W_ih.T, W_hh is your W_hh.T, b_ih is your b_ih",
        ),
        "prefix": ({f"module.rnn.{name}": one for name, one in case.weights.items()}, "taken as output"),
        "both": (
            {"W_ih": w, "W_hh": r, "b": b + c},
            "of NumPy code: W_ih is your W_ih, W_hh is your W_hh, b_ih + b_hh is your b",
        ),
    }[of]
    output = as_subject("torch").run(case).arrays["output"]

    answer = harness.explain(given, case.x, output)

    assert answer.agrees, answer
    said = " ".join(str(answer).split())
    assert words in said
    assert ("which fits" in said) == (sizes == (3, 3) and of in {"numpy", "turned", "both"})


@pytest.mark.parametrize(
    ("cell", "of", "order"), [("GRU", "onnx", "zrn"), ("LSTM", "onnx", "iofg"), ("GRU", "keras", "zrn")]
)
def test_gates_of_other_frameworks_are_put_in_order(cell: str, of: str, order: str) -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, dtype="float64", cell=cell), "normal")
    gates = {"GRU": "rzn", "LSTM": "ifgo"}[cell]
    w, r, b, c = (
        np.concatenate([array[3 * k :][:3] for k in map(gates.index, order)]) for array in case.weights.values()
    )
    given = {
        "onnx": {"W": w[None], "R": r[None], "B": np.concatenate([b, c])[None]},
        "keras": {"kernel": w.T, "recurrent_kernel": r.T, "bias": np.stack([b, c])},
    }[of]

    answer = harness.explain(given, case.x, as_subject(f"torch:{cell.lower()}").run(case).arrays["output"])

    assert answer.agrees, answer
    assert f"its rows in the order {', '.join(order)}" in " ".join(str(answer).split())


def test_two_biases_in_one_array_are_two_though_one_is_zero() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, dtype="float64"), "normal")
    w, r, b, _ = case.weights.values()

    answer = harness.explain(
        {"W": w[None], "R": r[None], "B": np.append(b, 0 * b)[None]}, case.x, case.x[..., :1] * w.T[0]
    )

    assert "[b_ih, b_hh] is your B" in str(answer)


def test_a_linear_layer_and_two_directions_under_other_names() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, dtype="float64", output_size=4), "normal")
    w, r, b, c, out, bias = case.weights.values()
    given = {
        "rnn.kernel": w.T,
        "rnn.recurrent_kernel": r.T,
        "rnn.bias": b + c,
        "dense.kernel": out.T,
        "dense.bias": bias,
    }
    assert harness.explain(given, case.x, as_subject("torch").run(case).arrays["readout"]).agrees

    case = draw(RNNConfig(2, 3, T=4, N=5, dtype="float64", bidirectional=True), "normal")
    one, other = [*case.weights.values()][:4], [*case.weights.values()][4:]
    stacked = {name: np.stack(pair) for name, pair in zip("WR", zip(one, other, strict=True), strict=False)}
    stacked["B"] = np.stack([np.concatenate(side[2:]) for side in (one, other)])
    assert harness.explain(stacked, case.x, as_subject("torch").run(case).arrays["output"]).agrees


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"a/kernel": 1, "a/recurrent_kernel": 1, "b/kernel": 1, "b/recurrent_kernel": 1},
            "expected the weights of one",
        ),
        (
            {"kernel": 1, "recurrent_kernel": 1, "W": 1, "R": 1},
            "kernel, recurrent_kernel, bias (Keras) or W, R, B (ONNX)",
        ),
        ({"kernel": 1}, "module holds no weight_ih_l0, only kernel"),
        ({"W": 2, "R": 1}, "weight_hh_l0"),
    ],
)
def test_names_that_may_be_those_of_several_layers_are_refused(given: dict[str, int], said: str) -> None:
    held = {name: np.zeros((size, 3, 3)[-2:] if size == 1 else (1, 1, 1)) for name, size in given.items()}

    with pytest.raises(UsageError) as refused:
        harness.explain(held, np.zeros((2, 2, 3)), np.zeros((2, 2, 3)))

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.kernels
def test_the_example_ends_on_false_and_says_why_as_the_readme_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (place,) = [number for number, block in enumerate(blocks) if "harness.explain(" in block]
    code, shown = blocks[place : place + 2]

    given = runpy.run_path(str(ROOT / "examples" / "notebook_arrays.py"), run_name="__main__")
    by_file = capsys.readouterr().out.splitlines()
    exec(code, given)  # noqa: S102 - the README's own lines
    by_readme = capsys.readouterr().out.splitlines()

    assert by_file[0] == "False"
    assert by_file[1:] == by_readme
    figures = re.compile(r"\de-\d\d")
    assert [figures.sub("", line) for line in by_readme[:5]] == [figures.sub("", line) for line in shown.splitlines()]
