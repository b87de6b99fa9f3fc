"""The harness inside pytest: profiles for Hypothesis, and the cause of a disagreement at the start of its message.

This module has hooks only. They import what they need themselves, because every pytest run loads the plugin if it is
installed.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from harness.processes import one_thread_a_process

if TYPE_CHECKING:
    from harness.assertions import Disagreement
    from harness.search.record import Finding

PROFILES: Final = {"dev": 100, "ci": 200, "nightly": 5_000}
"""The Hypothesis examples of a test: Hypothesis's own default, twice that, and what takes a minute or so."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options, all under --rnn-."""
    group = parser.getgroup("rnn-harness", "differential tests of recurrent layers")
    group.addoption(
        "--rnn-profile", choices=sorted(PROFILES), help="Hypothesis profile of this session; also an ini value"
    )
    group.addoption("--rnn-findings", default=".rnn-harness", metavar="DIR", help="where failing cases are kept")
    parser.addini("rnn_profile", "Hypothesis profile of this project: dev, ci or nightly", default="")


@pytest.hookimpl(trylast=True)  # after Hypothesis's own, which loads what its option names
def pytest_configure(config: pytest.Config) -> None:
    """Load the session's profile."""
    profile = _profile(config)
    if profile and profile not in PROFILES:
        raise pytest.UsageError(f"rnn_profile={profile!r}: expected one of {', '.join(PROFILES)}")
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
    """Begin the message of a disagreement with its cause, and with how to run the case again, before it is reported."""
    if call.excinfo is not None and call.when == "call":
        for disagreement in _disagreements(call.excinfo.value):
            disagreement.args = (f"{_explained(disagreement, item.config)}\n\n{disagreement}",)
    return (yield)


def _profile(config: pytest.Config) -> str:
    """Return the profile that was asked for; an ini file's gives way to Hypothesis's own option."""
    asked: str | None = config.getoption("rnn_profile")
    if asked is None and not config.getoption("hypothesis_profile", None):
        asked = config.getini("rnn_profile")
    return asked or ""


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
        max_examples=PROFILES[name],
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
        return [found for inner in error.exceptions for found in _disagreements(inner)]
    return [error] if isinstance(error, assertions.Disagreement) else []


def _explained(disagreement: Disagreement, config: pytest.Config) -> str:
    """Return the cause, the wrong line and the right one, the config, the worst element, and the replay command."""
    from harness.report.short import worst_line
    from harness.search.record import Finding
    from harness.subjects.registry import spec_of

    case, result = disagreement.case, disagreement.result
    finding = Finding(spec_of(disagreement.subject) or disagreement.subject.name, case, result)
    lines = [*_cause(disagreement, finding), f"on {case.config!r}", worst_line(result, case.config)]
    return "\n".join(filter(None, [*lines, _again(disagreement, finding, config)]))


def _again(disagreement: Disagreement, finding: Finding, config: pytest.Config) -> str:
    """Keep the case, and return how to run it again."""
    from harness.space.errors import UsageError
    from harness.store.findings import Store
    from harness.subjects.registry import near, spec_of

    folder = Path(config.rootpath, config.getoption("rnn_findings"))
    try:
        store, kept = Store(folder), folder / finding.id
        if finding.id not in store.ids():  # what a search kept says more than this can
            store.save(finding)
    except (OSError, UsageError) as error:
        return f"the case could not be kept: {error}"
    if spec_of(disagreement.subject) is None:
        return f"kept: {kept}; a local function has no name: to replay it, name a subject with --subject"
    return f"again: rnn-harness replay {shlex.quote(near(kept))}"


def _cause(disagreement: Disagreement, finding: Finding) -> list[str]:
    """Return the cause, sought among configs that such a test may draw: other sizes, everything else the same."""
    from harness.diagnosis.diagnose import diagnose
    from harness.diagnosis.investigate import Explanation
    from harness.diagnosis.observations import Observations
    from harness.report.explained import code_lines
    from harness.report.severity import Told
    from harness.report.short import cause_of, failure_line
    from harness.space.scope import Scope

    subject = disagreement.subject
    try:
        diagnosis = diagnose(Observations(subject), finding, Scope.around(disagreement.case.config))
    except Exception as error:  # noqa: BLE001 - a report that cannot be made must not end the session
        said = f"cause not found: the search for it failed: {type(error).__name__}: {error}"
        return [f"{subject.name}: {failure_line(finding.result)}", said]
    cause, sure = cause_of(Told(finding, Explanation(diagnosis)))
    code = code_lines(diagnosis, disagreement.case.config)
    return [f"{subject.name}: {cause}{f' ({sure})' if sure else ''}", *(f"{k:<6}  {v}" for k, v in code.items())]
