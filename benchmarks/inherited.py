"""Explorers on the inherited fitness of a finished run of `evonas mobile`: best accuracy after n evaluations, under the run's budget.

Same supernet, same images, same bounds; only the explorer differs. Rows are kept in `--rows`.

    python benchmarks/inherited.py --run runs/photographs/seed0 [--run ...] [--evaluations 250] [--seeds 3]

The last line is a JSON list of {explorer, runs, best_at}, means over runs and seeds in per cent.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rows import Rows
from sklearn.pipeline import make_pipeline

from evonas import BayesianExplorer, Budget, EvolutionExplorer, Explorer, RandomExplorer, ScreenedExplorer, open_study, parse_bounds, search
from evonas.files import read_json
from predictors import BoostedTrees, GaussianProcess, macs, one_hot, params, read_table
from recipes import options
from recipes.mobile import CALIBRATION_IMAGES
from supernet import InheritedFitness, load, mbconv
from supernet.training.loop import load_checkpoint

EXPLORERS: dict[str, Any] = {
    "random": lambda s, b, seed: RandomExplorer(s, b, seed=seed),
    "evolution": lambda s, b, seed: EvolutionExplorer(s, b, seed=seed),
    "screened": lambda s, b, seed: ScreenedExplorer(EvolutionExplorer(s, b, seed=seed), make_pipeline(one_hot(s.sizes), BoostedTrees())),
    "bayesian10": lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed, generation_size=10),
    "bayesian50": lambda s, b, seed: BayesianExplorer(s, b, predictor=GaussianProcess(s), seed=seed, generation_size=50),
}


def opened(folder: Path) -> tuple[Budget, Any, Any]:
    """The budget, the space and the fitness of a run."""
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
    fitness = InheritedFitness(supernet, images.search.head(len(images.search)), images.train.head(CALIBRATION_IMAGES))
    return Budget(costs, parse_bounds(config["budget"], space, costs)), space, fitness


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
        budget, space, fitness = opened(folder)

        def searched(explorer: Explorer, budget: Budget = budget, space: Any = space, fitness: Any = fitness) -> dict[str, Any]:
            study = open_study(None, "inherited")
            history = search(space, fitness, explorer, evaluations=arguments.evaluations, study=study, budget=budget).history
            return {"best_at": {str(n): float(np.nanmax(history.scores[:n])) for n in checkpoints}}

        for name in arguments.explorer:
            for seed in range(arguments.seeds):
                key = f"{folder}/{name}/{seed}/{arguments.evaluations}"
                row = rows.row(key, lambda name=name, seed=seed, at=(budget, space): searched(EXPLORERS[name](at[1], at[0], seed)))
                found.append({**row, "explorer": name})
    entries = []
    for name in arguments.explorer:
        own = [row for row in found if row["explorer"] == name]
        best = {str(n): round(100 * float(np.mean([row["best_at"][str(n)] for row in own])), 3) for n in checkpoints}
        entries.append({"explorer": name, "runs": len(own), "best_at": best})
    print(json.dumps(entries))


if __name__ == "__main__":
    main()
