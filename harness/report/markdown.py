"""Markdown for the job pages of CI, and what keeps others' words from being read as Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from harness.report import wording
from harness.report.facts import code_of
from harness.report.finding_entry import FindingEntry, SubjectFindings, verdict_on_all
from harness.report.finding_files import Fact
from harness.space.searched_scope import percent

_MARKS: Final = re.compile(r"[!#$&*<>@\[\\\]^`{|}~]|_(?![^\W_])|:(?=\S)")
"""The characters that mean something within a line of GitHub's Markdown: emphasis, code, cells of tables, HTML, links,
names of people, formulas and emoji. An underscore that could end emphasis stands before no letter, and a colon that
means something before no space. As numeric entities none of them means anything, and all readers of Markdown agree on
that; they do not agree on a backslash before a bar.
"""

# The number of entries shown with all their facts; a job page is read at a glance, and its size is limited.
_FULL: Final = 5


def markdown(summaries: Sequence[SubjectFindings]) -> str:
    """Return the report: the verdict with the first cause, a table of subjects, and each thing that is wrong."""
    wrong = [summary for summary in summaries if summary.entries]
    parts = [f"## rnn-harness: {_title(summaries)}"]
    if wrong:
        first = wrong[0].entries[0]
        sure = f" ({first.sure})" if first.sure else ""
        parts.append(f"**{plain(first.title)}**{sure} in {code(wrong[0].subject)}")
    parts += ["\n".join(_table(summaries)), "\n".join(_left_out(summaries))]
    room = _FULL
    for summary in wrong:
        for number, entry in enumerate(summary.entries, 1):
            parts += _shown(number, summary, entry, in_full=room > 0)
            room -= 1
    return "\n\n".join(filter(None, parts)) + "\n"


def _title(summaries: Sequence[SubjectFindings]) -> str:
    if len(summaries) == 1:
        (summary,) = summaries
        verdict = summary.headline.removeprefix(summary.subject)
        return f"{code(summary.subject)} {plain(verdict)}" if verdict != summary.headline else plain(verdict)
    return verdict_on_all(summaries)


def _table(summaries: Sequence[SubjectFindings]) -> Iterator[str]:
    yield "| subject | verdict | covered | wrong | cases | seconds |"
    yield "|---|---|--:|--:|--:|--:|"
    for summary in summaries:
        hunt, verdict = summary.examination.hunt, summary.shortfall or summary.verdict
        share = percent(*hunt.searched.of_whole[1:])
        counts = f"{share} | {len(summary.entries)} | {hunt.total:,} | {hunt.seconds:.1f}"
        yield f"| {cell(summary.subject)} | {plain(verdict)} | {counts} |"


def _left_out(summaries: Sequence[SubjectFindings]) -> Iterator[str]:
    """Yield what each subject was not asked: what it does not support, and what missing shards would have asked."""
    for summary in summaries:
        if missing := summary.examination.hunt.missing:
            yield f"- {code(summary.subject)}: {wording.missing_line(missing)}"
        if not summary.entries and (unshown := wording.unshown_line(summary.examination)) is not None:
            yield f"- vacuous in {code(summary.subject)}: {plain(unshown)}"
        for why, names in wording.left_out(summary.examination.hunt.refused).items():
            yield f"- left out of {code(summary.subject)}: {code(', '.join(names))}: {plain(why)}"


def _shown(number: int, summary: SubjectFindings, entry: FindingEntry, *, in_full: bool) -> Iterator[str]:
    yield f"### {number}\\. {plain(entry.headline)}, in {code(summary.subject)}"
    yield from facts_in_markdown([fact for fact in entry.main_facts if in_full or fact.name == "replay"])


def facts_in_markdown(facts: Sequence[Fact]) -> Iterator[str]:
    """Yield the mistake as a difference of two lines, then what is said, and then what can be copied."""
    code_lines = code_of(facts)
    if code_lines:
        signed = [f"{'-' if whose == 'yours' else '+'} {_one_line(line)}" for whose, line in code_lines.items()]
        yield fenced("\n".join(signed), "diff")
    if items := [f"- {fact.name}: {code(fact.text)}" for fact in facts if not _is_block(fact)]:
        yield "\n".join(items)
    for fact in facts:
        if _is_block(fact) and fact.name not in code_lines:
            yield f"{fact.name}:"
            yield fenced(fact.text, fact.language)


def _is_block(fact: Fact) -> bool:
    return bool(fact.language) or "\n" in fact.text


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, within a line."""
    return _MARKS.sub(lambda match: f"&#{ord(match[0])};", _one_line(text))


def code(text: str) -> str:
    """Return text as code within a line, on one line; nothing stays nothing."""
    line = _one_line(text)
    ticks = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}" if line else ""


def cell(text: str) -> str:
    """Return text as code within a cell of a table."""
    return f"<code>{plain(text)}</code>"


def fenced(text: str, language: str) -> str:
    """Return a block of code, whose fence is longer than any in it."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _one_line(text: str) -> str:
    return " ".join(text.split())
