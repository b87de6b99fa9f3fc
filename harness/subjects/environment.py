"""The environment: the software and hardware that a result rests on, as seen by the process that computed it."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

# The distributions whose versions are reported if they are installed.
PACKAGES: Final = ("rnn-harness", "numpy", "torch", "hypothesis", "ml_dtypes", "python-flint")

# The names of environment variables that choose kernels or threads.
VARIABLES: Final = re.compile(r"ONEDNN_|DNNL_|ATEN_|MKL_|OMP_NUM|OPENBLAS_|KMP_|CUBLAS_|NVIDIA_TF32|TORCH_")

# The names of those that choose kernels.
CHOOSE: Final = re.compile(r"(ONEDNN|DNNL|ATEN|MKL|CUBLAS)_(?!.*(THREADS|VERBOSE))|NVIDIA_TF32")


def environment(device: str = "cpu", *, with_torch: bool = True) -> dict[str, str]:
    """Return what this process computes on: packages, CPU, libraries and their kernels, threads, and the device.

    Torch is asked only if ``with_torch`` is true and torch is already imported.
    """
    facts = {**machine(), **_libraries()}
    if with_torch and "torch" in sys.modules:
        facts |= _torch(device)
    facts |= {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name)}
    return facts


@cache
def machine() -> dict[str, str]:
    """Return the versions of Python and of the packages, and the CPU; nothing is imported for it."""
    facts = {"python": platform.python_version(), "platform": platform.platform(), "cpu": _cpu()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            facts[name] = version(name)
    return facts


def versions() -> dict[str, str]:
    """Return the versions that must be the same wherever parts of one search are done."""
    return {name: machine().get(name, "none") for name in ("rnn-harness", "numpy", "torch")}


def alike() -> dict[str, str]:
    """Return what must be the same in all processes that share one search: versions, and what chooses kernels."""
    return {"python": _python(), **versions(), **_chosen()}


def _python() -> str:
    return ".".join(machine()["python"].split(".")[:2])


def _chosen() -> dict[str, str]:
    """Return the environment variables that choose kernels."""
    return {name: value for name, value in sorted(os.environ.items()) if CHOOSE.match(name)}


def line(facts: dict[str, str]) -> str:
    """Return the most informative facts in one line."""
    if "software" in facts:
        return f"{facts['software']}; {facts['cpu']}"
    parts = []
    if "ATen" in facts:
        parts.append(f"torch {facts['torch']} on {facts['ATen']}")
        shown = "oneDNN ISA" in facts and not facts["oneDNN"].endswith("off")
        isa = f" up to {facts['oneDNN ISA']}" if shown else ""
        parts += [f"oneDNN {facts['oneDNN']}{isa}"] if "oneDNN" in facts else []
        parts += [f"MKL {facts['MKL']}"] if "MKL" in facts else []
        parts += [facts[name] for name in ("device", "cuDNN", "TF32") if name in facts]
    parts.append(f"NumPy {facts['numpy']}")
    parts += [facts["BLAS of NumPy"]] if "BLAS of NumPy" in facts else []
    threads = facts.get("threads", "1")
    return "; ".join([*parts, f"{threads} thread{'' if threads == '1' else 's'}", facts["cpu"]])


def kernels(facts: dict[str, str]) -> str:
    """Return the facts that choose the kernels: those of torch and of its device, or those of NumPy without torch."""
    if "software" in facts:
        return facts["software"]
    if "ATen" not in facts:
        return facts.get("BLAS of NumPy", f"NumPy {facts['numpy']}")
    parts = [f"ATen {facts['ATen']}"]
    if "oneDNN" in facts:
        off, isa = facts["oneDNN"].endswith("off"), facts.get("oneDNN ISA")
        parts.append("oneDNN off" if off else "oneDNN" if isa is None else f"oneDNN up to {isa}")
    parts += [facts[name] for name in ("device", "cuDNN", "TF32") if name in facts]
    threads = facts.get("threads", "1")
    return "; ".join([*parts, *([] if threads == "1" else [f"{threads} threads"])])


def heard(spoken: str) -> tuple[str | None, tuple[str, ...]]:
    """Parse what oneDNN prints under ``ONEDNN_VERBOSE=1``: the instruction set it may use, and the primitives it ran.

    A primitive is given by its kind, its implementation and its shapes, such as ``matmul gemm:jit:bf16 27x17:17x9``.
    """
    isa, ran = None, dict[str, None]()
    for text in spoken.splitlines():
        parts = text.split(",")
        if not parts[0].startswith("onednn_verbose"):
            continue
        if "info" in parts and ",isa:" in text:
            isa = text.partition(",isa:")[2]
        elif "exec" in parts and len(parts) > (at := parts.index("exec")) + 4:
            ran[f"{parts[at + 2]} {parts[at + 3]} {parts[-2]}"] = None
    return isa, tuple(ran)


def speak() -> None:
    """Have oneDNN compute something, so that it prints its instruction set."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    if mkldnn.is_available():
        torch.ones(2, 2).to_mkldnn().relu()


def _cpu() -> str:
    with suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _libraries() -> dict[str, str]:
    """Return the BLAS that NumPy has loaded, and the processor that it computes for."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    for library in threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            kernel = f" for {library['architecture']}" if library.get("architecture") else ""
            return {"BLAS of NumPy": f"{library['internal_api']} {library['version']}{kernel}"}
    return {}


def _torch(device: str) -> dict[str, str]:
    import torch

    built: str = torch.__config__.show()
    facts = {"ATen": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}
    for name, pattern in (("oneDNN", r"MKL-DNN v([\d.]+)"), ("MKL", r"oneAPI Math Kernel Library Version ([\d.]+)")):
        if match := re.search(pattern, built):
            facts[name] = match[1]
    mkldnn: Any = torch.backends.mkldnn
    if "oneDNN" in facts and not mkldnn.enabled:
        facts["oneDNN"] += " off"
    return facts | dict(_cuda(torch, device)) if device.startswith("cuda") else facts


def _cuda(torch: Any, device: str) -> Iterator[tuple[str, str]]:
    yield "device", torch.cuda.get_device_name(device)
    yield "CUDA", str(torch.version.cuda)
    yield "cuDNN", f"cuDNN {torch.backends.cudnn.version()}" if torch.backends.cudnn.enabled else "cuDNN off"
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield "TF32", f"TF32 {'on' if any(allowed) else 'off'}"
    with suppress(OSError, IndexError):
        yield "driver", Path("/proc/driver/nvidia/version").read_text().split("Module")[1].split()[0]
