"""Imports what a torch module needs before it is needed; if that fails, the code that needs it will report it.

This includes the parts that torch itself would import at its first gradients, dual numbers and parametrized modules,
which takes as long as the rest of torch. A search uses all of them, and every process that is forked from this one then
starts with them.
"""

from contextlib import suppress
from importlib import import_module

_LATER = ("torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch._decomp")

for name in ("harness.subjects.torch_module", *_LATER):
    with suppress(Exception):
        import_module(name)
