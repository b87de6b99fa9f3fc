"""Reports that the makers of other people's layers already have of what fails in them: a finding names the one it fits.

They excuse nothing, as known deviations do. What they say is a failure of a layer alone, and it counts as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harness.checks.result import Result
from harness.space.config import RNNConfig
from harness.space.scope import factors_of


class Report(NamedTuple):
    """A report, and the failures that fit it."""

    link: str
    what: str
    """The defect that it tells of."""
    subjects: tuple[str, ...]
    where: Mapping[str, Any]
    """The values of factors that a failing case must have."""
    fails: str
    """A pattern for the kind of the failure and its message."""

    def fits(self, subject: str, config: RNNConfig, result: Result) -> bool:
        """Tell if a failure is such as the report tells of."""
        factors = factors_of(config)
        return (
            subject in self.subjects
            and all(factors[name] == value for name, value in self.where.items())
            and re.search(self.fails, f"{result.kind}\n{result.message}") is not None
        )


REPORTS: Final = (
    Report(
        "https://github.com/pytorch/pytorch/issues/44951",
        "the parameters of a deep copy of a scripted module are no leaves",
        ("torch:script", "torch:trace"),
        {"preparation": "deepcopy"},
        r"\.grad: missing|leaf [Vv]ariable",
    ),
    Report(
        "https://github.com/openvinotoolkit/openvino/issues/37820",
        "layout=1 of an RNN is ignored",
        ("onnx:openvino",),
        {"batch_first": True},
        "^(output|h_n): (shape|value)",
    ),
    Report(
        "https://github.com/keras-team/keras/issues/23704",
        "keras.ops.matmul of two float64 tensors is float32",
        ("keras:torch",),
        {"dtype": "float64"},
        ": value",
    ),
)


def reported(subject: str, config: RNNConfig, result: Result) -> Report | None:
    """Return the first report that fits a failure."""
    return next((one for one in REPORTS if one.fits(subject, config, result)), None)
