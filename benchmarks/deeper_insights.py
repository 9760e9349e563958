"""Weight sharing at small scale: all 64 networks of the two-node space, with shared weights and on their own.

The protocol of Zhang et al. 2020 (arXiv 2001.01431), reduced: CIFAR-10 at 8 pixels, 8 channels. The truth is three trainings of each
network. Supernets train one network a step, in turn; after each of the last 64 steps and each of the last ten epochs all 64 are scored,
with batch-norm statistics as training left them. Rows are kept; run again to go on. About two hours on one core.

    OMP_NUM_THREADS=1 python benchmarks/deeper_insights.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from scipy.stats import ttest_1samp
from torch.nn.functional import avg_pool2d

from evonas.ranking import bootstrap, noise_ceiling, stability, tau, true_rank
from supernet import FineTunedFitness, InheritedFitness, OrderedPaths, StandAlone, accuracy, load, split, train, two_node
from supernet.chain import ChainSupernet
from supernet.data import ImageData, TensorPart
from supernet.sharing import own_group, random_groups, similar_groups

SHAPE, CHANNELS, SCORED = (3, 8, 8), 8, 1000
SEEDS, TRUTH_SEEDS = 3, 3
LAST_STEPS, LAST_EPOCHS = 64, 10
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--epochs", type=int, default=50, help="of a supernet")
    parser.add_argument("--alone-epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_deeper_insights"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images = load(a.data)
    parts = {"train": smaller(images, "train"), "search": smaller(images, "search")}
    rows = Rows(a.out / "rows.jsonl")
    population = supernet(0).space.enumerate()

    def alone(seed: int, row: np.ndarray) -> dict[str, Any]:
        network = supernet(seed).subnet(row, fresh_seed=seed)
        train(network, StandAlone(label_smoothing=0.0), parts["train"], epochs=a.alone_epochs, batch_size=64, seed=seed)
        return {"accuracy": accuracy(network, parts["search"].head(SCORED), CPU)}

    runs = []
    for seed in range(TRUTH_SEEDS):
        measured = [rows.row(f"alone {seed} {tuple(row.tolist())}", partial(alone, seed, row), quiet=True) for row in population]
        runs.append([row["accuracy"] for row in measured])
        print(f"all 64 trained alone with seed {seed}", flush=True)
    truth = np.array(runs).T
    found = {}
    for name, measure in settings(population, parts, a.epochs).items():
        found[name] = rows.row(name, measure, quiet=True)
        print(f"{name}: measured", flush=True)
    tables(found, truth)


def smaller(images: ImageData, name: str) -> TensorPart:
    """A part at 8 pixels: means of squares of four."""
    part = getattr(images, name)
    return TensorPart(avg_pool2d(part.images.float(), 2), part.labels, part.mean, part.scale, padding=1, flip=True)


def supernet(seed: int) -> ChainSupernet:
    return two_node(SHAPE, 10, channels=CHANNELS, seed=seed)


def settings(population: np.ndarray, parts: dict[str, TensorPart], epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured, by name, the headline rows first."""

    def run(network: ChainSupernet, seed: int, order: int | None = 0, **options: Any) -> Callable[[], dict[str, Any]]:
        networks = population if order is None else np.random.default_rng([order, 64]).permutation(population)
        return lambda: shared(network, networks, population, parts, epochs, seed, reshuffle=order is None, **options)

    space = supernet(0).space
    todo = {f"seed {s}": run(supernet(s), s, fine_tune=(0, 1, 2, 5, 10, 20) if s == 0 else ()) for s in range(SEEDS)}
    for s in range(SEEDS):
        todo[f"random 8 {s}"] = run(split(supernet(s), random_groups(space, 8, s), 8, seed=s), s)
        todo[f"similar 8 {s}"] = run(split(supernet(s), similar_groups(space, 8), 8, seed=s), s)
    todo |= {f"order {o}": run(supernet(0), 0, o) for o in range(1, SEEDS)}
    todo |= {f"reshuffled {s}": run(supernet(s), s, None) for s in range(SEEDS)}
    todo["alone 64 0"] = run(split(supernet(0), own_group(space), 64), 0)
    for m in (2, 4, 16, 32):
        todo[f"random {m} 0"] = run(split(supernet(0), random_groups(space, m, 0), m), 0)
        todo[f"similar {m} 0"] = run(split(supernet(0), similar_groups(space, m), m), 0)
    todo |= {f"prefix {k} 0": run(split(supernet(0), own_group(space), 64, first=1 + k), 0) for k in range(5)}
    return todo


def shared(
    network: ChainSupernet,
    networks: np.ndarray,
    population: np.ndarray,
    parts: dict[str, TensorPart],
    epochs: int,
    seed: int,
    *,
    reshuffle: bool,
    fine_tune: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Scores of all networks at the last steps and epochs, and which network each of those steps trained."""
    total = epochs * (len(parts["train"]) // 64)
    fitness = InheritedFitness(network, parts["search"].head(SCORED), None)
    steps, ends = [], []
    way = OrderedPaths(networks, reshuffle=reshuffle)

    def look(step: int) -> None:
        if step > total - LAST_STEPS:
            steps.append(fitness(population).round(4).tolist())
        if step % (total // epochs) == 0 and step > total - LAST_EPOCHS * (total // epochs):
            ends.append(fitness(population).round(4).tolist())

    train(network, way, parts["train"], epochs=epochs, batch_size=64, lr=0.1, final_lr=0.004, seed=seed, on_step=look)
    recalibrated = InheritedFitness(network, parts["search"].head(SCORED), parts["train"].head(512))(population).tolist()
    order = [int(np.flatnonzero((population == networks[(s - 1) % 64]).all(1))[0]) for s in range(total - LAST_STEPS + 1, total + 1)]
    tuned = {
        n: FineTunedFitness(network, parts["search"].head(SCORED), parts["train"], steps=n, lr=0.02)(population).tolist() for n in fine_tune
    }
    return {"steps": steps, "epochs": ends, "recalibrated": recalibrated, "trained": None if reshuffle else order, "fine_tuned": tuned}


def tables(found: dict[str, dict[str, Any]], truth: np.ndarray) -> None:
    """Everything printed, against the mean of the trainings alone."""
    mean = truth.mean(axis=1)
    rank = [true_rank(truth[:, s], np.delete(truth, s, axis=1).mean(axis=1), 1) for s in range(truth.shape[1])]
    heads = "setting (runs) | S-Tau | GT-Tau (95 % over networks, first run) | mean and sd of the last 64 steps | T1R"
    print(f"\n| {heads} |\n|{'---|' * 5}")
    print(f"| alone, one seed against the others | {stability(truth.T):.2f} | {noise_ceiling(truth):.3f} | | {np.mean(rank):.1f} |")
    for title, names in groups(found).items():
        last = [np.array(found[name]["steps"][-1]) for name in names]
        dense = [[tau(scores, mean) for scores in found[name]["steps"]] for name in names]
        low, high = bootstrap(last[0], mean)
        spread = f"{np.mean(dense):.3f}, {np.mean([np.std(d) for d in dense]):.3f}"
        ranks = np.mean([true_rank(scores, mean, 1) for scores in last])
        taus = f"{np.mean([tau(scores, mean) for scores in last]):.3f} ({low:.2f} to {high:.2f})"
        print(f"| {title} ({len(names)}) | {stability(last):.2f} | {taus} | {spread} | {ranks:.1f} |")
    first = found["seed 0"]
    ends = [tau(scores, mean) for scores in first["epochs"]]
    print(f"\nlast ten epochs of one run: S-Tau {stability(first['epochs']):.2f}, GT-Tau {np.mean(ends):.3f} (sd {np.std(ends):.3f})")
    for name in ("seed 0", "seed 1", "seed 2"):
        print(f"{name}: recalibrated {tau(found[name]['recalibrated'], mean):.3f}, running {tau(found[name]['steps'][-1], mean):.3f}")
    print("after fine-tuning: " + ", ".join(f"{n} steps {tau(scores, mean):.3f}" for n, scores in first["fine_tuned"].items()))
    for name, row in found.items():
        if row["trained"] is not None and name.startswith("seed"):
            scores = np.array(row["steps"])
            ranks = (-scores).argsort(axis=1, kind="stable").argsort(axis=1) + 1
            just = np.array([ranks[step, one] - ranks[:, one].mean() for step, one in enumerate(row["trained"])])
            test = ttest_1samp(just, 0)
            print(f"{name}: rank of the network trained last minus its mean rank: {just.mean():+.1f} (p {test.pvalue:.2g})")


def groups(found: dict[str, Any]) -> dict[str, list[str]]:
    """The runs of each setting: all that differ in their last word only."""
    titles: dict[str, list[str]] = {"order": ["seed 0"]}
    for name in found:
        titles.setdefault(name.rsplit(" ", 1)[0], []).append(name)
    return titles


if __name__ == "__main__":
    main()
