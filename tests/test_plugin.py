"""Tests of the pytest plugin, run in a pytest of its own."""

import sys
from pathlib import Path

import junitparser
import pytest

from harness.store.finding_folders import load

WRONG = """
from hypothesis import Phase, given, settings
from harness import assert_agrees, cases

def rnn(x, h0, weights, config):
    import numpy as np
    weights = {name: array * (0 if "bias_hh" in name else 1) for name, array in weights.items()}
    x = x.swapaxes(0, 1) if config.batch_first else x
    h, states = h0[0], []
    for frame in x:
        h = frame @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T
        if config.bias:
            h = h + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h = np.tanh(h)
        states.append(h)
    output = np.stack(states)
    return (output.swapaxes(0, 1) if config.batch_first else output), h[None]

@settings(phases=set(Phase) - {Phase.explain})
@given(case=cases(num_layers=1, bidirectional=False, nonlinearity="tanh", dtypes=["float32"]))
def test_mine(case):
    assert_agrees(rnn, case)
"""

# The same test at small sizes.
QUICK = WRONG.replace('["float32"]', '["float32"], T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2]')

DRAWS = """
import pytest
from hypothesis import given, settings
from harness import cases

seen = []

@pytest.mark.parametrize("shard", [0, 1])
@settings(max_examples=10)
@given(case=cases())
def test_draws(shard, case):
    with open(f"seen-{shard}.txt", "a") as file:
        print(case.id, file=file)
"""


PARTS = (
    WRONG.partition("@settings")[0]
    + """
import pytest
from harness import Scope, assert_agrees_on, strata

SCOPE = Scope().only(num_layers=1, bidirectional=False, dtype="float32", bias=[True, False])

@pytest.mark.parametrize("stratum", strata(SCOPE), ids=str)
def test_mine(stratum):
    assert_agrees_on(rnn if "tanh" in str(stratum) else "torch", stratum, cases=20)
"""
)


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *arguments)


def drawn(pytester: pytest.Pytester, shard: int | str) -> list[str]:
    path = pytester.path / f"seen-{shard}.txt"
    lines = path.read_text().split()
    path.unlink()
    return lines


def test_a_disagreement_comes_with_its_cause_and_a_command_that_repeats_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Disagreement: rnn: ignores bias_hh: b_hh is never added (certain)",
            "E * yours     h = tanh(x[[]t[]] @ W_ih.T + b_ih + h @ W_hh.T)",
            "E * nn.RNN    h = tanh(x[[]t[]] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)",
            "E * wrong     output[[]t=0, n=0, unit=0[]] = *, should be * (±*)",
            "E * case      *RNNConfig(1, 1, T=1, N=1)*",
            "E * replay    rnn-harness replay ????????",
        ]
    )
    assert len(list((pytester.path / ".rnn-harness").glob("*/case.json"))) == 1
    (again,) = [line.partition("replay    rnn-harness ")[2] for line in result.outlines if "replay    " in line]

    replayed = pytester.run(sys.executable, "-m", "harness", *again.split())

    assert replayed.ret == 1
    assert replayed.outlines[0].startswith("FAILED")


def test_a_finding_that_somebody_edited_gives_way_to_our_own(pytester: pytest.Pytester) -> None:
    once = f"{WRONG.partition('@settings')[0]}\ndef test_mine():\n    assert_agrees(rnn, draw(RNNConfig(1, 1)))\n"
    once = once.replace("import assert_agrees, cases", "import RNNConfig, assert_agrees, draw")
    run(pytester, once).assert_outcomes(failed=1)
    (file,) = pytester.path.glob(".rnn-harness/*/case.json")
    file.write_text(f"{file.read_text()} ")
    assert not load(file).own

    run(pytester, once).assert_outcomes(failed=1)

    assert load(file).own


def test_a_function_that_no_name_leads_to_is_not_given_one(pytester: pytest.Pytester) -> None:
    local = WRONG.replace(
        "assert_agrees(rnn, ", "assert_agrees(lambda x, h0, weights, config: rnn(x, h0, weights, config), "
    )

    result = run(pytester, local)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * kept      *.rnn-harness/????????; a local function has no name: *"])
    result.stdout.no_fnmatch_line("*--subject ?*")


def test_what_a_search_kept_of_the_same_case_is_left_as_it_is(pytester: pytest.Pytester) -> None:
    run(pytester, QUICK)
    (kept,) = (pytester.path / ".rnn-harness").glob("*/case.json")
    kept.with_name("issue.md").write_text("more than a test can say")

    run(pytester, QUICK).assert_outcomes(failed=1)

    assert kept.with_name("issue.md").read_text() == "more than a test can say"


def test_a_findings_folder_that_cannot_be_written_costs_a_line(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("file").write_text("")

    result = run(pytester, QUICK, "--rnn-findings", "file")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*rnn: ignores bias_hh*", "E * the case could not be kept: *"])


def test_parts_of_the_space_are_items_of_their_own(pytester: pytest.Pytester) -> None:
    result = run(pytester, PARTS, "-n", "2", "-v")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(["*[[]relu]*", "*Case.of(RNNConfig(1, 1, T=1, N=1)*"])
    result.stdout.fnmatch_lines(["stratum = <Stratum tanh>", "*rnn: ignores bias_hh*"])


@pytest.mark.long
def test_shards_of_the_parts_keep_their_names_and_are_all_in_the_report(pytester: pytest.Pytester) -> None:
    shards = '@pytest.mark.parametrize("shard", ["1/2", "2/2"])\n@pytest.mark.parametrize("stratum"'
    source = PARTS.replace('@pytest.mark.parametrize("stratum"', shards)
    source = source.replace("(stratum):", "(stratum, shard):").replace("cases=20", "cases=20, shard=shard")

    result = run(pytester, source, "-n", "2", "--junit-xml", "report.xml")

    result.assert_outcomes(passed=2, failed=2)
    names = [case.name for suite in junitparser.JUnitXml.fromfile(str(pytester.path / "report.xml")) for case in suite]
    assert sorted(names) == [f"test_mine[{one}-{half}/2]" for one in ("relu", "tanh") for half in (1, 2)]


def test_a_part_of_the_space_that_is_refused_is_skipped_with_the_reason(pytester: pytest.Pytester) -> None:
    source = """
import pytest
from harness import assert_agrees_on, strata

def refuses(x):
    raise NotImplementedError("no such thing")

@pytest.mark.parametrize("stratum", strata(), ids=str)
def test_mine(stratum):
    assert_agrees_on(refuses, stratum, cases=10)
"""

    result = run(pytester, source, "-rs")

    result.assert_outcomes(skipped=4)
    result.stdout.fnmatch_lines(["SKIPPED*refuses supports nothing in this scope: no such thing*"])


def test_it_works_under_xdist(pytester: pytest.Pytester) -> None:
    result = run(pytester, QUICK, "-n", "2")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*rnn: ignores bias_hh*"])


def test_the_ci_profile_draws_the_same_in_every_run_and_each_item_its_own(pytester: pytest.Pytester) -> None:
    run(pytester, DRAWS, "--rnn-profile=ci")
    first, second = (drawn(pytester, shard) for shard in (0, 1))
    run(pytester, DRAWS, "--rnn-profile=ci", "-n2")
    again = [drawn(pytester, shard) for shard in (0, 1)]
    run(pytester, DRAWS, "--rnn-profile=ci", "--hypothesis-seed=1")

    assert again == [first, second]
    assert not set(first[1:]) & set(second[1:])  # the first example of any Hypothesis test is the plainest one
    assert drawn(pytester, 0) != first


def test_the_other_profiles_keep_what_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")  # where Hypothesis's own profile would keep nothing
    source = DRAWS.replace("print(", "assert case.config.T < 1; print(")  # the first example fails, and is the plainest

    run(pytester, source, "--rnn-profile=dev").assert_outcomes(failed=2)

    assert list(Path(pytester.path, ".hypothesis", "examples").iterdir())


def test_the_profile_may_stand_in_the_project_s_settings(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nrnn_profile = nightly")
    good = run(
        pytester, "from hypothesis import Phase, settings\n\ndef test(): assert Phase.explain not in settings().phases"
    )
    pytester.makeini("[pytest]\nrnn_profile = daily")
    bad = run(pytester, "def test(): pass")

    good.assert_outcomes(passed=1)
    assert bad.ret == pytest.ExitCode.USAGE_ERROR
    bad.stderr.fnmatch_lines(["ERROR: rnn_profile='daily': expected one of dev, ci, nightly"])


def test_a_subject_that_breaks_while_it_is_diagnosed_costs_a_line(pytester: pytest.Pytester) -> None:
    source = """
from harness import Capabilities, Outcome, RNNConfig, assert_agrees, draw
import numpy as np

class Odd:
    name = "odd"
    capabilities = Capabilities()
    def devices(self):
        return ("cpu",)
    def run(self, case):
        if case.config.T > 1:
            raise RuntimeError("a fault of its own")
        h = np.tanh(case.x @ case.weights["weight_ih_l0"].T + case.weights["bias_ih_l0"])  # no b_hh
        return Outcome({"output": h, "h_n": h})

def test_odd():
    assert_agrees(Odd(), draw(RNNConfig(1, 1)))
"""

    result = run(pytester, source)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*odd: output differs*", "E * trouble   the search for the cause failed: RuntimeError: a fault*"]
    )
