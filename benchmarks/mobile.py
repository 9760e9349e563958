"""Is the network that `evonas mobile` delivers better than a random one of the same budget?

For every seed: one whole run, and a few random networks that keep the same bounds (measured whole as well), trained exactly as
the winner was. Prints a row a network and, last, one JSON object with means and standard deviations.

    python benchmarks/mobile.py --data cifar16.npz --budget macs=4M --budget latency=40% --out runs/photographs
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Rows

from evonas import Budget, parse_bounds
from evonas.files import read_json
from evonas.sampling import draw_feasible
from predictors import macs, params, read_table
from predictors.devices.runtime import measure
from recipes.mobile import mobile
from supernet import StandAlone, accuracy, load, mbconv, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="images, as evonas mobile takes them")
    parser.add_argument("--budget", action="append", default=[], help="bounds, as evonas mobile takes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--random", type=int, default=5, help="random networks a seed")
    parser.add_argument("--epochs", type=int, default=40, help="of the supernet")
    parser.add_argument("--retrain-epochs", type=int, default=20, help="of every network that is trained on its own")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_mobile"))
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    rows = Rows(a.out / "rows.jsonl")
    found: dict[str, list[float]] = {"winner": [], "random": []}
    for seed in a.seeds:
        winner = rows.row(f"winner seed {seed}", lambda seed=seed: winner_row(a, seed))
        found["winner"].append(winner["test"])
        for i in range(a.random):
            found["random"].append(rows.row(f"random {i} seed {seed}", lambda seed=seed, i=i: random_row(a, seed, i))["test"])
    summary = {
        name: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, "n": len(v)} for name, v in found.items()
    }
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(a).items()}
    print(json.dumps({"settings": settings, **summary}))


def winner_row(a: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run of the recipe."""
    out = a.out / f"seed{seed}"
    mobile(
        data=a.data,
        budget=a.budget,
        out=str(out),
        seed=seed,
        epochs=a.epochs,
        retrain_epochs=a.retrain_epochs,
        batch_size=a.batch_size,
        evaluations=a.evaluations,
    )
    result = read_json(out / "result.json")
    return {"test": result["accuracy"]["test"], **result["accuracy"], "baseline": result["baseline"]["inherited"], "costs": result["costs"]}


def random_row(a: argparse.Namespace, seed: int, i: int) -> dict[str, Any]:
    """The i-th random network of a seed that keeps the bounds by the run's own table and when measured whole."""
    data = load(a.data)
    supernet = mbconv(data.image_shape, len(data.classes), seed=seed)
    space, parts = supernet.space, supernet.parts()
    costs = {
        "macs": macs(space, parts),
        "params": params(space, parts),
        "latency": read_table(a.out / f"seed{seed}" / "latency.json", space),
    }
    budget = Budget(costs, parse_bounds(a.budget, space, costs))
    row, values = fitting(budget, supernet, data.image_shape, np.random.default_rng([seed, i, 99]))
    network = supernet.subnet(row, fresh_seed=seed)
    train(network, StandAlone(), data.train, epochs=a.retrain_epochs, batch_size=a.batch_size, lr=0.1, seed=seed)
    return {"test": accuracy(network, data.test, torch.device("cpu")), "costs": values}


def fitting(
    budget: Budget, supernet: Any, image_shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, float]]:
    """A random network within the budget when measured whole, and its costs."""
    for row in draw_feasible(supernet.space, budget, 20, rng):
        values = {name: float(value[0]) for name, value in budget.values(row[None]).items()}
        values["latency"] = measure(supernet.subnet(row), image_shape)
        if (budget.violations_of(values) <= 0).all():
            return row, values
    raise SystemExit("none of 20 random networks within the budget by the table keeps it when measured whole")


if __name__ == "__main__":
    main()
