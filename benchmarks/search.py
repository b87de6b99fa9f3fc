"""The search beside other ways of testing, in one table: its kills and its throughput.

Run: ``python benchmarks/search.py --json search.json`` (half an hour), on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported

import kills
import throughput


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checks", type=int, default=20_000, help="over which memory is watched; 0 for none")
    parser.add_argument("--json", type=Path, default=Path("search.json"))
    options = parser.parse_args()
    speed = throughput.measured(options.checks)
    print()
    found = kills.measured_all(kills.parsed([]))
    on = {name: version(name) for name in ("torch", "numpy", "hypothesis")} | {"python": platform.python_version()}
    on |= {"machine": platform.machine(), "system": platform.system(), "cores": str(os.cpu_count())}
    figures = {"on": on, "throughput": speed, "kills": found}
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"\nall figures: {options.json}")


if __name__ == "__main__":
    main()
