import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.oracle import pinned_numpy
from harness.space.errors import UsageError

TAMPERING = """
import sys, warnings
import numpy as np

own = np.tanh
np.tanh = np.sin
try:
    import harness.oracle.pinned_numpy
except ValueError as error:
    print(error)
np.tanh = own

from harness import Scope, Verdict, hunt

def rnn(x, h0, weights):
    np.tanh = np.sin
    h, output = h0[0], []
    for frame in x:
        h = np.tanh(frame @ weights["weight_ih_l0"].T + h @ weights["weight_hh_l0"].T).astype(x.dtype)
        output.append(h)
    return np.stack(output), h[None]

one = dict(num_layers=1, bidirectional=False, batch_first=False, nonlinearity="tanh", bias=False, dtype="float64")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    print(hunt(rnn, Scope().only(**one), cases=20).verdict is Verdict.DISAGREES)
print(*{str(one.message) for one in told}, sep="\\n")
"""


def test_a_subject_that_replaces_tanh_does_not_fool_the_reference() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAMPERING], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )

    before, disagrees, after = done.stdout.splitlines()
    assert before == (
        "numpy.tanh(0.5)=0.479425538604203: expected 0.46211715726000974; something replaced it before harness was "
        "imported, so import harness first"
    )
    assert disagrees == "True"
    assert after == "numpy.tanh: replaced after harness was imported; the reference goes on with NumPy's own"


@pytest.mark.parametrize("name", [name for name, *_ in pinned_numpy._KNOWN])
def test_another_function_in_the_place_of_one_that_is_relied_on_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, name, lambda *_: 7.0)

    with pytest.raises(UsageError, match=rf"numpy\.{name}\(.*\)=7.0: expected "):
        pinned_numpy.require_known_values()
    with pytest.warns(UserWarning, match=rf"numpy\.{name}: replaced after"):
        pinned_numpy.warn_if_replaced()
