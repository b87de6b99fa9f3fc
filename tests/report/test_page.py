"""Tests of the HTML report: what it says, and that it loads nothing and is used without a mouse or without eyes."""

import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planted import PlantedSubject
from harness.checks.vacuous import ZERO
from harness.cli import main
from harness.diagnosis.faults import CATALOGUE
from harness.pipeline import go_through
from harness.report.everything import Row
from harness.report.page import render
from harness.report.page.data import subject_data
from harness.search.examination import Examination
from harness.search.record import Hunt
from harness.space.scope import Scope
from harness.space.searched import Share
from harness.store import page
from harness.store.findings import Store
from harness.subjects.capabilities import Capabilities
from harness.subjects.protocol import Subject, scope_of
from harness.subjects.registry import as_subject, find_subject
from tests import implementations
from tests.report.test_wording import FINDING, agreement
from tests.unrun import let_scripts_fail_unrun

EXAMPLES = Path(__file__).parents[2] / "examples"
FAULTS = ("IgnoresBiasHH", "ReverseBeforeForward", "ReverseStartsInPadding")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Page(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.elements = text, list[tuple[str, dict[str, str | None]]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(re.sub(r"<[^>]+>", " ", self.text).split())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


def of(subjects: list[Subject], folder: Path, cases: int) -> Page:
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.search.budget.AFTER", 30)
        let_scripts_fail_unrun(patch)
        for subject in subjects:
            done = go_through(subject, scope_of(subject), folder=str(folder), warn=pytest.fail, cases=cases)
            parts.append((done.examination, done.told, done.capabilities))
    return Page(page.of_run(parts, command="rnn-harness check <mine> & yours", version="1.2.3"))


@pytest.fixture(scope="module")
def three(kept: Path) -> Page:
    faults = {fault.name: fault for fault in CATALOGUE}
    return of([PlantedSubject(faults[name]) for name in FAULTS], kept, 30)


@pytest.fixture(scope="module")
def none(kept: Path) -> Page:
    return of([find_subject(f"{EXAMPLES / 'notebook.py'}:rnn_with_b_hh")], kept, 60)


def test_the_parts_come_in_order(three: Page) -> None:
    headings = [one.get("id") for one in three.of("h2")]

    assert headings == ["limits", "verdicts", "findings", "passed", "ground"]


def test_every_finding_has_its_cause_its_case_and_its_pictures(three: Page) -> None:
    assert len(three.of("article")) == len(FAULTS)
    assert "ignores bias_hh: b_hh is never added (bias_hh_l0)" in three.words
    assert "Case.of(RNNConfig(1, 1, T=1, N=1)" in three.words
    labels = [str(one.get("aria-label")) for one in three.of("div") if one.get("role") == "img"]
    assert sum("unrolled" in label for label in labels) == len(FAULTS)
    assert sum("Error over allowance, made at each step" in label for label in labels) >= len(FAULTS)
    assert any("The sequence ends after" in label for label in labels)


def test_units_in_another_order_have_their_matrix(three: Page) -> None:
    assert three.words.count("Units in another order") == 1


def test_the_first_wrong_state_is_marked_once_in_a_map(three: Page) -> None:
    assert "The red line is the first departure" in three.text
    assert three.text.count("✗</text>") >= len(FAULTS)


def test_every_text_that_is_copied_is_on_the_page(three: Page) -> None:
    ids = [one["id"] for _, one in three.elements if "id" in one]
    copied = [one["data-copy"] for one in three.of("button") if "data-copy" in one]

    assert len(ids) == len(set(ids))
    assert set(copied) <= set(ids)
    for name in ("case-", "replay-", "issue-md-", "command"):
        assert any(str(one).startswith(name) for one in copied)


def test_a_page_without_a_finding_says_what_was_not_seen(none: Page) -> None:
    assert none.of("article") == []
    assert "too little for a verdict: 60 of 200 cases" in none.words
    assert [one["data-sign"] for one in none.of("p") if "data-sign" in one] == ["?"]
    assert "gradients: not asked for" in none.words
    assert "No finding." in none.words
    assert "Each case counts by its largest error over allowance" in none.words
    assert "below each other" not in none.words


def test_the_margins_of_several_subjects_are_on_one_scale_with_what_chose_their_kernels(three: Page) -> None:
    [said] = [str(one["aria-label"]) for one in three.of("div") if "float32, passing" in str(one.get("aria-label"))]

    assert len(re.findall(r"\w+ \([^)]+\), \d+ case", said)) == len(FAULTS)
    assert "The subjects are below each other on the same scale" in three.words


def test_several_subjects_on_one_ground_have_it_once(three: Page) -> None:
    assert three.text.count("<dt>platform</dt>") == 1


def test_a_subject_that_answered_no_case_has_no_shares_of_what_it_met() -> None:
    said = subject_data(Examination(Hunt("mine", 0, Scope())), (), Capabilities())

    assert said["limits"][1]["said"] == ["gradients: not asked for", "all of it: no case was answered"]
    assert said["pairs"] == []
    assert said["tone"] == "warn"


def test_a_subject_of_which_too_few_cases_could_have_shown_a_mistake_says_so() -> None:
    hunt = agreement()
    hunt.weak[ZERO] = hunt.total

    groups = {group["title"]: group["said"] for group in subject_data(Examination(hunt), (), Capabilities())["limits"]}

    assert groups["Weak cases"][0].startswith(f"few of {hunt.total:,} cases could have shown states of zero (0; ")
    hunt.findings.append(FINDING)
    [again, *_] = subject_data(Examination(hunt), (), Capabilities())["limits"]
    assert not any("could have shown" in said for said in again["said"])


def test_the_table_of_all_subjects_comes_first_with_its_sum_and_its_reasons() -> None:
    rows = [
        Row("torch", "agrees", Share("pairs", 3, 4), seconds=60.0),
        Row("onnx:runtime", "disagrees", Share("pairs", 1, 4), 2, 30.0),
        Row("torch:tf32", why="needs CUDA & a driver"),
        Row("torch:ieee", why="needs CUDA & a driver"),
    ]

    shown = Page(page.of_run([], command="", version="", rows=rows))

    assert shown.of("h2")[0]["id"] == "everything"
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", shown.text.partition("</table>")[0])
    assert cells == [
        *("subject", "verdict", "covered", "findings", "minutes"),
        *("torch", "agrees", "75.0 %", "0", "1.0"),
        *("onnx:runtime", "disagrees", "25.0 %", "2", "0.5"),
        *("2 subjects", "", "", "2", "1.5"),
    ]
    assert "<dt>torch:tf32, torch:ieee</dt><dd>needs CUDA &amp; a driver</dd>" in shown.text


def test_the_first_malformed_call_is_shown_unfolded() -> None:
    told = {"name": "mine", "refusals": [{"head": name, "facts": {"code": "rnn(x)"}} for name in ("first", "second")]}

    made = Page(render._template("finding.html.j2").module.refusals(told))

    assert [list(one) for one in made.of("details")] == [["open"], []]


# Findings that are not of the states


def copied_wrongly(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output, h_n * h_n.dtype.type(0.5)


def raising(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    if config.T > 1:
        raise ValueError("<too long>")
    return implementations.vectorised(x, h0, weights, config)


def lacking(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    return implementations.vectorised(x, h0, weights, config)[0]


def wavering(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return output + output.dtype.type(next(COUNT)), h_n


COUNT = itertools.count()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of subjects whose states have no wrong number."""
    every: list[Any] = [copied_wrongly, raising, lacking, wavering]
    return of([as_subject(one) for one in every], tmp_path_factory.mktemp("odd"), 30)


def test_a_wrong_copy_of_the_final_state_is_drawn_and_mapped(odd: Page) -> None:
    assert "Wrong: the final state in h_n" in odd.words
    assert "the first error beyond its allowance is of h_n, at layer=0" in odd.words
    assert "Error over allowance, accumulated over the run: h_n, sequence n=0" in odd.text


def test_a_call_that_gives_no_numbers_is_framed_and_has_no_map(odd: Page) -> None:
    assert "✗ ValueError: &lt;too long&gt;" in odd.text
    assert "The whole call fails: the frame is around it." in odd.words
    assert "There is no map of the errors: the call returned no numbers." in odd.words
    assert re.search(r" at \S*test_page.py, line \d+", odd.words)


def test_other_findings_without_a_map_say_why(odd: Page) -> None:
    said = "There is no map of the errors: "
    assert f"{said}the call did not return the arrays that nn.RNN returns." in odd.words
    assert f"{said}the two runs are compared with each other, and neither is known to be right." in odd.words
    assert "✗ two runs of this call differ" in odd.text


def test_two_subjects_may_fail_on_the_same_case(tmp_path: Path) -> None:
    made = of([as_subject(lacking), as_subject(lacking)], tmp_path, 10)
    ids = [one["id"] for _, one in made.elements if "id" in one]

    assert len(made.of("article")) == 2
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["three", "none"])
def test_a_page_is_small_and_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    made: Page = request.getfixturevalue(name)

    assert len(made.text.encode()) < 10**6
    assert made.of("link") == made.of("img") == made.of("iframe") == []
    assert [one for one in made.of("script") if "src" in one] == []
    assert "default-src 'none'" in made.text


def test_what_others_wrote_is_escaped(three: Page) -> None:
    assert "<mine>" not in three.text
    assert "rnn-harness check &lt;mine&gt; &amp; yours" in three.text


@pytest.mark.long
def test_kept_findings_make_the_same_articles(three: Page, kept: Path) -> None:
    made = Page(page.of_findings(Store(kept).list(), command="rnn-harness findings", version="1"))

    def findings(page: Page) -> set[str]:
        return {str(one["id"]).rpartition("-")[0] for one in page.of("article")}

    assert findings(made) == findings(three)
    assert made.text.count("<svg") == three.text.count("<svg") - len(
        [one for one in three.of("div") if re.search("passing cases by|pairs of values", str(one.get("aria-label")))]
    )


def test_a_finding_of_an_earlier_version_is_shown_without_its_pictures(three: Page, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "old")
    for file in (tmp_path / "old").glob("*/finding.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({name: record[name] for name in ("id", "subject", "kind", "cause")}))

    made = Page(page.of_findings(Store(tmp_path / "old").list(), command="", version="1"))

    assert len(made.of("article")) == len(FAULTS)
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
    monkeypatch.setattr("harness.search.budget.AFTER", 10)

    assert run("check", wrong, "-n", "0", "--examples", "30", "--report", "made.html") == 1
    made = Path("made.html").read_text()
    assert f"rnn-harness check {wrong} -n 0 --examples 30 --report made.html" in made
    assert 'data-copy="reproduce-py-' in made
    assert run("findings", "--report", "kept.html") == 0
    assert "ignores bias_hh" in Path("kept.html").read_text()
    assert run("findings", "--report", "no/such/folder.html") == 2
    assert "--report no/such/folder.html: its folder does not exist" in capsys.readouterr().err
    assert run("findings", "--report", "-") == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")

    monkeypatch.setattr(render, "NEEDS", ("no_such_package",))
    assert run("check", wrong, "--report", "made.html") == 2
    assert capsys.readouterr().err == "Error: --report needs two more packages: pip install jinja2 vl-convert-python\n"


# In a browser: `tox -e quality` runs them


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=[*root, *quiet])
        yield made
        made.close()


TOO_WIDE = """[...document.querySelectorAll('[aria-label^="The largest error"]')]
    .filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"""
"""The charts of one size that do not fit."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("three", 400, "dark"), ("odd", 1600, "light"), ("none", 1600, "light"), ("none", 400, "dark")],
)
def test_a_browser_shows_it(
    name: str, width: int, scheme: str, browser: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    file = tmp_path / "report.html"
    file.write_text(request.getfixturevalue(name).text)
    seen: list[str] = []
    shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown.on("console", lambda message: seen.append(message.text))
    shown.on("pageerror", lambda error: seen.append(str(error)))
    shown.on("request", lambda asked: seen.append(asked.url))

    shown.goto(file.as_uri())
    for details in shown.query_selector_all("summary"):
        details.press("Enter")

    assert seen == [file.as_uri()]
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(TOO_WIDE) == []
    assert _violations(axe, shown) == []
    shown.close()


HOST = """<style>.host.host pre { white-space: pre-wrap; padding: 0; }
    .host ul:not(.inline), .host ol:not(.inline) { padding-left: 2em; }</style>"""
"""The styles that Jupyter has for what it shows."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("html", "body"), [("", 'data-jp-theme-light="false"'), ('theme="dark"', ""), ("", 'class="vscode-dark"'), ("", "")]
)
def test_a_notebook_shows_pieces_as_dark_as_it_is_and_does_not_break_their_lines(
    html: str, body: str, browser: Any
) -> None:
    key = render._template("macros.html.j2").module.heat_key(None)
    said: dict[str, Any] = {"tone": "bad", "verdict": "no", "cause": None, "sure": "", "more": [], "text": "-"}
    made = render.piece({**said, "code": {}, "picture": None, "shapes": []})
    shown = browser.new_page(color_scheme="light")
    within = f'<div class="host">{made}<div class="rnn-harness">{key}</div></div>'
    shown.set_content(f"<!doctype html><html {html}><head>{HOST}</head><body {body}>{within}</body></html>")

    paper, ink = shown.evaluate("""() => {
        const style = getComputedStyle(document.querySelector(".rnn-harness"));
        return [style.backgroundColor, style.color].map(one => Math.max(...one.match(/\\d+/g).map(Number)));
    }""")

    assert (paper < ink) == bool(html or body)
    assert shown.evaluate("getComputedStyle(document.querySelector('pre')).whiteSpace") == "pre"
    assert shown.evaluate("getComputedStyle(document.querySelector('.key')).paddingLeft") == "0px"
    shown.close()


def _violations(axe: Any, shown: Any) -> list[str]:
    found = axe.Axe().run(shown).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@pytest.mark.long
def test_the_keyboard_chooses_the_sequence_and_the_theme_and_copies(three: Page, browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(three.text)
    shown = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
    shown.goto(file.as_uri())
    article = shown.locator("article").first
    visible = article.locator("[data-panel]:visible div[role=img]")
    before = visible.first.get_attribute("aria-label")

    article.locator("select[name=n]").press("ArrowDown")
    after = visible.first.get_attribute("aria-label")

    assert "n=0" in before
    assert "n=1" in after
    paper = "getComputedStyle(document.body).backgroundColor"
    bright = shown.evaluate(paper)
    for _ in range(2):
        shown.locator("#theme").press("Enter")
    assert shown.locator("#theme").inner_text() == "Theme: dark"
    assert shown.evaluate(paper) != bright
    copy = article.locator("[data-copy]").first
    height = copy.evaluate("one => one.offsetHeight")
    article.locator(".copy > h4").first.evaluate("one => { one.textContent = 'words '.repeat(99); }")
    assert copy.evaluate("one => one.offsetHeight") == height  # its own word is not broken
    copy.press("Enter")
    shown.get_by_role("status").filter(has_text="copied").wait_for()  # to wait for a function, the page would need eval
    shown.close()
