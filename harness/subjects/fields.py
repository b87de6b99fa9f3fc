"""fields: a class whose constructor takes one object or dict, as a class that takes what is in it by name."""

import inspect
from contextlib import suppress
from keyword import iskeyword
from typing import Any, Final

_NOTHING: Final = inspect.Parameter.empty


class Fields(dict[str, Any]):
    """A dict whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # which a library asks every object for
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class _Noted(Fields):
    """Fields that note what is asked of them, and answer 1 where there is no default."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["defaults"] = {}

    def __missing__(self, name: str) -> Any:
        return self.get(name, _NOTHING)

    def get(self, name: str, default: Any = None) -> Any:
        self.__dict__["defaults"].setdefault(name, default)
        return 1 if default is _NOTHING else default


def by_fields(factory: Any) -> Any:
    """Return a subclass that takes by name what the constructor reads of its one argument; ``None`` if that is none."""
    try:
        needed = [one for one in inspect.signature(factory).parameters.values() if one.default is one.empty]
    except (TypeError, ValueError):
        return None
    if len(needed) != 1 or needed[0].kind is not needed[0].POSITIONAL_OR_KEYWORD:
        return None
    noted = _Noted()
    with suppress(Exception):  # a field may not be the number that it was given
        factory(noted)
    defaults: dict[str, Any] = noted.__dict__["defaults"]
    own = {f"{name}_" if iskeyword(name) else name: name for name in defaults}
    if not own or not all(name.isidentifier() for name in own):
        return None

    class ByFields(factory):  # type: ignore[misc]
        in_numpy, axes = False, "TNI"

        def __init__(self, **named: Any) -> None:
            fields = {name: one for name, one in defaults.items() if one is not _NOTHING}
            super().__init__(Fields(fields | {own[name]: one for name, one in named.items()}))

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, default=defaults[of]) for name, of in own.items()]
    ByFields.__signature__ = inspect.Signature(parameters)
    ByFields.__name__, ByFields.__qualname__ = factory.__name__, factory.__qualname__
    return ByFields
