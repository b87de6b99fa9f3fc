"""torch_call: the call of a module as code, torch's own or a drop-in class, as ``subjects.torch_module`` makes it."""

from __future__ import annotations

import inspect
from typing import Any, Final

import numpy as np

from harness.diagnosis.reproduce.literals import Literals, listed
from harness.diagnosis.reproduce.program import Program, User, handed_to, indented, quoted
from harness.space.case import Array, Case
from harness.space.config import PLAINEST, RNNConfig
from harness.space.parts import OPTIONS, OTHER, SETTING
from harness.subjects.capabilities import Recipe
from harness.subjects.form import H_FIRST, Form
from harness.subjects.looped import looped
from harness.subjects.recipes import RECIPES


def shown(spec: str) -> str:
    """Return the name of a subject for readers who do not know this package."""
    return RECIPES[spec].title if spec in RECIPES else spec


_CELL = '''\
class Cell(torch.nn.RNNCell):
    """An nn.RNNCell, looped over time."""

    def forward(self, x, hx=None):
        h, states = None if hx is None else hx[0], []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        output = torch.stack(states)
        return output, output[-1:].clone()'''

_LAYOUTS: Final = {
    "transposed": '''\
def transposed(tensor):
    """The same numbers, in memory in the order of the reversed axes."""
    axes = tuple(reversed(range(tensor.dim())))
    return tensor.permute(axes).contiguous().permute(axes)''',
    "stepped": '''\
def stepped(tensor):
    """The same numbers, in every other place of a larger buffer."""
    return torch.stack([tensor, tensor], dim=-1).flatten(-2)[..., ::2]''',
}

_SAME = '''\
class Same(torch.nn.Module):
    """A parametrization that gives the number itself."""

    def forward(self, original):
        return original.clone()'''

_TURNED = '''\
def turned(name, tensor):
    """The gradient by a parameter of nn.RNN's, whose matrices are the transposes."""
    return tensor.T if tensor is not None and name.startswith("weight") else tensor'''

_PARTED: Final = '''\
def parted(name, tensor):
    """The gradient by a matrix of nn.RNN's, of which the class has two side by side."""
    if tensor is None or not name.startswith("weight"):
        return tensor
    size = len(tensor)
    return {hh} if "_hh" in name else {ih}'''

_WITHOUT: Final = '''\
def without(names, module):
    """The same module, with the identity in the places of parts beside its recurrence."""
    for name in names:
        module.set_submodule(name, torch.nn.Identity())
    return module'''

_REGISTER: Final = "torch.nn.utils.parametrize.register_parametrization"

_OF_TWIN: Final = "twins_"
"""The beginning of the names of what the other one of two modules returns, which share their parameters."""

_PACKING: Final = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence"


def built(recipe: Recipe, config: RNNConfig, dtype: str = "") -> str:
    """Return the constructor's call, in another dtype if one is given; torch's own leaves its defaults out."""
    dtype = dtype or config.dtype
    if recipe.form is not None:
        return _built_by_form(recipe.expression, recipe.form, config, dtype)
    names = ("bias", "nonlinearity") if recipe.own and recipe.is_cell else OPTIONS
    given: dict[str, Any] = {name: getattr(config, name) for name in names}
    if recipe.own and not config.positional:
        given = {name: value for name, value in given.items() if value != getattr(PLAINEST, name)}
    options = [
        ("" if config.positional else f"{name}=") + (quoted(value) if isinstance(value, str) else str(value))
        for name, value in given.items()
    ]
    if not recipe.own or config.device != "cpu":
        options.append(f'device="{config.device}"')
    if not recipe.own or dtype != "float32":
        options.append(f"dtype=torch.{dtype}")
    sizes = [str(config.input_size), str(config.hidden_size)]
    return listed(f"{recipe.expression}(", [*sizes, *options], ")", len("other = "))


def _built_by_form(expression: str, form: Form, config: RNNConfig, dtype: str) -> str:
    """Return the call of a constructor of its own, and the module's move to the dtype and device of the config."""
    moves = [f'device="{config.device}"'] * (config.device != "cpu")
    moves += [f"dtype=torch.{dtype}"] * (dtype != "float32")
    values: dict[str, Any] = {name: getattr(config, name) for name in OPTIONS}
    code = {name: quoted(value) if isinstance(value, str) else str(value) for name, value in values.items()}
    code |= {"device": quoted(config.device), "dtype": f"torch.{dtype}"}
    states = config.num_directions * config.hidden_size
    first, by_name = form.given(config.input_size, config.hidden_size, states)
    options = [f"{own}={size}" for own, size in by_name.items()]
    options += [f"{own}={code[name]}" for name, own in form.takes.items()]
    made = listed(f"{expression}(", [*map(str, first), *options], ")", len("other = "))
    made = f"without([{', '.join(map(quoted, form.replaced))}], {made})" if form.replaced else made
    return f"{made}.to({', '.join(moves)})" if moves else made


def torch_program(case: Case, user: User, literals: Literals, *, backward: bool = True) -> Program:
    """Return the call of a module on a case; unless ``backward``, without its gradients."""
    return _Writer(case, user, literals, backward=backward).program


class _Writer:
    def __init__(self, case: Case, user: User, literals: Literals, *, backward: bool) -> None:
        self.case, self.config, self.literals = case, case.config, literals
        self.recipe, self.conventions = user.recipe, user.conventions
        self.arrays = handed_to(case, user)
        self.strict = "" if user.recipe.form is None else ", strict=False"  # it may have buffers, which it keeps
        self.program = Program(literals, user)
        self.backward = backward and case.config.loss is not None
        self.functional = case.config.preparation == "functional_call"
        self.parametrized = "parametrize" in {case.config.preparation, case.config.after}
        self.changed = case.config.preparation in self.recipe.changes
        self.held = self.recipe.held if self.changed else ""
        self.called = self.recipe.called if self.changed else ""
        self._helpers()
        self._given()
        self._module()
        made = len(self.program.body)
        self._call()
        if self.backward:
            self._gradients()
        self.program.again = [*self._other_inputs(), *self.program.body[made:]]

    def _helpers(self) -> None:
        helpers = [_CELL] if self.recipe.own and self.recipe.is_cell else []
        if self.config.strides in _LAYOUTS:
            helpers.append(_LAYOUTS[self.config.strides])
        if self.parametrized:
            helpers.append(_SAME)
        if self.backward and self.conventions.transposed:
            helpers.append(_TURNED)
        helpers += self._helpers_of_form()
        if helpers:
            self.program.helpers = ["", "\n\n\n".join(helpers), ""]

    def _helpers_of_form(self) -> list[str]:
        form, helpers = self.recipe.form, list[str]()
        if form is None:
            return helpers
        if form.is_cell:
            helpers.append(inspect.getsource(looped).replace(": Any", "").replace(" -> Any", "").strip("\n"))
        if form.replaced:
            helpers.append(_WITHOUT)
        if self.backward and form.joined == H_FIRST:
            helpers.append(_PARTED.format(hh="tensor[:, :size]", ih="tensor[:, size:]"))
        elif self.backward and form.joined:
            helpers.append(_PARTED.format(hh="tensor[:, -size:]", ih="tensor[:, :-size]"))
        return helpers

    def _given(self) -> None:
        config, given = self.config, self.program.given
        arrays = self.arrays
        by = {name.removesuffix(".grad") for name in config.gradients} if config.loss is not None else set()
        variables = {name: name.replace(".", "_") for name in arrays}
        for name, array in arrays.items():
            if name in config.weights and not name.startswith("readout"):
                continue
            variable = variables[name]
            code = self.literals.code(name, array, column=len(f"{variable} = "))
            given += code.assigned(variable) if code.patches else []
            made = self._laid_out(name, variable if code.patches else code.expression)
            made += ".requires_grad_()" if name in by else ""
            if made != variable:
                given.append(f"{variable} = {made}")
            self.program.names[name] = variable
        lines, patches = [], []
        weights = self._own_weights()
        for name in weights:
            self.program.names[name] = self._read(name)
        own_arrays = self._by_own_names({name: arrays[name] for name in weights})
        names = {self._own_name(name): name for name in reversed(weights)}
        for own, array in own_arrays.items():
            start = f'    "{own}": '
            code = self.literals.code(names[own], array, column=len(start), indent=4)
            lines.append(f"{start}{code.expression},")
            patches += code.patched(f'weights["{own}"]')
        given += ["weights = {", *lines, "}", *patches]
        if self.functional and config.loss is not None and config.wrt != "inputs":
            given += ["for tensor in weights.values():", "    tensor.requires_grad_()"]

    def _laid_out(self, name: str, code: str) -> str:
        """Return the code of the same tensor, as it is to lie in memory."""
        config = self.config
        if name in config.weights or (name in config.cotangents and config.autocast is not None):
            return code
        return self._strided(name, code)

    def _strided(self, name: str, code: str) -> str:
        strides = self.config.strides
        if strides in _LAYOUTS:
            return f"{strides}({code})"
        spec = self.case.config.given[name]
        return f"{code}.expand({spec.shape})" if strides == "expanded" and spec.size else code

    def _other_inputs(self) -> list[str]:
        by = ".requires_grad_()" if "x.grad" in self.config.gradients else ""
        x = f"x = (x.detach() + 1){by}" if by else "x = x + 1"
        cotangents = [name.replace(".", "_") for name in self.config.cotangents] if self.backward else []
        return [x, *(f"{name} = 2 * {name}" for name in cotangents)]

    def _own_weights(self) -> list[str]:
        return [name for name in self.config.weights if name in self.arrays and not name.startswith("readout")]

    def _by_own_names(self, arrays: dict[str, Array]) -> dict[str, Array]:
        if self.recipe.form is not None:
            return self.recipe.form.merged(arrays, self.config.num_directions, np.concatenate)
        return {self._own_name(name): array for name, array in arrays.items()}

    def _own_name(self, name: str) -> str:
        """Return the class's own name of a parameter of nn.RNN's."""
        if self.conventions.one_bias:
            name = name.replace("bias_hh", "bias_ih")
        if self.recipe.form is not None:
            return self.recipe.form.own(name, self.config.num_directions)
        return name.removesuffix("_l0") if self.recipe.is_cell else name

    def _read(self, name: str) -> str:
        """Return the code of the module's tensor for a parameter of nn.RNN's."""
        own = self._own_name(name)
        if self.functional:
            return f'weights["{own}"]'
        return f"rnn{self.held}.{own}" if self.recipe.form is None else f'rnn.get_parameter("{own}")'

    def _module(self) -> None:
        config, body = self.config, self.program.body
        made = built(self.recipe, config)
        body.append(f"rnn = {made}")
        if self.changed:
            body += self._changed()
            return
        first = None if self.recipe.changes else config.after
        if config.after is not None and self.recipe.changes:
            body += self._called_before()
        used = "used" in {first, config.preparation}
        with_others = used or (self.functional and first is not None)
        if with_others or first == "functional_call":
            body.append(f"others = {{name: torch.full_like(tensor, {OTHER}) for name, tensor in weights.items()}}")
        held = "others" if with_others else "weights"
        if first is not None or config.preparation not in SETTING:
            body.append(f"rnn.load_state_dict({held}{self.strict})")
        body += ["rnn.eval()"] * (not config.training and (used or first == "functional_call"))
        if first in {"used", "functional_call"}:
            body += self._used("others" if first == "functional_call" else "")
        elif first is not None:
            body += self._prepared(first, held)
        if config.preparation == "used":
            body += self._used()
        if with_others and config.preparation not in SETTING:
            body += self._renewed()
        body += self._prepared(config.preparation, "weights")
        if self.parametrized:
            self.program.imports.add("import torch.nn.utils.parametrize")
        if config.tied:
            body += self._twin(made)
        if not config.training and config.preparation != "used":  # which needed it before
            body.append("rnn.eval()")
        if config.loss is not None and config.wrt == "inputs":
            body.append("rnn.requires_grad_(False)")

    def _twin(self, made: str) -> list[str]:
        """Return what makes another module with the same parameters."""
        return [
            f"twin = {made}",
            *(["for name in weights:", f"    {_REGISTER}(twin, name, Same())"] if self.parametrized else []),
            "for name, parameter in rnn.named_parameters():  # both modules have the same ones",
            '    place, _, own = name.rpartition(".")',
            "    setattr(twin.get_submodule(place), own, parameter)",
            *["twin.eval()"] * (not self.config.training),
        ]

    def _renewed(self) -> list[str]:
        """Return what gives a module that was called its weights: an optimizer's step in training, or a load."""
        name = 'f"parametrizations.{name}.original"' if self.parametrized else "name"
        if self.config.training:
            return [
                "with torch.no_grad():  # as an optimizer's step does",
                "    for name, tensor in weights.items():",
                f"        rnn.get_parameter({name}).copy_(tensor)",
            ]
        given = f"{{{name}: tensor for name, tensor in weights.items()}}" if self.parametrized else "weights"
        return [f"rnn.load_state_dict({given}{self.strict})"]

    def _prepared(self, way: str, held: str) -> list[str]:
        """Return the code of a preparation that is no call, of a module that has these weights by name."""
        config, made = self.config, built(self.recipe, self.config)
        if way in {"deepcopy", "pickle"}:
            self.program.imports.add("import copy" if way == "deepcopy" else "import pickle")
        alike = []
        if config.after == "parametrize":
            alike = ["for name in weights:", f"    {_REGISTER}(other, name, Same())"]
        other = "float32" if config.dtype == "float64" else "float64"
        ways: dict[str, list[str]] = {
            "deepcopy": ["rnn = copy.deepcopy(rnn)"],
            "pickle": ["rnn = pickle.loads(pickle.dumps(rnn))"],
            "state_dict": [f"other = {made}", *alike, "other.load_state_dict(rnn.state_dict())", "rnn = other"],
            "assign": [
                f"other = {made}",
                *alike,
                "other.load_state_dict(rnn.state_dict(), assign=True)",
                "rnn = other",
            ],
            "to_dtype": [
                f"other = {built(self.recipe, config, other)}",
                *alike,
                f"other = other.to(torch.{config.dtype})",
                "other.load_state_dict(rnn.state_dict())",
                "rnn = other",
            ],
            "replaced": [
                f"for name, tensor in {held}.items():",
                "    setattr(rnn, name, torch.nn.Parameter(tensor.clone()))",
            ],
            "parametrize": [
                f"for name, tensor in {held}.items():",
                f"    {_REGISTER}(rnn, name, Same())",
                "    with torch.no_grad():",
                "        rnn.parametrizations[name].original.copy_(tensor)",
            ],
        }
        return ways.get(way, [])

    def _changed(self) -> list[str]:
        """Return what changes the module that torch makes at a first call, which had other weights then."""
        config, held = self.config, f"rnn{self.held}"
        made = f"rnn.made[{len(config.inputs)}]"
        if config.preparation == "deepcopy":
            self.program.imports.add("import copy")
            made = f"copy.deepcopy({made})"
        load = [f"{held}.load_state_dict(weights{', assign=True' if config.preparation == 'assign' else ''})"]
        if config.preparation == "replaced":
            load = [
                "for name, tensor in weights.items():",
                f"    setattr({held}, name, torch.nn.Parameter(tensor.clone()))",
            ]
        frozen = config.loss is not None and config.wrt == "inputs"
        return [
            *["rnn.eval()"] * (not config.training),
            *(self._called_before() if config.after is not None else []),
            f"{self._first(config)}  # torch makes its own module at the first call",
            f"rnn = {made}",
            *([] if self.functional else load),
            *["for tensor in rnn.parameters():", "    tensor.requires_grad_(False)"] * frozen,
        ]

    def _called_before(self) -> list[str]:
        """Return a functional call of an nn.RNN of which torch makes a module of its own afterwards."""
        return [
            "others = {name: torch.full_like(tensor, 0.5) for name, tensor in rnn.named_parameters()}",
            "rnn.__class__ = torch.nn.RNN  # it is one until its first call",
            "with torch.no_grad():",
            f"    {self._first(self.config, 'others')}",
            f"rnn.__class__ = {self.recipe.expression}",
        ]

    def _first(self, config: RNNConfig, weights: str = "") -> str:
        """Return a call on ones, in the shapes of a config, on the module's own weights or on those named."""
        options = "" if config.dtype == "float32" else f", dtype=torch.{config.dtype}"
        options += "" if config.device == "cpu" else f', device="{config.device}"'
        shapes = [spec.shape for spec in config.inputs.values()]
        if self.recipe.form is not None and self.recipe.form.flat:
            shapes[1:] = [shape[1:] for shape in shapes[1:]]
        return self._called([f"torch.ones({shape}{options})" for shape in shapes], weights)

    def _called(self, arguments: list[str], weights: str = "", module: str = "rnn") -> str:
        """Return a call of the module, or of a method of it, on its own weights or on those named."""
        form, given = self.recipe.form, ", ".join(arguments)
        if form is not None and form.is_cell:
            step = f"lambda *given: torch.func.functional_call(rnn, {weights}, given)" if weights else module
            return f"looped({step}, {form.returns.index('h_n')}, torch.stack, {given})"
        if weights:
            return f"torch.func.functional_call(rnn, {weights}, ({given}{',' * (len(arguments) == 1)}))"
        return f"{module}({given})"

    def _call(self) -> None:
        config, program = self.config, self.program
        inner: list[str] = []
        x = "x"
        if config.lengths is not None:
            program.imports.add(_PACKING)
            first = ", batch_first=True" if config.batch_first else ""
            inner.append(
                f"packed = pack_padded_sequence(x, {list(config.lengths)}{first}, "
                f"enforce_sorted={config.enforce_sorted})"
            )
            x = "packed"
        form = self.recipe.form
        state = "hx[0]" if form is not None and form.flat else "hx"
        arguments = [x, *[state] * config.hx]
        called = self._called(arguments, "weights" * self.functional, f"rnn{self.called}")
        returns = ("output", "h_n") if form is None or form.is_cell else form.returns
        inner += self._returned(called, returns)
        if config.tied:
            inner += self._returned(self._called(arguments, module="twin"), returns, _OF_TWIN)
        program.results = {"output": "output", "h_n": "h_n"}
        if form is not None and form.flat_h_n and "h_n" in returns:
            program.results["h_n"] = "h_n[None]"
        if "output" not in returns:
            del program.results["output"]
        if "last" in returns and "h_n" not in returns:
            program.results["h_n"] = "last[None]"
        elif "h_n" not in returns:
            program.results["h_n"] = "output[:, -1][None]" if config.batch_first and config.batched else "output[-1:]"
        if config.output_size is not None:
            # The padding of packed sequences is overwritten before it is compared.
            program.results["readout"] = "readout" if config.lengths is None else "readout.detach().clone()"
        around = self._around()
        program.body += [f"with {', '.join(around)}:", *indented(inner)] if around else inner

    def _returned(self, called: str, names: tuple[str, ...], also: str = "") -> list[str]:
        """Return the code of a call and of what is made of its results, whose names begin with ``also``."""
        config = self.config
        seed = f"torch.manual_seed({self.case.seed})  # what dropout drops"
        lines = [*[seed] * config.drops, f"{', '.join(also + name if name else '_' for name in names)} = {called}"]
        if self.recipe.form is not None and self.recipe.form.rows:
            lines.append(f"{also}output = {also}output.reshape(*x.shape[:2], -1)")
        if config.lengths is not None:
            first = ", batch_first=True" if config.batch_first else ""
            lines.append(f"{also}output, _ = pad_packed_sequence({also}output{first})")
        if config.output_size is not None:
            read = f"torch.nn.functional.linear({also}output, readout_weight, readout_bias)"
            lines.append(f"{also}readout = {read}")
        return lines

    def _around(self) -> list[str]:
        config = self.config
        around = [f"torch.backends.cudnn.flags({self.recipe.flags})"] if self.recipe.flags else []
        if config.grad_mode == "inference_mode":
            around.append("torch.inference_mode()")
        elif config.loss is None and config.grad_mode is None:
            around.append("torch.no_grad()")
        if config.autocast is not None:
            around.append(f'torch.autocast("{config.device.partition(":")[0]}", torch.{config.autocast})')
        return around

    def _used(self, weights: str = "") -> list[str]:
        """Return the calls before, on other weights if named, with their ways back where there is a loss."""
        config, around = self.config, self._around()
        used = []
        for before in config.calls_before:
            call = self._first(before.replace(T=config.T) if self.recipe.keeps_time else before, weights)
            if config.loss is not None and config.wrt != "inputs" and not weights:
                used += [f"{call}[0].sum().backward()", "rnn.zero_grad()"]
            else:
                used.append(call)
        comment = "# It was called before, at other shapes and with other weights."
        return [comment, *([f"with {', '.join(around)}:", *indented(used)] if around else used)]

    def _gradients(self) -> None:
        config, program = self.config, self.program
        wanted = [name.removesuffix(".grad") for name in config.gradients]
        asked = [f'"{name}": {name}' for name in wanted if name in {"x", "hx"}]
        if config.wrt != "inputs":
            asked += self._parameters()
        if "readout.grad" in config.cotangents:  # what no loss reads has no gradient
            asked += [f'"{name}": {name.replace(".", "_")}' for name in wanted if name.startswith("readout")]
        roots = [name.removesuffix(".grad") for name in config.cotangents]
        given = []
        for root in roots:
            cotangent = f"{root}_grad"
            if config.autocast is not None:
                program.body.append(f"{cotangent} = {self._strided(f'{root}.grad', f'{cotangent}.to({root}.dtype)')}")
            given.append(cotangent)
        unused = [] if self.recipe.own and not self.changed else ["allow_unused=True"]
        arguments = [
            f"[{', '.join(map(self._root, roots))}]",
            "list(asked.values())",
            f"[{', '.join(given)}]",
        ]
        program.body.append(listed("asked = {", asked, "}"))
        if config.tied or config.grad_mode == "accumulate":
            others = f"[{', '.join(_OF_TWIN + self._root(root) for root in roots)}]" if config.tied else arguments[0]
            program.body += [
                "for tensor in asked.values():",
                "    tensor.grad = None",
                listed("torch.autograd.backward(", [arguments[0], arguments[2], "retain_graph=True"], ")"),
                listed("torch.autograd.backward(", [others, arguments[2]], ")"),
                "# Both passes are added up, and half of that is what one gives.",
                "gradients = [None if tensor.grad is None else tensor.grad / 2 for tensor in asked.values()]",
            ]
        else:
            program.body.append(listed("gradients = torch.autograd.grad(", [*arguments, *unused], ")"))
        tensor = "turned(name, tensor)" if self.conventions.transposed else "tensor"
        tensor = f"parted(name, {tensor})" if self.recipe.form is not None and self.recipe.form.joined else tensor
        program.gradients = f'{{f"{{name}}.grad": {tensor} for name, tensor in zip(asked, gradients)}}'

    def _root(self, name: str) -> str:
        """Return the code of a result that gradients flow back from, which a readout's copy cuts off."""
        return name if name == "readout" else self.program.results[name]

    def _parameters(self) -> list[str]:
        """Return the items of a dict of the module's parameters, by nn.RNN's names."""
        if self.recipe.form is not None or self.conventions.one_bias:
            names = [name for name in self.config.weights if not name.startswith("readout")]
            original = "rnn.parametrizations.{}.original"
            return [
                f'"{name}": {original.format(self._own_name(name)) if self.parametrized else self._read(name)}'
                for name in names
            ]
        end = "_l0" if self.recipe.is_cell else ""
        if self.parametrized:
            return [f'**{{f"{{name}}{end}": rnn.parametrizations[name].original for name in weights}}']
        if self.functional:
            return [f'**{{f"{{name}}{end}": tensor for name, tensor in weights.items()}}' if end else "**weights"]
        if end:
            return [f'**{{f"{{name}}{end}": tensor for name, tensor in rnn.named_parameters()}}']
        return [f"**dict(rnn{self.held}.named_parameters())"]
