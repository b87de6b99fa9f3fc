"""law: a script that counts what dropout keeps, in a net that shows its masks (``checks.dropout``)."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final

import numpy as np

from harness.checks.dropout import CALLS, FALSE_ALARMS, NOTHING, RATE, net, share_kept
from harness.checks.result import Result
from harness.diagnosis.reproduce.literals import Literals
from harness.diagnosis.reproduce.numpy_call import numpy_program
from harness.diagnosis.reproduce.program import Program, Unwritten, User, indented, written
from harness.diagnosis.reproduce.torch_call import built, shown
from harness.space.case import Array
from harness.space.config import RNNConfig
from harness.space.outcome import Outcome

_NET: Final = Template("""\
rnn = $built
rnn.train()
state = {name: torch.zeros_like(tensor) for name, tensor in rnn.state_dict().items()}
for name, tensor in state.items():
    if name.startswith("weight_ih"):  # every layer passes on what it reads
        first = $units if name.endswith("_reverse") and "_l0" not in name else 0
        tensor[:, first : first + $units] = torch.eye($units)
rnn.load_state_dict(state)
x = torch.ones($shape$options)
""")

_COUNT: Final = Template("""\
kept = total = 0
for _ in range($calls):
$call
    kept, total = kept + int((output > 0).sum()), total + $size
expected = $expected
print(f"dropout keeps {kept:,} of {total:,} elements, expected {expected:.4g} of them")

# By Chernoff's bound, a right layer fails at most once in $alarms runs.
pairs = [(kept / total, expected), (1 - kept / total, 1 - expected)]
surprise = total * sum(p * math.log(p / q) if q else math.inf for p, q in pairs if p)
failed = surprise > math.log(2 * $alarms)
print("FAILED" if failed else "FIXED")
sys.exit(failed)""")


def law_script(subject: str, result: Result, user: User) -> tuple[str, Mapping[str, Array]]:
    """Return the text of a script that shows how the law of dropout is broken, and the arrays that it reads.

    Raises ``Unwritten`` if none can show it.
    """
    config = result.net
    if config is None or config.lengths is not None or config.loss is not None:
        raise Unwritten("a script shows no dropout of packed sequences, and none backwards")
    if not any(rule in result.message for rule in (RATE, NOTHING)):
        raise Unwritten("a script counts what is kept, and this is about something else")
    program, call, size = _of_class(config, user) if user.is_class else _of_function(config, user)
    program.imports.add("import math")
    end = _COUNT.substitute(
        calls=CALLS, call=call, size=size, expected=share_kept(config), alarms=f"{1 / FALSE_ALARMS:.0e}"
    )
    text = written(f"{shown(subject)} breaks the law of dropout.", program, end.split("\n"))
    return text, dict(program.literals.stored)


def _of_class(config: RNNConfig, user: User) -> tuple[Program, str, str]:
    """Return the program that builds the net of a class, the code of a call, and that of the number of elements."""
    if user.recipe.form is not None:
        raise Unwritten("a script knows the parameters of the net under nn.RNN's names alone")
    program = Program(Literals("torch", config.device), user)
    options = "" if config.dtype == "float32" else f", dtype=torch.{config.dtype}"
    options += "" if config.device == "cpu" else f', device="{config.device}"'
    made = _NET.substitute(
        built=built(user.recipe, config), units=config.hidden_size, shape=config.inputs["x"].shape, options=options
    )
    program.given += made.rstrip("\n").split("\n")
    return program, "    with torch.no_grad():\n        output, _ = rnn(x)", "output.numel()"


def _of_function(config: RNNConfig, user: User) -> tuple[Program, str, str]:
    """Return the same of a function that draws masks of its own."""
    if "masks" in user.takes:
        raise Unwritten("its masks are given, and a script would count those")
    case, literals = net(config), Literals("np", config.device)
    literals.choose(case.arrays)
    returned = Outcome({name: np.zeros(spec.shape) for name, spec in config.outputs.items()})
    program = numpy_program(case, user, literals, (), returned)
    return program, "\n".join(indented(program.body)), "output.size"
