"""A console that writes no spaces at the ends of lines, because only a terminal needs them."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class Paper(Console):
    """A console that does not pad lines, unless it is a terminal; ``rnn.py:monkey:`` stays as it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as any console does."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))
