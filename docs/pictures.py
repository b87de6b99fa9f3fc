"""The pictures of the manual: what the command prints, and the page that it writes, for the README's own layer.

Run: ``python docs/pictures.py``, with rnn-harness installed, and Chromium for the page. It replaces docs/pictures/.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs" / "pictures"
WIDTH: Final = 80  # columns of the terminal
PAGE: Final = (1000, 1060)  # pixels: the verdict and the finding
CHROMIUM: Final = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def draw(folder: Path) -> None:
    """Check the README's first layer in a folder, and draw the answer and the page."""
    [code, *_] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (folder / "my_rnn.py").write_text(code)
    command = ("rnn-harness", "check", "my_rnn.py:rnn", "--report", "report.html")
    environ = {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    environ["PYTHONPATH"] = str(ROOT)  # else it is whichever version is installed that is drawn
    done = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=False)

    console = Console(width=WIDTH, record=True, file=(folder / "out").open("w"), force_terminal=True)
    console.print(Text.from_ansi(f"$ {' '.join(command[:3])}\n\n{done.stdout}"))
    svg = console.export_svg(title="", theme=SVG_EXPORT_THEME)
    # A page that shows it loads nothing from elsewhere.
    (PICTURES / "terminal.svg").write_text(re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL))
    page = (f"--window-size={PAGE[0]},{PAGE[1]}", f"--screenshot={PICTURES / 'page.png'}", str(folder / "report.html"))
    subprocess.run([*CHROMIUM, *page], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as made:
        draw(Path(made))
