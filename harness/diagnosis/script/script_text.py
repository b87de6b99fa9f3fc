"""script_text: the script of a finding. It holds the case, makes the call, and compares with what is expected."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.checks.dropout import FALSE_ALARMS, NOTHING_DROPPED, RATE, RUNS_OF_A_CONFIG, share_kept
from harness.checks.malformed import MalformedCallAnswers
from harness.checks.repeatability import FLAKY_RUNS
from harness.checks.result import ComparisonMethod
from harness.diagnosis.script.expected_arrays import in_own_names, wanted
from harness.diagnosis.script.function_call import Code, function_call
from harness.diagnosis.script.module_call import module_call
from harness.diagnosis.script.user import NoScript, UserSubject, quoted, user_named, wrapped
from harness.oracle.arithmetic_assumptions import STRICT, AcceptedErrors
from harness.oracle.compare import OF_VALUE, MismatchKind
from harness.search.search_record import Finding
from harness.space.case import Array, code_of
from harness.space.outcome import Failure, Outcome, is_last
from harness.subjects.capabilities import DIFFERENCES
from harness.subjects.protocol import Subject
from harness.subjects.torch_variants import RECIPES

NAME: Final = "reproduce.py"
ARRAYS_FILE: Final = "arrays.npz"

# characters of all arrays in a script; where there are more, the larger arrays go to the file
LONGEST_ARRAYS: Final = 4_000
SHORT_ARRAY: Final = 300  # characters of an array that is written out in any case

SCRIPT_OF_FORM: Final = {
    MismatchKind.MALFORMED,
    MismatchKind.MISSING,
    MismatchKind.UNEXPECTED,
    MismatchKind.SHAPE,
    MismatchKind.DTYPE,
}

EFFECTS: Final = {
    MismatchKind.CHANGED: "changed",
    MismatchKind.ALIASED: "aliased",
    MismatchKind.OVERWRITTEN: "overwritten",
}
HEADLINES: Final = {
    "died": "ends its process",
    "nondeterministic": "gives different answers to the same call",
    "raised": "raises {error}",
    "changed": "writes into its inputs",
    "aliased": "returns tensors that share memory",
    "overwritten": "returns arrays that its next call overwrites",
}

STANDARD: Final = ("copy", "math", "os", "pathlib", "pickle", "runpy", "subprocess", "sys", "types")
# What a script imports, by the name under which it says so.
IMPORTS: Final = {"ml_dtypes": "ml_dtypes", "np": "numpy as np", "torch": "torch"}

_HEAD: Final = '''"""{headline}.

Prints FAILED and exits with 1 while that is so. Afterwards it prints FIXED and exits with 0.
"""'''


@dataclass(frozen=True)
class Script:
    """A script's text, and the arrays that must lie next to it in ``arrays.npz``; or why there is no script."""

    text: str | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    reason: str = ""
    alone: bool = True  # False if it needs this package


def script(
    finding: Finding, subject: Subject, *, accepted: AcceptedErrors = STRICT, outcome: Outcome | None = None
) -> Script:
    """Return the script that shows a finding without this package.

    ``subject`` is what it was found on. It is run once, unless it crashes on the case, or the ``outcome`` is known.
    """
    try:
        _require_one_call(finding)
        user = user_named(finding.subject, subject)
        if finding.result.failure is Failure.CRASHED:
            outcome = Outcome()
        return _Maker(finding, subject, user, outcome or subject.run(finding.case), accepted).script()
    except NoScript as error:
        return Script(reason=str(error))


def script_with_harness(finding: Finding, reason: str, tolerance: str, file: str) -> Script:
    """Return a script that asks this package, where none can do without it; ``file`` holds the case."""
    says = {"title": title_of(finding.subject), "reason": reason, "file": file, "folder": quoted(str(Path.cwd()))}
    subject, layer = quoted(finding.subject), finding.case.config.layer
    return Script(
        _template("with_harness").render(says, subject=subject, layer=layer, tolerance=quoted(tolerance)), alone=False
    )


def script_of_refusals(spec: str, subject: Subject, refusals: MalformedCallAnswers) -> str:
    """Return a script that makes the malformed calls that a class does not refuse. Raise ``NoScript`` if none can."""
    user = user_named(spec, subject)
    says = {"title": title_of(spec), "lines": user.lines, "expression": user.recipe.expression}
    return str(_template("malformed").render(says, **vars(refusals)))


def title_of(spec: str) -> str:
    """Return the name of a subject for readers who do not know this package."""
    return RECIPES[spec].title if spec in RECIPES else spec


def _require_one_call(finding: Finding) -> None:
    """Raise ``NoScript`` for what does not show in one call."""
    result = finding.result
    if finding.case.is_large:
        raise NoScript("its case is too large to be written down; a replay reads it")
    if result.failure is Failure.HUNG:
        raise NoScript("it hangs, and a script would hang, too")
    if is_last(result.failure, result.message):
        raise NoScript("it ends the process that started its own, which a script must not do")
    if result.relation or (result.mismatches and result.mismatches[0].relation):
        raise NoScript("it breaks a relation between several runs, and a script makes one call")


@dataclass
class _Maker:
    finding: Finding
    subject: Subject
    user: UserSubject
    outcome: Outcome
    accepted: AcceptedErrors
    stored: dict[str, Array] = field(default_factory=dict)
    length: int = 0  # characters of the arrays so far
    sparse: bool = False  # True if an array is written by its entries

    def script(self, *, with_file: bool = False) -> Script:
        """Return the script, with its larger arrays in a file if it is too long without one."""
        self.stored, self.length, self.sparse = {}, 0, False
        code = partial(self._code, with_file=with_file)
        says = self._call(code) | self._end(code)
        if self.length > LONGEST_ARRAYS and not with_file:
            return self.script(with_file=True)
        return Script(self._text(says), self.stored)

    def _text(self, says: Mapping[str, Any]) -> str:
        recipe, own = self.user.recipe, "\n".join(self.user.recipe.lines)
        imported = "\n\n".join(filter(None, ["\n".join(self.user.lines), own]))
        body = _template(NAME).render(
            says, imported=imported, file=ARRAYS_FILE, in_file=self.stored, sparse=self.sparse
        )
        environ = "\n".join(f"os.environ[{quoted(name)}] = {quoted(value)}" for name, value in recipe.environ.items())
        text = f"{body.replace(own, '')}\n{environ}"  # the lines of a recipe import what they need
        standard = "\n".join(f"import {name}" for name in STANDARD if re.search(rf"\b{name}\.", text))
        others = "\n".join(f"import {what}" for name, what in IMPORTS.items() if re.search(rf"\b{name}\.", text))
        head = _HEAD.format(headline=f"{title_of(self.finding.subject)} {says['headline']}")
        parts = [head, standard, environ, others, body.strip("\n")]
        return re.sub(r"\n{4,}", "\n\n\n", "\n\n".join(filter(None, parts))) + "\n"

    def _call(self, code: Code) -> dict[str, Any]:
        case = self.finding.case
        plain = {
            "layer": "",
            "contexts": (),
            "seed": None,
            "cell": False,
            "start": "",
            "again": "",
            "final": (),
            "after": (),
            "by": "",
            "more": (),
        }
        if self.user.is_class:
            call = module_call(case, self.user, code)
        else:
            call = function_call(case, self.user, self.subject, list(self.outcome.arrays), code)
        return {**plain, "strides": case.config.strides, **call}

    def _code(self, name: str, array: Array, *, with_file: bool, in_float64: bool = False) -> str:
        """Return the code of an array, in the library of the call; or in NumPy and float64, as it is compared."""
        text = code_of(array.astype(np.int8) if array.dtype == bool else array) if array.size < LONGEST_ARRAYS else ""
        self.length += len(text) or LONGEST_ARRAYS
        if with_file and not 0 < len(text) <= SHORT_ARRAY:
            self.stored[name] = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
            text = f'arrays["{name}"]'
        self.sparse |= text.startswith("sparse(")
        if in_float64:
            return wrapped(f"np.array({text})", 4)
        if self.user.is_class:
            device = self.finding.case.config.device
            elsewhere = f", device={device!r}" * (device != "cpu")
            return wrapped(f"torch.tensor({text}, dtype=torch.{array.dtype.name}{elsewhere})", 4)
        module = "ml_dtypes" if array.dtype.name == "bfloat16" else "np"
        return wrapped(f"np.array({text}, dtype={module}.{array.dtype.name})", 4)

    def _end(self, code: Code) -> dict[str, Any]:
        """Return what the template says of the end, which tells whether it fails."""
        result = self.finding.result
        sorts = {mismatch.sort for mismatch in result.mismatches}
        if result.method is ComparisonMethod.DROPOUT:
            return self._end_of_dropout()
        if sorts & SCRIPT_OF_FORM:
            return self._end_of_form()
        if sorts and sorts <= OF_VALUE:
            return self._end_of_values(partial(code, in_float64=True))
        if MismatchKind.DERIVATIVE in sorts:
            return self._end_of_derivatives()
        error = next(iter(result.raised.classes if result.raised is not None else ()), "")
        if result.failure is Failure.CRASHED:
            ending = "died"
        elif not sorts:
            ending = "nondeterministic" if result.nondeterministic else "raised"
        else:
            ending = next((name for sort, name in EFFECTS.items() if sort in sorts), "")
        if not ending:
            raise NoScript("it fails in other runs, not in the case itself")
        pairs = [(mismatch.array, mismatch.actual) for mismatch in result.mismatches]
        return {
            "ending": ending,
            "headline": HEADLINES[ending].format(error=error),
            "error": error,
            "pairs": pairs,
            "names": [name for name, _ in pairs],
            "runs": FLAKY_RUNS,
        }

    def _end_of_values(self, code: Code) -> dict[str, Any]:
        case, config, array = self.finding.case, self.finding.case.config, self.finding.result.mismatches[0].array
        right = wanted(case, self.user, self.subject, self.outcome, self.accepted)
        if not any(map(np.any, right.wrong(self.outcome.arrays).values())):
            raise NoScript("over the whole run, rounding could explain it")
        values, tolerance = (
            in_own_names(self.user, config, part)
            for part in (right.values, right.simple_tolerance(self.outcome.arrays))
        )
        what = f"gradient by {array.removesuffix('.grad')}" if array.endswith(".grad") else array
        return {
            "ending": "values",
            "headline": f"computes another {what} than {config.layer} is documented to compute",
            "allowed": f"what rounding in {config.plain.dtype} can explain"
            + ", plus the accepted tolerance" * (not self.accepted.derived),
            "compared": {
                "expected": {name: code(f"expected {name}", want) for name, want in values.items()},
                "tolerance": {name: _one_or_all(allowed, code, name) for name, allowed in tolerance.items()},
            },
        }

    def _end_of_derivatives(self) -> dict[str, Any]:
        if self.user.recipe.form is not None:
            raise NoScript("only this package differentiates a class of a form of its own")
        check = self.finding.result.mismatches[0].actual
        what = "in forward mode" if check == "gradcheck" else "of its gradients"
        return {
            "ending": "derivatives",
            "headline": f"has wrong derivatives {what}",
            "check": check,
            "options": DIFFERENCES[check],
        }

    def _end_of_form(self) -> dict[str, Any]:
        result, config = self.finding.result, self.finding.case.config
        if unexpected := [mismatch.array for mismatch in result.mismatches if mismatch.sort is MismatchKind.UNEXPECTED]:
            raise NoScript(f"{', '.join(unexpected)} is returned, but {config.layer} has no such output")
        forward = self.user.is_class and any(mismatch.array in config.outputs for mismatch in result.mismatches)
        missing = {mismatch.array for mismatch in result.mismatches if mismatch.sort is MismatchKind.MISSING}
        names = [name for name in config.returned if name in missing or name in self.outcome.arrays]
        names = [name for name in names if name in config.outputs or not forward] or ["output", *config.form.final]
        forms = {name: np.empty(config.returned[name].shape, config.dtype_of(name)) for name in names}
        return {
            **({"by": "", "gradients": False} if forward else {}),
            "ending": "form",
            "headline": f"returns something else than {config.layer} does",
            "forms": {
                name: f'"{form.dtype} {form.shape}"' for name, form in in_own_names(self.user, config, forms).items()
            },
        }

    def _end_of_dropout(self) -> dict[str, Any]:
        result, net = self.finding.result, self.finding.result.net
        if net is None or net.loss is not None or "masks" in self.user.takes:
            raise NoScript("a script shows no dropout backwards, and none of masks that are given")
        if not result.message.startswith((RATE, NOTHING_DROPPED)):
            raise NoScript("a script counts what is kept, and this is about something else")
        return {
            "ending": "dropout",
            "headline": "breaks the statistics of dropout",
            "runs": RUNS_OF_A_CONFIG,
            "share": share_kept(net),
            "alarms": f"{1 / FALSE_ALARMS:.0e}",
            "seed": None,
        }


def _one_or_all(tolerance: Array, code: Code, name: str) -> float | str:
    most = float(tolerance.max(initial=0.0))
    return most if np.isfinite(most) and np.all(tolerance == most) else code(f"tolerance {name}", tolerance)


@cache
def _template(name: str) -> Any:
    from jinja2 import StrictUndefined, Template

    text = Path(__file__).with_name(f"{name}.j2").read_text(encoding="utf-8")
    return Template(text, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
