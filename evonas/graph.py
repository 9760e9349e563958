"""How the choices of a cell are wired: which nodes every choice connects, and what travels along the paths.

A space may declare its graph; explorers and predictors then know that two cells with the same operations on their paths
are alike, however the tuples differ (White et al., "A Study on Encodings for Neural Architecture Search", 2020, arXiv
2007.04965, call this the path encoding).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError

MOST_SEQUENCES = 1 << 14


@dataclass(frozen=True)
class Graph:
    """An acyclic graph whose edges are the choices of a space.

    Args:
        edges: (source node, target node) of every choice, in the order of the choices; the node that no edge enters is
            the input, the one that no edge leaves the output.
        absent: names of options that cut the edge.
        identity: names of options that pass their input on unchanged.
    """

    edges: tuple[tuple[int, int], ...]
    absent: tuple[str, ...] = ("none",)
    identity: tuple[str, ...] = ("skip_connect",)

    def __post_init__(self) -> None:
        if not self.edges or any(source >= target for source, target in self.edges):
            raise UsageError(f"A graph needs edges (source, target) with source < target, got {self.edges}.")

    def paths(self) -> list[tuple[int, ...]]:
        """The positions of the choices on every way from the input to the output."""
        sources, targets = (set(ends) for ends in zip(*self.edges, strict=True))
        ways: list[tuple[int, tuple[int, ...]]] = [(node, ()) for node in sorted(sources - targets)]
        found: list[tuple[int, ...]] = []
        while ways:
            node, taken = ways.pop()
            if node not in sources:
                found.append(taken)
            ways += [(target, (*taken, i)) for i, (source, target) in enumerate(self.edges) if source == node]
        return sorted(found, key=lambda path: (len(path), path))

    def connects(self, options: Iterable[tuple[str, ...]], population: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Mask of the rows in which some path from the input to the output is not cut: shape (n,).

        Args:
            options: the option names of every choice.
            population: shape (n, choices).
        """
        cut = np.stack([np.isin(names, self.absent)[column] for names, column in zip(options, population.T, strict=True)], axis=1)
        return np.asarray(np.any([~cut[:, list(path)].any(axis=1) for path in self.paths()], axis=0))

    def path_counts(self, options: Iterable[tuple[str, ...]], population: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """How often each sequence of operations lies on a path, identities left out: shape (n, possible sequences).

        Args:
            options: the option names of every choice.
            population: shape (n, choices).

        Raises:
            UsageError: the graph has more possible sequences than anyone can count.
        """
        options = list(options)
        operations = sorted({name for names in options for name in names} - set(self.absent) - set(self.identity))
        paths, base = self.paths(), len(operations) + 1
        longest = max(map(len, paths))
        if base**longest > 16 * MOST_SEQUENCES:
            raise UsageError(f"A graph with paths of {longest} edges and {base - 1} operations has too many paths to count; leave it out.")
        digit = {name: i + 1 for i, name in enumerate(operations)} | dict.fromkeys(self.identity, 0) | dict.fromkeys(self.absent, -1)
        digits = np.stack([np.array([digit[name] for name in names])[column] for names, column in zip(options, population.T, strict=True)])
        sequences = [s for length in range(longest + 1) for s in itertools.product(range(1, base), repeat=length)]
        column_of = np.full(base**longest, -1)
        for column, sequence in enumerate(sequences):
            column_of[sum(d * base**i for i, d in enumerate(reversed(sequence)))] = column
        counts = np.zeros((len(population), len(sequences)))
        rows = np.arange(len(population))
        for path in paths:
            code, whole = np.zeros(len(population), dtype=np.int64), np.ones(len(population), dtype=bool)
            for edge in path:
                code = np.where(digits[edge] > 0, code * base + digits[edge], code)
                whole &= digits[edge] >= 0
            counts[rows[whole], column_of[code[whole]]] += 1
        return counts
