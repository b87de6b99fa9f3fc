"""Tests of ways of calling torch modules: what a module gets, as it sees it itself, and what its actions become."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from itertools import groupby
from typing import Any, ClassVar, Final

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from harness import Case, Failure, RNNConfig, Verdict, as_subject, check_agreement, draw
from harness.checks.result import ComparisonMethod
from harness.space.factor_table import DTYPES, PREPARATION_PAIRS, PREPARATIONS, WEIGHT_SETTING
from harness.subjects import torch_class_facts
from harness.subjects.torch_module import TorchSubject
from tests.rounding import assert_same_but_for_rounding

pytestmark = pytest.mark.kernels

TORCH = TorchSubject()
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
CONFIG = RNNConfig(2, 3, T=4, N=5, hx=True)


class Spy(torch.nn.RNN):
    """An nn.RNN that records what it is given; a class on module level, so that it can be pickled."""

    seen: ClassVar[list[dict[str, Any]]] = []
    done: ClassVar[list[str]] = []
    modules_seen: ClassVar[list[Spy]] = []

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        packed = isinstance(input, PackedSequence)
        weights = {name: getattr(self, name) for name in NAMES}
        Spy.modules_seen.append(self)
        Spy.seen.append(
            {
                "x": input,
                "hx": hx,
                "packed": packed,
                "grad": torch.is_grad_enabled(),
                "inference": torch.is_inference_mode_enabled(),
                "autocast": torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None,
                "training": self.training,
                "asked": not packed and input.requires_grad,
                "weights": {name: weight.detach().clone() for name, weight in weights.items()},
                "trained": {parameter.requires_grad for parameter in self.parameters()},
                "parametrized": parametrize.is_parametrized(self),
            }
        )
        output, h_n = super().forward(input, hx)
        if not packed:
            output = Noting.apply(output)  # type: ignore[no-untyped-call]
        return output, h_n

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        Spy.done.append(f"load_state_dict assign={kwargs.get('assign', False)}")
        return super().load_state_dict(*args, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        Spy.done.append(f"from {self.weight_ih_l0.dtype} to {args[0]}")
        return super().to(*args, **kwargs)


class Noting(torch.autograd.Function):
    """A function that passes on its input and records the gradient that comes back."""

    gradients: ClassVar[list[Any]] = []

    @staticmethod
    def forward(ctx: Any, output: Any) -> Any:
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        Noting.gradients.append(gradients[0])
        return gradients[0]


SPY = TorchSubject(Spy, "spy")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    for notes in (Spy.seen, Spy.done, Spy.modules_seen, Noting.gradients):
        notes.clear()
    yield
    for notes in (Spy.seen, Spy.done, Spy.modules_seen, Noting.gradients):
        notes.clear()


def given(config: RNNConfig, distribution: str = "normal") -> dict[str, Any]:
    """Return what the module saw in the last call of a successful run."""
    outcome = SPY.run(draw(config, distribution, 0))

    assert outcome.failure is None, outcome.message
    return Spy.seen[-1]


BARE = {"grad": False, "inference": False, "training": False, "autocast": None, "asked": False, "trained": {True}}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({}, {}),
        ({"grad_mode": "enable_grad"}, {"grad": True}),
        ({"grad_mode": "inference_mode"}, {"inference": True}),
        ({"training": True}, {"training": True}),
        ({"autocast": "bfloat16"}, {"autocast": torch.bfloat16}),
        ({"loss": "both"}, {"grad": True, "asked": True}),
        ({"loss": "both", "wrt": "inputs"}, {"grad": True, "asked": True, "trained": {False}}),
        ({"loss": "both", "wrt": "weights"}, {"grad": True}),
    ],
)
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_module_is_called_as_the_config_says_and_left_as_it_was(
    changes: dict[str, Any], facts: dict[str, Any], preparation: str
) -> None:
    seen = given(CONFIG.replace(preparation=preparation, **changes))

    assert {name: seen[name] for name in BARE} == BARE | facts
    assert all(parameter.is_contiguous() for parameter in Spy.modules_seen[-1].parameters())
    assert all(parameter.requires_grad for parameter in Spy.modules_seen[-1].parameters())
    assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)
    assert not torch.is_autocast_enabled("cpu")


# The strides of x (4, 5, 2), of hx (2, 5, 3) and of the gradient of an output (4, 5, 3).
STRIDED: Final = [
    ("contiguous", (10, 2, 1), (15, 3, 1), (15, 3, 1)),
    ("transposed", (1, 4, 20), (1, 2, 10), (1, 4, 20)),
    ("stepped", (20, 4, 2), (30, 6, 2), (30, 6, 2)),
    ("expanded", (0, 2, 1), (0, 3, 1), (0, 0, 0)),
]


@pytest.mark.parametrize(("strides", "of_x", "of_hx", "of_gradient"), STRIDED)
@pytest.mark.parametrize("changes", [{}, {"dtype": "float16"}, {"autocast": "bfloat16"}])
def test_what_a_module_is_given_lies_in_memory_as_strides_says(
    strides: str, of_x: tuple[int, ...], of_hx: tuple[int, ...], of_gradient: tuple[int, ...], changes: dict[str, Any]
) -> None:
    case = draw(CONFIG.replace(num_layers=2, strides=strides, loss="both", **changes), "normal", 0)

    SPY.run(case)

    x, hx, (gradient,) = Spy.seen[-1]["x"], Spy.seen[-1]["hx"], Noting.gradients
    assert [tuple(one.stride()) for one in (x, hx, gradient)] == [of_x, of_hx, of_gradient]
    assert np.array_equal(x.detach().numpy(), case.x)
    assert np.array_equal(hx.detach().numpy(), case.arrays["hx"])
    told = case.cotangents["output.grad"].astype(case.config.plain.dtype)
    assert np.array_equal(gradient.float().numpy(), told.astype("float32"))


def test_a_module_that_raises_when_frozen_is_not_left_frozen() -> None:
    built: list[torch.nn.Module] = []

    class Fragile(torch.nn.RNN):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            built.append(self)

        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            if not self.weight_hh_l0.requires_grad:
                raise ValueError("frozen")
            return super().forward(input, hx)

    subject = as_subject(Fragile)
    case = draw(CONFIG.replace(loss="output"), "normal", 0)
    frozen = Case.from_arrays(case.config.replace(wrt="inputs"), case.arrays)

    first, second = subject.run(frozen), subject.run(case)

    assert first.message == "ValueError: frozen"
    assert second.failure is None
    assert [parameter.requires_grad for parameter in built[0].parameters()] == [True] * 4


@pytest.mark.parametrize("autocast", ["bfloat16", "float16"])
@pytest.mark.parametrize("loss", [None, "both"])
def test_autocast_gives_results_in_its_dtype_and_gradients_in_that_of_the_weights(
    autocast: str, loss: str | None
) -> None:
    case = draw(CONFIG.replace(autocast=autocast, loss=loss, output_size=2), "normal", 0)

    arrays = SPY.run(case).arrays

    assert Spy.seen[-1]["x"].dtype is torch.float32
    assert {arrays[name].dtype.name for name in ("output", "h_n", "readout")} == {autocast}
    assert {arrays[name].dtype.name for name in case.config.gradients} == ({"float32"} if loss else set())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("lengths", "enforce_sorted"), [((2, 4, 1), False), ((4, 2, 2), False), ((4, 2, 2), True)])
def test_a_packed_batch_is_packed_by_its_lengths(
    batch_first: bool, lengths: tuple[int, ...], enforce_sorted: bool
) -> None:
    config = CONFIG.replace(N=3, batch_first=batch_first, lengths=lengths, enforce_sorted=enforce_sorted)
    case = draw(config, "normal", 0)

    SPY.run(case)

    packed = Spy.seen[-1]["x"]
    order = [] if enforce_sorted else packed.sorted_indices.tolist()
    assert isinstance(packed, PackedSequence)
    assert packed.batch_sizes.tolist() == [sum(length > t for length in lengths) for t in range(4)]
    assert (packed.sorted_indices is None) == enforce_sorted
    assert enforce_sorted or [lengths[n] for n in order] == sorted(lengths, reverse=True)
    x = case.x.swapaxes(0, 1) if batch_first else case.x
    assert not packed.data.isnan().any()
    assert np.array_equal(packed.data[: packed.batch_sizes[0]].numpy(), x[0][order or slice(None)])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_what_is_returned_packed_comes_back_padded_with_each_sequence_in_its_place(
    batch_first: bool, enforce_sorted: bool
) -> None:
    lengths = (4, 3, 1) if enforce_sorted else (1, 4, 3)
    config = RNNConfig(
        2,
        3,
        2,
        batch_first=batch_first,
        T=4,
        N=3,
        hx=True,
        dtype="float64",
        lengths=lengths,
        enforce_sorted=enforce_sorted,
    )
    case = draw(config, "normal", 0)
    module = torch.nn.RNN(2, 3, 2, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(array) for name, array in case.weights.items()})

    arrays = TORCH.run(case).arrays

    x, output = ((a.swapaxes(0, 1) if batch_first else a) for a in (case.x, arrays["output"]))
    one_by_one = {"output": np.zeros_like(output), "h_n": np.zeros_like(arrays["h_n"])}
    for n, length in enumerate(lengths):
        alone, h_n = module(torch.tensor(x[:length, n : n + 1]), torch.tensor(case.arrays["hx"][:, n : n + 1]))
        one_by_one["output"][:length, n] = alone[:, 0].detach().numpy()
        one_by_one["h_n"][:, n] = h_n[:, 0].detach().numpy()
        assert not output[length:, n].any()
    if batch_first:
        one_by_one["output"] = one_by_one["output"].swapaxes(0, 1)
    assert_same_but_for_rounding(case, arrays, one_by_one)


def test_without_a_batch_axis_the_module_sees_none() -> None:
    seen = given(RNNConfig(2, 3, 2, batch_first=True, T=4, hx=True, batched=False))

    assert (tuple(seen["x"].shape), tuple(seen["hx"].shape)) == ((4, 2), (2, 3))


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (CONFIG.replace(batch_first=True), (6, 5, 2)),
        (CONFIG.replace(N=3, lengths=(1, 4, 2)), (5, 4, 2)),
        (RNNConfig(2, 3, T=4, batched=False), (5, 2)),
        (CONFIG.replace(autocast="bfloat16", loss="both", wrt="inputs"), (5, 6, 2)),
        (CONFIG.replace(grad_mode="inference_mode"), (5, 6, 2)),
    ],
)
def test_a_used_module_was_called_at_another_shape_before_and_is_none_the_worse(
    config: RNNConfig, shape: tuple[int, ...]
) -> None:
    case = draw(config.replace(preparation="used"), "normal", 0)

    used = SPY.run(case).arrays
    before, *_, after = Spy.seen
    new = SPY.run(Case.from_arrays(config, case.arrays)).arrays

    assert tuple(before["x"].shape) == shape
    assert before["autocast"] is after["autocast"]
    assert before["x"].dtype is torch.float32
    assert after["packed"] == (config.lengths is not None)
    assert set(used) == set(new) == set(config.returned)
    assert_same_but_for_rounding(case, used, new)
    assert not any(
        parameter.grad is not None and parameter.grad.any() for parameter in Spy.modules_seen[0].parameters()
    )


def test_a_used_module_has_gone_backwards_where_a_loss_is_and_only_there() -> None:
    given(CONFIG.replace(preparation="used", loss="output"))
    there = len(Noting.gradients)
    given(CONFIG.replace(preparation="used", loss="output", wrt="inputs"))
    frozen = len(Noting.gradients) - there
    given(CONFIG.replace(preparation="used", grad_mode="enable_grad"))

    assert (there, frozen, len(Noting.gradients)) == (3, 1, 4)  # two calls came before each


def weights_of(case: Case) -> dict[str, Any]:
    return {name: array for name, array in case.weights.items() if not name.startswith("readout")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_however_it_is_prepared_a_module_has_the_case_s_weights(preparation: str, dtype: str) -> None:
    case = draw(CONFIG.replace(preparation=preparation, dtype=dtype), "normal", 0)

    outcome = SPY.run(case)

    assert outcome.failure is None, outcome.message
    for name, array in weights_of(case).items():
        found = Spy.seen[-1]["weights"][name]
        assert found.dtype is getattr(torch, dtype)
        assert np.array_equal(found.double().numpy(), array.astype(float)), name


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_every_call_is_of_a_module_that_no_other_case_has_met(preparation: str) -> None:
    config = CONFIG.replace(preparation=preparation)

    given(config)
    first = Spy.modules_seen[-1]
    given(config)

    assert Spy.modules_seen[-1] is not first
    assert isinstance(Spy.modules_seen[-1], Spy)


DONE: dict[str, list[str]] = {
    "new": [],
    "used": ["load_state_dict assign=False"],
    "deepcopy": ["deepcopy"],
    "pickle": ["dumps"],
    "state_dict": ["load_state_dict assign=False"],
    "assign": ["load_state_dict assign=True"],
    "to_dtype": ["from torch.float64 to torch.float32", "load_state_dict assign=False"],
    "replaced": [],
    "parametrize": [],
    "functional_call": ["functional_call"],
}


@pytest.mark.parametrize(("after", "preparation"), [*((None, name) for name in DONE), *sorted(PREPARATION_PAIRS)])
def test_each_preparation_does_what_its_name_says(
    monkeypatch: pytest.MonkeyPatch, after: str | None, preparation: str
) -> None:
    for holder, name in ((copy, "deepcopy"), (pickle, "dumps"), (torch.func, "functional_call")):
        original = getattr(holder, name)

        def noting(*args: Any, original: Any = original, name: str = name, **named: Any) -> Any:
            if isinstance(args[0], Spy):
                Spy.done.append(name)
            return original(*args, **named)

        monkeypatch.setattr(holder, name, noting)

    seen = given(CONFIG.replace(preparation=preparation, after=after))

    # What gives a module its weights itself needs no other step for that.
    first = [] if after == "used" and preparation in WEIGHT_SETTING else DONE[after or "new"]
    several = [(name, len([*each])) for name, each in groupby(Spy.done)]  # calls before are two in a row
    assert [name for name, n in several for _ in range(1 if name == "functional_call" else n)] == first + DONE[
        preparation
    ]
    assert seen["parametrized"] == ("parametrize" in {after, preparation})


@pytest.mark.parametrize(("after", "preparation"), sorted(PREPARATION_PAIRS))
def test_after_two_preparations_a_module_computes_what_it_did_there_and_back(after: str, preparation: str) -> None:
    config = CONFIG.replace(
        num_layers=2, bidirectional=True, hx=True, loss="both", preparation=preparation, after=after
    )

    result = check_agreement(TorchSubject(), draw(config, "normal", 1))

    assert result.verdict is Verdict.AGREES, result.message


@pytest.mark.parametrize(("dtype", "before"), [("float64", "float32"), ("bfloat16", "float64"), ("float16", "float64")])
def test_a_module_that_comes_to_its_dtype_comes_from_another(dtype: str, before: str) -> None:
    given(CONFIG.replace(preparation="to_dtype", dtype=dtype))

    assert Spy.done[0] == f"from torch.{before} to torch.{dtype}"


def test_parameters_that_were_parametrized_have_gradients_under_their_own_names() -> None:
    case = draw(CONFIG.replace(preparation="parametrize", loss="both"), "normal", 0)

    found, plain = TORCH.run(case).arrays, TORCH.run(Case.from_arrays(CONFIG.replace(loss="both"), case.arrays)).arrays

    assert list(found) == list(case.config.returned)
    assert_same_but_for_rounding(case, found, plain)


def test_a_functional_call_uses_the_weights_that_it_is_given_and_not_the_module_s() -> None:
    case = draw(CONFIG.replace(preparation="functional_call", loss="both"), "normal", 0)

    SPY.run(case)

    (module,) = Spy.modules_seen
    for name, array in case.weights.items():
        assert np.array_equal(Spy.seen[0]["weights"][name].numpy(), array)
        assert not np.array_equal(getattr(module, name).detach().numpy(), array)


class Hoarding(torch.nn.RNN):
    """An nn.RNN that uses the parameters it was built with, whatever happens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hoard: list[list[torch.Tensor]] = [list(self.parameters())]

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        hx = input.new_zeros(1, input.shape[1], self.hidden_size) if hx is None else hx
        return torch._VF.rnn_tanh(input, hx, self.hoard[0], True, 1, 0.0, False, False, False)


@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_a_module_that_goes_by_the_parameters_it_was_built_with_is_found_where_they_are_others(
    preparation: str,
) -> None:
    case = draw(CONFIG.replace(preparation=preparation, T=1), "normal", 0)

    result = check_agreement(TorchSubject(Hoarding, "hoarding"), case)

    assert result.failed == (preparation in {"assign", "replaced", "functional_call"})


def test_a_module_that_cannot_be_pickled_does_not_do_that() -> None:
    class Local(torch.nn.RNN):
        pass

    outcome = TorchSubject(Local, "local").run(draw(CONFIG.replace(preparation="pickle")))

    assert outcome.failure is Failure.UNSUPPORTED
    assert outcome.message.startswith("cannot be pickled: ")


def showing(config: RNNConfig, *, deaf: int | None = None) -> Case:
    """Return a relu net that passes on what it reads, x = 1; its layer ``deaf`` reads nothing, and returns 1."""
    arrays = draw(config.replace(lengths=None, enforce_sorted=False), "normal", 0).arrays
    H, D = config.hidden_size, config.num_directions
    for name in config.weights:
        layer, d = int(name.partition("_l")[2].partition("_")[0]), int(name.endswith("_reverse"))
        own = np.eye(D * H)[d * H : (d + 1) * H] if layer else np.ones((H, config.input_size)) / config.input_size
        value: Any = own if name.startswith("weight_ih") else np.zeros(config.weights[name].shape)
        if layer == deaf:
            value = np.ones_like(value) if name.startswith("bias_ih") else np.zeros_like(value)
        arrays[name] = value.astype(config.dtype)
    return Case.from_arrays(config, arrays | {"x": np.ones(config.inputs["x"].shape, config.dtype)})


DROPPING = RNNConfig(2, 8, 3, "relu", dropout=0.5, T=6, N=4, training=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bidirectional": True},
        {"batch_first": True},
        {"batch_first": True, "bidirectional": True, "hidden_size": 3},
        {"lengths": (3, 6, 1, 6)},
        {"lengths": (3, 6, 1, 6), "batch_first": True, "bidirectional": True},
        {"lengths": (6, 6, 2, 1), "enforce_sorted": True},
        {"N": 1, "batched": False},
        {"N": 1, "batched": False, "bidirectional": True, "batch_first": True},
        {"T": 1, "N": 1, "hidden_size": 1},
        {"dropout": 0.1, "hidden_size": 33},
        {"dropout": 1.0},
        {"strides": "transposed"},
        {"preparation": "used"},
        {"preparation": "functional_call"},
        {"preparation": "parametrize"},
        *({"dtype": dtype} for dtype in DTYPES[1:]),
    ],
)
def test_masks_are_those_that_nn_rnn_draws(changes: dict[str, Any]) -> None:
    config = DROPPING.replace(**changes)

    def shown(case: Case) -> Any:
        outcome = TORCH.run(case)
        assert outcome.failure is None, outcome.message
        output = outcome.arrays["output"].astype(float)
        if not config.batched:
            return output[:, None] != 0
        return (output.swapaxes(0, 1) if config.batch_first else output) != 0

    both = TORCH.masks(showing(config))
    first = shown(showing(config).prefix(2))
    second = shown(showing(config, deaf=1))

    assert both is not None
    assert len(both) == 2
    assert np.array_equal(both[0], first)
    assert np.array_equal(both[1], second)
    assert np.array_equal(both[0] & both[1], shown(showing(config)))
    assert all(mask.dtype == bool for mask in both)
    assert config.dropout == 1 or config.hidden_size == 1 or not np.array_equal(both[0], both[1])


def test_what_is_kept_is_scaled_and_h_n_is_not_dropped() -> None:
    arrays = TORCH.run(showing(DROPPING.replace(num_layers=2))).arrays

    assert {*arrays["output"].reshape(-1).tolist()} == {0.0, 2.0}
    assert (arrays["h_n"][0] == 1).all()


@pytest.mark.parametrize("lengths", [None, (3, 6, 1, 6)])
def test_who_asks_for_masks_leaves_torch_s_generator_as_it_was(lengths: tuple[int, ...] | None) -> None:
    case = showing(DROPPING.replace(lengths=lengths))
    TORCH.run(case)  # so that its module, whose weights are drawn when it is built, exists
    torch.rand(3)
    before = torch.get_rng_state()

    TORCH.masks(case)
    after_masks = torch.get_rng_state()
    TORCH.run(case)
    after_run = torch.get_rng_state()

    assert torch.equal(before, after_masks)
    assert torch.equal(before, after_run)


def test_a_module_that_raises_while_it_drops_leaves_torch_s_generator_as_it_was() -> None:
    class Raising(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            torch.rand(3)
            raise ValueError("no")

    subject = as_subject(Raising)
    subject.run(showing(DROPPING))
    torch.rand(7)
    before = torch.get_rng_state()

    outcome = subject.run(showing(DROPPING))

    assert outcome.message == "ValueError: no"
    assert torch.equal(before, torch.get_rng_state())


def test_masks_of_another_x_are_others_and_those_of_the_same_are_the_same() -> None:
    case = showing(DROPPING)
    other = Case.from_arrays(case.config, case.arrays | {"x": case.x * 2})

    masks, again, others = (TORCH.masks(one) for one in (case, case, other))

    assert masks is not None
    assert again is not None
    assert others is not None
    assert all(np.array_equal(a, b) for a, b in zip(masks, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(masks, others, strict=True))


def test_masks_are_known_of_nn_rnn_on_the_cpu_alone() -> None:
    case = showing(DROPPING)

    assert SPY.masks(case) is None
    assert TORCH.masks(showing(DROPPING.replace(device="meta"))) is None


@pytest.mark.parametrize(
    "config",
    [
        RNNConfig(2, 3, 2, T=4, N=3, hx=True, output_size=2, bidirectional=True),
        RNNConfig(2, 3, 2, T=4, N=3, batch_first=True, loss="both", output_size=2),
        RNNConfig(2, 3, 2, T=4, N=3, lengths=(2, 4, 1), hx=True),
        RNNConfig(2, 3, 2, T=4, N=3, lengths=(2, 4, 1), batch_first=True, loss="both"),
        RNNConfig(2, 3, 2, T=4, N=3, lengths=(4, 4, 1), enforce_sorted=True, loss="output", dtype="bfloat16"),
        RNNConfig(2, 3, T=4, batched=False, loss="both"),
        RNNConfig(2, 3, 2, T=4, N=3, dropout=0.5, training=True, loss="both"),
        RNNConfig(2, 3, T=4, N=0),
        *(RNNConfig(2, 3, T=4, N=3, loss="both", preparation=preparation) for preparation in PREPARATIONS),
    ],
)
def test_on_meta_forms_alone_come_back_and_are_compared(config: RNNConfig) -> None:
    case = draw(config.replace(device="meta"), "normal", 0)

    outcome = TORCH.run(case)
    result = check_agreement(TORCH, case)

    assert outcome.failure is None, outcome.message
    assert {name: (array.shape, array.dtype.name) for name, array in outcome.arrays.items()} == {
        name: (spec.shape, config.dtype) for name, spec in config.returned.items()
    }
    assert (outcome.changed_inputs, outcome.aliased) == ((), ())
    assert (result.verdict, result.method) == (Verdict.AGREES, ComparisonMethod.FORM)


def test_a_wrong_shape_on_meta_disagrees() -> None:
    class Short(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            output, h_n = super().forward(input, hx)
            return output[1:], h_n

    assert check_agreement(as_subject(Short), draw(CONFIG.replace(device="meta"))).kind == "output: shape"


def test_an_output_in_another_dtype_is_told_as_that_backwards_too() -> None:
    class Wider(torch.nn.RNN):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
            output, h_n = super().forward(input, hx)
            return output.double(), h_n

    assert check_agreement(as_subject(Wider), draw(CONFIG.replace(loss="both"), "normal", 0)).kind == "output: dtype"


class Returning(torch.nn.RNN):
    """nn.RNN with results that ``what`` makes from its inputs and its correct results."""

    what: ClassVar[Any] = None

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - nn.RNN's own name
        return Returning.what(input, hx, *super().forward(input, hx))


@pytest.mark.parametrize(
    ("what", "aliased"),
    [
        (lambda x, hx, output, h_n: (x, h_n), (("output", "x"),)),
        (lambda x, hx, output, h_n: (output, hx), (("h_n", "hx"),)),
        (lambda x, hx, output, h_n: (output, output[-1:]), (("h_n", "output"),)),
        (lambda x, hx, output, h_n: (x[..., :3], x[-1:, :, :3]), (("output", "x"), ("h_n", "x"))),
        (lambda x, hx, output, h_n: (x.clone(), output[-1:].clone()), ()),
        (lambda x, hx, output, h_n: (output, h_n), ()),
    ],
)
@pytest.mark.parametrize("loss", [None, "output"])
def test_what_shares_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, what: Any, aliased: tuple[tuple[str, str], ...], loss: str | None
) -> None:
    monkeypatch.setattr(Returning, "what", staticmethod(what))
    case = draw(RNNConfig(3, 3, T=4, N=5, hx=True, loss=loss), "normal", 0)

    outcome = TorchSubject(Returning, "returning").run(case)

    assert outcome.failure is None, outcome.message
    assert outcome.aliased == aliased


def test_an_output_that_shares_memory_with_h_n_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Returning, "what", staticmethod(lambda x, hx, output, h_n: (output, output[-1:])))

    result = check_agreement(TorchSubject(Returning, "returning"), draw(CONFIG, "normal", 0))

    assert (result.verdict, result.kind) == (Verdict.DISAGREES, "h_n: shared memory")


def test_a_module_that_gives_padded_output_for_packed_input_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    def padded(x: Any, hx: Any, output: Any, h_n: Any) -> Any:
        return pad_packed_sequence(output)[0], h_n

    monkeypatch.setattr(Returning, "what", staticmethod(padded))
    outcome = TorchSubject(Returning, "returning").run(draw(CONFIG.replace(N=2, lengths=(2, 4)), "normal", 0))

    assert outcome.failure is Failure.MALFORMED
    assert outcome.message == "returned a Tensor for output, expected a PackedSequence, as the input is"


@pytest.mark.parametrize("returned", [None, (), 3])
def test_what_is_no_answer_to_a_packed_batch_is_malformed(monkeypatch: pytest.MonkeyPatch, returned: Any) -> None:
    monkeypatch.setattr(Returning, "what", staticmethod(lambda *_: returned))

    outcome = TorchSubject(Returning, "returning").run(draw(CONFIG.replace(N=2, lengths=(2, 4)), "normal", 0))

    assert outcome.failure is Failure.MALFORMED
    assert outcome.message.startswith("returned ")


def test_devices_are_the_cpu_then_what_torch_finds_then_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, count in (("cuda", 2), ("mps", 1), ("xpu", 0)):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(getattr(torch, kind), "device_count", lambda count=count: count)

    found = torch_class_facts.devices()

    assert found == ("cpu", "cuda:0", "cuda:1", "mps", "meta")


def test_accelerators_that_are_not_here_are_told_apart_by_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, available in (("cuda", False), ("mps", False), ("xpu", True)):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda available=available: available)
        monkeypatch.setattr(getattr(torch, kind), "device_count", lambda available=available: int(available))
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)

    absent = TorchSubject().capabilities.absent

    assert absent == {"cuda": "torch finds none", "mps": "this torch is built without it"}
