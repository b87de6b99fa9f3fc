"""Searches of tests that go on after what they find, as the command's do."""

from collections.abc import Callable
from typing import Any

from harness.diagnosis.investigate import Investigation
from harness.search.hunt import Search
from harness.search.record import Finding, Hunt


def explained(
    investigation: Investigation, *scope: Any, heard: Callable[[Finding, Hunt], None] | None = None, **options: Any
) -> Hunt:
    """Search as ``hunt`` does, explain every finding, and go on; ``heard`` is told of each before it is explained."""
    with Search(investigation.subject, *scope, **options) as search:
        for finding in search:
            if heard is not None:
                heard(finding, search.record)
            search.go_on(investigation.recognise(finding, search.record))
    return search.record
