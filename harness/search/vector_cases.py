"""vector_cases: the cases that are written as files, for where nothing can be called."""

from collections.abc import Mapping
from typing import Any

from harness.search.covering import covering
from harness.search.plan import CoveringChunk, small
from harness.search.scope_and_workers import asked_scope
from harness.space.case import Case
from harness.space.conformance_profile import PORT
from harness.subjects.conventions import Conventions
from harness.subjects.function import FunctionSubject


def cases_of(pinned: Mapping[str, Any], seed: int, layer: str = "rnn") -> list[Case]:
    """Return cases of all pairs of factors that a function of a layer is asked for, the smallest first.

    A factor that is pinned may have values beyond that, such as ``loss``. Raises ``UsageError`` for pins that make no
    case.
    """
    usual: dict[str, Any] = {"preparation": "new"} | ({} if "dropout" in pinned else {"training": False})
    conventions = Conventions(cell=layer.upper())
    function = FunctionSubject(_of_two if layer == "lstm" else _none, "a function", conventions=conventions)
    scope = asked_scope(function, (), {**usual, **pinned}, PORT)
    configs = [*next(small(scope), []), *covering(scope, 2)]
    in_order = tuple(sorted(dict.fromkeys(configs), key=lambda config: (config.cost, config.given["x"].size)))
    return [planned.case() for planned in CoveringChunk(seed, 0.0, 0, in_order, scope).planned()]


def _none(x: Any, h0: Any, weights: Any, config: Any) -> None:
    """Stand for a function; only its arguments count."""


def _of_two(x: Any, h0: Any, c0: Any, weights: Any, config: Any) -> None:
    """Stand for a function with two states."""
