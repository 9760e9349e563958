"""Agents that choose the path of every step, and learn from what it is worth on held-out images.

Carlucci et al., "MANAS: Multi-Agent Neural Architecture Search", 2019, arXiv 1909.01051. Every choice has an agent (`evonas.agents`); a
step trains the path that they draw, and what it loses on held-out images with the weights that have just moved is what all agents are
told. Only that path is ever in memory, so that every cell of a network may differ from the others.

Open in the paper and decided: held-out losses are taken with the statistics of their batch; what is recommended is every agent's most
probable option. Departures: paths that lead from no input to the output are drawn again; loss with label smoothing.

Regret follows from what is recorded after every epoch: the mean losses, on the same held-out images, of paths that the agents draw, of
uniform ones, and of the recommended one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evonas.agents import AGENTS
from evonas.errors import UsageError, unknown
from evonas.space import Architecture, Population, SearchSpace
from supernet.data import Batch, Part
from supernet.evaluation import left_as_it_was
from supernet.training.architecture_weights import recorded
from supernet.training.paths import connected
from supernet.training.prioritised import untracked
from supernet.training.registry import way
from supernet.training.uniform import UniformPaths
from supernet.training.way import Losses, Moment, Record

HELD_OUT_LOSS = "held_out_loss"  # in a record
PLAYED, PLAYED_ON = 16, 256  # paths of each kind, and held-out images, that regret is told from


@way(
    "agents",
    summary="an agent a choice draws the paths and learns from held-out losses",
    paper="Carlucci et al. 2019, arXiv 1909.01051",
    make=lambda supernet: AgentPaths(supernet.space),
)
class AgentPaths(UniformPaths):
    """Paths drawn by agents.

    Args:
        space: of the supernet.
        agents: "least-squares" (MANAS-LS) or "exponential" (MANAS).
        held_out: share of the training images that the agents learn from; the paper's half.
        label_smoothing: of the loss that weights learn from.
        warmup: share of the epochs in which the agents draw uniformly and learn nothing. 0 in the paper.

    Raises:
        UsageError: unknown agents, or a warm-up that leaves them nothing.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        agents: str = "least-squares",
        held_out: float = 0.5,
        label_smoothing: float = 0.1,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing=label_smoothing)
        if agents not in AGENTS:
            raise unknown("agents", agents, AGENTS)
        if not 0 <= warmup < 1:
            raise UsageError(f"Got warmup={warmup}; expected a share of the epochs from 0 to below 1.")
        self.held_out, self.warmup = held_out, warmup
        self.agents = AGENTS[agents](space)
        self._path: Architecture | None = None

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> Population:
        """One path, every option drawn by its agent: shape (1, choices)."""
        return connected(space, lambda: self.agents.draw(1, rng))

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        self.agents.rounds = max(1, round((1 - self.warmup) * moment.steps))
        self._path = tuple(self.paths(network.space, rng)[0].tolist())
        return cross_entropy(network(images, self._path).float(), labels, label_smoothing=self.label_smoothing)

    def after_step(self, network: Any, batch: Batch, held_out: Batch | None, moment: Moment, rng: np.random.Generator) -> None:
        """All agents are told what the path of the step loses now; see `Way.after_step`."""
        assert held_out is not None
        assert self._path is not None
        if moment.epoch >= int(self.warmup * moment.epochs):
            self.agents.learn(np.array([self._path]), [_loss(network, self._path, held_out)])

    def record(self, network: Any, held_out: Part | None, moment: Moment) -> Record:
        """The recommended architecture, its accuracy on held-out images with inherited weights, the policies, and the regret."""
        assert held_out is not None
        found = recorded(network, held_out, self.agents.recommended(), self.agents.distribution)
        rng = np.random.default_rng(moment.epoch)
        device = next(network.parameters()).device
        batch = next(iter(held_out.head(PLAYED_ON).batches(PLAYED_ON, device)))
        with left_as_it_was(network):
            network.train()

            def losses(population: Population) -> float:
                return float(np.mean([_loss(network, tuple(row), batch) for row in population.tolist()]))

            recommended = losses(np.array([found.architecture]))
            drawn = losses(np.concatenate([self.paths(network.space, rng) for _ in range(PLAYED)]))
            uniform = losses(np.concatenate([connected(network.space, lambda: network.space.sample(1, rng)) for _ in range(PLAYED)]))
        steps = moment.steps // moment.epochs if moment.epoch >= int(self.warmup * moment.epochs) else 0
        played = {"recommended": recommended, "drawn": drawn, "uniform": uniform, "rounds": steps}
        return Record(found.architecture, found.score, {**found.attributes, HELD_OUT_LOSS: played})

    def get_extra_state(self) -> dict[str, Any]:
        """What the agents have learned."""
        return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in self.agents.plain().items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self.agents.restore({name: value.cpu().numpy() if isinstance(value, Tensor) else value for name, value in state.items()})


def _loss(network: Any, path: Architecture, batch: Batch) -> float:
    """Cross-entropy of a path with the statistics of the batch, which leave no trace."""
    with torch.no_grad(), untracked(network, path):
        return float(cross_entropy(network(batch[0], path).float(), batch[1]))
