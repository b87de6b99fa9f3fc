"""module_call: the call of a class of modules, torch's own or a user's, as the template says it."""

from typing import Any, Final

from harness.diagnosis.script.function_call import FLAT, Code
from harness.diagnosis.script.user import NoScript, UserSubject, dict_of, own_parameters, wrapped
from harness.space.case import Case
from harness.space.config import PLAINEST, RNNConfig
from harness.space.factor_table import MODULE_FACTORS, OPTIONS, OTHER, PLAIN
from harness.subjects.capabilities import Recipe
from harness.subjects.class_form import ClassForm, ModuleSizes
from harness.subjects.state_axes import TORCH_AXES

# The preparations of a module that the template has.
WRITTEN_PREPARATIONS: Final = ("new", "used", "deepcopy", "pickle", "state_dict", "assign", "to_dtype", "replaced")

# The ways of calling torch that are written, or refused below with a reason of their own.
WRITTEN_WAYS: Final = frozenset({"autocast", "grad_mode", "preparation", "after", "positional", "tied"})


def module_call(case: Case, user: UserSubject, code: Code) -> dict[str, Any]:
    """Return what the template says of a call of a class of modules."""
    config, recipe, form = case.config, user.recipe, user.recipe.form
    _require_plain(config)
    head = {name: array for name, array in case.weights.items() if name.startswith("readout")}
    dicts = {"weights": own_parameters(user, config, case.weights), "head": head, "cotangents": case.cotangents}
    final = config.form.final
    returns = ("output", *final) if form is None else form.returns
    of_layers = form is not None and (form.by_layer or form.layered or form.container is not None)
    if form is not None and (of_layers or {form.state_axes, form.final_axes} != {TORCH_AXES}):
        raise NoScript("only this package puts the states of each layer as it takes them")
    if form is not None and form.valid[0] and (form.needs or config.lengths is not None):
        raise NoScript("only this package gives it lengths")
    if form is not None and form.unbatched and config.batched:
        raise NoScript("only this package calls it once for each sequence")
    called, after = _forward(config, recipe)
    if form is None and len(final) > 1:
        names, nested = f"output, ({', '.join(final)})", False
    else:
        names = ", ".join(name or "_" for name in returns)
        nested = len(final) > 1 and len(returns) > 1 and not (form is not None and form.is_cell)
    cell = form is not None and form.is_cell
    compared = ["output"] * (cell or "output" in returns) + ["h_n"]
    compared += [*(name for name in final[1:] if name in returns), *["readout"] * bool(head)]
    inputs = {name: code(name, case.arrays[name]) for name in config.inputs}
    return {
        "inputs": inputs,
        "dicts": {
            variable: {name: code(name, array) for name, array in arrays.items()}
            for variable, arrays in dicts.items()
            if arrays
        },
        "layer": wrapped(_made(config, recipe)),
        "replaced": () if form is None else form.replaced,
        "moved": "" if form is None else f"{config.device!r}, torch.{config.dtype}",
        "strict": "" if form is None else ", strict=False",  # it may have buffers, which it keeps
        "preparation": config.preparation,
        "training": config.training,
        "dtype": f"torch.{config.dtype}",
        "other": OTHER,
        "before": _before(config, recipe) if config.preparation == "used" else (),
        "contexts": _contexts(config),
        "seed": case.seed if config.drops else None,
        "cell": cell,
        "start": ", ".join(_passed(config, form)),
        "again": ", ".join(_states_of([*final], form)),
        "final": final[1:],
        "targets": "parts" if nested else names,
        "called": called,
        "after": [f"{names} = {FLAT}"] * nested + after,
        "by_weights": config.wrt != "inputs",
        "roots": f"[{', '.join(name.removesuffix('.grad') for name in config.cotangents)}]",
        "results": dict_of(compared),
        "given": dict_of(inputs, "**dict(layer.named_parameters())"),
        "environment": 'f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()}"',
        **_gradients(config),
    }


def _require_plain(config: RNNConfig) -> None:
    """Raise ``NoScript`` for the ways of calling that the template does not have."""
    for name in MODULE_FACTORS:
        if name not in WRITTEN_WAYS and getattr(config, name) != PLAIN[name]:
            raise NoScript(f"only this package calls a module with {name}={getattr(config, name)}")
    if config.preparation not in WRITTEN_PREPARATIONS or config.after is not None:
        prepared = " and ".join(filter(None, [config.after, config.preparation]))
        raise NoScript(f"only this package prepares a module by {prepared}")
    if config.tied or config.grad_mode == "accumulate":
        raise NoScript("two passes add up their gradients")
    if config.autocast is not None and config.loss is not None:
        raise NoScript("gradients are compared in the dtype of autocast")


def _gradients(config: RNNConfig) -> dict[str, Any]:
    """Return what gradients are taken by: tensors of the script, and a dict of them."""
    names = [name.removesuffix(".grad") for name in config.gradients]
    inputs = [name for name in names if name in config.inputs]
    leaves = [*inputs, *(f'head["{name}"]' for name in names if name.startswith("readout"))]
    more = ["**head"] * ("readout.weight" in names and "readout.grad" in config.cotangents)
    more += ["**dict(layer.named_parameters())"] * (config.wrt != "inputs")
    return {"leaves": leaves, "by": dict_of(inputs, *more) if names else "", "gradients": bool(names)}


def _made(config: RNNConfig, recipe: Recipe) -> str:
    """Return the constructor's call; torch's own leaves its defaults out."""
    named = [*(name for name in OPTIONS if not (config.gated and name == "nonlinearity")), "device"]
    named += ["proj_size"] * (config.proj_size > 0)
    form, code = recipe.form, {name: repr(getattr(config, name)) for name in named}
    options = code | {"dtype": f"torch.{config.dtype}"}
    first: list[Any] = [config.input_size, config.hidden_size]
    if form is not None:
        sizes = {name: repr(size) for name, size in ModuleSizes.of(config).given(config.num_layers).items()}
        first, options = form.given({**sizes, "*layer_sizes": f"*{sizes['layer_sizes']}"} | options)
    elif recipe.own:
        names = ("bias", "nonlinearity", "device", "dtype") if recipe.is_cell else tuple(options)
        usual = {"device": "cpu", "dtype": "float32"} if config.positional else vars(PLAINEST)
        options = {name: options[name] for name in names if getattr(config, name) != usual.get(name)}
    arguments = [text if config.positional and name in OPTIONS else f"{name}={text}" for name, text in options.items()]
    return f"{recipe.expression}({', '.join([*map(str, first), *arguments])})"


def _forward(config: RNNConfig, recipe: Recipe) -> tuple[str, list[str]]:
    """Return the call of a module, and the statements that make nn.RNN's results of what it returns."""
    form, x, after = recipe.form, "x", list[str]()
    first = f", batch_first={config.batch_first}" * config.batch_first
    if config.lengths is not None:
        options = f"{list(config.lengths)}{first}, enforce_sorted={config.enforce_sorted}"
        x = f"torch.nn.utils.rnn.pack_padded_sequence(x, {options})"
        after.append(f"output, _ = torch.nn.utils.rnn.pad_packed_sequence(output{first})")
    if form is not None and not form.is_cell:
        after += ["output = torch.stack(output)"] * form.listed
        after += ["output = output.reshape(*x.shape[:2], -1)"] * form.rows
        if "h_n" in form.returns:
            after += [f"{name} = {name}[None]" for name in config.form.final if name in form.returns] * form.flat_h_n
        elif "output" in form.returns:
            after.append("h_n = output[:, -1][None]" if config.batch_first else "h_n = output[-1:]")
        else:
            after.append("h_n = last[None]")
    if config.output_size is not None:
        after.append('readout = torch.nn.functional.linear(output, head["readout.weight"], head["readout.bias"])')
    return wrapped(f"layer({', '.join([x, *_passed(config, form)])})", 4), after


def _passed(config: RNNConfig, form: ClassForm | None) -> list[str]:
    """Return the arguments of a call for the initial states."""
    rows = "[0]" if form is not None and (form.flat or form.is_cell) else ""
    return _states_of([f"{name}{rows}" for name in config.hidden], form)


def _states_of(names: list[str], form: ClassForm | None) -> list[str]:
    """Return the arguments of a call for some states: a tuple, if there are several that are not taken apart."""
    return names if len(names) < 2 or (form is not None and form.apart) else [f"({', '.join(names)})"]


def _before(config: RNNConfig, recipe: Recipe) -> list[str]:
    """Return the calls that a used module had before."""
    calls = []
    for before in config.calls_before:
        shapes = [spec.shape for spec in before.inputs.values()]
        if recipe.form is not None and recipe.form.flat:
            shapes[1:] = [shape[1:] for shape in shapes[1:]]
        options = f"dtype=torch.{config.dtype}" + f", device={config.device!r}" * (config.device != "cpu")
        x, *states = (f"torch.ones({shape}, {options})" for shape in shapes)
        calls.append(wrapped(f"layer({', '.join([x, *_states_of(states, recipe.form)])})", 4))
    return calls


def _contexts(config: RNNConfig) -> list[str]:
    """Return what is around the call, each of which a function can be decorated with."""
    contexts = []
    if config.grad_mode == "inference_mode":
        contexts.append("torch.inference_mode()")
    elif config.loss is None and config.grad_mode is None:
        contexts.append("torch.no_grad()")
    if config.autocast is not None:
        contexts.append(f"torch.autocast({config.device.partition(':')[0]!r}, torch.{config.autocast})")
    return contexts
