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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_blocks(name: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(my_rnn=f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FUNCTIONS[name]}")
    files = {}
    for kind, block in zip(("property", "strata"), BLOCKS, strict=True):
        for given, less in (
            ("range(2)", "range(1)"),
            ("cases=200", "cases=40"),
            ("(deadline=", "(max_examples=20, deadline="),
        ):
            block = block.replace(given, less)  # which takes a tenth of the time
        files[f"test_{kind}"] = block
    pytester.makepyfile(**files)

    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0")

    if name == "wrong":
        failed = [line.split()[1] for line in result.outlines if line.startswith("FAILED ")]
        assert {line.partition(".py")[0] for line in failed} == set(files)
        named = [line for line in result.outlines if line.startswith("E ") and "ignores bias_hh: b_hh is never" in line]
        assert len(named) == len(failed)
    else:
        assert result.parseoutcomes().keys() == {"passed"}, result.outlines
