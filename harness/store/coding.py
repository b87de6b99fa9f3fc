"""Turn the objects that reports are made of into plain data, and back, by their types."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any, Final, TypeVar, get_origin, get_type_hints

import cattrs
import numpy as np
from cattrs.cols import is_namedtuple
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter, make_converter

from harness.checks.accuracy import Accuracy
from harness.checks.known_failures import BOUNDS, Bound
from harness.diagnosis.faults import Fault
from harness.diagnosis.investigate import Explanation
from harness.diagnosis.where import Where
from harness.oracle.compare import Site
from harness.search.log import Log
from harness.search.record import Finding, Hunt
from harness.space.case import Case
from harness.space.case_json import from_json, to_json
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.scope import Scope

_T = TypeVar("_T")

_FROM_CASES: Final = (
    *("coverage", "beside", "laws", "checks", "margins", "weak", "not_compared", "ignored", "unsupported"),
    *("suspicions", "known", "spared", "failing", "findings"),
)
"""The fields of a record that follow from its cases, which are counted again."""

_LEFT_OUT: Final[dict[type, tuple[str, ...]]] = {
    Site: ("equation",),
    Where: ("observation",),
    Explanation: ("outcome",),
    Accuracy: ("alone",),
    Hunt: (*_FROM_CASES, "shard", "missing", "until", "limit", "shrinking", "smallest", "explaining", "helpers"),
    Log: tuple(one.name for one in fields(Log) if one.name.startswith("_")),
}
"""Fields that follow from others, or that only serve to find out more from the subject or to report a single run."""


def encoded(given: Any, kind: Any) -> Any:
    """Return an object of a type as plain data. The faults of an explanation must be ``named``."""
    return _converter().unstructure(given, unstructure_as=kind)


def decoded(data: Any, kind: type[_T], reported: Callable[[_T], object] = lambda _: None) -> _T:
    """Return the object of a type that ``encoded`` wrote. Raise ``UsageError``, in one line, for anything else.

    ``reported`` reports the object, and so finds out what its types do not say.
    """
    try:
        made = _converter().structure(data, kind)
        reported(made)
    except cattrs.BaseValidationError as error:
        said = cattrs.transform_error(error)[0]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
    else:
        return made
    said = " ".join(said.split())
    raise UsageError(said if len(said) <= 200 else f"{said[:199]}…")


@dataclass(frozen=True, eq=False, kw_only=True)
class Named(Fault):
    """A fault as reports name it on one config, without the code that makes the mistake."""

    parameters: tuple[str, ...]

    def lines(self, config: RNNConfig) -> tuple[str, str] | None:  # noqa: ARG002 - they were filled in for its config
        """Return the lines."""
        return self.code

    def concerned(self, config: RNNConfig) -> list[str]:  # noqa: ARG002 - likewise
        """Return the parameters."""
        return list(self.parameters)


def named(explanation: Explanation, finding: Finding) -> Explanation:
    """Return a finding's explanation with faults that are only named."""
    diagnosis, config = explanation.diagnosis, finding.case.config
    if diagnosis is None:
        return explanation
    causes, beside, elsewhere = (
        tuple(_named(fault, config) for fault in group)
        for group in (diagnosis.causes, diagnosis.beside, diagnosis.elsewhere)
    )
    return replace(explanation, diagnosis=replace(diagnosis, causes=causes, beside=beside, elsewhere=elsewhere))


def _named(fault: Fault, config: RNNConfig) -> Named:
    parameters = tuple(fault.concerned(config))
    return Named(fault.name, fault.sentence, {}, family=fault.family, code=fault.lines(config), parameters=parameters)


@cache
def _converter() -> JsonConverter:
    """Return the converter of all types."""
    made = make_converter(forbid_extra_keys=True)

    def plain(kind: Any, there: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
        made.register_unstructure_hook(kind, there)
        made.register_structure_hook(kind, lambda data, _: back(data))

    plain(int, int, int)
    plain(bool, bool, _bool)
    plain(float, _float, float)
    plain(Case, lambda one: json.loads(to_json(one)), lambda data: from_json(json.dumps(data))[0])
    plain(RNNConfig, RNNConfig.to_dict, RNNConfig.from_dict)
    plain(Scope, Scope.record, Scope.of_record)
    made.register_unstructure_hook_func(_is_condition, _condition)
    made.register_structure_hook_func(_is_condition, lambda data, _: _condition_of(data))
    plain(Fault, _fault, _fault_of)
    made.register_unstructure_hook_factory(is_namedtuple, lambda kind: partial(_in_order, made, kind))
    made.register_structure_hook_factory(is_namedtuple, lambda kind: partial(_from_order, made, kind))
    made.register_unstructure_hook_func(_is_array, lambda one: [one.shape, made.unstructure(one.ravel().tolist())])
    made.register_structure_hook_func(_is_array, lambda data, _: np.array(data[1], float).reshape(data[0]))
    for kind, names in _LEFT_OUT.items():
        without = {name: override(omit=True) for name in names}
        made.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, made, **without))  # type: ignore[arg-type]
        made.register_structure_hook(kind, make_dict_structure_fn(kind, made, **without))  # type: ignore[arg-type]
    return made


def _in_order(made: JsonConverter, kind: Any, one: Any) -> list[Any]:
    """Return the fields of a named tuple; cattrs does not know the types of one in a module with lazy annotations."""
    kinds = get_type_hints(kind).values()
    return [made.unstructure(part, unstructure_as=its) for part, its in zip(one, kinds, strict=True)]


def _from_order(made: JsonConverter, kind: Any, data: Any, _: Any) -> Any:
    kinds = get_type_hints(kind).values()
    return kind(*(made.structure(part, its) for part, its in zip(data, kinds, strict=True)))


def _bool(data: Any) -> bool:
    if not isinstance(data, bool):
        raise TypeError(f"{data!r}: expected true or false")
    return data


def _float(one: float) -> float | str:
    """Return a number as JSON has it: one that is not finite is text."""
    return float(one) if math.isfinite(one) else str(float(one))


def _is_array(kind: Any) -> bool:
    return kind is np.ndarray or get_origin(kind) is np.ndarray


def _is_condition(kind: Any) -> bool:
    return bool(kind == Container[Any])


def _condition(one: Any) -> dict[str, Any] | list[Any]:
    """Return the values of a factor that a known failure names, or the bound on a size, as plain data."""
    return [one.comparison, one.number] if isinstance(one, Bound) else {"values": list(one)}


def _condition_of(data: Any) -> Container[Any]:
    if isinstance(data, dict):
        return tuple(data["values"])
    comparison, number = data
    if comparison not in BOUNDS:
        raise ValueError(f"{comparison!r}: expected one of {', '.join(BOUNDS)}")
    return Bound(comparison, int(number))


def _fault(one: Named) -> dict[str, Any]:
    return {"name": one.name, "says": one.says, "family": one.family, "code": one.code, "parameters": one.parameters}


def _fault_of(data: Any) -> Named:
    code, parameters = data["code"], tuple(map(str, data["parameters"]))
    if code is not None:
        yours, right = map(str, code)
        code = yours, right
    return Named(str(data["name"]), str(data["says"]), {}, family=str(data["family"]), code=code, parameters=parameters)
