"""The other ways in which torch runs an nn.RNN: compiled, exported, scripted and traced.

Torch makes a module of its own of an nn.RNN. Whoever has that module may load other weights into it, or copy it. Then
it must compute with what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
