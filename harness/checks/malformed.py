"""Malformed calls: what nn.RNN, nn.GRU and nn.LSTM refuse, and the check that a class refuses it, too.

A kernel that takes the place of a layer must not compute something from a call that has no documented meaning. A
``MalformedRule`` breaks one well-formed call in one respect. A class that does not accept the well-formed call is not
asked.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from harness.space.cells import CELLS
from harness.space.outcome import PROCESS_LOST, Failure, Outcome, is_last


class MalformedCallCode(NamedTuple):
    """One use of a class, as the code of its parts. ``RNN`` is the class, and ``OTHER`` is a dtype that is not its."""

    rnn: str = "RNN(3, 4)"
    x: str = "torch.ones(5, 2, 3)"
    hx: str = ""  # empty if none is passed
    cx: str = ""  # the second state of a pair

    def code(self, dtype: str = "float32") -> str:
        """Return the code of the call, of a layer of this dtype."""
        states = f"({self.hx}, {self.cx})" if self.cx else self.hx
        lines = [f"rnn = {self.rnn}", f"x = {self.x}", *([f"hx = {states}"] if states else [])]
        lines.append("rnn(x, hx)" if self.hx else "rnn(x)")
        return "\n".join(lines).replace("OTHER", "torch.float32" if dtype == "float64" else "torch.float64")


class MalformedRule(NamedTuple):
    """Malformed calls that are alike, plainest first; torch's layer raises one of these exceptions."""

    name: str
    raises: tuple[str, ...]
    right: MalformedCallCode  # the well-formed call that is broken
    wrong: tuple[MalformedCallCode, ...]
    known: str = ""  # how torch breaks the rule, which is then a known issue


_VALUE: Final = ("ValueError", "RuntimeError")
_RANK: Final = (*_VALUE, "IndexError")
_TYPE: Final = ("TypeError", *_VALUE)
_OBJECT: Final = ("TypeError", "ValueError", "AttributeError")  # it may fail at the first attribute that it lacks

_PLAIN: Final = MalformedCallCode()
_STATE: Final = MalformedCallCode(hx="torch.ones(1, 2, 4)")
_ALONE: Final = MalformedCallCode(x="torch.ones(5, 1, 3)", hx="torch.ones(1, 1, 4)")
_UNBATCHED: Final = MalformedCallCode(x="torch.ones(5, 3)", hx="torch.ones(1, 4)")
_DEEP: Final = MalformedCallCode("RNN(3, 4, num_layers=2, bidirectional=True)", hx="torch.ones(4, 2, 4)")
_PACK: Final = "torch.nn.utils.rnn.pack_padded_sequence(torch.ones(5, 2, {}), [{}]{})"
_PACKED: Final = MalformedCallCode(x=_PACK.format(3, "5, 3", ""), hx="torch.ones(1, 2, 4)")
_EVEN: Final = MalformedCallCode(x=_PACK.format(3, "5, 5", ""), hx="torch.ones(1, 2, 4)")
_UNSORTED: Final = MalformedCallCode(x=_PACK.format(3, "3, 5", ", enforce_sorted=False"), hx="torch.ones(1, 2, 4)")


def _built(
    name: str, raises: tuple[str, ...], *constructors: str, right: MalformedCallCode = _PLAIN, known: str = ""
) -> MalformedRule:
    return MalformedRule(
        name, raises, right, tuple(right._replace(rnn=f"RNN({arguments})") for arguments in constructors), known
    )


def _option(name: str, raises: tuple[str, ...], *values: str) -> MalformedRule:
    return _built(name, raises, *(f"3, 4, {name.partition(' ')[0]}={value}" for value in values))


def _x(name: str, raises: tuple[str, ...], *values: str, right: MalformedCallCode = _PLAIN) -> MalformedRule:
    return MalformedRule(name, raises, right, tuple(right._replace(x=value) for value in values))


def _hx(
    name: str, raises: tuple[str, ...], *values: str, right: MalformedCallCode = _STATE, known: str = ""
) -> MalformedRule:
    return MalformedRule(name, raises, right, tuple(right._replace(hx=value, cx="") for value in values), known)


RULES: Final = (
    _built("input_size below 1", _VALUE, "-1, 4"),
    MalformedRule(
        "input_size of 0",
        _VALUE,
        _PLAIN,
        (MalformedCallCode("RNN(0, 4)", "torch.ones(5, 2, 0)"),),
        "before torch 2.10 or so it is not checked: products over no features give zeros and no error",
    ),
    _built("input_size no int", _TYPE, "3.0, 4", '"3", 4', "None, 4"),
    MalformedRule(
        "input_size=True",
        _TYPE,
        _PLAIN,
        (MalformedCallCode("RNN(True, 4)", "torch.ones(5, 2, 1)"),),
        "the check for an int accepts True, which then means 1; hidden_size and num_layers refuse True",
    ),
    _built("hidden_size below 1", _VALUE, "3, 0", "3, -1"),
    _built("hidden_size no int", _TYPE, "3, 4.0", '3, "4"', "3, None", "3, True"),
    _option("num_layers below 1", _VALUE, "0", "-1"),
    _option("num_layers no int", _TYPE, "2.0", '"2"', "None", "True"),
    _option("bias no bool", _TYPE, "1", "2", "None", '"yes"'),
    _option("batch_first no bool", _TYPE, "1", "2", "None", '"yes"'),
    _option("bidirectional no bool", _TYPE, "2", "None", '"yes"'),
    _option("dropout no probability", _VALUE, "1.1", "-0.1", "2", 'float("inf")', 'float("nan")'),
    _option("dropout no number", _TYPE, '"0.5"', "None", "True", "1j"),
    _option("nonlinearity unknown", _VALUE, '"sigmoid"', '"TANH"', '""'),
    _option("nonlinearity no name", _TYPE, "None", "1", "torch.tanh"),
    _option("proj_size", _TYPE, "1", "0"),
    _built("argument unknown", _TYPE, "3, 4, momentum=0.5", '3, 4, mode="LSTM"'),
    _built("argument missing", _TYPE, "3", "hidden_size=4"),
    _option("dtype no floating point", _TYPE, "torch.int64", "torch.bool", '"float32"'),
    _option("device unknown", _VALUE, '"bogus"'),
    _x("x: rank", _RANK, "torch.ones(3)", "torch.ones(())", "torch.ones(1, 5, 2, 3)"),
    _x("x: features", _VALUE, "torch.ones(5, 2, 4)", "torch.ones(5, 2, 1)"),
    _x("x: features, unbatched", _VALUE, "torch.ones(5, 4)", "torch.ones(5, 1)", right=_UNBATCHED),
    _x("x: features, packed", _VALUE, _PACK.format(4, "5, 3", ""), right=_PACKED),
    _x("x: dtype", _TYPE, *(f"torch.ones(5, 2, 3, dtype={dtype})" for dtype in ("OTHER", "torch.int64", "torch.bool"))),
    _x("x: no tensor", _OBJECT, "[[[1.0] * 3] * 2] * 5", "torch.ones(5, 2, 3).tolist()", "0", "None"),
    _x("x: device", _VALUE, 'torch.ones(5, 2, 3, device="meta")'),
    _x("x: no steps", _VALUE, "torch.ones(0, 2, 3)"),
    _hx("hx: rank", _VALUE, "torch.ones(2, 4)", "torch.ones(4)", "torch.ones(1, 1, 2, 4)"),
    _hx("hx: rank, unbatched", _VALUE, "torch.ones(1, 1, 4)", "torch.ones(4)", right=_UNBATCHED),
    _hx("hx: layers", _VALUE, "torch.ones(2, 2, 4)"),
    _hx("hx: layers and directions", _VALUE, "torch.ones(2, 2, 4)", "torch.ones(1, 2, 4)", right=_DEEP),
    _hx("hx: batch", _VALUE, "torch.ones(1, 3, 4)"),
    _hx("hx: batch, packed", _VALUE, "torch.ones(1, 3, 4)", "torch.ones(1, 1, 4)", right=_PACKED),
    _hx("hx: batch, packed to one length", _VALUE, "torch.ones(1, 3, 4)", right=_EVEN),
    _hx(
        "hx: batch, packed and sorted",
        _VALUE,
        "torch.ones(1, 3, 4)",
        right=_UNSORTED,
        known="the states are selected by sorted_indices before the shape of hx is checked: surplus states are dropped",
    ),
    _hx("hx: batch beside one sequence", _VALUE, "torch.ones(1, 2, 4)", right=_ALONE),
    _hx("hx: batch of 1", _VALUE, "torch.ones(1, 1, 4)"),
    _hx("hx: batch first", _VALUE, "torch.ones(2, 1, 4)"),
    _hx("hx: features", _VALUE, "torch.ones(1, 2, 5)", "torch.ones(1, 2, 1)"),
    _hx("hx: features, unbatched", _VALUE, "torch.ones(1, 5)", "torch.ones(1, 1)", right=_UNBATCHED),
    _hx("hx: dtype", _TYPE, *(f"torch.ones(1, 2, 4, dtype={dtype})" for dtype in ("OTHER", "torch.int64"))),
    _hx("hx: no tensor", _OBJECT, "(torch.ones(1, 2, 4), torch.ones(1, 2, 4))", "torch.ones(1, 2, 4).tolist()", "0"),
    _hx("hx: device", _VALUE, 'torch.ones(1, 2, 4, device="meta")'),
)

# The rules that a layer with gates does not have, by how their names begin.
_OF_RNN: Final = ("nonlinearity", "proj_size", "hx: no tensor", "hidden_size no int")
_TRUE: Final = "3 or 4 times True is an int, which then means 1; nn.RNN refuses it"
_OF_GATES: Final = (
    _built("nonlinearity", _TYPE, '3, 4, nonlinearity="tanh"'),
    _built("hidden_size no int", _TYPE, "3, 4.0", '3, "4"', "3, None"),
    _built("hidden_size=True", _TYPE, "3, True", known=_TRUE),
)
_H: Final = _STATE.hx
_PAIR: Final = MalformedCallCode(hx=_H, cx=_H)
_OF_LSTM: Final = (
    _option("proj_size no less than hidden_size", _VALUE, "4", "5"),
    _option("proj_size below 0", _VALUE, "-1"),
    _option("proj_size no int", _TYPE, "2.0", '"2"', "None", "True"),
    _hx("hx: one state", (*_RANK, *_OBJECT), _H, f"({_H},)", f"torch.stack([{_H}, {_H}])", right=_PAIR),
    _hx("hx: another number of states", (*_VALUE, *_OBJECT), f"({_H}, {_H}, {_H})", f"({_H}, None)", right=_PAIR),
)
_UNCHECKED: Final = (
    "oneDNN's LSTM does not check the states of a packed batch: surplus rows are dropped, and missing ones are memory "
    "beyond the array, which may end the process"
)
_KNOWN_OF_H: Final = {"hx: batch, packed to one length": _UNCHECKED}
_KNOWN_OF_C: Final = {
    **_KNOWN_OF_H,
    "hx: batch, packed": "the shape of c is not checked if the batch is packed: a c of one sequence is broadcast",
    "hx: dtype": "the default path, which float64 takes, computes with c in whatever dtype it has",
}


def _in_pairs(rule: MalformedRule) -> MalformedRule:
    """Return a rule of a layer that takes two states, with a right second one wherever there is one."""
    calls = (call._replace(cx=rule.right.hx) for call in (rule.right, *rule.wrong))
    right, *wrong = calls
    known = rule.known or _KNOWN_OF_H.get(rule.name, "")
    return rule._replace(right=right, wrong=tuple(wrong), known=known)


def _of_c(rule: MalformedRule) -> MalformedRule:
    wrong = tuple(call._replace(hx=rule.right.hx, cx=call.hx) for call in rule.wrong)
    known = rule.known or _KNOWN_OF_C.get(rule.name, "")
    return _in_pairs(rule)._replace(name=f"c of {rule.name}", wrong=wrong, known=known)


def rules_of(cell: str) -> tuple[MalformedRule, ...]:
    """Return the rules of torch's layer with a cell."""
    if cell == "RNN":
        return RULES
    shared = [*(rule for rule in RULES if not rule.name.startswith(_OF_RNN)), *_OF_GATES]
    if cell == "GRU":
        return (*shared, *(rule for rule in RULES if rule.name.startswith(("proj_size", "hx: no tensor"))))
    return (*map(_in_pairs, shared), *(_of_c(rule) for rule in shared if rule.name.startswith("hx")), *_OF_LSTM)


MALFORMED_RULES: Final = tuple(
    {rule.name: rule for cell in CELLS for rule in rules_of(cell)}.values()
)  # one of each name


class RefusalDefect(Enum):
    """The ways in which the answer to a malformed call is wrong."""

    ACCEPTED = "accepted silently"
    EXCEPTION = "refused with another exception"
    CRASHED = "crashed"
    HUNG = "hung"


class AcceptedMalformedCall(NamedTuple):
    """A malformed call that is not refused as it must be."""

    rule: str
    lapse: RefusalDefect
    raises: tuple[str, ...]
    happened: str
    code: str


@dataclass
class MalformedCallAnswers:
    """The answers of a class to malformed calls: the first wrong answer to each rule is a finding."""

    calls: int = 0
    refused: int = 0
    known: list[str] = field(default_factory=list)  # the rules that it breaks as torch is known to
    left_out: Counter[str] = field(default_factory=Counter)  # rules by why their well-formed calls are not accepted
    findings: list[AcceptedMalformedCall] = field(default_factory=list)
    interrupted: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    layer: str = "nn.RNN"  # torch's, whose refusals these are
    late: bool = False  # True if the time was over before all were made
    script: str = ""  # the path of a script that makes the calls of the findings


def check_refusals(
    call: Callable[[str, str, str], Outcome],
    dtype: str = "float32",
    device: str = "cpu",
    until: float = math.inf,
    *,
    cell: str = "RNN",
) -> MalformedCallAnswers:
    """Make all malformed calls of a cell's layer, with ``Capabilities.call``, up to a time (``time.perf_counter``).

    A hang ends it, because each further call may hang as well, and so does Ctrl-C.
    """
    done, accepted = (
        MalformedCallAnswers(dtype=dtype, device=device, layer=f"nn.{cell}"),
        dict[MalformedCallCode, Outcome](),
    )
    try:
        for rule in rules_of(cell):
            if time.perf_counter() >= until:
                done.late = True
                break
            if rule.right not in accepted:
                accepted[rule.right] = call(rule.right.code(dtype), dtype, device)
            right = accepted[rule.right]
            if right.failure is not None:
                done.left_out[right.message] += 1
            elif _is_broken(done, rule, call, dtype, device):
                break
    except KeyboardInterrupt:
        done.interrupted = True
    return done


def _is_broken(
    done: MalformedCallAnswers, rule: MalformedRule, call: Callable[[str, str, str], Outcome], dtype: str, device: str
) -> bool:
    """Make the calls of a rule, up to the first that is not refused; return whether nothing more can be asked."""
    for wrong in rule.wrong:
        code = wrong.code(dtype)
        outcome = call(code, dtype, device)
        done.calls += 1
        if (lapse := _lapse(outcome, rule.raises)) is None:
            done.refused += 1
        elif rule.known and outcome.failure not in PROCESS_LOST:
            done.known.append(rule.name)
        else:
            done.findings.append(
                AcceptedMalformedCall(rule.name, lapse, rule.raises, outcome.message or "no error", code)
            )
            return is_last(outcome.failure, outcome.message)
    return False


def _lapse(outcome: Outcome, raises: tuple[str, ...]) -> RefusalDefect | None:
    """Return what is wrong with an answer; a class may also refuse by saying that it does not support the call."""
    lost = {Failure.CRASHED: RefusalDefect.CRASHED, Failure.HUNG: RefusalDefect.HUNG, None: RefusalDefect.ACCEPTED}
    if outcome.failure in lost:
        return lost[outcome.failure]
    right = outcome.failure is Failure.UNSUPPORTED or {*outcome.classes} & {*raises}
    return None if right else RefusalDefect.EXCEPTION
