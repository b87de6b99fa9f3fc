"""Tests of the HTML report: the verdict comes first, it says what the command says, and it loads nothing."""

import json
import re
import shutil
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planted import named
from benchmarks.planted.subject import PlantedSubject
from harness.cli import main
from harness.pipeline import run_pipeline
from harness.report.escaping_console import printed
from harness.report.finding_entry import SubjectFindings
from harness.report.page import page_of_findings, page_of_run
from harness.report.results_table import SubjectRow
from harness.report.terminal import subject_report
from harness.search.examination import Examination
from harness.search.search_options import SearchOptions
from harness.space.searched_scope import Share
from harness.store.finding_folders import Store
from harness.subjects.protocol import Subject, scope_of
from harness.subjects.registry import as_subject, find_subject
from tests import implementations
from tests.report.test_wording import agreement
from tests.unrun import let_scripts_fail_unrun

EXAMPLES = Path(__file__).parents[2] / "examples"
FAULTS = ("IgnoresBiasHH", "ReverseBeforeForward")


class Page(HTMLParser):
    """A page, with its elements in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.elements = text, list[tuple[str, dict[str, str | None]]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        """Return the words in each element of that tag."""
        found = re.findall(rf"<{tag}[ >].*?</{tag}>", self.text, re.DOTALL)
        return [" ".join(unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in found]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


def examined(subject: Subject, folder: Path, cases: int) -> SubjectFindings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.search.budget.CASES_AFTER_FINDING", 30)
        let_scripts_fail_unrun(patch)
        return run_pipeline(subject, scope_of(subject), SearchOptions(cases), folder=str(folder), warn=pytest.fail)


def page_of(every: list[SubjectFindings], **options: Any) -> Page:
    return Page(page_of_run(every, command="rnn-harness check <mine> & yours", version="1.2.3", **options))


@pytest.fixture(scope="module")
def faulty(kept: Path) -> list[SubjectFindings]:
    return [examined(PlantedSubject(named(name)), kept, 30) for name in FAULTS]


def raising(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if config.T > 1:
        raise ValueError("<too long>")
    return implementations.vectorised(x, h0, weights, config)


def test_the_verdict_comes_first_then_findings_then_what_was_checked(faulty: list[SubjectFindings]) -> None:
    made = page_of(faulty[:1])
    verdict = printed(subject_report(faulty[0])).splitlines()[0]

    assert made.inside("title") == made.inside("h1") == [verdict]
    assert made.inside("h2") == ["Findings", "What was checked, and what was not"]
    assert made.of("h1")[0]["class"] == "bad"


def test_the_page_of_several_subjects_has_a_verdict_on_all_and_one_on_each(faulty: list[SubjectFindings]) -> None:
    made = page_of(faulty)

    assert made.inside("h1") == ["0 of 2 subjects agree with nn.RNN"]
    assert [one["class"] for one in made.of("li")][:2] == ["bad", "bad"]
    assert len(made.of("article")) == len(FAULTS)


def test_a_finding_has_its_cause_its_lines_its_case_and_its_map(faulty: list[SubjectFindings]) -> None:
    [article] = page_of(faulty[:1]).inside("article")

    assert article.startswith("1. ignores bias_hh: b_hh is never added certain")
    assert "h = tanh(x[t] @ W_ih.T + b_ih + h @ W_hh.T + b_hh)" in article
    assert "Case.of(RNNConfig(1, 1, T=1, N=1)" in article
    assert "Errors over tolerance, made at each step" in article


def test_a_page_keeps_the_lines_and_the_indentation_of_code(faulty: list[SubjectFindings]) -> None:
    text = page_of(faulty[:1]).text

    [computes] = re.findall(r"<dt>computes</dt><dd><code>(.*?)</code></dd>", text, re.DOTALL)
    assert "\n    h[t] = np.tanh(s[t])\n" in computes
    assert re.search(r"dd \{[^}]*white-space: pre-wrap", text)


def test_a_map_has_a_rectangle_for_each_wrong_element_and_one_around_the_first(faulty: list[SubjectFindings]) -> None:
    maps = faulty[0].findings[0].error_maps
    assert maps is not None
    [svg, *_] = re.findall(r"<svg.*?</svg>", page_of(faulty[:1]).text, re.DOTALL)

    wrong = sum(error > 1 for column in maps["maps"][0]["errors"] for error in column)
    assert len(re.findall(r'<rect class="l[123]"', svg)) == wrong > 0
    assert svg.count('<rect class="first"') == 1
    assert 'role="img" aria-label="states' in svg


def test_a_page_says_what_the_command_says(faulty: list[SubjectFindings]) -> None:
    done = faulty[0]
    reports = [subject_report(done, verbose=verbose) for verbose in (False, True)]
    said = " ".join(" ".join(printed(one, 10_000) for one in reports).split())
    made = page_of([done])

    titles = [one.removeprefix("1. ").removesuffix(" certain") for one in made.inside("h3")]
    for one in titles + made.inside("dd"):
        assert one in said


def test_a_pass_shows_the_values_and_the_shares_that_were_met() -> None:
    [values, shares] = page_of([SubjectFindings(Examination(agreement()))]).inside("table")

    assert "num_layers 1 of 1 1" in values
    assert shares.startswith("share of cases values pairs")


def test_a_subject_that_agrees_has_no_finding_and_says_what_was_left_out(kept: Path) -> None:
    done = examined(find_subject(f"{EXAMPLES / 'notebook.py'}:rnn_with_b_hh"), kept, 60)
    made = page_of([done])

    assert made.of("article") == []
    assert made.of("h1")[0]["class"] == "warn"
    assert "not enough seen to say that it agrees" in made.inside("title")[0]
    assert any("60 of 200 cases" in one for one in made.inside("dd"))
    assert any("one tanh layer, one direction" in one for one in made.inside("dd"))


def test_a_call_that_gives_no_numbers_has_no_map_and_is_escaped(kept: Path) -> None:
    made = page_of([examined(as_subject(raising), kept, 30)])

    assert "<svg" not in made.text
    assert "<too long>" not in made.text
    assert "<mine>" not in made.text
    assert "rnn-harness check <mine> & yours" in made.inside("footer")[0]


def test_the_table_of_all_subjects_has_its_sum_and_its_reasons() -> None:
    rows = [
        SubjectRow("torch", "agrees", Share("pairs", 3, 4), seconds=60.0),
        SubjectRow("onnx:runtime", "disagrees", Share("pairs", 1, 4), 2, 30.0),
        SubjectRow("torch:tf32", why="needs CUDA & a driver"),
    ]

    shown = page_of([], rows=rows)

    assert shown.inside("td") == [
        *("torch", "agrees", "75.0 %", "0", "1.0"),
        *("onnx:runtime", "disagrees", "25.0 %", "2", "0.5"),
        *("2 subjects", "", "", "2", "1.5"),
    ]
    assert shown.inside("dd") == ["needs CUDA & a driver"]


def test_a_page_is_small_and_loads_nothing(faulty: list[SubjectFindings]) -> None:
    made = page_of(faulty)

    assert len(made.text.encode()) < 10**6
    for tag in ("link", "img", "iframe", "script"):
        assert made.of(tag) == []
    assert "default-src 'none'" in made.text


def test_kept_findings_have_the_same_causes_and_maps(faulty: list[SubjectFindings], kept: Path) -> None:
    ids = {one.finding.id for done in faulty for one in done.in_search_order}
    stored = [one for one in Store(kept).list() if one.id in ids]

    made = Page(page_of_findings(stored, command="rnn-harness findings", version="1"))

    assert made.inside("h1") == ["2 findings"]
    assert made.text.count("<svg") == page_of(faulty).text.count("<svg")
    assert any("ignores bias_hh: b_hh is never added" in one for one in made.inside("h3"))


def test_a_finding_whose_record_has_little_is_shown_all_the_same(
    faulty: list[SubjectFindings], kept: Path, tmp_path: Path
) -> None:
    shutil.copytree(kept, tmp_path / "old")
    for file in (tmp_path / "old").glob("*/finding.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({name: record[name] for name in ("id", "subject", "kind", "cause")}))

    made = Page(page_of_findings(Store(tmp_path / "old").list(), command="", version="1"))

    assert len(made.of("article")) >= len(faulty)
    assert "<svg" not in made.text


def test_the_command_writes_it_and_refuses_what_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["rnn-harness", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        return int(exit_.value.code or 0)

    monkeypatch.chdir(tmp_path)
    wrong = f"{EXAMPLES / 'notebook.py'}:rnn_without_b_hh"
    monkeypatch.setattr("harness.search.budget.CASES_AFTER_FINDING", 10)

    assert run("check", wrong, "-n", "0", "--examples", "30", "--report", "made.html") == 1
    made = Page(Path("made.html").read_text())
    assert f"rnn-harness check {wrong} -n 0 --examples 30 --report made.html" in made.inside("footer")[0]
    assert {"Everything about it", "reproduce.py", "issue.md"} <= {*made.inside("summary")}
    assert run("findings", "--report", "kept.html") == 0
    assert "ignores bias_hh" in Path("kept.html").read_text()
    assert run("findings", "--report", "no/such/folder.html") == 2
    assert "--report no/such/folder.html: its folder does not exist" in capsys.readouterr().err
    assert run("findings", "--report", "-") == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
