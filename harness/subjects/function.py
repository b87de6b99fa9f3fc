"""FunctionSubject: a user's function rnn(x, h0, weights, config) -> (output, h_n) as a subject."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from harness.space.case import Array, Case
from harness.space.config import LOSSES
from harness.space.outcome import Outcome
from harness.subjects.calling import attempt, changed, named_gradients, named_outputs
from harness.subjects.protocol import SubjectError

GIVEN: Final = ("x", "h0", "weights", "config", "cotangents")
"""What a function may take, by these names; it may leave some out."""

SIGNATURES: Final = """\
    def rnn(x, h0, weights, config): ...   # -> (output, h_n)
    def rnn(x, weights): ...               # any of them, by name
    def rnn(x, h0, weights, config, cotangents): ...   # -> (output, h_n, gradients)
x        (T, N, input_size), or (N, T, input_size) if config.batch_first
h0       (num_layers * directions, N, hidden_size); zeros where config.hx is False
weights  a dict of arrays under nn.RNN's names: weights["weight_ih_l0"], ...; with a readout also
         weights["readout.weight"] and weights["readout.bias"]
config   the RNNConfig: config.num_layers, config.bidirectional, ...
cotangents  the gradients of a loss by what it reads: some of "output.grad" and "h_n.grad" ("readout.grad" in the
            place of "output.grad" with a readout); empty where config.loss is None
returns  (output, h_n) as nn.RNN does, in x's dtype; with a readout (output, h_n, readout) or (readout, h_n)
gradients  a dict by the names of what they belong to: "x", "hx" where config.hx is True, "weight_ih_l0", ...
A config that it does not do: raise NotImplementedError."""


class FunctionSubject:
    """A plain function, given NumPy arrays of its own to work on."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """``name`` is what it was asked for as. Raises ``SubjectError`` for a signature that cannot be served."""
        self.name = name
        self._function = function
        self._taken = _taken(function, name)
        self.offers: dict[str, tuple[str | None, ...]] = {"loss": LOSSES} if "cotangents" in self._taken else {}

    def devices(self) -> tuple[str, ...]:
        """NumPy arrays live on the CPU."""
        return ("cpu",)

    def run(self, case: Case) -> Outcome:
        """Call the function on copies of the case's arrays."""
        config = case.config
        lent = {name: array.copy() for name, array in case.arrays.items()}
        h0_shape = (config.num_layers * config.num_directions, config.N, config.hidden_size)
        given = {
            "x": lent["x"],
            "h0": lent["hx"] if config.hx else np.zeros(h0_shape, config.dtype),
            "weights": {name: lent[name] for name in config.weights},
            "config": config,
            "cotangents": {name: lent[name] for name in config.cotangents},
        }

        def call() -> Mapping[str, Array]:
            if config.loss is not None and not self.offers:
                raise NotImplementedError("no gradients: it does not take cotangents")
            returned = self._function(**{name: given[name] for name in self._taken})
            gradients: Mapping[str, Array] = {}
            if isinstance(returned, tuple | list) and returned and isinstance(returned[-1], Mapping):
                gradients = named_gradients(returned[-1]) if config.loss is not None else {}
                returned = returned[:-1] if len(returned) > 2 else returned[0]
            return {**named_outputs(returned, readout=config.output_size is not None), **gradients}

        with np.errstate(all="ignore"):
            outcome = attempt(call)
        return Outcome(outcome.arrays, outcome.failure, outcome.message, outcome.traceback, changed(lent, case))


def _taken(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise SubjectError(f"{name}: its signature cannot be read ({error}); expected one of\n{SIGNATURES}") from None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = {p.name for p in parameters}
        return tuple(name for name in GIVEN if name != "cotangents" or name in names)  # who computes gradients says so
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    unknown = [
        p.name for p in parameters if p.name not in GIVEN and (p.default is p.empty or p.kind is p.POSITIONAL_ONLY)
    ]
    taken = tuple(p.name for p in named if p.name in GIVEN)
    if unknown or not taken:
        what = f"takes {', '.join(unknown)}, which nothing is passed for" if unknown else "takes nothing that is passed"
        raise SubjectError(f"{name}{inspect.signature(function)}: {what}; expected one of\n{SIGNATURES}")
    return taken
