"""The published schema fits every document that the command writes, and nothing else."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from harness.checks.accuracy import Accuracy
from harness.checks.malformed import Lapse
from harness.checks.result import Method, Result, Verdict
from harness.cli import main
from harness.oracle.compare import Mismatch, Sort
from harness.oracle.judge import Ruling
from harness.report import record, schema
from harness.report.arrays import Answer
from harness.report.refusals import refusals_record
from harness.report.severity import Severity
from harness.search.certificate import Certificate
from harness.search.examination import Examination
from harness.search.record import Stop
from harness.search.replay import Fate
from harness.space import parts
from tests.documents import SCHEMA, errors, fits
from tests.report.test_formats import UNREFUSED
from tests.report.test_wording import CASE, CONFIG, DIFFERS, INACCURATE, SEVERAL, TOLD, disagreement, unrepeated
from tests.unrun import let_scripts_fail_unrun

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
WRONG: Final = f"{EXAMPLES / 'notebook.py'}:rnn_without_b_hh"
RIGHT: Final = f"{EXAMPLES / 'notebook.py'}:rnn_with_b_hh"
DEFINITIONS: Final[dict[str, Any]] = SCHEMA["$defs"]
NAMES: Final = [one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]]


def objects(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every part of the schema that says which fields an object has."""
    for key, one in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from objects(one, f"{place}/{key}")
    if isinstance(node, dict) and isinstance(node.get("properties"), dict):
        yield place, node


def run(*arguments: str) -> None:
    main.cli.main([*arguments], prog_name="rnn-harness", standalone_mode=False)


@pytest.fixture(scope="session")  # in a random order, a module may be left and entered again
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a document of each kind, as the command wrote it."""
    folder = tmp_path_factory.mktemp("documents")
    W, b = np.array([[0.5]], np.float32), np.array([1.0], np.float32)
    np.savez(folder / "model.npz", weight_ih_l0=W, weight_hh_l0=W, bias_ih_l0=b, bias_hh_l0=b)
    np.save(folder / "x.npy", np.ones((4, 1, 1), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("harness.search.preparation.cores", lambda: 0)
        patch.setattr("harness.search.budget.AFTER", 10)
        let_scripts_fail_unrun(patch)
        run("check", WRONG, RIGHT, "--examples", "40", "--json", "check.json", "--coverage", "met.json")
        (kept,) = Path(".rnn-harness").iterdir()
        run("check", WRONG, "--examples", "20", "--shard", "1/9", "--into", "part")
        Path("part/shard.json").rename("shard.json")
        run("findings", "--json", "findings.json")
        run("replay", kept.name, "--json", "replay.json")
        run("replay", "--all", "--json", "replays.json")
        run("coverage", "met.json", "--json", "coverage.json")
        run("explain", "model.npz", "x.npy", "x.npy", "--json", "explain.json")
        for name in ("subjects", "known"):
            run(name, "--json", f"{name}.json")
        run("shapes", "--input-size", "1", "--hidden-size", "2", "--json", "shapes.json")
        Path("results").mkdir()
        run("vectors", "vectors", "--examples", "2", "--json", "vectors.json")
        run("judge", "vectors", "results", "--json", "judge.json")
        (kept / "finding.json").rename("finding.json")
        return {path.stem: json.loads(path.read_text()) for path in Path().glob("*.json")}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_document_fits_the_schema(written: dict[str, Any]) -> None:
    assert set(written) == set(NAMES)
    for name, document in written.items():
        assert errors(document, name) == []
        assert errors(document) == []
        assert (document["document"], document["version"]) == (name, schema.version())


def test_a_field_that_the_schema_does_not_know_is_seen_wherever_it_is_added(written: dict[str, Any]) -> None:
    finding = written["check"]["subjects"][0]["findings"][0]
    for place in (written["check"], written["check"]["subjects"][0], finding, finding["mismatches"][0]["sites"][0]):
        place["added"] = 1
        assert not fits(written["check"], "check")
        del place["added"]
    assert errors(written["check"], "check") == []


def test_a_field_that_is_missing_is_seen(written: dict[str, Any]) -> None:
    for document in written.values():
        for name in document:
            assert not fits({key: value for key, value in document.items() if key != name}, document["document"])


@pytest.mark.parametrize(("place", "node"), [pytest.param(*one, id=one[0]) for one in objects(SCHEMA)])
def test_objects_are_strict_and_every_field_is_described_in_a_line(place: str, node: dict[str, Any]) -> None:
    base = place in {"/$defs/result", "/$defs/explained"}  # only what adds fields to it can close it
    closed = node.get("unevaluatedProperties" if "allOf" in node else "additionalProperties")

    assert closed is (None if base else False)
    assert list(node["properties"]) == node["required"]
    for name, field in node["properties"].items():
        said = field.get("description") or DEFINITIONS[field["$ref"].rpartition("/")[2]]["description"]
        assert said.endswith("."), name
        assert "\n" not in said


RECORDS: Final[dict[str, tuple[str, Any]]] = {
    "finding": ("explained", lambda: record.finding_record(TOLD.finding, TOLD.explanation)),
    "coarse": ("explained", lambda: record.finding_record(INACCURATE.finding, INACCURATE.explanation)),
    "several": ("examination", lambda: record.examination_record(Examination(disagreement()), SEVERAL)),
    "suspicion": ("examination", lambda: record.examination_record(Examination(unrepeated()))),
    "every check": ("examination", lambda: record.examination_record(everything())),
    "refusals": ("refusals", lambda: refusals_record(UNREFUSED)),
    "no number": ("mismatch", lambda: record.result_record(without_numbers())["mismatches"][0]),
}


def everything() -> Examination:
    hunt = unrepeated()
    hunt.accuracy = [Accuracy("float32", 9.5, 0.25), Accuracy("float64", 99.0, 0.5, 1e-9, 1e-8, 9.0, 2_000)]
    hunt.undone = {"num_layers=2": (CASE, Result(Verdict.DISAGREES, (DIFFERS,)))}
    broken = Result(Verdict.DISAGREES, message="drops twice", method=Method.DROPOUT)
    return Examination(hunt, UNREFUSED, broken)


def without_numbers() -> Result:
    values = (float("nan"), float("-inf"))
    sites = tuple(replace(DIFFERS.sites[0], actual=value, allowance=float("inf")) for value in values)
    return Result(Verdict.DISAGREES, (replace(DIFFERS, sites=sites, rtol=float("inf")),))


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_rare_results_fit_as_well(name: str) -> None:
    definition, made = RECORDS[name]

    found = made()

    if definition == "explained":
        found, definition = schema.heading("finding") | {"kept": "2026-11-26T08:00:00+00:00"} | found, "finding"
    assert errors(found, definition) == []


@pytest.mark.parametrize(
    ("definition", "fields"),
    [
        ("config", CONFIG.to_dict()),
        ("mismatch", [one.name for one in dataclasses.fields(Mismatch)]),
        ("certificate", [one.name for one in dataclasses.fields(Certificate)]),
        ("explain", [one.name for one in dataclasses.fields(Answer)]),
    ],
)
def test_what_is_written_whole_has_every_field_in_the_schema(definition: str, fields: Any) -> None:
    assert set(fields) - set(DEFINITIONS[definition]["properties"]) == set()


@pytest.mark.parametrize(
    ("definition", "field", "values"),
    [
        ("explained", "severity", [one.value for one in Severity]),
        ("mismatch", "sort", [one.value for one in Sort]),
        ("judgement", "ruling", [one.value for one in Ruling]),
        ("examination", "stop", [one.name.lower() for one in Stop]),
        ("replay", "fate", [one.value for one in Fate]),
        ("replayed", "fate", [one.value for one in Fate]),
        ("wrong", "lapse", [one.value for one in Lapse]),
        ("config", "dtype", list(parts.DTYPES)),
        ("config", "preparation", list(parts.PREPARATIONS)),
        ("config", "strides", list(parts.STRIDES)),
        ("config", "loss", list(parts.LOSSES)),
    ],
)
def test_the_values_of_a_field_are_the_code_s(definition: str, field: str, values: list[Any]) -> None:
    assert DEFINITIONS[definition]["properties"][field]["enum"] == values


def test_the_values_of_parts_are_the_code_s() -> None:
    assert DEFINITIONS["verdict"]["enum"] == [*(one.value for one in Verdict), None]
    assert DEFINITIONS["method"]["enum"] == [one.name.lower() for one in Method]


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    run("schema")

    assert json.loads(capsys.readouterr().out) == SCHEMA
