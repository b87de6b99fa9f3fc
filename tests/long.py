"""Parameters of long measurements: the default run takes a few, and ``tox -e quality,conformance`` takes all."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], kept: Callable[[Any], bool] | int) -> list[Any]:
    """Return all values as parameters of a test; those that the default run leaves out are marked ``long``.

    It keeps those for which a function is true, or so many of the first. A value that is a tuple is several parameters.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=() if (number < kept if isinstance(kept, int) else kept(value)) else pytest.mark.long,
        )
        for number, value in enumerate(values)
    ]
