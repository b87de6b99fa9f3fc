"""The documents of ``check``: their options, whether they can be written, and their writing at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from harness import __version__
from harness.cli.console import attempted, console_beside, put, typed, write_json
from harness.cli.options import PATH_TYPE, json_option, report_option

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.finding_entry import SubjectFindings
    from harness.report.json_record import RunOptions
    from harness.report.results_table import SubjectRow
    from harness.report.upgrade import UpgradeComparison
    from harness.search.checker import CheckedCase


@dataclass
class Outputs:
    """The targets of the documents, by format; ``None`` for those that nobody asked for."""

    json: str | None
    junit: str | None
    markdown: str | None
    report: str | None
    observations: str | None
    annotations: bool
    _write_line: Callable[[str], object] | None = None
    _file: ExitStack = field(default_factory=ExitStack)  # the open file of the observations, if there is one
    _piped: bool = False  # True if a document goes to standard output, which then has nothing else

    def required(self) -> Console:
        """Refuse at once what cannot be written, and return the console for people."""
        options = ("json", "junit", "markdown", "report", "observations")
        console = console_beside({f"--{name}": getattr(self, name) for name in options})
        self._piped = console.stderr
        if self.observations is not None:
            from harness.store.document import lines_to

            self._file = click.get_current_context().with_resource(ExitStack())
            self._write_line = self._file.enter_context(lines_to(self.observations))
        return console

    def observing(self, subject: str, seed: int) -> Callable[[CheckedCase], object] | None:
        """Return a function that writes a line for each case of a subject's search, which begins now."""
        from harness.report.hypothesis_observability import observation

        start = time.time()
        if self._write_line is None:
            return None
        return lambda checked: self._observed(observation(checked, subject, seed, start))

    def _observed(self, line: str) -> None:
        """Write a line, unless one before could not be written: then there is no file."""
        if self._write_line is None:
            return
        with attempted(f"--observations {self.observations}"):
            try:
                self._write_line(line)
            except OSError as error:
                self._write_line = None
                self._file.__exit__(type(error), error, error.__traceback__)
                raise

    def write(
        self,
        summaries: Sequence[SubjectFindings],
        run: RunOptions,
        upgrade: UpgradeComparison | None = None,
        rows: Sequence[SubjectRow] | None = None,
    ) -> None:
        """Write all documents about the subjects that were examined, and how two interpreters of one differ.

        ``rows`` are those of the table of ``--all``.
        """
        from harness.report import github, json_record, junit, markdown, page
        from harness.report.results_table import absent_markdown, rows_record
        from harness.report.upgrade import upgrade_markdown, upgrade_record

        with attempted(f"--observations {self.observations}"):
            self._file.close()
        if self.json is not None:
            between = None if upgrade is None else upgrade_record(upgrade)
            table = None if rows is None else rows_record(rows)
            subjects = [json_record.subject_record(summary) for summary in summaries]
            document = {**json_record.run_record(run), "subjects": subjects, "upgrade": between, "table": table}
            write_json("check", document, self.json)
        if self.junit is not None:
            put(junit.junit(summaries, upgrade), self.junit, "--junit")
        if self.markdown is not None:
            section = "" if upgrade is None else upgrade_markdown(upgrade)
            section += absent_markdown(rows or ())
            put(markdown.markdown(summaries) + section, self.markdown, "--markdown")
        if self.annotations:
            lines = chain.from_iterable(map(github.workflow_commands, summaries))
            with attempted("the annotations"):
                for line in lines if upgrade is None else github.upgrade_commands(upgrade):
                    click.echo(line, err=self._piped)
        if self.report is not None:
            shown = page.page_of_run(summaries, command=typed(), version=__version__, rows=rows, upgrade=upgrade)
            put(shown, self.report, "--report")


def _file_option(option: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{option}",
        f"{option}_to",
        type=PATH_TYPE,
        metavar="FILE",
        help=f"Also write {what}; - means standard output.",
    )


_OPTIONS: Final[dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "report": report_option,
    "json": json_option,
    "junit": _file_option("junit", "the report as JUnit XML"),
    "markdown": _file_option("markdown", "a summary in Markdown, for the job pages of CI"),
    "observations": _file_option("observations", "every case as a line in Hypothesis's observability format"),
}

_annotations_option = click.option(
    "--annotations/--no-annotations",
    envvar="GITHUB_ACTIONS",
    show_envvar=True,
    help="Print errors so that GitHub shows them beside the subject's code.",
)


def output_options(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of the documents, but for some, which it takes together, as ``outputs``."""

    def decorator(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def together(*, annotations: bool, **others: Any) -> Any:
            targets = {name: others.pop(f"{name}_to", None) for name in _OPTIONS}
            return command(outputs=Outputs(**targets, annotations=annotations), **others)

        wrapped: Callable[..., Any] = _annotations_option(together)
        for name in reversed(_OPTIONS):
            wrapped = wrapped if name in left_out else _OPTIONS[name](wrapped)
        return wrapped

    return decorator
