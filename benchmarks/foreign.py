"""What a user of the command reads about layers that were written without knowledge of the catalogue of faults.

``layers`` holds five sets. Its manifest says of each layer which mistakes it has, in which words a report may name
them, and on which configs they show. The benchmark searches and explains each layer as the command does, and prints
whether the verdict is right, whether the first named cause is the right one, how many mistakes are told, whether the
smallest case is at its true minimum, and how many lines there are until the end of the first finding. Run:
``python benchmarks/foreign.py [LAYER]... --of first|second|third|fourth|fifth --workers 2``; without ``--of``, all.
"""

import argparse
import io
import json
import os
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.processes import one_thread_a_process

one_thread_a_process()

import numpy as np  # noqa: E402

from harness import RNNConfig, Subject, as_subject  # noqa: E402
from harness.checks.result import Verdict  # noqa: E402
from harness.diagnosis.defects import raise_defects  # noqa: E402
from harness.diagnosis.failure_conditions import FailureConditions  # noqa: E402
from harness.diagnosis.finding_explainer import Explanation, FindingExplainer  # noqa: E402
from harness.diagnosis.fresh_cases import changed  # noqa: E402
from harness.report import terminal  # noqa: E402
from harness.report.escaping_console import EscapingConsole  # noqa: E402
from harness.report.explanation_lines import fails_line  # noqa: E402
from harness.report.facts import cause_of, failure_line  # noqa: E402
from harness.report.finding_entry import SubjectFindings  # noqa: E402
from harness.report.reported_finding import reported  # noqa: E402
from harness.report.wording import left_out, mismatch_line  # noqa: E402
from harness.search.examination import Examination, examine  # noqa: E402
from harness.search.search import Search  # noqa: E402
from harness.search.search_options import SearchOptions  # noqa: E402
from harness.search.search_record import Finding  # noqa: E402
from harness.search.simplify import PLAIN_NUMBERS  # noqa: E402
from harness.space.scope import factors_of  # noqa: E402
from harness.store.save import keep  # noqa: E402
from harness.subjects.protocol import scope_of  # noqa: E402

raise_defects()

ROOT: Final = Path(__file__).parents[1]
LAYERS: Final = Path("benchmarks", "layers")
SETS: Final = ("first", "second", "third", "fourth", "fifth")
LEAST: Final = {"input_size": 1, "hidden_size": 1, "num_layers": 1, "T": 1, "N": 1, "bidirectional": False}


class Mistake(NamedTuple):
    """One mistake of a layer."""

    truth: str
    words: tuple[str, ...] = ()  # a report that has one of them names the mistake
    shows: str = ""  # the configs on which it shows, as an expression of their factors; empty if no config decides it
    smallest: Mapping[str, Any] | None = None  # what differs from LEAST in the smallest case; "any" if it is left open

    def larger(self, config: RNNConfig) -> dict[str, Any]:
        """Return the factors in which a config differs from the smallest one that shows the mistake."""
        here = factors_of(config) | {"lengths": config.lengths}
        least = {} if self.smallest is None else LEAST | dict(self.smallest)
        return {name: value for name, value in least.items() if value not in {here.get(name), "any"}}


class Layer(NamedTuple):
    """A layer of one of the sets; it is right if it has no mistakes."""

    spec: str
    mistakes: tuple[Mistake, ...]
    refuses: str = ""  # the configs that it refuses, as an expression of their factors
    only: Mapping[str, Any] = {}  # what its author would pin with --only
    profile: str | None = None

    @property
    def name(self) -> str:
        """Return the name of the function or class."""
        return self.spec.rpartition(":")[2]

    @property
    def subject(self) -> Subject:
        """Return the layer as the command takes it."""
        return as_subject(self.spec)


def layers() -> Iterator[Layer]:
    """Yield every layer of the manifest."""
    for file, entries in tomllib.loads((ROOT / LAYERS / "manifest.toml").read_text(encoding="utf-8")).items():
        profile = "kernel" if file.startswith(("first", "second")) else None
        for name, entry in entries.items():
            mistakes = entry.get("mistakes", [entry] if "truth" in entry else [])
            fields = [{name: one[name] for name in Mistake._fields if name in one} for one in mistakes]
            yield Layer(
                f"{LAYERS}/{file}.py:{entry.get('layer', name)}",
                tuple(Mistake(**one) for one in fields),
                entry.get("refuses", ""),
                {factor: None if value == "None" else value for factor, value in entry.get("only", {}).items()},
                entry.get("profile", profile),
            )


def holds(expression: str, config: RNNConfig) -> bool:
    """Return the value of an expression of a config's factors."""
    code = compile(expression or "False", "manifest.toml", "eval")
    return bool(eval(code, {name: getattr(config, name) for name in code.co_names}))  # noqa: S307 - the manifest is ours


def measured(layer: Layer, seed: int = 0, cases: int | None = None) -> dict[str, Any]:
    """Search and explain a layer, and return what the command says about it."""
    os.chdir(ROOT)
    subject, start = layer.subject, time.process_time()
    investigation = FindingExplainer(subject)
    scope = scope_of(subject, layer.profile).only(**layer.only)
    options = SearchOptions(cases, seed=seed)
    with np.errstate(all="ignore"), Search(subject, scope, options) as search:
        for finding in search.findings():
            search.pass_over(investigation.recognise(finding, search.record))
        done = examine(subject, search.record, options)
        explanations = [investigation.known_of(finding) for finding in done.hunt.findings]
        said = [graded(layer, *pair) for pair in zip(done.hunt.findings, explanations, strict=True)]
        lines = lines_to_the_first_finding(subject, done, explanations)
    return {
        "name": layer.name,
        "mistakes": [mistake.truth for mistake in layer.mistakes],
        "verdict": done.verdict.value if done.verdict else None,
        "verdict_right": (done.verdict is Verdict.AGREES) == (not layer.mistakes),
        "checks": done.hunt.total,
        "seconds": time.process_time() - start,
        "found": [*said, *(_graded(layer, line, None) for line in beside(done))],
        "lines": lines,
    }


def beside(done: Examination) -> Iterator[str]:
    """Yield what a report says of an examination in addition to its findings."""
    unrefused = {what: failure_line(result) for what, (_, result) in done.hunt.unsupported_unrefused.items()}
    for said, names in left_out(unrefused).items():
        yield f"{', '.join(names)} fail and are not refused: {said}"
    if done.dropout is not None and done.dropout.failed:
        yield done.dropout.message
    if done.refusals is not None and done.refusals.findings:
        lapses = Counter(one.lapse.value for one in done.refusals.findings)
        yield f"malformed calls: {', '.join(f'{number} kinds {lapse}' for lapse, number in lapses.items())}"
    if done.hunt.accuracy and done.verdict is Verdict.AGREES:
        yield "; ".join(f"{one.dtype}: {one.error_line}" for one in done.hunt.accuracy)


def graded(layer: Layer, finding: Finding, explanation: Explanation) -> dict[str, Any]:
    """Return what is said about a finding's cause, how right that is, and how small the case is."""
    diagnosis, result, config = explanation.diagnosis, finding.result, finding.case.config
    if diagnosis is None:
        grade = _graded(
            layer, "; ".join([*filter(None, [result.message]), *map(mismatch_line, result.mismatches)]), None
        )
    else:
        coarse = diagnosis.precision is not None and diagnosis.precision.explains
        said = cause_of(finding, explanation)[0] if diagnosis.cause or coarse else "unknown"
        grade = _graded(layer, said, diagnosis.certain or coarse)
        if explanation.factors is not None:
            grade["false"] = false_claims(layer, config, explanation.factors, grade["told"])
    numbers = [abs(one) for array in finding.case.arrays.values() for one in array.ravel().tolist()]
    return grade | {
        "config": repr(config),
        "kind": result.kind,
        "needs": fails_line(explanation.factors) if explanation.factors is not None else "",
        "larger": min((mistake.larger(config) for mistake in layer.mistakes), key=len, default={}),
        "plain": all(one in {abs(plain) for plain in PLAIN_NUMBERS} for one in numbers if not np.isnan(one)),
    }


def _graded(layer: Layer, said: str, certain: bool | None) -> dict[str, Any]:
    """Return the grade of a sentence: ``right`` if it has a word of the manifest, ``possibly`` if it is not certain.

    Otherwise the grade is ``misleading`` if another cause is certain, and ``unknown`` if none is. ``certain`` is
    ``None`` if there is no cause to name beyond what was seen: that is right in the right words, and never misleading.
    """
    known = not said.startswith("unknown")
    right = [m.truth for m in layer.mistakes if known and any(word.lower() in said.lower() for word in m.words)]
    grade = ("possibly" if certain is False else "right") if right else ("misleading" if certain else "unknown")
    return {"grade": grade, "told": right, "said": said, "certain": certain}


def false_claims(layer: Layer, config: RNNConfig, factors: FailureConditions, told: list[str]) -> list[str]:
    """Return the claims about a finding's needs that contradict where the told mistakes show."""
    mistakes = [one for one in layer.mistakes if one.truth in told] or list(layer.mistakes)
    if any(not one.shows for one in mistakes):
        return []
    values = scope_of(layer.subject, layer.profile).values()

    def shows(name: str, value: Any) -> bool:
        other = changed(config, {name: value})
        return other != config and not holds(layer.refuses, other) and any(holds(one.shows, other) for one in mistakes)

    kept = {**{name: (value,) for name, value in factors.needs.items()}, **factors.partly}
    others = {name: [one for one in values[name] if one not in needed] for name, needed in kept.items()}
    claims = [f"needs {name}" for name, some in others.items() if any(shows(name, value) for value in some)]
    for name, size in factors.sizes.items():
        smaller = [size.smallest - 1] if size.smallest > 1 else []
        claims += [f"needs {name}"] if any(shows(name, value) for value in (*size.passes, *smaller)) else []
    if factors.passing is not None and shows(*factors.passing):
        claims.append(f"passes with {factors.passing[0]}={factors.passing[1]}")
    return claims


def lines_to_the_first_finding(subject: Subject, done: Examination, explanations: Sequence[Explanation]) -> int:
    """Return the number of lines that the command prints, on 100 columns, until the end of the first finding.

    Without a finding, all lines are counted.
    """
    findings = []
    for finding, explanation in zip(done.hunt.findings, explanations, strict=True):
        with TemporaryDirectory() as folder:
            place = keep(finding, explanation, subject, folder)
        findings.append(reported(finding, explanation, place, done.hunt.known[finding.id]))
    written = io.StringIO()
    EscapingConsole(file=written, width=100, highlight=False).print(
        terminal.subject_report(SubjectFindings(done, tuple(findings)))
    )
    shown = written.getvalue().splitlines()
    return shown.index("", shown.index("") + 1) if findings else len(shown)  # a finding is between two empty lines


def print_row(row: dict[str, Any]) -> None:
    """Print what was said about a layer."""
    print(f"{'' if row['verdict_right'] else '! '}{row['name']}  {' '.join(row['mistakes']) or 'right'}")
    print(f"    {row['verdict']}; {row['seconds']:.1f} s, {row['checks']} checks, {row['lines']} lines")
    for one in row["found"]:
        print(f"    {one['grade']}: {one['said'][:300]}  [{one.get('needs', '')}]  {one.get('config', '')}")
        for what, found in (("not so", one.get("false")), ("larger than the true minimum", one.get("larger"))):
            print(f"    ! {what}: {found}\n" if found else "", end="")
    sys.stdout.flush()


def print_figures(rows: list[dict[str, Any]]) -> None:
    """Print the results for some layers as a whole."""
    wrong, right = [row for row in rows if row["mistakes"]], [row for row in rows if not row["mistakes"]]
    every = [one for row in wrong for one in row["found"]]
    first = [row["found"][0] for row in wrong if row["found"]]
    cased = [one for one in first if "config" in one]
    told = sum(len({truth for one in row["found"] for truth in one["told"]}) for row in wrong)
    mistakes = sum(len(row["mistakes"]) for row in wrong)
    alike = sum(len(row["found"]) == len(row["mistakes"]) for row in wrong)
    false = [claim for one in every for claim in one.get("false", [])]
    passes = sum(claim.startswith("passes") for claim in false)

    def shares(some: list[dict[str, Any]]) -> str:
        of = Counter(one["grade"] for one in some)
        return ", ".join(f"{grade} {of[grade]}" for grade in ("right", "possibly", "unknown", "misleading"))

    print(f"verdict right         {sum(row['verdict_right'] for row in rows)} of {len(rows)}")
    print(f"  right ones agree    {sum(row['verdict_right'] for row in right)} of {len(right)}")
    print(f"  wrong ones do not   {sum(row['verdict_right'] for row in wrong)} of {len(wrong)}")
    print(
        f"defects reported      {len(every)} for {mistakes} mistakes; as many as there are in {alike} of {len(wrong)}"
    )
    print(f"mistakes told         {told} of {mistakes}")
    print(f"false needs, passes   {len(false) - passes}, {passes}")
    print(f"cause of the first    {shares(first)}; certain {sum(one['certain'] is True for one in first)}")
    print(f"cause of all          {shares(every)}")
    print(
        f"true minimum, plain   {sum(not o['larger'] for o in cased)}, {sum(o['plain'] for o in cased)} of {len(cased)}"
    )
    lines = [row["lines"] for row in wrong if row["found"]] or [0]
    print(f"lines to its end      median {statistics.median(lines):g}, most {max(lines)}")
    seconds = [row["seconds"] for row in rows]
    print(f"seconds               median {statistics.median(seconds):.1f}, worst {max(seconds):.1f}", flush=True)


def chosen(of: str, names: Sequence[str]) -> list[Layer]:
    """Return the layers of a set, or those of these names; those in JavaScript only where node is installed."""
    some = [one for one in layers() if one.spec.startswith(str(LAYERS / of)) and (not names or one.name in names)]
    return some if which("node") else [one for one in some if "third_node" not in one.spec]


def main() -> None:
    """Measure the layers, print a row for each and the figures of each set, and write everything with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="LAYER")
    parser.add_argument("--of", choices=SETS, help="one of the sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for of in [options.of] if options.of else SETS:
            some = []
            for row in pool.map(partial(measured, seed=options.seed), chosen(of, options.names)):
                print_row(row)
                some.append(row)
            if some:
                print(f"--- the {of} set")
                print_figures(some)
            rows += some
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, default=str))


if __name__ == "__main__":
    main()
