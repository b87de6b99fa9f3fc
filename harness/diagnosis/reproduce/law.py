"""law: a script that counts what dropout keeps, in a net of torch modules that shows its masks (``checks.dropout``)."""

from __future__ import annotations

from string import Template
from typing import Final

from harness.checks.dropout import CALLS, FALSE_ALARMS, NOTHING, RATE, share_kept
from harness.checks.result import Result
from harness.diagnosis.reproduce.literals import Literals
from harness.diagnosis.reproduce.program import Program, Unwritten, User, written
from harness.diagnosis.reproduce.torch_call import built, shown

_SCRIPT: Final = Template("""\
rnn = $built
rnn.train()
state = {name: torch.zeros_like(tensor) for name, tensor in rnn.state_dict().items()}
for name, tensor in state.items():
    if name.startswith("weight_ih"):  # every layer passes on what it reads
        first = $units if name.endswith("_reverse") and "_l0" not in name else 0
        tensor[:, first : first + $units] = torch.eye($units)
rnn.load_state_dict(state)
x = torch.ones($shape$options)

kept = total = 0
for _ in range($calls):
    with torch.no_grad():
        output, _ = rnn(x)
    kept, total = kept + int((output > 0).sum()), total + output.numel()
expected = $expected
print(f"dropout keeps {kept:,} of {total:,} elements, expected {expected:.4g} of them")

# By Chernoff's bound, a right layer fails at most once in $alarms runs.
pairs = [(kept / total, expected), (1 - kept / total, 1 - expected)]
surprise = total * sum(p * math.log(p / q) if q else math.inf for p, q in pairs if p)
failed = surprise > math.log(2 * $alarms)
print("FAILED" if failed else "FIXED")
sys.exit(failed)""")


def law_script(subject: str, result: Result, user: User) -> str:
    """Return the text of a script that shows how a class breaks the law of dropout. Raise ``Unwritten`` if none can."""
    config = result.net
    if config is None or config.lengths is not None or config.loss is not None:
        raise Unwritten("a script shows no dropout of packed sequences, and none backwards")
    if not user.is_class or not any(rule in result.message for rule in (RATE, NOTHING)):
        raise Unwritten("a script counts what a module keeps, and this is about something else")
    program = Program(Literals("torch", config.device), user, imports={"import math"})
    options = "" if config.dtype == "float32" else f", dtype=torch.{config.dtype}"
    options += "" if config.device == "cpu" else f', device="{config.device}"'
    end = _SCRIPT.substitute(
        built=built(user.recipe, config),
        units=config.hidden_size,
        shape=config.inputs["x"].shape,
        options=options,
        calls=CALLS,
        expected=share_kept(config),
        alarms=f"{1 / FALSE_ALARMS:.0e}",
    )
    return written(f"{shown(subject)} breaks the law of dropout.", program, end.split("\n"))
