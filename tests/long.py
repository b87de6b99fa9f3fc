"""long: parameters of measurements that the default run takes a few of, and ``tox -e quality,conformance`` all."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], kept: Callable[[Any], bool]) -> list[Any]:
    """All values as parameters of a test, marked ``long`` where the default run does without them.

    A value that is a tuple is several parameters.
    """
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=() if kept(value) else pytest.mark.long)
        for value in values
    ]
