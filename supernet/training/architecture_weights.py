"""Learned weights of options: a softmax a choice, moved by Adam on held-out images while the network's weights stand still.

What the evaluator of SETN (Dong and Yang, 2019, arXiv 1910.05733) and the architecture of DARTS (Liu et al., 2018, arXiv 1806.09055, first
order) have in common, and their settings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas.space import Architecture, SearchSpace
from supernet.blocks import Mixture
from supernet.chain import ChainSupernet
from supernet.data import Batch, Part
from supernet.evaluation import left_as_it_was
from supernet.fitness import InheritedFitness
from supernet.mixing import edge_normalised, strongest
from supernet.training.way import Record, learn

RECORD_IMAGES, RECORD_CALIBRATION = 2000, 512
FIRST = 1e-3  # standard deviation of the logits at the beginning


class ArchitectureWeights(nn.Module):
    """Logits for the options of every choice, with the optimiser that moves them.

    Args:
        space: the choices.
        lr, betas, weight_decay: of Adam.
        edge_normalisation: learn the strengths of edges as well, see `supernet.mixing.edge_normalised`.
        seed: of the first logits.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        lr: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        edge_normalisation: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.ParameterList(FIRST * torch.randn(len(choice.options), generator=generator) for choice in space.choices)
        self.strengths = nn.Parameter(FIRST * torch.randn(len(space), generator=generator)) if edge_normalisation else None
        self._optimizer = torch.optim.Adam(self.parameters(), lr, betas, weight_decay=weight_decay)

    def probabilities(self, space: SearchSpace) -> list[Tensor]:
        """For every choice a softmax over its allowed options, 0 for the others: shape (options,)."""
        found = []
        for logits, indices in zip(self.logits, space.allowed, strict=True):
            mask = torch.full_like(logits, -torch.inf)
            mask[list(indices)] = 0.0
            found.append(torch.softmax(logits + mask, 0))
        return found

    def mixture(self, supernet: ChainSupernet) -> Mixture:
        """All options of a supernet, by their weights."""
        weights = self.probabilities(supernet.space)
        return Mixture(weights if self.strengths is None else edge_normalised(supernet, weights, self.strengths))

    def distribution(self, space: SearchSpace) -> list[npt.NDArray[np.float64]]:
        """The probabilities as arrays."""
        return [found.detach().cpu().double().numpy() for found in self.probabilities(space)]

    def derived(self, supernet: ChainSupernet, keep: int | None) -> Architecture:
        """What the mixture, edges weighed as well, stands for; for `keep` see `supernet.mixing.strongest`."""
        return strongest(supernet, [found.detach().cpu().numpy() for found in self.mixture(supernet).weights], keep)

    def learn(self, supernet: Any, held_out: Batch) -> Tensor:
        """One step towards less loss of the mixture on images; the network's weights stay as they are. Returns the loss."""
        images, labels = held_out
        loss = cross_entropy(supernet(images, self.mixture(supernet)).float(), labels)
        learn(loss, self._optimizer)
        return loss.detach()

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's, beside the logits."""
        return {"optimizer": self._optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self._optimizer.load_state_dict(state["optimizer"])


def by_names(space: SearchSpace, distribution: list[npt.NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Probabilities by choice and option, as plain data."""
    return {
        choice.name: {option: round(float(p), 6) for option, p in zip(choice.options, found, strict=True)}
        for choice, found in zip(space.choices, distribution, strict=True)
    }


def recorded(network: ChainSupernet, held_out: Part, row: Architecture, distribution: list[npt.NDArray[np.float64]]) -> Record:
    """What a search that learns a distribution recommends at a moment, its accuracy on held-out images, and the distribution."""
    device = next(network.parameters()).device
    images, calibration = held_out.head(RECORD_IMAGES), held_out.head(RECORD_CALIBRATION)
    with left_as_it_was(network):
        score = float(InheritedFitness(network, images, calibration, device=device)(np.array([row]))[0])
    return Record(row, score, {"distribution": by_names(network.space, distribution)})
