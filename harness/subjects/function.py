"""FunctionSubject: a user's function rnn(x, h0, weights, config) -> (output, h_n) as a subject."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from harness.space.case import Array, Case
from harness.space.config import FIELDS, RNNConfig, role_of
from harness.space.conformance_profile import PORT
from harness.space.factor_table import FACTORS, MODULE_FACTORS, having, offers_of
from harness.space.outcome import Outcome
from harness.space.values import earlier_case, with_other_inputs
from harness.subjects.capabilities import Capabilities, Recipe
from harness.subjects.conventions import Conventions, declared_by
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.run_user_code import HeldResults, attempt, by_name, changed, filled, named_gradients, place_of

# The names of the arguments that a function may take; it may leave some out.
FUNCTION_ARGUMENTS: Final = ("x", "h0", "weights", "config", "cotangents", "lengths", "masks", "c0")

# nn.RNN's own names of arguments, by which a function may call its own: they are passed by position.
LAYERS_NAMES: Final = {"input": "x", "hx": "h0", "cx": "c0"}

# The parts of the space that a function is asked for only if it takes a certain argument, by that argument.
OPENS: Final[dict[str, dict[str, Any]]] = {
    **{FACTORS[name].argument: {name: tuple(dict.fromkeys(FACTORS[name].torch))} for name in having("argument")},
    "masks": {"masks": True},
    "c0": offers_of("LSTM"),
}

ARRAY_ARGUMENTS: Final = ("x", "h0", "c0")
# The arguments that every function may take, in their documented order.
USUAL_ARGUMENTS: Final = tuple(name for name in FUNCTION_ARGUMENTS if name not in OPENS)

SIGNATURES: Final = f"""\
expected def rnn(x, h0, weights, config): ... -> (output, h_n), with some of these arguments by name:
{", ".join(FUNCTION_ARGUMENTS)} (or input, hx and cx, before all others); docs/how-to-functions.md explains them"""


class FunctionSubject:
    """A plain function that is given its own NumPy arrays to work on."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        recipe: Recipe | None = None,
        conventions: Conventions | None = None,
    ) -> None:
        """Wrap a function under the ``name`` it was asked for; ``recipe`` says how a script calls it.

        Its ``conventions`` are by default those that it declares. Raises ``SubjectUnavailable`` for an unusable
        signature, and ``UsageError`` for a declaration that makes no sense.
        """
        self.name = name
        self._given_function, self._takes = function, _taken(function, name)
        self._conventions = declared_by(function, name) if conventions is None else conventions
        positional = _by_position(function, name)
        by_names = _called_by_name(function, positional)
        if (
            paired := inspect.isfunction(function)
            and len(self._conventions.form.hidden) > 1
            and {"h0", "c0"} & {*self._takes} == {"h0"}
        ):
            self._takes, by_names = (*self._takes, "c0"), _with_a_pair(by_names)
        self._passed = self._conventions.passed(self._takes)
        self._require_states(name)
        self._innermost = _NotingFunction(by_names)
        self._function = self._conventions.mapped(self._innermost, self._takes)
        offers: dict[str, Any] = {name: FACTORS[name].function for name in having("function")}
        for taken in self._takes:
            offers |= OPENS.get(taken, {})
        offers |= offers_of(self._conventions.cell)
        if not {"h0", "c0", "config"} & {*self._takes}:  # it cannot refuse an initial state
            offers["hx"] = (False,)
        offers |= getattr(function, "offers", {})
        self.capabilities = Capabilities(
            offers=offers | self._conventions.narrowed(offers, name),
            profile=getattr(function, "profile", PORT),
            slow=getattr(function, "slow", False),
            takes=self._takes,
            recipe=recipe or Recipe(positional=positional, paired=paired),
            place=place_of(function),
            masks=self.masks,
            run_twice=self.run_twice,
            run_filled=self.run_filled,
            conventions=self._conventions,
            run_as=self.run_as,
            reads=self.reads if "config" in self._takes else None,
        )

    def reads(self, case: Case) -> frozenset[str]:
        """Return the fields of the config that a call reads; all of them where a config that notes it changes the call.

        Whatever has all fields, such as ``vars(config)``, a copy or a hash, reads them all.
        """
        self._innermost.read = read = set[str]()
        try:
            noted = self.run(case)
        finally:
            self._innermost.read = None
        plain = self.run(case)
        same = (noted.failure, noted.message) == (plain.failure, plain.message) and all(
            name in noted.arrays and array.tobytes() == noted.arrays[name].tobytes()
            for name, array in plain.arrays.items()
        )
        return frozenset(read) if same and not {"__dict__", "__reduce_ex__", "__class__"} & read else frozenset(FIELDS)

    def _require_states(self, name: str) -> None:
        """Raise ``SubjectUnavailable`` for arguments that its layer does not have, or has only in part."""
        cell, takes = self._conventions.cell, {*self._takes}
        two, an = len(self._conventions.form.hidden) > 1, f"a{'n' * (cell in ('LSTM', 'RNN'))} {cell}"
        if two and "h0" in takes and "c0" not in takes:
            raise SubjectUnavailable(f"{name}: takes h0 alone: {an} starts from two states; take c0, too, or neither")
        if not two and cell != "RNN" and "c0" in takes:
            raise SubjectUnavailable(f"{name}: takes c0, which {an} does not have: leave it out, or declare lstm")

    def devices(self) -> tuple[str, ...]:
        """Return the CPU, because NumPy arrays are on the CPU."""
        return ("cpu",)

    def masks(self, case: Case) -> list[Array] | None:
        """Return dropout masks, time first, (T, N, D*H) for each inner layer; the case's seed determines them."""
        config, rng = case.config, np.random.default_rng(case.seed)
        shape = (config.T, config.N, config.num_directions * config.h_size)
        return [rng.random(shape) >= config.dropout for _ in range(config.num_layers - 1)]

    def run(self, case: Case) -> Outcome:
        """Call the function on copies of the case's arrays."""
        return self._called(case)[0]

    def run_filled(self, case: Case, number: float) -> Outcome:
        """Call the function with memory that is not written yet filled with a number."""
        with filled(number):
            return self.run(case)

    def run_as(self, case: Case, conventions: Conventions) -> Outcome:
        """Call the function as if it had declared other conventions."""
        return FunctionSubject(self._given_function, self.name, conventions=conventions).run(case)

    def use(self, config: RNNConfig) -> None:
        """Call the function at other sizes and with other weights, as a function that was used before was."""
        for before in config.calls_before:
            self.run(earlier_case(before, one_bias=self._conventions.one_bias))

    def run_twice(self, case: Case) -> Outcome:
        """Run the case, and find out which results another call, with other inputs of the same shapes, overwrites."""
        outcome, held = self._called(case)
        if held is None:
            return outcome
        second = with_other_inputs(case)
        with np.errstate(all="ignore"):
            attempt(partial(self._returned, self._arguments(second, _lent(second)), case.config))
        return replace(outcome, overwritten=held.overwritten())

    def _called(self, case: Case) -> tuple[Outcome, HeldResults | None]:
        config = case.config
        lent = _lent(case)
        arguments = self._arguments(case, lent)
        if config.preparation == "used":
            self.use(config)
        held: list[HeldResults] = []
        ignored: list[str] = []

        def call() -> Mapping[str, Array]:
            self._refuse(config)
            held.append(HeldResults(self._returned(arguments, config, ignored)))
            return held[0].arrays

        with np.errstate(all="ignore"):
            outcome = attempt(call)
        outcome = replace(outcome, changed_inputs=changed(lent, case), ignored=tuple(ignored))
        results = ("output", *config.form.final) if self._conventions.last_output_only and outcome.arrays else ()
        missing = tuple(name for name in results if name not in outcome.arrays)
        return replace(outcome, not_returned=(*missing, *_not_returned(outcome, config))), next(iter(held), None)

    def _arguments(self, case: Case, lent: Mapping[str, Array]) -> dict[str, Any]:
        """Return everything that the function may take: facts of the case, and its arrays as they are ``lent``."""
        config = case.config
        rows = (config.num_layers * config.num_directions, *[config.N] * config.batched)
        return {
            "x": lent["x"],
            "h0": lent["hx"] if config.hx else np.zeros((*rows, config.h_size), config.dtype),
            "c0": lent["cx"] if "cx" in lent else np.zeros((*rows, config.hidden_size), config.dtype),
            "weights": {name: lent[name] for name in config.weights},
            "config": config,
            "cotangents": {name: lent[name] for name in config.cotangents},
            "lengths": None if config.lengths is None else np.array(config.lengths),
            "masks": self._given_masks(case) if config.drops else None,
        }

    def _returned(
        self, arguments: Mapping[str, Any], config: RNNConfig, ignored: list[str] | None = None
    ) -> dict[str, Any]:
        """Return the function's results by name; names of gradients that nn.RNN does not have go into ``ignored``."""
        returned = self._function(**{name: arguments[name] for name in self._passed})
        gradients: Mapping[str, Any] = {}
        if isinstance(returned, tuple | list) and returned and isinstance(returned[-1], Mapping):
            gradients = _wanted(named_gradients(returned[-1]), config, [] if ignored is None else ignored)
            returned = returned[:-1] if len(returned) > 2 else returned[0]
        named = by_name(returned, config)
        if self._conventions.last_output_only:
            named = {name: array for name, array in named.items() if array is not None}
        return {**named, **gradients}

    def _refuse(self, config: RNNConfig) -> None:
        """Raise ``NotImplementedError`` for what it declares not to do, or cannot know of from its arguments."""
        self._conventions.refuse(config)
        if self._conventions.last_output_only and config.loss is not None and len(config.form.final) > 1:
            raise NotImplementedError("gradients: a loss on h_n reads c_n, too, and it declares last_output_only")
        unmasked = config.drops and "masks" not in self.capabilities.offers  # it may draw masks of its own
        needed = {"cotangents": config.loss is not None, "lengths": config.lengths is not None, "masks": unmasked}
        for name, needs in needed.items():
            if needs and name not in self._takes:
                what = {"cotangents": "gradients", "lengths": "packed sequences", "masks": "dropout in training"}[name]
                raise NotImplementedError(f"no {what}: it does not take {name}")
        if any(getattr(config, name) not in (FACTORS[name].function or FACTORS[name].usual) for name in MODULE_FACTORS):
            raise NotImplementedError("autocast, grad modes and preparations of a module exist in torch only")

    def _given_masks(self, case: Case) -> list[Array]:
        masks = self.masks(case) or []
        if not case.config.batched:
            return [mask[:, 0] for mask in masks]
        return [mask.swapaxes(0, 1) if case.config.batch_first else mask for mask in masks]


class _NotingFunction:
    """A function that is given a config that notes what is read of it, while that is asked for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.read: set[str] | None = None
        self._function = function

    def __call__(self, **arguments: Any) -> Any:
        if self.read is not None and "config" in arguments:
            arguments["config"] = _noting_config(arguments["config"], self.read)
        return self._function(**arguments)


def _noting_config(config: RNNConfig, names: set[str]) -> RNNConfig:
    """Return an equal config that notes the name of each attribute that is read of it, by whatever way."""

    class ReadRecorder(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            names.add(name)
            return super().__getattribute__(name)

    ReadRecorder.__name__, ReadRecorder.__qualname__ = RNNConfig.__name__, RNNConfig.__qualname__
    before = frozenset(names)
    made: RNNConfig = ReadRecorder(**config.fields)
    names.intersection_update(before)  # without what its own making read
    return made


def _lent(case: Case) -> dict[str, Array]:
    """Return copies of the case's arrays, with the inputs and cotangents in the config's memory layout."""
    config = case.config
    return {
        name: array.copy() if name in config.weights else _laid_out(array, config, name)
        for name, array in case.arrays.items()
    }


def _laid_out(array: Array, config: RNNConfig, name: str) -> Array:
    """Return a copy in the memory layout of ``config.strides``."""
    if config.strides == "transposed":
        return array.T.copy().T
    if config.strides == "stepped":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if config.strides == "expanded" and array.size:
        constant = name in config.cotangents
        part = array.reshape(-1)[0].copy() if constant else array[0].copy()
        part = np.asarray(part)
        return as_strided(part, array.shape, (0,) * (array.ndim - part.ndim) + part.strides)
    return array.copy()


def _wanted(gradients: Mapping[str, Any], config: RNNConfig, ignored: list[str]) -> Mapping[str, Any]:
    """Return the gradients that the config asks for.

    If it asks for none of them and some of the names are unknown, return all, so that the comparison reports them.
    """
    if config.loss is None:
        return {}
    wanted = {name: gradient for name, gradient in gradients.items() if name in config.gradients}
    every = config.replace(wrt="all", hx=True, bias=True).gradients
    ignored += [name.removesuffix(".grad") for name in gradients if name not in every]
    return wanted if wanted or not ignored else gradients


def _not_returned(outcome: Outcome, config: RNNConfig) -> tuple[str, ...]:
    """Return the gradients that a function returns in no layer or direction, if it returns any gradients at all."""
    if config.loss is None or not (returned := {role_of(name) for name in outcome.arrays if name in config.gradients}):
        return ()
    return tuple(name for name in config.gradients if role_of(name) not in returned)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise SubjectUnavailable(f"{name}: its signature cannot be read ({error})\n{SIGNATURES}") from None


def _by_position(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """Return what a function is passed for its parameters that take no name: by their names, or the documented four.

    Those up to the last that has a name of nn.RNN's own are passed so, too, if all of them are known. So is x
    under any name, before the states.
    """
    leading = [p for p in _parameters(function, name) if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    own = max((i for i, p in enumerate(leading, 1) if p.name in LAYERS_NAMES), default=0)
    called = tuple(LAYERS_NAMES.get(p.name, p.name) for p in leading[:own])
    if (
        called
        and {*called} <= {*FUNCTION_ARGUMENTS}
        and len({*called, *(p.name for p in leading[own:])}) == len(leading)
    ):
        return called
    only = [p for p in leading if p.kind is p.POSITIONAL_ONLY]
    every = [LAYERS_NAMES.get(p.name, p.name) for p in leading]
    ahead = list(takewhile(lambda name: name not in {*FUNCTION_ARGUMENTS} - {*ARRAY_ARGUMENTS}, every))
    # Before the states, whose names are known, comes x; an unknown name behind x might be anything.
    states = 1 < len(ahead) < len(leading) and tuple(ahead[1:]) == ARRAY_ARGUMENTS[1 : len(ahead)]
    if states and not only and ahead[0] not in FUNCTION_ARGUMENTS:
        return ARRAY_ARGUMENTS[: len(ahead)]
    names = tuple(p.name for p in only)
    if set(names) <= set(FUNCTION_ARGUMENTS):
        return names
    required = tuple(p.name for p in only if p.default is p.empty)
    if len(required) == len(USUAL_ARGUMENTS) and all(
        argument == USUAL_ARGUMENTS[i] or argument not in FUNCTION_ARGUMENTS for i, argument in enumerate(required)
    ):
        return USUAL_ARGUMENTS
    usual = ", ".join(USUAL_ARGUMENTS)
    what = f"takes {', '.join(names)} by position only: expected {usual}, in this order, or these names"
    raise SubjectUnavailable(f"{name}{inspect.signature(function)}: {what}\n{SIGNATURES}")


def _called_by_name(function: Callable[..., Any], positional: Sequence[str]) -> Callable[..., Any]:
    if not positional:
        return function
    return lambda **values: function(*[values.pop(name) for name in positional], **values)


def _with_a_pair(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of two states, of one that takes them as nn.LSTM does: in one argument."""
    return lambda h0, c0, **rest: function(h0=(h0, c0), **rest)


def _taken(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    positional = _by_position(function, name)
    parameters = [p for p in _parameters(function, name)[len(positional) :] if p.kind is not p.POSITIONAL_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = {*positional, *(p.name for p in parameters)}
        return tuple(
            name for name in FUNCTION_ARGUMENTS if name not in OPENS or name in names
        )  # more has to be named explicitly
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    unknown = [p.name for p in parameters if p.name not in FUNCTION_ARGUMENTS and p.default is p.empty]
    taken = (*positional, *(p.name for p in named if p.name in FUNCTION_ARGUMENTS))
    if unknown or not taken:
        are = "is" if len(unknown) == 1 else "are"
        what = f"takes {', '.join(unknown)}, which {are} not passed" if unknown else "takes no argument that is passed"
        raise SubjectUnavailable(f"{name}{inspect.signature(function)}: {what}\n{SIGNATURES}")
    return taken
