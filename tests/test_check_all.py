"""Tests of ``rnn-harness check --all``: every subject that is here gets its turn, and a row of the table."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness import scope_of
from harness.cli import all_subjects, codes
from harness.cli.all_subjects import TIME, AvailableSubjects, Target, check_all
from harness.cli.check_documents import Outputs
from harness.cli.main import cli
from harness.report.escaping_console import EscapingConsole
from harness.report.finding_entry import SubjectFindings
from harness.report.json_record import RunOptions
from harness.report.results_table import NOT_REACHED, SubjectRow
from harness.search.covering import covering
from harness.search.examination import LEAST_CASES, Examination
from harness.search.search_options import SearchOptions
from harness.search.search_record import Stop
from harness.space.coverage_counts import Coverage
from harness.space.errors import UsageError
from harness.space.rare_factors import apart
from harness.space.scope import TORCH_SCOPE
from harness.space.searched_scope import AGREEMENT, SearchedScope
from harness.subjects.protocol import Subject
from harness.subjects.torch_module import TorchSubject
from tests.report.test_wording import agreement
from tests.unrun import let_scripts_fail_unrun

EXAMPLES = Path(__file__).parents[1] / "examples"
WRONG = f"{EXAMPLES / 'notebook.py'}:rnn_without_b_hh"
RIGHT = f"{EXAMPLES / 'notebook.py'}:rnn_with_b_hh"

# Pins that make a search short.
SMALL = [f"--only={name}=1,2" for name in ("T", "N", "input_size", "hidden_size")] + ["--only=num_layers=1"]

Registered = Callable[..., None]


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    """Return a function that makes these subjects the only ones that have a name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.search.scope_and_workers.cores", lambda: 0)
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)
    let_scripts_fail_unrun(monkeypatch)
    return lambda *names: monkeypatch.setattr(all_subjects, "registered", lambda: dict.fromkeys(names))


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(cli, ["check", "--all", *arguments], standalone_mode=False, env={"COLUMNS": "80"})
    if done.exception is not None and not isinstance(done.exception, UsageError):
        raise done.exception
    return done


def written(folder: Path, name: str, body: str, offers: Any = None) -> str:
    (folder / f"{name}.py").write_text(f"def rnn(x, h0, weights, config):\n    {body}\nrnn.offers = {offers or {}}\n")
    return f"{name}.py:rnn"


def test_each_subject_has_a_row_whatever_becomes_of_it(tmp_path: Path, registered: Registered) -> None:
    refusing = written(tmp_path, "refusing", "raise NotImplementedError('never')")
    failing = written(tmp_path, "failing", "raise ValueError('boom')")
    registered("none.py:rnn", RIGHT, failing, refusing)

    done = run(*SMALL, "--examples", "30", "-q", "--json", "all.json", "--markdown", "all.md")

    assert done.return_value == codes.FINDING
    document = json.loads(Path("all.json").read_text())
    rows = {Path(row["subject"]).name: row for row in document["table"]}
    assert [(name, row["verdict"], row["findings"]) for name, row in rows.items()] == [
        ("notebook.py:rnn_with_b_hh", "not enough seen", 0),
        ("failing.py:rnn", "broken", 1),
        ("refusing.py:rnn", "unsupported", 0),
        ("none.py:rnn", None, 0),
    ]
    assert rows["none.py:rnn"]["why"] == "none.py: no such file"
    assert rows["notebook.py:rnn_with_b_hh"]["why"].startswith("30 of 200 cases")
    assert rows["refusing.py:rnn"]["why"] == "refused everything it was asked"
    assert rows["refusing.py:rnn"]["covered"]["met"] == 0
    covered = rows["notebook.py:rnn_with_b_hh"]["covered"]
    assert covered == document["subjects"][0]["coverage"]["of_whole"]
    assert 0 < covered["met"] < covered["of"] / 2
    assert "num_layers" in document["subjects"][0]["coverage"]["never_varied"]
    assert "- not checked: `none.py:rnn`: none.py: no such file" in Path("all.md").read_text()


def test_a_subject_that_covers_nothing_is_an_error_that_says_what_to_do(tmp_path: Path, registered: Registered) -> None:
    registered(written(tmp_path, "refusing", "raise NotImplementedError('never')"))

    done = run(*SMALL, "-q")

    assert done.return_value == codes.MISUSE
    assert "refused everything it was asked: nothing is covered; let it support one plain" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["torch"], "--all with a subject: expected one of them"),
        (["--shard", "1/2", "--json", "part"], "--all with --shard: expected one of them"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--all with --scheduler: expected one of them"),
        (["--python", "python3"], "--all with --python: expected one of them"),
        (["--only", "layers=2"], "unknown factor layers"),
        (["-q", "-v"], "--quiet with --verbose"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_starts(
    registered: Registered, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    registered(RIGHT)
    monkeypatch.setattr(all_subjects, "IsolatedSubject", lambda *_, **__: pytest.fail("it was started"))

    assert said in str(run(*arguments).exception)


def test_if_none_is_here_that_is_an_error_with_the_reasons(registered: Registered) -> None:
    registered("none.py:rnn", "nor.py:rnn")

    assert str(run().exception) == "--all: no subject is here: none.py: no such file; nor.py: no such file"


def asked(given: AvailableSubjects) -> list[tuple[str, int | None, float | None]]:
    return [(one.subject.name, one.options.cases, one.options.seconds) for one in given.turns()]


def question(subject: Subject, cases: int | None = None, seconds: float | None = None) -> Target:
    return Target(subject, scope_of(subject), SearchOptions(cases, seconds, profile="port"))


def test_slow_subjects_come_last_with_few_cases_and_the_time_that_is_left(
    tmp_path: Path, registered: Registered
) -> None:
    slow = written(tmp_path, "slow", "return None\nrnn.slow = True")
    registered(slow, RIGHT, "none.py:rnn", WRONG)

    (first, all_cases, share), second, last = asked(AvailableSubjects(question, 60))

    assert [first, second[0], last[0]] == [RIGHT, WRONG, slow]
    assert (all_cases, second[1], last[1]) == (None, None, LEAST_CASES)
    assert share == pytest.approx(TIME / 4, rel=0.01)  # nobody knows yet that one of the four is not here
    assert last[2] == pytest.approx(TIME, rel=0.01)  # the others left all of it
    assert asked(AvailableSubjects(partial(question, cases=7, seconds=3.0), 60)) == [
        (name, 7, 3.0) for name in (RIGHT, WRONG, slow)
    ]


RUN = RunOptions((), 0, None, None, "derived", 60.0, {})


@pytest.mark.parametrize("inside", [True, False])
def test_an_interrupt_keeps_what_was_done(registered: Registered, capsys: Any, inside: bool) -> None:
    registered(RIGHT, WRONG, "none.py:rnn")

    def search(one: Target) -> SubjectFindings:
        if one.subject.name == WRONG and not inside:
            raise KeyboardInterrupt
        hunt = agreement()
        hunt.subject, hunt.stop = one.subject.name, Stop.INTERRUPTED if one.subject.name == WRONG else Stop.BUDGET
        return SubjectFindings(Examination(hunt))

    said: list[Sequence[SubjectRow] | None] = []

    class Written(Outputs):
        def write(self, *_: Any, rows: Sequence[SubjectRow] | None = None, **__: Any) -> None:
            said.append(rows)

    outputs = Written(None, None, None, None, None, annotations=False)
    here = AvailableSubjects(partial(question, cases=1, seconds=1.0), 60)
    code = check_all(here, search, EscapingConsole(width=80), outputs, RUN, quiet=False, verbose=False)

    assert code == codes.INTERRUPTED
    [rows] = said
    assert rows is not None
    reached = ["agrees", "agrees so far"] if inside else ["agrees"]
    assert [row.verdict for row in rows if row.covered is not None] == reached
    others = [("none.py:rnn", NOT_REACHED)] if inside else [(WRONG, NOT_REACHED), ("none.py:rnn", NOT_REACHED)]
    assert [(row.subject, row.why) for row in rows if row.covered is None] == others
    out = capsys.readouterr().out
    assert "  the run was interrupted" in out
    # Lines are cut at 80 columns, so where depends on the length of the path.
    assert ("".join(f"{WRONG} agrees with nn.RNN so far".split()) in "".join(out.split())) is inside


def test_a_search_of_torch_covers_all_of_nn_rnn() -> None:
    met, scope = Coverage(), scope_of(TorchSubject()).only(device="cpu")
    for config in (*covering(scope, 2), *apart(scope, 0)):  # with which, or with more, a search begins
        met.add(config, "normal")

    searched = SearchedScope("torch", scope, {AGREEMENT: met})

    assert scope.values() == TORCH_SCOPE.values()
    assert searched.of_whole.covered == searched.of_whole.of > 0
    assert searched.never_varied == []
