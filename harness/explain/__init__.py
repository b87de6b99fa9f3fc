"""Why a case fails: named faults, and which of them is the subject's."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """This room, which can be called: its name is that of a public function, too, ``harness.explain(rnn, x, mine)``."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return sys.modules["harness"].__getattr__("explain")(*given, **named)


sys.modules[__name__].__class__ = _Room
