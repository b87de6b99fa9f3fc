"""signature: the arguments that a class of modules takes, in its constructor and in a call."""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, combinations, permutations, product
from typing import Any, Final

from harness.space.factor_table import OPTIONS
from harness.subjects.class_form import LAYERS, ClassForm
from harness.subjects.conventions import Conventions
from harness.subjects.protocol import SubjectUnavailable

# Other names under which constructors often take an option that shows in no parameter, as layers and directions do.
# Capitals and underscores do not count.
OTHER_NAMES: Final = {"dropout": ("drop_prob", "dropout_prob", "dropout_rate", "dropout_p", "p_dropout", "drop_rate")}

# Words in the names of arguments that say the size of an output layer.
OUTPUT: Final = {
    *("out", "output", "outputs", "class", "classes", "vocab", "category", "categories"),
    *("label", "labels", "target", "targets", "tag", "tags", "tagset"),
}

# The meanings that an argument of a constructor may have.
ARGUMENT_MEANINGS: Final = ("input_size", "hidden_size", "output", "num_layers", "nonlinearity")
# Those of an argument that is a list of sizes, with what these say.
LIST_MEANINGS: Final = {
    "hidden_sizes": {"hidden_size", "num_layers"},
    "layer_sizes": {"input_size", "hidden_size", "num_layers"},
}

# Words in the names of arguments that say how many steps, or sequences, all calls have.
STEP_WORDS: Final = {"seq", "sequence", "len", "length", "step", "steps", "time", "timesteps"}
BATCH: Final = {"batch", "batchsize"}
# Beside them, words that say the size of something else.
OF_FEATURES: Final = {"in", "input", "hidden", "embed", "embedding", "emb", "feature", "features", "state", *OUTPUT}

# The names of states, as arguments and as attributes.
STATE_WORDS: Final = {
    "h",
    "h0",
    "hx",
    "hidden",
    "state",
    "states",
    "hc",
    "init",
    "initial",
    "s",
    "s0",
    "a",
    "a0",
    "prev",
}
STATES_OF_C: Final = {"c", "c0", "cx", "cell"}

_FUNCTION: Final = re.compile("(?i)activ|nonlin|squash")  # in the names of arguments that are the nonlinearity
_LIST: Final = re.compile("(?i)(sizes|dims|units|layers|hiddens|nodes|widths|neurons|channels)$")
_WORD: Final = re.compile(r"[A-Z]?[a-z]+")
# The end of a word in the names of arguments that are the lengths of sequences, or say where the padding is.
OF_STEPS: Final = re.compile("(?i:len|lens|lengths?|masks?)(?![a-z])")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def constructor(factory: Any) -> tuple[ClassForm, tuple[str, ...]] | None:
    """Return the form of a class as far as its constructor tells it, and the arguments that say nothing.

    The sizes are those of nn.RNN's names, or the first two arguments that are neither an option of nn.RNN's nor the
    size of an output layer. An argument ``nonlinearity`` whose default is a function is no option. The result is
    ``None`` if there is no signature.
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return None
    if len(parameters) < 2 and any(arg.kind is arg.VAR_POSITIONAL for arg in parameters) and _is_of_torch(factory):
        return None
    options = (*OPTIONS, "device", "dtype")
    accepted = {_plain(name) for name in (*options, *chain(*OTHER_NAMES.values()))}
    named = [arg for arg in parameters if arg.kind not in {arg.VAR_POSITIONAL, arg.VAR_KEYWORD}]
    named = [
        arg for arg in named if arg.name != "nonlinearity" or not callable(arg.default) or arg.default is arg.empty
    ]
    own = [arg for arg in named if _plain(arg.name) not in accepted]
    of_calls = {arg.name: size for arg in own if arg.default is arg.empty and (size := _of_calls(arg.name))}
    outputs = [arg for arg in own if _is_output(arg) and arg.name not in of_calls]
    sizes = [arg for arg in own if arg not in outputs and arg.name not in of_calls]
    by_their_names = [arg for arg in sizes if arg.name in ("input_size", "hidden_size")]
    sizes = by_their_names if len(by_their_names) == 2 else sizes[:2]
    if len(sizes) == 2 and "hidden" in sizes[0].name and "hidden" not in sizes[1].name:
        sizes.reverse()
    while len(sizes) < 2 and outputs:  # one argument may be the size of both the input and the output
        sizes.insert(0, outputs.pop(0))
    unknown = tuple(arg.name for arg in own if arg.default is arg.empty and arg not in [*sizes, *outputs])
    unknown = tuple(name for name in unknown if name not in of_calls)
    meant = {arg.name: "output" for arg in outputs} | of_calls
    meant |= dict(zip((arg.name for arg in sizes), ("input_size", "hidden_size"), strict=False))
    first: list[str] = []
    for arg in parameters:
        if arg.name not in meant or arg.kind is arg.KEYWORD_ONLY:
            break
        first.append(meant.pop(arg.name))
    names = {_plain(arg.name): arg.name for arg in named}
    anything = any(arg.kind is arg.VAR_KEYWORD for arg in parameters)
    if anything and not own and not any(arg.kind is arg.VAR_POSITIONAL for arg in parameters):
        meant = {"input_size": "input_size", "hidden_size": "hidden_size"}
    called = {
        option: next((names[own] for own in map(_plain, (option, *OTHER_NAMES.get(option, ()))) if own in names), "")
        for option in options
    }
    takes = {option: own or option for option, own in called.items() if own or anything}
    return ClassForm(takes, {}, 0, LAYERS, Conventions(), {}, sizes=tuple(first), by_name=meant), unknown


def trials(factory: Any, form: ClassForm) -> Iterator[ClassForm]:
    """Yield forms with other meanings of a constructor's own arguments, those with the fewest defaults replaced first.

    Each argument that is no option of nn.RNN's may be a size, the number of layers or the nonlinearity. One that has a
    whole number for a default may stay as it is.
    """
    if any(arg.kind is arg.VAR_POSITIONAL for arg in inspect.signature(factory).parameters.values()):
        takes = {**form.takes, "num_layers": form.takes.get("num_layers", "")}
        yield replace(form, sizes=("*layer_sizes",), by_name={}, takes=takes)
    required = spare(factory, form, None)
    of_calls = {name: size for name in required if (size := _of_calls(name))}
    needed = [name for name in required if name not in of_calls]
    numbers = spare(factory, form, int)
    last = list[tuple[int, ClassForm]]()
    for used in chain.from_iterable(combinations(numbers, k) for k in range(len(ARGUMENT_MEANINGS) - len(needed) + 1)):
        for meant in _meant((*needed, *used)):
            options = {meaning: name for name, meaning in meant.items() if meaning in OPTIONS}
            options |= dict.fromkeys(["num_layers"] * (not LIST_MEANINGS.keys().isdisjoint(meant.values())), "")
            sizes = {name: meaning for name, meaning in meant.items() if meaning not in OPTIONS}
            candidate = replace(form, sizes=(), by_name=of_calls | sizes, takes={**form.takes, **options})
            # With a number for its nonlinearity, a layer may take the one that it takes for any other name.
            odd = sum(bool(_FUNCTION.search(name)) and meaning != "nonlinearity" for name, meaning in meant.items())
            if odd:
                last.append((odd, candidate))
            else:
                yield candidate
    yield from (candidate for _, candidate in sorted(last, key=lambda pair: pair[0]))


def _meant(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield what arguments may mean that say both sizes: each one thing, and those that have the names of lists."""
    lists = [name for name in names if _LIST.search(name)]
    for kinds in product(("", *LIST_MEANINGS), repeat=len(lists)):
        of_lists = {name: kind for name, kind in zip(lists, kinds, strict=True) if kind}
        covered = set[str]().union(*(LIST_MEANINGS[kind] for kind in of_lists.values()))
        rest = [name for name in names if name not in of_lists]
        for meanings in permutations([meaning for meaning in ARGUMENT_MEANINGS if meaning not in covered], len(rest)):
            if {"input_size", "hidden_size"} <= {*meanings} | covered:
                yield of_lists | dict(zip(rest, meanings, strict=True))


def spare(factory: Any, form: ClassForm, kind: type | None) -> list[str]:
    """Return the names of a constructor's arguments that are no option, with a default of a kind, or without one."""
    named = [arg for arg in inspect.signature(factory).parameters.values() if arg.name not in form.takes.values()]
    named = [arg for arg in named if arg.kind in {arg.POSITIONAL_OR_KEYWORD, arg.KEYWORD_ONLY}]
    return [arg.name for arg in named if (None if arg.default is arg.empty else type(arg.default)) is kind]


def _is_of_torch(factory: Any) -> bool:
    """Tell whether a class is one of torch's layers, whose arguments it may pass on."""
    return hasattr(factory, "flatten_parameters")


def _of_calls(name: str) -> str:
    """Return whether an argument's name says how many steps, or sequences, all calls have: ``T`` or ``N``."""
    words = {word.lower() for word in _WORD.findall(name)}
    if words & OF_FEATURES:
        return ""
    return "N" if words & BATCH else "T" if words & STEP_WORDS or name == "T" else ""


def _is_output(arg: inspect.Parameter) -> bool:
    words = {word.lower() for word in _WORD.findall(arg.name)}
    return bool(words & OUTPUT) and (arg.default is arg.empty or type(arg.default) is int)


def states_taken(call: Callable[..., Any], name: str, states: int = 1) -> tuple[bool, ...]:
    """Return ``False`` if ``forward`` can be called with x alone, ``True`` if it can be called with a state as well.

    Several states may be one argument, or one each. Raise ``SubjectUnavailable`` if it needs something else.
    """
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return False, True
    taken = []
    for number in dict.fromkeys((0, 1, states)):
        with suppress(TypeError):
            bound = signature.bind("module", "x", *["state"] * number)
            named = list(bound.arguments)[2:]
            if all(_may_be_state(signature.parameters[own]) for own in named) and bool(number) not in taken:
                taken.append(bool(number))
    if not taken:
        raise SubjectUnavailable(
            f"{name}: forward{signature} needs something that calls show to be neither x, nor a state, nor lengths, "
            "nor a mask\nexpected forward(x), or forward(x, hx), and lengths (N,) or a mask beside these; any "
            "other argument needs a default, and in an adapter's call any but x and the states"
        )
    return tuple(taken)


def states_by_name(call: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the states among the arguments of a call after x, h first, if they must be given by name.

    They must if they are keyword-only, or behind others that may be left out and can be no states.
    """
    try:
        _, others = _parted(call)
    except (TypeError, ValueError):
        return ()
    may_be = [arg for arg in others if _may_be_state(arg) and arg.default is not arg.empty]
    named = [arg.name for names in (STATE_WORDS, STATES_OF_C) for arg in may_be if arg.name.lower() in names]
    by_place = others[:1] == may_be[:1] and all(arg.kind is not arg.KEYWORD_ONLY for arg in may_be[:1])
    return () if by_place or len(named) < len(may_be) else tuple(named)


def may_be_states(call: Callable[..., Any], states: int) -> Iterator[tuple[str, ...]]:
    """Yield the names of arguments of a call after x that may be left out and may be its states: one, or so many."""
    with suppress(TypeError, ValueError):
        _, others = _parted(call)
        names = [arg.name for arg in others if _may_be_state(arg) and arg.default is not arg.empty]
        for number in sorted({1, states}):
            yield from permutations(names, number)


def needed(call: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a call after x that have no default, and no name of a state."""
    try:
        _, others = _parted(call)
    except (TypeError, ValueError):
        return []
    by_name = [arg.name for arg in others if arg.default is arg.empty and arg.kind is not arg.POSITIONAL_ONLY]
    return [name for name in by_name if name.lower() not in STATE_WORDS | STATES_OF_C]


def as_optional(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return what has the signature of a call, of which an argument, no state, and those behind it may be left out."""
    signature = inspect.signature(call)
    parameters = [*signature.parameters.values()]
    place = [arg.name for arg in parameters].index(name)
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    behind = [
        arg.replace(default=False if arg.name == name else None)
        if arg.default is arg.empty and arg.kind not in several
        else arg
        for arg in parameters[place:]
    ]

    def of_signature(*_: Any, **__: Any) -> None: ...

    of_signature.__signature__ = signature.replace(parameters=[*parameters[:place], *behind])  # type: ignore[attr-defined]
    return of_signature


def never_given(call: Callable[..., Any], by_place: int, by_name: Collection[str]) -> tuple[str, ...]:
    """Return the names of the arguments of a call after x, and after so many states, that are not given by name."""
    try:
        _, others = _parted(call)
    except (TypeError, ValueError):
        return ()
    return tuple(arg.name for arg in others[0 if by_name else by_place :] if arg.name not in by_name)


def by_state_names(call: Callable[..., Any], names: Sequence[str], x: Any, /, *states: Any, **named: Any) -> Any:
    """Call with the first states by their names. Raise ``TypeError`` if there are more."""
    if len(states) > len(names):
        raise TypeError("more states than it takes")
    return call(x, **dict(zip(names, states, strict=False)), **named)


def _parted(call: Callable[..., Any]) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """Return the parameters of a method up to x, and those after it."""
    every = [
        arg
        for arg in inspect.signature(call).parameters.values()
        if arg.kind not in {arg.VAR_POSITIONAL, arg.VAR_KEYWORD}
    ]
    return every[:2], every[2:]


def _may_be_state(arg: inspect.Parameter) -> bool:
    """Tell whether an argument may be a state: neither its name nor the type of its default says something else."""
    return not OF_STEPS.search(arg.name) and not isinstance(arg.default, int | float | str)
