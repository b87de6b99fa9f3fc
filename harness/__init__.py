"""rnn-harness: property-based differential testing of recurrent layers against an independent NumPy nn.RNN."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.assertions import (
        Disagreement as Disagreement,
        assert_agrees as assert_agrees,
        assert_agrees_on as assert_agrees_on,
        offered as offered,
    )
    from harness.checks.agreement import check_agreement as check_agreement
    from harness.checks.result import Result as Result, Verdict as Verdict
    from harness.oracle.reference import Reference as Reference
    from harness.pipeline import check as check
    from harness.report.check_report import CheckReport as CheckReport
    from harness.report.given_arrays_report import ExplainReport as ExplainReport, explain as explain
    from harness.search.search import hunt as hunt
    from harness.space.case import Case as Case, sparse as sparse
    from harness.space.cells import Cell as Cell
    from harness.space.config import GRUConfig as GRUConfig, LSTMConfig as LSTMConfig, RNNConfig as RNNConfig
    from harness.space.outcome import Failure as Failure, Outcome as Outcome
    from harness.space.scope import Scope as Scope
    from harness.space.strata import Stratum as Stratum, strata as strata
    from harness.space.strategies import cases as cases, configs as configs
    from harness.space.values import draw as draw
    from harness.subjects.adapter import adapt as adapt
    from harness.subjects.capabilities import Capabilities as Capabilities
    from harness.subjects.conventions import conventions as conventions
    from harness.subjects.protocol import Subject as Subject, Unsupported as Unsupported, scope_of as scope_of
    from harness.subjects.registry import as_subject as as_subject

__version__ = "0.1.0"

_HOMES = {
    "ExplainReport": "report.given_arrays_report",
    "Capabilities": "subjects.capabilities",
    "Case": "space.case",
    "Cell": "space.cells",
    "CheckReport": "report.check_report",
    "Disagreement": "assertions",
    "Failure": "space.outcome",
    "GRUConfig": "space.config",
    "LSTMConfig": "space.config",
    "Outcome": "space.outcome",
    "RNNConfig": "space.config",
    "Reference": "oracle.reference",
    "Result": "checks.result",
    "Scope": "space.scope",
    "Stratum": "space.strata",
    "Subject": "subjects.protocol",
    "Unsupported": "subjects.protocol",
    "Verdict": "checks.result",
    "adapt": "subjects.adapter",
    "as_subject": "subjects.registry",
    "assert_agrees": "assertions",
    "assert_agrees_on": "assertions",
    "cases": "space.strategies",
    "check": "pipeline",
    "check_agreement": "checks.agreement",
    "configs": "space.strategies",
    "conventions": "subjects.conventions",
    "draw": "space.values",
    "explain": "report.given_arrays_report",
    "hunt": "search.search",
    "offered": "assertions",
    "scope_of": "subjects.protocol",
    "sparse": "space.case",
    "strata": "space.strata",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are the keys above


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, because the command's --help needs neither NumPy nor Hypothesis."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(f"harness.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
