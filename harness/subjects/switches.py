"""Settings of torch and its libraries that choose other kernels, each for a process of its own.

Most of them are read once, when torch first computes. They need a fresh process and are set before anything runs in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


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
