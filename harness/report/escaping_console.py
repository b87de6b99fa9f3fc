"""A console for text of foreign origin, which writes no spaces at the ends of lines, as only a terminal needs them."""

from collections.abc import Iterable
from io import StringIO
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from harness.space.outcome import printable

# The style of a verdict that is open: #af5f00, which stands out from white and from black alike, as yellow does not.
OPEN_STYLE: Final = "bold color(130)"


def fact_table(facts: Iterable[tuple[str, str]] = ()) -> Table:
    """Return a table of facts, each with its name before it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, Text(text))
    return table


def printed(shown: RenderableType, width: int = 100) -> str:
    """Return what a console of that width shows, as text."""
    text = StringIO()
    EscapingConsole(file=text, width=width, highlight=False, force_jupyter=False, force_terminal=False).print(shown)
    return text.getvalue().rstrip("\n")


class EscapingConsole(Console):
    """A console that does not pad lines, unless it is a terminal; ``rnn.py:monkey:`` stays as it is.

    Control characters in what it shows, such as in the name of a subject's file, become escapes.
    """

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

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as any console does, without control characters but those of the console itself."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
