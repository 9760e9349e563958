"""What it is worth that a residual block of one's own begins as the identity: a space of them, with and without saying so.

The space of docs/own-space.md at CIFAR-10, uniform paths; the accuracy with inherited weights of 200 random networks. `says` is
`supernet.Residual`, `silent` the same block without an attribute `residual_norm`, as anybody would write it. Rows are kept; run again to go
on. Some two minutes a row on one core.

    OMP_NUM_THREADS=1 python benchmarks/own_block.py --data cifar16.npz --out runs/own-block.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows
from torch import Tensor, nn

from evonas import Choice, SearchSpace
from supernet import ChainSupernet, ChoiceBlock, FixedBlock, InheritedFitness, Residual, UniformPaths, conv_bn, load, train

NETWORKS, CALIBRATION = 200, 512


class Silent(nn.Module):
    """What `Residual` computes, by a block that nobody knows."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.Module`."""
        return x + self.branch(x)


def mixers(block: Any, image_shape: tuple[int, int, int], classes: int, seed: int, channels: int = 32, depth: int = 8) -> ChainSupernet:
    """The space, with one kind of block; it halves the map once, in its stem."""
    choices, blocks = [], [FixedBlock("stem", conv_bn(image_shape[0], channels, 3, 2))]
    for i in range(depth):
        options: dict[str, nn.Module] = {f"k{k}x{e}": block(_branch(channels, k, e)) for k in (3, 5) for e in (2, 4)}
        options["skip"] = nn.Identity()
        choices.append(Choice(f"block{i}", tuple(options)))
        blocks.append(ChoiceBlock(f"block{i}", f"block{i}", options))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return ChainSupernet(SearchSpace(tuple(choices)), [*blocks, FixedBlock("head", head)], image_shape, seed=seed)


def _branch(channels: int, kernel: int, expansion: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, expansion * channels, 1),
        nn.GELU(),
        nn.Conv2d(expansion * channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/own-block.json"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rows, images = Rows(asked.out), load(asked.data)

    def measure(block: Any, seed: int) -> dict[str, Any]:
        supernet = mixers(block, images.image_shape, len(images.classes), seed)
        train(supernet, UniformPaths(), images.train, epochs=asked.epochs, batch_size=64, lr=0.2, weight_decay=5e-4, seed=seed)
        fitness = InheritedFitness(supernet, images.search, images.train.head(CALIBRATION))
        scores = fitness(supernet.space.sample(NETWORKS, np.random.default_rng(0)))
        return {"mean": round(float(scores.mean()), 4), "worst": round(float(scores.min()), 4), "best": round(float(scores.max()), 4)}

    for seed in range(asked.seeds):
        for name, block in (("says", Residual), ("silent", Silent)):
            rows.row(f"{name}, seed {seed}", lambda block=block, seed=seed: measure(block, seed))


if __name__ == "__main__":
    main()
