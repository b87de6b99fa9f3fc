"""The explanation of a failing case: named faults, and which of them is the subject's."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The module type of this package. It can be called, as the public function ``harness.explain(rnn, x, mine)``."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return sys.modules["harness"].__getattr__("explain")(*given, **named)


sys.modules[__name__].__class__ = _Room
