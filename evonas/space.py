"""What a candidate is: choices with named options, architectures, and populations of them.

An *architecture* is a tuple of option indices, one for each choice. A *population* is an integer array of shape
(n, number of choices); whatever runs over many architectures runs over the array at once.

Narrowing a space (shrinking, progressive growth) keeps its coordinates: option indices, names and array columns stay what
they were, and only fewer options are allowed. Inherited weights, histories and predictors therefore stay valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError, unknown
from evonas.graph import Graph

Architecture: TypeAlias = tuple[int, ...]
"""An option of every choice, by its index."""
Population: TypeAlias = npt.NDArray[np.int64]
"""Architectures as rows: shape (n, choices)."""

LARGEST_ENUMERATION = 1 << 22
IDLE = ("identity", "skip", "skip_connect", "none", "0")  # names of options that do nothing


@dataclass(frozen=True)
class Choice:
    """One decision with named options, for example `Choice("stage1.block0.op", ("mb3_k3", "mb6_k3", "skip"))`."""

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.options, tuple) or not all(isinstance(option, str) for option in self.options):
            raise UsageError(f"Choice {self.name!r} got the options {self.options!r}; expected texts, such as ('8', '16').")
        if not self.options or len(set(self.options)) != len(self.options):
            raise UsageError(f"Choice {self.name!r} needs at least one option and no option twice, got {self.options}.")


@dataclass(frozen=True)
class SearchSpace:
    """An ordered tuple of choices with stable coordinates.

    Args:
        choices: the decisions, in the order of the columns of a population.
        allowed: for each choice the option indices that may be taken, ascending; all of them unless told otherwise.
        canonicalise: maps a population to the one representative of each class of equal architectures. A space
            where choices can be inactive, or where different tuples mean the same network, gives one.
        graph: how the choices are wired, where they are the edges of a cell.
        alike: groups of columns between which equal architectures exchange their options; what shrinks the space keeps the same options
            in all columns of a group.
        listed: where only some architectures exist, those: shape (n, choices); see `only`.
    """

    choices: tuple[Choice, ...]
    allowed: tuple[tuple[int, ...], ...] = ()
    canonicalise: Callable[[Population], Population] | None = field(default=None, compare=False)
    graph: Graph | None = None
    alike: tuple[tuple[int, ...], ...] = ()
    listed: Population | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if not names or len(set(names)) != len(names):
            raise UsageError(f"A search space needs at least one choice and no name twice, got {names}.")
        if not self.allowed:
            object.__setattr__(self, "allowed", tuple(tuple(range(len(c.options))) for c in self.choices))
        for choice, indices in zip(self.choices, self.allowed, strict=True):
            if not indices or list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < len(choice.options):
                raise UsageError(f"Choice {choice.name!r} must keep at least one of its {len(choice.options)} options, got {indices}.")
        if self.listed is not None:
            kept = self.listed[self._allowed(self.listed)]
            if not len(kept):
                raise UsageError("No architecture of the list takes allowed options only; expected at least one.")
            object.__setattr__(self, "listed", kept)
            object.__setattr__(self, "_keys", frozenset(map(tuple, kept.tolist())))
        for group in self.alike:
            if len({self.choices[column].options for column in group}) > 1:
                raise UsageError(f"The choices {', '.join(names[column] for column in group)} are alike; expected the same options in all.")
        if self.graph is not None and len(self.graph.edges) != len(self.choices):
            raise UsageError(f"The graph has {len(self.graph.edges)} edges for {len(self.choices)} choices; expected one for each.")

    def __repr__(self) -> str:
        told = ", ".join(f"{choice.name} ({len(choice.options)} options)" for choice in self.choices[:2])
        return f"SearchSpace({len(self)} choices, {self.count():.4g} architectures: {told}{', ...' if len(self) > 2 else ''})"

    def __len__(self) -> int:
        """The number of choices."""
        return len(self.choices)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every choice, in order."""
        return tuple(choice.name for choice in self.choices)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of options of every choice, allowed or not: shape (number of choices,)."""
        return np.array([len(choice.options) for choice in self.choices], dtype=np.int64)

    @property
    def allowed_counts(self) -> npt.NDArray[np.int64]:
        """Number of allowed options of every choice: shape (number of choices,)."""
        return np.array([len(indices) for indices in self.allowed], dtype=np.int64)

    @property
    def allowed_mask(self) -> npt.NDArray[np.bool_]:
        """Shape (number of choices, largest number of options): True where the option may be taken."""
        mask = np.zeros((len(self), int(self.sizes.max())), dtype=bool)
        for row, indices in zip(mask, self.allowed, strict=True):
            row[list(indices)] = True
        return mask

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Every column once, together with those that it is alike."""
        group_of = {column: group for group in self.alike for column in group}
        return list(dict.fromkeys(group_of.get(column, (column,)) for column in range(len(self))))

    def count(self) -> int:
        """Number of allowed option tuples (an exact integer, also for 1e19 of them), or of architectures that are listed."""
        if self.listed is not None:
            return len(self.listed)
        return math.prod(len(indices) for indices in self.allowed)

    def from_ranks(self, ranks: Population) -> Population:
        """Option indices from positions among the allowed options; both of shape (n, number of choices)."""
        table = np.zeros((len(self), int(self.allowed_counts.max())), dtype=np.int64)
        for row, indices in zip(table, self.allowed, strict=True):
            row[: len(indices)] = indices
        return table[np.arange(len(self)), ranks]

    def sample(self, n: int, rng: np.random.Generator) -> Population:
        """`n` architectures, every allowed option (or row of the list) equally likely, independent, with repetition: shape (n, choices)."""
        if self.listed is not None:
            return self.listed[rng.integers(len(self.listed), size=n)]
        return self.canonical(self.from_ranks(rng.integers(0, self.allowed_counts, size=(n, len(self)))))

    def enumerate(self) -> Population:
        """Every architecture of the space once, in lexicographic order.

        Raises:
            UsageError: the space has more than about four million option tuples.
        """
        if self.count() > LARGEST_ENUMERATION:
            raise UsageError(f"A space of {self.count():.3g} architectures is too large to list; sample or narrow it.")
        if self.listed is not None:
            return self.listed.copy()
        count = following = self.count()
        rows = np.empty((count, len(self)), dtype=np.int64)
        for column, indices in enumerate(self.allowed):
            following //= len(indices)
            rows[:, column] = np.array(indices)[np.arange(count) // following % len(indices)]
        return rows if self.canonicalise is None else np.unique(self.canonical(rows), axis=0)

    def canonical(self, population: Population) -> Population:
        """The representative of each row: what is hashed, compared for novelty and written to studies."""
        return population if self.canonicalise is None else self.canonicalise(population)

    def keys(self, population: Population) -> list[Architecture]:
        """The rows as hashable tuples, canonical."""
        return list(map(tuple, self.canonical(population).tolist()))

    def contains(self, population: Population) -> npt.NDArray[np.bool_]:
        """Mask of the rows that take only allowed options, and are in the list where there is one: shape (n,)."""
        population = np.asarray(population)
        inside = self._allowed(population)
        if self.listed is not None:
            keys: frozenset[Architecture] = self._keys  # type: ignore[attr-defined]
            inside &= np.fromiter((key in keys for key in map(tuple, population.tolist())), bool, len(population))
        return inside

    def _allowed(self, population: Population) -> npt.NDArray[np.bool_]:
        inside = (population >= 0) & (population < self.sizes)
        columns = np.arange(len(self))
        taken: npt.NDArray[np.bool_] = self.allowed_mask[columns, np.where(inside, population, 0)]
        return np.asarray((inside & taken).all(axis=1))

    def neighbours(self, architecture: Architecture) -> Population:
        """Every other architecture of the space that differs in one choice: shape (m, choices), in order of the choices."""
        rows = [
            (*architecture[:position], option, *architecture[position + 1 :])
            for position, indices in enumerate(self.allowed)
            for option in indices
            if option != architecture[position]
        ]
        own = self.keys(np.array([architecture]))[0]
        unique = dict.fromkeys(key for key in self.keys(np.array(rows, dtype=np.int64).reshape(-1, len(self))) if key != own)
        return np.array(list(unique), dtype=np.int64).reshape(-1, len(self))

    def narrow(self, options: Mapping[str, Iterable[str]]) -> SearchSpace:
        """The same coordinates with only the named options allowed; choices that are not named stay as they are."""
        position = {name: i for i, name in enumerate(self.names)}
        allowed = list(self.allowed)
        for name, kept in options.items():
            if name not in position:
                raise unknown("choice", name, self.names)
            choice, before = self.choices[position[name]], self.allowed[position[name]]
            kept_indices = {self._option_index(choice, option) for option in kept}
            allowed[position[name]] = tuple(index for index in before if index in kept_indices)
        return replace(self, allowed=tuple(allowed))

    def only(self, architectures: Population) -> SearchSpace:
        """The space of a list of architectures: what was trained and is in a table, or what somebody allows.

        Explorers propose what is in the list, each once; those that vary what they know (evolution) mostly meet what is not there and draw
        at random then, so that on a short list one that looks at all of it (`BayesianExplorer`) is the better choice.

        Args:
            architectures: shape (n, choices); repeated ones count once.

        Raises:
            UsageError: one of them is not in this space, or there is none.
        """
        rows = np.unique(self.canonical(self.population(list(architectures))), axis=0)
        kept = {choice.name: [choice.options[i] for i in np.unique(rows[:, c])] for c, choice in enumerate(self.choices)}
        return replace(self.narrow(kept), listed=rows) if len(rows) else replace(self, listed=rows)

    def to_names(self, architecture: Architecture | npt.NDArray[np.int64]) -> dict[str, str]:
        """`{"stage1.block0.op": "mb3_k5", ...}`: the form in which architectures are stored and shown."""
        return {choice.name: choice.options[int(index)] for choice, index in zip(self.choices, architecture, strict=True)}

    def from_names(self, names: Mapping[str, str]) -> Architecture:
        """The option indices of an architecture given by names.

        Raises:
            UsageError: a choice is missing or unknown, or an option does not belong to its choice.
        """
        if missing := [name for name in self.names if name not in names]:
            raise UsageError(f"The architecture lacks the choice {missing[0]!r}; expected all of: {', '.join(self.names)}.")
        if len(names) > len(self) and (extra := [name for name in names if name not in self.names]):
            raise unknown("choice", extra[0], self.names)
        return tuple(self._option_index(choice, names[choice.name]) for choice in self.choices)

    def population(self, architectures: Sequence[Architecture | npt.NDArray[np.int64]]) -> Population:
        """The population array of a list of architectures, checked against the space.

        Raises:
            UsageError: a row has the wrong length or takes an option that is not allowed.
        """
        if wrong := [a for a in architectures if len(a) != len(self)]:
            raise UsageError(f"Architecture {tuple(wrong[0])} has {len(wrong[0])} entries; this space has {len(self)} choices.")
        population = np.array([tuple(a) for a in architectures], dtype=np.int64).reshape(-1, len(self))
        if not (inside := self.contains(population)).all():
            row = population[~inside][0]
            if self._allowed(row[None])[0]:
                raise UsageError(f"Architecture {tuple(row.tolist())} is none of the {self.count():,} that this space lists.")
            column = next(i for i, (value, indices) in enumerate(zip(row, self.allowed, strict=True)) if value not in indices)
            raise UsageError(
                f"Architecture {tuple(row.tolist())} takes option {row[column]} of {self.names[column]!r}; allowed: {self.allowed[column]}."
            )
        return population

    @staticmethod
    def _option_index(choice: Choice, option: str) -> int:
        if option not in choice.options:
            raise unknown(f"option of {choice.name!r}", option, choice.options)
        return choice.options.index(option)
