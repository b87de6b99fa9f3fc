"""Scope: a part of the space, given as the values that each factor of a config may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, make_dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

from harness.space.cells import cell_of_data, data_of
from harness.space.config import PLAINEST, RNNConfig, cost_of, fitted_projection
from harness.space.constraints import Constraint, FactorRule, above, among, below, excluded, on, settled
from harness.space.errors import UsageError, require_type
from harness.space.factor_table import (
    APART,
    CONSTRAINTS,
    FACTORS,
    OF_APART,
    PACKINGS,
    PREPARATION_PAIRS,
    SIZE_FACTORS,
    SIZES,
    ConfigError,
    require_value,
)
from harness.space.values import DISTRIBUTIONS

HIGHEST_COST: Final = 2**20
"""The highest cost (``RNNConfig.cost``) of a drawn config; above it, all sizes but the largest are made smaller. It
corresponds to 8 to 11 ms of torch and comparison with gradients, without probes.
"""

MOST_LAYERS: Final = 1_000
"""The most layers that are asked for. In a table, to lay out the rows of a layer takes some 3 ms; in a search, to ask
torch what it supports and for three cases takes 36 s with so many.
"""

# A size up to this stays as it is if the others cost too much; at most one other size may then be larger.
SMALL_SIZE: Final = 3

SCOPE_FLAGS: Final = ("masks", "products")  # The fields of a scope that are true or false, and that a subject decides
FIXED_BESIDE: Final = frozenset(
    {*SCOPE_FLAGS, "distributions", "rules"}
)  # The fields of a scope that are not factors of a config
_MASKED: Final = Constraint({"dropout": on, "training": on})  # The constraint on a scope without masks

_PLURALS: Final = {"dtypes": "dtype", "devices": "device", "losses": "loss"}


if TYPE_CHECKING:

    class _Values:
        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, factor: str) -> tuple[Any, ...]: ...
else:
    _Values = make_dataclass(
        "_Values", [(name, "tuple[Any, ...]", row.usual) for name, row in FACTORS.items()], frozen=True
    )


@dataclass(frozen=True)
class Scope(_Values):
    """The values that each field of an ``RNNConfig`` may take, plainest first; repeated values are drawn more often.

    It has a field for each factor, whose values are by default the usual ones of the table (``factor_table``). Features
    that only some subjects have (16-bit dtypes, gradients) are not in a scope unless they are asked for, or offered by
    the subject.

    Some fields are not fields of a config. ``lengths`` are kinds of packing (``PACKINGS``), from which ``configure``
    makes one length per sequence. ``masks`` says that dropout in training is in the scope; this is possible only for a
    subject whose masks can be read, because they are random and have to be replayed in the reference. ``products`` says
    that products of sizes around 2**16 are asked for, too (``space.size_product_edges``). ``distributions`` are those
    of the values. ``rules`` say which values are asked for only beside some values of another factor.
    """

    masks: bool = False
    products: bool = True
    distributions: tuple[str, ...] = tuple(DISTRIBUTIONS)
    rules: tuple[FactorRule, ...] = ()

    @classmethod
    def around(cls, config: RNNConfig) -> Scope:
        """Return a scope with any sizes and everything else as in ``config``."""
        require_type("config", config, RNNConfig, "RNNConfig(3, 4, T=5, N=2) is one")
        pins = {name: (value,) for name, value in factors_of(config).items() if name not in SIZE_FACTORS}
        return cls(masks=config.drops).only(**pins)

    def only(self, **pins: Any) -> Scope:
        """Return this scope with some factors pinned, to one value or to several given as a collection.

        Plurals are allowed: ``dtypes``, ``devices``, ``losses``. Raises ``ConfigError`` for a value that no config can
        have, and ``UsageError`` for an unknown factor or an empty collection.
        """
        named = singular(pins)
        fields = [field.name for field in dataclasses.fields(self) if field.name != "rules"]  # which ``ruled`` adds
        if unknown := sorted(set(named) - set(fields)):
            names = [name for name in fields if name not in SCOPE_FLAGS]
            close = [match for name in unknown for match in get_close_matches(name, names, n=1, cutoff=0.8)]
            forms = f"did you mean {', '.join(close)}?" if close else f"expected some of {', '.join(names)}"
            raise UsageError(f"unknown factor {', '.join(unknown)}: {forms}")
        pinned: dict[str, Any] = {
            name: _values(name, value) for name, value in named.items() if name not in FIXED_BESIDE
        }
        if "distributions" in named:
            pinned["distributions"] = _distributions(named["distributions"])
        for name in SCOPE_FLAGS:
            if not isinstance(named.get(name, False), bool):
                raise UsageError(f"{name}={named[name]!r}: expected True or False")
            pinned |= {name: named[name]} if name in named else {}
        scope = dataclasses.replace(self, **pinned)
        if not scope.modes:
            raise UsageError(
                f"dropout={scope.dropout} with training={scope.training}: dropout draws random masks in training, and "
                "those of this subject are unknown; pin dropout=0 or training=False"
            )
        return _without_excluded(scope)

    def ruled(self, rules: Iterable[FactorRule]) -> Scope:
        """Return this scope with ``rules`` added to those that it has."""
        return dataclasses.replace(self, rules=(*self.rules, *rules))

    def abiding(self, config: RNNConfig, number: int) -> RNNConfig:
        """Return the config changed until it breaks no rule.

        For even and odd ``number`` in turn, a rule changes the factor it stands beside, or the ruled-out value itself.
        """
        for rule in self.rules:
            factors = factors_of(config)
            if rule.excludes(factors):
                plain = [value for value in getattr(self, rule.factor) if not self._ruled(rule.factor, value)]
                way_out = {rule.factor: plain[0]} if number % 2 and plain else {rule.beside: rule.opening[0]}
                config = self.config(factors | way_out, number)
        return config

    def config(self, factors: Mapping[str, Any], seed: int = 0) -> RNNConfig:
        """Build the config from values for factors as ``configure`` does, but let no pinned factor give way."""
        named = self.fitting(settled({**_DEFAULTS, **factors}, self.ways_out))
        config = configure(named, seed)
        return config if config.packing in self.lengths else exactly(named, seed)

    def fitting(self, factors: dict[str, Any]) -> dict[str, Any]:
        """Return the factors with a projection that h can have, or with more units if the scope has none."""
        P, H = factors["proj_size"], factors["hidden_size"]
        smaller = [size for size in self.proj_size if size < H]
        if P < H or smaller:
            return factors | {"proj_size": P if P < H else max(smaller)}
        return factors | {"hidden_size": min((size for size in self.hidden_size if size > P), default=H)}

    def _ruled(self, factor: str, value: Any) -> bool:
        return any((rule.factor, rule.value) == (factor, value) for rule in self.rules)

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints on the factors of this scope: those of every config, and its own."""
        own = [] if self.masks else [_MASKED]
        if 0 in self.dropout:  # one layer has no place between layers to drop, and nn.RNN warns
            own.append(Constraint({"dropout": on, "num_layers": below(2)}, ("dropout", 0.0)))
        if "meta" in self.device:  # whose operations are slow, and each only computes a shape
            own.append(Constraint({"device": among("meta"), "T": above(smallest(self)["T"])}))
        return (*CONSTRAINTS, *own)

    def beside(self, name: str, value: Any) -> dict[str, tuple[Any, ...]]:
        """Return the factors whose values exclude a value of another factor, with these values."""
        values, exclusions = self.values(), dict[str, tuple[Any, ...]]()
        if name == "proj_size" and value >= (largest := max(self.hidden_size)):
            exclusions["hidden_size"] = (largest,)
        for constraint in (*self.constraints, *OF_APART):
            if constraint.forbids(name, value, values):
                exclusions |= {factor: values[factor] for factor in constraint.excluded if factor != name}
        return exclusions

    @cached_property
    def ways_out(self) -> tuple[Constraint, ...]:
        """The constraints of draws, each with a way out to a value of this scope, if there is one."""
        return tuple(map(self._open, (*self.constraints, *(() if None in self.after else OF_APART))))

    def _open(self, constraint: Constraint) -> Constraint:
        """Return the constraint with another way out if its own leaves the scope."""
        if constraint.way_out is None or constraint.way_out[1] in getattr(self, constraint.way_out[0]):
            return constraint
        ways_out = (
            (name, value)
            for name in dict.fromkeys([constraint.way_out[0], *constraint.excluded])
            for value in getattr(self, name)
            if not constraint.excluded[name](value)
        )
        return constraint._replace(way_out=next(ways_out, constraint.way_out))

    def is_free(self, name: str) -> bool:
        """Return whether a factor is a size that is not pinned, so that it may have any value."""
        return name in SIZE_FACTORS and set(SIZES) <= set(getattr(self, name))

    def allows(self, name: str, value: Any) -> bool:
        """Return whether a factor may have a value."""
        return value in getattr(self, name) or self.is_free(name)

    @property
    def modes(self) -> tuple[tuple[float, bool], ...]:
        """The pairs (dropout, training) that can be compared."""
        pairs = ((p, training) for p in self.dropout for training in self.training)
        return tuple(
            (p, training)
            for p, training in pairs
            if self.masks or not _MASKED.excludes({"dropout": p, "training": training})
        )

    def values(self) -> dict[str, tuple[Any, ...]]:
        """Return every factor and its values, each value once."""
        names = (field.name for field in dataclasses.fields(self) if field.name not in FIXED_BESIDE)
        return {name: tuple(dict.fromkeys(getattr(self, name))) for name in names}

    def present(self) -> dict[str, tuple[Any, ...]]:
        """Return the same without ``proj_size`` where it is 0 alone, as it is for every layer but an LSTM."""
        return {name: values for name, values in self.values().items() if (name, values) != ("proj_size", (0,))}

    def joined(self, other: Scope) -> Scope:
        """Return the smallest scope that contains both."""
        mine, theirs = self.values(), other.values()
        both = {
            name: getattr(self, name) + tuple(value for value in theirs[name] if value not in mine[name])
            for name in mine
        }
        distributions = tuple(name for name in DISTRIBUTIONS if name in {*self.distributions, *other.distributions})
        rules = tuple(rule for rule in self.rules if rule in other.rules)
        switches = {name: getattr(self, name) or getattr(other, name) for name in SCOPE_FLAGS}
        return dataclasses.replace(self, **switches, distributions=distributions, rules=rules, **both)

    def record(self) -> dict[str, Any]:
        """Return all of the scope as plain data."""
        return dataclasses.asdict(self) | {"cell": [data_of(cell) for cell in self.cell]}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Scope:
        """Return the scope that ``record`` wrote. Raise ``UsageError`` or ``ConfigError`` for anything else."""
        require_type("record", record, Mapping, "Scope().record() is one")
        pins = {name: value for name, value in record.items() if name != "rules"}
        pins |= {"cell": [cell_of_data(cell) for cell in pins["cell"]]} if "cell" in pins else {}
        listed = record.get("rules", ())
        rules = (FactorRule(factor, value, beside, tuple(opening)) for factor, value, beside, opening in listed)
        return cls().only(**pins).ruled(rules)


def singular(pins: Mapping[str, Any]) -> dict[str, Any]:
    """Return pins with the names of factors in the singular."""
    return {_PLURALS.get(name, name): value for name, value in pins.items()}


def factors_of(config: RNNConfig) -> dict[str, Any]:
    """Return a config's value of each factor of a scope."""
    return config.fields | {"lengths": config.packing}


def configure(factors: Mapping[str, Any], seed: int = 0) -> RNNConfig:
    """Build the config from values for factors; a factor without one is at its plainest.

    Of factors that exclude each other, one gives way (``CONSTRAINTS``), and proj_size is fitted to hidden_size.
    ``seed`` decides the lengths of a packed batch.
    """
    named = settled({**_DEFAULTS, **factors}, CONSTRAINTS)
    named["proj_size"] = fitted_projection(named["proj_size"], named["hidden_size"])
    if (named["after"], named["preparation"]) not in PREPARATION_PAIRS:
        named["after"] = None
    if (packing := named["lengths"]) is not None:
        named["lengths"] = lengths_of(packing, named["T"], named["N"], seed)
    return RNNConfig(**named)


def exactly(factors: Mapping[str, Any], seed: int = 0) -> RNNConfig:
    """Build the config as ``configure`` does, with lengths of exactly the kind that is asked for.

    Drawn lengths may be equal or in order by chance, so that other seeds are tried.
    """
    kind = settled({**_DEFAULTS, **factors}, CONSTRAINTS)["lengths"]
    return next(config for turn in count(seed) if (config := configure(factors, turn)).packing == kind)


_DEFAULTS: Final = factors_of(PLAINEST)


def factors_to_draw(scope: Scope) -> dict[str, tuple[Any, ...]]:
    """Return the values to draw from for each factor; ``mode`` stands for dropout and training, which go in pairs."""
    aside = {"dropout", "training", *APART}
    return {name: getattr(scope, name) for name in scope.present() if name not in aside} | {"mode": scope.modes}


def assembled(scope: Scope, drawn: Mapping[str, Any], seed: int) -> RNNConfig:
    """Build the config from a value for each of ``factors_to_draw``, cut to the allowed cost; ``seed`` as above."""
    factors = {name: getattr(scope, name)[0] for name in APART} | dict(drawn)
    factors["dropout"], factors["training"] = factors.pop("mode")
    return scope.config(affordable(factors, scope=scope), seed)


def whole_or(scope: Scope | None) -> Scope:
    """Return a scope, or the whole space if there is none. Raise ``UsageError`` for anything else."""
    if scope is None:
        return Scope()
    require_type("scope", scope, Scope, "Scope() is all of the space, and Scope().only(T=1) a part of it")
    return scope


def _without_excluded(scope: Scope) -> Scope:
    """Return a scope without the values beside which a pinned factor would have to give way.

    If autocast is pinned, for example, only float32 is left of the dtypes. Sizes stay, because a draw only has to make
    them larger.
    """
    before = None
    while scope is not before:
        before = scope
        for name in scope.values():
            values, rules = scope.values(), (*scope.constraints, *OF_APART)
            gone = {
                value for value in values[name] if name not in SIZE_FACTORS and excluded(name, value, values, rules)
            }
            if gone and gone < set(values[name]):  # if none were left, the pins exclude each other (``lost_pin``)
                remaining: dict[str, Any] = {name: tuple(value for value in getattr(scope, name) if value not in gone)}
                scope = dataclasses.replace(scope, **remaining)
    return scope


def lost_pin(scope: Scope, pins: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the first factor and pinned value that no config of the scope has, because other factors exclude it.

    ``scope`` has these pins.
    """
    values = scope.values()
    made = factors_of(scope.config({name: choices[0] for name, choices in values.items()}))
    for name, value in singular(pins).items():
        if name not in FIXED_BESIDE:
            gone = [choice for choice in _values(name, value) if choice not in values[name]]
            if gone or made[name] not in values[name]:
                return name, [*gone, values[name][0]][0]
    return None


def lengths_of(packing: str, T: int, N: int, seed: int) -> tuple[int, ...]:
    """Draw lengths of N sequences, the longest being T; ties and length 1 are frequent unless they are ``equal``."""
    if packing == "equal":
        return (T,) * N
    random = Random(seed)
    lengths = [random.choice([1, T, random.randint(1, T), random.randint(1, T)]) for _ in range(N)]
    lengths[random.randrange(N)] = T
    return tuple(sorted(lengths, reverse=True) if packing == "falling" else lengths)


@lru_cache(16)
def smallest(scope: Scope) -> dict[str, int]:
    """Return the size up to which each factor counts as small."""
    return {name: max(SMALL_SIZE, min(getattr(scope, name))) for name in SIZE_FACTORS}


def affordable(factors: Mapping[str, Any], cost: int = HIGHEST_COST, scope: Scope | None = None) -> dict[str, Any]:
    """Return the factors with all sizes but the largest made small, until the config costs no more than ``cost``.

    No size leaves the scope: if the scope has no size that small, its smallest is taken.
    """
    named, scope = dict(factors), scope or Scope()

    def small(name: str) -> int:
        drawn: int = named[name]
        return min((size for size in getattr(scope, name) if size >= min(drawn, 1 + drawn % 4)), default=drawn)

    if named.get("device") == "meta":
        named |= {"T": small("T")}
    sizes = sorted(SIZE_FACTORS, key=lambda name: named[name])
    for name in sizes[:-1]:
        if cost_of(named) <= cost:
            break
        named[name] = small(name)
    return named


def _distributions(value: Any) -> tuple[str, ...]:
    distributions = tuple(value) if _is_several(value) else (value,)
    if not distributions or (
        unknown := [name for name in distributions if not isinstance(name, str) or name not in DISTRIBUTIONS]
    ):
        raise UsageError(
            f"distributions={unknown if distributions else value!r}: expected some of {', '.join(DISTRIBUTIONS)}"
        )
    return distributions


def _is_several(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "shape", None) != ()


def _values(name: str, value: Any) -> tuple[Any, ...]:
    values = tuple(value) if _is_several(value) else (value,)
    if not values:
        raise UsageError(f"{name}={value!r}: expected at least one value")
    for choice in values:
        if name != "lengths":
            require_value(name, choice)
        elif choice not in PACKINGS:
            raise ConfigError(f"lengths={choice!r}: expected one of {', '.join(map(repr, PACKINGS))}")
    return values


# The values that torch's layer is asked for, of the factors of which a scope usually has fewer.
TORCH_VALUES: Final = {name: row.torch for name, row in FACTORS.items() if row.torch != row.usual}

TORCH_SCOPE: Final = Scope().only(**TORCH_VALUES, masks=True)
"""Everything that can be asked of a layer on a CPU, without a readout, which is no part of nn.RNN. Of it, a subject's
share is told."""
