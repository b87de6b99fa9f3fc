"""The README and the pages of docs/ keep their word: links, options, numbers, names and examples."""

from __future__ import annotations

import ast
import doctest
import inspect
import io
import re
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Final

import click
import pytest

import harness
from harness import plugin
from harness.checks.accuracy import CLOSE, NEAR, POINTS
from harness.checks.dropout import FALSE_ALARMS
from harness.checks.known_issues import KNOWN_ISSUES
from harness.checks.laws import LAWS
from harness.checks.malformed import RULES
from harness.checks.result import Verdict
from harness.cli import codes, main
from harness.diagnosis.diagnose import EVIDENCE
from harness.diagnosis.faults import CATALOGUE
from harness.diagnosis.investigate import Investigation
from harness.oracle.arithmetic import CONTRACTS, accepted
from harness.oracle.tolerance import LAMBDA
from harness.report.paper import Paper
from harness.report.place import Kept
from harness.report.severity import Severity, Told
from harness.report.short import IN_FULL, short_finding
from harness.search import examination, suspicion
from harness.search.budget import AFTER, CASES
from harness.search.plan import COVERED, LAWFUL, THOROUGH, UNIT
from harness.search.pursuit import CRASHES
from harness.search.shrink import FEW, SEEDS
from harness.space.contract import KERNEL, PORT, under
from harness.space.errors import UsageError
from harness.space.scope import BESIDE, Scope
from harness.space.values import REGIMES
from harness.subjects.function import GIVEN, FunctionSubject
from harness.subjects.isolated import PATIENCE, STARTING, TIMEOUT
from harness.subjects.protocol import scope_of
from harness.subjects.registry import GROUP, find_subject, registered
from harness.subjects.switches import SUBJECTS, SWITCHES

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text()
PAGES: Final = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
DOCUMENTS: Final = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(), **PAGES}
REFERENCE: Final = PAGES["docs/reference.md"]
FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

LINES: Final = 200
WIDTH: Final = 120
TERMS: Final = 30


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return FENCED.sub("", text)


def joined(text: str) -> str:
    """A document with its lines put together, so that a sentence is found wherever it is broken."""
    return " ".join(text.split())


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCED.findall(text) if kind == language]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its rank or higher."""
    marks, _, _ = heading.partition(" ")
    found = re.search(rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def first_column(text: str) -> list[str]:
    """The first cells of the rows of all tables."""
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [row.removeprefix("|").partition(" |")[0].strip() for row in rows]


def quoted(text: str) -> set[str]:
    """Everything between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


# The shape of the documents


def test_the_readme_is_short_and_its_lines_fit() -> None:
    lines = README.splitlines()

    assert len(lines) <= LINES
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_page_fit_but_for_its_tables(page: str) -> None:
    assert [line for line in PAGES[page].splitlines() if len(line) > WIDTH and not line.startswith("|")] == []


def test_every_page_is_linked_from_the_readme() -> None:
    assert set(PAGES) - set(re.findall(r"\]\(([^)#]+)", README)) == set()


def test_the_pages_go_with_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    linked = {link.partition("/")[0] for link in re.findall(r"\]\(([^)#]+)", README)}
    beside = {project["readme"], *project["license-files"]}

    grafted = set(re.findall(r"^(?:graft|include) (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))

    assert project["readme"] == "README.md"
    assert linked - beside - grafted == set()


def anchors(text: str) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    found: Counter[str] = Counter()
    names = set()
    for title in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


LINKS: Final = [
    (name, link) for name, text in DOCUMENTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", prose(text))
]


@pytest.mark.parametrize(("document", "link"), dict.fromkeys(LINKS))
def test_every_link_leads_to_a_file_and_a_heading(document: str, link: str) -> None:
    assert "://" not in link  # which no test can follow
    place, _, heading = link.partition("#")
    path = (ROOT / document).parent / place if place else ROOT / document

    assert path.resolve().is_relative_to(ROOT)
    assert path.exists()
    if heading:
        assert heading in anchors(path.read_text())


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if text.count("\n## ") > 2])
def test_a_page_s_contents_list_every_part_of_it(page: str) -> None:
    text = PAGES[page]
    listed = re.findall(r"\]\(#([^)]+)\)", text.partition("\n## ")[0])

    assert set(re.findall(r"^## (.+)$", prose(text), re.MULTILINE)) != set()
    assert {next(iter(anchors(f"# {title}"))) for title in re.findall(r"^## (.+)$", prose(text), re.MULTILINE)} <= {
        *listed
    }


def test_the_glossary_is_short_and_in_order() -> None:
    terms = first_column(PAGES["docs/glossary.md"])[1:]

    assert len(terms) <= TERMS
    assert terms == sorted(terms)


# Commands and options


def test_the_commands_are_as_they_were_agreed_on() -> None:
    check = "python3 -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/rnn-harness check"
    (tests,) = re.findall(r"^python3 -m venv .*tox -e py$", README, re.MULTILINE)

    assert check in README.splitlines()
    assert tests == "python3 -m venv .venv-tox && .venv-tox/bin/pip install --quiet tox && .venv-tox/bin/tox -e py"
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


COMMANDS: Final[dict[str, click.Command]] = dict(main.cli.commands)
OURS: Final = {
    option
    for command in (main.cli, *COMMANDS.values())
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
    if option.startswith("-")
}
WORDS: Final = sorted(
    {word for text in DOCUMENTS.values() for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w-])", text)}
)


@pytest.mark.parametrize("word", WORDS)
def test_every_option_that_is_named_exists(word: str) -> None:
    ours = OURS | {"--help", "--quiet", "--hypothesis-seed"}  # click's own, pip's, and Hypothesis's
    ours |= {"--host", "--nthreads", "--nworkers", "--resources"}  # Dask's
    elsewhere = [inspect.getsource(plugin), *(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))]

    assert word in ours or any(f'"{word}"' in source for source in elsewhere)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_a_command(name: str) -> None:
    said = quoted(section(REFERENCE, f"### `rnn-harness {name}`") + section(REFERENCE, "## Commands"))
    said = {word for text in said for word in re.findall(r"(?<![\w-])--?[\w-]+", text)}
    own = quoted(section(REFERENCE, f"### `rnn-harness {name}`"))
    own = {word for text in own for word in re.findall(r"(?<![\w-])--?[\w-]+", text)}
    options = {
        option
        for parameter in COMMANDS[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }

    assert options - own - {"--json"} == set()
    assert "--json" in said


def test_the_plugin_s_options_and_profiles_are_told() -> None:
    said = PAGES["docs/pytest.md"]
    options = set(re.findall(r'"(--rnn-\w+)"', inspect.getsource(plugin)))

    assert {option for option in options if f"`{option}=" not in said} == set()
    assert "loads a Hypothesis profile of {dev}, {ci} or {nightly:,} examples".format(**plugin.PROFILES) in said


def test_the_exit_codes_are_told() -> None:
    finished = (codes.AGREES, codes.FINDING, codes.MISUSE, codes.FAULT)
    every = (*finished, codes.INTERRUPTED, codes.READER_GONE, codes.TERMINATED)

    assert first_column(section(REFERENCE, "## Exit codes"))[1:] == [str(code) for code in every]


# Numbers


WORDS_OF: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

NUMBERS: Final = {
    "README.md": [
        f"a correct layer fails it at most once in {1 / FALSE_ALARMS:,.0f} runs",
        f"none of the other {len(CATALOGUE) - 1} known mistakes",
    ],
    "docs/reference.md": [
        f"{CASES:,} cases unless told otherwise",
        f"There are {len(LAWS)} laws",
        f"in {len(RULES)} ways",
        f"fewer than {examination.CASES} cases, fewer than {examination.GRADIENTS} with gradients",
        f"fewer than {WORDS_OF[round(10 * examination.PAIRS)]} in ten pairs of values",
        f"a probability of at most {FALSE_ALARMS:.0e} a run".replace("e-0", "e-"),
        f"At most {WORDS_OF[round(5 * COVERED)]} in five cases",
        f"`--timeout {TIMEOUT:g}s`",
        f"it may take {WORDS_OF[round(STARTING / 60)]} minute",
    ],
    "docs/findings.md": [
        f"for at most {AFTER} more cases",
        f"{WORDS_OF[round(LAMBDA)]} standard deviations of a model",
        f"at least half of {WORDS_OF[suspicion.SEEDS]} other sets",
        f"At most {WORDS_OF[IN_FULL]} findings are shown in full",
    ],
    "docs/explanation.md": [
        f"{WORDS_OF[SEEDS]} drawn sets of values of each regime",
        f"{SEEDS * len(REGIMES)} drawn sets of values in all",
        f"({SEEDS * len(under(Scope(), PORT).regimes)} under the port contract",
        f"where a factor has more than {FEW} plainer values",
        f"at least {WORDS_OF[EVIDENCE]} fresh cases",
        f"waited {PATIENCE:g} seconds",
        f"in units of {UNIT}",
        f"One case in {WORDS_OF[LAWFUL]} is held to a law",
        f"One in {WORDS_OF[THOROUGH]} is asked twice",
        f"Up to {CLOSE / 2:g} ulp, or {NEAR * CLOSE:g} u near 0",
        f"some {POINTS:,} arguments",
    ],
    "docs/limits.md": [f"a crash for at most {CRASHES:g} seconds"],
    "docs/how-to.md": [f"the group `{GROUP}`"],
}


@pytest.mark.parametrize(("document", "said"), [(name, said) for name, some in NUMBERS.items() for said in some])
def test_the_numbers_are_the_code_s(document: str, said: str) -> None:
    assert joined(said) in joined(DOCUMENTS[document])


def test_the_short_table_of_the_readme_is_of_the_measurements() -> None:
    rows = [line for line in section(README, "## How well it works").splitlines() if line.startswith("|")]

    assert len(rows) > 2
    assert set(rows) - set(PAGES["docs/measurements.md"].splitlines()) == set()


# Names


def test_the_laws_are_told() -> None:
    assert first_column(section(REFERENCE, "### Laws"))[1:] == [f"`{name}`" for name in LAWS]


def test_the_known_issues_are_told_by_name() -> None:
    told = first_column(section(REFERENCE, "## Known issues"))[1:]

    assert sorted(told) == sorted(f"`{one.name}`" for one in KNOWN_ISSUES)


SEARCHED: Final = section(REFERENCE, "## What is searched").partition("\n### ")[0]


def test_the_factors_and_their_values_are_told() -> None:
    rows = [line for line in SEARCHED.splitlines() if line.startswith("| `")]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    names = {*Scope().values(), "regimes"}

    assert sorted(told) == sorted(names)
    assert names == {*Scope.__dataclass_fields__} - (BESIDE - {"regimes"})
    table = "\n".join(rows)
    offers = harness.as_subject("torch").capabilities.offers
    for name, values in {**Scope().values(), **offers, "regimes": REGIMES}.items():
        words = {value for value in values if isinstance(value, str) and name != "device"} if name != "masks" else set()
        assert {word for word in words if f"`{word}`" not in table} == set(), name


def test_what_is_asked_of_a_function_is_told() -> None:
    rows = {
        name: row.rpartition(" | ")[2].removesuffix(" |")
        for row in SEARCHED.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    }

    def every(x: object, h0: object, weights: object, config: object) -> None: ...

    def more(x: object, cotangents: object, lengths: object, masks: object) -> None: ...

    plain, opened = (FunctionSubject(one, "one") for one in (every, more))
    ports, kernels, others = (
        scope_of(one, contract) for one, contract in ((plain, PORT), (plain, KERNEL), (opened, PORT))
    )
    for name, said in rows.items():
        asked, kernel, other = (
            set(getattr(scope, name)) if name != "dropout" else scope.modes for scope in (ports, kernels, others)
        )
        taken = [word for word in GIVEN if f"`{word}`" in said]
        if name == "enforce_sorted":  # which a scope always has, and a batch that is not packed does not
            assert taken == ["lengths"]
            continue
        assert (len(set(asked)) < len(set(kernel))) == ("kernel contract" in said), name
        assert (len(set(asked)) < len(set(other))) == bool(taken), name
        if said == "no":
            assert len(asked) == 1, name


def test_the_kernel_settings_and_the_subjects_are_told() -> None:
    told = [name for cell in first_column(section(REFERENCE, "### Kernel settings")) for name in quoted(cell)]

    assert sorted(told) == sorted(SUBJECTS)
    named = quoted(" ".join(first_column(section(REFERENCE, "## Subjects"))))
    assert set(registered()) - named == set()
    for name in SUBJECTS:
        assert all(value in REFERENCE for value in SWITCHES[name.removeprefix("torch:")].environ.values())


def test_the_tolerances_are_those_that_the_command_takes() -> None:
    table = section(PAGES["docs/how-to.md"], "## Accept coarser arithmetic")
    told = [text for cell in first_column(table)[1:] for text in quoted(cell)]

    assert set(CONTRACTS) - {"derived"} <= set(told)
    for text in told:
        accepted(text.replace("R", "1e-3").replace("A", "1e-6"))
    with pytest.raises(UsageError):
        accepted("tf16")


def test_the_verdicts_and_the_order_of_findings_are_told() -> None:
    findings = PAGES["docs/findings.md"]

    assert first_column(section(findings, "## Verdicts"))[1:] == [verdict.value for verdict in Verdict]
    assert len(re.findall(r"^\d\. ", section(findings, "## The first line and the order"), re.MULTILINE)) == 1 + len(
        Severity
    )


def test_the_public_names_are_told() -> None:
    told = [name for cell in first_column(section(REFERENCE, "## Python API")) for name in quoted(cell)]

    assert set(harness.__all__) - quoted(section(REFERENCE, "## Python API")) == set()
    assert {name for name in told if not hasattr(harness, name)} == set()


# The architecture


ARCHITECTURE: Final = PAGES["docs/architecture.md"]


def test_the_rooms_are_drawn_in_the_order_that_is_enforced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = [one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    order = [room for layer in layers for room in layer.split(" | ") if room != "__main__"]
    (drawing,) = blocks(section(ARCHITECTURE, "## The rooms"), "")
    rooms = (re.sub(r"(?<=\w) {4,}\w.*", "", line) for line in drawing.splitlines())
    drawn = [room for line in rooms for room in re.findall(r"\w+", line)]

    assert drawn == order
    assert {name for cell in first_column(ARCHITECTURE)[1:] for name in quoted(cell)} == set(order)


def test_the_names_of_the_architecture_exist() -> None:
    sources = [path for folder in ("harness", "tests") for path in (ROOT / folder).rglob("*.py")]
    known = {"tox", "nn", "torch", "pytest", "docs"}
    for path in sources:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        known |= {node.id for node in nodes if isinstance(node, ast.Name)}
        known |= {path.stem, path.parent.name}
    tox = (ROOT / "tox.ini").read_text()
    named = {text for text in quoted(prose(ARCHITECTURE)) if re.fullmatch(r"[\w.]+", text)}

    assert {text for text in named if not {*text.removesuffix(".py").split(".")} <= known and text not in tox} == set()


# Examples


def test_the_shell_s_examples_parse() -> None:
    wrong = []
    group = click.Context(main.cli, **main.cli.context_settings)  # without it, click keeps other help options
    for block in (block for text in DOCUMENTS.values() for block in blocks(text, "sh")):
        for line in re.split(r"[\n;]", block):
            name, *words = re.sub(r'"\$\w+"', "1", line.strip()).removeprefix("rnn-harness").split() or [""]
            if line.strip().startswith("rnn-harness"):
                try:
                    COMMANDS[name].make_context(name, words, parent=group)
                except click.ClickException as error:
                    wrong.append((line, error.message))

    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_python_examples_parse(document: str) -> None:
    for block in blocks(DOCUMENTS[document], "python"):
        ast.parse(block)


def test_the_case_goes_through_all_rooms_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    unfenced = re.sub(r"^```.*$", "", ARCHITECTURE, flags=re.MULTILINE)
    example = doctest.DocTestParser().get_doctest(unfenced, {}, "architecture.md", None, 0)

    assert len(example.examples) > 30
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_port_of_the_how_to_guide_agrees() -> None:
    port = ModuleType("port")
    exec(blocks(section(PAGES["docs/how-to.md"], "## Check a function"), "python")[0], vars(port))  # noqa: S102

    offered = harness.offered(port.rnn)
    record = harness.hunt(FunctionSubject(port.rnn, "port"), offered, cases=40)

    assert record.verdict is Verdict.AGREES
    assert record.undone == {}
    assert not record.not_compared
    assert not record.ignored
    assert any(offered.loss)


PICTURE: Final = next(block for block in blocks(README, "") if "rnn_without_b_hh disagrees" in block)


def test_the_finding_in_the_readme_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    subject = find_subject("examples/notebook.py:rnn_without_b_hh")
    record = harness.hunt(subject)
    assert record.finding is not None
    explanation = Investigation(subject).explain(record.finding, record.scope)
    kept = Kept(Path(".rnn-harness", record.finding.id), script="reproduce.py")
    further = int(re.findall(r"(\d+) more cases", PICTURE)[0])
    told = Told(record.finding, explanation, kept, further)

    paper = Paper(width=118, file=io.StringIO(), highlight=False)
    paper.print(short_finding(1, told))

    assert f"{further + 1} of " in PICTURE.partition("\n")[0]
    assert paper.file.getvalue() in PICTURE  # type: ignore[attr-defined]


def test_the_lines_of_the_finding_in_the_readme_are_explained() -> None:
    lines = re.findall(r"^ +(yours|nn\.RNN|wrong|smallest|fails|passes|run it|replay) ", PICTURE, re.MULTILINE)
    told = quoted(" ".join(first_column(section(PAGES["docs/findings.md"], "## The lines of a finding"))))

    assert lines == ["yours", "nn.RNN", "wrong", "smallest", "fails", "passes", "run it", "replay"]
    assert set(lines) - told == set()
    reading = section(README, "## Reading a finding")
    assert set(lines) - quoted(reading) == set()
