"""NAS-Bench-Macro within budgets: what a search that ranks by a supernet picks, against the published accuracies of what it could pick.

CIFAR-10 at 16 pixels, ten bounds on MACs (5 % to 95 % of the space). Supernets are trained in several ways at equal wall time on one
core, three seeds each, and score all 3,969 different networks. For every bound: how well accuracy, likelihood and the fused score rank
the networks that keep it, what their first choice loses, and the whole movement of `evonas mobile`, which is an evolution of 300
evaluations on fused scores with hand-made networks first, then eight finalists that the table judges.

Rows and checkpoints are kept; run again to go on. `--only NAME ...` measures some supernets, so that processes can share the work.

    OMP_NUM_THREADS=1 python benchmarks/within.py --data cifar16.npz --table nasbench_macro.npz
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows

from evonas import Budget, EvolutionExplorer, open_study, search
from evonas.budget import Bound
from evonas.fusion import FusedFitness
from evonas.hand_made import hand_made
from evonas.ranking import best, tau
from evonas.sampling import draw_feasible
from evonas.tabular import Table, identities_last, nasbench_macro
from predictors import costs
from supernet import FairPaths, ImageData, InheritedFitness, UniformPaths, load, macro, train
from supernet.chain import ChainSupernet
from supernet.training.sandwich import Sandwich
from supernet.training.way import Way

CALIBRATION, SEARCHED, CHUNK = 512, 1000, 400
EPOCHS, TIMED_STEPS = 32, 40
SCORED_ON = torch.device("cpu")
SETTINGS: dict[str, Any] = {"batch_size": 32, "lr": 0.05, "weight_decay": 5e-4}
SHARES = np.linspace(0.05, 0.95, 10)
EVALUATIONS, FINALISTS, REFERENCE = 300, 8, 512
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Kind:
    """How a supernet is trained."""

    way: Callable[[ChainSupernet], Way]
    average: float = 0.0


KINDS = {
    "uniform": Kind(lambda supernet: UniformPaths()),
    "averaged": Kind(lambda supernet: UniformPaths(), average=0.9995),
    "fair": Kind(lambda supernet: FairPaths()),
    "sandwich": Kind(lambda supernet: Sandwich(costs.macs(supernet.space, supernet.parts()))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro, the official JSON file or .npz")
    parser.add_argument("--only", nargs="*", help="supernets to train and score, such as 'uniform 0'; no table is printed then")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_within"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    images, table = load(a.data), nasbench_macro(a.table)
    networks = macro(images.image_shape).space.enumerate()
    truth = published(table, networks)
    for name in a.only or [f"{kind} {seed}" for seed in SEEDS for kind in KINDS]:
        kept = Rows(a.out / f"{name.replace(' ', '-')}.jsonl")
        kind, seed = name.split()
        supernet = trained(kind, int(seed), images, a.out, kept)
        scores = all_scored(supernet, networks, images, kept)
        print(f"{name}: scored, mean inherited accuracy {scores['accuracy'].mean():.4f}", flush=True)
        report(name, networks, truth, scores)
    if not a.only:
        print(LINES)


LINES = "\ntau and regret (points of true accuracy lost) are means over the ten bounds"


def published(table: Table, networks: np.ndarray) -> np.ndarray:
    """The accuracy of every network; rows of the table that are one network give their mean."""
    at = {tuple(row): i for i, row in enumerate(networks.tolist())}
    row_of = [at[tuple(row)] for row in identities_last(table.architectures).tolist()]
    return np.asarray(np.bincount(row_of, table.columns["test"].mean(axis=1)) / np.bincount(row_of))


def all_scored(supernet: ChainSupernet, networks: np.ndarray, images: ImageData, kept: Rows) -> dict[str, np.ndarray]:
    """Accuracy and likelihood of all networks, kept chunk by chunk."""
    starts = range(0, len(networks), CHUNK)
    rows = [kept.row(str(i), partial(scored, supernet, networks[i : i + CHUNK], images), quiet=True) for i in starts]
    return {key: np.concatenate([row[key] for row in rows]) for key in ("accuracy", "likelihood")}


def trained(kind: str, seed: int, images: ImageData, out: Path, kept: Rows) -> ChainSupernet:
    """The supernet of a kind, for as long as uniform paths take for their epochs; from its checkpoint where that is complete."""
    supernet = macro(images.image_shape, seed=seed)
    epochs = EPOCHS if kind == "uniform" else round(EPOCHS * float(kept.row("share", partial(share, kind, images), quiet=True)["share"]))
    start = time.perf_counter()
    way, average = KINDS[kind].way(supernet), KINDS[kind].average
    checkpoint = out / f"{kind}-{seed}.pt"
    train(
        supernet, way, images.train, epochs=epochs, seed=seed, average=average, checkpoint=checkpoint, identity=[kind, epochs], **SETTINGS
    )
    print(f"{kind} {seed}: {epochs} epochs, {time.perf_counter() - start:.0f} s of training in this process", flush=True)
    return supernet


def share(kind: str, images: ImageData) -> dict[str, Any]:
    """Epochs of a kind for an epoch of uniform paths in the same time."""
    seconds = {}
    for name in ("uniform", kind, "uniform", kind):
        supernet = macro(images.image_shape)
        part = images.train.head(TIMED_STEPS * SETTINGS["batch_size"])
        start = time.perf_counter()
        train(supernet, KINDS[name].way(supernet), part, epochs=1, average=KINDS[name].average, **SETTINGS)
        seconds[name] = time.perf_counter() - start
    return {"share": seconds["uniform"] / seconds[kind]}


def scored(supernet: ChainSupernet, networks: np.ndarray, images: ImageData) -> dict[str, Any]:
    """Accuracy and likelihood with shared weights."""
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION), device=SCORED_ON)
    accuracy, likelihood = fitness.both(networks)
    return {"accuracy": accuracy.tolist(), "likelihood": likelihood.tolist()}


def report(name: str, networks: np.ndarray, truth: np.ndarray, scores: dict[str, np.ndarray]) -> None:
    """Means over the ten bounds: how scores rank, what their first choice and the best of their first eight lose, and the movement."""
    supernet = macro()
    space, macs, operators = supernet.space, costs.macs(supernet.space, supernet.parts()), costs.operators(supernet.space)
    at = {tuple(row): i for i, row in enumerate(networks.tolist())}
    known = np.asarray(macs(networks))
    found: dict[str, list[list[float]]] = {}

    def both(population: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [at[tuple(row)] for row in population.tolist()]
        return scores["accuracy"][rows], scores["likelihood"][rows]

    for share_ in SHARES:
        bound = float(np.quantile(known, share_))
        budget = Budget({"macs": macs}, (Bound("macs", upper=bound),))
        inside = np.flatnonzero(known <= bound)
        reference = draw_feasible(space, budget, REFERENCE, np.random.default_rng(23))
        fused = FusedFitness(both, [macs, operators], reference, both(reference)[1])
        orders = {
            **{key: scores[key][inside] for key in scores},
            "fused": fused.fused(networks[inside], scores["likelihood"][inside]),
            "macs": known[inside],
        }
        for key, values in orders.items():
            top = inside[np.argsort(-values, kind="stable")]
            upper = best(truth[inside], 0.1)
            losses = [100 * (truth[inside].max() - truth[top[:count]].max()) for count in (1, FINALISTS)]
            found.setdefault(key, []).append([tau(values, truth[inside]), tau(values[upper], truth[inside][upper]), *losses])
        first = hand_made(space, budget, macs, operators)
        explorer = EvolutionExplorer(space, budget, seed=0, first=first)
        result = search(space, fused, explorer, evaluations=EVALUATIONS, study=open_study(None, "within"), budget=budget)
        order = [at[tuple(row)] for row in result.history.population[explorer.recommend(result.history)[:FINALISTS]].tolist()]
        losses = [100 * (truth[inside].max() - truth[order[:count]].max()) for count in (1, FINALISTS)]
        found.setdefault("movement", []).append([float("nan"), float("nan"), *losses])
    for key, rows in found.items():
        means = np.mean(rows, axis=0)
        print(
            f"{name}, {key}: tau {means[0]:.3f}, in the top tenth {means[1]:.3f}, regret {means[2]:.3f}, best of eight {means[3]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
