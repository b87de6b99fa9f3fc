"""transformations: the other ways in which torch runs an nn.RNN: compiled, exported, scripted, traced and mapped.

Torch makes a module of its own of an nn.RNN. Whoever has that module may load other weights into it, or copy it. Then
it must compute with what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    after: tuple[str, ...] = ("functional_call",)
    """The values of ``RNNConfig.after`` that an nn.RNN may have had before this mode makes something of it."""
    called: str = ""
    """The method of what it made that is called, with its dot."""
    held: str = ""
    """The attribute of what it made that holds the parameters under nn.RNN's names, with its dot."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """The errors of torch that say that it cannot do something, as patterns, and what that is."""

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


_DISPATCHED: Final = '''

class Dispatched(torch.nn.Module):
    """A module that is called under the python dispatcher."""

    def __init__(self, plain):
        super().__init__()
        self.plain = plain

    def forward(self, *arguments):
        with enable_python_dispatcher():
            return self.plain(*arguments)'''

_MAPPED: Final = '''

class Mapped(torch.nn.Module):
    """A module that vmap calls on each sequence of a batch, inside vjp: alone, vmap takes no nn.RNN."""

    def __init__(self, plain):
        super().__init__()
        self.plain = plain
        batch = 1 - plain.batch_first
        self.given, self.returned = (batch, 1), (batch, 1)  # axes of x and hx, and of what is returned

    def forward(self, *arguments):
        if arguments[0].dim() < 3:
            raise NotImplementedError("without a batch there is nothing to map over")
        return self.mapped(dict(self.plain.named_parameters()), arguments)

    def mapped(self, own, arguments):
        def outputs(own, arguments):
            return torch.func.vjp(self.call, own, arguments)[0]

        dims = None, self.given[: len(arguments)]
        return torch.func.vmap(outputs, dims, self.returned, randomness="different")(own, arguments)

    def call(self, own, arguments):
        return torch.func.functional_call(self.plain, own, arguments)'''

_PER_SAMPLE: Final = '''

class PerSample(Mapped):
    """The same, differentiated by vmap(grad) of the loss of each sequence."""

    def forward(self, *arguments):
        if arguments[0].dim() < 3:
            raise NotImplementedError("without a batch there is no gradient of each sequence")
        names, parameters = zip(*self.plain.named_parameters())
        return Summed.apply(self, names, *arguments, *parameters)

    def gradients(self, own, arguments, cotangents):
        read = [i for i, cotangent in enumerate(cotangents) if cotangent is not None]

        def loss(own, arguments, cotangents):
            outputs = self.call(own, arguments)
            losses = [(outputs[i] * by).sum() for i, by in zip(read, cotangents)]
            return torch.stack(losses).sum()

        given = self.given[: len(arguments)]
        dims = None, given, [self.returned[i] for i in read]
        mapped = torch.func.vmap(torch.func.grad(loss, (0, 1)), dims, (0, given), randomness="different")
        return mapped(own, arguments, [cotangents[i] for i in read])


class Summed(torch.autograd.Function):
    """The results of a PerSample; their gradients by parameters are summed up over the sequences."""

    @staticmethod
    def forward(context, module, names, *tensors):
        context.module, context.names, context.state = module, names, torch.get_rng_state()
        context.set_materialize_grads(False)
        context.save_for_backward(*tensors)
        own, arguments = Summed.parted(names, tensors)
        return module.mapped(own, arguments)

    @staticmethod
    def backward(context, *cotangents):
        own, arguments = Summed.parted(context.names, context.saved_tensors)
        with torch.random.fork_rng([]):
            torch.set_rng_state(context.state)  # dropout draws the masks of the call again
            by_own, by_arguments = context.module.gradients(own, arguments, cotangents)
        return None, None, *by_arguments, *(each.sum(0) for each in by_own.values())

    @staticmethod
    def parted(names, tensors):
        # Torch may sum in another order if a tensor requires gradients, and one may do so in one of both passes only.
        detached = tuple(tensor.detach() for tensor in tensors)
        count = len(tensors) - len(names)
        return dict(zip(names, detached[count:])), detached[:count]'''

_UNMAPPED: Final = {
    "doesn't match the broadcast shape": "torch adds in place to the initial state that it makes itself, which vmap "
    "cannot do",
}
"""The errors of vmap."""

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
    return Mode(words, call, _ALLOWED, stages=stages, unrolls=unrolls, after=(), held="._orig_mod")


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
    "vmap": Mode("torch.func.vmap", "Mapped(plain)", (_MAPPED,), unrolls=False, held=".plain", refusals=_UNMAPPED),
    "per-sample": Mode(
        "torch.func.vmap(torch.func.grad)",
        "PerSample(plain)",
        (_MAPPED, _PER_SAMPLE),
        stages=("torch", "torch:vmap"),
        unrolls=False,
        held=".plain",
        refusals=_UNMAPPED,
    ),
    "script": Mode("torch.jit.script", "torch.jit.script(plain)", unrolls=False, called=".forward__0"),
    "trace": Mode("torch.jit.trace", "torch.jit.trace(plain, arguments, check_trace=False)", unrolls=False),
}
"""The modes by the name after ``torch:`` in the subject that runs in each."""
