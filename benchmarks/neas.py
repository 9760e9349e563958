"""NEAS: one ensemble beside one network and beside an ensemble of two, as dear; where to split; what shrinking is worth.

CIFAR-10 at 16 pixels. Networks have 8 layers of 8, 16 and 24 channels (kernels 3, 5, 7, expansions 3 and 6, skip).

  equal BOUND SEED    BOUND is macs (0.8 times those of the dearest single network) or latency (as measured here, likewise). A supernet
                      of ensembles of two and one of single networks are trained for as many epochs, both searched by likelihood under
                      the bound, winners trained alike. "single" is the best network; "pair" the two best under half of the bound,
                      trained apart, whose logits are averaged; "split free", "none shared" and "all shared" (the latter two under macs)
                      are ensembles as one network
  near SEED           the best single network that has at least 0.9 of the bound of `equal macs`
  search SEED         the supernet of ensembles of `equal`, macs: evolution with operators of its own and with DEAP's uniform ones, and
                      random search, 150 evaluations, 5 seeds of the search; and the walk through members beside one through ensembles
  shrink KIND SEED    ensembles of 5 layers of 8, 16 and 24 channels: none, diversity+likelihood, likelihood, diversity or random; 30 random
                      ensembles of what is left, trained one by one on 4,000 images, ranked by the supernet

Likelihood and calibration error (15 bins) are of the softmax of the mean logits on 10,000 test images; disagreement is the share of test
images that two members classify differently. Rows and checkpoints are kept; run again to go on.

    OMP_NUM_THREADS=1 python benchmarks/neas.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evonas import Budget, EvolutionExplorer, RandomExplorer, open_study, search
from evonas.explorers.base import Explorer
from evonas.ranking import tau
from evonas.space import SearchSpace
from predictors import costs
from predictors.devices import runtime
from predictors.devices.table import LatencyTable, corrected, measure_blocks, spread
from supernet import ImageData, InheritedFitness, Shrinking, StandAlone, UniformPaths, ensemble, load, mbconv, train
from supernet.chain import ChainSupernet
from supernet.ensemble_chain import EnsembleSupernet
from supernet.ensemble_variation import crossover, mutation
from supernet.spaces.ensemble import SPLIT
from supernet.training.ensemble import EnsembleAlone, EnsemblePaths, members_of
from supernet.training.way import Way

EPOCHS, ALONE_EPOCHS, EVALUATIONS, SEARCHED, CALIBRATION = 12, 10, 150, 500, 512
SHARE, MEASURED_WHOLE, BINS = 0.8, 10, 15
LARGE: dict[str, Any] = {"layout": "digits", "widths": (8, 16, 24)}
SMALL: dict[str, Any] = {"layout": "digits", "widths": (8, 16, 24), "depths": (1, 2, 2)}
SMALL_EPOCHS, SMALL_ALONE, SMALL_IMAGES, RANKED = 16, 6, 4000, 30
SETTINGS: dict[str, Any] = {"batch_size": 128, "lr": 0.2, "weight_decay": 1e-4}
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    names = [f"equal {bound} {seed}" for seed in range(3) for bound in ("macs", "latency")]
    names += ["near 0", "near 1", "near 2", "search 0"]
    names += [f"shrink {kind} {seed}" for seed in (0, 1) for kind in ("none", "diversity+likelihood", "random", "likelihood", "diversity")]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_neas"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    images, rows = load(a.data), Rows(a.out / "rows.jsonl")
    for name in a.only:
        kind, *words = name.split()
        measures = {"equal": equal, "near": near, "search": searches, "shrink": shrunk}
        found = rows.row(name, partial(measures[kind], images, a.out, rows, *words), quiet=True)
        print(f"\n{name}")
        for key, value in found.items():
            if key != "key":
                print(f"  {key}: {value}", flush=True)


# As dear


def trained(kind: str, images: ImageData, out: Path, seed: int) -> Any:
    """A supernet of ensembles or of single networks, from its checkpoint where that is complete."""
    make, way = {"ensemble": (ensemble, EnsemblePaths), "single": (mbconv, UniformPaths)}[kind]
    supernet: Any = make(images.image_shape, len(images.classes), seed=seed, **LARGE)  # type: ignore[operator]
    train(supernet, way(), images.train, epochs=EPOCHS, seed=seed, checkpoint=out / f"{kind}{seed}.pt", **SETTINGS)
    return supernet


def cost_of(bound: str, supernet: ChainSupernet) -> Any:
    """The cost that is bounded."""
    if bound == "macs":
        return costs.macs(supernet.space, supernet.parts())
    table: LatencyTable = measure_blocks(supernet.space, supernet.parts())
    whole = spread(supernet.space, table, MEASURED_WHOLE, 0)
    return corrected(table, whole, [runtime.measure(supernet.subnet(row), supernet.image_shape) for row in whole])


def equal(images: ImageData, out: Path, rows: Rows, bound: str, seed: str) -> dict[str, Any]:
    """Everything under one bound; every part is a row of its own."""
    together, single = trained("ensemble", images, out, int(seed)), trained("single", images, out, int(seed))
    known: dict[str, Any] = {}

    def priced() -> dict[str, Any]:
        known["ensemble"], known["single"] = cost_of(bound, together), cost_of(bound, single)
        pool = single.space.sample(20000, np.random.default_rng(0))
        return {"upper": SHARE * float(known["single"](pool).max())}

    upper = float(rows.row(f"bound {bound} {seed}", priced, quiet=True)["upper"])
    if not known:  # a run that goes on
        priced()
    found = {"bound": round(upper, 4)}
    spaces = {"split free": together.space}
    splits = together.space.choices[0].options
    if bound == "macs":
        fixed = {"none shared": splits[0], "all shared": splits[-1]}
        spaces |= {name: together.space.narrow({SPLIT: [split]}) for name, split in fixed.items()}
    for name, space in spaces.items():
        measure = partial(_one, together, space, Budget({bound: known["ensemble"]}, [f"{bound}={upper}"]), images, int(seed), 1)
        found[name] = rows.row(f"{name} {bound} {seed}", measure, quiet=True)
    budgets = {name: Budget({bound: known["single"]}, [f"{bound}={share * upper}"]) for name, share in (("single", 1.0), ("pair", 0.5))}
    for name, budget in budgets.items():
        measure = partial(_one, single, single.space, budget, images, int(seed), 2 if name == "pair" else 1)
        found[name] = rows.row(f"{name} {bound} {seed}", measure, quiet=True)
    return found


def near(images: ImageData, out: Path, rows: Rows, seed: str) -> dict[str, Any]:
    """A single network that uses the bound; `equal macs` has to be measured before."""
    single = trained("single", images, out, int(seed))
    upper = float(rows.row(f"bound macs {seed}", dict, quiet=True)["upper"])
    budget = Budget({"macs": cost_of("macs", single)}, [f"macs={0.9 * upper}..{upper}"])
    return _one(single, single.space, budget, images, int(seed), 1)


def _one(supernet: Any, space: SearchSpace, budget: Budget, images: ImageData, seed: int, count: int) -> dict[str, Any]:
    """The best `count` networks of a search, trained, together."""
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION)).likelihood
    is_ensemble = isinstance(supernet, EnsembleSupernet)
    operators = {"mutate": mutation(supernet), "mate": crossover(supernet)} if is_ensemble and len(space.allowed[0]) > 1 else {}
    explorer = EvolutionExplorer(space, budget, seed=seed, **operators)
    history = search(space, fitness, explorer, evaluations=EVALUATIONS, study=open_study(None, "search"), budget=budget).history
    best = history.population[history.scored[:count]]
    logits, start, milliseconds = [], time.perf_counter(), 0.0
    for number, row in enumerate(best):
        network = supernet.network(row, seed=seed + 100 * number)
        way: Way = EnsembleAlone() if is_ensemble else StandAlone()
        train(network, way, images.train, epochs=ALONE_EPOCHS, seed=seed + 100 * number, **SETTINGS)
        logits += list(_said(network, images, is_ensemble))
        milliseconds += runtime.measure(network, images.image_shape)
    labels = torch.cat([labels for _, labels in images.test.batches(500, CPU)])
    return {
        **judged(torch.stack(logits), labels),
        "bounded": round(float(budget.costs[budget.bounds[0].cost](best).sum()), 4),
        "milliseconds": round(milliseconds, 4),
        "seconds of training": round(time.perf_counter() - start),
        **({"split": space.choices[0].options[best[0, 0]]} if is_ensemble else {}),
    }


def _said(network: nn.Module, images: ImageData, is_ensemble: bool) -> Tensor:
    """Logits on the test images, shape (members, images, classes)."""
    network.eval()
    with torch.no_grad():
        batches = [batch for batch, _ in images.test.batches(500, CPU)]
        parts = [members_of(list(network), batch) if is_ensemble else network(batch)[None] for batch in batches]  # type: ignore[call-overload]
    return torch.cat(parts, dim=1)


def judged(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """What members of an ensemble say together; logits of shape (members, images, classes)."""
    mean, each = logits.mean(0), logits.argmax(2)
    confidence, said = mean.softmax(1).max(1)
    right = (said == labels).double()
    in_bin = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = [(in_bin == b).double().mean() * (right[in_bin == b].mean() - confidence[in_bin == b].mean()).abs() for b in in_bin.unique()]
    found = {
        "accuracy": round(float(right.mean()), 4),
        "likelihood": round(-float(cross_entropy(mean, labels)), 4),
        "calibration error": round(float(torch.stack(gaps).sum()), 4),
    }
    if len(logits) > 1:
        found["members"] = [round(float((one == labels).double().mean()), 4) for one in each]
        found["disagreement"] = round(float((each[0] != each[1]).double().mean()), 4)
    return found


# Search


class Together(EnsembleSupernet):
    """Scored as one network, not member by member: what the walk through members is compared with."""

    ensembles = False


def searches(images: ImageData, out: Path, rows: Rows, seed: str) -> dict[str, Any]:
    """Operators of variation, and the walk."""
    supernet = trained("ensemble", images, out, int(seed))
    cost = cost_of("macs", supernet)
    single = mbconv(images.image_shape, len(images.classes), **LARGE)
    upper = SHARE * float(cost_of("macs", single)(single.space.sample(20000, np.random.default_rng(0))).max())
    budget, space = Budget({"macs": cost}, [f"macs={upper}"]), supernet.space
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(CALIBRATION))
    makes: dict[str, Any] = {
        "own": lambda s: EvolutionExplorer(space, budget, seed=s, mutate=mutation(supernet), mate=crossover(supernet)),
        "uniform": lambda s: EvolutionExplorer(space, budget, seed=s),
        "random": lambda s: RandomExplorer(space, budget, seed=s),
    }
    found: dict[str, Any] = {}
    for name, make in makes.items():
        found[name] = [
            rows.row(f"search {name} {s}", partial(_best, space, fitness, make(s), budget), quiet=True)["best"] for s in range(5)
        ]
    population = space.sample(50, np.random.default_rng(0))
    seconds = {}
    for name, kind in (("members", EnsembleSupernet), ("ensembles", Together), ("members again", EnsembleSupernet)):
        supernet.__class__, start = kind, time.perf_counter()
        fitness.both(population)
        seconds[name] = round(time.perf_counter() - start, 1)
    return {**found, "seconds of 50 ensembles": seconds}


def _best(space: SearchSpace, fitness: InheritedFitness, explorer: Explorer, budget: Budget) -> dict[str, Any]:
    study = open_study(None, "search")
    history = search(space, fitness.likelihood, explorer, evaluations=EVALUATIONS, study=study, budget=budget).history
    return {"best": round(float(history.scores.max()), 4)}


# Shrinking


def shrunk(images: ImageData, out: Path, rows: Rows, kind: str, seed: str) -> dict[str, Any]:
    """How a supernet ranks ensembles of what is left, beside what they reach on their own."""
    supernet = ensemble(images.image_shape, len(images.classes), seed=int(seed), **SMALL)
    way: Way = EnsemblePaths()
    if kind != "none":
        way = Shrinking(EnsemblePaths(), score=kind, stop_size=1, per_choice=True, least=2, whole=[SPLIT], seed=int(seed))
    train(
        supernet,
        way,
        images.train.head(SMALL_IMAGES),
        epochs=SMALL_EPOCHS,
        seed=int(seed),
        checkpoint=out / f"shrink-{kind}-{seed}.pt",
        **SETTINGS,
    )
    population = np.unique(supernet.space.sample(200, np.random.default_rng(0)), axis=0)
    population = np.random.default_rng(1).permutation(population)[:RANKED]
    accuracy, likelihood = InheritedFitness(supernet, images.search.head(2000), images.train.head(CALIBRATION)).both(population)
    alone = [
        rows.row(f"alone {kind} {seed} {i}", partial(_alone, supernet, row, images, int(seed)), quiet=True)
        for i, row in enumerate(population)
    ]
    truth = np.array([row["accuracy"] for row in alone])
    names = supernet.space.names
    return {
        "tau of likelihood": round(float(tau(likelihood, truth)), 3),
        "tau of accuracy": round(float(tau(accuracy, truth)), 3),
        "tau of macs": round(float(tau(cost_of("macs", supernet)(population), truth)), 3),
        "mean accuracy alone": round(float(truth.mean()), 4),
        "best accuracy alone": round(float(truth.max()), 4),
        "accuracy of the first by likelihood": round(float(truth[likelihood.argmax()]), 4),
        "mean inherited accuracy": round(float(accuracy.mean()), 4),
        "disagreement": round(float(np.mean([row["disagreement"] for row in alone])), 4),
        "mean macs": round(float(cost_of("macs", supernet)(population).mean())),
        "left": {names[c]: [supernet.space.choices[c].options[i] for i in supernet.space.allowed[c]] for c in range(1, 6)},
    }


def _alone(supernet: EnsembleSupernet, row: np.ndarray, images: ImageData, seed: int) -> dict[str, Any]:
    network = supernet.network(row, seed=seed)
    train(network, EnsembleAlone(), images.train.head(SMALL_IMAGES), epochs=SMALL_ALONE, seed=seed, **SETTINGS)
    labels = torch.cat([labels for _, labels in images.test.batches(500, CPU)])
    return judged(_said(network, images, True), labels)


if __name__ == "__main__":
    main()
