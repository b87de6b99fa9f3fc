"""The parameters of a class of modules, told by their shapes, and those of higher layers by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations, permutations
from typing import Final, NamedTuple

from harness.space.cells import CELL_DEFINITIONS, CELL_OF, CELLS
from harness.space.config import RNNConfig, role_of
from harness.subjects.class_form import BOTH, LAYERS, Block, ClassForm, ModuleSizes
from harness.subjects.conventions import Conventions
from harness.subjects.protocol import SubjectUnavailable

_NUMBER: Final = re.compile(r"\d+")

Shapes = Mapping[str, tuple[int, ...]]
Gates = dict[str, str]  # Gates by the names of the parameters that hold their rows


TELLING_SIZES: Final = (ModuleSizes(5, 3, 7), ModuleSizes(48, 32, 16))
"""The sizes at which parameters are told by their shapes, and those for a layer that takes only multiples of 8. No
two of them are equal, and neither are a size and a sum of two."""


# The words in names that mean a gate, by the gate of each cell with gates. Papers and textbooks have several for one.
_CANDIDATE: Final = ("n", "new", "g", "c", "cell", "cand", "candidate", "tilde", "a", "memory", "mem", "node")
ROLE_WORDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "GRU": {"r": ("r", "reset"), "z": ("z", "u", "update"), "n": (*_CANDIDATE, "h", "hidden", "hat", "state")},
    "LSTM": {
        "i": ("i", "in", "input", "u", "update", "add"),
        "f": ("f", "forget"),
        "g": (*_CANDIDATE, "u", "z", "j", "modulation", "hat"),
        "o": ("o", "out", "output"),
    },
}

# The shapes that biases may have, with H in the place of -1; the last is that of both in one.
VECTORS: Final = ((-1,), (1, -1), (-1, 1), (2, -1))

_BIAS: Final = re.compile("(?i)^b|bias")  # in the names of biases

# The words in names that mean the direction from the last step to the first.
BACKWARD: Final = {"b", "bw", "bwd", "back", "backward", "rev", "reverse", "reversed", "rl", "r2l", "right"}

# Words, and what stands between them; the last letter of a short one, such as Wf or Whb, is a word of its own.
_PART: Final = re.compile(r"\b[A-Za-z]{1,2}(?=[a-z]\b)|[A-Za-z0-9]+|[^A-Za-z0-9]+")

_CANDIDATES: Final = {"RNN": "h", "GRU": "n", "LSTM": "g"}

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class Roles(NamedTuple):
    """The roles of the parameters of one layer, told by their shapes and, of gates, by their names."""

    names: dict[str, tuple[Block, ...]]  # the layer's own parameters by those of torch's, without the layer
    conventions: Conventions
    joined: bool  # one matrix is both weights side by side
    rest: tuple[str, ...]  # the parameters that are none of torch's layer
    zeros: tuple[str, ...] = ()  # biases that cannot hold all of torch's
    gate_order_assumed: bool = False  # no name tells the order of the gates' rows
    bias_shape: tuple[int, ...] = (-1,)  # its biases are (H,), or (1, H), or (H, 1)


def unread(shapes: Shapes, sizes: ModuleSizes, name: str, reason: str = "") -> SubjectUnavailable:
    """Return the error that names the parameters of a module that are not one layer's."""
    text = ", ".join(f"{own} {shape}" for own, shape in shapes.items()) or "none"
    made = f"input_size={sizes.input_size}, hidden_size={sizes.hidden_size}"
    return SubjectUnavailable(
        f"{name}: {reason or 'its parameters are not those of one recurrent layer'}\nits parameters with {made}: {text}"
    )


def roles_of(shapes: Shapes, sizes: ModuleSizes, name: str, cell: str = "") -> Roles:
    """Return the roles of one layer's parameters, by default of any cell's.

    Raise ``SubjectUnavailable`` if they are not one layer's.
    """
    matrices = _Matrices.of(shapes, sizes)
    fits = [choice for choice in ([cell] if cell else CELLS) if matrices.are(len(CELL_DEFINITIONS[choice].gates))]
    if not fits:
        raise unread(shapes, sizes, name, matrices.reason)
    return _Reading(fits[0], matrices).roles(shapes, sizes, name)


class LayerParameters(NamedTuple):
    """The parameters of a layer, and of those above it."""

    roles: Roles  # of the first
    reverse: dict[str, tuple[Block, ...]]  # those of the other direction by name, if there always is one
    number: int  # of layers, if there always are so many


def layers_of(shapes: Shapes, sizes: ModuleSizes, name: str, cell: str = "") -> LayerParameters:
    """Return the roles of a layer's parameters. Raise ``SubjectUnavailable`` if they are not those of layers."""
    try:
        return LayerParameters(*_directions_of(shapes, sizes, name, cell), 1)
    except SubjectUnavailable:
        for first, number in _first_layers(shapes):
            with suppress(SubjectUnavailable):
                return LayerParameters(*_directions_of(first, sizes, name, cell), number)
        raise


def _first_layers(shapes: Shapes) -> Iterator[tuple[Shapes, int]]:
    """Yield what is left without the parameters of higher layers, each with one more parameter of some number."""
    numbers = {own: [*map(int, _NUMBER.findall(own))] for own in shapes}
    for place in range(max(map(len, numbers.values()), default=0)):
        of_layer = {own: counts[place] for own, counts in numbers.items() if len(counts) > place}
        first, *higher = sorted({*of_layer.values()})
        if higher == [*range(first + 1, first + 1 + len(higher))] != []:
            yield {own: shape for own, shape in shapes.items() if of_layer.get(own, first) == first}, 1 + len(higher)


def _directions_of(
    shapes: Shapes, sizes: ModuleSizes, name: str, cell: str
) -> tuple[Roles, dict[str, tuple[Block, ...]]]:
    try:
        return roles_of(shapes, sizes, name, cell), {}
    except SubjectUnavailable:
        for there, back in _halves(shapes):
            with suppress(SubjectUnavailable):
                aside = [own for own in shapes if own not in there and own not in back]
                rest = {own: shapes[own] for own in aside}
                roles = roles_of({**{own: shapes[own] for own in there}, **rest}, sizes, name, cell)
                twins = dict(zip(there, back, strict=True))
                if all(block.own in twins for blocks in roles.names.values() for block in blocks):
                    return roles, {
                        f"{role}_reverse": tuple(block._replace(own=twins[block.own]) for block in blocks)
                        for role, blocks in roles.names.items()
                    }
        raise


def _halves(shapes: Shapes) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names of two groups of parameters that differ in one word, with equal shapes, the forward one first.

    One of them may have no word there.
    """
    words = {own: _PART.findall(own) for own in shapes}
    every = list(dict.fromkeys(word for parts in words.values() for word in parts if word[0].isalnum()))
    for word in every:
        back = [own for own, parts in words.items() if word in parts]
        pairs = {
            own: re.sub(rf"^{word}[^A-Za-z0-9]+|[^A-Za-z0-9]+{word}(?![A-Za-z0-9])", "", own, count=1) for own in back
        }
        there = [own for own in shapes if own not in back]
        if back and {*pairs.values()} <= {*there} and all(shapes[own] == shapes[pairs[own]] for own in back):
            forward = [pairs[own] for own in back]
            yield (forward, back) if word.lower() in BACKWARD else (back, forward)
    for first, second in combinations(every, 2):
        changed = (
            (own, "".join([*parts[:i], second, *parts[i + 1 :]]))
            for own, parts in words.items()
            for i, word in enumerate(parts)
            if word == first
        )
        pairs = {own: twin for own, twin in changed if twin in shapes}
        names = {own for own, parts in words.items() if second in parts and own not in pairs}
        if pairs and {*pairs.values()} == names and all(shapes[own] == shapes[twin] for own, twin in pairs.items()):
            groups = list(pairs), list(pairs.values())
            turned = first.lower() in BACKWARD and second.lower() not in BACKWARD
            yield groups[::-1] if turned else groups


@dataclass(frozen=True)
class _Matrices:
    """The parameters of a layer by their shapes, with the number of blocks of H rows in each."""

    both: dict[str, int]
    ih: dict[str, int]
    hh: dict[str, int]
    biases: dict[str, int]
    transposed: bool
    bias_shape: tuple[int, ...]
    mixed: bool  # what is missing stands the other way round

    @classmethod
    def of(cls, shapes: Shapes, sizes: ModuleSizes) -> _Matrices:
        I, H, *_ = sizes  # noqa: E741 - as in the equations
        most = max(len(form.gates) for form in CELLS.values())

        def having(columns: int, *, turned: bool) -> dict[str, int]:
            rows = {(n * H, columns)[:: -1 if turned else 1]: n for n in range(1, most + 1)}
            return {own: rows[shape] for own, shape in shapes.items() if shape in rows}

        def matrices(*, turned: bool) -> list[dict[str, int]]:
            return [having(columns, turned=turned) for columns in (I + H, I, H)]

        plain, turned = matrices(turned=False), matrices(turned=True)
        # Beside plain ones, a matrix (I, H) is that of an output layer as wide as x.
        transposed = not (plain[0] or plain[1])
        forms = {form: {tuple(n * H if k < 0 else k for k in form): n for n in range(1, most + 1)} for form in VECTORS}
        named = [shape for own, shape in shapes.items() if _BIAS.search(own.rpartition(".")[2])]
        choices = {form: named if form == VECTORS[-1] else shapes.values() for form in VECTORS}  # (2, H) may be states
        bias_shape = next((form for form in VECTORS if not forms[form].keys().isdisjoint(choices[form])), (-1,))
        vectors = {shape: n * (2 if bias_shape == VECTORS[-1] else 1) for shape, n in forms[bias_shape].items()}
        # A vector that is called a weight is a factor, such as that of a LayerNorm.
        biases = {
            n: vectors[shape] for n, shape in shapes.items() if shape in vectors and n.rpartition(".")[2] != "weight"
        }
        both, ih, hh = turned if transposed else plain
        mixed = not (both or hh) and bool(turned[2])
        return cls(both, ih, hh, biases, transposed, bias_shape, mixed)

    def are(self, gates: int) -> bool:
        """Tell whether they are all matrices of a layer with so many gates."""
        return self._blocks == (gates, gates) and not self._doubled

    @property
    def reason(self) -> str:
        """The reason why they are no layer's."""
        if self.mixed:
            return "one of its weight matrices has its rows where the others have their columns; expected all one way"
        if not all(self._blocks):
            return ""
        ih, hh = self._blocks
        if ih == hh and (cell := CELL_OF.get(ih)):
            several = self._doubled
            return f"has as many rows as an nn.{cell}" + f", but {several} have several gates each" * bool(several)
        own = ", ".join(f"{gates} in an nn.{cell}" for gates, cell in CELL_OF.items())
        return (
            f"its matrices for x have {ih} times hidden_size rows, and those for the state {hh} times; expected {own}, "
            "of both"
        )

    @property
    def _blocks(self) -> tuple[int, int]:
        both = sum(self.both.values())
        return both + sum(self.ih.values()), both + sum(self.hh.values())

    @property
    def _doubled(self) -> str:
        """The matrices of several gates each, if there are two in a group: which gates are theirs is unknown."""
        for group in (self.both | self.ih, self.both | self.hh):
            several = [own for own, blocks in group.items() if blocks > 1]
            if len(several) > 1:
                return " and ".join(several)
        return ""


class _AmbiguousNamesError(Exception):
    """Raised where names do not tell which parameter is of which gate."""


class _Reading:
    """The reading of the matrices of one layer as those of a cell."""

    def __init__(self, cell: str, matrices: _Matrices) -> None:
        self._cell, self._all, self._matrices = cell, CELL_DEFINITIONS[cell].gates, matrices
        self._taken = False

    def roles(self, shapes: Shapes, sizes: ModuleSizes, name: str) -> Roles:
        """Return the roles. Raise ``SubjectUnavailable`` for vectors that are not its biases."""
        matrices = self._matrices
        try:
            ih = self._gates_of(matrices.both | matrices.ih)
            hh = self._gates_of(matrices.both | matrices.hh, {own: ih[own] for own in matrices.both})
            both = dict.fromkeys(matrices.biases, self._all)
            in_one = matrices.bias_shape == VECTORS[-1] and [*matrices.biases.values()] == [2 * len(self._all)]
            biases = (both, both) if in_one else self._biases(ih, hh)
        except _AmbiguousNamesError as error:
            raise unread(shapes, sizes, name, str(error)) from None
        # Two in n alone, beside one in r and in z, cannot hold all of torch's, as one in each gate cannot.
        n_has_two = CELL_DEFINITIONS[self._cell].reset and [*matrices.biases.values()] == [1] * (len(self._all) + 1)
        if biases is None and not n_has_two:
            own = ", ".join(matrices.biases)
            raise unread(shapes, sizes, name, f"{own} are not one or two biases for each gate")
        of_biases = {} if biases is None else self._names_of(*biases)
        names = {"weight_ih": ih, "weight_hh": hh} | of_biases
        used = {*matrices.both, *matrices.ih, *matrices.hh, *matrices.biases}
        return Roles(
            {role: self._blocks(gates) for role, gates in names.items()},
            Conventions(one_bias=len(of_biases) == 1, transposed=matrices.transposed, cell=self._cell),
            bool(matrices.both),
            tuple(own for own in shapes if own not in used),
            () if of_biases else tuple(matrices.biases),
            self._taken,
            matrices.bias_shape,
        )

    def _blocks(self, gates: Gates) -> tuple[Block, ...]:
        blocks = [Block(own, letters) for own, letters in gates.items()]
        return tuple(sorted(blocks, key=lambda block: self._all.index(block.gates[0])))

    def _gates_of(self, blocks: Mapping[str, int], known: Gates | None = None) -> Gates:
        """Return the gates of each parameter of a group, of which some may be known: by their names, or in order."""
        known = known or {}
        free = [gate for gate in self._all if gate not in "".join(known.values())]
        singles = [own for own, several in blocks.items() if several == 1 and own not in known]
        wide = [own for own, several in blocks.items() if several > 1 and own not in known]
        # Under torch's own names, the rows are in torch's order, too.
        self._taken |= any("weight_ih" not in own and "weight_hh" not in own for own in wide)
        chosen = _by_words(singles, free, self._cell)
        if chosen is None:
            if wide and len(singles) > 1:
                raise _AmbiguousNamesError(
                    f"no name tells which gates {', '.join(singles)} are, beside {', '.join(wide)}"
                )
            self._taken |= len(singles) > 1
            # What stands alone beside one matrix of all others is the candidate, as the others are alike.
            order = [_CANDIDATES.get(self._cell, self._all[-1])] if wide else free
            chosen = dict(zip(singles, order, strict=False))
        rest = "".join(gate for gate in free if gate not in chosen.values())
        return {**known, **chosen, **dict.fromkeys(wide, rest)}

    def _some_twice(self, ih: Gates) -> tuple[Gates, Gates] | None:
        """Return the biases of single gates, of which some have two, by the matrix that ends as a bias does."""
        groups: tuple[Gates, Gates] = ({}, {})
        for own in self._matrices.biases:
            matrix = max(ih, key=lambda name: _common([name[::-1], own[::-1]]))
            gate = ih[matrix] if _common([matrix[::-1], own[::-1]]) else self._gate_in(own)
            group = next((group for group in groups if gate not in group.values()), None)
            if len(gate) != 1 or group is None:
                return None
            group[own] = gate
        return groups

    def _gate_in(self, name: str) -> str:
        """Return the gate that a word in a name means; nothing if there is none, or several."""
        words = {word.lower() for word in _WORD.findall(name)}
        gates = [gate for gate, own in ROLE_WORDS.get(self._cell, {}).items() if words & {*own}]
        return gates[0] if len(gates) == 1 else ""

    def _names_of(self, first: Gates, second: Gates) -> dict[str, Gates]:
        """Return the biases by torch's, given those beside W_ih and beside W_hh; none if they cannot hold all of these.

        Where a gate has one bias, it is the sum of torch's two. In a GRU's n they are no summands of one sum.
        """
        alone = {*"".join(first.values())} ^ {*"".join(second.values())}
        if {*"".join((*first.values(), *second.values()))} != {*self._all} or any(
            gate in alone for gate in CELL_DEFINITIONS[self._cell].reset
        ):
            return {}
        if not first or not second:
            return {"bias_ih": first or second}
        singles = {own: gates for own, gates in (first | second).items() if alone & {*gates}}
        if alone != {*"".join(singles.values())}:
            return {}
        return {"bias_ih": first | singles, "bias_hh": second | singles}

    def _biases(self, ih: Gates, hh: Gates) -> tuple[Gates, Gates] | None:
        """Return the biases beside W_ih and beside W_hh, the former if there is one; ``None`` if they are not that."""
        vectors, every = self._matrices.biases, len(self._all)
        owners: dict[str, list[str]] = {}
        for own in ih | hh:
            owners.setdefault(own.rpartition(".")[0], []).append(own)
        beside = {own: owners.get(own.rpartition(".")[0], []) for own in vectors}
        if all("." in own and len(beside[own]) == 1 for own in vectors):  # those of Linear
            matrices = {own: matrix for own, [matrix] in beside.items()}
            if any(len((ih | hh)[matrix]) != vectors[own] for own, matrix in matrices.items()):
                return None
            first = {own: ih[matrix] for own, matrix in matrices.items() if matrix in ih}
            return first, {own: hh[matrix] for own, matrix in matrices.items() if own not in first}
        if sum(vectors.values()) == every:
            return self._gates_of(vectors) if len(vectors) > 1 else dict.fromkeys(vectors, self._all), {}
        if every < sum(vectors.values()) < 2 * every and {*vectors.values()} == {1}:
            return self._some_twice(ih)
        if sum(vectors.values()) != 2 * every:
            return None
        pairs = [(own, group, matrix) for own in vectors for group, names in enumerate((ih, hh)) for matrix in names]
        groups: tuple[Gates, Gates] = ({}, {})
        for own, group, matrix in sorted(pairs, key=lambda pair: -_likeness(pair[0], pair[2])):
            gates = (ih, hh)[group][matrix]
            free = not {*gates} & {*"".join(groups[group].values())} and own not in groups[0] | groups[1]
            if free and len(gates) == vectors[own]:
                groups[group][own] = gates
        return groups if len(groups[0] | groups[1]) == len(vectors) else None


def _by_words(names: Sequence[str], gates: Sequence[str], cell: str) -> Gates | None:
    """Return the gate of each name, by the words in it that not all names have; ``None`` if these do not tell."""
    words_of = ROLE_WORDS.get(cell, {gate: (gate,) for gate in gates})
    if cell == "RNN" or not names:
        return None
    words = [{word.lower() for word in _WORD.findall(name)} for name in names]
    common = set.intersection(*words) if len(names) > 1 else set()
    words = [terms - common | {own} for terms, own in zip(words, _own_parts(names), strict=True)]

    def hits(order: Sequence[str]) -> int:
        counts = [len(terms & {*words_of[gate]}) for terms, gate in zip(words, order, strict=True)]
        return sum(counts) if counts.count(0) <= (len(counts) > 2) else 0  # one name alone needs no word

    orders = sorted(permutations(gates, len(names)), key=hits, reverse=True)
    if not hits(orders[0]) or (len(orders) > 1 and hits(orders[1]) == hits(orders[0])):
        return None
    return dict(zip(names, orders[0], strict=True))


def _own_parts(names: Sequence[str]) -> list[str]:
    """Return each name without the letters that all begin and end with: ``r`` of ``xr``, beside ``xz`` and ``xn``."""
    if len(names) == 1:
        return [names[0].lower()]
    start = _common(names)
    ends = [name[start:] for name in names]
    end = _common([name[::-1] for name in ends])
    return [name[: len(name) - end].lower() for name in ends]


def _common(names: Sequence[str]) -> int:
    return next((i for i, letters in enumerate(zip(*names, strict=False)) if len({*letters}) > 1), min(map(len, names)))


def _likeness(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()


def numbered(names: Mapping[str, tuple[Block, ...]]) -> Iterator[tuple[dict[str, tuple[Block, ...]], int, str]]:
    """Yield the names as they are, and with braces in place of a number, its first value, and what it counts.

    The names of both directions may have the same braces, if the numbers are one apart.
    """
    yield dict(names), 0, LAYERS
    digits = {block.own: [*_NUMBER.finditer(block.own)] for blocks in names.values() for block in blocks}
    for place in range(min(map(len, digits.values()))):
        numbers = {own: matches[place] for own, matches in digits.items()}
        braced = {
            role: tuple(
                block._replace(own=f"{block.own[: (hit := numbers[block.own]).start()]}{{}}{block.own[hit.end() :]}")
                for block in blocks
            )
            for role, blocks in names.items()
        }
        first = int(numbers[names["weight_ih"][0].own].group())
        yield braced, first, BOTH
        yield braced, first, LAYERS


def told_of(form: ClassForm, sizes: ModuleSizes, built: Mapping[tuple[int, int], Shapes]) -> set[tuple[int, int]]:
    """Return the numbers of layers and directions whose parameters a form names, each once and with its shape."""
    stacks = set()
    for (layers, directions), shapes in built.items():
        config = RNNConfig(
            sizes.input_size,
            sizes.hidden_size,
            num_layers=layers,
            bidirectional=directions == 2,
            bias="bias_ih" in form.names,
            cell=form.conventions.cell,
        )
        with suppress(KeyError):
            specs = {name: spec.shape for name, spec in config.weights.items() if role_of(name) in form.names}
            if form.shapes(specs, directions) == shapes:
                stacks.add((layers, directions))
    return stacks
