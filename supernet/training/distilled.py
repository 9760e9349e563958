"""Training with a teacher: a network on its own learns from the labels and from the probabilities of a trained network.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531. The teacher sees the same augmented images (Beyer et
al., 2021, arXiv 2106.05237: a good teacher is consistent).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, softmax

from supernet.data import Batch
from supernet.training.standalone import StandAlone
from supernet.training.way import Losses, Moment


class Distilled(StandAlone):
    """Cross-entropy with the labels and divergence from the teacher, weighed.

    Args:
        teacher: trained; images in, logits out. It is moved to the device of the images and not changed otherwise; no checkpoint holds it.
        weight: share of the teacher in the loss.
        temperature: that both sides' logits are divided by.
        label_smoothing: of the labels' part.
    """

    def __init__(self, teacher: nn.Module, *, weight: float = 0.5, temperature: float = 2.0, label_smoothing: float = 0.1) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self._teacher = (teacher,)  # no part of the way: what a way owns is trained, and kept in every checkpoint
        self.weight, self.temperature = weight, temperature

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> Tensor | Losses:
        """See `Way.step`."""
        images, labels = batch
        taught = softened(self._teacher[0], images, self.temperature)
        logits = network(images).float()
        return {
            "labels": (1 - self.weight) * self.loss(logits, labels),
            "teacher": self.weight * self.temperature**2 * divergence(logits, taught, self.temperature),
        }


def softened(teacher: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """A teacher's probabilities of images, its logits divided by a temperature; it is moved to their device."""
    with torch.no_grad():
        return softmax(teacher.to(images.device).eval()(images).float() / temperature, 1)


def divergence(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far a network's probabilities are from softened ones of a teacher, mean over images."""
    return kl_div(log_softmax(logits / temperature, 1), taught, reduction="batchmean")
