"""A family of networks: what a search, a training on its own and a delivery need to know, with or without a supernet behind it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from evonas.space import Architecture, SearchSpace


class Family(Protocol):
    """The networks that the architectures of a space stand for."""

    @property
    def space(self) -> SearchSpace:
        """What can be chosen."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""

    def network(self, architecture: Architecture | npt.NDArray[np.int64], *, seed: int = 0) -> nn.Module:
        """A network that stands alone, with fresh weights drawn from a seed: images in, logits out."""
