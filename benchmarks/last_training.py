"""What each part of the last training is worth: one network within a budget, trained with each part on and off at equal wall time.

The budget is `macs=4M` with `latency=40%`, CIFAR-10 at 16 pixels; the network is a random one that keeps it. The supernet that weights are
inherited from, and that the teacher is the largest network of (fine-tuned as long as the student is trained), is trained once by uniform
paths within the budget. Epochs are those that take as long as the plain training's. Rows are kept; run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/last_training.py --data cifar16.npz --latency latency.json --out runs/last_training
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from torch.nn.functional import cross_entropy
from torchvision.transforms import v2

from evonas import Budget, parse_bounds
from evonas.budget import Cost
from evonas.sampling import draw_feasible
from predictors import costs, read_table
from supernet import ImageData, StandAlone, UniformPaths, accuracy, load, mbconv, train
from supernet.chain import ChainSupernet
from supernet.data import Batch
from supernet.training.distilled import Distilled
from supernet.training.way import Moment, Way

EPOCHS, SUPERNET_EPOCHS, TIMED = 20, 20, 1280
CPU = torch.device("cpu")


class MixedUp(StandAlone):
    """Mix-up (Zhang et al., 2017, arXiv 1710.09412) by torchvision, alpha 0.2. Not a way that the toolkit offers."""

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> torch.Tensor:
        images, labels = v2.MixUp(alpha=0.2, num_classes=10)(*batch)
        return cross_entropy(network(images).float(), labels, label_smoothing=self.label_smoothing)


class Trivial(StandAlone):
    """TrivialAugment (Müller and Hutter, 2021, arXiv 2103.10158) by torchvision, image by image. Not a way that the toolkit offers."""

    def step(self, network: Any, batch: Batch, moment: Moment, rng: np.random.Generator) -> torch.Tensor:
        images, labels = batch
        low, high = images.amin(), images.amax()
        augment = v2.TrivialAugmentWide()
        pixels = ((images - low) / (high - low) * 255).round().to(torch.uint8)
        varied = torch.stack([augment(image) for image in pixels]).float() / 255 * (high - low) + low
        varied = varied.contiguous(memory_format=torch.channels_last)
        return cross_entropy(network(varied).float(), labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Setting:
    """One way to train the network."""

    way: str = "labels"
    inherit: bool = False
    settings: dict[str, Any] = field(default_factory=lambda: {"batch_size": 64, "lr": 0.2, "weight_decay": 5e-4})

    def but(self, **settings: Any) -> Setting:
        return replace(self, settings={**self.settings, **settings})


BASE = Setting()
SETTINGS = {
    "plain": BASE,
    "inherited weights": replace(BASE, inherit=True),
    "inherited weights, half the learning rate": replace(BASE, inherit=True).but(lr=0.1),
    "averaged weights": BASE.but(average=0.99),
    "no label smoothing": replace(BASE, way="hard"),
    "teacher": replace(BASE, way="teacher"),
    "mix-up": replace(BASE, way="mix-up"),
    "TrivialAugment": replace(BASE, way="trivial"),
    "learning rate 0.1": BASE.but(lr=0.1),
    "weight decay 4e-5": BASE.but(weight_decay=4e-5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--latency", type=Path, required=True, help="latency table of this machine, as a run or instead.py leaves it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_last_training"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images = load(a.data)
    supernet = mbconv(images.image_shape, len(images.classes))
    space, parts = supernet.space, supernet.parts()
    known: dict[str, Cost] = {"macs": costs.macs(space, parts), "latency": read_table(a.latency, space)}
    budget = Budget(known, parse_bounds(["macs=4M", "latency=40%"], space, known))
    row = draw_feasible(space, budget, 1, np.random.default_rng(7))[0]
    a.out.mkdir(parents=True, exist_ok=True)
    settings = {"batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "checkpoint": a.out / "supernet.pt"}
    train(supernet, UniformPaths(budget=budget), images.train, epochs=SUPERNET_EPOCHS, **settings)
    largest = space.sample(20_000, np.random.default_rng(0))
    teacher = supernet.subnet(largest[known["macs"](largest).argmax()])
    if any(SETTINGS[name].way == "teacher" for name in a.only):
        train(teacher, StandAlone(), images.train, epochs=EPOCHS, checkpoint=a.out / "teacher.pt", **BASE.settings)
        print(f"teacher: {accuracy(teacher, images.test, CPU):.4f}", flush=True)
    kept = Rows(a.out / f"rows-{'-'.join(map(str, a.seeds))}.jsonl")
    for seed in a.seeds:
        for name in a.only:
            kept.row(f"{name} {seed}", partial(measured, SETTINGS[name], supernet, row, teacher, images, seed))


def measured(
    setting: Setting, supernet: ChainSupernet, row: np.ndarray, teacher: torch.nn.Module, images: ImageData, seed: int
) -> dict[str, Any]:
    """Test accuracy of the network, trained for as long as the plain training takes."""

    def fresh(chosen: Setting) -> torch.nn.Module:
        return supernet.subnet(row, fresh_seed=None if chosen.inherit else seed)

    ways: dict[str, Way] = {
        "labels": StandAlone(),
        "hard": StandAlone(label_smoothing=0.0),
        "teacher": Distilled(teacher),
        "mix-up": MixedUp(),
        "trivial": Trivial(),
    }
    seconds: dict[str, float] = {}
    for name, chosen in (("plain", BASE), ("this", setting)) * 2:
        start = time.perf_counter()
        train(fresh(chosen), ways[chosen.way], images.train.head(TIMED), epochs=1, **chosen.settings)
        seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - start)
    epochs = min(EPOCHS, round(EPOCHS * seconds["plain"] / seconds["this"]))
    epochs = EPOCHS if epochs >= 0.95 * EPOCHS else epochs
    network = fresh(setting)
    start = time.perf_counter()
    losses = train(network, ways[setting.way], images.train, epochs=epochs, seed=seed, **setting.settings)
    seconds["all"] = time.perf_counter() - start
    return {"test": accuracy(network, images.test, CPU), "epochs": epochs, "seconds": seconds["all"], "loss": losses[-1]["loss"]}


if __name__ == "__main__":
    main()
