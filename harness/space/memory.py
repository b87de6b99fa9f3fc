"""memory: what it takes to run and compare a case that fills much of it, and what is free."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from harness.space.config import RNNConfig

GIVEN: Final = 4
"""The copies of what a case gives: one here, and in the subject's process its own, the one that is lent, and one for a
moment to see if the subject wrote into it."""

RETURNED: Final = 4
"""The copies of what a call returns: what the subject returned, the one that is held, the message, and what is read of
it here."""

OWN: Final = 2
"""The arrays of the size of what it returns that a subject may need besides.

With these three, the estimate for 2**24 states and more was 1.5 to 2.2 times what torch and a function in NumPy took,
because not all copies are there at one time.
"""

ASIDE: Final = 2**28
"""The bytes for everything else, such as the pieces in which a large case is compared: 0.06 GB were measured."""


def needed(config: RNNConfig) -> int:
    """Return the bytes of memory that a forward pass of a config and its comparison take, in all processes together.

    Copies are counted as if they were all there at one time.
    """
    given, returned = _sizes(config)
    return np.dtype(config.dtype).itemsize * (GIVEN * given + (RETURNED + OWN) * returned) + ASIDE


def needed_on_device(config: RNNConfig) -> int:
    """Return the bytes that it takes on a device of its own: what is given and returned, and the layer's own arrays."""
    given, returned = _sizes(config)
    return np.dtype(config.dtype).itemsize * (given + (1 + OWN) * returned) + ASIDE


def _sizes(config: RNNConfig) -> tuple[int, int]:
    """Return the count of numbers that a case gives, and of those that come back of a forward pass."""
    return sum(one.size for one in config.given.values()), sum(one.size for one in config.outputs.values())


def free(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes of memory that are free here; ``None`` where the system does not tell.

    Linux tells what it can give without swapping, and the limit of a container. The files that it keeps in memory and
    that nothing has read for a while count as used by a container, but are given up if it needs more.
    """
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = (proc / "meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024)
    with suppress(OSError, ValueError, StopIteration):  # no container, or one without a limit, which says max
        limit, used = (int((groups / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (groups / "memory.stat").read_text().splitlines()
        kept = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        found.append(max(0, limit - used + kept))
    if not found and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def gigabytes(size: int) -> str:
    """Return a count of bytes in GB, with three digits where it is small."""
    return f"{size / 1e9:.3g} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


def too_large(config: RNNConfig, on_device: int | None = None) -> str:
    """Return why a config does not fit into the memory that is free; empty if it does, or if nothing is known.

    ``on_device`` is the memory that is free on its device.
    """
    here = free()
    if here is not None and (need := needed(config)) > here:
        return f"needs {gigabytes(need)}, {gigabytes(here)} are free"
    if on_device is not None and (need := needed_on_device(config)) > on_device:
        return f"needs {gigabytes(need)} on {config.device}, {gigabytes(on_device)} are free there"
    return ""
