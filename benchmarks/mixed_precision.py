"""Mixed precision on CIFAR-10 at 16 pixels: the winner under a bound on BitOps against the best network of one precision under it.

The space is `quantised` with 6 narrow blocks, 46,656 networks, all of whose blocks have as many MACs (8, 16 and 32 channels) or whose late
blocks have fewer (8, 12 and 16). (With the 16, 32 and 64 channels of the preset, one bit did as well as two after as many epochs.)
Supernets are trained by uniform paths and with warm-up; evolution searches them under the BitOps of networks of one precision; the winners
and the networks of one precision are trained on their own, from fresh weights and from those of the supernet with warm-up.

Rows and checkpoints are kept; run again to go on. About an hour on one core, with --case uneven half of it.

    OMP_NUM_THREADS=1 python benchmarks/mixed_precision.py --data cifar16.npz
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

from evonas import Bound, Budget, EvolutionExplorer, RandomExplorer, open_study, search
from evonas.ranking import tau
from predictors import costs
from supernet import ImageData, InheritedFitness, StandAlone, UniformPaths, WarmUp, load, quantised, train
from supernet.chain import ChainSupernet
from supernet.evaluation import accuracy
from supernet.spaces.quantised import BITS, Layout
from supernet.training.way import Way

SUPERNET = {"epochs": 60, "batch_size": 64, "lr": 0.1}
STARTS = {  # of the training of networks on their own
    ", from the supernet": {"epochs": 10, "batch_size": 64, "lr": 0.02},
    "": {"epochs": 20, "batch_size": 64, "lr": 0.1},
}
EVALUATIONS = 300
WAYS: dict[str, Callable[[], Way]] = {"": UniformPaths, ", warm-up": WarmUp}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A network, the supernets that are trained for it, the precisions compared, those whose BitOps are bounds, and what ranks."""

    layout: Layout
    ways: tuple[str, ...]
    precisions: tuple[str, ...]
    bounds: tuple[str, ...]
    score: str


CASES = {
    "even": Case(Layout((8, 16, 32), (2, 2, 2), large_stem=False), ("", ", warm-up"), BITS, ("w2a2", "w2a4", "w3a4"), "accuracy"),
    "uneven": Case(Layout((8, 12, 16), (2, 2, 2), large_stem=False), (", warm-up",), BITS[:4], ("w2a2", "w2a4"), "likelihood"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--case", choices=CASES, default="even", help="even: all blocks have as many MACs; uneven: late ones have fewer")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_mixed_precision"))
    a = parser.parse_args()
    case, out = CASES[a.case], a.out / a.case
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    images = load(a.data)
    out.mkdir(parents=True, exist_ok=True)
    rows = Rows(out / "rows.jsonl")
    supernets = {way: supernet_of(way, case.layout, images, out) for way in case.ways}
    supernet = supernets[", warm-up"]
    cost = costs.bit_ops(supernet.space, supernet.parts())
    uniform = {option: np.full(len(supernet.space), BITS.index(option)) for option in case.precisions}
    networks = dict(uniform)
    bounds = {bound: float(cost(uniform[bound][None])[0]) for bound in case.bounds}
    for bound, limit in bounds.items():
        for way in case.ways:
            found = rows.row(f"search {bound}{way}", partial(searched, supernets[way], limit, cost, images, case.score), quiet=True)
            networks[f"mixed, at most {bound}{way}"] = np.array(found["winner"])
            print(f"{bound}{way}: {found['evolution']:.4f} inherited, random search {found['random']:.4f}, {found['names']}", flush=True)
    for start in STARTS:
        print(f"\ntrained on their own{start}")
        alone = {}
        for name, network in networks.items():
            measure = partial(trained, supernet, network, images, start)
            found = [rows.row(f"{name}{start} {seed}", partial(measure, seed), quiet=True) for seed in SEEDS]
            alone[name] = values = 100 * np.array([row["accuracy"] for row in found])
            bit_ops = cost(network[None])[0] / 1e6
            print(f"{name}: {bit_ops:.2f} M BitOps, {values.mean():.2f} +- {values.std(ddof=1):.2f} %, {values}", flush=True)
        for bound, limit in bounds.items():
            best = max((name for name in uniform if cost(uniform[name][None])[0] <= limit), key=lambda name: alone[name].mean())
            for way in case.ways:
                ahead = alone[f"mixed, at most {bound}{way}"] - alone[best]
                print(f"at most {bound}{way}: mixed over {best}, the best of one precision: {ahead.mean():+.2f} points, by seed {ahead}")
        own = np.array([values.mean() for values in alone.values()])
        for way, one in supernets.items():
            scores = rows.row(f"inherited{way}", partial(scored, one, np.stack(list(networks.values())), images), quiet=True)
            taus = {key: round(tau(np.array(scores[key]), own), 3) for key in ("accuracy", "likelihood")}
            mean = np.mean(scores["accuracy"])
            print(f"inherited{way or ', uniform paths'} against alone, {len(own)} networks: tau {taus}; mean {mean:.3f}")


def supernet_of(way: str, layout: Layout, images: ImageData, out: Path) -> ChainSupernet:
    """A supernet, from its checkpoint where that is complete."""
    supernet, start = quantised(images.image_shape, len(images.classes), layout=layout), time.perf_counter()
    path = out / f"supernet{way.replace(', ', '-')}.pt"
    losses = train(supernet, WAYS[way](), images.train, checkpoint=path, identity="mixed precision", **SUPERNET)
    print(f"supernet{way}: {time.perf_counter() - start:.0f} s in this process, loss {losses[-1]['loss']:.3f}", flush=True)
    return supernet


def searched(supernet: ChainSupernet, limit: float, cost: costs.AdditiveCost, images: ImageData, score: str) -> dict[str, Any]:
    """Evolution and random search under a bound, as many evaluations each."""
    inherited = InheritedFitness(supernet, images.search, images.train.head(512))
    fitness = inherited.likelihood if score == "likelihood" else inherited
    budget = Budget({"bitops": cost}, [Bound("bitops", upper=limit)])
    row: dict[str, Any] = {}
    for name, explorer in (("random", RandomExplorer), ("evolution", EvolutionExplorer)):
        study = open_study(None, name)
        history = search(
            supernet.space, fitness, explorer(supernet.space, budget), evaluations=EVALUATIONS, study=study, budget=budget
        ).history
        row[name] = float(history.scores[history.scored[0]])
    winner = history.population[history.scored[0]]
    return {**row, "winner": winner.tolist(), "names": " ".join(supernet.space.to_names(winner).values())}


def scored(supernet: ChainSupernet, population: np.ndarray, images: ImageData) -> dict[str, Any]:
    """Accuracies and likelihoods with inherited weights."""
    found = InheritedFitness(supernet, images.search, images.train.head(512)).both(population)
    return dict(zip(("accuracy", "likelihood"), (values.tolist() for values in found), strict=True))


def trained(supernet: ChainSupernet, network: np.ndarray, images: ImageData, start: str, seed: int) -> dict[str, Any]:
    """Test accuracy of a network trained on its own, from fresh weights or from those of the supernet."""
    alone = supernet.subnet(network, fresh_seed=None if start else seed)
    train(alone, StandAlone(), images.train, seed=seed, **STARTS[start])
    return {"accuracy": accuracy(alone, images.test, torch.device("cpu"))}


if __name__ == "__main__":
    main()
