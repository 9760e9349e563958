"""Stand-alone training: an ordinary network, every weight in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supernet.data import Batch, ImageData, Part
from supernet.training.loop import Way, autocast, train


class StandAlone(Way):
    """Cross-entropy with label smoothing.

    Args:
        label_smoothing: of the loss.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        self.label_smoothing = label_smoothing

    def step(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """See `Way.step`."""
        images, labels = batch
        return cross_entropy(network(images).float(), labels, label_smoothing=self.label_smoothing)


class TrainedFitness:
    """Accuracy of networks that are each trained from scratch: dear, and the truth.

    Args:
        network: architecture (choices,) to a fresh stand-alone network.
        data: trains on *train*, scores on *search*.
        device: to train on.
        settings: of `supernet.training.loop.train`.
    """

    def __init__(self, network: Callable[[np.ndarray], nn.Module], data: ImageData, *, device: torch.device, **settings: Any) -> None:
        self.network, self.data, self.device, self.settings = network, data, device, settings

    def __call__(self, population: np.ndarray) -> np.ndarray:
        """Accuracies in [0, 1], shape (n,)."""
        return np.array([self._score(row) for row in population])

    def _score(self, row: np.ndarray) -> float:
        network = self.network(row)
        train(network, StandAlone(), self.data.train, device=self.device, **self.settings)
        return accuracy(network, self.data.search, self.device)


def accuracy(network: nn.Module, part: Part, device: torch.device, batch_size: int = 500) -> float:
    """Share of the images of `part` that the network classifies right, in [0, 1]."""
    return accuracy_and_likelihood(network, part, device, batch_size)[0]


def accuracy_and_likelihood(network: nn.Module, part: Part, device: torch.device, batch_size: int = 500) -> tuple[float, float]:
    """Share of the images of `part` that the network classifies right, and the mean log-likelihood of their labels in nats."""
    network.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad(), autocast(device):
        for images, labels in part.batches(batch_size, device):
            logits = network(images)
            sums[0] += (logits.argmax(1) == labels).sum()
            sums[1] -= cross_entropy(logits.float(), labels, reduction="sum")
    return float(sums[0]) / len(part), float(sums[1]) / len(part)
