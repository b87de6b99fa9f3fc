"""Tests of the strangers' manifest: it holds for each implementation, judged by torch's nn.RNN and its autograd."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from harness.space.config import RNNConfig
from tests.foreign.manifest_strangers import RIGHT_STRANGERS, STRANGERS, WRONG_STRANGERS, Mistake, Stranger
from tests.foreign.strangers_node import NODE

Arrays = Mapping[str, NDArray[Any]]

_64: Final[Mapping[str, Any]] = {"dtype": "float64"}

LAYERS: Final = (
    RNNConfig(1, 1, T=1, N=1, **_64),
    RNNConfig(1, 1, T=1, N=1, hx=True, **_64),
    RNNConfig(3, 4, T=3, N=2, **_64),
    RNNConfig(3, 4, T=3, N=2, batch_first=True, hx=True, **_64),
    RNNConfig(3, 4, T=1, N=2, hx=True, **_64),
    RNNConfig(3, 4, T=6, N=2, **_64),
    RNNConfig(3, 4, T=6, N=1, batch_first=True, **_64),
    RNNConfig(3, 4, T=3, N=2, bias=False, hx=True, **_64),
    RNNConfig(2, 20, T=2, N=2, **_64),
    RNNConfig(3, 16, T=2, N=2, **_64),
    RNNConfig(4, 4, T=2, N=3, batch_first=True, **_64),
    RNNConfig(3, 4, nonlinearity="relu", T=3, N=2, hx=True, **_64),
    RNNConfig(3, 4, nonlinearity="relu", T=5, N=2, bias=False, batch_first=True, **_64),
    RNNConfig(3, 4, 2, T=3, N=2, hx=True, **_64),
    RNNConfig(4, 4, 2, T=2, N=2, **_64),
    RNNConfig(4, 4, 3, nonlinearity="relu", T=2, N=2, batch_first=True, **_64),
    RNNConfig(3, 4, 2, dropout=1.0, T=2, N=2, **_64),
    RNNConfig(3, 4, 2, dropout=1.0, T=2, N=2, training=True, **_64),
    RNNConfig(3, 4, bidirectional=True, T=3, N=2, hx=True, **_64),
    RNNConfig(3, 4, bidirectional=True, T=1, N=2, batch_first=True, **_64),
    RNNConfig(3, 4, 2, bidirectional=True, T=2, N=3, batch_first=True, **_64),
    RNNConfig(3, 4, T=3, N=0, hx=True, **_64),
    RNNConfig(3, 4, T=3, N=2, hx=True),
    RNNConfig(3, 4, T=6, N=2, batch_first=True),
)
"""A few configs with several layers; dropout of 1 leaves nothing to chance."""

ONE_LOSS: Final = (2, 3, 13, 20)
"""The indices of those that are also checked with losses of the output alone and of h_n alone."""

CONFIGS: Final = (
    *LAYERS,
    *(config.replace(loss="both") for config in LAYERS),
    *(LAYERS[i].replace(loss=loss) for i, loss in product(ONE_LOSS, ("output", "h_n"))),
)

KINDS: Final = {"tanh": ("normal",), "relu": ("normal", "whole", "infinite")}
"""Kinds of numbers, by nonlinearity: normal ones; small whole ones, for which relu's sums are exact and often 0; and an
infinite one, for which only outputs are compared, because autograd promises nothing there.
"""


SEEN: Final = {"values": {"values", "later"}, "inputs": {"inputs"}, "later": {"later"}}
"""The ways in which a mistake may be seen: whole numbers may hide it in the first of two cases."""


class Case(NamedTuple):
    config: RNNConfig
    arrays: Arrays
    """The arrays of x, of hx if there is one, of the weights, and of the cotangents."""


@lru_cache(1024)
def drawn(config: RNNConfig, kind: str, seed: int) -> Case:
    """Draw a case in which each weight's rows and columns have absolute sums up to 1, so that errors do not grow."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, spec in config.given.items():
        if kind == "normal":
            array = np.clip(rng.standard_normal(spec.shape), -2, 2)
        else:
            array = rng.integers(-1, 2, spec.shape).astype(float)
        if name.startswith("weight"):
            array *= 2.0 ** -np.ceil(np.log2(max(np.abs(array).sum(0).max(), np.abs(array).sum(1).max(), 1)))
        if kind == "infinite" and name == "x" and array.size:
            array.flat[0] = -np.inf
        arrays[name] = array.astype(config.dtype)
    return Case(config, arrays)


def judged(module: nn.Module, case: Case, dtype: torch.dtype = torch.float64) -> Arrays:
    """Return what a module with nn.RNN's parameters gives on a case, and autograd's gradients."""
    config = case.config
    given = {name: torch.tensor(array).to(dtype) for name, array in case.arrays.items()}
    module.load_state_dict({name: given[name] for name in config.weights})
    module.train(config.training)
    inputs = [given[name].requires_grad_(config.loss is not None) for name in config.inputs]
    output, h_n = module(*inputs)
    found = {"output": output, "h_n": h_n}
    if config.loss is not None:
        by = dict(zip(config.inputs, inputs, strict=True)) | dict(module.named_parameters())
        loss = sum((found[name.removesuffix(".grad")] * given[name]).sum() for name in config.cotangents)
        grads = torch.autograd.grad(loss, list(by.values()))
        found |= {f"{name}.grad": gradient for name, gradient in zip(by, grads, strict=True)}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def built(factory: Callable[..., nn.Module], config: RNNConfig, dtype: torch.dtype) -> nn.Module:
    names = (
        "input_size",
        "hidden_size",
        "num_layers",
        "nonlinearity",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )
    return factory(**{name: getattr(config, name) for name in names}, dtype=dtype)


@lru_cache(1024)
def expected(config: RNNConfig, kind: str, seed: int) -> Arrays:
    return judged(built(nn.RNN, config, torch.float64), drawn(config, kind, seed))


def allowances(case: Case) -> tuple[float, float]:
    """Return how far two correct results may differ, for the outputs and for the gradients.

    Each is off by u, the unit roundoff, times what it sums (gamma_n = n u / (1 - n u), in any order), and by 8 u for
    its tanh. Weights do not enlarge errors (rows and columns sum up to 1), nor do tanh and relu, so errors add up over
    steps and over layers. tanh' = 1 - h**2 is off by 2 |h| times the state's error. A gradient with respect to weights
    sums over steps and sequences.
    """
    config = case.config
    T, N, H, D = config.T, max(config.N, 1), config.hidden_size, config.num_directions
    u = float(np.finfo(config.dtype).eps) / 2
    largest = max(float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a in case.arrays.values())
    x, x_error, state, error = largest, 0.0, 0.0, 0.0
    for _ in range(config.num_layers):
        state = max(largest, 1.0) if config.nonlinearity == "tanh" else largest + T * (x + 2 * largest)
        n = max(config.input_size, D * H) + H + 2
        error = T * (x_error + n * u / (1 - n * u) * (x + state + 2 * largest) + 8 * u)
        x, x_error = state, error
    above, above_error, by_weights = largest, 0.0, 0.0
    for _ in range(config.num_layers):
        arriving = T * above + largest
        n = H + 2
        rounding = n * u / (1 - n * u) + (2 * state * error + 8 * u if config.nonlinearity == "tanh" else 0)
        back_error = T * (above_error + arriving * rounding)
        n = T * N + 2
        product_error = back_error * state + arriving * error + n * u / (1 - n * u) * arriving * state
        by_weights = max(by_weights, T * N * product_error)
        above, above_error = D * arriving, D * (back_error + arriving * n * u / (1 - n * u))
    return 2 * error, 2 * max(by_weights, above_error)


def within(actual: NDArray[Any], right: NDArray[Any], allowance: float) -> bool:
    with np.errstate(invalid="ignore"):  # raised for infinities, which are either equal or not
        near = np.abs(actual - right) <= allowance
    return bool((near | (actual == right) | (np.isnan(actual) & np.isnan(right))).all())


def close(case: Case, kind: str, seed: int, results: Any) -> bool:
    """Return whether results are nn.RNN's: the same names, shapes and dtype, and values within the allowances."""
    right = expected(case.config, kind, seed)
    names = {name for name in right if name in results or not name.endswith(".grad")}
    forward, back = allowances(case)
    return set(results) == names and all(
        results[name].shape == right[name].shape
        and results[name].dtype == case.config.dtype
        and within(results[name], right[name], back if "grad" in name else forward)
        for name in names
    )


class Subject:
    """A stranger's implementation in a module of its own, so that it remembers nothing of other tests."""

    def __init__(self, stranger: Stranger, mended: tuple[Mistake, ...] = ()) -> None:
        self._remembers = any(mistake.how == "later" for mistake in stranger.mistakes)
        self._name, self._code = stranger.subject.__qualname__, _code(stranger, mended)
        self._found = self._loaded()
        self.is_class = inspect.isclass(self._found)
        self.takes = () if self.is_class else tuple(inspect.signature(self._found).parameters)
        self.wrt = getattr(self._found, "offers", {}).get("wrt", ("all",))[0]
        self.partial = set(stranger.partial)
        self._built: nn.Module | None = None

    def _loaded(self) -> Any:
        module = ModuleType("strangers")
        module.__file__ = self._code.co_filename
        exec(self._code, vars(module))  # noqa: S102 - it is the strangers' own code
        return getattr(module, self._name)

    def asked(self, config: RNNConfig) -> bool:
        """Return whether a config is asked of it; losses and dropout need a function that takes them."""
        return self.is_class or not (config.drops or (config.loss and "cotangents" not in self.takes))

    def forget(self) -> None:
        """Return to the state before the first call."""
        self._built = None
        if self._remembers:
            self._found = self._loaded()

    def __call__(self, case: Case) -> tuple[Any, bool]:
        """Return its results by name, and whether it left its inputs unchanged."""
        lent = {name: array.copy() for name, array in case.arrays.items()}
        with np.errstate(all="ignore"):
            results = self._of_class(case) if self.is_class else self._of_function(case.config, lent)
        return results, all(lent[name].tobytes() == array.tobytes() for name, array in case.arrays.items())

    def _of_class(self, case: Case) -> Arrays:
        dtype = getattr(torch, case.config.dtype)
        if self._built is None:
            self._built = built(self._found, case.config, dtype)
        return judged(self._built, case, dtype)

    def _of_function(self, config: RNNConfig, lent: Arrays) -> Arrays:
        shape = (config.num_layers * config.num_directions, config.N, config.hidden_size)
        given = {
            "x": lent["x"],
            "h0": lent.get("hx", np.zeros(shape, config.dtype)),
            "weights": {name: lent[name] for name in config.weights},
            "config": config,
            "cotangents": {name: lent[name] for name in config.cotangents},
        }
        output, h_n, *gradients = self._found(**{name: given[name] for name in self.takes})
        by_name = {"output": output, "h_n": h_n}
        if config.loss is not None:
            by_name |= {f"{name}.grad": array for name, array in gradients[0].items()}
        return by_name


def _code(stranger: Stranger, mended: tuple[Mistake, ...]) -> CodeType:
    """Compile the stranger's module with mended source; each piece must occur once in the subject or in the module."""
    path = Path(inspect.getfile(stranger.subject))
    source, own = path.read_text(encoding="utf-8"), inspect.getsource(stranger.subject)
    for old, new in (pair for mistake in mended for pair in mistake.mend):
        place = own if old in own else source
        assert place.count(old) == 1, old
        fixed = place.replace(old, new)
        source, own = source.replace(place, fixed), fixed if place is own else own
    return _compiled(source, str(path))


@lru_cache(8)
def _compiled(source: str, path: str) -> CodeType:
    """Compile once for all subjects without changes, because it takes 14 ms."""
    return compile(source, path, "exec")


def wrong(subject: Subject, config: RNNConfig, kind: str) -> str:
    """Return what is wrong on a case, or on a second one of the same config; an empty text if nothing is."""
    first, second = drawn(config, kind, 1), drawn(config, kind, 2)
    subject.forget()
    try:
        results, left_alone = subject(first)
        if not _complete(subject, config, results) or not close(first, kind, 1, results):
            return "values"
        kept = {name: array.copy() for name, array in results.items()}
        later, _ = subject(second)
    except NotImplementedError:
        return "refused"
    except Exception:  # noqa: BLE001 - whatever a stranger raises is wrong
        return "values"
    unchanged = all(np.array_equal(kept[name], results[name], equal_nan=True) for name in kept)
    if not close(second, kind, 2, later) or not unchanged:
        return "later"
    return "" if left_alone else "inputs"


def _complete(subject: Subject, config: RNNConfig, results: Arrays) -> bool:
    asked = set(config.replace(wrt=subject.wrt if config.loss else "all").gradients)
    return asked - subject.partial <= set(results)


def seen(stranger: Stranger, mended: tuple[Mistake, ...] = ()) -> dict[RNNConfig, set[str]]:
    """Return what is wrong with a stranger's implementation, by config; it must refuse what the manifest says."""
    subject, found = Subject(stranger, mended), {}
    for config in CONFIGS:
        if subject.asked(config) and all(getattr(config, name) == value for name, value in stranger.scope.items()):
            kinds = (kind for kind in KINDS[config.nonlinearity] if kind != "infinite" or config.loss is None)
            faults = {wrong(subject, config, kind) for kind in kinds} - {""}
            assert ("refused" in faults) == stranger.refuses(config), config
            if "refused" not in faults:
                found[config] = faults
    return found


def _named(strangers: tuple[Stranger, ...]) -> pytest.MarkDecorator:
    """Return a parameter for each stranger; those in JavaScript need node."""
    without_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
    return pytest.mark.parametrize(
        "stranger",
        [pytest.param(one, id=one.name, marks=[without_node] * ("strangers_node" in one.spec)) for one in strangers],
    )


@_named(RIGHT_STRANGERS)
def test_a_right_one_gives_what_nn_rnn_gives_and_refuses_what_its_manifest_says(stranger: Stranger) -> None:
    found = seen(stranger)

    assert found
    assert not any(found.values()), found


@_named(WRONG_STRANGERS)
def test_a_wrong_one_is_wrong_where_its_mistakes_show_and_nowhere_else(stranger: Stranger) -> None:
    found = seen(stranger)

    for config, faults in found.items():
        showing = [mistake for mistake in stranger.mistakes if mistake.shows(config)]
        if config.N:  # an empty batch can only show errors of shape
            assert faults <= {how for mistake in showing for how in SEEN[mistake.how]}, config
            wide = config.dtype == "float32"  # the allowances, which may hide what float64 shows
            must = [m for m in showing if not m.rarely and not (wide and m.shows(config.replace(**_64)))]
            assert faults or not must, config
    assert any(found.values()) or stranger.mistakes[0].family == "refusals"


@_named(tuple(stranger for stranger in WRONG_STRANGERS if stranger.mistakes[0].mend))
def test_a_wrong_one_is_right_once_its_mistakes_are_mended(stranger: Stranger) -> None:
    found = seen(stranger, stranger.mistakes)

    assert found
    assert not any(found.values()), found


@pytest.mark.parametrize("left", [0, 1])
@_named(tuple(stranger for stranger in WRONG_STRANGERS if len(stranger.mistakes) > 1))
def test_of_two_mistakes_each_is_wrong_alone(stranger: Stranger, left: int) -> None:
    found = seen(stranger, (stranger.mistakes[1 - left],))

    assert found
    assert all(bool(faults) == stranger.mistakes[left].shows(config) for config, faults in found.items() if config.N)


FREE: Final = {
    "input_size": (1, 2),
    "hidden_size": (1, 2),
    "T": (1, 2, 6),
    "N": (1, 2),
    "num_layers": (1, 2),
    "nonlinearity": ("tanh", "relu"),
    "batch_first": (False, True),
    "bidirectional": (False, True),
    "bias": (False, True),
    "hx": (False, True),
    "dtype": ("float32", "float64"),
    "loss": (None, "output", "h_n", "both"),
}
"""The values of factors that the manifest leaves open."""


def showing(stranger: Stranger, mistake: Mistake, factors: Mapping[str, Any]) -> bool:
    """Return whether the mistake shows on any config with these factors."""
    choices = {name: (factors[name],) if name in factors else values for name, values in FREE.items()}
    configs: Any = (  # not validated as configs, which would take a hundred times as long
        SimpleNamespace(**dict(zip(choices, values, strict=True)), dropout=1.0, drops=False, training=True)
        for values in product(*choices.values())
    )
    return any(mistake.shows(config) and not stranger.refuses(config) for config in configs)


@pytest.mark.parametrize("stranger", WRONG_STRANGERS, ids=lambda stranger: stranger.name)
def test_the_smallest_case_of_a_mistake_shows_it_and_no_smaller_one_does(stranger: Stranger) -> None:
    for mistake in stranger.mistakes:
        if mistake.smallest:
            smaller = [
                (name, value - 1) for name, value in mistake.smallest.items() if type(value) is int and value > 1
            ]
            plainer = [(name, False) for name, value in mistake.smallest.items() if value is True]

            assert showing(stranger, mistake, mistake.smallest)
            for name, value in [*smaller, *plainer]:
                assert not showing(stranger, mistake, {**mistake.smallest, name: value}), (name, value)


def test_there_are_as_many_as_were_promised() -> None:
    names = [stranger.name for stranger in STRANGERS]

    assert len(set(names)) == len(names)
    assert len(RIGHT_STRANGERS) >= 16
    assert len(WRONG_STRANGERS) >= 48
