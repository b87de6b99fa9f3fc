"""What is known of torch: of classes of modules, of its arithmetic, and of its devices here.

NumPy's own arithmetic needs no entry, because what a function computes with is unknown. It was measured to see what may
be assumed of such a function: NumPy 2.4's float32 tanh is within 1.83 u (``benchmarks/tanh_error.py``).

torch's derivative of tanh reads its result (``derivatives.yaml``): slopes are computed from states.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from harness.space.declared_arithmetic import DeclaredArithmetic


@dataclass(frozen=True)
class ClassFacts:
    """Facts about the modules that a class makes; by default, nothing."""

    own: bool = False
    """True if they compute with torch's own operations alone, in the way of nn.RNN: the figures of torch's arithmetic
    hold, and its known issues."""
    # True if they draw one mask of dropout after the other, as torch's function does under the same seed.
    draws_masks: bool = False
    exact: bool = False  # they keep to the bit the relations that nn.RNN keeps
    # True if a module remembers nothing of earlier calls, and may be used for the next case of its config.
    forgets: bool = False
    cell: str = "RNN"
    shares_process: bool = False  # they leave their process as they found it (``Capabilities.shares_process``)


_OWN: Final = ClassFacts(own=True, draws_masks=True, forgets=True, shares_process=True)

# The facts by class.
FACTS: Final[dict[Any, ClassFacts]] = {
    torch.nn.RNN: replace(_OWN, exact=True),
    torch.nn.GRU: replace(_OWN, cell="GRU"),
    torch.nn.LSTM: replace(_OWN, cell="LSTM"),
}


def is_cell(factory: Callable[..., torch.nn.Module]) -> bool:
    """Return whether a class makes cells: their parameters' names have no layer, and their constructor is another."""
    return isinstance(factory, type) and issubclass(factory, torch.nn.RNNCell)


def takes(factory: Callable[..., torch.nn.Module], name: str) -> bool:
    """Return whether a class takes an argument of a name, as far as its signature, or torch's, says so."""
    try:
        own = name in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        own = False
    return own or FACTS.get(factory, ClassFacts()).own


def positions(factory: Callable[..., torch.nn.Module]) -> tuple[str, ...] | None:
    """Return the names of the arguments that a constructor takes by position; ``None`` if its signature hides them."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(arg.kind is arg.VAR_POSITIONAL for arg in parameters):
        return None
    return tuple(arg.name for arg in parameters if arg.kind in {arg.POSITIONAL_ONLY, arg.POSITIONAL_OR_KEYWORD})


def facts_of(factory: Callable[..., torch.nn.Module]) -> ClassFacts:
    """Return what is known of a class; a cell is nothing but one step of torch's own."""
    bases = factory.__mro__ if isinstance(factory, type) else ()
    cell = next((FACTS[base].cell for base in bases if base in FACTS), "RNN")
    return FACTS.get(factory, ClassFacts(own=is_cell(factory), cell=cell))


_ONEDNN: Final = "oneDNN's, which nn.LSTM calls for some dtypes and lengths, is within 4.7 u, but 0 below -36"
_LIKE_CUDA: Final = DeclaredArithmetic(
    4.0, wide_sums=True, stores_products=True, source="not measured: taken to be like CUDA"
)

# The arithmetic of torch's own operations.
TORCH: Final = {
    "cpu": DeclaredArithmetic(
        2.0,
        wide_sums=True,
        stores_products=True,
        source="measured, torch 2.13 on x86: tanh is within 1.01 u over every float32 from 2**-20 to 9.5, and within "
        "1.26 u on three million float64 (benchmarks/tanh_error.py). In 16 bits a bias is fused with its product only "
        "where the input is contiguous, which batch_first's is not. Sigmoid is within 2.5 u over every float32; "
        + _ONEDNN,
        sigmoid_error=6.0,
        sigmoid_absolute=2.0**-27,
    ),
    "cuda": DeclaredArithmetic(
        4.0,
        wide_sums=True,
        stores_products=True,
        source="not measured: CUDA's guide states 2 ulp, 4 u, for tanhf; TF32 is no part of it and must be off",
    ),
    "mps": _LIKE_CUDA,
    "xpu": _LIKE_CUDA,
}


def devices() -> tuple[str, ...]:
    """Return the CPU, every accelerator that torch finds here, and ``meta``, which has shapes and dtypes only."""
    names = ["cpu"]
    for name in _accelerators():
        names += [name] if name == "mps" else [f"{name}:{i}" for i in range(_count(name))]
    return (*names, "meta")


def absent() -> dict[str, str]:
    """Return the accelerators that are not here, with the reasons."""
    backends: Any = torch.backends
    built = {"cuda": backends.cuda.is_built(), "mps": backends.mps.is_built(), "xpu": hasattr(torch, "xpu")}
    here = _accelerators()
    reasons = {name: "torch finds none" if there else "this torch is built without it" for name, there in built.items()}
    return {name: reason for name, reason in reasons.items() if name not in here}


def _accelerators() -> list[str]:
    own = torch._C._get_privateuse1_backend_name()  # noqa: SLF001 - no public function gives the name
    return [name for name in ("cuda", "mps", "xpu", own) if _count(name)]


def _count(name: str) -> int:
    """Return the number of devices of a kind that are here."""
    kind: Any = getattr(torch, name, None)
    if kind is None or not getattr(kind, "is_available", lambda: False)():
        return 0
    return int(getattr(kind, "device_count", lambda: 1)())
