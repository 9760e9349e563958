"""NetAdaptV2: descents of several choices a step beside one, ordered dropout beside one network a batch, and whole runs beside SPOS.

  descent               a synthetic problem of 20 layers (below), target 40 %, 15 seeds, with and without interactions, steps of 1.5, 3
                        and 6 %: NetAdapt (every layer by itself) and 100 samples of 5 layers, each until the target is met; at 6 % with
                        fewer samples as well, 14 of which make as many evaluations as NetAdapt needs
  passes KIND N SEED    a supernet of the bypass space (8 blocks) trained for N times as many passes as an epoch has batches, forward and
                        backward: ordered-dropout, uniform (one network a batch), groups (four networks a batch, each with a quarter of the
                        images), sandwich (four passes a step, so a quarter of the steps); accuracy of 30 random networks with statistics
                        of their own, and seconds of a pass
  explorers SEED        a small residual network, trained, then adapted (TaughtPaths), under 50 % of its MACs: descent, Bayesian, evolution
                        and random search with as many evaluations, by the likelihood; the best of each and its test accuracy as it is
  whole SYSTEM SEED     evonas netadaptv2 and evonas spos as commands, the same images and the same bound on measured latency; the times of
                        supernet, search and retraining, and the winner

The synthetic problem: layer i has a width of 0, .1, ..., 1 of its full one, costs w_i c_i with c_i uniform in [.5, 1.5], and gives
g_i sqrt(w_i) with g_i uniform in [.2, 1]; interactions add .3 n_i w_i w_(i+1) with n_i standard normal. Accuracy is the sum over that of
the full network.

    OMP_NUM_THREADS=1 python benchmarks/netadaptv2.py --data cifar16.npz
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from rows import Rows
from torch.nn.functional import cross_entropy

from evonas import EXPLORERS, Budget, Choice, CoordinateDescentExplorer, Explorer, SearchSpace, open_study, search
from evonas.testing import TableCost
from predictors.costs import count_macs
from supernet import ImageData, InheritedFitness, OrderedDropout, StandAlone, UniformPaths, accuracy, bypass, load, mbconv, train
from supernet.given import GivenSupernet, importance, sizes
from supernet.training.registry import WAYS
from supernet.training.taught import TaughtPaths
from supernet.training.way import Way

LAYERS, LEVELS, TARGET, SEEDS = 20, 11, 0.4, 15
STEPS, SAMPLES, FEWER, TOGETHER = (0.015, 0.03, 0.06), 100, (14, 20, 50), 5
PASSES = (4, 12)  # times as many as an epoch has batches
RANKED = 30
GIVEN_EPOCHS, ADAPTED_EPOCHS, SEARCHED = 12, 3, 300
BOUND = "latency=0.09ms"
WHOLE = {"layout": "digits", "epochs": 6, "retrain-epochs": 10, "evaluations": 150, "finalists": 2}
SETTINGS: dict[str, Any] = {"batch_size": 64, "lr": 0.1, "weight_decay": 1e-4}


class Groups(UniformPaths):
    """Four uniform paths a step, each with a quarter of the images: one forward and backward pass of the batch."""

    groups = 4

    def step(self, network: Any, batch: Any, moment: Any, rng: np.random.Generator) -> Any:
        losses = [
            cross_entropy(network(images, network.space.sample(1, rng)[0]).float(), labels, label_smoothing=self.label_smoothing)
            for images, labels in zip(batch[0].chunk(self.groups), batch[1].chunk(self.groups), strict=True)
        ]
        return sum(losses[1:], losses[0]) / self.groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 at 16 pixels, .npz")
    kinds = ("ordered-dropout", "uniform", "groups", "sandwich")
    names = ["descent", *(f"passes {kind} {n} {seed}" for seed in range(3) for n in PASSES for kind in kinds)]
    names += [f"explorers {seed}" for seed in range(3)]
    names += [f"whole {system} {seed}" for seed in range(3) for system in ("netadaptv2", "spos")]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_netadaptv2"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows, images = Rows(a.out / "rows.jsonl"), load(a.data)
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "descent": descents,
        "passes": partial(passes, images),
        "explorers": partial(explorers, images, a.out),
        "whole": partial(whole, a.data, a.out),
    }
    for name in a.only:
        kind, *arguments = name.split()
        found = rows.row(name, partial(measures[kind], *arguments), quiet=True)
        print(f"\n{name}")
        for key, value in found.items():
            if key != "key":
                print(f"  {key}: {value}", flush=True)


# Descents


def problem(seed: int, interaction: float) -> tuple[SearchSpace, Budget, Callable[[np.ndarray], np.ndarray]]:
    """Space, budget and accuracy of the synthetic problem."""
    rng = np.random.default_rng(seed)
    share = np.linspace(1, 0, LEVELS)
    space = SearchSpace(tuple(Choice(f"layer{i}.width", tuple(f"{s:.1f}" for s in share)) for i in range(LAYERS)))
    gain, cost, pairs = rng.uniform(0.2, 1.0, LAYERS), rng.uniform(0.5, 1.5, LAYERS), 0.3 * interaction * rng.normal(size=LAYERS - 1)
    table = TableCost(cost[:, None] * share)

    def raw(population: np.ndarray) -> np.ndarray:
        widths = share[population]
        return np.asarray((gain * np.sqrt(widths)).sum(axis=1) + (pairs * widths[:, :-1] * widths[:, 1:]).sum(axis=1))

    largest = np.zeros((1, LAYERS), dtype=np.int64)
    full = float(raw(largest)[0])
    return space, Budget({"cost": table}, [f"cost={TARGET * cost.sum()}"]), lambda population: raw(population) / full


def descend(found: Any, make: Callable[[Any, Any], CoordinateDescentExplorer]) -> tuple[int, int, float]:
    """Steps, evaluations and accuracy of a descent, which ends when the target is met."""
    space, budget, accuracy = found
    explorer, study = make(space, budget), open_study(None, "descent")
    evaluations = 1
    while True:
        history = search(space, accuracy, explorer, evaluations=evaluations, study=study, budget=budget).history
        way = explorer.way(history)
        if explorer.resources(way[-1:])[0] <= 1:
            return len(way) - 1, evaluations, float(accuracy(way[-1:])[0])
        evaluations += explorer.generation_size


def descents() -> dict[str, Any]:
    """Both forms on the synthetic problem."""
    found: dict[str, Any] = {}
    for interaction in (0.0, 1.0):
        for step in STEPS:
            results: dict[str, np.ndarray] = {}
            forms = {"one": {"together": 1}, "several": {"together": TOGETHER, "generation_size": SAMPLES}}
            for samples in FEWER if step == STEPS[-1] else ():
                forms[f"several, {samples} samples"] = {"together": TOGETHER, "generation_size": samples}
            for name, settings in forms.items():
                each = [
                    descend(
                        problem(seed, interaction),
                        partial(CoordinateDescentExplorer, seed=seed, first_step=step, **settings),  # type: ignore[arg-type]
                    )
                    for seed in range(SEEDS)
                ]
                results[name] = np.array(each)
                steps, evaluations, accuracy = results[name].mean(axis=0)
                found[f"{100 * step:g} %, interaction {interaction:g}, {name}"] = {
                    "steps": round(float(steps), 1),
                    "evaluations": round(evaluations),
                    "accuracy": round(float(accuracy), 4),
                }
            ahead = results["several"][:, 2] - results["one"][:, 2]
            half = 2.145 * ahead.std(ddof=1) / math.sqrt(SEEDS)  # Student's t for 14 degrees of freedom
            found[f"{100 * step:g} %, interaction {interaction:g}: several keeps more"] = f"{ahead.mean():.4f} +- {half:.4f}"
    return found


# Ordered dropout


def passes(images: ImageData, kind: str, times: str, seed: str) -> dict[str, Any]:
    """Accuracy of random networks after a number of passes."""
    supernet = bypass(images.image_shape, len(images.classes), layout="digits", seed=int(seed))
    way: Way = {"ordered-dropout": OrderedDropout, "uniform": UniformPaths, "groups": Groups}.get(kind, lambda: WAYS[kind].make(supernet))()
    per_step = 4 if kind == "sandwich" else 1
    start = time.perf_counter()
    train(supernet, way, images.train, epochs=int(times) // per_step, seed=int(seed), **SETTINGS)
    seconds = time.perf_counter() - start
    steps = int(times) // per_step * (len(images.train) // SETTINGS["batch_size"])
    fitness = InheritedFitness(supernet, images.test.head(2000), images.train.head(512))
    population = supernet.space.sample(RANKED, np.random.default_rng(0))
    accuracy, likelihood = fitness.both(np.concatenate([population, largest(supernet.space)]))
    return {
        "mean accuracy": round(float(accuracy[:-1].mean()), 4),
        "standard deviation": round(float(accuracy[:-1].std()), 4),
        "mean likelihood": round(float(likelihood[:-1].mean()), 4),
        "largest": round(float(accuracy[-1]), 4),
        "seconds a pass": round(seconds / (steps * per_step), 4),
    }


def largest(space: SearchSpace) -> np.ndarray:
    """The last option everywhere."""
    return np.array([[indices[-1] for indices in space.allowed]])


# Explorers on a given network


def explorers(images: ImageData, out: Path, seed: str) -> dict[str, Any]:
    """The same adapted network, budget and evaluations for every explorer."""
    number, file = int(seed), out / f"adapted{seed}.pt"
    whole = mbconv(images.image_shape, len(images.classes), layout="digits", expansions=(6,), kernels=(5,), seed=number)
    network = whole.network((0,) * len(whole.space), seed=number)
    train(network, StandAlone(), images.train, epochs=GIVEN_EPOCHS, seed=number, checkpoint=out / f"given{seed}.pt", **SETTINGS)
    supernet = GivenSupernet(network, images.image_shape)
    found = importance.WAYS["loss"](supernet.body, supernet.anatomy, images.train.head(1024).batches(64, torch.device("cpu")))
    importance.sort(supernet.body, supernet.anatomy, found)
    macs = sizes.macs(supernet, count_macs(network, images.image_shape))
    budget = Budget({"macs": macs}, [f"macs={0.5 * float(macs(supernet.space.population([supernet.largest]))[0])}"])
    train(supernet, TaughtPaths(network), images.train, epochs=ADAPTED_EPOCHS, seed=number, checkpoint=file, **{**SETTINGS, "lr": 0.02})
    fitness = InheritedFitness(supernet, images.search.head(1000), images.train.head(512))
    tested = InheritedFitness(supernet, images.test.head(4000), images.train.head(512))
    told: dict[str, Any] = {"given network": round(accuracy(network, images.test, torch.device("cpu")), 4)}
    walk = partial(CoordinateDescentExplorer, supernet.space, budget, seed=number, first_step=0.1, generation_size=SEARCHED // 10)
    makes: dict[str, Callable[[], Explorer]] = {
        "coordinate-descent": walk,
        "one choice a step": partial(CoordinateDescentExplorer, supernet.space, budget, seed=number, first_step=0.1, together=1),
        **{name: partial(EXPLORERS[name].make, supernet.space, budget, number) for name in ("bayesian", "evolution", "random")},
    }
    for name, make in makes.items():
        explorer, start = make(), time.perf_counter()
        history = search(
            supernet.space, fitness.likelihood, explorer, evaluations=SEARCHED, study=open_study(None, name), budget=budget
        ).history
        best = explorer.recommend(history)
        if not len(best):
            told[name] = "not down to the budget"
            continue
        row = history.population[best[:1]]
        told[name] = {
            "likelihood": round(float(history.scores[best[0]]), 4),
            "test accuracy as it is": round(float(tested(row)[0]), 4),
            "share of the bound": round(float(macs(row)[0] / budget.bounds[0].upper), 3),
            "seconds": round(time.perf_counter() - start),
        }
        print(name, told[name], flush=True)
    return told


# Whole runs


def whole(data: str, out: Path, system: str, seed: str) -> dict[str, Any]:
    """A recipe as a command; what its movements took is read from what it prints."""
    folder = out / f"{system}{seed}"
    words = [sys.executable, "-m", "evonas", system, "--data", data, "--budget", BOUND, "--out", str(folder), "--seed", seed, "--fresh"]
    words += [f"--{name}={value}" for name, value in WHOLE.items()]
    words += ["--samples=15", "--step=0.15"] if system == "netadaptv2" else []  # some eight steps
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    seconds: dict[str, float] = {}
    for line in said.splitlines():
        if bar := re.match(r"(\S.*?)\s+━+ +100%.*?(\d+):(\d\d):(\d\d)", line):
            movement = re.sub(r" \d+ of \d+$", "", bar[1])
            seconds[movement] = seconds.get(movement, 0) + 3600 * int(bar[2]) + 60 * int(bar[3]) + int(bar[4])
    result = json.loads((folder / "result.json").read_text())
    return {"seconds": seconds, "costs": result["costs"], "test": result["accuracy"]["test"], "said": said.splitlines()[-1]}


if __name__ == "__main__":
    main()
