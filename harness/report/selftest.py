"""Reports of the harness's self-test, for people and as data."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from statistics import median
from typing import Any, Final, cast

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.diagnosis.selftest import Acquittal, Kill, Naming, Selftest, Trial
from harness.report.explained import precision_lines
from harness.report.record import as_json
from harness.report.wording import counted
from harness.space.config import RNNConfig

_COLUMNS: Final = (
    "\nfamily",
    "\nkilled",
    "1st\nmed.",
    "kill\nmax",
    "\nchecks",
    "true\nmin.",
    "\nplain",
    "named\nright",
    "\nsev.",
    "\nwrong",
    "\nnot",
    "then\nmed.",
    "\nmax",
)
"""The headings, narrow enough for a terminal of 80 columns."""

_LEGEND: Final = (
    "1st kill: CPU seconds until a fault shows, the median and the longest, and the median of checks; true min.: the "
    "config is as small as the fault allows; plain: all numbers are 0, ±1, ±2 or ±0.5; named right: it alone is named, "
    "sev.: among several, wrong: another is certain, not: none of these; then: CPU seconds to shrink and explain it"
)

_NAMED: Final = (Naming.RIGHTLY, Naming.AMONG, Naming.WRONGLY, Naming.NOT)

Exceptional = Callable[[Trial], bool]


def _killed(trial: Trial, holds: Callable[[Kill], bool]) -> bool:
    return trial.kill is not None and holds(trial.kill)


_EXCEPTIONS: Final[dict[str, Exceptional]] = {
    "not killed": lambda trial: trial.kill is None,
    "named wrongly": lambda trial: _killed(trial, lambda kill: kill.naming is Naming.WRONGLY),
    "not named": lambda trial: _killed(trial, lambda kill: kill.naming is Naming.NOT),
    "not minimal": lambda trial: _killed(trial, lambda kill: not kill.minimal),
    "certificate not complete": lambda trial: _killed(trial, lambda kill: bool(kill.untried)),
    "named among several": lambda trial: _killed(trial, lambda kill: kill.naming is Naming.AMONG),
    "numbers not plain": lambda trial: _killed(trial, lambda kill: not kill.plain),
}
"""The trials that deserve a look, the gravest kind first."""


def selftest_report(done: Selftest) -> RenderableType:
    """Return a table by family, the exceptions, the correct subjects, and a summary in a sentence."""
    parts: list[RenderableType] = []
    if done.trials:
        parts += [_by_family(done.trials), Padding(Text(_LEGEND, "dim"), (1, 0, 1, 2))]
        parts += _exceptions(done.trials)
    if done.acquittals:
        parts += [_by_subject(done.acquittals), "", *_accusations(done.acquittals)]
    style = "bold yellow" if done.interrupted and done.passed else "bold green" if done.passed else "bold red"
    return Group(*parts, Text(summary(done), style))


def summary(done: Selftest) -> str:
    """Return the results in a sentence."""
    parts = []
    if done.trials:
        killed = [trial.kill for trial in done.trials if trial.kill is not None]
        named = Counter(kill.naming for kill in killed)
        wrongly = f"{named[Naming.WRONGLY]:,}" if named[Naming.WRONGLY] else "none"
        minimal = sum(kill.minimal for kill in killed)
        parts.append(
            f"{len(killed):,} of {counted(len(done.trials), 'fault')} killed, {minimal:,} at the true minimum, "
            f"{named[Naming.RIGHTLY]:,} named rightly, {wrongly} wrongly"
        )
    if done.acquittals:
        checks = sum(one.checks for one in done.acquittals)
        alarms = counted(done.alarms, "false alarm") if done.alarms else "no false alarm"
        subjects = counted(len(done.acquittals), "correct subject")
        parts.append(f"{alarms} in {counted(checks, 'check')} of {subjects}")
    measured = len(done.trials) + len(done.acquittals)
    so_far = f"interrupted after {measured:,} of {counted(done.asked, 'subject')}: " if done.interrupted else ""
    took = f"in {done.seconds:.0f} s; --seed {done.seed}"
    return so_far + "; ".join([*(parts or ["nothing was measured"]), took])


def selftest_record(done: Selftest) -> dict[str, Any]:
    """Return the same as plain data: every figure of every row, and the versions."""
    record = {
        "passed": done.passed,
        "interrupted": done.interrupted,
        "summary": summary(done),
        "seed": done.seed,
        "examples": done.cases,
        "workers": done.workers,
        "asked": done.asked,
        "seconds": done.seconds,
        "versions": _versions(),
        "faults": [_trial(trial) for trial in done.trials],
        "families": {family: _figures(trials) for family, trials in _families(done.trials).items()},
        "total": _figures(done.trials),
        "correct": [asdict(one) for one in done.acquittals],
        "false_alarms": done.alarms,
    }
    return cast("dict[str, Any]", as_json(record))


def _by_family(trials: Sequence[Trial]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.columns[0].justify = "left"
    families = _families(trials)
    for family, rows in families.items():
        table.add_row(family, *_cells(_figures(rows)))
    if len(families) > 1:
        table.add_row("total", *_cells(_figures(trials)), style="bold")
    return table


def _families(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    families: dict[str, list[Trial]] = {}
    for trial in trials:
        families.setdefault(trial.family, []).append(trial)
    return families


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the figures of some faults; medians and worst values are of those that were killed."""
    killed = [trial for trial in trials if trial.kill is not None]
    kills = [trial.kill for trial in trials if trial.kill is not None]
    named = Counter(kill.naming for kill in kills)
    first, then = [trial.seconds for trial in killed], [kill.seconds for kill in kills]
    return {
        "faults": len(trials),
        "killed": len(kills),
        "first_kill_seconds_median": median(first) if first else None,
        "first_kill_seconds_worst": max(first, default=None),
        "checks_median": median(trial.checks for trial in killed) if killed else None,
        "minimal": sum(kill.minimal for kill in kills),
        "plain": sum(kill.plain for kill in kills),
        "certificates_complete": sum(not kill.untried for kill in kills),
        **{f"named_{naming.value.replace(' ', '_')}": named[naming] for naming in _NAMED},
        "then_seconds_median": median(then) if then else None,
        "then_seconds_worst": max(then, default=None),
    }


def _cells(figures: dict[str, Any]) -> list[str]:
    shown = {name: figure for name, figure in figures.items() if name != "certificates_complete"}
    killed = f"{shown.pop('killed'):,}/{shown.pop('faults'):,}"
    return [killed, *(_cell(name, figure) for name, figure in shown.items())]


def _cell(name: str, figure: float | None) -> str:
    if figure is None:
        return "-"
    return _seconds(figure) if "seconds" in name else f"{figure:,.{0 if figure == int(figure) else 1}f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.{2 if seconds < 9.995 else 1 if seconds < 99.95 else 0}f}"


def _exceptions(trials: Sequence[Trial]) -> Iterator[RenderableType]:
    for what, exceptional in _EXCEPTIONS.items():
        yield from _listed(what, [(trial.name, _said(what, trial)) for trial in trials if exceptional(trial)])


def _listed(what: str, rows: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    """Yield the number of things of a kind, and each of them with a remark; nothing if there are none."""
    if not rows:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in rows:
        table.add_row(name, Text(said))
    yield Text(f"{what}: {len(rows):,}", "bold")
    yield Padding(table, (0, 0, 1, 2))


def _said(what: str, trial: Trial) -> str:
    """Return the remark on an exceptional fault."""
    kill = trial.kill
    if kill is None:
        return f"{counted(trial.checks, 'check')} in {_seconds(trial.seconds)} s of CPU time; it {trial.sentence}"
    config = _short(kill.config)
    if what == "not minimal":
        return f"{config}, not {_short(trial.smallest)}" if trial.smallest else config
    if what == "certificate not complete":
        return f"{config}; {'; '.join(kill.untried)}"
    if what == "numbers not plain":
        return kill.case
    if what == "named among several":
        return f"{config}; as {_or(cause.name for cause in kill.causes if cause.name != trial.name)}, too"
    return f"{config}; said: {_instead(kill)}"


def _instead(kill: Kill) -> str:
    """Return the cause that was named instead of the fault."""
    if kill.causes:
        return ("" if kill.certain else "possibly ") + _or(cause.sentence for cause in kill.causes)
    if kill.precision is not None and (lines := precision_lines(kill.precision)):
        return "; ".join(lines)
    return f"no cause of {kill.kind}"


def _or(said: Iterable[str]) -> str:
    return " or ".join(said)


def _short(config: RNNConfig) -> str:
    return repr(config).removeprefix("RNNConfig")


def _by_subject(acquittals: Sequence[Acquittal]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("correct", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for heading in ("checks", "malformed calls", "seconds", "alarms"):
        table.add_column(heading, justify="right")
    for one in acquittals:
        refusals = f"{one.refusals:,}" if one.refusals else "-"
        alarms = f"{len(one.alarms):,}" if one.alarms else "none"
        style = "bold red" if one.alarms else ""
        row = (one.name, one.what, f"{one.checks:,}", refusals, f"{one.seconds:.1f}", alarms)
        table.add_row(*row, style=style)
    return table


def _accusations(acquittals: Sequence[Acquittal]) -> Iterator[RenderableType]:
    alarms = [(one.name, f"{alarm.verdict}: {alarm.kind}: {alarm.case}") for one in acquittals for alarm in one.alarms]
    return _listed("false alarms", alarms)


def _trial(trial: Trial) -> dict[str, Any]:
    kill = trial.kill
    about = {
        "name": trial.name,
        "family": trial.family,
        "sentence": trial.sentence,
        "smallest": None if trial.smallest is None else trial.smallest.to_dict(),
        "passed": trial.passed,
        "killed": kill is not None,
        "checks": trial.checks,
        "first_kill_seconds": trial.seconds,
    }
    if kill is None:
        return about | {"kill": None}
    precision = None if kill.precision is None else {"text": precision_lines(kill.precision), **vars(kill.precision)}
    return about | {
        "kill": {
            **vars(kill),
            "config": kill.config.to_dict(),
            "certified": not kill.untried,
            "naming": kill.naming.value,
            "causes": [asdict(cause) for cause in kill.causes],
            "look_alikes": [cause.name for cause in kill.causes if cause.name != trial.name],
            "precision": precision,
        }
    }


def _versions() -> dict[str, str]:
    packages = ("rnn-harness", "hypothesis", "ml_dtypes", "numpy", "python-flint", "torch")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return {"python": platform.python_version(), **{name: version(name) for name in packages}, "machine": machine}
