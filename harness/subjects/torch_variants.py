"""torch's own layer in other settings and in other modes, as data, and how a script builds each.

A switch chooses other kernels. Most switches are read once, when torch first computes, so they need a fresh process and
are set before anything runs in it. A mode makes a module of its own of an nn.RNN: it compiles, exports, scripts or
traces. Whoever has that module may load other weights into it, or copy it; then it must compute with what it holds.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.subjects.capabilities import Recipe


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


SWITCHES: Final = {  # by the name after ``torch:`` in the subject that uses each
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
SUBJECTS: Final = tuple(f"torch:{name}" for name in SWITCHES)

_applied: list[str] = []


def switch_of(spec: str) -> str | None:
    """Return the name of the switch that a subject's name asks for, or ``None``."""
    return spec.removeprefix("torch:") if spec in SUBJECTS else None


def apply(name: str) -> None:
    """Set a switch in this process, permanently. Raise ``ImportError`` if it needs torch and torch is not installed."""
    switch = SWITCHES[name]
    os.environ.update(switch.environ)
    if switch.call:
        import torch  # imported only for a switch that needs it

        exec(switch.call, {"torch": torch})  # noqa: S102 - a line of the table above, which a script shows as well
    _applied.append(name)


def is_applied(name: str) -> bool:
    """Return whether this process runs under a switch."""
    return name in _applied


_CLASS: Final = '''\
class RNN(torch.nn.RNN):
    """An nn.RNN that is called by what torch makes of it at its first call."""

    def forward(self, *arguments):
        made = self.__dict__.setdefault("made", {{}})
        if len(arguments) not in made:
            plain = torch.nn.RNN.__new__(torch.nn.RNN)
            plain.__dict__.update(self.__dict__)  # with the same parameters
            del plain.made
            made[len(arguments)] = {make}
        return made[len(arguments)]{called}(*arguments)'''

# The values of ``RNNConfig.preparation`` that change the module that torch made, and that every such module takes
_CHANGES: Final = ("state_dict", "assign", "replaced", "deepcopy")


@dataclass(frozen=True)
class Mode:
    """One way of torch's to run a module."""

    words: str  # the name that torch has for it
    make: str  # the expression that makes a module of ``plain``, an nn.RNN, and ``arguments``, those of its first call
    first: tuple[str, ...] = ()  # the lines that it needs before
    keeps_time: bool = False  # it takes another N after its first call, but no other T
    stages: tuple[str, ...] = ("torch",)  # simpler subjects, which do a part of what it does, the simplest first
    unrolls: bool = True  # it writes out every step of every layer, which takes a second for some twenty steps
    changes: tuple[str, ...] = _CHANGES  # the values of ``RNNConfig.preparation`` that change what it made
    after: tuple[str, ...] = ("functional_call",)  # the values of ``RNNConfig.after`` that are asked for
    called: str = ""  # the method of what it made that is called, with its dot
    held: str = ""  # the attribute of what it made that holds the parameters under nn.RNN's names, with its dot

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines that make a class ``RNN`` with nn.RNN's constructor, which runs in this mode."""
        before = (*self.first, "", "") if self.first else ()
        return (*before, _CLASS.format(make=self.make, called=self.called))


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
    return tuple({dim: torch.export.Dim.AUTO} for _, dim in zip(arguments, (1 - plain.batch_first, 1)))'''

_OF_EXPORTED: Final = (*_CHANGES, "functional_call")

_EXPORTED: Final = "torch.export.export(plain, arguments, dynamic_shapes=batch(plain, arguments))"


_COMPILED: Final = {  # the backends of torch.compile; each does what those before it do, and more
    "compile-eager": "eager",
    "compile-aot": "aot_eager",
    "compile-decomposed": "aot_eager_decomp_partition",
    "compile": "inductor",
}


def _compiled(name: str) -> Mode:
    backend, before = _COMPILED[name], list(_COMPILED)[: list(_COMPILED).index(name)]
    call = f'torch.compile(plain, backend="{backend}", fullgraph=True)'
    stages = ("torch", *(f"torch:{one}" for one in before))
    words, unrolls = f'torch.compile(backend="{backend}")', backend != "eager"
    return Mode(words, call, _ALLOWED, stages=stages, unrolls=unrolls, after=(), held="._orig_mod")


MODES: Final = {  # by the name after ``torch:`` in the subject that runs in each
    **{name: _compiled(name) for name in _COMPILED},
    "export": Mode("torch.export", f"{_EXPORTED}.module()", (_BATCH,), keeps_time=True, changes=_OF_EXPORTED),
    "export-decomposed": Mode(
        "torch.export and run_decompositions()",
        f"{_EXPORTED}.run_decompositions().module()",
        (_BATCH,),
        keeps_time=True,
        stages=("torch", "torch:export"),
        changes=_OF_EXPORTED,
    ),
    "script": Mode("torch.jit.script", "torch.jit.script(plain)", unrolls=False, called=".forward__0"),
    "trace": Mode("torch.jit.trace", "torch.jit.trace(plain, arguments, check_trace=False)", unrolls=False),
}


_CELL: Final = '''\
class Cell(torch.nn.RNNCell):
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


_RNN: Final = _layer("RNN")


def _switched(spec: str) -> Recipe:
    switch = SWITCHES[spec.removeprefix("torch:")]
    lines = (switch.call,) if switch.call else ()
    return replace(_RNN, title=f"{_RNN.title} with {switch.words}", lines=lines, environ=switch.environ)


def _transformed(name: str) -> Recipe:
    mode = MODES[name]
    return Recipe(expression="RNN", lines=mode.lines, own=True, title=f"torch.nn.RNN by {mode.words}")


# They are known by name, because a finding is told of where no such subject can be made.
RECIPES: Final = {
    "torch": _RNN,
    "torch:gru": _layer("GRU"),
    "torch:lstm": _layer("LSTM"),
    "torch:cell": Recipe(expression="Cell", lines=(_CELL,), is_cell=True, own=True, title="torch.nn.RNNCell"),
    **{spec: _switched(spec) for spec in SUBJECTS},
    **{f"torch:{name}": _transformed(name) for name in MODES},
}
