"""Tests of cases and values: padding, expanded arrays, packing, no batch axis; plain form, files, and repr."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from harness import Case, RNNConfig, cases, draw
from harness.space.case import CaseError, as_plain, load_with_notes, padding
from harness.space.factor_table import LOSSES
from harness.space.values import DISTRIBUTIONS
from harness.subjects.protocol import scope_of
from harness.subjects.torch_module import TorchSubject
from tests.space.test_case import pasted, same_bits

ALL = scope_of(TorchSubject())
SMALL: dict[str, Any] = {"T": [1, 2, 3], "N": [0, 1, 2, 3], "input_size": [1, 2], "hidden_size": [1, 2]}
PACKED = RNNConfig(2, 3, T=4, N=3, hx=True, output_size=2, loss="both", lengths=(2, 4, 1))


def behind(config: RNNConfig) -> Any:
    """Return which steps are padding, by definition."""
    assert config.lengths is not None
    steps = np.array([[t >= length for length in config.lengths] for t in range(config.T)])
    return steps.swapaxes(0, 1) if config.batch_first else steps


def test_padding_is_what_stands_behind_a_sequence_s_last_step() -> None:
    config = RNNConfig(1, 1, T=3, N=2, lengths=(1, 3))

    assert padding(config).tolist() == [[False, False], [True, False], [True, False]]
    assert padding(config.replace(batch_first=True)).tolist() == [[False, True, True], [False, False, False]]


@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_x_is_nan_where_it_is_padding_and_as_drawn_elsewhere(distribution: str, dtype: str, batch_first: bool) -> None:
    config = PACKED.replace(dtype=dtype, batch_first=batch_first)

    case, whole = draw(config, distribution, 5), draw(config.replace(lengths=None), distribution, 5)

    assert np.isnan(case.x[behind(config)].astype(float)).all()
    assert case.x[~behind(config)].tobytes() == whole.x[~behind(config)].tobytes()
    assert {n: a.tobytes() for n, a in case.arrays.items() if n not in {"x", "readout.grad"}} == {
        n: a.tobytes() for n, a in whole.arrays.items() if n not in {"x", "readout.grad"}
    }
    given, other = case.cotangents["readout.grad"], whole.cotangents["readout.grad"]
    assert not given[behind(config)].any()
    assert given[~behind(config)].tobytes() == other[~behind(config)].tobytes()


@given(cases(ALL, strides="expanded", loss=LOSSES))
def test_what_is_expanded_is_one_value_along_its_first_axis_and_gradients_one_throughout(case: Case) -> None:
    for name in case.config.inputs:
        array = case.arrays[name]
        assert all(row.tobytes() == array[0].tobytes() for row in array), name
    for name, array in case.cotangents.items():
        assert len({value.tobytes() for value in array.reshape(-1)}) <= 1, name


def test_what_is_expanded_differs_along_other_axes_and_weights_along_all() -> None:
    case = draw(RNNConfig(2, 3, 2, T=4, N=3, hx=True, loss="both", strides="expanded"), "normal", 0)

    assert case.hx is not None
    assert len(np.unique(case.x)) == 6
    assert len(np.unique(case.hx)) == 9
    assert len(np.unique(case.weights["weight_ih_l1"])) == 9
    assert len({array.reshape(-1)[0] for array in case.cotangents.values()}) == 2


@pytest.mark.parametrize("name", ["x", "hx", "output.grad", "h_n.grad"])
def test_an_array_that_varies_where_it_is_said_to_be_expanded_is_refused(name: str) -> None:
    config = RNNConfig(2, 3, 2, T=4, N=3, hx=True, loss="both", strides="expanded")
    case = draw(config, "normal", 0)
    array = case.arrays[name].copy()
    array[-1] += 1

    with pytest.raises(CaseError, match=f"{name} varies along its first axis: strides='expanded' requires one"):
        Case.from_arrays(config, case.arrays | {name: array})
    assert Case.from_arrays(config.replace(strides="stepped"), case.arrays | {name: array}).config.loss == "both"


def test_a_gradient_that_varies_along_its_last_axis_alone_is_not_expanded() -> None:
    config = RNNConfig(2, 3, T=4, loss="h_n", strides="expanded")
    arrays = draw(config, "normal", 0).arrays | {"h_n.grad": np.arange(3, dtype=np.float32).reshape(1, 1, 3)}

    with pytest.raises(CaseError, match=r"h_n\.grad varies"):
        Case.from_arrays(config, arrays)


def test_the_plain_form_of_a_packed_case_has_zeros_for_padding_but_not_in_what_is_not_padded() -> None:
    case = draw(PACKED, "normal", 0)

    plain = case.plain()

    assert plain.config == PACKED
    assert not plain.x[behind(PACKED)].any()
    assert not plain.cotangents["readout.grad"][behind(PACKED)].any()
    for name, array in plain.arrays.items():
        inside = ~behind(PACKED) if name in {"x", "readout.grad"} else ...
        assert array[inside].tobytes() == case.arrays[name][inside].tobytes(), name


def test_padding_is_zeroed_in_what_comes_back_but_not_in_x_s_gradient() -> None:
    config = PACKED.replace(batch_first=True)
    arrays = {name: np.full(spec.shape, 7, np.float32) for name, spec in config.returned.items()}

    plain = as_plain(config, arrays)

    assert plain.keys() == arrays.keys()
    for name in ("output", "readout"):
        assert not plain[name][behind(config)].any()
        assert (plain[name][~behind(config)] == 7).all()
    assert all((plain[name] == 7).all() for name in plain.keys() - {"output", "readout"})
    assert all((array == 7).all() for array in arrays.values())


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_plain_form_without_a_batch_axis_has_the_same_numbers_with_one(batch_first: bool) -> None:
    config = RNNConfig(2, 3, 2, batch_first=batch_first, T=4, hx=True, output_size=2, loss="both", batched=False)
    case = draw(config, "normal", 0)

    plain = case.plain()

    assert plain.config == config.replace(batch_first=False, batched=True)
    assert {name: array.shape for name, array in plain.arrays.items() if name not in config.weights} == {
        "x": (4, 1, 2),
        "hx": (2, 1, 3),
        "readout.grad": (4, 1, 2),
        "h_n.grad": (2, 1, 3),
    }
    assert all(array.tobytes() == case.arrays[name].tobytes() for name, array in plain.arrays.items())


def test_what_comes_back_without_a_batch_axis_has_one_in_plain_form() -> None:
    config = RNNConfig(2, 3, T=4, hx=True, output_size=2, loss="both", batched=False)
    arrays = {name: np.zeros(spec.shape, np.float32) for name, spec in config.returned.items()}

    plain = as_plain(config, arrays)

    assert {name: array.shape for name, array in plain.items()} == {
        name: spec.shape for name, spec in config.plain.returned.items()
    }


def test_the_plain_form_of_autocast_is_rounded_to_its_dtype() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=2, loss="both", autocast="bfloat16", strides="transposed"), "normal", 0)

    plain = case.plain()

    assert plain.config == RNNConfig(2, 3, T=4, N=2, loss="both", dtype="bfloat16")
    for name, array in plain.arrays.items():
        exact = case.arrays[name].astype(float)
        assert array.dtype == np.dtype("bfloat16")
        assert (np.abs(array.astype(float) - exact) <= np.abs(exact) * 2.0**-8).all()


def test_what_overflows_autocast_s_dtype_is_infinite_and_no_warning() -> None:
    config = RNNConfig(1, 1, autocast="float16")
    case = Case.from_arrays(config, draw(config).arrays | {"x": np.full((1, 1, 1), 1e6, np.float32)})

    assert np.isposinf(case.plain().x).all()


def test_a_plain_case_is_its_own_plain_form() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=2, batch_first=True, loss="both", wrt="inputs"), "normal", 0)

    assert case.plain() is case


def test_masks_go_along_to_the_plain_form_the_forward_case_and_prefixes() -> None:
    drawn = draw(RNNConfig(2, 3, 3, dropout=0.5, T=4, N=2, training=True, loss="both", strides="stepped"), "normal", 0)
    masks = {layer: np.full((4, 2, 3), layer == 0) for layer in range(2)}
    case = Case(drawn.config, drawn.x, None, drawn.weights, None, drawn.cotangents, masks)

    assert dict(case.plain().masks) == masks
    assert dict(case.forward().masks) == masks
    assert [list(case.prefix(layers).masks) for layers in (1, 2, 3)] == [[], [0], [0, 1]]
    assert case.id == drawn.id


def test_the_seed_of_dropout_is_x_s_and_prefixes_share_it() -> None:
    case = draw(PACKED.replace(num_layers=3), "normal", 0)
    other = Case.from_arrays(case.config, case.arrays | {"x": case.x + 1})
    heavier = Case.from_arrays(case.config, case.arrays | {"weight_ih_l0": case.weights["weight_ih_l0"] + 1})

    assert {case.prefix(1).seed, case.prefix(2).seed, case.forward().seed, heavier.seed} == {case.seed}
    assert other.seed != case.seed


@given(cases(ALL, **SMALL, output_size=[None, 2]))
def test_files_and_pickles_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    path = tmp_path_factory.mktemp("case") / "case.npz"

    case.save(path)
    back, pickled = Case.load(path), pickle.loads(pickle.dumps(case))  # noqa: S301 - our own

    for one in (back, pickled):
        assert same_bits(one, case)
        assert one.id == case.id
        assert one.origin == case.origin


@given(cases(ALL, **SMALL, output_size=[None, 2]))
def test_reprs_paste_back_with_and_without_an_origin(case: Case) -> None:
    bare = Case(case.config, case.x, case.hx, case.weights, cotangents=case.cotangents)

    for one in (case, bare):
        back = pasted(repr(one))
        assert back.config == case.config
        for name, array in case.arrays.items():
            again = back.arrays[name]
            signs = [np.signbit(a.real) * 2 + np.signbit(a.imag) for a in (again, array)]
            same = (again == array) & (signs[0] == signs[1])
            assert (same | np.isnan(back.arrays[name]) & np.isnan(array)).all(), name


def test_a_packed_case_s_padding_is_written_as_nan() -> None:
    case = draw(RNNConfig(1, 1, T=2, N=2, lengths=(1, 2)), "dyadic", 0)

    text = repr(case)

    assert text.count('float("nan")') == 1
    assert "lengths=(1, 2)" in text
    assert np.isnan(pasted(text).x).tolist() == [[[False], [False]], [[True], [False]]]


def test_ways_of_calling_tell_cases_apart() -> None:
    config = RNNConfig(2, 3, T=3, N=2)
    case = draw(config, "normal", 0)
    others = [
        config.replace(lengths=(3, 3)),
        config.replace(lengths=(3, 2)),
        config.replace(lengths=(3, 3), enforce_sorted=True),
        config.replace(strides="stepped"),
        config.replace(preparation="assign"),
        config.replace(grad_mode="enable_grad"),
        config.replace(autocast="float16"),
    ]

    ids = {Case.from_arrays(other, case.arrays).id for other in others}

    assert len(ids | {case.id}) == 8


NEW = ("wrt", "lengths", "enforce_sorted", "batched", "strides", "autocast", "grad_mode", "preparation")


@pytest.mark.parametrize("form", [1, 2])
def test_a_file_written_before_there_were_ways_of_calling_still_loads(tmp_path: Path, form: int) -> None:
    case = draw(RNNConfig(2, 3, T=4, N=2, hx=True, loss=None if form == 1 else "both"), "normal", 4)
    left_out = (*NEW, *(["loss"] if form == 1 else []))
    config = {name: value for name, value in case.config.to_dict().items() if name not in left_out}
    header = {"format": form, "config": config, "origin": ["normal", 4], "notes": {"subject": "mine"}}
    path = tmp_path / "old.npz"
    np.savez(path, header=np.array(json.dumps(header)), **case.arrays)  # type: ignore[arg-type]

    back, notes = load_with_notes(path)

    assert same_bits(back, case)
    assert back.plain() is back
    assert notes == {"subject": "mine"}


def test_lengths_in_a_file_that_fit_no_batch_are_refused(tmp_path: Path) -> None:
    case = draw(RNNConfig(1, 1, T=2, N=2, lengths=(1, 2)), "normal", 0)
    header = {"format": 2, "config": case.config.to_dict() | {"lengths": [1, 1]}, "origin": None, "notes": {}}
    path = tmp_path / "wrong.npz"
    np.savez(path, header=np.array(json.dumps(header)), **case.arrays)  # type: ignore[arg-type]

    with pytest.raises(Exception, match="expected N=2 of them, from 1 to T=2, and the longest T itself"):
        Case.load(path)
