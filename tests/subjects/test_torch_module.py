"""nn.RNN and its drop-ins as subjects."""

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings

from harness import Case, Failure, RNNConfig, as_subject, cases, draw
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()


@settings(max_examples=50)
@given(cases(T=[1, 3], N=[1, 2], input_size=[1, 3], hidden_size=[1, 4], regimes=["normal"]))
def test_it_is_nn_rnn_itself_bit_for_bit(case: Case) -> None:
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
    assert np.array_equal(arrays["output"], output.detach().numpy())
    assert np.array_equal(arrays["h_n"], h_n.detach().numpy())


def test_the_readout_is_a_linear_layer_on_every_step() -> None:
    case = draw(RNNConfig(2, 3, T=4, N=5, batch_first=True, output_size=2), "normal", 0)

    arrays = TORCH.run(case).arrays

    linear = torch.nn.Linear(3, 2)
    linear.load_state_dict({name: torch.tensor(case.weights[f"readout.{name}"]) for name in ("weight", "bias")})
    assert np.array_equal(arrays["readout"], linear(torch.tensor(arrays["output"])).detach().numpy())


def test_modules_are_shared_between_cases_but_weights_are_not() -> None:
    built = []

    class Counted(torch.nn.RNN):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            built.append(self)

    subject = TorchSubject(Counted, "counted")
    config = RNNConfig(2, 3, T=4)
    first, second = draw(config, "normal", 1), draw(config.replace(T=7, N=2), "normal", 2)

    outcomes = [subject.run(case) for case in (first, second, first)]

    assert len(built) == 1
    assert np.array_equal(outcomes[0].arrays["output"], outcomes[2].arrays["output"])


def test_a_class_with_another_state_dict_or_constructor_is_broken_not_taken() -> None:
    class Renamed(torch.nn.Module):
        def __init__(self, input_size: int, hidden_size: int, **_: Any) -> None:
            super().__init__()
            self.rnn = torch.nn.RNN(input_size, hidden_size)

    class Narrow(torch.nn.RNN):
        def __init__(self, input_size: int) -> None:
            super().__init__(input_size, 1)

    class Thin(torch.nn.Module):
        """Its weight_ih would broadcast from (H, 1), which copying must not allow."""

        def __init__(self, input_size: int, hidden_size: int, **_: Any) -> None:
            super().__init__()
            self.weight_ih_l0 = torch.nn.Parameter(torch.zeros(hidden_size, input_size + 1))
            self.weight_hh_l0 = torch.nn.Parameter(torch.zeros(hidden_size, hidden_size))
            self.bias_ih_l0 = torch.nn.Parameter(torch.zeros(hidden_size))
            self.bias_hh_l0 = torch.nn.Parameter(torch.zeros(hidden_size))

    for factory, words in ((Renamed, "Missing key"), (Narrow, "TypeError"), (Thin, "size mismatch")):
        outcome = as_subject(factory).run(draw(RNNConfig(1, 2)))
        assert outcome.failure is Failure.RAISED
        assert words in outcome.message + outcome.traceback


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
