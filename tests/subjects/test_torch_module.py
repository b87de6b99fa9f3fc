"""Tests of nn.RNN and its drop-ins as subjects."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from harness import Case, Failure, RNNConfig, as_subject, cases, check_agreement, draw
from harness.space.factor_table import DTYPES, LOSSES
from harness.subjects import torch_class_facts
from harness.subjects.protocol import SubjectUnavailable, backend_of, scope_of
from harness.subjects.torch_cell import CellLoop, CellSubject
from harness.subjects.torch_class_facts import FACTS
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_tensors import from_numpy, to_numpy
from tests.rounding import assert_same_but_for_rounding

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()


@settings(max_examples=50)
@given(cases(T=[1, 3], N=[1, 2], input_size=[1, 3], hidden_size=[1, 4], distributions=["normal"]))
def test_it_is_nn_rnn_itself(case: Case) -> None:
    config = case.config
    module = torch.nn.RNN(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        nonlinearity=config.nonlinearity,
        bias=config.bias,
        batch_first=config.batch_first,
        bidirectional=config.bidirectional,
        dtype=getattr(torch, config.dtype),
    )
    module.load_state_dict({name: torch.tensor(array) for name, array in case.weights.items()})
    hx = None if case.hx is None else torch.tensor(case.hx)

    output, h_n = module(torch.tensor(case.x), hx)

    arrays = TORCH.run(case).arrays
    assert_same_but_for_rounding(case, arrays, {"output": output.detach().numpy(), "h_n": h_n.detach().numpy()})


@settings(max_examples=40)
@given(
    cases(
        T=[1, 3],
        N=[1, 2],
        input_size=[1, 3],
        hidden_size=[1, 4],
        distributions=["normal"],
        dtypes=DTYPES,
        losses=["output", "h_n", "both"],
        output_size=[None, 2],
    )
)
def test_gradients_are_those_of_backward(case: Case) -> None:
    config = case.config
    dtype = getattr(torch, config.dtype)
    module = torch.nn.RNN(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        nonlinearity=config.nonlinearity,
        bias=config.bias,
        batch_first=config.batch_first,
        bidirectional=config.bidirectional,
        dtype=dtype,
    )
    tensors = {name: torch.tensor(array.astype(float), dtype=dtype) for name, array in case.arrays.items()}
    module.load_state_dict({name: t for name, t in tensors.items() if name in dict(module.named_parameters())})
    leaves = {name: tensors[name].requires_grad_() for name in (*config.inputs, *config.weights) if "_l" not in name}
    output, h_n = module(leaves["x"], leaves.get("hx"))
    outputs = {"output": output, "h_n": h_n}
    if config.output_size is not None:
        outputs["readout"] = torch.nn.functional.linear(output, leaves["readout.weight"], leaves["readout.bias"])
    names = [name.removesuffix(".grad") for name in config.cotangents]
    torch.autograd.backward([outputs[name] for name in names], [tensors[f"{name}.grad"] for name in names])
    leaves |= dict(module.named_parameters())

    arrays = TORCH.run(case).arrays

    assert list(arrays) == list(config.returned)
    assert {array.dtype for array in arrays.values()} == {np.dtype(config.dtype)}
    gradients = {name: leaves[name.removesuffix(".grad")].grad for name in config.gradients}
    for name in (name for name, gradient in gradients.items() if gradient is None):
        assert name.startswith("readout")
        assert not arrays[name].any()
    found = {name: g.to(torch.float64).numpy() for name, g in gradients.items() if g is not None}
    assert_same_but_for_rounding(case, {name: arrays[name] for name in found}, found)


@settings(max_examples=40)
@given(
    cases(
        T=[1, 4],
        N=[1, 3],
        input_size=[1, 9],
        hidden_size=[1, 8],
        dtypes=DTYPES,
        losses=[None, "output", "h_n", "both"],
        output_size=[None, 2],
    )
)
def test_torch_on_the_cpu_agrees_in_every_dtype_with_its_gradients(case: Case) -> None:
    result = check_agreement(TORCH, case)

    assert not result.failed, result


def test_it_offers_sixteen_bits_and_gradients_and_names_its_backend() -> None:
    class Mine(torch.nn.RNN):
        pass

    config = RNNConfig(1, 1)

    assert set(scope_of(TORCH).dtype) == set(DTYPES)
    assert set(scope_of(TORCH).loss) == set(LOSSES)
    assert backend_of(TORCH, config) == torch_class_facts.TORCH["cpu"]
    assert backend_of(TORCH, config.replace(device="cuda:1")) == torch_class_facts.TORCH["cuda"]
    assert backend_of(TORCH, config.replace(device="meta")) is None
    assert backend_of(as_subject(Mine), config) is None
    assert backend_of(CellSubject(), config) == torch_class_facts.TORCH["cpu"]


def test_a_gradient_that_autograd_does_not_reach_is_missing() -> None:
    class Detached(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            return super().forward(input.detach(), hx)

    case = draw(RNNConfig(2, 3, T=2, loss="output"), "normal", 0)

    assert check_agreement(as_subject(Detached), case).kind == "x.grad: missing"


def test_gradients_of_a_module_without_parameters_of_these_names_are_unsupported() -> None:
    class Renamed(torch.nn.RNN):
        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            for name, parameter in super().named_parameters(*args, **kwargs):
                yield name.replace("weight", "kernel"), parameter

    outcome = as_subject(Renamed).run(draw(RNNConfig(2, 3, loss="output"), "normal", 0))

    assert outcome.failure is Failure.UNSUPPORTED
    assert "weight_ih_l0, weight_hh_l0 is missing" in outcome.message


def test_no_gradient_is_left_over_from_the_case_before() -> None:
    case = draw(RNNConfig(2, 3, T=3, loss="both"), "normal", 0)

    first, second = TORCH.run(case).arrays, TORCH.run(case).arrays

    assert all(np.array_equal(first[name], second[name]) for name in case.config.gradients)


def test_bfloat16_goes_through_torch_and_back_bit_for_bit() -> None:
    bits = np.arange(2**16, dtype=np.uint16).view(np.dtype("bfloat16"))

    assert np.array_equal(to_numpy(from_numpy(bits)).view(np.uint16), bits.view(np.uint16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_an_array_begins_where_all_of_torch_s_memory_may(dtype: str) -> None:
    arrays = [np.zeros((size, 3), dtype) for size in range(1, 65)]

    assert {from_numpy(array).data_ptr() % 64 for array in arrays} == {0}


def test_the_readout_is_a_linear_layer_on_every_step() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, batch_first=True, output_size=2), "normal", 0)

    arrays = TORCH.run(case).arrays

    linear = torch.nn.Linear(3, 2)
    linear.load_state_dict({name: torch.tensor(case.weights[f"readout.{name}"]) for name in ("weight", "bias")})
    readout = linear(torch.tensor(arrays["output"])).detach().numpy()
    assert_same_but_for_rounding(case, {"readout": arrays["readout"]}, {"readout": readout})


@pytest.mark.parametrize(("kept", "builds"), [(True, 1), (False, 3)])
def test_modules_that_remember_nothing_are_shared_between_cases_but_no_weights(kept: bool, builds: int) -> None:
    built = []

    class Counted(torch.nn.RNN):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            built.append(self)

    subject = TorchSubject(Counted, "counted", facts=FACTS[torch.nn.RNN] if kept else None)
    config = RNNConfig(2, 3, T=4)
    first, second = draw(config, "normal", 1), draw(config.replace(T=7, N=2), "normal", 2)

    outcomes = [subject.run(case) for case in (first, second, first)]

    assert len(built) == builds
    assert np.array_equal(outcomes[0].arrays["output"], outcomes[2].arrays["output"])


def test_a_drop_in_class_with_another_constructor_is_refused() -> None:
    class Narrow(torch.nn.RNN):
        def __init__(self, input_size: int) -> None:
            super().__init__(input_size, 1)

    with pytest.raises(SubjectUnavailable, match="takes no input_size and hidden_size"):
        as_subject(Narrow)


def test_a_drop_in_class_with_other_shapes_is_broken_not_taken() -> None:
    class Thin(torch.nn.Module):
        """A module whose weight_ih could broadcast from (H, 1), which copying must not allow."""

        def __init__(self, input_size: int, hidden_size: int, **_: Any) -> None:
            super().__init__()
            self.weight_ih_l0 = torch.nn.Parameter(torch.zeros(hidden_size, input_size + 1))
            self.weight_hh_l0 = torch.nn.Parameter(torch.zeros(hidden_size, hidden_size))
            self.bias_ih_l0 = torch.nn.Parameter(torch.zeros(hidden_size))
            self.bias_hh_l0 = torch.nn.Parameter(torch.zeros(hidden_size))

    outcome = as_subject(Thin).run(draw(RNNConfig(1, 2)))

    assert outcome.failure is Failure.RAISED
    assert "size mismatch" in outcome.message + outcome.traceback


def test_dropout_in_a_single_layer_is_no_warning() -> None:
    assert TORCH.run(draw(RNNConfig(1, 1, dropout=0.5))).failure is None  # warnings are errors here


def test_a_module_that_writes_into_its_input_is_seen() -> None:
    class Writes(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            result = super().forward(input, hx)
            input.zero_()
            return result

    assert as_subject(Writes).run(draw(RNNConfig(2, 3))).changed_inputs == ("x",)


def test_the_cpu_is_always_among_the_devices() -> None:
    assert TORCH.devices()[0] == "cpu"


@pytest.mark.parametrize("subject", [TorchSubject(), TorchSubject(CellLoop, "cells"), CellSubject()])
def test_a_copy_by_pickle_is_another_of_the_same(subject: TorchSubject) -> None:
    case = draw(RNNConfig(2, 3, T=2, loss="output"))
    subject.run(case)
    copy = pickle.loads(pickle.dumps(subject))  # noqa: S301

    own, other = subject.capabilities, copy.capabilities
    assert (copy.name, other.offers, other.recipe) == (subject.name, own.offers, own.recipe)
    given, again = subject.run(case).arrays, copy.run(case).arrays
    assert given
    assert all(np.array_equal(given[name], again[name]) for name in given | again)
