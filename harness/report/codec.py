"""codec: turn what a report holds into plain data, and back, by the types of its fields."""

import json
import math
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import cattrs
from cattrs.cols import is_namedtuple
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter, make_converter

from harness.checks.activation_accuracy import Accuracy
from harness.checks.known_failures import KnownFailure
from harness.checks.result import ComparisonMethod
from harness.oracle.compare import Site
from harness.report.finding_files import FindingFiles
from harness.report.reported_finding import ReportedFinding
from harness.search.log import Log, LoggedOutcome
from harness.search.plan_shards import Shard
from harness.search.search_record import SearchRecord, Stop
from harness.space.case import Case
from harness.space.case_json import from_json, to_json
from harness.space.config import RNNConfig
from harness.space.errors import UsageError
from harness.space.scope import Scope

_T = TypeVar("_T")

LONGEST_ERROR: Final = 200  # characters of an error

# The fields of a record from which all others follow: the log has the cases, and findings stand beside it.
_SEARCH: Final = (
    *(
        "subject",
        "seed",
        "scope",
        "environment",
        "refused",
        "slow",
        "unsupported_unrefused",
        "accepted",
        "accuracy",
        "own",
    ),
    *("seconds", "shard", "missing", "unfinished", "unrepeated", "stop", "log"),
)

# Fields that follow from others, or that only serve to find out more from the subject; a type after those in it.
_LEFT_OUT: Final[dict[type, tuple[str, ...]]] = {
    Site: ("equation",),
    FindingFiles: ("own",),  # which says nothing where the report is read
    Accuracy: ("alone",),
    KnownFailure: ("where",),
    Log: tuple(field.name for field in fields(Log) if field.name.startswith("_")),
    ReportedFinding: ("also",),
    SearchRecord: tuple(field.name for field in fields(SearchRecord) if field.name not in _SEARCH),
}


def encode(value: Any, kind: Any) -> Any:
    """Return an object of a type as plain data."""
    return _converter().unstructure(value, unstructure_as=kind)


def decode(data: Any, kind: type[_T]) -> _T:
    """Return the object of a type that ``encode`` wrote. Raise ``UsageError``, in one line, for anything else."""
    try:
        return _converter().structure(data, kind)
    except cattrs.BaseValidationError as error:
        text = cattrs.transform_error(error)[0]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    raise UsageError(text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 1]}…")


@cache
def _converter() -> JsonConverter:
    made = make_converter(omit_if_default=True)

    def plain(kind: Any, there: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
        made.register_unstructure_hook(kind, there)
        made.register_structure_hook(kind, lambda data, _: back(data))

    plain(int, int, int)
    plain(bool, bool, _bool)
    plain(float, _float, float)
    plain(Case, lambda case: json.loads(to_json(case)), lambda data: from_json(json.dumps(data))[0])
    plain(RNNConfig, RNNConfig.to_dict, RNNConfig.from_dict)
    plain(Scope, Scope.record, Scope.of_record)
    plain(ComparisonMethod, lambda method: method.name.lower(), lambda data: ComparisonMethod[data.upper()])
    made.register_unstructure_hook_factory(is_namedtuple, lambda kind: partial(_in_order, made, kind))
    made.register_structure_hook_factory(is_namedtuple, lambda kind: partial(_from_order, made, kind))
    plain(LoggedOutcome, str, LoggedOutcome.of_text)
    plain(Shard, str, Shard.of_text)
    plain(Stop, lambda stop: stop.name.lower(), lambda data: Stop[data.upper()])
    plain(Path, str, Path)
    for kind, names in _LEFT_OUT.items():
        without = {name: override(omit=True) for name in names}
        omits = kind not in {SearchRecord, Log, ReportedFinding}  # what readers look for is there, also if it is usual
        made.register_unstructure_hook(
            kind,
            make_dict_unstructure_fn(kind, made, _cattrs_omit_if_default=omits, **without),  # type: ignore[arg-type]
        )
        made.register_structure_hook(kind, make_dict_structure_fn(kind, made, **without))  # type: ignore[arg-type]
    return made


def _in_order(made: JsonConverter, kind: Any, value: Any) -> list[Any]:
    """Return the fields of a named tuple; cattrs does not know the types of one in a module with lazy annotations."""
    kinds = get_type_hints(kind).values()
    return [made.unstructure(part, unstructure_as=its) for part, its in zip(value, kinds, strict=True)]


def _from_order(made: JsonConverter, kind: Any, data: Any, _: Any) -> Any:
    kinds = get_type_hints(kind).values()
    return kind(*(made.structure(part, its) for part, its in zip(data, kinds, strict=True)))


def _bool(data: Any) -> bool:
    if not isinstance(data, bool):
        raise TypeError(f"{data!r}: expected true or false")
    return data


def _float(number: float) -> float | str:
    """Return a number as JSON has it: one that is not finite is text."""
    return float(number) if math.isfinite(number) else str(float(number))
