"""Fitness after a little training: each network takes a copy of its inherited weights a few steps further before it is scored.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431: a handful of steps undoes most of
what other networks did to the shared weights. Dearer than plain inherited weights by those steps, for every network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from evonas.errors import UsageError
from evonas.space import Population
from supernet.chain import ChainSupernet
from supernet.data import Part
from supernet.evaluation import accuracy_and_likelihood, recalibrate
from supernet.training.loop import train
from supernet.training.standalone import StandAlone


class FineTunedFitness:
    """Accuracy after `steps` steps of each network's own.

    Args:
        supernet: trained; its weights are copied, never changed.
        search: images that scores are measured on.
        train: images of the steps, the same for all networks, and of batch-norm statistics.
        steps: of training before scoring.
        batch_size: images of a step.
        lr: at the first step, falling to 0 along a cosine.
        calibration_images: training images that batch-norm statistics are taken from afterwards, 128 at a time.
        device: where to compute.

    Raises:
        UsageError: fewer images than the steps take.
    """

    def __init__(
        self,
        supernet: ChainSupernet,
        search: Part,
        train: Part,
        *,
        steps: int = 10,
        batch_size: int = 64,
        lr: float = 0.01,
        calibration_images: int = 512,
        device: torch.device | None = None,
    ) -> None:
        self.supernet, self.search = supernet, search
        if steps * batch_size > len(train):
            most = len(train) // batch_size
            raise UsageError(
                f"{steps} steps of {batch_size} images need more than the {len(train)} there are; expected at most {most} steps."
            )
        self.images, self.calibration = train.head(max(steps, 1) * batch_size), train.head(calibration_images)
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.device = device or torch.device("cpu")

    def __call__(self, population: Population) -> np.ndarray:
        """Accuracy in [0, 1] on the search images: shape (n,)."""
        return self.both(population)[0]

    def both(self, population: Population) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy and, as in `InheritedFitness.both`, likelihood; each of shape (n,)."""
        scores = np.array([self._score(row) for row in population]).reshape(-1, 2)
        return scores[:, 0], scores[:, 1]

    def _score(self, row: np.ndarray) -> tuple[float, float]:
        network = self.supernet.subnet(row).to(self.device)
        if self.steps:
            settings: dict[str, Any] = {"lr": self.lr, "warmup_epochs": 0.0, "device": self.device}
            train(network, StandAlone(), self.images, epochs=1, batch_size=self.batch_size, **settings)
        recalibrate(network, self.calibration.batches(128, self.device))
        return accuracy_and_likelihood(network, self.search, self.device)
