"""The devices on which torch can run here, and the reasons why others are missing."""

from __future__ import annotations

from typing import Any

import torch


def devices() -> tuple[str, ...]:
    """Return the CPU, every accelerator that torch finds here, and ``meta``, which has shapes and dtypes only."""
    found = ["cpu"]
    for name in _accelerators():
        found += [name] if name == "mps" else [f"{name}:{i}" for i in range(_count(name))]
    return (*found, "meta")


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
