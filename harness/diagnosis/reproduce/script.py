"""script: a finding as a Python script that shows it without this package.

The script holds the case, calls what the user named, and compares with what is expected end to end. Nothing of the
subject's inner states is needed for that. Where the difference is too small to be seen in this way, and shows at the
subject's own states alone, the elements that were found there are compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from harness.checks.agreement import REFERENCE, arithmetic_of, effects_of, unfit
from harness.checks.result import Method, Result
from harness.diagnosis.reproduce import endings as checks
from harness.diagnosis.reproduce.law import law_script
from harness.diagnosis.reproduce.literals import Literals
from harness.diagnosis.reproduce.numpy_call import numpy_program
from harness.diagnosis.reproduce.program import Program, Unwritten, User, handed_to, user_of, with_conventions, written
from harness.diagnosis.reproduce.torch_call import shown, torch_program
from harness.oracle.arithmetic import STRICT, Accepted
from harness.oracle.compare import OF_EFFECT, OF_VALUE, Mismatch, Site, Sort
from harness.oracle.expectation import Setting
from harness.oracle.gradient_expectation import expect_whole_run
from harness.search.record import Finding
from harness.space.case import Array, Case, padding
from harness.space.config import PLACES, RNNConfig
from harness.space.outcome import Failure, Outcome, is_last
from harness.subjects.conventions import named_conventions
from harness.subjects.protocol import Subject, masks_of
from harness.subjects.registry import registered

NAME: Final = "reproduce.py"

_OF_FORM: Final = {Sort.MISSING, Sort.UNEXPECTED, Sort.SHAPE, Sort.DTYPE}
_BATCHED: Final = {"x", "hx", "output", "h_n", "readout"}


@dataclass(frozen=True)
class Script:
    """A script's text, and the arrays that must lie next to it in ``arrays.npz``, if any; or why there is no script."""

    text: str | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    reason: str = ""


def script(
    finding: Finding, subject: Subject, *, accepted: Accepted = STRICT, outcome: Outcome | None = None
) -> Script:
    """Return the script that shows a finding.

    ``subject`` is what it was found on. It is run once, unless it crashes on the case, or the ``outcome`` is known.
    """
    try:
        _require_small(finding.case)
        _require_one_call(finding.result)
        user = user_named(finding.subject, subject)
        if finding.result.method is Method.DROPOUT:
            return Script(*law_script(finding.subject, finding.result, user))
        if finding.result.failure is Failure.CRASHED:
            outcome = Outcome()
        elif outcome is None:
            outcome = subject.run(finding.case)
        return _Maker(finding, subject, user, outcome).made(accepted)
    except Unwritten as error:
        return Script(reason=str(error))


def user_named(spec: str, subject: Subject) -> User:
    """Return how a script calls the subject of that name. Raises ``Unwritten`` where none can."""
    own = subject.capabilities
    if own.recipe is not None and own.recipe.expression:
        user = User(own.recipe, own.recipe.takes or own.takes or ())
        return with_conventions(user, own.conventions, own.conventions.names)
    if spec in registered():
        raise Unwritten(f"only the package that offers {spec} knows how to call it")
    if ":" not in spec:
        raise Unwritten(f"{spec} cannot be imported by that name")
    if own.recipe is None:
        raise Unwritten(f"a script cannot know how to call the object {spec}")
    name, named = named_conventions(spec)
    return with_conventions(user_of(name, own.recipe, own.takes or ()), own.conventions, named)


def _require_small(case: Case) -> None:
    """Raise ``Unwritten`` for a case whose numbers are too many for files."""
    if case.is_large:
        raise Unwritten("its case is too large to be written down; a replay reads it")


def _require_one_call(result: Result) -> None:
    """Raise ``Unwritten`` for what does not show in one call."""
    if result.failure is Failure.HUNG:
        raise Unwritten("it hangs, and a script would hang, too")
    if is_last(result.failure, result.message):
        raise Unwritten("it ends the process that started its own, which a script must not do")
    for mismatch in result.mismatches[:1]:
        if mismatch.law:
            raise Unwritten("it breaks a law between several runs, and a script makes one call")
        if mismatch.sort is Sort.DERIVATIVE:
            raise Unwritten("its derivatives beyond gradients are wrong, and a script computes none")


@dataclass(frozen=True)
class _Maker:
    """The maker of one finding's script; the outcome is that of the case, run again after it was found."""

    finding: Finding
    subject: Subject
    user: User
    outcome: Outcome

    def made(self, accepted: Accepted) -> Script:
        result, case = self.finding.result, self.finding.case
        if result.failure is Failure.CRASHED:
            code = _exit_code(result.message)
            program = self._program()
            return self._written("ends its process", program, checks.died_end(program, code))
        if result.nondeterministic:
            return self._of_wavering()
        beside = bool(result.mismatches) and result.mismatches[0].sort in OF_EFFECT
        broken = effects_of(self.outcome) if beside else unfit(case, self.outcome)
        if broken is not None:
            if broken.kind != result.kind:
                raise Unwritten(f"it fails in another way when run again: {broken.kind}")
            return self._of_form(broken)
        if result.mismatches and result.mismatches[0].sort is Sort.OVERWRITTEN:
            return self._of_overwritten([mismatch.array for mismatch in result.mismatches])
        if not result.mismatches or any(mismatch.sort not in OF_VALUE for mismatch in result.mismatches):
            raise Unwritten("it fails in other runs, not in the case itself")
        if case.config.device == "meta":
            raise Unwritten("tensors on meta have no values")
        return self._of_values(accepted)

    def _of_form(self, result: Result) -> Script:
        """Return the script of a failure without values to compare."""
        config, mismatches = self.finding.case.config, result.mismatches
        sorts = {mismatch.sort for mismatch in mismatches}
        forward = any(mismatch.array not in config.gradients for mismatch in mismatches) and sorts <= _OF_FORM
        program = self._program(backward=not forward and Sort.MALFORMED not in sorts)
        if not mismatches:
            name = result.message.partition(":")[0]
            headline, end = f"raises {name.rpartition('.')[2]}", checks.raised_end(program, name)
        elif Sort.MALFORMED in sorts:
            headline = "does not return what nn.RNN returns"
            end = checks.malformed_end(program, config, mismatches[0].actual)
        elif sorts & _OF_FORM:
            names = checks.form_names(mismatches, config, list(self.outcome.arrays))
            headline, end = "returns other shapes or dtypes than nn.RNN does", checks.form_end(program, config, names)
        elif Sort.CHANGED in sorts:
            headline = "writes into its inputs"
            end = checks.changed_end(program, [m.array for m in mismatches if m.sort is Sort.CHANGED])
        else:
            headline = "returns tensors that share memory"
            end = checks.aliased_end(program, [(m.array, m.actual) for m in mismatches if m.sort is Sort.ALIASED])
        return self._written(headline, program, end)

    def _of_overwritten(self, names: list[str]) -> Script:
        """Return the script of a failure in which the next call overwrites what came back."""
        config = self.finding.case.config
        program = self._program(backward=any(name in config.gradients for name in names))
        end = checks.overwritten_end(program, config, names)
        return self._written("returns arrays that its next call overwrites", program, end)

    def _of_wavering(self) -> Script:
        """Return the script of a subject that gives different answers to the same call."""
        if unfit(self.finding.case, self.outcome) is not None:
            raise Unwritten("it is flaky, and its answers are not those of nn.RNN's form")
        program = self._program()
        end = checks.wavers_end(program, self.finding.case.config)
        return self._written("gives different answers to the same call", program, end)

    def _of_values(self, accepted: Accepted) -> Script:
        case, config, mismatches = self.finding.case, self.finding.case.config, self.finding.result.mismatches
        masks = masks_of(self.subject, case)
        if masks is None:
            raise Unwritten("the masks of its dropout are unknown")
        array = mismatches[0].array
        computed = f"gradient by {array.removesuffix('.grad')}" if array.endswith(".grad") else array
        headline = f"computes another {computed} than nn.RNN is documented to compute"
        plain = replace(case, masks=masks).plain()
        setting = Setting(REFERENCE, plain, arithmetic_of(self.subject, case, accepted))
        wanted = checks.shortened(self._wanted(setting), plain.config.dtype)
        actual = {name: _as_compared(config, name, self.outcome.arrays[name]) for name in wanted.values}
        if any(wrong.any() for wrong in wanted.against(actual).values()):
            program = self._program(wanted.to_write(actual))
            allowed = f"what rounding in {plain.config.dtype} can explain"
            allowed += "" if accepted.derived else ", plus the accepted tolerance"
            comment = [f"Expected: float64, from the equations. The allowance is {allowed}."]
            if config.autocast is not None and config.loss is not None:
                comment.append("Gradients are compared in the dtype of autocast.")
            return self._written(headline, program, checks.values_end(program, config, wanted, actual, comment))
        sites = [
            (mismatch.array, index_of(config, mismatch.array, site), site.expected, site.allowance)
            for mismatch in mismatches
            for site in mismatch.sites
            if _seen_from_outside(mismatch) and np.isfinite(site.expected)
        ]
        if not sites:
            raise Unwritten("it shows only in inner states; over the whole run, rounding could explain it")
        comment = [
            "Over the whole run, rounding could explain these differences; over one step, it cannot.",
            "So each expected value is one exact step from the state before it, which the subject returned.",
        ]
        if all(mismatch.sort is Sort.SUSPICIOUS for mismatch in mismatches):
            comment[0] = (
                "No bound proves these wrong; but over one step, rounding is usually no larger than the allowance."
            )
        program = self._program()
        return self._written(headline, program, checks.sites_end(program, config, sites, comment))

    def _wanted(self, setting: Setting) -> checks.Wanted:
        """Return what must come back of the case, end to end, in its own shapes."""
        config = self.finding.case.config
        with np.errstate(all="ignore"):
            expected = expect_whole_run(setting)
        values, allowance = {}, {}
        for name, one in expected.items():
            unread = name.startswith("readout.") and "readout.grad" not in config.cotangents
            if name not in self.outcome.arrays or (unread and self.user.is_class):  # autograd knows nothing of these
                continue
            alone = not config.batched and name.removesuffix(".grad") in _BATCHED
            values[name], allowance[name] = (
                np.array(array[:, 0] if alone else array) for array in (one.values, one.allowance)
            )
        return checks.Wanted(values, allowance)

    def _program(self, compared: Mapping[str, Array] | None = None, *, backward: bool = True) -> Program:
        """Return the call of the case; ``compared`` is what a script must write beside it."""
        case, user = self.finding.case, self.user
        config, library = case.config, "torch" if user.is_class else "np"
        literals = Literals(library, config.device)
        masks = _given_masks(case, self.subject) if "masks" in user.takes and config.drops else []
        own = {
            name: array for name, array in handed_to(case, user).items() if user.is_class or _takes(user, config, name)
        }
        literals.choose({**own, **{f"mask {i}": mask for i, mask in enumerate(masks)}, **(compared or {})})
        if user.is_class:
            return torch_program(case, user, literals, backward=backward)
        return numpy_program(case, user, literals, masks, self.outcome)

    def _written(self, headline: str, program: Program, end: list[str]) -> Script:
        name = shown(self.finding.subject)
        return Script(written(f"{name} {headline}.", program, end), dict(program.literals.stored))


def _seen_from_outside(mismatch: Mismatch) -> bool:
    return mismatch.layer is None and not mismatch.probed


def _takes(user: User, config: RNNConfig, name: str) -> bool:
    """Tell whether a function is given an array of the case."""
    if name in config.inputs:
        return {"x": "x", "hx": "h0"}[name] in user.takes
    return ("weights" if name in config.weights else "cotangents") in user.takes


def _given_masks(case: Case, subject: Subject) -> list[Array]:
    """Return a function's masks in the layout in which it gets them."""
    masks = (masks_of(subject, case) or {}).values()
    if not case.config.batched:
        return [mask[:, 0] for mask in masks]
    return [mask.swapaxes(0, 1) if case.config.batch_first else mask for mask in masks]


def _exit_code(message: str) -> int | None:
    """Return the exit code with which a process ended; ``None`` where a signal ended it."""
    if "died of" in message:
        return None
    if (found := re.search(r"exit code (\d+)", message)) and found[1] != "0":
        return int(found[1])
    raise Unwritten(f"a script cannot recognise this end: {message}")


def _as_compared(config: RNNConfig, name: str, array: Array) -> Array:
    """Return what came back, in the dtype in which it is compared, and with zeros where there is padding."""
    if config.lengths is not None and name in {"output", "readout"}:
        return np.where(padding(config)[..., None], array.dtype.type(0), array)
    return array.astype(config.plain.dtype) if name.endswith(".grad") else array


def index_of(config: RNNConfig, name: str, site: Site) -> tuple[int, ...]:
    """Return the index of an element by its place, as ``RNNConfig.locate`` names it."""
    axes, place = config.plain.returned[name].axes, site.place
    if name.startswith(("weight", "readout.weight")):
        return int(place["row"]), int(place["column"])
    direction = int(place.get("direction") == "reverse")
    index = []
    for axis in axes:
        if axis == "D*H":
            index.append(direction * config.hidden_size + int(place["unit"]))
        elif axis == "L*D":
            index.append(int(place["layer"]) * config.num_directions + direction)
        elif axis != "N" or config.batched:
            index.append(int(place[PLACES[axis]]))
    return tuple(index)
