"""recipes: how a script builds and calls torch's own layers, by the names of their subjects."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.subjects.capabilities import Recipe
from harness.subjects.switches import SUBJECTS, SWITCHES
from harness.subjects.transformations import MODES

_CELL: Final = '''\
class Cell(torch.nn.RNNCell):
    """An nn.RNNCell, looped over time."""

    def forward(self, x, hx=None):
        h, states = None if hx is None else hx[0], []
        for step in x:
            h = super().forward(step, h)
            states.append(h)
        output = torch.stack(states)
        return output, output[-1:].clone()'''

_RNN: Final = Recipe(expression="torch.nn.RNN", own=True, title="torch.nn.RNN")


def _switched(spec: str) -> Recipe:
    switch = SWITCHES[spec.removeprefix("torch:")]
    lines = (switch.call,) if switch.call else ()
    return replace(_RNN, title=f"{_RNN.title} with {switch.words}", lines=lines, environ=switch.environ)


def _transformed(name: str) -> Recipe:
    mode = MODES[name]
    return Recipe(expression="RNN", lines=mode.lines, own=True, title=f"torch.nn.RNN by {mode.words}")


RECIPES: Final = {
    "torch": _RNN,
    "torch:cell": Recipe(expression="Cell", lines=(_CELL,), is_cell=True, own=True, title="torch.nn.RNNCell"),
    **{spec: _switched(spec) for spec in SUBJECTS},
    **{f"torch:{name}": _transformed(name) for name in MODES},
}
"""They are known by name, because a finding is told of where no such subject can be made."""
