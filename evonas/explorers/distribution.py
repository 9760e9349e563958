"""Candidates from a distribution over architectures that something else has learned: selective sampling.

Dong and Yang, "One-Shot Neural Architecture Search via Self-Evaluated Template Network", 2019, arXiv 1910.05733: an evaluator gives every
option of every choice a probability, and only candidates drawn from the product are scored. The paper draws; the released code
takes the most probable ones.

Departures: no architecture comes twice; where the space says how its choices are wired, none comes in which everything from the input to
the output is cut (the supernet was not trained for those either); where the distribution has no more that are feasible and new, random
ones follow.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evonas.budget import Budget
from evonas.errors import UsageError, unknown
from evonas.explorers.base import Explorer
from evonas.sampling import Collector
from evonas.space import Architecture, Population, SearchSpace
from evonas.study import History

MODES = ("sample", "most-probable")
MOST_DRAWN, CHUNK = 1 << 16, 1 << 10


class Draw(Protocol):
    """Draws networks."""

    def __call__(self, networks: int, rng: np.random.Generator, /) -> Population:
        """Shape (networks, choices)."""


class DistributionExplorer(Explorer):
    """Proposes what a product of categorical distributions holds likely; it learns nothing from scores.

    Use it after something that learns such a distribution beside the weights (`supernet.training.self_evaluated`); without one it is a
    random search.

    Args:
        space: what is explored.
        budget: bounds that every proposal keeps.
        distribution: for every choice the probabilities of its options, shape (options,); uniform unless told otherwise. What is not
            allowed is not proposed, whatever its probability.
        draw: (networks, generator) -> architectures of shape (networks, choices), where what was learned is no product over choices; in
            place of a distribution, and drawn from alone.
        mode: "sample", or "most-probable" for the most probable ones in order.
        seed: seeds every generation together with its number.
        generation_size: see `Explorer`.
        first: see `Explorer`.

    Raises:
        UsageError: an unknown mode, a distribution that is none of this space, or both a distribution and something to draw from.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget | None = None,
        *,
        distribution: Sequence[npt.ArrayLike] | None = None,
        draw: Draw | None = None,
        mode: str = "sample",
        seed: int = 0,
        generation_size: int = 50,
        first: Sequence[Architecture] | Population = (),
    ) -> None:
        super().__init__(space, budget, seed=seed, generation_size=generation_size, first=first)
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
        if draw is not None and (distribution is not None or mode != "sample"):
            raise UsageError("Got a distribution, or the mode most-probable, beside something to draw from; expected one of them.")
        self.mode, self._draw = mode, draw
        self._probabilities = _allowed(space, distribution)

    def propose(self, history: History, start: int, size: int) -> Population:
        """See `Explorer.propose`."""
        rng = self.rng(start)
        collector = Collector(self.space, self.budget, history.before(start).keys)
        chunks = self._drawn(rng) if self.mode == "sample" else self._ordered()
        for chunk in itertools.islice(chunks, MOST_DRAWN // CHUNK):
            if len(collector) >= size:
                break
            collector.take(chunk[self._connected(chunk)], size - len(collector))
        collector.draw(size - len(collector), rng)
        return collector.population()

    def _connected(self, population: Population) -> npt.NDArray[np.bool_]:
        if self.space.graph is None:
            return np.ones(len(population), dtype=bool)
        return self.space.graph.connects([choice.options for choice in self.space.choices], population)

    def _fingerprint(self) -> str:
        drawn = None if self._draw is None else self._draw(CHUNK, np.random.default_rng(0)).tolist()
        learned = repr((super()._fingerprint(), self.mode, drawn or [p.round(6).tolist() for p in self._probabilities]))
        return hashlib.sha256(learned.encode()).hexdigest()[:16]

    def _drawn(self, rng: np.random.Generator) -> Iterator[Population]:
        while self._draw is not None:
            yield self._draw(CHUNK, rng)
        while True:
            columns = [rng.choice(len(p), size=CHUNK, p=p) for p in self._probabilities]
            yield np.stack(columns, axis=1).astype(np.int64)

    def _ordered(self) -> Iterator[Population]:
        """All architectures of positive probability, the most probable first.

        A heap of option ranks: the successors of a row lower one choice at or after its last lowered one by a rank, so that
        every row comes once and none before a more probable one.
        """
        orders = [np.argsort(-p, kind="stable")[: np.count_nonzero(p)] for p in self._probabilities]
        logs = [np.log(p[order]) for p, order in zip(self._probabilities, orders, strict=True)]
        heap = [(-float(sum(log[0] for log in logs)), (0,) * len(logs), 0)]
        while heap:
            rows: list[list[int]] = []
            while heap and len(rows) < CHUNK:
                cost, ranks, since = heapq.heappop(heap)
                rows.append([int(order[rank]) for order, rank in zip(orders, ranks, strict=True)])
                for i in range(since, len(ranks)):
                    if ranks[i] + 1 < len(orders[i]):
                        lowered = (*ranks[:i], ranks[i] + 1, *ranks[i + 1 :])
                        heapq.heappush(heap, (cost + float(logs[i][ranks[i]] - logs[i][ranks[i] + 1]), lowered, i))
            yield np.array(rows, dtype=np.int64)


def _allowed(space: SearchSpace, distribution: Sequence[npt.ArrayLike] | None) -> list[npt.NDArray[np.float64]]:
    """Probabilities with 0 for what is not allowed."""
    if distribution is not None and len(distribution) != len(space):
        raise UsageError(f"Got probabilities for {len(distribution)} choices; this space has {len(space)}.")
    found = []
    for i, (choice, indices) in enumerate(zip(space.choices, space.allowed, strict=True)):
        kept = np.zeros(len(choice.options))
        given = np.ones(len(choice.options)) if distribution is None else np.asarray(distribution[i], dtype=np.float64)
        if given.shape != kept.shape or not np.isfinite(given).all() or (given < 0).any():
            raise UsageError(f"Got {given.tolist()} for the {len(kept)} options of {choice.name!r}; expected a probability for each.")
        kept[list(indices)] = given[list(indices)]
        if not kept.any():
            raise UsageError(f"Every allowed option of {choice.name!r} has probability 0; expected one that can be taken.")
        found.append(kept / kept.sum())
    return found
