"""transformations: the other ways in which torch runs an nn.RNN: compiled, exported, scripted and traced.

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
            plain = copy.copy(self)  # with the same parameters
            plain.__class__ = torch.nn.RNN
            del plain.made
            made[len(arguments)] = {make}
        return made[len(arguments)]{called}(*arguments)'''

_CHANGES: Final = ("state_dict", "assign", "replaced", "deepcopy")
"""The values of ``RNNConfig.preparation`` that change the module that torch made, and that every such module takes."""


@dataclass(frozen=True)
class Mode:
    """One way of torch's to run a module."""

    words: str
    """The name that torch has for it."""
    make: str
    """The expression that makes a module of ``plain``, an nn.RNN, and ``arguments``, those of its first call."""
    first: tuple[str, ...] = ()
    """The lines that it needs before."""
    keeps_time: bool = False
    """True if it takes another N after its first call, but no other T."""
    stages: tuple[str, ...] = ("torch",)
    """The subjects that do a part of what it does, from the least on."""
    unrolls: bool = True
    """True if it writes out every step of every layer, which takes a second for some twenty steps."""
    changes: tuple[str, ...] = _CHANGES
    """The values of ``RNNConfig.preparation`` that change what it made."""
    called: str = ""
    """The method of what it made that is called, with its dot."""
    held: str = ""
    """The attribute of what it made that holds the parameters under nn.RNN's names, with its dot."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines that make a class ``RNN`` with nn.RNN's constructor, which runs in this mode."""
        return ("import copy", *self.first, "", "", _CLASS.format(make=self.make, called=self.called))


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


_DISPATCHED: Final = '''

class Dispatched(torch.nn.Module):
    """A module that is called under the python dispatcher."""

    def __init__(self, plain):
        super().__init__()
        self.plain = plain

    def forward(self, *arguments):
        with enable_python_dispatcher():
            return self.plain(*arguments)'''

_COMPILED: Final = {
    "compile-eager": "eager",
    "compile-aot": "aot_eager",
    "compile-decomposed": "aot_eager_decomp_partition",
    "compile": "inductor",
}
"""The backends of torch.compile. Each does what those before it do, and more."""


def _compiled(name: str) -> Mode:
    backend, before = _COMPILED[name], list(_COMPILED)[: list(_COMPILED).index(name)]
    call = f'torch.compile(plain, backend="{backend}", fullgraph=True)'
    stages = ("torch", *(f"torch:{one}" for one in before))
    words, unrolls = f'torch.compile(backend="{backend}")', backend != "eager"
    return Mode(words, call, _ALLOWED, stages=stages, unrolls=unrolls, held="._orig_mod")


MODES: Final = {
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
    "dispatched": Mode(
        "the python dispatcher",
        "Dispatched(plain)",
        ("from torch._dispatch.python import enable_python_dispatcher", _DISPATCHED),
        unrolls=False,
        held=".plain",
    ),
    "script": Mode("torch.jit.script", "torch.jit.script(plain)", unrolls=False, called=".forward__0"),
    "trace": Mode("torch.jit.trace", "torch.jit.trace(plain, arguments, check_trace=False)", unrolls=False),
}
"""The modes by the name after ``torch:`` in the subject that runs in each."""
