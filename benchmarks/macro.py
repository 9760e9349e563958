"""A supernet of NAS-Bench-Macro against the published accuracies of its networks, and what each remedy contributes.

CIFAR-10 at 16 pixels. Supernets are scored on all 3,969 different networks of the table (the 6,561 rows repeat equal ones) by the prefix
walk; taus are over all rows. Rows and checkpoints are kept; run again to go on. About an hour on two cores.

    OMP_NUM_THREADS=1 python benchmarks/macro.py --data cifar16.npz --table nasbench_macro.npz

`--only NAME ...` measures some supernets, so that two processes can share the work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows

from supernet import FairPaths, ImageData, InheritedFitness, UniformPaths, load, macro, train
from supernet.chain import ChainSupernet
from supernet.training.loop import Way

CALIBRATION, SEARCHED, CHUNK = 512, 1000, 400


@dataclass(frozen=True)
class Setting:
    """How a supernet is trained."""

    way: Callable[[], Way] = UniformPaths
    epochs: int = 32
    batch_size: int = 32
    lr: float = 0.05
    seed: int = 0
    equal_networks_share: bool = True


SETTINGS = {
    **{f"uniform {seed}": Setting(seed=seed) for seed in range(3)},
    "longer 0": Setting(epochs=64),
    "raw 0": Setting(epochs=24, batch_size=64, lr=0.1, equal_networks_share=False),
    "shared 0": Setting(epochs=24, batch_size=64, lr=0.1),
    "fair 0": Setting(FairPaths, epochs=8, batch_size=64, lr=0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="supernets to train and score")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_macro"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images = load(a.data)
    for name in a.only or SETTINGS:
        setting = SETTINGS[name]
        rows = Rows(a.out / f"{name.replace(' ', '-')}.jsonl")
        supernet = trained(name, setting, images, a.out)
        networks = macro(images.image_shape).space.enumerate()
        for start in range(0, len(networks), CHUNK):
            rows.row(f"{start}", partial(scored, supernet, networks[start : start + CHUNK], images), quiet=True)
            print(f"{name}: scored {start}", flush=True)


def trained(name: str, setting: Setting, images: ImageData, out: Path) -> ChainSupernet:
    """The supernet of a setting, from its checkpoint where that is complete."""
    supernet = macro(images.image_shape, seed=setting.seed)
    if not setting.equal_networks_share:
        supernet.space = replace(supernet.space, canonicalise=None)
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    losses = train(
        supernet,
        setting.way(),
        images.train,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        lr=setting.lr,
        weight_decay=5e-4,
        seed=setting.seed,
        checkpoint=out / f"{name.replace(' ', '-')}.pt",
        identity={"supernet": name, "epochs": setting.epochs},
    )
    print(f"{name}: {time.perf_counter() - start:.0f} s of training in this process, loss {losses[-1]:.3f}", flush=True)
    return supernet


def scored(supernet: ChainSupernet, networks: np.ndarray, images: ImageData) -> dict[str, Any]:
    """Accuracy and likelihood with shared weights."""
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    accuracy, likelihood = fitness.both(networks)
    return {"accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


if __name__ == "__main__":
    main()
