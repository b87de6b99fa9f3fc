"""A search of a test, which goes on after what it finds, and what is told of each finding."""

from typing import Any

from harness import Scope, as_subject, scope_of
from harness.diagnosis.failure_conditions import FailureConditions
from harness.diagnosis.finding_explainer import FindingExplainer
from tests.searches import explained


class Searched:
    """A search of a subject's scope, of which some factors may be pinned.

    Of each finding there is the explanation, its cause or ``None``, the cause's sentence or "", and its conditions.
    """

    def __init__(self, subject: Any, scope: Scope | dict[str, Any] | None = None, **options: Any) -> None:
        self.investigation = FindingExplainer(as_subject(subject))
        if isinstance(scope, dict):
            scope = scope_of(self.investigation.subject).only(**scope)
        self.record = explained(self.investigation, scope, **options)
        self.findings = self.record.findings
        self.explanations = [self.investigation.explanations[finding.id] for finding in self.findings]
        self.causes: list[Any] = [one.diagnosis and one.diagnosis.cause for one in self.explanations]
        self.sentences = [cause.sentence if cause else "" for cause in self.causes]
        self.conditions = [one.factors or FailureConditions() for one in self.explanations]
