"""Tests of the command `explain`, the example, and what the README says about them."""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.cli import codes, main

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
    assert "cause ignores bias_hh: b_hh is never added (bias_hh_l0) yours h = relu(" in wrong[1]
    assert "certain it reproduces all 40 numbers" in wrong[1]
    assert "relu, batch_first=True" in untold[1]
    told = json.loads(Path("told.json").read_text())
    assert (told["agrees"], told["certain"], told["others"]) == (False, True, [])
    assert told["cause"].startswith("ignores bias_hh")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("gone.pt", "x.npy", "x.npy"), "gone.pt: no such file"),
        (("x.npy", "x.npy", "x.npy"), "module is an ndarray: expected a torch.nn.RNN"),
        (("whole.pt", "x.npy", "x.npy"), "whole.pt: holds more than tensors, such as a whole module"),
        (("junk.pt", "x.npy", "x.npy"), "junk.pt: expected what np.save"),
        (("model.pt", "objects.npy", "x.npy"), "objects.npy: expected what np.save"),
        (("model.pt", "x.npy", "x.npy", "--atol", "nan"), "atol=nan: expected a number"),
    ],
)
def test_misuse_is_said_and_no_file_may_run_code(run: Any, rnn: nn.RNN, files: tuple[str, ...], said: str) -> None:
    torch.save(rnn, "whole.pt")
    Path("junk.pt").write_text("no tensors")
    np.save("objects.npy", np.array([print], object), allow_pickle=True)

    code, out, err = run(*files)

    assert (code, out) == (codes.MISUSE, "")
    assert said in err
    assert "Traceback" not in err


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
