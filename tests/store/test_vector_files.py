"""Tests of test vectors: what is written, what came back of it, judged and explained, and what is refused."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from harness import RNNConfig, as_subject, draw
from harness.cli.main import cli
from harness.diagnosis.vector_comparison import MOST_VECTOR_CASES
from harness.search.vector_cases import cases_of
from harness.space import safetensors_file
from harness.space.case import Array, Case
from harness.space.errors import UsageError
from harness.store import vector_files

LANGUAGES: Final = Path(__file__).parents[2] / "examples" / "languages"
PINS: Final = ["T=1,2,3", "N=1,2", "hidden_size=1,3", "input_size=1,2", "num_layers=1,2"]
TORCH: Final = as_subject("torch")

Answer = Callable[[Case], Mapping[str, Array]]


def right(case: Case) -> Mapping[str, Array]:
    return TORCH.run(case).arrays


def without_bias_hh(case: Case) -> Mapping[str, Array]:
    weights = {name: weight * ("bias_hh" not in name) for name, weight in case.weights.items()}
    return right(replace(case, weights=weights, origin=None))


def run(*typed: str) -> Any:
    return cli.main(list(typed), standalone_mode=False)


def written(folder: Path, *options: str) -> list[vector_files.NamedCase]:
    pinned = [word for pin in PINS for word in ("--only", pin)]
    assert run("vectors", str(folder), *pinned, *options) == 0
    return vector_files.read(folder)


def answered(folder: Path, every: list[vector_files.NamedCase], answer: Answer) -> None:
    folder.mkdir()
    for vector in every:
        safetensors_file.write(folder / f"{vector.name}.safetensors", answer(vector.case))


def test_the_cases_are_a_covering_array_smallest_first(tmp_path: Path) -> None:
    every = written(tmp_path / "vectors")

    costs = [vector.case.config.cost for vector in every]
    assert costs == sorted(costs)
    for name, values in (("bias", 2), ("batch_first", 2), ("bidirectional", 2), ("hx", 2), ("dtype", 2), ("T", 3)):
        assert len({getattr(vector.case.config, name) for vector in every}) == values
    drawn = cases_of({name: tuple(map(int, of.split(","))) for name, of in (pin.split("=") for pin in PINS)}, 0)
    for vector, case in zip(every, drawn, strict=True):
        assert vector.case.config == case.config
        assert all(vector.case.arrays[name].tobytes() == array.tobytes() for name, array in case.arrays.items())


@pytest.mark.kernels
@pytest.mark.parametrize(
    "options", [(), ("--only", "loss=both"), ("--only", "lengths=any,falling", "--output-size", "2")]
)
def test_the_tolerances_of_a_file_tell_right_from_wrong(options: tuple[str, ...], tmp_path: Path) -> None:
    wrong = 0
    for vector in written(tmp_path / "vectors", *options):
        stored = safetensors_file.read(tmp_path / "vectors" / f"{vector.name}.safetensors")
        padded = {} if vector.case.config.lengths is None else {"output", "readout"}
        for name in set(vector.case.config.returned) - set(padded):
            expected, tolerance = stored[name], stored[f"{name}.tolerance"]
            assert (np.abs(right(vector.case)[name] - expected) <= tolerance).all(), (vector, name)
            wrong += int((np.abs(without_bias_hh(vector.case)[name] - expected) > tolerance).any())
    assert wrong > 3


def test_right_results_agree_and_what_did_not_come_back_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = written(tmp_path / "vectors")
    answered(tmp_path / "results", every[:-2], right)
    stem = every[0].name
    (tmp_path / "results" / f"{stem}.safetensors").unlink()
    np.savez(tmp_path / "results" / f"{stem}.npz", **right(every[0].case))  # type: ignore[arg-type]
    capsys.readouterr()

    code = run("judge", str(tmp_path / "vectors"), str(tmp_path / "results"))

    said = capsys.readouterr().out
    assert code == 0
    assert said.startswith(f"agrees with nn.RNN in all {len(every) - 2} cases")
    assert f"missing {every[-2].name}, {every[-1].name}: nothing" in said


@pytest.mark.parametrize("options", [(), ("--only", "loss=both")])
def test_a_planted_fault_is_named_from_files_alone(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = written(tmp_path / "vectors", *options)
    answered(tmp_path / "results", every, without_bias_hh)
    capsys.readouterr()

    code = run("judge", str(tmp_path / "vectors"), str(tmp_path / "results"), "--json", str(tmp_path / "judge.json"))

    said = capsys.readouterr().out
    assert code == 1
    assert "cause   ignores bias_hh: b_hh is never added" in said
    report = json.loads((tmp_path / "judge.json").read_text())
    assert (report["cause"].partition(":")[0], report["certain"]) == ("ignores bias_hh", True)
    assert " ".join(report["lines"]).split() == said.split()
    wrong = sum(one["verdict"] == "disagrees" for one in report["cases"].values())
    assert report["lines"][0] == f"disagrees with nn.RNN in {wrong} of {len(every)} cases"
    assert "certain it reproduces all" in said
    first = next(vector for vector in every if vector.case.config.bias)
    assert f"case    {first.name}: " in said


@pytest.mark.parametrize(("layer", "wrong"), [("gru", ""), ("lstm", ""), ("lstm", "returns h as c_n, not c")])
def test_results_of_gates_are_judged(
    layer: str, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = as_subject(f"torch:{layer}")

    def answer(case: Case) -> Mapping[str, Array]:
        found = dict(torch.run(case).arrays)
        return {**found, "c_n": found["h_n"]} if wrong else found

    pins = ("--only", "num_layers=1", "--only", "bidirectional=False", "--only", "hx=True") * bool(wrong)
    every = written(tmp_path / "vectors", "--layer", layer, *pins)
    answered(tmp_path / "results", every, answer)
    capsys.readouterr()

    code = run("judge", str(tmp_path / "vectors"), str(tmp_path / "results"))

    said = capsys.readouterr().out
    assert (code, said.startswith(f"{'dis' * bool(wrong)}agrees with nn.{layer.upper()} in ")) == (bool(wrong), True)
    assert not wrong or f"cause   {wrong}\n" in said


def test_causes_that_are_the_same_in_every_case_of_float32_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins = [
        "num_layers=1",
        "bidirectional=False",
        "nonlinearity=tanh",
        "dtype=float32",
        "hidden_size=1,2,3,8",
        "T=1,2,5",
    ]
    run("vectors", str(tmp_path / "vectors"), *(word for pin in pins for word in ("--only", pin)))
    answered(tmp_path / "results", vector_files.read(tmp_path / "vectors"), without_bias_hh)
    capsys.readouterr()

    assert run("judge", str(tmp_path / "vectors"), str(tmp_path / "results")) == 1
    assert "cause   ignores bias_hh: b_hh is never added" in capsys.readouterr().out


def test_a_mistake_outside_the_catalogue_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = written(tmp_path / "vectors")
    answered(tmp_path / "results", every, lambda case: {name: a * 0.9 + 0.05 for name, a in right(case).items()})
    capsys.readouterr()

    assert run("judge", str(tmp_path / "vectors"), str(tmp_path / "results")) == 1
    assert "cause   unknown" in capsys.readouterr().out


def test_values_that_are_no_numbers_are_counted_in_all_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_lost(case: Case) -> Mapping[str, Array]:
        arrays = {name: np.array(array) for name, array in right(case).items()}
        arrays["output"].flat[0] = np.nan
        return arrays

    every = written(tmp_path / "vectors")
    answered(tmp_path / "results", every, one_lost)

    assert run("judge", str(tmp_path / "vectors"), str(tmp_path / "results")) == 1
    assert f"unknown: {len(every)} of " in capsys.readouterr().out
    assert len(every) > MOST_VECTOR_CASES  # those on which causes are looked for


def test_other_shapes_and_dtypes_are_said_beside_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "vectors.json"
    every = written(tmp_path / "vectors", "--dtype", "float32", "--examples", "6", "--json", str(listed))
    index = json.loads((tmp_path / "vectors" / "index.json").read_text())
    assert json.loads(listed.read_text())["cases"] == index["cases"]

    def bad(case: Case) -> Mapping[str, Array]:
        arrays = dict(right(case))
        if case is every[1].case:
            arrays["h_n"] = np.zeros((9, 9), np.float32)
        elif case is every[2].case:
            arrays["output"] = arrays["output"].astype(np.float64)
        elif case is every[3].case:
            del arrays["h_n"]
        return arrays

    answered(tmp_path / "results", every, bad)
    (tmp_path / "results" / f"{every[5].name}.safetensors").unlink()
    capsys.readouterr()

    code = run("judge", str(tmp_path / "vectors"), str(tmp_path / "results"), "--json", "-")

    written_to = capsys.readouterr()
    said, report = " ".join(written_to.err.split()), json.loads(written_to.out)
    assert code == 1
    verdicts = ["agrees", "disagrees", "disagrees", "disagrees", "agrees", None]
    assert [one and one["verdict"] for one in report["cases"].values()] == verdicts
    assert list(report["cases"]) == [vector.name for vector in every]
    assert (report["agrees"], report["cause"]) == (False, None)
    assert said.startswith("disagrees with nn.RNN in 3 of 5 cases")
    assert f"form {every[1].name}: h_n has shape (9, 9)" in said
    assert f"form {every[2].name}: output has dtype float64" in said
    assert f"form {every[3].name}: h_n is missing" in said


def test_a_case_with_wrong_gradients_disagrees_also_beside_one_that_is_wrong_forwards(tmp_path: Path) -> None:
    every = written(tmp_path / "vectors", "--only", "loss=both", "--examples", "3")

    def bad(case: Case) -> Mapping[str, Array]:
        wrong = {every[0].case: "output", every[1].case: "x.grad"}.get(case, "")
        return {name: array + 1 if name == wrong else array for name, array in right(case).items()}

    answered(tmp_path / "results", every, bad)

    run("judge", str(tmp_path / "vectors"), str(tmp_path / "results"), "--json", str(tmp_path / "judge.json"))

    report = json.loads((tmp_path / "judge.json").read_text())
    assert [one["verdict"] for one in report["cases"].values()] == ["disagrees", "disagrees", "agrees"]
    assert report["lines"][0] == "disagrees with nn.RNN in 2 of 3 cases"


def test_nothing_that_came_back_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "vectors", "--examples", "2")
    (tmp_path / "results").mkdir()
    capsys.readouterr()

    assert run("judge", str(tmp_path / "vectors"), str(tmp_path / "results")) == 2
    assert capsys.readouterr().out.startswith("not enough seen")


def header(about: Mapping[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(about).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE: Final = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a file of safetensors"),
        (b"\xff" * 8 + b"{}", "expected a file of safetensors"),
        (b"\x02" + bytes(7) + b"[[", "expected a file of safetensors"),
        (header({"x": ONE | {"shape": [10**9, 10**9]}}, bytes(8)), "expected a file of safetensors"),
        (header({"x": ONE | {"dtype": "U64"}}, bytes(8)), "holds U64: expected the dtypes F64"),
    ],
)
def test_a_file_that_holds_no_arrays_is_refused_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "001.safetensors"
    path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        safetensors_file.read(path)

    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "MOST_ARRAY_BYTES", 100)
    safetensors_file.write(tmp_path / "big.safetensors", {"x": np.zeros(100)})

    with pytest.raises(UsageError, match=r"holds \d+ bytes, expected at most 100"):
        safetensors_file.read(tmp_path / "big.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "../outside.safetensors"}, "expected the name of a file beside it"),
        ({"file": "/etc/passwd"}, "expected the name of a file beside it"),
        ({"file": "link.safetensors"}, "leads nowhere else"),
        ({"file": 3}, "expected the name of a file beside it"),
        ({"file": "none.safetensors"}, "no such file"),
        ({"cell": "mgu"}, "expected a cell, rnn, gru, lstm, and a config"),
        ({"cell": "lstm"}, "cell='lstm': expected 'rnn', as its config has it"),
        ({"config": {"input_size": 2, "hidden_size": 3, "num_layers": 10**9}}, "too few for num_layers=1000000000"),
        ({"config": {"input_size": 2, "hidden_size": 3, "num_layers": 2}}, "no array 'weight_ih_l1'"),
        ({"config": {"input_size": 2, "hidden_size": 4}}, "x|weight"),
        ({"config": {"input_size": 2}}, "missing config fields hidden_size"),
    ],
)
def test_an_index_that_leads_elsewhere_or_lies_is_refused_in_one_line(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "vectors"
    vector_files.write(folder, [draw(RNNConfig(2, 3, 1, T=2, N=1), "normal", 0)] * 1)
    safetensors_file.write(tmp_path / "outside.safetensors", {"x": np.zeros(1)})
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    index = json.loads((folder / "index.json").read_text())
    index["cases"][0] |= change
    (folder / "index.json").write_text(json.dumps(index))

    with pytest.raises(UsageError, match=words) as caught:
        vector_files.read(folder)

    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"[]"])
def test_results_that_hold_no_arrays_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    vector_files.write(tmp_path / "vectors", [draw(RNNConfig(2, 3), "normal", 0)])
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "001.npz").write_bytes(content)

    with pytest.raises(UsageError, match=r"001.npz: expected what np.savez wrote"):
        list(vector_files.results(tmp_path / "results", vector_files.read(tmp_path / "vectors")))


def test_the_reader_in_cpp_is_short_and_reads_what_is_written(tmp_path: Path) -> None:
    reader, compiler = LANGUAGES / "tensors.hpp", shutil.which("c++")
    assert len(reader.read_text().splitlines()) <= 30
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "main.cpp").write_text(
        f'#include "{reader}"\n#include <cstdio>\nint main(int, char** argv) {{\n'
        "    for (const auto& [name, array] : read_tensors(argv[1]))\n"
        '        for (double number : array) std::printf("%s %.17g\\n", name.c_str(), number);\n}\n'
    )
    subprocess.run([compiler, "-std=c++17", str(tmp_path / "main.cpp"), "-o", str(tmp_path / "main")], check=True)
    for vector in written(tmp_path / "vectors", "--examples", "3"):
        path = tmp_path / "vectors" / f"{vector.name}.safetensors"
        arrays = safetensors_file.read(path)

        said = subprocess.run([str(tmp_path / "main"), str(path)], check=True, capture_output=True, text=True).stdout

        expected = [f"{name} {number:.17g}" for name in sorted(arrays) for number in arrays[name].ravel().tolist()]
        assert said.splitlines() == expected
