"""Stand-alone training: an ordinary network, every weight in every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supernet.data import Batch, ImageData
from supernet.evaluation import accuracy
from supernet.family import Family
from supernet.training.loop import train
from supernet.training.way import Losses, Moment, Way


class StandAlone(Way):
    """Cross-entropy with label smoothing.

    Args:
        label_smoothing: of the loss.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        return self.loss(network(images).float(), labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of one batch."""
        return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


class TrainedFitness:
    """Accuracy of networks that are each trained from scratch: dear, and the truth.

    Args:
        family: gives the networks.
        data: trains on *train*, scores on *search*.
        device: to train on.
        seed: of the initial weights and of the training.
        settings: of `supernet.train`.
    """

    def __init__(self, family: Family, data: ImageData, *, device: torch.device, seed: int = 0, **settings: Any) -> None:
        self.family, self.data, self.device, self.seed, self.settings = family, data, device, seed, settings

    def __call__(self, population: np.ndarray) -> np.ndarray:
        """Accuracies in [0, 1], shape (n,)."""
        return np.array([self._score(row) for row in population])

    def _score(self, row: np.ndarray) -> float:
        network = self.family.network(row, seed=self.seed)
        train(network, StandAlone(), self.data.train, device=self.device, seed=self.seed, **self.settings)
        return accuracy(network, self.data.search, self.device)
