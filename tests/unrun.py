"""Scripts of findings that nobody runs: for tests that claim other things, and need not wait for torch's import."""

import pytest

from harness.search.case_replay import ReplayOutcome
from harness.store.scripts import ScriptRun


def let_scripts_fail_unrun(patch: pytest.MonkeyPatch) -> None:
    """Take it that every script of a finding was run and failed, as it should."""
    patch.setattr("harness.store.scripts.run_alone", lambda *_: ScriptRun(ReplayOutcome.FAILED, "FAILED"))
