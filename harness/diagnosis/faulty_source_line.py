"""faulty_source_line: the line of a subject's own Python that computes a wrong quantity.

The identified layer's lines are executed on generic numbers, with the mistake and without, on the same operands. What
only the mistaken lines make is wrong. The subject runs the same case under a trace function, and the first line that
makes a wrong number is its own line. Nothing is said where that is open to doubt.
"""

from __future__ import annotations

import ast
import linecache
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.elman_layer_inquiry import Identification
from harness.diagnosis.identify.gates import GatedModel
from harness.diagnosis.identify.gather import values_of
from harness.diagnosis.identify.inquiry import explains
from harness.diagnosis.identify.line_quantities import (
    BACKWARD_QUANTITIES,
    FORWARD_QUANTITIES,
    SAME,
    LineQuantity,
    equal,
    one_like,
    quantities_of,
)
from harness.diagnosis.identify.mistake import Mistake
from harness.diagnosis.identify.model import ROLES, Network
from harness.diagnosis.identify.network_run import run, run_whole
from harness.diagnosis.identify.questions import Asker
from harness.diagnosis.identify.recurrence import lines
from harness.diagnosis.identify.wiring_choices import OWN_WIRING, Place
from harness.oracle.bounded_array import Floats
from harness.oracle.pinned_numpy import np
from harness.space.case import Case
from harness.space.values import draw
from harness.subjects.line_runs import CodeSite, LineRun, line_runs_of

TRACED_STEPS: Final = (4, 7)
LINE_UNITS: Final = 8
CLIPPED_SCALES: Final = (1.0, 10.0, 100.0)  # of gradients, for what is clipped
WEIGHT: Final = 0.3  # the scale of weights and biases, with which no tanh is nearly 1
LINE_QUANTITIES: Final = (
    "start",
    *FORWARD_QUANTITIES,
    *BACKWARD_QUANTITIES,
    *ROLES,
    "limit",
    "norm",
)  # the keys of lines that make numbers of their own
ENOUGH_NUMBERS: Final = 3  # numbers by which a quantity is known
LONGEST_LINE: Final = 100  # characters of a line


class SourceLine(NamedTuple):
    """A line of a file, and its text without indentation."""

    file: str
    number: int
    text: str


def own_line(asker: Asker, identified: Identification, mistake: Mistake) -> SourceLine | None:
    """Return the line of a subject that makes a mistake of an identified layer; ``None`` if that is open to doubt."""
    network, mended = identified.network, mistake.without(identified.network)
    place = {"above": (1, 0), "reverse": (0, 1)}.get(mistake.models[0], (0, 0))
    texts = [lines(variant.of(*place), identified.nonlinearity) for variant in (network, mended)]
    wrong = {key for text in texts for key in text if texts[0].get(key) != texts[1].get(key)}
    forward = bool(wrong & {"start", *FORWARD_QUANTITIES})
    read = [set(re.findall(r"\b[Wb]_\w+", text["s"])) for text in texts]
    wired = network.wiring != OWN_WIRING or network.back is not None  # what is only moved is no number of its own
    wired |= isinstance(network.first, GatedModel)  # the lines of a step with gates make a name anew in each
    if wired or read[0] != read[1]:  # which parameter a variable holds, or that it is 0, was decided elsewhere
        return None
    if (
        not all(key.startswith(LINE_QUANTITIES) for key in wrong)
        or (network.derived and not forward)
        or asker.dtype != "float64"
    ):
        return None
    with np.errstate(all="ignore"):
        for case in _cases(asker, network, mended, mistake, (None,) if forward else asker.losses):
            # Before any other run of the case: memory that was freed keeps its numbers.
            runs = line_runs_of(asker.subject, case)
            if (a := asker.of(case)) is None:
                continue
            if not explains(network, a, asker.rounding, identified.unknown):
                return None
            try:
                search = _LineSearch(network, mended, case.plain(), identified.nonlinearity, place, wrong)
            except (NameError, TypeError, ValueError, IndexError):  # a line that does not stand for itself
                return None
            return search.line(runs)
    return None


def _cases(
    asker: Asker, network: Network, mended: Network, mistake: Mistake, losses: Sequence[str | None]
) -> Iterator[Case]:
    """Yield a case on which a mistake makes a difference of each kind that a subject may refuse."""
    stacks: dict[str, dict[str, Any]] = {"above": {"num_layers": 2}, "reverse": {"bidirectional": True}}
    for hx, features, N in product((True, False) if asker.has_hx else (False,), (LINE_UNITS - 1, LINE_UNITS), (1, 2)):
        for scale, T, loss in product(CLIPPED_SCALES, TRACED_STEPS, losses):
            config = asker.config(
                T=T,
                N=N,
                input_size=features,
                hidden_size=LINE_UNITS,
                hx=hx,
                loss=loss,
                **stacks.get(mistake.models[0], {}),
            )
            if config is None or config.lengths is not None:
                continue
            drawn = draw(config, "normal", zlib.crc32(mistake.yours.encode()))
            sizes = {name: scale if name.endswith(".grad") else WEIGHT for name in drawn.arrays} | {"x": 1, "hx": 1}
            case = Case.from_arrays(config, {name: array * sizes[name] for name, array in drawn.arrays.items()})
            made, right = (run(variant, case.plain()) for variant in (network, mended))
            if not all(np.allclose(values_of(made[n]), values_of(right[n]), 1e-6, 0) for n in made):
                yield case
                break


class _LineSearch:
    """The wrong quantities of a layer on a case, and the right ones."""

    def __init__(  # noqa: PLR0917 - of private use
        self, network: Network, mended: Network, case: Case, nonlinearity: str, place: Place, wrong: set[str]
    ) -> None:
        traces, arrays = run_whole(network, case)
        groups = [group for group in (FORWARD_QUANTITIES, BACKWARD_QUANTITIES) if wrong & {*group}]
        touched = wrong.union(*groups)
        every = quantities_of(lines(network.of(*place), nonlinearity), traces[place])
        own = {q: made for q, made in every.items() if q.key in touched}
        results = [array for q, made in own.items() if q.result and q.key not in ROLES for array in made]
        right = {
            LineQuantity("given", 0, result=False): [np.asarray(array, np.float64) for array in case.arrays.values()]
        }
        for at, f in traces.items():
            for q, made in quantities_of(lines(mended.of(*at), nonlinearity), f).items():
                # A sum that lacks a term is a part of the right one, and later lines read the wrong quantity itself.
                if q.key in ROLES or (q.key in wrong and not q.result):
                    made = [array for array in made if not any(map(one_like(array), results))]
                right.setdefault(q, []).extend(made)
        if any(key.startswith("limit") for key in wrong):
            limited = LineQuantity("limit", 0, result=False)
            right[limited] = [values_of(array) for array in run(mended, case).values()]
            own = {limited: [values_of(array) for name, array in arrays.items() if name.endswith(".grad")]}
        self._right = _TellingNumbers(right)
        self._wrong = _TellingNumbers(own, self._right)
        for q in [q for group in groups for q in own if q.key in group and q.key not in wrong]:
            # What follows from a wrong quantity is known by it only where that is a number of its own.
            if not any(
                quantity.key in wrong and quantity.result and quantity.t == q.t for quantity in self._wrong.telling
            ):
                self._wrong.telling.pop(q, None)

    def line(self, runs: Sequence[LineRun]) -> SourceLine | None:
        """Return the line that makes the first wrong quantity, if no doubt is left."""
        held = [{q for value in line_run.values for q in self._wrong.matches(value.array)} for line_run in runs]
        at = next((number for number, some in enumerate(held) if some), None)
        if at is None or not self._begins(held[at]):
            return None
        first, keys = runs[at], {q.key for q in held[at]}
        before = [
            ({q for v in line_run.values for q in self._right.matches(v.array)}, line_run.stack[0])
            for line_run in runs[:at]
        ]
        if keys & {*ROLES} and self._doubted(first, before, keys):
            return None
        parts = {q.key for q in held[at] if not q.result}
        earlier: set[LineQuantity] = set()
        for some, line_run in zip(held, runs, strict=True):  # the other steps' are made there, too
            new = {q for q in some - earlier if q.key in keys and q.result != (q.key in parts)}
            if new and line_run.stack[0] != first.stack[0]:
                return None
            earlier |= some
        always = [any(q.key in keys for q in some) for some in held]
        depth = _at_fault(runs, always, first.stack)
        return _skipped(runs, at, len(first.stack) - depth) or _shown(first.stack[depth:], keys & {*ROLES})

    def _begins(self, quantities: set[LineQuantity]) -> bool:
        """Tell whether the recurrence is first wrong in these, and at one step; if not, its code is not seen."""
        for group, order in ((FORWARD_QUANTITIES, min), (BACKWARD_QUANTITIES, max)):
            here = {q.t for q in quantities if q.key in group}
            begin = order((q.t for q in self._wrong.telling if q.key in group), default=0)
            once = {q.t for q in quantities if q.key in group and q.result and q.key != "slope"}
            if here and (begin not in here or once - {begin}):
                return False
        return True

    def _doubted(self, first: LineRun, before: Sequence[tuple[set[LineQuantity], CodeSite]], keys: set[str]) -> bool:
        """Tell whether a line may sum rightly what another one spoils."""
        if any(value.shared and self._wrong.matches(value.array) for value in first.values):  # two sums are one array
            return True
        if not any(q.key in BACKWARD_QUANTITIES for some, _ in before for q in some):  # the way back is not seen
            return True
        for some, site in before:
            right = [q for q in some if q.key in keys and site == first.stack[0]]
            if right and all(q._replace(result=False) in self._wrong.telling for q in right):
                return True  # it is right where the layer is wrong
        return False


class _TellingNumbers:
    """Quantities by their numbers that none of other quantities has."""

    def __init__(self, arrays: Mapping[LineQuantity, list[Floats]], others: _TellingNumbers | None = None) -> None:
        self.telling: dict[LineQuantity, Floats] = {}
        self.ordered: dict[LineQuantity, list[Floats]] = {}
        self._others = others
        for q, made in arrays.items():
            numbers = _telling(np.concatenate([*map(np.ravel, made), []]))
            ordered = [np.sort(array.ravel()) for array in made if len(_telling(array)) >= ENOUGH_NUMBERS]
            if others is not None:  # numbers that are clipped are round, and the others right: the whole array tells
                numbers = numbers[~_among(numbers, np.sort(np.concatenate([*others.telling.values(), []])))]
                rivals = [its for group in others.ordered.values() for its in group]
                ordered = [array for array in ordered if not any(equal(array, its) for its in rivals)]
            self.ordered[q] = ordered
            if len(numbers) or ordered:
                self.telling[q] = numbers

    def matches(self, array: Floats) -> set[LineQuantity]:
        """Return the quantities that an array holds, in any order."""
        held, names = np.sort(array), list(self.telling)
        sizes = np.array([len(self.telling[q]) for q in names], int)
        among = _among(np.concatenate([*self.telling.values(), []]), held)
        counts = np.bincount(np.repeat(np.arange(len(names)), sizes)[among], minlength=len(names))
        enough = np.minimum(np.minimum(sizes, ENOUGH_NUMBERS), array.size)
        quantities = {q for q, number, least in zip(names, counts, enough, strict=True) if number >= least > 0}
        return quantities | {q for q in names if self._others and any(equal(own, held) for own in self.ordered[q])}


def _among(numbers: Floats, held: Floats) -> Any:
    if not held.size:
        return np.zeros(len(numbers), bool)
    at = np.searchsorted(held, numbers)
    near = [np.abs(held[np.clip(at - back, 0, held.size - 1)] - numbers) for back in (0, 1)]
    return np.minimum(*near) <= SAME * np.abs(numbers)


def _telling(array: Floats) -> Floats:
    """Return the numbers of an array that are no round ones, such as 0, 1 or a limit."""
    numbers = np.unique(array[np.isfinite(array)])
    return numbers[np.abs(np.round(numbers, 9) - numbers) > SAME * np.abs(numbers)]


def _at_fault(runs: Sequence[LineRun], wrong: Sequence[bool], stack: tuple[CodeSite, ...]) -> int:
    """Return where in a stack a line is wrong whoever calls it; if it is right for others, its caller is at fault."""
    for depth, site in enumerate(stack):
        callers: dict[CodeSite, bool] = {}
        for line_run, bad in zip(runs, wrong, strict=True):
            for called, caller in zip(line_run.stack, line_run.stack[1:], strict=False):
                if called[:2] == site[:2]:
                    callers[caller] = callers.get(caller, False) or bad
        if all(callers.values()):
            return depth
    return len(stack) - 1


def _skipped(runs: Sequence[LineRun], at: int, depth: int) -> SourceLine | None:
    """Return the ``if`` that follows a line, if it mends what the line makes at other steps, and does not at this one.

    The line stands in the frame that is the ``depth``-th from outside.
    """
    site = runs[at].stack[-depth]
    every, nodes = _source(site.file)
    bodies = [body for node in nodes if isinstance(body := getattr(node, "body", None), list)]
    pairs = [pair for body in bodies for pair in pairwise(body) if pair[0].lineno == site.line]
    if not pairs or not isinstance(after := pairs[0][1], ast.If) or after.orelse:
        return None
    if not _assigned(pairs[0][0]) & {name for statement in after.body for name in _assigned(statement)}:
        return None
    lines_of = [line_run.stack[-depth].line if len(line_run.stack) >= depth else 0 for line_run in runs]

    def mended(number: int) -> bool:
        following = next((line for line in lines_of[number + 1 :] if line != site.line), 0)
        return after.body[0].lineno <= following <= (after.end_lineno or 0)

    if mended(at) or not any(mended(number) for number, line in enumerate(lines_of) if line == site.line):
        return None
    return SourceLine(site.file, after.lineno, " ".join(every[after.lineno - 1].split()))


def _source(file: str) -> tuple[list[str], list[ast.AST]]:
    """Return the lines and the nodes of a file; no node if it was changed since it was imported, and is no Python."""
    every = linecache.getlines(file)
    try:
        return every, list(ast.walk(ast.parse("".join(every))))
    except SyntaxError:
        return every, []


def _assigned(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _shown(stack: tuple[CodeSite, ...], roles: set[str]) -> SourceLine | None:
    """Return the statement at the innermost site; of a dict of gradients, the entry of a role.

    A function that only returns an expression may be right, and be given what is wrong: its caller is named, too.
    """
    (file, line, _), end, caller = stack[0], stack[0].line, ""
    every, nodes = _source(file)
    if not nodes:
        return None
    named = {f"{role}{layer}{after}" for role in roles for layer in ("", "_l0", "_l1") for after in ("", ".grad")}
    for node in nodes:
        if getattr(node, "lineno", None) != line:
            continue
        if isinstance(node, ast.Return | ast.Lambda) and len(stack) > 1 and _alone(node, nodes):
            caller = f" (called in line {stack[1].line})"
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            end = node.end_lineno or line
            for literal in [literal for literal in ast.walk(node) if isinstance(literal, ast.Dict)]:
                for key, value in zip(literal.keys, literal.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in named:
                        line, end = key.lineno, value.end_lineno or line
    text = " ".join(" ".join(every[line - 1 : end]).split())
    return SourceLine(file, line, (text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…") + caller)


def _alone(node: ast.AST, nodes: Sequence[ast.AST]) -> bool:
    return isinstance(node, ast.Lambda) or any(
        isinstance(function, ast.FunctionDef) and function.body == [node] for function in nodes
    )
