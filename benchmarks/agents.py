"""Agents on games whose best play is known: what each part of MANAS is worth, before any network is trained.

  additive   14 agents of 8 options; the loss is the mean of what the options cost (uniform in [0, 1]), with noise of .05
  drifting   the same, and all losses fall by 2 e^(-t / 500), as those of a supernet that learns
  squeeze    option k adds k to a sum x, and the loss is 1 - g(x) / g's best, where g(x) = x exp(-((x - 60) / 10)^2)

Relative regret: 0 is the best play, 1 the average one. The agents play 3,000 rounds; seconds a seed.

    OMP_NUM_THREADS=1 python benchmarks/agents.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas import Choice, ExponentialAgents, LeastSquaresAgents, SearchSpace
from evonas.agents import Agents

AGENTS, OPTIONS, ROUNDS, NOISE = 14, 8, 3000, 0.05
Floats = npt.NDArray[np.float64]


class Uniform(LeastSquaresAgents):
    """Learns nothing."""

    def learn(self, population: Any, losses: Any) -> None:
        """Nothing."""


class WithoutMean(ExponentialAgents):
    """Losses as they are, in [0, 1] here: EXP3 by the book."""

    def _excess(self, loss: float, first: float) -> float:
        return loss


class AsPrinted(ExponentialAgents):
    """The policy rises with the credit, as the paper prints it."""

    @property
    def policies(self) -> Floats:
        self.credit = -self.credit
        found = super().policies
        self.credit = -self.credit
        return found

    def recommended(self) -> tuple[int, ...]:
        return tuple(self.credit.argmax(axis=1).tolist())


class MeanOfAll(LeastSquaresAgents):
    """The linear model of losses as they are: what is the same for all of them is left to its intercept."""

    def _excess(self, loss: float, first: float) -> float:
        super()._excess(loss, first)
        return loss / np.sqrt(self._squares / self.count) if self._squares > 0 else 0.0


KINDS: dict[str, Callable[[SearchSpace], Agents]] = {
    "uniform": lambda s: Uniform(s),
    "exponential": lambda s: ExponentialAgents(s, rounds=ROUNDS),
    "exponential, no floor": lambda s: ExponentialAgents(s, rounds=ROUNDS, floor=0.0),
    "exponential, no mean": lambda s: WithoutMean(s, rounds=ROUNDS),
    "exponential, as printed": lambda s: AsPrinted(s, rounds=ROUNDS),
    "least-squares": lambda s: LeastSquaresAgents(s),
    "least-squares, no mean": lambda s: MeanOfAll(s),
}


def additive(seed: int) -> tuple[Callable[[npt.NDArray[np.int64], int], Floats], Floats]:
    """A game: losses of plays at a round, without noise and drift subtracted; and what every option costs."""
    costs = np.random.default_rng(seed).random((AGENTS, OPTIONS)) / AGENTS

    def losses(plays: npt.NDArray[np.int64], _: int) -> Floats:
        return np.asarray(costs[np.arange(AGENTS), plays].sum(axis=1))

    return losses, costs


def squeeze(plays: npt.NDArray[np.int64], _: int = 0) -> Floats:
    """The loss of plays, shape (n, agents)."""

    def made(total: Any) -> Any:
        return total * np.exp(-(((total - 60) / 10) ** 2))

    return np.asarray(1 - made(plays.sum(axis=1)) / made(np.arange(AGENTS * (OPTIONS - 1) + 1)).max())


def played(agents: Agents, losses: Callable[[npt.NDArray[np.int64], int], Floats], drift: float, seed: int) -> tuple[Floats, Floats]:
    """True losses of all plays in order, and of what was recommended after each hundredth."""
    rng, drawn, recommended = np.random.default_rng([seed, 1]), [], []
    for t in range(ROUNDS):
        play = agents.draw(1, rng)
        true = losses(play, t)
        agents.learn(play, true + NOISE * rng.normal() + drift * np.exp(-t / 500))
        drawn.append(float(true[0]))
        if (t + 1) % 100 == 0:
            recommended.append(float(losses(np.array([agents.recommended()]), t)[0]))
    return np.array(drawn), np.array(recommended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4, 5])
    a = parser.parse_args()
    space = SearchSpace(tuple(Choice(f"agent{i}", tuple("abcdefgh")) for i in range(AGENTS)))
    for game in ("additive", "drifting", "squeeze"):
        print(f"{game}: relative regret of the recommendation after 1,000 and 3,000 rounds, each seed; of the last 300 plays; slope of")
        print("  the regret of all plays, summed, over the second half (log-log; 1 is linear); mean of the plays of every quarter")
        for name, make in KINDS.items():
            rows = []
            for seed in a.seeds:
                losses, costs = additive(seed) if game != "squeeze" else (squeeze, np.zeros(0))
                best, average = (0.0, 1.0) if game == "squeeze" else (costs.min(axis=1).sum(), costs.mean(axis=1).sum())
                if game == "squeeze":
                    average = float(squeeze(space.sample(20_000, np.random.default_rng(0))).mean())
                found = played(make(space), losses, 2.0 if game == "drifting" else 0.0, seed)
                rows.append([(each - best) / (average - best) for each in found])
            drawn, recommended = (np.array([row[i] for row in rows]) for i in (0, 1))
            summed = drawn.mean(axis=0).cumsum()
            slope = np.log(summed[-1] / summed[ROUNDS // 2 - 1]) / np.log(2)
            quarters = drawn.mean(axis=0).reshape(4, -1).mean(axis=1)
            each = ", ".join(f"{value:.3f}" for value in recommended[:, -1])
            print(
                f"  {name}: {recommended[:, 9].mean():.3f}, {recommended[:, -1].mean():.3f} ({each}); "
                f"last plays {drawn[:, -300:].mean():.3f}; slope {slope:.2f}; quarters {', '.join(f'{x:.2f}' for x in quarters)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
