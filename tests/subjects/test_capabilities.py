"""Tests of capabilities: a subject declares in one object what it offers besides ``run``, and nothing else is read."""

import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch

from harness import Capabilities, Case, Outcome, RNNConfig, Scope, as_subject, check_agreement, draw, scope_of
from harness.space.conformance_profile import KERNEL, PORT, under
from harness.space.declared_arithmetic import LEAST_ASSUMED
from harness.subjects.capabilities import Recipe
from harness.subjects.environment import environment
from harness.subjects.protocol import Subject, SubjectUnavailable, backend_of, environment_of, masks_of
from harness.subjects.registry import find_subject, registered
from harness.subjects.run_user_code import place_of
from harness.subjects.torch_cell import CellLoop, CellSubject
from harness.subjects.torch_class_facts import FACTS, ClassFacts, facts_of
from harness.subjects.torch_module import TorchSubject
from harness.subjects.torch_variants import RECIPES
from tests import implementations

RIGHT = as_subject(implementations.vectorised)
DROPS = draw(RNNConfig(2, 3, 2, dropout=0.5, training=True))


class Plain:
    """A subject with what it is given for its capabilities."""

    name = "plain"

    def __init__(self, capabilities: Any = Capabilities()) -> None:  # noqa: B008 - it is frozen
        self.capabilities = capabilities

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        return RIGHT.run(case)


def test_a_subject_that_declares_nothing_offers_nothing_and_is_a_kernel() -> None:
    plain: Subject = Plain()

    assert scope_of(plain) == under(Scope(), KERNEL) == Scope()
    assert backend_of(plain, DROPS.config) is None
    assert masks_of(plain, DROPS) is None
    assert environment_of(plain, "cpu") == environment("cpu")
    assert not check_agreement(plain, draw(RNNConfig(2, 3, T=2))).failed


def test_offers_and_the_profile_are_what_is_asked() -> None:
    subject = Plain(Capabilities(offers={"dtype": ("float64", "bfloat16")}, profile=PORT))

    assert scope_of(subject) == under(Scope().only(dtype=("float64", "bfloat16")), PORT)


def test_the_arithmetic_is_that_of_the_kind_of_device() -> None:
    subject = Plain(Capabilities(arithmetic={"cuda": LEAST_ASSUMED}))

    assert backend_of(subject, RNNConfig(1, 1, device="cuda:1")) is LEAST_ASSUMED
    assert backend_of(subject, RNNConfig(1, 1)) is None


def test_capabilities_that_are_none_or_missing_are_refused() -> None:
    missing = Plain()
    del missing.capabilities

    for wrong in (Plain({"offers": {}}), missing):
        with pytest.raises(SubjectUnavailable, match=r"a Plain is not a subject; expected a Subject: name, capab"):
            as_subject(wrong)


@pytest.mark.parametrize("subject", [TorchSubject(), CellSubject(), RIGHT], ids=lambda subject: subject.name)
@pytest.mark.parametrize("copied", [deepcopy, lambda subject: pickle.loads(pickle.dumps(subject))])  # noqa: S301
def test_the_methods_of_a_copy_are_its_own(subject: Subject, copied: Callable[[Subject], Subject]) -> None:
    copy = copied(subject)

    methods: list[Any] = [getattr(copy.capabilities, one.name) for one in fields(Capabilities)]
    owners = [method.__self__ for method in methods if callable(method)]
    assert owners
    assert all(owner is copy for owner in owners)


def test_methods_are_wrapped_by_name_and_the_rest_stays() -> None:
    def named(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return partial(method, name)

    own = Capabilities(takes=("x",), masks=lambda *given: given, exact_relations=lambda config: frozenset())
    methods: Any = own.with_methods(named)

    assert methods.masks(3) == ("masks", 3)
    assert methods.exact_relations.args == ("exact_relations",)
    assert (methods.takes, methods.process, methods.check_derivatives) == (("x",), None, None)


def test_everything_is_known_of_nn_rnn_alone() -> None:
    class Mine(torch.nn.RNN):
        pass

    class Cell(torch.nn.RNNCell):
        pass

    assert all(vars(facts_of(torch.nn.RNN)).values())
    assert facts_of(Mine) == ClassFacts()
    assert facts_of(Cell) == ClassFacts(own=True)


class Unknown(torch.nn.RNN):
    """A class of which nothing is known."""


@pytest.mark.parametrize("factory", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM, CellLoop, Unknown])
def test_a_class_is_called_by_what_is_known_of_it(factory: type[torch.nn.Module]) -> None:
    found = as_subject(factory, "mine").capabilities

    assert found.is_torch is bool(found.arithmetic) is (factory is not Unknown)
    assert found.recipe == Recipe(is_cell=factory is CellLoop)
    assert (found.call is not None) is (factory is not CellLoop)  # malformed calls are those of a layer
    assert found.shares_process == found.offers["masks"] == (factory in {torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM})


def test_its_place_is_where_it_is_written_if_that_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    typed = type("Typed", (torch.nn.RNN,), {"__module__": "__main__"})

    assert as_subject(implementations.vectorised).capabilities.place == (implementations.__file__, "vectorised")
    assert as_subject(typed, "typed").capabilities.place is None
    assert as_subject(lambda x: x).capabilities.place is None
    assert place_of(len) is None


def test_what_is_known_of_a_class_can_be_told() -> None:
    class Mine(torch.nn.RNN):
        pass

    told = TorchSubject(Mine, "mine", facts=replace(FACTS[torch.nn.RNN], draws_masks=False)).capabilities

    assert told.is_torch
    assert told.shares_process
    assert not told.offers["masks"]


def test_a_script_knows_each_of_torch_s_own_subjects() -> None:
    others = [name for name in registered() if name.partition(":")[0] == "torch" and name not in RECIPES]
    assert RECIPES.keys() <= registered().keys()
    assert not [name for name in others if find_subject(name).capabilities.is_torch]
    assert all(recipe.own and recipe.title for recipe in RECIPES.values())


class Projecting(torch.nn.LSTM):
    def __init__(self, input_size: int, hidden_size: int, proj_size: int = 0, **options: Any) -> None:
        super().__init__(input_size, hidden_size, proj_size=proj_size, **options)


def test_torch_s_own_layers_alone_are_held_to_the_kernel_profile_unless_a_class_declares_it() -> None:
    mine = as_subject(Projecting)
    declared = as_subject(type("Declared", (Projecting,), {"profile": "kernel"}))

    assert [one.capabilities.profile for one in (as_subject(torch.nn.LSTM), mine, declared)] == [
        "kernel",
        "port",
        "kernel",
    ]


def test_a_class_that_takes_a_projection_is_asked_for_it() -> None:
    assert [
        scope_of(as_subject(layer)).values()["proj_size"] for layer in (Projecting, type("Plain", (Projecting,), {}))
    ] == [scope_of(as_subject("torch:lstm")).values()["proj_size"]] * 2
