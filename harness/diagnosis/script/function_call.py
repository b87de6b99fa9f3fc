"""function_call: the call of a function, as the template says it."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from harness.diagnosis.script.user import NoScript, UserSubject, dict_of, own_parameters, wrapped
from harness.space.case import Array, Case
from harness.space.config import RNNConfig
from harness.subjects.protocol import Subject, masks_of

# The parts of what was returned, with those of a tuple of states in its place.
FLAT: Final = "(one for part in parts for one in (part if isinstance(part, tuple) else [part]))"
FLAT_ARRAYS: Final = FLAT.replace(" in parts ", " in parts if not isinstance(part, dict) ")

Code = Callable[..., str]  # Returns the code of an array, given its name and itself


def function_call(
    case: Case, user: UserSubject, subject: Subject, returned: Sequence[str], code: Code
) -> dict[str, Any]:
    """Return what the template says of a call of a function, which ``returned`` these arrays."""
    config, takes = case.config, user.takes
    if config.preparation != "new":
        raise NoScript("it was called at another shape before")
    specs = config.replace(hx=True).inputs
    states = {name: case.arrays.get(name, np.zeros(specs[name].shape, config.dtype)) for name in config.form.hidden}
    inputs = {"x": case.x, **{name.replace("x", "0"): array for name, array in states.items()}}
    readout = {name: array for name, array in case.weights.items() if name.startswith("readout")}
    dicts = {"weights": own_parameters(user, config, case.weights) | readout, "cotangents": case.cotangents}
    names = _names(config, returned)
    gradients = any(name in config.gradients for name in returned)
    value = {"h0": "(h0, c0)"} if user.recipe.paired else {}
    passed = {name for name in inputs if name in {*takes, *["c0"] * bool(value)}}
    arguments = ", ".join(
        f"{'' if name in user.recipe.positional else f'{name}='}{value.get(name, name)}"
        for name in takes
        if name != "c0" or not value
    )
    called = f"{user.recipe.expression}({arguments})"
    targets, nested = ", ".join([*names, *["gradients"] * gradients]), "c_n" in names  # two states may be a tuple
    unasked = "cotangents" in takes and not gradients  # it may return a dict of gradients all the same
    if unasked and len(names) > 1 and not nested:
        called += f"[:{len(names)}]"
    return {
        "inputs": {name: code(name, array) for name, array in inputs.items() if name in passed},
        "dicts": {
            variable: {name: code(name, array) for name, array in arrays.items()}
            for variable, arrays in dicts.items()
            if variable in takes
        },
        "more": [line for name, line in _other_arguments(case, subject, code).items() if name in takes],
        "targets": "parts" if nested else targets,
        "called": wrapped(called, 4),
        "after": [f"{targets} = {FLAT_ARRAYS if unasked else FLAT}"] * nested
        + [f"h_n = h_n.reshape{config.outputs['h_n'].shape}"] * (names == ["h_n"]),  # it may be (N, H)
        "gradients": gradients,
        "results": dict_of(names),
        "given": dict_of([name for name in inputs if name in passed], *["**weights"] * ("weights" in takes)),
        "environment": 'f"NumPy {np.__version__}, Python {sys.version.split()[0]}"',
    }


def _names(config: RNNConfig, returned: Sequence[str]) -> list[str]:
    """Return the names of the outputs that a function returns, in their order."""
    final = config.form.final
    order = ("output", *final, "readout") if "output" in returned else ("readout", *final)
    names = [name for name in order if name in returned]
    if names == ["h_n"] and config.bidirectional:
        raise NoScript("it returns both directions of its last output side by side")
    return names or ["output" if config.output_size is None else "readout", *final]


def _other_arguments(case: Case, subject: Subject, code: Code) -> dict[str, str]:
    """Return the statements that make what a function may take beside arrays of the case."""
    config = case.config
    facts = config.fields | {name: getattr(config, name) for name in ("num_directions", "drops", "packing")}
    masks = [code(f"mask {i}", mask) for i, mask in enumerate(_given_masks(case, subject))]
    return {
        "lengths": "lengths = None" if config.lengths is None else f"lengths = np.array({list(config.lengths)})",
        "masks": f"masks = [{', '.join(masks)}]" if config.drops else "masks = None",
        "config": wrapped(f"config = types.SimpleNamespace({', '.join(f'{k}={v!r}' for k, v in facts.items())})"),
    }


def _given_masks(case: Case, subject: Subject) -> list[Array]:
    """Return a function's masks in the layout in which it gets them."""
    masks = (masks_of(subject, case) or {}).values()
    if not case.config.batched:
        return [mask[:, 0] for mask in masks]
    return [mask.swapaxes(0, 1) if case.config.batch_first else mask for mask in masks]
