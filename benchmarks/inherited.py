"""Explorers on the inherited fitness of a finished run of `evonas mobile`: best accuracy after n evaluations, under the run's budget.

Same supernet, same images, same bounds; only the explorer differs. Rows are kept in `--rows`.

    python benchmarks/inherited.py --run runs/photographs/seed0 [--run ...] [--evaluations 250] [--seeds 3]

The last line is a JSON list of {explorer, runs, best_at}, means over runs and seeds in per cent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows
from sklearn.pipeline import make_pipeline, make_union

from evonas import BayesianExplorer, Budget, EvolutionExplorer, Explorer, RandomExplorer, ScreenedExplorer, open_study, parse_bounds, search
from evonas.files import read_json
from predictors import BoostedTrees, GaussianProcess, NormalScores, macs, measures, one_hot, params, read_table
from predictors.screens import SCREENS
from recipes.runner import options
from supernet import InheritedFitness, load, mbconv
from supernet.chain import ChainSupernet
from supernet.training.checkpoint import load_checkpoint

Make = Callable[[ChainSupernet, Budget, int], Explorer]


def screened(predictor: Callable[[ChainSupernet], Any]) -> Make:
    """Evolution behind a predictor."""
    return lambda net, b, seed: ScreenedExplorer(EvolutionExplorer(net.space, b, seed=seed), predictor(net))


def trees_and_macs(net: ChainSupernet) -> Any:
    """Boosted trees that see MACs beside the options, fitted to ranks."""
    return NormalScores(make_pipeline(make_union(measures(macs(net.space, net.parts())), one_hot(net.space.sizes)), BoostedTrees()))


def trees_of_accuracies(net: ChainSupernet) -> Any:
    """Boosted trees fitted to the accuracies themselves."""
    return make_pipeline(one_hot(net.space.sizes), BoostedTrees())


EXPLORERS: dict[str, Make] = {
    "random": lambda net, b, seed: RandomExplorer(net.space, b, seed=seed),
    "evolution": lambda net, b, seed: EvolutionExplorer(net.space, b, seed=seed),
    "screened": screened(SCREENS["boosted-trees"].make),
    "screened-nn-degree": screened(SCREENS["nn-degree"].make),
    "screened-trees-macs": screened(trees_and_macs),
    "screened-accuracies": screened(trees_of_accuracies),
    "bayesian10": lambda net, b, seed: BayesianExplorer(net.space, b, predictor=GaussianProcess(net.space), seed=seed, generation_size=10),
    "bayesian50": lambda net, b, seed: BayesianExplorer(net.space, b, predictor=GaussianProcess(net.space), seed=seed, generation_size=50),
}


def opened(folder: Path) -> tuple[Budget, ChainSupernet, InheritedFitness]:
    """The budget, the supernet and the fitness of a run."""
    config = read_json(folder / "config.json")
    images = load(config["data"], image_size=config["image_size"])
    space_arguments = {
        "layout": config["layout"],
        "widths": options.numbers(config["widths"]),
        "depths": options.numbers(config["depths"]),
        "squeeze_excite": config["squeeze_excite"],
    }
    supernet = mbconv(images.image_shape, len(images.classes), **space_arguments, seed=config["seed"])
    identity = {"data": config["data"], "image_shape": list(images.image_shape), "classes": list(images.classes), **space_arguments}
    supernet.load_state_dict(load_checkpoint(folder / "supernet.pt", identity)["network"])
    space, parts = supernet.space, supernet.parts()
    costs = {"macs": macs(space, parts), "params": params(space, parts), "latency": read_table(folder / "latency.json", space)}
    fitness = InheritedFitness(supernet, images.search.head(len(images.search)), images.train.head(512))
    return Budget(costs, parse_bounds(config["budget"], space, costs)), supernet, fitness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", required=True, help="a finished run folder; give several")
    parser.add_argument("--explorer", nargs="*", default=tuple(EXPLORERS), choices=tuple(EXPLORERS))
    parser.add_argument("--evaluations", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=Path, default=Path("runs/inherited.jsonl"), help="where finished searches are kept")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows, found = Rows(arguments.rows), []
    checkpoints = [n for n in (50, 100, 250, 500, 1000) if n <= arguments.evaluations]
    for folder in arguments.run:
        budget, supernet, fitness = opened(folder)

        def searched(name: str, seed: int, budget: Budget = budget, net: Any = supernet, fitness: Any = fitness) -> dict[str, Any]:
            study, explorer = open_study(None, "inherited"), EXPLORERS[name](net, budget, seed)
            history = search(net.space, fitness, explorer, evaluations=arguments.evaluations, study=study, budget=budget).history
            return {"best_at": {str(n): float(np.nanmax(history.scores[:n])) for n in checkpoints}}

        for name in arguments.explorer:
            for seed in range(arguments.seeds):
                key = f"{folder}/{name}/{seed}/{arguments.evaluations}"
                row = rows.row(key, partial(searched, name, seed))
                found.append({**row, "explorer": name})
    entries = []
    for name in arguments.explorer:
        own = [row for row in found if row["explorer"] == name]
        best = {str(n): round(100 * float(np.mean([row["best_at"][str(n)] for row in own])), 3) for n in checkpoints}
        entries.append({"explorer": name, "runs": len(own), "best_at": best})
    print(json.dumps(entries))


if __name__ == "__main__":
    main()
