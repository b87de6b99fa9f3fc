"""The harness inside pytest: profiles for Hypothesis, and the cause of a disagreement at the start of its message.

This module has hooks only. They import what they need themselves, because every pytest run loads the plugin if it is
installed.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from harness.processes import one_thread_a_process

if TYPE_CHECKING:
    from harness.assertions import Disagreement
    from harness.diagnosis.finding_explainer import Diagnosis
    from harness.report.finding_files import FindingFiles
    from harness.report.reported_finding import ReportedFinding
    from harness.search.search_record import Finding

# The Hypothesis examples of a test: Hypothesis's own default, twice that, and what takes a minute or so.
EXAMPLES_OF_PROFILES: Final = {"dev": 100, "ci": 200, "nightly": 5_000}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options, all under --rnn-."""
    group = parser.getgroup("rnn-harness", "differential tests of recurrent layers")
    group.addoption(
        "--rnn-profile",
        choices=sorted(EXAMPLES_OF_PROFILES),
        help="Hypothesis profile of this session; also an ini value",
    )
    group.addoption("--rnn-findings", default=".rnn-harness", metavar="DIR", help="where failing cases are kept")
    parser.addini("rnn_profile", "Hypothesis profile of this project: dev, ci or nightly", default="")


@pytest.hookimpl(trylast=True)  # after Hypothesis's own, which loads what its option names
def pytest_configure(config: pytest.Config) -> None:
    """Load the session's profile."""
    profile = _profile(config)
    if profile and profile not in EXAMPLES_OF_PROFILES:
        raise pytest.UsageError(f"rnn_profile={profile!r}: expected one of {', '.join(EXAMPLES_OF_PROFILES)}")
    if profile:
        _load_profile(profile, seeded=config.getoption("hypothesis_seed", None) is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Set one thread for the workers, which inherit the environment."""
    if _profile(config):
        one_thread_a_process()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the message of a disagreement be its cause, its facts, and how to run the case again."""
    if call.excinfo is not None and call.when == "call":
        for disagreement in _disagreements(call.excinfo.value):
            disagreement.args = (_explained(disagreement, item.config),)
    return (yield)


def _profile(config: pytest.Config) -> str:
    """Return the profile that was asked for; an ini file's gives way to Hypothesis's own option."""
    profile: str | None = config.getoption("rnn_profile")
    if profile is None and not config.getoption("hypothesis_profile", None):
        profile = config.getini("rnn_profile")
    return profile or ""


def _load_profile(name: str, *, seeded: bool) -> None:
    """Register and load one of the plugin's Hypothesis profiles.

    ci draws the same examples in every run, so that a required check is not flaky, unless Hypothesis's own option gives
    a seed. The others draw new ones, and keep what fails, in a CI environment, too. There is no deadline, because the
    first call of a layer is always slow, and no explain phase: it calls a failing test some 400 times more, and the
    harness explains failures itself.
    """
    from hypothesis import Phase, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    same_each_time = name == "ci" and not seeded
    settings.register_profile(
        f"rnn-{name}",
        max_examples=EXAMPLES_OF_PROFILES[name],
        deadline=None,
        phases=set(Phase) - {Phase.explain},
        derandomize=same_each_time,
        database=None if same_each_time else DirectoryBasedExampleDatabase(".hypothesis/examples"),
        print_blob=True,
    )
    settings.load_profile(f"rnn-{name}")


def _disagreements(error: BaseException) -> list[Disagreement]:
    assertions = sys.modules.get("harness.assertions")  # not imported, so not raised
    if assertions is None:
        return []
    if isinstance(error, BaseExceptionGroup):
        return [disagreement for inner in error.exceptions for disagreement in _disagreements(inner)]
    return [error] if isinstance(error, assertions.Disagreement) else []


def _explained(disagreement: Disagreement, config: pytest.Config) -> str:
    """Keep the case, and return the cause, the facts of the failure, and how to run it again."""
    from harness.diagnosis.finding_explainer import Explanation
    from harness.report.finding_entry import entry_of
    from harness.report.reported_finding import reported
    from harness.search.search_record import Finding
    from harness.subjects.registry import spec_of

    subject, spec = disagreement.subject, spec_of(disagreement.subject)
    finding = Finding(spec or subject.name, disagreement.case, disagreement.result)
    diagnosis, trouble = _diagnosis(disagreement, finding)
    report = reported(finding, Explanation(diagnosis))
    saved, unkept = _saved(report, config)
    entry = entry_of(replace(report, saved=saved))
    facts = [(fact.name, fact.text) for fact in entry.main_facts]
    if saved is not None and spec is None:
        facts[-1] = (
            "kept",
            f"{saved.folder}; a local function has no name: to replay it, name a subject with --subject",
        )
    facts += [("trouble", text) for text in (trouble, unkept) if text]
    return "\n".join([f"{subject.name}: {entry.headline}", *(f"{name:<8}  {text}" for name, text in facts)])


def _diagnosis(disagreement: Disagreement, finding: Finding) -> tuple[Diagnosis | None, str]:
    """Return the cause, sought among configs that such a test may draw: other sizes, everything else the same."""
    from harness.diagnosis.finding_explainer import FindingExplainer
    from harness.space.scope import Scope

    try:
        around = Scope.around(disagreement.case.config)
        return FindingExplainer(disagreement.subject).diagnosis(finding, around), ""
    except Exception as error:  # noqa: BLE001 - a report that cannot be made must not end the session
        return None, f"the search for the cause failed: {type(error).__name__}: {error}"


def _saved(report: ReportedFinding, config: pytest.Config) -> tuple[FindingFiles | None, str]:
    """Keep a finding, unless a search on this machine has, which says more; return where, or why that failed."""
    from harness.report.finding_files import FindingFiles
    from harness.report.json_record import finding_record
    from harness.store.finding_folders import Store
    from harness.subjects.registry import near

    store = Store(Path(config.rootpath, config.getoption("rnn_findings")))
    try:
        if not store.owns(report.id):
            store.save(report.finding, finding_record(report))
    except OSError as error:
        return None, f"the case could not be kept: {error}"
    return FindingFiles(Path(near(store.directory / report.id)), own=store.owns(report.id)), ""
