"""The harness inside pytest: options, a seed for all tests, and the cause of a disagreement.

This module has hooks only. They import what they need themselves, because every pytest run loads the plugin if it is
installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness import __version__, rerun
from harness.processes import one_thread_a_process

if TYPE_CHECKING:
    from harness.assertions import Disagreement
    from harness.search.record import Finding

PROFILES: Final = {"dev": 100, "ci": 200, "nightly": 5_000}
"""The number of Hypothesis examples per test. dev is Hypothesis's own default, ci twice that, and nightly takes a
minute or so per test.
"""

_SEED: Final = pytest.StashKey[int | None]()
_SEEDED: Final = pytest.StashKey[set[int]]()
"""The ids of the test functions that carry the plugin's seed, as opposed to one that their author gave them."""
_ITEMS: Final = pytest.StashKey[Path]()
"""The folder that the controller shares with its xdist workers, for items whose worker died (``rerun``)."""

RERUN: Final = "rerun"
"""The outcome of an item that runs again; other plugins use the same word."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options, all under --rnn-."""
    group = parser.getgroup("rnn-harness", "differential tests of recurrent layers")
    group.addoption(
        "--rnn-profile", choices=sorted(PROFILES), help="Hypothesis profile of this session; also an ini value"
    )
    group.addoption("--rnn-seed", type=int, help="seed of this session, from which every Hypothesis test gets its own")
    group.addoption("--rnn-findings", default=".rnn-harness", metavar="DIR", help="where failing cases are kept")
    parser.addini("rnn_profile", "Hypothesis profile of this project: dev, ci or nightly", default="")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the session's profile and seed."""
    profile = _profile(config)
    if profile and profile not in PROFILES:
        raise pytest.UsageError(f"rnn_profile={profile!r}: expected one of {', '.join(PROFILES)}")
    config.stash[_SEED] = _session_seed(config, profile)
    config.stash[_SEEDED] = set()
    if profile:
        _load_profile(profile)
    if hasattr(config, "workerinput"):
        rerun.share(Path(config.workerinput["rnn_items"]))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return the seed, in the form to paste back."""
    seed, profile = config.stash[_SEED], _profile(config)
    if seed is None:
        return None
    return f"rnn-harness {__version__}: {f'--rnn-profile={profile} ' if profile else ''}--rnn-seed={seed}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the folder of the xdist workers."""
    if _ITEMS in session.config.stash:
        shutil.rmtree(session.config.stash[_ITEMS], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the session's seed, and a folder for all, to an xdist worker."""
    stash = node.config.stash
    node.workerinput["rnn_seed"] = stash[_SEED]
    if _ITEMS not in stash:
        stash[_ITEMS] = Path(mkdtemp(prefix="rnn-harness-"))
    node.workerinput["rnn_items"] = str(stash[_ITEMS])


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Let an item whose worker died run again, once; by then its subject has a process of its own."""
    folder: Path = report.node.config.stash[_ITEMS]
    with suppress(NotImplementedError):  # a scheduler that keeps items together, or gives each to every worker
        if rerun.has_a_second_run(folder, crashitem):
            sched.mark_test_pending(crashitem)
            report.outcome = RERUN


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Show an item that runs again as R, not as a failure."""
    return (RERUN, "R", "RERUN") if report.outcome == RERUN else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Set one thread for the workers, which inherit the environment."""
    if config.stash[_SEED] is not None:
        one_thread_a_process()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Seed a Hypothesis test from the session's seed and its own node id, so that no two tests share a stream."""
    seed = item.config.stash[_SEED]
    test = getattr(item, "obj", None)
    if not getattr(test, "is_hypothesis_test", False):
        return
    function: Any = getattr(test, "__func__", test)
    if rerun.runs_again(item.nodeid):  # a process takes longer to start than Hypothesis's deadline
        _set_no_deadline(function)
    if seed is not None:
        own = getattr(function, "_hypothesis_internal_use_seed", None) is not None
        if own and id(function) not in item.config.stash[_SEEDED]:
            return  # the author's own @seed stays
        # hypothesis.seed() would do the same, but it also turns the example database off. Parametrised items share one
        # function, so the seed is set at call time.
        function._hypothesis_internal_use_seed = f"{seed}/{item.nodeid}"  # noqa: SLF001
        item.config.stash[_SEEDED].add(id(function))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Begin the message of a disagreement with its cause, and with how to run the case again, before it is reported."""
    if call.excinfo is not None and call.when == "call":
        for disagreement in _disagreements(call.excinfo.value):
            disagreement.args = (f"{_explained(disagreement, item.config)}\n\n{disagreement}",)
    return (yield)


def _set_no_deadline(function: Any) -> None:
    from hypothesis import settings

    own = function._hypothesis_internal_use_settings  # noqa: SLF001
    function._hypothesis_internal_use_settings = settings(own, deadline=None)  # noqa: SLF001


def _profile(config: pytest.Config) -> str:
    """Return the profile that was asked for; an ini file's gives way to Hypothesis's own option."""
    asked: str | None = config.getoption("rnn_profile")
    if asked is None and not config.getoption("hypothesis_profile", None):
        asked = config.getini("rnn_profile")
    return asked or ""


def _session_seed(config: pytest.Config, profile: str) -> int | None:
    """Return the given seed, or on a worker the controller's, or the profile's: 0 in ci, random in dev and nightly."""
    if config.getoption("hypothesis_seed", None) is not None:
        return None  # Hypothesis's own option seeds this session
    given: int | None = config.getoption("rnn_seed")
    if given is not None:
        return given
    if hasattr(config, "workerinput"):
        inherited: int | None = config.workerinput["rnn_seed"]
        return inherited
    if not profile:
        return None
    return 0 if profile == "ci" else int.from_bytes(os.urandom(4), "big")


def _load_profile(name: str) -> None:
    """Register and load one of the plugin's Hypothesis profiles.

    Hypothesis has a CI profile of its own, which it loads by itself in a CI environment: derandomised, and without a
    database. That repeats the same examples in every run and forgets every failure. The plugin's profiles fix the seed
    instead (0 in ci, so that a required check is not flaky; elsewhere the header's seed), which leaves the database on:
    a failure found by a nightly run is tried first by the next run that shares its database. There is no deadline,
    because the first call of a layer is always slow, and no explain phase: it calls a failing test some 400 times more,
    and the harness explains failures itself.
    """
    from hypothesis import Phase, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    settings.register_profile(
        f"rnn-{name}",
        max_examples=PROFILES[name],
        deadline=None,
        phases=set(Phase) - {Phase.explain},
        derandomize=False,
        database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
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
