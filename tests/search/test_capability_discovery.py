"""Tests of narrowing: values that a subject refuses are left out, whatever way of calling is pinned."""

import math
import pickle
import threading
from collections import Counter
from copy import copy
from dataclasses import asdict
from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Scope, Verdict, as_subject, hunt, scope_of
from harness.search import budget
from harness.search.capability_discovery import narrow
from harness.search.plan import chunks
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.space.factor_table import AUTOCASTS, GRAD_MODES, PACKINGS, PREPARATIONS, SIZE_FACTORS, STRIDES
from harness.subjects.protocol import SubjectUnavailable
from tests import implementations

CALLS = Scope().only(
    lengths=PACKINGS,
    batched=[True, False],
    strides=STRIDES,
    autocast=AUTOCASTS,
    grad_mode=GRAD_MODES,
    preparation=PREPARATIONS,
    loss=[None, "both"],
)


def refusing(x: Any) -> Any:
    raise NotImplementedError("nothing at all")


def test_of_a_function_that_takes_three_arguments_no_more_than_they_say_is_asked() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if not config.batched:
            raise NotImplementedError("batches only")
        return implementations.vectorised(x, h0, weights, config)

    narrowed = narrow(as_subject(rnn), CALLS)

    assert narrowed.accepted
    assert narrowed.scope == CALLS.only(
        lengths=[None],
        batched=[True],
        autocast=[None],
        grad_mode=[None, "accumulate"],  # which means nothing without a loss
        preparation=["new", "used"],
        loss=[None],
    )
    assert narrowed.refused["batched=False"] == "batches only"
    assert narrowed.refused["lengths=any"] == "no packed sequences: it does not take lengths"
    assert narrowed.refused["loss=both"] == "no gradients: it does not take cotangents"
    torch_s = {"autocast=float16", "grad_mode=enable_grad", "preparation=parametrize"}
    assert {narrowed.refused[one] for one in torch_s} == {
        "autocast, grad modes and preparations of a module exist in torch only"
    }


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"batched": False}, "nothing at all"),
        ({"lengths": "any"}, "no packed sequences: it does not take lengths"),
        ({"lengths": "falling", "enforce_sorted": True}, "no packed sequences: it does not take lengths"),
        ({"loss": "both"}, "no gradients: it does not take cotangents"),
    ],
)
def test_a_subject_that_refuses_all_of_a_pinned_way_of_calling_is_not_accepted(pins: dict[str, Any], said: str) -> None:
    scope = Scope().only(**pins)

    narrowed = narrow(as_subject(refusing), scope)

    assert not narrowed.accepted
    assert narrowed.scope == scope
    assert list(narrowed.refused.values()) == [said]


def test_a_packed_batch_is_met_at_sizes_that_the_subject_does() -> None:
    def rnn(x: Any, h0: Any, weights: Any, lengths: Any, config: RNNConfig) -> Any:
        if config.N < 8 or config.T < 8:
            raise NotImplementedError("eight or more")
        return x[..., :1].repeat(config.hidden_size, -1) + weights["weight_ih_l0"].sum(), h0

    narrowed = narrow(as_subject(rnn), Scope().only(lengths="any", hx=False))

    assert narrowed.accepted


def one_layer(x: Any, h0: Any, weights: Any, *, batch_first: bool = False, relu: bool = False) -> Any:
    """Compute one layer from its arrays only, as a port that is told nothing else."""
    x = np.swapaxes(x, 0, 1) if batch_first else x
    w = [weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    h, states = h0[0], []
    for frame in x:
        a = frame @ w[0].T + h @ w[1].T + w[2] + w[3]
        h = np.maximum(a, 0) if relu else np.tanh(a)
        states.append(h)
    output = np.stack(states)
    return np.swapaxes(output, 0, 1) if batch_first else output, h[None]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_a_function_that_is_not_told_the_config_is_asked_for_the_layout_and_the_nonlinearity_that_it_does(
    batch_first: bool, relu: bool
) -> None:
    def rnn(x: Any, h0: Any, weights: Any) -> Any:
        return one_layer(x, h0, weights, batch_first=batch_first, relu=relu)

    narrowed = narrow(as_subject(rnn), Scope())

    assert narrowed.scope.batch_first == (batch_first,)
    assert narrowed.scope.nonlinearity == ("relu" if relu else "tanh",)
    assert narrowed.refused[f"batch_first={not batch_first}"] == "it does not take config"


READ: dict[str, Any] = {
    "by name": lambda config: config.batch_first,
    "getattr": lambda config: getattr(config, "batch_first", False),
    "vars": lambda config: vars(config)["batch_first"],
    "asdict": lambda config: asdict(config)["batch_first"],
    "replace": lambda config: config.replace(N=config.N).batch_first,
    "copy": lambda config: copy(config).batch_first,
    "pickle": lambda config: pickle.loads(pickle.dumps(config)).batch_first,  # noqa: S301
    "equality": lambda config: config == config.replace(batch_first=True),
    "with gradients": lambda config: config.loss is not None and config.batch_first,
    "with all": lambda config: config.loss is not None and config.num_layers > 1 and config.batch_first,
}


@pytest.mark.parametrize("how", READ)
def test_what_a_function_reads_of_its_config_stays_in_its_scope_however_wrong_it_is(how: str) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        READ[how](config)
        others = {name: getattr(config, name) for name in ("num_layers", "bidirectional", "bias")}
        return implementations.vectorised(x, h0, weights, RNNConfig(1, 1, **others))

    subject = as_subject(rnn)

    narrowed = narrow(subject, scope_of(subject))

    assert "batch_first=True" not in narrowed.refused


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_what_a_function_never_reads_of_its_config_is_left_out_and_told(nonlinearity: str) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.num_layers > 1 or config.bidirectional or not config.bias:
            raise NotImplementedError("one layer only")
        return one_layer(x, h0, weights, relu=nonlinearity == "relu")

    subject = as_subject(rnn)

    narrowed = narrow(subject, scope_of(subject))

    assert narrowed.refused["batch_first=True"] == "config.batch_first is never read"
    assert narrowed.scope.batch_first == (False,)
    assert {*narrowed.scope.nonlinearity} == {"tanh", "relu"}  # to forget that is a mistake
    assert hunt(subject, cases=40).verdict is Verdict.DISAGREES
    assert narrow(subject, scope_of(subject).only(batch_first=True)).scope.batch_first == (True,)


def test_it_is_told_so_even_where_a_term_of_its_step_is_wrong() -> None:
    def rnn(x: Any, h0: Any, weights: Any) -> Any:
        turned = {name: array.T if "weight_hh" in name else array for name, array in weights.items()}
        return one_layer(x, h0, turned, batch_first=True, relu=True)

    scope = narrow(as_subject(rnn), Scope()).scope

    assert (scope.batch_first, scope.nonlinearity) == ((True,), ("relu",))


def test_what_is_neither_done_nor_refused_is_left_out_and_told() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return one_layer(x, h0, weights, batch_first=config.batch_first, relu=config.nonlinearity == "relu")

    narrowed = narrow(as_subject(rnn), Scope())
    unrefused = {what: result for what, _, result in narrowed.unsupported_unrefused}

    layers = {f"num_layers={number}" for number in (2, 3, 4, 5)}
    assert unrefused.keys() == {*layers, "bias=False", "bidirectional=True"}
    assert unrefused["bias=False"].message == "KeyError: 'bias_ih_l0'"
    assert unrefused["bidirectional=True"].kind == "output: shape"
    assert set(narrowed.scope.num_layers) == {1}
    assert (narrowed.scope.bias, narrowed.scope.bidirectional) == ((True,), (False,))
    record = hunt(as_subject(rnn), cases=50)
    assert (record.verdict, record.findings) == (Verdict.DISAGREES, [])
    assert record.unsupported_unrefused.keys() == unrefused.keys()


def test_wrong_numbers_and_what_fails_at_some_sizes_only_are_no_feature_that_is_not_done() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if config.bidirectional and config.T > 1:
            raise IndexError("two steps")
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return (output + 1 if config.num_layers > 1 else output), h_n

    assert narrow(as_subject(rnn), Scope()).unsupported_unrefused == ()


@pytest.mark.parametrize(
    ("refuses", "taken"),
    [
        (lambda config: config.N != 1, {"N": {1}}),
        (lambda config: config.T != 4, {"T": {4}}),
        (lambda config: (config.T, config.input_size) != (4, 2), {"T": {4}, "input_size": {2}}),
        (lambda config: config.hidden_size % 8, {"hidden_size": {8, 16, 32, 64, 128, 256, 24, 48, 96}}),
        (lambda config: config.input_size != config.hidden_size, {}),  # which is a rule between two sizes
        (lambda config: config.T < 2, {}),
    ],
)
def test_sizes_of_which_a_subject_takes_few_are_all_that_is_left(refuses: Any, taken: dict[str, set[int]]) -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if refuses(config):
            raise NotImplementedError("not this size")
        return implementations.vectorised(x, h0, weights, config)

    narrowed = narrow(as_subject(rnn), Scope())

    assert narrowed.accepted
    fixed = {name: {*getattr(narrowed.scope, name)} for name in SIZE_FACTORS if not narrowed.scope.is_free(name)}
    assert fixed == taken
    assert {what.partition("=")[0] for what in narrowed.refused} >= {*taken}


def test_what_another_factor_opens_is_asked_for_beside_it() -> None:
    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any) -> Any:
        if config.loss is not None and config.dtype != "float64":
            raise NotImplementedError("gradients in float64 only")
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output, h_n, {"x": np.full_like(x, np.nan)}

    subject = as_subject(rnn)
    narrowed = narrow(subject, scope_of(subject))

    assert narrowed.refused["loss=h_n except with dtype=float64"] == "gradients in float64 only"
    assert {rule.words for rule in narrowed.scope.rules} == {"dtype=float64"}
    asked = [one.config for unit in islice(chunks(narrowed.scope, 0, 400), 40) for one in unit.planned()]
    dtypes = Counter((config.loss is not None, config.dtype) for config in asked)
    assert dtypes.keys() == {(True, "float64"), (False, "float32"), (False, "float64")}
    assert dtypes[True, "float64"] > 100
    found = hunt(subject, cases=100).finding
    assert found is not None
    assert found.result.kind == "x.grad: finiteness"


def test_what_refuses_everything_after_some_calls_is_asked_for_what_it_has_accepted() -> None:
    calls = count()

    def tired(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        if next(calls) > 6:
            raise NotImplementedError("tired")
        return of_one_layer(x, h0, weights, config)

    narrowed = narrow(as_subject(tired), Scope())

    assert narrowed.accepted
    assert narrowed.refused["bias=False"] == "tired"
    assert set(narrowed.scope.bias) == {True}


def gives_x(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return x, h0


def takes_x(x: Any) -> Any:
    return x, x[-1:]


@pytest.mark.parametrize("rnn", [gives_x, takes_x])
def test_what_returns_the_same_whatever_its_weights_is_refused(rnn: Any) -> None:
    with pytest.raises(SubjectUnavailable, match="what it returns does not depend on its weights"):
        hunt(as_subject(rnn), Scope(), cases=1)


def of_one_layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    return implementations.vectorised(x, h0, weights, config)


def test_what_is_slow_over_new_shapes_is_asked_for_few() -> None:
    subject = as_subject(of_one_layer)

    record = hunt(subject, scope_of(subject), cases=60, slow=True)

    assert (set(record.scope.T), set(record.scope.hidden_size)) == ({1, 4}, {1, 3})
    assert {"num_layers=2", "bidirectional=True"} <= record.refused.keys()
    assert record.total == 60


def test_what_is_slow_and_names_its_sizes_is_asked_for_those_also_when_it_was_used() -> None:
    subject = as_subject(of_one_layer)
    sizes = {"T": (1, 2), "N": (1, 2), "input_size": (1, 2), "hidden_size": (1, 2)}
    scope = scope_of(subject).only(**sizes, preparation=("new", "used"))

    narrowed = narrow(subject, scope, slow=True)

    assert {name: getattr(narrowed.scope, name) for name in sizes} == sizes
    assert narrowed.scope.preparation == ("new", "used")


def test_a_search_of_a_slow_subject_is_brief_unless_its_budget_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "BRIEF", 5)

    def declared(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        return of_one_layer(x, h0, weights, config)

    declared.slow = True  # type: ignore[attr-defined]
    for function, options, total in ((of_one_layer, {"slow": True}, 5), (declared, {}, 5), (declared, {"cases": 7}, 7)):
        with Search(as_subject(function), Scope().only(num_layers=1, T=2), SearchOptions(**options)) as search:
            assert list(search.findings()) == []
        assert (search.record.total, search.record.limit) == (total, total)


def test_a_time_bounds_what_is_asked_before_a_search() -> None:
    subject = as_subject(implementations.vectorised)

    narrowed = narrow(subject, scope_of(subject), until=-math.inf)

    assert narrowed.refused == {}
    assert narrowed.scope == scope_of(subject)


def by_sequence(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return what ``vectorised`` does, of one sequence after the other."""
    if config.batch_first or not config.batched:
        raise NotImplementedError("time first, with a batch axis")
    one = config.replace(N=1)
    parts = [implementations.vectorised(x[:, [n]], h0[:, [n]], weights, one) for n in range(x.shape[1])]
    outputs, states = zip(*parts, strict=True)
    return np.concatenate(outputs, 1), np.concatenate(states, 1)


@pytest.mark.parametrize(
    ("subject", "products"),
    [(by_sequence, False), (implementations.vectorised, True), ("torch", True), ("torch:gru", True)],
)
def test_large_products_of_sizes_are_left_out_where_each_sequence_has_lines_of_its_own(
    subject: Any, products: bool
) -> None:
    busy = threading.Event()  # on a busy machine, too
    others = [threading.Thread(target=lambda: all(not busy.is_set() for _ in count())) for _ in range(3)]
    for other in others:
        other.start()
    try:
        made = as_subject(subject)
        narrowed = narrow(made, scope_of(made).only(dropout=0.0, loss=None, device="cpu"))
    finally:
        busy.set()

    assert narrowed.scope.products is products
