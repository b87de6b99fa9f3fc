"""Tests of cuts: what stays of a case keeps its numbers, and computes what it computed before."""

import numpy as np
import pytest

from harness import Case, Reference, RNNConfig, draw
from harness.space.factor_table import STRIDES
from harness.space.refit import fitted, without_one

STACK = RNNConfig(3, 2, num_layers=3, bidirectional=True, T=4, N=3, hx=True, loss="both", output_size=2)
RUN = Reference().run


def test_without_a_sequence_the_others_compute_the_same() -> None:
    case = draw(STACK, "normal", 1)
    outputs = [RUN(other)["output"] for other in without_one(case, "N")]

    whole = RUN(case)["output"]
    for gone, output in zip((2, 1, 0), outputs, strict=True):
        assert np.array_equal(output, np.delete(whole, gone, axis=1))


def test_without_its_last_step_the_forward_direction_computes_the_same() -> None:
    case = draw(STACK.replace(num_layers=1, bidirectional=False), "normal", 1)

    shorter = next(without_one(case, "T"))

    assert shorter.config.T == 3
    assert np.array_equal(RUN(shorter)["output"], RUN(case)["output"][:3])


def test_without_a_unit_that_nobody_reads_the_others_compute_the_same() -> None:
    case = draw(RNNConfig(2, 3, T=3, N=2, hx=True), "normal", 2)
    weights = {name: array.copy() for name, array in case.weights.items()}
    weights["weight_hh_l0"][:, 1] = 0
    case = Case(case.config, case.x, case.hx, weights)

    _, second, _ = without_one(case, "hidden_size")

    assert np.allclose(RUN(second)["output"], RUN(case)["output"][..., [0, 2]], rtol=1e-15)


def test_without_its_top_layer_a_stack_computes_what_its_prefix_does() -> None:
    case = draw(STACK.replace(output_size=None, loss=None), "normal", 3)

    top_gone, middle_gone = without_one(case, "num_layers")

    assert top_gone.id == case.prefix(2).id
    assert np.array_equal(middle_gone.weights["weight_ih_l1"], case.weights["weight_ih_l2"])
    hx = case.hx
    assert hx is not None
    assert middle_gone.hx is not None
    assert np.array_equal(middle_gone.hx, hx[[0, 1, 4, 5]])


def test_the_last_of_two_layers_takes_dropout_with_it() -> None:
    case = draw(RNNConfig(1, 1, num_layers=2, dropout=0.5), "normal", 0)

    assert next(without_one(case, "num_layers")).config == RNNConfig(1, 1)


@pytest.mark.parametrize("factor", ["T", "N", "hidden_size", "input_size", "output_size", "num_layers"])
def test_a_size_of_one_has_nothing_to_leave_out(factor: str) -> None:
    config = RNNConfig(1, 1, output_size=1)

    assert list(without_one(draw(config), factor)) == []
    assert list(without_one(draw(RNNConfig(1, 1)), "output_size")) == []


def test_a_turned_layout_holds_the_same_computation() -> None:
    case = draw(STACK.replace(batch_first=True), "normal", 4)

    turned = fitted(case, STACK)

    for name, array in RUN(turned).items():
        other = RUN(case)[name]
        assert np.allclose(array, other if array.shape == other.shape else other.swapaxes(0, 1), rtol=1e-12), name


def test_one_direction_is_the_forward_one() -> None:
    case = draw(STACK.replace(loss=None, output_size=None, num_layers=1), "normal", 5)

    forward = fitted(case, case.config.replace(bidirectional=False))

    assert np.array_equal(RUN(forward)["output"], RUN(case)["output"][..., :2])


@pytest.mark.parametrize("layout", [{"batch_first": True}, {"batched": False, "N": 1}, {"num_layers": 1}])
def test_a_loss_of_h_n_becomes_the_same_loss_of_the_output(layout: dict[str, int]) -> None:
    config = RNNConfig(3, 2, 2, bidirectional=True, T=4, N=3, loss="h_n").replace(**layout)
    case = draw(config, "normal", 7)

    other = fitted(case, config.replace(loss="output"))

    top = RUN(case.plain())["h_n"][-2:]  # layers below are read by no loss of the output
    loss = np.vdot(case.cotangents["h_n.grad"][-2:], top)
    output = RUN(other)["output"] if config.batched else RUN(other.plain())["output"][:, 0]
    assert np.vdot(other.cotangents["output.grad"], output) == pytest.approx(loss, rel=1e-12)


def test_what_was_left_out_is_gone_and_what_is_new_is_zero() -> None:
    case = draw(RNNConfig(2, 3, T=2, N=2, hx=True, loss="both"), "normal", 6)

    bare = fitted(case, case.config.replace(hx=False, bias=False, loss="h_n"))
    more = fitted(case, case.config.replace(hidden_size=4))

    assert (bare.hx, list(bare.weights), list(bare.cotangents)) == (
        None,
        ["weight_ih_l0", "weight_hh_l0"],
        ["h_n.grad"],
    )
    assert np.array_equal(more.weights["weight_hh_l0"][:3, :3], case.weights["weight_hh_l0"])
    assert not more.weights["weight_hh_l0"][3].any()


def test_padding_is_where_the_new_lengths_say() -> None:
    case = draw(RNNConfig(2, 1, T=3, N=3, lengths=(1, 3, 2)), "normal", 7)

    for other in (*without_one(case, "N"), *without_one(case, "T")):
        lengths = other.config.lengths
        assert lengths is not None
        behind = np.arange(other.config.T)[:, None] >= np.array(lengths)
        assert np.array_equal(np.isnan(other.x).all(-1), behind)
    plain = fitted(case, case.config.replace(lengths=None))
    assert np.isfinite(plain.x).all()
    assert np.array_equal(plain.x[:2, 2], case.x[:2, 2])


def test_a_batch_axis_comes_and_goes() -> None:
    case = draw(RNNConfig(2, 3, T=2, batched=False, hx=True), "normal", 8)

    batched = fitted(case, case.config.replace(batched=True))

    assert batched.x.shape == (2, 1, 2)
    assert fitted(batched, case.config).id == case.id


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_every_stride_and_dtype_can_be_cut(strides: str, dtype: str) -> None:
    case = draw(RNNConfig(2, 2, T=3, N=3, hx=True, loss="both", strides=strides, dtype=dtype), "normal", 9)

    for factor in ("T", "N", "hidden_size", "input_size"):
        for other in without_one(case, factor):
            assert other.config.dtype == dtype
    assert fitted(case, case.config.replace(dtype="float32", strides="contiguous")).x.dtype == np.float32
