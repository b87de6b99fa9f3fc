"""The recipes of CONTRIBUTING.md work: each is followed on a copy of the package, in a process of its own."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (ROOT / "CONTRIBUTING.md").read_text()
FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE: Final = re.compile(r"`([^`\n]+)`")
RECIPES: Final = dict(re.findall(r"^## Add an? (\w+)$\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


class Edit(NamedTuple):
    """Something to add to a file of the repository."""

    path: str
    where: str  # ``after`` a text in its line, ``below`` a line, ``above`` a line, ``at the end``, and so on
    text: str
    new: str


def edits(recipe: str) -> Iterator[Edit]:
    """Yield what a recipe says is to be added: in blocks of Python, in a table of texts, and in sentences."""
    for language, block in FENCED.findall(recipe):
        if language == "python":
            head, _, new = block.partition("\n")
            found = re.fullmatch(r'# (\S+), (at the end of|at the end|a new file|below|above)(?: "(.+)"| (\w+))?', head)
            assert found is not None, head
            yield Edit(found[1], found[2], found[3] or found[4] or "", new)
        else:
            for row in block.splitlines():
                names, text, new = re.split(r" {2,}", row)
                yield from (Edit(f"harness/{name}", "after", text, new) for name in names.split(", "))
    prose = " ".join(FENCED.sub("", recipe).split())
    for path, text, new in re.findall(r"In `(\S+)`, after `([^`]+)`, add `([^`]+)`", prose):
        yield Edit(path, "after", text, new)


def added(source: str, edit: Edit) -> str:
    """Return a file's text with an addition; a text that it is to stand at must be there, and only once."""
    if edit.where in {"at the end", "a new file"}:
        return f"{source}\n\n{edit.new}" if source else edit.new
    lines = source.splitlines(keepends=True)
    if edit.where == "at the end of":
        (start,) = (n for n, line in enumerate(lines) if line.startswith(f"{edit.text}: "))
        place = next(n for n in range(start, len(lines)) if lines[n] == ")\n")
        return "".join([*lines[:place], textwrap.indent(f"{edit.new.rstrip()},\n", "    "), *lines[place:]])
    whole = [n for n, line in enumerate(lines) if line.strip() == edit.text]
    if edit.where == "after" and not whole:
        assert source.count(edit.text) == 1, edit
        return source.replace(edit.text, edit.text + " " * edit.new[0].isalpha() + edit.new)
    (place,) = whole
    if edit.where == "above":
        return "".join([*lines[:place], f"{edit.new}\n\n", *lines[place:]])
    line = lines[place]
    indent = line[: len(line) - len(line.lstrip())] + "    " * line.rstrip().endswith(("{", "("))
    return "".join([*lines[: place + 1], textwrap.indent(f"{edit.new.rstrip()}\n", indent), *lines[place + 1 :]])


def followed(name: str, folder: Path) -> Path:
    """Follow a recipe on a copy of the package and its tests."""
    for part in ("harness", "tests", "benchmarks"):
        copytree(ROOT / part, folder / part)
    for edit in edits(RECIPES[name]):
        path = folder / edit.path
        assert path.exists() == (edit.where != "a new file"), path
        changed = added(path.read_text() if path.exists() else "", edit)
        ast.parse(changed)
        path.write_text(changed)
    return folder


def ran(folder: Path, *arguments: str) -> str:
    """Run Python with the package of a folder; return what it prints."""
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(recipe: str, program: str = "rnn-harness ") -> list[list[str]]:
    """Return the words of each command that a recipe tells to run."""
    return [code.split()[1:] for code in CODE.findall(FENCED.sub("", recipe)) if code.startswith(program)]


# Following them


TERM: Final = """
import numpy as np
from harness import RNNConfig, as_subject, hunt
from harness.diagnosis.finding_explainer import FindingExplainer

def rnn(x, h0, weights, config):
    W_ih, W_hh, b_ih, b_hh = (weights[name] for name in config.weights)
    states = [h0[0]]
    for x_t in x:
        states.append(np.tanh(x_t @ W_ih.T + b_ih + states[-1]**3 @ W_hh.T + b_hh))
    return np.stack(states[1:]), states[-1][None]

subject = as_subject(rnn)
record = hunt(subject, cases=100)
print(FindingExplainer(subject).diagnosis(record.finding, record.scope).cause.lines[0])
"""


def test_a_term_is_named(tmp_path: Path) -> None:
    said = ran(followed("term", tmp_path), "-c", TERM)

    assert "h**3 @ W_hh.T" in said


RELATION: Final = """
from tests.checks.test_relations import *
relation = RELATIONS["{name}"]
test_every_relation_has_a_mistake_that_breaks_it()
test_a_planted_mistake_breaks_its_relation_and_shows_in_no_other_way(relation.name, PLANTED[relation.name])
for config in (BACK.replace(hx=True, output_size=2), TWO.replace(num_layers=2, batch_first=True), PACKED):
    print(check_relation(TORCH, draw(config), relation).verdict.value)
"""


def test_a_relation_is_kept_by_torch_and_broken_by_its_mistake(tmp_path: Path) -> None:
    (name,) = re.findall(r"^def (\w+)\(", RECIPES["relation"], re.MULTILINE)

    said = ran(followed("relation", tmp_path), "-c", RELATION.format(name=name.replace("_", " ")))

    assert said.split() == ["agrees"] * 3


SUBJECT: Final = """
import torch
from harness import hunt
from harness.subjects.registry import find_subject
subject = find_subject("{name}")
print(subject.name, hunt(subject, cases=60).verdict.value)
right = torch.rnn_tanh
torch.rnn_tanh = lambda x, h0, *more: right(x, 0 * h0, *more)
print(hunt(subject, cases=60).finding.case.config)
"""


def test_a_subject_is_found_by_its_name_and_checked(tmp_path: Path) -> None:
    ((_, name),) = commands(RECIPES["subject"])

    said = ran(followed("subject", tmp_path), "-c", SUBJECT.format(name=name))

    assert said.splitlines() == [f"{name} agrees", "RNNConfig(1, 1, T=1, N=1, hx=True)"]


CHECK: Final = """
import numpy as np
from harness import Result, Scope, Verdict, as_subject, hunt
from harness.checks import case_checks
from tests.implementations import vectorised

def above_one(x, h0, weights, config):
    return tuple(np.where(np.abs(h) == 1, np.nextafter(h, 2 * h), h) for h in vectorised(x, h0, weights, config))

def searched(function):
    record = hunt(as_subject(function), one_step, cases=60)
    print(record.verdict.value, *(f"{one.result.kind} {one.case.config}" for one in record.findings))

one_step = Scope().only(T=1, num_layers=1, nonlinearity="tanh", distributions="saturated")
searched(above_one)
searched(vectorised)
case_checks.check_range = lambda seen: Result(Verdict.AGREES)
searched(above_one)
"""


def test_a_check_finds_what_no_other_does_and_accuses_nothing_right(tmp_path: Path) -> None:
    said = ran(followed("check", tmp_path), "-c", CHECK)

    assert said.splitlines() == ["disagrees output: value RNNConfig(1, 1, T=1, N=1)", "agrees", "agrees"]


FACTOR: Final = """
import sys
from pathlib import Path
import torch
from harness import Scope, as_subject, draw, hunt, scope_of
from harness.diagnosis.script.script_text import script
from harness.report.wording import config_line
from harness.search import plan
from harness.space.factor_table import ConfigError
from harness.subjects import wire
from harness.subjects.registry import find_subject
from harness.subjects.torch_module import TorchSubject
from tests.implementations import vectorised

class Deaf(torch.nn.RNN):
    def forward(self, x, *arguments, hx=None):
        return super().forward(x, *arguments)

sizes = dict(T=[1, 2], N=[1, 2], input_size=[1, 2], hidden_size=[1, 2], num_layers=[1, 2], device="cpu")
right, deaf = TorchSubject(), TorchSubject(Deaf, "deaf.py:Deaf")
agreeing, failing = (hunt(one, scope_of(one).only(**sizes), cases=100) for one in (right, deaf))
config = failing.finding.case.config
print(agreeing.verdict.value, sorted(agreeing.coverage.factors["passing"], key=str))
print(failing.verdict.value, config, config.plain)
print("passing" in config_line(config), "passing" in config_line(config.plain))
print(script(failing.finding, deaf).reason)
print(as_subject(vectorised).run(draw(config)).failure.value)
Path("reads.py").write_text("def rnn(x, h0, weights, config): raise ValueError(config.passing)")
print(find_subject(f"python:{sys.executable} reads.py:rnn").run(draw(config.plain)).message)
print("passing" in plan._PLAIN, "passing" in wire.UNSENT)
for met in (True, False):
    pairs = agreeing.coverage.interactions(agreeing.scope, 2, met=met)
    print([tuple(pair.values()) for pair in pairs if pair.keys() == {"hx", "passing"}])
try:
    Scope().only(passing="by hand")
except ConfigError as error:
    print(error)
"""


def test_a_factor_is_drawn_made_plain_and_known_to_all_who_read_the_table(tmp_path: Path) -> None:
    said = ran(followed("factor", tmp_path), "-c", FACTOR)

    assert said.splitlines() == [
        "agrees [None, 'keyword']",
        "disagrees RNNConfig(1, 1, T=1, N=1, hx=True, passing='keyword') RNNConfig(1, 1, T=1, N=1, hx=True)",
        "True False",
        "only this package calls a module with passing=keyword",
        "unsupported",
        "ValueError: None",
        "True True",
        "[(False, None), (True, None), (True, 'keyword')]",
        "[]",
        "passing='by hand': expected one of None, 'keyword'",
    ]
