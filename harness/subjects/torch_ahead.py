"""torch_ahead: torch, imported before it is asked for; if it cannot be, that is for who asks to find out.

With it comes what it imports only in its first gradients, duals and parametrized modules, and takes as long again. A
search asks for all of them, and every process that is forked from this one is spared that.
"""

from contextlib import suppress
from importlib import import_module

_LATER = ("torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch._decomp")

for name in ("harness.subjects.torch_module", *_LATER):
    with suppress(Exception):
        import_module(name)
