"""config_object: a class whose constructor takes one object or dict, as a class that takes what is in it by name."""

import inspect
from collections.abc import Collection, Mapping
from contextlib import suppress
from keyword import iskeyword
from typing import Any, Final, get_type_hints

_NOTHING: Final = inspect.Parameter.empty
ANSWERS: Final = (1, "tanh", [1])  # that a field may have: a size, the name of a nonlinearity, a list of sizes


class UnknownFieldError(AttributeError, NotImplementedError):
    """Raised by a stand-in for a user's object, whose other fields are unknown: that is no mistake of the user's."""

    def __str__(self) -> str:
        """Say which field it is."""
        return f"its one argument has a field {self.args[0]!r}, of which nothing is known"


class Fields(dict[str, Any]):
    """A dict whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # which a library asks every object for
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise UnknownFieldError(name) from None


class _RecordingFields(Fields):
    """Fields that note what is asked of them, and answer 1, or as they are told, where there is no default."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__()
        self.__dict__.update(defaults={}, answers=answers)

    def __missing__(self, name: str) -> Any:
        return self.get(name, _NOTHING)

    def get(self, name: str, default: Any = None) -> Any:
        self.__dict__["defaults"].setdefault(name, default)
        return self.__dict__["answers"].get(name, ANSWERS[0]) if default is _NOTHING else default


def _fields_of(factory: Any) -> dict[str, Any]:
    """Return the fields that a constructor asks for, with their defaults. One may need another answer than a number."""
    answers: dict[str, Any] = {}
    while True:
        noted, failed = _RecordingFields(answers), True
        with suppress(Exception):
            factory(noted)
            failed = False
        defaults: dict[str, Any] = noted.__dict__["defaults"]
        last = next((name for name in reversed(defaults) if defaults[name] is _NOTHING), "")
        place = ANSWERS.index(answers.get(last, ANSWERS[0]))
        if not failed or not last or place + 1 == len(ANSWERS):
            return defaults
        answers[last] = ANSWERS[place + 1]


def _class_of(factory: Any, argument: str, fields: Collection[str]) -> Any:
    """Return the user's own class that an argument of a constructor is annotated with, if that can be built.

    All fields without a default must be asked for by the constructor: nothing is known of others.
    """
    with suppress(Exception):  # an annotation may be of anything
        kind = get_type_hints(factory.__init__)[argument]
        declared = inspect.signature(kind).parameters
        needed = [name for name, arg in declared.items() if arg.default is _NOTHING]
        if inspect.isclass(kind) and kind.__module__ != "builtins" and {*needed} <= {*fields} and declared:
            factory(kind(**dict.fromkeys(needed, ANSWERS[0])))
            return kind
    return None


def by_fields(factory: Any) -> Any:
    """Return a subclass that takes by name what the constructor reads of its one argument; ``None`` if that is none."""
    try:
        needed = [arg for arg in inspect.signature(factory).parameters.values() if arg.default is arg.empty]
    except (TypeError, ValueError):
        return None
    if len(needed) != 1 or needed[0].kind is not needed[0].POSITIONAL_OR_KEYWORD:
        return None
    defaults = _fields_of(factory)
    kind = _class_of(factory, needed[0].name, defaults)
    if kind is not None:
        defaults = {name: arg.default for name, arg in inspect.signature(kind).parameters.items()}
    own = {f"{name}_" if iskeyword(name) else name: name for name in defaults}
    if not own or not all(name.isidentifier() for name in own):
        return None

    class KeywordConstructor(factory):  # type: ignore[misc]
        in_numpy, axes = False, "TNI"  # the usual ones
        packed = kind

        def __init__(self, **named: Any) -> None:
            fields = {name: value for name, value in defaults.items() if value is not _NOTHING}
            fields |= {own[name]: value for name, value in named.items()}
            super().__init__((kind or Fields)(**fields))

    by_name = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, by_name, default=defaults[field]) for name, field in own.items()]
    KeywordConstructor.__signature__ = inspect.Signature(parameters)
    KeywordConstructor.__name__, KeywordConstructor.__qualname__ = factory.__name__, factory.__qualname__
    return KeywordConstructor
