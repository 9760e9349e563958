"""Agents: one for each choice, which learn from the loss that all of them together brought.

Carlucci et al., "MANAS: Multi-Agent Neural Architecture Search", 2019, arXiv 1909.01051. An agent draws an option from a policy of its
own; what all of them drew is an architecture, and its loss is all that any of them is told. What an option is worth (the credit) is
either the loss divided by the chance of the draw, summed up (MANAS, which is EXP3: Auer et al., 2002, SIAM J. Comput. 32(1)), or a linear
model of all choices fitted to the last architectures (MANAS-LS).

Departures: the policy of MANAS falls with the credit, which is a loss (printed the other way round, it converges to the worst options);
both learn from what a loss is above a running mean, in deviations from it: without it EXP3 needs many times the rounds, and
a linear model takes losses that fall while a supernet learns for a merit of the options that were drawn late (docs/evidence/manas.md); no
option's chance falls below `floor`; the linear model is a small ridge, since the columns of an agent add up to one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.errors import UsageError
from evonas.space import Architecture, Population, SearchSpace

Floats = npt.NDArray[np.float64]


class Agents(ABC):
    """What agents of both kinds have in common: policies to draw from, and a running mean that losses are measured by.

    Args:
        space: a choice an agent; options that are not allowed have chance 0.
        rounds: about how many architectures they will be told of.
        momentum: of the running mean of losses.
    """

    def __init__(self, space: SearchSpace, *, rounds: int = 1000, momentum: float = 0.95) -> None:
        if rounds < 1 or not 0 <= momentum < 1:
            raise UsageError(f"Got rounds={rounds} and momentum={momentum}; expected at least 1 round and a momentum in [0, 1).")
        self.space, self.rounds, self.momentum = space, rounds, momentum
        self.there = np.zeros((len(space), int(max(space.sizes))), dtype=bool)
        for mask, indices in zip(self.there, space.allowed, strict=True):
            mask[list(indices)] = True
        self.count = 0  # losses so far
        self.credit = np.zeros(self.there.shape)  # of every option, the lower the better
        self._mean, self._squares = 0.0, 0.0

    @property
    @abstractmethod
    def policies(self) -> Floats:
        """The chance of every option: shape (choices, most options of a choice), 0 where there is no such option."""

    @abstractmethod
    def _learn(self, population: Population, excess: Floats) -> None:
        """Move the credit; `excess` is by how many deviations losses were above the running mean, shape (n,)."""

    @property
    def distribution(self) -> list[Floats]:
        """The policies as one vector a choice, shape (options,)."""
        return [policy[: len(choice.options)] for policy, choice in zip(self.policies, self.space.choices, strict=True)]

    def draw(self, size: int, rng: np.random.Generator) -> Population:
        """Architectures, every option drawn by its agent: shape (size, choices)."""
        until = self.policies.cumsum(axis=1)
        chances = rng.random((size, len(until), 1)) * until[:, -1:]
        return np.asarray((until > chances).argmax(axis=2), dtype=np.int64)

    def recommended(self) -> Architecture:
        """Every agent's best option so far."""
        return tuple(np.where(self.there, self.credit, np.inf).argmin(axis=1).tolist())

    def learn(self, population: Population, losses: npt.ArrayLike) -> None:
        """What the drawn architectures came to, all of them drawn from the policies as they are now.

        Args:
            population: shape (n, choices).
            losses: the lower the better, finite: shape (n,).
        """
        told = np.asarray(losses, dtype=np.float64)
        if not np.isfinite(told).all():
            raise UsageError("Agents were told a loss that is not finite; expected numbers. Leave out what failed.")
        if len(told):
            self._learn(population, np.array([self._excess(float(loss), float(told.mean())) for loss in told]))

    def _excess(self, loss: float, first: float) -> float:
        """By how many deviations a loss is above the mean of those before it; the mean of the first ones is taken among themselves."""
        self._mean = self._mean if self.count else first
        above = loss - self._mean
        square = self._squares / self.count if self._squares > 0 else above * above  # of those before it, so that the estimate has no bias
        self.count, self._squares = self.count + 1, self._squares + above * above
        self._mean = self.momentum * self._mean + (1 - self.momentum) * loss
        return float(above / np.sqrt(square)) if square > 0 else 0.0

    def plain(self) -> dict[str, Any]:
        """What has been learned, as plain data and arrays."""
        return {
            "rounds": self.rounds,
            "count": self.count,
            "credit": self.credit.copy(),
            "means": (self._mean, self._squares),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See `plain`."""
        self.rounds, self.count, self.credit = state["rounds"], state["count"], np.array(state["credit"])
        self._mean, self._squares = state["means"]


class ExponentialAgents(Agents):
    """MANAS: every agent is EXP3, whose policy is a softmax of its losses, each divided by the chance that it was drawn with.

    They converge: late draws are hardly worse than the best. Rounds should outnumber options a hundred times.

    Args:
        space, rounds, momentum: as in `Agents`.
        rate: of the softmax; sqrt(2 log K / (K rounds)) for an agent of K options unless told otherwise, the usual tuning of EXP3.
        floor: least chance of an option that is there. Without one an agent that begins unluckily hardly draws the better option again.
    """

    def __init__(
        self, space: SearchSpace, *, rounds: int = 1000, momentum: float = 0.95, rate: float | None = None, floor: float = 3e-3
    ) -> None:
        super().__init__(space, rounds=rounds, momentum=momentum)
        if (rate is not None and rate <= 0) or not 0 <= floor < 1 / self.there.shape[1]:
            raise UsageError(f"Got rate={rate} and floor={floor}; expected a positive rate and a floor from 0 to below one in the options.")
        self.rate, self.floor = rate, floor

    @property
    def policies(self) -> Floats:
        """See `Agents.policies`."""
        options = self.there.sum(axis=1, keepdims=True)
        rate = np.sqrt(2 * np.log(options) / (options * self.rounds)) if self.rate is None else self.rate
        logits = np.where(self.there, -rate * self.credit, -np.inf)
        found = np.exp(logits - logits.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
        return np.asarray((1 - options * self.floor) * found + self.floor * self.there)

    def _learn(self, population: Population, excess: Floats) -> None:
        chances, agents = self.policies, np.arange(len(self.there))
        for row, above in zip(population, excess, strict=True):
            self.credit[agents, row] += above / chances[agents, row]


class LeastSquaresAgents(Agents):
    """MANAS-LS: a linear model of losses gives every option its credit; the n-th best of an agent is drawn 1 / n times as often (Zipf).

    They never stop exploring: what they recommend gets better, what they draw does so only up to a point.

    Args:
        space, rounds, momentum: as in `Agents`.
        window: architectures that the model is fitted to, the last ones.
        every: architectures between two fits. Policies stay uniform until there are twice as many as an agent has options.
        ridge: added to the diagonal of the normal equations, in squared deviations of a loss.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        rounds: int = 1000,
        momentum: float = 0.95,
        window: int = 1000,
        every: int = 25,
        ridge: float = 1.0,
    ) -> None:
        super().__init__(space, rounds=rounds, momentum=momentum)
        if window < 1 or every < 1 or ridge <= 0:
            raise UsageError(f"Got window={window}, every={every} and ridge={ridge}; expected at least 1, 1 and more than 0.")
        self.window, self.every, self.ridge = window, every, ridge
        self._rows = np.zeros((0, len(space)), dtype=np.uint8)
        self._excesses = np.zeros(0)

    @property
    def policies(self) -> Floats:
        """See `Agents.policies`."""
        credit = np.where(self.there, self.credit, np.inf)
        ranks = (credit[:, None, :] < credit[:, :, None]).sum(axis=2) + (credit[:, None, :] == credit[:, :, None]).sum(axis=2) / 2 + 0.5
        chances = np.where(self.there, 1 / ranks, 0.0)  # options of equal credit, as all are in the beginning, share a rank
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def _learn(self, population: Population, excess: Floats) -> None:
        before = (self.count - len(excess)) // self.every
        self._rows = np.concatenate([self._rows, population.astype(np.uint8)])[-self.window :]
        self._excesses = np.concatenate([self._excesses, excess])[-self.window :]
        if self.count // self.every > before and self.count >= 2 * self.there.shape[1]:
            self.credit = fitted(self._rows, self._excesses, self.there.shape[1], self.ridge)

    def plain(self) -> dict[str, Any]:
        """See `Agents.plain`."""
        return {**super().plain(), "rows": self._rows, "excesses": self._excesses}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Agents.plain`."""
        super().restore(state)
        self._rows, self._excesses = np.array(state["rows"], dtype=np.uint8), np.array(state["excesses"], dtype=np.float64)


def fitted(population: npt.NDArray[Any], losses: Floats, options: int, ridge: float) -> Floats:
    """What every option adds to a loss, by ridge regression on which options were taken: shape (choices, options).

    Only differences within a choice mean something.

    Args:
        population: shape (n, choices).
        losses: shape (n,).
        options: of every choice, at most.
        ridge: added to the diagonal.
    """
    n, choices = population.shape
    taken = np.zeros((n, choices * options))
    taken[np.arange(n)[:, None], np.arange(choices) * options + population] = 1
    above = losses - losses.mean()
    if taken.shape[1] <= n:
        found = np.linalg.solve(taken.T @ taken + ridge * np.eye(taken.shape[1]), taken.T @ above)
    else:  # the same by as many equations as there are rows
        found = taken.T @ np.linalg.solve(taken @ taken.T + ridge * np.eye(n), above)
    return np.asarray(found.reshape(choices, options))


AGENTS: dict[str, Callable[..., Agents]] = {"exponential": ExponentialAgents, "least-squares": LeastSquaresAgents}
"""The kinds of agents, by what a recipe calls them."""
