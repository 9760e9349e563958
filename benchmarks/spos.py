"""SPOS on CIFAR-10 at 16 pixels: how well joint supernets of blocks and widths rank networks, and what their search finds.

The space is `shuffle` in its preset for 16 pixels with the eight widths: 7 blocks, 3.4e10 networks. The truth is 120 networks trained
on their own. Supernets: uniform paths with and without width warm-up (three seeds each), paths from bins of MACs, and SGD that also
touches what a narrow path leaves out. Then evolution against random search under a bound on MACs and under one on
measured latency, and the winners retrained beside five random networks that keep the same bound.

Rows and checkpoints are kept; run again to go on. About two and a half hours on one core; `--only` splits it over processes.

    OMP_NUM_THREADS=1 python benchmarks/spos.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import torch
from rows import Rows

from evonas import Budget, EvolutionExplorer, RandomExplorer, open_study, search
from evonas.diagnosis import Truth, diagnose
from evonas.profile import parse_bounds
from evonas.ranking import bootstrap, judge, stability, tau
from evonas.sampling import draw_feasible
from predictors import costs
from predictors.devices.runtime import measure
from predictors.devices.table import LatencyTable, corrected, measure_blocks, read_table, spread
from supernet import BinnedPaths, ImageData, InheritedFitness, StandAlone, UniformPaths, WarmUp, load, recalibrate, shuffle, train
from supernet.chain import ChainSupernet
from supernet.evaluation import accuracy
from supernet.spaces import WIDTHS
from supernet.training import loop
from supernet.training.binned import usual_range
from supernet.training.way import Way

NETWORKS = 120
ALONE = {"epochs": 5, "batch_size": 64, "lr": 0.1}
SUPERNET = {"epochs": 30, "batch_size": 64, "lr": 0.1}
RETRAINED = {"epochs": 12, "batch_size": 64, "lr": 0.1}
EVALUATIONS, SEARCHED = 300, 1000
BOUNDS = ("macs=30%", "latency=30%")
SEEDS = (0, 1, 2)
CPU = torch.device("cpu")


def supernets() -> dict[str, tuple[int, Callable[[ChainSupernet], Way]]]:
    """(seed, way) of every supernet by name."""

    def binned(supernet: ChainSupernet) -> Way:
        cost = costs.macs(supernet.space, supernet.parts())
        return BinnedPaths(cost, *usual_range(supernet.space, cost))

    return {
        **{f"warm-up {seed}": (seed, lambda s: WarmUp()) for seed in SEEDS},
        **{f"uniform {seed}": (seed, lambda s: UniformPaths()) for seed in SEEDS},
        "bins 0": (0, binned),
        "plain SGD 0": (0, lambda s: WarmUp()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    parser.add_argument("--only", choices=("truth", "supernets", "search", "retrain", "tables"), nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_spos"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    images, wanted = load(a.data), a.only or ("truth", "supernets", "search", "retrain", "tables")
    first = joint(images, 0)
    networks = draw_feasible(first.space, Budget(), NETWORKS, np.random.default_rng(11))
    truth = Rows(a.out / "truth.jsonl")
    if "truth" in wanted:
        for i, row in enumerate(networks):
            truth.row(f"joint {i}", partial(alone, first, row, images, 0, ALONE))
    scores = Rows(a.out / "scores.jsonl")
    if "supernets" in wanted:
        for name in supernets():
            supernet = train_one(name, images, a.out)
            for how in ("recalibrated", "running")[: 2 if name in ("warm-up 0", "uniform 0") else 1]:
                scores.row(f"{name}, {how}", partial(scored, supernet, networks, images, how == "recalibrated"), True)
    found, retrained = Rows(a.out / "search.jsonl"), Rows(a.out / "retrained.jsonl")
    if {"search", "retrain"} & set(wanted):
        budgets = {text: bounded(first, text, images, a.out) for text in BOUNDS}
    if "search" in wanted:
        trained = [train_one(f"warm-up {seed}", images, a.out) for seed in SEEDS]
        for text, budget in budgets.items():
            for seed in SEEDS:
                found.row(f"{text} {seed}", partial(searched, trained[seed], budget, images, seed))
    if "retrain" in wanted:
        if missing := [text for text in BOUNDS if f"{text} 0" not in found]:
            parser.error(f"the winner under {missing[0]} is not known yet; run --only search first")
        for text, budget in budgets.items():
            random = draw_feasible(first.space, budget, 5, np.random.default_rng(12))
            winner = np.array(found.row(f"{text} 0", dict, True)["winner"])
            for i, row in enumerate([winner, *random]):
                for seed in SEEDS:
                    key = f"{text} {'winner' if i == 0 else f'random {i}'} {seed}"
                    retrained.row(key, partial(alone, first, row, images, seed, RETRAINED))
    if "tables" in wanted:
        tables(first, networks, truth, scores, found, retrained)


def joint(images: ImageData, seed: int) -> ChainSupernet:
    return shuffle(images.image_shape, len(images.classes), widths=WIDTHS, seed=seed)


def alone(supernet: ChainSupernet, row: np.ndarray, images: ImageData, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Test accuracy of a network trained on its own."""
    network, start = supernet.subnet(row, fresh_seed=seed), time.perf_counter()
    train(network, StandAlone(), images.train, seed=seed, **settings)
    found = {"accuracy": accuracy(network, images.test, CPU)}
    for name, batches in (("plain", images.train.batches(128, CPU)), ("augmented", images.train.epoch(128, (seed, 0), CPU))):
        recalibrate(network, batches)
        found[name] = accuracy(network, images.test, CPU)
    return {**found, "network": row.tolist(), "seconds": time.perf_counter() - start}


def train_one(name: str, images: ImageData, out: Path) -> ChainSupernet:
    """The supernet of a name, from its checkpoint where that is complete."""
    start, (seed, way) = time.perf_counter(), supernets()[name]
    supernet = joint(images, seed)
    out.mkdir(parents=True, exist_ok=True)
    plain = mock.patch.object(loop, "PathSGD", lambda groups, lr, momentum, wide: torch.optim.SGD(groups, lr=lr, momentum=momentum))
    settings = {**SUPERNET, "seed": seed, "checkpoint": out / f"{name.replace(' ', '-')}.pt", "identity": name}
    if name.startswith("plain"):
        with plain:
            losses = train(supernet, way(supernet), images.train, **settings)
    else:
        losses = train(supernet, way(supernet), images.train, **settings)
    print(f"{name}: {time.perf_counter() - start:.0f} s in this process, loss {losses[-1]['loss']:.3f}", flush=True)
    return supernet


def scored(supernet: ChainSupernet, population: np.ndarray, images: ImageData, calibrated: bool) -> dict[str, Any]:
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(512) if calibrated else None)
    accuracies, likelihoods = fitness.both(population)
    return {"accuracy": accuracies.tolist(), "likelihood": likelihoods.tolist()}


def bounded(supernet: ChainSupernet, text: str, images: ImageData, out: Path) -> Budget:
    """The bound that the cheapest part of the space keeps; latency is measured once and kept."""
    known: dict[str, Any] = {"macs": costs.macs(supernet.space, supernet.parts())}
    if text.startswith("latency"):
        known["latency"] = latency(supernet, images, out / "latency.json")
    return Budget(known, parse_bounds([text], supernet.space, known))


def latency(supernet: ChainSupernet, images: ImageData, path: Path) -> LatencyTable:
    """Blocks measured on this host, corrected by ten whole networks."""
    if not path.exists():
        table = measure_blocks(supernet.space, supernet.parts())
        rows = spread(supernet.space, table, 10, 0)
        measured = [measure(supernet.subnet(row), images.image_shape) for row in rows]
        corrected(table, rows, measured).save(path, supernet.space)
    table = read_table(path, supernet.space)
    print(f"latency: {table.residual}", flush=True)
    return table


def searched(supernet: ChainSupernet, budget: Budget, images: ImageData, seed: int) -> dict[str, Any]:
    """Evolution with the paper's settings and random search, as many evaluations each, under the same bound."""
    fitness = InheritedFitness(supernet, images.search.head(SEARCHED), images.train.head(512))
    row: dict[str, Any] = {"bound": str(budget)}
    for name, explorer in (("evolution", EvolutionExplorer), ("random", RandomExplorer)):
        result = search(
            supernet.space,
            fitness,
            explorer(supernet.space, budget, seed=seed),
            evaluations=EVALUATIONS,
            study=open_study(None, name),
            budget=budget,
        )
        history = result.history
        assert len(set(map(tuple, history.population.tolist()))) == EVALUATIONS
        assert budget.feasible(history.population).all()
        row[name] = np.maximum.accumulate(history.scores).tolist()
        if name == "evolution":
            row["winner"] = history.population[history.scored[0]].tolist()
    return row


def tables(supernet: ChainSupernet, networks: np.ndarray, truth: Rows, scores: Rows, found: Rows, retrained: Rows) -> None:
    """Everything printed."""
    true = np.array([truth.row(f"joint {i}", dict, True)["accuracy"] for i in range(len(networks))])
    parts, space = supernet.parts(), supernet.space
    cheap = {"MACs": costs.macs(space, parts)(networks), "parameters": costs.params(space, parts)(networks)}
    print(f"{len(true)} networks: {100 * true.min():.1f} to {100 * true.max():.1f} %, sd {100 * true.std():.2f} points")
    for name, values in cheap.items():
        print(f"{name}: tau {tau(values, true):.3f}")
    print(
        "\n| supernet | tau by accuracy (95 %) | by likelihood | mean accuracy | without recalibration: tau | mean accuracy |\n|"
        + "---|" * 6
    )
    kept: dict[str, np.ndarray] = {}
    for name in supernets():
        row = scores.row(f"{name}, recalibrated", dict, True)
        kept[name] = accuracies = np.array(row["accuracy"])
        low, high = judge(accuracies, true[:, None], draws=1000)["interval"]
        by_likelihood = tau(np.array(row["likelihood"]), true)
        line = f"| {name} | {tau(accuracies, true):.3f} ({low:.3f} to {high:.3f}) | {by_likelihood:.3f} | {100 * accuracies.mean():.1f} % |"
        if f"{name}, running" in scores:
            running = np.array(scores.row(f"{name}, running", dict, True)["accuracy"])
            line += f" {tau(running, true):.3f} | {100 * running.mean():.1f} % |"
        print(line)
    known = Truth(networks, true[:, None], "trained on their own")
    for name in ("warm-up 0", "uniform 0"):
        found_here = diagnose(space, known, kept[name], baselines=cheap, features=cheap)
        print(f"diagnosis of {name}: {json.dumps({key: found_here[key] for key in ('supernet', 'baselines')})}")
        print(f"overrated with {name}: {json.dumps(found_here['profile']['features'])}; widths of block 0: ", end="")
        print(json.dumps(found_here["profile"]["options"][space.names[1]]))
    for way in ("warm-up", "uniform"):
        print(f"{way}: S-Tau of three seeds {stability(np.array([kept[f'{way} {seed}'] for seed in SEEDS])):.3f}")
    pairs = [("warm-up", "uniform", seed) for seed in SEEDS] + [("bins", "uniform", 0), ("warm-up", "plain SGD", 0)]
    for one, other, seed in pairs:
        both = np.stack([kept[f"{one} {seed}"], kept[f"{other} {seed}"]], axis=1)
        low, high = bootstrap(both, true, lambda v, t: tau(v[:, 0], t) - tau(v[:, 1], t))
        difference = tau(both[:, 0], true) - tau(both[:, 1], true)
        print(f"{one} over {other}, seed {seed}: {difference:+.3f} [{low:+.3f}, {high:+.3f}]")
    for text in BOUNDS:
        print()
        for seed in SEEDS:
            row = found.row(f"{text} {seed}", dict, True)
            at = ", ".join(
                f"{n}: {100 * row['evolution'][n - 1]:.1f} / {100 * row['random'][n - 1]:.1f}" for n in (50, 100, 200, EVALUATIONS)
            )
            print(f"{row['bound']}, supernet {seed}, best of evolution / random after {at}")
        for who in ("winner", *(f"random {i}" for i in range(1, 6))):
            values = np.array([retrained.row(f"{text} {who} {seed}", dict, True)["accuracy"] for seed in SEEDS])
            each = ", ".join(f"{100 * value:.2f}" for value in values)
            print(f"{text} {who}: {100 * values.mean():.2f} +- {100 * values.std(ddof=1):.2f} % ({each})")
        keys = [f"{text} {who} {seed}" for who in ("winner", *(f"random {i}" for i in range(1, 6))) for seed in SEEDS]
        for what in ("plain", "augmented"):
            change = [row[what] - row["accuracy"] for row in (retrained.row(key, dict, True) for key in keys)]
            print(f"{text}: statistics taken anew on {what} images: {100 * np.mean(change):+.2f} points, sd {100 * np.std(change):.2f}")


if __name__ == "__main__":
    main()
