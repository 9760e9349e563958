"""Learning rates: a linear warm-up, then a decay."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(share: float) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def linear(share: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - share


def schedule(epoch: float, epochs: int, warmup_epochs: float, decay: Callable[[float], float] = cosine) -> float:
    """Share of the peak learning rate at a fractional epoch: linear warm-up, then the decay to zero."""
    warmup = min(warmup_epochs, epochs / 5)
    if epoch < warmup:
        return (epoch + 0.1) / (warmup + 0.1)
    return decay((epoch - warmup) / max(epochs - warmup, 1e-9))
