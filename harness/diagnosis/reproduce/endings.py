"""endings: the end of a script, which makes the call, compares what comes back, and says FAILED or FIXED."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Context
from string import Template
from typing import Final, NamedTuple

import numpy as np

from harness.checks.repeatability import RUNS
from harness.diagnosis.reproduce.literals import BFLOAT16, TOGETHER, Literals, listed
from harness.diagnosis.reproduce.program import Program, Unwritten, indented
from harness.oracle.compare import Mismatch, Sort
from harness.oracle.known import to_float64
from harness.space.case import Array
from harness.space.config import RNNConfig

SHOWN: Final = 5
"""The number of elements of an array that a script shows."""

_DIGITS: Final = {"float32": 10, "bfloat16": 6, "float16": 7}
"""The significant digits of an expected value: two more than the dtype tells apart, in most cases."""


class _Runner(Template):
    """The text of the end of a script, from the comparison to the exit code; ``$name`` is filled in."""

    def lines(self, **given: str) -> list[str]:
        """Return the lines of the end, with what is given filled in."""
        return self.substitute(given).strip("\n").split("\n")


_VERDICT = """
print("FAILED" if failed else "FIXED")
sys.exit(failed)
"""

_VALUES = _Runner(
    """
failed = False
for name, want in expected.items():
    got = $got
    assert got.shape == want.shape, f"{name} has shape {got.shape}, expected {want.shape}"
    off = $off
    right = $right
    differing = $differing
    for index in map(tuple, $shown):
        print(f"{name}{list(index)} is {got[index]:.9g}, expected {want[index]:.9g},", end=" ")
        print(f"off by {off[index]:.3g}, allowance {allowance[name]$at:.2g}")
    print(f"{name}: {len(differing)} of {$size} elements are wrong")
    failed = failed or bool(differing)"""
    + _VERDICT
)

_SITES = _Runner(
    """
failed = False
for name, index, want, allowance in expected:
    got = $got[index].item()
    right = abs(got - want) <= allowance
    print(f"{name}{list(index)} is {got:.9g}, expected {want:.9g}, off by {abs(got - want):.3g},", end=" ")
    print(f"allowance {allowance:.2g}")
    failed = failed or not right"""
    + _VERDICT
)

_FORM = _Runner(
    """
failed = False
for name, (shape, dtype) in expected.items():
    got = actual.get(name)
    if got is None:
        print(f"{name} is missing")
        failed = True
    elif got.shape != shape or got.dtype != dtype:
        print(f"{name} is {got.dtype} {$got_shape}, expected {$dtype} {shape}")
        failed = True"""
    + _VERDICT
)

_MALFORMED = _Runner(
    """

failed = not ($right)
if failed:
    print(f"returned {type(returned).__name__}: {returned!r}, expected $wrong")"""
    + _VERDICT
)

_DIED = _Runner(
    """
if sys.argv[1:] == ["call"]:
    call()
else:  # in a process of its own, because the call ends it
    code = subprocess.run([sys.executable, __file__, "call"]).returncode
    print(f"the process ended with exit code {code}")
    failed = $dies
    assert failed or code == 0, "it ended in another way than before"
    print("FAILED" if failed else "FIXED")
    sys.exit(failed)
"""
)

_OVERWRITTEN = _Runner(
    """
failed = False
for name, array in kept.items():
    if not $same:
        print(f"{name} was {before[name].tolist()}, and is {array.tolist()} after the next call")
        failed = True"""
    + _VERDICT
)

_WAVERS = _Runner(
    """
failed = False
for run, answer in enumerate(answers, 1):
    for name, got in answer.items():
        was = answers[0][name]
        differing = (got != was) & ((got == got) | (was == was))  # two NaN count as equal
        if differing.any():
            print(f"{name} of call {run} differs from call 1 in {int(differing.sum())} of {$size} elements")
            failed = True
    if failed:
        break
else:
    print(f"all {len(answers)} calls gave the same")"""
    + _VERDICT
)

_ANY = _Runner(
    """
failed = False
$tests"""
    + _VERDICT
)
"""The end of a script that makes several tests, each of which may fail."""

_TEST = Template("""\
if $holds:
    print("$said")
    failed = True""")


class Wanted(NamedTuple):
    """The arrays that must come back, and how far each element may be off; infinite where it may be anything."""

    values: dict[str, Array]
    allowance: dict[str, Array]

    def against(self, actual: Mapping[str, Array]) -> dict[str, Array]:
        """Return a mask of the elements of each array that are off by more."""
        found = {}
        for name, want in self.values.items():
            if name in actual and actual[name].shape == want.shape:
                wide, allowed = to_float64(actual[name]), self.allowance[name]
                right = (np.abs(wide - want) <= allowed) | np.isinf(allowed) | (wide == want)
                found[name] = ~(right | (np.isnan(wide) & np.isnan(want)))
        return found

    def as_one(self, actual: Mapping[str, Array]) -> dict[str, float] | None:
        """Return one allowance for each array, if that finds the same elements to be wrong; else ``None``."""
        most = {name: float(allowed.max(initial=0.0)) for name, allowed in self.allowance.items()}
        if not all(map(np.isfinite, most.values())):
            return None
        flat = {name: np.full_like(self.allowance[name], up(allowed)) for name, allowed in most.items()}
        exact, rough = self.against(actual), Wanted(self.values, flat).against(actual)
        same = all(np.array_equal(exact[name], rough[name]) for name in exact)
        return {name: up(allowed) for name, allowed in most.items()} if same else None

    def to_write(self, actual: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays that a script holds, by the names under which its file does."""
        parts = {f"expected {name}": want for name, want in self.values.items()}
        if self.as_one(actual) is None:
            parts |= {f"allowance {name}": allowed for name, allowed in self.allowance.items()}
        return parts


def up(value: float) -> float:
    """Return the smallest number of two significant digits that is no smaller than the value."""
    if not np.isfinite(value):
        return value
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(value))


def shortened(wanted: Wanted, dtype: str) -> Wanted:
    """Return the same with fewer digits in what may be written out; the allowance makes room for that."""
    values, allowance = dict(wanted.values), dict(wanted.allowance)
    for name, want in wanted.values.items():
        if want.size > TOGETHER:
            continue
        allowed, short = wanted.allowance[name].copy(), want.copy()
        if dtype in _DIGITS:
            for index in np.argwhere(np.isfinite(want) & (allowed > 0)):
                at = tuple(index)
                short[at] = float(f"{want[at]:.{_DIGITS[dtype]}g}")
            allowed = np.where(allowed > 0, allowed + np.nan_to_num(np.abs(short - want)), 0.0)
        values[name], allowance[name] = short, np.vectorize(up, otypes=[float])(allowed)
    return Wanted(values, allowance)


def values_end(
    program: Program, config: RNNConfig, wanted: Wanted, actual: Mapping[str, Array], comment: Sequence[str]
) -> list[str]:
    """Return the code that compares whole arrays."""
    literals, torch = program.literals, program.literals.library == "torch"
    flat = wanted.as_one(actual)
    lines = [*program.body, *_actual(program), *_padding(config, wanted.values, torch=torch), ""]
    lines += [f"# {line}" for line in comment]
    lines += _dict("expected", {name: (f"expected {name}", want) for name, want in wanted.values.items()}, literals)
    if flat is None:
        parts = {name: (f"allowance {name}", allowed) for name, allowed in wanted.allowance.items()}
        lines += _dict("allowance", parts, literals)
    else:
        lines.append(listed("allowance = {", [f'"{name}": {allowed}' for name, allowed in flat.items()], "}"))
    simple = all(np.isfinite(want).all() for want in wanted.values.values())
    simple = simple and all(np.isfinite(allowed).all() for allowed in wanted.allowance.values())
    within = "off <= allowance[name]"
    where = "np.argwhere(~right).tolist()"
    absolute, size, of = "abs(got - want)", "off.size", "np"
    if torch:
        where, absolute, size, of = "(~right).nonzero().tolist()", "(got - want).abs()", "off.numel()", "torch"
    if not simple:
        allowed = f" | {of}.isinf(allowance[name])" if flat is None else ""
        also = f"(got == want) | ({of}.isnan(got) & {of}.isnan(want))"
        within = f"(\n        ({within}){allowed}\n        | {also}\n    )"
    at = "" if flat is not None else "[index]"
    shown = "differing" if sum(want.size for want in wanted.values.values()) <= SHOWN else f"differing[:{SHOWN}]"
    given = {"got": _converted(config, torch=torch), "off": absolute, "right": within, "differing": where}
    return [*lines, "", *_VALUES.lines(**given, shown=shown, at=at, size=size)]


def sites_end(
    program: Program,
    config: RNNConfig,
    sites: Sequence[tuple[str, tuple[int, ...], float, float]],
    comment: Sequence[str],
) -> list[str]:
    """Return the code that compares some elements alone.

    ``sites`` holds the array, index, expected value and allowance of each.
    """
    got = _converted(config, torch=program.literals.library == "torch")
    rows = [f'    ("{name}", {index}, {want!r}, {up(allowed)}),' for name, index, want, allowed in sites]
    return [
        *program.body,
        *_actual(program),
        "",
        *(f"# {line}" for line in comment),
        "expected = [",
        *rows,
        "]",
        *_SITES.lines(got=got),
    ]


def form_end(program: Program, config: RNNConfig, names: Sequence[str]) -> list[str]:
    """Return the code that compares shapes and dtypes alone."""
    torch = program.literals.library == "torch"
    rows = []
    for name in names:
        dtype = np.dtype(config.dtype_of(name))
        code = f"torch.{dtype.name}" if torch else "ml_dtypes.bfloat16" if dtype == BFLOAT16 else f"np.{dtype.name}"
        rows.append(f'    "{name}": ({config.returned[name].shape}, {code}),')
    given = {"got_shape": "got.shape", "dtype": "np.dtype(dtype)"}
    if torch:
        given = {"got_shape": "tuple(got.shape)", "dtype": "dtype"}
    return [*program.body, *_actual(program), "", "expected = {", *rows, "}", *_FORM.lines(**given)]


def malformed_end(program: Program, config: RNNConfig, said: str) -> list[str]:
    """Return the code that looks at what came back at all; ``said`` is what was wrong with it."""
    *before, call = program.body
    indent = call[: len(call) - len(call.lstrip())]
    whole = [*before, f"{indent}returned = {call.partition(' = ')[2]}"]
    if re.search(r"expected \(output, h_n", said):
        counts = (2,) if config.output_size is None else (2, 3)
        right = f"isinstance(returned, (tuple, list)) and len(returned) in {counts}"
        if len(counts) == 1:
            right = "isinstance(returned, (tuple, list)) and len(returned) == 2"
        wrong = said.partition(", expected ")[2]
    elif (found := re.search(r"for (output|h_n), expected an array", said)) and config.output_size is None:
        right = f'hasattr(returned[{int(found[1] == "h_n")}], "__array__")'
        wrong = f"an array for {found[1]}"
    else:
        raise Unwritten(f"a script cannot read what comes back: {said}")
    return [*whole, *_MALFORMED.lines(right=right, wrong=wrong)]


def raised_end(program: Program, error: str) -> list[str]:
    """Return the code that makes the call, which raises an error of that name."""
    known = isinstance(getattr(builtins, error, None), type)
    name = error.rpartition(".")[2]
    caught = error if known else "Exception"
    return [
        "try:",
        *indented(program.body),
        f"except {caught} as error:",
        *([] if known else [f'    if type(error).__name__ != "{name}":', "        raise"]),
        '    print(f"{type(error).__name__}: {error}")',
        '    print("FAILED")',
        "    sys.exit(1)",
        'print("FIXED")',
    ]


def died_end(program: Program, code: int | None) -> list[str]:
    """Return the code that makes the call in a process of its own, which the call ends.

    ``code`` is the exit code with which it ends, or ``None`` for a signal.
    """
    program.imports.add("import subprocess")
    dies = "code < 0" if code is None else f"code == {code}"
    return ["", "def call():", *indented(program.body), "", "", *_DIED.lines(dies=dies)]


def changed_end(program: Program, names: Sequence[str]) -> list[str]:
    """Return the code that looks whether what was given is as it was."""
    torch = program.literals.library == "torch"
    given = {name: program.names[name] for name in names if name in program.names}
    if not given:
        raise Unwritten("a script cannot see what was written into")
    copied = "{name}.detach().clone()" if torch else "{name}.copy()"
    other = "not torch.allclose({0}, {1}, rtol=0, atol=0, equal_nan=True)"
    if not torch:
        other = "{0}.tobytes() != {1}.tobytes()"
    tests = [
        _TEST.substitute(holds=other.format(code, f'before["{name}"]'), said=f"{name} was written into")
        for name, code in given.items()
    ]
    copies = (f'    "{name}": {copied.format(name=code)},' for name, code in given.items())
    return ["before = {", *copies, "}", *program.body, "", *_ANY.lines(tests="\n".join(tests))]


def aliased_end(program: Program, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the code that looks whether tensors share their memory."""
    known = program.results | program.names
    tests = []
    for pair in pairs:
        if not all(name in known for name in pair):
            raise Unwritten(f"a script cannot see that {' and '.join(pair)} share memory")
        one, other = (f"{known[name]}.untyped_storage().data_ptr()" for name in pair)
        tests.append(_TEST.substitute(holds=f"{one} == {other}", said=f"{pair[0]} shares memory with {pair[1]}"))
    return [*program.body, "", *_ANY.lines(tests="\n".join(tests))]


def overwritten_end(program: Program, config: RNNConfig, names: Sequence[str]) -> list[str]:
    """Return the code that keeps what comes back, and looks whether the next call leaves it as it was."""
    torch = program.literals.library == "torch"
    if torch and "output" in names and config.lengths is not None:
        raise Unwritten("the output is packed, and a script would keep a padded copy of it")
    gradients = [name for name in names if name in config.gradients]
    kept = [f'"{name}": returned["{name}"]' if name in gradients else f'"{name}": {name}' for name in names]
    copied, same = "np.array(array)", "np.array_equal(array, before[name], equal_nan=True)"
    if torch:
        copied, same = "array.detach().clone()", "torch.allclose(array, before[name], rtol=0, atol=0, equal_nan=True)"
    return [
        *program.body,
        *([f"returned = {program.gradients}"] if gradients else []),
        listed("kept = {", kept, "}"),
        f"before = {{name: {copied} for name, array in kept.items()}}",
        "",
        *program.again,
        "",
        *_OVERWRITTEN.lines(same=same),
    ]


def wavers_end(program: Program, config: RNNConfig) -> list[str]:
    """Return the code that makes the same call again and again, and compares what comes back."""
    torch = program.literals.library == "torch"
    copied, size = ("array.detach().clone()", "got.numel()") if torch else ("np.array(array)", "got.size")
    once = [*program.body, *_actual(program), *_padding(config, program.results, torch=torch)]
    kept = f"answers.append({{name: {copied} for name, array in actual.items() if array is not None}})"
    return [
        "answers = []",
        f"for _ in range({RUNS}):",
        *indented([*once, kept]),
        "",
        *_WAVERS.lines(size=size),
    ]


def form_names(mismatches: Sequence[Mismatch], config: RNNConfig, returned: Sequence[str]) -> list[str]:
    """Return the names of the arrays whose form a script compares."""
    if unexpected := [mismatch.array for mismatch in mismatches if mismatch.sort is Sort.UNEXPECTED]:
        raise Unwritten(f"{', '.join(unexpected)} is returned, but nn.RNN has no such output")
    missing = {mismatch.array for mismatch in mismatches if mismatch.sort is Sort.MISSING}
    return [name for name in config.returned if name in missing or name in returned]


def _actual(program: Program) -> list[str]:
    named = ", ".join(f'"{name}": {code}' for name, code in program.results.items())
    lines = [f"actual = {{{named}}}"]
    return [*lines, f"actual |= {program.gradients}"] if program.gradients else lines


def _padding(config: RNNConfig, returned: Iterable[str], *, torch: bool) -> list[str]:
    """Return the code that overwrites padding, where there may be anything.

    torch's output is left out, because it is padded with zeros.
    """
    names = [name for name in returned if name == "readout" or (name == "output" and not torch)]
    if config.lengths is None or config.packing == "equal" or not names:
        return []
    place = "n, length:" if config.batch_first else "length:, n"
    return [
        f"for n, length in enumerate({list(config.lengths)}):  # the padding may hold anything",
        *(f'    actual["{name}"][{place}] = 0' for name in names),
    ]


def _dict(target: str, arrays: Mapping[str, tuple[str, Array]], literals: Literals) -> list[str]:
    lines, patches = [], []
    for name, (key, array) in arrays.items():
        start = f'    "{name}": '
        code = literals.code(key, array, wide=True, column=len(start), indent=4)
        lines.append(f"{start}{code.expression},")
        patches += code.patched(f'{target}["{name}"]')
    return [f"{target} = {{", *lines, "}", *patches]


def _converted(config: RNNConfig, *, torch: bool) -> str:
    """Return the code that turns what came back into the numbers that expected values are in."""
    if not torch:
        return "np.asarray(actual[name]).astype(np.float64)"
    detach = ".detach()" if config.loss is not None or config.grad_mode == "enable_grad" else ""
    narrow = f".to(torch.{config.autocast})" if config.autocast is not None and config.loss is not None else ""
    cpu = "" if config.device == "cpu" else ".cpu()"
    return f"actual[name]{detach}{narrow}{cpu}.to(torch.float64)"
