"""The allowed difference between two correct runs of torch on one case, where no equal bits are promised.

Torch chooses its kernels by the CPU, by shapes and strides, and by which gradients are asked for. Each kernel may sum
in another order, so the same mathematics called in two ways may give two results.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness import Case
from harness.checks.agreement import arithmetic_of
from harness.oracle.bounded_array import to_float64
from harness.oracle.compare import beyond
from harness.oracle.gradient_expectation import expect_whole_run
from harness.oracle.setting import Setting
from harness.space.case import as_plain
from harness.subjects.torch_module import TorchSubject

TORCH = TorchSubject()


def assert_same_but_for_rounding(case: Case, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Assert that each array of ``one`` is as near that of ``other`` as both may be to the exact result.

    A - B| <= |A - exact| + |exact - B|, so twice the tolerance is what rounding can explain.
    """
    expected = expect_whole_run(Setting.of(case.plain(), arithmetic_of(TORCH, case)))
    ours, theirs = (as_plain(case.config, {name: arrays[name] for name in one}) for arrays in (one, other))
    for name, array in ours.items():
        tolerance = 2 * expected[name].tolerance
        # Near its kink, relu may let anything pass.
        assert np.isfinite(tolerance).all() or case.config.nonlinearity == "relu", name
        assert not beyond(to_float64(array), to_float64(theirs[name]), tolerance).any(), name
