"""Tests of Case: arrays that fit, files that come back bit for bit, a repr that pastes back."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from harness import Case, RNNConfig, cases, draw, sparse
from harness.space.case import CaseError, load_with_notes
from harness.space.factor_table import DTYPES

NAMES = {"Case": Case, "RNNConfig": RNNConfig, "draw": draw, "sparse": sparse, "np": np}


def pasted(text: str) -> Case:
    case = eval(text, NAMES)  # noqa: S307 - a repr is meant to be evaluated
    assert isinstance(case, Case)
    return case


def same_bits(a: Case, b: Case) -> bool:
    return a.config == b.config and {n: v.tobytes() for n, v in a.arrays.items()} == {
        n: v.tobytes() for n, v in b.arrays.items()
    }


@given(cases(output_size=[None, 2], N=[1, 2, 3], T=[1, 2], input_size=[1, 2], hidden_size=[1, 2, 3]))
def test_a_repr_pastes_back_bit_for_bit(case: Case) -> None:
    assert same_bits(pasted(repr(case)), case)


@given(cases(output_size=[None, 2], N=[1, 2], T=[1, 2], input_size=[1, 2], hidden_size=[1, 2]))
def test_a_repr_without_an_origin_pastes_back_too(case: Case) -> None:
    bare = Case(case.config, case.x, case.hx, case.weights)

    back = pasted(repr(bare))

    # NaN has many bit patterns and one text; everything else keeps its bits, -0.0 among them.
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(back.arrays.values(), case.arrays.values(), strict=True)
    )
    assert all(
        np.array_equal(np.signbit(a), np.signbit(b)) or np.isnan(a).any()
        for a, b in zip(back.arrays.values(), case.arrays.values(), strict=True)
    )


def test_float32_texts_that_round_twice_are_written_out() -> None:
    # The shortest text of a float32 is not always a text whose nearest float64 rounds to it: the bits decide.
    values = np.frombuffer(np.random.default_rng(0).bytes(4 * 200), np.float32)
    values = values[np.isfinite(values)]
    case = Case.of(RNNConfig(1, 1, T=len(values)), values.reshape(-1, 1, 1), **ones(RNNConfig(1, 1)))

    assert pasted(repr(case)).x.tobytes() == case.x.tobytes()


@given(cases(output_size=[None, 2]))
def test_a_file_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    path = tmp_path_factory.mktemp("case") / "case.npz"

    case.save(path, subject="mine", n=3)
    back, notes = load_with_notes(path)

    assert same_bits(back, case)
    assert back.origin == case.origin
    assert back.id == case.id
    assert notes == {"subject": "mine", "n": 3}


def test_saving_over_a_file_that_fails_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "case.npz"
    old, new = draw(RNNConfig(1, 1), "normal", 1), draw(RNNConfig(1, 1), "normal", 2)
    old.save(path)

    def half_written(file: Any, **_arrays: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", half_written)
    with pytest.raises(OSError, match="disk full"):
        new.save(path)

    assert Case.load(path).id == old.id
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_are_read_only_and_the_caller_s_own_stay_as_they_were() -> None:
    drawn = draw(RNNConfig(1, 1, hx=True))
    x = drawn.x.copy()
    case = Case(drawn.config, x, drawn.hx, drawn.weights)

    assert not any(array.flags.writeable for array in case.arrays.values())
    assert x.flags.writeable


def test_a_wrong_shape_or_dtype_is_refused_with_both() -> None:
    config = RNNConfig(2, 3, T=4, N=5)

    with pytest.raises(CaseError, match=r"x is float32 \(4, 5, 1\), expected float32 \(4, 5, 2\) = \('T', 'N', 'I'\)"):
        Case.of(config, np.zeros((4, 5, 1)), **ones(config))
    with pytest.raises(CaseError, match="x is float64"):
        Case(config, np.zeros((4, 5, 2)), None, draw(config).weights)
    with pytest.raises(CaseError, match="hx is given, but the config says hx=False"):
        Case.of(config, np.zeros((4, 5, 2)), np.zeros((1, 5, 3)), **ones(config))
    with pytest.raises(CaseError, match=r"weights are \['weight_ih_l0'\], expected"):
        Case.of(config, np.zeros((4, 5, 2)), weight_ih_l0=np.zeros((3, 2)))


def test_a_file_that_is_no_case_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.npz"
    text.write_text("hello")
    other = tmp_path / "other.npz"
    np.savez(other, a=np.zeros(3))
    newer = tmp_path / "newer.npz"
    np.savez(newer, header=np.array(json.dumps({"format": 99})))
    hollow = tmp_path / "hollow.npz"
    header = {"format": 1, "config": RNNConfig(1, 1).to_dict(), "origin": None, "notes": {}}
    np.savez(hollow, header=np.array(json.dumps(header)))

    for path, words in [
        (tmp_path / "none.npz", "no such file"),
        (text, "not a case file"),
        (other, "not a case file"),
        (newer, "case format 99, but this version reads formats up to 2"),
        (hollow, "incomplete case file"),
    ]:
        with pytest.raises(CaseError, match=words):
            Case.load(path)


def test_a_prefix_keeps_the_first_layers_states_and_weights() -> None:
    case = draw(RNNConfig(2, 3, num_layers=3, bidirectional=True, N=2, hx=True, output_size=1), "normal", 5)
    assert case.hx is not None

    prefix = case.prefix(2)

    assert prefix.hx is not None
    assert np.array_equal(prefix.hx, case.hx[:4])
    assert set(case.weights) - set(prefix.weights) == {
        *(f"{role}_l2{end}" for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") for end in ("", "_reverse")),
        "readout.weight",
        "readout.bias",
    }


def test_the_id_tells_cases_apart_by_config_and_by_bits() -> None:
    config = RNNConfig(1, 1)
    ids = {
        draw(config, "normal", 1).id,
        draw(config, "normal", 2).id,
        draw(config.replace(batch_first=True), "normal", 1).id,
    }

    assert len(ids) == 3
    assert draw(config, "normal", 1).id in ids


def ones(config: RNNConfig) -> dict[str, Any]:
    return {name: np.ones(spec.shape) for name, spec in config.weights.items()}


LOSSES: list[str | None] = ["output", "h_n", "both"]


@given(cases(dtypes=["bfloat16", "float16", "float32"], loss=[None, *LOSSES], output_size=[None, 2]))
def test_sixteen_bits_and_cotangents_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    path = tmp_path_factory.mktemp("case") / "case.npz"

    case.save(path)
    back = Case.load(path)

    assert same_bits(back, case)
    assert {name: array.dtype for name, array in back.arrays.items()} == {
        name: array.dtype for name, array in case.arrays.items()
    }
    assert list(back.cotangents) == list(case.config.cotangents)
    assert back.id == case.id


@given(
    cases(
        dtypes=["bfloat16", "float16"],
        loss=[None, *LOSSES],
        output_size=[None, 2],
        N=[1, 2],
        T=[1, 2],
        input_size=[1, 2],
        hidden_size=[1, 2, 3],
    )
)
def test_a_repr_of_sixteen_bits_and_cotangents_pastes_back(case: Case) -> None:
    bare = Case(case.config, case.x, case.hx, case.weights, cotangents=case.cotangents)

    for one in (case, bare):
        back = pasted(repr(one))
        assert back.config == case.config
        for name, array in one.arrays.items():
            assert np.array_equal(back.arrays[name], array, equal_nan=True), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_keep_their_signs_in_a_repr(dtype: str) -> None:
    config = RNNConfig(2, 1, dtype=dtype)
    case = Case.of(config, [[[-0.0, 0.0]]], **ones(config))

    back = pasted(repr(case))

    assert np.signbit(back.x).tolist() == [[[True, False]]]


@pytest.mark.parametrize("hx", [False, True])
def test_a_file_of_the_first_format_which_knew_no_loss_still_loads(tmp_path: Path, hx: bool) -> None:
    case = draw(RNNConfig(2, 3, num_layers=2, T=2, hx=hx), "special", 4)
    path = tmp_path / "old.npz"
    config = {name: value for name, value in case.config.to_dict().items() if name != "loss"}
    header = {"format": 1, "config": config, "origin": ["special", 4], "notes": {"subject": "mine"}}
    np.savez(path, header=np.array(json.dumps(header)), **case.arrays)  # type: ignore[arg-type]

    back, notes = load_with_notes(path)

    assert same_bits(back, case)
    assert back.origin == case.origin
    assert (back.config.loss, dict(back.cotangents), notes) == (None, {}, {"subject": "mine"})


@pytest.mark.parametrize("found", [0, -1, 3, "2", None, 1.5])
def test_only_the_formats_there_are_are_read(tmp_path: Path, found: Any) -> None:
    path = tmp_path / "case.npz"
    np.savez(path, header=np.array(json.dumps({"format": found})))

    with pytest.raises(CaseError, match=r"case format .*, but this version reads formats up to 2"):
        Case.load(path)


def test_a_file_without_its_cotangents_is_refused(tmp_path: Path) -> None:
    case = draw(RNNConfig(1, 1, loss="both"), "normal", 0)
    path = tmp_path / "case.npz"
    header = {"format": 2, "config": case.config.to_dict(), "origin": None, "notes": {}}
    rest = {name: array for name, array in case.arrays.items() if name != "h_n.grad"}
    np.savez(path, header=np.array(json.dumps(header)), **rest)  # type: ignore[arg-type]

    with pytest.raises(CaseError, match=r"incomplete case file: no h_n\.grad"):
        Case.load(path)


def test_cotangents_belong_to_a_loss_and_have_the_shape_of_what_it_reads() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, loss="both"), "normal", 0)
    output, h_n = case.cotangents.values()

    with pytest.raises(CaseError, match=r"cotangents are \[\], expected \['output.grad', 'h_n.grad'\]"):
        Case(case.config, case.x, None, case.weights)
    with pytest.raises(CaseError, match=r"cotangents are \['output.grad'\], expected \[\]"):
        Case(case.config.replace(loss=None), case.x, None, case.weights, cotangents={"output.grad": output})
    with pytest.raises(CaseError, match=r"output.grad is float32 \(1, 5, 3\), expected float32 \(4, 5, 3\)"):
        Case(case.config, case.x, None, case.weights, cotangents={"output.grad": h_n, "h_n.grad": h_n})


@given(cases(loss=LOSSES, output_size=[None, 2]))
def test_the_forward_case_has_the_same_numbers_and_no_loss(case: Case) -> None:
    forward = case.forward()

    assert forward.config == case.config.replace(loss=None)
    assert forward.forward() is forward
    assert {n: a.tobytes() for n, a in forward.arrays.items()} == {
        n: a.tobytes() for n, a in case.arrays.items() if n not in case.cotangents
    }


def test_cotangents_are_read_only_and_tell_cases_apart() -> None:
    case = draw(RNNConfig(1, 1, loss="h_n"), "normal", 1)
    other = Case(case.config, case.x, None, case.weights, cotangents={"h_n.grad": case.cotangents["h_n.grad"] + 1})

    assert not case.cotangents["h_n.grad"].flags.writeable
    assert len({case.id, other.id, case.forward().id}) == 3


@given(cases(N=[0, 1, 3], T=[1, 2], input_size=[1, 2], hidden_size=[1, 3], losses=[None, "both"], dtypes=DTYPES))
def test_a_pickled_case_comes_back_bit_for_bit_and_read_only(case: Case) -> None:
    back = pickle.loads(pickle.dumps(case))  # noqa: S301 - our own

    assert same_bits(back, case)
    assert back.origin == case.origin
    assert not any(array.flags.writeable for array in back.arrays.values())


def test_a_pickled_config_is_its_fields_alone_and_derives_its_shapes_once() -> None:
    config = RNNConfig(1, 1, num_layers=3, bidirectional=True, loss="both")
    plain = pickle.dumps(config)
    assert config.gradients  # kept in the config from here on

    assert pickle.dumps(config) == plain
    assert pickle.loads(plain) == config  # noqa: S301 - our own
    assert pickle.loads(plain) is pickle.loads(plain)  # noqa: S301 - our own


@pytest.mark.parametrize("hx", [True, False])
def test_a_file_with_another_hx_than_its_config_says_is_refused(tmp_path: Path, hx: bool) -> None:
    path = tmp_path / "case.npz"
    draw(RNNConfig(1, 2, hx=hx), "normal").save(path)
    with np.load(path) as stored:
        files = dict(stored)
    if hx:
        del files["hx"]
    else:
        files["hx"] = np.zeros((1, 1, 2), np.float32)
    np.savez(path, **files)

    with pytest.raises(CaseError, match=f"hx is {'not ' if hx else ''}given, but the config says hx={hx}"):
        Case.load(path)
