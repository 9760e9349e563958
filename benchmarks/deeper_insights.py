"""Weight sharing at small scale: 64 networks of NAS-Bench-Macro, with shared weights, in groups, and on their own.

The protocol of Zhang et al. 2020 (arXiv 2001.01431), reduced: six layers are the identity or mb6_k5, the other two the identity;
CIFAR-10 at 8 pixels. The truth is the published table, three trainings of each network. Supernets train one network a step, in turn;
after every fourth of the last 64 steps and at the end of every epoch all 64 are scored, with batch-norm statistics as training left
them. Rows are kept; run again to go on. About 25 minutes on one core.

    OMP_NUM_THREADS=1 python benchmarks/deeper_insights.py --data cifar16.npz --table nasbench_macro.npz

The 64 networks of the paper's own space (`supernet.two_node`) would not do at a size for two cores: see docs/evidence.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows
from scipy.stats import ttest_1samp
from torch.nn.functional import avg_pool2d

from evonas.ranking import bootstrap, noise_ceiling, stability, tau, true_rank
from evonas.tabular import nasbench_macro
from supernet import FineTunedFitness, InheritedFitness, OrderedPaths, load, macro, split, train
from supernet.chain import ChainSupernet
from supernet.data import ImageData, TensorPart
from supernet.diagnosis.follow import Follower, ends_of_epochs
from supernet.diagnosis.sharing import own_group, random_groups, similar_groups

FREE, OPTIONS = (0, 1, 2, 3, 5, 6), ("identity", "mb6_k5")
BATCH, LR, SCORED, SEEDS, STRIDE = 64, 0.05, 300, 3, 4
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    parser.add_argument("--epochs", type=int, default=8, help="of a supernet")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_deeper_insights"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    images = load(a.data)
    images = replace(images, train=smaller(images.train), search=smaller(images.search).head(SCORED))
    rows = Rows(a.out / "rows.jsonl")
    population = supernet(0).space.enumerate()
    table = nasbench_macro(a.table)
    truth = table.columns["test"][table.rows(population)]
    found = {}
    for name, measure in settings(population, images, a.epochs).items():
        found[name] = rows.row(name, measure, quiet=True)
        print(f"{name}: measured", flush=True)
    tables(found, truth)


def smaller(part: TensorPart) -> TensorPart:
    """Half as many pixels each way: means of squares of four."""
    return TensorPart(avg_pool2d(part.images.float(), 2), part.labels, part.mean, part.scale, padding=1, flip=True)


def supernet(seed: int) -> ChainSupernet:
    made = macro((3, 8, 8), seed=seed)
    made.space = made.space.narrow({name: OPTIONS if i in FREE else OPTIONS[:1] for i, name in enumerate(made.space.names)})
    return made


def settings(population: np.ndarray, images: ImageData, epochs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured, by name, the headline rows first."""

    def run(network: ChainSupernet, seed: int, order: int | None = 0, **options: Any) -> Callable[[], dict[str, Any]]:
        networks = population if order is None else np.random.default_rng([order, 64]).permutation(population)
        return lambda: shared(network, networks, population, images, epochs, seed, reshuffle=order is None, **options)

    space = supernet(0).space
    todo = {f"seed {s}": run(supernet(s), s, fine_tune=(0, 2, 5, 10, 20) if s == 0 else ()) for s in range(SEEDS)}
    for s in range(SEEDS):
        todo[f"random 8 {s}"] = run(split(supernet(s), random_groups(space, 8, s), 8, seed=s), s)
        todo[f"similar 8 {s}"] = run(split(supernet(s), similar_groups(space, 8), 8, seed=s), s)
    todo |= {f"order {o}": run(supernet(0), 0, o) for o in range(1, SEEDS)}
    todo |= {f"reshuffled {s}": run(supernet(s), s, None) for s in range(2)}
    todo["alone 64 0"] = run(split(supernet(0), own_group(space), 64), 0)
    for m in (4, 16):
        todo[f"random {m} 0"] = run(split(supernet(0), random_groups(space, m, 0), m), 0)
        todo[f"similar {m} 0"] = run(split(supernet(0), similar_groups(space, m), m), 0)
    todo |= {f"prefix {k} 0": run(split(supernet(0), own_group(space), 64, first=1 + k), 0) for k in (0, 2, 4)}
    return todo


def shared(
    network: ChainSupernet,
    networks: np.ndarray,
    population: np.ndarray,
    images: ImageData,
    epochs: int,
    seed: int,
    *,
    reshuffle: bool,
    fine_tune: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Scores of all networks at the last steps and epochs, and which network each of those steps trained."""
    per_epoch = len(images.train) // BATCH
    last = per_epoch * epochs
    moments = {"steps": range(last - 64 + STRIDE, last + 1, STRIDE), "epochs": ends_of_epochs(per_epoch, epochs)}
    fitness = InheritedFitness(network, images.search, None)
    follower = Follower(lambda: fitness(population), {step for moment in moments.values() for step in moment})
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "lr": LR, "final_lr": 0.04 * LR, "seed": seed}
    train(network, OrderedPaths(networks, reshuffle=reshuffle), images.train, on_step=follower, **settings)
    at = [int(np.flatnonzero((population == networks[(step - 1) % len(networks)]).all(1))[0]) for step in moments["steps"]]
    tuned = {
        n: FineTunedFitness(network, images.search, images.train, steps=n, batch_size=BATCH, lr=LR / 5)(population).tolist()
        for n in fine_tune
    }
    return {
        **{name: follower.scores(moment).round(4).tolist() for name, moment in moments.items()},
        "recalibrated": InheritedFitness(network, images.search, images.train.head(512))(population).tolist(),
        "trained": None if reshuffle else at,
        "fine_tuned": tuned,
    }


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
