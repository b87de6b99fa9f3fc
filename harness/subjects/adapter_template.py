"""adapter_template: the file that makes an adapter of a class of modules, filled with all that is known of it."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.space.factor_table import OPTIONS
from harness.subjects.adapter import KEPT_WORD, MARK, NUMBER_PLACES, ZERO_WORD
from harness.subjects.class_form import H_FIRST, LAYERS, X_FIRST, ClassForm, is_layered
from harness.subjects.config_object import by_fields
from harness.subjects.function_module import X_WORDS
from harness.subjects.length_argument import steps_in_code, takes_steps
from harness.subjects.numpy_module import CALL_METHODS, methods_of, modules_of
from harness.subjects.parameters_by_shape import Shapes, layers_of
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.signature import constructor
from harness.subjects.state_axes import TORCH_AXES, from_axes_in_code, to_axes_in_code
from harness.subjects.torch_form import constructed, form_of, may_be_unknown, parameters_of_plain, returned_by
from harness.subjects.torch_own_form import OwnFormSubject, completed

# What an adapter's ``build(config)`` gives a constructor.
TEXTS: Final = {
    **{name: f"config.{name}" for name in ("input_size", "hidden_size", "T", "N")},
    "output": "7",
    "*layer_sizes": "*[config.input_size] + [config.hidden_size] * config.num_layers",
    "hidden_sizes": "[config.hidden_size] * config.num_layers",
    "layer_sizes": "[config.input_size] + [config.hidden_size] * config.num_layers",
}

_SHORT: Final = {"h_n": "h", "c_n": "c"}


class _Drawn(NamedTuple):
    """The form of a class, the shapes of its parameters, and a list of what could not be found out."""

    form: ClassForm
    shapes: Shapes
    unknown: Sequence[str] = ()  # the arguments of its constructor that say nothing
    problem: str = ""
    returned: Any = None  # what a call returned
    packed: str = ""  # the class of the one argument that its constructor takes
    steps: bool = False  # its call takes lengths or a mask, it is not known how


def adapter_of(target: Any, spec: str) -> str:
    """Return the text of a file with an adapter for a class or a function, called ``file.py:name`` or ``module:name``.

    What could not be found out is marked with ``MARK``.
    """
    place, _, name = spec.rpartition(":")
    title = f'"""{name} as torch\'s layer. Check it with: rnn-harness check THIS_FILE.py:layer"""'
    imported = f"from {Path(place).stem if place.endswith('.py') else place} import {name.partition('.')[0]}"
    if not inspect.isclass(target):
        return "\n".join([title, "", imported, "", "", *_function(target, name), ""])
    numpy = not hasattr(target, "named_parameters")
    drawn, method = _drawn_in_numpy(target, spec) if numpy else (_drawn_of_any(target, spec), "")
    form = drawn.form
    imported += f", {drawn.packed.partition('.')[0]}" * bool(drawn.packed)
    held = form.listed or form.layered or form.container is not None
    of_torch = form.replaced or form.is_cell or held or form.valid[0] or drawn.steps
    torch = ["import torch"] * bool(not numpy and of_torch)
    parts = [_build(drawn, name)]
    made = "harness.adapt(build)  # once build is complete, its weights and call may be found out by themselves"
    if drawn.shapes and numpy and drawn.returned is not None:
        parts.append(_weights(drawn))
        made = f"harness.adapt(build, weights{_offers(form)})"
    elif drawn.shapes:
        parts += [_weights(drawn), _call(drawn, method)]
        made = f"harness.adapt(build, weights, call{_offers(form)})"
    named = ["from collections import namedtuple", ""] * (form.container is not None and form.container.fields)
    lines = [title, "", *named, *torch, imported, "", "import harness"]
    for part in parts:
        lines += ["", "", *part]
    return "\n".join([*lines, "", "", f"layer = {made}", ""])


def _function(function: Any, name: str) -> Iterator[str]:
    """Write a function that calls one with a signature of its own."""
    yield "def layer(x, h0, weights, config):"
    yield "    # x is (T, N, input_size); h0, (layers * directions, N, hidden_size); an LSTM takes c0, too"
    yield '    # weights["weight_ih_l0"] is (rows, input_size), ["weight_hh_l0"] (rows, hidden_size),'
    yield '    # ["bias_ih_l0"] and ["bias_hh_l0"] (rows,), each as nn.RNN, nn.GRU or nn.LSTM has it'
    parameters = inspect.signature(function).parameters.values()
    needed = [arg.name for arg in parameters if arg.default is arg.empty]
    meanings = {"x": "x", "h0": "h0", "hidden_size": "config.hidden_size", "input_size": "config.input_size"}
    yield f"    returned = {name}("
    for own in needed:
        text = meanings.get(own, "x" if own in X_WORDS else "...")
        yield f"        {own}={text}," + f"  {MARK} of x, h0, weights" * (text == "...")
    yield "    )"
    yield f"    output, h_n = returned  {MARK} output (T, N, hidden_size), h_n (layers * directions, N, hidden_size)"
    yield "    return output, h_n"


def _drawn_in_numpy(target: Any, spec: str) -> tuple[_Drawn, str]:
    """Return what is known of a NumPy class, and its method that is likeliest the call."""
    methods = methods_of(target)
    if not methods:
        raise SubjectUnavailable(f"{spec}: expected a class with one of the methods {', '.join(CALL_METHODS)}")
    choices = [_drawn(factory, spec) for factory in modules_of(target)]
    return next((choice for choice in choices if choice.returned is not None), choices[0]), methods[0]


def _drawn_of_any(factory: Any, spec: str) -> _Drawn:
    """Return what is known of a class of modules, whose constructor may take one object."""
    drawn = _drawn(factory, spec)
    if not drawn.shapes and (of_fields := by_fields(factory)) is not None and of_fields.packed is not None:
        packed = _drawn(of_fields, spec)
        return packed._replace(packed=of_fields.packed.__qualname__) if packed.shapes else drawn
    return drawn._replace(steps=takes_steps(factory.forward))


def _drawn(factory: Any, spec: str) -> _Drawn:
    try:
        form = constructed(factory, spec)
    except SubjectUnavailable as error:
        reading = constructor(factory)
        if reading is None:
            raise
        form, unknown = reading
        if {*unknown} != {*(needed := may_be_unknown(factory, form))}:  # some of these are no sizes
            form, unknown = replace(form, sizes=(), by_name={}), tuple(needed)
        return _Drawn(form, {}, unknown, str(error).rpartition(": ")[2])
    try:
        sizes, shapes = parameters_of_plain(factory, form)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        return _Drawn(form, {}, problem=f"with these arguments it raises {type(error).__name__}: {error}")
    try:
        read = form_of(factory, spec)
    except SubjectUnavailable as error:
        with suppress(SubjectUnavailable):
            roles, reverse, _ = layers_of(shapes, sizes, spec)
            form = replace(form, names={**roles.names, **reverse}, conventions=roles.conventions)
            joined = X_FIRST if roles.joined else ""
            form = replace(
                form,
                zeros=roles.zeros,
                unchanged_parameters=roles.rest,
                gate_order_assumed=roles.gate_order_assumed,
                joined=joined,
            )
        return _Drawn(form, shapes, problem=str(error).removeprefix(f"{spec}: ").partition("\n")[0])
    if read is None or read.drop_in:
        raise SubjectUnavailable(f"{spec}: has nn.RNN's own constructor and parameters: check it as it is")
    try:
        read = completed(partial(OwnFormSubject, factory, spec), read)  # which may tell the order of rows
        return _Drawn(read, shapes, returned=returned_by(factory, read, sizes))
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        return _Drawn(read, shapes, problem=f"a call raises {type(error).__name__}: {error}")


def _build(drawn: _Drawn, name: str) -> Iterator[str]:
    form = drawn.form
    options = {name: f"config.{name}" for name in OPTIONS if name != "batch_first"}
    first, named = form.given(TEXTS | options)
    texts = [*first, *(f"{own}={text}" for own, text in named.items())]
    yield "def build(config):"
    if drawn.shapes and not form.replaced:
        arguments = ", ".join(texts)
        yield f"    return {name}({f'{drawn.packed}({arguments})' if drawn.packed else arguments})"
        return
    if drawn.unknown:
        yield f"    module = {name}("
        yield from (f"        {text}," for text in texts)
        yield from (f"        {own}=...,  {MARK} {drawn.problem}" for own in drawn.unknown)
        yield "    )"
    else:
        wrong = f"  {MARK} {drawn.problem}" * (not drawn.shapes)
        yield f"    module = {name}({', '.join(texts)}){wrong}"
    yield from (f"    module.{part} = torch.nn.Identity()" for part in form.replaced)
    yield "    return module"


def _weights(drawn: _Drawn) -> Iterator[str]:
    """Write what each parameter holds, with its shape at input_size=5 and hidden_size=3."""
    texts = weights_of(drawn.form)
    yield "weights = {"
    named, gone = _names_at_once(drawn.form, texts), tuple(f"{part}." for part in drawn.form.replaced)
    for own, shape in drawn.shapes.items():
        if own in named or own.startswith(gone or "?"):
            continue
        if drawn.returned is not None:
            yield f'    "{own}": "{KEPT_WORD}",'
        else:
            yield f'    "{own}": "",  {MARK} {shape} of input_size=5, hidden_size=3'
    if drawn.form.gate_order_assumed and not drawn.form.order and len(drawn.form.names["weight_hh"]) == 1:
        yield f'    # runs tell the order of the gates\' rows; "weight_hh[{drawn.form.cell.gates}]" would say it'
    yield from (f'    "{own}": "{text}",{_guessed(drawn, text)}' for own, text in texts.items())
    yield "}"


def _guessed(drawn: _Drawn, text: str) -> str:
    """Return a mark for what a parameter is said to hold, where neither a name nor a run tells that."""
    form = drawn.form
    if form.gate_order_assumed and not form.order and "[" in text:
        return f"  {MARK} which gates these are, in the order of rows; no run tells that"
    if drawn.returned is None and form.joined and ", " in text:
        return f"  {MARK} which columns come first; no run tells that"
    return ""


def _names_at_once(form: ClassForm, texts: Mapping[str, str]) -> set[str]:
    """Return the names of the parameters of the first layer that the texts are about."""
    names = set()
    for own in texts:
        number = next((place for place in NUMBER_PLACES if place in own), "")
        names.add(own.replace(number, str(form.first)) if number else own)
    return names


def weights_of(form: ClassForm) -> dict[str, str]:
    """Return the texts of ``adapt``'s weights for a form."""
    places = form.places if "bidirectional" in form.takes else LAYERS
    number = next(place for place, at in NUMBER_PLACES.items() if at == (places, form.first))
    turn = ".T" * form.conventions.transposed
    texts: dict[str, list[str]] = {}
    for role, blocks in form.names.items():
        for block in blocks:
            rows = f"[{block.gates}]" * (block.gates != form.cell.gates)
            reverse = "_reverse" * role.endswith("_reverse")
            terms = [role.removesuffix("_reverse")]
            if form.conventions.one_bias and terms[0] == "bias_ih":
                terms.append("bias_hh")
            own = texts.setdefault(block.own.replace("{}", number), [])
            own += [f"{term}{reverse}{rows}{turn * term.startswith('weight')}" for term in terms]
    for terms in texts.values():
        if form.joined == H_FIRST and len(terms) > 1 and terms[0].startswith("weight"):
            terms.reverse()
    joined = {own: (", " if parts[0].startswith("weight") else " + ").join(parts) for own, parts in texts.items()}
    return {**joined, **dict.fromkeys(form.zeros, ZERO_WORD), **dict.fromkeys(form.unchanged_parameters, KEPT_WORD)}


def _call(drawn: _Drawn, method: str) -> Iterator[str]:
    form = drawn.form
    states = [_SHORT[name] for name in form.cell.final]
    taken = form.offers.get("hx", (True,))
    optional = "=None" * (False in taken and not form.is_cell)
    arguments = ["x", *(f"{state}{optional}" for state in states)] if True in taken or form.is_cell else ["x"]
    steps = bool(form.valid[0]) or drawn.steps
    arguments += ["lengths=None"] * steps
    yield f"def call(module, {', '.join(arguments)}):"
    batch = "" if form.unbatched else "N, "
    yield f"    # x is (T, {batch}input_size); {' and '.join(states)}, (layers * directions, {batch}hidden_size)"
    if steps:
        yield "    # lengths: how many steps of each sequence count"
        yield "    if lengths is None:"
        yield "        lengths = torch.full((x.shape[1],), len(x))"
    if drawn.returned is None:
        for line in filter(None, [drawn.problem]):
            yield f"    # {line}"
        called = f"module{'.' * bool(method)}{method}({', '.join(['x', *states, *['lengths'] * steps])})"
        yield f"    # without {' and '.join(states)} among the arguments of call, only a start from zeros is compared"
        yield f"    output, {', '.join(form.cell.final)} = {called}  {MARK} as it is called"
        yield f"    return output, {', '.join(form.cell.final)}"
    elif form.is_cell:
        yield from _loop(drawn, states)
    else:
        yield from _at_once(drawn, states if True in taken else [], optional=False in taken)


def _loop(drawn: _Drawn, states: Sequence[str]) -> Iterator[str]:
    form = drawn.form
    yield f"    {', '.join(states)}, outputs = {', '.join(f'{state}[0]' for state in states)}, []"
    yield "    for step in x:"
    arguments = (
        ", ".join(["step", *form.passed(states)]) if form.apart or len(states) == 1 else f"step, ({', '.join(states)})"
    )
    if form.state_names:
        arguments = ", ".join(["step", *map("{}={}".format, form.state_names, form.passed(states))])
    names = iter(_SHORT.get(name, "_") for name in form.returns)
    yield f"        {_targets(drawn.returned, names, form)} = module({arguments})"
    yield "        outputs.append(h)"
    yield f"    return torch.stack(outputs), {', '.join(f'{state}[None]' for state in states)}"


def _at_once(drawn: _Drawn, states: Sequence[str], *, optional: bool) -> Iterator[str]:
    form = drawn.form
    as_it_is = len(states) == 1 and not form.flat and form.container is None and form.state_axes == TORCH_AXES
    if states and optional and not as_it_is:
        yield f"    if {states[0]} is None:"
        yield from (f"    {line}" for line in _answer(drawn, []))
    yield from _answer(drawn, states)


def _passed(form: ClassForm, states: Sequence[str]) -> list[str]:
    """Return the arguments of a call for states, as code."""
    directions = 1 + (form.offers.get("bidirectional") == (True,))
    passed = [to_axes_in_code(state, form.state_axes, directions) for state in states]
    passed = [f"{state}[0]" if form.flat else f"list({state})" if form.layered else state for state in passed]
    if form.container is not None and states:
        return [form.container.filled_in_code(passed)]
    if form.by_layer and states:
        return [f"list(zip({', '.join(passed)}))"]
    return [f"({', '.join(passed)})"] if len(passed) > 1 and not form.apart else passed


def _answer(drawn: _Drawn, states: Sequence[str]) -> Iterator[str]:
    form, turned = drawn.form, drawn.form.conventions.batch_first
    x = "x.transpose(0, 1)" if turned else "x"
    directions = 1 + (form.offers.get("bidirectional") == (True,))
    held = form.container
    passed = _passed(form, states)
    names = iter(name or "_" for name in form.returns)
    values = ".values()" * isinstance(drawn.returned, Mapping)
    passed = [f"{name}={state}" for name, state in zip(form.state_names, passed, strict=False)] or passed
    if form.valid[0]:
        passed.append(f"{form.valid[0]}={steps_in_code(form.valid[1])}")
    targets = _targets(drawn.returned, names, form) if held is None else f"output, {'*' * held.apart}states"
    yield f"    {targets} = module({', '.join([x, *passed])}){values}"
    if held is not None:
        yield f"    {', '.join(form.cell.final)} = {held.emptied_in_code('states')}"
    output = "output" if "output" in form.returns else "None"
    if form.by_layer:
        pair = ", ".join(form.cell.final)
        yield f"    {pair} = (torch.stack(of) for of in zip(*states))"
    if form.listed:
        output = "torch.stack(output)"
    if form.rows:
        output = f"output.reshape({'x.shape[1], x.shape[0]' if turned else '*x.shape[:2]'}, -1)"
    output += ".transpose(0, 1)" * (turned and output != "None")
    rows = "[None]" * form.flat_h_n
    if form.layered:
        yield from (f"    {name} = torch.stack({name})" for name in form.cell.final if name in form.returns)
    if "h_n" in form.returns:
        finals = {name: from_axes_in_code(name, form.final_axes, directions) for name in form.cell.final}
        results = [f"{finals[name]}{rows}" if name in form.returns else "None" for name in form.cell.final]
    elif "last" in form.returns:
        results = ["last[None]"]
    elif form.h_n_is_last:
        results = [f"{output}[-1:]", *["None"] * (len(form.cell.final) - 1)]
    else:
        results = ["None"] * len(form.cell.final)
    yield f"    return {output}, {', '.join(results)}"


def _targets(returned: Any, names: Iterator[str], form: ClassForm) -> str:
    if isinstance(returned, tuple | list) and form.by_layer and isinstance(returned[0], tuple | list):
        return "states"
    if isinstance(returned, Mapping):
        returned = tuple(returned.values())
    if (
        isinstance(returned, tuple | list)
        and not (form.layered and is_layered(returned))
        and not (form.listed and len(returned) > 3)
    ):
        parts = [_targets(part, names, form) for part in returned]
        return f"({', '.join(parts)})" if len(parts) > 1 else f"[{parts[0]}]"
    return next(names)


def _offers(form: ClassForm) -> str:
    more = {name: form.offers[name] for name in ("nonlinearity", "input_size", "hidden_size") if _narrow(form, name)}
    more |= {"batched": (False,)} if form.unbatched else {}
    if "bidirectional" not in form.offers and {form.state_axes, form.final_axes} - {TORCH_AXES, "NRH"}:
        more["bidirectional"] = (False,)  # what ``call`` makes of the states is that of one number of directions
    return f", offers={more}" if more else ""


def _narrow(form: ClassForm, name: str) -> bool:
    return name in form.offers and name not in form.takes and form.offers[name] != ("tanh",)
