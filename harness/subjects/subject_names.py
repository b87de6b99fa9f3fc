"""subject_names: how the subjects of each cell are called: ``torch:compile``, and ``torch:gru:compile``."""


def of_cell(spec: str, cell: str) -> str:
    """Return the name of a cell's subject, of that for nn.RNN: ``torch:gru:compile`` of ``torch:compile``."""
    maker, *way = spec.split(":")
    return ":".join([maker, *[cell.lower()] * (cell != "RNN"), *way])


def cell_of(spec: str) -> str:
    """Return the cell of a subject that has a name, by that name."""
    return next((part.upper() for part in spec.split(":")[1:2] if part in ("gru", "lstm")), "RNN")
