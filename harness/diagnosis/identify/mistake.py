"""mistake: a difference of a subject from torch's layer, and a slot of a layer as the row that tells its mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from harness.diagnosis.identify.activations import Activation, number
from harness.diagnosis.identify.model import LayerModel, Network

Mend = Callable[[Any], Any]  # of a ``LayerModel``
Model = TypeVar("Model", bound=LayerModel)
SlotName = tuple[str, ...]  # a slot of a step, and the gate that it is of, if it is of one


@dataclass(frozen=True)
class Mistake:
    """One difference of a subject from nn.RNN. It is the same one wherever it is made, and beside whatever else."""

    what: str  # reads on from "the subject"
    yours: str = field(default="", compare=False)  # the line of NumPy
    right: str = field(default="", compare=False)  # nn.RNN's; empty where nn.RNN has none
    models: tuple[str, ...] = field(default=("first",), compare=False)  # those of a network that make it
    others: tuple[str, ...] = field(default=(), compare=False)  # those that do not
    words: str = field(default="", compare=False)  # where alone it is made
    variant: str = field(default="", compare=False)  # the published variant that has it
    of_order: bool = field(default=False, compare=False)  # it is the order of the gates' rows
    mend: Mend = field(default=lambda model: model, compare=False, repr=False)
    rewire: Callable[[Network], Network] | None = field(default=None, compare=False, repr=False)
    line: str = field(default="", compare=False, repr=False)  # the key of its lines among those of a layer
    slots: tuple[SlotName, ...] = field(default=(), compare=False, repr=False)  # those of a step with gates

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """What is said of it, which reads on from "the subject"."""
        where = f"{self.what}, {self.words}" if self.words else self.what
        return f"{where}: {self.variant}" if self.variant else where

    def without(self, network: Network) -> Network:
        """Return a network in which this mistake is not made."""
        if self.rewire is not None:
            return self.rewire(network)
        changed: dict[str, Any] = {name: self.mend(getattr(network, name)) for name in self.models}
        return replace(network, **changed)

    def placed_as(self, mistake: Mistake) -> Mistake:
        """Return this mistake where another identification found the same one, if that knows more of the models."""
        if len(mistake.models + mistake.others) <= len(self.models + self.others):
            return self
        return replace(self, models=mistake.models, others=mistake.others, words=mistake.words, variant=mistake.variant)

    def with_lines(self, yours: Mapping[str, str], right: Mapping[str, str]) -> Mistake:
        """Return this mistake with its lines, given those of both layers, unless it has lines of its own."""
        if not self.line:
            return self
        return replace(self, yours=yours.get(self.line, "").strip(), right=right.get(self.line, "").strip())


@dataclass(frozen=True)
class LayerSlot:
    """A slot of a layer, and what is said of each choice.

    That is a template over the names of ``sentence``, one by choice, or by its kind, with ``None`` for all others, or
    what makes it of the model and the nonlinearity. Where it is empty, there is no mistake.
    """

    fields: str  # the first one has the choice, and all are torch's once a mistake is mended
    line: str | Callable[[Any], str]  # the key of the line that shows it
    words: str | Mapping[Any, str] | Callable[[Any, str], str]
    mend: Mend | None = None

    def __call__(self, model: Any, right: Any, nonlinearity: str) -> Iterator[Mistake]:
        """Yield the mistake in this slot, if there is one."""
        names = self.fields.split()
        choice = getattr(model, names[0])
        if choice != getattr(right, names[0]) and (sentence := self.sentence(model, choice, nonlinearity)):
            line = self.line(model) if callable(self.line) else self.line
            mend = self.mend or partial(with_fields_of, right=right, names=names)
            yield Mistake(sentence, line=line, mend=mend, slots=((names[0],),))

    def sentence(self, model: Any, choice: Any, nonlinearity: str) -> str:
        """Return what is said of a model's choice."""
        if callable(self.words):
            return self.words(model, nonlinearity)
        templates: Mapping[Any, str] = {None: self.words} if isinstance(self.words, str) else self.words
        k = getattr(choice, "k", 0)
        return templates.get(getattr(choice, "kind", choice), templates[None]).format(
            choice=choice,
            model=model,
            steps="step" if k == 1 else f"{k} steps",
            number=number(choice) if isinstance(choice, float) else "",
            nonlinearity=nonlinearity,
            function=(model.activation or Activation(nonlinearity)).name,
        )


# What yields the mistakes of a model in one or more slots, given torch's model and the nonlinearity.
SlotMistakes = Callable[[Any, Any, str], Iterator[Mistake]]


def mistakes_in(
    slots: Iterable[SlotMistakes], model: LayerModel, right: LayerModel, nonlinearity: str = ""
) -> Iterator[Mistake]:
    """Yield the mistakes of a model slot by slot; those behind the order of rows are told of the rows in order."""
    for slot in slots:
        for mistake in [*slot(model, right, nonlinearity)]:
            yield mistake
            model = mistake.mend(model) if mistake.of_order else model


def with_fields_of(model: Model, right: LayerModel, names: Iterable[str]) -> Model:
    """Return a model with some fields of another one."""
    changed: dict[str, Any] = {name: getattr(right, name) for name in names}
    return replace(model, **changed)
