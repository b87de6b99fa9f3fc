"""Tests of coverage reports: what several runs met, put together from files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Scope, as_subject, hunt
from harness.report.coverage_words import missing_lines, of_whole, shares_record, table
from harness.report.finding_entry import SubjectFindings
from harness.report.json_record import RunOptions, run_record, subject_record
from harness.search.examination import Examination
from harness.search.search_record import SearchRecord
from harness.space.constraints import FactorRule
from harness.space.errors import UsageError
from harness.space.searched_scope import AGREEMENT
from harness.store.document import as_json, write
from harness.store.reports import met_together
from tests import implementations

RIGHT = as_subject(implementations.vectorised)
SCOPE = Scope().only(T=[1, 2, 3], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], dtype="float64")
# The number of cases in which every four values of SCOPE meet: 83 are enough, and three in five may be planned so.
ENOUGH = 200


RUN = RunOptions((RIGHT.name,), 0, 30, None, "derived", 60.0, {})


def searched(seed: int, scope: Scope = SCOPE) -> SearchRecord:
    return hunt(RIGHT, scope, cases=30, seed=seed)


def written(folder: Path, name: str, *found: SearchRecord) -> Path:
    records = [subject_record(SubjectFindings(Examination(one))) for one in found]
    write(as_json("check", {**run_record(RUN), "subjects": records}), str(folder / name))
    return folder / name


def test_what_two_runs_met_is_what_both_met(tmp_path: Path) -> None:
    one, other = searched(1), searched(2)
    [both] = met_together([written(tmp_path, "1.json", one), written(tmp_path, "2.json", other)])
    every = one.searched, other.searched, both
    shares = [shares_record(which)[AGREEMENT] for which in every]

    assert shares[2]["cases"] == shares[0]["cases"] + shares[1]["cases"] == 60
    met = [share["triples"]["met"] for share in shares]
    assert max(met[:2]) < met[2] < sum(met[:2])
    assert len({share["triples"]["of"] for share in shares}) == 1
    three = [
        {tuple(found.items()) for found in which.checks[AGREEMENT].interactions(SCOPE, 3, met=True)} for which in every
    ]
    assert three[0] | three[1] == three[2]
    assert both.relations == one.relations + other.relations
    assert both.relations.total() == both.checks["relations"].cases > 0


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    rule = FactorRule("loss", "output", "dtype", ("float64",))
    run = searched(3, SCOPE.ruled([rule]))
    one = run.searched

    [again] = met_together([written(tmp_path, "1.json", run)])

    assert again.scope == one.scope
    assert again.scope.rules == one.scope.rules != ()
    assert again.checks == one.checks
    assert shares_record(again) == shares_record(one)


def test_runs_over_different_parts_are_told_of_both(tmp_path: Path) -> None:
    parts = [searched(1, SCOPE.only(bias=bias)) for bias in (True, False)]

    [both] = met_together([written(tmp_path, f"{n}.json", part) for n, part in enumerate(parts)])

    assert both.scope.bias == (True, False)
    pairs = [shares_record(which)[AGREEMENT]["pairs"] for which in (*(part.searched for part in parts), both)]
    assert pairs[2]["of"] > pairs[0]["of"] == pairs[1]["of"]


def test_what_was_not_met_is_listed_shortest_first() -> None:
    lines = [line.plain for line in missing_lines(searched(1).searched, 40)]

    kinds = ["values", "pairs", "triples"]
    headings = [line for line in lines if line.startswith("not met: ")]
    listed = [line.count("=") for line in lines if "=" in line]
    assert listed == sorted(listed)
    assert len(listed) == 40
    assert [1 + kinds.index(heading.split()[-1]) for heading in headings] == sorted(set(listed))
    assert lines[-1] == "  …"
    assert not list(missing_lines(hunt(RIGHT, SCOPE, cases=ENOUGH).searched, 5))


def test_what_never_varied_is_told_of_every_layer_and_in_full_if_asked() -> None:
    met = searched(1).searched
    gates = replace(met, scope=met.scope.only(cell="GRU"))

    [(share, text)] = of_whole(met, verbose=True)
    [(name, never)] = of_whole(gates, verbose=True)
    [(_, short)] = of_whole(gates)

    assert (share, name) == ("of nn.RNN", "never varied")
    assert text.partition("never varied: ")[2].split(", ") == met.never_varied
    assert never.split(", ") == [factor for factor in met.never_varied if factor != "nonlinearity"]
    assert short.endswith(", …")
    assert never.startswith(short.removesuffix(", …"))


def test_the_table_has_a_row_for_each_check_and_what_there_is() -> None:
    shown = table(searched(1).searched)

    assert [str(column.header) for column in shown.columns] == [
        "share of",
        "cases",
        "values",
        "pairs",
        "triples",
        "edges",
        "edge pairs",
    ]
    assert list(shown.columns[0].cells) == [AGREEMENT, "relations", "second run", "of"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ('{"version": 1, "document": "check"}', "version=1: expected"),
        ('{"version": 4, "document": "check"}', "write it again with"),
    ],
)
def test_what_is_no_report_is_misuse(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(UsageError, match=said):
        met_together([path])


def test_a_report_that_is_broken_inside_is_misuse(tmp_path: Path) -> None:
    path = written(tmp_path, "1.json", searched(1))
    whole: Any = json.loads(path.read_text())
    whole["subjects"][0]["log"]["cases"][3] = "nonsense"
    path.write_text(json.dumps(whole))

    with pytest.raises(UsageError):
        met_together([path])
