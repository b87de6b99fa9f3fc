"""The shape of the code: its longest files and functions, and habits that make it hard to read.

- files, functions: how many there are, the median of their lines, and the longest;
- questions: docstrings that begin with What, Whether, How, Which, Of or Where;
- optional members: ``getattr`` and ``hasattr`` of a subject;
- identity tests: ``is`` or ``is not`` beside a class of torch;
- names: of classes that are defined more than once.

Run: ``python benchmarks/shape.py [FOLDER]``, by default on ``harness``.
"""

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

QUESTIONS = ("What ", "Whether ", "How ", "Which ", "Of ", "Where ")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a module, and the strings that stand after its constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value.strip()


def optional(call: ast.AST) -> bool:
    """Tell whether a call asks a subject for a member that it may lack."""
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"getattr", "hasattr"}):
        return False
    named = isinstance(call.args[1], ast.Constant)
    return named and "subject" in ast.unparse(call.args[0])


def identity(test: ast.AST) -> bool:
    """Tell whether a comparison asks for one class of torch."""
    compared = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot)
    return compared and "torch.nn" in ast.unparse(test)


def measure(folder: Path) -> None:
    """Print the figures of all Python files in a folder."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
    lines = {str(path): len(path.read_text().splitlines()) for path in trees}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    functions = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, node in nodes
        if isinstance(node, FUNCTIONS)
    }
    for name, sizes in (("files", lines), ("functions", functions)):
        longest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        print(f"{name:18}{len(sizes)}, median {statistics.median(sizes.values()):.0f} lines; longest: ", end="")
        print(", ".join(f"{where} {size}" for where, size in longest))
    said = [text for tree in trees.values() for text in docstrings(tree)]
    print(f"{'questions':18}{sum(text.startswith(QUESTIONS) for text in said)} of {len(said)}")
    print(f"{'optional members':18}{sum(optional(node) for _, node in nodes)}")
    print(f"{'identity tests':18}{sum(identity(node) for _, node in nodes)}")
    classes = Counter(node.name for _, node in nodes if isinstance(node, ast.ClassDef))
    again = [name for name, count in classes.items() if count > 1]
    print(f"{'names':18}{len(again)} of {len(classes)} classes: {', '.join(again)}")


if __name__ == "__main__":
    measure(Path(sys.argv[1] if len(sys.argv) > 1 else "harness"))
