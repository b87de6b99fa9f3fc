"""Cells that users write: what their equations are read as, what is refused, and that other processes know them."""

import pickle
from collections.abc import Iterator
from textwrap import indent
from typing import Any

import pytest

from harness import Cell, RNNConfig, Scope
from harness.diagnosis.identify.gate_inquiry import STATE_LEVELS
from harness.space.cells import CELL_DEFINITIONS, MOST_GATES, Gate, local_cells
from harness.space.errors import UsageError

f = "f = sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)\n"
n = "n = tanh(W_in @ x + b_in + W_hn @ (f * h) + b_hn)\n"
h = "h = (1 - f) * h + f * n"


def test_equations_are_read_in_any_order_of_terms() -> None:
    text = "z = sigmoid(W_iz @ x + b_iz + W_hz @ h + b_hz)\nc = c - z\nh = tanh(c) * z"
    first, second = Cell("Orders", text), Cell("Orders", f"\n{indent(text, '    ')}\n")
    turned = Cell(
        "Turned",
        "a = tanh(b_ha + (b_ia + W_ia @ x) + W_ha @ h)\n"
        "b = sigmoid((W_hb @ (h * a) + b_hb) * a + W_ib @ x + b_ib)\n"
        "h = -(b * (a - h)) + 2 * b * a",
    )

    assert first == second
    assert first.hidden == ("hx", "cx")
    assert first.final == ("h_n", "c_n")
    assert {*first.h} == {(("t", "z"), 1.0)}
    assert turned.lines == (Gate("a", "tanh"), Gate("b", "sigmoid", "a * h", "a"))
    assert {*turned.h} == {(("a", "b"), 1.0), (("b", "h"), 1.0)}
    assert (turned.gates, turned.reset, turned.hidden) == ("ab", "b", ("hx",))


@pytest.mark.parametrize(
    ("equations", "said"),
    [
        ("f = (", "expected lines of Python"),
        ("", "expected a line for each gate"),
        (f, "then one for h"),
        ("h = h", "expected a line for each gate"),
        (f + "print(f)", "expected a line such as"),
        (f + n + h + "\n" + f, "h last"),
        (f + f + h, "each name once"),
        (f + n.replace("n", "nn") + h, "gates, of one small letter"),
        (f.replace("sigmoid", "relu") + h, "expected sigmoid or tanh"),
        (f.replace(" + b_hf", "") + h, "expected sigmoid(W_if @ x + b_if + W_hf @ h + b_hf)"),
        (f.replace("b_hf", "b_if") + h, "b_if: expected it once"),
        (f.replace("W_hf @ h", "W_hf @ x") + h, "W_hf @ x: expected W_if @ x, and W_hf @ h"),
        (f.replace("b_hf", "b_hn") + h, "b_hn: expected W_if, b_if, W_hf, b_hf"),
        (n + f + h, "f * h: expected x, h, or a gate times h, whose line is above"),
        (f + n + "h = f * f * n", "each with a gate or state once"),
        (f + n + "h = f / n", "f / n: expected gates and states with lines above, numbers"),
        # Nothing is called, read of an object, or looked up.
        (f + n + "h = __import__('os').system('false') * n", "expected gates and states"),
        (f + n + "h = n.T * f", "n.T: expected gates and states"),
        (f + n + "h = n[0] * f", "n[0]: expected gates and states"),
        (f.replace("b_hf", "exec('1')") + h, "exec('1'): expected W_if, b_if, W_hf, b_hf"),
        (f.replace("W_hf @ h", "W_hf @ h.__class__") + h, "h.__class__: expected x, h"),
        (f.replace("sigmoid", "np.tanh") + h, "expected sigmoid or tanh"),
        (f + n + "h = c * n", "c: expected gates and states with lines above"),
        (f + n + "h = h - h", "expected a sum of products"),
        (f + n + "h = 1e999 * n", "expected gates and states"),
        (f + n + f"h = 1{'0' * 400} * n", "expected gates and states"),
        ("".join(f.replace("f", letter) for letter in "abdef") + "h = a", "at most 4 gates"),
        ("x" * 10_000, "expected lines such as"),
        (f + n + "h = " + "+".join(["n"] * 1900), "expected a plainer expression"),
        (f + n + "h = " + "*".join(["(n + h + f)"] * 300), "each with a gate or state once"),
        (None, "equations=None"),
    ],
)
def test_what_are_no_equations_is_refused_in_one_line(equations: Any, said: str) -> None:
    with pytest.raises(UsageError, match=r"^equations") as refused:
        Cell("Refused", equations)

    assert said in str(refused.value)
    assert "Refused" not in CELL_DEFINITIONS


def test_causes_are_sought_for_as_many_gates_as_a_cell_may_have() -> None:
    assert len(STATE_LEVELS) == MOST_GATES


@pytest.mark.parametrize("name", ["gru", "LSTM", "rnn", "a b", "", None])
def test_a_name_that_is_taken_or_none_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="name="):
        Cell(name, f + n + h)


def test_equations_that_compute_the_same_are_of_one_cell() -> None:
    assert Cell("Same", f + n + h) == Cell("Same", f"{f}{n}h = h - f * h + f * n  # the same")
    assert pickle.loads(pickle.dumps(Cell("Same", f + n + h))).equations  # noqa: S301 - our own
    with pytest.raises(UsageError, match=r"cell=\['GRU'\]"):
        RNNConfig(1, 1, cell=["GRU"])  # type: ignore[arg-type]


def test_another_process_learns_a_cell_from_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RNNConfig(2, 3, cell=Cell("Sent", f + n + h).name)
    scope = Scope().only(cell="Sent", nonlinearity="tanh")
    pickled, fields, record = pickle.dumps(config), config.to_dict(), scope.record()

    reads: list[Any] = [lambda: RNNConfig.from_dict(fields), lambda: Scope.of_record(record)]
    reads += [lambda: pickle.loads(pickled)]  # noqa: S301 - our own
    for read in reads:
        monkeypatch.delitem(CELL_DEFINITIONS, "Sent")
        assert read() in (config, scope)

    monkeypatch.delitem(CELL_DEFINITIONS, "Sent")
    with pytest.raises(UsageError, match="cell='Sent': expected RNN, GRU, LSTM"):
        RNNConfig(2, 3, cell="Sent")


@pytest.fixture
def known() -> Iterator[dict[str, Any]]:
    """Return all cells, among which no other becomes known for longer than a test."""
    with local_cells():
        yield CELL_DEFINITIONS


def test_the_file_of_a_cell_may_change_it_and_no_other_file_may(known: dict[str, Any]) -> None:
    first, other = f + n + h, f + n + "h = f * h + (1 - f) * n"
    Cell("Edited", first)
    Cell("edited", other)

    assert "Edited" not in known
    with pytest.raises(UsageError, match="is the name of another cell, in "):
        Cell("Edited", first, "elsewhere.py")


def test_what_is_read_yields_to_what_the_file_says_now(known: dict[str, Any]) -> None:
    first, other = f + n + h, f + n + "h = f * h + (1 - f) * n"
    old, new = ({"name": "Kept", "equations": text} for text in (first, other))
    fields = {"input_size": 1, "hidden_size": 1}

    for cell in (old, new, old):  # of several findings
        assert RNNConfig.from_dict(fields | {"cell": cell}).form.equations == cell["equations"]
    Cell("Kept", other)
    assert RNNConfig.from_dict(fields | {"cell": old}).form.equations == other


def test_a_config_of_a_cell_of_one_s_own_is_written_as_what_makes_it() -> None:
    config = RNNConfig(2, 3, T=4, cell=Cell("Written", f + n + h).name)

    assert repr(config) == "RNNConfig(2, 3, T=4, N=1, cell='Written')"
    assert config.weights["weight_ih_l0"].shape == (6, 2)
    assert RNNConfig(2, 3, cell=Cell("Single", "n = tanh(W_in @ x + b_in + W_hn @ h + b_hn)\nh = n").name).gated
