"""The output of the command line, as rich renderables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.checks.result import Result, Verdict
from harness.diagnosis.investigate import Explanation
from harness.oracle.compare import Mismatch
from harness.report import coverage, explained, wording
from harness.report.examination_facts import examination_facts, gaps, undone_factors
from harness.report.paper import fact_table
from harness.report.place import Kept, Stored
from harness.report.refusals import refusals_findings, refusals_findings_in_short
from harness.report.replays import STYLES, Replayed
from harness.report.severity import Told, dropout_alone
from harness.report.short import (
    cause_of,
    failure_line,
    one_line_each,
    replay_line,
    short_finding,
    shown_in_full,
    summary,
    upstream_of,
)
from harness.search.examination import Examination
from harness.search.replay import Fate
from harness.space.config import ArraySpec, RNNConfig

_STYLES = {
    None: "bold yellow",
    Verdict.AGREES: "bold green",
    Verdict.DISAGREES: "bold red",
    Verdict.SUSPECT: "bold yellow",
    Verdict.NOT_ENOUGH: "bold yellow",
    Verdict.UNSUPPORTED: "bold yellow",
    Verdict.BROKEN: "bold magenta",
}
_SHOWN_MISMATCHES = 3
"""The number of mismatches shown in full; the first one is the cause, and later ones mostly follow from it."""


def examination_report(
    done: Examination, told: Sequence[Told] = (), tolerance: str = "derived", *, verbose: bool = False
) -> RenderableType:
    """Return a subject's verdict, its findings in the given order, the facts of its checks, and a summary.

    Each finding takes a dozen lines at most, and so do the facts, unless ``verbose`` is true.
    """
    shown: list[RenderableType] = []
    if done.dropout is not None and dropout_alone(done, told):
        shown.append(_dropout(done.dropout, done.dropout_facts))
    for number, (one, whole) in enumerate(zip(told, shown_in_full(told), strict=True), 1):
        if verbose:
            shown.append(finding_report(number, one, tolerance))
        elif whole:
            shown.append(short_finding(number, one, tolerance))
    if shown:
        shown.append("")
    facts = list(examination_facts(done, told, verbose=verbose))
    if told and not verbose:
        kept = f", or rnn-harness findings {replay_line(told[0]).removeprefix('rnn-harness replay ')}"
        facts.append(("more", f"-v{kept if told[0].kept is not None else ''}"))
    shown.append(Padding(fact_table(facts), (0, 0, 0, 2)))
    if verbose and done.hunt.checks and not done.hunt.findings:
        shown.append(Padding(coverage.table(done.hunt.searched), (1, 0, 0, 2)))
    if done.refusals is not None and done.refusals.findings:
        shown.append((refusals_findings if verbose else refusals_findings_in_short)(done.refusals))
    return Group(_head(done, told), *shown, summary(told))


def findings_report(done: Examination, told: Sequence[Told] = (), tolerance: str = "derived") -> RenderableType:
    """Return a subject's verdict, every finding in a dozen lines, and what makes a pass mean less."""
    shown: list[RenderableType] = []
    if done.dropout is not None and dropout_alone(done, told):
        shown.append(_dropout(done.dropout, done.dropout_facts))
    shown += [short_finding(number, one, tolerance) for number, one in enumerate(told, 1)]
    if done.refusals is not None:
        shown.append(refusals_findings(done.refusals))
    facts = list(gaps(done, told))
    shown += [Padding(fact_table(facts), (0, 0, 0, 2))] if facts else []
    return Group(_head(done, told), *shown, *([""] if shown else []))


def quiet_report(done: Examination, told: Sequence[Told] = ()) -> RenderableType:
    """Return a subject's verdict and one line for each finding, in the given order."""
    return Group(_head(done, told), *one_line_each(told))


def headline(done: Examination, told: Sequence[Told]) -> str:
    """Return the verdict and the number of findings of each sort in a line."""
    shard = "" if done.hunt.shard is None else f" in shard {done.hunt.shard}"
    return wording.verdict_on(done.hunt, done.verdict) + wording.so_far(done) + shard + _tally(done, told)


def _head(done: Examination, told: Sequence[Told]) -> RenderableType:
    return Text(headline(done, told), _STYLES[done.verdict])


def _failing(done: Examination) -> str:
    """Return how many of the cases fail, and what else does.

    A sweep of tanh is none of them. Where the error of tanh was measured, cases fail only if
    they are off by more.
    """
    hunt = done.hunt
    swept = sum(finding.result.of_tanh for finding in hunt.findings)
    failed = sum(hunt.known[id_] for id_ in {finding.id for finding in hunt.findings}) + len(hunt.findings)
    failed -= swept
    said = f"{failed:,} of {wording.counted(max(hunt.asked, failed), 'case')} {'fails' if failed == 1 else 'fail'}"
    return said + " beyond the error of its tanh" * hunt.allows_for_tanh


def _dropout(result: Result, more: Mapping[str, str]) -> RenderableType:
    """Show what is wrong with a subject's dropout, which only many runs together show."""
    cause, told = wording.dropout_told(result)
    facts = fact_table({**told, **more}.items())
    return Group("", Text(f"!  {cause}", "bold red"), Padding(facts, (0, 0, 0, 3)))


def _tally(done: Examination, told: Sequence[Told]) -> str:
    """Return the text after the verdict: the numbers of bugs, of failing cases, and of wrong refusals."""
    hunt, parts = done.hunt, []
    suspected = sum(one.finding.result.verdict is Verdict.SUSPECT for one in told)
    if bugs := len(told) - suspected:
        # Without a certain cause, two findings may come from one bug.
        unsure = bugs > 1 and not all(one.certain for one in told)
        parts.append(f"{'up to ' if unsure else ''}{wording.counted(bugs, 'bug')}")
    if suspected:
        parts.append(wording.counted(suspected, "suspicion"))
    if told:
        parts.append(_failing(done))
    if hunt.undone:
        lawful = done.dropout is None or not done.dropout.failed
        rest = "; the rest agrees" if hunt.checks and not hunt.findings and lawful else ""
        parts.append(f"some values of {', '.join(undone_factors(hunt))} fail and are not refused{rest}")
    if done.dropout is not None and done.dropout.verdict is Verdict.DISAGREES and dropout_alone(done, told):
        parts.append("dropout breaks its law")
    if done.refusals is not None and done.refusals.findings:
        parts.append(
            f"{wording.counted(len(done.refusals.findings), 'kind')} of malformed calls not refused as they must be"
        )
    if hunt.missing:
        parts.append(wording.missing_line(hunt.missing))
    if done.verdict is Verdict.UNSUPPORTED:
        parts.append("nothing is covered; let it support one plain config at least, or leave out a pin")
    return f": {'; '.join(parts)}" if parts else ""


def finding_report(number: int, told: Told, tolerance: str = "derived") -> RenderableType:
    """Show everything about a finding: its cause, what differs, what that depends on, and how to run it again."""
    finding, explanation, kept = told.finding, told.explanation, told.kept
    result, config = finding.result, finding.case.config
    cause, sure = cause_of(told)
    facts = fact_table()
    if result.verdict is Verdict.SUSPECT:
        facts.add_row(
            "suspect", "no bound proves it wrong, but it exceeds usual roundings, and repeats on other values"
        )
    for more in told.also:
        facts.add_row("also", Text(f"{failure_line(more.result)}, on {more.case.config!r}"))
    _add_explanation(facts, explanation, config)
    if told.further:
        facts.add_row("again", f"{wording.counted(told.further, 'more case')} failed for the same cause")
    if explanation.judgement is not None:
        facts.add_row("judge", wording.judgement_line(explanation.judgement))
    if (enough := wording.enough_line(result)) is not None:
        facts.add_row("to accept", enough)
    facts.add_row("config", Text(wording.config_line(config)))
    facts.add_row("minimal", Text("\n".join(explained.minimal_lines(finding.certificate))))
    if finding.minimal and (instead := wording.leave_out_line(config)) is not None:
        facts.add_row("leave out", Text(instead))
    facts.add_row("case", Text(repr(finding.case)))
    if any(mismatch.sites for mismatch in result.mismatches):
        facts.add_row("compared", result.method.value)
    if (known := upstream_of(told)) is not None:
        facts.add_row("upstream", Text(known))
    if kept is not None:
        _add_kept(facts, kept, replay_line(told, tolerance))
    named = f": {cause}" if cause != failure_line(result) else ""
    head = Text(f"Finding {number}{named}{f' ({sure})' if sure else ''}", "bold red")
    return Group("", head, *_grounds(result, config), Padding(facts, (1, 0, 0, 2)))


def _add_explanation(facts: Table, explanation: Explanation, config: RNNConfig) -> None:
    if explanation.diagnosis is not None:
        lines = explained.cause_lines(explanation.diagnosis, config, explanation.factors)
        facts.add_row("cause", Text("\n".join(lines)))
        for whose, code in explained.code_lines(explanation.diagnosis, config).items():
            facts.add_row(whose, Text(code))
    if explanation.clue is not None:
        facts.add_row("clue", Text(explained.clue_line(explanation.clue)))
    if explanation.where is not None:
        facts.add_row("where", Text(explained.where_line(explanation.where)))
    if (kernel := explained.kernels_line(explanation.kernels)) is not None:
        facts.add_row("kernel", Text(kernel))
    if explanation.answers is not None:
        facts.add_row("fails", Text(explained.answers_line(explanation.answers)))
    factors = explanation.factors
    if factors is None:
        return
    facts.add_row("needs", Text(explained.needs_line(factors)))
    if free := explained.independent_line(factors):
        facts.add_row("whatever", Text(free))
    if (passing := explained.passing_line(factors)) is not None:
        facts.add_row("passes", Text(passing))


def _add_kept(facts: Table, kept: Kept, replay: str) -> None:
    facts.add_row("replay", Text(replay))
    if kept.script is not None:
        script = shlex.quote(str(kept.folder / kept.script))
        facts.add_row("script", Text(f"python {script}; it needs no rnn-harness, and printed FAILED when run"))
    elif kept.no_script:
        facts.add_row("script", Text(f"none: {kept.no_script}"))
    others = [name for name in kept.files if name != kept.script]
    facts.add_row("kept", Text(f"{kept.folder}: {', '.join(others)}"))


def shapes_table(config: RNNConfig) -> RenderableType:
    """Return the shape of every array of a config, layer by layer."""
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
    """Return every subject's name, its available devices, the missing ones, and its origin."""
    table = Table("subject", "runs here on", "not on", "offered by")
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def known_table(rows: Sequence[tuple[str, ...]]) -> RenderableType:
    """Return name, owner and reason of every known issue."""
    parts: list[RenderableType] = []
    for name, whose, reason in rows:
        parts += [Text(f"{name} ({whose})", "bold"), Padding(Text(reason), (0, 0, 0, 2))]
    return Group(*parts)


def replay_report(done: Replayed, result: Result) -> RenderableType:
    """Return the result of replaying a finding."""
    stored, fate = done.stored, done.fate
    parts: list[RenderableType] = [Text(f"{fate.value}  {done.subject} on {stored.path}", STYLES[fate])]
    if fate is Fate.ERROR:
        parts.append(done.unknown)
    if fate is Fate.FAILED and done.again is False:
        parts.append(Text(f"it fails in another way than before; the finding was {stored.kind}"))
    return Group(*parts, *_grounds(result, stored.case.config))


def findings_table(stored: Sequence[Stored], directory: str) -> RenderableType:
    """Return the findings that were kept, newest first."""
    if not stored:
        return Text(f"no findings in {directory}")
    table = Table.grid(padding=(0, 2))
    for one in stored:
        table.add_row(one.id or one.path.name, Text(one.subject or ""))
        said = "; ".join(part for part in (one.kind, one.cause) if part)
        table.add_row("", Text(one.damage, "bold yellow") if one.damage else Text(said, "dim"))
        table.add_row("", Text(_kept(one), "dim"))
    return Group(table, Text("rnn-harness replay --all tells which of them are fixed.", "dim"))


def _kept(stored: Stored) -> str:
    return "" if stored.kept is None else f"kept on {stored.kept:%Y-%m-%d}"


def stored_report(stored: Sequence[Stored]) -> RenderableType:
    """Return everything that is known about findings that were kept."""
    parts: list[RenderableType] = []
    for one in stored:
        facts = fact_table()
        for what, said in facts_of_stored(one):
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


def facts_of_stored(stored: Stored) -> Iterator[tuple[str, str]]:
    """Yield what the record of a finding says, as far as it has it."""
    record: Mapping[str, Any] = stored.record
    dtype = (record.get("config") or {}).get("dtype", "float64")
    for mismatch in record.get("mismatches", ()):
        yield "differs", "\n".join([mismatch["text"], *(_site_before(one, dtype) for one in mismatch.get("sites", ()))])
    if message := record.get("message") or ("" if record.get("mismatches") else stored.kind):
        yield "failed", message
    if traceback := record.get("traceback", "").rstrip():
        yield "traceback", traceback
    names = {"cause": "cause", "clue": "clue", "where": "where", "kernel": "kernels", "needs": "factors"}
    for what, name in names.items():
        told = record.get(name) or {}
        text = told if isinstance(told, str) else told.get("text") or ""
        if lines := text if isinstance(text, str) else "\n".join(text):
            yield what, lines
        if what == "cause":
            codes = [fault.get("code") or {} for fault in (record.get("cause") or {}).get("faults", ())]
            yield from codes[0].items() if len(codes) == 1 else ()
    factors = record.get("factors") or {}
    free = [name for name, size in factors.get("sizes", {}).items() if not size["text"]]
    if free := [*free, *(name for name in factors.get("independent", ()) if name not in wording.CALLED)]:
        yield "whatever", ", ".join(free)
    for name, value in (factors.get("nearest_passing") or {}).items():
        yield "passes", f"the same with {name}={value}"
    if judged := (record.get("judge") or {}).get("text"):
        yield "judge", judged
    told = (("to accept", "to_accept"), ("upstream", "upstream"))
    yield from ((what, record[key]) for what, key in told if record.get(key))
    if stored.found is not None:
        yield "config", wording.config_line(stored.found.config)
    if minimal := (record.get("certificate") or {}).get("text"):
        yield "minimal", "\n".join(minimal)


def _site_before(site: Mapping[str, Any], dtype: str) -> str:
    place = ", ".join(f"{axis}={index}" for axis, index in site["place"].items())
    said = {name: wording.number(one, dtype) if isinstance(one, float) else one for name, one in site.items()}
    allowance = f"{float(site['allowance']):.2g}"
    return f"  {place}: {said['actual']}, should be {said['expected']} (±{allowance})"


def _grounds(result: Result, config: RNNConfig) -> list[RenderableType]:
    """Return the grounds of a result: what the subject said, and what differs."""
    parts: list[RenderableType] = []
    if result.message:
        parts.append(Text(result.message, "bold"))
    if result.traceback:
        parts.append(Padding(Text(result.traceback.rstrip(), "dim", overflow="fold"), (0, 0, 0, 2)))
    parts += [_mismatch(mismatch, config) for mismatch in result.mismatches[:_SHOWN_MISMATCHES]]
    if (more := len(result.mismatches) - _SHOWN_MISMATCHES) > 0:
        parts.append(f"and {wording.counted(more, 'more array')} {'differs' if more == 1 else 'differ'}, too")
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
