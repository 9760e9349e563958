"""Following a ranking while its supernet is trained: one checkpoint is not evidence.

Zhang et al., "Deeper Insights into Weight Sharing in Neural Architecture Search", 2020, arXiv 2001.01431, rank all networks after each of
the last mini-batches and epochs: the network trained last looks best, and the ranking swings with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from evonas.files import read_json, write_json
from evonas.ranking import Floats


class Follower:
    """Scores networks at chosen steps; an `on_step` of `supernet.train`.

    Args:
        score: gives the scores of the networks, shape (m,), as the supernet stands.
        steps: numbers of done steps at which to score.
        path: file that keeps what was found, step by step, so that training that is continued does not lose it.
    """

    def __init__(self, score: Callable[[], Floats], steps: Iterable[int], path: Path | None = None) -> None:
        self.score, self.steps, self.path = score, set(steps), path
        known = read_json(path) if path is not None and path.exists() else {}
        self.found: dict[int, list[float]] = {int(step): scores for step, scores in known.items()}

    def __call__(self, step: int) -> None:
        if step in self.steps:
            self.found[step] = [float(score) for score in self.score()]
            if self.path is not None:
                write_json(self.path, self.found)

    def scores(self, steps: Iterable[int]) -> Floats:
        """What was found at those of the steps that were come to: shape (k, m)."""
        return np.array([self.found[step] for step in steps if step in self.found])


def ends_of_epochs(per_epoch: int, epochs: int, last: int = 10) -> range:
    """Steps at which the last epochs end."""
    return range(per_epoch * max(epochs - last + 1, 1), per_epoch * epochs + 1, per_epoch)


def last_steps(per_epoch: int, epochs: int, last: int = 64) -> range:
    """The last steps of training, all of them in the last epoch, since an epoch is what is done again after an interruption."""
    return range(per_epoch * epochs - min(last, per_epoch) + 1, per_epoch * epochs + 1)
