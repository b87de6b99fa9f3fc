"""The output of the command line, as rich renderables."""

import re
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.checks.result import Result, Verdict
from harness.report import coverage_words, wording
from harness.report.escaping_console import OPEN_STYLE, fact_table
from harness.report.examination_facts import examination_facts, gaps, unrefused_factors
from harness.report.facts import FACT_CHARACTERS, FURTHER_MISTAKE, named, observed
from harness.report.finding_entry import FindingEntry, SubjectFindings, dropout_problem, entry_of, entry_of_stored
from harness.report.finding_files import SavedFinding
from harness.report.malformed_calls import refusals_findings, refusals_findings_in_short
from harness.report.replay_results import STYLES, ReplayResult
from harness.report.reported_finding import ReportedFinding, dropout_alone
from harness.search.case_replay import ReplayOutcome
from harness.search.examination import Examination
from harness.space.config import RNNConfig

_STYLES = {
    None: OPEN_STYLE,
    Verdict.AGREES: "bold green",
    Verdict.DISAGREES: "bold red",
    Verdict.SUSPECT: OPEN_STYLE,
    Verdict.NOT_ENOUGH: OPEN_STYLE,
    Verdict.UNSUPPORTED: OPEN_STYLE,
    Verdict.BROKEN: "bold magenta",
}
MOST_SUMMARY_LINES: Final = 8  # findings beside the first that a summary lists
ARRAY_MEANINGS: Final = {
    "x": "the input",
    "hx": "the initial state of every layer and direction",
    "cx": "the initial c of every layer and direction",
    "weight_ih": "W_ih: from the layer's input",
    "weight_hh": "W_hh: from its own previous state",
    "weight_hr": "W_hr: projects h to fewer units",
    "bias_ih": "b_ih: the first bias",
    "bias_hh": "b_hh: the second bias, easily forgotten",
    "readout.weight": "W of the linear layer on every step",
    "readout.bias": "b of the linear layer",
    "output": "h_t of the top layer, every step",
    "h_n": "h_t of every layer after its last step",
    "c_n": "c_t of every layer after its last step",
    "readout": "y_t = W h_t + b",
}  # what each array is, by how its name begins
_SHARE: Final = re.compile(r",? in \d+ of \d+ elements \(.*\)$")


def subject_report(summary: SubjectFindings, *, verbose: bool = False) -> RenderableType:
    """Return a subject's verdict, its first finding, a line for each other one, and the facts of its checks.

    A failure takes a screen of 24 lines, unless ``verbose`` is true: then every finding is shown whole.
    """
    done, findings = summary.examination, summary.findings
    shown = _dropout(done, findings)
    for number, finding in enumerate(findings if verbose else findings[:1], 1):
        shown.append(finding_report(str(number), entry_of(finding), verbose=verbose))
    if not verbose and len(findings) > 1:
        shown += ["", _one_line_each(findings[1 : MOST_SUMMARY_LINES + 1], first=2)]
        if (more := len(findings) - 1 - MOST_SUMMARY_LINES) > 0:
            shown.append(f"... and {more} more: -v")
    if shown:
        shown.append("")
    facts = list(examination_facts(done, findings, verbose=verbose))
    if findings and not verbose:
        saved = findings[0].saved
        also = "" if saved is None else f", or rnn-harness findings {named(findings[0].finding.id, saved)}"
        facts.append(("more", f"-v{also}"))
    shown.append(Padding(fact_table(facts), (0, 0, 0, 2)))
    if verbose and done.hunt.checks and not done.hunt.findings:
        tables = (coverage_words.values_table(done.hunt), coverage_words.table(done.hunt.searched))
        shown += [Padding(table, (1, 0, 0, 2)) for table in tables]
    if done.refusals is not None and done.refusals.findings:
        shown.append((refusals_findings if verbose else refusals_findings_in_short)(done.refusals))
    return Group(_head(summary), *shown)


def findings_report(summary: SubjectFindings) -> RenderableType:
    """Return a subject's verdict, every finding in a dozen lines, and what makes a pass mean less."""
    done, findings = summary.examination, summary.findings
    shown = _dropout(done, findings)
    shown += [finding_report(str(number), entry_of(finding)) for number, finding in enumerate(findings, 1)]
    if done.refusals is not None and done.refusals.findings:
        shown.append(refusals_findings(done.refusals))
    facts = list(gaps(done, findings))
    shown += [Padding(fact_table(facts), (0, 0, 0, 2))] if facts else []
    return Group(_head(summary), *shown, *([""] if shown else []))


def finding_report(sign: str, entry: FindingEntry, *, verbose: bool = False) -> RenderableType:
    """Show a finding: its cause and how certain that is, then what a reader needs, or all that is known."""
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(Text(sign, "bold"), Text(entry.title, "bold red"), Text(entry.sure, "dim"))
    facts = entry.facts if verbose else entry.main_facts
    # A case is as short as it is told already (``facts.case_words``).
    uncut = (verbose or fact.language or fact.name in {"smallest", "case"} for fact in facts)
    rows = ((fact.name, fact.text if full else cut(fact.text)) for fact, full in zip(facts, uncut, strict=True))
    # The head is no wider than the facts, so that the words stay near each other.
    return Group("", Constrain(head, 2 * FACT_CHARACTERS), Padding(fact_table(rows), (0, 0, 0, 3)))


def cut(text: str, length: int = 2 * FACT_CHARACTERS) -> str:
    """Return the text, or as much of it as fits: whole parts between commas if these are half of it, or else words."""
    if len(text) <= length:
        return text
    words = text[: length - 2].rsplit(" ", 1)[0]
    ends = [match.end() - 1 for match in re.finditer("[,;] ", words)]
    cuts = [end for end in ends if 2 * end >= length and words.count("(", 0, end) == words.count(")", 0, end)]
    return f"{words[: cuts[-1]] if cuts else words} …"


def _one_line_each(findings: Sequence[ReportedFinding], first: int = 1) -> RenderableType:
    """Return lines for each finding: number, id, what it concerns, its cause, and further mistakes; nothing is cut."""
    lines = Table.grid(padding=(0, 2))
    for name in ("number", "id", "concerns"):
        lines.add_column(name, no_wrap=True)
    lines.add_column("cause", overflow="fold")
    for number, finding in enumerate(findings, first):
        lines.add_row(str(number), finding.finding.id, finding.severity.value, Text(_in_a_line(finding)))
        for fact in finding.facts:  # the first line counts these bugs, too
            if fact.name == FURTHER_MISTAKE:
                lines.add_row("", "", fact.name, Text(fact.text))
    return lines


def _in_a_line(finding: ReportedFinding) -> str:
    """Return the cause, or else what is wrong and on what condition, just long enough to tell findings apart."""
    if finding.certainty in {"certain", "possibly"}:
        return f"possibly {finding.cause}" if finding.certainty == "possibly" else f"{finding.cause} (certain)"
    fails = (fact.text for fact in finding.facts if fact.name == "fails")
    return " ".join([_SHARE.sub("", finding.cause), *fails, *[f"({finding.certainty})"] * bool(finding.certainty)])


def quiet_report(summary: SubjectFindings) -> RenderableType:
    """Return a subject's verdict and one line for each finding."""
    return Group(_head(summary), *([_one_line_each(summary.findings)] if summary.findings else []))


def headline(summary: SubjectFindings) -> str:
    """Return the verdict and the number of findings of each sort in a line."""
    done = summary.examination
    shard = "" if done.hunt.shard is None else f" in shard {done.hunt.shard}"
    verdict = wording.verdict_on(done.hunt, done.verdict, wording.so_far(done)) + shard
    parts = _tally(done, summary.findings)
    return f"{verdict}{'; ' if ': ' in verdict else ': '}{'; '.join(parts)}" if parts else verdict


def _head(summary: SubjectFindings) -> RenderableType:
    return Text(headline(summary), _STYLES[summary.examination.verdict])


def _failing(done: Examination) -> str:
    """Return how many of the cases fail, and what else does.

    A sweep of a function is none of them, and neither is a case beyond the plan. Where its error was measured, cases
    fail only if they are off by more.
    """
    hunt = done.hunt
    swept = sum(bool(finding.result.inaccurate) for finding in hunt.findings)
    failed = sum(hunt.known[id_] for id_ in {finding.id for finding in hunt.findings}) + len(hunt.findings)
    failed -= swept + hunt.beyond
    text = f"{failed:,} of {wording.counted(max(hunt.asked, failed), 'case')} {'fails' if failed == 1 else 'fail'}"
    return text + f" beyond the error of its {' and '.join(hunt.inaccurate)}" * bool(hunt.inaccurate)


def _dropout(done: Examination, findings: Sequence[ReportedFinding]) -> list[RenderableType]:
    """Show what is wrong with a subject's dropout, which only many runs together show."""
    entry = dropout_problem(done, findings)
    return [] if entry is None else [finding_report("!", entry)]


def _tally(done: Examination, findings: Sequence[ReportedFinding]) -> list[str]:
    """Return what stands after the verdict: the numbers of bugs, of failing cases, and of wrong refusals."""
    hunt, parts = done.hunt, []
    wrong = [finding for finding in findings if finding.finding.result.verdict is not Verdict.SUSPECT]
    suspected = len(findings) - len(wrong)
    if wrong:
        # Without a certain cause, two findings may come from one bug, and one of them from two.
        certain = max(1, sum(finding.mistakes for finding in wrong))
        sure = all(finding.certain for finding in wrong) or (len(wrong) == 1 and not wrong[0].certainty)
        among = f" in {wording.counted(len(wrong), 'finding')}" if len(wrong) != certain else ""
        parts.append(f"{'' if sure else 'at least '}{wording.counted(certain, 'bug')}{among}")
    if suspected:
        parts.append(wording.counted(suspected, "suspicion"))
    if findings:
        parts.append(_failing(done))
    if hunt.unsupported_unrefused:
        steady = done.dropout is None or not done.dropout.failed
        rest = "; the rest agrees" if hunt.checks and not hunt.findings and steady else ""
        parts.append(f"some values of {', '.join(unrefused_factors(hunt))} fail and are not refused{rest}")
    if done.dropout is not None and done.dropout.verdict is Verdict.DISAGREES and dropout_alone(done, findings):
        parts.append("dropout breaks its statistics")
    if done.refusals is not None and done.refusals.findings:
        kinds = f"{wording.counted(len(done.refusals.findings), 'kind')} of malformed calls"
        parts.append(f"{kinds} not refused as they must be")
    if hunt.missing:
        parts.append(wording.missing_line(hunt.missing))
    if done.verdict is Verdict.UNSUPPORTED:
        parts.append("nothing is covered; let it support one plain config at least, or leave out a pin")
    return parts


def shapes_rows(config: RNNConfig) -> list[dict[str, Any]]:
    """Return name, axes, shape and meaning of every array of a config, inputs first."""
    every = {**config.inputs, **config.weights, **config.outputs}
    return [
        {"name": name, "axes": spec.axes, "shape": spec.shape, "meaning": _meaning(name)}
        for name, spec in every.items()
    ]


def shapes_table(config: RNNConfig) -> RenderableType:
    """Return the shape of every array of a config, layer by layer."""
    table = Table("array", "axes", "shape", "what it is")
    for row in shapes_rows(config):
        table.add_row(row["name"], f"({', '.join(row['axes'])})", str(tuple(row["shape"])), row["meaning"])
    return Group(Text(repr(config), "bold"), table)


def _meaning(name: str) -> str:
    return next(text for role, text in ARRAY_MEANINGS.items() if name.startswith(role))


def subjects_list(rows: list[tuple[str, ...]]) -> RenderableType:
    """Return a line for each subject, with its devices or why it is not here, and below why other devices are not."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for name, devices, _, package in rows:
        offered = "" if package == "rnn-harness" else f" (offered by {package})"
        table.add_row(Text(name, "bold"), Text(f"{devices.removeprefix('not here: ')}{offered}", overflow="fold"))
    reasons = dict.fromkeys(reason for _, _, not_on, _ in rows for reason in not_on.split("; ") if reason)
    return Group(table, *[Text(f"\nnot on {'; '.join(reasons)}")] * bool(reasons), "")


def known_table(rows: Sequence[tuple[str, ...]]) -> RenderableType:
    """Return name, owner and reason of every known issue."""
    parts: list[RenderableType] = []
    for name, whose, reason in rows:
        parts += [Text(f"{name} ({whose})", "bold"), Padding(Text(reason), (0, 0, 0, 2))]
    return Group(*parts)


def replay_report(done: ReplayResult, result: Result) -> RenderableType:
    """Return the result of replaying a finding."""
    stored, fate = done.stored, done.fate
    parts: list[RenderableType] = [Text(f"{fate.value}  {done.subject} on {stored.path}", STYLES[fate])]
    if fate is ReplayOutcome.ERROR:
        parts.append(done.unknown)
    if fate is ReplayOutcome.FAILED and done.again is False:
        parts.append(Text(f"it fails in another way than before; the finding was {stored.kind}"))
    rows = [(fact.name, fact.text) for fact in observed(result, stored.case.config)]
    rows += [("advice", advice) for advice in wording.hints(result.mismatches[:1], stored.case.config)]
    return Group(*parts, *([Padding(fact_table(rows), (0, 0, 0, 2))] if rows else []))


def findings_table(stored: Sequence[SavedFinding], directory: str) -> RenderableType:
    """Return a line for each finding that was kept, newest first."""
    if not stored:
        return Text(f"no findings in {directory}")
    table = Table.grid(padding=(0, 2))
    table.add_column("id", no_wrap=True)
    table.add_column("subject", overflow="fold")
    table.add_column("cause", overflow="fold")
    for finding in stored:
        text = Text(finding.damage, OPEN_STYLE) if finding.damage else Text(finding.cause or finding.kind or "")
        table.add_row(finding.name, Text((finding.subject or "").rpartition("/")[2]), text)
    return Group(table, Text("rnn-harness replay --all tells which of them are fixed.", "dim"))


def stored_report(stored: Sequence[SavedFinding]) -> RenderableType:
    """Return everything that is known about findings that were kept."""
    return Group(*(finding_report(finding.name, entry_of_stored(finding), verbose=True) for finding in stored))
