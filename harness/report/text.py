"""text: what the command line shows, as rich renderables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.checks.result import Method, Result, Verdict
from harness.explain.investigate import Explanation
from harness.explain.proof import judge_worst
from harness.oracle.compare import Mismatch
from harness.report import coverage, explained, wording
from harness.report.place import Kept
from harness.report.refusals import add_refusals, fact_table, refusals_findings
from harness.search.examination import Examination
from harness.search.findings import Fate, Stored
from harness.search.hunt import Finding, Hunt
from harness.space.config import ArraySpec, RNNConfig
from harness.subjects.ground import line

_STYLES = {
    None: "bold yellow",
    Verdict.AGREES: "bold green",
    Verdict.DISAGREES: "bold red",
    Verdict.SUSPECT: "bold yellow",
    Verdict.UNSUPPORTED: "bold yellow",
    Verdict.BROKEN: "bold magenta",
}
_SHOWN_MISMATCHES = 3
"""Mismatches shown in full; the first one is the cause, later ones mostly follow from it."""


def examination_report(done: Examination) -> RenderableType:
    """A subject's verdict, and what it was asked: how many checks of what, over which part of the space.

    What was met is a table of its own, for 80 columns do not hold it beside a heading.
    """
    verdict, facts = done.verdict, fact_table()
    so_far = " so far" if done.interrupted and verdict is Verdict.AGREES else ""
    _add_hunt(facts, done.hunt)
    if done.dropout is not None:
        facts.add_row("dropout", Text(wording.dropout_line(done.dropout), "bold red" if done.dropout.failed else ""))
    if done.refusals is not None:
        add_refusals(facts, done.refusals)
    head = Text(wording.headline(done.hunt.subject, verdict) + so_far, _STYLES[verdict])
    findings = [] if done.refusals is None else [refusals_findings(done.refusals)]
    met: list[RenderableType] = []
    if done.hunt.checks and not done.hunt.findings:
        met.append(Padding(coverage.table(coverage.Searched.by(done.hunt)), (1, 0, 0, 2)))
    return Group(head, Padding(facts, (0, 0, 0, 2)), *met, *findings)


def _add_hunt(facts: Table, hunt: Hunt) -> None:
    cases, configs = wording.counted(hunt.total, "case"), wording.counted(hunt.coverage.configs, "config")
    checked = f"{cases} of {configs} in {hunt.seconds:.1f} s"
    facts.add_row("checked", f"{checked}; ended by {hunt.stop.value}; --seed {hunt.seed}")
    if hunt.checks and not hunt.findings:
        facts.add_row("compared", _methods(hunt))
    if hunt.scope.loss == (None,):
        facts.add_row("gradients", "not asked for")
    if hunt.suspicions:
        facts.add_row("suspicious", _suspicions(hunt))
    if known := wording.deviation_lines(hunt.known, hunt.spared):
        facts.add_row("deviations", Text("\n".join(known)))
    if len(hunt.findings) > 1:
        facts.add_row("found", f"{wording.counted(len(hunt.findings), 'cause')} of failure, one after the other")
    if hunt.unsupported:
        facts.add_row("refused", f"{wording.counted(hunt.unsupported, 'case')}, by the subject")
    for said in dict.fromkeys(hunt.refused.values()):
        left_out = ", ".join(what for what, why in hunt.refused.items() if why == said)
        facts.add_row("left out", Text(f"{left_out}, for the subject says: {said}"))
    if hunt.checks and not hunt.findings:
        facts.add_row("space met", _met(hunt))
    if hunt.ground:
        facts.add_row("ground", Text(line(hunt.ground)))


def finding_report(
    finding: Finding,
    explanation: Explanation | None = None,
    kept: Kept | None = None,
    tolerance: str = "derived",
    further: int = 0,
) -> RenderableType:
    """A finding: what differs, why, what it depends on, the smallest case, and how to run it again.

    ``further`` is the number of further cases that fail of the same cause.
    """
    result, config = finding.result, finding.case.config
    facts = fact_table()
    if result.verdict is Verdict.SUSPECT:
        facts.add_row(
            "suspect", "no bound proves it wrong, but it is beyond usual roundings, and repeats on other values"
        )
    _add_explanation(facts, explanation or Explanation(), config)
    if further:
        facts.add_row("again", f"{wording.counted(further, 'more case')} failed of the same cause")
    if (judgement := judge_worst(result)) is not None:
        facts.add_row("judge", wording.judgement_line(judgement))
    if (enough := wording.enough_line(result)) is not None:
        facts.add_row("to accept", enough)
    facts.add_row("config", Text(wording.config_line(config)))
    facts.add_row("minimal", Text("\n".join(explained.minimal_lines(finding.certificate))))
    if finding.minimal and (instead := wording.leave_out_line(config)) is not None:
        facts.add_row("leave out", Text(instead))
    facts.add_row("case", Text(repr(finding.case)))
    if any(mismatch.sites for mismatch in result.mismatches):
        facts.add_row("compared", result.method.value)
    if kept is not None:
        _add_kept(facts, finding, kept, tolerance)
    return Group("", *_grounds(result, config), Padding(facts, (1, 0, 0, 2)))


def _add_explanation(facts: Table, explanation: Explanation, config: RNNConfig) -> None:
    if explanation.diagnosis is not None:
        lines = explained.cause_lines(explanation.diagnosis, config, explanation.factors)
        facts.add_row("cause", Text("\n".join(lines)))
    if explanation.where is not None:
        facts.add_row("where", Text(explained.where_line(explanation.where)))
    if (kernel := explained.kernels_line(explanation.kernels)) is not None:
        facts.add_row("kernel", Text(kernel))
    factors = explanation.factors
    if factors is None:
        return
    facts.add_row("needs", Text(explained.needs_line(factors)))
    if free := explained.independent_line(factors):
        facts.add_row("whatever", Text(free))
    if (passing := explained.passing_line(factors)) is not None:
        facts.add_row("passes", Text(passing))


def _add_kept(facts: Table, finding: Finding, kept: Kept, tolerance: str) -> None:
    again = f"rnn-harness replay {finding.id}"
    if kept.elsewhere:
        again += f" --findings {shlex.quote(str(kept.folder.parent))}"
    facts.add_row("replay", Text(again if tolerance == "derived" else f"{again} --tolerance {tolerance}"))
    if kept.script is not None:
        script = shlex.quote(str(kept.folder / kept.script))
        facts.add_row("script", Text(f"python {script}, without rnn-harness; it was run, and says FAILED"))
    elif kept.no_script:
        facts.add_row("script", Text(f"none: {kept.no_script}"))
    others = [name for name in kept.files if name != kept.script]
    facts.add_row("kept", Text(f"{kept.folder}: {', '.join(others)}"))


def shapes_table(config: RNNConfig) -> RenderableType:
    """The shape of every array of a config, layer by layer."""
    table = Table(
        "array", "axes", "shape", "what it is", title=Text(repr(config)), title_justify="left", title_style="bold"
    )
    for name, spec in config.inputs.items():
        _shape_row(table, name, spec, "the input" if name == "x" else "initial state of every layer and direction")
    if not config.hx:
        table.add_row("hx", "", "None", "initial state: zeros")
    section = ""
    for name, spec in config.weights.items():
        if name.rpartition("_l")[2].partition("_")[0] != section:
            table.add_section()
            section = name.rpartition("_l")[2].partition("_")[0]
        _shape_row(table, name, spec, _role(name))
    table.add_section()
    kept = {
        "output": "h_t of the top layer, every step",
        "h_n": "h_t of every layer after its last step",
        "readout": "y_t = W h_t + b",
    }
    for name, spec in config.outputs.items():
        _shape_row(table, name, spec, kept[name])
    return table


def subjects_table(rows: list[tuple[str, ...]]) -> RenderableType:
    """Name, devices that are here and that are not, and origin of every subject."""
    table = Table("subject", "runs here on", "not on", "offered by")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def known_table(rows: Sequence[tuple[str, ...]]) -> RenderableType:
    """Name, owner and reason of every known deviation."""
    parts: list[RenderableType] = []
    for name, whose, reason in rows:
        parts += [Text(f"{name} ({whose})", "bold"), Padding(Text(reason), (0, 0, 0, 2))]
    return Group(*parts)


def replay_report(stored: Stored, subject: str, fate: Fate, result: Result) -> RenderableType:
    """What became of a finding."""
    style = {Fate.FIXED: "bold green", Fate.FAILED: "bold red", Fate.ERROR: "bold yellow"}[fate]
    parts: list[RenderableType] = [Text(f"{fate.value}  {subject} on {stored.path}", style)]
    if fate is Fate.ERROR:
        parts.append("the subject now refuses the case, which neither fails nor is fixed")
    if fate is Fate.FAILED and stored.again(result) is False:
        parts.append(Text(f"it fails in another way than before, which was {stored.kind}"))
    return Group(*parts, *_grounds(result, stored.case.config))


def findings_table(stored: Sequence[Stored], directory: str) -> RenderableType:
    """What was found and kept, newest first."""
    if not stored:
        return Text(f"no findings in {directory}")
    table = Table.grid(padding=(0, 2))
    for one in stored:
        when = "" if one.kept is None else one.kept.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(one.id or one.path.name, when, Text(one.subject or ""))
        said = "; ".join(part for part in (one.kind, one.cause) if part)
        table.add_row("", "", Text(one.damage, "bold yellow") if one.damage else Text(said, "dim"))
    return table


def stored_report(stored: Sequence[Stored]) -> RenderableType:
    """All that is known of findings that were kept."""
    parts: list[RenderableType] = []
    for one in stored:
        facts = fact_table()
        for what, said in _said_before(one):
            facts.add_row(what, Text(said))
        if one.damage:
            facts.add_row("damaged", Text(one.damage, "bold yellow"))
        if one.found is not None:
            facts.add_row("case", Text(repr(one.found)))
        facts.add_row("replay", Text(f"rnn-harness replay {one.id or one.path}"))
        names = sorted(path.name for path in one.path.iterdir()) if one.path.is_dir() else []
        facts.add_row("kept", Text(f"{one.path}{': ' + ', '.join(names) if names else ''}"))
        parts += [Text(f"{one.id or one.path.name}  {one.subject or ''}", "bold"), Padding(facts, (0, 0, 1, 2))]
    return Group(*parts)


def _said_before(stored: Stored) -> Iterator[tuple[str, str]]:
    """What the record of a finding says, as far as it says it."""
    record: Mapping[str, Any] = stored.record
    for mismatch in record.get("mismatches", ()):
        yield "differs", mismatch["text"]
    if message := record.get("message") or ("" if record.get("mismatches") else stored.kind):
        yield "failed", message
    for what, name in (("cause", "cause"), ("where", "where"), ("needs", "factors"), ("minimal", "certificate")):
        text = (record.get(name) or {}).get("text", "")
        if lines := text if isinstance(text, str) else "\n".join(text):
            yield what, lines


def _grounds(result: Result, config: RNNConfig) -> list[RenderableType]:
    """What a result rests on: what the subject said, and what differs."""
    parts: list[RenderableType] = []
    if result.message:
        parts.append(Text(result.message, "bold"))
    if result.traceback:
        parts.append(Padding(Text(result.traceback.rstrip(), "dim", no_wrap=True, overflow="ignore"), (0, 0, 0, 2)))
    parts += [_mismatch(mismatch, config) for mismatch in result.mismatches[:_SHOWN_MISMATCHES]]
    if (more := len(result.mismatches) - _SHOWN_MISMATCHES) > 0:
        parts.append(
            f"and {wording.counted(more, 'more array')}, {'which differs' if more == 1 else 'which differ'}, too"
        )
    return parts


def _mismatch(mismatch: Mismatch, config: RNNConfig) -> RenderableType:
    parts: list[RenderableType] = [Text(wording.mismatch_line(mismatch), "bold")]
    if mismatch.sites:
        table = Table(*wording.SITE_COLUMNS, box=None, pad_edge=False, header_style="dim")
        for column in table.columns[1:]:
            column.justify, column.overflow = "right", "fold"
        for site in mismatch.sites:
            table.add_row(*wording.site_row(site, config.dtype))
        parts.append(Padding(table, (0, 0, 0, 2)))
    if (advice := wording.hint(mismatch)) is not None:
        parts.append(Padding(Text(advice), (0, 0, 0, 2)))
    return Group(*parts)


def _met(hunt: Hunt) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, (met, of) in hunt.coverage.met(hunt.scope).items():
        if of == 1 and name in wording.CALLED:
            continue
        values = wording.values_line(v for v in hunt.scope.values()[name] if v in hunt.coverage.factors.get(name, {}))
        table.add_row(name, f"{met} of {of}", values)
    table.add_row("values", f"{len(hunt.coverage.regimes)} regimes", ", ".join(hunt.coverage.regimes))
    return table


def _suspicions(hunt: Hunt) -> str:
    worst = max(hunt.suspicions, key=lambda suspicion: suspicion.strength)
    return (
        f"{wording.counted(len(hunt.suspicions), 'case')} beyond usual roundings, {worst.strength:.2g} times at most, "
        f"and did not repeat: the worst one on {worst.again} of {worst.tried} other seeds\n{worst.case!r}"
    )


def _methods(hunt: Hunt) -> str:
    met = [method for method in Method if hunt.checks[method]]
    if len(met) == 1:
        return met[0].value
    return "\n".join(f"{wording.counted(hunt.checks[method], 'case')} {method.value}" for method in met)


def _shape_row(table: Table, name: str, spec: ArraySpec, what: str) -> None:
    table.add_row(name, f"({', '.join(spec.axes)})", str(spec.shape), what)


def _role(name: str) -> str:
    roles = {
        "weight_ih": "W_ih: from the layer's input",
        "weight_hh": "W_hh: from its own previous state",
        "bias_ih": "b_ih: the first bias",
        "bias_hh": "b_hh: the second bias, easily forgotten",
        "readout.weight": "W of the linear layer on every step",
        "readout.bias": "b of the linear layer",
    }
    return next(text for role, text in roles.items() if name.startswith(role))
