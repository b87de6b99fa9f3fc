"""A test of independence: the oracle and the space know no name of what they judge."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

ROOM = Path(harness.__file__).parent
MODULES = sorted(file for room in ("oracle", "space") for file in (ROOM / room).glob("*.py"))


def strings(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, but for those that only explain."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: f"{module.parent.name}.{module.stem}")
def test_no_string_of_theirs_names_torch(module: Path) -> None:
    assert [text for text in strings(ast.parse(module.read_text())) if "torch" in text.lower()] == []
