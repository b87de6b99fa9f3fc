"""torch's own layers in other settings and in other modes, as data, and how a script builds each.

A switch chooses other kernels. Most switches are read once, when torch first computes, so they need a fresh process and
are set before anything runs in it. A mode makes a module of its own of a layer: it compiles, exports, scripts or
traces. Whoever has that module may load other weights into it, or copy it; then it must compute with what it holds.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.space.cells import CELLS
from harness.subjects.capabilities import Recipe
from harness.subjects.subject_names import of_cell


@dataclass(frozen=True)
class Switch:
    """One setting, given by the environment variables or the torch call that make it."""

    words: str  # the setting in the form in which a user would make it
    environ: Mapping[str, str] = field(default_factory=dict)
    call: str = ""  # a line of Python to run once torch is imported
    on: str = "cpu"  # the kind of device that it affects
    alone: bool = True  # it changes one thing only, so that a change in the results points to that thing


def _variable(name: str, value: str) -> Switch:
    return Switch(f"{name}={value}", {name: value})


TORCH_LAYERS: Final = {cell: of_cell("torch", cell) for cell in CELLS}  # torch's own layers as subjects

# by the last part of the name of the subject that uses each: ``torch:avx2``, ``torch:gru:avx2``
KERNEL_SWITCHES: Final = {
    "no-mkldnn": Switch("mkldnn off", call="torch.backends.mkldnn.set_flags(False)"),
    "onednn-avx2": _variable("ONEDNN_MAX_CPU_ISA", "AVX2"),
    "onednn-avx512": _variable("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
    "aten-avx2": _variable("ATEN_CPU_CAPABILITY", "avx2"),
    "aten-default": _variable("ATEN_CPU_CAPABILITY", "default"),
    "two-threads": Switch("two threads", call="torch.set_num_threads(2)"),
    "no-cudnn": Switch("cuDNN off", call="torch.backends.cudnn.set_flags(False)", on="cuda"),
    "tf32": Switch("TF32 on", call="torch.backends.cudnn.set_flags(True, _allow_tf32=True)", on="cuda", alone=False),
    "ieee": Switch("TF32 off", call="torch.backends.cudnn.set_flags(True, _allow_tf32=False)", on="cuda"),
    "avx2": Switch(
        "ONEDNN_MAX_CPU_ISA=AVX2 and ATEN_CPU_CAPABILITY=avx2",
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        alone=False,
    ),
}

_applied: list[str] = []


def variants(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the subjects of some settings or modes of each layer: their cells and names, by the subjects' names."""
    return {of_cell(f"torch:{name}", cell): (cell, name) for cell in CELLS for name in names}


def attribute_of(spec: str) -> str:
    """Return the name under which a module holds what makes a subject."""
    return spec.removeprefix("torch:").replace("-", "_").replace(":", "_")


def switch_of(spec: str) -> str | None:
    """Return the name of the switch that a subject's name asks for, or ``None``."""
    return KERNEL_SUBJECTS.get(spec, (None, None))[1]


def apply(name: str) -> None:
    """Set a switch in this process, permanently. Raise ``ImportError`` if it needs torch and torch is not installed."""
    switch = KERNEL_SWITCHES[name]
    os.environ.update(switch.environ)
    if switch.call:
        import torch  # imported only for a switch that needs it

        exec(switch.call, {"torch": torch})  # noqa: S102 - a line of the table above, which a script shows as well
    _applied.append(name)


def is_applied(name: str) -> bool:
    """Return whether this process runs under a switch."""
    return name in _applied


_CLASS: Final = '''\
class {cell}(torch.nn.{cell}):
    """An nn.{cell} that is called by what torch makes of it at its first call."""

    def forward(self, *arguments):
        made = self.__dict__.setdefault("made", {{}})
        if len(arguments) not in made:
            plain = torch.nn.{cell}.__new__(torch.nn.{cell})
            plain.__dict__.update(self.__dict__)  # with the same parameters
            del plain.made
            made[len(arguments)] = {make}
        return made[len(arguments)]{called}(*arguments)'''

# The values of ``RNNConfig.preparation`` that change the module that torch made, and that every such module takes
_CHANGES: Final = ("state_dict", "assign", "replaced", "deepcopy")


@dataclass(frozen=True)
class ExecutionMode:
    """One way of torch's to run a module."""

    words: str  # the name that torch has for it
    make: str  # the expression that makes a module of ``plain``, a layer, and ``arguments``, those of its first call
    first: tuple[str, ...] = ()  # the lines that it needs before
    keeps_time: bool = False  # it takes another N after its first call, but no other T
    stages: tuple[str, ...] = ()  # the modes that do a part of what it does, the simplest first
    unrolls: bool = True  # it writes out every step of every layer, which takes a second for some twenty steps
    changes: tuple[str, ...] = _CHANGES  # the values of ``RNNConfig.preparation`` that change what it made
    after: tuple[str, ...] = ("functional_call",)  # the values of ``RNNConfig.after`` that are asked for
    called: str = ""  # the method of what it made that is called, with its dot
    attribute: str = ""  # the attribute of what it made that holds the parameters under nn.RNN's names, with its dot

    def lines(self, cell: str) -> tuple[str, ...]:
        """Return the lines that make a class of the cell's name, with its layer's constructor, run in this mode."""
        before = (*self.first, "", "") if self.first else ()
        return (*before, _CLASS.format(cell=cell, make=self.make, called=self.called))


_ALLOWED: Final = (
    "import torch._dynamo",
    "",
    "torch._dynamo.config.allow_rnn = True  # else recurrent layers are not compiled",
)

_BATCH: Final = '''

def batch(plain, arguments):
    """Return which dimension of each argument may have another size."""
    if arguments[0].dim() < 3:
        return None
    x, *states = ({dim: torch.export.Dim.AUTO} for dim in (1 - plain.batch_first, 1, 1))
    states = [tuple(states) if isinstance(of, tuple) else states[0] for of in arguments[1:]]
    return (x, *states)'''

_OF_EXPORTED: Final = (*_CHANGES, "functional_call")

_EXPORTED: Final = "torch.export.export(plain, arguments, dynamic_shapes=batch(plain, arguments))"


_COMPILED: Final = {  # the backends of torch.compile; each does what those before it do, and more
    "compile-eager": "eager",
    "compile-aot": "aot_eager",
    "compile-decomposed": "aot_eager_decomp_partition",
    "compile": "inductor",
}


def _compiled(name: str) -> ExecutionMode:
    backend, before = _COMPILED[name], list(_COMPILED)[: list(_COMPILED).index(name)]
    call = f'torch.compile(plain, backend="{backend}", fullgraph=True)'
    words, unrolls = f'torch.compile(backend="{backend}")', backend != "eager"
    return ExecutionMode(words, call, _ALLOWED, stages=tuple(before), unrolls=unrolls, after=(), attribute="._orig_mod")


MODES: Final = {  # by the last part of the name of the subject that runs in each
    **{name: _compiled(name) for name in _COMPILED},
    "export": ExecutionMode("torch.export", f"{_EXPORTED}.module()", (_BATCH,), keeps_time=True, changes=_OF_EXPORTED),
    "export-decomposed": ExecutionMode(
        "torch.export and run_decompositions()",
        f"{_EXPORTED}.run_decompositions().module()",
        (_BATCH,),
        keeps_time=True,
        stages=("export",),
        changes=_OF_EXPORTED,
    ),
    "script": ExecutionMode("torch.jit.script", "torch.jit.script(plain)", unrolls=False, called=".forward__0"),
    "trace": ExecutionMode("torch.jit.trace", "torch.jit.trace(plain, arguments, check_trace=False)", unrolls=False),
}


_CELL: Final = '''\
class RNNCellLoop(torch.nn.RNNCell):
    """An nn.RNNCell, looped over time."""

    def forward(self, x, hx=None):
        h, states = None if hx is None else hx[0], []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        output = torch.stack(states)
        return output, output[-1:].clone()'''


def _layer(name: str) -> Recipe:
    return Recipe(expression=f"torch.nn.{name}", own=True, title=f"torch.nn.{name}")


def _switched(cell: str, name: str) -> Recipe:
    switch, plain = KERNEL_SWITCHES[name], _layer(cell)
    lines = (switch.call,) if switch.call else ()
    return replace(plain, title=f"{plain.title} with {switch.words}", lines=lines, environ=switch.environ)


def _transformed(cell: str, name: str) -> Recipe:
    mode = MODES[name]
    return Recipe(expression=cell, lines=mode.lines(cell), own=True, title=f"torch.nn.{cell} by {mode.words}")


KERNEL_SUBJECTS: Final = variants(KERNEL_SWITCHES)
MODE_SUBJECTS: Final = variants(MODES)


# They are known by name, because a finding is told of where no such subject can be made.
RECIPES: Final = {
    **{spec: _layer(cell) for cell, spec in TORCH_LAYERS.items()},
    "torch:cell": Recipe(expression="RNNCellLoop", lines=(_CELL,), is_cell=True, own=True, title="torch.nn.RNNCell"),
    **{spec: _switched(*pair) for spec, pair in KERNEL_SUBJECTS.items()},
    **{spec: _transformed(*pair) for spec, pair in MODE_SUBJECTS.items()},
}
