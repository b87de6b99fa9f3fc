"""Tests of cases as JSON: every number comes back bit for bit, and other files are refused with what was expected."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from harness import Case, RNNConfig, draw
from harness.space.case import CaseError, ValuesOrigin
from harness.space.case_json import from_json, load_json, to_json
from harness.space.factor_table import DTYPES
from harness.space.values import DISTRIBUTIONS

CONFIGS = {
    "one": RNNConfig(1, 1),
    "everything": RNNConfig(
        3, 4, num_layers=2, bidirectional=True, T=3, N=2, hx=True, output_size=2, loss="both", batch_first=True
    ),
    "unbatched": RNNConfig(2, 3, T=4, hx=True, batched=False, loss="h_n", bias=False),
    "packed": RNNConfig(2, 2, T=3, N=3, lengths=(3, 1, 2), output_size=1, loss="output"),
    "expanded": RNNConfig(2, 2, T=3, N=2, hx=True, strides="expanded", loss="output"),
    "empty": RNNConfig(2, 3, T=2, N=0, hx=True, loss="both"),
    "empty, batch first": RNNConfig(2, 3, T=2, N=0, hx=True, batch_first=True),
}


def of_column(values: Any, dtype: str) -> Case:
    """Return a case whose x is these values."""
    x = np.asarray(values).reshape(-1, 1, 1)
    weights: dict[str, Any] = {"weight_ih_l0": [[1]], "weight_hh_l0": [[1]], "bias_ih_l0": [1], "bias_hh_l0": [1]}
    return Case.of(RNNConfig(1, 1, T=len(x), dtype=dtype), x, **weights)


def same_bits(a: Case, b: Case) -> bool:
    return a.config == b.config and {n: v.tobytes() for n, v in a.arrays.items()} == {
        n: v.tobytes() for n, v in b.arrays.items()
    }


def strict(text: str) -> dict[str, Any]:
    """Parse JSON as in the standard, without bare NaN or Infinity."""

    def no_constant(word: str) -> None:
        raise AssertionError(word)

    document: dict[str, Any] = json.loads(text, parse_constant=no_constant)
    return document


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_case_comes_back_bit_for_bit(name: str, dtype: str, distribution: str) -> None:
    for seed in range(3):
        case = draw(CONFIGS[name].replace(dtype=dtype), distribution, seed)

        text = to_json(case, subject="mine", versions={"numpy": "2"}, n=[1, None])
        back, notes = from_json(text)

        strict(text)
        assert same_bits(back, case)
        assert (back.origin, back.id) == (case.origin, case.id)
        assert notes == {"subject": "mine", "versions": {"numpy": "2"}, "n": [1, None]}
        assert not any(array.flags.writeable for array in back.arrays.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_sixteen_bits_comes_back(dtype: str) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.dtype(dtype))
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = values[~np.isnan(values)]
    case = of_column(values, dtype)

    assert len(values) > 63_000
    assert from_json(to_json(case))[0].x.tobytes() == case.x.tobytes()


@pytest.mark.parametrize(("dtype", "bits"), [("float32", np.uint32), ("float64", np.uint64)])
def test_numbers_of_any_bits_come_back(dtype: str, bits: Any) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(bits).max, 20_000, bits, endpoint=True).view(dtype)
    limits: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    edges = np.array([0.0, -0.0, limits.smallest_subnormal, -limits.tiny, limits.max, np.inf, -np.inf], dtype)
    case = of_column(np.concatenate([values[~np.isnan(values)], edges]), dtype)

    assert from_json(to_json(case))[0].x.tobytes() == case.x.tobytes()


def test_a_text_that_would_round_twice_is_written_out() -> None:
    case = of_column(np.array([0x15AE43FD], np.uint32).view(np.float32), "float32")
    assert np.float32(float(str(case.x[0, 0, 0]))) != case.x  # its shortest text, read as a float64

    assert from_json(to_json(case))[0].x.tobytes() == case.x.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_keep_their_signs_and_what_json_has_no_numbers_for_is_a_word(dtype: str) -> None:
    case = of_column([0.0, -0.0, np.nan, np.inf, -np.inf], dtype)

    x = strict(to_json(case))["arrays"]["x"]

    assert [str(number) for ((number,),) in x] == ["0.0", "-0.0", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(("dtype", "bits"), [("float32", np.uint32), ("bfloat16", np.uint16), ("float16", np.uint16)])
def test_what_a_nan_carries_need_not_come_back(dtype: str, bits: Any) -> None:
    top = {"float32": 0x7F800000, "bfloat16": 0x7F80, "float16": 0x7C00}[dtype]
    sign = 1 << (np.iinfo(bits).bits - 1)
    odd = np.array([top + 1, sign + top + 1, top + 3], bits).view(np.dtype(dtype))
    drawn = of_column(odd, dtype)
    case = Case(drawn.config, drawn.x, None, drawn.weights, ValuesOrigin("normal", 1))

    back = from_json(to_json(case))[0]

    assert [str(number) for number in back.x.ravel()] == ["nan"] * 3


def test_the_text_is_read_by_people_row_by_row() -> None:
    case = draw(RNNConfig(2, 3, T=2, N=2, dtype="float32"), "dyadic", 1)
    text = to_json(case, subject="mine")

    lines = text.splitlines()
    rows = [json.loads(line.strip().rstrip(",")) for line in lines if line.startswith("        [") and "]" in line]
    assert rows == [case.x[t, n].tolist() for t in range(2) for n in range(2)]
    assert '    "hidden_size": 3,' in lines
    assert f'    "bias_ih_l0": {case.weights["bias_ih_l0"].tolist()},' in lines
    assert '    "subject": "mine"' in lines
    assert to_json(draw(RNNConfig(1, 1))).count("\n") <= 43
    assert "[0.1]" in to_json(of_column([0.1, 0.2], "float32"))


def test_a_case_of_200_000_numbers_takes_no_seconds() -> None:
    case = draw(RNNConfig(100, 100, T=100, N=18, dtype="float32"), "special", 1)

    start = time.process_time()
    back, _ = from_json(to_json(case))
    taken = time.process_time() - start

    assert same_bits(back, case)
    assert taken < 3  # some 0.3 s


def test_notes_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(draw(RNNConfig(1, 1)), number=float("nan"))


def test_a_text_written_by_hand_needs_neither_origin_nor_notes() -> None:
    document = strict(to_json(draw(RNNConfig(1, 1), "normal", 1)))
    del document["origin"], document["notes"]
    document["arrays"]["x"] = [[[-0]]]

    back, notes = from_json(json.dumps(document).replace("[[[0]]]", "[[[-0]]]"))

    assert (back.origin, notes) == (None, {})
    assert np.signbit(back.x).all()


def test_an_origin_that_does_not_draw_these_numbers_is_left_out() -> None:
    case = draw(RNNConfig(1, 1), "normal", 1)
    document = strict(to_json(case))
    document["arrays"]["x"] = [[[0.25]]]

    assert from_json(to_json(case))[0].origin == ValuesOrigin("normal", 1)
    assert from_json(json.dumps(document))[0].origin is None
    document["origin"]["distribution"] = "of another version"
    assert from_json(json.dumps(document))[0].origin is None


def changed(change: Callable[[dict[str, Any]], Any], config: RNNConfig = CONFIGS["everything"]) -> str:
    document = strict(to_json(draw(config, "normal", 1)))
    change(document)
    return json.dumps(document)


def text_of(**fields: Any) -> str:
    return changed(lambda document: document.update(fields))


def with_x(value: Any, **fields: Any) -> str:
    return changed(lambda document: document["arrays"].update(x=value), RNNConfig(2, 1, T=2, **fields))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON: Expecting value"),
        ("hello", "not JSON: Expecting value"),
        (b"\xff\xfe\xfa", "not JSON: "),
        (b"PK\x03\x04 a zip", "not JSON: "),
        ("[" * 100_000, "lists within lists too deep"),
        ('{"format": 1', "not JSON: Expecting ',' delimiter: line 1"),
        ("[1, 2]", "[1, 2], expected a case: an object of arrays, config, format, notes, origin"),
        ("{}", "no 'format'; expected a case"),
        (changed(lambda document: document.pop("config")), "no 'config'; expected a case"),
        (changed(lambda document: document.pop("arrays")), "no 'arrays'; expected a case"),
        (text_of(format=2), "case format 2, but this version reads formats up to 1"),
        (text_of(format=True), "case format true, but"),
        (text_of(format="1"), 'case format "1", but'),
        (text_of(comment="mine"), "unknown 'comment'; expected some of arrays, config"),
        (text_of(notes=[]), "notes: [], expected an object"),
        (text_of(config=[]), "config: [], expected an object"),
        (text_of(arrays=None), "arrays: null, expected an object"),
        (text_of(config={"input_size": 1}), "config: missing config fields hidden_size"),
        (text_of(config={"input_size": 1, "hidden_size": "2"}), "config: hidden_size='2': expected an int"),
        (text_of(config={"input_size": 1, "hidden_size": 1, "colour": 1}), "config: unknown config fields colour"),
        (text_of(config={"input_size": 1, "hidden_size": 1, "num_layers": 10**9}), "too few for num_layers=1000000000"),
        (text_of(config={"input_size": 10**400, "hidden_size": 1}), "config: input_size=inf: expected an int"),
        (text_of(origin="normal"), 'origin: "normal", expected null or an object of distribution and seed'),
        (text_of(origin={"distribution": "normal", "seed": 1.5}), "expected a distribution's name and a seed"),
        (text_of(origin={"distribution": None, "seed": 1}), "expected a distribution's name and a seed"),
        (text_of(origin={"distribution": "normal", "seed": -1}), "expected a distribution's name and a seed"),
        (changed(lambda document: document["arrays"].pop("bias_hh_l1")), "arrays: no bias_hh_l1; expected x, hx,"),
        (changed(lambda document: document["arrays"].update(bais=[1])), 'arrays: unknown "bais"; expected x, hx,'),
        ('{"format": 1, "format": 1}', '"format" is there twice; expected every name once'),
        (with_x([[[1, float("nan")]], [[1, 2]]]), 'NaN is no JSON; expected the string "NaN"'),
        (with_x([[[1, -float("inf")]], [[1, 2]]]), 'is no JSON; expected the string "-Infinity"'),
        (with_x([[[1, 2]], [[1]]]), "arrays: x[1][0]: a list of 1, expected a list of 2 (I)"),
        (with_x([[[1, 2]]]), "arrays: x: a list of 1, expected a list of 2 (T)"),
        (with_x([[[1, 2]], 3]), "arrays: x[1]: 3, expected a list of 1 (N)"),
        (with_x([[[1, [2]]], [[1, 2]]]), "arrays: x[0][0][1]: [2], expected a number or one of"),
        (with_x([[[1, 2]], [[1, "nan"]]]), 'x[1][0][1]: "nan", expected a number or one of "NaN", "Infinity", "-Infi'),
        (with_x([[[1, 2]], [[True, 2]]]), "x[1][0][0]: true, expected a number"),
        (with_x([[[1, 2]], [[None, 2]]]), "x[1][0][0]: null, expected a number"),
        (with_x("0" * 100), f'x: "{"0" * 39}…, expected a list of 2 (T)'),
        (with_x([[[1, 2]], [[1, 1e39]]]), "x[1][0][1]: a number too large for float32"),
        (with_x([[[1, "NaN"]], [[1, 65520]]], dtype="float16"), "x[1][0][1]: a number too large for float16"),
        (with_x([[[1, 2]], [[1, 3.4e38]]], dtype="bfloat16"), "x[1][0][1]: a number too large for bfloat16"),
        (with_x([[[1, 2]], [[1, 10**400]]], dtype="float64"), "x[1][0][1]: a number too large for float64"),
        (with_x([[[1, 2]], [[1, 9]]]).replace("9]", "1e999]"), "x[1][0][1]: a number too large for float32"),
        (with_x([[[1, 2]], [[1, 3]]], strides="expanded"), "x varies along its first axis"),
    ],
)
def test_what_is_no_case_is_refused_by_name_and_place(text: str | bytes, words: str) -> None:
    with pytest.raises(CaseError) as refusal:
        from_json(text, "some/case.json")

    assert str(refusal.value).startswith("some/case.json: ")
    assert words in str(refusal.value)


def test_the_largest_numbers_are_not_too_large() -> None:
    text = with_x([[[1, 65519.9]], [[1, -65504]]], dtype="float16")

    assert from_json(text)[0].x.ravel().tolist() == [1, 65504, 1, -65504]


def test_half_a_file_is_never_a_case() -> None:
    text = to_json(draw(RNNConfig(2, 1, N=2), "special", 1), subject="mine").rstrip()

    for end in range(len(text)):
        with pytest.raises(CaseError):
            from_json(text[:end])


def test_a_file_is_read_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    case = draw(RNNConfig(1, 1), "special", 1)
    path = tmp_path / "case.json"
    path.write_text(to_json(case), encoding="utf-8-sig")

    assert same_bits(load_json(path)[0], case)
    with pytest.raises(CaseError, match=r"none\.json: no such file"):
        load_json(tmp_path / "none.json")
    with pytest.raises(CaseError, match="expected a file"):
        load_json(tmp_path)
