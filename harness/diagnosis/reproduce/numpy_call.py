"""numpy_call: the call of a function as code, as ``subjects.function`` makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.diagnosis.reproduce.literals import BFLOAT16, Literals, listed
from harness.diagnosis.reproduce.program import Program, User, handed, quoted
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome


def numpy_program(case: Case, user: User, literals: Literals, masks: Sequence[Array], outcome: Outcome) -> Program:
    """Return the call of a function on a case; ``masks`` are in the layout in which it is given them.

    A function may return its arrays in several forms. ``outcome`` tells in which it does.
    """
    config, program = case.config, Program(literals, user)
    if np.dtype(config.dtype) == BFLOAT16:
        program.imports.add("import ml_dtypes")
    _write_inputs(case, program)
    if "weights" in user.takes:
        _write_dict("weights", {name: case.weights[name] for name in config.weights}, program)
    if "cotangents" in user.takes:
        arrays = handed(case)
        _write_dict("cotangents", {name: arrays[name] for name in config.cotangents}, program)
        if config.strides != "contiguous":
            for name in config.cotangents:
                made = _laid_out(config, f'cotangents["{name}"]', config.given[name].shape)
                program.given.append(f'cotangents["{name}"] = {made}')
    if "lengths" in user.takes:
        given = "None" if config.lengths is None else f"np.array({list(config.lengths)})"
        program.given.append(f"lengths = {given}")
    if "masks" in user.takes:
        _write_masks(masks, program, drops=config.drops)
    if "config" in user.takes:
        program.imports.add("from types import SimpleNamespace")
        program.given.append(_namespace(config))
    program.names |= {name: f'weights["{name}"]' for name in config.weights}
    program.names |= {name: f'cotangents["{name}"]' for name in config.cotangents}
    called = listed(f"{user.recipe.expression}(", [f"{name}={name}" for name in user.takes], ")", 30)
    if config.preparation == "used":
        program.body += ["# It was called at another shape before.", _called_at_another_shape(config, user)]
    program.body.append(_unpacked(called, config, user, outcome, program))
    program.again = [*(["x = x + 1"] if "x" in user.takes else []), program.body[-1]]
    if "cotangents" in user.takes:
        program.again.insert(0, "cotangents = {name: 2 * array for name, array in cotangents.items()}")
    return program


def _write_inputs(case: Case, program: Program) -> None:
    config, arrays = case.config, handed(case)
    dtype = _dtype(config)
    for name, variable in (("x", "x"), ("hx", "h0")):
        if variable not in program.user.takes:
            continue
        if name == "hx" and not config.hx:
            shape = (config.num_layers * config.num_directions, *[config.N] * config.batched, config.hidden_size)
            program.given.append(f"h0 = np.zeros({', '.join([str(shape), *dtype])})")
            continue
        code = program.literals.code(name, arrays[name], column=len(f"{variable} = "))
        made = _laid_out(config, variable if code.patches else code.expression, config.given[name].shape)
        program.given += code.assigned(variable) if code.patches else []
        if made != variable:
            program.given.append(f"{variable} = {made}")
        program.names[name] = variable


def _write_dict(variable: str, arrays: dict[str, Array], program: Program) -> None:
    lines, patches = [], []
    for name, array in arrays.items():
        start = f'    "{name}": '
        code = program.literals.code(name, array, column=len(start), indent=4)
        lines.append(f"{start}{code.expression},")
        patches += code.patched(f'{variable}["{name}"]')
    program.given += [f"{variable} = {{", *lines, "}", *patches] if lines else [f"{variable} = {{}}"]


def _write_masks(masks: Sequence[Array], program: Program, *, drops: bool) -> None:
    if not drops:
        program.given.append("masks = None")
        return
    codes = [program.literals.code(f"mask {i}", mask, column=4, indent=4).expression for i, mask in enumerate(masks)]
    program.given += ["masks = [", *(f"    {code}," for code in codes), "]"]


def _laid_out(config: RNNConfig, code: str, shape: tuple[int, ...]) -> str:
    """Return the code of the same array, as it is to lie in memory."""
    if config.strides == "transposed":
        return f"{code}.T.copy().T"
    if config.strides == "stepped":
        return f"np.repeat({code}, 2, axis=-1)[..., ::2]"
    return f"np.broadcast_to({code}, {shape})" if config.strides == "expanded" and np.prod(shape) else code


def _namespace(config: RNNConfig) -> str:
    """Return the code of all that a function may read of its config."""
    derived = {name: getattr(config, name) for name in ("num_directions", "drops", "packing")}
    fields: dict[str, Any] = config.to_dict() | derived
    named = [f"{name}={quoted(value) if isinstance(value, str) else value}" for name, value in fields.items()]
    return listed("config = SimpleNamespace(", named, ")")


def _called_at_another_shape(config: RNNConfig, user: User) -> str:
    other = config.call_before
    dtype = "".join(f", {option}" for option in _dtype(config))
    rows = other.num_layers * other.num_directions
    batch = [other.N] * other.batched
    steps = [other.N, other.T] if other.batched and other.batch_first else [other.T, *batch]
    mask = f"np.ones({(*steps, other.num_directions * other.hidden_size)}, bool)"
    fields = {"T": other.T, "N": other.N} | ({} if other.lengths is None else {"lengths": other.lengths})
    changed = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    cotangents = ", ".join(f'"{name}": np.ones({spec.shape}{dtype})' for name, spec in other.cotangents.items())
    given = {
        "x": f"np.ones({other.inputs['x'].shape}{dtype})",
        "h0": f"np.zeros({(rows, *batch, other.hidden_size)}{dtype})",
        "weights": "weights",
        "config": f"SimpleNamespace(**{{**vars(config), {changed}}})",
        "cotangents": f"{{{cotangents}}}",
        "lengths": "None" if other.lengths is None else f"np.array({list(other.lengths)})",
        "masks": f"[{mask}] * {other.num_layers - 1}" if other.drops else "None",
    }
    lines = "".join(f"    {name}={given[name]},\n" for name in user.takes)
    return f"{user.recipe.expression}(\n{lines})"


def _unpacked(called: str, config: RNNConfig, user: User, outcome: Outcome, program: Program) -> str:
    """Return the call, with a name for each thing that comes back."""
    whole = "output" in outcome.arrays
    order = ("output", "h_n", "readout") if whole else ("readout", "h_n")
    names = [name for name in order if name in outcome.arrays]
    if not names:
        return f"returned = {called}"
    program.results = {name: name for name in names}
    names = ["_", *names] if "output" in outcome.not_returned else names
    if config.lengths is not None:  # padding is overwritten before it is compared
        program.results |= {name: f"np.array({name})" for name in names if name not in {"_", "h_n"}}
    if any(name in outcome.arrays for name in config.gradients):
        program.gradients = "{f\"{name.removesuffix('.grad')}.grad\": array for name, array in gradients.items()}"
        return f"{', '.join(names)}, gradients = {called}"
    if len(names) == 1:
        return f"readout = {called}"
    more = "cotangents" in user.takes  # it may return gradients, or an empty dict of them
    return f"{', '.join(names)} = {called}{f'[:{len(names)}]' if more else ''}"


def _dtype(config: RNNConfig) -> list[str]:
    """Return the dtype as an argument of NumPy's."""
    if config.dtype == "float64":
        return []
    return ["ml_dtypes.bfloat16" if np.dtype(config.dtype) == BFLOAT16 else f"np.{config.dtype}"]
