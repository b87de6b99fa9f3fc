"""Searches of tests that go on after what they find, as the command's do."""

from collections.abc import Callable
from typing import Any

from harness.diagnosis.finding_explainer import FindingExplainer
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.search.search_record import Finding, SearchRecord
from harness.space.scope import Scope


def explained(
    investigation: FindingExplainer,
    scope: Scope | None = None,
    *,
    heard: Callable[[Finding, SearchRecord], None] | None = None,
    **options: Any,
) -> SearchRecord:
    """Search as ``hunt`` does, explain every finding, and go on; ``heard`` is told of each before it is explained."""
    with Search(investigation.subject, scope, SearchOptions(**options)) as search:
        for finding in search.findings():
            if heard is not None:
                heard(finding, search.record)
            search.pass_over(investigation.recognise(finding, search.record))
    return search.record
