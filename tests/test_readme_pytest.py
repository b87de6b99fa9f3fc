"""The documents' blocks for pytest do what they say: of a right function, of one that refuses, of a wrong one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/pytest.md")
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    if "def test_" in block
]

FUNCTIONS = {
    "right": "from tests.implementations import vectorised as rnn",
    "refuses": """
from tests.implementations import vectorised

def rnn(x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity == "relu":
        raise NotImplementedError("one tanh layer, one direction")
    if config.batch_first and config.dtype != "float64":
        raise NotImplementedError("batch first in float64 only")
    return vectorised(x, h0, weights, config)
""",
    "wrong": "from tests.implementations import without_b_hh as rnn",
}


@pytest.mark.parametrize("block", BLOCKS, ids=["property", "strata"])  # of which there must be two
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_block(name: str, block: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(my_rnn=f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FUNCTIONS[name]}")
    for given, less in (
        ("range(2)", "range(1)"),
        ("cases=200", "cases=40"),
        ("(deadline=", "(max_examples=20, deadline="),
    ):
        block = block.replace(given, less)  # which takes a tenth of the time
    pytester.makepyfile(block)

    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0")

    outcomes = result.parseoutcomes()
    if name == "wrong":
        assert outcomes["failed"] > 0
        first = next(line for line in result.outlines if line.startswith("E "))
        assert "ignores bias_hh: b_hh is never added" in first
    else:
        assert outcomes.keys() == {"passed"}, result.outlines
